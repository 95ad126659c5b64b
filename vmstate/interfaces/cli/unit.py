"""The unit with which systemd keeps `vmstate serve` running, for the paths that were given.

Whatever was named on the command line or in the environment stands in it, as an absolute path: a
service starts in the root folder. What was not named is where the packaged unit has it.
"""

import re
import sys
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from shlex import quote

from vmstate.errors import InputError
from vmstate.interfaces.cli.settings import Settings

# What PrivateTmp and ProtectHome keep from the unit.
HIDDEN = ("/tmp", "/var/tmp", "/home", "/root", "/run/user")  # noqa: S108 -- nothing is put there
PROGRAM = "/usr/bin/vmstate"
CONSTITUTION = "/etc/vmstate/constitution.toml"
LEDGER = "/var/lib/vmstate/vmstate.db"
SOCKET = "/run/vmstate/vmstate.sock"


def unit_for(settings: Settings, more: Mapping[str, str]) -> tuple[str, tuple[str, ...]]:
    """The unit's text, and what is wrong with it here; `more` are options of `serve`.

    Raises:
        InputError: a path holds what no line of a unit can.
    """
    program = Path(sys.argv[0]).absolute()
    named = {"constitution": CONSTITUTION, "ledger": LEDGER, "socket": SOCKET}
    defaults = Settings()
    for name in named:
        given = getattr(settings, name)
        if name in settings.typed or given != getattr(defaults, name):
            named[name] = str(Path(given).absolute())
    text = (files("vmstate.interfaces") / "systemd" / "vmstate.service").read_text(encoding="utf-8")
    head, start, body = re.split(r"(?m)^(ExecStart=(?:.*\\\n)*.*\n)", text)
    for default, path in (
        (CONSTITUTION, named["constitution"]),
        (LEDGER, named["ledger"]),
    ):
        head = head.replace(default, quote(path))
    if named["ledger"] != LEDGER:
        folder = quote(str(Path(named["ledger"]).parent))
        own = f"chown vmstate: {folder} && chmod 700 {folder}  # a folder of the ledger's own"
        head = re.sub(r"(?m)^#   install -d .*$", lambda _: f"#   {own}", head)
    options = [(f"--{name}", path) for name, path in named.items()]
    options += [(f"--{name}", value) for name, value in more.items()]
    lines = [f"ExecStart={_spell(str(program))} serve"]
    start = " \\\n    ".join([*lines, *(f"{name} {_spell(value)}" for name, value in options)])
    writes = [Path(named[name]).parent for name in ("ledger", "socket")]
    writes = [one for one in writes if one not in (Path(LEDGER).parent, Path(SOCKET).parent)]
    if writes:  # else ProtectSystem keeps it from writing there
        listed = " ".join(_spell(str(one)) for one in dict.fromkeys(writes))
        body = body.replace("ProtectHome=", f"ReadWritePaths={listed}\nProtectHome=", 1)
    seen = (program, *(Path(path) for path in named.values()))
    hidden = [one for one in seen if any(one.is_relative_to(place) for place in HIDDEN)]
    return f"{head}{start}\n{body}", tuple(_warning(one, program) for one in hidden)


def _warning(hidden: Path, program: Path) -> str:
    where = "install it elsewhere, such as /opt" if hidden == program else "keep it elsewhere"
    return f"warning: the unit can't see {hidden}: {where}"


def _spell(word: str) -> str:
    """One word of a unit's line: neither its specifiers nor its variables are meant."""
    if re.search(r"[\x00-\x1f]", word):
        raise InputError(f"{word!r} has a control character: no unit can name it")
    word = word.replace("%", "%%").replace("$", "$$")
    if re.search(r"[\s\"'\\;]", word):
        return '"' + word.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return word

"""`init`, `check`, `graph`, `completion`: before there is anything to hold."""

from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

import click

from vmstate.canonical import Json
from vmstate.errors import ConstitutionError, InputError, LedgerMismatch
from vmstate.interfaces.cli.output import count, emit, say
from vmstate.interfaces.cli.settings import FAILED, Command, Look, Settings

if TYPE_CHECKING:
    from vmstate.constitution.law import Constitution

_WARNING = click.style("warning", fg="yellow", bold=True)
_PRESETS = ("starter", "agent", "vaultmesh")


@click.command(cls=Command)
@click.option(
    "--preset",
    type=click.Choice(_PRESETS),
    default="starter",
    show_default=True,
    help="What to start from: a page, agents' tools, or the whole ladder.",
)
@click.option("--in-git", is_flag=True, help="Make the log's key inside a git work tree.")
@click.pass_obj
def init(settings: Settings, preset: str, *, in_git: bool) -> None:
    """Write a constitution to start from, a ledger and its key.

    A constitution that is there already is kept, and used. A ledger that holds nothing yet takes
    over an edited constitution; one that was used never does.
    """
    from vmstate.constitution.unable import find_unable
    from vmstate.ledger.place import check_place, key_path

    path, ledger = settings.constitution, settings.ledger
    wrote, log_key = not path.exists(), ""
    if not ledger.exists():
        check_place(ledger)  # first: a constitution is not written for a ledger that can't be
    if wrote:
        _require_outside_git(ledger, in_git=in_git or ledger.exists())
        source = files("vmstate.constitution") / "presets" / f"{preset}.toml"
        _write_new(path, source.read_bytes())
    law = settings.law()
    if ledger.exists():
        adopted = _adopt(settings, law)
        made = f"{ledger} goes on under {law.digest}" if adopted else f"{ledger} is as it was"
    else:
        _require_outside_git(ledger, in_git=in_git)
        log_key = _create(settings, law)
        made = f"{ledger} and {key_path(ledger).name}"
    if settings.json:
        body: dict[str, Json] = {"constitution": str(path), "digest": law.digest}
        warnings: list[Json] = [] if wrote else [*find_unable(law)]
        body |= {"ledger": str(ledger), "log_key": log_key or None, "warnings": warnings}
        emit({"ok": True, **body})
        return
    click.echo(f"{path}: {law.name} {law.version}{'' if wrote else ' (kept)'}")
    click.echo(f"{made}")
    if log_key:
        click.echo(f"log key {log_key}")
        say("publish the log key: by it others know this ledger, vmstate audit --log-key")
    if wrote:
        say("next: read the constitution, put your own people into it, and run init again;")
        say("      then ask for something: vmstate escalate --help")
    else:
        if unable := find_unable(law):
            what = f"{count(len(unable), 'thing')} under this law as it stands"
            say(f"{_WARNING}: nobody can do {what}: vmstate check names them")
        say("next: ask for something: vmstate escalate --help")


def _warn(law: "Constitution") -> None:
    from vmstate.constitution.unable import find_unable

    for line in find_unable(law):
        say(f"{_WARNING}: {line}")


def _create(settings: Settings, law: "Constitution") -> str:
    """Make the ledger; the key by which others verify its log."""
    from vmstate.authority import Authority

    authority = Authority.create(law, settings.ledger)
    try:
        return str(authority.ledger.verifier)
    finally:
        authority.close()


def _adopt(settings: Settings, law: "Constitution") -> bool:
    """Let a ledger that was never used take over `law`; whether there was anything to do."""
    from vmstate.clock import SystemClock
    from vmstate.ledger.adopting import adopt
    from vmstate.ledger.store import Ledger

    ledger = Ledger.open(settings.ledger)
    click.get_current_context().call_on_close(ledger.close)
    with ledger.read() as snapshot:
        in_force = snapshot.constitution()[0]
    if in_force == law.digest:
        return False
    settings.require_meant(is_drill=ledger.drill is not None)
    if ledger.drill is not None:
        raise LedgerMismatch(f"{settings.ledger} is a drill's ledger: give --ledger another name")
    adopt(ledger, law, SystemClock().read())
    return True


def _write_new(path: Path, data: bytes) -> None:
    try:
        with path.open("xb") as file:
            file.write(data)
    except OSError as error:
        raise InputError(f"{path} can't be written: {error.strerror}") from error


def _require_outside_git(path: Path, *, in_git: bool) -> None:
    """A key inside a work tree is one `git add .` away from everybody."""
    if in_git:
        return
    folder = path.absolute().parent
    for tree in (folder, *folder.parents):
        if (tree / ".git").exists():
            raise InputError(
                f"{folder} is in the git work tree {tree}, and the log's key would be made there: "
                "give --ledger a place outside, or say --in-git and keep *.key out of commits"
            )


@click.command(cls=Command)
@click.argument("file", required=False, type=click.Path(path_type=Path))
@click.pass_obj
def check(settings: Settings, file: Path | None) -> None:
    """Say what is wrong with a constitution, line by line; exits 1 if anything is.

    What it leaves nobody able to do is a warning: keys, say, may be added later.
    """
    from vmstate.constitution.loading import load_constitution
    from vmstate.constitution.unable import find_unable

    path = file or settings.constitution
    try:
        law = load_constitution(path)
    except ConstitutionError as error:
        if settings.json:
            problems: list[Json] = list(error.problems)
            emit({"ok": False, "constitution": str(path), "problems": problems})
        else:
            for problem in error.problems:
                click.echo(problem)
        raise SystemExit(FAILED) from None
    rules = len(law.rules)
    if settings.json:
        body: dict[str, Json] = {
            "ok": True,
            "constitution": str(path),
            "digest": law.digest,
            "problems": [],
            "warnings": [*find_unable(law)],
        }
        emit({**body, "name": law.name, "version": law.version, "escalations": rules})
        return
    profiles = " < ".join(sorted(law.document.profiles, key=law.rank))
    click.echo(f"{path}: {law.name} {law.version} is well formed")
    click.echo(f"  {profiles}, {count(rules, 'escalation')}")
    click.echo(f"  {law.digest}")
    _warn(law)


@click.command(cls=Look)
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Its suffix says the format.")
@click.option("--live", is_flag=True, help="Mark who stands where, from the ledger.")
@click.pass_obj
def graph(settings: Settings, output: Path | None, *, live: bool) -> None:
    """Draw the constitution: .svg .dot .mmd, and with graphviz installed .png .pdf.

    Without -o, Mermaid text goes to standard output.
    """
    from vmstate.constitution.diagram import format_for, render
    from vmstate.constitution.wording import Standing

    standings, as_of = tuple[Standing, ...](), None
    if live:
        authority = settings.authority()
        law = authority.constitution
        standings = tuple(
            Standing(one.principal, one.profile, one.expires_at) for one in authority.status()
        )
        as_of = authority.now()
    else:
        law = settings.law()
    picture = render(law, format_for(output.suffix) if output else "mmd", standings, as_of)
    if output is None and settings.json:
        emit({"ok": True, "format": "mmd", "text": picture.decode(), "digest": law.digest})
        return
    if output is None:
        click.echo(picture.decode(), nl=False)
        return
    try:
        output.write_bytes(picture)
    except OSError as error:
        raise InputError(f"{output} can't be written: {error.strerror}") from error
    if settings.json:
        emit({"ok": True, "file": str(output), "digest": law.digest})
    else:
        click.echo(f"{output}: {law.name} {law.version}, {law.digest}")


@click.command(cls=Command)
@click.argument("shell", type=click.Choice(("bash", "zsh", "fish")))
def completion(shell: str) -> None:
    """Print the completion script for a shell: eval "$(vmstate completion bash)"."""
    from click.shell_completion import get_completion_class

    kind = get_completion_class(shell)
    assert kind is not None
    root = click.get_current_context().find_root().command
    click.echo(kind(root, {}, "vmstate", "_VMSTATE_COMPLETE").source())

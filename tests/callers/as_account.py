"""Run `vmstate` as accounts of this machine: a line of JSON asks for each.

    {"account": "games", "words": ["status"], "env": {…}, "waits": true}

Each runs in a process of its own, forked from this one, that is somebody else for good. Everything
is loaded before: whoever it becomes may not be able to read our files. An account is a name, or a
number that has none. What is waited for is answered with its code and what it said, and what is
not with its process id; that one speaks on our own standard error.
"""

import importlib
import io
import json
import os
import pkgutil
import pwd
import sys
import traceback
from contextlib import redirect_stderr, redirect_stdout
from typing import Any

import vmstate
from vmstate.interfaces.cli.main import run

# Loaded only where they are used, by us or by the standard library.
ALSO = ("concurrent.futures.thread", "encodings.ascii", "rich.table", "rich.console")
LATER = ("vmstate.interfaces.mcp", "vmstate.interfaces.pytest_plugin", "vmstate.drills.pack")


def load() -> None:
    for module in pkgutil.walk_packages(vmstate.__path__, "vmstate."):
        if not module.name.startswith(LATER):
            importlib.import_module(module.name)
    for name in ALSO:
        importlib.import_module(name)


def become(account: str) -> None:
    numbers = (int(account), int(account)) if account.isdigit() else pwd.getpwnam(account)[2:4]
    os.setgroups([])
    os.setresgid(*[numbers[1]] * 3)
    os.setresuid(*[numbers[0]] * 3)
    os.umask(0o022)


def captured() -> tuple[int, str, str]:
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8") for _ in "oe")
    code = 0
    with redirect_stdout(out), redirect_stderr(err):
        try:
            run()
        except SystemExit as exit_:
            code = int(exit_.code or 0)
    for stream in (out, err):
        stream.flush()
    return code, *(stream.buffer.getvalue().decode() for stream in (out, err))


def child(asked: dict[str, Any], writer: int) -> None:
    become(asked["account"])
    os.environ.update(asked["env"])
    sys.argv = ["vmstate", *asked["words"]]
    if asked["waits"]:
        os.write(writer, json.dumps(captured()).encode())
        os._exit(0)
    os.close(writer)
    sys.stdin.close()
    sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123, SIM115 -- to its end
    try:
        run()
    except SystemExit as exit_:
        sys.stderr.flush()
        os._exit(int(exit_.code or 0))


def main() -> None:
    load()
    for line in iter(sys.stdin.readline, ""):
        asked = json.loads(line)
        reader, writer = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                child(asked, writer)
            finally:
                os.write(writer, json.dumps((-1, "", traceback.format_exc())).encode())
                os._exit(70)
        os.close(writer)
        with os.fdopen(reader, "rb") as pipe:
            said = pipe.read() if asked["waits"] else b""
        if asked["waits"]:
            os.waitpid(pid, 0)
        sys.stdout.write((said.decode() or json.dumps(pid)) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()

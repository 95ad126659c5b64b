"""The command as a person types it: in this process where nothing is gained by another one."""

import io
import os
import re
import shlex
import shutil
import subprocess
import sys
from contextlib import ExitStack, closing, suppress
from datetime import UTC, datetime
from pathlib import Path

import pytest
import time_machine
from typed import Done, typed

from vmstate.errors import LedgerMismatch, LedgerUnavailable
from vmstate.ledger.store import Ledger

VMSTATE = Path(sys.executable).with_name("vmstate")
NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)
SECONDS = 30  # far beyond what any of these takes, so that only a failure waits so long
_SETTING = re.compile(r"[A-Z_]+=\S*")
_FILE = re.compile(r"\$\(cat ([a-z.]+)\)")


class Folder:
    """An empty folder in which commands are run, at a time that the test sets."""

    def __init__(self, path: Path, monkeypatch: pytest.MonkeyPatch, cleanup: ExitStack) -> None:
        self.path = path
        self._monkeypatch = monkeypatch
        self._travel = ExitStack()
        cleanup.callback(self._travel.close)

    def at(self, at: datetime | None) -> None:
        """From here on it is `at`, and stays so; None for the machine's own time."""
        self._travel.close()
        if at is not None:
            self._travel.enter_context(time_machine.travel(at, tick=False))

    def run(self, line: str) -> Done:
        """Run `vmstate …` in this process, or anything else in a shell of its own.

        `NAME=value` before the verb, `$(cat FILE)` after it, and `< FILE`, `> FILE`, `>> FILE` at
        the end are understood.
        """
        words = shlex.split(_FILE.sub(lambda found: self._said_in(found[1]), line))
        settings = {}
        while _SETTING.fullmatch(words[0]):
            name, _, settings[name] = words.pop(0).partition("=")
        if words[0] != "vmstate":
            return self.process(["bash", "-c", line])
        target = None
        if len(words) > 2 and words[-2] in {">", ">>"}:
            target, mode = words.pop(), "ab" if words.pop() == ">>" else "wb"
        with self._monkeypatch.context() as patch:
            for name, value in settings.items():
                patch.setenv(name, value)
            if len(words) > 2 and words[-2] == "<":
                data = (self.path / words.pop()).read_bytes()
                words.pop()
                patch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
            done = self.vmstate(*words[1:])
        if target is not None:
            with (self.path / target).open(mode) as file:
                file.write(done.out.encode())
            done = Done("", done.err, done.code)
        return done

    def _said_in(self, name: str) -> str:
        return (self.path / name).read_text(encoding="utf-8").strip()

    def vmstate(self, *words: str) -> Done:
        """Run the command as its entry point does, in this process."""
        return typed(*words, at=Path.cwd())

    def process(self, words: list[str | Path], **settings: str) -> Done:
        """Run a process of its own in this folder."""
        done = subprocess.run(
            words,
            cwd=self.path,
            env={**os.environ, **settings},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=SECONDS,
        )
        return Done(done.stdout, done.stderr, done.returncode)

    def ok(self, line: str) -> str:
        """Standard output of a command that succeeds."""
        done = self.run(line)
        assert done.code == 0, f"$ {line}\n{done.out}{done.err}"
        return done.out

    def write(self, name: str, text: str) -> Path:
        path = self.path / name
        path.write_text(text, encoding="utf-8")
        return path

    def replace(self, name: str, old: str, new: str) -> None:
        """Edit a file; fails if `old` is not in it."""
        path = self.path / name
        text = path.read_text(encoding="utf-8")
        assert old in text
        path.write_text(text.replace(old, new), encoding="utf-8")

    def sizes(self) -> dict[str, int]:
        """How many receipts each ledger of the folder holds; other files have none."""
        sizes = {}
        for path in sorted(self.path.glob("*.db")):
            with (
                suppress(LedgerMismatch, LedgerUnavailable),
                closing(Ledger.open(path)) as ledger,
                ledger.read() as snapshot,
            ):
                sizes[path.name] = snapshot.head().tree.size
        return sizes


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty folder at noon, with nothing of ours in the environment."""
    with ExitStack() as cleanup:
        yield _enter(tmp_path, NOON, monkeypatch, cleanup)


def _enter(path, at, monkeypatch, cleanup):
    for name in list(os.environ):
        if name.startswith(("VMSTATE_", "_VMSTATE_")):
            monkeypatch.delenv(name)
    monkeypatch.chdir(path)
    folder = Folder(path, monkeypatch, cleanup)
    folder.at(at)
    return folder


def _make_used(path, at):
    with pytest.MonkeyPatch.context() as patch, ExitStack() as cleanup:
        folder = _enter(path, at, patch, cleanup)
        folder.ok("vmstate init")
        folder.ok("vmstate keys new carol -o carol.key >> constitution.toml")
        folder.ok("vmstate init")
        folder.ok('vmstate escalate operator --as alice --ttl 10m --reason "ticket 4711: look"')
    return path


@pytest.fixture(scope="session")
def used_at_noon(tmp_path_factory):
    return _make_used(tmp_path_factory.mktemp("used"), NOON)


@pytest.fixture(scope="session")
def used_now(tmp_path_factory):
    return _make_used(tmp_path_factory.mktemp("live"), None)


@pytest.fixture
def used(folder, used_at_noon):
    """A starter ledger in which Alice is operator for ten minutes, and Carol has a key."""
    shutil.copytree(used_at_noon, folder.path, dirs_exist_ok=True)
    return folder


@pytest.fixture
def live(folder, used_now):
    """The same on the machine's own time, which processes of their own share."""
    folder.at(None)
    shutil.copytree(used_now, folder.path, dirs_exist_ok=True)
    return folder

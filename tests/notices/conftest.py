"""Ledgers whose constitution names targets: commands that write down what they are told."""

import json
import shlex
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from vmstate.authority import Authority
from vmstate.clock import Clock, VirtualClock
from vmstate.constitution.law import Constitution
from vmstate.constitution.loading import read_constitution
from vmstate.ledger.outbox import Notice, Outbox
from vmstate.ledger.store import Ledger
from vmstate.notices import Deliverer

HERE = Path(__file__).parent
SHORT = (HERE.parent / "shared" / "short.toml").read_text(encoding="utf-8")
NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)
EVERYTHING = ("request", "ending", "ended", "lock", "denied", "amended")


class Desk:
    """A ledger on virtual time, and targets that write what they are told into files."""

    def __init__(self, folder: Path, closing: ExitStack) -> None:
        self.folder = folder
        self.clock = VirtualClock(NOON)
        self._closing = closing
        self.law_text = SHORT

    def target(self, name: str, *events: str, command: str | None = None, **more: Any) -> None:
        """Name a target; `command` is a line for a shell that the command names itself."""
        table: dict[str, Any] = {"events": list(events or EVERYTHING), **more}
        if "url" not in more:
            heard = shlex.quote(str(self.folder / f"{name}.jsonl"))
            line = f"cat >> {heard}" if command is None else command
            table["command"] = ["/bin/sh", "-c", line]
        lines = [f"{key} = {json.dumps(value)}" for key, value in table.items()]
        self.law_text += "\n".join((f"\n[notify.{name}]", *lines, ""))

    @property
    def law(self) -> Constitution:
        return read_constitution(self.law_text.encode())

    def make(self, clock: Clock | None = None) -> Authority:
        path = self.folder / "l.db"
        vm = Authority.create(self.law, path, clock=clock or self.clock)
        self._closing.callback(vm.close)
        return vm

    def again(self, clock: Clock | None = None) -> Authority:
        """The same ledger as another process would open it."""
        ledger = Ledger.open(self.folder / "l.db")
        vm = Authority(self.law, ledger, clock=clock or self.clock)
        self._closing.callback(vm.close)
        return vm

    def told(self, name: str) -> list[dict[str, Any]]:
        """What a target has written down, in its order."""
        heard = self.folder / f"{name}.jsonl"
        if not heard.exists():
            return []
        return [json.loads(line) for line in heard.read_text(encoding="utf-8").splitlines()]

    def messages(self, name: str) -> list[str]:
        return [one["message"] for one in self.told(name)]

    def running(self, deliverer: Deliverer) -> Deliverer:
        """Started now, stopped when the test is over."""
        self._closing.callback(deliverer.stop)
        deliverer.start()
        return deliverer

    @staticmethod
    def waiting(vm: Authority, name: str) -> tuple[Notice, ...]:
        with vm.ledger.read() as snapshot:
            return Outbox(snapshot).waiting(name, vm.clock.read(), 1_000)


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    with ExitStack() as closing:
        yield Desk(tmp_path, closing)


@pytest.fixture
def pager(desk: Desk) -> Callable[..., tuple[Desk, Authority, Deliverer]]:
    """One target that is told of these events, and what delivers to it."""

    def made(*events: str, **more: Any) -> tuple[Desk, Authority, Deliverer]:
        desk.target("pager", *events, **more)
        vm = desk.make()
        return desk, vm, Deliverer(vm)

    return made

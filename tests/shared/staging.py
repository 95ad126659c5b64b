"""Ledgers that are made, climbed in and read, and closed when the test is over."""

from collections.abc import Callable
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, ClassVar

import pytest

from vmstate.authority import Authority
from vmstate.clock import Clock, VirtualClock
from vmstate.constitution.law import Constitution
from vmstate.constitution.loading import load_constitution
from vmstate.ledger.receipt import Receipt

PATIENCE = 30.0  # seconds: far beyond what holds, so that only a failure waits so long


class Stage:
    """Makes ledgers in a folder, climbs in them, and reads what they hold."""

    law: ClassVar[Constitution] = load_constitution(Path(__file__).with_name("short.toml"))
    noon: ClassVar[datetime] = datetime(2030, 1, 1, 12, tzinfo=UTC)

    def __init__(self, folder: Path, closing: ExitStack) -> None:
        self.folder = folder
        self._closing = closing

    def make(self, clock: Clock | None = None, name: str = "l", **fields: Any) -> Authority:
        path = self.folder / f"{name}.db"
        made = Authority.create(self.law, path, clock=clock, **fields)
        return self.closing(made, Authority.close)

    def closing(self, thing: Any, close: Callable[[Any], Any]) -> Any:
        """`thing`, which is closed when the test is over."""
        self._closing.callback(close, thing)
        return thing

    @staticmethod
    def climb(vm: Authority, who: str, to: str = "operator", **fields: Any) -> Receipt:
        return vm.escalate(who, to, trigger="asked", **fields).raise_for_denial()

    @staticmethod
    def receipts(vm: Authority, **wanted: Any) -> list[Receipt]:
        with vm.ledger.read() as snapshot:
            return list(snapshot.receipts(**wanted))

    @classmethod
    def ends(cls, vm: Authority) -> list[Receipt]:
        return cls.receipts(vm, type_="profile_deescalation")

    @staticmethod
    def watch_ends(vm: Authority) -> Callable[[], Receipt]:
        """What waits for the next end that `vm` writes, and fails if none comes."""
        ends: SimpleQueue[Receipt] = SimpleQueue()
        vm.subscribe(lambda one: ends.put(one) if one.type == "profile_deescalation" else None)

        def next_end() -> Receipt:
            try:
                return ends.get(timeout=PATIENCE)
            except Empty:
                raise AssertionError(f"no lease ended within {PATIENCE} s") from None

        return next_end


@pytest.fixture
def clock(stage: Stage) -> VirtualClock:
    return VirtualClock(stage.noon)


@pytest.fixture
def vm(stage: Stage, clock: VirtualClock) -> Authority:
    return stage.make(clock)

"""A ledger for each test, and the few things that every test here does with one."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

import pytest

from vmstate.authority import Authority
from vmstate.clock import Clock
from vmstate.constitution.law import Constitution
from vmstate.constitution.loading import load_constitution
from vmstate.ledger.receipt import Receipt

LAW = load_constitution(Path(__file__).with_name("short.toml"))
NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)
PATIENCE = 5.0  # seconds: far beyond what holds, so that only a failure waits so long


class Stage:
    """Makes ledgers in a folder, climbs in them, and reads what they hold."""

    law: Constitution = LAW
    noon = NOON

    def __init__(self, folder: Path, closing: ExitStack) -> None:
        self.folder = folder
        self._closing = closing

    def make(self, clock: Clock | None = None, name: str = "l", **fields: Any) -> Authority:
        path = self.folder / f"{name}.db"
        return self.closing(Authority.create(LAW, path, clock=clock, **fields), Authority.close)

    def closing(self, thing: Any, close: Callable[[Any], None]) -> Any:
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
def stage(tmp_path: Path) -> Iterator[Stage]:
    with ExitStack() as closing:
        yield Stage(tmp_path, closing)

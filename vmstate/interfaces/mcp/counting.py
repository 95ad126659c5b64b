"""What is counted of somebody: calls that go on record together, refusals, calls under way."""

import hashlib
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from vmstate.errors import InputError
from vmstate.ledger.receipt import Receipt

AT_ONCE = 1_000  # calls of one principal that are under way; each is kept until it is answered
MANY = "*"  # names of refused calls beyond those that have receipts of their own


@dataclass(slots=True)
class Fold:
    """Calls counted and not yet on record. `began` is on the monotonic clock, `since` the wall."""

    began: float
    since: str
    count: int = 0
    digest: bytes = b""
    receipt: int | None = None

    def add(self, arguments: str) -> None:
        self.count += 1
        self.digest = hashlib.sha256(self.digest + arguments.encode()).digest()

    @property
    def spelled(self) -> str:
        return f"sha256:{self.digest.hex()}"


@dataclass(slots=True)
class Bucket:
    """How many receipts of refusals somebody has caused since `began`, and the newest by code."""

    began: float
    caused: int = 0
    newest: dict[str, int] = field(default_factory=dict)

    def add(self, receipt: Receipt) -> None:
        self.caused += 1
        self.newest |= dict.fromkeys((*(one.code for one in receipt.unmet), MANY), receipt.seq)


@dataclass(slots=True)
class UnderWay:
    """How many calls of each principal have not been answered yet."""

    _calls: Counter[str] = field(default_factory=Counter)

    @contextmanager
    def one_more(self, principal: str) -> Iterator[None]:
        """Count a call while it is under way.

        Raises:
            InputError: as many are as may be.
        """
        if self._calls[principal] >= AT_ONCE:
            raise InputError(
                f"{AT_ONCE:,} calls of yours are under way: wait until one is answered"
            )
        self._calls[principal] += 1
        try:
            yield
        finally:
            self._calls[principal] -= 1

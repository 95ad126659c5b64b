"""Calls that go on record together, and how many refusals somebody has put there by themselves."""

import hashlib
from dataclasses import dataclass, field

from vmstate.ledger.receipt import Receipt

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

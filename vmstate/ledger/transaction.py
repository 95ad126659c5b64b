"""One write transaction: receipts appended, leases moved, the head rewritten and signed.

It knows SQL and what a decision's entries mean for the tables; whose connection it is, and when
all of it commits, is the store's business.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from vmstate.canonical import Json
from vmstate.clock import Moment, to_us
from vmstate.constitution.document import Notify
from vmstate.constitution.law import Constitution
from vmstate.decisions import once
from vmstate.decisions.decision import Entry, Grounds
from vmstate.errors import InputError, TamperError
from vmstate.keys import PrivateKey, PublicKey
from vmstate.leases.watermark import Watermark
from vmstate.ledger.checkpoint import Checkpoint, sign_checkpoint
from vmstate.ledger.lease_table import lease_seq
from vmstate.ledger.merkle import Tree
from vmstate.ledger.outbox import Outbox
from vmstate.ledger.receipt import SCROLL_OF, Place, Receipt, spell_leaf, write_receipt
from vmstate.ledger.rows import Connection, moment_row
from vmstate.ledger.snapshot import Head, Snapshot
from vmstate.treasury.budget import Budget


@dataclass(frozen=True, slots=True)
class DrillMark:
    """What makes a ledger a drill's: written at its creation, never taken away (law 14).

    `digest` names the drill that is run; stand-ins' keys follow from it.
    """

    id: str
    marker: str
    digest: str
    stand_ins: dict[str, PublicKey]

    def body(self) -> dict[str, Json]:
        keys: dict[str, Json] = {name: str(key) for name, key in self.stand_ins.items()}
        return {"id": self.id, "marker": self.marker, "digest": self.digest, "stand_ins": keys}

    @classmethod
    def parse(cls, text: str) -> "DrillMark":
        """Read what `body` was written as."""
        try:
            fields = json.loads(text)
            keys = {name: PublicKey.parse(key) for name, key in fields["stand_ins"].items()}
            return cls(fields["id"], fields["marker"], fields["digest"], keys)
        except (ValueError, KeyError, TypeError, AttributeError, InputError) as error:
            raise TamperError(f"a drill's mark can't be read: {error}") from error


@dataclass(frozen=True, slots=True)
class Log:
    """What a transaction has to know of the log that it writes to."""

    origin: str
    drill: DrillMark | None
    key: PrivateKey

    def sign(self, tree: Tree) -> str:
        """The signed note over `tree`."""
        return sign_checkpoint(Checkpoint.of(self.origin, tree), self.key)


class Transaction(Snapshot):
    """One write transaction. Reads see what was appended in it."""

    def __init__(self, connection: Connection, log: Log) -> None:
        super().__init__(connection, is_drill=log.drill is not None)
        self._log = log
        head = super().head()
        self._tree, self._watermark = head.tree, head.watermark
        self._scrolls: dict[str, tuple[int, bytes]] = {}
        self._constitution = self.constitution()[0]
        self._targets: Mapping[str, Notify] = {}
        self._appended = self._ended = False

    def head(self) -> Head:
        return Head(self._tree, "", self._watermark)

    def watermark(self) -> Watermark:
        return self._watermark

    def last_of_scroll(self, scroll: str) -> tuple[int, bytes] | None:
        return self._scrolls.get(scroll) or super().last_of_scroll(scroll)

    def address(self, targets: Mapping[str, Notify]) -> None:
        """Whom to tell of what is appended from here on; of a drill nobody is told (law 14)."""
        self._targets = targets if self._log.drill is None else {}

    def append(self, entry: Entry, now: Moment) -> Receipt:
        """Write the receipt of `entry` and make the change that it stands for."""
        scroll = entry.scroll or SCROLL_OF[entry.type]
        last = self.last_of_scroll(scroll)
        place = Place(
            scroll=scroll,
            seq=self._tree.size,
            scroll_seq=0 if last is None else last[0] + 1,
            scroll_prev=None if last is None else spell_leaf(last[1]),
            node=self._log.origin,
            constitution=self._constitution,
            drill=self._log.drill.marker if self._log.drill else None,
            reverses=spell_leaf(self.leaf(entry.ends.seq)) if entry.ends else None,
        )
        receipt = write_receipt(entry, now.wall, place)
        self._insert(receipt, entry, place)
        self._move(entry, place.seq, now)
        targets = self._targets
        if entry.law is not None:
            self._put_in_force(entry.law)
            targets = {**self._targets, **targets}  # who was told before hears of it as well
        if targets:
            moved = entry.opens or entry.renews
            Outbox(self).post(targets, receipt, now, moved=moved, ended=entry.ends)
        self._tree = self._tree.append(receipt.leaf)
        self._scrolls[scroll] = place.scroll_seq, receipt.leaf
        if entry.watermark is not None or self._watermark.newest is not now:
            mark, back = entry.watermark or self._watermark, receipt.id if entry.sets_back else None
            self._watermark = mark.after_receipt(now, back=back)
        self._appended = True
        return receipt

    def put_in_force(self, constitution: Constitution, entry: Entry, now: Moment) -> Receipt:
        """Append `entry` under a new law, which rules from this receipt on."""
        self._put_in_force(constitution)
        return self.append(entry, now)

    def _put_in_force(self, constitution: Constitution) -> None:
        """Let `constitution` rule what is appended from here on."""
        self._constitution = constitution.digest
        law = (self._tree.size, constitution.digest, constitution.canonical, constitution.toml)
        self._execute("INSERT INTO constitution VALUES (?, ?, ?, ?)", law)
        self.address(constitution.document.notify)

    def seal(self) -> None:
        """Rewrite the head and sign it; nothing to do if nothing was appended."""
        if self._ended:
            self.falls.advance()
        if self._appended:
            note = self._log.sign(self._tree)
            row = _head_row(self._tree, note, self._watermark)
            self._execute(f"INSERT OR REPLACE INTO head VALUES (1{', ?' * len(row)})", row)

    def _move(self, entry: Entry, seq: int, now: Moment) -> None:
        """Make the change that receipt `seq` stands for."""
        if entry.opens is not None:
            self.leases.open(entry.opens)
        for lease in (*entry.touches, *([entry.renews] if entry.renews else [])):
            self.leases.change(lease)
        if entry.ends is not None:
            self.leases.end(entry.ends)
            self._ended = True
        if entry.budget is not None:
            self._budget(entry.budget)
        if entry.lock is not None:
            self.locks.write(entry.lock)
        if entry.asks is not None:
            self.requests.write(entry.asks, seq)
        if entry.pushes is not None:
            self.pushed.write(entry.pushes, now.wall)
        if entry.drill is not None and entry.drill.until is not None:
            row = (*moment_row(entry.drill.until), int(entry.drill.off))
            self._execute("INSERT OR REPLACE INTO drill VALUES (1, ?, ?, ?, ?)", row)
        self._count_once(entry, seq)

    def _count_once(self, entry: Entry, seq: int) -> None:
        """Note what receipt `seq` uses up: an idempotency key, and statements."""
        if once.KEY in entry.proofs:
            answered = (entry.proofs[once.KEY], entry.proofs[once.COMMAND], seq)
            self._execute("INSERT INTO answered VALUES (?, ?, ?)", answered)
        for statement in entry.spends:
            self._execute("INSERT INTO statement VALUES (?, ?)", (statement, seq))

    def _insert(self, receipt: Receipt, entry: Entry, place: Place) -> None:
        row = (
            place.seq,
            receipt.leaf,
            receipt.body,
            place.scroll,
            place.scroll_seq,
            entry.type,
            entry.outcome,
            entry.principal,
            lease_seq(entry.lease) if entry.lease is not None else None,
        )
        self._execute("INSERT INTO receipt VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", row)

    def _budget(self, budget: Budget) -> None:
        row = (budget.id, budget.seq, budget.name, budget.unit, budget.allocated, budget.spent)
        self._execute(
            "INSERT INTO budget VALUES (?, ?, ?, ?, ?, ?) "
            "ON CONFLICT (id) DO UPDATE SET spent = excluded.spent",
            row,
        )

    def _execute(self, statement: str, values: tuple[Any, ...]) -> None:
        self._db.execute(statement, values)


def loading_entry(constitution: Constitution, drill: DrillMark | None) -> Entry:
    """The receipt that puts a constitution in force in a ledger that holds nothing else."""
    detail: dict[str, Json] = {
        "name": constitution.name,
        "version": constitution.version,
        "drill": None if drill is None else drill.body(),
    }
    return Entry("constitution_loaded", "recorded", Grounds("constitution"), detail=detail)


def _head_row(tree: Tree, note: str, mark: Watermark) -> tuple[Any, ...]:
    assert mark.newest is not None
    held_until = None if mark.held_until is None else to_us(mark.held_until)
    recovered = (None, None, None) if mark.recovered is None else moment_row(mark.recovered)
    newest = moment_row(mark.newest)
    voided = (mark.ahead_us, mark.voided_below, mark.voided_except)
    signed = (mark.signed_us, mark.since_us, mark.back)
    return (tree.size, tree.to_bytes(), note, *newest, *voided, held_until, *recovered, *signed)

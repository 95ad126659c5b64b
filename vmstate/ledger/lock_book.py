"""Which locks stand, as far as receipts tell, and what may not have happened under them."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from vmstate.canonical import parse_at
from vmstate.clock import Moment
from vmstate.constitution.law import Constitution
from vmstate.constitution.people import People
from vmstate.leases.lock import SWEPT_AT_ONCE, Lock, lock_id
from vmstate.ledger.held import Held
from vmstate.ledger.receipt import Receipt


@dataclass
class LockBook:
    """`every` holds each lock by its id, as it is after the receipts read so far.

    `unswept` is the lock of the receipt just read, whose ends have to follow it at once, `ends` how
    many did: of a lock on many, as many as one writes, and the others fall. Of boot
    hands nothing stands in receipts: whether a lock stands is what they say of it, lifted and over.
    """

    every: dict[str, Lock] = field(default_factory=dict)
    unswept: Lock | None = None
    ends: int = 0

    @property
    def standing(self) -> list[Lock]:
        """The locks that no receipt has ended."""
        return [one for one in self.every.values() if one.state == "locked"]

    def read(
        self, receipt: Receipt, seq: int, law: Constitution | None, people: People
    ) -> Iterator[str]:
        """Take a receipt of type `lock`; yields what is wrong with it."""
        said = receipt.fields
        detail, actor = said["what"]["detail"], said["who"]["actor"]
        until = None if detail["until"] is None else parse_at(detail["until"])
        earlier = self.every.get(detail["lock"])
        if detail["state"] == "locked":
            if detail["lock"] != lock_id(seq):
                yield f"sets {detail['lock']!r}, its number makes that {lock_id(seq)!r}"
            yield from _admitted(law, people, actor, "by")
            name, reason = detail["name"] or "", said["why"]
            ends = None if until is None else Moment(until, "", 0)
            at = Moment(receipt.at, "", 0)
            made = Lock(seq, detail["scope"], name, actor, reason, at, ends)
            self.every[made.id] = self.unswept = made
            self.ends = 0
            return
        if earlier is None or earlier.state != "locked":
            yield f"ends {detail['lock']!r}, which does not stand"
            return
        if detail["state"] == "lifted":
            yield from _admitted(law, people, actor, "lift")
            if self.on_person(people, actor):
                yield f"is lifted by {actor!r}, whose person is locked"
        elif earlier.until is None or parse_at(said["due"]) != earlier.until.wall:
            yield f"says {detail['lock']!r} was due at another time than its end"
        self.every[earlier.id] = replace(earlier, state=detail["state"])

    def on_person(self, people: People, name: str) -> bool:
        """Whether a lock stands on the person of `name`, whose word then counts for nothing."""
        person = people.person(name)
        return any(
            one.scope == "principal" and people.person(one.name) == person for one in self.standing
        )

    def faults(self, receipt: Receipt, law: Constitution | None, people: People) -> Iterator[str]:
        """What was granted that a lock forbade."""
        if receipt.outcome != "granted" or law is None or not self.every:
            return
        who, profile = receipt.fields["who"]["principal"], _profile_of(receipt, law)
        for lock in self.standing:
            if profile is not None and lock.covers(law, people, who, profile):
                yield f"was granted while {lock.id} stood"

    def goes_on(self, receipt: Receipt) -> bool:
        """Whether a lease's end may be one of those that the lock just set wrote itself.

        What it left owed says when it was due; what time ends after it is due later and written
        later. Under a clock that was set back, what was over by the other hand is due later too.
        """
        lock, due = self.unswept, receipt.fields["due"]
        if lock is None or due is None:
            return True
        owed = (receipt.fields["what"]["detail"] or {}).get("lock") == lock.id
        return not owed and min(parse_at(due), receipt.at) <= lock.locked.wall

    def end_faults(
        self, receipt: Receipt, held: Held, law: Constitution | None, people: People
    ) -> Iterator[str]:
        """What is wrong with a lease's end by a lock; its fall takes what stands on it along."""
        said = receipt.fields
        lock = self.every.get((said["what"]["detail"] or {}).get("lock", ""))
        if held.felled is not None:
            if lock is None or lock.seq != held.felled.seq:
                yield f"says that another lock ended it than {held.felled.id}"
        elif lock is None or lock != self.unswept:
            yield "says that a lock ended it, and no lock was just set"
        elif law is not None and lock.scope == "principal":
            holder, profile = said["who"]["principal"], said["what"]["from"]
            if not lock.covers(law, people, holder, profile):
                yield f"says that {lock.id} ended it, which does not cover it"

    def swept(
        self, leases: Iterable[Held], law: Constitution | None, people: People
    ) -> Iterator[str]:
        """What the lock just set covers and has not ended; called once its ends are read.

        A lock on many ends so many at once, and lets the others fall.
        """
        lock, self.unswept = self.unswept, None
        if lock is None or law is None:
            return
        falls = lock.scope != "principal" and self.ends >= SWEPT_AT_ONCE
        for held in leases:
            if held.felled is not None or not lock.covers(
                law, people, held.principal, held.profile
            ):
                continue
            if falls:
                held.felled = lock
            else:
                yield f"{lock.id} covers a lease of {held.principal!r} and did not end it"


def _admitted(law: Constitution | None, people: People, actor: str, key: str) -> Iterator[str]:
    if law is None:
        return
    table = law.document.locks
    groups = () if table is None else table.by if key == "by" else table.lift
    if not people.in_any(actor, groups):
        yield f"is by {actor!r}, whom [locks] {key} does not admit"


def _profile_of(receipt: Receipt, law: Constitution) -> str | None:
    """The profile that a granted receipt took; None for calls of before that are told together."""
    what: Mapping[str, Any] = receipt.fields["what"]
    if receipt.type in {"profile_escalation", "lease_renewed"}:
        return str(what["to"])
    if receipt.type == "tool_call" and "count" in (what["detail"] or {}):
        return None
    act = law.document.acts.get(what["act"] or "")
    return law.baseline if act is None else act.profile

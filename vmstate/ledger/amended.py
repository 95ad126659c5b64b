"""What an amendment did to the leases that were open, as far as receipts tell."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from vmstate.canonical import parse_at
from vmstate.constitution.law import Constitution
from vmstate.constitution.people import People
from vmstate.decisions.amending import gone, latest_end
from vmstate.decisions.command import NEW_LAW
from vmstate.leases.lease import AMENDED, lease_id
from vmstate.ledger.held import Held
from vmstate.ledger.receipt import Receipt


@dataclass
class Amended:
    """The amendment just read, by its `seq`, and the law before it; None once its sweep is over.

    `before` is when the leases that it cut would have ended without it.
    """

    seq: int | None = None
    old: Constitution | None = None
    before: dict[str, datetime] = field(default_factory=dict)

    def begin(
        self, receipt: Receipt, seq: int, law: Constitution | None, in_force: str
    ) -> Iterator[str]:
        """Take the receipt of an amendment; says what in it does not fit."""
        self.seq, self.old, self.before = seq, law, {}
        detail = receipt.fields["what"]["detail"]
        if detail["from"] != in_force:
            yield "amends a constitution that was not in force"
        if receipt.fields["authority"]["facts"] != {NEW_LAW: detail["to"]}:
            yield "puts another constitution in force than was asked for"
        if law is not None and law.document.amendment is None:
            yield "amends a constitution that can't be amended"

    def clamp(self, leases: Mapping[str, Held], receipt: Receipt) -> Iterator[str]:
        """Take the receipt of a lease that was cut; says what in it does not fit."""
        what = receipt.fields["what"]
        held, detail = leases.get(what["lease"]), what["detail"]
        if detail["amendment"] != self.seq or self.seq is None:
            yield "says that an amendment cut a lease, and none was just made"
        if held is None:
            yield f"cuts {what['lease']!r}, which is not open"
            return
        until = parse_at(what["expires_at"])
        if until > held.expires_at or parse_at(detail["was"]) != held.expires_at:
            yield f"cuts {what['lease']!r} from another end, or to a later one"
        self.before[what["lease"]] = held.expires_at
        held.clamp(detail, until, receipt.at)
        if held.ends_at <= receipt.at:
            yield f"cuts {what['lease']!r} to an end that has passed"

    def end_faults(self, receipt: Receipt) -> Iterator[str]:
        """What is wrong with a lease's end by an amendment."""
        what = receipt.fields["what"]
        if what["ending"] == AMENDED and (
            self.seq is None or what["detail"]["amendment"] != self.seq
        ):
            yield "says that an amendment ended it, and none was just made"

    def swept(self, leases: Mapping[str, Held], new: Constitution, people: People) -> Iterator[str]:
        """What the amendment should have done and has not; called once its receipts are read."""
        old, seq = self.old, self.seq
        self.seq = self.old = None
        if old is None or seq is None:
            return
        for name, held in leases.items():
            parent = leases.get(held.parent or "")
            why = gone(
                old,
                new,
                people,
                principal=held.principal,
                profile=held.profile,
                rule=held.rule,
                below=new.baseline if parent is None else parent.profile,
            )
            if why is not None:
                yield f"the amendment of receipt {seq} should have ended {name!r}: {why}"
            elif self._too_long(old, new, held, parent):
                yield f"the amendment of receipt {seq} should have cut {name!r}"

    def _too_long(
        self, old: Constitution, new: Constitution, held: Held, parent: Held | None
    ) -> bool:
        until = latest_end(
            old.rules[held.rule],
            new.rules[held.rule],
            granted_at=held.granted_at,
            expires_at=self.before.get(lease_id(held.seq), held.expires_at),
            renewals=held.renewals,
        )
        over = old.rules[held.rule].on_amend == "clamp" and held.expires_at > until
        return over or (parent is not None and held.expires_at > parent.expires_at)

"""What follows from receipts, one after the other: leases, budgets, used statements, time.

Law 2: state can be derived again from receipts. Whatever a receipt says that does not follow from
those before it is a finding; reading goes on, because an auditor wants all of them.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from vmstate.canonical import parse_at
from vmstate.constitution.document import ApprovalNeed
from vmstate.constitution.guards import seat
from vmstate.constitution.law import Constitution
from vmstate.constitution.people import People
from vmstate.decisions import once
from vmstate.errors import InputError, TamperError
from vmstate.leases.lease import LOCKED, lease_id
from vmstate.leases.watermark import steps_back
from vmstate.ledger.amended import Amended
from vmstate.ledger.called import call_faults
from vmstate.ledger.charged import take_allocation, take_charges
from vmstate.ledger.context import Contexts
from vmstate.ledger.finding import Finding
from vmstate.ledger.held import Held, keep_alive, use_faults
from vmstate.ledger.laws import people_of
from vmstate.ledger.lock_book import LockBook
from vmstate.ledger.merkle import Tree
from vmstate.ledger.proven import Proven
from vmstate.ledger.pushed import PushedBook
from vmstate.ledger.receipt import Receipt, scroll_of
from vmstate.ledger.retold import (
    Retold,
    said_of_call,
    said_of_climb,
    said_of_request,
    said_of_statement,
)
from vmstate.ledger.vouched import check_statements
from vmstate.treasury.budget import Budget

SLEWED = timedelta(minutes=2)  # what a time server may take from the clock bit by bit, unsaid
FINDINGS = 100  # after so many, one more would tell nobody anything


@dataclass
class Replay:
    """Everything that the receipts read so far amount to.

    `on_end` is called with each lease that ends, so that nobody has to keep all of them. `law` is
    at first the one in force at the end; from then on `find_law` says what each receipt is judged
    by, by its digest. `newest` is the last receipt of each scroll, `torn` whether one that was read
    does not follow the one before it there.
    """

    law: Constitution | None
    origin: str
    on_end: Callable[[Held], None] = lambda _: None
    find_law: Callable[[str], Constitution | None] = lambda _: None
    findings: list[Finding] = field(default_factory=list)
    tree: Tree = field(default_factory=Tree)
    last_at: datetime | None = None
    latest_at: datetime | None = None
    set_back: timedelta = SLEWED
    stepped: timedelta = SLEWED
    constitution: str = ""
    laws: list[tuple[int, str]] = field(default_factory=list)
    drill: dict[str, Any] | None = None
    people: People = field(default_factory=lambda: People({}))
    scrolls: dict[str, tuple[int, str]] = field(default_factory=dict)
    newest: dict[str, int] = field(default_factory=dict)
    torn: bool = False
    leases: dict[str, Held] = field(default_factory=dict)
    granted: int = 0
    used: dict[str, int] = field(default_factory=dict)
    falling: tuple[str, int] = ("", -1)
    budgets: dict[str, Budget] = field(default_factory=dict)
    drill_until: datetime | None = None
    drill_off: bool = False
    voided_below: int = 0
    requests: Retold = field(default_factory=Retold)
    held_until: datetime | None = None
    recovered_at: datetime | None = None
    back: str = ""
    locks: LockBook = field(default_factory=LockBook)
    answered: dict[str, tuple[str, int]] = field(default_factory=dict)
    amended: Amended = field(default_factory=Amended)
    contexts: Contexts = field(default_factory=Contexts)
    proven: Proven = field(default_factory=Proven)
    pushed: PushedBook = field(default_factory=PushedBook)

    def __post_init__(self) -> None:
        if self.law is not None:
            self.people = self.law.people

    def put_in_force(self, digest: str, seq: int) -> None:
        """Judge what comes after receipt `seq` by the law with this digest."""
        self.constitution = digest
        self.laws.append((seq, digest))
        if self.law is None or self.law.digest != digest:
            law = self.find_law(digest)
            if law is None:
                self.find("puts a constitution in force that is not beside the receipts", seq)
            else:
                self.law = law
        if self.law is None:
            return
        self.people = people_of(self.law, self.drill)

    def find(self, what: str, seq: int | None = None) -> None:
        """Note a finding, unless there are too many already."""
        if len(self.findings) < FINDINGS:
            self.findings.append(Finding(seq, what))

    def find_all(self, faults: Iterable[str], seq: int | None) -> None:
        """Note each of them."""
        for fault in faults:
            self.find(fault, seq)

    def end_of_sweep(self, seq: int | None = None) -> None:
        """What a lock or an amendment does to leases is in the receipts that follow it at once."""
        self.find_all(self.locks.swept(self.leases.values(), self.law, self.people), seq)
        if self.law is not None:
            self.find_all(self.amended.swept(self.leases, self.law, self.people), seq)

    def use(self, statement: str, seq: int) -> None:
        """Note that receipt `seq` rests on a statement or request, which counts once."""
        if statement in self.used:
            self.find(f"uses what receipt {self.used[statement]} used", seq)
        self.used[statement] = seq

    def read(self, receipt: Receipt) -> None:
        """Take the next receipt; what is wrong with it is found, not raised."""
        seq = self.tree.size
        self.tree = self.tree.append(receipt.leaf)
        if receipt.fault is not None:
            self.find(receipt.fault, seq)
            return
        try:
            _place(self, receipt, seq)
            _judge(self, receipt, seq)
        except TamperError as error:
            self.find(str(error), seq)
        except (InputError, LookupError, TypeError, ValueError, AttributeError) as error:
            # Well-formed JSON of a shape that no receipt has; whoever wrote it was not vmstate.
            self.find(f"a field has the wrong shape ({type(error).__name__}: {error})", seq)


def _place(replay: Replay, receipt: Receipt, seq: int) -> None:
    """Does it stand where it says, in the log, in its scroll and in time?"""
    said = receipt.fields
    if said["seq"] != seq:
        replay.find(f"says it is number {said['seq']}", seq)
    if scroll_of(receipt.type, replay.law) != said["scroll"]:
        replay.find(f"type {receipt.type!r} does not go into scroll {said['scroll']!r}", seq)
    scroll = said["scroll"]
    last, last_id = replay.scrolls.get(scroll, (-1, None))
    if (said["scroll_seq"], said["scroll_prev"]) != (last + 1, last_id):
        replay.torn = True
        if said["scroll_seq"] == last + 1 and scroll in replay.newest:
            what = (
                f"is not what receipt {seq} follows in scroll {scroll!r}: one of them was changed"
            )
            replay.find(what, replay.newest[scroll])
        else:
            replay.find(f"does not continue scroll {scroll!r}", seq)
    replay.scrolls[scroll], replay.newest[scroll] = (last + 1, receipt.id), seq
    if said["node"] != replay.origin:
        replay.find(f"was written by {said['node']!r}, this is {replay.origin!r}", seq)
    earlier = replay.last_at is not None and receipt.at < replay.last_at
    if earlier and receipt.type != "clock_anomaly":
        replay.find("is earlier than the one before it, and nothing says why", seq)
    replay.last_at = receipt.at
    replay.latest_at = max(receipt.at, replay.latest_at or receipt.at)


def _judge(replay: Replay, receipt: Receipt, seq: int) -> None:
    """Does what it says follow from what came before?"""
    said = receipt.fields
    ends = receipt.type in {"profile_deescalation", "lease_clamped"}
    if not ends or not replay.locks.goes_on(receipt):
        replay.end_of_sweep(seq)
    if receipt.type == "constitution_loaded":
        _loaded(replay, receipt, seq)
    elif said["authority"]["constitution"] != replay.constitution:
        replay.find("was written under a constitution that was not in force", seq)
    if once.KEY in said["proofs"]:
        _answered_once(replay, said["proofs"], seq)
    if said["outcome"] == "denied":
        return
    replay.find_all(replay.locks.faults(receipt, replay.law, replay.people), seq)
    replay.find_all(call_faults(receipt, replay.law, replay.people, replay.leases), seq)
    in_drill = replay.drill is not None
    replay.find_all(
        replay.proven.faults(receipt, replay.law, replay.people, in_drill=in_drill), seq
    )
    check_statements(replay, receipt, seq)
    replay.find_all(replay.contexts.faults(replay.leases, receipt), seq)
    if receipt.type in _EFFECTS:
        _EFFECTS[receipt.type](replay, receipt, seq)
    if said["what"]["lease"] is not None and receipt.type not in _ABOUT_LEASES:
        replay.find_all(use_faults(replay.leases, receipt), seq)
    _charged(replay, receipt, seq)


def _answered_once(replay: Replay, proofs: Mapping[str, str], seq: int) -> None:
    key = proofs[once.KEY]
    if key in replay.answered:
        replay.find(f"answers again what receipt {replay.answered[key][1]} answered", seq)
    replay.answered[key] = (proofs[once.COMMAND], seq)


def _mode(replay: Replay, receipt: Receipt, _seq: int) -> None:
    detail, due = receipt.fields["what"]["detail"], receipt.fields["due"]
    replay.drill_off = detail["mode"] == "OFF"
    if not replay.drill_off:
        replay.drill_until = parse_at(detail["until"])
    else:
        replay.drill_until = receipt.at if due is None else parse_at(due)


def _clock(replay: Replay, receipt: Receipt, seq: int) -> None:
    detail = receipt.fields["what"]["detail"]
    replay.set_back += timedelta(microseconds=max(0, -detail["step_us"]))
    if detail["kind"] == "step":
        replay.stepped += timedelta(microseconds=abs(detail["step_us"]))
        replay.back = receipt.id if steps_back(detail["step_us"]) else replay.back
    if detail["kind"] == "regression":
        replay.back = receipt.id
        replay.voided_below = seq
        until = detail["held_until"]
        replay.held_until = None if until is None else parse_at(until)


def _recovered(replay: Replay, receipt: Receipt, seq: int) -> None:
    replay.held_until, replay.recovered_at = None, receipt.at
    if replay.law is not None and replay.law.document.recovery is not None:
        _approved(replay, receipt, replay.law.document.recovery.needs.approval, seq)


def _loaded(replay: Replay, receipt: Receipt, seq: int) -> None:
    drill = receipt.fields["what"]["detail"]["drill"]
    if seq and drill != replay.drill:
        replay.find("says otherwise than the first receipt whether this is a drill", seq)
    replay.drill = drill
    replay.put_in_force(receipt.fields["authority"]["constitution"], seq)


def _locked(replay: Replay, receipt: Receipt, seq: int) -> None:
    replay.find_all(replay.locks.read(receipt, seq, replay.law, replay.people), seq)
    due = receipt.fields["due"]
    if due is not None and parse_at(due) - receipt.at > replay.set_back:
        # Before its wall only the boot hand ends it, and only where the wall was set back.
        replay.find("says that a lock was over before its end", seq)


def _amended(replay: Replay, receipt: Receipt, seq: int) -> None:
    replay.find_all(replay.amended.begin(receipt, seq, replay.law, replay.constitution), seq)
    if replay.law is not None and replay.law.document.amendment is not None:
        _approved(replay, receipt, replay.law.document.amendment.needs.approval, seq)
    replay.put_in_force(receipt.fields["what"]["detail"]["to"], seq)


def _granted(replay: Replay, receipt: Receipt, seq: int) -> None:
    said = receipt.fields
    what = said["what"]
    if what["lease"] != lease_id(seq):
        replay.find(f"grants {what['lease']!r}, its number makes that {lease_id(seq)!r}", seq)
    held = Held(
        seq=seq,
        principal=said["who"]["principal"],
        profile=what["to"],
        rule=receipt.rule,
        trigger=what["trigger"],
        parent=what["parent"],
        granted_at=receipt.at,
        expires_at=parse_at(what["expires_at"]),
        receipt_id=receipt.id,
        ends_at=parse_at(what["expires_at"]),
    )
    held.set_terms(what["detail"], receipt.at)
    if held.expires_at <= receipt.at:
        replay.find("grants a lease that is over when it begins", seq)
    parent = replay.leases.get(held.parent) if held.parent is not None else None
    if held.parent is not None and parent is None:
        replay.find(f"stands on {held.parent!r}, which is not open", seq)
    if parent is not None:
        parent.children += 1
        if parent.principal != held.principal:
            replay.find(f"stands on {held.parent!r}, which is somebody else's", seq)
        if parent.expires_at < held.expires_at:
            replay.find("outlives the lease that it stands on", seq)
        if parent.over_at <= receipt.at:
            replay.find("stands on a lease that was over", seq)
    keep_alive(replay.leases, held, receipt.at)
    replay.find_all(replay.contexts.begin(held, receipt), seq)
    _by_its_rule(replay, receipt, held, seq)
    said_of_climb(replay, receipt, seq)
    replay.leases[what["lease"]] = held
    replay.granted += 1


def _by_its_rule(replay: Replay, receipt: Receipt, held: Held, seq: int) -> None:
    """Does the constitution have this rule, for this climb, so long, with so many approvals?"""
    if replay.law is None:
        return
    rule = replay.law.rules.get(held.rule)
    if rule is None:
        replay.find(f"names a rule {held.rule!r} that the constitution does not have", seq)
        return
    what = receipt.fields["what"]
    if (rule.from_, rule.to, rule.trigger) != (what["from"], held.profile, held.trigger):
        replay.find(f"is not a climb that {held.rule!r} allows", seq)
    if parse_at(what["expires_at"]) - receipt.at > rule.ttl:
        replay.find(f"lasts longer than {held.rule!r} allows", seq)
    if (held.max_uses, held.idle_ttl) != (rule.max_uses, rule.idle_ttl):
        replay.find(f"is not bounded by uses or idleness as {held.rule!r} says", seq)
    _approved(replay, receipt, rule.needs.approval, seq)


def _approved(replay: Replay, receipt: Receipt, stages: tuple[ApprovalNeed, ...], seq: int) -> None:
    people = replay.people
    approvals = receipt.fields["authority"]["approvals"]
    names = [one["by"] for one in approvals if one["statement"]["kind"] == "approval"]
    own = people.person(receipt.fields["who"]["principal"])
    others = [name for name in names if people.person(name) != own]
    seated = sum(len(served) for served in seat(people, others, stages))
    asked = sum(need.count for need in stages)
    if seated < asked:
        replay.find(f"holds {seated} approvals that count, its rule asks for {asked}", seq)


def _renewed(replay: Replay, receipt: Receipt, seq: int) -> None:
    what = receipt.fields["what"]
    held = replay.leases.get(what["lease"])
    if held is None:
        replay.find(f"renews {what['lease']!r}, which is not open", seq)
        return
    if held.over_at <= receipt.at:
        replay.find(f"renews {what['lease']!r} after its end", seq)
    parent = replay.leases.get(held.parent) if held.parent is not None else None
    held.expires_at, held.renewals = parse_at(what["expires_at"]), held.renewals + 1
    held.set_terms(what["detail"], receipt.at)
    keep_alive(replay.leases, held, receipt.at)
    if parent is not None and parent.expires_at < held.expires_at:
        replay.find("outlives the lease that it stands on", seq)
    if replay.law is not None and held.rule in replay.law.rules:
        most = replay.law.rules[held.rule].renewals
        if held.renewals > most:
            replay.find(f"renews for the {held.renewals}. time, {held.rule!r} allows {most}", seq)
        _by_its_rule(replay, receipt, held, seq)


def _ended(replay: Replay, receipt: Receipt, seq: int) -> None:
    said = receipt.fields
    what = said["what"]
    held = replay.leases.pop(what["lease"], None)
    if held is None:
        replay.find(f"ends {what['lease']!r}, which is not open", seq)
        return
    if held.children:
        replay.find(f"ends {what['lease']!r}, on which another still stands", seq)
    if held.parent in replay.leases:
        replay.leases[held.parent].children -= 1
    if said["reverses"] != held.receipt_id:
        replay.find(f"does not name the receipt that granted {what['lease']!r}", seq)
    if (said["who"]["principal"], what["from"]) != (held.principal, held.profile):
        replay.find(f"names another holder or profile of {what['lease']!r}", seq)
    replay.contexts.end(held)
    replay.find_all(replay.amended.end_faults(receipt), seq)
    if what["ending"] == LOCKED:
        replay.find_all(replay.locks.end_faults(receipt, held, replay.law, replay.people), seq)
    replay.locks.ends += 1
    replay.find_all(held.end(receipt, replay.set_back), seq)
    replay.on_end(held)


def _allocated(replay: Replay, receipt: Receipt, seq: int) -> None:
    replay.find_all(take_allocation(replay.budgets, receipt, seq), seq)


def _charged(replay: Replay, receipt: Receipt, seq: int) -> None:
    replay.find_all(take_charges(replay.budgets, receipt), seq)


# Receipts that name a lease because they change it; any other that names one was done under it.
_ABOUT_LEASES = frozenset(
    ("profile_escalation", "lease_renewed", "profile_deescalation", "lease_clamped")
)
# What a receipt changes beside being there, by its type; the others change nothing.
_EFFECTS: Mapping[str, Callable[[Replay, Receipt, int], None]] = {
    "profile_escalation": _granted,
    "lease_renewed": _renewed,
    "profile_deescalation": _ended,
    "request": said_of_request,
    "tool_call": said_of_call,
    "approval": said_of_statement,
    "attestation": lambda r, one, seq: r.find_all(r.pushed.take(one, r.law, r.people), seq),
    "treasury_budget": _allocated,
    "drill_mode": _mode,
    "clock_anomaly": _clock,
    "recovery": _recovered,
    "lock": _locked,
    "constitution_amended": _amended,
    "lease_clamped": lambda r, one, seq: r.find_all(r.amended.clamp(r.leases, one), seq),
}

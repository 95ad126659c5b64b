"""Which signatures count, and why the others do not.

Law 9: no one approves their own request, nor does anyone who stands for them; a statement counts
once, for one ledger, one law, one request. There is no path on which a name alone counts: every
name here is taken from a statement whose signature verified against the key that the constitution,
or a drill, gives that name.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from vmstate.canonical import Json, format_at, format_duration, parse_at
from vmstate.clock import Moment
from vmstate.constitution.document import Fact
from vmstate.constitution.facts import Value, read_facts, spell
from vmstate.constitution.people import Caller, People
from vmstate.constitution.unmet import Unmet
from vmstate.decisions.command import Command, HandIn, Push
from vmstate.decisions.ordering import order_arguments
from vmstate.signing import Approval, Attestation, Order, Request, Signed, Statement

SKEW_FOR = timedelta(seconds=5)  # how far ahead of ours a sensor's clock may be
PROOF_FOR = timedelta(minutes=5)  # an order is handed in at once
APPROVAL_FOR = timedelta(days=366)  # a longer one was dated by a clock that is not ours


@dataclass(frozen=True, slots=True)
class Setting:
    """Where and when a statement would have to count, and for whom.

    `wall` is the latest that counts against a statement: what was too old once stays so, wherever
    the clock was set since. `since` is the same for one that names `after`, the receipt of the
    newest step back, and so was signed after that (`leases/watermark.py`). `locked` are people
    whose word counts for nothing, and by which lock. `pushed` is what sensors said last about
    `principal` ahead of any request.
    """

    origin: str
    constitution: str
    people: People
    now: Moment
    wall: datetime
    used: frozenset[str]
    principal: str
    locked: Mapping[str, str] = field(default_factory=dict)
    since: datetime | None = None
    after: str = ""
    pushed: tuple[Attestation, ...] = ()

    def reached(self, *named: str | None) -> datetime:
        """The time that counts against what was signed after the receipts that it names."""
        return self.since if self.since is not None and self.after in named else self.wall


@dataclass(frozen=True, slots=True)
class Heard:
    """What the approvals handed in amount to: who approved, on which statements, who did not."""

    approvers: tuple[str, ...] = ()
    counted: tuple[Signed, ...] = ()
    rejected: tuple[Unmet, ...] = ()


@dataclass(frozen=True, slots=True)
class FactsHeard:
    """The facts that hold, and what is wrong with the others."""

    values: Mapping[str, Value]
    stated: Mapping[str, str]
    counted: tuple[Signed, ...]
    faults: tuple[Unmet, ...]


def hear_approvals(approvals: Iterable[Signed], request: Request | None, at: Setting) -> Heard:
    """Sort `approvals` into those that count for `request` and those that do not."""
    counted: list[Signed] = []
    rejected: list[Unmet] = []
    for signed in approvals:
        statement = signed.statement
        fault = _basic_fault(signed, "approval", at)
        if fault is None and isinstance(statement, Approval):
            fault = _approval_fault(statement, request, at)
            if fault is None and signed.by in {one.by for one in counted}:
                fault = _fault(signed, "approval", "repeated", "different people")
        elif fault is None:
            fault = _fault(signed, "approval", "other_subject", "an approval")
        if fault is None:
            counted.append(signed)
        else:
            rejected.append(fault)
    approvers = tuple(signed.by for signed in counted)
    return Heard(approvers, tuple(counted), tuple(rejected))


def hear_order(order: Signed, command: Command, at: Setting) -> Unmet | None:
    """Why `order` does not prove that its signer asks for exactly `command`, or None if it does."""
    fault = _basic_fault(order, "order", at)
    statement = order.statement
    if fault is not None:
        return fault
    if not isinstance(statement, Order):
        return _fault(order, "order", "other_subject", "an order")
    until = parse_at(statement.expires_at)
    if (reached := at.reached(statement.after)) >= until:
        return _old(statement, until, statement.expires_at, reached, at)
    if until > reached + PROOF_FOR + SKEW_FOR:
        return _fault(order, "order", "too_long", f"{format_duration(PROOF_FOR)} at most")
    if not _orders(statement, command):
        return _fault(order, "order", "other_subject", f"{command.asked_by} to {command.verb}")
    return None


def _orders(order: Order, command: Command) -> bool:
    """Whether `order` is for exactly `command`."""
    said = (order.by, order.verb, order.arguments, order.reason)
    return said == (command.asked_by, command.verb, order_arguments(command), command.reason)


def hear_signer(statement: Signed, people: People) -> Unmet | None:
    """Why the signature of what is handed in proves nobody, or None if it proves its signer."""
    return _signature_fault(statement, statement.statement.kind, people)


def hear_caller(caller: Caller, name: str, people: People) -> Unmet | None:
    """Why `caller` is not believed to be `name`, or None if the law says that they may be."""
    names = people.names_of(caller)
    if name in names:
        return None
    remedy = "ask as yourself, or sign it as who you are (--key FILE)"
    given = f"{caller} asks as {name}"
    return Unmet("principals", "not_caller", " or ".join(names) or "nobody", given, remedy)


def is_from(command: Command, people: People) -> bool:
    """Whether `command` is from who asks by it, and so is answered once under its key.

    An order that was used by then, or is too old, still shows who sent it. What is handed in for
    somebody who has not signed it shows nothing, whoever can open the ledger's file.
    """
    if command.caller is None and isinstance(command, HandIn | Push):
        return is_signed(command, people)
    if command.caller is None or hear_caller(command.caller, command.asked_by, people) is None:
        return True
    return is_signed(command, people)


def is_signed(command: Command, people: People) -> bool:
    """Whether who asks has signed it, or what is handed in by it, whatever that is worth by now.

    An order for something else is no signature of this, whoever found it.
    """
    key = people.keys.get(command.asked_by)
    if isinstance(command, HandIn | Push):
        return key is not None and command.statement.verifies(key)
    order = None if command.order is None else command.order.statement
    if key is None or not isinstance(order, Order) or not _orders(order, command):
        return False
    return command.order is not None and command.order.verifies(key)


def hear_facts(
    stated: Mapping[str, str],
    attestations: Iterable[Signed],
    declared: Mapping[str, Fact],
    at: Setting,
) -> FactsHeard:
    """Join what the requester states with what others attest; neither may contradict the other."""
    faults: list[Unmet] = []
    counted: list[Signed] = []
    attested: dict[str, str] = {}
    for signed in attestations:
        fault = _basic_fault(signed, "attestation", at)
        statement = signed.statement
        if fault is None and isinstance(statement, Attestation):
            fault = _attestation_fault(statement, declared, at)
            if fault is None and counted:
                # One statement for all attested facts: of two, each could say half of the truth.
                if statement.facts.items() <= attested.items():
                    continue
                fault = _fault(signed, "attestation", "second", "one statement")
            if fault is None:
                attested = dict(statement.facts)
                counted.append(signed)
        elif fault is None:
            fault = _fault(signed, "attestation", "other_subject", "an attestation")
        if fault is not None:
            faults.append(fault)
    joined = {**attested, **stated}
    values, unread = read_facts(declared, joined)
    faults += unread
    sure = dict(read_facts(declared, attested)[0])
    for name in list(values):
        if unsure := _unsure(name, values[name], sure, declared[name]):
            faults.append(unsure)
            del values[name]
    spelled = {**joined, **{name: spell(value) for name, value in values.items()}}
    return FactsHeard(values, spelled, tuple(counted), tuple(faults))


def _unsure(name: str, value: Value, sure: Mapping[str, Value], fact: Fact) -> Unmet | None:
    rule = f'facts."{name}"'
    if name in sure:
        if sure[name] == value:
            return None
        given = f"{name} = {spell(value)} is stated"
        remedy = "state what was attested, or leave it out"
        return Unmet(rule, "fact_differs", spell(sure[name]), given, remedy)
    if fact.attested_by is None:
        return None
    remedy = f"hand in an --attestation signed by one of {fact.attested_by}"
    return Unmet(rule, "fact_unattested", fact.attested_by, name, remedy)


def _approval_fault(statement: Approval, request: Request | None, at: Setting) -> Unmet | None:
    by = statement.by
    if request is None or statement.request != request.id:
        subject = "this request" if request is not None else "a request handed in (--request)"
        return _about(by, "approval", "other_subject", subject)
    until = parse_at(statement.expires_at)
    # It holds the request's id, so it is of after whatever the request names.
    if (reached := at.reached(statement.after, request.after)) >= until:
        return _old(statement, until, statement.expires_at, reached, at)
    if until > reached + APPROVAL_FOR:
        return _about(by, "approval", "too_long", f"{format_duration(APPROVAL_FOR)} at most")
    if at.people.person(by) == at.people.person(at.principal):
        return _about(by, "approval", "own", _somebody_else(by, at.principal))
    return None


def _somebody_else(by: str, principal: str) -> str:
    if by == principal:
        return "somebody else than who asks"
    return f"somebody who is not the same person as {principal}, who asks"


def _attestation_fault(
    statement: Attestation, declared: Mapping[str, Fact], at: Setting
) -> Unmet | None:
    by = statement.by
    if statement.principal != at.principal:
        return _about(by, "attestation", "other_subject", at.principal)
    if at.people.person(by) == at.people.person(at.principal):
        return _about(by, "attestation", "own", _somebody_else(by, at.principal))
    known = [declared[name] for name in statement.facts if name in declared]
    groups = sorted({fact.attested_by for fact in known if fact.attested_by is not None})
    for group in groups:
        if not at.people.in_any(by, (group,)):
            return _about(by, "attestation", "not_admitted", group)
    seen_at = parse_at(statement.at)
    if seen_at > at.now.wall + SKEW_FOR:
        return _about(by, "attestation", "early", f"at most {format_duration(SKEW_FOR)} ahead")
    ages = [fact.max_age for fact in known if fact.max_age is not None]
    if ages and (reached := at.reached(statement.after)) - seen_at > min(ages):
        young = f"{format_duration(min(ages))} after it was made"
        return _old(statement, seen_at + min(ages), young, reached, at)
    if (since := said_otherwise(statement, at.pushed, declared, at.now.wall)) is not None:
        return _about(by, "attestation", "older", since)
    return None


def said_otherwise(
    statement: Attestation,
    pushed: Iterable[Attestation],
    declared: Mapping[str, Fact],
    wall: datetime,
) -> str | None:
    """When its sensor has pushed another value of one of its facts since; None if it has not.

    What it said before stands in receipts, and nobody chooses among a sensor's words. What was
    dated ahead of `wall` takes nothing away.
    """
    said = read_facts(declared, statement.facts)[0]
    for one in pushed:
        if (one.by, one.principal) != (statement.by, statement.principal):
            continue
        if parse_at(statement.at) < parse_at(one.at) <= wall + SKEW_FOR:
            newer = read_facts(declared, one.facts)[0]
            if any(newer[name] != said[name] for name in newer.keys() & said.keys()):
                return one.at
    return None


def _old(
    statement: Statement, until: datetime, good_until: str, reached: datetime, at: Setting
) -> Unmet:
    """That it is too old; or, if the clock reads otherwise, that it may be older than it reads."""
    if at.now.wall >= until:
        return _about(statement.by, statement.kind, "stale", good_until)
    seen, reads = format_at(reached), format_at(at.now.wall)
    required = f"the ledger has seen {seen}, the clock reads {reads}"
    return _about(statement.by, statement.kind, "set_back", required)


def too_old_at(statement: Attestation, declared: Mapping[str, Fact]) -> datetime | None:
    """The last instant at which it is young enough; None if it states nothing that grows old."""
    return min(_ends(statement, declared), default=None)


def heard_until(statement: Attestation, declared: Mapping[str, Fact]) -> datetime | None:
    """The last instant at which an older word on any of its facts could be young enough: until
    then it says that this sensor has said otherwise. None as for `too_old_at`.
    """
    return max(_ends(statement, declared), default=None)


def _ends(statement: Attestation, declared: Mapping[str, Fact]) -> Iterator[datetime]:
    ages = (declared[name].max_age for name in statement.facts if name in declared)
    return (parse_at(statement.at) + age for age in ages if age is not None)


def _basic_fault(signed: Signed, kind: str, at: Setting) -> Unmet | None:
    """What is wrong with any statement, before asking what it says."""
    if (unsigned := _signature_fault(signed, kind, at.people)) is not None:
        return unsigned
    if (lock := at.locked.get(at.people.person(signed.by))) is not None:
        return _fault(signed, kind, "locked", lock)
    statement = signed.statement
    if statement.origin != at.origin:
        return _fault(signed, kind, "other_ledger", at.origin)
    if statement.constitution != at.constitution:
        return _fault(signed, kind, "other_constitution", at.constitution)
    if statement.id in at.used:
        return _fault(signed, kind, "used", "a fresh statement")
    return None


def _signature_fault(signed: Signed, kind: str, people: People) -> Unmet | None:
    key = people.keys.get(signed.by)
    if key is None:
        return _fault(signed, kind, "no_key", "a key under [principals]")
    if not signed.verifies(key):
        return _fault(signed, kind, "signature", f"a signature by {key.fingerprint}")
    return None


def _fault(signed: Signed, kind: str, fault: str, required: str) -> Unmet:
    return _about(signed.by, kind, fault, required)


def _about(by: str, kind: str, fault: str, required: str) -> Unmet:
    return Unmet(f'principals."{by}"', f"{kind}_{fault}", required, by, _REMEDIES[fault])


_REMEDIES = {
    "signature": "sign it again with the key that the constitution names",
    "no_key": "add the key under [principals], see vmstate keys new",
    "other_ledger": "sign for this ledger: its origin is in vmstate status",
    "other_constitution": "sign again under the constitution in force",
    "stale": "sign it again",
    "set_back": "sign it again at the ledger, or have the clock recovered: vmstate recover --clock",
    "too_long": "sign it again for a shorter time; whatever told the time may not be believed",
    "early": "set the signer's clock",
    "used": "prepare and sign a new one",
    "other_subject": "sign for exactly what is asked",
    "own": "have somebody else sign",
    "not_admitted": "have somebody sign whom the rule names",
    "repeated": "have another person sign",
    "older": "sign what is seen now",
    "second": "have one statement signed that holds all facts",
    "locked": "have somebody sign who is not locked, or have the lock lifted",
}


def nonce_of(request: Request | None) -> dict[str, Json]:
    """What a receipt has to say of the request behind it, so that it can be worked out again."""
    if request is None:
        return {}
    after: dict[str, Json] = {} if request.after is None else {"request_after": request.after}
    return {"request_nonce": request.nonce, **after}


def used_ids(statements: Iterable[Signed], request: Request | None) -> Iterator[str]:
    """The ids that count as used once a decision rests on them."""
    yield from (signed.statement.id for signed in statements)
    if request is not None:
        yield request.id

"""What receipts say of requests that were left open, one after the other.

Law 2: the table of requests can be derived again from them. Each was opened by a receipt that
holds all of it; what was handed in, and how it ended, follows from the receipts after that one.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Protocol

from vmstate.canonical import parse_at
from vmstate.constitution.document import ApprovalNeed
from vmstate.constitution.guards import seat
from vmstate.constitution.law import Constitution
from vmstate.constitution.people import People
from vmstate.constitution.tools import rule_path
from vmstate.decisions.pending import (
    ACTIVATED,
    AMENDED,
    COMPLETE,
    DENIED,
    EXPIRED,
    LAPSED,
    OVERDUE,
    PENDING,
    WITHDRAWN,
    is_call,
    stages_of,
)
from vmstate.leases.lease import LOCKED
from vmstate.ledger.lock_book import LockBook
from vmstate.ledger.pushed import PushedBook
from vmstate.ledger.receipt import Receipt
from vmstate.signing import Approval, Attestation, Request, Signed


@dataclass(slots=True)
class Told:
    """A request as far as receipts tell; `ended_at` is None while it is open.

    `taken` says by which receipt each statement was, `reopened` that an amendment ended it before.
    """

    seq: int
    request: Request
    rule: str
    opened_at: datetime
    waits_until: datetime
    deadline: datetime
    state: str = PENDING
    usable_until: datetime | None = None
    statements: dict[str, Signed] = field(default_factory=dict)
    ended_at: datetime | None = None
    taken: dict[str, int] = field(default_factory=dict)
    reopened: bool = False


class _Replay(Protocol):
    """What is needed of a replay."""

    law: Constitution | None
    people: People
    requests: "Retold"
    used: dict[str, int]
    set_back: timedelta
    locks: LockBook
    pushed: PushedBook

    def find(self, what: str, seq: int | None = None) -> None: ...

    def use(self, statement: str, seq: int) -> None: ...


@dataclass
class Retold:
    """The requests that are open, by id; `on_end` is called with each that ends."""

    on_end: Callable[[Told], None] = lambda _: None
    open: dict[str, Told] = field(default_factory=dict)
    opened: int = 0
    amended: dict[str, Told] = field(default_factory=dict)

    def end(self, told: Told, state: str, at: datetime) -> None:
        """Forget a request that is over; one that was amended may be opened again at once."""
        del self.open[told.request.id]
        self.amended = {told.request.id: told} if state == AMENDED else {}
        told.state, told.ended_at = state, at
        self.on_end(told)


def rebuild_request(receipt: Receipt) -> Request:
    """The request that a receipt opened or granted, worked out from the receipt alone."""
    said = receipt.fields
    return Request(
        principal=said["who"]["principal"],
        to=said["what"]["to"],
        trigger=said["what"]["trigger"],
        facts=said["authority"]["facts"],
        reason=said["why"],
        ttl_us=said["what"]["ttl_requested_us"],
        origin=said["node"],
        constitution=said["authority"]["constitution"],
        nonce=said["what"]["detail"]["request_nonce"],
        after=said["what"]["detail"].get("request_after"),
    )


def said_of_request(replay: _Replay, receipt: Receipt, seq: int) -> None:
    """A receipt of type `request`: one was opened, or ended without a climb."""
    detail = receipt.fields["what"]["detail"]
    if detail["state"] == PENDING:
        _opened(replay, receipt, seq)
        return
    told = _find_open(replay, detail["request"], seq)
    if told is None:
        return
    state = detail["state"]
    for fault in _ending_faults(replay, receipt, told, state):
        replay.find(fault, seq)
    replay.use(told.request.id, seq)
    replay.requests.end(told, state, receipt.at)


def said_of_statement(replay: _Replay, receipt: Receipt, seq: int) -> None:
    """A receipt of type `approval`: a statement was handed in, and may have completed it."""
    said = receipt.fields
    detail, authority = said["what"]["detail"], said["authority"]
    told = _find_open(replay, detail["request"], seq)
    if told is None:
        return
    bodies: list[Any] = [*authority["approvals"], *authority["attestations"]]
    (signed,) = (Signed.model_validate(body) for body in bodies)
    if told.deadline <= receipt.at:
        replay.find("takes a statement for a request that was over", seq)
    if (said["who"]["principal"], authority["facts"]) != (told.request.principal, _facts(told)):
        replay.find("takes a statement for another request", seq)
    person = replay.people.person
    if person(signed.by) == person(told.request.principal):
        replay.find(f"takes a statement by {signed.by!r}, who stands for the requester", seq)
    replaced = [id_ for id_, one in told.statements.items() if _same(replay.people, one, signed)]
    for id_ in replaced:
        del told.statements[id_]
    told.statements[signed.statement.id], told.taken[signed.statement.id] = signed, seq
    _complete(replay, receipt, told, seq)


def said_of_climb(replay: _Replay, receipt: Receipt, seq: int) -> None:
    """A grant that names a request: if that one is open, it is activated."""
    told = replay.requests.open.get(receipt.fields["proofs"].get("request", ""))
    if told is None:
        return
    if told.deadline <= receipt.at:
        replay.find("activates a request that was over", seq)
    _used(replay, receipt, told, seq)


def said_of_call(replay: _Replay, receipt: Receipt, seq: int) -> None:
    """A call that was made by a request of its own uses it up."""
    request = receipt.fields["proofs"].get("request")
    told = None if request is None else _find_open(replay, request, seq)
    if told is not None:
        if told.deadline <= receipt.at:
            replay.find("uses a request that was over", seq)
        _used(replay, receipt, told, seq)


def _used(replay: _Replay, receipt: Receipt, told: Told, seq: int) -> None:
    if receipt.rule != told.rule:
        replay.find(f"activates a request for {told.rule!r} by another rule", seq)
    said = receipt.fields
    for body in (*said["authority"]["approvals"], *said["authority"]["attestations"]):
        signed = Signed.model_validate(body)
        id_, is_order = signed.statement.id, signed.statement.kind == "order"
        if not (is_order or id_ in told.statements or replay.pushed.has(id_)):
            replay.find(f"rests on a statement by {signed.by!r} that was not handed in", seq)
    replay.requests.end(told, ACTIVATED, receipt.at)


def _opened(replay: _Replay, receipt: Receipt, seq: int) -> None:
    detail = receipt.fields["what"]["detail"]
    request = rebuild_request(receipt)
    if request.id != detail["request"]:
        replay.find("opens a request that is not what it says", seq)
    waits_until = parse_at(detail["waits_until"])
    told = Told(seq, request, receipt.rule, receipt.at, waits_until, waits_until)
    told.reopened = "reopens" in detail
    if request.id in replay.requests.open:
        replay.find("opens a request that is open", seq)
    for fault in _opening_faults(replay, receipt, told):
        replay.find(fault, seq)
    replay.requests.open[request.id] = told
    replay.requests.opened += 1


def _opening_faults(replay: _Replay, receipt: Receipt, told: Told) -> Iterator[str]:
    if replay.law is None:
        return
    table, what = replay.law.document.requests, receipt.fields["what"]
    if is_call(told.request):
        if not _allows_call(replay.law, told, what["from"]):
            yield f"waits for a call that {told.rule!r} does not allow"
    else:
        rule = replay.law.rules.get(told.rule)
        climb = what["from"], what["to"], what["trigger"]
        if rule is None or (rule.from_, rule.to, rule.trigger) != climb:
            yield f"waits for a climb that {told.rule!r} does not allow"
    if table is None:
        yield "is left open, and its constitution has no [requests]"
        return
    if (earlier := what["detail"].get("reopens")) is not None:
        yield from _reopening_faults(replay.requests.amended.get(earlier), told)
    elif told.waits_until - told.opened_at != table.waits:
        yield "waits for another time than [requests] says"
    names = replay.people.family(told.request.principal)
    mine = [one for one in replay.requests.open.values() if one.request.principal in names]
    if sum(one.deadline > receipt.at for one in mine) >= table.open_at_most:
        yield f"is left open beside {len(mine)} others, [requests] allows {table.open_at_most}"


def _allows_call(law: Constitution, told: Told, held: str) -> bool:
    said = told.request.facts
    server = law.document.tools.get(said["server"])
    kind: Any = said["kind"]
    found = None if server is None else server.rule_for(kind, said["name"])
    if found is None or told.rule != rule_path(said["server"], kind, found[0]):
        return False
    return found[1].each_call and law.includes(held, found[1].profile)


def _reopening_faults(before: Told | None, told: Told) -> Iterator[str]:
    if before is None:
        yield "opens a request again that no amendment has just ended"
        return
    ignored = {"constitution"}
    was, now = (one.request.model_dump(exclude=ignored) for one in (before, told))
    if was != now or told.waits_until > before.waits_until:
        yield "opens a request again as another, or for longer"


def _ending_faults(replay: _Replay, receipt: Receipt, told: Told, state: str) -> Iterator[str]:
    said = receipt.fields
    person, actor = replay.people.person, said["who"]["actor"]
    own = actor is not None and person(actor) == person(told.request.principal)
    if said["who"]["principal"] != told.request.principal:
        yield "ends a request of somebody else"
    if state in {DENIED, WITHDRAWN}:
        groups = [group for need in _stages(replay, told) for group in need.of]
        admitted = said["who"]["proof"] != "host" and replay.people.in_any(actor, groups)
        if not (own if state == WITHDRAWN else admitted and not own):
            yield f"has a request {state} by {actor!r}, who may not"
    elif state == LOCKED:
        if not _is_locked(replay, told):
            yield "says that a lock ended a request, and none covers it"
    elif state not in OVERDUE or receipt.outcome != "expired":
        yield f"ends a request by {state!r}, which is no end of one"
    elif state in {EXPIRED, LAPSED}:
        wanted = LAPSED if told.state == COMPLETE else EXPIRED
        if (state, parse_at(said["due"])) != (wanted, told.deadline):
            yield "says a request was over at another time than its deadline"


def _is_locked(replay: _Replay, told: Told) -> bool:
    who, profile = told.request.principal, told.request.to or ""
    locks, law = replay.locks.standing, replay.law
    return law is None or any(one.covers(law, replay.people, who, profile) for one in locks)


def _complete(replay: _Replay, receipt: Receipt, told: Told, seq: int) -> None:
    """Whether the statement completed its request, as the receipt says it did or not."""
    detail = receipt.fields["what"]["detail"]
    was = told.state
    told.state = detail["state"]
    until = detail["usable_until"]
    told.usable_until = None if until is None else parse_at(until)
    told.deadline = told.usable_until or told.waits_until
    law = replay.law
    if law is None or law.document.requests is None:
        return
    if told.rule not in law.rules and not is_call(told.request):
        return
    whole = was == COMPLETE or _is_whole(replay, told, receipt.at)
    # What is too old by a clock that was set back since is: then it may be left as it was.
    surely = was == COMPLETE or _is_whole(replay, told, receipt.at + replay.set_back)
    if (told.state == COMPLETE) != whole and (surely or not whole):
        replay.find(f"leaves a request {told.state}, which does not follow", seq)
    first = whole and was != COMPLETE and told.usable_until is not None
    if first and told.deadline - receipt.at != law.document.requests.usable_for:
        replay.find("gives a request another time than [requests] says", seq)


def _is_whole(replay: _Replay, told: Told, at: datetime) -> bool:
    """Whether each stage is filled by approvals that are good, and every fact is attested."""
    assert replay.law is not None
    stages, approvers, ages = _stages(replay, told), [], {}
    declared = {} if is_call(told.request) else replay.law.document.facts
    for id_, signed in told.statements.items():
        match signed.statement:
            case Approval() as approval if parse_at(approval.expires_at) > at:
                approvers.append(approval.by)
            case Attestation() as attestation if id_ not in replay.used:
                ages = dict.fromkeys(attestation.facts, at - parse_at(attestation.at))
            case _:
                pass
    seats = seat(replay.people, approvers, stages)
    filled = all(len(names) == need.count for names, need in zip(seats, stages, strict=True))
    facts = {name: declared[name] for name in told.request.facts if name in declared}
    needed = {name: fact.max_age for name, fact in facts.items() if fact.max_age is not None}
    return filled and all(name in ages and ages[name] <= most for name, most in needed.items())


def _stages(replay: _Replay, told: Told) -> tuple[ApprovalNeed, ...]:
    law = replay.law
    return () if law is None else stages_of(law.document, told.request, told.rule)


def _find_open(replay: _Replay, request: str, seq: int) -> Told | None:
    told = replay.requests.open.get(request)
    if told is None:
        replay.find(f"is about {request}, which is no open request", seq)
    return told


def _facts(told: Told) -> dict[str, Any]:
    return dict(told.request.facts)


def _same(people: People, before: Signed, now: Signed) -> bool:
    """Whether a statement takes the place of one before it: a person approves once."""
    if before.statement.kind != now.statement.kind:
        return False
    approves = isinstance(now.statement, Approval)
    return not approves or people.person(before.by) == people.person(now.by)

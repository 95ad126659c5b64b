"""Deciding about requests that are left open: leave, sign, deny, withdraw, activate.

A request is left open only if nothing but signatures is missing; anything else is refused at once,
with all of it. Its climb is decided when it is activated, by the same `climb` as any other, so what
passed meanwhile counts: cool-downs, holds, the age of facts, keys that are gone.

Law 9: the requester, whoever stands behind them, and every other name of that person never count.
A lease stands on leases of its own holder only, so whoever stands on somebody's lease is that
person, and `People.person` finds them all.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import timedelta

from vmstate.canonical import Json, format_at
from vmstate.clock import Moment
from vmstate.constitution.document import ApprovalNeed
from vmstate.constitution.facts import read_facts
from vmstate.constitution.guards import seat
from vmstate.constitution.people import People
from vmstate.constitution.unmet import Unmet
from vmstate.decisions.climb import climb
from vmstate.decisions.command import (
    Activate,
    CommandBase,
    DenyRequest,
    Escalate,
    HandIn,
    OpenRequest,
    Withdraw,
)
from vmstate.decisions.decision import Entry, Grounds, State
from vmstate.decisions.evidence import Heard, hear_approvals, hear_facts
from vmstate.decisions.fields import APPROVALS
from vmstate.decisions.hearing import Hearing, hear
from vmstate.decisions.lapsing import about
from vmstate.decisions.law import Law, proof_faults, standing_faults
from vmstate.decisions.pending import (
    ACTIVATED,
    COMPLETE,
    DENIED,
    WITHDRAWN,
    Asked,
    ended_detail,
    is_call,
    lapse_of,
    stages_of,
)
from vmstate.decisions.refusing import denial
from vmstate.leases.watermark import later
from vmstate.signing import Approval, Attestation, Request, Signed

SIGNATURES = frozenset(("approval_missing", "fact_unattested"))  # what others may still bring


# ---- leaving it open ---------------------------------------------------------------------------


def open_request(law: Law, state: State, command: OpenRequest, now: Moment) -> tuple[Entry, ...]:
    """The grant if nothing is missing, the open request if only signatures are, or the refusal."""
    request = command.request
    if request.to is None or command.principal != request.principal:
        return (denial(state, command, _misfits(command), now),)
    asked = as_climb(command, request, ())
    answer = climb(law, state, asked, now)
    if answer[-1].outcome != "denied":
        return answer
    hearing = hear(law, state, asked, now)
    found = None if hearing.unmet else _waits_for(law, state, asked, hearing, now)
    faults = no_room(law, state, now)
    refused = answer[-1]
    if found is None or faults:
        unmet = (*(refused.grounds.unmet if found is None else ()), *faults)
        return (replace(refused, grounds=replace(refused.grounds, unmet=unmet)),)
    rule, missing = found
    return (opened(law, state, request, rule, missing, refused, now),)


def _misfits(command: OpenRequest) -> list[Unmet]:
    request, unmet = command.request, list(command.claims)
    if request.to is None:
        remedy = "hand its approvals in with the command itself"
        if is_call(request):
            remedy = "call it: the gate leaves it open"
        given = request.trigger
        unmet.append(Unmet("requests", "request_exceptional", "a profile", given, remedy))
    if command.principal != request.principal:
        words = f"principal = {request.principal}", f"principal = {command.principal}"
        remedy = "prepare one of your own: vmstate request new"
        unmet.append(Unmet("requests", "request_differs", *words, remedy))
    return unmet


def no_room(law: Law, state: State, now: Moment) -> list[Unmet]:
    """Whether one more may be left open; what is over takes no room, whoever wrote what of it."""
    table = law.document.requests
    if table is None:
        remedy = "have the approvals ready, and hand them in with the command"
        return [Unmet("requests", "requests_absent", "[requests]", "no such table", remedy)]
    digest = law.constitution.digest
    waiting = [one for one in state.waiting if lapse_of(one, state.stack, digest, now) is None]
    if len(waiting) < table.open_at_most:
        return []
    remedy = "activate or withdraw one, or wait: vmstate request list"
    most, given = str(table.open_at_most), str(len(waiting))
    return [Unmet("requests.open_at_most", "requests_full", most, given, remedy)]


def _waits_for(
    law: Law, state: State, command: Escalate, hearing: Hearing, now: Moment
) -> tuple[str, tuple[Unmet, ...]] | None:
    """The rule that lacks nothing but signatures, the one that lacks fewest, and what it lacks.

    Each is asked a second time as if the facts were attested: one that they would not meet lacks
    more than a signature.
    """
    declared, held = law.document.facts, state.stack.profile(now)
    values, _ = read_facts(declared, command.facts)
    faults = tuple(one for one in hearing.case.faults if one.code not in SIGNATURES)
    found: list[tuple[int, timedelta, str, tuple[Unmet, ...]]] = []
    for rule, table in law.document.escalations.items():
        if (table.from_, table.to, table.trigger) != (held, command.to, command.trigger):
            continue
        case = replace(hearing.case, rule=rule)
        sure = replace(case, facts=values, faults=faults)
        unmet = [
            law.machine.attempt(held, command.to, command.trigger, one).unmet
            for one in (case, sure)
        ]
        if all(one.code in SIGNATURES for missing in unmet for one in missing):
            found.append((len(unmet[0]), table.ttl, rule, unmet[0]))
    return min(found, key=lambda one: one[:3])[2:] if found else None


def opened(
    law: Law,
    state: State,
    request: Request,
    rule: str,
    missing: tuple[Unmet, ...],
    refused: Entry,
    now: Moment,
) -> Entry:
    """The receipt holds all of the request, so that it can be written down again from it."""
    table = law.document.requests
    assert table is not None
    deadline = later(now, table.waits)
    asked = Asked(state.next_seq, request, rule, now, deadline.wall, deadline)
    detail: dict[str, Json] = {
        "request": asked.id,
        "request_nonce": request.nonce,
        "state": asked.state,
        "waits_until": format_at(asked.waits_until),
    }
    grounds = Grounds(rule, facts=request.facts, unmet=missing)
    return replace(
        refused,
        type="request",
        outcome="recorded",
        grounds=grounds,
        cost=(),
        detail=detail,
        asks=asked,
    )


# ---- signing -----------------------------------------------------------------------------------


def hand_in(law: Law, state: State, command: HandIn, now: Moment) -> Entry:
    """The receipt of a statement that was taken, or of why not; checked again at activation."""
    asked, signed = state.asked, command.statement
    unmet = [*command.claims, *_faults_of(asked, command)]
    if unmet or asked is None:
        return _refused(state, command, unmet, now)
    at = law.setting(state, now, asked.principal)
    if isinstance(signed.statement, Approval):
        before = hear_approvals(asked.approvals, asked.request, at)
        heard = hear_approvals((signed,), asked.request, at)
        stages = stages_of(law.document, asked.request, asked.rule)
        unmet += heard.rejected or _unseated(law.people, stages, before, signed.by)
        person = law.people.person(signed.by)
        replaced = [one for one in asked.approvals if law.people.person(one.by) == person]
    else:
        unmet += _unattesting(law, state, asked, signed, now)
        replaced = list(asked.attestations)
    if unmet:
        return _refused(state, command, unmet, now)
    taken = _completed(law, state, asked.taking(signed, replaced), now)
    is_approval = isinstance(signed.statement, Approval)
    grounds = Grounds(
        asked.rule,
        facts=asked.request.facts,
        approvals=(signed,) if is_approval else (),
        attestations=() if is_approval else (signed,),
    )
    usable_until = taken.usable_until
    detail: dict[str, Json] = {
        "request": asked.id,
        "opened": asked.seq,
        "state": taken.state,
        "usable_until": None if usable_until is None else format_at(usable_until),
    }
    entry = about(asked, "approval", grounds, detail)
    return replace(entry, actor=signed.by, proof="key", why=command.reason, asks=taken)


def _unseated(
    people: People, stages: tuple[ApprovalNeed, ...], before: Heard, by: str
) -> list[Unmet]:
    """Why one more approval takes no seat: stages are asked in their order."""
    rule, groups = f'principals."{by}"', [group for need in stages for group in need.of]
    if people.person(by) in {people.person(name) for name in before.approvers}:
        remedy = "have another person sign"
        return [Unmet(rule, "approval_repeated", "different people", by, remedy)]
    if not people.in_any(by, groups):
        names = ", ".join(dict.fromkeys(groups))
        return [Unmet(rule, "approval_not_admitted", names, by, f"ask somebody in {names}")]
    for number in range(1, len(stages) + 1):
        asked = stages[:number]
        have = _seats(people, before.approvers, asked)
        if have == sum(need.count for need in asked):
            continue
        if _seats(people, (*before.approvers, by), asked) > have:
            return []
        need = stages[number - 1]
        first = f"{need.count} of {', '.join(need.of)}"
        remedy = "sign once that stage is through"
        if any(people.in_any(by, later_.of) for later_ in stages[number:]):
            return [Unmet(rule, "approval_late_stage", first, by, remedy)]
        break
    has = ", ".join(before.approvers) or "none to give"
    return [Unmet(rule, "approval_spare", has, by, "nothing to do")]


def _seats(people: People, approvers: Sequence[str], stages: tuple[ApprovalNeed, ...]) -> int:
    return sum(len(names) for names in seat(people, approvers, stages))


def _unattesting(
    law: Law, state: State, asked: Asked, signed: Signed, now: Moment
) -> Iterable[Unmet]:
    """Why an attestation does not make this request's facts sure, all of them."""
    at, facts = law.setting(state, now, asked.principal), asked.request.facts
    # What a call says is what its approver reads, and no fact that anybody could see.
    declared = {} if is_call(asked.request) else law.document.facts
    heard = hear_facts(facts, (signed,), declared, at)
    if heard.faults:
        return heard.faults
    needed = [name for name in facts if name in declared and declared[name].attested_by]
    if needed and dict(heard.stated) == facts and isinstance(signed.statement, Attestation):
        return ()
    rule, required = f'principals."{signed.by}"', "the attested facts of the request"
    remedy = "sign for exactly what is asked"
    return (Unmet(rule, "attestation_other_subject", required, signed.by, remedy),)


def _completed(law: Law, state: State, asked: Asked, now: Moment) -> Asked:
    """The request, complete if no signature is missing any more; it stays so once it is."""
    table = law.document.requests
    at = law.setting(state, now, asked.principal)
    stages = stages_of(law.document, asked.request, asked.rule)
    heard = hear_approvals(asked.approvals, asked.request, at)
    facts = {} if is_call(asked.request) else asked.request.facts
    unsure = hear_facts(facts, asked.attestations, law.document.facts, at).faults
    seats = sum(need.count for need in stages)
    short = _seats(law.people, heard.approvers, stages) < seats
    if asked.state == COMPLETE or short or unsure or table is None:
        return asked
    deadline = later(now, table.usable_for)
    return replace(asked, state=COMPLETE, deadline=deadline, usable_until=deadline.wall)


# ---- ending it ---------------------------------------------------------------------------------


def deny_request(law: Law, state: State, command: DenyRequest, now: Moment) -> Entry:
    """End it as anybody whom any of its stages admits; one is enough."""
    asked, actor = state.asked, command.asked_by
    unmet = [*proof_faults(law, state, command), *_faults_of(asked, command)]
    if asked is None or unmet:
        return _refused(state, command, unmet, now)
    stages = stages_of(law.document, asked.request, asked.rule)
    groups = tuple(dict.fromkeys(group for need in stages for group in need.of))
    if law.people.person(actor) == law.people.person(asked.principal):
        remedy = "vmstate request withdraw"
        unmet.append(Unmet("requests", "deny_own", "somebody else", actor, remedy))
    elif not law.people.in_any(actor, groups):
        names = ", ".join(groups) or "an approver, and it asks for none"
        path = f"escalations.{asked.rule}.needs.approval"
        if is_call(asked.request):
            path = f"tools.{asked.request.facts['server']}.approvers"
        remedy = "ask somebody who might approve it"
        unmet.append(Unmet(path, "deny_not_admitted", names, actor, remedy))
    if unmet:
        return _refused(state, command, unmet, now)
    return _ended(asked, DENIED, command, now)


def withdraw(law: Law, state: State, command: Withdraw, now: Moment) -> Entry:
    """End a request of one's own; by another of one's names if that name is proven."""
    asked = _own(law, state, command)
    faults = proof_faults if asked is not None and asked.principal != command.principal else None
    unmet = [*(faults or standing_faults)(law, state, command), *_faults_of(asked, command)]
    if asked is None or unmet:
        return _refused(state, command, unmet, now)
    return _ended(asked, WITHDRAWN, command, now)


def activate(law: Law, state: State, command: Activate, now: Moment) -> tuple[Entry, ...]:
    """The climb that was asked for, decided now; a refusal leaves the request as it is."""
    asked = state.asked
    if asked is not None and asked.principal != command.principal:
        asked = None
    unmet = _faults_of(asked, command)
    if asked is not None and is_call(asked.request) and not unmet:
        remedy = "call it again, as it was called"
        called = asked.request.facts["name"]
        unmet = [Unmet("requests", "request_of_call", "a climb", called, remedy)]
    if asked is None or unmet:
        return (_refused(state, command, [*standing_faults(law, state, command), *unmet], now),)
    at = law.setting(state, now, asked.principal)
    statements = first_good(asked, hear_approvals(asked.approvals, asked.request, at))
    climbing = as_climb(command, asked.request, statements, renew_parent=command.renew_parent)
    *before, answer = climb(law, state, climbing, now, asked)
    if answer.outcome == "denied":
        return (replace(answer, detail={"request": asked.id, "opened": asked.seq}),)
    return (*before, replace(answer, asks=asked.over(ACTIVATED, now)))


def reopened(law: Law, state: State, asked: Asked, now: Moment) -> Entry | None:
    """The same request under a new law, if that leaves it open; it waits no longer than it would.

    One that the new law refuses, or would grant at once, is its principal's to ask for again.
    """
    request = asked.request.model_copy(update={"constitution": law.constitution.digest})
    command = OpenRequest(principal=asked.principal, request=request)
    answer = open_request(law, state, command, now)[-1]
    if answer.asks is None or answer.type != "request":
        return None
    left = asked.waits_until - asked.deadline.wall  # none, unless it was complete
    waits = later(asked.deadline, left)
    deadline = min(waits, answer.asks.deadline, key=lambda one: one.wall)
    if state.watermark.left(deadline, now) <= timedelta():
        return None
    detail = {**(answer.detail or {}), "waits_until": format_at(deadline.wall)}
    return replace(
        answer,
        actor=None,
        proof=None,
        detail={**detail, "reopens": asked.id},
        asks=replace(answer.asks, waits_until=deadline.wall, deadline=deadline),
    )


# ---- what they have in common ------------------------------------------------------------------


def as_climb(
    command: CommandBase,
    request: Request,
    statements: Sequence[Signed],
    *,
    renew_parent: bool = False,
) -> Escalate:
    """The climb that `request` asks for, by whoever asks for it."""
    ttl = None if request.ttl_us is None else timedelta(microseconds=request.ttl_us)
    return Escalate(
        principal=command.principal,
        actor=command.actor,
        reason=request.reason,
        proven=command.proven,
        caller=command.caller,
        order=command.order,
        claims=command.claims,
        to=request.to or "",
        trigger=request.trigger,
        facts=dict(request.facts),
        ttl=ttl,
        request=request,
        approvals=tuple(one for one in statements if isinstance(one.statement, Approval)),
        attestations=tuple(one for one in statements if isinstance(one.statement, Attestation)),
        renew_parent=renew_parent,
    )


def first_good(asked: Asked, heard: Heard) -> tuple[Signed, ...]:
    """What was handed in, what still counts first: a receipt has room for so many approvals."""
    ranked = sorted(asked.approvals, key=lambda one: one not in heard.counted)
    return (*ranked[:APPROVALS], *asked.attestations)


def _own(law: Law, state: State, command: CommandBase) -> Asked | None:
    """The request if it is the caller's own; somebody else's is as unknown as none at all."""
    asked, person = state.asked, law.people.person
    own = asked is not None and person(asked.principal) == person(command.principal)
    return asked if own else None


def _faults_of(
    asked: Asked | None, command: HandIn | DenyRequest | Withdraw | Activate
) -> list[Unmet]:
    if asked is None:
        remedy = "name an open one: vmstate request list"
        required = "an open request"
        return [Unmet("requests", "request_unknown", required, command.request, remedy)]
    if not asked.is_open:
        remedy = "open a new one: vmstate request open"
        return [Unmet("requests", "request_over", "an open one", asked.state, remedy)]
    return []


def _refused(
    state: State,
    command: HandIn | DenyRequest | Withdraw | Activate,
    unmet: list[Unmet],
    now: Moment,
) -> Entry:
    detail: dict[str, Json] = {"request": command.request}
    return replace(denial(state, command, unmet, now), detail=detail)


def _ended(asked: Asked, state: str, command: DenyRequest | Withdraw, now: Moment) -> Entry:
    entry = about(asked, "request", Grounds("requests"), ended_detail(asked, state))
    return replace(
        entry,
        actor=command.asked_by,
        proof=command.proof,
        why=command.reason,
        spends=(asked.id,),
        asks=asked.over(state, now),
    )

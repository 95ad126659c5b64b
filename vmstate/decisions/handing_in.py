"""Taking a statement for an open request: whether it counts, and whether it was the last one.

Law 9: the requester, whoever stands behind them, and every other name of that person never count.
A lease stands on leases of its own holder only, so whoever stands on somebody's lease is that
person, and `People.person` finds them all.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace

from vmstate.canonical import Json, format_at, parse_at
from vmstate.clock import Moment
from vmstate.constitution.document import ApprovalNeed
from vmstate.constitution.guards import seat
from vmstate.constitution.people import People
from vmstate.constitution.unmet import Unmet
from vmstate.decisions.command import HandIn
from vmstate.decisions.decision import Entry, Grounds, State
from vmstate.decisions.evidence import Heard, Setting, hear_approvals, hear_facts
from vmstate.decisions.law import Law
from vmstate.decisions.pending import COMPLETE, Asked, is_call, stages_of
from vmstate.decisions.requested import DIGITS, about, open_faults, refused_about
from vmstate.leases.watermark import later
from vmstate.signing import Approval, Attestation, Signed


def hand_in(law: Law, state: State, command: HandIn, now: Moment) -> Entry:
    """The receipt of a statement that was taken, or of why not; checked again at activation."""
    asked, signed = state.asked, command.statement
    unmet = [*command.claims, *open_faults(asked, command)]
    if unmet or asked is None:
        return refused_about(state, command, unmet, now)
    at = law.setting(state, now, asked.principal)
    if isinstance(signed.statement, Approval):
        before = hear_approvals(asked.approvals, asked.request, at)
        heard = hear_approvals((signed,), asked.request, at)
        stages = stages_of(law.document, asked.request, asked.rule)
        unmet += heard.rejected or (
            _unseated(law.people, stages, before, signed.by)
            if stages
            else [_unasked(law, asked, signed.by, at)]
        )
        person = law.people.person(signed.by)
        replaced = [one for one in asked.approvals if law.people.person(one.by) == person]
    else:
        unmet += _unattesting(law, state, asked, signed, now)
        replaced = list(asked.attestations)
    if unmet:
        return refused_about(state, command, unmet, now)
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


def _unasked(law: Law, asked: Asked, by: str, at: Setting) -> Unmet:
    """Why an approval is of no use to a request that waits for attestations alone."""
    heard = hear_facts(asked.request.facts, asked.attestations, law.document.facts, at)
    groups = dict.fromkeys(one.required for one in heard.faults if one.code == "fact_unattested")
    digits = asked.id.removeprefix("sha256:")[:DIGITS]
    required = f"an attestation by {' and '.join(groups)}"
    remedy = f"have it attested: vmstate request attest {digits} --key KEY"
    if not groups:
        required, remedy = "nothing more", f"climb by it: vmstate request activate {digits}"
    rule = f"escalations.{asked.rule}.needs"
    return Unmet(rule, "approval_unasked", required, by, remedy)


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
    if again := [one for one in asked.attestations if one.by == signed.by]:
        before = hear_facts({}, again, declared, at)
        if before.counted and (fault := _said_before(signed, again[-1])) is not None:
            return (fault,)
    needed = [name for name in facts if name in declared and declared[name].attested_by]
    if needed and dict(heard.stated) == facts and isinstance(signed.statement, Attestation):
        return ()
    rule, required = f'principals."{signed.by}"', "the attested facts of the request"
    remedy = "sign for exactly what is asked"
    return (Unmet(rule, "attestation_other_subject", required, signed.by, remedy),)


def _said_before(signed: Signed, before: Signed) -> Unmet | None:
    """Why what a sensor attested takes the place of nothing that it has attested before."""
    now_, then = signed.statement, before.statement
    assert isinstance(now_, Attestation)
    assert isinstance(then, Attestation)
    if now_.id != then.id and parse_at(now_.at) >= parse_at(then.at):
        return None
    code = "attestation_repeated" if now_.id == then.id else "attestation_older"
    remedy = "sign what is seen now"
    return Unmet(f'principals."{signed.by}"', code, then.at, signed.by, remedy)


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

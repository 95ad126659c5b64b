"""Attestations that a sensor pushes ahead of any request: taken, and used by what needs one.

A sensor says what it sees of somebody while nobody has asked for anything. What it said stands
until it is too old, its law is amended, or its word counts for nothing; then a climb or a renewal
of that principal that lacks attested facts and brings no attestation rests on the newest that
states them. It counts exactly as if it had been handed in with the command: judged again then, as
a whole, and used up by what was granted on it (law 9), so the sensor pushes the next one.

Of each sensor the newest about each principal stands, so that nobody chooses among its words.
Values that only a sensor stated are told to nobody who is refused.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime

from vmstate.canonical import format_at, parse_at
from vmstate.clock import Moment
from vmstate.constitution.unmet import Unmet
from vmstate.decisions.command import Escalate, Push, Renew
from vmstate.decisions.decision import Entry, Grounds, Pushed, State
from vmstate.decisions.evidence import (
    SKEW_FOR,
    FactsHeard,
    Setting,
    hear_facts,
    heard_until,
    too_old_at,
)
from vmstate.decisions.law import Law
from vmstate.decisions.refusing import denial
from vmstate.signing import Attestation


@dataclass(frozen=True, slots=True)
class Attested:
    """A pushed attestation that would count now: by whom, about whom, and until when.

    `facts` are the names of what it states; the values are in its receipt.
    """

    by: str
    principal: str
    facts: tuple[str, ...]
    seen_at: datetime
    good_until: datetime
    receipt: int


def push(law: Law, state: State, command: Push, now: Moment) -> Entry:
    """The receipt of an attestation that stands from now on, or of why it does not."""
    signed, at = command.statement, law.setting(state, now, command.principal)
    heard = hear_facts({}, (signed,), law.document.facts, at)
    statement = signed.statement
    unmet = [*command.claims, *heard.faults]
    if not unmet and isinstance(statement, Attestation):
        unmet += _push_faults(law, state, statement, now)
    if unmet or not isinstance(statement, Attestation):
        # Whoever carries it has only to give a name, and is not told what that one holds.
        return replace(denial(state, command, unmet, now), from_profile=None)
    until = too_old_at(statement, law.document.facts)
    last = heard_until(statement, law.document.facts)
    assert until is not None  # each fact is an attested one, and those grow old
    return Entry(
        "attestation",
        "recorded",
        Grounds("facts", facts=heard.stated, attestations=(signed,)),
        actor=signed.by,
        principal=statement.principal,
        proof="key",
        why=command.reason,
        detail={"good_until": format_at(until)},
        pushes=Pushed(state.next_seq, signed, last or until),
    )


def _push_faults(law: Law, state: State, statement: Attestation, now: Moment) -> Iterator[Unmet]:
    """What is wrong with a good attestation as one that is to stand ahead of any request."""
    by, principal, declared = statement.by, statement.principal, law.document.facts
    rule = f'principals."{by}"'
    if not law.people.knows(principal):
        yield law.unknown_subject(principal)
    if not statement.facts or any(declared[n].attested_by is None for n in statement.facts):
        remedy = "sign for facts that [facts] has attested, and for no others"
        yield Unmet(rule, "attestation_other_subject", "attested facts", by, remedy)
    before = (parse_at(one.statement.at) for one in state.pushed if one.signed.by == by)
    earlier = next(before, None)
    # One from the future, of a clock that was wrong, keeps nothing out.
    if earlier is not None and parse_at(statement.at) <= earlier <= now.wall + SKEW_FOR:
        remedy = "sign what is seen now"
        yield Unmet(rule, "attestation_older", format_at(earlier), by, remedy)


def hear_pushed(
    law: Law,
    state: State,
    command: Escalate | Renew,
    rules: Iterable[str],
    at: Setting,
) -> FactsHeard | None:
    """The facts as they hold with the pushed attestation that `command` rests on, if there is one.

    It is the newest that counts and states all the attested facts that one of `rules` needs or
    that `command` states. What brings an attestation of its own rests on that. A prepared request
    has to name the facts, because its approvers sign them.
    """
    declared = law.document.facts
    if not state.pushed or command.attestations:
        return None
    own = {n for n in command.facts if n in declared and declared[n].attested_by is not None}
    tables = (law.document.escalations[one] for one in rules if one in law.document.escalations)
    wanted = [
        own | {n for n in table.needs.facts if declared[n].attested_by is not None}
        for table in tables
    ]
    for one in counting(law, state.pushed, at):
        stated = one.statement.facts.keys()
        if command.request is not None and not stated <= command.facts.keys():
            continue
        if any(names and names <= stated for names in wanted):
            heard = hear_facts(command.facts, (one.signed,), declared, at)
            # What a sensor said otherwise is not told to whoever would say it then.
            faults = (
                replace(fault, required="otherwise") if fault.code == "fact_differs" else fault
                for fault in heard.faults
            )
            return replace(heard, faults=tuple(faults))
    return None


def counting(law: Law, pushed: Iterable[Pushed], at: Setting) -> list[Pushed]:
    """Those of `pushed` that count where `at` is, the newest first."""
    facts = law.document.facts
    good = (one for one in pushed if not hear_facts({}, (one.signed,), facts, at).faults)
    return sorted(good, key=lambda one: (one.statement.at, one.seq), reverse=True)


def attested_for(law: Law, state: State, answer: Entry, now: Moment) -> tuple[Attested, ...]:
    """What a sensor pushed that `answer` rests on; of a refusal, what its rule would rest on."""
    at = law.setting(state, now, state.principal)
    table = law.document.escalations.get(answer.grounds.rule)
    needed = () if table is None else table.needs.facts
    names = {name for name in needed if law.document.facts[name].attested_by is not None}
    counted = {one.statement.id for one in answer.grounds.attestations}
    found = (
        one
        for one in counting(law, state.pushed, at)
        if one.statement.id in counted
        or (answer.outcome == "denied" and names and names <= one.statement.facts.keys())
    )
    return tuple(attested_now(law, state, list(found)[:1], now))


def attested_now(
    law: Law, state: State, pushed: Iterable[Pushed], now: Moment
) -> Iterator[Attested]:
    """What of `pushed` would count at `now`; `state` holds the ids that were used and the locks."""
    for one in pushed:
        at = law.setting(state, now, one.statement.principal)
        until = too_old_at(one.statement, law.document.facts)
        if until is not None and counting(law, (one,), at):
            said = one.statement
            facts, seen_at = tuple(sorted(said.facts)), parse_at(said.at)
            yield Attested(said.by, said.principal, facts, seen_at, until, one.seq)

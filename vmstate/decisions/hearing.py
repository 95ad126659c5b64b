"""Hearing the case for a climb or a renewal: its evidence, whichever rule will be asked."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from vmstate.canonical import Json
from vmstate.clock import Moment, duration_us
from vmstate.constitution.guards import Case
from vmstate.constitution.unmet import Unmet
from vmstate.decisions.command import Escalate, Renew
from vmstate.decisions.decision import State
from vmstate.decisions.evidence import FactsHeard, Heard, hear_approvals, hear_facts
from vmstate.decisions.lasting import wait_for
from vmstate.decisions.law import (
    Law,
    clock_faults,
    drill_faults,
    lock_faults,
    request_faults,
    standing_faults,
)
from vmstate.decisions.pending import Asked
from vmstate.decisions.pushing import hear_pushed
from vmstate.leases.lease import Lease


@dataclass(frozen=True, slots=True)
class Hearing:
    """A command's evidence, and what is wrong with it whichever rule is asked.

    `brought` are the facts as the command itself holds them, `facts` as they are judged: with what
    a sensor pushed, where something lacks that.
    """

    case: Case
    brought: FactsHeard
    facts: FactsHeard
    approvals: Heard
    unmet: tuple[Unmet, ...]

    def rests_on(self, needed: Iterable[str]) -> FactsHeard:
        """The facts behind a grant that needs these: what is not needed is not used up."""
        unneeded = not self.brought.faults and self.case.unseen.keys().isdisjoint(needed)
        return self.brought if unneeded else self.facts


def hear(
    law: Law, state: State, command: Escalate, now: Moment, asked: Asked | None = None
) -> Hearing:
    """What stands behind a climb; `asked` as in `climb`."""
    wanted = {"to": command.to, "trigger": command.trigger}
    way = (state.stack.profile(now), command.to, command.trigger)
    rules = [n for n, r in law.document.escalations.items() if (r.from_, r.to, r.trigger) == way]
    rules = rules if asked is None else [asked.rule]
    heard = hear_case(law, state, command, now, wanted, rules)
    if asked is not None:
        return replace(heard, case=replace(heard.case, rule=asked.rule))
    if command.request is None or command.request.id not in {one.id for one in state.waiting}:
        return heard
    remedy = "vmstate request activate, or withdraw it"
    open_ = Unmet("requests", "request_open", "no open request", command.request.id, remedy)
    return replace(heard, unmet=(*heard.unmet, open_))


def hear_case(
    law: Law,
    state: State,
    command: Escalate | Renew,
    now: Moment,
    wanted: Mapping[str, str],
    rules: Iterable[str],
    *,
    pinned: Lease | None = None,
) -> Hearing:
    """What stands behind going to the profile in `wanted` by one of `rules`; a renewal is `pinned`
    to its lease.
    """
    at = law.setting(state, now, command.principal)
    brought = hear_facts(command.facts, command.attestations, law.document.facts, at)
    pushed = hear_pushed(law, state, command, rules, at)
    facts = pushed or brought
    approvals = hear_approvals(command.approvals, command.request, at)
    unmet = [*standing_faults(law, state, command), *drill_faults(state, now)]
    unmet += lock_faults(law, state, command.principal, wanted["to"])
    if command.setup and state.drill is None:
        remedy = "climb by the rules as they are"
        unmet.append(Unmet("drill", "not_a_drill", "a drill's ledger", "set-up", remedy))
    unmet += clock_faults(state, now)
    if command.request is not None:
        ttl = duration_us(command.ttl) if command.ttl else None
        asked: dict[str, Json] = {**wanted, "facts": dict(facts.stated), "ttl_us": ttl}
        unmet += request_faults(command.request, command, asked, at)
    profile = wanted["to"]
    case = Case(
        principal=command.principal,
        people=law.people,
        reason=command.reason,
        facts=facts.values,
        faults=facts.faults,
        approvers=approvals.approvers,
        rejected=approvals.rejected,
        ttl=command.ttl,
        waits={
            profile: wait_for(law, state, profile, now, exempt=pinned is not None or command.setup)
        },
        rule=pinned.rule if pinned else None,
        balances={name: budget.available for name, budget in state.budgets.items()},
        unseen={} if pushed is None else _unseen(command, pushed),
    )
    return Hearing(case, brought, facts, approvals, tuple(unmet))


def _unseen(command: Escalate | Renew, pushed: FactsHeard) -> dict[str, str]:
    (signed,) = pushed.counted
    return {name: signed.by for name in pushed.values if name not in command.facts}

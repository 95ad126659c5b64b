"""Refusing a command: everything that was missing, and what the rule would have cost.

Law 8: a denial is a value, an entry like any other. It changes nothing.
"""

from dataclasses import replace

from vmstate.clock import Moment, duration_us
from vmstate.constitution.unmet import Unmet
from vmstate.decisions.command import Command, Escalate, Release
from vmstate.decisions.decision import Entry, Grounds, State
from vmstate.decisions.evidence import FactsHeard
from vmstate.decisions.law import Law
from vmstate.treasury.budget import cost_line

NO_RULE = "escalations"  # the path that a refusal names where no rule was found


def denial(
    state: State,
    command: Command,
    unmet: list[Unmet],
    now: Moment,
    *,
    rule: str | None = None,
    hearing: FactsHeard | None = None,
    lease: str | None = None,
) -> Entry:
    """A refusal: it names everything that was missing and changes nothing."""
    grounds = Grounds(
        rule or (unmet[0].rule if unmet else NO_RULE),
        facts=hearing.stated if hearing else {},
        unmet=tuple(dict.fromkeys(unmet)),
    )
    ttl = getattr(command, "ttl", None)
    return Entry(
        "auth_failure",
        "denied",
        grounds,
        actor=command.asked_by,
        principal=command.principal,
        proof=command.proof,
        why=command.reason,
        lease=lease,
        trigger=command.trigger if isinstance(command, Escalate) else None,
        ending=command.ending if isinstance(command, Release) else None,
        from_profile=None if isinstance(command, Release) else state.stack.profile(now),
        to_profile=command.to if isinstance(command, Escalate) else None,
        ttl_requested_us=duration_us(ttl) if ttl else None,
    )


def with_cost(law: Law, state: State, refused: Entry, rule: str | None) -> Entry:
    """A refusal that says what the rule would have cost, and what there was to pay it."""
    table = law.document.escalations.get(rule or "")
    if table is None or table.cost is None:
        return refused
    name, amount = table.cost.budget, table.cost.amount
    budget = state.budgets.get(name)
    unit, available = (budget.unit, budget.available) if budget is not None else ("", 0)
    line = cost_line(name, unit, requested=amount, available=available, charged=0)
    return replace(refused, cost=(line,))


def for_stranger(command: Command, refused: Entry) -> Entry:
    """A refusal as it is told to somebody whom nothing proves: why they are nobody, and no more.

    What else was missing would say what somebody holds, by which rules they climb and why they
    are locked; a stranger has only to give a name to ask it of anybody.
    """
    own = [one for one in refused.grounds.unmet if one.code == "not_proven"]
    unmet = tuple(dict.fromkeys((*command.claims, *own)))
    return replace(
        refused,
        grounds=Grounds(unmet[0].rule, facts=refused.grounds.facts, unmet=unmet),
        cost=(),
        lease=getattr(command, "lease", None),
        from_profile=None,
    )


def no_path(held: str, to: str, trigger: str, remedy: str) -> Unmet:
    """The requirement that there be a rule at all for going this way."""
    given = f"{held} to {to} on {trigger}"
    return Unmet(NO_RULE, "no_path", "an escalation that the constitution names", given, remedy)

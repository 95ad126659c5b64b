"""Deciding acts and charges: is the profile held, is there enough, and is this only a drill?

Nothing here is special about any act. What may be done, from which profile up, and what receipt it
leaves, is the constitution's; vmstate says whether, and writes down that it was. With it goes the
digest of the facts that called for it: those of the topmost lease that was granted on any.
"""

from dataclasses import replace

from vmstate.canonical import Json, format_at
from vmstate.clock import Moment
from vmstate.constitution.document import ALLOCATE, DEBIT
from vmstate.constitution.facts import did_you_mean
from vmstate.constitution.unmet import Unmet
from vmstate.decisions.command import Act, CreateBudget, Debit, DrillMode
from vmstate.decisions.decision import DrillState, Entry, Grounds, State
from vmstate.decisions.fields import CONTEXT
from vmstate.decisions.law import Law, drill_faults, lock_faults, standing_faults
from vmstate.decisions.refusing import denial
from vmstate.decisions.route import shortest_route
from vmstate.decisions.using import use
from vmstate.errors import InputError
from vmstate.leases.lease import lease_id
from vmstate.leases.watermark import later
from vmstate.treasury.budget import Budget, cost_line


def act(law: Law, state: State, command: Act, now: Moment) -> Entry:
    """The receipt of an act, or of its refusal; in a drill some acts only pretend.

    Raises:
        InputError: the act leaves no receipt, so there is nothing to decide: ask `may`. Or it is
            one that moves units, which has a command of its own, or an anchor with arguments.
    """
    if command.act in {ALLOCATE, DEBIT}:
        verb = "create" if command.act == ALLOCATE else "debit"
        raise InputError(
            f"{command.act} moves units: say which budget, and how many: vmstate budget {verb}"
        )
    if state.anchor is not None and (command.arguments or command.proofs):
        raise InputError(f"{command.act} takes no arguments: it says what the ledger says")
    table = law.document.acts.get(command.act)
    unmet = _faults(law, state, command, command.act, now)
    if unmet or table is None:
        refused = denial(state, command, unmet, now)
        return replace(refused, act=command.act)
    if table.receipt is None:
        asked = f"vmstate may {command.principal} {command.act}"
        raise InputError(f"{command.act} is a read and leaves no receipt: ask `may`: {asked}")
    entry = _done(law, state, command, command.act, now)
    told = state.anchor or command  # of an anchor it is the ledger that tells
    detail: dict[str, Json] = dict(told.arguments)
    return replace(
        entry,
        type=table.receipt,
        scroll=table.scroll,
        detail=detail or None,
        proofs={**told.proofs, **entry.proofs},
    )


def create_budget(law: Law, state: State, command: CreateBudget, now: Moment) -> Entry:
    """Allocate a budget; in a drill all of them together stay below its ceiling."""
    unmet = _faults(law, state, command, ALLOCATE, now)
    if command.budget in state.budgets:
        remedy = "name another budget"
        rule = f'acts."{ALLOCATE}"'
        unmet.append(Unmet(rule, "budget_exists", "a free name", command.budget, remedy))
    unmet += _ceiling(law, state, command)
    amount, unit = command.allocated, command.unit
    line = cost_line(command.budget, unit, requested=amount, available=0, charged=0)
    if unmet:
        return _treasury_denial(state, command, ALLOCATE, unmet, line, now)
    entry = _done(law, state, command, ALLOCATE, now)
    made = Budget(command.budget, command.name, unit, amount, 0, state.next_seq)
    detail: dict[str, Json] = {"budget": made.id, "name": made.name, "allocated": amount}
    return replace(
        entry,
        type="treasury_budget",
        scroll="treasury",
        detail={**detail, "unit": unit},
        budget=made,
    )


def debit(law: Law, state: State, command: Debit, now: Moment) -> Entry:
    """Spend from a budget; more than its balance is refused before anything is written to it."""
    unmet = _faults(law, state, command, DEBIT, now)
    budget = state.budgets.get(command.budget)
    rule, amount = f'acts."{DEBIT}"', command.amount
    if budget is None:
        remedy = "name a budget that was allocated"
        unmet.append(Unmet(rule, "budget_unknown", "a budget", command.budget, remedy))
    elif budget.available < amount:
        remedy = f"ask for {budget.available} or less, or have more allocated"
        given = f"{budget.id} has {budget.available}"
        unmet.append(Unmet(rule, "budget_insufficient", str(amount), given, remedy))
    available = budget.available if budget is not None else 0
    unit = budget.unit if budget is not None else ""
    charged = 0 if unmet else amount
    line = cost_line(command.budget, unit, requested=amount, available=available, charged=charged)
    if unmet or budget is None:
        return _treasury_denial(state, command, DEBIT, unmet, line, now)
    entry = _done(law, state, command, DEBIT, now)
    return replace(
        entry, type="treasury_debit", scroll="treasury", cost=(line,), budget=budget.after(amount)
    )


def drill_mode(law: Law, state: State, command: DrillMode, now: Moment) -> Entry:
    """Switch a drill ledger's mode; a live ledger refuses."""
    table = law.document.drill
    if state.drill is None or table is None:
        remedy = "run drills in ledgers of their own: vmstate drill run"
        unmet = Unmet("drill", "not_a_drill", "a drill's ledger", "drill mode", remedy)
        return denial(state, command, [unmet], now)
    if not command.on:
        return mode_entry(law, state, now, command.set_by)
    faults = drill_faults(state, now) if state.drill.until is not None else []
    if state.drill.is_on(now) and state.drill.until is not None:
        until, remedy = format_at(state.drill.until.wall), "go on, or start another drill"
        faults.append(Unmet("drill.ttl", "drill_on", "one switch for a drill", until, remedy))
    if faults:
        return denial(state, command, faults, now)
    return mode_entry(law, state, now, command.set_by, until=later(now, table.ttl))


def mode_entry(
    law: Law, state: State, now: Moment, set_by: str, *, until: Moment | None = None
) -> Entry:
    """The receipt of drill mode on (with `until`) or off: all that makes this a rehearsal."""
    table = law.document.drill
    assert table is not None
    pretends: dict[str, Json] = {
        name: one.in_drill for name, one in law.document.acts.items() if one.in_drill is not None
    }
    detail: dict[str, Json] = {
        "mode": "OFF" if until is None else "ON",
        "set_by": set_by,
        "until": None if until is None else format_at(until.wall),
        "pretends": pretends,
        "budget_ceiling": table.budget_ceiling,
        "currency": table.currency,
    }
    ends = state.drill.until if state.drill is not None and state.drill.until is not None else now
    over = ends if ends.wall <= now.wall else now
    drill = DrillState(until, off=False) if until is not None else DrillState(over, off=True)
    due = ends.wall if until is None and over is not now else None
    return Entry(
        "drill_mode",
        "recorded",
        Grounds("drill"),
        principal=table.principal,
        detail=detail,
        due=due,
        drill=drill,
    )


def _faults(
    law: Law, state: State, command: Act | CreateBudget | Debit, name: str, now: Moment
) -> list[Unmet]:
    """Why nothing may be done as `command` asks, whatever it is about."""
    return [
        *standing_faults(law, state, command),
        *_reach(law, state, command.principal, name, now),
        *_fence_faults(state, command, name, now),
        *drill_faults(state, now),
    ]


def _fence_faults(
    state: State, command: Act | CreateBudget | Debit, name: str, now: Moment
) -> list[Unmet]:
    """Whoever slept through the end of their lease must not act under the next one."""
    standing = state.stack.standing(now)
    if command.fence is None or command.fence in (lease.seq for lease in standing):
        return []
    there = ", ".join(lease.id for lease in standing) or "none"
    remedy = "look at what changed since, and plan it anew"
    given = lease_id(command.fence)
    return [Unmet(f'acts."{name}"', "fence_stale", there, given, remedy)]


def _reach(law: Law, state: State, principal: str, name: str, now: Moment) -> list[Unmet]:
    """Why `principal` may not do the act `name` with the profile held now."""
    table = law.document.acts.get(name)
    held = state.stack.profile(now)
    if table is None:
        acts = law.document.acts
        remedy = f"name an act of [acts]{did_you_mean(name, acts)}"
        return [Unmet("acts", "act_unknown", "an act", name, remedy)]
    if law.constitution.includes(held, table.profile):
        return []
    route = shortest_route(law, principal, held, table.profile)
    ways = ", then ".join(f"{rung.to_profile} on {rung.trigger}" for rung in route)
    remedy = f"climb first: {ways}" if ways else f"ask somebody who may be {table.profile}"
    given = f"{name} requires {table.profile}, the present profile is {held}"
    locked = lock_faults(law, state, principal, table.profile)
    return [*locked, Unmet(f'acts."{name}"', "act_out_of_reach", table.profile, given, remedy)]


def _done(
    law: Law, state: State, command: Act | CreateBudget | Debit, name: str, now: Moment
) -> Entry:
    table, in_drill = law.document.acts[name], state.drill is not None
    touches = use(law, state, table.profile, now)
    return Entry(
        "",
        "granted",
        Grounds(f'acts."{name}"'),
        actor=command.asked_by,
        principal=command.principal,
        proof=command.proof,
        why=command.reason,
        from_profile=state.stack.profile(now),
        lease=touches[-1].id if touches else None,
        touches=touches,
        act=name,
        result=table.in_drill if in_drill else None,
        proofs=_context(state, now),
    )


def _context(state: State, now: Moment) -> dict[str, str]:
    resting = [lease.seq for lease in state.stack.standing(now) if lease.seq in state.contexts]
    return {CONTEXT: state.contexts[resting[-1]]} if resting else {}


def _treasury_denial(
    state: State,
    command: CreateBudget | Debit,
    name: str,
    unmet: list[Unmet],
    line: Json,
    now: Moment,
) -> Entry:
    """A refused charge: what was attempted, what it would have cost, what there is, and why not."""
    refused = denial(state, command, unmet, now)
    return replace(refused, type="treasury_denial", scroll="treasury", act=name, cost=(line,))


def _ceiling(law: Law, state: State, command: CreateBudget) -> list[Unmet]:
    table = law.document.drill
    if state.drill is None or table is None:
        return []
    unmet = []
    together = state.allocated + command.allocated
    if together > table.budget_ceiling:
        given = f"{together} would be allocated"
        remedy = f"allocate {table.budget_ceiling - state.allocated} or less"
        most = str(table.budget_ceiling)
        unmet.append(Unmet("drill.budget_ceiling", "budget_ceiling", most, given, remedy))
    if command.unit != table.currency:
        remedy = f"allocate {table.currency}"
        code = "budget_currency"
        unmet.append(Unmet("drill.currency", code, table.currency, command.unit, remedy))
    return unmet

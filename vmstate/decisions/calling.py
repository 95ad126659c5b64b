"""Deciding a call of a tool behind a gate: is it listed, is the profile held, was it approved?

Law 1: a server without a table and a name that no pattern matches are denied. Law 14: a drill's
ledger lets nothing through, because what stands behind a gate is real.

The receipt is written before the call is made (law 2): a crash in between leaves a call on record
that did not happen, and never one that happened without a record.
"""

from collections.abc import Mapping
from dataclasses import replace

from vmstate.canonical import Json
from vmstate.clock import Moment
from vmstate.constitution.facts import did_you_mean
from vmstate.constitution.tools import Server, ToolRule, rule_path
from vmstate.constitution.unmet import Unmet
from vmstate.decisions.command import TOOL_CALL, Call, Tally
from vmstate.decisions.decision import Entry, Grounds, State
from vmstate.decisions.evidence import hear_approvals, nonce_of, used_ids
from vmstate.decisions.law import (
    Law,
    admitted_approvals,
    asker_faults,
    exception_faults,
    lock_faults,
    standing_faults,
)
from vmstate.decisions.refusing import denial
from vmstate.decisions.route import shortest_route
from vmstate.decisions.statements import call_facts
from vmstate.decisions.using import use
from vmstate.signing import Signed


def call(law: Law, state: State, command: Call, now: Moment) -> Entry:
    """The receipt of a call that may go ahead now, or of its refusal."""
    found, unmet = _find(law, state, command)
    unmet = [*standing_faults(law, state, command), *unmet]
    approvals: tuple[Signed, ...] = ()
    facts: dict[str, str] = {}
    if found is not None:
        path, rule = found
        unmet += _reach(law, state, command, path, rule, now)
        if rule.each_call and not unmet:
            at = law.setting(state, now, command.principal)
            heard = hear_approvals(command.approvals, command.request, at)
            approvers = law.document.tools[command.server].approvers or ()
            approvals = admitted_approvals(law, heard, approvers)
            facts = call_facts(command)
            unmet += heard.rejected
            unmet += _unapproved(law, command, path) if not approvals else []
            unmet += exception_faults(command, TOOL_CALL, call_facts(command), at)
    if unmet or found is None:
        refused = denial(state, command, unmet, now)
        return replace(refused, trigger=TOOL_CALL, detail=_detail(command))
    request = command.request if approvals else None

    entry = _made(law, state, command, found, now)
    grounds = Grounds(
        found[0],
        facts=facts,
        approvals=approvals,
        request=None if request is None else request.id,
    )
    return replace(
        entry,
        grounds=grounds,
        detail={**_detail(command), **nonce_of(request)},
        spends=tuple(used_ids(approvals, request)),
    )


def tally(law: Law, state: State, command: Tally, now: Moment) -> Entry:
    """The receipt of many calls. Only what everybody may do can be told in one."""
    detail: dict[str, Json] = {
        **_detail(command),
        "count": command.count,
        "since": command.since,
    }
    if command.refused:
        times = f"{command.count} times" if command.count > 1 else "once"
        remedy = "see the receipt of the first refusal"
        repeated = Unmet("tools", "tool_repeated", f"since {command.since}", times, remedy)
        refused = denial(state, command, [repeated], now)
        return replace(refused, trigger=TOOL_CALL, detail=detail)
    found, unmet = _find(law, state, command)
    unmet = [*asker_faults(law, command), *unmet]
    if found is not None and (
        found[1].each_call or found[1].profile != law.document.constitution.baseline
    ):
        given, remedy = f"{command.count} calls of {command.name}", "put each call on record"
        needed = "a tool that everybody may call"
        unmet.append(Unmet(found[0], "tally_above", needed, given, remedy))
    if unmet or found is None:
        return replace(denial(state, command, unmet, now), trigger=TOOL_CALL, detail=detail)
    return replace(_made(law, state, command, found, now), detail=detail)


def _find(
    law: Law, state: State, command: Call | Tally
) -> tuple[tuple[str, ToolRule] | None, list[Unmet]]:
    """The rule that decides about the name, by its path; or why there is none."""
    unmet = []
    if state.drill is not None:
        remedy = "put the gate in front of it with a live ledger"
        unmet.append(Unmet("drill", "call_drill", "a live ledger", law.origin, remedy))
    servers: Mapping[str, Server] = law.document.tools
    server = servers.get(command.server)
    if server is None:
        remedy = f"name one of [tools]{did_you_mean(command.server, servers)}"
        known = ", ".join(servers) or "none"
        unmet.append(Unmet("tools", "server_unknown", known, command.server, remedy))
        return None, unmet
    found = server.rule_for(command.kind, command.name)
    if found is None:
        rules = server.rules(command.kind)
        table = f"tools.{command.server}.{command.kind}s"
        remedy = f"ask for another{did_you_mean(command.name, rules)}, or have it listed"
        unmet.append(Unmet(table, "tool_unlisted", table, command.name, remedy))
        return None, unmet
    return (rule_path(command.server, command.kind, found[0]), found[1]), unmet


def _reach(
    law: Law, state: State, command: Call, path: str, rule: ToolRule, now: Moment
) -> list[Unmet]:
    held = state.stack.profile(now)
    if law.constitution.includes(held, rule.profile):
        return []
    route = shortest_route(law, command.principal, held, rule.profile)
    ways = ", then ".join(f"{rung.to_profile} on {rung.trigger}" for rung in route)
    remedy = f"climb first: {ways}" if ways else f"ask somebody who may be {rule.profile}"
    given = f"{command.name} requires {rule.profile}, the present profile is {held}"
    locked = lock_faults(law, state, command.principal, rule.profile)
    return [*locked, Unmet(path, "tool_out_of_reach", rule.profile, given, remedy)]


def _unapproved(law: Law, command: Call, path: str) -> list[Unmet]:
    groups = law.document.tools[command.server].approvers or ()
    remedy = "have the request for exactly this call signed, and call again"
    given = "none that counts" if command.approvals else "none"
    return [Unmet(path, "tool_unapproved", f"one of {', '.join(groups)}", given, remedy)]


def _made(
    law: Law, state: State, command: Call | Tally, found: tuple[str, ToolRule], now: Moment
) -> Entry:
    path, rule = found
    touches = use(law, state, rule.profile, now)
    return Entry(
        TOOL_CALL,
        "granted",
        Grounds(path),
        actor=command.asked_by,
        principal=command.principal,
        proof=command.proof,
        why=command.reason,
        trigger=TOOL_CALL,
        from_profile=state.stack.profile(now),
        lease=touches[-1].id if touches else None,
        touches=touches,
    )


def _detail(command: Call | Tally) -> dict[str, Json]:
    return {
        "server": command.server,
        "kind": command.kind,
        "name": command.name,
        "arguments": command.arguments,
    }

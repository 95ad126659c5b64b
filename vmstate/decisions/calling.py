"""Deciding a call of a tool behind a gate: is it listed, is the profile held, was it approved?

Law 1: a server without a table and a name that no pattern matches are denied. Law 14: a drill's
ledger lets nothing through, because what stands behind a gate is real.

The receipt is written before the call is made (law 2): a crash in between leaves a call on record
that did not happen, and never one that happened without a record.

Where each call needs its own approval, the first one leaves its request open, as a climb would; its
approvers are those of the server. The same call, once it is approved, uses it up.
"""

from collections.abc import Mapping
from dataclasses import replace

from vmstate.canonical import Json, digest
from vmstate.clock import Moment
from vmstate.constitution.facts import did_you_mean
from vmstate.constitution.tools import Server, ToolRule, rule_path
from vmstate.constitution.unmet import Unmet
from vmstate.decisions.asking import no_room, opened
from vmstate.decisions.command import TOOL_CALL, Call, Tally, make_command
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
from vmstate.decisions.pending import ACTIVATED, Asked
from vmstate.decisions.refusing import denial
from vmstate.decisions.route import shortest_route
from vmstate.decisions.statements import call_facts
from vmstate.decisions.using import use


def call(law: Law, state: State, command: Call, now: Moment) -> Entry:
    """The receipt of a call that may go ahead now, of its request left open, or of its refusal."""
    found, unmet = _find(law, state, command)
    unmet = [*standing_faults(law, state, command), *unmet]
    if found is not None:
        unmet += _reach(law, state, command, *found, now)
    if unmet or found is None:
        return _refused(state, command, unmet, now)
    if found[1].each_call:
        return _single(law, state, command, found, now)
    return replace(_made(law, state, command, found, now), detail=_detail(command))


def _single(
    law: Law, state: State, command: Call, found: tuple[str, ToolRule], now: Moment
) -> Entry:
    """A call that takes an approval of its own."""
    path, request, asked = found[0], command.request, state.asked
    missing = _unapproved(law, command, path)
    if request is None:
        return _refused(state, command, [missing], now)
    at = law.setting(state, now, command.principal)
    unmet = exception_faults(command, TOOL_CALL, call_facts(command), at)
    if asked is None:
        unmet += no_room(law, state, now)
        refused = _refused(state, command, [*unmet, missing], now)
        return refused if unmet else opened(law, state, request, path, (missing,), refused, now)
    heard = hear_approvals(asked.approvals, request, at)
    approvals = admitted_approvals(law, heard, law.document.tools[command.server].approvers or ())
    if not asked.is_open:
        remedy = "call it again: that asks for another approval"
        unmet.append(Unmet("requests", "request_over", "an open one", asked.state, remedy))
    unmet += [] if approvals else [*heard.rejected, missing]
    if unmet:
        return _refused(state, command, unmet, now)
    grounds = Grounds(path, facts=call_facts(command), approvals=approvals, request=request.id)
    return replace(
        _made(law, state, command, found, now),
        grounds=grounds,
        detail={**_detail(command), **nonce_of(request)},
        spends=tuple(used_ids(approvals, request)),
        asks=asked.over(ACTIVATED, now),
    )


def call_lacks(law: Law, state: State, asked: Asked, now: Moment) -> tuple[Unmet, ...]:
    """What the call that `asked` is for would lack if it were made now."""
    request, facts = asked.request, asked.request.facts
    shown = "" if facts["arguments"].startswith("sha256:") else facts["arguments"]
    said = {
        "principal": request.principal,
        "reason": request.reason,
        "server": facts["server"],
        "kind": facts["kind"],
        "name": facts["name"],
        "arguments": digest(shown.encode()) if shown else facts["arguments"],
        "shown": shown,
        "request": request,
    }
    answer = call(law, replace(state, asked=asked), make_command(Call, said), now)
    return answer.grounds.unmet


def _refused(state: State, command: Call, unmet: list[Unmet], now: Moment) -> Entry:
    refused = denial(state, command, unmet, now)
    return replace(refused, trigger=TOOL_CALL, detail=_detail(command))


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


def _unapproved(law: Law, command: Call, path: str) -> Unmet:
    groups = law.document.tools[command.server].approvers or ()
    remedy = "have its request approved (vmstate request approve), and call again"
    return Unmet(path, "tool_unapproved", f"one of {', '.join(groups)}", "none", remedy)


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

"""Open requests in words and as JSON: what they wait for, and how long they are of use."""

from datetime import timedelta
from typing import TYPE_CHECKING

from vmstate.canonical import Json, format_at, format_duration
from vmstate.interfaces.cli.output import say, spell_time

if TYPE_CHECKING:
    from vmstate.decisions.showing import Pending
    from vmstate.signing import Request


def short_id(asked: "str | Pending") -> str:
    """As much of a request's id as people are shown."""
    from vmstate.decisions.requested import DIGITS

    id_ = asked if isinstance(asked, str) else asked.id
    return id_.removeprefix("sha256:")[:DIGITS]


def spell_wanted(wanted: "Request") -> str:
    """What a request is for: a profile, or one call of a tool."""
    return wanted.to or f"{wanted.facts['name']} of {wanted.facts['server']}"


def say_pending(shown: "Pending") -> None:
    principal, to = shown.request.principal, shown.request.to
    say(f"{principal} waits for {to} until {spell_time(shown.waits_until)}:")
    for unmet in shown.missing:
        say(f"  {unmet.message}  [{unmet.code}]")
    codes = {unmet.code for unmet in shown.missing}
    verbs = {"approval_missing": "approve", "fact_unattested": "attest"}
    for verb in (verb for code, verb in verbs.items() if code in codes):
        say(f"next: vmstate request {verb} {short_id(shown)} --key KEY, by whom it takes")


def state_lines(shown: "Pending") -> list[str]:
    """Where a request stands, as those who sign it have to know."""
    at = shown.ended_at or shown.good_until
    since = "since" if shown.ended_at is not None else "until"
    lines = [f"  state      {shown.state} {since} {spell_time(at)}", f"  rule       {shown.rule}"]
    if not shown.is_open:
        return lines
    if shown.lasts is not None:
        cut = f", cut by the {shown.clipped_by}" if shown.clipped_by else ""
        lines.append(f"  would last {format_duration(shown.lasts)} if activated now{cut}")
        if shown.lasts_at_most is not None and shown.clipped_by == "parent":
            most = format_duration(shown.lasts_at_most)
            lines.append(f"  at most    {most}, if the lease below is renewed with it")
        lines += [f"  limit      {one}" for one in shown.limits]
    for stage in shown.stages:
        names = ", ".join(stage.approved) or "nobody yet"
        lines.append(f"  approved   by {names}; takes {stage.count} of {', '.join(stage.of)}")
    if shown.attested_by:
        lines.append(f"  attested   by {', '.join(shown.attested_by)}")
    return [*lines, *(f"  missing    {one.message}" for one in shown.missing)]


def pending_body(shown: "Pending") -> dict[str, Json]:
    """An open request as JSON."""
    stages: list[Json] = [
        {"count": one.count, "of": list(one.of), "approved": list(one.approved)}
        for one in shown.stages
    ]
    missing: list[Json] = [{**one.body(), "message": one.message} for one in shown.missing]
    usable, ended, signed = shown.usable_until, shown.ended_at, shown.signed_until
    most = shown.lasts_at_most
    return {
        "request": shown.id,
        "receipt": shown.receipt,
        "body": shown.request.body(),
        "rule": shown.rule,
        "state": shown.state,
        "opened_at": format_at(shown.opened_at),
        "waits_until": format_at(shown.waits_until),
        "usable_until": None if usable is None else format_at(usable),
        "ended_at": None if ended is None else format_at(ended),
        "stages": stages,
        "attested_by": list(shown.attested_by),
        "missing": missing,
        "lasts_us": None if shown.lasts is None else shown.lasts // timedelta(microseconds=1),
        "clipped_by": shown.clipped_by,
        "lasts_at_most_us": None if most is None else most // timedelta(microseconds=1),
        "limits": list(shown.limits),
        "signed_until": None if signed is None else format_at(signed),
    }

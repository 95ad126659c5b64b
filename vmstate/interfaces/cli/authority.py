"""`status escalate renew release revoke may why`: holding authority and giving it back."""

from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import click

from vmstate.canonical import Json, format_at, format_duration
from vmstate.interfaces.cli.asking import (
    key_options,
    key_owner,
    lease_holder,
    read_key,
    shown_by,
    signs_as,
)
from vmstate.interfaces.cli.attest import attested_body
from vmstate.interfaces.cli.locks import lock_body, set_back_body
from vmstate.interfaces.cli.notify import backlog_body
from vmstate.interfaces.cli.options import (
    backing_options,
    climb_options,
    complete_lease,
    complete_profile,
    once_option,
    read_facts,
    read_prepared,
    read_statements,
    read_ttl,
)
from vmstate.interfaces.cli.output import (
    answer,
    count,
    emit,
    say,
    say_denial,
    spell_grant,
    spell_left,
    spell_time,
    table,
)
from vmstate.interfaces.cli.settings import (
    DENIED,
    OK,
    Command,
    Look,
    Settings,
)

if TYPE_CHECKING:
    from vmstate.decisions.command import Escalate
    from vmstate.decisions.route import Explanation
    from vmstate.door import Door
    from vmstate.keys import Signer
    from vmstate.leases.lease import Lease
    from vmstate.leases.standing import Standing
    from vmstate.ledger.receipt import Receipt

DEFAULT_TRIGGER = "operator_request"


@click.command(cls=Look)
@click.argument("who", required=False)
@click.pass_obj
def status(settings: Settings, who: str | None) -> None:
    """Show who holds what, and until when. With WHO, that one alone."""
    authority = settings.authority()
    standings = authority.status() if who is None else (authority.standing(who),)
    locks = authority.locks()
    size, overdue = authority.size(), authority.due(limit=1)
    behind, back = [one for one in authority.backlogs() if one.is_behind], authority.set_back()
    if settings.json:
        bodies: list[Json] = [_standing_body(one) for one in standings]
        emit(
            {
                "ok": True,
                "origin": authority.origin,
                "constitution": authority.constitution.digest,
                "drill": authority.is_drill,
                "size": size,
                "overdue": bool(overdue),
                "locks": [lock_body(one) for one in locks],
                "behind": [backlog_body(one) for one in behind],
                "set_back": set_back_body(back),
                "standing": bodies,
            }
        )
        return
    rows = [row for one in standings for row in _standing_rows(one, authority)]
    table(("WHO", "PROFILE", "ENDS", "LEFT", "LEASE", "RULE"), rows)
    drill = "  DRILL" if authority.is_drill else ""
    say(f"{authority.origin}  {count(size, 'receipt')}{drill}")
    if who is None:
        say(f"everybody else stands at {authority.constitution.baseline}")
    for one in locks:
        say(f"{click.style('locked', fg='red', bold=True)}: {one.words}")
    if overdue:
        say("some leases are over and their receipts are owed: vmstate serve writes them")
    for message in (*(one.message for one in behind), *([back.message] if back else [])):
        say(message)


def _standing_rows(standing: "Standing", authority: "Door") -> list[Sequence[str]]:
    if not standing.leases:
        return [(standing.principal, authority.constitution.baseline, "", "", "", "")]
    return [
        (
            standing.principal,
            lease.profile,
            spell_time(lease.ends_at),
            spell_left(standing, lease),
            lease.id,
            lease.rule,
        )
        for lease in standing.leases
    ]


def _standing_body(standing: "Standing") -> dict[str, Json]:
    leases: list[Json] = [_lease_body(lease, standing) for lease in standing.leases]
    return {"principal": standing.principal, "profile": standing.profile, "leases": leases}


def _lease_body(lease: "Lease", standing: "Standing") -> dict[str, Json]:
    return {
        "lease": lease.id,
        "profile": lease.profile,
        "rule": lease.rule,
        "parent": lease.parent,
        "granted_at": format_at(lease.granted_at),
        "expires_at": format_at(lease.expires_at),
        "ends_at": format_at(lease.ends_at),
        "left_us": standing.left(lease) // timedelta(microseconds=1),
        "renewals": lease.renewals,
        "uses": lease.uses,
        "max_uses": lease.max_uses,
        "idle_ttl": None if lease.idle_ttl is None else format_duration(lease.idle_ttl),
    }


@click.command(cls=Command)
@click.argument("profile", shell_complete=complete_profile)
@climb_options
@click.option("--wait", is_flag=True, help="Leave it open if only signatures are missing.")
@click.option("--follow", is_flag=True, help="The same, and climb as soon as none is.")
@backing_options
@key_options
@once_option
@click.pass_obj
def escalate(
    settings: Settings, /, profile: str, *, wait: bool, follow: bool, **given: Any
) -> None:
    """Ask for PROFILE. A prepared request (--request) brings its own trigger, reason and facts.

    With --wait it is left open if only approvals or attestations are missing, and exits 4.
    """
    authority = settings.authority()
    key = read_key(given)
    asked = asked_for(authority, profile, given, key)
    if wait or follow:
        _leave_open(settings, authority, asked, key, follow=follow)
        return
    receipt = authority.submit(authority.ordered(asked, key))
    answer(receipt, settings, spell_grant(receipt), denied=_left_open(authority, receipt))


def _left_open(door: "Door", receipt: "Receipt") -> str:
    """What to type where nothing but signatures was missing."""
    from vmstate.decisions.asking import SIGNATURES

    if receipt.granted or not {one.code for one in receipt.unmet} <= SIGNATURES:
        return ""
    law = shown_by(lambda: door.constitution)
    if law is None or law.document.requests is None:
        return ""
    return "add --wait: it is left open until they have signed"


@click.command(cls=Look)
@click.argument("profile", shell_complete=complete_profile)
@climb_options
@backing_options
@click.pass_obj
def why(settings: Settings, /, profile: str, **given: Any) -> None:
    """Say what asking for PROFILE would come to, by the same rules, writing nothing.

    Exits 0 if it would be granted, 3 if not.
    """
    authority = settings.authority()
    asked = asked_for(authority, profile, given, None)
    explanation = authority.why(asked)
    if settings.json:
        emit(_explanation_body(explanation))
    elif explanation.expires_at is not None and explanation.lasts is not None:
        cut = f", cut by the {explanation.clipped_by}" if explanation.clipped_by else ""
        until, lasts = spell_time(explanation.expires_at), format_duration(explanation.lasts)
        limits = "".join(f"; {one}" for one in explanation.limits)
        click.echo(f"yes, by {explanation.rule}: until {until} ({lasts}{cut}){limits}")
        _say_attested(explanation)
    else:
        say_denial(explanation.unmet, explanation.rule)
        _say_attested(explanation)
        law = authority.constitution
        if explanation.route:
            _say_route(explanation)
        elif profile in law.document.profiles and not law.includes(explanation.held, profile):
            say(f"no way leads there for {asked.principal}")
    raise SystemExit(OK if explanation.granted else DENIED)


def _say_attested(explanation: "Explanation") -> None:
    for one in explanation.attested:
        say(f"attested by {one.by}, good until {spell_time(one.good_until)}")


def _say_route(explanation: "Explanation") -> None:
    say(f"the way from {explanation.held}:")
    for number, rung in enumerate(explanation.route, 1):
        needs = "; ".join(rung.needs) or "nothing more"
        ttl = format_duration(rung.ttl)
        most = "; ".join((f"{ttl} at most", *rung.limits))
        say(f"  {number}. {rung.to_profile} on {rung.trigger}, {most}, needs {needs}")


def _explanation_body(explanation: "Explanation") -> dict[str, Json]:
    unmet: list[Json] = [{**one.body(), "message": one.message} for one in explanation.unmet]
    route: list[Json] = [
        {
            "rule": rung.rule,
            "from": rung.from_profile,
            "to": rung.to_profile,
            "trigger": rung.trigger,
            "ttl": format_duration(rung.ttl),
            "needs": list(rung.needs),
            "limits": list(rung.limits),
        }
        for rung in explanation.route
    ]
    return {
        "ok": explanation.granted,
        "held": explanation.held,
        "rule": explanation.rule,
        "expires_at": format_at(explanation.expires_at) if explanation.expires_at else None,
        "clipped_by": explanation.clipped_by,
        "limits": list(explanation.limits),
        "attested": [attested_body(one) for one in explanation.attested],
        "unmet": unmet,
        "route": route,
    }


@click.command(cls=Command)
@click.argument("lease", shell_complete=complete_lease)
@backing_options
@key_options
@once_option
@click.pass_obj
def renew(settings: Settings, /, lease: str, **given: Any) -> None:
    """Ask for a later end of LEASE, the topmost one; its rule decides again."""
    from vmstate.decisions.command import Renew, make_command

    authority = settings.authority()
    key = read_key(given)
    if given["who"] is None and given["request_file"] is None:
        given["who"] = key_owner(authority, given, key) or lease_holder(authority, lease)
    fields = {**_backing(authority, given, key), "lease": lease}
    receipt = authority.submit(authority.ordered(make_command(Renew, fields), key))
    answer(receipt, settings, spell_grant(receipt))


@click.command(cls=Look)
@click.argument("who")
@click.argument("what")
@click.pass_obj
def may(settings: Settings, who: str, what: str) -> None:
    """Answer whether WHO may now do WHAT, a profile or an act: exits 0 for yes, 3 for no."""
    door = settings.authority()
    allowed = door.may(who, what)
    if settings.json:
        emit({"ok": allowed, "principal": who, "what": what, "may": allowed})
    else:
        click.echo("yes" if allowed else "no")
    if not allowed:
        _say_unknown(door, what)
    raise SystemExit(OK if allowed else DENIED)


def _say_unknown(door: "Door", what: str) -> None:
    from vmstate.constitution.facts import did_you_mean

    document = door.constitution.document
    known = (*document.profiles, *document.acts)
    if what not in known:
        say(f"{what} is no profile and no act of this constitution{did_you_mean(what, known)}")


def _leave_open(
    settings: Settings, door: "Door", asked: Any, key: "Signer | None", *, follow: bool
) -> None:
    from vmstate.interfaces.cli.requests import leave_open

    if asked.renew_parent:
        raise click.UsageError(
            "--renew-parent goes with vmstate request activate: leave it out here."
        )
    prepared = asked.request or door.prepare(
        asked.principal,
        asked.to,
        trigger=asked.trigger,
        reason=asked.reason,
        facts=asked.facts,
        ttl=asked.ttl,
    )
    statements = (*asked.approvals, *asked.attestations)
    once = asked.idempotency_key
    leave_open(settings, door, prepared, statements, follow=follow, key=key, once=once)


def asked_for(
    door: "Door", profile: str, given: dict[str, Any], key: "Signer | None"
) -> "Escalate":
    """The climb that was typed."""
    from vmstate.decisions.command import Escalate, make_command

    fields = _backing(door, given, key)
    request = fields["request"]
    trigger = given["trigger"] or (request.trigger if request else DEFAULT_TRIGGER)
    fields |= {"to": profile, "trigger": trigger, "renew_parent": given["renew_parent"]}
    return make_command(Escalate, fields)


def _backing(door: "Door", given: dict[str, Any], key: "Signer | None") -> dict[str, Any]:
    """The fields of a command; what was not said is taken from the prepared request, if any."""
    file = given["request_file"]
    request = None if file is None else read_prepared(file)
    facts = read_facts(given["facts"])
    ttl = read_ttl(given["ttl"])
    who, reason = given["who"], given["reason"]
    if request is not None:
        who, facts = who or request.principal, facts or dict(request.facts)
        reason = request.reason if reason is None else reason
        if ttl is None and request.ttl_us is not None:
            ttl = timedelta(microseconds=request.ttl_us)
    return {
        "principal": signs_as(door, {**given, "who": who}, key),
        "reason": reason or "",
        "idempotency_key": given.get("once"),
        "facts": facts,
        "ttl": ttl,
        "request": request,
        "approvals": read_statements(given["approvals"]),
        "attestations": read_statements(given["attestations"]),
    }

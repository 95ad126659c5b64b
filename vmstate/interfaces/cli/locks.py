"""`lock`, `unlock`: ending at once what somebody or everybody holds, and refusing more."""

from typing import TYPE_CHECKING, Any

import click

from vmstate.canonical import Json, format_at
from vmstate.interfaces.cli.asking import key_options, read_key, shown_by, signs_as
from vmstate.interfaces.cli.options import (
    complete_lock,
    complete_profile,
    once_option,
    read_ttl,
)
from vmstate.interfaces.cli.output import answer, count, emit, say, spell_time, table
from vmstate.interfaces.cli.settings import (
    Group,
    Look,
    Return,
    Settings,
    named,
    principal_option,
)
from vmstate.leases.lock import SWEPT_AT_ONCE

if TYPE_CHECKING:
    from vmstate.door import Door
    from vmstate.keys import Signer
    from vmstate.leases.lock import Lock
    from vmstate.leases.watermark import SetBack
    from vmstate.ledger.receipt import Receipt


@click.group(cls=Group, invoke_without_command=True)
@click.option("--principal", metavar="NAME", help="Lock one person, under each of their names.")
@click.option(
    "--profile",
    metavar="PROFILE",
    shell_complete=complete_profile,
    help="Lock a profile, and those that include it.",
)
@click.option("--all", "everybody", is_flag=True, help="Lock everybody.")
@click.option("--ttl", help="For how long, such as 4h; by default until it is lifted.")
@click.option("--reason", default="", help="Why; everybody it refuses is told.")
@principal_option("Who locks.  [env: VMSTATE_PRINCIPAL]")
@key_options
@once_option
@click.pass_context
def lock(
    context: click.Context,
    /,
    principal: str | None,
    profile: str | None,
    ttl: str | None,
    reason: str,
    once: str | None,
    *,
    everybody: bool,
    **given: Any,
) -> None:
    """End at once what one person, a profile or everybody holds, and refuse more.

    Without --ttl until it is lifted: vmstate unlock. Lifting restores nothing.
    """
    if context.invoked_subcommand is not None:
        return
    settings = context.ensure_object(Settings)
    settings.returns = True
    if (principal is not None) + (profile is not None) + everybody != 1:
        raise click.UsageError("Name what to lock: one of --principal, --profile and --all.")
    key = read_key(given)
    _require_proof(settings, given, key, "locks nobody")
    authority = settings.authority()
    actor = signs_as(authority, given, key)
    receipt = authority.lock(
        actor,
        principal=principal,
        profile=profile,
        ttl=read_ttl(ttl),
        reason=reason,
        key=key,
        idempotency_key=once,
    )
    answer(receipt, settings, _locked(authority, receipt) if receipt.granted else "")


def _require_proof(
    settings: Settings, given: dict[str, Any], key: "Signer | None", does: str
) -> None:
    """Raise a usage error where nothing could prove who asks: a socket's caller has an account."""
    if settings.socket or key is not None:
        return
    named(given["who"])
    raise click.UsageError(f"Missing option '--key': a name alone {does}.")


def _locked(door: "Door", receipt: "Receipt") -> str:
    detail = receipt.fields["what"]["detail"]
    until = "it is lifted"
    if receipt.expires_at is not None:
        until = spell_time(receipt.expires_at)
    subject = detail["name"] or "everybody"
    said = f"{detail['lock']}: {subject} is locked until {until}"
    ended = shown_by(_ended_by, door, receipt)
    if ended is None:
        return f"{said}; what it covers is ended"
    if detail["scope"] == "principal" and not _is_known_by_name(door, subject):
        say(f"warning: {subject} held nothing, and only a wildcard knows the name: is it right?")
    more = ended >= SWEPT_AT_ONCE and bool(door.due(limit=1))
    return f"{said}; {count(ended, 'lease')} ended{', the receipts of more follow' if more else ''}"


def _is_known_by_name(door: "Door", name: str) -> bool:
    """Whether more than a wildcard knows `name`: a mistyped one would lock nobody."""
    people = door.constitution.people
    written = {one for patterns in people.groups.values() for one in patterns}
    held = door.receipts(principal=name, type_="profile_escalation", limit=1)
    return name in people.named or name in written or bool(held)


def _ended_by(door: "Door", receipt: "Receipt") -> int:
    """How many leases the lock ended: their receipts follow its own, those of many not at once."""
    ended, after, lock_id = 0, receipt.seq, receipt.fields["what"]["detail"]["lock"]
    while page := door.receipts(after=after):
        for one in page:
            detail = one.fields["what"]["detail"] or {}
            if one.type != "profile_deescalation" and ended < SWEPT_AT_ONCE:
                return ended
            ended += detail.get("lock") == lock_id
        after = page[-1].seq
    return ended


@lock.command("list", cls=Look)
@click.pass_obj
def list_locks(settings: Settings) -> None:
    """List the locks that stand, with who set them and why."""
    locks = settings.authority().locks()
    if settings.json:
        bodies: list[Json] = [lock_body(one) for one in locks]
        emit({"ok": True, "locks": bodies})
        return
    rows = [
        (
            one.id,
            one.subject,
            "" if one.until is None else spell_time(one.until.wall),
            one.by,
            one.reason,
        )
        for one in locks
    ]
    table(("LOCK", "ON", "UNTIL", "BY", "REASON"), rows)


def lock_body(lock: "Lock") -> dict[str, Json]:
    """A lock that stands, for `--json`."""
    return {
        "lock": lock.id,
        "scope": lock.scope,
        "name": lock.name or None,
        "by": lock.by,
        "reason": lock.reason,
        "locked_at": format_at(lock.locked.wall),
        "until": None if lock.until is None else format_at(lock.until.wall),
    }


def set_back_body(back: "SetBack | None") -> Json:
    """A clock that was set back, for `--json`."""
    if back is None:
        return None
    return {"seen": format_at(back.seen), "reads": format_at(back.reads), "after": back.after}


@click.command(cls=Return)
@click.argument("lock", shell_complete=complete_lock)
@click.option("--reason", default="", help="Why; goes into the receipt.")
@principal_option("Who lifts it.  [env: VMSTATE_PRINCIPAL]")
@key_options
@once_option
@click.pass_obj
def unlock(settings: Settings, /, lock: str, reason: str, once: str | None, **given: Any) -> None:
    """Lift LOCK, which vmstate lock list names. What it ended stays ended."""
    key = read_key(given)
    _require_proof(settings, given, key, "lifts no lock")
    door = settings.authority()
    actor = signs_as(door, given, key)
    receipt = door.unlock(actor, lock, reason=reason, key=key, idempotency_key=once)
    answer(receipt, settings, f"{lock} is lifted; what it ended stays ended")

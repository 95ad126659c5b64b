"""`release`, `revoke`: ending a lease, and what fell with it."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from vmstate.canonical import Json
from vmstate.interfaces.cli.asking import (
    key_options,
    key_owner,
    lease_holder,
    read_key,
    require_lease,
    shown_by,
    signs_as,
)
from vmstate.interfaces.cli.options import complete_lease, ending_option, once_option
from vmstate.interfaces.cli.output import answer, emit, receipt_body, say
from vmstate.interfaces.cli.settings import Return, Settings, named, principal_option
from vmstate.leases.lease import PARENT_ENDED

if TYPE_CHECKING:
    from vmstate.door import Door
    from vmstate.ledger.receipt import Receipt


@click.command(cls=Return)
@click.argument("lease", shell_complete=complete_lease)
@principal_option("Whose lease it is; by default its holder's.  [env: VMSTATE_PRINCIPAL]")
@key_options
@ending_option("operator_release")
@click.option("--reason", default="", help="Why; goes into the receipt.")
@once_option
@click.pass_obj
def release(
    settings: Settings, /, lease: str, ending: str, reason: str, once: str | None, **given: Any
) -> None:
    """Give LEASE back, and with it what stands on it."""
    authority = settings.authority()
    key = read_key(given)
    who = key_owner(authority, given, key) or lease_holder(authority, lease)
    receipt = authority.release(
        who, lease, key=key, ending=ending, reason=reason, idempotency_key=once
    )
    _answer(settings, authority, lease, receipt)


@click.command(cls=Return)
@click.argument("lease", shell_complete=complete_lease)
@principal_option("Who revokes.  [env: VMSTATE_PRINCIPAL]")
@key_options
@ending_option("sovereign_revoke")
@click.option("--reason", default="", help="Why; goes into the receipt.")
@once_option
@click.pass_obj
def revoke(
    settings: Settings, /, lease: str, ending: str, reason: str, once: str | None, **given: Any
) -> None:
    """End LEASE, whoever holds it. Takes a signature: a name alone ends nobody's lease."""
    key = read_key(given)
    if not settings.socket and key is None:
        named(given["who"])
        raise click.UsageError("Missing option '--key': a name alone ends nobody's lease.")
    authority = settings.authority()
    actor = signs_as(authority, given, key)
    if not settings.socket:
        require_lease(authority, lease)  # a socket's answer says of nobody's lease that it is one
    receipt = authority.revoke(
        actor, lease, key=key, ending=ending, reason=reason, idempotency_key=once
    )
    _answer(settings, authority, lease, receipt)


def _answer(settings: Settings, door: "Door", lease: str, receipt: "Receipt") -> None:
    """Say all that ended, what was named first: it may have stood on others, or carried them."""
    if not receipt.granted:
        answer(receipt, settings, "")
        return
    # Who may read nothing is told of the receipt that they were answered with.
    fell = shown_by(_fell, door, receipt) or (receipt,)
    ended = sorted(fell, key=lambda one: one.lease != lease)
    if settings.json:
        bodies: list[Json] = [{"lease": one.lease, "receipt": one.seq} for one in ended]
        emit({**receipt_body(receipt), "ended": bodies})
        return
    click.echo(_spell(lease, receipt, ended))
    for one in ended:
        say(f"  receipt {one.seq}  {one.id}")


def _spell(lease: str, receipt: "Receipt", ended: "Sequence[Receipt]") -> str:
    said = receipt.fields
    others = [str(one.lease) for one in ended if one.lease != lease]
    along = f", {' and '.join(others)} with it" if others else ""
    ending, who = said["what"]["ending"], said["who"]["principal"]
    return f"{lease} ended by {ending}{along}: {who} is {receipt.profile}"


def _fell(door: "Door", answered: "Receipt") -> "tuple[Receipt, ...]":
    """The receipts of one fall, in their order; `answered` is of the lowest lease that ended.

    They stand in a row, and each lease stood on the next one's.
    """
    ending = answered.fields["what"]["ending"]
    table = door.constitution.document.endings.get(ending)
    above = ending if table is not None and table.to == "baseline" else PARENT_ENDED
    fell = [answered]
    while fell[0].seq > 0:
        before = door.receipt(fell[0].seq - 1)
        what, of = before.fields["what"], (before.type, before.at, before.fields["who"])
        same = of == (answered.type, answered.at, answered.fields["who"])
        if not same or (what["parent"], what["ending"]) != (fell[0].lease, above):
            break
        fell.insert(0, before)
    return tuple(fell)

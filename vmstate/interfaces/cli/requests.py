"""`request …`: requests that were left open, for those who ask and those who sign."""

import re
import sys
import termios
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vmstate.canonical import Json, check_name, parse_duration
from vmstate.errors import InputError
from vmstate.interfaces.cli.asking import key_options, key_owner, read_key, shown_by, signs_as
from vmstate.interfaces.cli.following import follow_request
from vmstate.interfaces.cli.options import (
    complete_request,
    once_option,
    passphrase_option,
    read_prepared,
    read_signer,
    read_statements,
    write_file,
)
from vmstate.interfaces.cli.output import (
    answer,
    emit,
    receipt_body,
    say,
    spell_grant,
    spell_time,
    table,
)
from vmstate.interfaces.cli.pending import (
    pending_body,
    say_pending,
    short_id,
    spell_wanted,
    state_lines,
)
from vmstate.interfaces.cli.settings import (
    BLOCKED,
    Command,
    Look,
    Return,
    Settings,
    asker,
    principal_option,
    required,
)
from vmstate.interfaces.cli.statements import check_signs, owner_of, request, request_lines

if TYPE_CHECKING:
    from vmstate.decisions.showing import Pending
    from vmstate.door import Door
    from vmstate.keys import Signer
    from vmstate.ledger.receipt import Receipt
    from vmstate.signing import Approval, Attestation, Request, Signed


# ---- asking -----------------------------------------------------------------------------------


@request.command("open", cls=Command)
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--follow", is_flag=True, help="Wait, and climb as soon as nothing is missing.")
@key_options
@once_option
@click.pass_obj
def open_(
    settings: Settings, /, file: Path, once: str | None, *, follow: bool, **given: Any
) -> None:
    """Ask for what FILE says, and leave it open if only signatures are missing.

    Exits 0 if it was granted, 4 if it was left open, 3 if it was denied.
    """
    prepared = read_prepared(file)
    key = read_key(given)
    leave_open(settings, settings.authority(), prepared, (), follow=follow, key=key, once=once)


def leave_open(
    settings: Settings,
    door: "Door",
    prepared: "Request",
    statements: "Sequence[Signed]",
    *,
    follow: bool,
    key: "Signer | None",
    once: str | None,
) -> None:
    """Open `prepared`, hand in `statements`, and say what is still missing; see `open_`."""
    receipt = door.open_request(prepared, key=key, idempotency_key=once)
    if receipt.type != "request":
        answer(receipt, settings, spell_grant(receipt))
        return
    for signed in statements:
        door.hand_in(prepared.id, signed).raise_for_denial()
    if follow:
        say_pending(door.request(prepared.id))
        answer(
            receipt := follow_request(settings, door, prepared, key), settings, spell_grant(receipt)
        )
        return
    shown = shown_by(door.request, prepared.id)
    if settings.json:
        waiting = None if shown is None else pending_body(shown)
        missing = () if shown is None else (one.message for one in shown.missing)
        said = {"ok": False, "message": "; ".join(missing) or None, "request": waiting}
        emit({**receipt_body(receipt), **said})
    else:
        # Who may read nothing has to name it whole from here on.
        click.echo(prepared.id if shown is None else short_id(shown))
        if shown is not None:
            say_pending(shown)
        say(f"  {receipt.place}  {receipt.id}")
    raise SystemExit(BLOCKED)


@request.command(cls=Command)
@click.argument("id_", metavar="ID", shell_complete=complete_request)
@principal_option("Whose request it is; by default its principal's.  [env: VMSTATE_PRINCIPAL]")
@click.option("--renew-parent", is_flag=True, help="Renew the lease below in the same breath.")
@key_options
@once_option
@click.pass_obj
def activate(
    settings: Settings, /, id_: str, once: str | None, *, renew_parent: bool, **given: Any
) -> None:
    """Climb by a request that is complete; the lease's time counts from now."""
    door, key = settings.authority(), read_key(given)
    whole, shown = _look_up(door, id_)
    holder = _holder(door, shown, key_owner(door, given, key))
    receipt = door.activate(holder, whole, key=key, renew_parent=renew_parent, idempotency_key=once)
    answer(receipt, settings, spell_grant(receipt))


@request.command(cls=Return)
@click.argument("id_", metavar="ID", shell_complete=complete_request)
@principal_option("Whose request it is; by default its principal's.  [env: VMSTATE_PRINCIPAL]")
@click.option("--reason", default="", help="Why; goes into the receipt.")
@key_options
@once_option
@click.pass_obj
def withdraw(settings: Settings, /, id_: str, reason: str, once: str | None, **given: Any) -> None:
    """End a request of one's own."""
    door, key = settings.authority(), read_key(given)
    whole, shown = _look_up(door, id_)
    holder = _holder(door, shown, key_owner(door, given, key))
    receipt = door.withdraw(holder, whole, key=key, reason=reason, idempotency_key=once)
    answer(receipt, settings, f"{short_id(whole)} is withdrawn")


def _look_up(door: "Door", id_: str) -> "tuple[str, Pending | None]":
    """The whole id of a request and what may be shown of it: nothing to a stranger at a socket.

    Raises:
        InputError: a stranger named it by a part of its id.
    """
    shown = shown_by(door.request, id_)
    if shown is not None:
        return shown.id, shown
    if re.fullmatch("sha256:[0-9a-f]{64}", id_) is None:
        raise InputError(
            f"{id_} can't be looked up by an account that is nobody here: write the id whole, "
            "sha256: and 64 digits"
        )
    return id_, None


def _holder(door: "Door", shown: "Pending | None", who: str | None) -> str:
    """Who asks: the host vouches for whoever can open the ledger, a socket for its caller."""
    if who is None and shown is not None and not door.names:
        return shown.request.principal
    return asker(door, who)


# ---- looking ----------------------------------------------------------------------------------


@request.command("list", cls=Look)
@click.option("--of", "principal", metavar="NAME", help="Those of NAME alone.")
@click.option("--all", "everything", is_flag=True, help="Those that are over as well.")
@click.pass_obj
def list_requests(settings: Settings, principal: str | None, *, everything: bool) -> None:
    """List the requests that are open."""
    found = settings.authority().requests(principal, open_only=not everything)
    if settings.json:
        bodies: list[Json] = [pending_body(one) for one in found]
        emit({"ok": True, "requests": bodies})
        return
    rows = [
        (
            short_id(one),
            one.request.principal,
            spell_wanted(one.request),
            one.state,
            spell_time(one.good_until),
            "; ".join(unmet.message for unmet in one.missing),
        )
        for one in found
    ]
    table(("REQUEST", "WHO", "FOR", "STATE", "UNTIL", "MISSING"), rows)


@request.command(cls=Look)
@click.argument("id_", metavar="ID", shell_complete=complete_request)
@click.option("--statement", is_flag=True, help="Write the bytes that --as would sign, to -o.")
@click.option("--attest", is_flag=True, help="Those of an attestation, not of an approval.")
@click.option("--as", "who", metavar="NAME", help="Who would sign.")
@click.option("--for", "for_", help="How long it would be good; by default as long as of use.")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="The file to write.")
@click.pass_obj
def show(settings: Settings, /, id_: str, output: Path | None, **given: Any) -> None:
    """Show all of a request: what its approvers sign, what is missing, how long it would last."""
    door = settings.authority()
    shown = door.request(id_)
    if settings.json:
        emit({"ok": True, **pending_body(shown)})
    else:
        for line in (*request_lines(shown.request), *state_lines(shown)):
            click.echo(line)
    if not given["statement"]:
        return
    if output is None:
        raise click.UsageError("Missing option '-o': name the file to write.")
    by = check_name(required(given["who"], "--as", "say who would sign"))
    write_file(output, _statement(door, shown, by, given).bytes())
    say(f"next: sign {output} as it is,")
    say(f"  openssl pkeyutl -sign -rawin -inkey KEY -in {output} -out SIGNATURE")
    say(f"  or ssh-keygen -Y sign -n vmstate -f KEY {output}")
    say(f"then: vmstate sign {output} --signature SIGNATURE -o FILE")
    verb, option = ("attest", "attestation") if given["attest"] else ("approve", "approval")
    say(f"and: vmstate request {verb} {short_id(shown)} --{option} FILE")


def _statement(
    door: "Door", shown: "Pending", by: str, given: dict[str, Any]
) -> "Approval | Attestation":
    from vmstate.signing import approval, attestation

    after = door.signing_after()
    if given["attest"]:
        return attestation(shown.request, by, at=door.signing_at(), after=after)
    for_ = given["for_"]
    until = door.good_until(shown) if for_ is None else door.signing_at() + parse_duration(for_)
    return approval(shown.request, by, expires_at=until, after=after)


# ---- signing ----------------------------------------------------------------------------------


@request.command(cls=Command)
@click.argument("id_", metavar="ID", shell_complete=complete_request)
@click.option("--key", "key_file", type=click.Path(path_type=Path), help="Your key file.")
@passphrase_option
@click.option("--as", "who", metavar="NAME", help="Who signs; by default whose key it is.")
@click.option("--for", "for_", help="How long it is good; by default as long as it is of use.")
@click.option(
    "--approval", "file", type=click.Path(path_type=Path), help="What was signed elsewhere."
)
@click.option("--reason", default="", help="Goes into the receipt, beside the signature.")
@click.option("--yes", is_flag=True, help="Sign without being asked at the terminal.")
@once_option
@click.pass_obj
def approve(settings: Settings, /, id_: str, once: str | None, *, yes: bool, **given: Any) -> None:
    """Approve a request with your key, or hand in what was signed elsewhere.

    What is signed is shown on standard error: read it. At a terminal you are asked before it is.
    """
    door = settings.authority()
    if given["file"] is not None:
        _hand_in(settings, door, id_, given, once)
        return
    shown = door.request(id_)
    key, by = _signer(door, given)
    _say_signed(shown, f"{by} approves:")
    _ask_first(yes=yes)
    for_ = None if given["for_"] is None else parse_duration(given["for_"])
    receipt = door.approve(
        shown.id, by, key, good_for=for_, reason=given["reason"], idempotency_key=once
    )
    _say_taken(settings, door, receipt, shown.id)


@request.command(cls=Command)
@click.argument("id_", metavar="ID", shell_complete=complete_request)
@click.option("--key", "key_file", type=click.Path(path_type=Path), help="The sensor's key file.")
@passphrase_option
@click.option("--as", "who", metavar="NAME", help="Who attests; by default whose key it is.")
@click.option(
    "--attestation", "file", type=click.Path(path_type=Path), help="What was signed elsewhere."
)
@click.option("--reason", default="", help="Goes into the receipt, beside the signature.")
@once_option
@click.pass_obj
def attest(settings: Settings, /, id_: str, once: str | None, **given: Any) -> None:
    """Attest a request's facts as seen now, or hand in what was signed elsewhere."""
    door = settings.authority()
    if given["file"] is not None:
        _hand_in(settings, door, id_, given, once)
        return
    shown = door.request(id_)
    key, by = _signer(door, given)
    _say_signed(shown, f"{by} attests the facts of:")
    receipt = door.attest(shown.id, by, key, reason=given["reason"], idempotency_key=once)
    _say_taken(settings, door, receipt, shown.id)


def _hand_in(
    settings: Settings, door: "Door", id_: str, given: dict[str, Any], once: str | None
) -> None:
    """Hand in what was signed elsewhere: whoever carries it need not be anybody here."""
    (signed,) = read_statements((given["file"],))
    whole, _ = _look_up(door, id_)
    receipt = door.hand_in(whole, signed, reason=given["reason"], idempotency_key=once)
    _say_taken(settings, door, receipt, whole)


@request.command(cls=Return)
@click.argument("id_", metavar="ID", shell_complete=complete_request)
@principal_option("Who denies it; by default whose key it is.  [env: VMSTATE_PRINCIPAL]")
@key_options
@click.option("--reason", default="", help="Why; goes into the receipt.")
@once_option
@click.pass_obj
def deny(settings: Settings, /, id_: str, once: str | None, **given: Any) -> None:
    """End a request, as anybody who might have approved it; one denial is enough."""
    door, key = settings.authority(), read_key(given)
    whole, _ = _look_up(door, id_)
    actor = signs_as(door, given, key)
    reason = given["reason"]
    receipt = door.deny(actor, whole, key=key, reason=reason, idempotency_key=once)
    answer(receipt, settings, f"{short_id(whole)} is denied")


def _signer(door: "Door", given: dict[str, Any]) -> tuple[Any, str]:
    """The key, and who signs with it."""
    key_file = given["key_file"]
    if key_file is None:
        raise click.UsageError("Missing option '--key'.")
    key = read_signer(key_file, given["passphrase_file"])
    who, keys = given["who"], door.constitution.people.keys
    if who is None:
        return key, owner_of(keys, key.public, key_file)
    check_signs(keys, check_name(who), key.public, key_file)
    return key, who


def _say_signed(shown: "Pending", heading: str) -> None:
    say(heading)
    for line in (*request_lines(shown.request), *state_lines(shown)):
        say(line)


def _ask_first(*, yes: bool) -> None:
    """Whoever sits at the terminal has to have read it; a program has nobody to ask."""
    if yes or not sys.stdin.isatty():
        return
    with suppress(OSError, termios.error):
        termios.tcflush(sys.stdin, termios.TCIFLUSH)  # typed before it was shown is no answer
    click.confirm("sign it?", abort=True, err=True)


def _say_taken(settings: Settings, door: "Door", receipt: "Receipt", id_: str) -> None:
    """What a statement that was taken leaves missing; exits 3 if it was not taken."""
    from vmstate.decisions.pending import is_call

    said = f"taken for {short_id(id_)}" if receipt.granted else ""
    now = shown_by(door.request, id_) if receipt.granted else None
    if now is not None:
        until = spell_time(now.good_until)
        what = "may be activated" if now.is_ready else "waits for more"
        if now.state == "complete" and is_call(now.request):
            what = "lets the call be made"
        said = f"{short_id(id_)} is {now.state}: it {what} until {until}"
    answer(receipt, settings, said)

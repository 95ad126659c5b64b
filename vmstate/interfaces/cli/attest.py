"""`attest`: what a sensor sees, pushed before anybody asks for anything."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vmstate.canonical import Json, check_name, format_at, parse_at
from vmstate.interfaces.cli.asking import key_options, read_key, signs_as
from vmstate.interfaces.cli.options import once_option, read_facts, read_statements, write_file
from vmstate.interfaces.cli.output import answer, emit, say, spell_time, table
from vmstate.interfaces.cli.settings import (
    Group,
    Look,
    Settings,
    named,
    principal_option,
    required,
)

if TYPE_CHECKING:
    from vmstate.decisions.pushing import Attested
    from vmstate.ledger.receipt import Receipt
    from vmstate.signing import Attestation


@click.group(cls=Group, invoke_without_command=True)
@click.option("--principal", metavar="NAME", help="Whom it is about.")
@click.option("--fact", "facts", multiple=True, metavar="NAME=VALUE", help="All that is seen.")
@click.option(
    "--attestation", "file", type=click.Path(path_type=Path), help="What was signed elsewhere."
)
@click.option(
    "--statement",
    type=click.Path(path_type=Path),
    help="Push nothing: write the bytes that --as would sign to this file.",
)
@click.option("--reason", default="", help="Goes into the receipt, beside the signature.")
@principal_option("Which sensor; by default whose key it is.  [env: VMSTATE_PRINCIPAL]")
@key_options
@once_option
@click.pass_context
def attest(
    context: click.Context,
    /,
    principal: str | None,
    facts: tuple[str, ...],
    file: Path | None,
    statement: Path | None,
    once: str | None,
    **given: Any,
) -> None:
    """Sign what a sensor sees of somebody now, and push it ahead of any request.

    It stands until it is too old, and what they ask for meanwhile may rest on it, once. Of each
    sensor the newest about each of them stands: state all that is seen together.
    """
    if context.invoked_subcommand is not None:
        return
    settings = context.ensure_object(Settings)
    if file is not None:
        if principal or facts or statement or given["key_file"]:
            raise click.UsageError("--attestation holds all of it: leave the other options out.")
        (signed,) = read_statements((file,))
        door = settings.authority()
        receipt = door.push_signed(signed, reason=given["reason"], idempotency_key=once)
        answer(receipt, settings, _pushed(receipt) if receipt.granted else "")
        return
    about, seen = (
        check_name(required(principal, "--principal", "say whom it is about")),
        read_facts(facts),
    )
    if not seen:
        raise click.UsageError("Missing option '--fact': say what is seen.")
    if statement is not None:
        door = settings.authority()
        by = check_name(named(given["who"]))
        _write(settings, door.prepare_attestation(by, about, seen), statement)
        return
    key = read_key(given)
    if key is None:
        raise click.UsageError("Missing option '--key': a name alone attests nothing.")
    door = settings.authority()
    by = signs_as(door, given, key)
    receipt = door.push(by, about, seen, key, reason=given["reason"], idempotency_key=once)
    answer(receipt, settings, _pushed(receipt) if receipt.granted else "")


def _pushed(receipt: "Receipt") -> str:
    said = receipt.fields
    who, until = said["who"], parse_at(said["what"]["detail"]["good_until"])
    names = ", ".join(sorted(said["authority"]["facts"]))
    return f"{who['actor']} attests {names} of {who['principal']}, good until {spell_time(until)}"


def _write(settings: Settings, statement: "Attestation", output: Path) -> None:
    """The bytes to be signed, and not one more; they grow old from now on."""
    write_file(output, statement.bytes())
    if settings.json:
        emit({"ok": True, "file": str(output), "statement": statement.id})
    say(f"next: sign {output} as it is,")
    say(f"  openssl pkeyutl -sign -rawin -inkey KEY -in {output} -out SIGNATURE")
    say(f"  or ssh-keygen -Y sign -n vmstate -f KEY {output}")
    say(f"then: vmstate sign {output} --signature SIGNATURE -o FILE")
    say("and: vmstate attest --attestation FILE")


@attest.command("list", cls=Look)
@click.option("--of", "principal", metavar="NAME", help="What was attested of NAME alone.")
@click.pass_obj
def list_attested(settings: Settings, principal: str | None) -> None:
    """List what sensors pushed that would count now; the values are in its receipts."""
    found = settings.authority().attested(principal)
    if settings.json:
        bodies: list[Json] = [attested_body(one) for one in found]
        emit({"ok": True, "attested": bodies})
        return
    rows = [
        (
            one.by,
            one.principal,
            ", ".join(one.facts),
            spell_time(one.good_until),
            str(one.receipt),
        )
        for one in found
    ]
    table(("BY", "OF", "FACTS", "UNTIL", "RECEIPT"), rows)


def attested_body(attested: "Attested") -> dict[str, Json]:
    """An attestation that stands, for `--json`."""
    return {
        "by": attested.by,
        "principal": attested.principal,
        "facts": list(attested.facts),
        "seen_at": format_at(attested.seen_at),
        "good_until": format_at(attested.good_until),
        "receipt": attested.receipt,
    }

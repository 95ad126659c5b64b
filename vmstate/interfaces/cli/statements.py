"""`request new`, `sign`, `keys new`: what people write down and put their names to."""

from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import click

from vmstate.canonical import Json, check_name, encode, format_duration, parse_duration
from vmstate.errors import ConstitutionError, InputError
from vmstate.interfaces.cli.options import (
    complete_profile,
    complete_trigger,
    read_facts,
    read_prepared,
    read_ttl,
    write_file,
)
from vmstate.interfaces.cli.output import emit, say
from vmstate.interfaces.cli.settings import Command, Group, Settings, principal_option, required

if TYPE_CHECKING:
    from vmstate.keys import PublicKey
    from vmstate.signing import Request

SIGNED_FOR = "15m"


@click.group(cls=Group)
def request() -> None:
    """Write a request down, so that others can sign it."""


@request.command("new", cls=Command)
@click.argument("profile", shell_complete=complete_profile)
@principal_option("Who will ask.  [env: VMSTATE_PRINCIPAL]")
@click.option(
    "--trigger",
    default="operator_request",
    show_default=True,
    shell_complete=complete_trigger,
    help="What calls for it.",
)
@click.option("--reason", default="", help="Why; the approver signs it too.")
@click.option("--fact", "facts", multiple=True, metavar="NAME=VALUE")
@click.option("--ttl", help="For how long, such as 15m; by default the rule's.")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="The file to write.")
@click.pass_obj
def new_request(
    settings: Settings,
    profile: str,
    who: str | None,
    trigger: str,
    reason: str,
    facts: tuple[str, ...],
    ttl: str | None,
    output: Path | None,
) -> None:
    """Prepare a request for PROFILE: nothing is asked yet, and nothing written to the ledger."""
    prepared = settings.authority().prepare(
        required(who, "--as"),
        profile,
        trigger=trigger,
        reason=reason,
        facts=read_facts(facts),
        ttl=read_ttl(ttl),
    )
    write_or_print(settings, encode(prepared.body()), output, {"request": prepared.id})
    _say_request(prepared)
    say("next: have it signed, vmstate sign FILE --as APPROVER --key KEY")


def write_or_print(
    settings: Settings, data: bytes, output: Path | None, said: Mapping[str, Json]
) -> None:
    """A statement to its file, or to standard output where none is named: it is JSON itself."""
    if output is None:
        click.echo(data.decode())
        return
    write_file(output, data + b"\n")
    if settings.json:
        emit({"ok": True, "file": str(output), **said})


@click.command(cls=Command)
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--key", "key_file", required=True, type=click.Path(path_type=Path), help="Your private key."
)
@click.option(
    "--as", "who", metavar="NAME", help="Who signs; by default whose key it is by the constitution."
)
@click.option("--attest", is_flag=True, help="Attest the request's facts instead of approving it.")
@click.option("--for", "for_", default=SIGNED_FOR, show_default=True, help="How long it is good.")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="The file to write.")
@click.pass_obj
def sign(
    settings: Settings,
    file: Path,
    key_file: Path,
    who: str | None,
    for_: str,
    output: Path | None,
    *,
    attest: bool,
) -> None:
    """Approve the prepared request in FILE, or attest its facts. Needs no ledger.

    What is signed is shown on standard error: read it.
    """
    from vmstate import signing
    from vmstate.clock import SystemClock
    from vmstate.keys import PrivateKey

    prepared = read_prepared(file)
    key = PrivateKey.load(key_file)
    by = check_name(who) if who is not None else _owner(settings, key.public)
    now = SystemClock().read().wall
    if attest:
        if not prepared.facts:
            raise InputError(f"{file} states no facts: there is nothing to attest")
        signed = signing.attest(prepared, by, key, at=now)
        verb = "attests the facts of"
    else:
        signed = signing.approve(prepared, by, key, expires_at=now + parse_duration(for_))
        verb = "approves"
    write_or_print(settings, encode(signed.body()), output, {"statement": signed.statement.id})
    say(f"{by} {verb}:")
    _say_request(prepared)


def _say_request(prepared: "Request") -> None:
    if prepared.to is None:
        say(f"  {prepared.principal} says that the clock is right, although it reads early")
    else:
        say(f"  {prepared.principal} to {prepared.to} on {prepared.trigger}")
        ttl = prepared.ttl_us
        lasts = "as long as the rule allows" if ttl is None else format_duration(_from_us(ttl))
        say(f"  for        {lasts}")
    say(f"  reason     {prepared.reason or '(none)'}")
    for name, value in sorted(prepared.facts.items()):
        say(f"  fact       {name} = {value}")
    say(f"  ledger     {prepared.origin}")
    say(f"  law        {prepared.constitution}")
    say(f"  request    {prepared.id}")


def _from_us(us: int) -> timedelta:
    return timedelta(microseconds=us)


def _owner(settings: Settings, key: "PublicKey") -> str:
    """Whose key this is by the constitution; one key has one name there."""
    try:
        keys = settings.law().people.keys
    except ConstitutionError as error:
        raise click.UsageError(f"Missing option '--as': {error.problems[0]}") from error
    for name, known in keys.items():
        if known == key:
            return name
    raise click.UsageError("Missing option '--as': the constitution gives this key to nobody.")


@click.group(cls=Group)
def keys() -> None:
    """Make keys for people."""


@keys.command("new", cls=Command)
@click.argument("name")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="The key file to write.")
@click.pass_obj
def new_key(settings: Settings, name: str, output: Path | None) -> None:
    """Make a key for NAME, and print the lines that the constitution needs.

    The private key goes to a file that only you can read; give nobody that file.
    """
    from vmstate.keys import PrivateKey

    check_name(name)
    path = output or Path(f"{''.join(c if c.isalnum() else '-' for c in name)}.key")
    key = PrivateKey.generate()
    key.save(path)
    if settings.json:
        emit({"ok": True, "name": name, "key": str(key.public), "file": str(path)})
        return
    click.echo(f'[principals."{name}"]\nkey = "{key.public}"')
    say(f"the private key is in {path}: keep it, and give it to nobody")

"""`request new`, `sign`: what people write down and put their names to."""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vmstate.canonical import Json, check_name, encode, format_duration, parse_duration
from vmstate.errors import ConstitutionError, InputError
from vmstate.interfaces.cli.options import (
    complete_profile,
    complete_trigger,
    fact_option,
    passphrase_option,
    read_facts,
    read_file,
    read_named,
    read_prepared,
    read_signer,
    read_ttl,
    write_file,
)
from vmstate.interfaces.cli.output import emit, say
from vmstate.interfaces.cli.settings import (
    Command,
    Group,
    Look,
    Settings,
    asker,
    principal_option,
    required,
)

if TYPE_CHECKING:
    from vmstate.keys import PublicKey
    from vmstate.signing import Approval, Attestation, Request

SIGNED_FOR = "15m"


@click.group(cls=Group)
def request() -> None:
    """Write a request down, leave it open, sign it, and climb by it."""


@request.command("new", cls=Look)
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
@fact_option
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
    door = settings.authority()
    prepared = door.prepare(
        asker(door, who),
        profile,
        trigger=trigger,
        reason=reason,
        facts=read_facts(facts),
        ttl=read_ttl(ttl),
    )
    write_or_print(settings, encode(prepared.body()), output, {"request": prepared.id})
    _say_request(prepared)
    say(f"next: have it signed, vmstate sign {output or 'FILE'} --as APPROVER --key KEY")


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
    "--key",
    "key_file",
    type=click.Path(path_type=Path),
    help="Your key file: vmstate's, openssl's or OpenSSH's; a .pub for a key in an agent.",
)
@passphrase_option
@click.option(
    "--as", "who", metavar="NAME", help="Who signs; by default whose key it is by the constitution."
)
@click.option("--attest", is_flag=True, help="Attest the request's facts instead of approving it.")
@click.option(
    "--law",
    "law_file",
    type=click.Path(path_type=Path),
    help="The law that an amendment is to put in force: refuse any other, show what changes.",
)
@click.option("--for", "for_", default=SIGNED_FOR, show_default=True, help="How long it is good.")
@click.option(
    "--statement-only", is_flag=True, help="Write the bytes to be signed elsewhere; needs --as."
)
@click.option(
    "--signature",
    "signature_file",
    type=click.Path(path_type=Path),
    help="What was signed elsewhere: FILE is then the statement, and both are joined.",
)
@click.option("-o", "--output", type=click.Path(path_type=Path), help="The file to write.")
@click.pass_obj
def sign(settings: Settings, /, file: Path, output: Path | None, **given: Any) -> None:
    """Approve the prepared request in FILE, or attest its facts. Needs no ledger.

    What is signed is shown on standard error: read it.
    """
    if given["signature_file"] is not None:
        _require_absent(given, "key_file", "who", "attest", "statement_only", "law_file")
        _assemble(settings, file, given["signature_file"], output)
    elif given["statement_only"]:
        _require_absent(given, "key_file")
        _state(file, output, settings, given)
    else:
        _sign(file, output, settings, given)


def _sign(file: Path, output: Path | None, settings: Settings, given: Mapping[str, Any]) -> None:
    from vmstate.signing import sign as sign_statement

    prepared = read_prepared(file)
    _say_law(settings, prepared, given["law_file"])
    key_file = given["key_file"]
    if key_file is None:
        raise click.UsageError("Missing option '--key'.")
    key = read_signer(key_file, given["passphrase_file"])
    who = given["who"]
    by = check_name(who) if who is not None else _owner(settings, key.public, key_file)
    has_key = _check_signs(settings, prepared, by, key.public, key_file)
    statement = _statement(prepared, by, file, given)
    signed = sign_statement(statement, key)
    write_or_print(settings, encode(signed.body()), output, {"statement": statement.id})
    say(f"{by} {_VERBS[statement.kind]}:")
    _say_request(prepared)
    _say_own(settings, by, prepared)
    if not has_key:
        say(f"warning: it will not count: the constitution gives {by} no key")


def _state(file: Path, output: Path | None, settings: Settings, given: Mapping[str, Any]) -> None:
    """The bytes to be signed, and not one more: a line's end would be signed as well."""
    prepared = read_prepared(file)
    _say_law(settings, prepared, given["law_file"])
    by = check_name(required(given["who"], "--as", "say who would sign"))
    statement = _statement(prepared, by, file, given)
    say(f"signed by {by}, this {_VERBS[statement.kind]}:")
    _say_request(prepared)
    _say_own(settings, by, prepared)
    if output is None:
        click.echo(statement.bytes(), nl=False)
        return
    write_file(output, statement.bytes())
    if settings.json:
        emit({"ok": True, "file": str(output), "statement": statement.id})
    say(f"next: sign {output} as it is,")
    say(f"  openssl pkeyutl -sign -rawin -inkey KEY -in {output} -out SIGNATURE")
    say(f"  or ssh-keygen -Y sign -n vmstate -f KEY {output}")
    say(f"then: vmstate sign {output} --signature SIGNATURE -o FILE")


def _statement(
    prepared: "Request", by: str, file: Path, given: Mapping[str, Any]
) -> "Approval | Attestation":
    from vmstate.clock import SystemClock
    from vmstate.signing import approval, attestation

    now = SystemClock().read().wall
    if not given["attest"]:
        return approval(prepared, by, expires_at=now + parse_duration(given["for_"]))
    if not prepared.facts:
        raise InputError(f"{file} states no facts: there is nothing to attest")
    return attestation(prepared, by, at=now)


def _assemble(settings: Settings, file: Path, signature_file: Path, output: Path | None) -> None:
    """A statement and a signature made elsewhere, if this is by the key in the constitution."""
    from vmstate.keys import read_signature
    from vmstate.signing import assemble, read_statement

    statement = read_named(file, read_statement)
    signature = read_named(signature_file, read_signature)
    key = settings.law().people.keys.get(statement.by)
    if key is None:
        what = f"the constitution has no key for {statement.by}"
        raise InputError(f"{what}: add one under [principals], see vmstate keys show")
    try:
        signed = assemble(statement, key, signature)
    except InputError as error:
        raise InputError(f"{signature_file}: {error}") from error
    write_or_print(settings, encode(signed.body()), output, {"statement": statement.id})
    say(f"{statement.by} signed:")
    for name, value in statement.body().items():
        if isinstance(value, dict):
            for fact, stated in sorted(value.items()):
                say(f"  {'fact':<14}{fact} = {stated}")
        else:
            say(f"  {name:<14}{value}")


def _require_absent(given: Mapping[str, Any], *names: str) -> None:
    for name in names:
        if given[name]:
            option = _OPTIONS[name]
            raise click.UsageError(f"{option} does not go with signing elsewhere: leave it out.")


_OPTIONS = {
    "key_file": "--key",
    "who": "--as",
    "attest": "--attest",
    "statement_only": "--statement-only",
    "law_file": "--law",
}
_VERBS = {"approval": "approves", "attestation": "attests the facts of"}


def _say_law(settings: Settings, prepared: "Request", file: Path | None) -> None:
    """Show what an amendment changes, if `file` is the law that it names: a digest tells nobody.

    Raises:
        InputError: it is another law, or the request is for none.
    """
    from vmstate.constitution.loading import read_constitution
    from vmstate.decisions.command import AMENDMENT, NEW_LAW

    asked = prepared.facts.get(NEW_LAW) if prepared.trigger == AMENDMENT else None
    if asked is None and file is not None:
        raise InputError("--law goes with an amendment, and this is none: leave it out")
    if asked is None:
        return
    if file is None:
        say("warning: which law that is was not compared: give it with --law NEW.toml")
        return
    toml = read_file(file)
    new = read_constitution(toml, name=str(file))
    if new.digest != asked:
        raise InputError(f"{file} is not the law asked for: it is {new.digest}, not {asked}")
    try:
        old = settings.law()
    except ConstitutionError:
        old = None
    if old is None or old.digest != prepared.constitution:
        same = settings.constitution.resolve() == file.resolve()
        where = "that is in no file here" if same else f"{settings.constitution} is another"
        say(f"{file} is the law asked for; how it differs from the one in force is not shown:")
        say(f"  {where}; vmstate constitution show > in-force.toml, then --constitution with that")
        return
    for line in differences(old.toml.decode(), toml.decode(), file.name):
        say(line)


def differences(old: str, new: str, name: str) -> Iterator[str]:
    """What changes from the law in force to the one in the file `name`, as `diff -u` has it."""
    import difflib

    lines = old.splitlines(), new.splitlines()
    return difflib.unified_diff(*lines, "in force", name, lineterm="")


def _say_request(prepared: "Request") -> None:
    for line in request_lines(prepared):
        say(line)


def _say_own(settings: Settings, by: str, prepared: "Request") -> None:
    """Warn at once of what no ledger will count; without a constitution, by the names alone."""
    principal = prepared.principal
    own = by == principal
    with suppress(ConstitutionError):
        people = settings.law().people
        own = people.person(by) == people.person(principal)
    if own:
        is_ = "asks" if by == principal else f"is the same person as {principal}, who asks"
        say(f"warning: it will not count, needs one by somebody else: {by} {is_}")


def request_lines(prepared: "Request") -> list[str]:
    """All that whoever signs a request signs, in words."""
    from vmstate.decisions.command import AMENDMENT, TOOL_CALL

    lines = []
    if prepared.to is None and prepared.trigger == TOOL_CALL:
        called = f"{prepared.facts.get('kind')} {prepared.facts.get('name')}"
        server = prepared.facts.get("server")
        lines.append(f"  {prepared.principal} uses {called} of {server}, once")
    elif prepared.to is None and prepared.trigger == AMENDMENT:
        lines.append(
            f"  {prepared.principal} asks for another law: vmstate amend shows what changes"
        )
    elif prepared.to is None:
        lines.append(
            f"  {prepared.principal} says that the clock is right, although it reads early"
        )
    else:
        lines.append(f"  {prepared.principal} to {prepared.to} on {prepared.trigger}")
        ttl = prepared.ttl_us
        lasts = "as long as the rule allows" if ttl is None else format_duration(_from_us(ttl))
        lines.append(f"  for        {lasts}")
    lines.append(f"  reason     {prepared.reason or '(none)'}")
    lines += [f"  fact       {name} = {value}" for name, value in sorted(prepared.facts.items())]
    return [
        *lines,
        f"  ledger     {prepared.origin}",
        f"  law        {prepared.constitution}",
        f"  request    {prepared.id}",
    ]


def _from_us(us: int) -> timedelta:
    return timedelta(microseconds=us)


def _owner(settings: Settings, key: "PublicKey", file: Path) -> str:
    """Whose key this is by the constitution; one key has one name there."""
    try:
        keys = settings.law().people.keys
    except ConstitutionError as error:
        raise click.UsageError(f"Missing option '--as': {error.problems[0]}") from error
    return owner_of(keys, key, file)


def _check_signs(
    settings: Settings, prepared: "Request", by: str, key: "PublicKey", file: Path
) -> bool:
    """As `check_signs`, where the law that the request is under can be read.

    Returns False for who has no key there, and is let sign: this asks no ledger, and another law
    may give them one.
    """
    with suppress(ConstitutionError):
        law = settings.law()
        keys = law.people.keys
        if law.digest != prepared.constitution:
            return True
        if by not in keys and key not in keys.values():
            return False
        check_signs(keys, by, key, file)
    return True


def check_signs(keys: "Mapping[str, PublicKey]", by: str, key: "PublicKey", file: Path) -> None:
    """Raise InputError if `by` does not sign with this key: it would be refused in their name."""
    if keys.get(by) == key:
        owner_of({by: keys[by]}, key, file)  # of the kind that is written there
        return
    owner = next((name for name, known in keys.items() if known == key), None)
    whose = f"{owner}'s" if owner is not None else "nobody's by the constitution"
    has = "sign with theirs" if by in keys else f"{by} has none there, see vmstate keys show"
    raise InputError(f"{file} is not the key of {by}, it is {whose}: {has}")


def owner_of(keys: "Mapping[str, PublicKey]", key: "PublicKey", file: Path) -> str:
    """Whose key this is, of `keys` by name."""
    for name, known in keys.items():
        if known == key and str(known) != str(key):
            raise InputError(
                f"{file} signs as {key.kind}, and the constitution writes this key of {name} as "
                f'{known.kind}: sign with a file of that kind, or write key = "{key}" there'
            )
        if known == key:
            return name
    raise click.UsageError("Missing option '--as': the constitution gives this key to nobody.")

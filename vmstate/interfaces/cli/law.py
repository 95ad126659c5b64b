"""`amend`, `constitution`: the law in force, another one in its place, and what one may say."""

import sys
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

import click

from vmstate.canonical import Json, encode, format_at
from vmstate.errors import ConstitutionError, InputError, LedgerNotFound
from vmstate.interfaces.cli.options import (
    exception_options,
    once_option,
    read_file,
    read_prepared,
    read_signer,
    read_statements,
    write_file,
)
from vmstate.interfaces.cli.output import answer, count, emit, say, spell_time
from vmstate.interfaces.cli.settings import Command, Group, Look, Settings, asker
from vmstate.interfaces.cli.statements import differences

if TYPE_CHECKING:
    from vmstate.decisions.amending import Amendment, Effect
    from vmstate.door import Door
    from vmstate.ledger.receipt import Receipt

_COLOURS = {"+": "green", "-": "red", "@": "cyan"}
_WHY = {
    "ttl": "it may last less long",
    "hold": "it may be held less long",
    "uses": "it may be used less often",
    "idle": "it may be idle less long",
    "parent": "with what it stands on",
    "rule_ends": "its rule ends with an amendment",
    "rule_gone": "its rule is gone",
    "profile_moved": "its profile has another place",
    "unknown_principal": "its holder is gone",
    "requester": "its holder may no longer ask for it",
}


@click.command(cls=Command)
@click.argument("file", metavar="NEW.toml", type=click.Path(path_type=Path))
@exception_options
@click.option("--replace", is_flag=True, help="Then put it in place of the constitution's file.")
@once_option
@click.pass_obj
def amend(
    settings: Settings,
    file: Path,
    who: str | None,
    key_file: Path | None,
    passphrase_file: Path | None,
    reason: str | None,
    request_file: Path | None,
    approvals: tuple[Path, ...],
    output: Path | None,
    once: str | None,
    *,
    replace: bool,
) -> None:
    """Put the law in NEW.toml in force, by the approvals that the present [amendment] asks for.

    First without --request: it shows what changes and what that does to the leases held now, and
    with -o prepares the request. Then have that signed (vmstate sign), and hand both in with your
    own key. NEW.toml may be the constitution's own file, edited.
    """
    if replace and settings.socket:
        raise InputError(
            "the constitution's file is the service's, and --replace would write one here: leave "
            "it out, and have the new law put in place by whoever runs vmstate serve"
        )
    door, toml = _under_its_own(settings), read_file(file)
    if request_file is None:
        _prepare(settings, door, file, toml, who, reason, output)
        return
    prepared = read_prepared(request_file)
    receipt = door.amend(
        who or prepared.principal,
        toml,
        request=prepared,
        approvals=read_statements(approvals),
        reason=prepared.reason if reason is None else reason,
        key=None if key_file is None else read_signer(key_file, passphrase_file),
        idempotency_key=once,
    )
    answer(receipt, settings, _amended(door, receipt) if receipt.granted else "")
    _say_where(settings, file, toml, replace=replace)


def _under_its_own(settings: Settings) -> "Door":
    """The ledger under the law that it keeps: the file at hand may be the next one already."""
    if settings.socket:
        return settings.authority()
    from vmstate.authority import Authority

    authority = Authority.open(None, settings.ledger)
    click.get_current_context().call_on_close(authority.close)
    settings.require_meant(is_drill=authority.is_drill)
    return authority


def _prepare(
    settings: Settings,
    door: "Door",
    file: Path,
    toml: bytes,
    who: str | None,
    reason: str | None,
    output: Path | None,
) -> None:
    try:
        seen = door.foresee_amendment(toml)
    except ConstitutionError as error:
        named = (one.replace("the new constitution", str(file), 1) for one in error.problems)
        raise ConstitutionError(tuple(named)) from error
    if wrong := _pointless(door, file, seen):
        if output is not None:
            raise InputError(f"{wrong}; nothing was written")
        say(f"warning: {wrong}")
    lines = list(differences(seen.old_toml.decode(), toml.decode(), file.name))
    prepared = None
    if output is not None:
        prepared = door.prepare_amendment(asker(door, who), toml, reason=reason or "")
        write_file(output, encode(prepared.body()) + b"\n")
    if settings.json:
        effects: list[Json] = [_effect_body(one) for one in seen.effects]
        emit(
            {
                "ok": True,
                "from": seen.old,
                "to": seen.new,
                "diff": "".join(f"{line}\n" for line in lines),
                "kept": seen.kept,
                "cut": seen.clamped,
                "ended": seen.ended,
                "open_requests": seen.requests,
                "effects": effects,
                "request": None if prepared is None else prepared.id,
            }
        )
        return
    for line in lines:
        click.echo(_coloured(line) if sys.stdout.isatty() else line)
    _say_effects(seen)
    if output is None and wrong:
        return
    if output is None:
        say(f"next: prepare it, vmstate amend {file} --as NAME -o request.json")
    else:
        say(f"next: have it signed, vmstate sign {output} --law {file} --key KEY")


def _pointless(door: "Door", file: Path, seen: "Amendment") -> str:
    """Why asking for this law would be refused whoever signed it; empty if it need not be."""
    if door.constitution.document.amendment is None:
        return "the law in force has no [amendment]: it can never be changed"
    if seen.new == seen.old:
        return f"nothing changes: {file} says what the law in force says"
    return ""


def _coloured(line: str) -> str:
    bold = line.startswith(("+++", "---"))
    return click.style(line, fg=None if bold else _COLOURS.get(line[:1]), bold=bold)


def _say_effects(seen: "Amendment") -> None:
    say(f"from {seen.old}\n  to {seen.new}")
    say(f"leases held now: {seen.kept} stay, {seen.clamped} cut, {seen.ended} ended")
    for one in seen.effects:
        lease, why = one.lease, _WHY.get(one.why, one.why)
        what = "ends" if one.ending else f"lasts until {spell_time(one.after.expires_at)}"
        say(f"  {lease.id}: {lease.principal}, {lease.profile}, {what}: {why}")
    if seen.requests:
        asked = count(seen.requests, "request")
        say(f"{asked} open now: asked anew, and what was signed for it counts no more")
    untold = seen.clamped + seen.ended - len(seen.effects)
    if untold:
        say(f"  and {untold} more")


def _effect_body(one: "Effect") -> dict[str, Json]:
    return {
        "lease": one.lease.id,
        "principal": one.lease.principal,
        "profile": one.lease.profile,
        "ending": one.ending,
        "expires_at": None if one.ending else format_at(one.after.expires_at),
        "was": format_at(one.lease.expires_at),
        "why": one.why,
    }


def _amended(door: "Door", receipt: "Receipt") -> str:
    """What was done, counted in the receipts that follow at once."""
    cut = ended = 0
    after = receipt.seq
    while page := door.receipts(after=after):
        for one in page:
            detail = one.fields["what"]["detail"] or {}
            ours = detail.get("amendment") == receipt.seq
            cut += ours and one.type == "lease_clamped"
            ended += ours and one.type == "profile_deescalation"
        after = page[-1].seq
    detail = receipt.fields["what"]["detail"]
    done = f"{count(cut, 'lease')} cut, {ended} ended"
    return f"{detail['name']} {detail['version']} is in force, {detail['to']}; {done}"


def _say_where(settings: Settings, file: Path, toml: bytes, *, replace: bool) -> None:
    """Where the new law has to be for the ledger to be opened with it."""
    if settings.socket:
        say(
            f"next: have {file} put in place of the constitution's file by whoever runs vmstate "
            "serve; until then it serves under the new law all the same, and says so at its start"
        )
        return
    here = settings.constitution
    if here.exists() and here.read_bytes() == toml:
        return
    if replace:
        aside = here.with_name(f".{here.name}.new")
        try:
            aside.write_bytes(toml)
            aside.replace(here)
        except OSError as error:
            raise InputError(
                f"the law was amended, and {here} can't be written: {error.strerror}: "
                f"copy {file} there"
            ) from error
        say(f"{here} is the new one; the ledger keeps the old: vmstate constitution show")
        return
    say(f"next: cp {file} {here}; while the old one is there, nothing is granted by this ledger")


@click.group(cls=Group)
def constitution() -> None:
    """Show the laws that a ledger was under, and all that one may say."""


@constitution.command(cls=Look)
@click.pass_obj
def reference(settings: Settings) -> None:
    """Print every table and key that a constitution may have, with what each means."""
    text = (files("vmstate.constitution") / "reference.toml").read_text(encoding="utf-8")
    if settings.json:
        emit({"ok": True, "toml": text})
        return
    click.echo(text, nl=False)


@constitution.command("show", cls=Command)
@click.option("--digest", help="An earlier one, by its digest or how it begins.")
@click.pass_obj
def show(settings: Settings, digest: str | None) -> None:
    """Print the law in force as the ledger keeps it, or with --digest an earlier one.

    At a socket (and without --ledger) the one in force is asked for there.
    """
    from vmstate.ledger.store import Ledger

    if settings.at_socket:
        if digest is not None:
            raise InputError("earlier laws are not told at a socket: name the file with --ledger")
        law = settings.authority().constitution
        if settings.json:
            emit({"ok": True, "digest": law.digest, "toml": law.toml.decode()})
            return
        click.echo(law.toml.decode(), nl=False)
        say(law.digest)
        return
    ledger = Ledger.open(settings.ledger)
    click.get_current_context().call_on_close(ledger.close)
    with ledger.read() as snapshot:
        laws, wanted = snapshot.laws(), (digest or snapshot.in_force()).removeprefix("sha256:")
        named = {one for _, one in laws if one.removeprefix("sha256:").startswith(wanted)}
        if len(named) != 1 or not wanted:
            known = ", ".join(dict.fromkeys(one for _, one in laws))
            raise LedgerNotFound(f"{digest} names no one law of this ledger: there were {known}")
        (found,) = named
        kept = snapshot.law(found)
    assert kept is not None
    if settings.json:
        since: list[Json] = [seq for seq, one in laws if one == found]
        emit({"ok": True, "digest": found, "receipts": since, "toml": kept[1].decode()})
        return
    click.echo(kept[1].decode(), nl=False)
    say(found)

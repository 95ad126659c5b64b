"""`receipts export audit`: what was decided, and whether it is what it claims to be."""

import json
import time
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from contextlib import closing
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vmstate.canonical import Json
from vmstate.errors import InputError, LedgerNotFound, TamperError
from vmstate.interfaces.cli.following import patiently
from vmstate.interfaces.cli.options import Whole, read_file
from vmstate.interfaces.cli.output import (
    count,
    emit,
    progress,
    say,
    spell_time,
    table,
)
from vmstate.interfaces.cli.rows import hands_in, spell_by, spell_kind, spell_what
from vmstate.interfaces.cli.settings import FAILED, OK, Command, Group, Look, Settings

if TYPE_CHECKING:
    from vmstate.door import Door
    from vmstate.ledger.audit import Audit
    from vmstate.ledger.checkpoint import VerifierKey
    from vmstate.ledger.receipt import Receipt
    from vmstate.ledger.store import Ledger

SHOWN = 20
LAST = 2**63 - 1  # SQLite counts no further
PAGE = 1_000  # receipts asked for at once; a client fetches them in smaller parts
FOLLOW_SECONDS = 0.5  # how often a follower looks again
_HEADER = ("SEQ", "AT", "OUTCOME", "WHO", "BY", "WHAT", "RULE")


@click.group(cls=Group)
def receipts() -> None:
    """List, show and follow what was decided."""


def _open(settings: Settings) -> "Ledger":
    """The ledger alone: reading receipts takes no constitution."""
    from vmstate.ledger.store import Ledger

    ledger = Ledger.open(settings.ledger)
    click.get_current_context().call_on_close(ledger.close)
    return ledger


def _require_file(settings: Settings, verb: str) -> None:
    """Refuse to guess a file where a socket was meant: a service hands out no ledger.

    Raises:
        InputError: a socket is named, and no ledger's file.
    """
    if settings.socket and settings.ledger == Settings().ledger and "ledger" not in settings.typed:
        bundle = ", or a bundle's folder" if verb == "audit" else ""
        raise InputError(
            f"{verb} reads the ledger's file, and {settings.socket} is a socket: name the file "
            f"with --ledger{bundle}, under an account that may read it"
        )


class _File:
    """What receipts are read from: the ledger's file, as many of them as there are."""

    def __init__(self, ledger: "Ledger") -> None:
        self._ledger = ledger

    def size(self) -> int:
        with self._ledger.read() as snapshot:
            return snapshot.head().tree.size

    def receipt(self, seq: int) -> "Receipt":
        with self._ledger.read() as snapshot:
            return snapshot.receipt(seq)

    def receipts(
        self, *, after: int, limit: int = LAST, **wanted: Any
    ) -> "Generator[Receipt, None, None]":
        with self._ledger.read() as snapshot:
            yield from snapshot.receipts(after=after, limit=limit, **wanted)


class _Socket:
    """The same from a door, a page at a time."""

    def __init__(self, door: "Door") -> None:
        self.size, self.receipt = door.size, door.receipt
        self._door = door

    def receipts(
        self, *, after: int, limit: int = LAST, **wanted: Any
    ) -> "Generator[Receipt, None, None]":
        while (most := min(limit, PAGE)) > 0:
            page = self._door.receipts(after=after, limit=most, **wanted)
            yield from page
            if len(page) < most:
                return
            after, limit = page[-1].seq, limit - most


def _reads(settings: Settings) -> _File | _Socket:
    return _Socket(settings.authority()) if settings.socket else _File(_open(settings))


@receipts.command("list", cls=Look)
@click.option("--who", metavar="NAME", help="Only about this principal.")
@click.option("--by", metavar="NAME", help="Only on their word: asked for or signed.")
@click.option("--type", "type_", help="Only of this type, such as auth_failure.")
@click.option("--denied", is_flag=True, help="Only what was refused.")
@click.option("--after", type=Whole(-1, LAST), help="Only receipts numbered above this.")
@click.option(
    "-n",
    "--limit",
    type=Whole(1, LAST),
    help="At most so many, the newest; with --after the first of them.",
)
@click.pass_obj
def list_receipts(
    settings: Settings,
    who: str | None,
    by: str | None,
    type_: str | None,
    after: int | None,
    limit: int | None,
    *,
    denied: bool,
) -> None:
    """List receipts, the oldest first. With --json, each one's exact bytes, a line each.

    A row says whom it is about, and BY on whose word where that is somebody else's.
    """
    asked = {"principal": who, "type_": type_, "denied": denied}
    reads, start, most = _reads(settings), -1 if after is None else after, LAST
    if by is None and limit is not None:
        if after is not None:
            most = limit
        elif not any(asked.values()):
            start = max(reads.size() - limit - 1, -1)
    with closing(reads.receipts(after=start, limit=most, **asked)) as found:
        wanted: Iterable[Receipt] = found
        if by is not None:
            wanted = (one for one in found if by in hands_in(one))
        if limit is not None:
            wanted = deque(wanted, limit) if after is None else islice(wanted, limit)
        _show_many(settings, wanted)


@receipts.command("show", cls=Look)
@click.argument("seq", type=Whole(0, LAST))
@click.pass_obj
def show(settings: Settings, seq: int) -> None:
    """Show receipt number SEQ whole. With --json, its exact bytes."""
    receipt = _reads(settings).receipt(seq)
    if settings.json:
        click.echo(receipt.body)
        return
    click.echo(f"receipt {receipt.seq}  {receipt.id}")
    click.echo(json.dumps(receipt.fields, indent=2, ensure_ascii=False))
    for one in receipt.unmet:
        click.echo(f"  {one.message}")


@receipts.command("tail", cls=Look)
@click.option(
    "-n",
    "--number",
    default=SHOWN,
    show_default=True,
    type=Whole(0, LAST),
    help="So many.",
)
@click.option("-f", "--follow", is_flag=True, help="Go on with what is written from now on.")
@click.pass_obj
def tail(settings: Settings, number: int, *, follow: bool) -> None:
    """Show the newest receipts; with -f, go on as more are written."""
    reads = _reads(settings)
    after = max(reads.size() - number - 1, -1)
    newest = tuple(reads.receipts(after=after))
    if not follow:
        _show_many(settings, newest)
        return
    while True:
        for receipt in newest:
            after = receipt.seq
            click.echo(receipt.body if settings.json else "\t".join(_row(receipt)))
        time.sleep(FOLLOW_SECONDS)
        newest = patiently(settings, partial(_since, reads, after))


def _since(reads: _File | _Socket, after: int) -> "tuple[Receipt, ...]":
    return tuple(reads.receipts(after=after))


def _show_many(settings: Settings, found: "Iterable[Receipt]") -> None:
    """Show receipts in the form asked for."""
    if settings.json:
        for receipt in found:
            click.echo(receipt.body)
        return
    table(_HEADER, [_row(receipt) for receipt in found])


def _row(receipt: "Receipt") -> tuple[str, ...]:
    return (
        str(receipt.seq),
        spell_time(receipt.at),
        spell_kind(receipt),
        receipt.who,
        spell_by(receipt),
        spell_what(receipt),
        receipt.rule,
    )


@click.command(cls=Command)
@click.argument("folder", type=click.Path(path_type=Path))
@click.pass_obj
def export(settings: Settings, folder: Path) -> None:
    """Write the ledger into FOLDER for somebody who has neither vmstate nor a login.

    It holds the signed checkpoint, the receipts' exact bytes, the key to verify with, and the
    constitution.
    """
    from vmstate.ledger.bundle import export as write_bundle

    _require_file(settings, "export")
    ledger = _open(settings)
    with progress("exporting") as bar:
        bundle = write_bundle(ledger, folder, progress=bar)
    size = int(bundle.note.split("\n")[1])
    if settings.json:
        emit({"ok": True, "folder": str(folder), "origin": ledger.origin, "size": size})
        return
    click.echo(f"{folder}: {count(size, 'receipt')} of {ledger.origin}")
    say(f"verify it anywhere: vmstate audit {folder}")


@click.command(cls=Command)
@click.argument("folder", required=False, type=click.Path(path_type=Path))
@click.option(
    "--checkpoint",
    "kept",
    type=click.Path(path_type=Path),
    help="A checkpoint kept from before; the ledger has to contain it.",
)
@click.option(
    "--log-key",
    "demanded",
    metavar="KEY",
    help="The log's key as its operator publishes it, or a file with it; another is a finding.",
)
@click.pass_obj
def audit(settings: Settings, folder: Path | None, kept: Path | None, demanded: str | None) -> None:
    """Verify a ledger, or with FOLDER an exported one; exits 1 if anything is not as claimed.

    Checked are the tree and its signed head, every receipt's form and place, every signature that
    a grant rests on, and that the leases follow from the receipts. The key is the one that comes
    with it, and is shown: only --log-key, or comparing it, tells whose ledger it is.
    """
    from vmstate.ledger.audit import audit_bundle, audit_ledger

    began = time.monotonic()
    note = None if kept is None else read_file(kept).decode(errors="replace")
    key = None if demanded is None else _read_log_key(demanded)
    with progress("auditing") as bar:
        if folder is not None:
            if not folder.exists():
                raise LedgerNotFound(f"there is no folder {folder}: name an exported one")
            report = audit_bundle(folder, kept=note, log_key=key, progress=bar)
        else:
            _require_file(settings, "audit")
            report = audit_ledger(_open(settings), kept=note, log_key=key, progress=bar)
    _show_audit(settings, report, time.monotonic() - began, demanded=key is not None)
    raise SystemExit(OK if report.is_good else FAILED)


def _read_log_key(text: str) -> "VerifierKey":
    """A log's key as it is typed, or from a file; raises InputError."""
    from vmstate.ledger.checkpoint import VerifierKey

    try:
        return VerifierKey.parse(text)
    except TamperError as error:
        if not Path(text).exists():
            raise InputError(f"--log-key {text!r} is neither a log's key nor a file") from error
    try:
        return VerifierKey.parse(read_file(Path(text)).decode(errors="replace").strip())
    except TamperError as error:
        raise InputError(f"{text}: {error}") from error


def _show_audit(settings: Settings, report: "Audit", seconds: float, *, demanded: bool) -> None:
    if settings.json:
        findings: list[Json] = [{"seq": one.seq, "what": one.what} for one in report.findings]
        emit(
            {
                "ok": report.is_good,
                "origin": report.origin,
                "size": report.size,
                "root": f"sha256:{report.root.hex()}",
                "log_key": report.log_key or None,
                "constitution": report.constitution,
                "open_leases": report.open_leases,
                "findings": findings,
            }
        )
        return
    for finding in _each(report):
        click.echo(finding)
    state = "intact" if report.is_good else count(len(report.findings), "finding")
    sizes = f"{count(report.size, 'receipt')}, {count(report.open_leases, 'open lease')}"
    if not report.log_key:
        click.echo(state)
        return
    click.echo(f"{report.origin}: {sizes}: {state}")
    click.echo(f"  root sha256:{report.root.hex()}")
    click.echo(f"  key  {report.log_key}")
    if not report.is_good:
        return
    if not demanded:
        say("  compare the key with the one that the operator publishes, or demand that: --log-key")
    say(
        f"  {seconds:.2f} s; keep the checkpoint elsewhere to show later that nothing was rewritten"
    )


def _each(report: "Audit") -> Iterator[str]:
    mark = click.style("found", fg="red", bold=True)
    yield from (f"{mark} {finding}" for finding in report.findings)

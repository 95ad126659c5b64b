"""How answers look: tables on a terminal, tab-separated lines in a pipe, JSON where asked.

What was asked for goes to standard output, everything said about it to standard error, so that a
pipe gets data and nothing else. A time is shown as when it is over *and* what is left.
"""

import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from vmstate.canonical import Json, format_duration
from vmstate.interfaces.cli.settings import DENIED, Settings

if TYPE_CHECKING:
    from vmstate.constitution.unmet import Unmet
    from vmstate.leases.lease import Lease
    from vmstate.leases.standing import Standing
    from vmstate.ledger.bundle import Progress
    from vmstate.ledger.receipt import Receipt

NARROW = 12  # characters of the longest cell of a column that is not broken
PAD = 2  # spaces after a column
PATIENCE_SECONDS = 0.5  # what is over sooner needs no bar


def say(text: str) -> None:
    """Something for the person at the terminal."""
    click.echo(text, err=True)


def emit(body: Mapping[str, Json]) -> None:
    """One JSON object on standard output."""
    click.echo(json.dumps(body, ensure_ascii=False))


def table(
    header: Sequence[str], rows: Sequence[Sequence[str]], *, hidden: frozenset[str] = frozenset()
) -> None:
    """A table on a terminal; in a pipe the same cells, whole, one line to a row, no header.

    Columns in `hidden` are for programs: a terminal has no room for what other columns tell.
    """
    if not sys.stdout.isatty():
        for row in rows:
            click.echo("\t".join(cell.replace("\t", " ") for cell in row))
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    shown = [index for index, name in enumerate(header) if name not in hidden]
    widest = {index: max((len(row[index]) for row in rows), default=0) for index in shown}
    narrow = [width for width in widest.values() if width <= NARROW]
    console = Console()
    # Short words stay whole, such as outcomes, as long as they leave half of the room to others.
    is_room = 2 * sum(width + PAD for width in narrow) <= console.width
    drawn = Table(box=None, pad_edge=False, header_style="bold", padding=(0, PAD, 0, 0))
    for index, width in widest.items():
        whole = is_room and width <= NARROW
        drawn.add_column(header[index], overflow="fold", no_wrap=whole)
    for row in rows:
        drawn.add_row(*(Text(row[index]) for index in shown))
    if rows:
        console.print(drawn)


def count(number: int, what: str) -> str:
    """`1 receipt`, `2 receipts`."""
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def spell_time(at: datetime) -> str:
    """`2026-01-01 12:15:00Z`: to the second, which is what people act on."""
    return at.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def spell_left(standing: "Standing", lease: "Lease") -> str:
    """What is left of a lease: `14m59s`; `4m (14m59s if used), 2 uses` where it is bounded so."""
    left = format_duration(standing.left(lease))
    if lease.ends_at < lease.expires_at:
        left += f" ({format_duration(standing.longest(lease))} if used)"
    if lease.max_uses is not None:
        left += f", {count(lease.max_uses - lease.uses, 'use')}"
    return left


def receipt_body(receipt: "Receipt") -> dict[str, Json]:
    """What `--json` shows for a command's answer; `counted` for a refusal that was only that."""
    counted: dict[str, Json] = {}
    if receipt.counted is not None:
        unmet: list[Json] = [one.body() for one in receipt.unmet]
        counted = {"counted": {"with": receipt.seq, "rule": receipt.rule, "unmet": unmet}}
    return {
        **counted,
        "ok": receipt.granted,
        "message": receipt.message or None,
        "id": receipt.id,
        "receipt": receipt.fields,
    }


def answer(receipt: "Receipt", settings: Settings, granted: str, *, denied: str = "") -> None:
    """Show the receipt that answers a command; exits 3 if it is a denial.

    `denied` is what else would work then, where this command knows of it.
    """
    if settings.json:
        emit(receipt_body(receipt))
    elif receipt.granted:
        click.echo(granted)
        say(f"  receipt {receipt.seq}  {receipt.id}")
    else:
        say_denial(receipt.unmet, receipt.rule)
        _say_cost(receipt)
        if denied:
            say(f"    {click.style('or', dim=True)}  {denied}")
        say(f"  {receipt.place}  {receipt.id}")
    if not receipt.granted:
        raise SystemExit(DENIED)


def _say_cost(receipt: "Receipt") -> None:
    """What a refused charge would have come to; a refusal that was counted has none of its own."""
    for one in receipt.fields["cost"] if receipt.counted is None else ():
        asked = " ".join(filter(None, (str(one["requested"]), one["unit"])))
        say(f"  attempted {asked} of {one['budget']}, available {one['available']}, charged 0")


def spell_grant(receipt: "Receipt") -> str:
    """What a grant or renewal gave, and until when; nothing for a denial."""
    if receipt.expires_at is None:
        return ""
    who = receipt.fields["who"]["principal"]
    length = format_duration(receipt.expires_at - receipt.at)
    clipped_by = receipt.fields["what"]["clipped_by"]
    cut = f", cut by the {clipped_by}" if clipped_by else ""
    limits = "".join(f"; {one}" for one in receipt.limits)
    until = f"until {spell_time(receipt.expires_at)} ({length}{cut}){limits}"
    return f"{receipt.lease}: {who} is {receipt.profile} {until}"


def say_denial(unmet: "Sequence[Unmet]", rule: str) -> None:
    """What was missing, by which rule, and what would work instead."""
    mark = click.style("denied", fg="red", bold=True)
    click.echo(f"{mark} by {rule}", err=True)
    for one in unmet:
        click.echo(f"  {one.message}  [{one.code}]", err=True)
        click.echo(f"    {click.style('instead', dim=True)}  {one.remedy}", err=True)


@contextmanager
def progress(what: str) -> "Iterator[Progress | None]":
    """A bar on standard error, once something takes longer than it takes to look up."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    bar = Progress(*columns, console=Console(stderr=True), transient=True)
    task = bar.add_task(what, total=None)
    began, started = time.monotonic(), False

    def advance(done: int, total: int) -> None:
        nonlocal started
        bar.update(task, advance=done, total=total)
        if not started and time.monotonic() - began > PATIENCE_SECONDS:
            started = True
            bar.start()

    try:
        yield advance
    finally:
        bar.stop()

"""`watch`: who holds what and for how long, what waits and what is owed, as it changes.

On a terminal it fills the screen and counts down. In a pipe it says what it found and then each
change, a line each: `+` for what came or was moved, `-` for what is gone.

    2030-01-01 12:00:00Z	+	lease	lease-1	alice	operator	2030-01-01 12:10:00Z
    2030-01-01 12:10:00Z	-	lease	lease-1	alice	operator	2030-01-01 12:10:00Z
"""

import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import click

from vmstate.canonical import Json, format_at, format_duration
from vmstate.errors import LedgerError
from vmstate.interfaces.cli.output import count, emit, say, spell_time
from vmstate.interfaces.cli.pending import short_id, spell_wanted
from vmstate.interfaces.cli.rows import spell_by, spell_what
from vmstate.interfaces.cli.settings import Look, Settings

if TYPE_CHECKING:
    from rich.console import Group as Drawing
    from rich.table import Table as Drawn
    from rich.text import Text

    from vmstate.door import Door
    from vmstate.ledger.receipt import Receipt

LOOK_SECONDS = 1.0
OWED = 20  # leases whose end is owed; more than a screen of them says the same
LATEST = 8
DRAWN = 100  # leases on a screen; nobody reads on
BAR_CELLS = 12
SOON, SOONER = timedelta(minutes=5), timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class Row:
    """One thing that is so now. `left` and the `share` of a lease that is left count down."""

    kind: str
    id: str
    who: str
    what: str
    until: datetime | None = None
    left: timedelta | None = None
    share: float | None = None

    @property
    def said(self) -> tuple[str, ...]:
        """What makes it another row when it changes."""
        until = "" if self.until is None else spell_time(self.until)
        return (self.kind, self.id, self.who, self.what, until)

    def body(self) -> dict[str, Json]:
        until = None if self.until is None else format_at(self.until)
        return {
            "kind": self.kind,
            "id": self.id,
            "who": self.who or None,
            "what": self.what,
            "until": until,
        }


@dataclass(frozen=True, slots=True)
class Frame:
    """All that is shown, as of one moment."""

    at: datetime
    origin: str
    is_drill: bool
    baseline: str
    size: int
    rows: tuple[Row, ...]
    latest: "tuple[Receipt, ...]"

    def of(self, *kinds: str) -> tuple[Row, ...]:
        return tuple(one for one in self.rows if one.kind in kinds)


@click.command(cls=Look)
@click.option("--once", is_flag=True, help="Show what is so now, and end.")
@click.pass_obj
def watch(settings: Settings, *, once: bool) -> None:
    """Show who holds what and for how long, what waits and what is owed, until Ctrl-C."""
    door = settings.authority()
    live = sys.stdout.isatty() and not settings.json
    if once:
        _once(settings, look(door), live=live)
    elif live:
        _on_a_screen(door, settings.warned)
    else:
        _in_a_pipe(settings, door)


def look(door: "Door") -> Frame:
    """What is so now; raises what a door's reads do."""
    size, now = door.size(), door.now()
    return Frame(
        at=now,
        origin=door.origin,
        is_drill=door.is_drill,
        baseline=door.constitution.baseline,
        size=size,
        rows=tuple(_rows(door, now)),
        latest=door.receipts(after=size - LATEST - 1, limit=LATEST),
    )


def _rows(door: "Door", now: datetime) -> Iterator[Row]:
    for standing in door.status():
        for lease in standing.leases:
            left, whole = standing.left(lease), lease.ends_at - lease.granted_at
            share = min(1.0, max(0.0, left / whole)) if whole else 0.0
            what = lease.profile
            if lease.max_uses is not None:
                what += f", {lease.uses} of {count(lease.max_uses, 'use')}"
            yield Row("lease", lease.id, standing.principal, what, lease.ends_at, left, share)
    for due in door.due(limit=OWED):
        yield Row("owed", due.lease, due.principal, "over, receipt owed", due.ended_at)
    for pending in door.requests():
        asked, id_ = pending.request, short_id(pending)
        missing = "; ".join(one.message for one in pending.missing)
        what = f"{spell_wanted(asked)}, {pending.state}" + (f": {missing}" if missing else "")
        until = pending.usable_until or pending.waits_until
        yield Row("request", id_, asked.principal, what, until, until - now)
    for lock in door.locks():
        ends = None if lock.until is None else lock.until.wall
        what = f"locked by {lock.by}" + (f": {lock.reason}" if lock.reason else "")
        yield Row("lock", lock.id, lock.subject, what, ends)
    for backlog in door.backlogs():
        if backlog.is_behind:
            yield Row("behind", backlog.target, "", backlog.message)
    if (back := door.set_back()) is not None:
        # In whole seconds: both hands are read one after the other, and a row is to stay as it is.
        by = timedelta(seconds=round((back.seen - back.reads).total_seconds()))
        what = f"set back by {format_duration(by)}: what was signed before counts no more"
        yield Row("clock", "set back", "", what)


_Seen = dict[tuple[str, str], Row]


def changes(before: _Seen, rows: Iterable[Row]) -> tuple[list[tuple[str, Row]], _Seen]:
    """What came, was moved or is gone since, and what is seen now."""
    now = {(one.kind, one.id): one for one in rows}
    gone = [("-", one) for key, one in before.items() if key not in now]
    new = [("+", r) for key, r in now.items() if key not in before or before[key].said != r.said]
    return [*gone, *new], now


# ---- in a pipe ------------------------------------------------------------------------------


def _once(settings: Settings, frame: Frame, *, live: bool) -> None:
    if settings.json:
        rows: list[Json] = [one.body() for one in frame.rows]
        head: dict[str, Json] = {"ok": True, "at": format_at(frame.at), "origin": frame.origin}
        emit({**head, "drill": frame.is_drill, "size": frame.size, "rows": rows})
    elif live:
        from rich.console import Console

        Console().print(draw(frame))
    else:
        for row in frame.rows:
            _say_change(settings, frame.at, "+", row)


def _in_a_pipe(settings: Settings, door: "Door") -> None:
    seen: _Seen = {}
    fault = ""
    while True:
        try:
            frame = look(door)
        except LedgerError as error:
            if str(error) != fault:
                say(f"{error}; looking again")
            fault = str(error)
        else:
            fault = ""
            told, seen = changes(seen, frame.rows)
            for mark, row in told:
                _say_change(settings, frame.at, mark, row)
        sys.stdout.flush()
        time.sleep(LOOK_SECONDS)


def _say_change(settings: Settings, at: datetime, mark: str, row: Row) -> None:
    if settings.json:
        emit({"at": format_at(at), "change": mark, **row.body()})
        return
    cells = (spell_time(at), mark, *row.said)
    click.echo("\t".join(cell.replace("\t", " ") for cell in cells))


# ---- on a screen ----------------------------------------------------------------------------


def _on_a_screen(door: "Door", warning: str) -> None:
    """`warning` stays on top: what was said before is on the screen that this one covers."""
    from rich.console import Console, Group
    from rich.live import Live
    from rich.text import Text

    above = (Text(warning, "bold yellow"),) if warning else ()
    shown = Group(*above, draw(look(door)))
    with Live(shown, console=Console(), screen=True, auto_refresh=False) as live:
        while True:
            time.sleep(LOOK_SECONDS)
            try:
                shown = Group(*above, draw(look(door)))
                live.update(shown, refresh=True)
            except LedgerError as error:
                live.update(Group(Text(f"{error}; looking again", "bold red"), shown), refresh=True)


_LISTS = (
    ("WAITING", "request", "cyan"),
    ("LOCKED", "lock", "red"),
    ("BEHIND", "behind", "yellow"),
    ("CLOCK", "clock", "red"),
)


def draw(frame: Frame) -> "Drawing":
    """A frame as a terminal shows it."""
    from rich.console import Group
    from rich.text import Text

    head = Text.assemble((frame.origin, "bold"), "   ", spell_time(frame.at), "   ")
    head.append(count(frame.size, "receipt"), "dim")
    if frame.is_drill:
        head.append("   DRILL", "bold magenta")
    parts: list[Text | Drawn] = [head, Text()]
    # What is owed and what ends first stand at the top, whatever has no room below.
    leases = sorted(frame.of("owed", "lease"), key=lambda one: (one.kind == "lease", one.until))
    parts += [_leases(leases[:DRAWN])] if leases else []
    if len(leases) > DRAWN:
        parts.append(Text(f"and {len(leases) - DRAWN:,} more, which end later", "dim"))
    parts.append(Text(f"everybody {'else ' if leases else ''}stands at {frame.baseline}", "dim"))
    for title, kind, style in _LISTS:
        rows = frame.of(kind)
        if rows:
            parts += [Text(), Text(title, f"bold {style}"), *(_line(one) for one in rows)]
    parts += [Text(), Text("LATEST", "bold"), _latest(frame.latest)]
    return Group(*parts)


def _leases(rows: Iterable[Row]) -> "Drawn":
    from rich.text import Text

    drawn = _table("WHO", "HOLDS", "LEFT", "", "ENDS", "LEASE")
    for row in rows:
        until = "" if row.until is None else spell_time(row.until)
        if row.left is None or row.share is None:
            owed = Text("0s", "bold red")
            drawn.add_row(Text(row.who), Text(row.what, "red"), owed, "", until, row.id)
            continue
        style = "red" if row.left < SOONER else "yellow" if row.left < SOON else "green"
        left = _seconds(row.left)
        whole = round(row.share * BAR_CELLS)
        bar = Text.assemble(("━" * whole, style), ("╌" * (BAR_CELLS - whole), "bright_black"))
        cells = (Text(row.who), Text(row.what, "bold"), Text(left, style), bar)
        drawn.add_row(*cells, until, Text(row.id, "dim"))
    return drawn


def _latest(receipts: "Iterable[Receipt]") -> "Drawn":
    from rich.text import Text

    drawn = _table()
    for receipt in reversed(tuple(receipts)):
        by = spell_by(receipt)
        parts = [
            f"by {by}" if by else "",
            spell_what(receipt),
            receipt.message if not receipt.granted else "",
        ]
        style = "red" if not receipt.granted else ""
        drawn.add_row(
            Text(str(receipt.seq), "dim"),
            spell_time(receipt.at)[11:],
            Text(receipt.type, style),
            Text(receipt.who),
            Text(", ".join(one for one in parts if one), "dim"),
        )
    return drawn


def _seconds(left: timedelta) -> str:
    return format_duration(max(left - left % timedelta(seconds=1), timedelta()))


def _line(row: Row) -> "Text":
    from rich.text import Text

    until = "" if row.until is None else f", until {spell_time(row.until)}"
    until += "" if row.left is None else f" ({_seconds(row.left)})"
    who = f"{row.who}  " if row.who else ""
    named = f"{row.id}  " if row.who else ""
    return Text.assemble((named, "dim"), (who, "bold"), f"{row.what}{until}")


def _table(*header: str) -> "Drawn":
    from rich.table import Table

    drawn = Table(
        box=None,
        pad_edge=False,
        header_style="bold",
        padding=(0, 2, 0, 0),
        show_header=bool(header),
    )
    for name in header:
        drawn.add_column(name, overflow="fold")
    return drawn

"""What the tables of a ledger share: a connection, a page, a moment in three columns."""

from collections.abc import Iterable, Iterator
from datetime import timedelta
from itertools import islice
from typing import Any, Protocol, TypeVar

from vmstate.clock import Moment, to_us
from vmstate.leases.watermark import Watermark

PAGE = 1_000  # rows fetched at a time
LATEST_US = 253_402_300_800_000_000  # the year 10000, which no calendar of ours can spell

_Item = TypeVar("_Item")


class Connection(Protocol):
    """What is needed of a database connection."""

    def execute(self, statements: str, bindings: Any = ()) -> Iterator[tuple[Any, ...]]: ...


def pages(items: Iterable[_Item]) -> Iterator[tuple[_Item, ...]]:
    """The items, a page of them at a time."""
    left = iter(items)
    while page := tuple(islice(left, PAGE)):
        yield page


def moment_row(moment: Moment) -> tuple[int, str, int]:
    """A moment as its columns hold it."""
    return to_us(moment.wall), moment.boot_id, moment.boot_us


def any_due(db: Connection, table: str, values: dict[str, Any]) -> bool:
    """Whether any open row can be over; asked first, because nearly always none is.

    The question itself joins what each hand of the clock ended, and costs a hundred times this.
    """
    open_rows = f"SELECT 1 FROM {table} WHERE ended_us IS NULL AND"
    asked = (
        f"SELECT EXISTS ({open_rows} deadline_us <= max(:wall, :latest)) OR EXISTS ({open_rows} "
        "deadline_boot = :boot AND deadline_boot_us <= :boot_us)"
    )
    hands = {name: values[name] for name in ("wall", "latest", "boot", "boot_us")}
    return bool(values["void"]) or bool(next(db.execute(asked, hands))[0])


def next_deadlines(db: Connection, table: str, now: Moment, mark: Watermark) -> Iterator[timedelta]:
    """How long until the next deadline of an open row, by each hand that may reach one."""
    open_rows = f"FROM {table} WHERE ended_us IS NULL"
    by_wall = f"SELECT min(deadline_us) {open_rows} AND deadline_us > ? AND deadline_us < ?"
    by_boot = f"SELECT min(deadline_boot_us) {open_rows}"
    by_boot = f"{by_boot} AND deadline_boot = ? AND deadline_boot_us > ?"
    of_other_boots = f"{by_wall} AND deadline_boot <> ?"
    wall_us, latest_us = to_us(now.wall), to_us(mark.latest_wall(now))
    found = [
        (next(db.execute(by_wall, (wall_us, LATEST_US)))[0], wall_us),
        (next(db.execute(by_boot, (now.boot_id, now.boot_us)))[0], now.boot_us),
    ]
    if latest_us > wall_us:
        values = (latest_us, LATEST_US, now.boot_id)
        found.append((next(db.execute(of_other_boots, values))[0], latest_us))
    lefts = (min(us - here, LATEST_US - wall_us) for us, here in found if us is not None)
    return (timedelta(microseconds=left_us) for left_us in lefts)

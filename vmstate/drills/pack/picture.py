"""A drill's timeline as a picture: who stood on which profile, receipt by receipt.

    a lane      a profile of one principal, the highest on top
    a bar       a lease; its end is a solid line for the TTL, a dashed one for an earlier end
    a cross     a denial, on the lane of the profile that was held
    a dot       any other receipt
    >> +15m     virtual time jumped here

x is the order of receipts, not time: in a drill nearly all of them share an instant, and on an axis
of time they would lie on one heap. The same receipts give the same picture.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from vmstate.canonical import format_duration
from vmstate.constitution.law import Constitution
from vmstate.drills.pack.account import TIMED_OUT, Holding, read_holdings, walk
from vmstate.drills.pack.markup import Markup, tag
from vmstate.ledger.receipt import Receipt

STEP = 44  # from one receipt to the next
JUMP = 58  # more, where time jumped: its mark stands there
LANE = 34
TOP = 44
LEFT = 104
BAR = 20
_NOBODY = ""
LEGEND = (
    "Bars are leases: a solid end is the TTL, a dashed one came earlier. Crosses are denials, dots "
    "other receipts. Grey bands are jumps of virtual time."
)


@dataclass(frozen=True, slots=True)
class _Plan:
    """Where things go: x of each receipt by its number, y of each lane."""

    x: dict[int, int]
    y: dict[tuple[str, str], int]
    jumps: tuple[tuple[int, str, str], ...]
    times: tuple[tuple[int, str], ...]
    width: int
    height: int


def draw_timeline(receipts: Sequence[Receipt], constitution: Constitution, title: str) -> Markup:
    """The picture as inline SVG; nothing in it is markup from outside."""
    plan = _plan(receipts, constitution)
    parts = (
        *_lanes(plan),
        *_jumps(plan),
        *_bars(plan, receipts, constitution),
        *_marks(plan, receipts, constitution),
        *_axis(plan, receipts),
    )
    return tag(
        "svg",
        tag("title", title),
        *parts,
        class_="picture",
        role="img",
        viewBox=f"0 0 {plan.width} {plan.height}",
        width=plan.width,
        height=plan.height,
    )


def _plan(receipts: Sequence[Receipt], constitution: Constitution) -> _Plan:
    x: dict[int, int] = {}
    jumps, times = [], []
    at, previous = LEFT + STEP // 2, None
    for receipt in receipts:
        if previous is not None and receipt.at != previous.at:
            after = f"+{format_duration(receipt.at - previous.at)}"
            at += JUMP
            jumps.append((at - (STEP + JUMP) // 2, after, f"{receipt.at:%H:%M:%S}"))
        elif previous is None:
            times.append((at, f"{receipt.at:%Y-%m-%d %H:%M:%S}Z"))
        x[receipt.seq] = at
        at, previous = at + STEP, receipt
    ladder = sorted(constitution.document.profiles, key=constitution.rank, reverse=True)
    y: dict[tuple[str, str], int] = {}
    below = TOP
    for name in _people(receipts):
        below += 18
        for profile in ladder:
            y[name, profile] = below
            below += LANE
        below += 8
    return _Plan(x, y, tuple(jumps), tuple(times), at + STEP // 2, below + 26)


def _people(receipts: Sequence[Receipt]) -> list[str]:
    """Everybody that a receipt is about, the first first."""
    named = (one.fields["who"]["principal"] for one in receipts)
    return list(dict.fromkeys(name for name in named if name)) or [_NOBODY]


def _lanes(plan: _Plan) -> Iterator[Markup]:
    seen = set()
    for (name, profile), y in plan.y.items():
        if name not in seen:
            seen.add(name)
            yield tag("text", name, class_="person", x=4, y=y - 5)
        yield tag("rect", class_="lane", x=0, y=y, width=plan.width, height=LANE - 4)
        yield tag("text", profile.upper(), class_="rung", x=8, y=y + LANE // 2 + 2)


def _jumps(plan: _Plan) -> Iterator[Markup]:
    for x, after, at in plan.jumps:
        band = {"x": x - 24, "y": 6, "width": 48, "height": plan.height - 32}
        yield tag("rect", class_="jump", **band)
        yield tag("text", f">> {after}", class_="jumped", x=x, y=20, text_anchor="middle")
        yield tag("text", at, class_="time", x=x, y=34, text_anchor="middle")
    for x, at in plan.times:
        yield tag("text", at, class_="time", x=x - 12, y=34)


def _bars(plan: _Plan, receipts: Sequence[Receipt], constitution: Constitution) -> Iterator[Markup]:
    for holding in read_holdings(receipts):
        y = plan.y[holding.principal, holding.profile] + (LANE - 4 - BAR) // 2
        left = plan.x[holding.grant.seq]
        right = plan.x[holding.end.seq] if holding.end is not None else plan.width
        rank = constitution.rank(holding.profile) % 4
        shape = {"x": left, "y": y, "width": right - left, "height": BAR}
        bar = tag("rect", class_=f"lease rank{rank}", **shape)
        ending = "" if holding.end is None else _end(holding, right, y)
        # A hint for the mouse; every word of it stands in the table of who held what.
        yield tag("g", tag("title", _tell(holding)), bar, ending)


def _end(holding: Holding, x: int, y: int) -> Markup:
    kind = "ttl" if holding.ending == TIMED_OUT else "early"
    return tag("line", class_=f"end {kind}", x1=x, y1=y - 4, x2=x, y2=y + BAR + 4)


def _tell(holding: Holding) -> str:
    until = "open" if holding.until is None else f"{holding.until:%H:%M:%S}"
    since = f"{holding.grant.at:%H:%M:%S}"
    first, last = holding.receipts[0], holding.receipts[-1]
    when = f"{since} to {until}"
    if holding.until == holding.grant.at:
        when = f"at {since}, receipts {first} to {last},"
    return f"{holding.profile} {when} by {holding.grant.rule}"


def _marks(
    plan: _Plan, receipts: Sequence[Receipt], constitution: Constitution
) -> Iterator[Markup]:
    for moment in walk(receipts, constitution.baseline):
        receipt = moment.receipt
        name = receipt.fields["who"]["principal"] or next(iter(plan.y))[0]
        x = plan.x[receipt.seq]
        y = plan.y[name, moment.before] + (LANE - 4) // 2
        if not receipt.granted:
            cross = f"M{x - 6} {y - 6}L{x + 6} {y + 6}M{x + 6} {y - 6}L{x - 6} {y + 6}"
            hint = tag("title", f"refused by {receipt.rule}")
            yield tag("g", hint, tag("path", class_="denial", d=cross))
        elif moment.before == moment.after:
            yield tag("circle", class_="receipt", cx=x, cy=y, r=4)


def _axis(plan: _Plan, receipts: Sequence[Receipt]) -> Iterator[Markup]:
    y = plan.height - 10
    yield tag("text", "receipt", class_="time", x=8, y=y)
    for receipt in receipts:
        x = plan.x[receipt.seq]
        yield tag("text", str(receipt.seq), class_="time", x=x, y=y, text_anchor="middle")

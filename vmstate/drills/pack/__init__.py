"""The pack: what an auditor gets of a suite of drills, as one page and as data.

    pack.html    one file that needs no network, recomputes itself and prints
    pack.json    {"core": everything that the page tells, "suite": the suite's own ledger,
                  "beside": what another run has otherwise}

The suite has a ledger of its own, a drill's, of origin `<constitution>/drill/suite`. Its receipt
`drill_pack` holds each drill's root and verdict and the digest of `core`, and is in the tree before
the suite's last checkpoint is signed. Both files are canonical JSON where they hold data, so anyone
can work the digest out again.

Law 13 reaches this far: the same suite under the same constitution gives the same `core`, and its
own ledger the same root. A drill's checkpoint is in `core` without its signature. Signatures and
the keys of logs are random; the drawing of the law is another one where another version of the
drawing program is installed. They stand in `beside`, with the digest of the drawing, and no ledger
knows of them. How long the runs took in real time is in none of it.
"""

import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from vmstate import canonical
from vmstate.canonical import Json, format_at, format_duration
from vmstate.clock import VirtualClock
from vmstate.constitution.diagram import render, to_mermaid
from vmstate.constitution.law import Constitution
from vmstate.decisions.decision import Entry, Grounds
from vmstate.drills.pack.account import baseline_body, holding_body, read_holdings, timeline
from vmstate.drills.pack.conditions import judge
from vmstate.drills.pack.enforced import Quotes, denials
from vmstate.drills.pack.looked import checks_of
from vmstate.drills.pack.page import draw_page, fill_page, style_digest
from vmstate.drills.pack.picture import draw_timeline
from vmstate.drills.runner import DrillRun
from vmstate.errors import InputError
from vmstate.ledger.store import Ledger
from vmstate.ledger.transaction import DrillMark

PAGE, DATA = "pack.html", "pack.json"
SUITE = "suite"
_BLANK_LINE = "\n\n"  # ends the body of a signed note


@dataclass(frozen=True, slots=True)
class Pack:
    """What was written. `digest` is of the data's core, `root` the suite ledger's tree root."""

    id: str
    folder: Path
    page: Path
    data: Path
    digest: str
    root: str


def write_pack(
    runs: Sequence[DrillRun],
    constitution: Constitution,
    folder: Path,
    *,
    keep: Path | None = None,
) -> Pack:
    """Write the pack of `runs`, all under `constitution`, into `folder`, which is made, or empty.

    `keep` is a folder in which the suite's ledger stays, as `suite.db`; without it, it goes.

    Raises:
        InputError: no run, two of one id, one called `suite`, or a folder that can't be used.
    """
    _require_names(runs)
    table = constitution.document.drill
    if table is None:
        raise InputError("the constitution has no [drill] table: add one to run drills")
    make_folder(folder)
    core = _core(runs, constitution)
    diagram = _diagram(constitution)
    pictures = {
        run.drill.id: draw_timeline(run.receipts, constitution, f"timeline of {run.drill.id}")
        for run in runs
        if run.receipts
    }
    drawn = draw_page(core, pictures)
    core = {**core, "page": drawn.digests()}
    beside = _beside(runs, diagram)
    digest = canonical.digest(canonical.encode(core))
    detail = {"id": core["drill_id"], "drills": _outcomes(runs), "pack": digest}
    marker = f"{table.marker}SUITE/{runs[0].drill.start:%Y-%m-%d}"
    over_at = max(run.drill.start + run.virtual_for for run in runs)
    suite = _log_suite(constitution, detail, DrillMark(SUITE, marker, digest, {}), over_at, keep)
    page = fill_page(drawn, core, beside, suite, diagram)
    try:
        (folder / PAGE).write_text(page, encoding="utf-8")
        data: Json = {"core": core, "beside": beside, "suite": suite}
        (folder / DATA).write_bytes(canonical.encode(data))
    except OSError as error:
        raise InputError(f"{folder} can't be written: {error.strerror}") from error
    root = str(suite["root"])
    return Pack(core["drill_id"], folder, folder / PAGE, folder / DATA, digest, root)


def make_folder(folder: Path) -> None:
    """Make the folder of a pack; raises InputError if it holds something, or can't be made."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder} is there already and not an empty folder: name another")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{folder} can't be made: {error.strerror}: name another") from error


def _require_names(runs: Sequence[DrillRun]) -> None:
    if not runs:
        raise InputError("no drill was run: a pack is about one at least")
    ids = [run.drill.id for run in runs]
    if SUITE in ids:
        raise InputError(f"a drill is called {SUITE!r}, as the suite's own ledger is: rename it")
    if twice := sorted({one for one in ids if ids.count(one) > 1}):
        raise InputError(f"two drills are called {twice[0]!r}: give one of them another id")


def _diagram(constitution: Constitution) -> bytes:
    """The picture of the law; without one the pack still has its text, and its Mermaid."""
    try:
        return render(constitution, "svg")
    except InputError:
        return b""


# ---- the data ------------------------------------------------------------------------------------


def _core(runs: Sequence[DrillRun], constitution: Constitution) -> dict[str, Any]:
    """All that the page tells, but for the suite's ledger and the digest of its own words."""
    quotes = Quotes(constitution)
    profiles = sorted(constitution.document.profiles, key=constitution.rank, reverse=True)
    named = canonical.encode([constitution.digest, *(run.drill.digest for run in runs)])
    name = canonical.digest(named).removeprefix("sha256:")[:8]
    drills = [_drill(run, constitution, quotes) for run in runs]
    return {
        "v": 1,
        "drill_id": f"DRILL-{runs[0].drill.start:%Y-%m-%d}-{name}",
        "pass_fail": {run.drill.id: run.verdict for run in runs},
        "scroll_roots": {
            one["id"]: {scroll: at["root"] for scroll, at in one["scrolls"].items()}
            for one in drills
        },
        "escalations": [
            holding_body(holding, run.drill.id)
            for run in runs
            for holding in read_holdings(run.receipts)
        ],
        "decisions": [
            {"drill": one["id"], **entry}
            for one in drills
            for entry in one["timeline"]
            if entry["scroll"].startswith("cognitive ")
        ],
        "conditions": [
            {"id": one.id, "drill": one.drill, "must": one.must, "passed": one.passed,
             "receipts": list(one.receipts), "steps": list(one.steps)}
            for one in judge(runs, constitution)
        ],
        "drills": drills,
        "constitution": {
            "name": constitution.name,
            "version": constitution.version,
            "digest": constitution.digest,
            "baseline": constitution.baseline,
            "profiles": [[constitution.rank(profile), profile] for profile in profiles],
            "toml": constitution.toml.decode(),
            "diagram": to_mermaid(constitution),
        },
    }  # fmt: skip


def _drill(run: DrillRun, constitution: Constitution, quotes: Quotes) -> dict[str, Any]:
    after = run.aftermath
    scrolls: Mapping[str, tuple[int, str]] = {} if after is None else after.scrolls
    return {
        "id": run.drill.id,
        "title": run.drill.title,
        "marker": run.drill.marker,
        "digest": run.drill.digest,
        "start": format_at(run.drill.start),
        "verdict": run.verdict,
        "reason": run.reason or None,
        "virtual": format_duration(run.virtual_for),
        "root": run.root or None,
        "origin": None if after is None else after.origin,
        "checkpoint": None if after is None else _unsigned(after.note),
        "scrolls": {name: {"size": size, "root": root} for name, (size, root) in scrolls.items()},
        "size": run.drill.size,
        "steps": checks_of(run),
        "timeline": timeline(run.receipts),
        "denials": denials(run.receipts, quotes),
        "baseline": baseline_body(run, constitution),
        "leaves": [receipt.leaf.hex() for receipt in run.receipts],
        "receipts": [receipt.body.decode() for receipt in run.receipts],
    }


def _unsigned(note: str) -> str:
    """The body of a signed note: origin, size and root."""
    return f"{note.partition(_BLANK_LINE)[0]}\n"


def _beside(runs: Sequence[DrillRun], diagram: bytes) -> dict[str, Any]:
    """What the page shows and no ledger can know of."""
    return {
        "signed": {
            run.drill.id: {"verifier": run.aftermath.verifier, "checkpoint": run.aftermath.note}
            for run in runs
            if run.aftermath is not None
        },
        "diagram": canonical.digest(diagram) if diagram else None,
        "style": style_digest(),
    }


# ---- the suite's ledger --------------------------------------------------------------------------


def _outcomes(runs: Sequence[DrillRun]) -> dict[str, Json]:
    return {run.drill.id: {"root": run.root or None, "verdict": run.verdict} for run in runs}


def _log_suite(
    constitution: Constitution,
    detail: Mapping[str, Json],
    mark: DrillMark,
    over_at: datetime,
    keep: Path | None,
) -> dict[str, Any]:
    """Put the pack on record in a drill's ledger of its own; returns all there is in it."""
    entry = Entry("drill_pack", "recorded", Grounds("drill"), detail=detail)
    now = VirtualClock(over_at).read()
    with ExitStack() as closing:
        path = keep or Path(closing.enter_context(tempfile.TemporaryDirectory("-vmstate-suite")))
        origin = f"{constitution.name}/drill/{SUITE}"
        ledger = Ledger.create(path / f"{SUITE}.db", constitution, now, origin=origin, drill=mark)
        closing.callback(ledger.close)
        ledger.transact(lambda transaction: transaction.append(entry, now))
        with ledger.read() as snapshot:
            head, receipts = snapshot.head(), tuple(snapshot.receipts())
    return {
        "origin": origin,
        "verifier": str(ledger.verifier),
        "checkpoint": head.note,
        "root": f"sha256:{head.tree.root().hex()}",
        "pack": detail["pack"],
        "leaves": [receipt.leaf.hex() for receipt in receipts],
        "receipts": [receipt.body.decode() for receipt in receipts],
    }

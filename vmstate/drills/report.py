"""What a drill run says: as JSON for programs. The terminal's own words are the interface's."""

from collections.abc import Iterable

from vmstate.canonical import Json, format_at, format_duration
from vmstate.clock import duration_us
from vmstate.drills.runner import DrillRun, StepRun


def run_body(run: DrillRun) -> dict[str, Json]:
    """One run: verdict, steps with what was expected and got, and the root of its ledger."""
    return {
        "id": run.drill.id,
        "title": run.drill.title,
        "marker": run.drill.marker,
        "verdict": run.verdict,
        "reason": run.reason or None,
        "root": run.root or None,
        "receipts": len(run.receipts),
        "virtual": format_duration(run.virtual_for),
        "wall_us": duration_us(run.wall_for),
        "steps": [_step_body(step) for step in run.steps],
    }


def suite_body(runs: Iterable[DrillRun], constitution: str) -> dict[str, Json]:
    """Several runs, under one constitution."""
    bodies = [run_body(run) for run in runs]
    passed = all(body["verdict"] == "pass" for body in bodies)
    drills: list[Json] = list(bodies)
    return {"ok": passed, "constitution": constitution, "drills": drills}


def _step_body(step: StepRun) -> dict[str, Json]:
    return {
        "name": step.name,
        "at": format_at(step.at),
        "passed": step.passed,
        "receipts": [receipt.seq for receipt in step.receipts],
        "differences": [
            {"what": one.what, "expected": one.expected, "got": one.got} for one in step.differences
        ],
    }

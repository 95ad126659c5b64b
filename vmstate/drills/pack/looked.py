"""What each step of a drill looked at, what it expected there, and what it saw."""

from collections.abc import Iterable, Iterator

from vmstate.canonical import Json, format_at
from vmstate.drills.document import Expectation
from vmstate.drills.expect import Difference, fields_of, spell
from vmstate.drills.runner import DrillRun, StepRun
from vmstate.ledger.receipt import Receipt

_Look = tuple[str, str, str]  # what, expected, got


def checks_of(run: DrillRun) -> list[Json]:
    """The steps, set-up and clean-up among them, each with all that it looked at.

    Expectations read as the drill writes them, with their `{references}`.
    """
    return [_step(run, step) for step in run.steps]


def _step(run: DrillRun, step: StepRun) -> dict[str, Json]:
    document = run.drill.document
    parts = (("set-up", document.setup), ("clean-up", document.cleanup))
    part = next((name for name, among in parts if any(step.step is one for one in among)), "step")
    failed = {one.what: one for one in step.differences}
    checks: list[Json] = []
    for what, expected, got in _looks(step):
        wrong = failed.pop(what, None)
        seen = got if wrong is None else wrong.got
        checks.append({"what": what, "expected": expected, "got": seen, "passed": wrong is None})
    checks += [
        {"what": one.what, "expected": one.expected, "got": one.got, "passed": False}
        for one in failed.values()
    ]
    receipts: list[Json] = [receipt.seq for receipt in step.receipts]
    return {
        "part": part,
        "name": step.name,
        "at": format_at(step.at),
        "passed": step.passed,
        "checks": checks,
        "receipts": receipts,
    }


def _looks(step: StepRun) -> Iterator[_Look]:
    """Each expectation, named as its difference would be."""
    expect = step.step.expect
    for name, value in expect.result.items():
        yield f"result {name}", spell(value), spell(step.result.get(name, ""))
    yield from _refusal(expect, step.receipts[-1:])
    if expect.receipts is not None:
        yield from _receipts(expect, step.receipts)
    for name, profile in expect.profile.items():
        yield f"profile of {name}", profile, profile
    if expect.active is not None:
        yield "active leases", str(expect.active), str(expect.active)
    claimed = {f"profile of {name}" for name in expect.profile}
    for what in expect.unchanged:
        # Profiles that changed are differences of their own, each by its name.
        if what != "profiles" or all(one.what in claimed for one in _moved(step)):
            yield what, "unchanged", "unchanged"


def _moved(step: StepRun) -> list[Difference]:
    return [one for one in step.differences if one.what.startswith("profile of ")]


def _refusal(expect: Expectation, answer: Iterable[Receipt]) -> Iterator[_Look]:
    if expect.denied is None:
        return
    for receipt in answer:
        yield "outcome", "denied", receipt.outcome
        if expect.denied.rule is not None:
            yield "denied by rule", expect.denied.rule, receipt.rule
        if expect.denied.code is not None:
            codes = ", ".join(sorted({one.code for one in receipt.unmet}))
            yield "denied with code", expect.denied.code, codes
        if expect.denied.error is not None:
            yield "denied saying", expect.denied.error, receipt.message


def _receipts(expect: Expectation, got: tuple[Receipt, ...]) -> Iterator[_Look]:
    assert expect.receipts is not None
    types = ", ".join(str(one.get("type", "a receipt")) for one in expect.receipts) or "none"
    yield "receipts", types, ", ".join(receipt.type for receipt in got) or "none"
    for number, (fields, receipt) in enumerate(zip(expect.receipts, got, strict=False), 1):
        where = f"receipt {number}" if len(got) > 1 else "receipt"
        seen = fields_of(receipt)
        for name, value in fields.items():
            if name != "type":
                yield f"{where} {name}", spell(value), spell(seen.get(name, "no such field"))

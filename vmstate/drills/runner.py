"""Run a drill through the real engine, on time that the drill moves.

Law 13: the same drill on the same constitution gives the same tree root. Stand-ins' keys and
nonces follow from the drill, the constitution and the ledger's origin; only the log key is random,
and it enters no leaf.

Law 14: a drill can't touch the real thing. It has a ledger of its own, which says so in its first
row, and an origin of its own, so that nothing signed in it counts anywhere else.
"""

import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from vmstate import canonical
from vmstate.authority import Authority
from vmstate.clock import VirtualClock
from vmstate.constitution.law import Constitution
from vmstate.drills.document import IDLE, Denial, Expectation, Step, Value
from vmstate.drills.drill import Drill
from vmstate.drills.expect import (
    Difference,
    compare_denial,
    compare_fields,
    compare_receipts,
    result_of,
)
from vmstate.drills.naming import check_names
from vmstate.drills.references import fill, parse_wait
from vmstate.drills.stand_ins import StandIns
from vmstate.drills.verbs import VERBS, Stage, budgets_of, read_context
from vmstate.errors import InputError, UnknownPrincipal, VmstateError
from vmstate.expiry import VirtualExpiry
from vmstate.ledger.audit import audit_ledger
from vmstate.ledger.receipt import Receipt
from vmstate.treasury.budget import Budget

SET_BY = "vmstate drill run"
PASS, FAIL, BLOCKED, ERROR = "pass", "fail", "blocked", "error"


@dataclass(frozen=True, slots=True)
class StepRun:
    """One step as it went: the receipts it left, and how it differs from what was expected.

    `step` is what the drill says, `result` what its caller got back.
    """

    name: str
    at: datetime
    receipts: tuple[Receipt, ...]
    differences: tuple[Difference, ...]
    step: Step
    result: Mapping[str, Value]

    @property
    def passed(self) -> bool:
        return not self.differences


@dataclass(frozen=True, slots=True)
class Aftermath:
    """What a drill's ledger says of itself once all is over: its tables, not its receipts.

    `note` is its last signed checkpoint, `verifier` the key that it is to be verified with,
    `scrolls` the size and root of each scroll, `next_deadline` what its scheduler still waits for.
    """

    origin: str
    verifier: str
    note: str
    scrolls: Mapping[str, tuple[int, str]]
    open_leases: int
    next_deadline: datetime | None
    budgets: tuple[Budget, ...]
    findings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class DrillRun:
    """A drill as it went. `root` is its ledger's tree root: the same whenever it runs the same.

    `aftermath` is None where there is no ledger to ask: the drill was blocked, or broke off.
    """

    drill: Drill
    verdict: str
    steps: tuple[StepRun, ...]
    receipts: tuple[Receipt, ...]
    root: str
    virtual_for: timedelta
    wall_for: timedelta
    reason: str = ""
    aftermath: Aftermath | None = None


class _Stopped(Exception):  # noqa: N818 -- not an error of the engine
    """The drill reached one of its limits."""


def run_suite(
    drills: Iterable[Drill], constitution: Constitution, *, keep: Path | None = None
) -> Iterator[DrillRun]:
    """Run drills one after the other; a gate that does not pass blocks what comes after it.

    `keep` is a folder in which each drill's ledger stays, as `<id>.db`; without it they go.

    Raises:
        DrillError: before any of them runs: the constitution doesn't know a name that one uses.
        InputError: likewise: the constitution has no [drill] table.
    """
    drills, blocked = tuple(drills), ""
    check_names(drills, constitution)
    for drill in drills:
        if blocked:
            none = timedelta()
            yield DrillRun(drill, BLOCKED, (), (), "", none, none, f"{blocked} did not pass")
            continue
        run = run_drill(drill, constitution, keep=keep)
        if drill.document.drill.gate and run.verdict != PASS:
            blocked = drill.id
        yield run


def run_drill(drill: Drill, constitution: Constitution, *, keep: Path | None = None) -> DrillRun:
    """Run one drill in a ledger of its own.

    What goes wrong while running (a limit reached, a file that can't be written) is the verdict
    `error` with its reason, not an exception.
    """
    began = time.monotonic()
    steps: list[StepRun] = []
    try:
        with _stage(drill, constitution, keep, began) as stage:
            reason = _perform(stage, steps)
            receipts, root, aftermath = _read_out(stage)
            passed_for = stage.now - drill.start
    except VmstateError as error:
        wall_for = timedelta(seconds=time.monotonic() - began)
        return DrillRun(drill, ERROR, tuple(steps), (), "", timedelta(), wall_for, str(error))
    wall_for = timedelta(seconds=time.monotonic() - began)
    findings = aftermath.findings
    if findings and not reason:
        reason = f"audit: {findings[0]}"
    broken = bool(findings) or any(not step.passed for step in steps)
    # A step that was not as expected is a fail, whatever broke off after it.
    verdict = FAIL if broken else ERROR if reason else PASS
    return DrillRun(
        drill, verdict, tuple(steps), receipts, root, passed_for, wall_for, reason, aftermath
    )


@contextmanager
def _stage(
    drill: Drill, constitution: Constitution, keep: Path | None, began: float
) -> Iterator[Stage]:
    table = constitution.document.drill
    if table is None:
        raise InputError("the constitution has no [drill] table: add one to run drills")
    if not drill.marker.startswith(table.marker):
        what = f"the marker {drill.marker!r} does not begin with {table.marker!r}"
        raise InputError(f"{drill.name}: {what}, by which this constitution tells drills")
    check_names((drill,), constitution)
    origin = f"{constitution.name}/drill/{drill.id}"
    stand_ins = StandIns(constitution, origin=origin, digest=drill.digest)
    mark = stand_ins.mark(drill.id, drill.marker)
    with ExitStack() as closing:
        folder = keep or Path(closing.enter_context(tempfile.TemporaryDirectory("-vmstate-drill")))
        clock = VirtualClock(drill.start)
        ledger = folder / f"{drill.id}.db"
        authority = Authority.create(constitution, ledger, clock=clock, origin=origin, drill=mark)
        closing.callback(authority.close)
        expiry = VirtualExpiry(authority)
        closing.callback(expiry.stop)
        heading = drill.document.drill
        stage = Stage(
            drill,
            authority,
            expiry,
            stand_ins,
            table.principal,
            drill.start + heading.virtual_limit,
            began + heading.limit.total_seconds(),
            {"marker": drill.marker, "date": heading.start[:10]},
        )
        authority.subscribe(lambda receipt: _watch(stage, receipt))
        authority.drill_mode(on=True, set_by=SET_BY)
        yield stage


def _perform(stage: Stage, steps: list[StepRun]) -> str:
    """Set-up, steps, clean-up; returns why it stopped early, or nothing.

    Clean-up always runs, each of its steps whatever the one before it came to, and last of all the
    end of drill mode, which no drill can forget.
    """
    document = stage.drill.document
    reason = ""
    for step in (*document.setup, *document.step):
        if reason := _try_step(stage, step, steps):
            break
    for step in document.cleanup:
        failed = _try_step(stage, step, steps)
        reason = reason or failed
    _leave_nothing(stage)
    return reason


def _try_step(stage: Stage, step: Step, steps: list[StepRun]) -> str:
    """Run one step; returns why it could not be run to its end, or nothing."""
    try:
        steps.append(_run_step(stage, step, len(steps) + 1))
    except _Stopped as stopped:
        return str(stopped)
    except VmstateError as error:
        return f"step {len(steps) + 1}: {error}"
    return ""


def _run_step(stage: Stage, step: Step, number: int) -> StepRun:
    if time.monotonic() > stage.deadline:
        limit = canonical.format_duration(stage.drill.document.drill.limit)
        raise _Stopped(f"step {number}: the drill took longer than its limit of {limit}")
    before = _size(stage)
    leases = _leases(stage)
    profiles = {name: _profile(stage, name) for name in _principals(stage)}
    answer: Receipt | None = None
    result: dict[str, Value] = {}
    budgets = budgets_of(stage)
    if step.do == "may":
        who = step.as_ or stage.principal
        result = {"success": stage.authority.may(who, fill(step.with_.what or "", stage.saved))}
    elif step.do == "context":
        result = read_context(stage)
    elif step.do is not None:
        answer = VERBS[step.do](stage, step.as_ or stage.principal, step.with_)
        result = result_of(answer)
    else:
        _wait(stage, step, number)
    if step.save is not None:
        stage.saved |= {f"{step.save}.{name}": str(value) for name, value in result.items()}
    with stage.authority.ledger.read() as snapshot:
        receipts = tuple(snapshot.receipts(after=before - 1))
    found = [*stage.violations]
    stage.violations.clear()
    found += _compare(stage, step.expect, answer, result, receipts)
    if "leases" in step.expect.unchanged and _leases(stage) != leases:
        found.append(Difference("leases", "unchanged", "changed"))
    if "budgets" in step.expect.unchanged and budgets_of(stage) != budgets:
        found.append(Difference("budgets", "unchanged", "changed"))
    if "profiles" in step.expect.unchanged:
        now = {name: _profile(stage, name) for name in profiles}
        found += compare_fields("profile of", profiles, now)
    return StepRun(step.name or _title(step), stage.now, receipts, tuple(found), step, result)


def _title(step: Step) -> str:
    if step.do is None:
        return f"wait for {step.advance}" if step.advance else f"wait until {step.advance_to}"
    given = step.with_
    about = given.to or given.lease or given.what or given.act or given.budget or given.request
    about = about or given.lock or given.principal or given.profile
    about = about or ("everybody" if given.all else "")
    return f"{step.do} {about}".strip()


def _compare(
    stage: Stage,
    expect: Expectation,
    answer: Receipt | None,
    result: Mapping[str, Value],
    receipts: tuple[Receipt, ...],
) -> Iterator[Difference]:
    yield from compare_fields("result", _filled(stage, expect.result), result)
    if expect.denied is not None and answer is not None:
        said = expect.denied.model_dump(exclude_none=True)
        filled = {name: fill(text, stage.saved) for name, text in said.items()}
        yield from compare_denial(Denial(**filled), answer)
    elif expect.denied is not None:
        yield Difference("outcome", "denied", "nothing was asked")
    elif answer is not None and not answer.granted and "success" not in expect.result:
        yield Difference("outcome", "granted", f"denied: {answer.message}")
    if expect.receipts is not None:
        wanted = tuple(_filled(stage, fields) for fields in expect.receipts)
        yield from compare_receipts(wanted, receipts)
    for name, profile in expect.profile.items():
        held = _profile(stage, name)
        if held != profile:
            yield Difference(f"profile of {name}", profile, held)
    if expect.active is not None:
        active = sum(len(one.leases) for one in stage.authority.status())
        if active != expect.active:
            yield Difference("active leases", str(expect.active), str(active))


def _filled(stage: Stage, fields: Mapping[str, Value]) -> dict[str, Value]:
    return {
        name: fill(value, stage.saved) if isinstance(value, str) else value
        for name, value in fields.items()
    }


def _wait(stage: Stage, step: Step, number: int) -> None:
    if step.advance == IDLE:
        while (at := stage.expiry.next_deadline()) is not None:
            _move(stage, at, number)
        return
    if step.advance is not None:
        at = stage.now + canonical.parse_duration(step.advance)
    else:
        base, offset = parse_wait(step.advance_to or "")
        at = canonical.parse_at(fill(base, stage.saved)) + offset
    _move(stage, at, number)


def _move(stage: Stage, at: datetime, number: int) -> None:
    if at < stage.now:
        now = canonical.format_at(stage.now)
        raise _Stopped(f"step {number}: waits for {canonical.format_at(at)}, it is {now} already")
    if at > stage.stop_at:
        limit = canonical.format_duration(stage.drill.document.drill.virtual_limit)
        raise _Stopped(f"step {number}: waits longer than its virtual limit of {limit}")
    stage.expiry.run_until(at)


def _watch(stage: Stage, receipt: Receipt) -> None:
    """What must hold after every receipt, whatever the drill is about."""
    with stage.authority.ledger.read() as snapshot:
        leases = {lease.id: lease for lease in snapshot.leases.every(open_only=True)}
    for lease in leases.values():
        parent = leases.get(lease.parent) if lease.parent is not None else None
        if lease.parent is not None and parent is None:
            what = f"after receipt {receipt.seq}: parent of {lease.id}"
            stage.violations.append(Difference(what, "an open lease", "ended"))
        elif parent is not None and parent.expires_at < lease.expires_at:
            what = f"after receipt {receipt.seq}: end of {lease.id}"
            ends = canonical.format_at(parent.expires_at), canonical.format_at(lease.expires_at)
            stage.violations.append(Difference(what, f"by {ends[0]}", ends[1]))


def _leave_nothing(stage: Stage) -> None:
    """Clean-up that no drill can forget: the end of drill mode ends whatever it opened."""
    stage.authority.drill_mode(on=False, set_by=SET_BY)


def _profile(stage: Stage, name: str) -> str:
    """The profile that `name` holds; nobody's name holds none."""
    try:
        return stage.authority.standing(name).profile
    except UnknownPrincipal:
        return "unknown"


def _principals(stage: Stage) -> tuple[str, ...]:
    steps = (*stage.drill.document.setup, *stage.drill.document.step)
    return tuple(sorted({stage.principal, *(step.as_ for step in steps if step.as_)}))


def _leases(stage: Stage) -> tuple[Any, ...]:
    with stage.authority.ledger.read() as snapshot:
        return tuple(snapshot.leases.every())


def _size(stage: Stage) -> int:
    with stage.authority.ledger.read() as snapshot:
        return snapshot.head().tree.size


def _read_out(stage: Stage) -> tuple[tuple[Receipt, ...], str, Aftermath]:
    ledger = stage.authority.ledger
    findings = tuple(str(finding) for finding in audit_ledger(ledger).findings)
    with ledger.read() as snapshot:
        head = snapshot.head()
        aftermath = Aftermath(
            origin=ledger.origin,
            verifier=str(ledger.verifier),
            note=head.note,
            scrolls=snapshot.scrolls(),
            open_leases=sum(1 for _ in snapshot.leases.every(open_only=True)),
            next_deadline=stage.expiry.next_deadline(),
            budgets=snapshot.budgets(),
            findings=findings,
        )
        return tuple(snapshot.receipts()), f"sha256:{head.tree.root().hex()}", aftermath

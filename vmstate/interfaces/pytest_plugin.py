"""Authority in somebody's own tests: `vm`, `vm_clock`, `vm_receipts`, and drill files as tests.

    def test_guardian_gives_itself_back(vm, vm_clock):
        vm.escalate("alice", "operator", trigger="operator_request", reason="a test of mine")
        vm_clock.advance("1h")
        assert not vm.may("alice", "operator")

    [tool.pytest.ini_options]
    vmstate_constitution = "constitution.toml"     # from the root folder; or "preset:vaultmesh"

    @pytest.mark.vmstate(constitution="other.toml", start="2030-01-01T00:00:00Z")

Without that setting the law is `constitution.toml` in the root folder, and where there is none the
packaged starter. Each `*.drill.toml` that pytest comes by is one test under the same law; a marker
that `pytest_collection_modifyitems` puts on it names another, such as the packaged drills' own,
`preset:vaultmesh`. A gate blocks nothing here: each file stands for itself.

A project that uses none of this pays for reading this one file: the engine is imported once a test
or a drill asks for it. That is before the first test runs, because a user may have frozen time by
then, and what is imported in frozen time may keep it, or fail: pydantic can't read freezegun's
`datetime`. A test that asks for `vm` by `getfixturevalue` alone comes later than that.
"""

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from importlib import import_module
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from vmstate.authority import Authority
    from vmstate.constitution.law import Constitution
    from vmstate.drills.drill import Drill
    from vmstate.drills.runner import DrillRun
    from vmstate.ledger.receipt import Receipt

INI = "vmstate_constitution"
PRESET = "preset:"
START = "2026-01-01T12:00:00Z"  # when a test begins, unless its marker says otherwise
DEADLINES = 10_000  # a test that grants again at each end would never come to rest
SUFFIX = ".drill.toml"
_FIXTURES = frozenset(("vm", "vm_clock", "vm_receipts"))
_ENGINE = ("vmstate.authority", "vmstate.expiry", "vmstate.drills.runner")
_MARKER = (
    "vmstate(constitution=None, start=None): the law of this test's `vm` or drill, a file's path "
    "from the root folder or 'preset:NAME'; and when the test's time begins"
)


class VmClock:
    """The time of a test's `vm`: it moves when told to, and each lease ends at its own instant."""

    def __init__(self, vm: "Authority") -> None:
        from vmstate.expiry import VirtualExpiry

        self._vm = vm
        self._expiry = VirtualExpiry(vm)

    @property
    def now(self) -> datetime:
        """The present time, aware and in UTC."""
        return self._vm.clock.read().wall

    def advance(self, duration: str | timedelta) -> None:
        """Let `duration` pass, such as "15m" or "1h30m", deadline by deadline.

        Raises:
            InputError: the text is not a duration.
            ValueError: it is negative.
        """
        from vmstate.canonical import parse_duration

        self.advance_to(
            self.now + (parse_duration(duration) if isinstance(duration, str) else duration)
        )

    def advance_to(self, at: str | datetime) -> None:
        """Let time pass until `at`, a time such as "2026-01-01T12:15:00Z" or an aware datetime.

        Raises:
            InputError: the text is not a time.
            ValueError: it is in the past, or has no time zone.
        """
        from vmstate.canonical import parse_at

        until = parse_at(at) if isinstance(at, str) else at
        if until.tzinfo is None:
            raise ValueError(f"{until} has no time zone: write {until}+00:00")
        self._expiry.run_until(until)

    def until_idle(self) -> None:
        """Let time pass until no lease is left.

        Raises:
            RuntimeError: after 10,000 deadlines there is still one to come.
        """
        for _ in range(DEADLINES):
            deadline = self._expiry.next_deadline()
            if deadline is None:
                return
            self._expiry.run_until(deadline)
        raise RuntimeError(f"a lease was still open after {DEADLINES:,} deadlines, at {self.now}")

    def stop(self) -> None:
        """Release the scheduler; the fixture does."""
        self._expiry.stop()


# ---- fixtures ----------------------------------------------------------------------------------


@pytest.fixture
def vm(request: pytest.FixtureRequest, tmp_path: Path) -> "Iterator[Authority]":
    """An authority on a new ledger of this test's own, at a fixed time that stands still.

    The same test leaves the same receipts: only the log's key is random, and it enters no leaf.
    """
    from vmstate.authority import Authority
    from vmstate.canonical import parse_at
    from vmstate.clock import VirtualClock

    asked = _asked(request.node)
    law = _law(request.node)
    start = asked.get("start") or START
    clock = VirtualClock(parse_at(start) if isinstance(start, str) else start)
    path, origin = tmp_path / "vm.db", f"{law.name}/test"
    authority = Authority.create(law, path, clock=clock, origin=origin)
    yield authority
    with authority.ledger.read() as snapshot:
        tree = snapshot.head().tree
    _tell(request.node, f"sha256:{tree.root().hex()}", tree.size)
    authority.close()


@pytest.fixture
def vm_clock(vm: "Authority") -> Iterator[VmClock]:
    """The time of `vm`: `advance("15m")`, `advance_to(...)`, `until_idle()`, `now`."""
    clock = VmClock(vm)
    yield clock
    clock.stop()


@pytest.fixture
def vm_receipts(vm: "Authority") -> "Callable[[], tuple[Receipt, ...]]":
    """`vm_receipts()` is every receipt written since the test began, the oldest first."""
    with vm.ledger.read() as snapshot:
        before = snapshot.head().tree.size

    def receipts() -> "tuple[Receipt, ...]":
        with vm.ledger.read() as snapshot:
            return tuple(snapshot.receipts(after=before - 1))

    return receipts


# ---- drills as tests ---------------------------------------------------------------------------


class DrillFile(pytest.File):
    """A `*.drill.toml`: holds one test."""

    def collect(self) -> "Iterator[DrillItem]":
        """Read the drill; what is wrong in the file is reported line by line."""
        from vmstate.drills.drill import load_drill
        from vmstate.errors import DrillError

        try:
            drill = load_drill(self.path)
        except DrillError as error:
            raise self.CollectError(str(error)) from error
        yield DrillItem.from_parent(self, name=drill.id, drill=drill)


class DrillItem(pytest.Item):
    """A drill, run in a ledger of its own under the law of the test run."""

    def __init__(self, *, drill: "Drill", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.drill = drill

    def runtest(self) -> None:
        """Run it; anything but a pass fails the test."""
        from vmstate.drills.runner import PASS, run_drill

        run = run_drill(self.drill, _law(self))
        if run.root:
            _tell(self, run.root, len(run.receipts))
        if run.verdict != PASS:
            raise _DrillFailed(run)

    def repr_failure(
        self,
        excinfo: pytest.ExceptionInfo[BaseException],
        style: Any = None,
    ) -> Any:
        """The steps, each with what was expected and what there was."""
        if isinstance(excinfo.value, _DrillFailed):
            return "\n".join(_told(excinfo.value.run))
        return super().repr_failure(excinfo, style)

    def reportinfo(self) -> tuple[Path, None, str]:
        """What heads the failure."""
        return self.path, None, f"{self.drill.id}: {self.drill.title}"


class _DrillFailed(Exception):  # noqa: N818 -- a verdict of the drill, not an error of ours
    """A drill did not pass."""

    def __init__(self, run: "DrillRun") -> None:
        super().__init__(run.verdict)
        self.run = run


def _told(run: "DrillRun") -> Iterator[str]:
    failed = [f"step {n}: {step.name}" for n, step in enumerate(run.steps, 1) if not step.passed]
    yield f"{run.verdict}: {run.reason or failed[0]}"  # pytest's summary shows this line alone
    for number, step in enumerate(run.steps, 1):
        at = step.at.strftime("%Y-%m-%d %H:%M:%SZ")
        yield f"{'ok  ' if step.passed else 'FAIL'} {number:>3}  {at}  {step.name}"
        for one in step.differences:
            yield f"          {one.what}"
            yield f"            expected  {one.expected}"
            yield f"            got       {one.got}"


# ---- what pytest calls -------------------------------------------------------------------------


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the one setting."""
    told = "law of `vm` and of drill files: a path from the root folder, or 'preset:NAME'"
    parser.addini(INI, told, default="")


def pytest_configure(config: pytest.Config) -> None:
    """Make the marker known."""
    config.addinivalue_line("markers", _MARKER)


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> DrillFile | None:
    """Take `*.drill.toml` for a test."""
    if not file_path.name.endswith(SUFFIX):
        return None
    return DrillFile.from_parent(parent, path=file_path)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Import the engine while time is still real, if any test is going to use it."""
    if any(_uses_the_engine(item) for item in session.items):
        for name in _ENGINE:
            import_module(name)


# ---- inside ------------------------------------------------------------------------------------


def _uses_the_engine(item: pytest.Item) -> bool:
    return isinstance(item, DrillItem) or bool(_FIXTURES & set(getattr(item, "fixturenames", ())))


def _asked(item: pytest.Item) -> dict[str, Any]:
    """What the nearest marker says."""
    marker = item.get_closest_marker("vmstate")
    if marker is None:
        return {}
    unknown = [*marker.args, *(set(marker.kwargs) - {"constitution", "start"})]
    if unknown:
        what = "takes constitution=... and start=..., nothing else"
        pytest.fail(f"the marker vmstate has {unknown[0]!r}: it {what}", pytrace=False)
    return dict(marker.kwargs)


def _law(item: pytest.Item) -> "Constitution":
    """The law of this test; one that does not load fails it with every mistake in a line."""
    from vmstate.constitution.loading import load_constitution, read_constitution
    from vmstate.errors import ConstitutionError

    root = item.config.rootpath
    named = str(_asked(item).get("constitution") or item.config.getini(INI) or _default(root))
    try:
        if named.startswith(PRESET):
            return read_constitution(_preset(named.removeprefix(PRESET)), name=named)
        return load_constitution(root / named)
    except ConstitutionError as error:
        pytest.fail(str(error), pytrace=False)


def _default(root: Path) -> str:
    return "constitution.toml" if (root / "constitution.toml").exists() else f"{PRESET}starter"


def _preset(name: str) -> bytes:
    folder = files("vmstate.constitution") / "presets"
    presets = sorted(one.name.removesuffix(".toml") for one in folder.iterdir())
    if name not in presets:
        pytest.fail(f"there is no preset {name!r}: write {' or '.join(presets)}", pytrace=False)
    return (folder / f"{name}.toml").read_bytes()


def _tell(item: pytest.Item, root: str, receipts: int) -> None:
    """What a report of this run, such as JUnit's, says of the ledger."""
    item.user_properties.append(("vmstate_root", root))
    item.user_properties.append(("vmstate_receipts", receipts))

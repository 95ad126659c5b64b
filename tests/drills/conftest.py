"""What tests of drills share: the runbook's suite, run once, and a real browser."""

import os
from collections.abc import Callable, Mapping
from importlib.resources import files
from pathlib import Path

import pytest

from vmstate.constitution.law import Constitution
from vmstate.constitution.loading import read_constitution
from vmstate.drills.drill import Drill, packaged_drills, read_drill
from vmstate.drills.runner import DrillRun, run_drill, run_suite

CHROMIUM = Path(os.environ.get("VMSTATE_CHROMIUM", "/usr/bin/chromium"))  # Debian's; not pip's
REQUIRED = "VMSTATE_REQUIRE_CHROMIUM"  # set to 1, its absence is a failure
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@pytest.fixture(scope="session")
def law():
    preset = files("vmstate.constitution") / "presets" / "vaultmesh.toml"
    return read_constitution(preset.read_bytes())


@pytest.fixture(scope="session")
def runs(law):
    return tuple(run_suite(packaged_drills(), law))


def _missing():
    """What a real browser needs and this machine lacks; nothing if all is there."""
    if not CHROMIUM.exists():
        return f"there is no {CHROMIUM}: apt-get install chromium"
    try:
        import playwright.sync_api  # noqa: F401, PLC0415 -- asked for only where it is used
    except ImportError:
        return "there is no playwright: pip install playwright"
    return None


@pytest.fixture(scope="module")
def chromium():
    """A running Chromium; without one its tests are left out, loudly, or fail if it is demanded.

    It goes with its module: as long as it is there, an event loop runs in this thread, and nothing
    else can run one.
    """
    if (missing := _missing()) is not None:
        if os.environ.get(REQUIRED) == "1":
            pytest.fail(f"{REQUIRED}=1, and {missing}")
        pytest.skip(f"LEFT OUT, the pack's page in a real browser: {missing}")
    from playwright.sync_api import sync_playwright  # noqa: PLC0415 -- see above

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=list(FLAGS))
        yield browser
        browser.close()


# ---- drills of one's own --------------------------------------------------------------------

HEADING = """
[drill]
id     = "mine"
title  = "A drill of one's own"
marker = "DRILL/MINE/{date}"
start  = "2030-01-01T12:00:00Z"
"""


def preset(name: str, changes: Mapping[str, str] | None = None) -> Constitution:
    """A packaged constitution, edited: each key of `changes` is in it, and becomes its value."""
    text = (files("vmstate.constitution") / "presets" / f"{name}.toml").read_text("utf-8")
    for old, new in (changes or {}).items():
        assert old in text
        text = text.replace(old, new)
    return read_constitution(text.encode(), name=f"{name}.toml")


class Rehearsal:
    """What a test here does with drills."""

    preset = staticmethod(preset)
    starter = preset("starter")
    vaultmesh = preset("vaultmesh")

    @staticmethod
    def read(steps: str, heading: str = HEADING) -> Drill:
        return read_drill((heading + steps).encode(), name="mine.drill.toml")

    def run(self, steps: str, *, law: Constitution | None = None, heading: str = "") -> DrillRun:
        """Run these steps; `heading` is what `[drill]` says beside what it must."""
        return run_drill(self.read(steps, HEADING + heading), law or self.starter)

    def passes(self, steps: str, *, law: Constitution | None = None, heading: str = "") -> DrillRun:
        run = self.run(steps, law=law, heading=heading)
        assert (run.verdict, run.reason) == ("pass", ""), self.differences(run)
        return run

    @staticmethod
    def differences(run: DrillRun) -> list[tuple[int, str, str, str]]:
        """Each difference of a run: the step's number, what, expected, got."""
        return [
            (number, one.what, one.expected, one.got)
            for number, step in enumerate(run.steps, 1)
            for one in step.differences
        ]

    @staticmethod
    def codes(run: DrillRun) -> list[str]:
        """Why each refusal of a run was one."""
        return [unmet.code for receipt in run.receipts for unmet in receipt.unmet]


@pytest.fixture
def rehearsal() -> Rehearsal:
    return Rehearsal()


@pytest.fixture
def kept(tmp_path: Path) -> Callable[[Drill, Constitution], Path]:
    """Runs a drill and says where its ledger stays."""

    def keep(drill: Drill, law: Constitution) -> Path:
        run_drill(drill, law, keep=tmp_path)
        return tmp_path / f"{drill.id}.db"

    return keep

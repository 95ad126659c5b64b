"""The house stands as it was drawn: floors, doors, face, and what lies at the top."""

import subprocess
import sys
from pathlib import Path

import pytest

import vmstate

ROOT = Path(__file__).parent.parent
TOP = {
    "pyproject.toml",
    "README.md",
    "constitution.toml",
    "LICENSE",
    "CHANGELOG.md",
    "vmstate",
    "diagrams",
    "tests",
}
HEAVY = (
    "apscheduler",
    "mcp",
    "anyio",
    "freezegun",
    "graphviz",
    "rich",
    "transitions",
    "pydantic",
    "apsw",
)


def test_each_floor_imports_only_the_floors_below_it_and_each_library_has_one_door():
    lint = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run(
        [lint, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout


def test_nothing_lies_at_the_top_but_what_belongs_there():
    listed = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    tracked = {name.split("/")[0] for name in listed.stdout.splitlines()}
    assert {name for name in tracked if not name.startswith(".")} <= TOP
    assert all((ROOT / name).exists() for name in TOP)


def test_the_face_has_at_most_25_names_and_each_of_them_is_there():
    assert len(vmstate.__all__) <= 25
    assert all(getattr(vmstate, name) is not None for name in vmstate.__all__)
    with pytest.raises(AttributeError, match="no attribute 'Escalator'"):
        vmstate.Escalator  # noqa: B018 -- asking is the point


def test_freezing_time_loads_nothing_that_was_not_asked_for():
    code = (
        "from freezegun import freeze_time; import sys, vmstate; vmstate.Authority\n"
        "with freeze_time('2026-01-01'): print('vmstate.client' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("False\n", "")


def test_importing_vmstate_loads_nothing_heavy():
    code = f"import sys, vmstate; print([m for m in {HEAVY!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_no_file_of_the_engine_outgrows_what_one_sitting_reads():
    long = {
        path.name: lines
        for path in (ROOT / "vmstate").rglob("*.py")
        if (lines := len(path.read_text(encoding="utf-8").splitlines())) > 420
    }
    assert long == {}

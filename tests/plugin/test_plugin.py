"""The plugin as its user meets it: each test is a small project of theirs, run by pytest."""

import tomllib
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

# Runs in this process forget what they imported, and cryptography can't be imported twice.
import vmstate.drills.runner  # noqa: F401
from vmstate.interfaces import pytest_plugin

pytest_plugins = ["pytester"]

ROOT = Path(__file__).parents[2]
RUNBOOK = ROOT / "vmstate" / "drills" / "runbook"
# Not by its entry point, so that it is this source tree's whatever is installed beside it.
WORDS = ("-p", "no:vmstate", "-p", "no:cacheprovider", "-W", "error", "--strict-markers")

CLIMB = """
def climb(vm, who="alice", **fields):
    asked = {"trigger": "operator_request", "reason": "a test of my own", **fields}
    return vm.escalate(who, "operator", **asked).raise_for_denial()
"""
DRILL = """
[drill]
id     = "mine"
title  = "My own drill"
marker = "DRILL/MINE/{date}"
start  = "2026-01-01T00:00:00Z"

[[step]]
name = "climb"
do   = "escalate"
with = { to = "operator", trigger = "operator_request", reason = "DRILL: my own" }
save = "op"
expect.result = { success = true }

[[step]]
name = "half of its time"
advance = "30m"
expect.profile = { "agent:drill" = "%s" }
"""


@pytest.fixture
def run(pytester):
    """Run the project's tests in this process."""
    plugins = (pytest_plugin,)
    return lambda *words: pytester.runpytest_inprocess(*WORDS, *words, plugins=plugins)


@pytest.fixture
def run_apart(pytester):
    """Run the project's tests in a process of their own, which has imported nothing yet."""
    plugin = ("-p", "vmstate.interfaces.pytest_plugin")
    return lambda *words: pytester.runpytest_subprocess(*plugin, *WORDS, *words)


# ---- installed ---------------------------------------------------------------------------------


def test_the_package_names_the_plugin_as_an_entry_point_of_pytest():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["entry-points"]["pytest11"] == {"vmstate": "vmstate.interfaces.pytest_plugin"}


def test_the_fixtures_say_what_they_are_for(run):
    run("--fixtures").stdout.fnmatch_lines(["vm -- *", "vm_clock -- *", "vm_receipts -- *"])
    run("--markers").stdout.fnmatch_lines(["@pytest.mark.vmstate(constitution=None, start=None)*"])


# ---- vm, vm_clock, vm_receipts -----------------------------------------------------------------


def test_each_lease_ends_at_its_own_instant_while_time_is_advanced(pytester, run):
    pytester.makepyfile(
        CLIMB
        + """
from datetime import UTC, datetime, timedelta

def test_time(vm, vm_clock, vm_receipts):
    assert vm_clock.now == datetime(2026, 1, 1, 12, tzinfo=UTC)
    climb(vm)
    climb(vm, "bob", ttl=timedelta(minutes=10))
    vm_clock.advance("9m59s")
    assert vm.may("bob", "operator")
    vm_clock.advance(timedelta(seconds=1))
    assert not vm.may("bob", "operator")
    vm_clock.advance_to("2026-01-01T12:30:00Z")
    assert vm_clock.now == datetime(2026, 1, 1, 12, 30, tzinfo=UTC)
    vm_clock.advance_to(datetime(2026, 1, 1, 12, 59, tzinfo=UTC))
    assert vm.may("alice", "operator")
    vm_clock.until_idle()
    assert vm_clock.now == datetime(2026, 1, 1, 13, tzinfo=UTC)
    assert vm.status() == ()
    told = [(r.type, r.fields["who"]["principal"], r.fields["at"][11:16]) for r in vm_receipts()]
    assert told == [
        ("profile_escalation", "alice", "12:00"),
        ("profile_escalation", "bob", "12:00"),
        ("profile_deescalation", "bob", "12:10"),
        ("profile_deescalation", "alice", "13:00"),
    ]
    assert {r.fields["what"]["ended_via"] for r in vm_receipts()[2:]} == {"scheduler"}

def test_another_begins_anew(vm, vm_receipts):
    assert vm_receipts() == ()
    assert vm.status() == ()
"""
    )
    run().assert_outcomes(passed=2)


def test_time_never_goes_back_and_never_without_a_zone(pytester, run):
    pytester.makepyfile(
        """
from datetime import datetime, timedelta
import pytest
from vmstate.errors import InputError

def test_time(vm_clock):
    with pytest.raises(ValueError, match="time moves forward only"):
        vm_clock.advance_to("2025-12-31T00:00:00Z")
    with pytest.raises(ValueError, match="time moves forward only"):
        vm_clock.advance(timedelta(seconds=-1))
    with pytest.raises(ValueError, match="2030-01-01 00:00:00 has no time zone"):
        vm_clock.advance_to(datetime(2030, 1, 1))
    with pytest.raises(InputError, match="'a while' is not a duration"):
        vm_clock.advance("a while")
    with pytest.raises(InputError, match="'tomorrow' is not a time"):
        vm_clock.advance_to("tomorrow")
"""
    )
    run().assert_outcomes(passed=1)


def test_a_test_that_grants_again_at_each_end_does_not_run_for_ever(pytester, run):
    pytester.makepyfile(
        CLIMB
        + """
import pytest
from vmstate.interfaces import pytest_plugin

def test_never_idle(vm, vm_clock, monkeypatch):
    monkeypatch.setattr(pytest_plugin, "DEADLINES", 5)
    vm.subscribe(lambda receipt: receipt.type == "profile_deescalation" and climb(vm))
    climb(vm)
    with pytest.raises(RuntimeError, match="a lease was still open after 5 deadlines, at 2026"):
        vm_clock.until_idle()
"""
    )
    run().assert_outcomes(passed=1)


def test_the_same_test_leaves_the_same_root(pytester, run):
    path = pytester.makepyfile(CLIMB + "\ndef test_root(vm, vm_clock):\n    climb(vm)\n")
    roots = set()
    for name in ("one.xml", "two.xml"):
        run(path, f"--junitxml={name}").assert_outcomes(passed=1)
        told = properties(pytester.path / name)
        assert told["vmstate_receipts"] == "2"
        roots.add(told["vmstate_root"])
    assert len(roots) == 1


# ---- which law, and when -----------------------------------------------------------------------


def law_named(name):
    """The starter under another name."""
    starter = ROOT / "vmstate" / "constitution" / "presets" / "starter.toml"
    return starter.read_text(encoding="utf-8").replace('"example"', f'"{name}"')


def test_the_law_is_the_one_of_the_marker_else_of_the_setting_else_of_the_root_else_the_starter(
    pytester, run
):
    path = pytester.makepyfile(
        """
import pytest

def test_plain(vm):
    print("plain under", vm.constitution.name)

@pytest.mark.vmstate(constitution="theirs.toml")
def test_marked(vm):
    print("marked under", vm.constitution.name)

@pytest.mark.vmstate(constitution="preset:vaultmesh", start="2030-06-01T00:00:00Z")
def test_preset(vm, vm_clock):
    print("preset under", vm.constitution.name, vm_clock.now)
"""
    )
    (pytester.path / "theirs.toml").write_text(law_named("theirs"), encoding="utf-8")
    always = ["*marked under theirs*", "*preset under vaultmesh 2030-06-01 00:00:00+00:00*"]
    run(path, "-s").stdout.fnmatch_lines(["*plain under example*", *always])
    (pytester.path / "constitution.toml").write_text(law_named("at-root"), encoding="utf-8")
    run(path, "-s").stdout.fnmatch_lines(["*plain under at-root*", *always])
    folder = pytester.mkdir("law")
    (folder / "mine.toml").write_text(law_named("mine"), encoding="utf-8")
    pytester.makeini("[pytest]\nvmstate_constitution = law/mine.toml\n")
    run(path, "-s").stdout.fnmatch_lines(["*plain under mine*", *always])


@pytest.mark.parametrize(
    ("marker", "told"),
    [
        ('constitution="none.toml"', "*none.toml: cannot be read*vmstate init"),
        (
            'constitution="preset:none"',
            "there is no preset 'none': write agent or starter or vaultmesh",
        ),
        ('constituton="x.toml"', "the marker vmstate has 'constituton': it takes*nothing else"),
        ('"x.toml"', "the marker vmstate has 'x.toml': it takes*nothing else"),
    ],
)
def test_what_is_wrong_with_a_law_or_a_marker_is_said_without_a_traceback(
    marker, told, pytester, run
):
    pytester.makepyfile(f"import pytest\n@pytest.mark.vmstate({marker})\ndef test_it(vm): pass\n")
    done = run()
    done.assert_outcomes(errors=1)
    done.stdout.fnmatch_lines([told])
    done.stdout.no_fnmatch_line("*pytest_plugin.py*")


# ---- drills ------------------------------------------------------------------------------------


def properties(path):
    """The properties of the one test in a JUnit file."""
    found = ET.parse(path).iter("property")  # noqa: S314 -- pytest wrote it just now
    return {one.get("name"): one.get("value") for one in found}


def test_the_runbooks_drills_are_a_test_each_and_pass(pytester, run):
    for path in RUNBOOK.iterdir():
        (pytester.path / path.name).write_bytes(path.read_bytes())
    pytester.makeini("[pytest]\nvmstate_constitution = preset:vaultmesh\n")
    done = run("-v")
    done.assert_outcomes(passed=5)
    done.stdout.fnmatch_lines(["1-false-positive-threat.drill.toml::drill_1 PASSED*"])


def test_a_marker_that_a_hook_puts_on_a_drill_names_its_law(pytester, run):
    path = RUNBOOK / "3-escalation-abuse.drill.toml"
    (pytester.path / path.name).write_bytes(path.read_bytes())
    run().assert_outcomes(failed=1)
    pytester.makeconftest(
        """
import pytest

def pytest_collection_modifyitems(items):
    for item in items:
        item.add_marker(pytest.mark.vmstate(constitution="preset:vaultmesh"))
"""
    )
    run().assert_outcomes(passed=1)


def test_a_drill_that_fails_shows_its_steps_with_expected_and_got(pytester, run):
    (pytester.path / "mine.drill.toml").write_text(DRILL % "guardian", encoding="utf-8")
    done = run()
    done.assert_outcomes(failed=1)
    done.stdout.fnmatch_lines(
        [
            "*mine: My own drill*",
            "fail: step 2: half of its time",
            "ok     1  2026-01-01 00:00:00Z  climb",
            "FAIL   2  2026-01-01 00:30:00Z  half of its time",
            "*profile of agent:drill",
            "*expected  guardian",
            "*got       operator",
            "FAILED mine.drill.toml::mine - fail: step 2: half of its time",
        ]
    )
    done.stdout.no_fnmatch_line("*Traceback*")
    done.stdout.no_fnmatch_line("*runtest*")


def test_a_drill_that_stops_at_its_limit_says_so(pytester, run):
    text = DRILL.replace('advance = "30m"', 'advance_to = "{op.expires_at} + 25h"')
    (pytester.path / "mine.drill.toml").write_text(text % "observer", encoding="utf-8")
    done = run()
    done.assert_outcomes(failed=1)
    done.stdout.fnmatch_lines(["error: step 2: waits longer than its virtual*", "ok     1 *climb"])


def test_a_drill_that_does_not_load_is_an_error_with_file_and_line(pytester, run):
    text = DRILL.replace('"escalate"', '"escalat"')
    (pytester.path / "mine.drill.toml").write_text(text % "operator", encoding="utf-8")
    done = run()
    done.assert_outcomes(errors=1)
    done.stdout.fnmatch_lines(["*mine.drill.toml:10: step 1 do: *escalate*"])
    done.stdout.no_fnmatch_line("*Traceback*")


def test_the_tree_root_and_the_number_of_receipts_stand_in_the_junit_file(pytester, run):
    (pytester.path / "mine.drill.toml").write_text(DRILL % "operator", encoding="utf-8")
    run("--junitxml=one.xml").assert_outcomes(passed=1)
    run("--junitxml=two.xml").assert_outcomes(passed=1)
    one, two = (properties(pytester.path / name) for name in ("one.xml", "two.xml"))
    assert one == two
    assert one["vmstate_receipts"] == "5"  # law, mode on, grant, mode off, end
    assert one["vmstate_root"].startswith("sha256:")


def test_other_toml_files_are_left_alone(pytester, run):
    (pytester.path / "drill.toml").write_text("not = 'a drill'", encoding="utf-8")
    assert run().ret == pytest.ExitCode.NO_TESTS_COLLECTED


# ---- beside frozen time, and beside projects that use none of it --------------------------------


def test_the_engine_is_imported_before_the_first_test_and_so_before_anybody_freezes_time(
    pytester, run_apart
):
    pytester.makepyfile(
        """
import sys

def test_comes_first():
    assert "vmstate.authority" in sys.modules
    assert "apscheduler.job" in sys.modules

def test_uses_it(vm):
    pass
"""
    )
    run_apart().assert_outcomes(passed=2)


def test_beside_frozen_time_the_ledger_keeps_its_own(pytester, run_apart):
    pytester.makepyfile(
        CLIMB
        + """
from datetime import UTC, datetime, timedelta
import pytest
from freezegun import freeze_time

@pytest.fixture(autouse=True, scope="session")
def frozen():
    with freeze_time("1999-12-31") as frozen:
        yield frozen

def test_without_it_comes_first():
    assert datetime.now(UTC).year == 1999

def test_two_clocks(vm, vm_clock, vm_receipts, frozen):
    climb(vm)
    frozen.tick(timedelta(days=400))
    assert vm.may("alice", "operator")
    assert datetime.now(UTC).year == 2001
    vm_clock.advance("1h")
    assert not vm.may("alice", "operator")
    assert vm_receipts()[-1].fields["at"] == "2026-01-01T13:00:00.000000Z"

@freeze_time("2040-01-01")
def test_decorated(vm, vm_clock):
    climb(vm)
    vm_clock.until_idle()
    assert (vm_clock.now.year, datetime.now(UTC).year) == (2026, 2040)
"""
    )
    run_apart().assert_outcomes(passed=3)


def test_a_drill_runs_in_frozen_time_as_it_does_outside_of_it(pytester, run_apart):
    (pytester.path / "z.drill.toml").write_text(DRILL % "operator", encoding="utf-8")
    run_apart("--junitxml=plain.xml").assert_outcomes(passed=1)
    pytester.makeconftest(
        """
from freezegun import freeze_time

def pytest_runtest_setup():
    freeze_time("1999-12-31").start()
"""
    )
    run_apart("--junitxml=frozen.xml").assert_outcomes(passed=1)
    plain, frozen = (properties(pytester.path / f"{name}.xml") for name in ("plain", "frozen"))
    assert plain == frozen


def test_a_project_that_does_not_use_it_imports_none_of_the_engine(pytester, run_apart):
    pytester.makepyfile(
        """
import sys

def test_nothing_loaded():
    heavy = {"pydantic", "apscheduler", "apsw", "cryptography", "transitions", "orjson", "click"}
    assert not heavy & set(sys.modules)
    assert [n for n in sys.modules if n.startswith("vmstate.")] == [
        "vmstate.interfaces", "vmstate.interfaces.pytest_plugin"
    ]
"""
    )
    run_apart().assert_outcomes(passed=1)

"""pass, fail, blocked, error: which is which, what each exits with, and that nothing stays open."""

from importlib.resources import files
from itertools import count

import pytest
from typed import typed

from vmstate.drills.drill import read_drill
from vmstate.drills.runner import run_drill, run_suite
from vmstate.errors import DrillError

STARTER = (files("vmstate.constitution") / "presets" / "starter.toml").read_bytes()
HEADING = """
[drill]
id     = "{id}"
title  = "t"
marker = "DRILL/{date}"
start  = "2030-01-01T12:00:00Z"
"""
CLIMB = """
[[step]]
do   = "escalate"
with = { to = "operator", trigger = "operator_request", reason = "DRILL: look around" }
save = "op"
"""
APPROVED = """
[[step]]
do   = "escalate"
with = { to = "guardian", trigger = "operator_request", reason = "DRILL: approved by another", approved_by = ["drill-approver"] }
"""  # noqa: E501 -- one step of a drill file
NOON = "2030-01-01T12:00:0"
HOLDS = '[[step]]\nadvance = "1s"\n'
FAILS = '[[step]]\nadvance = "1s"\nexpect.active = 7\n'
# After CLIMB, whose end is not known when the drill is read: it is an hour from noon.
TO_ITS_END = '[[step]]\nadvance_to = "{op.expires_at}"\n'
TOO_LONG = '[[step]]\nadvance_to = "{op.expires_at} + 25h"\n'
IN_THE_PAST = '[[step]]\nadvance = "1s"\n[[step]]\nadvance_to = "{op.expires_at} - 1h"\n'
GIVE_BACK = '[[cleanup]]\ndo = "release"\nwith = { lease = "{op.lease}" }\n'


def nothing_is_open(run):
    opened = [one.lease for one in run.receipts if one.type == "profile_escalation"]
    ended = [one.lease for one in run.receipts if one.type == "profile_deescalation"]
    return sorted(opened) == sorted(ended)


@pytest.mark.parametrize(
    ("steps", "heading", "verdict", "reason"),
    [
        (CLIMB, "", "pass", ""),
        (CLIMB + FAILS, "", "fail", ""),
        (CLIMB + TOO_LONG, "", "error", "step 2: waits longer than its virtual limit of 1d"),
        (
            CLIMB + HOLDS,
            'virtual_limit = "1s"',
            "pass",
            "",
        ),
        (
            CLIMB + TO_ITS_END + HOLDS,
            'virtual_limit = "1h"',
            "error",
            "step 3: waits longer than its virtual limit of 1h",
        ),
        (CLIMB + TO_ITS_END, 'virtual_limit = "1h"', "pass", ""),
        (
            CLIMB + '[[step]]\nadvance = "idle"\n',
            'virtual_limit = "59m"',
            "error",
            "step 2: waits longer than its virtual limit of 59m",
        ),
        (
            CLIMB + IN_THE_PAST,
            "",
            "error",
            f"step 3: waits for {NOON}0.000000Z, it is {NOON}1.000000Z already",
        ),
    ],
)
def test_a_verdict_and_its_reason(steps, heading, verdict, reason, rehearsal):
    run = rehearsal.run(steps, heading=heading)
    assert (run.verdict, run.reason) == (verdict, reason)
    assert nothing_is_open(run)


@pytest.mark.parametrize("steps", [CLIMB + FAILS, CLIMB + TOO_LONG, CLIMB + IN_THE_PAST])
def test_cleanup_runs_after_a_failure_and_after_an_error(steps, rehearsal):
    run = rehearsal.run(steps + GIVE_BACK)
    assert run.steps[-1].name == "release {op.lease}"
    ends = [one.fields for one in run.receipts if one.type == "profile_deescalation"]
    # by the drill's own release, not the last resort
    assert [end["what"]["ending"] for end in ends] == ["operator_release"]
    assert nothing_is_open(run)


def test_a_cleanup_of_what_was_never_opened_is_no_crash(rehearsal):
    never = CLIMB.replace('"op"', '"never"') + GIVE_BACK.replace("{op.", "{never.")
    run = rehearsal.run(CLIMB + TOO_LONG + never)
    assert run.verdict == "error"
    assert run.reason.startswith("step 2: waits longer")
    assert nothing_is_open(run)


def test_a_cleanup_of_what_was_refused_keeps_the_verdict_and_what_was_seen(rehearsal):
    run = rehearsal.run(CLIMB.replace("DRILL: look around", "short") + GIVE_BACK)
    assert run.verdict == "fail"
    assert rehearsal.differences(run)[0][:3] == (1, "outcome", "granted")
    assert run.root.startswith("sha256:")
    assert [one.type for one in run.receipts] == [
        *("constitution_loaded", "drill_mode", "auth_failure", "drill_mode"),
    ]


@pytest.mark.parametrize("until", ["{op.expires_at} - 2h", "{op.expires_at} + 25h"])
def test_a_cleanup_that_waits_too_long_still_leaves_nothing_open(until, rehearsal):
    run = rehearsal.run(f"{CLIMB}[[cleanup]]\nadvance_to = '{until}'\n")
    assert run.verdict == "error"
    assert run.reason.startswith("step 2: waits ")
    assert nothing_is_open(run)


def test_a_drill_past_its_limit_of_wall_time_is_cleaned_up_and_says_so(rehearsal, monkeypatch):
    seconds = count(0.0, 0.4)  # each look at the machine's clock is that much later
    monkeypatch.setattr("time.monotonic", lambda: next(seconds))
    run = rehearsal.run(CLIMB + HOLDS * 9 + GIVE_BACK, heading='limit = "1s"')
    assert run.verdict == "error"
    assert run.reason.endswith(": the drill took longer than its limit of 1s")
    assert nothing_is_open(run)


def test_a_drill_past_its_limit_of_wall_time_without_cleanup_says_so(rehearsal, monkeypatch):
    seconds = count(0.0, 0.4)
    monkeypatch.setattr("time.monotonic", lambda: next(seconds))
    run = rehearsal.run(CLIMB + HOLDS * 9, heading='limit = "1s"')
    assert run.verdict == "error"
    assert run.reason.endswith(": the drill took longer than its limit of 1s")
    assert nothing_is_open(run)


def test_a_field_that_no_answer_of_its_verb_has_is_refused_when_it_is_read(rehearsal):
    with pytest.raises(DrillError, match=r":12: step 2: that result has no 'expires_at'"):
        rehearsal.read(
            '[[step]]\ndo = "may"\nwith = { what = "operator" }\n'
            'expect.result = { success = false }\nsave = "seen"\n'
            '[[step]]\nadvance_to = "{seen.expires_at}"\n'
        )


@pytest.mark.parametrize(
    "step",
    [
        'advance_to = "{op.expires_at}"',
        'do = "release"\nwith = { lease = "{op.balance}" }',
        'do = "act"\nwith = { act = "logs.read", reason = "DRILL: {op.balance}" }',
    ],
)
def test_a_field_that_an_answer_does_not_have_is_no_crash(step, rehearsal):
    run = rehearsal.run(
        CLIMB.replace("DRILL: look around", "short")
        + "expect.result = { success = false }\n"
        + f"[[step]]\n{step}\n"
    )
    assert [step.passed for step in run.steps] == [True]
    assert run.verdict == "error"
    assert run.reason.startswith("step 2: ")


def test_what_is_open_at_the_end_ends_with_its_drill(rehearsal):
    run = rehearsal.passes(CLIMB + APPROVED)
    mode, first, second = (one.fields for one in run.receipts[-3:])
    for end, (from_, to) in ((first, ("guardian", "operator")), (second, ("operator", "observer"))):
        assert end["what"]["ending"] == "drill_ended"
        assert (end["what"]["from"], end["what"]["to"]) == (from_, to)
        assert end["who"]["principal"] == "agent:drill"
        assert end["at"] == mode["at"] == "2030-01-01T12:00:00.000000Z"
    assert (mode["type"], mode["what"]["detail"]["mode"]) == ("drill_mode", "OFF")
    assert nothing_is_open(run)


def test_what_can_not_be_given_back_ends_with_its_drill_all_the_same(rehearsal):
    law = rehearsal.preset(
        "starter",
        {'operator_release = { by = ["holder"]': 'operator_release = { by = ["approvers"]'},
    )
    run = rehearsal.passes(CLIMB, law=law)
    assert nothing_is_open(run)
    refused = rehearsal.run(CLIMB + GIVE_BACK, law=law)
    assert refused.verdict == "fail"
    assert nothing_is_open(refused)


def test_a_constitution_without_a_drill_table_is_an_error_with_its_remedy(rehearsal):
    text = STARTER.decode().partition("[drill] ")[0]
    law = rehearsal.preset("starter", {STARTER.decode(): text})
    run = rehearsal.run(CLIMB, law=law)
    assert (run.verdict, run.root) == ("error", "")
    assert run.reason == "the constitution has no [drill] table: add one to run drills"


def drill(name, steps, *, gate=False):
    heading = HEADING.replace("{id}", name) + ("gate = true\n" if gate else "")
    return read_drill((heading + steps).encode(), name=f"{name}.drill.toml")


@pytest.mark.parametrize("steps", [FAILS, CLIMB + TOO_LONG])
def test_a_gate_that_does_not_pass_blocks_what_comes_after_it(steps, rehearsal):
    suite = (drill("one", HOLDS), drill("gate", steps, gate=True), drill("two", HOLDS))
    runs = list(run_suite(suite, rehearsal.starter))
    assert [run.verdict for run in runs][::2] == ["pass", "blocked"]
    assert runs[2].reason == "gate did not pass"
    assert (runs[2].steps, runs[2].receipts) == ((), ())


def test_a_gate_that_passes_and_a_drill_that_is_none_block_nothing(rehearsal):
    suite = (drill("gate", HOLDS, gate=True), drill("one", FAILS), drill("two", HOLDS))
    assert [run.verdict for run in run_suite(suite, rehearsal.starter)] == ["pass", "fail", "pass"]


@pytest.mark.parametrize(
    ("files_", "code"),
    [
        ({"a": HOLDS}, 0),
        ({"a": HOLDS, "b": FAILS}, 1),
        ({"a": FAILS, "b": HOLDS}, 1),
        ({"a": "gate = true\n" + FAILS, "b": HOLDS}, 4),
        ({"a": HOLDS, "b": CLIMB + TOO_LONG}, 6),
        ({"a": FAILS, "b": CLIMB + TOO_LONG}, 6),
        ({"a": CLIMB + TOO_LONG, "b": FAILS}, 6),
        ({"a": "gate = true\n" + CLIMB + TOO_LONG, "b": HOLDS}, 6),
        ({"a": "[[step]]\n"}, 2),
    ],
)
def test_the_exit_code_tells_the_verdict(files_, code, tmp_path):
    (tmp_path / "constitution.toml").write_bytes(STARTER)
    for name, steps in files_.items():
        path = tmp_path / f"{name}.drill.toml"
        path.write_text(HEADING.replace("{id}", name) + steps, encoding="utf-8")
    names = [f"{name}.drill.toml" for name in files_]
    done = typed("drill", "run", *names, at=tmp_path)
    assert done.code == code, done.out + done.err
    assert "Traceback" not in done.err


def test_two_drills_of_one_id_are_refused_before_anything_runs(tmp_path):
    (tmp_path / "constitution.toml").write_bytes(STARTER)
    for name in "ab":
        path = tmp_path / f"{name}.drill.toml"
        path.write_text(HEADING.replace("{id}", "same") + HOLDS, encoding="utf-8")
    line = "drill run a.drill.toml b.drill.toml --keep kept"
    done = typed(*line.split(), at=tmp_path)
    assert (done.code, done.out) == (2, "")
    assert done.err == "error: two drills are called 'same': give each an id of its own\n"
    assert not (tmp_path / "kept").exists()


def test_a_marker_that_is_not_the_constitutions_is_an_error_and_nothing_runs(rehearsal, tmp_path):
    heading = HEADING.replace("{id}", "mine").replace("DRILL/", "LIVE/")
    run = run_drill(rehearsal.read(CLIMB, heading), rehearsal.starter, keep=tmp_path)
    assert (run.verdict, run.steps, run.root) == ("error", (), "")
    assert run.reason == (
        "mine.drill.toml: the marker 'LIVE/2030-01-01' does not begin with 'DRILL/', "
        "by which this constitution tells drills"
    )
    assert list(tmp_path.iterdir()) == []

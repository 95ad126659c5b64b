"""The runbook's drills pass, give the same roots each time, and notice a law that was weakened."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from vmstate.drills.drill import packaged_drills
from vmstate.drills.runner import run_drill, run_suite

VMSTATE = Path(sys.executable).with_name("vmstate")
SUITE = packaged_drills()
ONE, THREE = SUITE[1], SUITE[2]


@pytest.mark.parametrize("drill", SUITE, ids=lambda drill: drill.id)
def test_a_packaged_drill_passes_under_the_packaged_constitution(drill, rehearsal):
    run = run_drill(drill, rehearsal.vaultmesh)
    assert (run.verdict, run.reason) == ("pass", ""), rehearsal.differences(run)


def test_the_same_suite_gives_the_same_roots_here_and_in_another_process(rehearsal):
    roots = [run.root for run in run_suite(SUITE, rehearsal.vaultmesh)]
    assert roots == [run.root for run in run_suite(SUITE, rehearsal.vaultmesh)]
    done = subprocess.run(
        [VMSTATE, "drill", "run", "--json"], capture_output=True, text=True, check=True
    )
    said = json.loads(done.stdout)
    assert roots == [drill["root"] for drill in said["drills"]]
    assert said["constitution"] == rehearsal.vaultmesh.digest
    assert len(set(roots)) == 5


def test_another_constitution_gives_another_root(rehearsal):
    other = rehearsal.preset("vaultmesh", {'version  = "1.0.0"': 'version  = "1.0.1"'})
    assert run_drill(ONE, other).root != run_drill(ONE, rehearsal.vaultmesh).root


def test_each_end_of_drill_1_comes_from_the_scheduler_at_its_very_instant(rehearsal):
    run = run_drill(ONE, rehearsal.vaultmesh)
    ends = [one.fields for one in run.receipts if one.type == "profile_deescalation"]
    assert [end["what"]["ended_via"] for end in ends] == ["scheduler", "scheduler"]
    assert [end["at"] for end in ends] == [
        "2025-12-18T12:15:00.000000Z",
        "2025-12-18T13:00:00.000000Z",
    ]
    assert all(end["at"] == end["due"] for end in ends)


def test_drill_3_ends_what_it_opened_and_changes_nothing_else(rehearsal):
    run = run_drill(THREE, rehearsal.vaultmesh)
    opened = [one.lease for one in run.receipts if one.type == "profile_escalation"]
    ended = [one.lease for one in run.receipts if one.type == "profile_deescalation"]
    assert opened == ended[::-1]
    assert sum(one.outcome == "denied" for one in run.receipts) == 3


def test_every_receipt_of_a_drill_says_that_it_is_one(rehearsal):
    run = run_drill(ONE, rehearsal.vaultmesh)
    said = {(one.fields["drill"], one.fields["clock"], one.fields["node"]) for one in run.receipts}
    assert said == {("DRILL/FP-THREAT/2025-12-18", "virtual", "vaultmesh/drill/drill_1")}


# What is changed in the constitution, and the steps at which a drill notices it.
WEAKER = {
    "guardian lasts longer": ({'ttl      = "15m"': 'ttl      = "20m"'}, ONE, [5]),
    "operator lasts longer": ({'ttl      = "1h"': 'ttl      = "2h"'}, ONE, [2]),
    "a threat needs no sensor": (
        {', attested_by = "sensors", max_age = "2m"': ""},
        ONE,
        [3, 4, 5],
    ),
    "a threat needs more than the drill has": ({'min = "0.80"': 'min = "0.95"'}, ONE, [5]),
    "an operator may invoke Tem": (
        {'"tem.invoke"        = { profile = "guardian"': '"tem.invoke" = { profile = "operator"'},
        ONE,
        [4],
    ),
    "a crisis needs nobody else": (
        {'needs.approval  = { count = 1, of = ["sovereigns"] }': ""},
        THREE,
        [4, 5],
    ),
    "guardians may approve a crisis": (
        {
            'count = 1, of = ["sovereigns"] }\n\n[escalations.phoenix_on_quorum]': (
                'count = 1, of = ["sovereigns", "guardians"] }\n\n[escalations.phoenix_on_quorum]'
            )
        },
        THREE,
        [4, 5],
    ),
    "a rung may be skipped": (
        {
            "[cooldown]": (
                '[escalations.short_cut]\nfrom = "operator"\nto = "phoenix"\n'
                'trigger = "threat_detected"\nttl = "10m"\n\n[cooldown]'
            )
        },
        THREE,
        [2, 3],
    ),
}


@pytest.mark.parametrize("name", WEAKER)
def test_a_weaker_constitution_is_noticed_by_a_drill(name, rehearsal):
    changes, drill, steps = WEAKER[name]
    run = run_drill(drill, rehearsal.preset("vaultmesh", changes))
    noticed = [number for number, step in enumerate(run.steps, 1) if not step.passed]
    assert run.verdict != "pass"
    assert noticed[: len(steps)] == steps, rehearsal.differences(run)


def test_a_guardian_of_twenty_minutes_is_said_to_be_five_too_late(rehearsal):
    longer = rehearsal.preset("vaultmesh", {'ttl      = "15m"': 'ttl      = "20m"'})
    run = run_drill(ONE, longer)
    assert rehearsal.differences(run)[0] == (
        5,
        "result expires_at",
        "2025-12-18T12:15:00.000000Z",
        "2025-12-18T12:20:00.000000Z",
    )


def test_a_step_that_failed_makes_the_verdict_fail_whatever_follows_from_it(rehearsal):
    higher = rehearsal.preset("vaultmesh", {'min = "0.80"': 'min = "0.95"'})
    run = run_drill(ONE, higher)  # what later steps wait for was never granted
    assert not run.steps[4].passed
    assert run.verdict == "fail"

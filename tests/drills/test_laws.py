"""Law 14: a drill can't touch the real thing, and what was signed in one counts nowhere else."""

import tempfile
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from vmstate.authority import Authority
from vmstate.clock import VirtualClock
from vmstate.drills.drill import packaged_drills
from vmstate.drills.runner import run_drill, run_suite
from vmstate.drills.stand_ins import StandIns
from vmstate.ledger.audit import audit_ledger
from vmstate.ledger.place import key_path
from vmstate.ledger.store import Ledger
from vmstate.signing import approve, attest

NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)


def stand_in_key(drill, law, origin, name):
    return StandIns(law, origin=origin, digest=drill.digest).key(name)


CLIMB = """
[[step]]
do   = "escalate"
with = { to = "operator", trigger = "operator_request", reason = "DRILL: look around" }
save = "op"
"""
TOO_LONG = '[[step]]\nadvance_to = "{op.expires_at} + 25h"\n'
REASON = "DRILL: approved by another"


def test_a_drill_leaves_no_file_behind(rehearsal, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert rehearsal.passes(CLIMB).root
    assert rehearsal.run(CLIMB + TOO_LONG).verdict == "error"
    assert list(tmp_path.iterdir()) == []


def test_a_kept_ledger_says_that_it_is_a_drills_and_audits_clean(rehearsal, tmp_path):
    runs = list(run_suite(packaged_drills(), rehearsal.vaultmesh, keep=tmp_path))
    for run in runs:
        with closing(Ledger.open(tmp_path / f"{run.drill.id}.db")) as ledger:
            assert ledger.drill is not None
            assert ledger.drill.id == run.drill.id
            assert ledger.origin == f"vaultmesh/drill/{run.drill.id}"
            audit = audit_ledger(ledger)
        assert audit.findings == ()
        assert audit.open_leases == 0
        assert f"sha256:{audit.root.hex()}" == run.root


def test_the_log_key_is_another_in_each_run_and_enters_no_leaf(rehearsal, tmp_path):
    drill = packaged_drills()[1]
    keys, roots = set(), set()
    for name in "ab":
        (tmp_path / name).mkdir()
        roots.add(run_drill(drill, rehearsal.vaultmesh, keep=tmp_path / name).root)
        keys.add(key_path(tmp_path / name / "drill_1.db").read_bytes())
    assert (len(keys), len(roots)) == (2, 1)


def test_a_stand_in_has_another_key_in_each_drill_law_and_origin(rehearsal):
    drill = rehearsal.read(CLIMB)
    law, name = rehearsal.starter, "drill-approver"
    other = rehearsal.preset("starter", {'version  = "1"': 'version  = "2"'})
    keys = {
        str(stand_in_key(*parts).public)
        for parts in (
            (drill, law, "example/drill/mine", name),
            (rehearsal.read(CLIMB + CLIMB), law, "example/drill/mine", name),
            (drill, other, "example/drill/mine", name),
            (drill, law, "example/drill/other", name),
            (drill, law, "example/drill/mine", "carol"),
        )
    }
    assert len(keys) == 5


def running(drill, law, path, clock):
    """The ledger of a drill that runs, as `run_drill` makes it."""
    origin = f"{law.name}/drill/{drill.id}"
    stand_ins = StandIns(law, origin=origin, digest=drill.digest)
    mark = stand_ins.mark(drill.id, drill.marker)
    authority = Authority.create(law, path, clock=clock, origin=origin, drill=mark)
    authority.drill_mode(on=True, set_by="a test")
    return authority


@pytest.fixture
def drills_ledger(rehearsal, tmp_path):
    """The ledger of a drill that runs; and a stand-in's key from it."""
    drill, law = rehearsal.read(CLIMB), rehearsal.starter
    clock = VirtualClock(NOON)
    with closing(running(drill, law, tmp_path / "mine.db", clock)) as authority:
        origin = authority.ledger.origin
        yield authority, stand_in_key(drill, law, origin, "drill-approver")


def asked_with_approval(authority, request, signed):
    return authority.escalate(
        request.principal,
        request.to,
        trigger=request.trigger,
        reason=request.reason,
        facts=request.facts,
        request=request,
        approvals=(signed,),
    )


def climbed(authority, who):
    """Stand `who` at operator, and prepare the rung that takes an approval."""
    asked = {"trigger": "operator_request", "reason": REASON}
    authority.escalate(who, "operator", **asked).raise_for_denial()
    return authority.prepare(who, "guardian", **asked)


def codes(receipt):
    return {one.code for one in receipt.unmet}


def test_a_stand_ins_signature_counts_in_the_drill_that_it_was_made_for(drills_ledger):
    authority, key = drills_ledger
    request = climbed(authority, "alice")
    now = authority.clock.read().wall
    signed = approve(request, "drill-approver", key, expires_at=now + timedelta(minutes=5))
    assert asked_with_approval(authority, request, signed).granted


def test_a_stand_ins_signature_counts_no_more_once_its_drill_is_over(rehearsal, kept):
    drill, law = rehearsal.read(CLIMB), rehearsal.starter
    with closing(Ledger.open(kept(drill, law))) as ledger:
        over = Authority(law, ledger, clock=VirtualClock(NOON + timedelta(hours=1)))
        asked = {"trigger": "operator_request", "reason": REASON}
        assert codes(over.escalate("alice", "operator", **asked)) == {"drill_over"}
        key = stand_in_key(drill, law, ledger.origin, "drill-approver")
        request = over.prepare("alice", "operator", **asked)
        signed = approve(
            request, "drill-approver", key, expires_at=NOON + timedelta(hours=1, minutes=5)
        )
        receipt = asked_with_approval(over, request, signed)
    assert not receipt.granted
    assert "drill_over" in codes(receipt)


def test_a_stand_ins_signature_does_not_count_in_another_drills_ledger(
    drills_ledger, rehearsal, tmp_path
):
    authority, key = drills_ledger
    other = rehearsal.read(CLIMB + CLIMB)
    law = rehearsal.starter
    with closing(running(other, law, tmp_path / "other.db", authority.clock)) as second:
        assert second.ledger.origin == authority.ledger.origin
        request = climbed(second, "alice")
        now = second.clock.read().wall
        signed = approve(request, "drill-approver", key, expires_at=now + timedelta(minutes=5))
        receipt = asked_with_approval(second, request, signed)
    assert not receipt.granted
    assert "approval_signature" in codes(receipt)


def test_a_stand_ins_signature_does_not_count_in_a_live_ledger(drills_ledger, rehearsal, tmp_path):
    authority, key = drills_ledger
    with closing(
        Authority.create(rehearsal.starter, tmp_path / "live.db", clock=authority.clock)
    ) as live:
        request = climbed(live, "alice")
        now = live.clock.read().wall
        signed = approve(request, "drill-approver", key, expires_at=now + timedelta(minutes=5))
        receipt = asked_with_approval(live, request, signed)
        assert not receipt.granted
        assert {"approval_no_key", "approval_missing"} <= codes(receipt)
        assert not live.may("drill-approver", "logs.read")


def test_what_was_signed_for_the_drill_does_not_count_elsewhere_even_with_a_key_that_would(
    drills_ledger, rehearsal, tmp_path
):
    authority, key = drills_ledger
    law = rehearsal.preset(
        "starter",
        {
            "[profiles.observer]": f'[principals.carol]\nkey = "{key.public}"\n[profiles.observer]',
        },
    )
    with closing(Authority.create(law, tmp_path / "live.db", clock=authority.clock)) as live:
        request = climbed(live, "alice")
        there = request.model_copy(update={"origin": authority.ledger.origin})
        now = live.clock.read().wall
        signed = approve(there, "carol", key, expires_at=now + timedelta(minutes=5))
        receipt = asked_with_approval(live, request, signed)
    assert not receipt.granted
    assert "approval_other_ledger" in codes(receipt)


def test_an_attestation_by_a_drills_sensor_does_not_count_in_a_live_ledger(rehearsal, tmp_path):
    law = rehearsal.vaultmesh
    drill = packaged_drills()[1]
    key = stand_in_key(drill, law, f"vaultmesh/drill/{drill.id}", "did:vm:sensor:drill")
    facts = {"threat.confidence": "0.92", "threat.type": "malware"}
    who = "did:vm:agent:7"
    with closing(Authority.create(law, tmp_path / "live.db", clock=VirtualClock(NOON))) as live:
        live.escalate(who, "operator", trigger="operator_request", reason=REASON).raise_for_denial()
        request = live.prepare(who, "guardian", trigger="threat_detected", facts=facts)
        signed = attest(request, "did:vm:sensor:drill", key, at=NOON)
        receipt = live.escalate(
            who,
            "guardian",
            trigger="threat_detected",
            facts=facts,
            request=request,
            attestations=(signed,),
        )
    assert not receipt.granted
    assert {"attestation_no_key", "fact_unattested"} <= codes(receipt)


def test_stand_ins_stand_in_no_group_of_a_live_ledger(rehearsal):
    people = rehearsal.vaultmesh.people
    for name in ("did:vm:sovereign:drill-approver", "did:vm:guardian:drill-one"):
        assert not people.knows(name)


def test_a_drill_under_its_own_name_twice_in_one_folder_overwrites_nothing(rehearsal, tmp_path):
    drill = rehearsal.read(CLIMB)
    first = run_drill(drill, rehearsal.starter, keep=tmp_path)
    size = (tmp_path / "mine.db").stat().st_size
    second = run_drill(drill, rehearsal.starter, keep=tmp_path)
    assert (first.verdict, second.verdict) == ("pass", "error")
    assert "is there already" in second.reason
    assert (tmp_path / "mine.db").stat().st_size == size


def test_a_run_is_the_same_whatever_file_the_drill_came_from(rehearsal):
    drill = rehearsal.read(CLIMB)
    renamed = replace(drill, name=str(Path("elsewhere") / "other.drill.toml"))
    assert run_drill(drill, rehearsal.starter).root == run_drill(renamed, rehearsal.starter).root

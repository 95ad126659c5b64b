from datetime import timedelta

import pytest

from vmstate.ledger.audit import audit_ledger

HOUR = timedelta(hours=1)


@pytest.fixture
def behind(world):
    """A world in a new boot whose wall clock reads an hour too early, with a lease from before."""
    world.operator()
    world.wait(minutes=10)
    world.operator(world.bob)
    world.clock.reboot(down_for=timedelta(minutes=1), wall_error=-HOUR)
    return world


def recover(world, by=None, *, principal=None, **changes):
    principal = principal or world.ada
    request = world.vm.prepare_recovery(principal, reason="the battery was empty")
    approvals = (world.approval(request, by or world.root),)
    asked = {"request": request, "approvals": approvals, "reason": request.reason}
    return world.vm.recover(principal, **{**asked, "key": world.key(principal), **changes})


def test_leases_of_earlier_boots_are_over_at_once(behind):
    for name in (behind.ada, behind.bob):
        assert not behind.vm.may(name, "task.execute")
        assert behind.profile(name) == "observer"
    receipts = behind.vm.settle([behind.ada, behind.bob])
    assert [r.type for r in receipts] == ["clock_anomaly", *["profile_deescalation"] * 2]
    assert {r.fields["what"]["ending"] for r in receipts[1:]} == {"clock_regression"}
    assert receipts[0].fields["what"]["detail"]["kind"] == "regression"


def test_nothing_is_granted_until_time_has_passed_the_newest_receipt(behind):
    newest = behind.receipts()[-1].at
    denied = behind.operator()
    assert behind.denied(denied, "clock_regression")
    assert denied.message == (
        "the clock reads 2026-01-01T11:11:00.000000Z, which is before "
        "the newest receipt, 2026-01-01T12:10:00.000000Z"
    )
    behind.clock.move_to(newest - timedelta(microseconds=1))
    assert behind.denied(behind.operator(), "clock_regression")
    behind.clock.move_to(newest)
    assert behind.operator().granted


def test_setting_the_clock_right_brings_no_ended_lease_back(behind):
    behind.vm.settle([behind.ada, behind.bob])
    behind.clock.step_wall(HOUR)
    for name in (behind.ada, behind.bob):
        assert not behind.vm.may(name, "task.execute")
    assert behind.operator().granted


def test_a_recovery_with_its_approvals_lets_grants_go_on(behind):
    assert behind.denied(behind.operator(), "clock_regression")
    receipt = recover(behind)
    assert receipt.granted
    assert (receipt.type, receipt.rule) == ("recovery", "recovery")
    assert receipt.fields["what"]["detail"]["held_until"] == "2026-01-01T12:10:00.000000Z"
    granted = behind.operator()
    assert granted.granted
    assert granted.expires_at == behind.now + HOUR
    assert behind.denied(recover(behind), "no_regression")


def test_a_ledger_with_a_recovery_in_it_passes_its_audit(behind):
    receipt = recover(behind)
    assert receipt.granted
    assert audit_ledger(behind.vm.ledger).findings == ()


def test_a_recovery_may_be_the_first_thing_that_is_asked(behind):
    assert recover(behind).granted
    assert behind.operator().granted
    assert behind.profile(behind.bob) == "observer"


@pytest.mark.parametrize(
    ("by", "code"),
    [("did:vm:guardian:one", "approval_not_admitted"), ("did:vm:operator:ada", "approval_own")],
)
def test_a_recovery_that_the_constitution_does_not_admit_is_refused(behind, by, code):
    assert behind.denied(recover(behind, by), "approval_missing", code)
    assert behind.denied(behind.operator(), "clock_regression")


def test_a_recovery_without_approvals_is_refused(behind):
    assert behind.denied(recover(behind, approvals=()), "approval_missing")


def test_the_sovereign_does_not_approve_their_own_recovery(behind):
    assert behind.denied(recover(behind, principal=behind.root), "approval_missing", "approval_own")


def test_an_approval_of_a_climb_is_no_approval_of_a_recovery(behind):
    request = behind.request()
    approvals = (behind.approval(request, behind.root),)
    denied = recover(behind, request=request, approvals=approvals, reason=request.reason)
    codes = [one.code for one in denied.unmet]
    assert codes == ["request_differs"] * 2
    assert {one.required.split(" = ")[0] for one in denied.unmet} == {"to", "trigger"}


def test_a_recovery_that_only_the_host_vouches_for_is_refused(behind):
    denied = recover(behind, key=None)
    assert behind.denied(denied, "not_proven")
    assert denied.message == (
        "did:vm:operator:ada is not proven to be who asks, needs a signature, an account or a token"
    )


def test_a_recovery_counts_once(behind):
    request = behind.vm.prepare_recovery(behind.ada, reason="the battery was empty")
    approvals = (behind.approval(request, behind.root),)
    asked = {"request": request, "approvals": approvals, "reason": request.reason}
    asked["key"] = behind.key(behind.ada)
    assert behind.vm.recover(behind.ada, **asked).granted
    behind.clock.reboot(down_for=timedelta(), wall_error=-HOUR)
    again = behind.vm.recover(behind.ada, **asked)
    assert {"request_used", "approval_used"} <= {one.code for one in again.unmet}


def test_where_nothing_went_back_there_is_nothing_to_recover(world):
    denied = recover(world)
    assert world.denied(denied, "no_regression")
    assert denied.message == "the clock needs no recovery, it reads 2026-01-01T12:00:00.000000Z"


def test_without_a_recovery_table_only_time_helps(make_world):
    table = '[recovery]\nneeds.approval = { count = 1, of = ["sovereigns"] }\n'
    world = make_world((table, ""))
    world.operator()
    world.clock.reboot(down_for=timedelta(), wall_error=-HOUR)
    assert world.denied(recover(world), "no_recovery")
    world.wait(hours=1)
    assert world.operator().granted


def test_a_cooldown_from_a_bogus_future_counts_from_the_recovery(world):
    world.operator()
    world.clock.step_wall(timedelta(days=3_650))
    world.operator()
    world.vm.release(world.ada, world.guardian().lease)
    world.clock.reboot(down_for=timedelta(), wall_error=-timedelta(days=3_650))
    assert recover(world).granted
    world.operator()
    assert world.denied(world.guardian(), "cooldown")
    world.wait(minutes=5)
    assert world.guardian().granted


def test_a_second_reboot_does_not_lift_what_the_first_one_found(behind):
    assert behind.denied(behind.operator(), "clock_regression")
    behind.clock.reboot(down_for=timedelta(minutes=1))
    assert behind.denied(behind.operator(), "clock_regression")


def test_within_one_boot_a_step_back_lengthens_nothing_and_is_put_on_the_record(world):
    world.operator()
    world.wait(minutes=59)
    world.clock.step_wall(-timedelta(hours=5))
    assert world.vm.may(world.ada, "operator")
    world.wait(minutes=1)
    assert not world.vm.may(world.ada, "operator")
    anomaly, end = world.vm.settle([world.ada])
    assert anomaly.fields["what"]["detail"] == {"kind": "step", "step_us": -18_000_000_000}
    assert end.fields["what"]["detail"] == {"hand": "boot", "late_us": 0}


def test_a_step_forward_ends_what_it_passes_and_a_step_back_revives_none_of_it(world):
    world.operator()
    world.clock.step_wall(timedelta(hours=2))
    assert not world.vm.may(world.ada, "operator")
    world.vm.settle([world.ada])
    world.clock.step_wall(-timedelta(hours=2))
    assert not world.vm.may(world.ada, "operator")
    assert world.operator().granted

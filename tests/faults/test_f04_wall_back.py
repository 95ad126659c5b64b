"""F4: the wall clock is set back, by a second, an hour, years."""

from datetime import timedelta
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vmstate.clock import VirtualClock
from vmstate.expiry import VirtualExpiry
from vmstate.ledger.audit import audit_ledger

US = timedelta(microseconds=1)
MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
STEPS = pytest.mark.parametrize(
    "step", [timedelta(seconds=1), HOUR, timedelta(days=3650)], ids=["1s", "1h", "10y"]
)


def no_time_goes_back_unspoken(receipts):
    """Where `at` is earlier than on the receipt before, that receipt is about the clock."""
    return all(
        later.at >= earlier.at or later.type == "clock_anomaly"
        for earlier, later in pairwise(receipts)
    )


@STEPS
def test_a_live_lease_does_not_grow(stage, clock, vm, step):
    stage.climb(vm, "u:a")
    clock.advance(10 * MINUTE)
    clock.step_wall(-step)
    clock.advance(50 * MINUTE - US)
    assert vm.may("u:a", "operator")
    clock.advance(US)
    assert not vm.may("u:a", "operator")
    VirtualExpiry(vm).run_due()
    (end,) = stage.ends(vm)
    assert end.fields["what"]["detail"] == {"hand": "boot", "late_us": 0}
    assert end.at == stage.noon + HOUR - step


@STEPS
def test_the_scheduler_ends_it_at_its_real_length(stage, clock, vm, step):
    expiry = stage.closing(VirtualExpiry(vm), VirtualExpiry.stop)
    stage.climb(vm, "u:a")
    expiry.advance(10 * MINUTE)
    clock.step_wall(-step)
    expiry.advance(50 * MINUTE - US)
    assert stage.ends(vm) == []
    expiry.advance(US)
    (end,) = stage.ends(vm)
    assert end.fields["what"]["ended_via"] == "scheduler"


@STEPS
def test_a_lease_made_after_the_step_is_ended_by_the_scheduler_that_was_there(
    stage, clock, vm, step
):
    expiry = stage.closing(VirtualExpiry(vm), VirtualExpiry.stop)
    clock.advance(MINUTE)
    clock.step_wall(-step)
    stage.climb(vm, "u:a", ttl=timedelta(milliseconds=5))
    expiry.advance(MINUTE)
    (end,) = stage.ends(vm)
    assert end.fields["what"]["ended_via"] == "scheduler"


@STEPS
@pytest.mark.parametrize("written", [True, False])
def test_an_ended_lease_does_not_come_back(stage, clock, vm, step, written):
    stage.climb(vm, "u:a")
    clock.advance(HOUR)
    if written:
        vm.settle(["u:a"])
    assert not vm.may("u:a", "operator")
    clock.step_wall(-step)
    assert not vm.may("u:a", "operator")
    assert [one.lease for one in vm.due(limit=5)] == ([] if written else ["lease-1"])
    clock.step_wall(-step)
    vm.settle(["u:a"])
    assert len(stage.ends(vm)) == 1
    assert not vm.may("u:a", "operator")


@STEPS
def test_one_receipt_speaks_of_the_clock_before_any_that_goes_back(stage, clock, vm, step):
    stage.climb(vm, "u:a")
    clock.step_wall(-step)
    stage.climb(vm, "u:b")
    stage.climb(vm, "u:c")
    receipts = stage.receipts(vm)
    assert [one.type for one in receipts[1:]] == [
        "profile_escalation",
        "clock_anomaly",
        "profile_escalation",
        "profile_escalation",
    ]
    anomaly = receipts[2].fields
    assert anomaly["what"]["detail"] == {"kind": "step", "step_us": -(step // US)}
    assert no_time_goes_back_unspoken(receipts)
    assert audit_ledger(vm.ledger).is_good


def test_a_lease_of_an_earlier_boot_does_not_grow_once_this_boot_has_written(stage, clock, vm):
    """Only its wall deadline is left, and the ledger knows this boot's wall from a receipt."""
    stage.climb(vm, "u:a")
    clock.reboot(down_for=10 * MINUTE)
    stage.climb(vm, "u:b")
    clock.step_wall(-30 * MINUTE)
    stage.climb(vm, "u:c")
    clock.advance(50 * MINUTE)
    assert not vm.may("u:a", "operator")


def test_a_lease_of_an_earlier_boot_does_not_come_back_once_this_boot_has_written(stage, clock, vm):
    stage.climb(vm, "u:a")
    clock.reboot(down_for=10 * MINUTE)
    stage.climb(vm, "u:b")
    clock.advance(50 * MINUTE)
    assert not vm.may("u:a", "operator")
    clock.step_wall(-30 * MINUTE)
    assert not vm.may("u:a", "operator")


def tell(stage, story):
    """Play a story in which the wall is set by some seconds after each thing that happens."""
    clock = VirtualClock(stage.noon)
    vm = stage.make(clock)
    began = {}
    for verb, who, seconds in story:
        name = f"u:{who}"
        match verb:
            case "climb" | "guardian":
                to = "operator" if verb == "climb" else verb
                receipt = vm.escalate(name, to, trigger="asked", ttl=20 * MINUTE)
                if receipt.granted and verb == "climb":
                    began[name] = clock.read().boot_us
            case "release":
                leases = vm.standing(name).leases
                if leases:
                    vm.release(name, leases[-1].id)
            case "settle":
                vm.settle([name])
            case "wait":
                clock.advance(timedelta(seconds=abs(seconds)))
        clock.step_wall(timedelta(seconds=seconds))
        for name, since in began.items():
            if clock.read().boot_us - since >= 20 * MINUTE // US:
                assert not vm.may(name, "operator")
    assert no_time_goes_back_unspoken(stage.receipts(vm))
    stage.check_whole(vm)
    assert audit_ledger(vm.ledger).findings == ()


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["climb", "guardian", "release", "settle", "wait"]),
            st.integers(min_value=0, max_value=2),
            st.integers(min_value=-7_200, max_value=7_200),
        ),
        max_size=25,
    )
)
def test_whatever_the_wall_does_no_lease_lasts_longer_than_it_was_granted_for(make_stage, story):
    with make_stage() as stage:
        tell(stage, story)

"""F2: the process is down at the deadline, for minutes or months."""

from datetime import timedelta

import pytest

from vmstate.canonical import parse_at
from vmstate.clock import VirtualClock
from vmstate.expiry import VirtualExpiry
from vmstate.ledger.audit import audit_ledger

MINUTE = timedelta(minutes=1)


@pytest.mark.parametrize("down_for", [timedelta(minutes=90), timedelta(days=200)])
def test_each_lease_gets_one_receipt_in_deadline_order_that_says_how_late(stage, down_for):
    clock = VirtualClock(stage.noon)
    vm = stage.make(clock)
    for n in range(60):
        stage.climb(vm, f"u:{n}", ttl=MINUTE * (1 + n * 7 % 59))
    for n in range(0, 60, 6):
        stage.climb(vm, f"u:{n}", "guardian", ttl=timedelta(seconds=31 + n))
    vm.close()
    clock.advance(down_for)

    again = stage.open(vm.ledger.path, clock)
    assert all(not again.may(f"u:{n}", "operator") for n in range(60))
    assert stage.ends(again) == []
    stage.closing(VirtualExpiry(again), VirtualExpiry.stop).run_due()
    ends = stage.ends(again)
    dues = [parse_at(one.fields["due"]) for one in ends]
    assert dues == sorted(dues)
    assert len({one.lease for one in ends}) == len(ends) == 70
    for end, due in zip(ends, dues, strict=True):
        assert end.at == stage.noon + down_for
        assert end.fields["what"]["ended_via"] == "start_up"
        late = timedelta(microseconds=end.fields["what"]["detail"]["late_us"])
        assert late == end.at - due
    assert audit_ledger(again.ledger).is_good


def test_the_order_of_deadlines_holds_over_more_than_one_chunk(stage, monkeypatch):
    monkeypatch.setattr("vmstate.claims.CHUNK", 10)
    clock = VirtualClock(stage.noon)
    vm = stage.make(clock)
    for n in range(40):
        stage.climb(vm, f"u:{n}", ttl=MINUTE * (40 - n))
        stage.climb(vm, f"u:{n}", "guardian", ttl=timedelta(seconds=30))
    clock.advance(timedelta(days=1))
    stage.closing(VirtualExpiry(vm), VirtualExpiry.stop).run_due()
    dues = [one.fields["due"] for one in stage.ends(vm)]
    assert len(dues) == 80
    assert dues == sorted(dues)


def test_the_next_command_of_the_holder_writes_what_is_owed_first(stage):
    clock = VirtualClock(stage.noon)
    vm = stage.make(clock)
    stage.climb(vm, "u:a", ttl=30 * MINUTE)
    stage.climb(vm, "u:a", "guardian", ttl=10 * MINUTE)
    vm.close()
    clock.advance(timedelta(days=90))
    again = stage.open(vm.ledger.path, clock)
    answer = again.release("u:a", "lease-1")
    assert answer.outcome == "denied"
    types = [one.type for one in stage.receipts(again)][-3:]
    assert types == ["profile_deescalation", "profile_deescalation", "auth_failure"]
    assert [one.fields["what"]["from"] for one in stage.ends(again)] == ["guardian", "operator"]
    assert {one.fields["what"]["ended_via"] for one in stage.ends(again)} == {"settle"}

"""Virtual time walks from deadline to deadline, so that each end sees its own instant."""

from datetime import timedelta

import pytest

from vmstate.canonical import format_at
from vmstate.clock import SystemClock
from vmstate.expiry import ROUNDS_AT_ONE_INSTANT, VirtualExpiry

US = timedelta(microseconds=1)
SECOND = timedelta(seconds=1)


@pytest.fixture
def expiry(stage, vm):
    return stage.closing(VirtualExpiry(vm), VirtualExpiry.stop)


def test_each_end_is_written_at_its_own_deadline_in_one_long_walk(stage, vm, expiry):
    for n in range(40):
        stage.climb(vm, f"u:{n}", ttl=SECOND + n * 17 % 40 * 90 * SECOND)
    expiry.run_until(stage.noon + timedelta(days=400))
    ends = stage.ends(vm)
    assert [one.fields["at"] for one in ends] == [one.fields["due"] for one in ends]
    assert [one.fields["due"] for one in ends] == sorted(one.fields["due"] for one in ends)
    assert len(ends) == 40
    assert vm.clock.read().wall == stage.noon + timedelta(days=400)
    assert expiry.next_deadline() is None


def test_at_one_instant_the_top_of_a_stack_ends_first(stage, vm, expiry):
    for who in ("u:a", "u:b"):
        stage.climb(vm, who, ttl=60 * SECOND)
        stage.climb(vm, who, "guardian")  # cut to what it stands on
    expiry.advance(60 * SECOND)
    ends = stage.ends(vm)
    assert {one.fields["due"] for one in ends} == {format_at(stage.noon + 60 * SECOND)}
    for who in ("u:a", "u:b"):
        fell = [one.fields["what"] for one in ends if one.fields["who"]["principal"] == who]
        assert [(one["from"], one["to"]) for one in fell] == [
            ("guardian", "operator"),
            ("operator", "observer"),
        ]
        assert {one["ending"] for one in fell} == {"timeout_expired"}


def test_a_middle_rung_that_ends_takes_the_rung_above_with_it(stage, clock, vm, expiry):
    stage.climb(vm, "u:a", ttl=60 * SECOND)
    stage.climb(vm, "u:a", "guardian", ttl=10 * SECOND)
    clock.advance(timedelta(days=3))
    expiry.run_due()
    ends = stage.ends(vm)
    assert [one.fields["what"]["from"] for one in ends] == ["guardian", "operator"]
    assert [one.fields["due"] for one in ends] == [
        format_at(stage.noon + 10 * SECOND),
        format_at(stage.noon + 60 * SECOND),
    ]


def test_what_a_listener_grants_inside_an_end_is_given_back_in_the_same_run(stage, vm, expiry):
    def climb_again(receipt):
        if receipt.type == "profile_deescalation" and receipt.seq < 10:
            stage.climb(vm, "u:a", ttl=30 * SECOND)

    vm.subscribe(climb_again)
    stage.climb(vm, "u:a", ttl=30 * SECOND)
    expiry.advance(timedelta(minutes=10))
    ends = stage.ends(vm)
    assert [one.fields["at"] for one in ends] == [
        format_at(stage.noon + n * 30 * SECOND) for n in range(1, len(ends) + 1)
    ]
    assert len(ends) == 5
    assert not vm.may("u:a", "operator")


def test_a_drill_that_never_runs_out_of_ends_is_stopped(stage, clock, vm, expiry, monkeypatch):
    monkeypatch.setattr("vmstate.expiry.ROUNDS_AT_ONE_INSTANT", 200)
    grants = []

    def climb_again(receipt):
        if receipt.type == "profile_deescalation":
            grants.append(stage.climb(vm, "u:a", ttl=US))
            clock.advance(US)

    vm.subscribe(climb_again)
    stage.climb(vm, "u:a", ttl=US)
    with pytest.raises(RuntimeError, match=r"^still due after 200 rounds at 2030-01-01 12:00:0"):
        expiry.advance(US)
    assert len(grants) == 200
    assert ROUNDS_AT_ONE_INSTANT == 10_000  # what a drill is really allowed


def test_time_that_nobody_can_move_says_so(stage):
    vm = stage.make(SystemClock())
    expiry = stage.closing(VirtualExpiry(vm), VirtualExpiry.stop)
    with pytest.raises(RuntimeError, match=r"^this clock can't be moved: hand in move_to"):
        expiry.advance(SECOND)

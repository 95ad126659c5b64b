"""A clock that was ahead outlaws nothing that is signed after it was set right (law 11)."""

from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vmstate.decisions.command import SetLock, make_command
from vmstate.ledger.audit import audit_ledger

MINUTE = timedelta(minutes=1)
AHEAD = pytest.mark.parametrize(
    "ahead", [timedelta(minutes=10), timedelta(days=1), timedelta(days=3650)], ids=str
)


def was_ahead(world, ahead, *, write=True):
    """One command, even a denied one, under a clock that is ahead; then it is right again."""
    world.clock.step_wall(ahead)
    if write:
        assert not world.vm.escalate(world.ada, "phoenix", trigger="operator_request").granted
    world.clock.step_wall(-ahead)
    world.wait(minutes=1)


@AHEAD
def test_a_lock_a_revocation_and_an_unlock_work_at_once(world, ahead):
    was_ahead(world, ahead)
    lease = world.operator().lease
    assert world.vm.revoke(world.root, lease, key=world.key(world.root)).granted
    locked = world.vm.lock(world.one, reason="emergency", key=world.key(world.one))
    assert locked.granted
    lock = locked.fields["what"]["detail"]["lock"]
    assert world.vm.unlock(world.root, lock, reason="over", key=world.key(world.root)).granted
    assert audit_ledger(world.vm.ledger).findings == ()


@AHEAD
def test_approvals_and_attestations_that_are_made_now_count_at_once(world, ahead):
    was_ahead(world, ahead)
    assert world.operator().granted
    assert world.guardian().granted
    pushed = world.vm.push(world.sensor, world.bob, world.threat, world.key(world.sensor))
    assert pushed.granted
    assert world.operator(world.bob).granted
    asked = {"trigger": "threat_detected", "reason": world.reason, "facts": {}}
    assert world.vm.escalate(world.bob, "guardian", **asked).granted
    assert audit_ledger(world.vm.ledger).findings == ()


@AHEAD
def test_an_open_request_of_before_is_approved_now(world, ahead):
    world.operator()
    request = world.request()
    assert world.vm.open_request(request).granted
    was_ahead(world, ahead, write=False)
    assert world.vm.approve(request.id, world.one, world.key(world.one)).granted
    assert audit_ledger(world.vm.ledger).findings == ()


def test_the_receipt_of_a_request_holds_what_it_names(world):
    was_ahead(world, 10 * MINUTE)
    world.operator()
    request = world.request()
    assert request.after == world.vm.signing_after()
    assert world.vm.open_request(request).granted
    assert world.vm.approve(request.id, world.one, world.key(world.one)).granted
    assert world.vm.activate(world.ada, request.id).granted
    assert audit_ledger(world.vm.ledger).findings == ()


def test_what_may_have_been_signed_before_the_clock_was_set_back_is_refused_with_the_clock(world):
    world.operator()
    request = world.request()
    approval = world.approval(request)
    was_ahead(world, timedelta(days=1))
    world.operator()
    denied = world.ask(request, approvals=(approval,))
    assert world.denied(denied, "approval_missing", "approval_set_back")
    (one,) = [one for one in denied.unmet if one.code == "approval_set_back"]
    assert one.message == (
        f"the approval by {world.one} may be older than a clock that was set back: the ledger has "
        "seen 2026-01-02T12:01:00.000000Z, the clock reads 2026-01-01T12:01:00.000000Z"
    )
    assert one.remedy == (
        "sign it again at the ledger, or have the clock recovered: vmstate recover --clock"
    )


def test_a_receipt_that_is_not_of_the_newest_step_back_proves_nothing(world):
    was_ahead(world, 10 * MINUTE)
    world.operator()
    request = world.request()
    early = world.approval(request)
    assert early.statement.after is not None
    was_ahead(world, 30 * MINUTE)
    denied = world.ask(request, approvals=(early,))
    assert world.denied(denied, "approval_missing", "approval_set_back")
    made_up = world.approval(request, after=f"sha256:{'0' * 64}")
    assert world.denied(
        world.ask(request, approvals=(made_up,)), "approval_missing", "approval_set_back"
    )


def test_an_order_grows_too_old_by_either_hand_after_a_step_back_as_before_it(world):
    was_ahead(world, timedelta(days=1))
    asked = make_command(SetLock, {"principal": world.one, "scope": "all"})
    order = world.vm.ordered(asked, world.key(world.one))
    world.wait(minutes=6)
    assert world.denied(world.vm.submit(order), "order_stale", "not_proven")
    world.clock.step_wall(-3 * MINUTE)
    assert world.denied(world.vm.submit(order), "order_set_back", "not_proven")


def test_minutes_that_were_slewed_away_are_said_as_a_step_is(world):
    world.operator()
    for _ in range(300):
        world.wait(seconds=10)
        world.clock.step_wall(-timedelta(seconds=1.9))
        world.vm.escalate(world.ada, "phoenix", trigger="operator_request")
    assert world.vm.lock(world.one, reason="emergency", key=world.key(world.one)).granted
    anomalies = [r for r in world.receipts(limit=10_000) if r.type == "clock_anomaly"]
    assert 1 < len(anomalies) < 20
    assert audit_ledger(world.vm.ledger).findings == ()


def test_a_recovery_settles_it_for_those_who_could_not_know(world):
    world.operator()
    request = world.request()
    approval = world.approval(request)
    old = world.vm.prepare_recovery(world.ada, reason="a time server was wrong")
    fields = {"request": old, "reason": old.reason, "key": world.key(world.ada)}
    approvals = (world.approval(old, world.root),)
    was_ahead(world, timedelta(days=1))
    refused = world.vm.recover(world.ada, approvals=approvals, **fields)
    assert world.denied(refused, "approval_missing", "approval_set_back")
    prepared = world.vm.prepare_recovery(world.ada, reason="a time server was wrong")
    fields = {"request": prepared, "reason": prepared.reason, "key": world.key(world.ada)}
    receipt = world.vm.recover(
        world.ada, approvals=(world.approval(prepared, world.root),), **fields
    )
    assert receipt.granted
    detail = receipt.fields["what"]["detail"]
    assert detail["held_until"] is None
    assert detail["seen"] == "2026-01-02T12:01:00.000000Z"
    assert world.vm.set_back() is None
    world.operator()
    assert world.ask(request, approvals=(approval,)).granted
    assert audit_ledger(world.vm.ledger).findings == ()


def test_who_signs_with_other_tools_need_not_know_what_the_request_names(world):
    was_ahead(world, 10 * MINUTE)
    world.operator()
    request = world.request()
    approval = world.approval(request, after=None)
    assert "after" not in approval.statement.body()
    assert world.ask(request, approvals=(approval,)).granted
    assert audit_ledger(world.vm.ledger).findings == ()


def test_a_recovery_brings_no_lease_of_an_earlier_boot_back(world):
    world.operator()
    world.clock.reboot(down_for=MINUTE)
    was_ahead(world, timedelta(days=1))
    assert not world.vm.may(world.ada, "operator")
    prepared = world.vm.prepare_recovery(world.bob, reason="a time server was wrong")
    fields = {"request": prepared, "reason": prepared.reason, "key": world.key(world.bob)}
    approvals = (world.approval(prepared, world.root),)
    assert world.vm.recover(world.bob, approvals=approvals, **fields).granted
    assert not world.vm.may(world.ada, "operator")


def test_set_back_is_told_until_time_has_caught_up(world):
    assert world.vm.set_back() is None
    was_ahead(world, 10 * MINUTE)
    told = world.vm.set_back()
    assert (told.seen - told.reads, told.after) == (10 * MINUTE, None)
    assert world.vm.signing_after() == world.receipts()[-1].id
    assert world.receipts()[-1].type == "clock_anomaly"
    assert world.vm.set_back().after == world.vm.signing_after()
    world.clock.step_wall(10 * MINUTE)
    assert world.vm.set_back() is None
    assert world.vm.signing_after() is None


def test_a_reboot_forgets_nothing_of_what_was_seen_and_stays_signable(world):
    was_ahead(world, timedelta(days=1))
    back = world.vm.signing_after()
    world.clock.reboot(down_for=timedelta(hours=1))
    told = world.vm.set_back()
    assert (told.seen.isoformat(), told.after) == ("2026-01-02T12:01:00+00:00", back)
    assert world.vm.lock(world.one, reason="emergency", key=world.key(world.one)).granted
    assert world.vm.signing_after() == back
    assert audit_ledger(world.vm.ledger).findings == ()


def test_a_reboot_to_a_clock_in_the_past_is_a_step_back_that_can_be_named(world):
    world.operator()
    world.wait(minutes=1)
    world.operator(world.bob)
    world.clock.reboot(down_for=MINUTE, wall_error=-timedelta(days=1))
    assert world.vm.set_back().after is None
    assert world.vm.signing_after() == world.receipts()[-1].id
    assert world.receipts()[-1].fields["what"]["detail"]["kind"] == "regression"
    locked = world.vm.lock(world.one, reason="emergency", key=world.key(world.one))
    lock = locked.raise_for_denial().fields["what"]["detail"]["lock"]
    assert world.vm.unlock(world.root, lock, key=world.key(world.root)).granted
    assert audit_ledger(world.vm.ledger).findings == ()


def test_a_recovery_in_the_next_boot_settles_what_was_seen_in_the_one_before(world):
    world.wait(minutes=400)
    was_ahead(world, timedelta(days=1))
    world.vm.signing_after()
    world.clock.reboot(down_for=MINUTE)
    prepared = world.vm.prepare_recovery(world.bob, reason="a time server was wrong")
    fields = {"request": prepared, "reason": prepared.reason, "key": world.key(world.bob)}
    approvals = (world.approval(prepared, world.root),)
    assert world.vm.recover(world.bob, approvals=approvals, **fields).granted
    assert world.vm.set_back() is None
    assert audit_ledger(world.vm.ledger).findings == ()


# ---- both sides, whatever the clock does -------------------------------------------------------

MOVES = st.lists(
    st.one_of(
        st.tuples(st.just("wait"), st.integers(1, 1_200)),
        st.tuples(st.just("step"), st.integers(-7_200, 7_200)),
        st.tuples(st.just("write"), st.just(0)),
    ),
    max_size=12,
)
# The wall is wrong by so much after a reboot; of how long that took no hand says anything.
REBOOTS = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(("step", "reboot")), st.integers(-7_200, 7_200)),
        st.tuples(st.just("wait"), st.integers(1, 1_200)),
        st.tuples(st.just("write"), st.just(0)),
    ),
    max_size=12,
)


def play(world, moves):
    """Let the clock do so; yields after each, so that something can be looked at."""
    for move, seconds in moves:
        if move == "wait":
            world.wait(seconds=seconds)
        elif move == "step":
            world.clock.step_wall(timedelta(seconds=seconds))
        elif move == "reboot":
            world.clock.reboot(down_for=MINUTE, wall_error=timedelta(seconds=seconds))
        else:
            world.vm.escalate(world.ada, "phoenix", trigger="operator_request")
        yield


def refused_as_old(world, request, approval):
    """Whether the ledger says that it is too old, and writes that down.

    It is by somebody whom the rule does not admit, so that it is judged and never used up.
    """
    world.operator(world.bob)
    denied = world.ask(request, approvals=(approval,))
    codes = {one.code for one in denied.unmet}
    assert codes & {"approval_missing", "approval_not_admitted"}
    return bool(codes & {"approval_stale", "approval_set_back"})


@settings(max_examples=60, deadline=None)
@given(before=MOVES, after=MOVES)
def test_whatever_the_clock_did_what_is_signed_now_counts(make_worlds, before, after):
    with make_worlds() as world:
        for _ in play(world, before):
            pass
        locked = world.vm.lock(world.one, reason="now", key=world.key(world.one))
        lock = locked.fields["what"]["detail"]["lock"]
        assert world.vm.unlock(world.root, lock, key=world.key(world.root)).granted
        pushed = world.vm.push(world.sensor, world.bob, world.threat, world.key(world.sensor))
        assert pushed.granted
        for _ in play(world, after):
            pass
        prepared = world.request(world.bob)
        assert not refused_as_old(world, prepared, world.approval(prepared, world.ada))
        assert audit_ledger(world.vm.ledger).findings == ()


@settings(max_examples=60, deadline=None)
@given(before=MOVES, after=MOVES)
def test_whatever_the_clock_does_what_was_refused_as_too_old_stays_so(make_worlds, before, after):
    with make_worlds() as world:
        for _ in play(world, before):
            pass
        request = world.request(world.bob)
        approval = world.approval(request, world.ada, expires_at=world.now + 15 * MINUTE)
        old = False
        for _ in play(world, after):
            now = refused_as_old(world, request, approval)
            assert now or not old
            old = now
        assert audit_ledger(world.vm.ledger).findings == ()


@settings(max_examples=60, deadline=None)
@given(before=MOVES, after=MOVES)
def test_whatever_the_clock_does_a_signature_lasts_no_longer_than_it_was_made_for(
    make_worlds, before, after
):
    """As long as something was written before each step: only what is on record is known."""
    with make_worlds() as world:
        for _ in play(world, before):
            pass
        request = world.request(world.bob)
        approval = world.approval(request, world.ada, expires_at=world.now + 15 * MINUTE)
        refused_as_old(world, request, approval)
        made = world.clock.read().boot_us
        for _ in play(world, after):
            old = refused_as_old(world, request, approval)
            elapsed = timedelta(microseconds=world.clock.read().boot_us - made)
            assert old or elapsed < 15 * MINUTE


@settings(max_examples=60, deadline=None)
@given(before=REBOOTS, after=REBOOTS)
def test_no_reboot_revives_what_was_refused_as_too_old_nor_outlaws_what_is_signed_now(
    make_worlds, before, after
):
    """By an order of somebody who may not lock, so that it is judged and never used up."""
    asked = make_command(SetLock, {"principal": "did:vm:operator:bob", "scope": "all"})

    def signed():
        return world.vm.ordered(asked, world.key(world.bob))

    def refused_as_old(order):
        codes = {one.code for one in world.vm.submit(order).unmet}
        assert "lock_not_admitted" in codes
        return bool(codes & {"order_stale", "order_set_back"})

    with make_worlds() as world:
        for _ in play(world, before):
            assert not refused_as_old(signed())
        order, old = signed(), False
        for _ in play(world, after):
            now = refused_as_old(order)
            assert now or not old
            old = now
            assert not refused_as_old(signed())
        assert audit_ledger(world.vm.ledger).findings == ()

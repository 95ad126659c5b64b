"""F26, on many: what a lock covers is over from its commit on, however much of it is on record."""

from datetime import timedelta

import pytest
from crowds import grant

from vmstate.authority import Authority
from vmstate.clock import VirtualClock
from vmstate.errors import LedgerUnavailable
from vmstate.expiry import VirtualExpiry
from vmstate.interfaces.cli import locks
from vmstate.keys import PrivateKey
from vmstate.leases.lock import SWEPT_AT_ONCE
from vmstate.ledger.audit import audit_bundle, audit_ledger
from vmstate.ledger.bundle import export
from vmstate.ledger.store import Ledger

MINUTE = timedelta(minutes=1)
ROOT = PrivateKey.derive("short", "root")
CROWD = 2 * SWEPT_AT_ONCE + 7
NAMES = [f"u:{n}" for n in range(CROWD)]
LAST, LAST_BUT_ONE = NAMES[-1], NAMES[-2]


@pytest.fixture
def killed(monkeypatch):
    """Whoever locks is killed right after the commit: what is owed stays owed."""
    monkeypatch.setattr(Authority, "_write_fallen", lambda _: None)


@pytest.fixture
def crowd(stage):
    clock = VirtualClock(stage.noon)
    vm = stage.make(clock)
    grant(vm, NAMES)
    return vm, clock


def lock(vm, **scope):
    return vm.lock("root", key=ROOT, reason="the keys were stolen", **scope).raise_for_denial()


def codes(receipt):
    return [one.code for one in receipt.unmet]


def endings(receipts):
    return [one.fields["what"]["ending"] for one in receipts]


def settled(stage, vm):
    """End all that is owed, as `serve` would."""
    stage.closing(VirtualExpiry(vm), VirtualExpiry.stop).run_due()
    assert audit_ledger(vm.ledger).findings == ()
    stage.check_whole(vm)
    with vm.ledger.read() as snapshot:
        assert snapshot.falls.every() == ()
    assert vm.due(limit=1) == ()


@pytest.mark.usefixtures("killed")
def test_nobody_holds_what_fell_though_its_end_is_not_on_record(stage, crowd):
    vm, clock = crowd
    other = stage.open(vm.ledger.path, clock)
    assert vm.may(LAST, "operator")
    assert other.may(LAST, "operator")
    locked = lock(vm)
    assert len(stage.ends(vm)) == SWEPT_AT_ONCE
    for door in (vm, other, stage.open(vm.ledger.path, clock)):
        assert not any(door.may(name, "operator") for name in NAMES)
        assert door.standing(LAST).leases == ()
        assert door.status() == ()
    owed = vm.due(limit=CROWD)
    assert len(owed) == CROWD - SWEPT_AT_ONCE
    assert {one.ended_at for one in owed} == {locked.at}
    assert audit_ledger(vm.ledger).findings == ()
    export(vm.ledger, stage.folder / "bundle")
    bundle = audit_bundle(stage.folder / "bundle")
    assert (bundle.findings, bundle.open_leases) == ((), 0)
    settled(stage, vm)


def test_who_serves_answers_a_lock_at_once_and_ends_what_it_owes_as_after_a_deadline(stage, crowd):
    vm, clock = crowd
    serving = Authority(stage.law, Ledger.open(vm.ledger.path), clock=clock, serving=True)
    stage.closing(serving, Authority.close)
    locked = lock(serving)
    said = f"lock-{locked.seq}: everybody is locked until it is lifted"
    assert (
        locks._locked(serving, locked) == f"{said}; 1000 leases ended, the receipts of more follow"
    )
    assert codes(serving.escalate(LAST, "operator", trigger="asked")) == ["locked"]
    settled(stage, serving)
    assert locks._locked(serving, locked) == f"{said}; {CROWD} leases ended"
    via = [one.fields["what"]["ended_via"] for one in stage.ends(vm)]
    assert via == [None] * SWEPT_AT_ONCE + ["settle"] + ["start_up"] * (CROWD - SWEPT_AT_ONCE - 1)


@pytest.mark.usefixtures("killed")
def test_lifting_a_lock_restores_nothing_of_what_fell(stage, crowd):
    vm, clock = crowd
    lease = vm.standing(LAST).leases[0].id
    locked = lock(vm)
    vm.unlock("root", f"lock-{locked.seq}", key=ROOT).raise_for_denial()
    clock.advance(MINUTE)
    assert not vm.may(LAST, "operator")
    assert codes(vm.renew(LAST, lease)) == ["unknown_lease"]
    ended = stage.receipts(vm, principal=LAST, type_="profile_deescalation")[0].fields
    assert ended["what"]["ending"] == "locked"
    assert ended["due"] == locked.fields["at"] != ended["at"]
    assert ended["who"] == {"actor": "root", "principal": LAST, "proof": "key"}
    assert (ended["why"], ended["what"]["ended_via"]) == ("the keys were stolen", "settle")
    assert vm.lease(lease).ended.wall == locked.at
    assert stage.climb(vm, LAST).lease != lease
    assert stage.climb(vm, LAST_BUT_ONE).granted
    settled(stage, vm)
    assert vm.may(LAST, "operator")
    assert vm.may(LAST_BUT_ONE, "operator")
    assert not vm.may(NAMES[-3], "operator")


@pytest.mark.usefixtures("killed")
def test_time_ended_what_was_over_before_the_lock_and_the_lock_all_else(stage):
    clock = VirtualClock(stage.noon)
    vm = stage.make(clock)
    grant(vm, NAMES[:-7])
    grant(vm, NAMES[-7:], ttl=MINUTE)
    clock.advance(MINUTE)
    locked = lock(vm)
    clock.advance(200 * MINUTE)
    settled(stage, vm)
    ends = stage.ends(vm)
    assert endings(ends).count("locked") == CROWD - 7
    assert {one.fields["due"] for one in ends[SWEPT_AT_ONCE:]} == {locked.fields["at"]}
    for one in ends:
        at = stage.noon + MINUTE
        assert vm.lease(one.lease).ended.wall == at


def forward(_stage, clock, _vm):
    """The lease is of an earlier boot, and the wall is set forward before its end is written."""
    clock.reboot(down_for=MINUTE)
    yield
    clock.step_wall(600 * MINUTE)


def in_the_past(_stage, clock, _vm):
    """The lock is set by a clock that lost all leases of before."""
    clock.reboot(down_for=MINUTE, wall_error=-600 * MINUTE)
    yield


def by_boot_hand(stage, clock, vm):
    """The leases had run out by the boot hand alone."""
    clock.step_wall(-600 * MINUTE)
    stage.climb(vm, LAST, "guardian")
    clock.advance(61 * MINUTE)
    yield


@pytest.mark.usefixtures("killed")
@pytest.mark.parametrize("story", [forward, in_the_past, by_boot_hand])
def test_whatever_the_clock_did_about_a_lock_what_fell_stays_over_and_the_ledger_audits(
    stage, crowd, story
):
    vm, clock = crowd
    telling = story(stage, clock, vm)
    next(telling)
    lock(vm)
    assert audit_ledger(vm.ledger).findings == ()
    next(telling, None)
    assert not any(vm.may(name, "operator") for name in NAMES)
    vm.settle([LAST])
    assert audit_ledger(vm.ledger).findings == ()
    export(vm.ledger, stage.folder / "bundle")
    assert audit_bundle(stage.folder / "bundle").findings == ()
    settled(stage, vm)


@pytest.mark.usefixtures("killed")
def test_a_lock_on_a_profile_fells_what_includes_it_and_nothing_below(stage, crowd):
    vm, clock = crowd
    climbers = [*NAMES[: SWEPT_AT_ONCE + 5], LAST]
    stage.crowd(vm, climbers, to="guardian")
    lock(vm, profile="guardian")
    clock.advance(MINUTE)
    assert not any(vm.may(name, "guardian") for name in climbers)
    assert all(vm.may(name, "operator") for name in climbers)
    assert len(stage.ends(vm)) < len(climbers)
    assert audit_ledger(vm.ledger).findings == ()
    lock(vm)
    assert not any(vm.may(name, "operator") for name in NAMES)
    assert audit_ledger(vm.ledger).findings == ()
    settled(stage, vm)
    by = {one.fields["what"]["detail"]["lock"] for one in stage.ends(vm)}
    assert len(by) == 2


def test_whoever_locks_writes_what_is_owed_and_others_are_decided_in_between(
    stage, crowd, monkeypatch
):
    vm, clock = crowd
    other, settle, between = stage.open(vm.ledger.path, clock), vm.settle, []

    def settle_and_ask(*fields, **named):
        between.append(codes(other.escalate(LAST, "operator", trigger="asked")))
        return settle(*fields, **named)

    monkeypatch.setattr(vm, "settle", settle_and_ask)
    lock(vm)
    assert between == [["locked"]] * 3
    assert len(stage.ends(vm)) == CROWD
    settled(stage, vm)


def test_a_lock_stands_though_what_it_owes_can_not_be_written(stage, crowd, monkeypatch):
    vm, _ = crowd

    def fail(*_fields, **_named):
        raise LedgerUnavailable("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(vm, "settle", fail)
        assert lock(vm).outcome == "recorded"
    assert not vm.may(LAST, "operator")
    settled(stage, vm)


@pytest.mark.usefixtures("killed")
@pytest.mark.parametrize(
    ("edit", "found"),
    [
        ("DELETE FROM fall", "the table of falls is not of the locks that still owe ends"),
        ("UPDATE fall SET after_seq = 9999", "by the table of falls lease-{n} did not fall by"),
        ("UPDATE fall SET profiles = '[]'", "by the table of falls lease-{n} did not fall by"),
        ("UPDATE fall SET proof = 'host'", "the table of falls says otherwise than its receipt"),
    ],
)
def test_whoever_makes_the_file_forget_what_fell_is_found(crowd, edit, found):
    vm, _ = crowd
    lock(vm)
    vm.ledger.transact(lambda one: one._execute(edit, ()))
    findings = [one.what for one in audit_ledger(vm.ledger).findings]
    assert any(one.startswith(found.format(n=SWEPT_AT_ONCE + 1)) for one in findings)


@pytest.mark.usefixtures("killed")
def test_what_is_done_under_a_lease_that_fell_is_found(stage, crowd):
    vm, clock = crowd
    lease = vm.standing(LAST).leases[0].id
    locked = lock(vm)
    vm.unlock("root", f"lock-{locked.seq}", key=ROOT)
    vm.ledger.transact(lambda one: one._execute("DELETE FROM fall", ()))
    clock.advance(MINUTE)
    assert vm.renew(LAST, lease).granted
    assert stage.climb(vm, LAST, "guardian").granted
    clock.advance(100 * MINUTE)
    vm.settle(NAMES[-2:])
    findings = [one.what for one in audit_ledger(vm.ledger).findings]
    assert f"renews {lease!r} after its end" in findings
    assert "stands on a lease that was over" in findings
    assert f"says time ended {lease!r}, which lock-{locked.seq} had ended" in findings

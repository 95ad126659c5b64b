"""Locks: what one ends at once, what it refuses while it stands, and who may lift it."""

from datetime import timedelta

import pytest

from vmstate.authority import Authority
from vmstate.decisions.command import Act, Call, Release, SetLock, Tally, make_command
from vmstate.errors import InputError
from vmstate.ledger.audit import audit_ledger
from vmstate.ledger.store import Ledger

HOUR = timedelta(hours=1)
SERVER = """
[tools.git]
tools."git_status" = { profile = "observer" }
tools."git_push"   = { profile = "guardian" }
"""
TWO_SOVEREIGNS = (
    'sovereigns = ["did:vm:sovereign:root"]',
    'sovereigns = ["did:vm:sovereign:root", "did:vm:guardian:two"]',
)


def lock(world, by=None, *, reason="the laptop was stolen", **scope):
    by = by or world.one
    return world.vm.lock(by, reason=reason, key=world.key(by), **scope)


def unlock(world, lock_id, by=None):
    by = by or world.root
    return world.vm.unlock(by, lock_id, key=world.key(by))


def lock_of(receipt):
    return receipt.fields["what"]["detail"]["lock"]


def ends(world):
    return [
        (one.fields["who"]["principal"], one.fields["what"]["from"], one.fields["what"]["ending"])
        for one in world.receipts()
        if one.type == "profile_deescalation"
    ]


def is_whole(world):
    assert audit_ledger(world.vm.ledger).findings == ()
    return True


# ---- what it ends ---------------------------------------------------------------------------


def test_a_lock_on_a_person_ends_all_they_hold_at_once_the_top_first(world):
    world.operator()
    world.guardian()
    world.operator(world.bob)
    receipt = lock(world, principal=world.ada)
    assert (receipt.type, receipt.outcome, receipt.rule) == ("lock", "recorded", "locks.by")
    assert receipt.fields["who"] == {"actor": world.one, "principal": world.ada, "proof": "key"}
    assert receipt.fields["what"]["detail"] == {
        "lock": f"lock-{receipt.seq}",
        "scope": "principal",
        "name": world.ada,
        "until": None,
        "state": "locked",
    }
    assert ends(world) == [
        (world.ada, "guardian", "locked"),
        (world.ada, "operator", "locked"),
    ]
    end = world.receipts()[-1].fields
    assert end["what"]["detail"] == {"lock": lock_of(receipt)}
    assert (end["who"]["actor"], end["what"]["to"]) == (world.one, "observer")
    assert not world.vm.may(world.ada, "operator")
    assert world.vm.may(world.bob, "operator")
    assert is_whole(world)


def test_a_lock_on_a_person_is_on_each_of_their_names(make_world):
    world = make_world(controllers={"did:vm:operator:bob": "did:vm:operator:ada"})
    world.operator()
    world.operator(world.bob)
    lock(world, principal=world.bob)
    assert not world.vm.may(world.ada, "operator")
    assert world.denied(world.operator(), "locked")
    assert world.denied(world.operator(world.bob), "locked")
    assert is_whole(world)


def test_a_lock_on_a_profile_ends_it_and_what_stands_above_and_leaves_what_is_below(world):
    world.operator()
    world.guardian()
    world.phoenix()
    world.operator(world.bob)
    receipt = lock(world, profile="guardian")
    assert receipt.fields["who"]["principal"] is None
    assert ends(world) == [
        (world.ada, "phoenix", "locked"),
        (world.ada, "guardian", "locked"),
    ]
    assert world.profile() == "operator"
    assert world.vm.may(world.ada, "task.execute")
    assert world.denied(world.guardian(world.bob), "locked")
    assert world.operator(world.agent).granted
    assert is_whole(world)


def test_a_lock_on_everybody_ends_everything_and_leaves_nobody_even_the_baseline(world):
    for name in (world.ada, world.bob, world.agent):
        world.operator(name)
    world.guardian()
    assert world.vm.may(world.bob, "context.read")
    lock(world)
    assert sorted(name for name, _, _ in ends(world)) == sorted(
        (world.ada, world.ada, world.bob, world.agent)
    )
    assert world.vm.status() == ()
    assert not world.vm.may(world.bob, "context.read")
    assert is_whole(world)


def test_what_was_over_by_then_ends_by_its_own_deadline_and_not_by_the_lock(world):
    world.operator(ttl=timedelta(minutes=10))
    world.operator(world.bob)
    world.wait(minutes=20)
    lock(world)
    assert ends(world) == [
        (world.ada, "operator", "timeout_expired"),
        (world.bob, "operator", "locked"),
    ]
    assert is_whole(world)


def test_leaving_a_profile_by_a_lock_starts_its_cooldown(world):
    world.operator()
    world.guardian()
    unlock(world, lock_of(lock(world, profile="guardian")))
    assert world.denied(world.guardian(), "cooldown")


def test_listeners_hear_of_everything_that_a_lock_ended(world):
    world.operator()
    world.operator(world.bob)
    heard = []
    world.vm.subscribe(lambda receipt: heard.append((receipt.seq, receipt.type)))
    first = lock(world).seq
    assert heard == [
        (first, "lock"),
        (first + 1, "profile_deescalation"),
        (first + 2, "profile_deescalation"),
    ]


def test_another_process_sees_a_lock_as_soon_as_it_is_written(world):
    with world.vm.ledger.read() as snapshot:
        assert snapshot.locks.standing() == ()
    elsewhere = Authority(
        world.vm.constitution, Ledger.open(world.vm.ledger.path), clock=world.clock
    )
    world.operator()
    assert elsewhere.may(world.ada, "operator")
    lock(world, principal=world.ada)
    assert not elsewhere.may(world.ada, "operator")
    assert [one.name for one in elsewhere.locks()] == [world.ada]
    elsewhere.close()


# ---- what it refuses ------------------------------------------------------------------------


def test_a_climb_is_refused_by_the_lock_that_forbids_it_and_says_why_and_until_when(world):
    receipt = lock(world, principal=world.ada, ttl=HOUR)
    denied = world.operator()
    assert world.denied(denied, "locked")
    assert denied.message == (
        "did:vm:operator:ada is locked: lock-1 on did:vm:operator:ada until "
        "2026-01-01T13:00:00.000000Z: the laptop was stolen"
    )
    assert denied.unmet[0].remedy == f"have it lifted: vmstate unlock {lock_of(receipt)}"
    explained = world.vm.why(make_command(SetLock, {"principal": world.ada, "scope": "all"}))
    assert [one.code for one in explained.unmet][:2] == ["locked", "not_proven"]


def test_every_lock_that_forbids_a_climb_is_told(world):
    world.operator()
    for scope in ({"profile": "guardian"}, {"profile": "operator"}):
        lock(world, **scope)
    lock(world, reason="")
    denied = world.guardian()
    codes = [one.code for one in denied.unmet]
    assert codes.count("locked") == 3
    assert "everybody until it is lifted" in denied.message


def test_acts_are_refused_under_a_lock_and_so_are_calls(make_world):
    world = make_world(extra=SERVER)
    anchor = make_command(Act, {"principal": world.ada, "act": "guardian.anchor"})
    asked = {"server": "git", "kind": "tool", "arguments": f"sha256:{'a' * 64}"}
    lock(world, profile="guardian")
    world.operator()
    assert world.denied(world.vm.submit(anchor), "locked", "act_out_of_reach")
    push = make_command(Call, {**asked, "principal": world.ada, "name": "git_push"})
    assert world.denied(world.vm.submit(push), "locked", "tool_out_of_reach")
    status = make_command(Call, {**asked, "principal": world.ada, "name": "git_status"})
    assert world.vm.submit(status).granted
    lock(world)
    assert world.denied(world.vm.submit(status), "locked")
    assert is_whole(world)


def test_calls_that_were_made_before_a_lock_go_on_record_after_it(make_world):
    world = make_world(extra=SERVER)
    lock(world)
    asked = {"server": "git", "name": "git_status", "arguments": f"sha256:{'a' * 64}"}
    told = {"principal": world.agent, "count": 3, "since": "2026-01-01T11:59:00.000000Z"}
    assert world.vm.submit(make_command(Tally, {**asked, **told})).granted
    assert is_whole(world)


def test_the_approval_of_somebody_who_is_locked_does_not_count(world):
    world.operator()
    lock(world, world.root, principal=world.one)
    request = world.request()
    approvals = (world.approval(request),)
    denied = world.ask(request, approvals=approvals)
    assert world.denied(denied, "approval_missing", "approval_locked")
    assert denied.unmet[1].message == (
        "the approval by did:vm:guardian:one does not count while they are locked: lock-2 on "
        "did:vm:guardian:one until it is lifted: the laptop was stolen"
    )
    assert world.ask(request, approvals=(world.approval(request, world.two),)).granted


def test_the_attestation_of_a_sensor_that_is_locked_does_not_count(world):
    world.operator()
    lock(world, principal=world.sensor)
    denied = world.vm.escalate(
        world.ada, "guardian", trigger="threat_detected", attestations=(world.attestation(),)
    )
    assert "attestation_locked" in [one.code for one in denied.unmet]


def test_the_order_of_somebody_who_is_locked_ends_nobodys_lease(world):
    lease = world.operator().lease
    lock(world, world.one, principal=world.root, ttl=HOUR)
    denied = world.vm.revoke(world.root, lease, key=world.key(world.root))
    assert world.denied(denied, "order_locked", "locked", "unknown_lease")
    assert world.profile() == "operator"


@pytest.mark.parametrize("proven", ["peer", "token"])
def test_nor_does_their_account_or_token(world, proven):
    lease = world.operator().lease
    lock(world, world.one, principal=world.root, ttl=HOUR)
    asked = {"principal": world.root, "lease": lease, "ending": "sovereign_revoke"}
    denied = world.vm.submit(make_command(Release, {**asked, "proven": proven}))
    assert world.denied(denied, "locked", "unknown_lease")


def test_giving_back_is_never_refused(world):
    lease = world.operator().lease
    world.guardian()
    lock(world, profile="guardian")
    assert world.vm.release(world.ada, lease).granted


# ---- who may lock, and what -------------------------------------------------------------------


def test_a_lock_takes_somebody_whom_the_constitution_admits_and_proof_of_who_they_are(world):
    assert world.denied(lock(world, world.ada), "lock_not_admitted")
    denied = world.vm.lock(world.one)
    assert world.denied(denied, "not_proven")
    denied = lock(world, world.bob)
    assert denied.message == (
        "did:vm:operator:bob is not in guardians, sovereigns, and may not do that"
    )
    assert lock(world, world.one).granted


@pytest.mark.parametrize("proven", ["host", "peer", "token", "none", "key"])
def test_what_a_command_says_of_its_own_proof_counts_for_nothing(world, proven):
    asked = make_command(SetLock, {"principal": world.one, "scope": "all"})
    denied = world.vm.submit(asked.model_copy(update={"proven": proven}))
    assert world.denied(denied, "not_proven")
    assert denied.fields["who"]["proof"] == "host"


def test_without_a_locks_table_nobody_locks(make_world):
    table = '[locks]\nby   = ["guardians", "sovereigns"]\nlift = ["sovereigns"]\n'
    world = make_world((table, ""))
    denied = lock(world)
    assert world.denied(denied, "no_locks")
    assert denied.message == "the constitution has no [locks], so nobody may lock"
    assert world.denied(unlock(world, "lock-1"), "no_locks", "unknown_lock")


def test_a_name_that_nobody_has_is_refused_and_not_locked(world):
    denied = lock(world, principal="did:vm:guardian:onne")
    assert world.denied(denied, "unknown_principal")
    assert denied.unmet[0].remedy == (
        "name somebody in a group (did you mean 'did:vm:guardian:one'?)"
    )
    assert lock(world, principal="nobody").unmet[0].remedy == "name somebody in a group"
    denied = lock(world, profile="gaurdian")
    assert world.denied(denied, "unknown_profile")
    assert "did you mean 'guardian'" in denied.unmet[0].remedy
    denied = lock(world, profile="observer")
    assert world.denied(denied, "lock_on_baseline")
    assert (
        denied.message == "observer is the baseline, which needs no lease, needs a profile above it"
    )


def test_what_has_no_form_is_no_lock(world):
    with pytest.raises(InputError, match="a lock on principal needs a name"):
        world.vm.submit(make_command(SetLock, {"principal": world.one, "scope": "principal"}))
    named = make_command(SetLock, {"principal": world.one, "scope": "all", "name": world.ada})
    with pytest.raises(InputError, match="a lock on all takes no name"):
        world.vm.submit(named)
    with pytest.raises(InputError, match="a lock is on a principal or on a profile"):
        lock(world, principal=world.ada, profile="guardian")


def test_locking_asks_nothing_of_what_the_locker_holds_or_is_covered_by(world):
    lock(world, world.one, profile="operator")
    lock(world, world.one)
    assert lock(world, world.one, profile="phoenix").granted


def test_so_many_locks_may_stand_and_one_on_everybody_always(world, monkeypatch):
    monkeypatch.setattr("vmstate.decisions.locking.LOCKS", 2)
    lock(world, principal=world.ada)
    lock(world, principal=world.bob)
    denied = lock(world, principal=world.agent)
    assert world.denied(denied, "locks_full")
    assert denied.message == "there are 2 locks, at most 2 may stand"
    assert lock(world).granted


# ---- its end ----------------------------------------------------------------------------------


def test_lifting_restores_nothing(world):
    world.operator()
    locked = lock(world, principal=world.ada)
    receipt = unlock(world, lock_of(locked))
    assert (receipt.type, receipt.rule) == ("lock", "locks.lift")
    assert receipt.fields["what"]["detail"]["state"] == "lifted"
    assert world.profile() == "observer"
    assert world.vm.locks() == ()
    assert world.operator().granted
    assert is_whole(world)


def test_a_lock_is_lifted_once(world):
    locked = lock(world)
    unlock(world, lock_of(locked))
    denied = unlock(world, lock_of(locked))
    assert world.denied(denied, "unknown_lock")
    assert denied.message == "lock-1 is no lock that stands"


def test_lifting_takes_those_whom_the_constitution_names(world):
    locked = lock(world)
    assert world.denied(unlock(world, lock_of(locked), world.one), "lock_not_admitted")
    assert world.denied(world.vm.unlock(world.root, lock_of(locked)), "not_proven")
    assert not world.vm.may(world.ada, "observer")


def test_a_lock_on_everybody_is_lifted_by_those_who_may_although_it_covers_them(world):
    assert unlock(world, lock_of(lock(world)), world.root).granted


def test_nobody_lifts_a_lock_on_their_own_person_nor_another_while_it_stands(make_world):
    world = make_world(TWO_SOVEREIGNS)
    own = lock(world, principal=world.root)
    other = lock(world, principal=world.ada)
    assert world.denied(
        unlock(world, lock_of(own), world.root), "order_locked", "locked", "not_proven"
    )
    assert "order_locked" in [one.code for one in unlock(world, lock_of(other), world.root).unmet]
    assert unlock(world, lock_of(own), world.two).granted
    assert unlock(world, lock_of(other), world.root).granted
    assert is_whole(world)


def test_a_stolen_key_locks_nobody_once_it_is_locked(world):
    lock(world, world.root, principal=world.one)
    assert world.denied(lock(world, world.one), "order_locked", "locked", "not_proven")


def test_a_lock_that_nobody_else_could_lift_has_to_end_by_itself(world):
    denied = lock(world, principal=world.root)
    assert world.denied(denied, "lock_for_ever")
    assert denied.message == "nobody could lift a lock on did:vm:sovereign:root, needs an end"
    assert lock(world, principal=world.root, ttl=HOUR).granted
    world.wait(hours=1)
    assert unlock(world, lock_of(lock(world)), world.root).granted


def test_a_lock_stands_up_to_the_end_of_its_time_and_no_longer(world):
    lock(world, principal=world.ada, ttl=HOUR)
    world.wait(minutes=59, seconds=59)
    assert world.denied(world.operator(), "locked")
    assert not world.vm.may(world.ada, "observer")
    world.wait(seconds=1)
    assert world.vm.may(world.ada, "observer")
    assert world.vm.locks() == ()
    assert world.operator().granted
    expired = [one for one in world.receipts() if one.outcome == "expired"]
    assert [(one.type, one.rule) for one in expired] == [("lock", "locks")]
    assert expired[0].fields["due"] == "2026-01-01T13:00:00.000000Z"
    assert expired[0].fields["who"]["actor"] is None
    assert is_whole(world)


def test_a_clock_set_forward_ends_no_lock(world):
    lock(world, principal=world.ada, ttl=HOUR)
    world.clock.step_wall(timedelta(days=365))
    assert world.denied(world.operator(), "locked")
    world.wait(hours=1)
    assert world.operator().granted


def test_after_a_reboot_a_lock_stands_until_the_wall_says_that_it_is_over(world):
    lock(world, principal=world.ada, ttl=HOUR)
    world.clock.reboot(down_for=timedelta(minutes=30))
    assert world.denied(world.operator(), "locked")
    world.wait(minutes=30)
    assert world.operator().granted


def test_a_lock_whose_row_was_damaged_is_on_everybody(world):
    lock(world, principal=world.ada)
    world.vm.ledger.transact(
        lambda transaction: transaction._execute("UPDATE lock SET scope = 'nobody'", ())
    )
    assert world.denied(world.operator(world.bob), "locked")
    assert not world.vm.may(world.bob, "observer")
    assert "the table of locks is not what the receipts set, lifted and ended" in {
        one.what for one in audit_ledger(world.vm.ledger).findings
    }

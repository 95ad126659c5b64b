from datetime import timedelta

import pytest

from vmstate.authority import Authority
from vmstate.decisions.command import Escalate
from vmstate.errors import InputError, UnknownPrincipal
from vmstate.ledger import sweep
from vmstate.ledger.audit import audit_ledger

PERSON = "did:vm:person:gil"
PHOENIX = 'trigger = "crisis_declared"\nttl     = "10m"'
MINUTE = timedelta(minutes=1)


# ---- asking ---------------------------------------------------------------------------------


def test_a_climb_lasts_as_long_as_its_rule_says(world):
    receipt = world.operator()
    (lease,) = world.leases()
    assert receipt.granted
    assert (receipt.type, receipt.profile, receipt.lease) == (
        "profile_escalation",
        "operator",
        lease.id,
    )
    assert receipt.expires_at == lease.expires_at == world.now + timedelta(hours=1)
    assert receipt.fields["what"]["from"] == "observer"
    assert receipt.fields["what"]["clipped_by"] is None
    assert receipt.fields["reversible"]
    assert lease.id == f"lease-{receipt.seq}"


def test_a_lease_is_live_up_to_its_expiry_and_not_at_it(world):
    world.operator()
    world.wait(hours=1, microseconds=-1)
    assert world.vm.may(world.ada, "task.execute")
    assert world.profile() == "operator"
    world.wait(microseconds=1)
    assert not world.vm.may(world.ada, "task.execute")
    assert world.profile() == "observer"


def test_less_time_than_the_rule_gives_may_be_asked_for_and_more_may_not(world):
    more = world.operator(ttl=timedelta(hours=1, seconds=1))
    assert world.denied(more, "ttl_above_rule")
    assert more.message == "1h1s was asked for, at most 1h may be had"
    assert more.fields["what"]["ttl_requested_us"] == 3_601_000_000
    less = world.operator(ttl=timedelta(minutes=7))
    assert less.expires_at == world.now + timedelta(minutes=7)


def test_what_is_held_already_or_stood_above_is_not_asked_for_again(world):
    world.operator()
    world.guardian()
    for profile in ("observer", "operator", "guardian"):
        denied = world.vm.escalate(
            world.ada, profile, trigger="operator_request", reason=world.reason
        )
        assert world.denied(denied, "already_held")
        assert denied.message == f"{profile} is held already, the present profile is guardian"
        free = profile == "observer"
        assert denied.unmet[0].remedy == (
            "go on: it may be used, and takes no lease"
            if free
            else "renew the lease, or go on: it may be used"
        )


def test_a_profile_that_nobody_wrote_down_is_unknown(world):
    denied = world.vm.escalate(world.ada, "gaurdian", trigger="operator_request")
    assert world.denied(denied, "unknown_profile")
    assert denied.message == "gaurdian is not a profile"
    assert "(did you mean 'guardian'?)" in denied.unmet[0].remedy


def test_a_principal_that_nobody_wrote_down_is_unknown_for_writing_and_reading(world):
    stranger = "did:vm:stranger:1"
    denied = world.operator(stranger)
    assert world.denied(denied, "unknown_principal", "requester")
    assert denied.message.startswith(f"{stranger} is in no group and under no [principals]")
    assert not world.vm.may(stranger, "context.read")
    assert world.vm.may(world.ada, "context.read")
    with pytest.raises(UnknownPrincipal, match="is in no group"):
        world.vm.standing(stranger)


@pytest.mark.parametrize("name", ["DID:VM:OPERATOR:ADA", "did:vm:operator", "did:vm:operatorx"])
def test_a_name_that_is_almost_right_is_another_name(world, name):
    world.operator()
    assert not world.operator(name).granted
    assert not world.vm.may(name, "context.read")


def test_a_fact_that_nobody_wrote_down_is_unknown(world):
    denied = world.operator(facts={"threat.confidance": "0.9"})
    assert world.denied(denied, "fact_unknown")
    assert denied.message == "threat.confidance is not a fact of this constitution"
    assert "(did you mean 'threat.confidence'?)" in denied.unmet[0].remedy


def test_a_fact_that_can_not_be_read_is_malformed_and_not_just_unmet(world):
    world.operator()
    for value in ("very", "1.1", "9e-1", "", "-0.1"):
        denied = world.vm.escalate(
            world.ada, "guardian", trigger="threat_detected", facts={"threat.confidence": value}
        )
        assert "malformed" in [one.code for one in denied.unmet]
        assert "fact_missing" not in [one.code for one in denied.unmet if "confidence" in one.rule]


def test_nobody_asks_in_anothers_name(world):
    denied = world.operator(actor=world.bob)
    assert world.denied(denied, "not_self")
    assert denied.fields["who"] == {"actor": world.bob, "principal": world.ada, "proof": "host"}


def test_everything_that_is_missing_is_said_at_once(world):
    denied = world.operator("did:vm:guardian:one", reason="short", ttl=timedelta(hours=2))
    assert world.denied(denied, "requester", "reason_short", "ttl_above_rule")
    assert [one.rule for one in denied.unmet] == [
        "escalations.operator_on_request.needs.requester",
        "escalations.operator_on_request.needs.reason",
        "escalations.operator_on_request.ttl",
    ]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"reason": "a" * 1_025}, "the reason has 1,025 bytes, at most 1,024 are allowed"),
        ({"reason": "a\u202eb"}, "the reason has the control character U+202E"),
        ({"to": "a b"}, "to: name 'a b' is not a name"),
        ({"trigger": "a\n"}, "trigger: name 'a\\n' is not a name"),
        ({"principal": "ad\u0430"}, "principal 'ad\u0430' is not a name"),
        ({"facts": {"threat.confidence": 0.92}}, "facts.threat.confidence: 0.92 is not exact"),
        ({"facts": {"threat.id": "x" * 257}}, "facts.threat.id: the fact has 257 characters"),
        (
            {"facts": {f"f{n}": "1" for n in range(17)}},
            "facts: has a length of 17, at most 16 is allowed",
        ),
        ({"facts": 7}, "facts: 7 is not a table"),
        ({"ttl": timedelta()}, "ttl: 0:00:00 is too small, needs more than 0 seconds"),
        ({"to": 7}, "to: 7 is not text"),
        ({"renew_parent": "yes"}, "renew_parent: 'yes' is neither true nor false"),
        (
            {"proven": "guess"},
            "proven: 'guess' is not one of 'host', 'key', 'peer', 'token' or 'none'",
        ),
        ({"colour": "red"}, "colour: is not known here: leave it out"),
    ],
)
def test_a_command_of_no_form_is_an_input_error_and_leaves_no_receipt(world, fields, message):
    asked = {"principal": world.ada, "to": "operator", "trigger": "operator_request", **fields}
    before = world.receipts()
    with pytest.raises(InputError) as caught:
        world.vm.escalate(**asked)
    assert str(caught.value).startswith(message)
    assert world.receipts() == before


def test_why_says_what_a_climb_would_come_to_and_writes_nothing(world):
    world.operator()
    world.wait(minutes=55)
    request = world.request()
    before = world.kept(), world.receipts()
    command = Escalate(
        principal=world.ada,
        to="guardian",
        trigger="operator_request",
        reason=world.reason,
        request=request,
        approvals=(world.approval(request),),
    )
    would = world.vm.why(command)
    assert would.granted
    assert would.clipped_by == "parent"
    assert would.expires_at == world.now + timedelta(minutes=5)
    assert (world.kept(), world.receipts()) == before
    assert world.vm.submit(command).expires_at == would.expires_at


# ---- cut to the parent ----------------------------------------------------------------------


def test_a_climb_is_cut_to_the_lease_below_and_says_so(world):
    world.operator()
    world.wait(minutes=45)
    receipt = world.guardian()
    assert receipt.expires_at == world.now + timedelta(minutes=15)
    assert receipt.fields["what"]["clipped_by"] == "parent"
    world.wait(minutes=10)
    top = world.phoenix()
    assert top.expires_at == world.now + timedelta(minutes=5)
    assert [lease.parent for lease in world.leases()] == [None, "lease-1", "lease-2"]


def test_a_climb_that_ends_with_its_parent_by_chance_is_not_cut(world):
    world.operator()
    world.wait(minutes=30)
    assert world.guardian().fields["what"]["clipped_by"] is None


# ---- cool-down ------------------------------------------------------------------------------


def test_a_cooldown_runs_from_the_deadline_of_what_timed_out_however_late_it_was_seen(world):
    world.operator()
    world.guardian(ttl=10 * MINUTE)
    world.wait(minutes=10 + 4, seconds=59)
    denied = world.guardian()
    assert world.denied(denied, "cooldown")
    assert denied.message == "guardian was left too short a time ago, needs 1s more of cool-down"
    world.wait(seconds=1)
    assert world.guardian().granted


def test_a_cooldown_runs_from_the_moment_of_a_release(world):
    world.operator()
    first = world.guardian()
    world.wait(minutes=1)
    world.vm.release(world.ada, first.lease)
    world.wait(minutes=4, seconds=59, milliseconds=500)
    denied = world.guardian()
    assert denied.message.endswith("needs less than a second more")
    world.wait(milliseconds=500)
    assert world.guardian().granted


def test_a_cooldown_is_each_persons_own(make_world):
    controllers = {"did:vm:operator:ada": PERSON, "did:vm:operator:bob": PERSON}
    other = "did:vm:operator:eve"
    world = make_world(controllers=controllers)
    for name in (world.ada, world.bob, other):
        world.operator(name)
    world.vm.release(world.ada, world.guardian().lease)
    assert world.guardian(other).granted
    assert world.denied(world.guardian(world.bob), "cooldown")
    world.wait(minutes=5)
    assert world.guardian(world.bob).granted


def test_a_cooldown_runs_from_what_another_name_of_theirs_left_though_nobody_wrote_it(make_world):
    world = make_world(controllers={"did:vm:operator:bob": "did:vm:operator:ada"})
    world.operator()
    world.guardian()
    world.wait(minutes=30)
    assert world.profile() == "operator"
    world.operator(world.bob)
    assert world.denied(world.guardian(world.bob), "cooldown")
    world.wait(minutes=5)
    assert world.guardian(world.bob).granted
    assert world.receipts(type_="profile_deescalation") == ()


def test_a_cooldown_runs_from_what_fell_by_a_lock_under_another_name_of_theirs(
    make_world, monkeypatch
):
    monkeypatch.setattr(sweep, "SWEPT_AT_ONCE", 0)
    monkeypatch.setattr(Authority, "_write_fallen", lambda _: None)
    world = make_world(controllers={"did:vm:operator:bob": "did:vm:operator:ada"})
    world.operator()
    world.guardian()
    locked = world.vm.lock(world.root, key=world.key(world.root)).raise_for_denial()
    lock = locked.fields["what"]["detail"]["lock"]
    world.vm.unlock(world.root, lock, key=world.key(world.root)).raise_for_denial()
    world.operator(world.bob)
    assert world.denied(world.guardian(world.bob), "cooldown")
    assert world.receipts(type_="profile_deescalation") == ()
    world.wait(minutes=5)
    assert world.guardian(world.bob).granted


def test_a_cooldown_outlasts_a_step_of_the_wall_clock(world):
    world.operator()
    world.vm.release(world.ada, world.guardian().lease)
    world.clock.step_wall(timedelta(minutes=30))
    assert world.denied(world.guardian(), "cooldown")
    world.wait(minutes=5)
    assert world.guardian().granted


# ---- the longest hold -----------------------------------------------------------------------


def test_a_renewal_is_cut_to_what_is_left_of_the_hold_and_then_it_is_spent(make_world):
    longer = 'trigger = "crisis_declared"\nttl     = "6m"\nrenewals = 3'
    world = make_world((PHOENIX, longer))
    world.operator()
    world.guardian()
    top = world.phoenix()
    world.wait(minutes=5)
    request = world.vm.prepare(
        world.ada, "phoenix", trigger="crisis_declared", reason="the building is still on fire"
    )
    renewed = world.vm.renew(
        world.ada,
        top.lease,
        reason=request.reason,
        request=request,
        approvals=(world.approval(request, world.root),),
    )
    assert renewed.granted
    assert renewed.fields["what"]["clipped_by"] == "hold"
    assert renewed.expires_at == world.now + 5 * MINUTE
    world.wait(minutes=1)
    again = world.vm.prepare(world.ada, "phoenix", trigger="crisis_declared", reason=request.reason)
    spent = world.vm.renew(
        world.ada,
        top.lease,
        reason=again.reason,
        request=again,
        approvals=(world.approval(again, world.root),),
    )
    assert world.denied(spent, "renewal_gains_nothing")
    world.wait(minutes=4)
    assert world.profile() == "guardian"


def test_two_names_of_one_person_share_one_hold(make_world):
    controllers = {"did:vm:operator:ada": PERSON, "did:vm:operator:bob": PERSON}
    world = make_world(controllers=controllers)
    for name in (world.ada, world.bob):
        world.operator(name)
        world.guardian(name)
    world.phoenix(world.ada)
    world.wait(minutes=6)
    receipt = world.phoenix(world.bob)
    assert receipt.expires_at == world.now + 4 * MINUTE
    assert receipt.fields["what"]["clipped_by"] == "hold"


@pytest.mark.parametrize("slewed_us", [-300, 0, 300])
def test_a_lease_cut_by_what_it_stands_on_ends_no_later_by_either_hand(world, slewed_us):
    world.operator(ttl=timedelta(minutes=10))
    world.wait(minutes=1)
    world.clock.step_wall(timedelta(microseconds=slewed_us))
    grant = world.guardian()
    assert grant.fields["what"]["clipped_by"] == "parent"
    below, above = world.leases()
    assert below.limit.wall - above.limit.wall == timedelta(microseconds=max(0, -slewed_us))
    assert below.limit.boot_us - above.limit.boot_us == max(0, slewed_us)
    assert audit_ledger(world.vm.ledger).is_good

from datetime import timedelta

from vmstate.decisions.command import Renew

OPERATOR_1H = 'ttl      = "1h"\nrenewals = 3'


def test_a_renewal_runs_from_now_and_is_counted(world):
    lease = world.operator().lease
    for times in (1, 2, 3):
        world.wait(minutes=20)
        receipt = world.vm.renew(world.ada, lease, reason=world.reason)
        assert (receipt.type, receipt.lease) == ("lease_renewed", lease)
        assert receipt.expires_at == world.now + timedelta(hours=1)
        assert world.leases()[0].renewals == times
    world.wait(minutes=20)
    denied = world.vm.renew(world.ada, lease, reason=world.reason)
    assert world.denied(denied, "renewals_spent")
    assert denied.message == "renewed 3 times, may be renewed 3 times"
    assert world.leases()[0].renewals == 3


def test_a_renewal_meets_the_rule_again(world):
    lease = world.operator().lease
    world.wait(minutes=20)
    assert world.denied(world.vm.renew(world.ada, lease), "reason_short")
    longer = world.vm.renew(world.ada, lease, reason=world.reason, ttl=timedelta(hours=2))
    assert world.denied(longer, "ttl_above_rule")


def test_a_renewal_that_gains_nothing_is_not_counted(world):
    lease = world.operator().lease
    denied = world.vm.renew(world.ada, lease, reason=world.reason)
    assert world.denied(denied, "renewal_gains_nothing")
    world.wait(minutes=20)
    shorter = world.vm.renew(world.ada, lease, reason=world.reason, ttl=timedelta(minutes=40))
    assert world.denied(shorter, "renewal_gains_nothing")
    assert world.leases()[0].renewals == 0


def test_only_the_topmost_lease_is_renewed(world):
    lower = world.operator().lease
    upper = world.guardian().lease
    world.wait(minutes=5)
    denied = world.vm.renew(world.ada, lower, reason=world.reason)
    assert world.denied(denied, "not_top")
    assert denied.message == f"{lower} is not the topmost lease, which is {upper}"


def test_a_renewal_is_cut_to_the_lease_below(world):
    world.operator()
    world.wait(minutes=50)
    upper = world.vm.escalate(
        world.ada, "guardian", trigger="threat_detected", attestations=(world.attestation(),)
    )
    world.wait(minutes=5)
    denied = world.vm.renew(world.ada, upper.lease, attestations=(world.attestation(),))
    assert world.denied(denied, "renewal_gains_nothing")
    assert denied.unmet[0].remedy == "renew what it stands on first, or later"


def test_an_ended_or_unknown_lease_is_not_renewed(world):
    lease = world.operator().lease
    world.wait(hours=1)
    for asked in (lease, "lease-99", "lease-0", "lease--1", "nonsense"):
        denied = world.vm.renew(world.ada, asked, reason=world.reason)
        assert world.denied(denied, "unknown_lease")
        assert denied.message == f"{asked} is no live lease of the caller"


def test_why_answers_for_a_renewal_as_well(world):
    lease = world.operator().lease
    world.wait(minutes=20)
    would = world.vm.why(Renew(principal=world.ada, lease=lease, reason=world.reason))
    assert would.granted
    assert world.leases()[0].renewals == 0


# ---- the lease below renewed in the same breath ---------------------------------------------


def climb_with_parent(world, **fields):
    request = world.request()
    asked = {"approvals": (world.approval(request),), "renew_parent": True, **fields}
    return world.ask(request, **asked)


def test_the_parent_is_renewed_in_the_same_transaction_as_the_climb(world):
    lower = world.operator().lease
    world.wait(minutes=50)
    before = len(world.receipts())
    receipt = climb_with_parent(world)
    renewal, climb = world.receipts()[before:]
    assert (renewal.type, renewal.lease) == ("lease_renewed", lower)
    assert renewal.expires_at == world.now + timedelta(hours=1)
    assert climb.body == receipt.body
    assert climb.expires_at == world.now + timedelta(minutes=30)
    assert climb.fields["what"]["clipped_by"] is None
    assert [lease.renewals for lease in world.leases()] == [1, 0]
    assert climb.lease == f"lease-{climb.seq}"


def test_a_denied_climb_does_not_renew_its_parent_either(world):
    world.operator()
    world.wait(minutes=50)
    before, count = world.kept(), len(world.receipts())
    denied = climb_with_parent(world, approvals=())
    assert world.denied(denied, "approval_missing")
    assert world.kept() == before
    assert len(world.receipts()) == count + 1


def test_a_climb_whose_parent_cannot_be_renewed_is_denied_as_a_whole(make_world):
    world = make_world((OPERATOR_1H, 'ttl      = "1h"\nrenewals = 0'))
    world.operator()
    world.wait(minutes=50)
    before, count = world.kept(), len(world.receipts())
    denied = climb_with_parent(world)
    assert world.denied(denied, "renewals_spent")
    assert denied.message == "renewed not at all, may be renewed not at all"
    assert world.kept() == before
    assert len(world.receipts()) == count + 1

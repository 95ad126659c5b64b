from datetime import timedelta

import pytest

from vmstate.decisions.command import Activate, Escalate, Renew, make_command
from vmstate.ledger.audit import audit_ledger

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
        assert denied.message == f"{asked} is no live lease that the caller may end or renew"


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
    assert world.denied(denied, "renewals_none")
    assert denied.message == "a lease by operator_on_request may not be renewed"
    assert world.kept() == before
    assert len(world.receipts()) == count + 1


def to_phoenix(world):
    """Ask for PHOENIX, with the guardian lease below renewed."""
    reason = "the building is on fire, all of it"
    request = world.request(to="phoenix", trigger="crisis_declared", reason=reason)
    approval = world.approval(request, world.root)
    return world.ask(request, approvals=(approval,), renew_parent=True)


@pytest.mark.parametrize("by", ["approval", "attestation"])
def test_a_parent_that_takes_a_signature_is_renewed_by_itself(world, by):
    world.operator()
    if by == "approval":
        lower = world.guardian().lease
    else:
        seen = world.attestation()
        asked = {"trigger": "threat_detected", "facts": world.threat, "attestations": (seen,)}
        lower = world.vm.escalate(world.ada, "guardian", **asked).raise_for_denial().lease
    world.wait(minutes=10)
    before, count = world.kept(), len(world.receipts())
    denied = to_phoenix(world)
    assert world.denied(denied, "renewed_apart")
    takes = (
        "approval"
        if by == "approval"
        else "attestation of threat.confidence and attestation of threat.type"
    )
    assert denied.message == (
        f"{lower} takes {takes} of its own, and is not renewed along with a climb"
    )
    (unmet,) = denied.unmet
    assert unmet.remedy == (
        f"renew it by itself first: vmstate renew {lower}; then climb without it"
    )
    assert world.kept() == before
    assert len(world.receipts()) == count + 1


def test_facts_on_ones_own_word_count_for_the_parent_too(make_world):
    ticket = 'needs.facts.ticket = { one_of = ["open"] }'
    world = make_world(
        (OPERATOR_1H, f'ttl      = "1h"\nrenewals = 3\n{ticket}'),
        ("[facts]\n", '[facts]\nticket = { one_of = ["open", "closed"] }\n'),
    )
    asked = {"trigger": "operator_request", "reason": world.reason}
    world.vm.escalate(world.ada, "operator", facts={"ticket": "open"}, **asked).raise_for_denial()
    world.wait(minutes=50)
    request = world.request(facts={"ticket": "closed"})
    refused = world.ask(request, approvals=(world.approval(request),), renew_parent=True)
    assert world.denied(refused, "fact_unmet")
    request = world.request(facts={"ticket": "open"})
    granted = world.ask(request, approvals=(world.approval(request),), renew_parent=True)
    assert granted.granted
    renewal = world.receipts()[-2]
    assert renewal.type == "lease_renewed"
    assert renewal.fields["authority"]["facts"] == {"ticket": "open"}


def test_what_a_climb_renews_below_it_is_known_by_the_same_proof(world):
    world.operator()
    world.wait(minutes=5)
    request = world.request()
    asked = {"to": "guardian", "trigger": request.trigger, "reason": request.reason}
    fields = {"principal": world.ada, "request": request, "renew_parent": True, **asked}
    climb = make_command(Escalate, {**fields, "approvals": (world.approval(request),)})
    assert world.vm.submit(world.vm.ordered(climb, world.key(world.ada))).granted
    renewed, granted = world.receipts()[-2:]
    assert (renewed.type, renewed.fields["who"]["proof"]) == ("lease_renewed", "key")
    assert granted.fields["who"] == renewed.fields["who"]
    assert audit_ledger(world.vm.ledger).findings == ()


def test_so_it_is_where_an_open_request_is_activated(world):
    world.operator()
    world.wait(minutes=5)
    request = world.request()
    world.vm.open_request(request)
    world.vm.hand_in(request.id, world.approval(request))
    fields = {"principal": world.ada, "request": request.id, "renew_parent": True}
    activation = world.vm.ordered(make_command(Activate, fields), world.key(world.ada))
    assert world.vm.submit(activation).granted
    renewed, granted = world.receipts()[-2:]
    assert (renewed.type, renewed.fields["who"]["proof"]) == ("lease_renewed", "key")
    assert granted.fields["who"] == renewed.fields["who"]
    assert audit_ledger(world.vm.ledger).findings == ()

"""Requests that are left open: what they wait for, who may do what with them, how they end.

Each of these ledgers is audited when its test is over: the table follows from the receipts.
"""

from datetime import timedelta

import pytest
from pydantic import TypeAdapter

from vmstate.decisions.command import Activate, HandIn, OpenRequest, Withdraw, make_command
from vmstate.decisions.showing import Pending
from vmstate.errors import InputError, LedgerNotFound
from vmstate.expiry import VirtualExpiry
from vmstate.ledger.audit import audit_ledger
from vmstate.signing import attest

HOUR, MINUTE = timedelta(hours=1), timedelta(minutes=1)
NO_REQUESTS = (
    """[requests]
waits        = "1h"      # for its approvals
usable_for   = "15m"     # once they are complete
open_at_most = 3         # for one principal
""",
    "",
)
ONE, TWO = (f'{{ count = {n}, of = ["guardians", "sovereigns"] }}' for n in (1, 2))
STAGED = (ONE, '[{ count = 1, of = ["guardians"] }, { count = 1, of = ["sovereigns"] }]')
FACTS = 'needs.facts."threat.type"       = { not_in = ["informational"] }'
BOTH = (FACTS, f'{FACTS}\nneeds.approval = {{ count = 1, of = ["guardians"] }}')


@pytest.fixture
def audited(make_world):
    """Make worlds with Ada as operator; each is audited at the end."""
    worlds = []

    def make(*changes, **options):
        world = make_world(*changes, **options)
        world.operator().raise_for_denial()
        worlds.append(world)
        return world

    yield make
    for world in worlds:
        assert audit_ledger(world.vm.ledger).findings == ()


@pytest.fixture
def world(audited):
    return audited()


def opened(world, **fields):
    """The id of a request that Ada left open."""
    receipt = world.vm.open_request(world.request(**fields))
    assert (receipt.type, receipt.outcome) == ("request", "recorded"), receipt.message
    return receipt.fields["what"]["detail"]["request"]


def approve(world, request, by=None, **fields):
    by = by or world.one
    return world.vm.approve(request, by, world.key(by), **fields)


def state(world, request):
    return world.vm.request(request).state


def complete(world, **fields):
    request = opened(world, **fields)
    assert approve(world, request).outcome == "recorded"
    return request


# ---- the whole way --------------------------------------------------------------------------


def test_a_request_waits_is_approved_is_activated_and_its_time_counts_from_there(world):
    request = opened(world)
    assert state(world, request) == "pending"
    assert world.profile() == "operator"
    world.wait(minutes=20)
    approval = approve(world, request, reason="saw the ticket")
    assert approval.type == "approval"
    assert approval.fields["who"] == {
        "actor": world.one,
        "principal": world.ada,
        "proof": "key",
    }
    assert approval.fields["what"]["detail"]["state"] == "complete"
    assert world.profile() == "operator"
    world.wait(minutes=5)
    granted = world.vm.activate(world.ada, request)
    assert (granted.type, granted.rule) == ("profile_escalation", "guardian_on_request")
    assert granted.expires_at == world.now + 30 * MINUTE
    assert world.profile() == "guardian"
    assert state(world, request) == "activated"
    world.wait(minutes=30)
    assert world.profile() == "operator"


def test_plain_escalate_is_denied_as_before_and_leaves_nothing_open(world):
    receipt = world.vm.escalate(
        world.ada, "guardian", trigger="operator_request", reason=world.reason
    )
    assert world.denied(receipt, "approval_missing")
    assert world.vm.requests() == ()


def test_where_nothing_is_missing_a_request_is_granted_at_once(world):
    world.wait(hours=1)
    granted = world.vm.open_request(world.request(to="operator"))
    assert granted.type == "profile_escalation"
    assert world.vm.requests() == ()


def test_the_receipt_that_opens_it_holds_all_of_the_request_and_what_is_missing(world):
    request = world.request(ttl=10 * MINUTE)
    receipt = world.vm.open_request(request)
    said = receipt.fields
    assert said["what"]["detail"] == {
        "request": request.id,
        "request_nonce": request.nonce,
        "state": "pending",
        "waits_until": "2026-01-01T13:00:00.000000Z",
    }
    assert said["what"]["ttl_requested_us"] == 600_000_000
    assert (said["what"]["from"], said["what"]["to"]) == ("operator", "guardian")
    assert [one.code for one in receipt.unmet] == ["approval_missing"]
    assert receipt.granted


def test_attested_facts_and_approvals_may_come_in_any_order(audited):
    world = audited(BOTH)
    request = opened(world, trigger="threat_detected", facts=world.threat)
    shown = world.vm.request(request)
    assert [one.code for one in shown.missing] == ["fact_unattested"] * 3 + ["approval_missing"]
    approve(world, request)
    assert state(world, request) == "pending"
    world.vm.attest(request, world.sensor, world.key(world.sensor))
    shown = world.vm.request(request)
    assert (shown.state, shown.missing, shown.attested_by) == ("complete", (), (world.sensor,))
    assert world.vm.activate(world.ada, request).granted


def test_an_attestation_too_old_at_activation_is_told_and_a_fresh_one_helps(audited):
    world = audited()
    request = opened(world, trigger="threat_detected", facts=world.threat)
    world.vm.attest(request, world.sensor, world.key(world.sensor))
    world.wait(minutes=3)
    denied = world.vm.activate(world.ada, request)
    assert "attestation_stale" in [one.code for one in denied.unmet]
    assert state(world, request) == "complete"
    world.vm.attest(request, world.sensor, world.key(world.sensor))
    granted = world.vm.activate(world.ada, request)
    assert len(granted.fields["authority"]["attestations"]) == 1


def test_an_attestation_that_is_old_when_the_approval_comes_does_not_complete_it(audited):
    world = audited(BOTH)
    request = opened(world, trigger="threat_detected", facts=world.threat)
    world.vm.attest(request, world.sensor, world.key(world.sensor))
    world.wait(minutes=3)
    approve(world, request)
    assert state(world, request) == "pending"
    world.vm.attest(request, world.sensor, world.key(world.sensor))
    assert state(world, request) == "complete"


# ---- what is not left open ------------------------------------------------------------------

REFUSED = {
    "a rung too high": ({"to": "phoenix", "trigger": "crisis_declared"}, ["no_path"]),
    "no reason": ({"reason": "x"}, ["reason_short", "approval_missing"]),
    "too long": ({"ttl": HOUR}, ["approval_missing", "ttl_above_rule"]),
    "held already": ({"to": "operator"}, ["already_held"]),
    "facts that would not do": (
        {"trigger": "threat_detected", "facts": {"threat.confidence": "0.10"}},
        ["fact_unattested", "fact_missing"],
    ),
}


@pytest.mark.parametrize(("fields", "codes"), REFUSED.values(), ids=REFUSED)
def test_what_lacks_more_than_signatures_is_refused_with_all_of_it(world, fields, codes):
    receipt = world.vm.open_request(world.request(**fields))
    assert world.denied(receipt, *codes)
    assert world.vm.requests(open_only=False) == ()


def test_facts_that_no_attestation_could_make_enough_are_refused_at_once(world):
    facts = {**world.threat, "threat.confidence": "0.10"}
    receipt = world.vm.open_request(world.request(trigger="threat_detected", facts=facts))
    assert world.denied(receipt, *["fact_unattested"] * 3)


def test_without_requests_in_the_constitution_nothing_is_left_open(audited):
    world = audited(NO_REQUESTS)
    receipt = world.vm.open_request(world.request())
    assert world.denied(receipt, "requests_absent")
    assert receipt.message == "the constitution has no [requests], so nothing is left open"


def test_what_is_no_climb_is_not_left_open(world):
    receipt = world.vm.open_request(world.vm.prepare_recovery(world.ada))
    assert world.denied(receipt, "request_exceptional")
    assert receipt.message == "clock_recovery can't be left open, needs a profile"


def test_somebody_elses_request_is_not_opened(world):
    fields = {"principal": world.bob, "request": world.request()}
    receipt = world.vm.submit(make_command(OpenRequest, fields))
    assert world.denied(receipt, "request_differs")


def test_a_request_is_opened_once(world):
    request = world.request()
    world.vm.open_request(request)
    again = world.vm.open_request(request)
    assert world.denied(again, "request_open", "approval_missing")
    assert again.unmet[0].message == (
        f"the prepared request {request.id} is open already, and may be activated"
    )
    world.vm.withdraw(world.ada, request.id)
    assert world.denied(world.vm.open_request(request), "request_used", "approval_missing")


def test_a_climb_by_hand_with_an_open_request_is_refused(world):
    request = world.request()
    world.vm.open_request(request)
    approvals = (world.approval(request),)
    assert world.denied(world.ask(request, approvals=approvals), "request_open")
    world.vm.withdraw(world.ada, request.id)
    assert world.denied(world.ask(request, approvals=approvals), "request_used")


def test_so_many_are_open_for_one_person_by_whichever_name(audited):
    child = "did:vm:agent:7"
    world = audited(controllers={child: "did:vm:operator:ada"})
    world.operator(child)
    requests = [opened(world), opened(world), opened(world, principal=child)]
    full = world.vm.open_request(world.request())
    assert world.denied(full, "requests_full")
    assert full.message == "3 are open, at most 3 may be"
    world.operator(world.bob)
    assert opened(world, principal=world.bob)
    world.vm.withdraw(child, requests[2])
    opened(world)


# ---- signing --------------------------------------------------------------------------------


def test_an_approval_may_be_signed_elsewhere_and_carried_by_anybody(world):
    request = world.request()
    world.vm.open_request(request)
    world.vm.hand_in(request.id, world.approval(request))
    assert state(world, request.id) == "complete"


def test_stages_are_asked_in_their_order(audited):
    world = audited(STAGED)
    request = opened(world)
    early = approve(world, request, world.root)
    assert world.denied(early, "approval_late_stage")
    assert early.message == f"{world.root} approves at a later stage, 1 of guardians is asked first"
    approve(world, request)
    assert state(world, request) == "pending"
    spare = approve(world, request, world.two)
    assert world.denied(spare, "approval_spare")
    approve(world, request, world.root)
    shown = world.vm.request(request)
    assert shown.state == "complete"
    assert [one.approved for one in shown.stages] == [(world.one,), (world.root,)]
    granted = world.vm.activate(world.ada, request)
    assert len(granted.fields["authority"]["approvals"]) == 2


def test_whoever_sits_at_an_earlier_stage_moves_up_where_nobody_else_could_serve(audited):
    world = audited((ONE, f'[{ONE}, {{ count = 1, of = ["sovereigns"] }}]'))
    request = opened(world)
    approve(world, request, world.root)
    approve(world, request, world.one)
    assert state(world, request) == "complete"
    assert world.vm.activate(world.ada, request).granted


def test_one_person_signs_once(audited):
    world = audited((ONE, TWO))
    request = opened(world)
    approve(world, request)
    again = approve(world, request)
    assert world.denied(again, "approval_repeated")
    approve(world, request, world.two)
    assert state(world, request) == "complete"
    late = approve(world, request, world.root)
    assert world.denied(late, "approval_spare")
    assert late.message == (
        f"the approval by {world.root} is not needed, has {world.one}, {world.two}"
    )


def test_an_approval_where_none_is_asked_for_is_told_what_is(world):
    request = opened(world, trigger="threat_detected", facts=world.threat)
    denied = approve(world, request)
    assert world.denied(denied, "approval_unasked")
    assert denied.message == (
        f"the approval by {world.one} does not count: the request takes no approval, "
        "it waits for an attestation by sensors"
    )
    remedy = f"have it attested: vmstate request attest {request[7:19]} --key KEY"
    assert denied.unmet[0].remedy == remedy
    world.vm.attest(request, world.sensor, world.key(world.sensor))
    denied = approve(world, request)
    assert denied.message.endswith("takes no approval, it waits for nothing more")
    remedy = f"climb by it: vmstate request activate {request[7:19]}"
    assert denied.unmet[0].remedy == remedy


def test_the_same_attestation_counts_once_and_a_newer_one_takes_its_place(world):
    request = opened(world, trigger="threat_detected", facts=world.threat)
    first = world.attestation(world.vm.request(request).request.facts)
    assert world.vm.hand_in(request, first).granted
    again = world.vm.hand_in(request, first)
    assert world.denied(again, "attestation_repeated")
    assert again.message == f"the attestation by {world.sensor} counts once, they signed before"
    world.wait(seconds=30)
    newer = world.attestation(world.vm.request(request).request.facts)
    assert world.vm.hand_in(request, newer).granted
    older = world.vm.hand_in(request, first)
    assert world.denied(older, "attestation_older")
    assert older.unmet[0].required == newer.statement.at
    granted = world.vm.activate(world.ada, request).raise_for_denial()
    assert granted.fields["authority"]["attestations"] == [newer.body()]


def test_a_stranger_and_a_stolen_name_do_not_approve(world):
    request = opened(world)
    assert world.denied(approve(world, request, world.bob), "approval_not_admitted")
    forged = world.vm.approve(request, world.one, world.key(world.bob))
    assert world.denied(forged, "approval_signature")
    assert state(world, request) == "pending"


def test_an_approval_of_something_else_is_not_taken(world):
    request, other = opened(world), world.request()
    receipt = world.vm.hand_in(request, world.approval(other))
    assert world.denied(receipt, "approval_other_subject")


def test_an_attestation_of_other_facts_is_not_taken(world):
    request = opened(world, trigger="threat_detected", facts=world.threat)
    other = world.attestation({**world.threat, "threat.id": "T-2"})
    assert "fact_differs" in [one.code for one in world.vm.hand_in(request, other).unmet]
    half = world.attestation({"threat.id": "T-1"})
    assert {one.code for one in world.vm.hand_in(request, half).unmet} == {"fact_unattested"}
    needless = opened(world)
    unneeded = attest(
        world.vm.request(needless).request, world.sensor, world.key(world.sensor), at=world.now
    )
    assert world.denied(world.vm.hand_in(needless, unneeded), "attestation_other_subject")


# ---- ending it ------------------------------------------------------------------------------


def test_one_denial_by_anybody_whom_a_stage_admits_ends_it_for_good(audited):
    world = audited(STAGED)
    request = opened(world)
    approve(world, request)
    denied = world.vm.deny(world.root, request, key=world.key(world.root), reason="not today")
    assert (denied.type, denied.outcome) == ("request", "recorded")
    assert denied.fields["what"]["detail"]["state"] == "denied"
    assert denied.fields["who"]["proof"] == "key"
    assert state(world, request) == "denied"
    for receipt in (approve(world, request, world.root), world.vm.activate(world.ada, request)):
        assert world.denied(receipt, "request_over")
    assert receipt.message == "the request is denied, needs an open one"


def test_a_denial_takes_a_proven_actor_whom_a_stage_admits(world):
    request = opened(world)
    assert world.denied(world.vm.deny(world.one, request), "not_proven")
    stranger = world.vm.deny(world.bob, request, key=world.key(world.bob))
    assert world.denied(stranger, "deny_not_admitted")
    assert stranger.message == ("did:vm:operator:bob may not deny it, needs guardians, sovereigns")
    own = world.vm.deny(world.ada, request, key=world.key(world.ada))
    assert world.denied(own, "deny_own")
    assert own.message == ("did:vm:operator:ada stands for the requester, who withdraws instead")
    assert state(world, request) == "pending"


def test_the_requester_withdraws_and_nobody_else_does(world):
    request = opened(world)
    assert world.denied(world.vm.withdraw(world.bob, request), "request_unknown")
    assert world.vm.withdraw(world.ada, request).outcome == "recorded"
    assert state(world, request) == "withdrawn"


def test_the_controller_withdraws_if_proven(audited):
    world = audited(controllers={"did:vm:operator:ada": "did:vm:operator:bob"})
    request = opened(world)
    asked = {"principal": world.bob, "request": request}
    assert world.denied(world.vm.submit(make_command(Withdraw, asked)), "not_proven")
    proven = world.vm.ordered(make_command(Withdraw, asked), world.key(world.bob))
    assert world.vm.submit(proven).granted


def test_somebody_elses_request_is_as_unknown_as_none(world):
    request = complete(world)
    world.operator(world.bob)
    theirs = world.vm.activate(world.bob, request)
    none = world.vm.activate(world.bob, f"sha256:{'0' * 64}")
    assert world.denied(theirs, "request_unknown")
    assert [one.code for one in none.unmet] == ["request_unknown"]
    assert none.message.endswith("is no request that the caller has to do with")
    assert state(world, request) == "complete"


def test_an_order_may_open_and_activate_and_is_audited(audited):
    world = audited()
    request, key = world.request(), world.key(world.ada)
    asked = {"principal": world.ada, "reason": request.reason, "request": request}
    command = world.vm.ordered(make_command(OpenRequest, asked), key)
    assert world.vm.submit(command).fields["who"]["proof"] == "key"
    approve(world, request.id)
    activate = make_command(Activate, {"principal": world.ada, "request": request.id})
    assert world.vm.submit(world.vm.ordered(activate, key)).fields["who"]["proof"] == "key"


# ---- time -----------------------------------------------------------------------------------


def test_it_waits_so_long_and_no_longer(world):
    request = opened(world)
    world.wait(minutes=59, seconds=59)
    assert state(world, request) == "pending"
    world.wait(seconds=1)
    assert state(world, request) == "expired"
    assert world.vm.requests() == ()
    assert world.denied(approve(world, request), "request_over")
    ended = world.receipts(type_="request")[-1]
    assert ended.outcome == "expired"
    assert ended.fields["what"]["ended_via"] == "settle"
    assert ended.fields["what"]["detail"]["state"] == "expired"
    assert ended.fields["due"] == "2026-01-01T13:00:00.000000Z"


def test_once_complete_it_is_usable_so_long_and_no_longer(world):
    request = complete(world)
    shown = world.vm.request(request)
    assert shown.usable_until == world.now + 15 * MINUTE
    world.wait(minutes=15)
    assert world.denied(world.vm.activate(world.ada, request), "request_over")
    assert state(world, request) == "lapsed"


def test_the_scheduler_ends_requests_with_the_leases_in_the_order_of_their_deadlines(world):
    expiry = VirtualExpiry(world.vm)
    request = opened(world)
    assert expiry.next_deadline() == world.now + HOUR
    expiry.advance(2 * HOUR)
    ends = world.receipts(after=2)
    assert [one.type for one in ends] == ["request", "profile_deescalation"]
    assert {one.fields["what"]["ended_via"] for one in ends} == {"scheduler"}
    assert state(world, request) == "expired"
    assert world.vm.due(limit=10) == ()
    expiry.stop()


def test_a_clock_set_back_gives_a_request_no_more_time(world):
    request = opened(world)
    world.wait(minutes=50)
    world.clock.step_wall(-timedelta(minutes=45))
    world.wait(minutes=10)
    assert world.denied(approve(world, request), "request_over")
    assert state(world, request) == "expired"


def test_a_boot_in_the_past_ends_what_was_open(world):
    request = opened(world)
    world.clock.reboot(down_for=MINUTE, wall_error=-HOUR)
    assert state(world, request) == "clock_regression"
    assert world.denied(approve(world, request), "request_over")


def test_a_cool_down_that_began_meanwhile_counts_at_activation(world):
    waiting = opened(world)
    granted = world.guardian().raise_for_denial()
    world.vm.release(world.ada, granted.lease)
    approve(world, waiting)
    refused = world.vm.activate(world.ada, waiting)
    assert world.denied(refused, "cooldown")
    assert refused.fields["what"]["detail"]["request"] == waiting
    world.wait(minutes=5)
    assert world.vm.activate(world.ada, waiting).granted


def test_an_activation_may_renew_what_it_stands_on(world):
    request = complete(world)
    world.wait(minutes=14)
    granted = world.vm.activate(world.ada, request, renew_parent=True)
    assert granted.granted
    assert [one.type for one in world.receipts()][-2:] == ["lease_renewed", "profile_escalation"]


# ---- locks ----------------------------------------------------------------------------------


def test_a_lock_ends_what_is_open_of_whom_it_covers_and_lifting_restores_nothing(world):
    request = complete(world)
    world.operator(world.bob)
    other = opened(world, principal=world.bob)
    key = world.key(world.root)
    locked = world.vm.lock(world.root, principal=world.ada, key=key, ttl=HOUR)
    assert locked.granted, locked.message
    assert (state(world, request), state(world, other)) == ("locked", "pending")
    assert world.denied(world.vm.activate(world.ada, request), "locked", "request_over")
    lock = locked.fields["what"]["detail"]["lock"]
    assert world.vm.unlock(world.root, lock, key=key).outcome == "recorded"
    assert world.denied(world.vm.activate(world.ada, request), "request_over")


def test_who_is_locked_neither_approves_nor_denies(world):
    request = opened(world)
    world.vm.lock(world.root, principal=world.one, key=world.key(world.root), ttl=HOUR)
    assert world.denied(approve(world, request), "approval_locked")
    denied = world.vm.deny(world.one, request, key=world.key(world.one))
    assert "order_locked" in [one.code for one in denied.unmet]
    assert state(world, request) == "pending"


# ---- what is shown --------------------------------------------------------------------------


def test_approvers_see_how_long_it_would_last_and_what_would_cut_it(world):
    request = opened(world)
    shown = world.vm.request(request)
    assert (shown.lasts, shown.clipped_by) == (30 * MINUTE, None)
    assert shown.stages[0].of == ("guardians", "sovereigns")
    assert [one.message for one in shown.missing] == [
        "requires approval by 1 of guardians, sovereigns, has 0"
    ]
    world.wait(minutes=50)
    shown = world.vm.request(request)
    assert (shown.lasts, shown.clipped_by) == (10 * MINUTE, "parent")


def test_approvers_see_the_most_that_it_can_become_and_what_else_bounds_it(audited):
    rule = "[escalations.guardian_on_request]"
    world = audited((rule, f'{rule}\nmax_uses = 3\nidle_ttl = "4m"'))
    request = opened(world)
    world.wait(minutes=50)
    shown = world.vm.request(request)
    assert (shown.lasts, shown.lasts_at_most) == (10 * MINUTE, 30 * MINUTE)
    assert shown.limits == ("3 uses at most", "ends after 4m without one")
    approve(world, request)
    granted = world.vm.activate(world.ada, request, renew_parent=True)
    assert granted.expires_at == world.now + shown.lasts_at_most


def test_a_complete_request_is_good_for_no_longer_than_what_was_signed_for_it(audited):
    world = audited(BOTH)
    request = opened(world, trigger="threat_detected", facts=world.threat)
    approve(world, request, good_for=4 * MINUTE)
    world.vm.attest(request, world.sensor, world.key(world.sensor))
    shown = world.vm.request(request)
    assert shown.usable_until == world.now + 15 * MINUTE
    assert shown.good_until == shown.signed_until == world.now + 2 * MINUTE
    world.wait(minutes=2)
    assert world.vm.request(request).missing == ()
    world.wait(seconds=1)
    assert world.vm.request(request).missing
    world.vm.attest(request, world.sensor, world.key(world.sensor))
    shown = world.vm.request(request)
    assert shown.good_until == world.now + 2 * MINUTE - timedelta(seconds=1)


def test_it_says_so_where_its_rule_no_longer_leads_from_where_the_principal_stands(world):
    request = opened(world)
    world.vm.release(world.ada, world.vm.standing(world.ada).leases[0].id)
    shown = world.vm.request(request)
    assert shown.lasts is None
    assert [one.code for one in shown.missing] == ["no_path"]


def test_what_is_shown_survives_a_socket(world):
    shown = world.vm.request(complete(world))
    adapter = TypeAdapter(Pending)
    assert adapter.validate_json(adapter.dump_json(shown)) == shown


def test_an_id_may_be_cut_to_six_digits(world):
    request = opened(world)
    digits = request.removeprefix("sha256:")
    assert world.vm.request(digits[:6]).id == request
    assert world.vm.request(request).id == request
    with pytest.raises(InputError, match=r"is no request's id: give six of its hexadecimal digits"):
        world.vm.request(digits[:5])
    with pytest.raises(
        LedgerNotFound, match=r"^there is no request sha256:000000: see vmstate request"
    ):
        world.vm.request("000000")


def test_requests_are_listed_by_whom_and_with_those_that_are_over(world):
    first, second = opened(world), opened(world)
    world.operator(world.bob)
    third = opened(world, principal=world.bob)
    world.vm.withdraw(world.ada, first)
    assert [one.id for one in world.vm.requests()] == [second, third]
    assert [one.id for one in world.vm.requests(world.ada)] == [second]
    everything = world.vm.requests(open_only=False)
    assert [one.state for one in everything] == ["withdrawn", "pending", "pending"]


def test_a_drill_that_is_over_ends_what_is_open_in_it(make_world):
    world = make_world(drill=True)
    world.operator("did:vm:operator:drill").raise_for_denial()
    opened(world, principal="did:vm:operator:drill")
    world.vm.drill_mode(on=False, set_by="a test")
    assert world.receipts(type_="request")[-1].fields["what"]["detail"]["state"] == "drill_ended"
    assert audit_ledger(world.vm.ledger).findings == ()


def test_what_is_handed_in_has_to_be_a_statement(world):
    with pytest.raises(InputError, match=r"^statement"):
        make_command(HandIn, {"principal": world.one, "request": opened(world)})


def test_what_people_asked_for_before_costs_a_decision_nothing(world):
    """What is open is found by an index of open requests, however many are over."""
    with world.vm.ledger.read() as snapshot:
        asked = []
        real = snapshot.requests._db

        class Seen:
            def execute(self, statements, bindings=()):
                asked.append((statements, bindings))
                return real.execute(statements, bindings)

        snapshot.requests._db = Seen()
        snapshot.requests.waiting((world.ada,))
        list(snapshot.requests.every(open_only=True))
        list(snapshot.requests.every(world.ada, open_only=True))
        for statements, bindings in asked:
            plan = [row[3] for row in real.execute(f"EXPLAIN QUERY PLAN {statements}", bindings)]
            assert len(plan) == 1
            assert "USING INDEX request_open" in plan[0] or "USING INDEX request_wa" in plan[0]

from datetime import timedelta

import pytest

from vmstate.decisions.command import Release
from vmstate.errors import InputError
from vmstate.signing import Order, new_nonce, sign


def stack(world, principal=None):
    """PHOENIX with all below it; the ids of the leases, the lowest first."""
    world.operator(principal)
    world.guardian(principal)
    assert world.phoenix(principal).granted
    return [lease.id for lease in world.leases()][-3:]


def ended(world, since):
    """`(lease, ending, to)` of each end on the record since receipt `since`."""
    what = [r.fields["what"] for r in world.receipts(after=since, type_="profile_deescalation")]
    return [(one["lease"], one["ending"], one["to"]) for one in what]


def newest(world):
    return world.receipts()[-1].seq


def proof(world, by, lease, ending, *, signed_with=None, **changes):
    statement = {
        "by": by,
        "origin": world.vm.ledger.origin,
        "constitution": world.vm.constitution.digest,
        "verb": "release",
        "arguments": {"principal": by, "lease": lease, "ending": ending},
        "reason": "",
        "expires_at": (world.now + timedelta(minutes=5)).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        "nonce": new_nonce(),
    }
    return sign(Order(**{**statement, **changes}), signed_with or world.key(by))


def release(world, principal, lease, ending="operator_release", **fields):
    return world.vm.submit(Release(principal=principal, lease=lease, ending=ending, **fields))


# ---- how far the fall goes ------------------------------------------------------------------


@pytest.mark.parametrize("ending", ["operator_release", "threat_resolved"])
def test_an_ending_to_the_previous_rung_takes_the_top_lease_alone(world, ending):
    _, middle, top = stack(world)
    since = newest(world)
    receipt = world.vm.release(world.ada, top, ending=ending, reason="done")
    assert (receipt.outcome, receipt.rule) == ("reverted", f"endings.{ending}")
    assert ended(world, since) == [(top, ending, "guardian")]
    assert world.profile() == "guardian"
    assert not receipt.fields["reversible"]
    assert receipt.fields["why"] == "done"
    grant = next(r for r in world.receipts() if r.lease == top)
    assert receipt.fields["reverses"] == grant.id
    assert world.vm.release(world.ada, middle).granted


def test_what_stands_above_a_released_lease_ends_with_its_parent(world):
    bottom, middle, top = stack(world)
    since = newest(world)
    receipt = world.vm.release(world.ada, middle)
    assert ended(world, since) == [
        (top, "parent_ended", "guardian"),
        (middle, "operator_release", "operator"),
    ]
    assert receipt.lease == middle
    assert world.profile() == "operator"
    since = newest(world)
    world.vm.release(world.ada, bottom)
    assert ended(world, since) == [(bottom, "operator_release", "observer")]


@pytest.mark.parametrize("position", [0, 1, 2])
def test_an_ending_to_the_baseline_ends_every_rung_under_that_name(world, position):
    leases = stack(world)
    since = newest(world)
    world.vm.release(world.ada, leases[position], ending="crisis_concluded")
    assert ended(world, since) == [
        (leases[2], "crisis_concluded", "guardian"),
        (leases[1], "crisis_concluded", "operator"),
        (leases[0], "crisis_concluded", "observer"),
    ]
    assert world.profile() == "observer"


def test_time_ends_the_rung_and_what_stands_on_it_at_its_own_deadline(world):
    leases = stack(world)
    world.wait(hours=2)
    since = newest(world)
    world.vm.settle([world.ada])
    assert ended(world, since) == [
        (leases[2], "timeout_expired", "guardian"),
        (leases[1], "timeout_expired", "operator"),
        (leases[0], "timeout_expired", "observer"),
    ]


def test_of_what_ends_at_one_instant_the_top_of_the_stack_is_put_on_the_record_first(world):
    world.operator()
    world.wait(minutes=55)
    leases = [world.guardian().lease, world.phoenix().lease]
    assert len({lease.expires_at for lease in world.leases()}) == 1
    world.wait(minutes=5)
    since = newest(world)
    world.vm.settle([world.ada])
    assert [one[0] for one in ended(world, since)] == [leases[1], leases[0], "lease-1"]


def test_the_end_of_a_lease_is_what_was_due_and_its_receipt_says_how_late_it_is(world):
    world.operator()
    due = world.now + timedelta(hours=1)
    world.wait(days=3)
    (receipt,) = world.vm.settle([world.ada])
    assert receipt.fields["due"] == "2026-01-01T13:00:00.000000Z"
    assert receipt.at == world.now
    assert receipt.fields["what"]["ended_via"] == "settle"
    late = {"hand": "wall", "late_us": 71 * 3_600 * 1_000_000}
    assert receipt.fields["what"]["detail"] == late
    assert receipt.fields["who"] == {"actor": None, "principal": world.ada, "proof": None}
    assert world.leases()[0].ended.wall == due


# ---- who may --------------------------------------------------------------------------------


def test_an_ending_that_the_holder_may_not_use_says_who_may(world):
    lease = world.operator().lease
    denied = world.vm.release(world.ada, lease, ending="sovereign_revoke")
    assert world.denied(denied, "ending_not_admitted")
    assert denied.message == f"{world.ada} may not end a lease by sovereign_revoke"
    assert "sovereigns" in denied.unmet[0].remedy


@pytest.mark.parametrize("ending", ["operator_relase", "timeout_expired", "parent_ended", "locked"])
def test_an_ending_that_nobody_may_use_is_unknown(world, ending):
    lease = world.operator().lease
    denied = world.vm.release(world.ada, lease, ending=ending)
    assert world.denied(denied, "ending_unknown")
    assert world.profile() == "operator"


def test_a_sovereign_ends_anothers_lease_with_a_key(world):
    leases = stack(world)
    since = newest(world)
    receipt = world.vm.revoke(world.root, leases[0], key=world.key(world.root), reason="enough")
    assert receipt.granted
    assert receipt.fields["who"] == {
        "actor": world.root,
        "principal": world.ada,
        "proof": "key",
    }
    assert [one[1] for one in ended(world, since)] == ["sovereign_revoke"] * 3
    assert world.profile() == "observer"
    (signed,) = receipt.fields["authority"]["approvals"]
    assert signed["by"] == world.root


def test_a_revocation_reaches_the_top_of_the_stack_from_its_middle(world):
    _, middle, _ = stack(world)
    assert world.vm.revoke(world.root, middle, key=world.key(world.root)).granted
    assert world.profile() == "observer"


def test_a_guardian_resolves_a_threat_with_a_key_and_may_not_revoke(world):
    _, _, top = stack(world)
    denied = world.vm.revoke(world.one, top, key=world.key(world.one))
    assert not denied.granted
    resolved = world.vm.revoke(world.one, top, key=world.key(world.one), ending="threat_resolved")
    assert resolved.granted
    assert world.profile() == "guardian"


PROOFS = {
    "signed with another key": (
        lambda w, lease: proof(w, w.root, lease, "sovereign_revoke", signed_with=w.key(w.bob)),
        "order_signature",
    ),
    "for another lease": (
        lambda w, _: proof(w, w.root, "lease-99", "sovereign_revoke"),
        "order_other_subject",
    ),
    "for another ending": (
        lambda w, lease: proof(w, w.root, lease, "crisis_concluded"),
        "order_other_subject",
    ),
    "by somebody else": (
        lambda w, lease: proof(w, w.one, lease, "sovereign_revoke"),
        "order_other_subject",
    ),
    "stale": (
        lambda w, lease: proof(
            w, w.root, lease, "sovereign_revoke", expires_at="2026-01-01T12:00:00.000000Z"
        ),
        "order_stale",
    ),
    "for another ledger": (
        lambda w, lease: proof(w, w.root, lease, "sovereign_revoke", origin="x/00000000"),
        "order_other_ledger",
    ),
    "under another constitution": (
        lambda w, lease: proof(
            w, w.root, lease, "sovereign_revoke", constitution=f"sha256:{'0' * 64}"
        ),
        "order_other_constitution",
    ),
    "an attestation": (lambda w, _: w.attestation(by=w.root), "order_other_subject"),
}


@pytest.mark.parametrize(("make", "code"), PROOFS.values(), ids=PROOFS)
def test_a_proof_that_does_not_count_ends_nothing(world, make, code):
    lease = world.operator().lease
    before = world.kept()
    signed = make(world, lease)
    denied = release(world, world.root, lease, "sovereign_revoke", order=signed)
    assert world.denied(denied, code, "unknown_lease")
    assert world.kept() == before
    assert world.profile() == "operator"


def test_a_proof_counts_once(world):
    world.operator()
    signed = proof(world, world.root, "lease-1", "sovereign_revoke")
    assert release(world, world.root, "lease-1", "sovereign_revoke", order=signed).granted
    again = release(world, world.root, "lease-1", "sovereign_revoke", order=signed)
    assert world.denied(again, "order_used", "unknown_lease")


def test_a_name_without_a_proof_ends_no_lease_of_another(world):
    lease = world.operator().lease
    before = world.kept()
    for ending in ("sovereign_revoke", "crisis_concluded", "threat_resolved"):
        assert world.denied(release(world, world.root, lease, ending), "unknown_lease")
    claimed = release(world, world.ada, lease, "sovereign_revoke", actor=world.root)
    assert not claimed.granted
    assert not release(world, world.ada, lease, actor=world.bob).granted
    assert world.kept() == before


def test_what_a_signer_gave_as_reason_is_what_the_receipt_gives(world):
    lease = world.operator().lease
    signed = proof(world, world.root, lease, "sovereign_revoke", reason="the drill is over")
    receipt = release(
        world, world.root, lease, "sovereign_revoke", order=signed, reason="ada stole the keys"
    )
    assert not receipt.granted or receipt.fields["why"] == "the drill is over"


# ---- somebody else's lease ------------------------------------------------------------------


def alike(*receipts):
    """The bodies apart from what must differ: when, where in the ledger, and which lease."""
    bodies = []
    for receipt in receipts:
        fields = {**receipt.fields, "what": {**receipt.fields["what"], "lease": None}}
        for key in ("seq", "at", "scroll_seq", "scroll_prev"):
            fields.pop(key)
        text = str(fields)
        bodies.append(text.replace(receipt.fields["what"]["lease"], "LEASE"))
    return len(set(bodies)) == 1


@pytest.mark.parametrize(
    "ending", ["operator_release", "crisis_concluded", "sovereign_revoke", "no_such_ending"]
)
def test_somebody_elses_lease_id_gives_the_answer_of_an_unknown_one(world, ending):
    theirs = world.operator().lease
    elevated = world.guardian().lease
    world.operator(world.bob)
    ids = (theirs, elevated, "lease-99", "lease-0", "nonsense")
    receipts = [release(world, world.bob, one, ending) for one in ids]
    assert all(receipt.type == "auth_failure" for receipt in receipts)
    assert alike(*receipts)
    world.wait(hours=2)
    world.vm.settle([world.ada, world.bob])
    assert alike(release(world, world.bob, theirs), release(world, world.bob, "lease-99"))


def test_a_proven_signer_who_may_not_use_an_ending_is_told_who_may_whichever_lease_it_is(world):
    theirs = world.operator().lease
    own = world.operator(world.bob).lease
    key = world.key(world.bob)
    receipts = [
        world.vm.revoke(world.bob, one, key=key, ending="sovereign_revoke")
        for one in (theirs, own, "lease-99")
    ]
    for receipt in receipts:
        assert world.denied(receipt, "ending_not_admitted")
        assert receipt.message == f"{world.bob} may not end a lease by sovereign_revoke"
        remedy = "have it signed by somebody in sovereigns: --as NAME --key FILE"
        assert receipt.unmet[0].remedy == remedy
    assert alike(receipts[0], receipts[2])


def test_who_may_end_any_lease_is_told_to_name_a_live_one(world):
    receipt = world.vm.revoke(world.root, "lease-99", key=world.key(world.root))
    assert world.denied(receipt, "unknown_lease")
    assert receipt.message == "lease-99 is no live lease that the caller may end or renew"
    assert receipt.unmet[0].remedy == "name a live one: vmstate status"


def test_renewing_somebody_elses_lease_gives_the_answer_of_an_unknown_one(world):
    theirs = world.operator().lease
    world.operator(world.bob)
    receipts = [world.vm.renew(world.bob, one, reason=world.reason) for one in (theirs, "lease-99")]
    assert alike(*receipts)


def test_a_lease_that_is_over_cannot_be_released(world):
    lease = world.operator().lease
    world.wait(hours=1)
    since = newest(world)
    assert world.denied(world.vm.release(world.ada, lease), "unknown_lease")
    assert ended(world, since) == [(lease, "timeout_expired", "observer")]


@pytest.mark.parametrize("reason", ["a" * 1_025, "two\nlines"])
def test_a_reason_of_no_form_is_an_input_error(world, reason):
    lease = world.operator().lease
    with pytest.raises(InputError, match="the reason has"):
        world.vm.release(world.ada, lease, reason=reason)
    with pytest.raises(InputError, match="the reason has"):
        world.vm.revoke(world.root, lease, key=world.key(world.root), reason=reason)
    assert world.profile() == "operator"

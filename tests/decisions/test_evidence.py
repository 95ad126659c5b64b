import base64

import pytest

from vmstate.signing import Order, new_nonce, sign

GUARDIANS_TWO = (
    '{ count = 1, of = ["guardians", "sovereigns"] }',
    '{ count = 2, of = ["guardians"] }',
)
OTHER_DIGEST = f"sha256:{'0' * 64}"
PERSON = "did:vm:person:gil"


def ending_of(world, by):
    statement = Order(
        by=by,
        origin=world.vm.ledger.origin,
        constitution=world.vm.constitution.digest,
        verb="release",
        arguments={"principal": by, "lease": "lease-1", "ending": "sovereign_revoke"},
        reason="",
        expires_at="2026-01-02T00:00:00.000000Z",
        nonce=new_nonce(),
    )
    return sign(statement, world.key(by))


def claimed(signed, key):
    """`signed` with a word that `key` made it."""
    return signed.model_copy(update={"key": str(key.public)})


def forged(signed, **changes):
    return signed.model_copy(update=changes)


# ---- approvals: each case is a hand-in and the codes that its denial must have --------------

APPROVALS = {
    "none at all": (lambda _w, _r: (), ["approval_missing"]),
    "the requester's own": (
        lambda w, r: (w.approval(r, w.ada),),
        ["approval_missing", "approval_own"],
    ),
    "for another request": (
        lambda w, _r: (w.approval(w.request(reason="look at ticket 4712")),),
        ["approval_missing", "approval_other_subject"],
    ),
    "for a like request": (
        lambda w, _r: (w.approval(w.request()),),
        ["approval_missing", "approval_other_subject"],
    ),
    "for another ledger": (
        lambda w, r: (w.approval(r, origin="vaultmesh/00000000"),),
        ["approval_missing", "approval_other_ledger"],
    ),
    "under another constitution": (
        lambda w, r: (w.approval(r, constitution=OTHER_DIGEST),),
        ["approval_missing", "approval_other_constitution"],
    ),
    "stale, at its very end": (
        lambda w, r: (w.approval(r, expires_at=w.now),),
        ["approval_missing", "approval_stale"],
    ),
    "not admitted": (
        lambda w, r: (w.approval(r, w.bob),),
        ["approval_missing", "approval_not_admitted"],
    ),
    "by nobody with a key": (
        lambda w, r: (w.approval(r, "did:vm:operator:eve"),),
        ["approval_missing", "approval_no_key"],
    ),
    "signed with another key": (
        lambda w, r: (w.approval(r, w.root, signed_with=w.key(w.ada)),),
        ["approval_missing", "approval_signature"],
    ),
    "signed with another key and said to be the right one": (
        lambda w, r: (claimed(w.approval(r, w.root, signed_with=w.key(w.ada)), w.key(w.root)),),
        ["approval_missing", "approval_signature"],
    ),
    "with another name outside": (
        lambda w, r: (forged(w.approval(r, w.bob), by=w.root),),
        ["approval_missing", "approval_signature"],
    ),
    "with no signature": (
        lambda w, r: (forged(w.approval(r), signature=base64.b64encode(bytes(64)).decode()),),
        ["approval_missing", "approval_signature"],
    ),
    "changed after signing": (
        lambda w, r: (forged(w.approval(r, expires_at=w.now), statement=w.approval(r).statement),),
        ["approval_missing", "approval_signature"],
    ),
    "an attestation": (
        lambda w, _r: (w.attestation(by=w.one),),
        ["approval_missing", "approval_other_subject"],
    ),
    "an ending": (
        lambda w, _r: (ending_of(w, w.root),),
        ["approval_missing", "approval_other_subject"],
    ),
}  # fmt: skip


@pytest.mark.parametrize(("hand_in", "codes"), APPROVALS.values(), ids=APPROVALS)
def test_an_approval_that_does_not_count_says_why_and_changes_nothing(world, hand_in, codes):
    world.operator()
    request = world.request()
    before = world.kept()
    receipt = world.ask(request, approvals=hand_in(world, request))
    assert world.denied(receipt, *codes)
    assert world.kept() == before
    assert world.profile() == "operator"
    assert world.ask(request, approvals=(world.approval(request),)).granted


def test_a_good_approval_grants_and_stands_in_the_receipt(world):
    world.operator()
    request = world.request()
    approval = world.approval(request)
    receipt = world.ask(request, approvals=(approval,))
    assert receipt.granted
    assert receipt.rule == "guardian_on_request"
    assert receipt.fields["authority"]["approvals"] == [approval.body()]
    assert receipt.fields["proofs"]["request"] == request.id
    assert receipt.fields["what"]["detail"] == {"request_nonce": request.nonce}
    assert dict(world.kept()[1]) == {
        approval.statement.id: receipt.seq,
        request.id: receipt.seq,
    }
    assert world.profile() == "guardian"


def test_an_approval_without_its_request_counts_for_nothing(world):
    world.operator()
    request = world.request()
    receipt = world.vm.escalate(
        world.ada,
        "guardian",
        trigger="operator_request",
        reason=world.reason,
        approvals=(world.approval(request),),
    )
    assert world.denied(receipt, "approval_missing", "approval_other_subject")


def test_a_name_alone_is_no_approval_anywhere(world):
    world.operator()
    for words in ("approved by did:vm:sovereign:root", "did:vm:sovereign:root"):
        receipt = world.vm.escalate(world.ada, "guardian", trigger="operator_request", reason=words)
        assert world.denied(receipt, "approval_missing")


def test_one_person_signing_twice_counts_once(make_world):
    world = make_world(GUARDIANS_TWO)
    world.operator()
    request = world.request()
    twice = (world.approval(request), world.approval(request))
    receipt = world.ask(request, approvals=twice)
    assert world.denied(receipt, "approval_missing", "approval_repeated")
    assert receipt.unmet[0].given == "1"
    same = world.approval(request)
    receipt = world.ask(request, approvals=(same, same))
    assert world.denied(receipt, "approval_missing", "approval_repeated")
    both = (world.approval(request), world.approval(request, world.two))
    assert world.ask(request, approvals=both).granted


def test_two_names_with_one_person_behind_them_count_once(make_world):
    controllers = {"did:vm:guardian:one": PERSON, "did:vm:guardian:two": PERSON}
    world = make_world(GUARDIANS_TWO, controllers=controllers)
    world.operator()
    request = world.request()
    both = (world.approval(request), world.approval(request, world.two))
    before = world.kept()
    receipt = world.ask(request, approvals=both)
    assert world.denied(receipt, "approval_missing", "approval_repeated")
    assert world.kept() == before


def test_a_second_name_that_is_not_admitted_does_not_spoil_the_first(make_world):
    controllers = {"did:vm:guardian:one": PERSON, "did:vm:operator:bob": PERSON}
    world = make_world(controllers=controllers)
    world.operator()
    request = world.request()
    for signers in ((world.one, world.bob), (world.bob, world.one)):
        world.clock.advance(world.vm.constitution.document.cooldown["guardian"])
        request = world.request()
        receipt = world.ask(request, approvals=tuple(world.approval(request, s) for s in signers))
        assert receipt.granted, receipt.message
        world.vm.release(world.ada, receipt.lease)


def test_the_requester_who_approves_is_told_so_by_name(world):
    world.operator()
    request = world.request()
    receipt = world.ask(request, approvals=(world.approval(request, world.ada),))
    told = f"the approval by {world.ada} does not count, needs one by somebody else than who asks"
    assert receipt.unmet[1].message == told


@pytest.mark.parametrize(
    "controllers",
    [
        {"did:vm:operator:ada": "did:vm:guardian:one"},
        {"did:vm:guardian:one": "did:vm:operator:ada"},
        {"did:vm:operator:ada": PERSON, "did:vm:guardian:one": PERSON},
        {"did:vm:operator:ada": "did:vm:x", "did:vm:x": PERSON, "did:vm:guardian:one": PERSON},
    ],
    ids=["my controller", "whom I control", "one person behind both", "one behind another"],
)
def test_whoever_stands_for_the_requester_does_not_approve(make_world, controllers):
    world = make_world(controllers=controllers)
    world.operator()
    request = world.request()
    before = world.kept()
    receipt = world.ask(request, approvals=(world.approval(request),))
    assert world.denied(receipt, "approval_missing", "approval_own")
    assert receipt.unmet[1].message == (
        f"the approval by {world.one} does not count, needs one by somebody who is not the same "
        f"person as {world.ada}, who asks"
    )
    assert world.kept() == before
    assert world.ask(request, approvals=(world.approval(request, world.two),)).granted


def test_an_approval_and_its_request_count_once(world):
    world.operator()
    request = world.request()
    approval = world.approval(request)
    granted = world.ask(request, approvals=(approval,))
    world.vm.release(world.ada, granted.lease)
    world.wait(minutes=5)
    again = world.ask(request, approvals=(approval,))
    assert world.denied(again, "request_used", "approval_missing", "approval_used")
    assert world.denied(world.ask(request, approvals=(world.approval(request),)), "request_used")
    fresh = world.request()
    assert world.denied(
        world.ask(fresh, approvals=(approval,)), "approval_missing", "approval_used"
    )
    assert world.ask(fresh, approvals=(world.approval(fresh),)).granted


def test_a_denied_request_uses_nothing_up(world):
    request = world.request()
    approval = world.approval(request)
    assert world.denied(world.ask(request, approvals=(approval,)), "no_path")
    world.operator()
    assert world.ask(request, approvals=(approval,)).granted


# ---- a prepared request that is not what is asked -------------------------------------------


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"reason": "look at ticket 4712"}, "reason"),
        ({"ttl": None}, "ttl_us"),
        ({"facts": {"threat.id": "T-1"}}, "facts"),
        ({"trigger": "threat_detected"}, "trigger"),
        ({"to": "phoenix"}, "to"),
        ({"principal": "did:vm:operator:bob"}, "principal"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_request_that_differs_from_the_command_is_refused_with_the_difference(
    world, change, said
):
    for name in (world.ada, world.bob):
        world.operator(name)
    ttl = world.vm.constitution.rules["guardian_on_request"].ttl / 2
    request = world.request(ttl=ttl)
    asked = {
        "principal": world.ada,
        "to": "guardian",
        "trigger": "operator_request",
        "reason": world.reason,
        "ttl": ttl,
        **change,
    }
    before = world.kept()
    receipt = world.vm.escalate(**asked, request=request, approvals=(world.approval(request),))
    different = [one for one in receipt.unmet if one.code == "request_differs"]
    assert [one.required.split(" = ")[0] for one in different] == [said]
    assert different[0].message == (
        f"the prepared request says {different[0].required}, the command says {different[0].given}"
    )
    assert world.kept() == before


def test_a_request_for_another_ledger_or_constitution_is_refused(world):
    world.operator()
    request = world.request()
    for change, code in (
        ({"origin": "vaultmesh/00000000"}, "request_other_ledger"),
        ({"constitution": OTHER_DIGEST}, "request_other_constitution"),
    ):
        other = request.model_copy(update=change)
        here = {"origin": request.origin, "constitution": request.constitution}
        receipt = world.ask(other, approvals=(world.approval(other, **here),))
        assert world.denied(receipt, code)

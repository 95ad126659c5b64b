"""An act's receipt has the digest of the facts that called for it; an audit looks them up again."""

import pytest

from vmstate import canonical
from vmstate.ledger.audit import audit_ledger
from vmstate.ledger.receipt import Receipt
from vmstate.ledger.replay import Replay

HASH = "tem_context_hash"
WRONG = "its context hash is not that of the facts which its doer's leases rest on"


def threatened(world):
    """GUARDIAN by an attested threat; returns the digest of the facts."""
    world.operator()
    asked = {"trigger": "threat_detected", "facts": world.threat, "reason": world.reason}
    grant = world.vm.escalate(world.ada, "guardian", attestations=(world.attestation(),), **asked)
    assert grant.granted, grant.message
    digest = canonical.digest(canonical.encode(grant.fields["authority"]["facts"]))
    assert grant.fields["proofs"][HASH] == digest
    return digest


def act(world, name="tem.invoke"):
    receipt = world.vm.act(world.ada, name, reason=world.reason)
    assert receipt.granted, receipt.message
    return receipt


def test_an_act_has_the_context_hash_of_the_grant_that_rests_on_facts(world):
    digest = threatened(world)
    assert act(world).fields["proofs"] == {HASH: digest}
    assert act(world, "task.execute").fields["proofs"] == {HASH: digest}
    assert act(world, "guardian.anchor").fields["proofs"][HASH] == digest
    spent = world.vm.create_budget(world.ada, "b", name="a budget", allocated=5, unit="EUR")
    assert spent.fields["proofs"] == {HASH: digest}
    assert world.vm.debit(world.ada, "b", 1).fields["proofs"] == {HASH: digest}
    assert audit_ledger(world.vm.ledger).findings == ()


def test_it_is_that_of_the_facts_below_where_the_topmost_grant_rests_on_none(world):
    digest = threatened(world)
    assert world.phoenix().granted
    assert act(world).fields["proofs"] == {HASH: digest}
    assert audit_ledger(world.vm.ledger).findings == ()


def test_where_no_grant_rests_on_facts_there_is_none(world):
    world.operator()
    assert world.guardian().granted
    assert act(world).fields["proofs"] == {}


def test_what_rested_on_facts_that_are_over_has_none(world):
    threatened(world)
    world.wait(minutes=16)
    assert world.profile() == "operator"
    assert act(world, "task.execute").fields["proofs"] == {}
    assert audit_ledger(world.vm.ledger).findings == ()


@pytest.mark.parametrize("proofs", [{}, {HASH: f"sha256:{'0' * 64}"}])
def test_an_act_with_another_context_hash_or_none_is_found(world, proofs):
    threatened(world)
    act(world)
    law = world.vm.constitution
    replay = Replay(law=law, origin=world.vm.origin, find_law=lambda _: law)
    for receipt in world.receipts():
        said = {**receipt.fields}
        if receipt.type == "tem_invocation":
            said["proofs"] = proofs
        replay.read(Receipt(canonical.encode(said)))
    assert [finding.what for finding in replay.findings] == [WRONG]

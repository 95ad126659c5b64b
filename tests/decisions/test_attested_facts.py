from datetime import timedelta

import pytest

OTHER_DIGEST = f"sha256:{'0' * 64}"


# ---- attestations ---------------------------------------------------------------------------

ATTESTATIONS = {
    "none at all": (lambda _w: (), ["fact_missing", "fact_missing"]),
    "stale": (
        lambda w: (w.attestation(at=_before(w, minutes=2, seconds=1)),),
        ["attestation_stale", "fact_missing", "fact_missing"],
    ),
    "from the future": (
        lambda w: (w.attestation(at=_before(w, seconds=-6)),),
        ["attestation_early", "fact_missing", "fact_missing"],
    ),
    "about somebody else": (
        lambda w: (w.attestation(principal=w.bob),),
        ["attestation_other_subject", "fact_missing", "fact_missing"],
    ),
    "not admitted": (
        lambda w: (w.attestation(by=w.one),),
        ["attestation_not_admitted", "fact_missing", "fact_missing"],
    ),
    "the requester's own": (
        lambda w: (w.attestation(by=w.ada),),
        ["attestation_own", "fact_missing", "fact_missing"],
    ),
    "by nobody with a key": (
        lambda w: (w.attestation(by="did:vm:sensor:other"),),
        ["attestation_no_key", "fact_missing", "fact_missing"],
    ),
    "signed with another key": (
        lambda w: (w.attestation(signed_with=w.key(w.bob)),),
        ["attestation_signature", "fact_missing", "fact_missing"],
    ),
    "for another ledger": (
        lambda w: (w.attestation(origin="vaultmesh/00000000"),),
        ["attestation_other_ledger", "fact_missing", "fact_missing"],
    ),
    "under another constitution": (
        lambda w: (w.attestation(constitution=OTHER_DIGEST),),
        ["attestation_other_constitution", "fact_missing", "fact_missing"],
    ),
    "an approval": (
        lambda w: (w.approval(w.request(), w.sensor),),
        ["attestation_other_subject", "fact_missing", "fact_missing"],
    ),
    "of a fact that nobody knows": (
        lambda w: (w.attestation({**w.threat, "threat.level": "9"}),),
        ["fact_unknown"],
    ),
    "of a value out of its range": (
        lambda w: (w.attestation({**w.threat, "threat.confidence": "1.5"}),),
        ["malformed"],
    ),
    "of too little": (
        lambda w: (w.attestation({**w.threat, "threat.confidence": "0.79"}),),
        ["fact_unmet"],
    ),
    "of what the rule refuses": (
        lambda w: (w.attestation({**w.threat, "threat.type": "informational"}),),
        ["fact_unmet"],
    ),
}


def _before(world, **duration):
    return world.now - timedelta(**duration)


def threatened(world, *attestations, facts=None, **fields):
    return world.vm.escalate(
        world.ada,
        "guardian",
        trigger="threat_detected",
        facts=facts or {},
        attestations=attestations,
        **fields,
    )


@pytest.mark.parametrize(("hand_in", "codes"), ATTESTATIONS.values(), ids=ATTESTATIONS)
def test_an_attestation_that_does_not_count_says_why_and_changes_nothing(world, hand_in, codes):
    world.operator()
    before = world.kept()
    receipt = threatened(world, *hand_in(world))
    assert world.denied(receipt, *codes)
    assert world.kept() == before
    assert threatened(world, world.attestation()).granted


def test_a_good_attestation_grants_and_its_facts_stand_in_the_receipt(world):
    world.operator()
    attestation = world.attestation({**world.threat, "threat.confidence": "0.920"})
    receipt = threatened(world, attestation, facts={"threat.confidence": "0.92"})
    assert receipt.granted
    assert receipt.fields["authority"]["facts"] == world.threat
    assert receipt.fields["authority"]["attestations"] == [attestation.body()]
    assert dict(world.kept()[1]) == {attestation.statement.id: receipt.seq}


@pytest.mark.parametrize("age", [{"minutes": 2}, {"seconds": 0}, {"seconds": -5}])
def test_an_attestation_is_good_up_to_its_age_and_a_little_ahead(world, age):
    world.operator()
    assert threatened(world, world.attestation(at=_before(world, **age))).granted


def test_an_attestation_counts_once(world):
    world.operator()
    attestation = world.attestation()
    granted = threatened(world, attestation)
    world.vm.release(world.ada, granted.lease)
    world.wait(minutes=5)
    again = threatened(world, attestation)
    assert world.denied(again, "attestation_used", "fact_missing", "fact_missing")


@pytest.mark.parametrize(
    ("stated", "codes"),
    [
        ({"threat.confidence": "0.99"}, ["fact_differs"]),
        ({"threat.type": "malware"}, ["fact_differs"]),
        ({"threat.confidence": "0.99", "threat.id": "T-2"}, ["fact_differs", "fact_differs"]),
    ],
)
def test_what_the_requester_states_otherwise_than_was_attested_is_refused(world, stated, codes):
    world.operator()
    before = world.kept()
    receipt = threatened(world, world.attestation(), facts=stated)
    assert world.denied(receipt, *codes)
    assert world.kept() == before


@pytest.mark.parametrize("missing", ["threat.id", "threat.type", "threat.confidence"])
def test_a_fact_beside_those_attested_stays_the_requesters_word(world, missing):
    world.operator()
    attested = {name: value for name, value in world.threat.items() if name != missing}
    receipt = threatened(world, world.attestation(attested), facts=world.threat)
    assert world.denied(receipt, "fact_unattested")


def test_one_attestation_covers_all_attested_facts_so_that_none_is_relabelled(world):
    # A sure sign of something harmless and a faint one of an intrusion are no sure intrusion.
    world.operator()
    harmless = {"threat.id": "T-1", "threat.type": "informational", "threat.confidence": "0.99"}
    faint = {"threat.id": "T-2", "threat.type": "intrusion", "threat.confidence": "0.10"}
    half = {"threat.confidence": "0.99"}
    for mixed in (
        (world.attestation(harmless), world.attestation({"threat.type": "intrusion"})),
        (world.attestation(faint), world.attestation(half)),
        (world.attestation({"threat.type": "intrusion"}), world.attestation(half)),
    ):
        receipt = threatened(world, *mixed)
        assert not receipt.granted
    assert world.profile() == "operator"


def test_two_attestations_that_say_the_same_are_no_harm(world):
    world.operator()
    assert threatened(world, world.attestation(), world.attestation()).granted


# ---- the requester's word -------------------------------------------------------------------


def test_a_confidence_that_only_the_requester_states_reaches_nothing_in_a_live_ledger(world):
    world.operator()
    before = world.kept()
    facts = {**world.threat, "threat.confidence": "0.99"}
    receipt = threatened(world, facts=facts)
    assert world.denied(receipt, *["fact_unattested"] * 3)
    request = world.request(trigger="threat_detected", facts=facts)
    assert not world.ask(request, approvals=(world.approval(request),)).granted
    drilled = world.vm.escalate(
        world.ada, "guardian", trigger="threat_detected", facts=facts, reason="DRILL/ it is a drill"
    )
    assert not drilled.granted
    assert world.kept() == before
    assert world.profile() == "operator"


def test_in_a_drill_too_it_takes_the_stand_ins_signature(make_world):
    world = make_world(drill=True)
    drill, stand_in = "did:vm:operator:drill", "did:vm:sensor:drill"
    world.operator(drill)
    facts = {**world.threat, "threat.confidence": "0.99"}

    def ask(**fields):
        return world.vm.escalate(
            drill, "guardian", trigger="threat_detected", facts=facts, **fields
        )

    assert world.denied(ask(), *["fact_unattested"] * 3)
    own = world.attestation(facts, drill, drill)
    assert ask(attestations=(own,)).unmet[0].code == "attestation_no_key"
    another_key = world.attestation(facts, drill, stand_in, signed_with=world.key(world.ada))
    assert ask(attestations=(another_key,)).unmet[0].code == "attestation_signature"
    assert ask(attestations=(world.attestation(facts, drill, stand_in),)).granted


def test_a_drills_stand_ins_are_strangers_in_a_live_ledger(make_world):
    drill, live = make_world(drill=True), make_world()
    live.operator()
    live.stand_ins = drill.stand_ins
    receipt = threatened(live, live.attestation(by="did:vm:sensor:drill"))
    assert receipt.unmet[0].code == "attestation_no_key"
    request = live.request()
    for name in ("did:vm:guardian:drill-one", "did:vm:sovereign:drill-approver"):
        receipt = live.ask(request, approvals=(live.approval(request, name),))
        assert live.denied(receipt, "approval_missing", "approval_no_key")
    assert not live.vm.may("did:vm:sensor:drill", "context.read")


def test_what_was_signed_in_one_ledger_counts_in_no_other(make_world):
    here, there = make_world(), make_world()
    assert here.vm.constitution.digest == there.vm.constitution.digest
    for world in (here, there):
        world.operator()
    request = there.request()
    carried = (there.approval(request),)
    receipt = here.ask(request, approvals=carried)
    codes = ["request_other_ledger", "approval_missing", "approval_other_ledger"]
    assert here.denied(receipt, *codes)
    attested = threatened(here, there.attestation())
    assert attested.unmet[0].code == "attestation_other_ledger"

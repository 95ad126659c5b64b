"""What a sensor pushed ahead of any request stands behind what its principal asks for, once."""

from contextlib import closing
from datetime import timedelta
from itertools import product

import apsw
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vmstate.decisions.command import Escalate, make_command
from vmstate.errors import InputError
from vmstate.keys import PrivateKey
from vmstate.ledger.audit import audit_ledger

OTHER_DIGEST = f"sha256:{'0' * 64}"
IDS = "did:vm:sensor:ids"
EDR = 'sensors    = ["did:vm:sensor:edr"'
SECOND = (f"{EDR}]", f'{EDR}, "{IDS}"]')


@pytest.fixture
def watched(world):
    """Ada is an operator, and the sensor has just pushed that there is an intrusion."""
    world.operator().raise_for_denial()
    pushed(world).raise_for_denial()
    return world


def pushed(world, facts=None, about=None, by=None, **fields):
    facts = world.threat if facts is None else facts
    by = by or world.sensor
    return world.vm.push(by, about or world.ada, facts, world.key(by), **fields)


def threatened(world, principal=None, **fields):
    who = principal or world.ada
    return world.vm.escalate(who, "guardian", trigger="threat_detected", **fields)


def explained(world, **fields):
    asked = {"principal": world.ada, "to": "guardian", "trigger": "threat_detected", **fields}
    return world.vm.why(make_command(Escalate, asked))


def codes(receipt):
    return [one.code for one in receipt.unmet]


def intact(world):
    return audit_ledger(world.vm.ledger).findings == ()


# ---- pushing --------------------------------------------------------------------------------


def test_a_push_leaves_a_receipt_by_its_sensor_that_holds_what_was_signed(watched):
    said = watched.receipts(type_="attestation")[-1].fields
    assert said["who"] == {"actor": watched.sensor, "principal": watched.ada, "proof": "key"}
    assert (said["outcome"], said["scroll"]) == ("recorded", "identity")
    assert said["authority"]["facts"] == watched.threat
    (statement,) = said["authority"]["attestations"]
    assert statement["statement"]["facts"] == watched.threat
    assert said["what"]["detail"] == {"good_until": "2026-01-01T12:02:00.000000Z"}
    assert intact(watched)


REFUSED = {
    "too old": (lambda w: w.attestation(at=w.now - timedelta(minutes=3)), "attestation_stale"),
    "from the future": (
        lambda w: w.attestation(at=w.now + timedelta(seconds=6)),
        "attestation_early",
    ),
    "by somebody who is no sensor": (lambda w: w.attestation(by=w.one), "attestation_not_admitted"),
    "about oneself": (lambda w: w.attestation(by=w.ada), "attestation_own"),
    "by nobody with a key": (lambda w: w.attestation(by="did:vm:sensor:x"), "attestation_no_key"),
    "with another key": (
        lambda w: w.attestation(signed_with=w.key(w.bob)),
        "attestation_signature",
    ),
    "for another ledger": (
        lambda w: w.attestation(origin="vaultmesh/00000000"),
        "attestation_other_ledger",
    ),
    "under another law": (
        lambda w: w.attestation(constitution=OTHER_DIGEST),
        "attestation_other_constitution",
    ),
    "about a stranger": (lambda w: w.attestation(principal="nobody"), "unknown_principal"),
    "of nothing": (lambda w: w.attestation({}), "attestation_other_subject"),
    "of an unknown fact": (lambda w: w.attestation({"threat.level": "9"}), "fact_unknown"),
    "of no value": (lambda w: w.attestation({"threat.confidence": "1.5"}), "malformed"),
}


@pytest.mark.parametrize(("make", "code"), REFUSED.values(), ids=REFUSED)
def test_a_push_that_would_not_count_is_refused_on_the_record_and_stands_for_nothing(
    world, make, code
):
    world.operator()
    before = world.kept()
    receipt = world.vm.push_signed(make(world))
    assert world.denied(receipt, code)
    assert world.kept() == before
    assert world.vm.attested() == ()
    assert codes(threatened(world)) == ["fact_missing", "fact_missing"]
    assert intact(world)


def test_what_is_no_attestation_is_not_pushed(world):
    with pytest.raises(InputError, match=r"^this is a signed approval, needs an attestation$"):
        world.vm.push_signed(world.approval(world.request()))


def test_a_fact_that_takes_no_sensor_is_not_pushed(make_world):
    world = make_world(extra='[facts.ticket]\ntype = "text"\n')
    receipt = pushed(world, {**world.threat, "ticket": "4711"})
    assert world.denied(receipt, "attestation_other_subject")
    assert receipt.message.endswith("is for something else than attested facts")


def test_of_each_sensor_the_newest_stands(watched):
    old = watched.attestation(at=watched.now - timedelta(seconds=30))
    watched.wait(seconds=10)
    assert watched.denied(watched.vm.push_signed(old), "attestation_older")
    receipt = pushed(watched, {**watched.threat, "threat.confidence": "0.10"})
    assert receipt.granted
    (stands,) = watched.vm.attested(watched.ada)
    assert (stands.by, stands.receipt) == (watched.sensor, receipt.seq)
    assert stands.facts == ("threat.confidence", "threat.id", "threat.type")
    # Nobody goes back to what it said before.
    assert codes(threatened(watched)) == ["fact_unmet"]
    assert intact(watched)


def test_the_same_statement_is_not_pushed_twice(watched):
    again = watched.attestation(at=watched.now + timedelta(seconds=1))
    assert watched.vm.push_signed(again).granted
    receipt = watched.vm.push_signed(again)
    assert watched.denied(receipt, "attestation_older")
    assert "is no newer than the one before it, of 2026-01-01T12:00:01" in receipt.message


def test_a_sensor_sent_again_under_its_key_is_answered_once(world):
    first = pushed(world, idempotency_key="reading 7")
    again = pushed(world, idempotency_key="reading 7")
    assert first.id == again.id
    with pytest.raises(InputError, match="the idempotency key answered another command"):
        pushed(world, {**world.threat, "threat.confidence": "0.10"}, idempotency_key="reading 7")


def test_a_forged_push_uses_up_no_key_of_the_sensor(world):
    forged = world.attestation(signed_with=world.key(world.bob))
    denied = world.vm.push_signed(forged, idempotency_key="alert-4711")
    assert world.denied(denied, "attestation_signature")
    genuine = pushed(world, idempotency_key="alert-4711")
    assert genuine.granted
    assert pushed(world, idempotency_key="alert-4711").seq == genuine.seq
    assert intact(world)


def test_what_a_wrong_clock_dated_ahead_keeps_nothing_out(watched):
    ahead = timedelta(days=365)
    watched.clock.step_wall(ahead)
    assert pushed(watched).granted
    watched.clock.step_wall(-ahead)
    watched.clock.reboot(down_for=timedelta(minutes=1))
    assert watched.vm.attested() == ()
    assert pushed(watched).granted
    assert intact(watched)


def test_rows_do_not_outlive_what_they_stand_for(world):
    agents = [f"did:vm:agent:{number}" for number in range(30)]
    for agent in agents:
        pushed(world, about=agent)
    world.wait(minutes=3)
    pushed(world)
    with world.vm.ledger.read() as snapshot:
        assert [one.statement.principal for one in snapshot.pushed.every()] == [world.ada]
    assert intact(world)


# ---- what rests on it -----------------------------------------------------------------------


def test_a_climb_that_lacks_attested_facts_rests_on_what_was_pushed(watched):
    receipt = threatened(watched)
    assert receipt.granted, receipt.message
    said = receipt.fields["authority"]
    assert said["facts"] == watched.threat
    (pushed_one,) = watched.receipts(type_="attestation")
    assert said["attestations"] == pushed_one.fields["authority"]["attestations"]
    assert intact(watched)


def test_it_is_used_up_by_the_grant_and_the_sensor_pushes_the_next(watched):
    lease = threatened(watched).lease
    assert watched.vm.attested() == ()
    watched.vm.release(watched.ada, lease)
    watched.wait(minutes=6)
    assert codes(threatened(watched)) == ["fact_missing", "fact_missing"]
    assert pushed(watched).granted
    assert threatened(watched).granted
    assert intact(watched)


def test_a_renewal_rests_on_it_too_and_takes_another(watched):
    lease = threatened(watched).lease
    watched.wait(minutes=1)
    refused = watched.vm.renew(watched.ada, lease)
    assert codes(refused) == ["fact_missing", "fact_missing"]
    pushed(watched)
    assert watched.vm.renew(watched.ada, lease).granted
    assert watched.vm.attested() == ()
    assert intact(watched)


def test_a_climb_that_needs_no_attested_fact_leaves_it_alone(world):
    pushed(world)
    receipt = world.operator()
    assert receipt.fields["authority"]["attestations"] == []
    assert receipt.fields["authority"]["facts"] == {}
    assert len(world.vm.attested()) == 1


def test_another_rule_on_the_same_trigger_that_needs_none_leaves_it_alone(make_world):
    extra = """
[escalations.guardian_for_a_reason]
from = "operator"
to = "guardian"
trigger = "threat_detected"
ttl = "1m"
needs.reason = { min_length = 40 }
"""
    world = make_world(extra=extra)
    world.operator()
    pushed(world)
    receipt = threatened(world, reason="the pager says so, and so does everybody on the call")
    assert receipt.rule == "guardian_for_a_reason"
    assert receipt.fields["authority"]["facts"] == {}
    assert len(world.vm.attested()) == 1
    assert intact(world)


def test_what_brings_an_attestation_of_its_own_rests_on_that(watched):
    weak = watched.attestation({**watched.threat, "threat.confidence": "0.10"})
    assert codes(threatened(watched, attestations=(weak,))) == ["fact_unmet"]
    own = watched.attestation()
    receipt = threatened(watched, attestations=(own,))
    assert receipt.fields["authority"]["attestations"] == [own.body()]
    assert len(watched.vm.attested()) == 1


LOW = {"threat.id": "T-1", "threat.type": "intrusion", "threat.confidence": "0.10"}


def test_what_a_sensor_said_before_it_pushed_otherwise_is_not_brought_in_its_place(world):
    world.operator()
    before = world.attestation()
    world.vm.push_signed(before)
    world.wait(seconds=10)
    assert pushed(world, LOW).granted
    denied = threatened(world, attestations=(before,))
    assert codes(denied) == ["attestation_older", "fact_missing", "fact_missing"]
    assert "is no newer than the one before it, of 2026-01-01T12:00:10.000000Z" in denied.message
    assert "0.1" not in denied.body.decode()
    assert world.denied(world.vm.push_signed(before), "attestation_older")
    world.wait(seconds=10)
    assert pushed(world).granted
    assert threatened(world, attestations=(before,)).granted
    assert intact(world)


def test_what_was_handed_in_counts_no_more_once_its_sensor_pushes_otherwise(make_world):
    world = make_world(BOTH)
    world.operator()
    request = world.request(trigger="threat_detected", facts=world.threat, reason="")
    world.vm.open_request(request).raise_for_denial()
    attestation = world.attestation()
    world.vm.hand_in(request.id, attestation).raise_for_denial()
    world.vm.hand_in(request.id, world.approval(request)).raise_for_denial()
    world.wait(seconds=10)
    assert pushed(world, LOW).granted
    assert "attestation_older" in codes(world.vm.activate(world.ada, request.id))
    again = world.vm.hand_in(request.id, attestation)
    assert "attestation_older" in codes(again)
    assert intact(world)


def test_a_word_is_heard_as_long_as_any_of_it_is_young_enough(make_world):
    """Else a fact that grows old soon would let what was said before about another count again."""
    aged = '"informational"], attested_by = "sensors", max_age = "'
    world = make_world((f'{aged}2m"', f'{aged}10s"'))
    world.operator()
    before = world.attestation({"threat.confidence": "0.92"})
    world.wait(seconds=5)
    assert pushed(world, {"threat.type": "intrusion", "threat.confidence": "0.10"}).granted
    world.wait(seconds=11)
    assert pushed(world, about=world.bob).granted
    assert world.denied(world.vm.push_signed(before), "attestation_older")
    assert "attestation_older" in codes(threatened(world, attestations=(before,)))
    assert intact(world)


def test_the_same_word_said_anew_takes_nothing_from_the_one_before(world):
    world.operator()
    before = world.attestation()
    world.wait(seconds=10)
    spelled = {"threat.type": "intrusion", "threat.confidence": "0.920"}
    assert pushed(world, spelled).granted
    assert threatened(world, attestations=(before,)).granted


def test_what_was_pushed_about_one_is_nothing_to_another(watched):
    watched.operator(watched.bob)
    assert codes(threatened(watched, watched.bob)) == ["fact_missing", "fact_missing"]


def test_a_pushed_statement_may_be_handed_in_and_counts_once_all_the_same(world):
    world.operator()
    signed = world.attestation()
    world.vm.push_signed(signed)
    lease = threatened(world, attestations=(signed,)).raise_for_denial().lease
    assert world.vm.attested() == ()
    world.vm.release(world.ada, lease)
    world.wait(minutes=1)
    assert world.denied(world.vm.push_signed(signed), "attestation_used")


def test_what_was_handed_in_and_used_is_not_pushed(world):
    world.operator()
    signed = world.attestation()
    threatened(world, attestations=(signed,)).raise_for_denial()
    assert world.denied(world.vm.push_signed(signed), "attestation_used")


def test_it_is_good_up_to_its_age_and_not_beyond(watched):
    watched.wait(minutes=2)
    assert explained(watched).granted
    watched.wait(seconds=1)
    assert watched.vm.attested() == ()
    assert codes(threatened(watched)) == ["fact_missing", "fact_missing"]


def test_of_two_sensors_the_newest_speaks_and_they_are_never_mixed(make_world):
    extra = f'[principals."{IDS}"]\nkey = "{PrivateKey.derive(IDS).public}"\n'
    world = make_world(SECOND, extra=extra)
    world.operator()
    pushed(world, {"threat.type": "intrusion", "threat.confidence": "0.10"})
    world.wait(seconds=1)
    half = {"threat.confidence": "0.99"}
    assert pushed(world, half, by=IDS).granted
    # The newest that says all of it, although the newer half of the truth would pass.
    assert codes(threatened(world)) == ["fact_unmet"]
    whole = {"threat.type": "intrusion", "threat.confidence": "0.99"}
    world.wait(seconds=1)
    assert pushed(world, whole, by=IDS).granted
    assert threatened(world).fields["authority"]["attestations"][0]["by"] == IDS


def test_a_row_under_another_name_does_not_bring_an_older_word_back(watched):
    (first,) = watched.vm.attested()
    watched.wait(seconds=1)
    newest = pushed(watched, {**watched.threat, "threat.confidence": "0.10"})
    with closing(apsw.Connection(str(watched.vm.ledger.path))) as db:
        row = (watched.ada, watched.one, first.receipt, 9_000_000_000_000_000)
        db.execute("INSERT INTO pushed VALUES (?, ?, ?, ?)", row)
    assert [one.receipt for one in watched.vm.attested()] == [newest.seq]


def test_a_newer_word_about_something_else_does_not_stand_before_what_is_needed(make_world):
    extra = f"""
[principals."{IDS}"]
key = "{PrivateKey.derive(IDS).public}"

[escalations.guardian_for_a_reason]
from = "operator"
to = "guardian"
trigger = "threat_detected"
ttl = "1m"
needs.reason = {{ min_length = 40 }}
"""
    world = make_world(SECOND, extra=extra)
    world.operator()
    pushed(world)
    world.wait(seconds=1)
    pushed(world, {"threat.id": "T-9"}, by=IDS).raise_for_denial()
    assert threatened(world).rule == "guardian_on_threat"


def test_a_lock_on_its_sensor_leaves_it_standing_for_nothing(watched):
    lock = watched.vm.lock(
        watched.root, principal=watched.sensor, reason="odd", key=watched.key(watched.root)
    ).raise_for_denial()
    assert watched.vm.attested() == ()
    assert codes(threatened(watched)) == ["fact_missing", "fact_missing"]
    assert watched.denied(watched.vm.push_signed(watched.attestation()), "attestation_locked")
    name = lock.fields["what"]["detail"]["lock"]
    watched.vm.unlock(watched.root, name, key=watched.key(watched.root)).raise_for_denial()
    assert threatened(watched).granted


def test_an_amendment_leaves_it_standing_for_nothing(watched):
    toml = watched.vm.constitution.toml.replace(b'version  = "1.0.0"', b'version  = "1.0.1"')
    bob, root = watched.bob, watched.root
    request = watched.vm.prepare_amendment(bob, toml, reason="another number")
    approved = watched.approval(request, root)
    asked = {"request": request, "approvals": (approved,), "reason": "another number"}
    watched.vm.amend(bob, toml, key=watched.key(bob), **asked).raise_for_denial()
    assert watched.vm.attested() == ()
    assert codes(threatened(watched)) == ["fact_missing", "fact_missing"]
    watched.wait(seconds=1)
    assert pushed(watched).granted
    assert threatened(watched).granted
    assert intact(watched)


def test_a_row_that_no_push_bears_out_says_nothing(world):
    world.operator()
    request, _ = asked_to_wait(world, facts=world.threat)
    never_pushed = world.vm.attest(request.id, world.sensor, world.key(world.sensor)).seq
    world.vm.withdraw(world.ada, request.id)
    world.operator(world.bob)
    about_bob = pushed(world, about=world.bob).seq
    handed_in = threatened(world, world.bob, attestations=(world.attestation(principal=world.bob),))
    receipts = (never_pushed, about_bob, handed_in.seq, 999)
    for by, seq in product((world.sensor, world.one), receipts):
        with closing(apsw.Connection(str(world.vm.ledger.path))) as db:
            row = (world.ada, by, seq, 9_000_000_000_000_000)
            db.execute("INSERT OR REPLACE INTO pushed VALUES (?, ?, ?, ?)", row)
        assert world.vm.attested(world.ada) == ()
        assert codes(threatened(world)) == ["fact_missing", "fact_missing"]
        assert not intact(world)


# ---- what the requester is told -------------------------------------------------------------


def test_stating_what_was_attested_is_no_harm(watched):
    assert threatened(watched, facts={"threat.confidence": "0.920"}).granted


def test_a_value_of_the_sensors_is_told_to_nobody_who_is_refused(watched):
    watched.wait(seconds=1)
    pushed(watched, {**watched.threat, "threat.confidence": "0.4321"}).raise_for_denial()
    for facts, code, words in (
        ({}, "fact_unmet", "is what did:vm:sensor:edr attested, needs at least 0.80"),
        (
            {"threat.confidence": "0.99"},
            "fact_differs",
            "is stated, but the attestation says otherwise",
        ),
    ):
        receipt = threatened(watched, facts=facts)
        assert codes(receipt) == [code]
        assert receipt.message == f"threat.confidence{' = 0.99' if facts else ''} {words}"
        assert b"0.4321" not in receipt.body
        assert receipt.fields["authority"]["facts"] == facts
        told = explained(watched, facts=facts)
        assert "0.4321" not in repr(told)


def test_why_says_who_attested_it_and_until_when(watched):
    told = explained(watched)
    assert told.granted
    (attested,) = told.attested
    assert attested.by == watched.sensor
    assert attested.good_until == watched.now + timedelta(minutes=2)
    threatened(watched)
    assert explained(watched).attested == ()


def test_why_says_so_too_where_something_else_is_missing(watched):
    told = explained(watched, ttl=timedelta(hours=1))
    assert [one.code for one in told.unmet] == ["ttl_above_rule"]
    assert [one.by for one in told.attested] == [watched.sensor]


# ---- requests that are left open ------------------------------------------------------------

SURE = 'needs.facts."threat.confidence" = { min = "0.80" }'
BOTH = (SURE, f'{SURE}\nneeds.approval = {{ count = 1, of = ["guardians"] }}')


def asked_to_wait(world, **fields):
    request = world.request(trigger="threat_detected", **fields)
    return request, world.vm.open_request(request)


def test_a_request_that_lacks_nothing_else_is_granted_at_once(watched):
    _, receipt = asked_to_wait(watched)
    assert receipt.type == "profile_escalation"
    assert receipt.fields["authority"]["facts"] == watched.threat
    assert watched.vm.requests() == ()
    assert intact(watched)


def test_and_so_is_one_that_states_the_facts(watched):
    request, receipt = asked_to_wait(watched, facts=watched.threat)
    assert receipt.type == "profile_escalation"
    assert receipt.fields["proofs"]["request"] == request.id
    assert intact(watched)


def test_a_request_that_was_used_is_not_granted_on_what_is_pushed(watched):
    request, receipt = asked_to_wait(watched, facts=watched.threat)
    watched.vm.release(watched.ada, receipt.lease)
    watched.wait(minutes=6)
    pushed(watched)
    assert "request_used" in codes(watched.vm.open_request(request))


def test_an_asker_who_signs_is_granted_it_too(watched):
    request = watched.request(trigger="threat_detected")
    receipt = watched.vm.open_request(request, key=watched.key(watched.ada))
    assert receipt.type == "profile_escalation"
    assert receipt.fields["who"]["proof"] == "key"
    assert intact(watched)


def test_approvers_sign_the_facts_that_a_pushed_attestation_bears_out(make_world):
    world = make_world(BOTH)
    world.operator()
    request, receipt = asked_to_wait(world, facts=world.threat)
    assert receipt.type == "request"
    world.vm.approve(request.id, world.one, world.key(world.one)).raise_for_denial()
    assert codes(world.vm.activate(world.ada, request.id)) == ["fact_unattested"] * 3
    pushed(world)
    assert world.vm.request(request.id).missing == ()
    assert world.vm.request(request.id).attested_by == (world.sensor,)
    granted = world.vm.activate(world.ada, request.id).raise_for_denial()
    assert [one["by"] for one in granted.fields["authority"]["attestations"]] == [world.sensor]
    assert intact(world)


def test_a_request_that_names_no_facts_is_not_approved_for_whatever_a_sensor_says(make_world):
    world = make_world(BOTH)
    world.operator()
    pushed(world)
    request = world.request(trigger="threat_detected")
    refused = world.ask(request, approvals=(world.approval(request),))
    assert codes(refused) == ["fact_missing", "fact_missing"]
    assert "fact_missing" in codes(world.vm.open_request(request))


# ---- as a property --------------------------------------------------------------------------

STEP = st.one_of(
    st.tuples(st.just("push"), st.sampled_from(["0.92", "0.10"]), st.sampled_from([0, 60, 200])),
    st.tuples(st.just("climb"), st.just(""), st.just(0)),
    st.tuples(st.just("release"), st.just(""), st.just(0)),
    st.tuples(st.just("wait"), st.just(""), st.sampled_from([30, 110, 400])),
)


@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(steps=st.lists(STEP, max_size=14))
def test_each_grant_rests_on_the_newest_fresh_word_and_each_word_counts_once(make_world, steps):
    world = make_world()
    seen_at, word, held, left_at = None, None, None, None
    for what, value, seconds in steps:
        if held is not None and held.expires_at <= world.now:
            held, left_at = None, held.expires_at
        if world.profile() == "observer":
            world.operator().raise_for_denial()
        match what:
            case "push":
                at = world.now - timedelta(seconds=seconds)
                signed = world.attestation({**world.threat, "threat.confidence": value}, at=at)
                fresh = seconds <= 120 and (seen_at is None or at > seen_at)
                assert world.vm.push_signed(signed).granted == fresh
                seen_at, word = (at, signed) if fresh else (seen_at, word)
            case "climb" if held is None:
                young = word is not None and world.now - seen_at <= timedelta(minutes=2)
                sure = young and word.statement.facts["threat.confidence"] == "0.92"
                cool = left_at is None or world.now - left_at >= timedelta(minutes=5)
                receipt = threatened(world)
                assert receipt.granted == (sure and cool), receipt.message
                if receipt.granted:
                    assert receipt.fields["authority"]["attestations"] == [word.body()]
                    held, word = receipt, None
            case "release" if held is not None:
                world.vm.release(world.ada, held.lease)
                held, left_at = None, world.now
            case "wait":
                world.wait(seconds=seconds)
    assert intact(world)

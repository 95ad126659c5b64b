"""Requests over the socket: who carries a signature does not matter, who asks does."""

from datetime import timedelta

import pytest

from vmstate.decisions.command import Escalate, make_command
from vmstate.errors import LedgerUnavailable, UnknownPrincipal
from vmstate.serving import REFUSALS
from vmstate.signing import approve

AGENT, ONE = "did:vm:agent:7", "did:vm:guardian:one"
SOVEREIGN = "did:vm:sovereign:root"


def opened(service, client):
    asked = {"trigger": "operator_request", "reason": service.reason}
    client.escalate(AGENT, "operator", **asked).raise_for_denial()
    receipt = client.open_request(client.prepare(AGENT, "guardian", **asked))
    assert receipt.type == "request", receipt.message
    return receipt.fields["what"]["detail"]["request"]


def test_an_agent_asks_a_phone_approves_and_the_agent_climbs(service):
    agent = service.at("agent")
    request = opened(service, agent)
    assert agent.request(request[7:13]) == service.vm.request(request)
    assert agent.requests() == service.vm.requests()
    phone = service.at("root-phone")
    approval = phone.approve(request, SOVEREIGN, service.key(SOVEREIGN))
    assert approval.fields["who"] == {"actor": SOVEREIGN, "principal": AGENT, "proof": "key"}
    granted = agent.activate(AGENT, request)
    assert granted.fields["who"]["proof"] == "peer"
    assert agent.may(AGENT, "guardian")
    service.check_audit()


def test_anybody_may_carry_a_signature_and_nobody_may_do_without_one(service):
    agent = service.at("agent")
    request = opened(service, agent)
    stranger = service.at("stranger")
    forged = agent.approve(request, ONE, service.key(AGENT))
    assert [one.code for one in forged.unmet] == ["approval_signature", "not_caller"]
    shown = agent.request(request).request
    until = service.now + timedelta(minutes=15)
    approval = approve(shown, ONE, service.key(ONE), expires_at=until)
    assert stranger.hand_in(request, approval).fields["who"]["proof"] == "key"
    assert agent.request(request).state == "complete"
    service.check_audit()


def test_an_account_that_was_refused_for_long_still_carries_what_others_signed(service):
    agent = service.at("agent")
    request = opened(service, agent)
    stranger = service.at("stranger")
    for _ in range(REFUSALS):
        stranger.withdraw(AGENT, request)
    with pytest.raises(LedgerUnavailable, match="was refused 20 times"):
        stranger.withdraw(AGENT, request)
    until = service.now + timedelta(minutes=15)
    shown = agent.request(request).request
    forged = approve(shown, ONE, service.key(AGENT), expires_at=until)
    with pytest.raises(LedgerUnavailable, match="was refused 20 times"):
        stranger.hand_in(request, forged)
    approval = approve(shown, ONE, service.key(ONE), expires_at=until)
    assert stranger.hand_in(request, approval).fields["who"]["proof"] == "key"
    signed = stranger.withdraw(AGENT, request, key=service.key(AGENT))
    assert signed.fields["who"]["proof"] == "key"
    service.check_audit()


def test_an_account_denies_as_whom_the_law_takes_it_for_and_nobody_else(service):
    agent = service.at("agent")
    request = opened(service, agent)
    refused = agent.deny(SOVEREIGN, request)
    assert {one.code for one in refused.unmet} == {"not_caller", "not_proven"}
    denied = service.at("root-phone").deny(SOVEREIGN, request)
    assert denied.fields["who"] == {"actor": SOVEREIGN, "principal": AGENT, "proof": "peer"}
    assert agent.request(request).state == "denied"
    service.check_audit()


def test_nobody_activates_or_withdraws_for_the_agent(service):
    agent = service.at("agent")
    request = opened(service, agent)
    for ask in (service.at("ada").activate, service.at("ada").withdraw):
        assert "not_caller" in {one.code for one in ask(AGENT, request).unmet}
    assert agent.request(request).state == "pending"


# ---- what sensors push --------------------------------------------------------------------------

THREAT = {"threat.type": "intrusion", "threat.confidence": "0.92"}
SENSOR = "did:vm:sensor:edr"


def threatened(service, client):
    client.escalate(AGENT, "operator", trigger="operator_request", reason=service.reason)
    return client.escalate(AGENT, "guardian", trigger="threat_detected")


def test_a_sensor_on_any_account_pushes_and_an_agent_climbs(service):
    agent, stranger = service.at("agent"), service.at("stranger")
    pushed = stranger.push(SENSOR, AGENT, THREAT, service.key(SENSOR))
    assert pushed.fields["who"] == {"actor": SENSOR, "principal": AGENT, "proof": "key"}
    assert agent.attested() == service.vm.attested()
    granted = threatened(service, agent).raise_for_denial()
    assert granted.fields["who"]["proof"] == "peer"
    assert [one["by"] for one in granted.fields["authority"]["attestations"]] == [SENSOR]
    assert agent.attested() == ()
    service.check_audit()


def test_a_stranger_pushes_nothing_of_their_own_and_reads_nothing_that_stands(service):
    stranger = service.at("stranger")
    forged = stranger.push(SENSOR, AGENT, THREAT, service.key(AGENT))
    assert [one.code for one in forged.unmet] == ["attestation_signature", "not_caller"]
    assert forged.fields["what"]["from"] is None
    with pytest.raises(UnknownPrincipal):
        stranger.attested()
    assert not threatened(service, service.at("agent")).granted
    service.check_audit()


def test_a_sensor_that_was_not_answered_asks_again_under_its_key(service):
    stranger = service.at("stranger")
    first, again = (
        stranger.push(SENSOR, AGENT, THREAT, service.key(SENSOR), idempotency_key="reading 7")
        for _ in range(2)
    )
    assert first.id == again.id
    assert len(service.vm.receipts(type_="attestation")) == 1


def test_why_at_the_socket_says_who_attested_it(service):
    agent = service.at("agent")
    agent.escalate(AGENT, "operator", trigger="operator_request", reason=service.reason)
    service.vm.push(SENSOR, AGENT, THREAT, service.key(SENSOR)).raise_for_denial()
    asked = {"principal": AGENT, "to": "guardian", "trigger": "threat_detected"}
    told = agent.why(make_command(Escalate, asked))
    assert told.granted
    assert [one.by for one in told.attested] == [SENSOR]

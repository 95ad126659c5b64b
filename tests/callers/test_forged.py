"""What somebody forged at the socket is their own doing, and the receipt names their account."""

from datetime import timedelta

import pytest

from vmstate.decisions.command import Amend, HandIn, SetLock, make_command
from vmstate.errors import LedgerUnavailable
from vmstate.interfaces.cli.rows import spell_by
from vmstate.serving import REFUSALS
from vmstate.signing import approve

AGENT, ADA, ONE = "did:vm:agent:7", "did:vm:operator:ada", "did:vm:guardian:one"
SOVEREIGN, SENSOR = "did:vm:sovereign:root", "did:vm:sensor:edr"
THREAT = {"threat.type": "intrusion", "threat.confidence": "0.92"}
NO_REQUEST = f"sha256:{'0' * 64}"


def opened(service):
    client = service.at("agent")
    asked = {"trigger": "operator_request", "reason": service.reason}
    client.escalate(AGENT, "operator", **asked).raise_for_denial()
    receipt = client.open_request(client.prepare(AGENT, "guardian", **asked))
    return receipt.fields["what"]["detail"]["request"]


def approving(service, request, *, by=ONE, signer=None):
    shown = service.vm.request(request).request
    until = service.now + timedelta(minutes=15)
    return approve(shown, by, service.key(signer or by), expires_at=until)


def amended_by_forger(service, client):
    asked = {"principal": ADA, "reason": service.reason, "toml": service.vm.constitution.toml}
    return client.submit(client.ordered(make_command(Amend, asked), service.key(AGENT)))


def _approves(service):
    signed = approving(service, opened(service), signer=AGENT)
    return ONE, lambda client: client.hand_in(signed.statement.request, signed)


def _attests(service):
    return SENSOR, lambda client: client.push(SENSOR, ADA, THREAT, service.key(AGENT))


def _locks(service):
    asked = {"reason": "all stop", "key": service.key(AGENT)}
    return SOVEREIGN, lambda client: client.lock(SOVEREIGN, **asked)


def _amends(service):
    return ADA, lambda client: amended_by_forger(service, client)


FORGED = [
    (_approves, "approval_signature"),
    (_attests, "attestation_signature"),
    (_locks, "order_signature"),
    (_amends, "order_signature"),
]


@pytest.mark.parametrize(("forging", "code"), FORGED)
def test_a_forged_signature_is_refused_by_the_account_that_sent_it(forging, code, service):
    claimed, send = forging(service)
    denied = send(service.at("agent"))
    by_code = {one.code: one for one in denied.unmet}
    assert set(by_code) - {"not_proven"} == {code, "not_caller"}
    named = by_code["not_caller"]
    assert named.message == f"the account agent asks as {claimed}, may ask as {AGENT}"
    assert (denied.fields["who"]["actor"], denied.fields["who"]["proof"]) == (claimed, "none")
    assert denied.by == f"{claimed} (not proven)"
    about = denied.fields["who"]["principal"]
    assert denied.who == (denied.by if about == claimed else about)
    assert spell_by(denied) == ("" if about == claimed else denied.by)
    service.check_audit()


@pytest.mark.parametrize(("forging", "code"), FORGED)
def test_forging_uses_up_what_an_account_may_have_on_record(forging, code, service):
    _, send = forging(service)
    forger = service.at("mallory")
    for _ in range(REFUSALS):
        assert code in {one.code for one in send(forger).unmet}
    with pytest.raises(LedgerUnavailable, match="the account mallory was refused 20 times"):
        send(forger)
    assert code in {one.code for one in send(service.at("stranger")).unmet}  # others are heard


def test_a_name_that_an_account_may_ask_as_is_its_own_though_the_signature_is_forged(service):
    denied = amended_by_forger(service, service.at("ada"))
    assert "not_caller" not in {one.code for one in denied.unmet}
    assert denied.fields["who"] == {"actor": ADA, "principal": ADA, "proof": "peer"}
    assert denied.who == ADA


def test_what_a_signer_really_signed_is_theirs_though_it_is_refused_and_says_nothing_of_a_carrier(
    service,
):
    signed = approving(service, opened(service), by=ADA)
    denied = service.at("mallory").hand_in(signed.statement.request, signed)
    assert [one.code for one in denied.unmet] == ["approval_not_admitted"]
    assert denied.fields["who"] == {"actor": ADA, "principal": ADA, "proof": "key"}
    assert "mallory" not in denied.body.decode()


def test_a_good_statement_under_another_name_than_its_signers_is_the_carriers_doing(service):
    """Who asks is not signed with it: whoever writes the line may name anybody."""
    request = opened(service)
    asked = {"principal": SOVEREIGN, "request": request, "statement": approving(service, request)}
    denied = service.at("mallory").submit(make_command(HandIn, asked))
    assert [one.code for one in denied.unmet] == ["not_caller"]
    assert denied.unmet[0].given == "the account mallory asks as " + SOVEREIGN
    assert service.vm.request(request).state == "pending"


def test_a_forger_does_not_learn_whether_there_is_such_a_request(service):
    signed = approving(service, opened(service), signer=AGENT)
    forger = service.at("mallory")
    codes = [
        [one.code for one in forger.hand_in(request, signed).unmet]
        for request in (signed.statement.request, NO_REQUEST)
    ]
    assert codes == [["approval_signature", "not_caller"]] * 2


def test_an_order_for_one_thing_signs_no_other_and_whoever_tries_is_named(service):
    asked = {"principal": SOVEREIGN, "scope": "all", "reason": "all stop"}
    key = service.key(SOVEREIGN)
    found = service.at("root-phone").ordered(make_command(SetLock, asked), key).order
    forger = service.at("mallory")
    for number in range(REFUSALS):
        changed = make_command(SetLock, {**asked, "reason": f"try {number}", "order": found})
        codes = [one.code for one in forger.submit(changed).unmet]
        assert codes[:2] == ["order_other_subject", "not_caller"]
    with pytest.raises(LedgerUnavailable, match="was refused 20 times"):
        forger.submit(changed)
    # As it was signed it is heard, whoever carries it, and counts once.
    exactly = make_command(SetLock, {**asked, "order": found})
    assert forger.submit(exactly).granted
    again = forger.submit(exactly)
    assert [one.code for one in again.unmet][:2] == ["order_used", "not_caller"]
    service.check_audit()


def test_whoever_is_not_proven_at_the_socket_is_told_what_to_do_there(service):
    denied = service.at("agent").lock(SOVEREIGN, reason="all stop")
    remedy = {one.code: one.remedy for one in denied.unmet}["not_proven"]
    assert remedy == (
        f"sign it as {SOVEREIGN} (--key FILE), "
        "or ask under an account or with a token that is bound to that name"
    )
    at_the_file = service.vm.lock(SOVEREIGN, reason="all stop")
    remedy = {one.code: one.remedy for one in at_the_file.unmet}["not_proven"]
    assert remedy == "sign it (--key FILE), or ask through vmstate serve"

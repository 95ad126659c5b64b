"""One gate, one account, many agents: each is asked for over connections that showed its token."""

import time

import pytest

from vmstate.errors import LedgerUnavailable, UnknownPrincipal
from vmstate.interfaces.mcp.shown import CONNECTED, Shown
from vmstate.interfaces.mcp.warden import STRANGER, Warden
from vmstate.keys import new_token, token_digest

PATIENCE_SECONDS = 10.0  # far beyond what holds, so that only a failure waits so long


@pytest.fixture
def tokens():
    return {f"did:vm:agent:{number}": new_token() for number in range(100, 100 + CONNECTED + 8)}


@pytest.fixture
def shown(serve, tokens):
    service = serve(tokens=tokens, host=False)
    made = Shown(service.path)
    service.closing.callback(made.close)
    return service, made


def take(shown, name, token):
    shown.take(name, token_digest(token), token)


def climb(door, name):
    asked = {"trigger": "operator_request", "reason": "look at ticket 4711"}
    return door.escalate(name, "operator", **asked)


def test_each_is_asked_for_by_its_own_token_and_by_no_other(shown, tokens):
    service, shown = shown
    (one, first), (two, second), *_ = tokens.items()
    for name, token in ((one, first), (two, second)):
        assert not shown.has(name, token_digest(token))
        take(shown, name, token)
        assert shown.has(name, token_digest(token))
    receipt = climb(shown.of(one), one)
    assert receipt.granted
    assert receipt.fields["who"]["proof"] == "token"
    refused = climb(shown.of(one), two)
    assert "not_caller" in {unmet.code for unmet in refused.unmet}
    service.check_audit()


def test_a_token_that_is_nobodys_and_a_name_without_one_are_refused(shown):
    _, shown = shown
    with pytest.raises(UnknownPrincipal, match="the token is nobody's"):
        take(shown, "did:vm:agent:7", new_token())
    told = "did:vm:agent:7 has shown no token here: nothing was decided"
    with pytest.raises(LedgerUnavailable, match=told):
        shown.of("did:vm:agent:7")


def test_many_agents_leave_the_service_room_for_its_other_callers(shown, tokens):
    service, shown = shown
    for name, token in tokens.items():
        take(shown, name, token)
    until = time.monotonic() + PATIENCE_SECONDS  # those that were closed are yet to be noticed
    while len(service.server._connections) > CONNECTED and time.monotonic() < until:
        time.sleep(0.001)
    assert len(service.server._connections) <= CONNECTED
    for name in tokens:
        assert climb(shown.of(name), name).granted


def test_who_shows_another_token_is_asked_for_by_that_one(serve):
    before, after = new_token(), new_token()
    name = "did:vm:agent:9"
    service = serve(tokens={name: before}, host=False)
    shown = Shown(service.path)
    service.closing.callback(shown.close)
    take(shown, name, before)
    old = shown.of(name)
    take(shown, name, before)
    assert shown.of(name) is not old
    assert not shown.has(name, token_digest(after))
    with pytest.raises(LedgerUnavailable, match="was closed"):
        old.size()


def test_what_is_put_on_record_of_a_stranger_comes_from_the_gates_own_account(shown):
    service, shown = shown
    warden = Warden(service.at("agent"), "desk", by_token=True, shown=shown)
    assert warden.door_of(STRANGER) is warden.door
    judged = warden.judge_stranger()
    receipt = service.vm.receipt(judged.receipt)
    assert receipt.fields["who"] == {"actor": STRANGER, "principal": STRANGER, "proof": "none"}

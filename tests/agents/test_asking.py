"""vmstate's own tools: asking in the flow of work, waiting for a person, taking, giving back."""

import json

import pytest

from vmstate.errors import InputError, LedgerNotFound
from vmstate.interfaces.mcp.own import OWN, Caller
from vmstate.interfaces.mcp.warden import OWN_REFUSALS
from vmstate.keys import PrivateKey

TOOLS = {tool.name: tool for tool in OWN}


def use(desks, name, principal=None, **arguments):
    caller = Caller(desks.warden, principal or desks.agent, "vmstate_")
    return TOOLS[name].call(caller, arguments).model_dump()


def guardian(desks, **fields):
    return use(desks, "request_escalation", to="guardian", reason="ticket 4711", **fields)


def test_status_says_who_i_am_what_i_hold_and_for_how_long(desks):
    assert use(desks, "status")["profile"] == "observer"
    lease = desks.operator()
    desks.wait(minutes=15)
    status = use(desks, "status")
    assert status["principal"] == desks.agent
    assert [one["lease"] for one in status["leases"]] == [lease]
    assert status["leases"][0]["left_seconds"] == 2_700


def test_where_a_person_has_to_approve_the_answer_is_pending_and_not_a_wait(desks):
    desks.operator()
    asked = guardian(desks)
    assert asked["status"] == "pending"
    assert asked["poll_after"] == 5
    assert asked["missing"] == [
        {"kind": "approval", "source": "1 of approvers", "name": None},
    ]
    assert asked["next"]["tool"] == "vmstate_check_request"
    waiting = use(desks, "check_request", request=asked["request"])
    assert (waiting["status"], waiting["approvals"]) == ("pending", 0)


def test_an_approvers_signature_completes_the_request_and_the_lease_starts_when_taken(desks):
    desks.operator()
    asked = guardian(desks)
    assert desks.approve(asked["request"]).granted
    checked = use(desks, "check_request", request=asked["request"])
    assert (checked["status"], checked["approvals"]) == ("approved", 1)
    assert checked["next"]["tool"] == "vmstate_activate"
    desks.wait(minutes=10)
    taken = use(desks, "activate", request=asked["request"])
    assert (taken["status"], taken["profile"]) == ("granted", "guardian")
    assert taken["expires_at"] == "2026-01-01T12:25:00.000000Z"
    again = use(desks, "check_request", request=asked["request"])
    assert (again["status"], again["next"]) == ("activated", None)


def test_what_the_agent_itself_signs_approves_nothing(desks):
    desks.operator()
    asked = guardian(desks)
    assert not desks.approve(asked["request"], by="agent:7").granted
    assert use(desks, "check_request", request=asked["request"])["status"] == "pending"
    taken = use(desks, "activate", request=asked["request"])
    assert (taken["status"], taken["profile"]) == ("denied", "operator")


def test_somebody_elses_request_is_answered_like_one_that_does_not_exist(desks):
    desks.operator()
    asked = guardian(desks)
    for name in ("check_request", "activate", "withdraw_request"):
        for request in (asked["request"], f"sha256:{'0' * 64}"):
            with pytest.raises(LedgerNotFound, match=r"there is no request .* of yours"):
                use(desks, name, principal="agent:8", request=request)


def test_no_answer_holds_a_value_that_would_pass(desks):
    desks.operator()
    wanted = {"to": "guardian", "trigger": "risk_seen", "facts": {"risk": "0.11"}}
    told = [use(desks, "why", **wanted), use(desks, "request_escalation", **wanted)]
    receipt = use(desks, "get_receipt", receipt=told[1]["receipt"])
    assert told[1]["missing"] == [
        {"kind": "fact", "source": "yourself: state it as it is", "name": "risk"}
    ]
    assert "0.83" not in json.dumps([told, receipt])
    assert "0.83" in desks.vm.receipt(told[1]["receipt"]).message


@pytest.mark.parametrize("risk", ["0.11", "0.83", "0.99", "high"])
def test_why_tells_nothing_of_whether_a_stated_value_passes(desks, risk):
    desks.operator()
    wanted = {"to": "guardian", "trigger": "risk_seen"}
    told = use(desks, "why", **wanted, facts={"risk": risk})
    assert told == use(desks, "why", **wanted)
    assert told["would_be_granted"] is None
    assert told["missing"][0]["name"] == "risk"


def test_why_says_no_where_more_is_missing_than_facts(desks):
    told = use(desks, "why", to="operator", reason="no")
    assert told["would_be_granted"] is False


def test_why_asks_nothing(desks):
    before = desks.vm.size()
    answer = use(desks, "why", to="operator", reason="look at ticket 4711")
    assert answer["would_be_granted"]
    assert answer["lasts_seconds"] == 3_600
    assert desks.vm.size() == before


def test_a_lease_is_renewed_and_given_back(desks):
    lease = desks.operator()
    desks.wait(minutes=30)
    renewed = use(desks, "renew", lease=lease, reason="look at ticket 4711 again")
    assert renewed["expires_at"] == "2026-01-01T13:30:00.000000Z"
    ended = use(desks, "release", lease=lease)
    assert (ended["status"], ended["profile"]) == ("ended", "observer")


def test_somebody_elses_receipt_is_answered_like_one_that_does_not_exist(desks):
    seq = desks.vm.size()
    desks.operator()
    assert use(desks, "get_receipt", receipt=seq)["receipt"]["seq"] == seq
    for number in (seq, 0, 10_000):
        with pytest.raises(LedgerNotFound, match=r"there is no receipt .* about you"):
            use(desks, "get_receipt", principal="agent:8", receipt=number)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "to: is missing: add it"),
        (
            {"to": "operator", "approved_by": "carol"},
            "approved_by: is not known here: leave",
        ),
        ({"to": "operator", "ttl": "soon"}, "'soon' is not a duration"),
        ({"to": "oprator"}, "'oprator' is not a profile"),
    ],
)
def test_arguments_without_a_form_are_an_error_that_says_so(desks, arguments, message):
    with pytest.raises(InputError, match=message):
        use(desks, "request_escalation", **arguments)


def test_too_many_requests_of_one_agent_do_not_bury_the_approver(desks):
    desks.operator()
    for _ in range(3):
        assert guardian(desks)["status"] == "pending"
    refused = guardian(desks)
    assert (refused["status"], refused["missing"][0]["kind"]) == ("denied", "room")


def test_an_agent_that_asks_and_asks_grows_the_ledger_by_a_bound(desks):
    before = desks.vm.size()
    for _ in range(200):
        refused = use(desks, "request_escalation", to="operator", reason="no")
        assert (refused["status"], refused["missing"][0]["kind"]) == ("denied", "reason")
        assert desks.vm.receipt(refused["receipt"]).unmet[0].code == "reason_short"
    assert use(desks, "request_escalation", to="operator", reason="ticket 4711")["lease"]
    desks.warden.flush(everything=True)
    assert desks.vm.size() - before == OWN_REFUSALS + 2
    told = desks.receipts("auth_failure")[-1]
    assert told.unmet[0].given == f"{200 - OWN_REFUSALS} times"


def test_a_request_that_is_withdrawn_makes_room_and_is_approved_no_more(desks):
    desks.operator()
    first, *_ = [guardian(desks)["request"] for _ in range(3)]
    assert guardian(desks)["status"] == "denied"
    withdrawn = use(desks, "withdraw_request", request=first)
    assert withdrawn["status"] == "withdrawn"
    assert desks.vm.receipt(withdrawn["receipt"]).granted
    assert not desks.approve(first).granted
    assert use(desks, "check_request", request=first)["status"] == "withdrawn"
    assert guardian(desks)["status"] == "pending"
    again = use(desks, "withdraw_request", request=first)
    assert (again["status"], again["missing"][0]["kind"]) == ("denied", "request")


# ---- what a sensor pushed -----------------------------------------------------------------------

LOAD = 'load = { type = "decimal", attested_by = "sensors", max_age = "2m" }'
SENSOR = f"""
[escalations.guardian_on_load]
from    = "operator"
to      = "guardian"
trigger = "load_seen"
ttl     = "15m"
needs.facts.load = {{ min = "0.83" }}

[principals.meter]
key = "{PrivateKey.derive("meter").public}"
"""


@pytest.fixture
def metered(make_desks):
    """A law with a sensor, and an agent that is an operator."""
    desks = make_desks(
        changes=(
            ("[groups]\n", '[groups]\nsensors = ["meter"]\n'),
            ("[facts]\n", f"[facts]\n{LOAD}\n"),
        ),
        extra=SENSOR,
    )
    desks.operator()
    return desks


def push(desks, load):
    key = PrivateKey.derive("meter")
    return desks.vm.push("meter", desks.agent, {"load": load}, key).raise_for_denial()


def test_what_a_sensor_pushed_lets_an_agent_climb_at_once(metered):
    wanted = {"to": "guardian", "trigger": "load_seen"}
    assert use(metered, "why", **wanted)["would_be_granted"] is None
    push(metered, "0.91")
    assert use(metered, "why", **wanted)["would_be_granted"] is True
    taken = use(metered, "request_escalation", **wanted)
    assert (taken["status"], taken["profile"]) == ("granted", "guardian")


def test_an_agent_is_not_told_what_a_sensor_sees_of_it(metered):
    pushed = push(metered, "0.4321")
    wanted = {"to": "guardian", "trigger": "load_seen"}
    told = [use(metered, "why", **wanted), use(metered, "request_escalation", **wanted)]
    told.append(use(metered, "request_escalation", **wanted, facts={"load": "0.99"}))
    assert [one.get("status") for one in told[1:]] == ["denied", "denied"]
    assert told[1]["missing"] == [
        {"kind": "fact", "source": "an attestation by sensors", "name": "load"}
    ]
    told += [use(metered, "get_receipt", receipt=one["receipt"]) for one in told[1:]]
    told.append(use(metered, "get_receipt", receipt=pushed.seq))
    assert "0.4321" not in json.dumps(told)


def test_a_request_that_a_sensor_bears_out_while_it_waits_may_be_taken(metered):
    asked = use(
        metered, "request_escalation", to="guardian", trigger="load_seen", facts={"load": "0.91"}
    )
    assert asked["status"] == "pending"
    push(metered, "0.91")
    checked = use(metered, "check_request", request=asked["request"])
    assert (checked["status"], checked["missing"], checked["poll_after"]) == ("approved", [], None)
    assert checked["next"]["tool"] == "vmstate_activate"
    assert use(metered, "activate", request=asked["request"])["status"] == "granted"

"""`vmstate mcp`: authority itself as an MCP server."""

import json
import sys
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest
from mcp import Client, MCPError, StdioServerParameters
from mcp.client.stdio import stdio_client

from vmstate.expiry import VirtualExpiry
from vmstate.interfaces.mcp.server import AuthorityServer
from vmstate.session import Session

pytestmark = pytest.mark.anyio
VMSTATE = Path(sys.executable).with_name("vmstate")
ERAS = pytest.mark.parametrize("mode", ["auto", "legacy"])
RUNBOOK = {
    "escalate",
    "escalate_on_threat",
    "escalate_to_phoenix",
    "deescalate",
    "get_active_escalations",
    "get_escalation_history",
    "cognitive_context",
    "cognitive_decide",
    "cognitive_invoke_tem",
    "cognitive_audit_trail",
    "guardian_status",
    "guardian_anchor",
    "treasury_create_budget",
    "treasury_debit",
}
OWN = {
    "status",
    "why",
    "request_escalation",
    "check_request",
    "activate",
    "withdraw_request",
    "renew",
    "release",
    "get_receipt",
}


@asynccontextmanager
async def agent_of(desks, mode="auto"):
    expiry = VirtualExpiry(desks.vm)
    made = AuthorityServer(
        desks.warden,
        lambda: desks.principal,
        lambda principal, door: Session(door, expiry, principal, None),
    )
    async with Client(made.server(), mode=mode) as client:
        yield client


@ERAS
async def test_it_has_the_runbooks_tools_and_its_own_and_none_that_decides(desks, mode):
    async with agent_of(desks, mode) as agent:
        listed = (await agent.list_tools()).tools
    assert {tool.name for tool in listed} == RUNBOOK | OWN
    for tool in listed:
        assert tool.description
        assert tool.output_schema["type"] == "object"
        assert tool.input_schema["additionalProperties"] is False


@ERAS
async def test_an_agent_asks_waits_for_a_person_takes_and_gives_back(desks, mode):
    async with agent_of(desks, mode) as agent:

        async def use(name, **arguments):
            answer = await agent.call_tool(name, arguments)
            assert not answer.is_error, answer.content
            return answer.structured_content

        await use("request_escalation", to="operator", reason="look at ticket 4711")
        asked = await use("request_escalation", to="guardian", reason="look at ticket 4711")
        assert asked["status"] == "pending"
        assert desks.approve(asked["request"]).granted
        assert (await use("check_request", request=asked["request"]))["status"] == "approved"
        taken = await use("activate", request=asked["request"])
        assert taken["profile"] == "guardian"
        desks.wait(minutes=15)
        assert (await use("status"))["profile"] == "operator"
        lease = (await use("get_active_escalations"))["escalations"][0]["escalation_id"]
        assert (await use("deescalate", escalation_id=lease))["success"]
        history = (await use("get_escalation_history"))["history"]
        assert [one["type"] for one in history] == [
            "profile_escalation",
            "profile_escalation",
            "profile_deescalation",
            "profile_deescalation",
        ]


async def test_histories_are_about_oneself_and_tell_no_value_that_would_pass(desks):
    desks.operator(principal="agent:8")
    desks.operator()
    async with agent_of(desks) as agent:
        denied = await agent.call_tool(
            "escalate",
            {
                "from_profile": "operator",
                "to_profile": "guardian",
                "escalation_type": "risk_seen",
                "facts": {"risk": "0.11"},
            },
        )
        assert denied.is_error
        said = denied.structured_content
        assert said["error"] == (
            "denied by guardian_on_risk, missing: risk (yourself: state it as it is)"
        )
        history = (await agent.call_tool("get_escalation_history", {})).structured_content
        active = (await agent.call_tool("get_active_escalations", {})).structured_content
        assert {one["principal"] for one in history["history"]} == {desks.agent}
        assert active["active_count"] == 1
        law = await agent.read_resource("vmstate://constitution")
        graph = await agent.read_resource("vmstate://graph")
        receipts = await agent.read_resource("vmstate://receipts")
    everything = json.dumps([said, history, active])
    everything += "".join(one.contents[0].text for one in (law, graph, receipts))
    assert "0.83" not in everything
    assert "sha256:" in law.contents[0].text or "profiles" in law.contents[0].text
    assert '"token"' not in law.contents[0].text
    lines = [json.loads(line) for line in receipts.contents[0].text.splitlines()]
    assert {line["who"]["principal"] for line in lines} == {desks.agent}


async def test_the_law_and_its_drawing_tell_no_length_and_no_amount_that_a_rule_needs(make_desks):
    extra = """
[escalations.guardian_for_money]
from    = "operator"
to      = "guardian"
trigger = "money_spent"
ttl     = "15m"
needs.reason = { min_length = 37 }
cost = { budget = "incidents", amount = 4711 }
"""
    desks = make_desks(extra=extra)
    async with agent_of(desks) as agent:
        law = (await agent.read_resource("vmstate://constitution")).contents[0].text
        graph = (await agent.read_resource("vmstate://graph")).contents[0].text
    rule = json.loads(law)["escalations"]["guardian_for_money"]
    assert (rule["needs"]["reason"], rule["cost"]) == ({}, {"budget": "incidents"})
    assert "money_spent" in graph
    for value in ("37", "4711"):
        assert value not in graph


async def test_a_receipt_is_a_resource_for_whom_it_is_about(desks):
    desks.operator()
    async with agent_of(desks) as agent:
        text = (await agent.read_resource("vmstate://receipts/1")).contents[0].text
        assert json.loads(text)["type"] == "profile_escalation"
        for uri in ("vmstate://receipts/0", "vmstate://receipts/99", "vmstate://receipts/x"):
            with pytest.raises(MCPError, match="there is no re"):
                await agent.read_resource(uri)


async def test_a_prompt_tells_an_agent_how_to_work_here(desks):
    async with agent_of(desks) as agent:
        (prompt,) = (await agent.list_prompts()).prompts
        got = await agent.get_prompt(prompt.name)
        assert "Never guess a value" in got.messages[0].content.text
        with pytest.raises(MCPError, match="there is no prompt 'x'"):
            await agent.get_prompt("x")


async def test_arguments_without_a_form_and_unknown_tools_are_errors(desks):
    async with agent_of(desks) as agent:
        answer = await agent.call_tool("cognitive_context", {"include": ["weather"]})
        assert answer.is_error
        assert answer.content[0].text.startswith("'weather' is no part of the context")
        answer = await agent.call_tool("status", {"who": "carol"})
        assert answer.structured_content["message"] == "who: is not known here: leave it out"
        with pytest.raises(MCPError, match="there is no tool 'approve'"):
            await agent.call_tool("approve", {})


@ERAS
async def test_over_stdio_in_a_drill_the_runbooks_first_steps_pass(tmp_path, mode):
    server = StdioServerParameters(
        command=str(VMSTATE), args=["mcp"], cwd=tmp_path, env={"DRILL_MODE": "1"}
    )
    with (tmp_path / "log").open("w") as log, anyio.fail_after(30):
        async with Client(stdio_client(server, errlog=log), mode=mode) as agent:
            answer = await agent.call_tool(
                "escalate_on_threat",
                {
                    "current_profile": "operator",
                    "threat_id": "T-1",
                    "threat_type": "synthetic_drill",
                    "confidence": 0.92,
                },
            )
            said = answer.structured_content
            assert said["success"], said
            assert said["to_profile"] == "guardian"
            assert said["drill"].startswith("DRILL/")
    assert (tmp_path / "log").read_text(encoding="utf-8") == ""

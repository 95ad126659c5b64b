"""What comes beside a call's arguments, where people approve these."""

import mcp_types as types
import pytest

pytestmark = pytest.mark.anyio


async def test_of_a_call_that_was_approved_nothing_else_goes_to_the_server(desks):
    desks.operator()
    asked = types.CallToolRequestParams(name="wipe", arguments={"disk": "a"})
    unseen = {"note/unseen": "and disk b"}
    async with desks.agent_at() as agent:
        for more in ({"request_state": "b"}, {"input_responses": {}}):
            with_more = types.CallToolRequest(params=asked.model_copy(update=more))
            told = await agent.session.send_request(with_more, types.CallToolResult)
            assert told.is_error
            assert told.content[0].text == (
                "wipe came with answers or a state, needs to come with its arguments alone: "
                "each call is approved by them"
            )
        assert desks.receipts("escalation_request") == []
        pending = (await agent.call_tool("wipe", {"disk": "a"})).structured_content
        desks.approve(pending["request"])
        assert not (await agent.call_tool("wipe", {"disk": "a"}, meta=unseen)).is_error
        assert not (await agent.call_tool("change", {}, meta=unseen)).is_error
    wiped, changed = desks.behind.beside
    assert "note/unseen" not in wiped
    assert changed["note/unseen"] == "and disk b"

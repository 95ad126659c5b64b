"""A server behind the gate that lives and does not answer: a call has an end all the same."""

import anyio
import pytest

pytestmark = pytest.mark.anyio


async def test_a_call_without_an_answer_is_called_off_and_said_to_be(desks):
    desks.operator()
    async with desks.agent_at() as agent:
        desks.gate.upstream.answer_seconds = 0.2
        with anyio.fail_after(5):
            answer = await agent.call_tool("change_slow", {})
        assert answer.is_error
        assert answer.structured_content == {
            "error": "UpstreamSilent",
            "message": "the server behind the gate did not answer in 0.2 s: called off",
        }
        desks.gate.upstream.answer_seconds = 5.0
        assert not (await agent.call_tool("look", {})).is_error
    assert desks.behind.cancelled == 1


async def test_who_says_how_far_they_are_may_take_longer(desks):
    desks.operator()
    desks.behind.pause = 0.2
    async with desks.agent_at() as agent:
        desks.gate.upstream.answer_seconds = 0.7
        with anyio.fail_after(10):
            assert not (await agent.call_tool("change", {"steps": 5})).is_error

"""Calls that are approved one by one: what is asked, what approvers read, what goes through."""

import hashlib

import pytest

from vmstate.ledger.audit import audit_ledger

pytestmark = pytest.mark.anyio
ROOM = "a request of yours that is activated, withdrawn or over"


async def test_each_call_of_a_tool_may_need_a_signature_for_exactly_that_call(desks):
    desks.operator()
    async with desks.agent_at() as agent:
        pending = (await agent.call_tool("wipe", {"disk": "a"})).structured_content
        assert pending["status"] == "pending"
        assert pending["missing"] == [{"kind": "approval", "source": "one of approvers"}]
        asked = {"request": pending["request"]}
        assert pending["next"] == {"tool": "vmstate_check_request", "arguments": asked}
        shown = desks.vm.request(pending["request"])
        assert shown.receipt == pending["receipt"]
        assert shown.request.facts["arguments"] == '{"disk":"a"}'
        waiting = (await agent.call_tool("wipe", {"disk": "a"})).structured_content
        assert waiting == pending
        desks.approve(pending["request"])
        other = await agent.call_tool("wipe", {"disk": "b"})
        assert other.structured_content["status"] == "pending"
        assert not (await agent.call_tool("wipe", {"disk": "a"})).is_error
        again = (await agent.call_tool("wipe", {"disk": "a"})).structured_content
        assert again["status"] == "pending"
        assert again["request"] not in {pending["request"], other.structured_content["request"]}
    assert desks.behind.seen == [("wipe", {"disk": "a"})]
    (made,) = desks.receipts("tool_call")
    assert made.fields["proofs"]["request"] == pending["request"]
    assert audit_ledger(desks.vm.ledger).findings == ()


async def test_arguments_too_long_to_be_read_are_never_approved(desks):
    desks.operator()
    async with desks.agent_at() as agent:
        refused = (await agent.call_tool("wipe", {"disk": "a" * 1_014})).structured_content
        assert refused["missing"][0]["kind"] == "form"
        assert "request" not in refused
        assert desks.vm.receipt(refused["receipt"]).message.endswith(
            "wipe with more can't be called, "
            "needs at most 1,024 bytes of arguments, which its approvers read"
        )
        fits = (await agent.call_tool("wipe", {"disk": "a" * 1_013})).structured_content
        assert fits["status"] == "pending"
    assert desks.behind.seen == []


async def test_approvers_read_letters_as_they_are_and_what_has_no_shape_escaped(desks):
    desks.operator()
    disk = {"disk": "\u5199\u00e9\U0001f5d1 \u202e\x00\n"}
    async with desks.agent_at() as agent:
        pending = (await agent.call_tool("wipe", disk)).structured_content
        request = desks.vm.request(pending["request"]).request
        shown = '{"disk":"\u5199\u00e9\U0001f5d1 \\u202e\\u0000\\n"}'
        assert request.facts["arguments"] == shown
        desks.approve(request.id)
        asked = {"request": request.id}
        told = (await agent.call_tool("vmstate_check_request", asked)).structured_content
        assert told["next"] == {"tool": "wipe", "arguments": disk}
        done = await agent.call_tool("wipe", disk)
        assert not done.is_error
    (made,) = desks.receipts("tool_call")
    escaped = '{"disk":"\\u5199\\u00e9\\ud83d\\uddd1 \\u202e\\u0000\\n"}'
    text = f"{done.meta['vmstate']['salt']}\n{escaped}"
    salted = f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"
    assert made.fields["what"]["detail"]["arguments"] == salted


async def test_an_agent_may_ask_how_the_request_of_a_single_call_stands(desks):
    desks.operator()
    async with desks.agent_at() as agent:

        async def check():
            return (await agent.call_tool("vmstate_check_request", asked)).structured_content

        pending = (await agent.call_tool("wipe", {"disk": "a"})).structured_content
        asked = {"request": pending["request"]}
        told = await check()
        assert (told["status"], told["next"]["tool"]) == ("pending", "vmstate_check_request")
        desks.approve(pending["request"])
        told = await check()
        assert told["status"] == "approved"
        assert told["next"] == {"tool": "wipe", "arguments": {"disk": "a"}}
        activated = await agent.call_tool("vmstate_activate", asked)
        assert activated.is_error
        assert desks.receipts("auth_failure")[-1].unmet[0].message == (
            "the request is for a call of wipe, needs a climb"
        )
        assert not (await agent.call_tool("wipe", {"disk": "a"})).is_error
        assert (await check())["status"] == "activated"


async def test_a_model_that_reads_text_is_told_that_a_person_was_asked(desks):
    desks.operator()
    async with desks.agent_at() as agent:
        answer = await agent.call_tool("wipe", {"disk": "a"})
    request = answer.structured_content["request"]
    assert answer.content[0].text == (
        f"Pending: a person was asked (request {request}). Call the same again after 5 s."
    )


async def test_so_many_single_calls_wait_and_no_more(desks):
    desks.operator()
    async with desks.agent_at() as agent:
        for disk in "abc":
            answer = await agent.call_tool("wipe", {"disk": disk})
            assert answer.structured_content["status"] == "pending"
        answer = await agent.call_tool("wipe", {"disk": "d"})
    assert answer.is_error
    assert "status" not in answer.structured_content
    assert {"kind": "room", "source": ROOM} in answer.structured_content["missing"]


async def test_a_single_call_that_was_a_mistake_is_withdrawn_and_makes_room(desks):
    desks.operator()
    async with desks.agent_at() as agent:

        async def wipe(disk):
            return (await agent.call_tool("wipe", {"disk": disk})).structured_content

        requests = [(await wipe(disk))["request"] for disk in "abc"]
        asked = {"request": requests[0]}
        assert "request" not in await wipe("d")
        withdrawn = await agent.call_tool("vmstate_withdraw_request", asked)
        assert withdrawn.structured_content["status"] == "withdrawn"
        assert (await wipe("d"))["status"] == "pending"

"""An agent at the gate: what it may call, what it is told, and what stands on record."""

from contextlib import asynccontextmanager

import anyio
import pytest
from mcp import MCPError

from vmstate.interfaces.mcp.front import Tokens
from vmstate.keys import PrivateKey, token_digest

pytestmark = pytest.mark.anyio
TOKEN = "swordfish-swordfish-swordfish"  # noqa: S105 -- a stand-in
ERAS = pytest.mark.parametrize("mode", ["auto", "legacy"])


def names(listed):
    return [tool.name for tool in listed.tools if not tool.name.startswith("vmstate_")]


@ERAS
async def test_an_agent_is_refused_asks_is_granted_calls_and_loses_it_again(desks, mode):
    async with desks.agent_at(mode=mode) as agent:
        refused = await agent.call_tool("change", {"to": "blue"})
        assert refused.is_error
        told = refused.structured_content
        assert told == {
            "rule": 'tools.desk.tools."change*"',
            "profile_now": "observer",
            "profile_needed": "operator",
            "missing": [{"kind": "profile", "source": "vmstate_request_escalation"}],
            "next": {
                "tool": "vmstate_request_escalation",
                "arguments": {"to": "operator", "trigger": "operator_request"},
            },
            "receipt": 1,
        }
        asked = {**told["next"]["arguments"], "reason": "paint ticket 4711 blue", "ttl": "5m"}
        granted = await agent.call_tool(told["next"]["tool"], asked)
        assert granted.structured_content["status"] == "granted"
        done = await agent.call_tool("change", {"to": "blue"})
        assert not done.is_error
        assert done.meta["vmstate"]["lease"] == granted.structured_content["lease"]
        desks.wait(minutes=5)
        again = await agent.call_tool("change", {"to": "blue"})
        assert again.is_error
    assert desks.behind.seen == [("change", {"to": "blue"})]
    types = [receipt.type for receipt in desks.receipts()]
    assert (
        types
        == [
            "constitution_loaded",
            "auth_failure",
            "profile_escalation",
            "tool_call",
            "profile_deescalation",
            "auth_failure",
        ][: len(types)]
    )


async def test_what_is_not_listed_is_denied_and_never_reaches_the_server(desks):
    desks.operator()
    async with desks.agent_at() as agent:
        refused = await agent.call_tool("secret", {})
        assert refused.structured_content["rule"] == "tools.desk.tools"
        assert refused.structured_content["missing"] == [
            {"kind": "listing", "source": "[tools] of the constitution"}
        ]
        assert refused.structured_content["next"] is None
    assert desks.behind.seen == []


@ERAS
async def test_a_list_shows_what_may_be_called_now_and_says_for_how_long(desks, mode):
    async with desks.agent_at(mode=mode) as agent:
        listed = await agent.list_tools()
        assert names(listed) == ["look"]
        assert listed.ttl_ms == 0
        desks.operator()
        listed = await agent.list_tools(cache_mode="refresh")
        assert names(listed) == ["look", "change", "change_slow", "change_long", "wipe"]
        assert listed.ttl_ms == (3_600_000 if mode == "auto" else 0)


async def test_annotated_a_list_shows_everything_with_what_it_needs(make_desks):
    desks = make_desks("annotate")
    async with desks.agent_at() as agent:
        listed = await agent.list_tools()
        said = {tool.name: tool.description for tool in listed.tools}
        assert names(listed) == ["look", "change", "change_slow", "change_long", "wipe"]
        assert said["look"] == "LOOK"
        needs = "[needs operator; vmstate_request_escalation asks for it] CHANGE"
        assert said["change"] == needs
        single = "each call takes an approval: call it; a person is asked] WIPE"
        climb = "[needs operator; vmstate_request_escalation asks for it; then "
        assert said["wipe"] == f"{climb}{single}"
        desks.operator()
        said = {t.name: t.description for t in (await agent.list_tools(cache_mode="refresh")).tools}
        assert (said["change"], said["wipe"]) == ("CHANGE", f"[{single}")


async def test_vmstates_own_tools_are_listed_and_none_of_them_decides(desks):
    async with desks.agent_at() as agent:
        own = {t.name for t in (await agent.list_tools()).tools if t.name.startswith("vmstate_")}
    assert own == {
        f"vmstate_{name}"
        for name in (
            "status",
            "why",
            "request_escalation",
            "check_request",
            "activate",
            "withdraw_request",
            "renew",
            "release",
            "get_receipt",
        )
    }


@asynccontextmanager
async def told(desks, mode):
    """An agent that has seen the list, and how it waits to be told that the list is another."""
    send, heard = anyio.create_memory_object_stream(100)

    async def hear(message):
        if type(message).__name__ == "ToolListChangedNotification":
            await send.send(message)

    async with (
        send,
        heard,
        desks.agent_at(mode=mode, watching=True, message_handler=hear) as agent,
    ):
        assert names(await agent.list_tools()) == ["look"]
        if mode == "legacy":
            yield agent, heard.receive
            assert heard.statistics().current_buffer_used == 0
        else:
            async with agent.listen(tools_list_changed=True) as events:
                yield agent, aiter(events).__anext__


@ERAS
async def test_a_client_is_told_when_a_lease_starts_and_when_it_ends(desks, mode):
    async with told(desks, mode) as (agent, hear):
        for _ in range(2):
            desks.operator()
            with anyio.fail_after(5):
                await hear()
            assert "change" in names(await agent.list_tools(cache_mode="refresh"))
            desks.wait(hours=1)
            with anyio.fail_after(5):
                await hear()
            assert names(await agent.list_tools(cache_mode="refresh")) == ["look"]


@ERAS
async def test_an_authority_too_short_to_be_noticed_is_told_of_where_a_list_showed_it(desks, mode):
    async with told(desks, mode) as (agent, hear):
        for _ in range(5):  # between two looks of the watch, wherever these fall
            desks.operator()
            assert "change" in names(await agent.list_tools(cache_mode="refresh"))
            desks.wait(hours=1)
            with anyio.fail_after(5):
                await hear()
                while desks.gate._held[desks.agent] != "observer":
                    await hear()


@ERAS
async def test_a_running_call_is_stopped_when_its_lease_ends(desks, mode):
    desks.operator()
    async with desks.agent_at(mode=mode, watching=True) as agent:
        answers = []

        async def call():
            answers.append(await agent.call_tool("change_slow", {}))

        with anyio.fail_after(5):
            async with anyio.create_task_group() as group:
                group.start_soon(call)
                await desks.behind.running.wait()
                desks.wait(hours=1)
        assert answers[0].is_error
        assert answers[0].structured_content["missing"][0] == {
            "kind": "profile",
            "source": "the authority that ended while the call ran",
        }
    assert desks.behind.cancelled == 1
    denial = desks.receipts("auth_failure")[-1]
    began = desks.receipts("tool_call")[-1]
    assert denial.unmet[0].code == "call_stopped"
    assert denial.unmet[0].message == (
        f"stopped: change_slow, it began under receipt {began.seq}, needs authority to its end"
    )


@pytest.mark.parametrize("how", ["deadline", "release"])
async def test_what_was_counted_under_a_lease_is_on_record_once_it_has_ended(desks, how):
    lease = desks.operator()
    async with desks.agent_at(watching=True) as agent:
        for _ in range(3):
            assert not (await agent.call_tool("look", {})).is_error
        assert desks.receipts("tool_call") == []
        if how == "deadline":
            desks.wait(hours=1)
        else:
            await agent.call_tool("vmstate_release", {"lease": lease})
        with anyio.fail_after(5):
            while not desks.receipts("tool_call"):
                await anyio.sleep(0.01)
    (counted,) = desks.receipts("tool_call")
    assert counted.fields["what"]["detail"]["count"] == 3


async def test_a_call_whose_rule_lets_it_finish_finishes(desks):
    desks.operator()
    async with desks.agent_at(watching=True) as agent:
        answers = []

        async def call():
            answers.append(await agent.call_tool("change_long", {}))

        with anyio.fail_after(5):
            async with anyio.create_task_group() as group:
                group.start_soon(call)
                await desks.behind.running.wait()
                desks.wait(hours=1)
                await anyio.sleep(0.06)  # three looks of the watch, which must leave it alone
                desks.behind.go_on.set()
    assert not answers[0].is_error


async def test_a_revocation_stops_a_running_call(desks):
    lease = desks.operator()
    async with desks.agent_at(watching=True) as agent:
        answers = []

        async def call():
            answers.append(await agent.call_tool("change_slow", {}))

        with anyio.fail_after(5):
            async with anyio.create_task_group() as group:
                group.start_soon(call)
                await desks.behind.running.wait()
                receipt = desks.vm.revoke("carol", lease, key=PrivateKey.derive("carol"))
                assert receipt.granted
    assert answers[0].is_error


@ERAS
async def test_resources_and_prompts_are_gated_like_tools(desks, mode):
    async with desks.agent_at(mode=mode) as agent:
        listed = await agent.list_resources()
        assert [one.uri for one in listed.resources] == ["note:///open/a"]
        templates = (await agent.list_resource_templates()).resource_templates
        assert [one.uri_template for one in templates] == ["note:///open/{name}"]
        assert (await agent.read_resource("note:///open/a")).contents[0].text == "written"
        for uri in ("note:///b", "other:///c", "note:///open/../b"):
            with pytest.raises(MCPError) as caught:
                await agent.read_resource(uri)
            assert caught.value.error.code == -32050
            assert caught.value.error.data["profile_now"] == "observer"
        assert (await agent.list_prompts()).prompts == []
        with pytest.raises(MCPError, match="needs operator"):
            await agent.get_prompt("hello")
        desks.operator()
        assert (await agent.get_prompt("hello")).messages == []
    assert desks.behind.seen == [("note:///open/a", None), ("hello", None)]


async def test_a_hundred_calls_at_once_lose_nothing_and_keep_their_order(desks):
    desks.operator()
    async with desks.agent_at() as agent:
        answers = {}

        async def call(number):
            answers[number] = await agent.call_tool("change", {"number": number})

        async with anyio.create_task_group() as group:
            for number in range(100):
                group.start_soon(call, number)
    assert [arguments["number"] for _, arguments in desks.behind.seen] == list(range(100))
    assert not any(answer.is_error for answer in answers.values())
    receipts = [answers[number].meta["vmstate"]["receipt"] for number in range(100)]
    assert receipts == sorted(receipts)
    assert len(desks.receipts("tool_call")) == 100


async def test_no_more_than_a_thousand_calls_of_one_agent_are_under_way(desks):
    async with desks.agent_at() as agent:
        desks.operator()
        asked, answers = ("change_long", {}), []

        async def call():
            answers.append(await agent.call_tool(*asked))

        async with anyio.create_task_group() as group:
            for _ in range(1_001):
                group.start_soon(call)
            with anyio.fail_after(30):
                while not answers:
                    await anyio.sleep(0.01)
            desks.behind.go_on.set()
        said = "1,000 calls of yours are under way: wait until one is answered"
        assert answers[0].content[0].text.endswith(said)
        assert len(desks.behind.seen) == 1_000
        assert not (await agent.call_tool(*asked)).is_error


@pytest.mark.parametrize("how", ["finish", "deadline", "lock"])
async def test_the_call_that_spends_the_last_use_has_what_was_left_of_its_lease(desks, how):
    once = desks.vm.escalate(desks.agent, "operator", trigger="for_once", reason="ticket 4711")
    assert once.granted
    async with desks.agent_at(watching=True) as agent:
        answers = []

        async def call():
            answers.append(await agent.call_tool("change_slow", {}))

        with anyio.fail_after(5):
            async with anyio.create_task_group() as group:
                group.start_soon(call)
                await desks.behind.running.wait()
                assert (await agent.call_tool("change", {})).is_error
                await anyio.sleep(0.06)  # three looks of the watch, which must leave it alone
                assert answers == []
                if how == "deadline":
                    desks.wait(hours=1)
                elif how == "lock":
                    key = PrivateKey.derive("carol")
                    assert desks.vm.lock("carol", principal=desks.agent, key=key).granted
                else:
                    desks.behind.go_on.set()
    assert answers[0].is_error is (how != "finish")


async def test_a_law_that_is_amended_rules_from_the_next_call_on(desks):
    async with desks.agent_at() as agent:
        assert not (await agent.call_tool("look", {})).is_error
        text = desks.vm.constitution.toml.decode()
        stricter = text.replace(
            'tools.look         = { profile = "observer" }',
            'tools.look         = { profile = "guardian" }',
        )
        assert stricter != text
        desks.amend(stricter)
        refused = await agent.call_tool("look", {})
        assert refused.structured_content["profile_needed"] == "guardian"


async def test_the_progress_of_a_call_reaches_the_agent(desks):
    desks.operator()
    heard = []

    async def hear(progress, total, message):
        heard.append((progress, total, message))

    async with desks.agent_at(mode="legacy") as agent:
        await agent.call_tool("change", {"steps": 2}, progress_callback=hear)
    assert heard == [(1.0, 2.0, "step 1"), (2.0, 2.0, "step 2")]


async def test_a_list_that_the_server_changes_is_told_to_its_agents(desks):
    async with (
        desks.agent_at(target=None) as agent,
        agent.listen(tools_list_changed=True) as events,
    ):
        await desks.gate.upstream_changed("tools")
        with anyio.fail_after(5):
            event = await anext(aiter(events))
    assert type(event).__name__ == "ToolsListChanged", event


async def test_a_token_that_an_amendment_brings_lets_in_at_once_and_one_it_takes_no_more(desks):
    tokens = Tokens(desks.warden)
    fresh = "dogfish-dogfish-dogfish-dogfish"
    assert (await tokens.verify_token(TOKEN)).subject == "agent:web"
    assert await tokens.verify_token(fresh) is None
    text = desks.vm.constitution.toml.decode()
    desks.amend(text.replace(token_digest(TOKEN), token_digest(fresh)))
    assert await tokens.verify_token(TOKEN) is None
    assert (await tokens.verify_token(fresh)).subject == "agent:web"

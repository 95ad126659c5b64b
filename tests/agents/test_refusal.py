"""What an agent is told when it may not: words for everything, and no way that leads nowhere."""

from vmstate.constitution.unmet import CODES, Unmet
from vmstate.interfaces.mcp.own import OWN, Caller
from vmstate.interfaces.mcp.refusal import name_missing
from vmstate.keys import PrivateKey

TOOLS = {tool.name: tool for tool in OWN}


def test_each_reason_has_a_kind_and_a_source_in_words(desks):
    document, wordless = desks.vm.constitution.document, []
    for code in sorted(CODES):
        unmet = Unmet("the.rule", code, "0.83", "0.11", "state 0.83")
        (told,) = name_missing([unmet], document)
        if "_" in told["kind"] or told["kind"] == code or told["source"] == "the.rule":
            wordless.append(code)
        if code not in {"approval_missing", "tool_unapproved"}:  # which name who may approve
            assert "0.83" not in str(told)
    assert wordless == []


def test_under_a_lock_no_call_is_named_that_the_lock_denies_too(desks):
    wanted = {"to": "operator", "reason": "look at ticket 4711"}
    caller = Caller(desks.warden, desks.agent, "vmstate_")
    key = PrivateKey.derive("carol")
    assert desks.vm.lock("carol", principal=desks.agent, key=key).granted
    body = desks.warden.judge(desks.agent, "tool", "change", None).refusal.body()
    assert "lock" in {one["kind"] for one in body["missing"]}
    assert body["next"] is None
    assert TOOLS["why"].call(caller, wanted).next is None
    (lock,) = desks.vm.locks()
    assert desks.vm.unlock("carol", lock.id, key=key).granted
    body = desks.warden.judge(desks.agent, "tool", "change", None).refusal.body()
    assert body["next"]["tool"] == "vmstate_request_escalation"
    assert TOOLS["why"].call(caller, wanted).next.tool == "vmstate_request_escalation"

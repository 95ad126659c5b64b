"""What a gate writes: each call that needs a lease, and of the others a count."""

import hashlib

import anyio
import anyio.from_thread
import pytest

from vmstate.errors import LedgerUnavailable
from vmstate.interfaces.mcp import warden as module
from vmstate.interfaces.mcp.warden import Warden
from vmstate.ledger.audit import audit_ledger


def call(desks, name="look", arguments=None, principal=None):
    return desks.warden.judge(principal or desks.agent, "tool", name, arguments)


def details(desks, type_):
    return [receipt.fields["what"]["detail"] for receipt in desks.receipts(type_)]


def test_calls_that_everybody_may_make_are_counted_and_written_together(desks):
    for number in range(500):
        assert call(desks, arguments={"n": number}).allowed
    assert desks.receipts("tool_call") == []
    desks.warden.flush()
    assert desks.receipts("tool_call") == []
    desks.warden.flush(everything=True)
    (detail,) = details(desks, "tool_call")
    assert (detail["name"], detail["count"]) == ("look", 500)
    assert audit_ledger(desks.vm.ledger).findings == ()


def test_a_count_is_written_once_it_is_old_or_large(desks, monkeypatch):
    monkeypatch.setattr(module, "FOLD_CALLS", 3)
    for _ in range(3):
        call(desks)
    desks.warden.flush()
    call(desks)
    monkeypatch.setattr(module, "FOLD_FOR", 0.0)
    desks.warden.flush()
    assert [detail["count"] for detail in details(desks, "tool_call")] == [3, 1]


def test_what_was_counted_of_somebody_is_written_for_them_alone(desks):
    call(desks)
    call(desks, principal="agent:8")
    call(desks, "change")
    call(desks, "change")
    desks.warden.flush(of=[desks.agent])
    (detail,) = details(desks, "tool_call")
    assert detail["count"] == 1
    assert len(desks.receipts("auth_failure")) == 1


def test_the_digest_of_a_count_is_over_the_digests_of_its_calls_in_order(desks):
    salts = [call(desks, arguments={"n": number}).salt for number in range(3)]
    desks.warden.flush(everything=True)
    rolled = b""
    for number, salt in enumerate(salts):
        text = f'{salt}\n{{"n":{number}}}'
        one = f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"
        rolled = hashlib.sha256(rolled + one.encode()).digest()
    assert details(desks, "tool_call")[0]["arguments"] == f"sha256:{rolled.hex()}"


def test_a_call_that_needs_a_lease_is_on_record_before_it_is_made(desks):
    lease = desks.operator()
    judged = call(desks, "change", {"to": "blue"})
    receipt = desks.vm.receipt(judged.receipt)
    assert (receipt.type, receipt.lease) == ("tool_call", lease)
    text = f'{judged.salt}\n{{"to":"blue"}}'
    salted = f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"
    assert receipt.fields["what"]["detail"]["arguments"] == salted
    assert "blue" not in receipt.body.decode()


def test_two_equal_calls_have_two_digests(desks):
    desks.operator()
    first, second = (call(desks, "change", {"to": "blue"}) for _ in "ab")
    assert first.salt != second.salt


def test_a_refusal_that_repeats_is_counted_under_the_receipt_of_the_first(desks):
    first = call(desks, "change")
    for _ in range(40):
        judged = call(desks, "change")
        assert not judged.allowed
        assert judged.receipt == first.receipt
        assert judged.refusal.body()["receipt"] == first.receipt
    assert len(desks.receipts("auth_failure")) == 1
    desks.warden.flush(everything=True)
    told = desks.receipts("auth_failure")[-1]
    assert told.unmet[0].code == "tool_repeated"
    assert told.message.startswith("refused 40 times more, since ")


def test_a_refusal_after_a_call_was_allowed_is_news(desks):
    call(desks, "change")
    desks.operator(ttl=None)
    assert call(desks, "change").allowed
    desks.wait(hours=1)
    assert not call(desks, "change").allowed
    assert len(desks.receipts("auth_failure")) == 2


def test_a_flood_of_different_refusals_grows_the_ledger_by_a_bound_and_others_get_theirs(desks):
    call(desks, "change")
    for number in range(500):
        refused = call(desks, f"invented_{number}")
        assert not refused.allowed
        assert desks.vm.receipt(refused.refusal.receipt).unmet[0].code == "tool_unlisted"
    told = desks.vm.receipt(call(desks, "change_long").refusal.receipt)
    assert told.unmet[0].code == "tool_out_of_reach"
    refused = call(desks, "change", principal="agent:8")
    assert desks.vm.receipt(refused.receipt).fields["who"]["principal"] == "agent:8"
    desks.warden.flush(everything=True)
    assert len(desks.receipts("auth_failure")) <= module.OWN_REFUSALS + 2
    many = desks.receipts("auth_failure")[-1].fields["what"]["detail"]
    assert (many["name"], many["count"]) == ("*", 502 - module.OWN_REFUSALS)


def test_names_below_a_pattern_that_everybody_may_call_are_one_count(desks):
    for number in range(50):
        assert desks.warden.judge(desks.agent, "resource", f"note:///open/{number}", None).allowed
    desks.warden.flush(everything=True)
    (detail,) = details(desks, "tool_call")
    assert (detail["name"], detail["count"]) == ("note:///open/*", 50)


def test_without_a_ledger_nothing_that_needs_a_lease_is_allowed(desks):
    desks.operator()
    key = desks.vm.ledger.path.with_name(f"{desks.vm.ledger.path.name}.key")
    desks.vm.close()
    key.unlink()
    with pytest.raises(LedgerUnavailable):
        call(desks, "change")


def test_what_can_not_be_written_is_counted_on(desks, monkeypatch):
    call(desks)

    def full(_command):
        raise LedgerUnavailable("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(desks.vm, "submit", full)
        with pytest.raises(LedgerUnavailable):
            desks.warden.flush(everything=True)
        with pytest.raises(LedgerUnavailable):
            call(desks)  # no more is let through on a count that may never be written
    assert call(desks).receipt == desks.vm.size() - 1  # each for itself, until the count is written
    desks.warden.flush(everything=True)
    assert call(desks).receipt is None
    desks.warden.flush(everything=True)
    counts = [detail.get("count") for detail in details(desks, "tool_call")]
    assert counts == [None, 1, 1]
    assert audit_ledger(desks.vm.ledger).findings == ()


@pytest.mark.parametrize(
    ("name", "arguments", "given"),
    [
        ("look\x00", {}, "look\\x00"),
        ("look\u202e", {}, "look\\u202e"),
        ("look\nlook", {}, "look\\nlook"),
        ("look" * 100, {}, "look" * 50),
        ("look", {"text": "x" * 2_000_000}, "look with 2,000,011 bytes of arguments"),
    ],
)
def test_a_call_without_a_form_is_refused_on_the_record(desks, name, arguments, given):
    judged = call(desks, name, arguments)
    assert not judged.allowed
    receipt = desks.vm.receipt(judged.receipt)
    assert receipt.unmet[0].code == "tool_malformed"
    assert receipt.unmet[0].given == given
    assert judged.refusal.missing[0]["kind"] == "form"


def test_somebody_unknown_is_refused_on_the_record(desks):
    judged = call(desks, principal="mallory")
    assert not judged.allowed
    assert desks.vm.receipt(judged.receipt).unmet[0].code == "unknown_principal"
    assert judged.refusal.profile_now == "observer"


@pytest.mark.anyio
async def test_counts_that_can_not_be_written_stop_no_call_that_runs(desks, monkeypatch):
    monkeypatch.setattr("vmstate.interfaces.mcp.gate.FLUSH_EVERY", 0.0)
    tried = anyio.Event()

    def full():
        tried.set()
        raise LedgerUnavailable("the disk is full")

    monkeypatch.setattr(Warden, "flush", lambda _warden, **_of: anyio.from_thread.run_sync(full))
    desks.operator()
    async with desks.agent_at(watching=True) as agent:
        answers = []

        async def call():
            answers.append(await agent.call_tool("change_slow", {}))

        with anyio.fail_after(5):
            async with anyio.create_task_group() as group:
                group.start_soon(call)
                await desks.behind.running.wait()
                await tried.wait()
                await anyio.sleep(0.06)  # three looks of the watch, which must leave it alone
                desks.behind.go_on.set()
    assert not answers[0].is_error

"""A call of a tool behind a gate, decided before it is made."""

from datetime import timedelta

import pytest

from vmstate.constitution.loading import read_constitution
from vmstate.constitution.unmet import Unmet
from vmstate.decisions.command import Call, Tally, make_command
from vmstate.decisions.statements import prepare_call
from vmstate.errors import InputError
from vmstate.ledger.audit import audit_ledger
from vmstate.ledger.transaction import loading_entry
from vmstate.signing import new_nonce

ARGUMENTS = f"sha256:{'a' * 64}"
OVER = ("request_used", "request_over", "tool_unapproved")
SERVERS = """
[tools.git]
approvers = ["guardians"]
tools."git_status" = { profile = "observer" }
tools."git_*"      = { profile = "operator" }
tools."git_push"   = { profile = "operator", each_call = true }
tools."git_purge*" = { profile = "phoenix" }
resources."file:///srv/*" = { profile = "observer" }
prompts."*"               = { profile = "guardian" }
"""


@pytest.fixture
def world(make_world):
    return make_world(extra=SERVERS)


def called(world, name, principal=None, **fields):
    asked = {"principal": principal or world.agent, "server": "git", "arguments": ARGUMENTS}
    return make_command(Call, {**asked, "name": name, **fields})


def call(world, name, principal=None, **fields):
    return world.vm.submit(called(world, name, principal, **fields))


def tally(world, name, **fields):
    asked = {"principal": world.agent, "server": "git", "name": name, "arguments": ARGUMENTS}
    asked |= {"count": 3, "since": "2026-01-01T12:00:00.000000Z"}
    return world.vm.submit(make_command(Tally, {**asked, **fields}))


def test_what_everybody_may_call_is_called_from_the_baseline_on_the_record(world):
    receipt = call(world, "git_status")
    assert (receipt.type, receipt.outcome) == ("tool_call", "granted")
    assert receipt.rule == 'tools.git.tools."git_status"'
    said = receipt.fields
    assert said["scroll"] == "cognitive"
    assert said["what"]["lease"] is None
    assert said["what"]["detail"] == {
        "server": "git",
        "kind": "tool",
        "name": "git_status",
        "arguments": ARGUMENTS,
    }


def test_a_call_out_of_reach_is_denied_and_told_the_way_up(world):
    receipt = call(world, "git_commit")
    assert world.denied(receipt, "tool_out_of_reach")
    assert receipt.message == "git_commit requires operator, the present profile is observer"
    assert receipt.unmet[0].remedy == "climb first: operator on operator_request"
    assert receipt.fields["what"]["detail"]["name"] == "git_commit"


def test_a_lease_allows_the_call_until_its_end_and_the_receipt_names_it(world):
    lease = world.operator(world.agent).lease
    assert call(world, "git_commit").fields["what"]["lease"] == lease
    world.wait(hours=1)
    assert world.denied(call(world, "git_commit"), "tool_out_of_reach")


def test_the_exact_name_decides_and_else_the_pattern_that_says_most(world):
    world.operator(world.agent)
    assert call(world, "git_status").rule == 'tools.git.tools."git_status"'
    assert call(world, "git_statusx").rule == 'tools.git.tools."git_*"'
    assert call(world, "git_purge_all").rule == 'tools.git.tools."git_purge*"'


@pytest.mark.parametrize(
    ("fields", "code", "message"),
    [
        ({"name": "rm"}, "tool_unlisted", "rm is not listed in tools.git.tools"),
        (
            {"name": "file:///srv/../etc/passwd", "kind": "resource"},
            "tool_unlisted",
            "file:///srv/../etc/passwd is not listed in tools.git.resources",
        ),
        (
            {"name": "file:///srv/%2e%2e/etc", "kind": "resource"},
            "tool_unlisted",
            "file:///srv/%2e%2e/etc is not listed in tools.git.resources",
        ),
        ({"name": "GIT_status"}, "tool_unlisted", "GIT_status is not listed in tools.git.tools"),
        (
            {"name": "git_status", "server": "gti"},
            "server_unknown",
            "gti is no server under [tools] of this constitution",
        ),
    ],
)
def test_what_is_not_listed_is_denied(world, fields, code, message):
    receipt = call(world, **fields)
    assert world.denied(receipt, code)
    assert receipt.message == message


def test_a_resource_below_a_listed_address_may_be_read(world):
    assert call(world, "file:///srv/a/b.txt", kind="resource").granted


def test_somebody_unknown_may_call_nothing(world):
    receipt = call(world, "git_status", principal="mallory")
    assert world.denied(receipt, "unknown_principal")


def push(world, request=None, **fields):
    """Call what takes an approval of its own; the first time its request is made up."""
    command = called(world, "git_push", reason="release 1.2", **fields)
    if request is None:
        law, origin = world.vm.constitution, world.vm.ledger.origin
        request = prepare_call(law, origin, command, nonce=new_nonce())
    return world.vm.submit(command.model_copy(update={"request": request})), request


def test_a_call_that_takes_an_approval_of_its_own_leaves_its_request_open(world):
    assert world.denied(push(world)[0], "tool_out_of_reach")
    world.operator(world.agent)
    assert world.denied(call(world, "git_push"), "tool_unapproved")
    receipt, request = push(world)
    assert (receipt.type, receipt.outcome) == ("request", "recorded")
    assert receipt.message == "each call needs its own approval by one of guardians, has none"
    (shown,) = world.vm.requests(world.agent)
    assert (shown.id, shown.receipt, shown.state) == (request.id, receipt.seq, "pending")
    assert [(one.count, one.of, one.approved) for one in shown.stages] == [(1, ("guardians",), ())]
    assert [one.code for one in shown.missing] == ["tool_unapproved"]
    assert shown.lasts is None
    world.vm.approve(request.id, world.one, world.key(world.one)).raise_for_denial()
    (shown,) = world.vm.requests(world.agent)
    assert (shown.state, shown.stages[0].approved, shown.missing) == ("complete", (world.one,), ())
    assert audit_ledger(world.vm.ledger).findings == ()


def test_one_approval_is_for_one_call_with_these_arguments_and_counts_once(world):
    world.operator(world.agent)
    _, request = push(world)
    assert world.denied(push(world, request)[0], "tool_unapproved")
    world.vm.approve(request.id, world.one, world.key(world.one)).raise_for_denial()
    other = push(world, request, arguments=f"sha256:{'b' * 64}")[0]
    assert world.denied(other, "request_differs")
    assert not push(world, request, principal=world.ada)[0].granted
    receipt, _ = push(world, request)
    assert (receipt.type, receipt.outcome) == ("tool_call", "granted")
    assert receipt.fields["authority"]["approvals"][0]["by"] == world.one
    assert world.vm.request(request.id).state == "activated"
    again, _ = push(world, request)
    assert world.denied(again, "request_used", "request_over", "approval_used", "tool_unapproved")
    assert audit_ledger(world.vm.ledger).findings == ()


@pytest.mark.parametrize(
    ("by", "code"), [("root", "approval_not_admitted"), ("agent", "approval_no_key")]
)
def test_an_approval_by_nobody_who_may_approve_this_server_is_not_taken(world, by, code):
    world.operator(world.agent)
    _, request = push(world)
    name = getattr(world, by)
    refused = world.vm.approve(request.id, name, world.key(name))
    assert world.denied(refused, code)
    assert world.denied(push(world, request)[0], "tool_unapproved")


def test_nobody_approves_a_call_of_their_own_under_another_of_their_names(make_world):
    agent = "did:vm:agent:7"
    guardian = {agent: "did:vm:guardian:one"}
    world = make_world(extra=SERVERS, controllers=guardian)
    world.operator(agent)
    _, request = push(world)
    assert world.denied(
        world.vm.approve(request.id, world.one, world.key(world.one)), "approval_own"
    )


def test_the_request_of_a_call_is_denied_by_who_might_have_approved_it(world):
    world.operator(world.agent)
    _, request = push(world)
    refused = world.vm.deny(world.root, request.id, key=world.key(world.root))
    assert world.denied(refused, "deny_not_admitted")
    assert refused.unmet[0].rule == "tools.git.approvers"
    world.vm.deny(world.one, request.id, key=world.key(world.one)).raise_for_denial()
    assert world.denied(push(world, request)[0], *OVER)
    assert audit_ledger(world.vm.ledger).findings == ()


def test_the_request_of_a_call_takes_no_attestation_and_no_climb(world):
    world.operator(world.agent)
    _, request = push(world)
    refused = world.vm.hand_in(request.id, world.attestation(principal=world.agent))
    assert "fact_unknown" in {one.code for one in refused.unmet}
    receipt = world.vm.activate(world.agent, request.id)
    assert world.denied(receipt, "request_of_call")
    assert receipt.message == "the request is for a call of git_push, needs a climb"
    receipt = world.vm.open_request(request)
    assert world.denied(receipt, "request_exceptional")
    assert receipt.unmet[0].remedy == "call it: the gate leaves it open"


def test_so_many_calls_wait_as_requests_may_and_each_as_long(world):
    world.operator(world.agent)
    most = world.vm.constitution.document.requests.open_at_most
    requests = [push(world)[1] for _ in range(most)]
    full, _ = push(world)
    assert world.denied(full, "requests_full", "tool_unapproved")
    world.vm.withdraw(world.agent, requests[0].id).raise_for_denial()
    assert push(world)[0].type == "request"
    world.wait(days=2)
    assert {one.state for one in world.vm.requests(world.agent, open_only=False)} == {
        "withdrawn",
        "expired",
    }
    world.operator(world.agent)
    assert world.denied(push(world, requests[1])[0], *OVER)
    assert audit_ledger(world.vm.ledger).findings == ()


def test_an_approved_call_waits_for_the_lease_that_it_takes_and_no_longer_than_usable(world):
    world.operator(world.agent, ttl=timedelta(minutes=5))
    _, request = push(world)
    world.wait(minutes=4)
    world.vm.approve(request.id, world.one, world.key(world.one)).raise_for_denial()
    world.wait(minutes=1)
    assert world.denied(push(world, request)[0], "tool_out_of_reach")
    assert [one.code for one in world.vm.request(request.id).missing] == ["tool_out_of_reach"]
    world.operator(world.agent)
    usable_for = world.vm.constitution.document.requests.usable_for
    world.wait(seconds=usable_for.total_seconds() - 61)
    assert world.vm.request(request.id).state == "complete"
    world.wait(seconds=1)
    assert world.vm.request(request.id).state == "lapsed"
    world.operator(world.agent)
    assert not push(world, request)[0].granted
    assert audit_ledger(world.vm.ledger).findings == ()


def test_what_an_amendment_does_to_the_request_of_a_call_is_to_end_it(world):
    world.operator(world.agent)
    _, request = push(world)
    toml = world.vm.constitution.toml + b"\n[tools.mail]\n"
    new = read_constitution(toml)
    entry = loading_entry(new, None)
    world.vm.ledger.transact(lambda change: change.put_in_force(new, entry, world.clock.read()))
    assert world.vm.request(request.id).state == "amended"


def test_a_lock_on_everybody_ends_the_request_of_a_call(world):
    world.operator(world.agent)
    _, request = push(world)
    key = world.key(world.root)
    world.vm.lock(world.root, key=key, reason="stolen keys").raise_for_denial()
    assert world.vm.request(request.id).state == "locked"
    assert audit_ledger(world.vm.ledger).findings == ()


def test_many_calls_that_everybody_may_make_go_on_record_together(world):
    receipt = tally(world, "git_status")
    assert receipt.granted
    assert receipt.fields["what"]["detail"]["count"] == 3


def test_calls_above_the_baseline_are_never_told_together(world):
    world.operator(world.agent)
    receipt = tally(world, "git_commit")
    assert world.denied(receipt, "tally_above")
    needed = "needs a tool that everybody may call"
    assert receipt.message == f"3 calls of git_commit can't be told together, {needed}"


def test_refusals_that_repeat_go_on_record_together(world):
    receipt = tally(world, "git_commit", refused=True, count=41)
    assert world.denied(receipt, "tool_repeated")
    assert receipt.message == "refused 41 times more, since 2026-01-01T12:00:00.000000Z"


def test_what_the_gate_found_wrong_is_in_the_refusal(world):
    wrong = Unmet("tools.git", "tool_malformed", "a name of one line", "git\\x00", "ask again")
    receipt = call(world, "git_status", claims=(wrong,))
    assert world.denied(receipt, "tool_malformed")


def test_a_drill_lets_nothing_through_a_gate(make_world):
    world = make_world(extra=SERVERS, drill=True)
    receipt = call(world, "git_status")
    assert world.denied(receipt, "call_drill")
    assert receipt.message.endswith("is a drill's ledger, and this gate guards something real")


def test_a_name_with_a_control_character_has_no_form(world):
    with pytest.raises(InputError, match="the name has the control character U\\+0000"):
        called(world, "git\x00status")

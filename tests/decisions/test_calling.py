"""A call of a tool behind a gate, decided before it is made."""

import pytest

from vmstate.constitution.unmet import Unmet
from vmstate.decisions.command import Call, Tally, make_command
from vmstate.decisions.statements import prepare_call
from vmstate.errors import InputError
from vmstate.ledger.audit import audit_ledger
from vmstate.signing import new_nonce

ARGUMENTS = f"sha256:{'a' * 64}"
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


def test_one_approval_is_for_one_call_with_these_arguments_and_counts_once(world):
    world.operator(world.agent)
    assert world.denied(call(world, "git_push"), "tool_unapproved")
    command = called(world, "git_push", reason="release 1.2")
    request = prepare_call(
        world.vm.constitution, world.vm.ledger.origin, command, nonce=new_nonce()
    )
    backed = {"request": request, "approvals": (world.approval(request),), "reason": "release 1.2"}
    other = call(world, "git_push", arguments=f"sha256:{'b' * 64}", **backed)
    assert world.denied(other, "request_differs")
    receipt = call(world, "git_push", **backed)
    assert receipt.granted
    assert receipt.fields["authority"]["approvals"][0]["by"] == world.one
    findings = audit_ledger(world.vm.ledger).findings
    assert findings == ()
    again = call(world, "git_push", **backed)
    assert not again.granted
    assert {one.code for one in again.unmet} >= {"approval_used", "tool_unapproved"}


def test_an_approval_by_nobody_who_may_approve_this_server_is_no_approval(world):
    world.operator(world.agent)
    command = called(world, "git_push")
    request = prepare_call(
        world.vm.constitution, world.vm.ledger.origin, command, nonce=new_nonce()
    )
    receipt = call(
        world, "git_push", request=request, approvals=(world.approval(request, world.root),)
    )
    assert world.denied(receipt, "tool_unapproved")
    assert (
        receipt.message
        == "each call needs its own approval by one of guardians, has none that counts"
    )


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

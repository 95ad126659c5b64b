"""A drill of one's own under the starter constitution: each verb, each wait, each expectation."""

import pytest

CLIMB = """
[[step]]
do   = "escalate"
with = { to = "operator", trigger = "operator_request", reason = "DRILL: look around" }
save = "op"
"""
APPROVED = """
[[step]]
do   = "escalate"
with = { to = "guardian", trigger = "operator_request", reason = "DRILL: approved by another", approved_by = ["drill-approver"] }
save = "top"
"""  # noqa: E501 -- one step of a drill file


def test_a_stand_in_approves_what_needs_approval(rehearsal):
    run = rehearsal.passes(CLIMB + APPROVED + 'expect.profile = { "agent:drill" = "guardian" }')
    grant = run.receipts[3].fields
    assert [one["by"] for one in grant["authority"]["approvals"]] == ["drill-approver"]


def test_a_name_that_is_no_stand_in_approves_nothing(rehearsal):
    approved = APPROVED.replace('"drill-approver"', '"carol", "agent:drill"')
    run = rehearsal.passes(f'{CLIMB}{approved}expect.denied = {{ code = "approval_no_key" }}')
    assert {"approval_missing", "approval_no_key"} <= set(rehearsal.codes(run))


def test_each_verb_does_what_it_does_for_people(rehearsal):
    run = rehearsal.passes(
        CLIMB
        + """
        expect.result   = { success = true, outcome = "granted", type = "profile_escalation", lease = "lease-2", profile = "operator", expires_at = "2030-01-01T13:00:00.000000Z", clipped_by = "", rule = "operator_on_request", reversible = true, tem_context_hash = "sha256:*", error = "", receipt = 2 }
        expect.profile  = { "agent:drill" = "operator", "alice" = "observer" }
        expect.active   = 1
        expect.receipts = [ { type = "profile_escalation", lease = "lease-2", drill = "{marker}", principal = "agent:drill", actor = "agent:drill", proof = "host" } ]
        [[step]]
        do   = "may"
        with = { what = "service.restart" }
        expect.result   = { success = true }
        expect.receipts = []
        [[step]]
        do   = "may"
        with = { what = "service.restart" }
        as   = "alice"
        expect.result = { success = false }
        [[step]]
        advance = "50m"
        [[step]]
        do   = "renew"
        with = { lease = "{op.lease}", reason = "DRILL: still at it" }
        save = "renewed"
        expect.result   = { success = true, type = "lease_renewed", lease = "{op.lease}" }
        expect.receipts = [ { type = "lease_renewed", expires_at = "2030-01-01T13:50:00.000000Z" } ]
        [[step]]
        do   = "escalate"
        with = { to = "guardian", trigger = "operator_request", reason = "DRILL: on {op.lease}", ttl = "5m", approved_by = ["drill-approver"] }
        save = "top"
        expect.receipts = [ { parent = "{op.lease}", why = "DRILL: on {op.lease}", expires_at = "2030-01-01T12:55:00.000000Z" } ]
        [[step]]
        do   = "release"
        with = { lease = "{top.lease}", reason = "DRILL: done" }
        expect.receipts  = [ { outcome = "reverted", ending = "operator_release", from = "guardian", to = "operator" } ]
        [[step]]
        do   = "revoke"
        as   = "drill-approver"
        with = { lease = "{op.lease}", reason = "DRILL: enough" }
        expect.receipts = [ { ending = "sovereign_revoke", actor = "drill-approver", proof = "key", to = "observer" } ]
        expect.active   = 0
        """  # noqa: E501
    )
    assert [one.type for one in run.receipts] == [
        *("constitution_loaded", "drill_mode", "profile_escalation", "lease_renewed"),
        *("profile_escalation", "profile_deescalation", "profile_deescalation", "drill_mode"),
    ]


def test_waits_go_by_a_duration_to_an_instant_to_a_reference_and_until_nothing_is_open(rehearsal):
    run = rehearsal.passes(
        CLIMB
        + """
        [[step]]
        advance = "1m30s"
        [[step]]
        advance_to = "2030-01-01T12:10:00Z"
        [[step]]
        advance_to = "2030-01-01T12:10:00Z + 5m"
        [[step]]
        advance_to = "{op.expires_at} - 1s"
        expect.receipts = []
        [[step]]
        advance = "idle"
        expect.receipts = [ { ended_via = "scheduler", at = "{op.expires_at}" } ]
        [[step]]
        advance = "idle"
        expect.receipts = []
        """
    )
    at = [f"{step.at:%H:%M:%S}" for step in run.steps]
    assert at == [
        *("12:00:00", "12:01:30", "12:10:00", "12:15:00", "12:59:59", "13:00:00", "13:00:00"),
    ]


def test_the_parent_is_renewed_in_the_same_breath_where_a_step_says_so(rehearsal):
    run = rehearsal.passes(
        CLIMB
        + '[[step]]\nadvance = "50m"\n'
        + APPROVED.replace("approved_by", "renew_parent = true, approved_by")
        + 'expect.receipts = [ { type = "lease_renewed" }, { type = "profile_escalation" } ]\n'
        + 'expect.result = { clipped_by = "" }'
    )
    assert run.virtual_for.total_seconds() == 50 * 60


def test_setup_comes_first_and_cleanup_last_and_both_are_steps(rehearsal):
    run = rehearsal.passes(
        """
        [[cleanup]]
        name = "last"
        do   = "release"
        with = { lease = "{op.lease}" }
        [[step]]
        name = "in between"
        advance = "1s"
        [[setup]]
        name = "first"
        do   = "escalate"
        with = { to = "operator", trigger = "operator_request", reason = "DRILL: look around" }
        save = "op"
        """
    )
    assert [step.name for step in run.steps] == ["first", "in between", "last"]
    assert [one.type for one in run.receipts] == [
        *("constitution_loaded", "drill_mode"),
        *("profile_escalation", "profile_deescalation", "drill_mode"),
    ]
    assert run.receipts[3].fields["what"]["ending"] == "operator_release"


def test_a_reference_in_what_a_denial_must_say_is_filled_in(rehearsal):
    rehearsal.passes(
        CLIMB
        + """
        [[step]]
        do   = "release"
        with = { lease = "{op.lease}" }
        [[step]]
        do   = "release"
        with = { lease = "{op.lease}" }
        expect.denied = { code = "unknown_lease", error = "{op.lease} is no live lease*" }
        """
    )


def test_somebody_whom_nobody_knows_can_be_rehearsed_too(rehearsal):
    rehearsal.passes(
        """
        [[step]]
        do = "escalate"
        as = "mallory"
        with = { to = "operator", trigger = "operator_request", reason = "DRILL: let me in" }
        expect.denied = { code = "unknown_principal" }
        [[step]]
        do = "may"
        as = "mallory"
        with = { what = "logs.read" }
        expect.result = { success = false }
        """
    )


# An expectation after the first climb, and what a run says where it does not hold.
UNMET = {
    "result = { success = false }": [("result success", "false", "true")],
    'result = { lease = "lease-9" }': [("result lease", "lease-9", "lease-2")],
    "result = { receipt = 3 }": [("result receipt", "3", "2")],
    "result = { receipt = true }": [("result receipt", "true", "2")],
    "result = { balance = 1 }": [("result balance", "1", "no such field")],
    'result = { rule = "guardian*" }': [("result rule", "guardian*", "operator_on_request")],
    'denied = { code = "no_path" }': [("outcome", "denied", "granted")],
    "receipts = []": [("receipts", "none", "profile_escalation")],
    'receipts = [ {}, { type = "lock" } ]': [("receipts", "a receipt, lock", "profile_escalation")],
    'receipts = [ { to = "guardian", from = "observer" } ]': [
        ("receipt to", "guardian", "operator")
    ],
    'receipts = [ { parent = "lease-0" } ]': [("receipt parent", "lease-0", "null")],
    "receipts = [ { charged = 1 } ]": [("receipt charged", "1", "no such field")],
    "receipts = [ { scroll_seq = 1, reversible = false } ]": [
        ("receipt scroll_seq", "1", "0"),
        ("receipt reversible", "false", "true"),
    ],
    'profile = { "agent:drill" = "guardian" }': [
        ("profile of agent:drill", "guardian", "operator")
    ],
    "active = 2": [("active leases", "2", "1")],
    'unchanged = ["leases"]': [("leases", "unchanged", "changed")],
    'unchanged = ["profiles"]': [("profile of agent:drill", "observer", "operator")],
}  # fmt: skip


@pytest.mark.parametrize("expected", UNMET)
def test_what_is_not_as_expected_is_said_with_what_was_there_instead(expected, rehearsal):
    run = rehearsal.run(f"{CLIMB}expect.{expected}")
    assert run.verdict == "fail"
    assert [one[1:] for one in rehearsal.differences(run)] == UNMET[expected]


REFUSED = """
[[step]]
do   = "escalate"
with = { to = "guardian", trigger = "operator_request" }
"""
UNMET_DENIALS = {
    "": [("outcome", "granted", "denied: No escalation path from observer to guardian on …")],
    'expect.denied = { rule = "groups" }': [("denied by rule", "groups", "escalations")],
    'expect.denied = { code = "x" }': [("denied with code", "x", "no_path")],
    'expect.denied = { error = "x*" }': [("denied saying", "x*", "No escalation path from …")],
    'expect.denied = { error = "*x", code = "y" }': [
        ("denied with code", "y", "no_path"),
        ("denied saying", "*x", "No escalation path from …"),
    ],
}


@pytest.mark.parametrize("expected", UNMET_DENIALS)
def test_a_refusal_that_is_not_the_one_expected_is_said(expected, rehearsal):
    run = rehearsal.run(REFUSED + expected)
    assert run.verdict == "fail"
    seen = rehearsal.differences(run)
    assert len(seen) == len(UNMET_DENIALS[expected])
    for (_, *words), wanted in zip(seen, UNMET_DENIALS[expected], strict=True):
        assert words[:2] == list(wanted[:2])
        assert words[2].startswith(wanted[2].removesuffix("…"))


def test_a_denial_that_is_expected_by_its_result_alone_is_no_failure(rehearsal):
    rehearsal.passes(
        REFUSED + 'expect.result = { success = false, error = "*on operator_request" }'
    )


def test_the_same_drill_of_ones_own_gives_the_same_root(rehearsal):
    roots = {rehearsal.passes(CLIMB + APPROVED).root for _ in range(2)}
    assert len(roots) == 1
    assert rehearsal.passes(APPROVED.replace("guardian", "operator")).root not in roots

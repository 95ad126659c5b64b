"""The acceptance table of the runbook, row by row: each test is named after its row.

Rows F and E are about the calls, T about receipts, G to D about the drills 0 to 4, R about all of
them. `README.md` beside this file maps rows to tests.
"""
# ruff: noqa: N802 -- a test is named as its row is

from datetime import datetime, timedelta
from importlib.resources import files

import time_machine

from vmstate import tools
from vmstate.constitution.loading import read_constitution
from vmstate.drills.drill import packaged_drills
from vmstate.drills.runner import run_drill, run_suite
from vmstate.session import close_session
from vmstate.tools import DeescalationType, EscalationType

LAW = (files("vmstate.constitution") / "presets" / "vaultmesh.toml").read_text("utf-8")
MARKER = "DRILL/FP-THREAT/2025-12-18"
SOVEREIGN = "did:vm:sovereign:drill-approver"
ORDER = ["drill_0", "drill_1", "drill_3", "drill_2", "drill_4"]


def threat():
    return tools.escalate_on_threat(
        current_profile="operator",
        threat_id=f"thr_{MARKER}",
        threat_type="synthetic_drill",
        confidence=0.92,
    )


def phoenix():
    return tools.escalate_to_phoenix("DRILL: Phoenix readiness test", approved_by=SOVEREIGN)


# ---- F: the calls ------------------------------------------------------------------------------


def test_F1_cognitive_context_reads_health_and_treasury_and_leaves_no_receipt(in_drill):
    tools.treasury_create_budget("training", "Training", 100, "DRILL_UNITS")
    before = in_drill.size()
    context = tools.cognitive_context(include=["health", "treasury"])
    assert context["health"]["status"] == "operational"
    assert context["health"]["drill_mode"] == "ON"
    assert context["treasury"]["ceiling"] == 1000
    (budget,) = context["treasury"]["budgets"]
    assert (budget["budget_id"], budget["available"]) == ("training", 100)
    assert in_drill.size() == before


def test_F2_escalate_on_threat_takes_an_operator_with_confidence_092_to_guardian(in_drill):
    result = threat()
    assert result["success"] is True
    assert result["to_profile"] == in_drill.held == "guardian"
    assert result["escalation_id"].startswith("lease-")
    assert result["tem_context_hash"].startswith("sha256:")
    assert result["reversible"] is True


def test_F3_escalate_says_no_escalation_path_or_requires_approval(in_drill):
    result = tools.escalate("operator", "phoenix", EscalationType.THREAT_DETECTED)
    assert result["success"] is False
    assert "No escalation path" in result["error"]
    result = tools.escalate("guardian", "phoenix", EscalationType.CRISIS_DECLARED)
    assert result["success"] is False
    assert "requires approval" in result["error"]
    assert in_drill.held == "guardian"


def test_F4_escalate_to_phoenix_goes_from_guardian_on_a_declared_crisis_and_has_an_end(in_drill):
    result = phoenix()
    assert result["success"] is True
    assert result["expires_at"] is not None
    grant = in_drill.receipts(type_="profile_escalation")[-1]
    what = grant.fields["what"]
    assert (what["from"], what["to"]) == ("guardian", "phoenix")
    assert what["trigger"] == EscalationType.CRISIS_DECLARED
    assert grant.rule == "phoenix_on_crisis"


def test_F5_deescalate_leaves_a_receipt_for_each_rung(in_drill):
    entered = phoenix()
    before = in_drill.size()
    ended = DeescalationType.CRISIS_CONCLUDED
    assert tools.deescalate(entered["escalation_id"], ended, reason="DRILL: over")["success"]
    rungs = [(r.fields["what"]["from"], r.fields["what"]["to"]) for r in in_drill.since(before)]
    assert rungs == [("phoenix", "guardian"), ("guardian", "operator"), ("operator", "observer")]
    assert in_drill.held == "observer"


def test_F6_get_active_escalations_lists_what_is_live_and_never_what_is_overdue(in_drill):
    with time_machine.travel("2030-01-01T12:00:00Z", tick=False) as travel:
        expires_at = datetime.fromisoformat(threat()["expires_at"])
        active = tools.get_active_escalations()
        assert [one["to_profile"] for one in active["escalations"]] == ["operator", "guardian"]
        assert active["active_count"] == 2
        travel.move_to(expires_at - timedelta(microseconds=1))
        assert tools.get_active_escalations()["active_count"] == 2
        travel.move_to(expires_at)
        active = tools.get_active_escalations()
        assert [one["to_profile"] for one in active["escalations"]] == ["operator"]
        assert active["active_count"] == 1
        assert in_drill.held == "operator"
        close_session()


def test_F7_get_escalation_history_has_the_marker_in_every_entry(in_drill):
    threat()
    tools.escalate("operator", "phoenix", EscalationType.THREAT_DETECTED)
    history = tools.get_escalation_history()["history"]
    marker = in_drill.receipts()[0].fields["drill"]
    assert marker.startswith("DRILL/")
    assert all(marker in str(entry) for entry in history)
    assert any(MARKER in str(entry) for entry in history)
    assert {entry["outcome"] for entry in history} == {"granted", "reverted", "denied"}


def test_F8_cognitive_decide_leaves_a_cognitive_decision(in_drill):
    assert tools.cognitive_decide("transmute", "DRILL: a false positive", "T-1")["success"]
    (decision,) = in_drill.receipts(type_="cognitive_decision")
    assert decision.fields["what"]["detail"] == {"decision": "transmute", "threat.id": "T-1"}
    assert decision.fields["what"]["from"] == "guardian"


def test_F9_cognitive_invoke_tem_leaves_a_tem_invocation_with_guardian_or_above_only(in_drill, ran):
    granted = threat()
    invoked = tools.cognitive_invoke_tem("T-1", "DRILL: turn it into a defence")
    (receipt,) = in_drill.receipts(type_="tem_invocation")
    assert receipt.fields["what"]["from"] == "guardian"
    assert invoked["tem_context_hash"] == granted["tem_context_hash"]
    assert receipt.fields["proofs"]["tem_context_hash"] == granted["tem_context_hash"]
    (denied,) = ran["drill_1"].step("Tem is out of").receipts
    assert denied.message.startswith(
        "tem.invoke requires guardian, the present profile is operator"
    )


def test_F10_cognitive_audit_trail_is_the_cognitive_scroll(in_drill):
    threat()
    tools.cognitive_decide("transmute", "DRILL: a false positive")
    tools.cognitive_invoke_tem("T-1")
    trail = tools.cognitive_audit_trail()
    assert [one["type"] for one in trail["decisions"]] == ["cognitive_decision", "tem_invocation"]
    scroll = [r.seq for r in in_drill.receipts() if r.fields["scroll"] == "cognitive"]
    assert [one["receipt"] for one in trail["decisions"]] == scroll


def test_F11_guardian_status_has_the_root_of_each_scroll(in_drill):
    tools.cognitive_decide("transmute", "DRILL: a false positive")
    status = tools.guardian_status()
    newest = {receipt.fields["scroll"]: receipt.id for receipt in in_drill.receipts()}
    assert status["scroll_roots"] == newest
    assert status["checkpoint"].startswith(f"{status['origin']}\n{in_drill.size()}\n")


def test_F12_treasury_create_budget_stays_below_a_ceiling_of_a_thousand_together(in_drill):
    assert tools.treasury_create_budget("one", "One", 400, "DRILL_UNITS")["success"]
    too_much = tools.treasury_create_budget("two", "Two", 601, "DRILL_UNITS")
    assert too_much["success"] is False
    assert "1001 would be allocated, may come to 1000" in too_much["error"]
    assert tools.treasury_create_budget("two", "Two", 600, "DRILL_UNITS")["success"]
    assert not tools.treasury_create_budget("three", "Three", 1, "DRILL_UNITS")["success"]
    assert in_drill.audit() == ()


def test_F13_treasury_debit_beyond_the_balance_is_denied_as_insufficient(in_drill):
    tools.treasury_create_budget("drill-budget-001", "Drill Training Budget", 100, "DRILL_UNITS")
    result = tools.treasury_debit("drill-budget-001", 500, "DRILL: over-budget attempt")
    assert "insufficient" in result["error"].lower()
    assert result["balance"] == 100
    assert in_drill.audit() == ()


def test_E1_escalation_types_are_the_triggers():
    assert {one.name: str(one) for one in EscalationType} == {
        "THREAT_DETECTED": "threat_detected",
        "CRISIS_DECLARED": "crisis_declared",
        "OPERATOR_REQUEST": "operator_request",
        "QUORUM_APPROVED": "quorum_approved",
        "SOVEREIGN_OVERRIDE": "sovereign_override",
    }


def test_E2_deescalation_types_are_the_endings():
    assert {one.name: str(one) for one in DeescalationType} == {
        "CRISIS_CONCLUDED": "crisis_concluded",
        "TIMEOUT_EXPIRED": "timeout_expired",
        "THREAT_RESOLVED": "threat_resolved",
        "OPERATOR_RELEASE": "operator_release",
        "SOVEREIGN_REVOKE": "sovereign_revoke",
    }


# ---- T: receipt types and their scrolls --------------------------------------------------------


def test_T1_profile_escalation_in_identity_has_context_hash_reversibility_and_marker(ran):
    for drill in ran.values():
        for grant in drill.receipts("profile_escalation"):
            assert grant.fields["scroll"] == "identity"
            assert grant.fields["proofs"]["tem_context_hash"].startswith("sha256:")
            assert grant.fields["reversible"] is True
            assert grant.fields["drill"] == drill.run.drill.marker


def test_T2_profile_deescalation_in_identity_is_there_for_a_ttl_return_too(ran):
    ends = ran["drill_1"].receipts("profile_deescalation")
    assert [one.outcome for one in ends] == ["expired", "expired"]
    assert {one.fields["scroll"] for one in ends} == {"identity"}


def test_T3_cognitive_decision_in_cognitive(ran):
    (decision,) = ran["drill_1"].receipts("cognitive_decision")
    assert decision.fields["scroll"] == "cognitive"


def test_T4_tem_invocation_in_cognitive_with_guardian_authority(ran):
    (tem,) = ran["drill_1"].receipts("tem_invocation")
    assert tem.fields["scroll"] == "cognitive"
    assert tem.fields["what"]["from"] == "guardian"


def test_T5_treasury_denial_in_treasury_says_what_was_attempted_asked_there_and_why_not(ran):
    denial = ran["drill_2"].receipts("treasury_denial")[0]
    assert denial.fields["scroll"] == "treasury"
    assert denial.fields["what"]["act"] == "treasury.debit"
    (line,) = denial.fields["cost"]
    assert (line["requested"], line["available"], line["charged"]) == (500, 100, 0)
    assert denial.message == "insufficient balance: drill-budget-001 has 100, needs 500"


def test_T6_auth_failure_in_identity_names_the_requirement_that_failed(ran):
    failures = [one for drill in ran.values() for one in drill.receipts("auth_failure")]
    assert failures
    for failure in failures:
        assert failure.fields["scroll"] == "identity"
        assert all(one.rule and one.required and one.given for one in failure.unmet)
        assert failure.unmet


def test_T7_drill_mode_on_is_on_the_record_before_anything_else_happens(ran):
    for drill in ran.values():
        types = [receipt.type for receipt in drill.receipts()]
        assert types[:2] == ["constitution_loaded", "drill_mode"]


# ---- G: drill 0, pre-flight safety gates -------------------------------------------------------


def mode(drill):
    """What the receipt of drill mode says."""
    return drill.receipts("drill_mode")[0].fields["what"]["detail"]


def test_G1_drill_mode_is_set_and_the_receipt_says_how(in_drill):
    tools.cognitive_context()
    (receipt,) = in_drill.receipts(type_="drill_mode")
    detail = receipt.fields["what"]["detail"]
    assert (detail["mode"], detail["set_by"]) == ("ON", "DRILL_MODE=1")


def test_G2_phoenix_destructive_acts_are_dry_runs(ran):
    pretends = mode(ran["drill_0"])["pretends"]
    assert pretends["phoenix.destroy"] == pretends["phoenix.rebuild"] == "dry_run"
    assert ran["drill_0"].step("what destroys is a dry run").passed


def test_G3_the_training_budget_is_apart_with_a_ceiling_of_1000(ran):
    detail = mode(ran["drill_0"])
    assert (detail["budget_ceiling"], detail["currency"]) == (1000, "DRILL_UNITS")
    (denial,) = ran["drill_0"].receipts("treasury_denial")
    assert denial.fields["cost"][0]["requested"] == 1001
    assert [one.code for one in denial.unmet] == ["budget_ceiling"]


def test_G4_anchors_are_tagged_as_a_drills(ran):
    (anchor,) = ran["drill_0"].receipts("guardian_anchor")
    assert anchor.fields["scroll"] == "guardian"
    assert anchor.fields["drill"] == "DRILL/GATES/2025-12-18"


def test_G5_offsec_is_simulated(ran):
    (attack,) = ran["drill_0"].receipts("offsec_run")
    assert attack.fields["what"]["result"] == "simulated"
    assert mode(ran["drill_0"])["pretends"]["offsec.run"] == "simulated"


def test_G6_a_receipt_proves_drill_mode_and_health_is_operational_within_two_minutes(ran):
    drill = ran["drill_0"]
    assert drill.run.verdict == "pass"
    assert drill.heading.gate is True
    assert drill.heading.limit == timedelta(minutes=2)
    assert drill.run.wall_for < drill.heading.limit
    assert mode(drill)["mode"] == "ON"
    health = drill.run.drill.document.step[0].expect.result
    assert health["health.status"] == "operational"
    assert drill.step("training mode is on").passed


# ---- A: drill 1, false-positive threat ---------------------------------------------------------


def test_A1_every_transition_has_a_receipt(ran):
    assert ran["drill_1"].run.verdict == "pass"
    assert [(below, above) for below, above, _ in ran["drill_1"].moves()] == [
        ("observer", "operator"),
        ("operator", "guardian"),
        ("guardian", "operator"),
        ("operator", "observer"),
    ]


def test_A2_the_tem_context_hash_stands_in_the_escalation_receipt_itself(ran):
    # Worked out from the receipt's own facts; the audit finds one that is not theirs.
    _, grant = ran["drill_1"].receipts("profile_escalation")
    assert grant.fields["authority"]["facts"]["threat.confidence"] == "0.92"
    plain = ran["drill_1"].receipts("profile_escalation")[0]
    assert grant.fields["proofs"]["tem_context_hash"] != plain.fields["proofs"]["tem_context_hash"]
    assert ran["drill_1"].audit().findings == ()


def test_A3_grants_are_reversible_and_nothing_else_is(ran):
    told = {r.type for r in ran["drill_1"].receipts() if r.fields["reversible"]}
    assert told == {"profile_escalation"}


def test_A4_deescalation_comes_at_the_ttl(ran):
    grants = {r.lease: r for r in ran["drill_1"].receipts("profile_escalation")}
    for end in ran["drill_1"].receipts("profile_deescalation"):
        said = end.fields
        assert end.at == grants[end.lease].expires_at
        assert said["due"] == said["at"]
        assert said["what"]["ended_via"] == "scheduler"
        assert said["what"]["ending"] == "timeout_expired"


def test_A5_ends_at_baseline_observer(ran):
    assert ran["drill_1"].moves()[-1] == ("operator", "observer", "2025-12-18T13:00:00.000000Z")
    assert ran["drill_1"].audit().open_leases == 0
    assert ran["drill_1"].step("left alone").passed


def test_A6_no_transition_is_without_its_receipt(ran):
    # The audit derives every lease from the receipts and compares the ledger's own table.
    for drill in ran.values():
        assert drill.audit().findings == ()


def test_A7_tem_is_never_invoked_without_guardian_authority(ran):
    held, refused, invoked = "observer", 0, 0
    for receipt in ran["drill_1"].receipts():
        what = receipt.fields["what"]
        if receipt.type in {"profile_escalation", "profile_deescalation"}:
            held = what["to"]
        if receipt.type == "tem_invocation":
            assert held == "guardian"
            invoked += 1
        if receipt.type == "auth_failure" and held == "operator":
            refused += any(one.rule == 'acts."tem.invoke"' for one in receipt.unmet)
    assert (refused, invoked) == (1, 1)


def test_A8_a_ttl_that_does_not_fire_in_its_time_fails_the_drill(ran):
    drill = ran["drill_1"].run.drill
    longer = LAW.replace('ttl      = "15m"', 'ttl      = "16m"')
    assert longer != LAW
    run = run_drill(drill, read_constitution(longer.encode()))
    assert run.verdict == "fail"
    differences = [one for step in run.steps for one in step.differences]
    assert "2025-12-18T12:16:00.000000Z" in {one.got for one in differences}


def test_A9_no_deescalation_is_without_its_receipt(ran):
    for drill in ran.values():
        ended = [r.fields["reverses"] for r in drill.receipts("profile_deescalation")]
        assert sorted(ended) == sorted(r.id for r in drill.receipts("profile_escalation"))


def test_A10_the_chain_has_its_six_rows_under_its_marker_within_five_minutes(ran):
    drill = ran["drill_1"]
    assert drill.run.drill.marker == MARKER
    assert {receipt.fields["drill"] for receipt in drill.receipts()} == {MARKER}
    assert drill.heading.limit == timedelta(minutes=5)
    assert drill.run.wall_for < drill.heading.limit
    assert drill.step("an observer may read context").receipts == ()
    rows = drill.receipts(
        "profile_escalation", "cognitive_decision", "tem_invocation", "profile_deescalation"
    )
    assert [(r.type, r.fields["what"]["from"]) for r in rows] == [
        ("profile_escalation", "observer"),
        ("profile_escalation", "operator"),
        ("cognitive_decision", "guardian"),
        ("tem_invocation", "guardian"),
        ("profile_deescalation", "guardian"),
        ("profile_deescalation", "operator"),
    ]


# ---- B: drill 2, budget pressure ---------------------------------------------------------------


def test_B1_the_block_comes_before_any_write(ran):
    step = ran["drill_2"].step("debit five times")
    assert [receipt.type for receipt in step.receipts] == ["treasury_denial"]
    within = ran["drill_2"].step("what is there may be spent").receipts[0]
    assert within.fields["cost"][0]["available"] == 100


def test_B2_the_receipt_shows_action_cost_balance_and_reason(ran):
    (denial,) = ran["drill_2"].step("debit five times").receipts
    assert denial.fields["what"]["act"] == "treasury.debit"
    assert denial.fields["cost"] == [
        {
            "budget": "drill-budget-001",
            "unit": "DRILL_UNITS",
            "requested": 500,
            "available": 100,
            "charged": 0,
        }
    ]
    assert "insufficient" in denial.message
    assert denial.fields["why"] == "DRILL: intentional over-budget attempt"


def test_B3_the_state_is_unchanged_within_three_minutes(ran):
    drill = ran["drill_2"]
    assert drill.run.verdict == "pass"
    assert drill.heading.limit == timedelta(minutes=3)
    step = drill.run.drill.document.step[0]
    assert set(step.expect.unchanged) == {"budgets", "leases", "profiles"}
    assert drill.step("debit five times").passed
    (made,) = drill.receipts("treasury_budget")
    detail = made.fields["what"]["detail"]
    assert (detail["allocated"], detail["unit"]) == (100, "DRILL_UNITS")


# ---- C: drill 3, escalation abuse --------------------------------------------------------------


def abuses(drill):
    skip, unapproved = drill.step("skip a rung"), drill.step("guardian to phoenix without approval")
    return skip, unapproved


def test_C1_no_profile_changes(ran):
    for step in abuses(ran["drill_3"]):
        assert step.passed
        assert [receipt.type for receipt in step.receipts] == ["auth_failure"]
    assert all("phoenix" not in (below, above) for below, above, _ in ran["drill_3"].moves())


def test_C2_the_denial_names_the_requirement_that_failed(ran):
    (skip,), (unapproved,) = (step.receipts for step in abuses(ran["drill_3"]))
    assert skip.message == "No escalation path from operator to phoenix on threat_detected"
    assert skip.rule == "escalations"
    assert "requires approval by 1 of sovereigns, has 0" in unapproved.message
    assert unapproved.rule == "phoenix_on_crisis"


def test_C3_the_denial_is_receipted_within_three_minutes(ran):
    assert ran["drill_3"].run.verdict == "pass"
    assert ran["drill_3"].heading.limit == timedelta(minutes=3)
    for step in abuses(ran["drill_3"]):
        (denial,) = step.receipts
        assert (denial.type, denial.outcome) == ("auth_failure", "denied")
        assert denial.fields["scroll"] == "identity"


# ---- D: drill 4, phoenix readiness -------------------------------------------------------------


def test_D1_activation_leaves_a_receipt_with_an_end(ran):
    entered = [r for r in ran["drill_4"].receipts("profile_escalation") if r.profile == "phoenix"]
    assert len(entered) == 2
    for grant in entered:
        assert grant.rule == "phoenix_on_crisis"
        assert grant.expires_at is not None
        assert len(grant.fields["authority"]["approvals"]) == 1


def test_D2_destructive_acts_are_blocked_in_drill_mode(ran):
    (destroyed,) = ran["drill_4"].receipts("phoenix_destroy")
    assert destroyed.fields["what"]["result"] == "dry_run"


def test_D3_the_ttl_returns_from_phoenix(ran):
    again = ran["drill_4"].receipts("profile_escalation")[-1]
    end = next(r for r in ran["drill_4"].receipts("profile_deescalation") if r.lease == again.lease)
    assert end.fields["what"]["from"] == "phoenix"
    assert end.fields["what"]["ended_via"] == "scheduler"
    assert end.at == again.expires_at


def test_D4_returns_rung_by_rung_with_receipts_within_five_minutes_and_nothing_is_active(ran):
    drill = ran["drill_4"]
    assert drill.run.verdict == "pass"
    assert drill.heading.limit == timedelta(minutes=5)
    down = [("phoenix", "guardian"), ("guardian", "operator"), ("operator", "observer")]
    moves = [(below, above) for below, above, _ in drill.moves()]
    assert moves[3:6] == moves[-3:] == down
    assert drill.audit().open_leases == 0
    assert drill.step("the crisis is concluded").passed
    assert drill.run.drill.document.step[2].expect.active == 0


# ---- R: all drills -----------------------------------------------------------------------------


def test_R1_no_real_damage_one_axis_at_a_time_receipts_and_auto_return(ran):
    for drill in ran.values():
        top = [None]
        for receipt in drill.receipts():
            said = receipt.fields
            assert said["drill"].startswith("DRILL/")
            assert said["clock"] == "virtual"
            assert said["what"]["result"] in {None, "dry_run", "simulated"}
            if said["what"]["act"] in {"phoenix.destroy", "phoenix.rebuild", "offsec.run"}:
                assert said["what"]["result"] is not None or not receipt.granted
            if receipt.type == "profile_escalation":
                assert said["who"]["principal"] == "did:vm:operator:drill"
                assert said["what"]["parent"] == top[-1]
                top.append(receipt.lease)
            if receipt.type == "profile_deescalation":
                assert receipt.lease == top.pop()
        assert top == [None]


def test_R2_the_order_is_0_1_3_2_4_and_a_failed_gate_blocks_the_rest():
    law = read_constitution(LAW.encode())
    assert [run.drill.id for run in run_suite(packaged_drills(), law)] == ORDER
    broken = read_constitution(
        LAW.replace("budget_ceiling = 1000", "budget_ceiling = 999").encode()
    )
    verdicts = [run.verdict for run in run_suite(packaged_drills(), broken)]
    assert verdicts == ["fail", "blocked", "blocked", "blocked", "blocked"]

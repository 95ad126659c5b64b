"""The runbook's calls beyond the runbook: claims, seats, ledgers of their own, plain results."""

import json
from contextlib import closing
from importlib.resources import files
from pathlib import Path

import pytest
import time_machine

from vmstate import tools
from vmstate.authority import Authority
from vmstate.constitution.loading import load_constitution, read_constitution
from vmstate.errors import InputError, LedgerMismatch
from vmstate.ledger.audit import audit_ledger
from vmstate.ledger.store import Ledger
from vmstate.session import close_session
from vmstate.tools import EscalationType

LAW = (files("vmstate.constitution") / "presets" / "vaultmesh.toml").read_text("utf-8")
AGENT = "did:vm:agent:7"
REASON = "look at ticket 4711"
SOVEREIGN = "did:vm:sovereign:drill-approver"


def become_operator():
    return tools.escalate("observer", "operator", EscalationType.OPERATOR_REQUEST, reason=REASON)


def codes(receipt):
    return [one.code for one in receipt.unmet]


def set_up(receipts):
    """What was done to seat somebody: from, to."""
    return [
        (one.fields["what"]["from"], one.fields["what"]["to"])
        for one in receipts
        if one.fields["what"]["setup"]
    ]


# ---- claims, outside of drills -----------------------------------------------------------------


def test_a_claim_that_differs_is_one_more_thing_that_is_wrong(live):
    shop = live(AGENT)
    before = shop.size()
    result = tools.escalate("guardian", "phoenix", EscalationType.CRISIS_DECLARED)
    assert result["success"] is False
    assert result["error"] == (
        "the claim is guardian, the ledger says observer; "
        "No escalation path from observer to phoenix on crisis_declared"
    )
    (denial,) = shop.since(before)
    assert codes(denial) == ["claim_mismatch", "no_path"]
    assert denial.type == "auth_failure"


def test_a_claim_that_differs_denies_what_would_be_granted_without_it(live):
    shop = live(AGENT)
    result = tools.escalate("operator", "operator", EscalationType.OPERATOR_REQUEST, reason=REASON)
    assert result["error"] == "the claim is operator, the ledger says observer"
    assert shop.held == "observer"
    assert become_operator()["success"] is True
    assert shop.held == "operator"


def test_a_name_in_approved_by_approves_nothing(live):
    shop = live(AGENT)
    become_operator()
    before = shop.size()
    result = tools.escalate(
        "operator",
        "guardian",
        EscalationType.OPERATOR_REQUEST,
        approved_by="did:vm:guardian:one",
        reason=REASON,
    )
    assert result["success"] is False
    assert "did:vm:guardian:one is only named, an approval takes a signature" in result["error"]
    assert codes(shop.since(before)[0]) == ["approval_unsigned", "approval_missing"]


def test_a_name_in_approved_by_denies_even_where_no_approval_is_needed(live):
    shop = live(AGENT)
    result = tools.escalate(
        "observer", "operator", "operator_request", approved_by="did:vm:guardian:one", reason=REASON
    )
    assert result["success"] is False
    assert shop.held == "observer"


def test_a_threat_on_the_callers_word_reaches_nothing(live):
    shop = live(AGENT)
    become_operator()
    before = shop.size()
    assert not tools.escalate_on_threat("operator", "T-1", "intrusion", 0.99)["success"]
    assert codes(shop.since(before)[0]) == ["fact_unattested"] * 3


def test_without_a_name_nobody_asks(folder):
    Path("constitution.toml").write_text(LAW, encoding="utf-8")
    Authority.create(load_constitution("constitution.toml"), folder / "vmstate.db").close()
    with pytest.raises(InputError, match="VMSTATE_PRINCIPAL is not set"):
        become_operator()


# ---- seats, in drills --------------------------------------------------------------------------


def test_a_claim_is_made_true_by_lawful_steps_that_are_marked_as_set_up(in_drill):
    result = tools.escalate("guardian", "phoenix", EscalationType.CRISIS_DECLARED)
    assert "requires approval" in result["error"]
    receipts = in_drill.receipts()
    assert set_up(receipts) == [("observer", "operator"), ("operator", "guardian")]
    steps = [one for one in receipts if one.fields["what"]["setup"]]
    assert {one.fields["why"] for one in steps} == {"DRILL: set-up"}
    assert {one.type for one in steps} == {"profile_escalation"}
    assert steps[1].rule == "guardian_on_request"
    assert steps[1].fields["authority"]["approvals"]
    assert receipts[-1].fields["what"]["setup"] is False
    assert in_drill.audit() == ()


def test_who_stands_too_high_is_released_down_to_the_claim(in_drill):
    tools.cognitive_decide("look around", REASON)
    assert in_drill.held == "guardian"
    before = in_drill.size()
    tools.escalate("operator", "phoenix", EscalationType.THREAT_DETECTED)
    released, denial = in_drill.since(before)
    assert released.fields["what"]["setup"] is True
    assert (released.fields["what"]["from"], released.profile) == ("guardian", "operator")
    assert denial.fields["what"]["from"] == "operator"


def test_a_call_without_a_claim_needs_at_least_its_profile(in_drill):
    tools.escalate_to_phoenix("DRILL: a reason long enough", approved_by=SOVEREIGN)
    before = in_drill.size()
    assert tools.cognitive_decide("go on", REASON)["success"]
    assert tools.treasury_create_budget("one", "One", 10, "DRILL_UNITS")["success"]
    assert tools.treasury_debit("one", 1)["success"]
    assert set_up(in_drill.since(before)) == []
    assert in_drill.held == "phoenix"


@pytest.mark.usefixtures("in_drill")
def test_set_up_is_exempt_from_cool_down_and_starts_none():
    with time_machine.travel("2030-01-01T12:00:00Z", tick=False):
        held = tools.escalate_on_threat("operator", "T-1", "synthetic_drill", 0.9)
        tools.deescalate(held["escalation_id"], reason="DRILL: enough")
        waiting = tools.escalate_on_threat("operator", "T-2", "synthetic_drill", 0.9)
        assert waiting["success"] is False
        assert "guardian" in waiting["error"]
        assert tools.cognitive_decide("seated all the same", REASON)["success"]
        close_session()
    with time_machine.travel("2030-01-01T13:00:00Z", tick=False):
        tools.cognitive_decide("seated", REASON)
        tools.escalate("operator", "phoenix", EscalationType.THREAT_DETECTED)  # released by set-up
        assert tools.escalate_on_threat("operator", "T-3", "synthetic_drill", 0.9)["success"]
        close_session()


def test_without_a_lawful_seat_nothing_is_decided(in_drill, folder):
    start = LAW.index("[escalations.guardian_on_request]")
    end = LAW.index("[escalations.phoenix_on_crisis]")
    law = LAW[:start] + LAW[end:]
    (folder / "constitution.toml").write_text(law, encoding="utf-8")
    result = tools.escalate("guardian", "phoenix", EscalationType.CRISIS_DECLARED)
    assert (result["success"], result["blocked"]) == (False, True)
    assert result["error"].startswith("blocked: no lawful seat at guardian: ")
    assert "no rule leads from operator to guardian" in result["error"]
    assert in_drill.receipts(type_="auth_failure") == ()
    result = tools.escalate("admiral", "phoenix", EscalationType.CRISIS_DECLARED)
    assert result["error"] == "blocked: 'admiral' is not a profile"


def test_set_up_is_refused_in_a_live_ledger(live):
    shop = live(AGENT)
    receipt = shop.authority.escalate(
        AGENT, "operator", trigger="operator_request", reason=REASON, setup=True
    )
    assert codes(receipt) == ["not_a_drill"]
    assert shop.held == "observer"


def test_a_name_that_is_no_stand_in_approves_nothing_in_a_drill_either(in_drill):
    reason = "DRILL: a reason long enough"
    for name in ("did:vm:sovereign:root", "did:vm:guardian:drill-one", "did:vm:operator:drill"):
        result = tools.escalate_to_phoenix(reason, approved_by=name)
        assert result["success"] is False
        assert "requires approval by 1 of sovereigns, has 0" in result["error"]
    assert in_drill.held == "guardian"


# ---- ledgers -----------------------------------------------------------------------------------


def test_a_drill_beside_a_live_ledger_leaves_it_and_its_budgets_untouched(live, monkeypatch):
    law = LAW
    for act in ("treasury.allocate", "treasury.debit"):  # for everybody, so that nobody climbs
        line = next(line for line in LAW.splitlines() if line.startswith(f'"{act}"'))
        law = law.replace(
            line, line.replace("guardian", "observer").replace("operator", "observer")
        )
    shop = live("did:vm:operator:ada", law)
    tools.treasury_create_budget("training", "The real one", 5_000, "EUR")
    tools.treasury_debit("training", 1)
    with shop.authority.ledger.read() as snapshot:
        before = snapshot.budgets(), snapshot.head().note
    close_session()
    monkeypatch.setenv("DRILL_MODE", "1")
    assert tools.treasury_create_budget("training", "Training", 100, "DRILL_UNITS")["success"]
    assert tools.treasury_debit("training", 100)["success"]
    assert not tools.treasury_debit("training", 1)["success"]
    close_session()
    with closing(Ledger.open(Path("vmstate.db"))) as ledger, ledger.read() as snapshot:
        assert (snapshot.budgets(), snapshot.head().note) == before


def test_an_earlier_drills_ledger_is_kept_beside_the_new_one(in_drill, folder):
    origins = []
    for _ in range(3):
        tools.cognitive_decide("look around", REASON)
        origins.append(in_drill.authority.ledger.origin)
        close_session()
    kept = ["vmstate.drill.1.db", "vmstate.drill.2.db", "vmstate.drill.db"]
    assert sorted(path.name for path in folder.glob("*.db")) == kept
    found = []
    for name in kept:
        with closing(Ledger.open(folder / name)) as ledger:
            assert audit_ledger(ledger).findings == ()
            assert ledger.drill is not None
            found.append(ledger.origin)
    assert found == origins
    assert len(set(origins)) == 3


@pytest.mark.usefixtures("in_drill")
def test_drill_mode_is_never_pointed_at_a_live_ledger(folder):
    path = folder / "vmstate.drill.db"
    Authority.create(read_constitution(LAW.encode()), path).close()
    before = path.read_bytes()
    with pytest.raises(LedgerMismatch, match="is a live ledger: a drill does not touch it"):
        tools.cognitive_context()
    assert path.read_bytes() == before
    assert not list(folder.glob("*.1.db"))


@pytest.mark.usefixtures("in_drill")
def test_a_drills_ledger_is_never_taken_for_a_live_one(folder, monkeypatch):
    (folder / "constitution.toml").write_text(LAW, encoding="utf-8")
    tools.cognitive_context()
    close_session()
    monkeypatch.delenv("DRILL_MODE")
    monkeypatch.setenv("VMSTATE_PRINCIPAL", AGENT)
    monkeypatch.setenv("VMSTATE_LEDGER", "vmstate.drill.db")
    with pytest.raises(LedgerMismatch, match="is a drill's ledger: set DRILL_MODE=1"):
        become_operator()


def test_the_end_of_a_session_ends_the_drill_and_all_that_it_opened(in_drill, folder):
    tools.cognitive_decide("look around", REASON)
    assert in_drill.held == "guardian"
    close_session()
    with closing(Ledger.open(folder / "vmstate.drill.db")) as ledger, ledger.read() as snapshot:
        *_, end, below = snapshot.receipts()
        assert [end.fields["what"]["from"], below.fields["what"]["from"]] == [
            "guardian",
            "operator",
        ]
        *_, off = snapshot.receipts(type_="drill_mode")
        assert off.fields["what"]["detail"]["mode"] == "OFF"
        assert list(snapshot.leases.every(open_only=True)) == []


# ---- results -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("confidence", "spelled"),
    [
        (0.92, "0.92"),
        (1.0, "1"),
        (0.8, "0.8"),
        (0.30000000000000004 + 0.6, "0.9"),
        (0.9999, "0.9999"),
    ],
)
def test_a_float_becomes_the_decimal_that_its_repr_shows(confidence, spelled, in_drill):
    result = tools.escalate_on_threat("operator", "T-1", "synthetic_drill", confidence)
    assert result["success"] is True
    grant = in_drill.receipts(type_="profile_escalation")[-1]
    assert grant.fields["authority"]["facts"]["threat.confidence"] == spelled


def test_a_tiny_float_is_spelled_without_an_exponent(in_drill):
    assert not tools.escalate_on_threat("operator", "T-1", "synthetic_drill", 1e-7)["success"]
    denial = in_drill.receipts(type_="auth_failure")[-1]
    assert denial.fields["authority"]["facts"]["threat.confidence"] == "0.0000001"


def everything():
    """Each call once, in an order in which some are granted and some are not."""
    yield tools.cognitive_context(["health", "treasury", "authority"])
    yield tools.escalate("operator", "phoenix", EscalationType.THREAT_DETECTED)
    yield tools.escalate_on_threat("operator", "T-1", "informational", 0.9)
    yield tools.escalate_to_phoenix("short")
    yield tools.deescalate("lease-999")
    yield tools.deescalate("lease-2", "boredom")
    yield tools.cognitive_decide("go on")
    yield tools.cognitive_invoke_tem("T-1")
    yield tools.guardian_anchor("DRILL: anchor")
    yield tools.treasury_create_budget("one", "One", 10, "EUR")
    yield tools.treasury_debit("none", 1)
    yield tools.get_active_escalations()
    yield tools.get_escalation_history()
    yield tools.cognitive_audit_trail()
    yield tools.guardian_status()


def check_plain(results):
    for result in results:
        assert json.loads(json.dumps(result, allow_nan=False)) == result
        assert isinstance(result["success"], bool)
        if not result["success"]:
            assert result["error"]


def test_every_result_is_plain_json_in_a_drill(in_drill):
    check_plain(everything())
    assert in_drill.audit() == ()


def test_every_result_is_plain_json_outside_and_no_denial_raises(live):
    shop = live(AGENT)
    check_plain(everything())
    assert {one.type for one in shop.receipts(denied=True)} == {"auth_failure", "treasury_denial"}
    assert shop.audit() == ()


def test_no_denial_raises_for_somebody_unknown(live):
    shop = live("did:vm:nobody:1")
    results = [
        become_operator(),
        tools.escalate_on_threat("observer", "T-1", "intrusion", 0.9),
        tools.escalate_to_phoenix("the building is on fire, all of it"),
        tools.cognitive_decide("go on"),
        tools.cognitive_invoke_tem("T-1"),
        tools.guardian_anchor(),
        tools.deescalate("lease-1"),
    ]
    check_plain(results)
    assert all("did:vm:nobody:1 is in no group" in result["error"] for result in results)
    denials = shop.receipts(denied=True)
    assert len(denials) == len(results)
    assert all("unknown_principal" in codes(one) for one in denials)


@pytest.mark.parametrize(("type_", "confidence"), [("a new kind", 0.9), ("synthetic_drill", 1.5)])
def test_a_fact_that_cannot_be_judged_is_denied_in_a_drill_as_it_is_outside(
    type_, confidence, in_drill
):
    result = tools.escalate_on_threat("operator", "T-1", type_, confidence)
    assert result["success"] is False
    assert "can't be judged" in result["error"]
    assert "malformed" in codes(in_drill.receipts(type_="auth_failure")[-1])


def test_an_act_that_the_constitution_does_not_name_is_denied(live):
    starter = files("vmstate.constitution") / "presets" / "starter.toml"
    shop = live("agent:7", starter.read_text("utf-8"))
    results = [tools.cognitive_decide("go on"), tools.cognitive_invoke_tem("T-1")]
    check_plain(results)
    assert [codes(one) for one in shop.receipts(denied=True)] == [["act_unknown"]] * 2


def test_what_has_no_form_is_no_denial_and_leaves_no_receipt(in_drill):
    tools.treasury_create_budget("b", "a budget", 5, "USD_drill")
    before = in_drill.receipts()
    with pytest.raises(InputError, match=r"^amount: 0 is too small, needs 1 or more$"):
        tools.treasury_debit("b", 0)
    with pytest.raises(InputError, match=r"^the reason has the control character U\+0007"):
        tools.treasury_debit("b", 1, "\a")
    assert in_drill.receipts() == before


@pytest.mark.usefixtures("in_drill")
def test_the_context_knows_its_parts_and_takes_any_iterable_of_them():
    with pytest.raises(InputError, match="'weather' is no part of the context: there are health"):
        tools.cognitive_context(["weather"])
    assert "health" in tools.cognitive_context(part for part in ["health"])

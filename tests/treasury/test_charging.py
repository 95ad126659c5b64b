"""Money on the record: what is charged is in a receipt, what is refused changes nothing else."""

from tempfile import TemporaryDirectory

import apsw
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vmstate.decisions.command import Escalate, make_command
from vmstate.errors import InputError
from vmstate.treasury.budget import MOST_UNITS

ASKED = st.lists(
    st.tuples(st.sampled_from(("allocate", "debit")), st.integers(1, 120), st.sampled_from("ab")),
    max_size=12,
)


def codes(receipt):
    return [one.code for one in receipt.unmet]


# ---- spending ----------------------------------------------------------------------------------


def test_a_debit_is_charged_and_its_receipt_says_what_there_was(treasury):
    treasury.allocate(100)
    receipt = treasury.debit(60)
    assert (receipt.type, receipt.outcome) == ("treasury_debit", "granted")
    assert receipt.fields["scroll"] == "treasury"
    assert receipt.fields["why"] == "spent on a test"
    assert receipt.fields["cost"] == [
        {"budget": "one", "unit": "EUR", "requested": 60, "available": 100, "charged": 60}
    ]
    assert treasury.budget().available == 40
    assert treasury.findings() == []


def test_more_than_there_is_is_refused_with_action_request_balance_and_reason(treasury):
    treasury.allocate(100)
    before = treasury.state()
    receipt = treasury.debit(101)
    assert (receipt.type, receipt.outcome) == ("treasury_denial", "denied")
    assert receipt.fields["scroll"] == "treasury"
    assert receipt.fields["what"]["act"] == "treasury.debit"
    assert receipt.fields["cost"] == [
        {"budget": "one", "unit": "EUR", "requested": 101, "available": 100, "charged": 0}
    ]
    assert receipt.message == "insufficient balance: one has 100, needs 101"
    assert receipt.unmet[0].remedy == "ask for 100 or less, or have more allocated"
    assert treasury.state() == before
    assert treasury.findings() == []


def test_the_last_unit_can_be_spent_and_not_one_more(treasury):
    treasury.allocate(100)
    assert treasury.debit(100).granted
    assert codes(treasury.debit(1)) == ["budget_insufficient"]
    assert treasury.budget().available == 0


def test_a_budget_that_nobody_allocated_has_nothing_to_spend(treasury):
    receipt = treasury.debit(1, "none")
    assert receipt.type == "treasury_denial"
    assert receipt.message == "there is no budget none"
    assert receipt.fields["cost"][0]["available"] == 0
    assert treasury.findings() == []


def test_a_name_is_allocated_once(treasury):
    treasury.allocate(100)
    treasury.debit(60)
    before = treasury.state()
    receipt = treasury.allocate(1_000)
    assert (receipt.type, codes(receipt)) == ("treasury_denial", ["budget_exists"])
    assert receipt.message == "there is a budget one already"
    assert treasury.state() == before


@pytest.mark.parametrize(
    ("amount", "told"),
    [
        (0, "0 is too small, needs 1 or more"),
        (-1, "-1 is too small, needs 1 or more"),
        (1.0, "1.0 is not a whole number"),
        ("1", "'1' is not a whole number"),
        (True, "True is not a whole number"),
        (MOST_UNITS + 1, f"{MOST_UNITS + 1} is too large, needs {MOST_UNITS} or less"),
    ],
)
def test_only_whole_units_from_one_up_are_an_amount(amount, told, treasury):
    treasury.allocate(100)
    before = treasury.receipts()
    with pytest.raises(InputError, match=f"^amount: {told}$"):
        treasury.debit(amount)
    with pytest.raises(InputError, match=f"^allocated: {told}$"):
        treasury.allocate(amount, "two")
    assert treasury.receipts() == before


def test_who_may_not_spend_is_refused_whatever_the_balance(treasury):
    treasury.allocate(100)
    receipt = treasury.vm.debit("did:vm:nobody:1", "one", 1)
    assert (receipt.type, codes(receipt)) == ("treasury_denial", ["unknown_principal"])
    assert receipt.fields["cost"][0]["charged"] == 0
    assert treasury.budget().available == 100


def test_everything_that_is_wrong_with_a_debit_is_said_at_once(treasury):
    receipt = treasury.vm.debit("did:vm:nobody:1", "none", 1)
    assert codes(receipt) == ["unknown_principal", "budget_unknown"]


@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(ASKED)
def test_books_balance_whatever_is_asked(open_treasury, asked):
    with TemporaryDirectory() as folder, open_treasury(folder) as treasury:
        for verb, amount, budget in asked:
            before = treasury.state()
            receipt = getattr(treasury, verb)(amount, budget)
            if not receipt.granted:
                assert treasury.state() == before
                assert receipt.type == "treasury_denial"
                assert receipt.fields["cost"][0]["requested"] == amount
        charged = {"a": 0, "b": 0}
        for receipt in treasury.receipts():
            for line in receipt.fields["cost"]:
                charged[line["budget"]] += line["charged"]
        for budget in treasury.state()[0]:
            assert budget.spent == charged[budget.id]
            assert budget.available >= 0
        assert treasury.findings() == []


# ---- the ceiling of a drill --------------------------------------------------------------------


def test_allocations_of_a_drill_together_stay_within_its_ceiling(training):
    assert training.allocate(400, "one", "DRILL_UNITS").granted
    refused = training.allocate(601, "two", "DRILL_UNITS")
    assert codes(refused) == ["budget_ceiling"]
    assert refused.message == (
        "above the ceiling of this drill: 1001 would be allocated, may come to 1000"
    )
    assert refused.unmet[0].remedy == "allocate 600 or less"
    assert training.allocate(600, "two", "DRILL_UNITS").granted
    assert codes(training.allocate(1, "three", "DRILL_UNITS")) == ["budget_ceiling"]
    assert training.findings() == []


def test_what_was_spent_makes_no_room_below_the_ceiling(training):
    training.allocate(1_000, "one", "DRILL_UNITS")
    assert training.debit(1_000).granted
    assert codes(training.allocate(1, "two", "DRILL_UNITS")) == ["budget_ceiling"]


def test_a_drill_allocates_its_own_currency_only(training):
    receipt = training.allocate(10, "one", "EUR")
    assert codes(receipt) == ["budget_currency"]
    assert receipt.message == "EUR is not the currency of drills, DRILL_UNITS is"


def test_a_live_ledger_has_no_ceiling(treasury):
    assert treasury.allocate(MOST_UNITS).granted
    assert treasury.allocate(MOST_UNITS, "two").granted
    assert treasury.debit(MOST_UNITS, "two").granted
    assert treasury.findings() == []


# ---- a rule's cost -----------------------------------------------------------------------------


def test_what_a_grant_costs_is_charged_in_the_receipt_that_grants_it(charging):
    charging.allocate(10, "climbs")
    grant = charging.climb()
    assert grant.type == "profile_escalation"
    assert grant.fields["cost"] == [
        {"budget": "climbs", "unit": "EUR", "requested": 3, "available": 10, "charged": 3}
    ]
    assert charging.budget("climbs").available == 7
    assert len(charging.receipts()) == 3
    assert charging.findings() == []


def test_a_grant_that_cannot_be_paid_is_denied_and_charges_nothing(charging):
    charging.allocate(2, "climbs")
    before = charging.state()
    denial = charging.climb()
    assert codes(denial) == ["budget_insufficient"]
    assert denial.message == "insufficient balance: climbs has 2, needs 3"
    assert denial.rule == "operator_on_request"
    assert charging.state() == before
    assert not charging.vm.may(charging.ada, "operator")


def test_a_grant_from_a_budget_that_nobody_allocated_is_denied(charging):
    assert codes(charging.climb()) == ["budget_unknown"]


def test_a_denial_for_another_reason_charges_nothing(charging):
    charging.allocate(10, "climbs")
    denial = charging.vm.escalate(
        charging.ada, "operator", trigger="operator_request", reason="short"
    )
    assert codes(denial) == ["reason_short"]
    assert charging.budget("climbs").available == 10


def test_why_says_that_it_cannot_be_paid_and_charges_nothing(charging):
    asked = {"principal": charging.ada, "to": "operator", "trigger": "operator_request"}
    command = make_command(Escalate, {**asked, "reason": "look at ticket 4711"})
    charging.allocate(3, "climbs")
    assert charging.vm.why(command).granted
    assert charging.budget("climbs").available == 3
    charging.debit(1, "climbs")
    assert not charging.vm.why(command).granted


def test_the_end_of_a_lease_gives_no_money_back(charging):
    charging.allocate(10, "climbs")
    grant = charging.climb()
    charging.vm.release(charging.ada, grant.lease).raise_for_denial()
    assert charging.budget("climbs").available == 7
    assert charging.climb().granted
    assert charging.budget("climbs").available == 4


# ---- tampering ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE budget SET allocated = 1000000",
        "UPDATE budget SET spent = 0",
        "UPDATE budget SET unit = 'BTC'",
        "UPDATE budget SET name = 'Another'",
        "UPDATE budget SET id = 'two'",
        "DELETE FROM budget",
        "INSERT INTO budget VALUES ('two', 99, 'Two', 'EUR', 50, 0)",
    ],
)
def test_a_budget_changed_by_hand_is_found(change, treasury):
    treasury.allocate(100)
    treasury.debit(60)
    assert treasury.findings() == []
    connection = apsw.Connection(str(treasury.vm.ledger.path))
    connection.execute(change)
    connection.close()
    wrong = "the table of budgets is not what the receipts allocated and charged"
    assert wrong in treasury.findings()

"""A budget by itself: whole units, and never fewer than none."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmstate.treasury.budget import MOST_UNITS, Budget

units = st.integers(min_value=1, max_value=MOST_UNITS)


def budget(allocated, spent=0):
    return Budget("one", "One", "EUR", allocated, spent, seq=1)


@given(units, st.lists(units, max_size=20))
def test_whatever_is_asked_the_balance_is_never_below_zero_and_charges_add_up(allocated, amounts):
    one, charged = budget(allocated), 0
    for amount in amounts:
        if amount <= one.available:
            one = one.after(amount)
            charged += amount
        else:
            with pytest.raises(ValueError, match=f"one has {one.available}, not {amount}"):
                one.after(amount)
        assert one.available >= 0
        assert one.spent == charged
        assert one.available + one.spent == one.allocated == allocated


def test_the_last_unit_can_be_spent_and_not_one_more():
    spent = budget(100).after(100)
    assert spent.available == 0
    with pytest.raises(ValueError, match="one has 0, not 1"):
        spent.after(1)


def test_what_is_spent_leaves_the_budget_that_it_was_asked_of_as_it_was():
    one = budget(100)
    one.after(60)
    assert one.available == 100

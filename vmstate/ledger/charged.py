"""Budgets as far as receipts tell: what was allocated, and what was charged to it."""

from collections.abc import Iterator

from vmstate.ledger.receipt import Receipt
from vmstate.treasury.budget import Budget


def take_allocation(budgets: dict[str, Budget], receipt: Receipt, seq: int) -> Iterator[str]:
    """Take a receipt of type `treasury_budget`; yields what is wrong with it."""
    detail = receipt.fields["what"]["detail"]
    if detail["budget"] in budgets:
        yield f"allocates {detail['budget']!r}, which was allocated before"
    made = Budget(detail["budget"], detail["name"], detail["unit"], detail["allocated"], 0, seq)
    budgets[made.id] = made


def take_charges(budgets: dict[str, Budget], receipt: Receipt) -> Iterator[str]:
    """Take what a receipt charged: each charge is to a budget that has it, and says what it had."""
    for line in receipt.fields["cost"]:
        budget = budgets.get(line["budget"])
        if budget is None or line["available"] != budget.available:
            yield f"charges {line['budget']!r} as if it had {line['available']}"
        elif not 0 <= line["charged"] <= budget.available:
            yield f"charges more to {line['budget']!r} than it has"
        else:
            budgets[budget.id] = budget.after(line["charged"])

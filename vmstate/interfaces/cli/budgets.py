"""`budget …`: allocating whole units, spending them, and what is left."""

from typing import TYPE_CHECKING, Any

import click

from vmstate.canonical import Json
from vmstate.interfaces.cli.asking import key_options, read_key, signs_as
from vmstate.interfaces.cli.options import complete_budget, once_option
from vmstate.interfaces.cli.output import answer, emit, table
from vmstate.interfaces.cli.settings import Command, Group, Look, Settings, principal_option

if TYPE_CHECKING:
    from vmstate.ledger.receipt import Receipt
    from vmstate.treasury.budget import Budget


@click.group(cls=Group)
def budget() -> None:
    """Budgets of whole units: a charge is covered by what is left, or refused."""


@budget.command("list", cls=Look)
@click.pass_obj
def list_budgets(settings: Settings) -> None:
    """List the budgets, with what was allocated, what is spent and what is left."""
    budgets = settings.authority().budgets()
    if settings.json:
        bodies: list[Json] = [budget_body(one) for one in budgets]
        emit({"ok": True, "budgets": bodies})
        return
    rows = [
        (one.id, one.name, one.unit, str(one.allocated), str(one.spent), str(one.available))
        for one in budgets
    ]
    table(("BUDGET", "NAME", "UNIT", "ALLOCATED", "SPENT", "AVAILABLE"), rows)


def budget_body(budget: "Budget") -> dict[str, Json]:
    """A budget, for `--json`."""
    return {
        "budget": budget.id,
        "name": budget.name,
        "unit": budget.unit,
        "allocated": budget.allocated,
        "spent": budget.spent,
        "available": budget.available,
        "seq": budget.seq,
    }


@budget.command(cls=Command)
@click.argument("id_", metavar="ID")
@click.option("--name", help="What people call it; by default its ID.")
@click.option("--allocated", type=int, required=True, metavar="N", help="How many units.")
@click.option("--unit", required=True, metavar="UNIT", help="Of what: USD, tokens, hours.")
@principal_option("Who allocates it.  [env: VMSTATE_PRINCIPAL]")
@click.option("--reason", default="", help="Why; goes into the receipt.")
@key_options
@once_option
@click.pass_obj
def create(
    settings: Settings,
    /,
    id_: str,
    name: str | None,
    allocated: int,
    unit: str,
    reason: str,
    once: str | None,
    **given: Any,
) -> None:
    """Allocate a budget under ID, which has to be free."""
    key = read_key(given)
    door = settings.authority()
    receipt = door.create_budget(
        signs_as(door, given, key),
        id_,
        name=id_ if name is None else name,
        allocated=allocated,
        unit=unit,
        reason=reason,
        key=key,
        idempotency_key=once,
    )
    answer(receipt, settings, f"{id_}: {allocated} {unit} allocated")


@budget.command(cls=Command)
@click.argument("id_", metavar="ID", shell_complete=complete_budget)
@click.argument("amount", type=int)
@principal_option("Who spends it.  [env: VMSTATE_PRINCIPAL]")
@click.option("--reason", default="", help="On what; goes into the receipt.")
@key_options
@once_option
@click.pass_obj
def debit(
    settings: Settings, /, id_: str, amount: int, reason: str, once: str | None, **given: Any
) -> None:
    """Spend AMOUNT whole units of the budget ID; more than is left is refused."""
    key = read_key(given)
    door = settings.authority()
    actor = signs_as(door, given, key)
    receipt = door.debit(actor, id_, amount, reason=reason, key=key, idempotency_key=once)
    answer(receipt, settings, _spent(receipt) if receipt.granted else "")


def _spent(receipt: "Receipt") -> str:
    (cost,) = receipt.fields["cost"]
    left = cost["available"] - cost["charged"]
    return f"{cost['budget']}: {cost['charged']} {cost['unit']} spent, {left} left"

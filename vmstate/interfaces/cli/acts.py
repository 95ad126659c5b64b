"""`act`: doing what the constitution's [acts] names, on the record."""

from typing import TYPE_CHECKING, Any

import click

from vmstate.interfaces.cli.asking import key_options, read_key, signs_as
from vmstate.interfaces.cli.options import complete_act, once_option, read_pairs
from vmstate.interfaces.cli.output import answer
from vmstate.interfaces.cli.settings import Command, Settings, principal_option

if TYPE_CHECKING:
    from vmstate.ledger.receipt import Receipt


@click.command(cls=Command)
@click.argument("name", shell_complete=complete_act)
@principal_option("Who does it.  [env: VMSTATE_PRINCIPAL]")
@click.option(
    "--argument",
    "arguments",
    multiple=True,
    metavar="NAME=VALUE",
    help="Goes into the receipt as it is.",
)
@click.option("--reason", default="", help="Why; goes into the receipt.")
@key_options
@once_option
@click.pass_obj
def act(
    settings: Settings,
    /,
    name: str,
    arguments: tuple[str, ...],
    reason: str,
    once: str | None,
    **given: Any,
) -> None:
    """Put on record that NAME, an act of the constitution, is done now, or be told why not.

    vmstate says whether it may be done; whoever asked does it. In a drill's ledger some acts only
    pretend, and the answer says so.
    """
    told = read_pairs(arguments, "--argument")
    key = read_key(given)
    door = settings.authority()
    actor = signs_as(door, given, key)
    receipt = door.act(actor, name, arguments=told, reason=reason, key=key, idempotency_key=once)
    answer(receipt, settings, _done(receipt))


def _done(receipt: "Receipt") -> str:
    """What was done, by whom and under which lease; of an anchor also what it says."""
    said, what = receipt.fields, receipt.fields["what"]
    under = f"as {what['from']}" if what["lease"] is None else f"under {what['lease']}"
    done = "is on record"
    if what["result"] is not None:
        done = f"is on record as {what['result']} (a drill: nothing was done)"
    lines = [f"{what['act']} {done}: {said['who']['principal']}, {under}"]
    checkpoint = said["proofs"].get("checkpoint")
    if checkpoint is not None:
        lines.append(f"  checkpoint of {what['detail']['size']} receipts  {checkpoint}")
    return "\n".join(lines)

"""A receipt as people read it in a row: what it is, whom it is about, on whose word, and what."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from vmstate.ledger.receipt import Receipt

RECORDED = "recorded"  # an outcome that says nothing: the type does


def spell_kind(receipt: "Receipt") -> str:
    """`granted`, `denied`, `expired`, `reverted`; the type of what was only recorded."""
    return receipt.type if receipt.outcome == RECORDED else receipt.outcome


def spell_by(receipt: "Receipt") -> str:
    """On whose word, where that is not whom it is about; nothing where nobody asked."""
    who = receipt.fields["who"]
    actor = who["actor"]
    return receipt.by if actor not in {None, who["principal"]} else ""


def spell_what(receipt: "Receipt") -> str:
    """`operator to guardian, lease-4, late by 3s`, as far as a receipt says so.

    A profile that nobody climbed to is what was asked for: `for guardian`. An act that its rule
    does not name, units and what a sensor attests are named: `reboot`, `40 credits of ops`.
    """
    what, rule = receipt.fields["what"], receipt.rule
    moved = f"{what['from']} to {what['to']}" if what["from"] and what["to"] else ""
    wanted = f"for {what['to']}" if what["to"] and not what["from"] else ""
    act = what["act"] if what["act"] and f'"{what["act"]}"' not in rule else ""
    allocated = (what["detail"],) if receipt.type == "treasury_budget" else ()
    units = ", ".join(_spell_units(one) for one in (*receipt.fields["cost"], *allocated))
    attests = receipt.type == "attestation" and not what["to"]
    facts = ", ".join(sorted(receipt.fields["authority"]["facts"])) if attests else ""
    folded = (what["detail"] or {}).get("folded")
    more = f"{folded['count']} more like receipt {folded['like']}" if folded else ""
    parts = (moved or wanted or act or facts, what["lease"], units, what["ending"], more)
    return ", ".join(part for part in parts if part)


def _spell_units(line: "Mapping[str, Any]") -> str:
    """`40 credits of ops`; of a budget that there is not, no unit is known."""
    unit = f" {line['unit']}" if line["unit"] else ""
    amount = line["allocated"] if "allocated" in line else line["requested"]
    return f"{amount}{unit} of {line['budget']}"


def hands_in(receipt: "Receipt") -> Iterator[str]:
    """Everybody whose word it holds: who asked for it, if that was proven, and who signed."""
    who, authority = receipt.fields["who"], receipt.fields["authority"]
    if who["actor"] is not None and who["proof"] != "none":
        yield str(who["actor"])
    if receipt.granted:
        for signed in (*authority["approvals"], *authority["attestations"]):
            yield str(signed["by"])

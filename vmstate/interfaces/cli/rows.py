"""A receipt as people read it in a row: what it is, whom it is about, on whose word, and what."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
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

    A profile that nobody climbed to is what was asked for: `for guardian`.
    """
    what = receipt.fields["what"]
    moved = f"{what['from']} to {what['to']}" if what["from"] and what["to"] else ""
    wanted = f"for {what['to']}" if what["to"] and not what["from"] else ""
    folded = (what["detail"] or {}).get("folded")
    more = f"{folded['count']} more like receipt {folded['like']}" if folded else ""
    return ", ".join(
        part for part in (moved or wanted, what["lease"], what["ending"], more) if part
    )


def hands_in(receipt: "Receipt") -> Iterator[str]:
    """Everybody whose word it holds: who asked for it, if that was proven, and who signed."""
    who, authority = receipt.fields["who"], receipt.fields["authority"]
    if who["actor"] is not None and who["proof"] != "none":
        yield str(who["actor"])
    if receipt.granted:
        for signed in (*authority["approvals"], *authority["attestations"]):
            yield str(signed["by"])

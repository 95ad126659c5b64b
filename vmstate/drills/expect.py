"""Comparing what a step left behind with what it had to leave."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from vmstate.canonical import Json
from vmstate.drills.document import Denial, Value
from vmstate.ledger.receipt import Receipt


@dataclass(frozen=True, slots=True)
class Difference:
    """Something expected, and what there was instead."""

    what: str
    expected: str
    got: str


def fields_of(receipt: Receipt) -> dict[str, Json]:
    """A receipt as one flat table: its own fields, and those of `what`, `who` and the proofs."""
    said = receipt.fields
    authority = said["authority"]
    codes = [one["code"] for one in authority["unmet"]]
    flat = {key: value for key, value in said.items() if not isinstance(value, dict | list)}
    cost = said["cost"][0] if said["cost"] else {}
    return {
        **flat,
        **cost,
        **(said["what"]["detail"] or {}),
        **said["what"],
        **said["who"],
        **said["proofs"],
        "rule": authority["rule"],
        "codes": ", ".join(codes),
        "error": receipt.message,
    }


def result_of(receipt: Receipt) -> dict[str, Value]:
    """What a step's caller gets back, and later steps may refer to; null fields read as ''."""
    flat = fields_of(receipt)
    result: dict[str, Value] = {
        "success": receipt.granted,
        "error": receipt.message,
        "profile": receipt.profile or "",
        "receipt": receipt.seq,
    }
    if flat.get("type") in {"treasury_debit", "treasury_denial", "treasury_budget"}:
        result["balance"] = _balance(receipt)
    names = ("outcome", "type", "lease", "expires_at", "clipped_by", "rule", "reversible")
    for name in (*names, "tem_context_hash", "act", "result", "request", "lock"):
        value = flat.get(name)
        result[name] = value if isinstance(value, str | int) else ""
    return result


def _balance(receipt: Receipt) -> int:
    """What a budget has after this receipt."""
    if receipt.type == "treasury_budget":
        return int(receipt.fields["what"]["detail"]["allocated"])
    line = receipt.fields["cost"][0]
    return int(line["available"] - line["charged"])


def matches(expected: Value, got: object) -> bool:
    """Whether `got` is what was expected; `*` in a text stands for any text."""
    if isinstance(expected, bool) or isinstance(got, bool):
        return expected is got
    if isinstance(expected, str) and isinstance(got, str):
        pattern = ".*".join(re.escape(part) for part in expected.split("*"))
        return re.fullmatch(pattern, got, re.DOTALL) is not None
    return expected == got


def spell(value: object) -> str:
    """A value as drill files and receipts write it: `false`, `null`, and no quotes round a text."""
    if value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool) else str(value)


def compare_fields(
    where: str, expected: Mapping[str, Value], got: Mapping[str, object]
) -> Iterator[Difference]:
    """The fields that are not as expected, or not there."""
    for name, value in expected.items():
        if name not in got:
            yield Difference(f"{where} {name}", spell(value), "no such field")
        elif not matches(value, got[name]):
            yield Difference(f"{where} {name}", spell(value), spell(got[name]))


def compare_receipts(
    expected: tuple[Mapping[str, Value], ...], got: tuple[Receipt, ...]
) -> Iterator[Difference]:
    """Exactly these receipts, in this order."""
    if len(expected) != len(got):
        wanted = ", ".join(str(one.get("type", "a receipt")) for one in expected) or "none"
        seen = ", ".join(receipt.type for receipt in got) or "none"
        yield Difference("receipts", wanted, seen)
        return
    for number, (fields, receipt) in enumerate(zip(expected, got, strict=True), 1):
        where = f"receipt {number}" if len(got) > 1 else "receipt"
        yield from compare_fields(where, fields, fields_of(receipt))


def compare_denial(expected: Denial, got: Receipt) -> Iterator[Difference]:
    """A refusal by this rule, with this code among its reasons and this message."""
    if got.granted:
        yield Difference("outcome", "denied", got.outcome)
        return
    if expected.rule is not None and expected.rule != got.rule:
        yield Difference("denied by rule", expected.rule, got.rule)
    codes = {one.code for one in got.unmet}
    if expected.code is not None and expected.code not in codes:
        yield Difference("denied with code", expected.code, ", ".join(sorted(codes)))
    if expected.error is not None and not matches(expected.error, got.message):
        yield Difference("denied saying", expected.error, got.message)

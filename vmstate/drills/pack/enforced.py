"""Which rule a denial enforced, in the constitution's own words."""

import re
from collections.abc import Iterable, Mapping, Sequence

from vmstate.canonical import Json
from vmstate.constitution.law import Constitution
from vmstate.constitution.lines import Place, line_index, spell_place
from vmstate.ledger.receipt import Receipt

_KEY = re.compile(r'"([^"]*)"|([^."]+)')


class Quotes:
    """The lines of a constitution's file, found by the paths that receipts name."""

    def __init__(self, constitution: Constitution) -> None:
        self._constitution = constitution
        text = constitution.toml.decode()
        self._lines = text.splitlines()
        self._index: Mapping[Place, int] = line_index(text)

    def quote(self, rule: str) -> tuple[Place, str]:
        """The place that `rule` names and its lines; a summary where a rule is what is absent."""
        place: Place = (
            ("escalations", rule)
            if rule in self._constitution.rules
            else tuple(quoted or bare for quoted, bare in _KEY.findall(rule))
        )
        while place and place not in self._index:
            place = place[:-1]
        if not place:
            return (rule,), self._absent(rule)
        return place, self._text(place)

    def _text(self, place: Place) -> str:
        """A table with what is in it, or a key with its value; no blank lines or comments after."""
        first = self._index[place]
        later = (
            line
            for other, line in self._index.items()
            if line > first and other[: len(place)] != place
        )
        found = self._lines[first - 1 : min(later, default=len(self._lines) + 1) - 1]
        while found and (not found[-1].strip() or found[-1].lstrip().startswith("#")):
            found.pop()
        return "\n".join(found)

    def _absent(self, rule: str) -> str:
        if rule != "escalations":
            return f"the constitution has no {rule}: what is not granted is denied"
        ways = (
            f"{one.from_} to {one.to} on {one.trigger}  ({name})"
            for name, one in self._constitution.rules.items()
        )
        return "\n".join(("what is not granted is denied, and these are granted:", *ways))


def denials(receipts: Iterable[Receipt], quotes: Quotes) -> list[Json]:
    """Every refusal: what was attempted, all that was missing, and the rule's own text."""
    return [_denial(one, quotes) for one in receipts if not one.granted]


def _denial(receipt: Receipt, quotes: Quotes) -> dict[str, Json]:
    said = receipt.fields
    what = said["what"]
    if what["act"]:
        attempted = what["act"]
    elif what["to"]:
        attempted = f"{what['from']} to {what['to']} on {what['trigger']}"
    else:
        attempted = receipt.type
    cost: list[Json] = list(said["cost"])
    unmet: list[Json] = [{**one.body(), "message": one.message} for one in receipt.unmet]
    paths = [receipt.rule, *(one.rule for one in receipt.unmet)]
    return {
        "seq": receipt.seq,
        "at": said["at"],
        "who": said["who"]["principal"],
        "held": what["from"],
        "attempted": attempted,
        "rule": receipt.rule,
        "law": _law(paths, quotes),
        "unmet": unmet,
        "cost": cost,
    }


def _law(paths: Sequence[str], quotes: Quotes) -> list[Json]:
    """Each place once, and none that a place before it holds already."""
    quoted: list[Place] = []
    law: list[Json] = []
    for path in dict.fromkeys(paths):
        place, text = quotes.quote(path)
        if not any(place[: len(other)] == other for other in quoted):
            quoted.append(place)
            law.append({"path": spell_place(place), "text": text})
    return law

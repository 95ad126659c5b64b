"""Does the constitution know the names that a drill uses? Asked before any of its steps runs.

    mine.drill.toml:14: step 3 with.to: no profile 'gardian' (did you mean 'guardian'?): there are …

A drill may be *about* a name that nobody knows. Such a step says so by the denial it expects, and
is then left as it is: `expect.denied.code` is the code that the message names, or for `may`, which
leaves no denial, `expect.result.success = false`; and `expect.profile = { somebody = "unknown" }`.
What a step makes for itself, such as budgets, is no name of the constitution, and neither is what
stands for something saved or for any text (`{op.lease}`, `*`).
"""

from collections.abc import Collection, Iterable, Iterator, Mapping

from vmstate.constitution.document import ENGINE_TYPES
from vmstate.constitution.document import Document as Law
from vmstate.constitution.facts import did_you_mean
from vmstate.constitution.law import Constitution
from vmstate.constitution.lines import Place
from vmstate.drills.document import Step, Value
from vmstate.drills.drill import Drill
from vmstate.drills.numbering import PARTS, report_drill
from vmstate.errors import DrillError, InputError
from vmstate.leases.lease import ENGINE_ENDINGS

Wrong = tuple[Place, str]

# An argument of a step: what it names, and the codes of the denials that a wrong one leads to.
_ARGUMENTS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "to": ("profile", ("unknown_profile",)),
    "trigger": ("trigger", ("no_path", "unknown_profile")),
    "ending": ("ending", ("ending_unknown",)),
    "act": ("act", ("act_unknown",)),
    "principal": ("principal", ("unknown_principal",)),
    "profile": ("profile", ("unknown_profile",)),
}
# What whoever does it signs, and the code of the denial where they have no key for that.
_SIGNED = {
    "approve": "approval_no_key",
    "attest": "attestation_no_key",
    "push": "attestation_no_key",
    "deny": "order_no_key",
    "revoke": "order_no_key",
    "lock": "order_no_key",
    "unlock": "order_no_key",
}
# A field of an expected receipt or result, and what it names.
_FIELDS = {
    "from": "profile",
    "to": "profile",
    "profile": "profile",
    "trigger": "trigger",
    "ending": "end of a lease",
    "act": "act",
    "type": "type of receipt",
    "rule": "rule",
    "principal": "principal",
    "actor": "principal",
}


def check_names(drills: Iterable[Drill], constitution: Constitution) -> None:
    """Raise DrillError with a line for each name in `drills` that `constitution` doesn't know.

    Raises:
        InputError: it has no [drill] table, and without one none of them can be run.
    """
    if constitution.document.drill is None:
        raise InputError("the constitution has no [drill] table: add one to run drills")
    known = _Known(constitution)
    lines: list[str] = []
    for drill in drills:
        wrong: list[Wrong] = []
        for table in PARTS:
            for index, step in enumerate(getattr(drill.document, table)):
                wrong += _asked(step, (table, index), known)
                wrong += _expected(step, (table, index), known)
        lines += report_drill(drill.name, drill.text, wrong, dict(drill.document))
    if lines:
        raise DrillError(tuple(lines))


class _Known:
    """The names of a constitution by what they are, and a drill's stand-ins."""

    def __init__(self, constitution: Constitution) -> None:
        law = constitution.document
        assert law.drill is not None
        stand_ins = law.drill.stand_ins
        rules, acts = law.escalations, law.acts
        self.principal = law.drill.principal
        self.people = constitution.people.with_stand_ins(stand_ins, {})
        self.names: dict[str, Collection[str]] = {
            "profile": tuple(law.profiles),
            "trigger": tuple(dict.fromkeys(rule.trigger for rule in rules.values())),
            "ending": tuple(law.endings),
            "end of a lease": (*law.endings, *ENGINE_ENDINGS),
            "act": tuple(acts),
            "act or profile": (*acts, *law.profiles),
            "fact": tuple(law.facts),
            "stand-in": tuple(dict.fromkeys(n for group in stand_ins.values() for n in group)),
            "rule": tuple(rules),
            "type of receipt": (
                *sorted(ENGINE_TYPES),
                *sorted({act.receipt for act in acts.values() if act.receipt is not None}),
            ),
        }

    def wrong(self, what: str, name: str) -> str | None:
        """What to say if nothing of this kind is called `name`."""
        if what == "principal":
            who = f"{name!r} is in no group, under no [principals] and no stand-in: name one who is"
            return None if self.people.knows(name) else who
        known = self.names[what]
        if name in known:
            return None
        near = did_you_mean(name, tuple(known))
        return f"no {what} {name!r}{near}: there are {', '.join(known) or 'none'}"


def _asked(step: Step, place: Place, known: _Known) -> Iterator[Wrong]:
    """Names that the step uses and that it does not expect to be refused for."""
    denied, asks = step.expect.denied, step.do == "may"
    if asks and step.expect.result.get("success") is False:
        return
    code = denied.code if denied is not None else None
    for where, kind, name, codes in _arguments(step):
        if code not in codes and (what := known.wrong(kind, name)):
            wanted = "result.success = false" if asks else f"denied.code = {codes[0]!r}"
            yield (*place, *where), f"{what}; if it is to be refused, write expect.{wanted}"
    yield from _unsigned(step, place, known)


def _unsigned(step: Step, place: Place, known: _Known) -> Iterator[Wrong]:
    """A step by somebody who can't sign it, and that does not expect to be refused."""
    who, signers = step.as_ or known.principal, known.names["stand-in"]
    refused = step.expect.denied is not None or step.expect.result.get("success") is False
    if step.do not in _SIGNED or refused or who in signers or not known.people.knows(who):
        return
    what = (
        f"{step.do!r} takes a signature, in a drill only stand-ins sign, and {who!r} is none: "
        f'write as = "STAND-IN" beside do; there are {", ".join(signers) or "none"}; '
        f"if it is to be refused, write expect.denied.code = {_SIGNED[step.do]!r}"
    )
    yield (*place, "do" if step.as_ is None else "as"), what


def _arguments(step: Step) -> Iterator[tuple[Place, str, str, tuple[str, ...]]]:
    """Each name that a step uses: where, what it has to be, and the codes if it is not."""
    given = step.with_
    if step.as_ is not None:
        yield ("as",), "principal", step.as_, ("unknown_principal",)
    for key, (kind, codes) in _ARGUMENTS.items():
        if (name := getattr(given, key)) is not None:
            yield ("with", key), kind, name, codes
    if given.what is not None and "{" not in given.what:
        yield ("with", "what"), "act or profile", given.what, ()
    for name in given.facts:
        yield ("with", "facts", name), "fact", name, ("fact_unknown",)
    for name in given.approved_by:
        yield ("with", "approved_by"), "stand-in", name, ("approval_no_key", "approval_signature")
    if (name := given.attested_by) is not None:
        codes = ("attestation_no_key", "attestation_signature")
        yield ("with", "attested_by"), "stand-in", name, codes


def _expected(step: Step, place: Place, known: _Known) -> Iterator[Wrong]:
    """Names that can't come out of any step; the step's own were looked at already."""
    expect, at = step.expect, (*place, "expect")
    for name, profile in expect.profile.items():
        for kind, one in (("principal", name), ("profile", profile)):
            if profile != "unknown" and (what := known.wrong(kind, one)):
                yield (*at, "profile", name), what
    tables: list[tuple[str, Mapping[str, Value]]] = [("result", expect.result)]
    tables += [("receipts", fields) for fields in expect.receipts or ()]
    if expect.denied is not None and expect.denied.rule is not None:
        tables.append(("denied", {"rule": expect.denied.rule}))
    own = {step.with_.to, step.with_.trigger, step.with_.ending, step.with_.act, step.as_}
    for table, fields in tables:
        for key, value in fields.items():
            if key not in _FIELDS or not isinstance(value, str) or value in own:
                continue
            if (name := _plain(key, value)) and (what := known.wrong(_FIELDS[key], name)):
                yield (*at, table, key), what


def _plain(key: str, value: str) -> str:
    """The name in an expected value; nothing if it stands for something else, or for any text."""
    if "*" in value or "{" in value:
        return ""
    if key == "rule":
        # A denial may name a place in the constitution instead.
        table, *below = value.split(".")
        is_place = table in Law.model_fields
        return value if not is_place else below[0] if below and table == "escalations" else ""
    return value

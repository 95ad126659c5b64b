"""Do the names in a document fit together? Every misfit is found, none is repaired.

A constitution whose rules name what does not exist would deny for a reason that nobody wrote, so
it does not load. What can be *proved* of a well-formed constitution is another matter.
"""

from collections.abc import Iterable, Iterator, Mapping
from decimal import Decimal

from vmstate.constitution.document import (
    ENDINGS,
    ENGINE_TYPES,
    HOLDER,
    MONEY_TYPES,
    ApprovalNeed,
    Document,
    Fact,
    FactNeed,
)
from vmstate.constitution.facts import did_you_mean
from vmstate.constitution.lines import Place
from vmstate.constitution.people import CONTROLLERS, People

Mistake = tuple[Place, str]


def find_mistakes(document: Document) -> Iterator[Mistake]:
    """Yield every name that does not fit, with its place."""
    yield from _ladder(document)
    yield from _escalations(document)
    yield from _times(document)
    yield from _endings(document)
    yield from _people(document)
    yield from _acts(document)
    yield from _tools(document)
    yield from _others(document)


def lineage(document: Document, profile: str) -> tuple[str, ...]:
    """The profiles from the bottom up to `profile`; stops where the ladder is broken."""
    rungs: list[str] = []
    here: str | None = profile
    while here is not None and here in document.profiles and here not in rungs:
        rungs.append(here)
        here = document.profiles[here].above
    return tuple(reversed(rungs))


def _unknown(name: str, known: Iterable[str], what: str) -> str:
    known = tuple(known)
    listed = ", ".join(known) or "none"
    return f"no {what} {name!r}{did_you_mean(name, known)}: there are {listed}"


def _ladder(document: Document) -> Iterator[Mistake]:
    baseline = document.constitution.baseline
    if baseline not in document.profiles:
        yield ("constitution", "baseline"), _unknown(baseline, document.profiles, "profile")
        return
    for name, profile in document.profiles.items():
        place = ("profiles", name, "above")
        if name == baseline:
            if profile.above is not None:
                yield place, f"the baseline {name!r} stands above nothing: leave `above` out"
        elif profile.above is None:
            yield ("profiles", name), f"say what it stands above: above = {baseline!r}"
        elif profile.above not in document.profiles:
            yield place, _unknown(profile.above, document.profiles, "profile")
        elif lineage(document, name)[0] != baseline:
            yield place, f"the ladder from {name!r} downwards does not reach {baseline!r}"


def _escalations(document: Document) -> Iterator[Mistake]:
    for name, rule in document.escalations.items():
        place: Place = ("escalations", name)
        for key, profile in (("from", rule.from_), ("to", rule.to)):
            if profile not in document.profiles:
                yield (*place, key), _unknown(profile, document.profiles, "profile")
        known = {rule.from_, rule.to} <= set(document.profiles)
        if known and rule.from_ not in lineage(document, rule.to)[:-1]:
            yield (*place, "to"), f"{rule.to!r} does not stand above {rule.from_!r}: climb upwards"
        needs: Place = (*place, "needs")
        if rule.needs.requester is not None:
            yield from _groups(document, rule.needs.requester, (*needs, "requester"))
        if rule.needs.approval is not None:
            yield from _approval(document, rule.needs.approval, (*needs, "approval"))
        for fact, need in rule.needs.facts.items():
            yield from _fact_need(document, fact, need, (*needs, "facts", fact))


def _fact_need(document: Document, name: str, need: FactNeed, place: Place) -> Iterator[Mistake]:
    fact = document.facts.get(name)
    if fact is None:
        yield place, _unknown(name, document.facts, "fact")
        return
    yield from _value_list(name, fact, need, place)
    for key, bound in (("min", need.min), ("max", need.max)):
        if bound is None:
            continue
        if fact.type != "decimal":
            yield (*place, key), f"{name!r} is not a decimal: compare it with one_of or not_in"
        elif not _within(fact, bound):
            yield (*place, key), f"{bound} is outside what {name!r} may be"


def _value_list(name: str, fact: Fact, need: FactNeed, place: Place) -> Iterator[Mistake]:
    for key, values in (("one_of", need.one_of), ("not_in", need.not_in)):
        if values is None:
            continue
        if fact.one_of is None:
            # A value that was never listed would slip past a list of what is refused.
            yield (*place, key), f"{name!r} lists no values: give facts.{name} a one_of first"
            continue
        for value in values:
            if value not in fact.one_of:
                yield (*place, key), _unknown(value, fact.one_of, "value")


def _within(fact: Fact, bound: Decimal) -> bool:
    low = fact.min is None or fact.min <= bound
    return low and (fact.max is None or bound <= fact.max)


def _times(document: Document) -> Iterator[Mistake]:
    for table, times in (("cooldown", document.cooldown), ("holds", document.holds)):
        for profile in times:
            if profile not in document.profiles:
                yield (table, profile), _unknown(profile, document.profiles, "profile")
            elif profile == document.constitution.baseline:
                yield (table, profile), f"{profile!r} is the baseline, which is never left"
    for profile in document.holds:
        if profile not in document.cooldown:
            # Without one, a hold ends and the next begins a microsecond later.
            yield ("holds", profile), f"needs a cool-down as well: add cooldown.{profile}"


def _endings(document: Document) -> Iterator[Mistake]:
    for name, ending in document.endings.items():
        place: Place = ("endings", name)
        if name not in ENDINGS:
            yield place, _unknown(name, ENDINGS, "ending")
        elif name == "timeout_expired":
            if ending.by is not None:
                yield (*place, "by"), "time ends a lease by itself: leave `by` out"
            if ending.to != "previous":
                yield (*place, "to"), 'each lease has its own time: write to = "previous"'
        elif ending.by is None:
            yield place, "nobody may end a lease so: add `by`, or leave the table out"
        else:
            groups = tuple(group for group in ending.by if group != HOLDER)
            yield from _groups(document, groups, (*place, "by"))
    if "timeout_expired" not in document.endings:
        yield (
            ("endings",),
            'timeout_expired is missing: add [endings.timeout_expired] to = "previous"',
        )


def _people(document: Document) -> Iterator[Mistake]:
    for name, principal in document.principals.items():
        place: Place = ("principals", name, "controller")
        seen, here = {name}, principal.controller
        while here is not None and here not in seen and len(seen) <= CONTROLLERS:
            seen.add(here)
            here = document.principals[here].controller if here in document.principals else None
        if here is not None:
            yield place, f"{name!r} would stand behind itself, or more than {CONTROLLERS} in a row"
    keys: dict[object, str] = {}
    for name, principal in document.principals.items():
        if principal.key is not None and principal.key in keys:
            other = keys[principal.key]
            yield ("principals", name, "key"), f"is the key of {other!r} too: one key, one name"
        elif principal.key is not None:
            keys[principal.key] = name


def _acts(document: Document) -> Iterator[Mistake]:
    scrolls: dict[str, str] = {}
    for act, table in document.acts.items():
        place: Place = ("acts", act)
        if table.receipt is not None and table.scroll is not None:
            if table.receipt in ENGINE_TYPES:
                what = f"{table.receipt!r} is written by vmstate itself: name it otherwise"
                yield (*place, "receipt"), what
            if MONEY_TYPES.get(table.receipt, act) != act:
                only = MONEY_TYPES[table.receipt]
                what = f"{table.receipt!r} says that units were moved, which only {only} does"
                yield (*place, "receipt"), what
            if scrolls.setdefault(table.receipt, table.scroll) != table.scroll:
                what = f"{table.receipt!r} goes into {scrolls[table.receipt]!r} elsewhere: use one"
                yield (*place, "scroll"), what
        if table.profile not in document.profiles:
            yield (*place, "profile"), _unknown(table.profile, document.profiles, "profile")
        if act in document.profiles:
            yield place, f"{act!r} is a profile too: `may` could mean either"


def _tools(document: Document) -> Iterator[Mistake]:
    for name, server in document.tools.items():
        for table in ("tools", "resources", "prompts"):
            for pattern, rule in getattr(server, table).items():
                place: Place = ("tools", name, table, pattern)
                if rule.profile not in document.profiles:
                    yield (*place, "profile"), _unknown(rule.profile, document.profiles, "profile")
                if rule.each_call and server.approvers is None:
                    what = f"say who approves single calls: add approvers to [tools.{name}]"
                    yield (*place, "each_call"), what
        if server.approvers is not None:
            need = ApprovalNeed(count=1, of=server.approvers)
            for place, what in _approval(document, need, ("tools", name)):
                yield ("tools", name, "approvers", *place[3:]), what


def _others(document: Document) -> Iterator[Mistake]:
    for name, fact in document.facts.items():
        if fact.attested_by is not None:
            yield from _groups(document, (fact.attested_by,), ("facts", name, "attested_by"))
    if document.locks is not None:
        yield from _groups(document, document.locks.by, ("locks", "by"))
        yield from _groups(document, document.locks.lift, ("locks", "lift"))
    for key, exceptional in (("amendment", document.amendment), ("recovery", document.recovery)):
        if exceptional is not None:
            place = (key, "needs", "approval")
            yield from _approval(document, exceptional.needs.approval, place)
    if HOLDER in document.groups:
        yield (
            ("groups", HOLDER),
            f"{HOLDER!r} means whoever holds a lease: name the group otherwise",
        )
    yield from _drill(document)


def _drill(document: Document) -> Iterator[Mistake]:
    drill = document.drill
    if drill is None:
        return
    for group, names in drill.stand_ins.items():
        place: Place = ("drill", "stand_ins", group)
        yield from _groups(document, (group,), place)
        for name in names:
            if name in document.principals:
                yield place, f"{name!r} is under [principals]: a stand-in exists in drills only"
    people = People(document.groups, named=frozenset(document.principals))
    if not people.knows(drill.principal):
        what = f"{drill.principal!r} is in no group and under no [principals]: add it to one"
        yield ("drill", "principal"), what


def _groups(document: Document, groups: tuple[str, ...], place: Place) -> Iterator[Mistake]:
    for group in groups:
        if group not in document.groups:
            yield place, _unknown(group, document.groups, "group")


def _approval(document: Document, need: ApprovalNeed, place: Place) -> Iterator[Mistake]:
    yield from _groups(document, need.of, (*place, "of"))
    members: Mapping[str, tuple[str, ...]] = {
        group: document.groups[group] for group in need.of if group in document.groups
    }
    for group, patterns in members.items():
        if any(pattern.endswith("*") for pattern in patterns):
            wild = f"{group!r} has a wildcard, and a group with one never approves"
            yield (*place, "of"), f"{wild}: list the approvers by name"
    named = {pattern for patterns in members.values() for pattern in patterns}
    if members and len(named) < need.count:
        yield (*place, "count"), f"asks for {need.count} people, and the groups name {len(named)}"

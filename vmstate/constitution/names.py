"""Do the names in a document fit together? Every misfit is found, none is repaired.

A constitution whose rules name what does not exist would deny for a reason that nobody wrote, so
it does not load. What can be *proved* of a well-formed constitution is another matter. Each finding
says which places it rests on, so that it is not told where one of them misfits anyway.
"""

from collections.abc import Iterable, Iterator
from decimal import Decimal

from vmstate.constitution.document import (
    ENDINGS,
    ENGINE_TYPES,
    HOLDER,
    MONEY_TYPES,
    ApprovalNeed,
    Document,
    Escalation,
    Fact,
    FactNeed,
)
from vmstate.constitution.facts import did_you_mean
from vmstate.constitution.lines import NAMES, Finding, Mistake, Place
from vmstate.constitution.people import CONTROLLERS, People


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


def _no_profile(document: Document, name: str, place: Place) -> Iterator[Finding]:
    if name not in document.profiles:
        what = _unknown(name, document.profiles, "profile")
        yield place, what, (place, ("profiles", NAMES))


def _ladder(document: Document) -> Iterator[Finding]:
    baseline, said = document.constitution.baseline, ("constitution", "baseline")
    yield from _no_profile(document, baseline, said)
    for name, profile in document.profiles.items():
        place = ("profiles", name, "above")
        if profile.above is not None:
            yield from _no_profile(document, profile.above, place)
        if baseline not in document.profiles:
            continue  # whatever is said of the way down to it would be another baseline's
        if name == baseline:
            if profile.above is not None:
                what = f"the baseline {name!r} stands above nothing: leave `above` out"
                yield place, what, (place, said)
        elif profile.above is None:
            what = f"say what it stands above: above = {baseline!r}"
            yield ("profiles", name), what, (place, said)
        elif profile.above in document.profiles and lineage(document, name)[0] != baseline:
            what = f"the ladder from {name!r} downwards does not reach {baseline!r}"
            yield place, what, (said, *_rungs(document, name))


def _rungs(document: Document, profile: str) -> tuple[Place, ...]:
    """What is read to find the way down from `profile`."""
    return tuple(("profiles", rung, "above") for rung in lineage(document, profile))


def _escalations(document: Document) -> Iterator[Finding]:
    for name, rule in document.escalations.items():
        place: Place = ("escalations", name)
        for key, profile in (("from", rule.from_), ("to", rule.to)):
            yield from _no_profile(document, profile, (*place, key))
        known = {rule.from_, rule.to} <= set(document.profiles)
        if known and _climbs_down(document, rule):
            what = f"{rule.to!r} does not stand above {rule.from_!r}: climb upwards"
            ends = (*place, "from"), (*place, "to")
            yield ends[1], what, (*ends, *_rungs(document, rule.to))
        needs: Place = (*place, "needs")
        if rule.needs.requester is not None:
            yield from _groups(document, rule.needs.requester, (*needs, "requester"))
        yield from _approvals(document, rule.needs.approval, (*needs, "approval"))
        for fact, need in rule.needs.facts.items():
            yield from _fact_need(document, fact, need, (*needs, "facts", fact))


def _climbs_down(document: Document, rule: Escalation) -> bool:
    """Whether `to` does not stand above `from`; on a broken ladder that can't be told."""
    below, baseline = lineage(document, rule.to), document.constitution.baseline
    if baseline not in document.profiles:
        baseline, *others = [n for n, p in document.profiles.items() if p.above is None] or [""]
        if others:
            return False
    return below[0] == baseline and rule.from_ not in below[:-1]


def _fact_need(document: Document, name: str, need: FactNeed, place: Place) -> Iterator[Finding]:
    fact, declared = document.facts.get(name), ("facts", name)
    if fact is None:
        yield place, _unknown(name, document.facts, "fact"), (("facts", NAMES),)
        return
    yield from _value_list(name, fact, need, place)
    for key, bound in (("min", need.min), ("max", need.max)):
        if bound is None:
            continue
        at = (*place, key)
        if fact.type != "decimal":
            what = f"{name!r} is not a decimal: compare it with one_of or not_in"
            yield at, what, (at, (*declared, "type"), (*declared, "one_of"))
        elif not _within(fact, bound):
            what = f"{bound} is outside what {name!r} may be"
            yield at, what, (at, *((*declared, part) for part in ("type", "min", "max")))


def _value_list(name: str, fact: Fact, need: FactNeed, place: Place) -> Iterator[Finding]:
    listed = ("facts", name, "one_of")
    for key, values in (("one_of", need.one_of), ("not_in", need.not_in)):
        if values is None:
            continue
        at = (*place, key)
        if fact.one_of is None:
            # A value that was never listed would slip past a list of what is refused.
            what = f"{name!r} lists no values: give facts.{name} a one_of first"
            yield at, what, (at, listed, ("facts", name, "type"))
            continue
        for index, value in enumerate(values):
            if value not in fact.one_of:
                yield at, _unknown(value, fact.one_of, "value"), ((*at, index), listed)


def _within(fact: Fact, bound: Decimal) -> bool:
    low = fact.min is None or fact.min <= bound
    return low and (fact.max is None or bound <= fact.max)


def _times(document: Document) -> Iterator[Finding]:
    for table, times in (("cooldown", document.cooldown), ("holds", document.holds)):
        for profile in times:
            place: Place = (table, profile)
            if profile not in document.profiles:
                what = _unknown(profile, document.profiles, "profile")
                yield place, what, (("profiles", NAMES),)
            elif profile == document.constitution.baseline:
                what = f"{profile!r} is the baseline, which is never left"
                yield place, what, (("constitution", "baseline"),)
    for profile in document.holds:
        if profile not in document.cooldown:
            # Without one, a hold ends and the next begins a microsecond later.
            what = f"needs a cool-down as well: add cooldown.{profile}"
            yield ("holds", profile), what, (("cooldown", NAMES),)


def _endings(document: Document) -> Iterator[Finding]:
    for name, ending in document.endings.items():
        place: Place = ("endings", name)
        by, to = (*place, "by"), (*place, "to")
        if name not in ENDINGS:
            yield place, _unknown(name, ENDINGS, "ending"), ()
        elif name == "timeout_expired":
            if ending.by is not None:
                yield by, "time ends a lease by itself: leave `by` out", (by,)
            if ending.to != "previous":
                yield to, 'each lease has its own time: write to = "previous"', (to,)
        elif ending.by is None:
            what = "nobody may end a lease so: add `by`, or leave the table out"
            yield place, what, (by,)
        else:
            yield from _groups(document, ending.by, by, also=HOLDER)
    if "timeout_expired" not in document.endings:
        what = 'timeout_expired is missing: add [endings.timeout_expired] to = "previous"'
        yield ("endings",), what, (("endings", NAMES),)


def _people(document: Document) -> Iterator[Finding]:
    for name, principal in document.principals.items():
        place: Place = ("principals", name, "controller")
        seen, here = {name}, principal.controller
        while here is not None and here not in seen and len(seen) <= CONTROLLERS:
            seen.add(here)
            here = document.principals[here].controller if here in document.principals else None
        if here is not None:
            what = f"{name!r} would stand behind itself, or more than {CONTROLLERS} in a row"
            yield place, what, tuple(("principals", one, "controller") for one in seen)
    for kind in ("key", "token"):
        owners: dict[object, str] = {}
        for name, principal in document.principals.items():
            place, value = ("principals", name, kind), getattr(principal, kind)
            if value is not None and value in owners:
                other = owners[value]
                what = f"is the {kind} of {other!r} too: one {kind}, one name"
                yield place, what, (place, ("principals", other, kind))
            elif value is not None:
                owners[value] = name


def _acts(document: Document) -> Iterator[Finding]:
    first: dict[str, str] = {}  # the act that wrote each type of receipt first
    for act, table in document.acts.items():
        place: Place = ("acts", act)
        receipt, scroll = (*place, "receipt"), (*place, "scroll")
        if table.receipt is not None and table.receipt in ENGINE_TYPES:
            what = f"{table.receipt!r} is written by vmstate itself: name it otherwise"
            yield receipt, what, (receipt,)
        if table.receipt is not None and MONEY_TYPES.get(table.receipt, act) != act:
            only = MONEY_TYPES[table.receipt]
            what = f"{table.receipt!r} says that units were moved, which only {only} does"
            yield receipt, what, (receipt,)
        if table.receipt is not None and table.scroll is not None:
            other = first.setdefault(table.receipt, act)
            if (there := document.acts[other].scroll) != table.scroll:
                what = f"{table.receipt!r} goes into {there!r} elsewhere: use one"
                read = (("acts", other, "receipt"), ("acts", other, "scroll"), receipt, scroll)
                yield scroll, what, read
        yield from _no_profile(document, table.profile, (*place, "profile"))
        if act in document.profiles:
            yield place, f"{act!r} is a profile too: `may` could mean either", ()


def _tools(document: Document) -> Iterator[Finding]:
    for name, server in document.tools.items():
        approvers: Place = ("tools", name, "approvers")
        for table in ("tools", "resources", "prompts"):
            for pattern, rule in getattr(server, table).items():
                place: Place = ("tools", name, table, pattern)
                yield from _no_profile(document, rule.profile, (*place, "profile"))
                if rule.each_call and server.approvers is None:
                    at = (*place, "each_call")
                    what = f"say who approves single calls: add approvers to [tools.{name}]"
                    yield at, what, (at, approvers)
                if rule.each_call and document.requests is None:
                    at = (*place, "each_call")
                    what = "single calls wait for their approval as requests: add [requests]"
                    yield at, what, (at, ("requests",))
        if server.approvers is not None:
            yield from _approvers(document, server.approvers, approvers)


def _others(document: Document) -> Iterator[Finding]:
    for name, fact in document.facts.items():
        if fact.attested_by is not None:
            yield from _groups(document, (fact.attested_by,), ("facts", name, "attested_by"))
    if document.locks is not None:
        yield from _groups(document, document.locks.by, ("locks", "by"))
        yield from _groups(document, document.locks.lift, ("locks", "lift"))
    for key, exceptional in (("amendment", document.amendment), ("recovery", document.recovery)):
        if exceptional is not None:
            place = (key, "needs", "approval")
            yield from _approvals(document, exceptional.needs.approval, place)
    if HOLDER in document.groups:
        what = f"{HOLDER!r} means whoever holds a lease: name the group otherwise"
        yield ("groups", HOLDER), what, ()
    yield from _drill(document)


def _drill(document: Document) -> Iterator[Finding]:
    drill = document.drill
    if drill is None:
        return
    for group, names in drill.stand_ins.items():
        place: Place = ("drill", "stand_ins", group)
        if group not in document.groups:
            yield place, _unknown(group, document.groups, "group"), (("groups", NAMES),)
        for index, name in enumerate(names):
            if name in document.principals:
                what = f"{name!r} is under [principals]: a stand-in exists in drills only"
                yield place, what, ((*place, index),)
    people = People(document.groups, named=frozenset(document.principals))
    if not people.knows(drill.principal):
        what = f"{drill.principal!r} is in no group and under no [principals]: add it to one"
        read = (("drill", "principal"), ("groups",), ("principals", NAMES))
        yield ("drill", "principal"), what, read


def _groups(
    document: Document, groups: tuple[str, ...], place: Place, *, also: str | None = None
) -> Iterator[Finding]:
    for index, group in enumerate(groups):
        known = (*document.groups, *([] if also is None else [also]))
        if group not in known:
            what = _unknown(group, known, "group")
            yield place, what, ((*place, index), ("groups", NAMES))


def _approvals(
    document: Document, stages: tuple[ApprovalNeed, ...], place: Place
) -> Iterator[Finding]:
    for number, need in enumerate(stages):
        yield from _approval(document, need, (*place, number))


def _approval(document: Document, need: ApprovalNeed, place: Place) -> Iterator[Finding]:
    at, count = (*place, "of"), (*place, "count")
    yield from _approvers(document, need.of, at)
    named = {pattern for group in need.of for pattern in document.groups.get(group, ())}
    # Of a group that is not there, nobody can say how many are in it.
    if len(named) < need.count and all(group in document.groups for group in need.of):
        what = f"asks for {need.count} people, and the groups name {len(named)}"
        yield count, what, (at, count, *(("groups", group) for group in need.of))


def _approvers(document: Document, groups: tuple[str, ...], place: Place) -> Iterator[Finding]:
    yield from _groups(document, groups, place)
    for index, group in enumerate(groups):
        if any(pattern.endswith("*") for pattern in document.groups.get(group, ())):
            wild = f"{group!r} has a wildcard, and a group with one never approves"
            what = f"{wild}: list the approvers by name"
            yield place, what, ((*place, index), ("groups", group))

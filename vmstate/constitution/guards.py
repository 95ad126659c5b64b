"""Is a guard met? Each says all that is missing, and what can't be told is missing.

A guard is called with a `Case` and returns the requirements that it does not meet, or nothing. It
sees no clock, no ledger and no lease: whoever asks has worked out beforehand who approved, which
facts hold and how much cool-down is left.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal
from typing import Protocol

from vmstate.canonical import format_decimal, format_duration
from vmstate.constitution.document import ApprovalNeed, Cost, Escalation, Fact, FactNeed
from vmstate.constitution.facts import Value
from vmstate.constitution.people import People
from vmstate.constitution.unmet import Unmet


@dataclass(frozen=True, slots=True)
class Wait:
    """What time itself forbids for now: cool-down left, or a hold that is spent."""

    cooldown: timedelta = timedelta()
    hold_left: timedelta | None = None


NO_WAIT = Wait()


@dataclass(frozen=True, slots=True)
class Case:
    """What is known of one request when its guards are asked.

    `faults` are requirements that no rule can do without and that are not met: facts that can't be
    read or that nobody attested. `approvers` are people whose signatures were found good and who
    are not the requester; `rejected` says why other signatures don't count. `waits` is keyed by
    profile. `rule` pins the one rule that may answer, as a renewal does. `unseen` are facts that
    the requester did not state and is not told, each with who attested it.
    """

    principal: str
    people: People
    reason: str = ""
    facts: Mapping[str, Value] = field(default_factory=dict)
    faults: tuple[Unmet, ...] = ()
    approvers: tuple[str, ...] = ()
    rejected: tuple[Unmet, ...] = ()
    ttl: timedelta | None = None
    waits: Mapping[str, Wait] = field(default_factory=dict)
    rule: str | None = None
    balances: Mapping[str, int] = field(default_factory=dict)
    unseen: Mapping[str, str] = field(default_factory=dict)


class Guard(Protocol):
    """Called with a case; yields nothing if it is met."""

    def __call__(self, case: Case) -> tuple[Unmet, ...]: ...


@dataclass(frozen=True, slots=True)
class RequesterGuard:
    path: str
    groups: tuple[str, ...]

    def __call__(self, case: Case) -> tuple[Unmet, ...]:
        if case.people.in_any(case.principal, self.groups):
            return ()
        groups = ", ".join(self.groups)
        remedy = f"ask as somebody in {groups}"
        return (Unmet(self.path, "requester", groups, case.principal, remedy),)


@dataclass(frozen=True, slots=True)
class ReasonGuard:
    path: str
    min_length: int

    def __call__(self, case: Case) -> tuple[Unmet, ...]:
        length = len(case.reason.strip())
        if length >= self.min_length:
            return ()
        required, given = f"{self.min_length} characters", f"{length} characters"
        return (Unmet(self.path, "reason_short", required, given, "say why, in more words"),)


@dataclass(frozen=True, slots=True)
class ApprovalGuard:
    """Distinct people at every stage; `Case.approvers` holds nobody who stands for the requester.

    Statements that come in one breath have no order, so what counts is whether each stage can be
    filled, each person serving one.
    """

    path: str
    stages: tuple[ApprovalNeed, ...]
    prepare: str = "vmstate request new"

    def __call__(self, case: Case) -> tuple[Unmet, ...]:
        seated = seat(case.people, case.approvers, self.stages)
        if all(len(names) == need.count for names, need in zip(seated, self.stages, strict=True)):
            return ()
        every = tuple(dict.fromkeys(group for need in self.stages for group in need.of))
        admitted = [a for a in case.approvers if case.people.in_any(a, every)]
        people: dict[str, str] = {}
        again = [a for a in admitted if people.setdefault(case.people.person(a), a) != a]
        groups = ", ".join(every)
        strangers = (
            Unmet(self.path, "approval_not_admitted", groups, name, f"ask somebody in {groups}")
            for name in case.approvers
            if name not in admitted
        )
        repeated = (
            Unmet(self.path, "approval_repeated", "different people", name, "ask another person")
            for name in again
        )
        return (*self._missing(seated), *case.rejected, *strangers, *repeated)

    def _missing(self, seated: tuple[tuple[str, ...], ...]) -> Iterator[Unmet]:
        for number, (names, need) in enumerate(zip(seated, self.stages, strict=True)):
            if len(names) < need.count:
                yield Unmet(
                    self.path if len(self.stages) == 1 else f"{self.path}.{number}",
                    "approval_missing",
                    f"{need.count} of {', '.join(need.of)}",
                    str(len(names)),
                    f"prepare it with `{self.prepare}`, have it signed with `vmstate sign`, "
                    "hand in --request and --approval",
                )


def seat(
    people: People, approvers: Iterable[str], stages: tuple[ApprovalNeed, ...]
) -> tuple[tuple[str, ...], ...]:
    """Who of `approvers` serves at which stage.

    One person takes one seat, by whichever names they signed with; as many seats are taken as can
    be, earlier stages before later ones.

    Source: Kuhn's augmenting paths for a maximum matching of people and seats
    """
    names: dict[str, list[str]] = {}
    for name in approvers:
        names.setdefault(people.person(name), []).append(name)
    seats = [number for number, need in enumerate(stages) for _ in range(need.count)]
    taken: dict[int, str] = {}

    def serves(person: str, stage: int) -> Iterator[str]:
        return (name for name in names[person] if people.in_any(name, stages[stage].of))

    def finds(person: str, asked: set[int]) -> bool:
        """Whether `person` finds a seat: the first free one, or one whose holder finds another."""
        free_first = sorted(range(len(seats)), key=lambda number: number in taken)
        for number in free_first:
            served = next(serves(person, seats[number]), None)
            if number not in asked and served is not None:
                asked.add(number)
                if number not in taken or finds(taken[number], asked):
                    taken[number] = person
                    return True
        return False

    for person in names:
        finds(person, set())
    return tuple(
        tuple(
            next(serves(taken[n], at)) for n, at in enumerate(seats) if at == stage and n in taken
        )
        for stage in range(len(stages))
    )


@dataclass(frozen=True, slots=True)
class FactGuard:
    path: str
    name: str
    need: FactNeed

    def __call__(self, case: Case) -> tuple[Unmet, ...]:
        value = case.facts.get(self.name)
        if value is None:
            if any(fault.rule == f'facts."{self.name}"' for fault in case.faults):
                return ()  # it was stated, and why it doesn't count is said already
            wanted, remedy = describe_fact_need(self.need), f"state it: --fact {self.name}=…"
            return (Unmet(self.path, "fact_missing", wanted, self.name, remedy),)
        if all(self._met(value)):
            return ()
        text = format_decimal(value) if isinstance(value, Decimal) else value
        if self.name in case.unseen:
            text = f"what {case.unseen[self.name]} attested"
        wanted, given = describe_fact_need(self.need), f"{self.name} is {text}"
        return (Unmet(self.path, "fact_unmet", wanted, given, "another rule may allow it"),)

    def _met(self, value: Value) -> Iterator[bool]:
        need = self.need
        if need.min is not None:
            yield isinstance(value, Decimal) and value >= need.min
        if need.max is not None:
            yield isinstance(value, Decimal) and value <= need.max
        if need.one_of is not None:
            yield value in need.one_of
        if need.not_in is not None:
            yield value not in need.not_in


def describe_fact_need(need: FactNeed) -> str:
    """`at least 0.80`, `not informational`: as a person would say it."""
    words = []
    if need.min is not None:
        words.append(f"at least {need.min}")
    if need.max is not None:
        words.append(f"at most {need.max}")
    if need.one_of is not None:
        words.append(f"one of {', '.join(need.one_of)}")
    if need.not_in is not None:
        words.append(f"not {' or '.join(need.not_in)}")
    return " and ".join(words)


@dataclass(frozen=True, slots=True)
class CostGuard:
    """What a grant costs must be there; it is charged where the grant is written."""

    path: str
    cost: Cost

    def __call__(self, case: Case) -> tuple[Unmet, ...]:
        budget, amount = self.cost.budget, self.cost.amount
        if budget not in case.balances:
            remedy = "have it allocated first"
            return (Unmet(self.path, "budget_unknown", budget, budget, remedy),)
        available = case.balances[budget]
        if available >= amount:
            return ()
        given = f"{budget} has {available}"
        remedy = "have more allocated, or use another rule"
        return (Unmet(self.path, "budget_insufficient", str(amount), given, remedy),)


@dataclass(frozen=True, slots=True)
class TimeGuard:
    """Cool-down, hold cap, and the time asked for."""

    rule: str
    to: str
    ttl: timedelta

    def __call__(self, case: Case) -> tuple[Unmet, ...]:
        unmet = []
        wait = case.waits.get(self.to, NO_WAIT)
        if wait.cooldown:
            left = format_duration(wait.cooldown)
            given = f"{self.to} was left too short a time ago"
            required = f"{left} more of cool-down" if left != "0s" else "less than a second more"
            path = f"cooldown.{self.to}"
            unmet.append(Unmet(path, "cooldown", required, given, f"ask again in {left}"))
        if wait.hold_left is not None and wait.hold_left <= timedelta():
            given = f"{self.to} has been held as long as it may be"
            remedy = "let its cool-down pass"
            unmet.append(Unmet(f"holds.{self.to}", "hold_spent", "no longer", given, remedy))
        if case.ttl is not None and case.ttl > self.ttl:
            most, given = format_duration(self.ttl), format_duration(case.ttl)
            path = f"escalations.{self.rule}.ttl"
            unmet.append(Unmet(path, "ttl_above_rule", most, given, f"ask for {most} or less"))
        return tuple(unmet)


@dataclass(frozen=True, slots=True)
class FaultGuard:
    """Hands on what is wrong with the case itself; every rule has one."""

    def __call__(self, case: Case) -> tuple[Unmet, ...]:
        return case.faults


def guards_of(rule: str, escalation: Escalation) -> tuple[Guard, ...]:
    """All guards of one escalation, in the order in which they are reported."""
    needs, path = escalation.needs, f"escalations.{rule}.needs"
    guards: list[Guard] = []
    if needs.requester is not None:
        guards.append(RequesterGuard(f"{path}.requester", needs.requester))
    if needs.reason is not None:
        guards.append(ReasonGuard(f"{path}.reason", needs.reason.min_length))
    guards.append(FaultGuard())
    guards += [FactGuard(f'{path}.facts."{n}"', n, need) for n, need in needs.facts.items()]
    if needs.approval:
        guards.append(ApprovalGuard(f"{path}.approval", needs.approval))
    if escalation.cost is not None:
        guards.append(CostGuard(f"escalations.{rule}.cost", escalation.cost))
    guards.append(TimeGuard(rule, escalation.to, escalation.ttl))
    return tuple(guards)


def describe_needs(escalation: Escalation, facts: Mapping[str, Fact]) -> tuple[str, ...]:
    """What a rule asks for beside who asks, a phrase for each guard; `facts` are the law's."""
    needs = escalation.needs
    phrases = []
    if needs.reason is not None:
        phrases.append(f"a reason of {needs.reason.min_length} characters")
    for name, need in needs.facts.items():
        source = describe_source(facts[name])
        phrases.append(f"{name} {describe_fact_need(need)}{f', {source}' if source else ''}")
    phrases += [f"approval by {one.count} of {', '.join(one.of)}" for one in needs.approval]
    if escalation.cost is not None:
        phrases.append(f"{escalation.cost.amount} from budget {escalation.cost.budget}")
    return tuple(phrases)


def describe_source(fact: Fact) -> str:
    """`attested by sensors, at most 5m old`; empty for what a requester may state."""
    if fact.attested_by is None or fact.max_age is None:
        return ""
    return f"attested by {fact.attested_by}, at most {format_duration(fact.max_age)} old"


def describe_limits(escalation: Escalation) -> tuple[str, ...]:
    """What else than time bounds a lease by this rule, a phrase for each."""
    return limits_of(escalation.max_uses, escalation.idle_ttl)


def limits_of(max_uses: int | None, idle_ttl: timedelta | None) -> tuple[str, ...]:
    """Bounds by uses and idleness, a phrase for each."""
    phrases = []
    if max_uses is not None:
        phrases.append("1 use" if max_uses == 1 else f"{max_uses} uses at most")
    if idle_ttl is not None:
        phrases.append(f"ends after {format_duration(idle_ttl)} without one")
    return tuple(phrases)

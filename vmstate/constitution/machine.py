"""The constitution as a `transitions` machine. No other module imports `transitions`.

Law 1: nothing not granted is allowed. The machine decides: take a transition out of it and nobody
is granted that way any more. It is used as a compiled table, so what makes it unsafe for authority
is left out on purpose:

* `auto_transitions`, which would give every model a `to_phoenix()` that no guard sees;
* strings as conditions, which would be imported and called;
* callbacks and registered models: a decision must not do anything, and a seat is thrown away;
* short-circuits: each guard records what it misses, and one closing condition takes the AND.

A guard that raises, hangs, or answers with anything but unmet requirements denies as `malformed`.
"""

from dataclasses import dataclass, field
from typing import Any

from transitions import EventData, Machine, State, Transition
from transitions.core import Condition

from vmstate.constitution.asking import Watch
from vmstate.constitution.document import Document
from vmstate.constitution.guards import Case, guards_of
from vmstate.constitution.unmet import Unmet

CANDIDATES = 8  # rules that one denial speaks of; a receipt has 65,535 bytes


@dataclass(frozen=True, slots=True)
class Verdict:
    """`rule` is who speaks: the rule that granted, or the one with the fewest unmet requirements.

    `unmet` is empty if `granted`; else it holds every requirement of every candidate rule, the
    speaker's first. With no candidate at all `rule` is None and `unmet` is empty.
    """

    granted: bool
    rule: str | None
    unmet: tuple[Unmet, ...] = ()


@dataclass(slots=True)
class _Attempt:
    """What one trigger is asked, and what the guards of each candidate answered."""

    to: str
    case: Case
    watch: Watch
    missing: dict[str, list[Unmet]] = field(default_factory=dict)
    granted: str | None = None


@dataclass(slots=True)
class _Seat:
    """What the machine moves: made for one attempt and thrown away."""

    state: str


class _Recording(Condition):
    """Asks one guard, writes down what it misses, and lets the next one be asked."""

    def check(self, event_data: EventData) -> bool:
        attempt, transition = _asked(event_data)
        guard: Any = self.func  # transitions' own type has no case in it
        attempt.missing[transition.rule] += attempt.watch.ask(guard, attempt.case)
        return True


class _Towards(Condition):
    """Opens a candidate: only a rule to the profile asked for, and only the pinned one if any."""

    def check(self, event_data: EventData) -> bool:
        attempt, transition = _asked(event_data)
        if transition.dest != attempt.to or attempt.case.rule not in (None, transition.rule):
            return False
        attempt.missing[transition.rule] = []
        return True


class _All(Condition):
    """Closes a candidate: nothing is missing."""

    def check(self, event_data: EventData) -> bool:
        attempt, transition = _asked(event_data)
        if attempt.missing[transition.rule]:
            return False
        attempt.granted = transition.rule
        return True


def _asked(event_data: EventData) -> "tuple[_Attempt, _RuleTransition]":
    """The attempt under way and the candidate that `transitions` is looking at."""
    transition: Any = event_data.transition
    return event_data.kwargs["attempt"], transition


def _nothing() -> None:
    """Stands where `transitions` wants a callable and our conditions have none."""


class _RuleTransition(Transition):
    """A transition that knows the rule it was compiled from."""

    condition_cls = _Recording

    def __init__(
        self, source: str, dest: str, conditions: Any = None, *others: Any, rule: str
    ) -> None:
        super().__init__(source, dest, conditions, *others)
        self.rule = rule
        self.conditions.insert(0, _Towards(_nothing))
        self.conditions.append(_All(_nothing))


class ProfileMachine(Machine):
    """One real `transitions.Machine`: states are profiles, events are triggers."""

    transition_cls = _RuleTransition

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.watch = Watch()

    def attempt(self, profile: str, to: str, trigger: str, case: Case) -> Verdict:
        """Say by which rule `case` opens the way from `profile` to `to`, or all that is missing."""
        attempt = _Attempt(to, case, self.watch)
        event = self.events.get(trigger)
        # A source without this event raises in `transitions`; asking first tells "no rule" apart
        # from a guard's answer without catching anything.
        if event is None or not event.transitions.get(profile):
            return Verdict(granted=False, rule=None)
        moved = event.trigger(_Seat(profile), attempt=attempt)
        rule = attempt.granted
        if moved and rule is not None and not attempt.missing[rule]:
            return Verdict(granted=True, rule=rule)
        if not attempt.missing:
            return Verdict(granted=False, rule=None)
        ranked = sorted(attempt.missing.items(), key=lambda item: (len(item[1]), item[0]))
        unmet = tuple(dict.fromkeys(one for _, missing in ranked[:CANDIDATES] for one in missing))
        return Verdict(granted=False, rule=ranked[0][0], unmet=unmet)


def compile_machine(document: Document) -> ProfileMachine:
    """Build the machine. If several rules grant, the shortest TTL wins, then the id (DESIGN 4)."""
    machine = ProfileMachine(
        model=None,
        states=[State(name) for name in document.profiles],
        initial=document.constitution.baseline,
        auto_transitions=False,
        send_event=True,
        queued=False,
    )
    # The first candidate that is met wins in `transitions`, so they are added in order of choice.
    ordered = sorted(document.escalations.items(), key=lambda item: (item[1].ttl, item[0]))
    for rule, escalation in ordered:
        guards: list[Any] = list(guards_of(rule, escalation))
        machine.add_transition(
            escalation.trigger, escalation.from_, escalation.to, conditions=guards, rule=rule
        )
    return machine

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest
import transitions
from transitions.core import Condition

from vmstate.authority import Authority
from vmstate.clock import VirtualClock
from vmstate.constitution.guards import Case
from vmstate.constitution.loading import load_constitution, read_constitution
from vmstate.constitution.unmet import Unmet
from vmstate.keys import PrivateKey

SHIPPED = Path(__file__).parents[2] / "constitution.toml"
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
AGENT, ADA = "did:vm:agent:7", "did:vm:operator:ada"
REASON = "look at ticket 4711"


def shipped():
    return load_constitution(SHIPPED)


def case(law, principal=ADA, **fields):
    return Case(principal=principal, people=law.people, **fields)


def transition(machine, trigger, source, dest):
    (found,) = machine.get_transitions(trigger, source, dest)
    return found


def authority(law, tmp_path):
    return Authority.create(law, tmp_path / "vmstate.db", clock=VirtualClock(NOON))


# ---- the machine is the table that decides --------------------------------------------------


def test_the_machine_is_one_of_transitions_and_always_the_same():
    law = shipped()
    machine = law.machine()
    assert isinstance(machine, transitions.Machine)
    assert machine is law.machine()
    assert list(machine.states) == list(law.document.profiles)
    assert machine.models == []
    rules = {
        (rule.trigger, rule.from_, rule.to): name for name, rule in law.document.escalations.items()
    }
    compiled = {
        (trigger, one.source, one.dest): one.rule
        for trigger, event in machine.events.items()
        for one in machine.get_transitions(trigger)
        if event is not None
    }
    assert compiled == rules


def test_taking_a_transition_out_stops_its_grant_and_no_other():
    law = shipped()
    asked = ("observer", "operator", "operator_request", case(law, reason=REASON))
    assert law.machine().attempt(*asked).granted
    law.machine().remove_transition("operator_request", source="observer", dest="operator")
    verdict = law.machine().attempt(*asked)
    assert (verdict.granted, verdict.rule, verdict.unmet) == (False, None, ())
    assert shipped().machine().attempt(*asked).granted


def test_taking_a_transition_out_stops_its_grant_through_the_authority(tmp_path):
    law = shipped()
    vm = authority(law, tmp_path)
    first = vm.escalate(ADA, "operator", trigger="operator_request", reason=REASON)
    assert first.granted
    law.machine().remove_transition("operator_request", source="observer", dest="operator")
    second = vm.escalate(AGENT, "operator", trigger="operator_request", reason=REASON)
    assert not second.granted
    assert second.message == "No escalation path from observer to operator on operator_request"
    assert not vm.may(AGENT, "operator")
    vm.clock.advance(timedelta(minutes=1))
    renewal = vm.renew(ADA, first.lease, reason=REASON)
    assert [one.code for one in renewal.unmet] == ["no_path"]
    vm.close()


def test_taking_every_transition_of_a_trigger_out_leaves_no_event():
    law = shipped()
    law.machine().remove_transition("threat_detected")
    asked = case(law, facts={"threat.confidence": Decimal(1), "threat.type": "intrusion"})
    assert law.machine().attempt("operator", "guardian", "threat_detected", asked).rule is None


def test_nothing_has_a_method_that_goes_to_a_profile(tmp_path):
    law = shipped()
    machine = law.machine()
    seats = []

    def look(event_data):
        seats.append(event_data.model)
        return True

    opening = transition(machine, "operator_request", "observer", "operator")
    opening.conditions.insert(0, Condition(look))
    vm = authority(law, tmp_path)
    assert vm.escalate(ADA, "operator", trigger="operator_request", reason=REASON).granted
    vm.close()
    assert seats
    profiles = list(law.document.profiles)
    for thing in (machine, law, vm, *seats, *machine.events.values(), *machine.states.values()):
        names = {name for name in dir(thing) if not name.startswith("__")}
        assert names.isdisjoint({f"to_{profile}" for profile in profiles})
        assert not any(name.startswith(("to_", "may_")) for name in names)
    for event in machine.events:
        assert not event.startswith("to_")
        assert not any(hasattr(seat, event) for seat in seats)


# ---- a guard that misbehaves ----------------------------------------------------------------


def _raises(_case):
    raise KeyError("threat\u202e.id")


BROKEN = {
    "raises": (_raises, "a guard (KeyError: 'threat\\u202e.id')"),
    "says True": (lambda _: True, "a guard (it answered bool)"),
    "says False": (lambda _: False, "a guard (it answered bool)"),
    "says nothing": (lambda _: None, "a guard (it answered NoneType)"),
    "says a word": (lambda _: "yes", "a guard (it answered str)"),
    "says a list": (lambda _: [], "a guard (it answered list)"),
    "says words": (lambda _: ("no",), "a guard (it answered tuple)"),
    "is none": (7, "a guard (TypeError: 'int' object is not callable)"),
}


@pytest.mark.parametrize("place", ["first", "before the last", "last"])
@pytest.mark.parametrize(("guard", "given_"), BROKEN.values(), ids=BROKEN)
def test_a_guard_that_misbehaves_denies_as_malformed(guard, given_, place):
    law = shipped()
    opening = transition(law.machine(), "operator_request", "observer", "operator")
    broken = type(opening).condition_cls(guard)
    end = len(opening.conditions)
    opening.conditions.insert({"first": 1, "before the last": end - 1, "last": end}[place], broken)
    verdict = law.machine().attempt(
        "observer", "operator", "operator_request", case(law, reason=REASON)
    )
    assert not verdict.granted
    assert verdict.rule == "operator_on_request"
    assert [(one.code, one.given) for one in verdict.unmet] == [("malformed", given_)]
    assert verdict.unmet[0].message == f"{given_} can't be judged, needs a guard that answers"


def test_a_guard_that_raises_denies_through_the_authority_and_the_receipt_says_so(tmp_path):
    law = shipped()
    opening = transition(law.machine(), "operator_request", "observer", "operator")
    opening.conditions.insert(1, type(opening).condition_cls(_raises))
    vm = authority(law, tmp_path)
    denied = vm.escalate(ADA, "operator", trigger="operator_request", reason=REASON)
    assert [one.code for one in denied.unmet] == ["malformed"]
    assert not vm.may(ADA, "operator")
    other = vm.escalate(ADA, "guardian", trigger="threat_detected")
    assert [one.code for one in other.unmet] == ["no_path"]
    vm.close()


@pytest.mark.parametrize("place", ["first", "last"])
def test_a_condition_of_transitions_itself_that_says_no_stops_the_grant(place):
    law = shipped()
    opening = transition(law.machine(), "operator_request", "observer", "operator")
    end = 0 if place == "first" else len(opening.conditions)
    opening.conditions.insert(end, Condition(lambda _: False))
    asked = ("observer", "operator", "operator_request", case(law, reason=REASON))
    assert not law.machine().attempt(*asked).granted


# ---- every guard of every candidate ---------------------------------------------------------

TWO = """
[constitution]
name = "two"
version = "1"
baseline = "low"
[groups]
staff = ["u:ada"]
chiefs = ["u:zoe"]
[principals."u:zoe"]
key = "{key}"
[profiles.low]
[profiles.high]
above = "low"
[facts]
level = {{ type = "decimal" }}
kind = {{ one_of = ["a", "b"] }}
[escalations.strict]
from = "low"
to = "high"
trigger = "go"
ttl = "{strict}"
needs.requester = ["chiefs"]
needs.reason = {{ min_length = 5 }}
needs.facts.level = {{ min = "0.5" }}
[escalations.loose]
from = "low"
to = "high"
trigger = "go"
ttl = "{loose}"
needs.reason = {{ min_length = 5 }}
needs.approval = {{ count = 1, of = ["chiefs"] }}
[endings.timeout_expired]
to = "previous"
"""


def two(strict="10m", loose="20m"):
    key = PrivateKey.derive("zoe").public
    return read_constitution(TWO.format(key=key, strict=strict, loose=loose).encode())


def attempt(law, principal="u:ada", **fields):
    return law.machine().attempt("low", "high", "go", case(law, principal, **fields))


def test_every_guard_of_every_candidate_is_asked_and_the_nearest_rule_speaks_first():
    verdict = attempt(two())
    assert verdict.rule == "loose"
    assert [(one.rule, one.code) for one in verdict.unmet] == [
        ("escalations.loose.needs.reason", "reason_short"),
        ("escalations.loose.needs.approval", "approval_missing"),
        ("escalations.strict.needs.requester", "requester"),
        ("escalations.strict.needs.reason", "reason_short"),
        ('escalations.strict.needs.facts."level"', "fact_missing"),
    ]
    nearer = attempt(two(), "u:zoe", reason="because", facts={"level": Decimal("0.4")})
    assert nearer.rule == "loose"
    assert [one.code for one in nearer.unmet] == ["approval_missing", "fact_unmet"]


def test_what_is_wrong_with_the_case_itself_is_said_once():
    fault = Unmet("facts", "fact_unknown", "level", "colour", "leave it out")
    verdict = attempt(two(), reason="because", faults=(fault,))
    assert verdict.unmet.count(fault) == 1


@pytest.mark.parametrize(
    ("strict", "loose", "rule"),
    [("10m", "20m", "strict"), ("20m", "10m", "loose"), ("10m", "10m", "loose")],
)
def test_of_rules_that_grant_the_shortest_speaks_then_the_first_by_name(strict, loose, rule):
    met = {"reason": "because", "facts": {"level": Decimal("0.5")}, "approvers": ("u:zoe",)}
    verdict = attempt(two(strict, loose), "u:zoe", **met)
    assert (verdict.granted, verdict.rule, verdict.unmet) == (True, rule, ())


def test_a_pinned_rule_answers_alone():
    met = {"reason": "because", "approvers": ("u:zoe",)}
    assert attempt(two(), **met).rule == "loose"
    pinned = attempt(two(), **met, rule="strict")
    assert (pinned.granted, pinned.rule) == (False, "strict")
    assert {one.rule.split(".")[1] for one in pinned.unmet} == {"strict"}
    assert attempt(two(), **met, rule="no such rule").rule is None


# ---- messages -------------------------------------------------------------------------------


def test_where_no_rule_leads_the_message_names_both_profiles_and_the_trigger(tmp_path):
    vm = authority(shipped(), tmp_path)
    assert vm.escalate(ADA, "operator", trigger="operator_request", reason=REASON).granted
    denied = vm.escalate(ADA, "phoenix", trigger="threat_detected")
    assert denied.message == "No escalation path from operator to phoenix on threat_detected"
    remedy = "from operator there are: guardian on threat_detected, guardian on operator_request"
    assert denied.unmet[0].remedy == remedy
    vm.close()


def test_a_missing_approval_says_of_whom_and_how_many_there_are():
    law = shipped()
    asked = case(law, reason="the building is on fire")
    verdict = law.machine().attempt("guardian", "phoenix", "crisis_declared", asked)
    messages = [one.message for one in verdict.unmet]
    assert messages == ["requires approval by 1 of sovereigns, has 0"]

"""The machine beside a table interpreter of a few lines that reads the document by hand."""

from datetime import timedelta
from decimal import Decimal

from hypothesis import given, settings
from hypothesis import strategies as st

from vmstate.constitution.guards import Case, Wait
from vmstate.constitution.loading import read_constitution
from vmstate.constitution.people import People

GROUPS = {"one": ("u:a",), "two": ("u:b", "u:c"), "all": ("u:*",)}
WHO = st.sampled_from(["u:a", "u:b", "u:c", "x:y"])
LEVELS = st.sampled_from([Decimal(n) / 4 for n in range(5)])
LADDER = ("p0", "p1", "p2")
CLIMBS = st.sampled_from([("p0", "p1"), ("p0", "p2"), ("p1", "p2")])
OPTIONAL_GROUPS = st.none() | st.lists(st.sampled_from(sorted(GROUPS)), min_size=1, max_size=2)


@st.composite
def rules(draw):
    source, dest = draw(CLIMBS)
    needs = {}
    if groups := draw(OPTIONAL_GROUPS):
        needs["requester"] = groups
    if length := draw(st.sampled_from([0, 1, 3])):
        needs["reason"] = {"min_length": length}
    if count := draw(st.sampled_from([0, 1, 2])):
        needs["approval"] = {"count": count, "of": ["one", "two"]}
    facts = {}
    if draw(st.booleans()):
        facts["level"] = {draw(st.sampled_from(["min", "max"])): str(draw(LEVELS))}
    if draw(st.booleans()):
        facts["kind"] = {draw(st.sampled_from(["one_of", "not_in"])): ["x"]}
    minutes = draw(st.integers(1, 4))
    trigger = draw(st.sampled_from(["go", "run"]))
    return {
        "from": source, "to": dest, "trigger": trigger, "ttl": f"{minutes}m",
        "needs": {**needs, "facts": facts},
    }  # fmt: skip


@st.composite
def cases(draw):
    return {
        "principal": draw(WHO),
        "reason": draw(st.sampled_from(["", " a ", "abc", "   "])),
        "approvers": tuple(draw(st.lists(WHO, unique=True, max_size=3))),
        "facts": {
            **({"level": draw(LEVELS)} if draw(st.booleans()) else {}),
            **({"kind": draw(st.sampled_from(["x", "y"]))} if draw(st.booleans()) else {}),
        },
        "ttl": draw(st.none() | st.integers(1, 5).map(lambda m: timedelta(minutes=m))),
        "waits": {p: Wait(timedelta(minutes=1)) for p in draw(st.sets(st.sampled_from(LADDER)))},
    }


def _said(value):
    """TOML of plain values: enough of it for these constitutions."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {_said(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_said, value)) + "]"
    return f'"{value}"' if isinstance(value, str) else str(value)


def build(table):
    document = {
        "constitution": {"name": "random", "version": "1", "baseline": "p0"},
        "groups": GROUPS,
        "profiles": {"p0": {}, "p1": {"above": "p0"}, "p2": {"above": "p1"}},
        "facts": {"level": {"type": "decimal"}, "kind": {"one_of": ["x", "y"]}},
        "endings": {"timeout_expired": {"to": "previous"}},
        "escalations": {f"r{number}": rule for number, rule in enumerate(table)},
    }
    text = "\n".join(f"{key} = {_said(value)}" for key, value in document.items())
    return read_constitution(text.encode())


def in_any(name, groups):
    members = [member for group in groups for member in GROUPS[group]]
    return name in members or ("u:*" in members and name.startswith("u:"))


def missing(rule, asked):
    """How many requirements of `rule` are not met: the table read by hand, without a machine."""
    needs, facts = rule["needs"], asked["facts"]
    count = 0
    if "requester" in needs and not in_any(asked["principal"], needs["requester"]):
        count += 1
    if "reason" in needs and len(asked["reason"].strip()) < needs["reason"]["min_length"]:
        count += 1
    if "approval" in needs:
        admitted = [name for name in asked["approvers"] if in_any(name, needs["approval"]["of"])]
        if len(admitted) < needs["approval"]["count"]:
            count += 1 + len(asked["approvers"]) - len(admitted)
    for name, need in needs["facts"].items():
        (how, bound), value = *need.items(), facts.get(name)
        bound = Decimal(bound) if name == "level" else bound
        met = value is not None and {
            "min": lambda v, b: v >= b, "max": lambda v, b: v <= b,
            "one_of": lambda v, b: v in b, "not_in": lambda v, b: v not in b,
        }[how](value, bound)  # fmt: skip
        count += not met
    count += rule["to"] in asked["waits"]
    count += asked["ttl"] is not None and asked["ttl"] > timedelta(minutes=int(rule["ttl"][:-1]))
    return count


def decide(table, held, to, trigger, asked):
    """`(granted, rule)` as the document says it."""
    wanted = (held, to, trigger)
    found = [
        (missing(rule, asked), int(rule["ttl"][:-1]), f"r{number}")
        for number, rule in enumerate(table)
        if (rule["from"], rule["to"], rule["trigger"]) == wanted
    ]
    granting = [(ttl, name) for unmet, ttl, name in found if not unmet]
    if granting:
        return True, min(granting)[1]
    return False, min(((unmet, name) for unmet, _, name in found), default=(0, None))[1]


@settings(max_examples=250, deadline=None)
@given(st.lists(rules(), min_size=1, max_size=6), cases(), st.data())
def test_the_machine_decides_as_the_document_reads(table, asked, data):
    law = build(table)
    people = People(groups=GROUPS)
    chosen = data.draw(st.sampled_from(table))
    ways = st.sampled_from([(chosen["from"], chosen["to"]), ("p0", "p2"), ("p2", "p1")])
    (held, to), trigger = data.draw(ways), data.draw(st.sampled_from(["go", "run", "none"]))
    verdict = law.machine().attempt(held, to, trigger, Case(people=people, **asked))
    assert (verdict.granted, verdict.rule) == decide(table, held, to, trigger, asked)
    assert bool(verdict.unmet) == (not verdict.granted and verdict.rule is not None)

"""Approvals by stages: each can be filled, and nobody serves two of them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmstate.constitution.document import ApprovalNeed
from vmstate.constitution.guards import seat
from vmstate.constitution.people import People

GROUPS = 'of = ["guardians", "sovereigns"]'
STAGES = (
    f"needs.approval  = {{ count = 1, {GROUPS} }}",
    f'needs.approval  = [{{ count = 1, {GROUPS} }}, {{ count = 1, of = ["sovereigns"] }}]',
)


@pytest.fixture
def staged(make_world):
    world = make_world(STAGES)
    world.operator()
    return world


def test_two_people_at_two_stages_are_enough_in_whatever_order_they_are_handed_in(staged):
    request = staged.request()
    approvals = (staged.approval(request, staged.root), staged.approval(request, staged.one))
    receipt = staged.ask(request, approvals=approvals)
    assert receipt.granted, receipt.message
    assert len(receipt.fields["authority"]["approvals"]) == 2


def test_a_person_whom_two_stages_admit_serves_one_of_them(staged):
    request = staged.request()
    receipt = staged.ask(request, approvals=(staged.approval(request, staged.root),))
    assert staged.denied(receipt, "approval_missing")
    (missing,) = receipt.unmet
    assert missing.rule == "escalations.guardian_on_request.needs.approval.1"
    assert missing.message == "requires approval by 1 of sovereigns, has 0"


def test_one_stage_filled_twice_does_not_fill_the_other(staged):
    request = staged.request()
    both = (staged.approval(request), staged.approval(request, staged.two))
    receipt = staged.ask(request, approvals=both)
    assert staged.denied(receipt, "approval_missing")
    assert receipt.unmet[0].required == "1 of sovereigns"


def test_two_names_of_one_person_fill_one_stage(make_world):
    controllers = {"did:vm:guardian:one": "did:vm:sovereign:root"}
    world = make_world(STAGES, controllers=controllers)
    world.operator()
    request = world.request()
    both = (world.approval(request), world.approval(request, world.root))
    assert world.denied(world.ask(request, approvals=both), "approval_missing", "approval_repeated")
    three = (*both, world.approval(request, world.two))
    assert world.ask(request, approvals=three).granted


_NAMES = "abcde"
_GROUPS = {"x": ("a", "b"), "y": ("b", "c", "d"), "z": ("a", "d", "e")}


@given(
    st.lists(st.sampled_from(_NAMES), max_size=5),
    st.lists(
        st.tuples(st.integers(1, 2), st.sets(st.sampled_from("xyz"), min_size=1)),
        min_size=1,
        max_size=3,
    ),
    st.dictionaries(st.sampled_from("cde"), st.just("a")),
)
def test_as_many_seats_are_taken_as_can_be_and_no_person_takes_two(approvers, asked, controllers):
    people = People(_GROUPS, controllers=controllers)
    stages = tuple(ApprovalNeed(count=n, of=tuple(sorted(of))) for n, of in asked)
    seated = seat(people, approvers, stages)
    taken = [name for names in seated for name in names]
    assert len({people.person(name) for name in taken}) == len(taken)
    assert set(taken) <= set(approvers)
    for names, need in zip(seated, stages, strict=True):
        assert len(names) <= need.count
        assert all(people.in_any(name, need.of) for name in names)
    assert len(taken) == _most(people, approvers, stages)


def _most(people, approvers, stages):
    """The same by trying everything."""
    seats = [need.of for need in stages for _ in range(need.count)]
    return _best(people, frozenset(approvers), seats)


def _best(people, left, seats):
    if not seats:
        return 0
    fits = [name for name in left if people.in_any(name, seats[0])]
    persons = {people.person(name) for name in fits}
    others = [frozenset(n for n in left if people.person(n) != one) for one in persons]
    taken = (1 + _best(people, rest, seats[1:]) for rest in others)
    return max(_best(people, left, seats[1:]), *taken, 0)

"""F23: an approval is replayed, too old, for something else, or by a key that is gone."""

from datetime import timedelta

import pytest

from vmstate.decisions.command import Activate, Escalate, make_command
from vmstate.decisions.decider import Decider
from vmstate.ledger.bearing import state_for
from vmstate.signing import approve

MINUTE = timedelta(minutes=1)


@pytest.fixture
def ada(asking):
    asking.climb(asking.ada)
    return asking


def sign(asking, request, by=None, minutes=15):
    by = by or asking.one
    until = asking.vm.now() + minutes * MINUTE
    return approve(request, by, asking.key(by), expires_at=until)


def test_an_approval_is_not_taken_for_another_request_or_a_second_time(ada):
    first, second = ada.prepare(ada.ada), ada.prepare(ada.ada)
    for one in (first, second):
        ada.vm.open_request(one)
    approval = sign(ada, first)
    assert ada.codes(ada.vm.hand_in(second.id, approval)) == ["approval_other_subject"]
    assert ada.vm.hand_in(first.id, approval).outcome == "recorded"
    assert ada.codes(ada.vm.hand_in(first.id, approval)) == ["approval_repeated"]


def test_an_approval_that_counted_counts_no_more(ada):
    request = ada.prepare(ada.ada)
    ada.vm.open_request(request)
    approval = sign(ada, request)
    ada.vm.hand_in(request.id, approval)
    granted = ada.vm.activate(ada.ada, request.id).raise_for_denial()
    ada.vm.release(ada.ada, granted.lease)
    ada.clock.advance(5 * MINUTE)
    assert ada.codes(ada.vm.activate(ada.ada, request.id)) == ["request_over"]
    assert ada.codes(ada.vm.hand_in(request.id, approval)) == ["request_over"]
    asked = {"trigger": request.trigger, "reason": request.reason, "request": request}
    again = ada.vm.escalate(ada.ada, "guardian", approvals=(approval,), **asked)
    assert ada.codes(again) == ["request_used", "approval_missing", "approval_used"]


def test_a_request_that_was_changed_after_its_approval_is_another_one(ada):
    request = ada.prepare(ada.ada)
    approval = sign(ada, request)
    longer = request.model_copy(update={"reason": "and everything else, too"})
    ada.vm.open_request(longer)
    assert ada.codes(ada.vm.hand_in(longer.id, approval)) == ["approval_other_subject"]
    asked = {"trigger": request.trigger, "reason": longer.reason, "request": request}
    changed = ada.vm.escalate(ada.ada, "guardian", approvals=(approval,), **asked)
    assert "request_differs" in ada.codes(changed)


def test_an_approval_too_old_when_it_is_handed_in_is_not_taken(ada):
    request = ada.prepare(ada.ada)
    ada.vm.open_request(request)
    approval = sign(ada, request)
    ada.clock.advance(15 * MINUTE)
    assert ada.codes(ada.vm.hand_in(request.id, approval)) == ["approval_stale"]


def test_an_approval_too_old_at_activation_is_told_and_its_signer_may_sign_again(ada):
    request = ada.prepare(ada.ada)
    ada.vm.open_request(request)
    ada.vm.hand_in(request.id, sign(ada, request, minutes=5))
    ada.clock.advance(5 * MINUTE)
    stale = ada.vm.activate(ada.ada, request.id)
    assert ada.codes(stale) == ["approval_missing", "approval_stale"]
    ada.vm.hand_in(request.id, sign(ada, request))
    assert ada.vm.activate(ada.ada, request.id).granted


def test_an_approval_by_a_key_that_is_gone_from_the_law_does_not_count_at_activation(ada):
    """Asked of the decision itself: a law without the key is another law, see below."""
    vm, request = ada.vm, ada.prepare(ada.ada)
    vm.open_request(request)
    vm.hand_in(request.id, sign(ada, request))
    people = vm.constitution.people
    without = type(people)(
        people.groups,
        {name: key for name, key in people.keys.items() if name != ada.one},
        people.controllers,
        people.named,
    )
    decider = Decider(vm.constitution, origin=vm.origin, people=without)
    command = make_command(Activate, {"principal": ada.ada, "request": request.id})
    with vm.ledger.read() as snapshot:
        state = state_for(snapshot, command, decider.law, ())
    answer = decider.decide(state, command, ada.clock.read()).answer
    codes = [one.code for one in answer.grounds.unmet]
    assert codes == ["approval_missing", "approval_no_key"]


def test_a_law_without_the_approvers_key_ends_what_was_approved_under_the_one_before(ada):
    vm, request = ada.vm, ada.prepare(ada.ada)
    vm.open_request(request)
    vm.hand_in(request.id, sign(ada, request))
    line = f'key = "{ada.key(ada.one).public}"'.encode()
    toml = vm.constitution.toml
    assert toml.count(line) == 1
    toml = toml.replace(line, b"")
    amending = vm.prepare_amendment(ada.bob, toml)
    asked = {"request": amending, "approvals": (sign(ada, amending, ada.root),)}
    assert vm.amend(ada.bob, toml, key=ada.key(ada.bob), **asked).outcome == "recorded"
    assert vm.request(request.id).state == "amended"
    ends = [one for one in vm.receipts(type_="request") if one.outcome == "expired"]
    assert [one.fields["what"]["detail"]["state"] for one in ends] == ["amended"]
    assert ada.codes(vm.activate(ada.ada, request.id)) == ["request_over"]
    fresh = ada.prepare(ada.ada)
    vm.open_request(fresh)
    assert ada.codes(vm.hand_in(fresh.id, sign(ada, fresh))) == ["approval_no_key"]


def test_a_climb_that_was_told_to_hold_evidence_it_has_not_is_denied(ada):
    command = make_command(
        Escalate,
        {
            "principal": ada.ada,
            "to": "guardian",
            "trigger": "operator_request",
            "reason": ada.reason,
            "approvals": (sign(ada, ada.prepare(ada.ada)),),
        },
    )
    assert ada.codes(ada.vm.submit(command)) == ["approval_missing", "approval_other_subject"]

"""F28: a guard raises, hangs, or answers with something that is no answer."""

import contextvars
import threading
from datetime import timedelta

import pytest

from vmstate.authority import Authority
from vmstate.constitution.guards import RequesterGuard, TimeGuard
from vmstate.constitution.loading import read_constitution
from vmstate.ledger.audit import audit_ledger


def _raise(error):
    raise error


MISBEHAVIOUR = {
    "raises": lambda *_: _raise(KeyError("who")),
    "raises with a hostile text": lambda *_: _raise(ValueError("a\x1b[31m\u202e\x00" * 500)),
    "raises with what has no spelling": lambda *_: _raise(ValueError("\ud800")),
    "recurses without end": lambda self, case: type(self).__call__(self, case),
    "says True": lambda *_: True,
    "says nothing": lambda *_: None,
    "says a word": lambda *_: "yes",
    "says an empty list": lambda *_: [],
    "says a tuple of something else": lambda *_: (False,),
    "says a generator": lambda *_: (one for one in ()),
}


@pytest.mark.parametrize("guard", [RequesterGuard, TimeGuard])
@pytest.mark.parametrize("behaviour", MISBEHAVIOUR)
def test_a_guard_that_does_not_answer_denies_and_the_engine_lives(
    stage, guard, behaviour, monkeypatch
):
    vm = stage.make()
    with monkeypatch.context() as patch:
        patch.setattr(guard, "__call__", MISBEHAVIOUR[behaviour])
        denied = vm.escalate("u:a", "operator", trigger="asked")
    assert denied.outcome == "denied"
    assert {one.code for one in denied.unmet} == {"malformed"}
    assert all(len(one.given) <= 256 for one in denied.unmet)
    assert not vm.may("u:a", "operator")
    assert stage.climb(vm, "u:a").granted
    stage.check_whole(vm)
    assert audit_ledger(vm.ledger).findings == ()


def test_the_other_guards_are_asked_and_reported_all_the_same(stage, monkeypatch):
    vm = stage.make()
    with monkeypatch.context() as patch:
        patch.setattr(TimeGuard, "__call__", MISBEHAVIOUR["raises"])
        denied = vm.escalate("root", "operator", trigger="asked")
    assert {one.code for one in denied.unmet} == {"malformed", "requester"}


class Hanging:
    """A condition that somebody put into the machine; it comes back when the test lets it."""

    path = "extensions.ours"

    def __init__(self):
        self.asked, self.let_go = 0, threading.Event()

    def __call__(self, _):
        self.asked += 1
        self.let_go.wait()
        return ()


def add_to_first_rung(vm, guard):
    """Put `guard` among the conditions of the way from observer to operator."""
    machine = vm.constitution.machine()
    (way,) = machine.get_transitions("asked", "observer", "operator")
    way.conditions.insert(-1, type(way).condition_cls(guard))
    machine.watch.answers_within = timedelta(milliseconds=50)


@pytest.fixture
def hanging(stage):
    """An authority whose machine nobody else has, and a guard that hangs in it."""
    law = read_constitution(stage.make().constitution.toml)
    vm = stage.closing(Authority.create(law, stage.folder / "own.db"), Authority.close)
    guard = Hanging()
    add_to_first_rung(vm, guard)
    yield vm, guard
    guard.let_go.set()


def test_a_guard_that_hangs_denies_and_the_engine_goes_on(stage, hanging):
    vm, guard = hanging
    denied = vm.escalate("u:a", "operator", trigger="asked")
    assert [(one.rule, one.code, one.given) for one in denied.unmet] == [
        ("extensions.ours", "malformed", "a guard (it did not answer within 0.05s)")
    ]
    assert not vm.may("u:a", "operator")
    assert guard.asked == 1
    # The write lock is free, although the guard's thread is still there.
    assert stage.climb(stage.open(vm.ledger.path), "u:b").granted
    stage.check_whole(vm)
    assert audit_ledger(vm.ledger).findings == ()


def test_a_guard_that_still_hangs_is_not_asked_again_and_denies_at_once(hanging):
    vm, guard = hanging
    threads = threading.active_count()
    given = [vm.escalate("u:a", "operator", trigger="asked").unmet[0].given for _ in range(3)]
    assert given[1:] == ["a guard (it has not answered an earlier case yet)"] * 2
    assert guard.asked == 1
    assert threading.active_count() == threads + 1


def test_a_late_answer_grants_nothing_and_the_guard_is_asked_again_after_it(hanging):
    vm, guard = hanging
    vm.escalate("u:a", "operator", trigger="asked")
    (thread,) = vm.constitution.machine().watch.out.values()
    guard.let_go.set()
    thread.join()
    assert not vm.may("u:a", "operator")
    assert vm.escalate("u:a", "operator", trigger="asked").granted
    assert guard.asked == 2


@pytest.mark.parametrize("behaviour", MISBEHAVIOUR)
def test_a_guard_of_others_that_does_not_answer_denies_like_our_own(hanging, behaviour):
    vm, guard = hanging
    guard.let_go.set()
    add_to_first_rung(vm, lambda case: MISBEHAVIOUR[behaviour](None, case))
    denied = vm.escalate("u:a", "operator", trigger="asked")
    assert [one.code for one in denied.unmet] == ["malformed"]


def test_a_guard_of_others_sees_the_context_of_whoever_asks_and_our_own_need_no_thread(hanging):
    vm, guard = hanging
    guard.let_go.set()
    tenant = contextvars.ContextVar("tenant", default="none")
    seen = []
    add_to_first_rung(vm, lambda _: seen.append((tenant.get(), threading.current_thread())) or ())
    tenant.set("ours")
    assert vm.escalate("u:a", "operator", trigger="asked").granted
    ((said, thread),) = seen
    assert said == "ours"
    assert thread is not threading.current_thread()

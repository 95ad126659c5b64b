"""F28: a guard raises, or answers with something that is no answer."""

import pytest

from vmstate.constitution.guards import RequesterGuard, TimeGuard
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

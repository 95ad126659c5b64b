"""F27: a flood of denials. The ledger's growth is bounded, repeats are folded with a count that
survives everything, answers stay what they were, and others are unaffected.
"""

import threading
from datetime import timedelta

import pytest

from vmstate.authority import Authority
from vmstate.clock import VirtualClock
from vmstate.decisions.command import Escalate, Release
from vmstate.drills.stand_ins import StandIns
from vmstate.errors import Denied
from vmstate.interfaces.cli.output import receipt_body
from vmstate.ledger.audit import audit_ledger
from vmstate.ledger.refusals import ALIKE, SAME, WINDOW
from vmstate.ledger.store import Ledger


@pytest.fixture
def flooded(stage):
    clock = VirtualClock(stage.noon)
    return stage.make(clock), clock


def refused(vm, who="u:a", **fields):
    asked = {"principal": who, "to": "guardian", "trigger": "asked", **fields}
    return vm.submit(Escalate(**asked))


def folds(vm):
    found = (one.fields["what"]["detail"] for one in vm.receipts(limit=1_000, denied=True))
    return [one["folded"] for one in found if one is not None]


def test_what_is_refused_again_and_again_is_written_a_few_times_and_then_counted(flooded):
    vm, clock = flooded
    answers = [refused(vm) for _ in range(100)]
    assert vm.size() == 1 + SAME
    clock.advance(WINDOW)
    refused(vm)
    assert vm.size() == 1 + SAME + 2  # the number, and the first of the next minute
    (fold,) = folds(vm)
    assert fold == {
        "count": 100 - SAME,
        "first": "2030-01-01T12:00:00.000000Z",
        "last": "2030-01-01T12:00:00.000000Z",
        "like": SAME,
        "same": True,
    }
    assert audit_ledger(vm.ledger).findings == ()
    assert {one.outcome for one in answers} == {"denied"}


def test_whoever_is_refused_again_is_answered_with_the_receipt_of_its_like(flooded):
    vm, _ = flooded
    written = [refused(vm, reason="once more") for _ in range(SAME)]
    again = refused(vm, reason="once more")
    assert again.id == written[-1].id
    assert again.unmet == written[0].unmet
    assert vm.receipt(again.seq) == again


def test_what_differs_in_a_letter_is_written_until_there_is_much_of_it(flooded):
    vm, clock = flooded
    answers = [refused(vm, reason=f"try number {number}") for number in range(100)]
    assert vm.size() == 1 + ALIKE
    assert [one.seq for one in answers[: ALIKE + 2]] == [*range(1, ALIKE + 1), ALIKE, ALIKE]
    assert {tuple(u.code for u in one.unmet) for one in answers} == {("no_path",)}
    clock.advance(WINDOW)
    vm.settle(())
    (fold,) = folds(vm)
    assert (fold["count"], fold["same"]) == (100 - ALIKE, False)


def test_what_is_only_counted_is_answered_with_what_it_lacked_itself(flooded):
    vm, _ = flooded
    for number in range(ALIKE):
        refused(vm, reason=f"try number {number}")
    other = refused(vm, trigger="other")
    assert other.unmet[0].given == "observer to guardian on other"
    assert other.place == f"counted with receipt {ALIKE}"
    with pytest.raises(Denied, match=rf"guardian on other.*\(counted with receipt {ALIKE}\)"):
        other.raise_for_denial()
    assert receipt_body(other)["counted"] == {
        "with": ALIKE,
        "rule": other.rule,
        "unmet": [one.body() for one in other.unmet],
    }
    assert vm.receipt(other.seq).unmet[0].given == "observer to guardian on asked"


def test_one_is_never_answered_with_what_somebody_else_or_another_verb_was_told(flooded):
    vm, _ = flooded
    for _ in range(SAME + 1):
        refused(vm)
    other = refused(vm, "u:b")
    assert (other.fields["who"]["principal"], other.seq) == ("u:b", SAME + 1)
    released = vm.submit(Release(principal="u:a", lease="lease-99"))
    assert (released.unmet[0].code, released.seq) == ("unknown_lease", SAME + 2)
    reason = refused(vm, to="sovereign")
    assert reason.seq == SAME + 3


@pytest.mark.parametrize("verb", [Escalate, Release])
def test_whoever_asks_for_names_that_they_make_up_is_written_no_more_often(flooded, verb):
    vm, _ = flooded
    asked = {"lease": "lease-1"} if verb is Release else {"to": "guardian", "trigger": "asked"}
    for number in range(ALIKE + 40):
        vm.submit(verb(principal=f"u:{number}", actor="u:a", **asked))
    assert vm.size() == 1 + ALIKE
    assert refused(vm).seq == 1 + ALIKE  # what they ask for themselves is another matter


def test_a_refusal_is_decided_each_time_so_what_has_become_lawful_is_granted(flooded):
    vm, _ = flooded
    for _ in range(SAME + 10):
        refused(vm)
    vm.escalate("u:a", "operator", trigger="asked").raise_for_denial()
    assert refused(vm).granted


def test_growth_is_bounded_however_long_a_flood_lasts(flooded):
    vm, clock = flooded
    minutes = 5
    for _ in range(minutes):
        for _ in range(40):
            refused(vm)
        clock.advance(WINDOW)
    vm.settle(())
    assert vm.size() == 1 + minutes * (SAME + 1)
    assert sum(one["count"] for one in folds(vm)) + minutes * SAME == minutes * 40
    with vm.ledger.read() as snapshot:
        assert list(snapshot.execute("SELECT * FROM refusal")) == []


def test_the_count_survives_a_restart_and_a_reboot(flooded, stage):
    vm, clock = flooded
    for _ in range(SAME + 5):
        refused(vm)
    again = stage.closing(
        Authority(stage.law, Ledger.open(vm.ledger.path), clock=clock), Authority.close
    )
    for _ in range(5):
        refused(again)
    clock.reboot(down_for=timedelta(seconds=1))
    again.settle(())
    assert [one["count"] for one in folds(again)] == [10]


def test_whoever_writes_next_puts_the_number_on_record_first(flooded):
    vm, clock = flooded
    for _ in range(SAME + 5):
        refused(vm)
    clock.advance(WINDOW)
    granted = vm.escalate("u:b", "operator", trigger="asked")
    number = vm.receipt(granted.seq - 1)
    assert number.fields["who"]["principal"] == "u:a"
    assert number.fields["what"]["detail"]["folded"]["count"] == 5


def test_others_are_answered_while_one_floods(flooded):
    vm, _ = flooded
    stop = threading.Event()
    asked = []

    def flood():
        while not stop.is_set():
            asked.append(refused(vm))

    floods = [threading.Thread(target=flood) for _ in range(4)]
    for one in floods:
        one.start()
    try:
        for number in range(10):
            lease = vm.escalate(f"u:{number}", "operator", trigger="asked").raise_for_denial().lease
            assert vm.may(f"u:{number}", "operator")
            vm.release(f"u:{number}", lease).raise_for_denial()
    finally:
        stop.set()
        for one in floods:
            one.join()
    assert len(asked) > SAME
    assert len(vm.receipts(limit=1_000, denied=True)) == SAME
    assert audit_ledger(vm.ledger).is_good


def test_in_a_drill_each_refusal_has_its_receipt(stage):
    origin = "short/drill/flood"
    mark = StandIns(stage.law, origin=origin, digest=f"sha256:{'0' * 64}").mark("flood", "DRILL/1")
    path = stage.folder / "d.db"
    clock = VirtualClock(stage.noon)
    vm = Authority.create(stage.law, path, clock=clock, origin=origin, drill=mark)
    stage.closing(vm, Authority.close)
    vm.drill_mode(on=True, set_by="a test")
    before = vm.size()
    for _ in range(SAME * 3):
        refused(vm)
    assert vm.size() == before + SAME * 3

"""At least once, and never in the way: what is tried again, by whom, and what it holds up."""

import json
import os
import select
from datetime import timedelta

import pytest

from vmstate.clock import SystemClock
from vmstate.errors import InputError
from vmstate.ledger.outbox import STUCK_AFTER, Outbox
from vmstate.notices import Deliverer
from vmstate.notices.deliverer import BACK_OFF, BATCH, CLAIM_FOR

PATIENCE = 8.0


def climb(vm, who="u:a", to="operator"):
    return vm.escalate(who, to, trigger="asked").raise_for_denial()


def end(vm, who="u:a"):
    return vm.release(who, climb(vm, who).lease)


@pytest.fixture
def failing(desk):
    """A target that fails until a file is there, and one that never does."""
    heard = desk.folder / "pager.jsonl"
    mended = desk.folder / "mended"
    desk.target("pager", "ended", command=f"test -e {mended} && cat >> {heard}")
    desk.target("other", "ended")
    vm = desk.make()
    return desk, vm, Deliverer(vm), mended


def test_a_failed_delivery_is_tried_again_later_each_time(failing):
    desk, vm, deliverer, mended = failing
    end(vm)
    for number, wait in enumerate((*BACK_OFF, BACK_OFF[-1]), 1):
        deliverer.deliver_due()
        (row,) = desk.waiting(vm, "pager")
        assert (row.attempts, row.fault) == (number, "ended with exit code 1")
        desk.clock.advance(wait - timedelta(microseconds=1))
        deliverer.deliver_due()
        assert desk.waiting(vm, "pager")[0].attempts == number
        desk.clock.advance(timedelta(microseconds=1))
    mended.touch()
    assert deliverer.deliver_due() == 1
    assert len(desk.told("pager")) == 1


def test_a_target_that_fails_holds_up_no_other(failing):
    desk, vm, deliverer, _ = failing
    for _ in range(3):
        end(vm)
    assert deliverer.deliver_due() == 3
    assert len(desk.told("other")) == 3
    assert deliverer.deliver_due() == 0
    # What is behind the first failure waits untried: a target that is down is not asked for each.
    assert [row.attempts for row in desk.waiting(vm, "pager")] == [1, 0, 0]


def test_a_notice_that_is_never_accepted_lets_the_others_pass_in_the_end(desk):
    heard = desk.folder / "pager.jsonl"
    refuses = f"read -r line; case $line in *u:bad*) exit 1;; esac; echo $line >> {heard}"
    desk.target("pager", "ended", command=refuses)
    vm = desk.make()
    deliverer = Deliverer(vm)
    end(vm, "u:bad")
    end(vm, "u:good")
    for wait in (*BACK_OFF[:STUCK_AFTER], timedelta()):
        deliverer.deliver_due()
        desk.clock.advance(wait)
    (row,) = desk.waiting(vm, "pager")
    assert row.attempts >= STUCK_AFTER
    assert [one["principal"] for one in desk.told("pager")] == ["u:good"]


def test_the_same_notice_has_the_same_id_each_time_and_another_has_another(failing):
    desk, vm, deliverer, mended = failing
    heard = desk.folder / "pager.jsonl"
    end(vm)
    end(vm)
    mended.touch()
    heard.mkdir()  # read, but not written down
    deliverer.deliver_due()
    heard.rmdir()
    desk.clock.advance(BACK_OFF[0])
    deliverer.deliver_due()
    ids = [one["id"] for one in desk.told("pager")]
    assert len(set(ids)) == 2
    desk.clock.advance(CLAIM_FOR)
    vm.ledger.transact(lambda t: t._execute("UPDATE outbox SET told_us = NULL", ()))
    deliverer.deliver_due()
    assert [one["id"] for one in desk.told("pager")] == [*ids, *ids]


def test_what_one_service_has_claimed_no_other_tells_until_the_claim_has_passed(pager):
    desk, vm, _ = pager("ended")
    end(vm)
    other = Deliverer(desk.again())
    until = vm.clock.read().boot_us + CLAIM_FOR // timedelta(microseconds=1)
    vm.ledger.transact(
        lambda t: Outbox(t).claim("pager", vm.clock.read(), limit=BATCH, until_boot_us=until)
    )
    assert other.deliver_due() == 0  # as if the one that claimed it was killed
    desk.clock.advance(CLAIM_FOR)
    assert other.deliver_due() == 1
    assert len(desk.told("pager")) == 1


def test_a_claim_does_not_outlive_its_boot(pager):
    desk, vm, deliverer = pager("ended")
    end(vm)
    vm.ledger.transact(
        lambda t: Outbox(t).claim("pager", vm.clock.read(), limit=1, until_boot_us=2**60)
    )
    desk.clock.reboot(down_for=timedelta(seconds=5), wall_error=timedelta(days=-1))
    assert deliverer.deliver_due() == 1


def test_refusals_that_come_while_others_are_told_are_told_next_time(pager):
    desk, vm, deliverer = pager("denied")
    vm.escalate("u:a", "guardian", trigger="asked")
    vm.ledger.transact(
        lambda t: Outbox(t).claim("pager", vm.clock.read(), limit=1, until_boot_us=1)
    )
    vm.escalate("u:a", "guardian", trigger="asked")
    vm.escalate("u:a", "guardian", trigger="asked")
    desk.clock.advance(timedelta(seconds=1))
    deliverer.deliver_due()
    assert [one["count"] for one in desk.told("pager")] == [1, 2]


def test_a_target_that_was_taken_out_of_the_law_is_told_nothing_more(pager, caplog):
    desk, vm, deliverer = pager("ended")
    end(vm)
    with vm.ledger.read() as snapshot:
        assert Outbox(snapshot).targets() == ("pager",)
    desk.target("stranger")
    rows = "INSERT INTO outbox (target, event, seq, first_seq, count, planned, due_us, due_boot, "
    rows += "due_boot_us, claimed, hold_boot, hold_boot_us, attempts, fault) VALUES "
    rows += "('gone', 'ended', 2, 2, 1, 0, 0, '', 0, 0, '', 0, 0, '')"
    vm.ledger.transact(lambda t: t._execute(rows, ()))
    deliverer.deliver_due()
    with vm.ledger.read() as snapshot:
        assert Outbox(snapshot).targets() == ("pager",)
    assert "no longer under [notify], told nothing more: gone" in caplog.text


# ---- in threads -----------------------------------------------------------------------------


def test_what_is_written_is_told_at_once_by_a_thread_of_its_own(desk):
    pipe = desk.folder / "pipe"
    os.mkfifo(pipe)
    desk.target("pager", "ended", command=f"cat > {pipe}")
    vm = desk.make(SystemClock())
    desk.running(Deliverer(vm))
    receipt = end(vm)
    reading = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        assert select.select([reading], [], [], PATIENCE)[0]
        assert json.loads(os.read(reading, 10_000))["receipt"]["id"] == receipt.id
    finally:
        os.close(reading)


def test_more_than_a_batch_is_told_without_a_pause_between(desk, monkeypatch):
    monkeypatch.setattr("vmstate.notices.deliverer.BATCH", 2)
    desk.target("pager", "ended")
    vm = desk.make()
    for _ in range(5):
        end(vm)
    deliverer = Deliverer(vm)
    assert [deliverer.deliver_due() for _ in range(4)] == [2, 2, 1, 0]


def test_stopping_frees_what_was_claimed_and_not_tried(desk):
    desk.target("pager", "ended")
    vm = desk.make()
    end(vm)
    deliverer = Deliverer(vm)
    deliverer.stop()
    assert deliverer.deliver_due() == 0
    assert Deliverer(vm).deliver_due() == 1


# ---- trying it out --------------------------------------------------------------------------


def test_a_test_is_sent_at_once_and_leaves_nothing_behind(pager):
    desk, vm, deliverer = pager("ended")
    assert deliverer.test("pager") == ""
    (told,) = desk.told("pager")
    assert told["type"] == "vmstate.test"
    assert told["message"] == "a test of pager: nothing happened"
    assert desk.waiting(vm, "pager") == ()


def test_a_test_of_nobody_names_who_there_is(pager):
    _, _, deliverer = pager("ended")
    with pytest.raises(InputError) as caught:
        deliverer.test("pagr")
    assert str(caught.value) == "there is no target 'pagr' under [notify]: there are pager"

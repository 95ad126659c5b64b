"""Who is behind is seen: by health, and by whoever asks the authority."""

from datetime import timedelta

from vmstate.expiry import VirtualExpiry
from vmstate.health import check_health
from vmstate.ledger.outbox import LATE_AFTER
from vmstate.notices import Deliverer


def test_a_target_that_can_not_be_told_degrades_health_until_it_was_told(desk):
    mended = desk.folder / "mended"
    desk.target("pager", "ended", command=f"test -e {mended}")
    desk.target("other", "ended")
    vm = desk.make()
    expiry = VirtualExpiry(vm)
    deliverer = Deliverer(vm)
    vm.release("u:a", vm.escalate("u:a", "operator", trigger="asked").lease)
    assert check_health(vm, expiry).faults == ()
    deliverer.deliver_due()
    assert check_health(vm, expiry).faults == (
        "pager is behind: 1 notice waits since 2030-01-01 12:00:00Z, ended with exit code 1",
    )
    mended.touch()
    desk.clock.advance(timedelta(seconds=1))
    deliverer.deliver_due()
    assert check_health(vm, expiry).status == "operational"
    expiry.stop()


def test_what_nobody_tries_to_tell_is_behind_after_a_minute(pager):
    desk, vm, _ = pager("ended")
    vm.release("u:a", vm.escalate("u:a", "operator", trigger="asked").lease)
    desk.clock.advance(LATE_AFTER)
    assert not vm.backlogs()[0].is_behind
    desk.clock.advance(timedelta(microseconds=1))
    assert vm.backlogs()[0].is_behind
    assert vm.backlogs()[0].message == (
        "pager is behind: 1 notice waits since 2030-01-01 12:00:00Z, nobody tried: "
        "run vmstate serve"
    )


def test_who_was_told_everything_is_not_behind_and_what_is_planned_does_not_wait(pager):
    _, vm, deliverer = pager("ending", "ended")
    vm.release("u:a", vm.escalate("u:a", "operator", trigger="asked").lease)
    vm.escalate("u:b", "operator", trigger="asked")
    deliverer.deliver_due()
    (backlog,) = vm.backlogs()
    assert (backlog.waiting, backlog.oldest_at, backlog.is_behind) == (0, None, False)

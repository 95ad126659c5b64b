"""F32: blocks in blocks, in threads and in tasks: the inner exit never touches the outer lease."""

import asyncio
import threading
from datetime import timedelta

import pytest

from vmstate.clock import VirtualClock
from vmstate.elevation import current
from vmstate.ledger.audit import audit_ledger

PATIENCE = 30.0


@pytest.fixture
def vm(stage):
    return stage.make(VirtualClock(stage.noon))


def block(vm, to="operator", who="u:a", **fields):
    return vm.elevated(to, as_=who, trigger="asked", **fields)


def held(vm, who="u:a"):
    return [lease.profile for lease in vm.standing(who).leases]


def test_an_inner_block_gives_back_its_own_lease_only(vm):
    with block(vm) as outer:
        with block(vm, "guardian") as inner:
            assert held(vm) == ["operator", "guardian"]
            assert current() is inner
        assert held(vm) == ["operator"]
        assert current() is outer
        outer.check()
    assert (held(vm), current()) == ([], None)


def test_an_inner_block_of_the_same_profile_leaves_the_outer_ones_lease(vm):
    with block(vm) as outer:
        with block(vm) as inner:
            assert inner.id == outer.id
        outer.check()
        assert held(vm) == ["operator"]
    assert held(vm) == []


def test_a_lease_from_before_is_as_long_as_it_was(stage, vm):
    """The inner block asks for a minute; the outer lease has its own end, and keeps it."""
    before = stage.climb(vm, "u:a", ttl=timedelta(minutes=30))
    with block(vm, "guardian", ttl=timedelta(minutes=1)):
        pass
    with block(vm, ttl=timedelta(minutes=1)):
        pass
    (lease,) = vm.standing("u:a").leases
    assert (lease.id, lease.expires_at) == (before.lease, before.expires_at)


def test_of_two_threads_under_one_lease_the_last_to_leave_gives_it_back(vm):
    entered, leave = threading.Event(), threading.Event()

    def first():
        with block(vm):
            entered.set()
            assert leave.wait(PATIENCE)

    thread = threading.Thread(target=first)
    thread.start()
    assert entered.wait(PATIENCE)
    with block(vm) as second:
        leave.set()
        thread.join(PATIENCE)
        second.check()
        assert held(vm) == ["operator"]
    assert held(vm) == []


def test_what_another_thread_stands_on_is_not_given_back_from_under_it(vm):
    entered, leave = threading.Event(), threading.Event()
    above = []

    def climber():
        with block(vm, "guardian") as inner:
            above.append(inner)
            entered.set()
            assert leave.wait(PATIENCE)
            inner.check()

    thread = threading.Thread(target=climber)
    with block(vm):
        thread.start()
        assert entered.wait(PATIENCE)
    # The block that took the lower lease is left, and the one above it still runs on it.
    assert held(vm) == ["operator", "guardian"]
    leave.set()
    thread.join(PATIENCE)
    assert held(vm) == []
    assert audit_ledger(vm.ledger).findings == ()


def test_a_crowd_of_threads_takes_one_lease_each_and_leaves_none(stage, vm):
    faults = []

    def work(number):
        try:
            for _ in range(3):
                who = f"u:{number % 3}"
                with block(vm, who=who) as lower:
                    lower.check()
                    with block(vm, "guardian", who=who) as upper:
                        upper.check()
                        lower.check()
                    lower.check()
        except Exception as fault:  # noqa: BLE001 -- reported by the test
            faults.append(fault)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE * 4)
    assert faults == []
    assert vm.status() == ()
    assert stage.receipts(vm, denied=True) == []
    assert audit_ledger(vm.ledger).findings == ()


def test_of_tasks_that_interleave_none_ends_anothers(vm):
    async def task(number):
        async with block(vm, who=f"u:{number % 2}") as lower:
            await asyncio.sleep(0)
            async with block(vm, "guardian", who=f"u:{number % 2}") as upper:
                await asyncio.sleep(0)
                assert current() is upper
                upper.check()
            assert current() is lower
            lower.check()

    async def work():
        await asyncio.gather(*(task(number) for number in range(6)))

    asyncio.run(work())
    assert vm.status() == ()
    assert audit_ledger(vm.ledger).findings == ()

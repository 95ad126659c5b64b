"""A block takes a lease when it is entered, and gives back that lease when it is left."""

import asyncio
import logging
import os
from datetime import timedelta

import pytest

from vmstate.errors import Denied, InputError, LeaseEnded, LedgerUnavailable


def test_a_block_takes_a_lease_and_gives_it_back(world):
    with world.block(reason="ticket 4711", ttl=timedelta(minutes=5)) as lease:
        assert world.held() == [lease.id]
        assert (lease.seq, lease.id) == (1, "lease-1")
        assert lease.expires_at == world.vm.now() + timedelta(minutes=5)
        assert lease.receipt.fields["why"] == "ticket 4711"
        world.wait(minutes=2)
        assert lease.left() == timedelta(minutes=3)
        lease.check()
    assert world.ends() == [(lease.id, "operator_release", "the block was left")]
    assert lease.left() == timedelta()
    assert world.findings() == []


def test_what_is_refused_raises_with_its_receipt_and_the_block_does_not_run(world):
    told = r"No escalation path .* \(receipt 1\)"
    with pytest.raises(Denied, match=told) as raised, world.block("guardian"):
        raise AssertionError("the block ran")
    assert raised.value.receipt.body == world.vm.receipt(1).body
    assert world.ends() == []


def test_a_block_that_raises_gives_back_and_raises_on(world):
    with pytest.raises(KeyError), world.block():
        raise KeyError("lost")
    assert world.ends() == [("lease-1", "operator_release", "the block raised KeyError")]


def test_a_generator_lends_its_block_to_whoever_iterates_it_until_it_is_closed(world):
    """As the docstring warns: a plain generator has no context of its own."""

    def rows():
        with world.block() as lease:
            yield lease

    lent = rows()
    lease = next(lent)
    with world.vm.elevated("operator", reason="whose this is was never said") as inner:
        assert inner.id == lease.id
    lent.close()
    with pytest.raises(InputError, match="nobody is named who asks"):
        world.vm.elevated("operator", reason="whose this is was never said")
    assert "generator" in type(world.vm).elevated.__doc__


def test_what_is_held_already_is_not_taken_again_and_is_held_afterwards(world):
    held = world.climb()
    size = world.vm.size()
    with world.block() as lease:
        assert (lease.id, lease.receipt) == (held.lease, None)
        lease.check()
    assert world.held() == [held.lease]
    assert world.vm.size() == size


def test_the_lowest_lease_that_gives_the_profile_is_the_one_it_runs_under(world):
    operator = world.climb()
    world.climb("guardian")
    with world.block() as lease:
        assert lease.id == operator.lease


def test_a_lease_that_ended_meanwhile_is_no_error_and_nothing_more_is_written(world):
    with world.block() as lease:
        world.vm.release(world.who, lease.id)
        size = world.vm.size()
    assert world.vm.size() == size
    with world.block(ttl=timedelta(minutes=1)):
        world.wait(minutes=1)
        size = world.vm.size()
    assert (world.vm.size(), world.denials()) == (size, ())


def test_check_raises_once_it_is_over_however_it_ended(world):
    with world.block(ttl=timedelta(minutes=1)) as lease:
        world.wait(minutes=1)
        told = "lease-1 is over: u:a no longer holds operator by it; enter the block again"
        with pytest.raises(LeaseEnded) as raised:
            lease.check()
        assert (str(raised.value), raised.value.receipt) == (told, None)
        assert isinstance(raised.value, Denied)
        # Another lease of the same profile is not the one that the block was entered with.
        world.climb()
        with pytest.raises(LeaseEnded):
            lease.check()
    assert world.held() == ["lease-3"]


def test_the_baseline_needs_no_lease(world):
    with pytest.raises(InputError, match="observer is what everybody is: it needs no lease"):
        world.block("observer").__enter__()


def test_a_profile_that_is_none_is_refused_on_the_record(world):
    with pytest.raises(Denied, match="operatr is not a profile"), world.block("operatr"):
        pass


def test_somebody_unknown_is_refused_on_the_record(world):
    with pytest.raises(Denied, match="in no group"), world.block(who="mallory"):
        pass


def test_a_block_is_entered_once_and_has_no_lease_before(world):
    block = world.block()
    with pytest.raises(RuntimeError, match="the block has not been entered"):
        _ = block.id
    with block:
        pass
    with pytest.raises(RuntimeError, match="a block is entered once"), block:
        pass


def test_a_block_inside_another_asks_for_the_same_person(world):
    with world.block(), world.vm.elevated("guardian", trigger="asked") as inner:
        assert inner.principal == world.who
    with pytest.raises(InputError, match="nobody is named who asks: say as_="):
        world.vm.elevated("guardian")


def test_where_it_can_not_be_given_back_that_is_raised_unless_the_block_raised(
    world, monkeypatch, caplog
):
    def full(_):
        raise LedgerUnavailable("the disk is full")

    with monkeypatch.context() as patch, pytest.raises(LedgerUnavailable), world.block():
        patch.setattr(world.vm, "submit", full)
    caplog.set_level(logging.WARNING, "vmstate")
    above = world.block("guardian")
    above.__enter__()
    monkeypatch.setattr(world.vm, "submit", full)
    above.__exit__(KeyError, KeyError("lost"), None)
    assert "['lease-2'] could not be given back, it lasts until its end" in caplog.text


def test_a_forked_child_that_leaves_the_block_does_not_touch_its_parents_lease(world, monkeypatch):
    """What a fork leaves of the block is a copy; here only the process's number says so."""
    with world.block() as lease:
        monkeypatch.setattr(os, "getpid", lambda: -2)
        lease.__exit__(None, None, None)
        monkeypatch.undo()
        assert world.held() == [lease.id]
    assert world.held() == []


# ---- in tasks ----------------------------------------------------------------------------------


def test_a_block_of_a_task_is_the_same_block(world):
    async def work():
        async with world.block() as lease:
            assert world.held() == [lease.id]
            lease.check()
        with pytest.raises(KeyError):
            async with world.block():
                raise KeyError("lost")

    asyncio.run(work())
    assert world.held() == []
    assert [why for *_, why in world.ends()] == ["the block was left", "the block raised KeyError"]


def test_a_task_that_is_cancelled_gives_back(world):
    async def work(entered):
        async with world.block():
            entered.set()
            await asyncio.Event().wait()

    async def main():
        entered = asyncio.Event()
        task = asyncio.create_task(work(entered))
        await entered.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert world.ends() == [("lease-1", "operator_release", "the block raised CancelledError")]


def test_a_task_that_is_cancelled_while_it_asks_gives_back_what_it_was_granted(world, monkeypatch):
    async def main():
        asking, loop = asyncio.Event(), asyncio.get_running_loop()
        submit = world.vm.submit

        def slow(command):
            monkeypatch.undo()
            loop.call_soon_threadsafe(asking.set)
            return submit(command)

        monkeypatch.setattr(world.vm, "submit", slow)

        async def work():
            async with world.block():
                raise AssertionError("the block ran")

        task = asyncio.create_task(work())
        await asking.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert world.held() == []
    assert world.ends() == [("lease-1", "operator_release", "the block raised CancelledError")]

"""A function that only whoever holds a profile may call, asked at each call."""

import asyncio
import inspect
import threading
from datetime import timedelta

import pytest

import vmstate
from vmstate.elevation import requires
from vmstate.errors import Denied, LeaseEnded


@requires("operator")
def restart(name, *, times=1):
    """Restart it."""
    return f"{name} {times}"


@requires("operator")
async def restart_later(name):
    return name


def test_it_is_on_the_face():
    assert vmstate.requires is requires


def test_inside_a_block_it_may_be_called_and_outside_not(world):
    with world.block():
        assert restart("db", times=2) == "db 2"
    told = (
        "restart requires operator, and nobody is known to ask: call it in a block of "
        r"vm\.elevated\(\.\.\.\), or say vm= and principal="
    )
    with pytest.raises(Denied, match=told):
        restart("db")


def test_authority_is_read_at_each_call(world):
    with world.block(ttl=timedelta(minutes=1)):
        restart("db")
        world.wait(minutes=1)
        with pytest.raises(LeaseEnded):
            restart("db")


def test_a_denial_names_the_way_up_and_writes_nothing(world):
    @requires("guardian", vm=world.vm, principal="u:a")
    def wipe():
        raise AssertionError("it ran")

    size = world.vm.size()
    with pytest.raises(Denied) as raised:
        wipe()
    assert str(raised.value).endswith(
        "wipe requires guardian, u:a is observer: "
        "climb first: operator on asked, then guardian on asked"
    )
    assert raised.value.receipt is None
    assert world.vm.size() == size
    world.climb()
    with (
        world.block(),
        pytest.raises(Denied, match="u:a is operator: climb first: guardian on asked"),
    ):
        wipe()


@pytest.mark.parametrize("who", ["root", "mallory"])
def test_whoever_may_never_climb_is_told_to_ask_somebody_else(world, who):
    @requires("operator", vm=world.vm, principal=who)
    def wipe():
        raise AssertionError("it ran")

    with pytest.raises(Denied, match=f"{who} is observer: ask somebody who may be operator"):
        wipe()


def test_a_principal_that_is_named_is_asked_about_whoever_stands_in_the_block(world):
    @requires("operator", vm=world.vm, principal="u:b")
    def wipe():
        return "wiped"

    with world.block(), pytest.raises(Denied, match="u:b is observer"):
        wipe()
    world.climb(who="u:b")
    assert wipe() == "wiped"


def test_the_block_of_another_ledger_counts_for_nothing(world, make_world):
    other = make_world()

    @requires("operator", vm=other.vm)
    def wipe():
        raise AssertionError("it ran")

    with world.block(), pytest.raises(Denied, match="nobody is known to ask"):
        wipe()


def test_a_drills_authority_opens_nothing_real(make_world):
    drill = make_world(drill=True)

    @requires("operator", in_drill=True)
    def rehearse():
        return "rehearsed"

    with drill.block():
        with pytest.raises(Denied, match=r"restart is real and .* is a drill's ledger"):
            restart("db")
        assert rehearse() == "rehearsed"


def test_a_coroutine_is_asked_for_when_it_is_awaited(world):
    assert inspect.iscoroutinefunction(restart_later)

    async def work():
        async with world.block() as lease:
            assert await restart_later("db") == "db"
            waiting = restart_later("db")
            world.vm.release(world.who, lease.id)
            with pytest.raises(LeaseEnded):
                await waiting

    asyncio.run(work())


def test_tasks_carry_their_own_block_and_a_new_thread_is_in_none(world):
    async def task(who):
        async with world.block(who=who):
            await asyncio.sleep(0)
            return await restart_later(who)

    async def work():
        return await asyncio.gather(*(task(f"u:{n}") for n in range(4)))

    assert asyncio.run(work()) == ["u:0", "u:1", "u:2", "u:3"]
    denied = []

    def elsewhere():
        try:
            restart("db")
        except Denied as denial:
            denied.append(denial)

    with world.block():
        thread = threading.Thread(target=elsewhere)
        thread.start()
        thread.join()
    assert len(denied) == 1


def test_what_yields_can_not_be_guarded():
    def lines():
        yield 1

    async def later():
        yield 1

    for function in (lines, later):
        with pytest.raises(TypeError, match="yields, and would run on after it was allowed"):
            requires("operator")(function)


def test_a_guarded_function_keeps_its_name():
    assert (restart.__name__, restart.__doc__) == ("restart", "Restart it.")

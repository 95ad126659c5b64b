"""What the gate costs: a call through it beside the direct call, and how late an end is felt."""

import os
import statistics
import subprocess
import sys
import time
from datetime import datetime
from functools import partial
from pathlib import Path

import anyio
import anyio.to_thread
import pytest
from mcp import Client, StdioServerParameters

from vmstate.authority import Authority
from vmstate.keys import PrivateKey

pytestmark = pytest.mark.benchmark
VMSTATE = Path(sys.executable).with_name("vmstate")
SERVER = (sys.executable, str(Path(__file__).with_name("stamping.py")))
LAW = """
[tools.stamping]
tools.read  = { profile = "observer" }
tools.write = { profile = "operator" }
"""
ROUNDS, CALLS, AGENTS = 5, 100, 100
FLUSHES, FLUSHED = 50, 9 * 4_096
LOCKS = 100
ASKED = {"to": "operator", "reason": "measure what it costs"}


@pytest.fixture
def folder(tmp_path):
    run(tmp_path, "init")
    path = tmp_path / "constitution.toml"
    carol = run(tmp_path, "keys", "new", "carol", "-o", "carol.key")
    path.write_text(f"{path.read_text(encoding='utf-8')}\n{carol}{LAW}", encoding="utf-8")
    run(tmp_path, "init")
    return tmp_path


def run(folder, *words):
    done = subprocess.run([VMSTATE, *words], cwd=folder, check=True, capture_output=True, text=True)
    return done.stdout


def gate(folder):
    words = ["gate", "--as", "agent:7", "--", *SERVER]
    return StdioServerParameters(command=str(VMSTATE), args=words, cwd=folder)


def direct():
    return StdioServerParameters(command=SERVER[0], args=[SERVER[1]])


async def timed(client, tool, calls=CALLS):
    took = []
    for _ in range(calls):
        began = time.perf_counter()
        answer = await client.call_tool(tool, {"text": "hello"})
        took.append((time.perf_counter() - began) * 1_000)
        assert not answer.is_error, answer.content
    return took


def flush_of(folder):
    """What one durable write takes here and now: a receipt can't take less.

    It is of as many pages as a receipt's commit, in a file that has its size already, as the log
    of a ledger has that was in use for a while.
    """
    took = []
    path = folder / "flushed"
    path.write_bytes(bytes(FLUSHES * FLUSHED))
    with path.open("r+b", buffering=0) as file:
        os.fsync(file.fileno())
        for _ in range(FLUSHES):
            began = time.perf_counter()
            file.write(b"x" * FLUSHED)
            os.fdatasync(file.fileno())
            took.append((time.perf_counter() - began) * 1_000)
    return statistics.median(took)


STORM = """
import time
from vmstate import Authority
vm = Authority.open("constitution.toml", "vmstate.db")
while True:
    asked = {"trigger": "operator_request", "reason": "raise a storm of flushes"}
    vm.escalate("agent:storm", "operator", **asked)
    vm.release("agent:storm", vm.standing("agent:storm").leases[-1].id)
    time.sleep(0.005)  # as several processes would leave gaps; none of them would starve another
"""


def test_a_hundred_calls_at_once_quiet_and_during_a_storm_of_flushes(folder):
    async def p99(client, tool):
        took = []

        async def call():
            for _ in range(5):
                took.extend(await timed(client, tool, 1))

        async with anyio.create_task_group() as group:
            for _ in range(AGENTS):
                group.start_soon(call)
        return sorted(took)[int(len(took) * 0.99)]

    async def measure():
        async with Client(gate(folder)) as far:
            await far.list_tools()
            await far.call_tool("vmstate_request_escalation", ASKED)
            for tool in ("read", "write"):
                quiet = min([await p99(far, tool) for _ in range(3)])
                storm = subprocess.Popen([sys.executable, "-c", STORM], cwd=folder)
                try:
                    await anyio.sleep(1)
                    loud = min([await p99(far, tool) for _ in range(3)])
                finally:
                    storm.kill()
                    storm.wait()
                ratio = loud / quiet
                print(
                    f"\n{tool}, {AGENTS} at once: p99 {quiet:.0f} ms, in a storm {loud:.0f} ms, "
                    f"{ratio:.1f}x (target 3)"
                )

    anyio.run(measure)


def test_a_call_through_the_gate_beside_the_direct_call(folder):
    async def measure():
        async with Client(direct()) as near, Client(gate(folder)) as far:
            await near.list_tools()
            await far.list_tools()
            granted = await far.call_tool("vmstate_request_escalation", ASKED)
            assert not granted.is_error, granted.content
            for tool in ("read", "write"):
                rounds = []
                for _ in range(ROUNDS):
                    one, other = await timed(near, tool), await timed(far, tool)
                    near_ms, far_ms = statistics.median(one), statistics.median(other)
                    # Beside it and not afterwards: what a disk takes changes by the second.
                    rounds.append((far_ms - near_ms, near_ms, far_ms, flush_of(folder)))
                more, near_ms, far_ms, flush_ms = min(rounds)
                ours = more - (flush_ms if tool == "write" else 0)
                print(
                    f"\n{tool}: direct p50 {near_ms:.2f} ms, gate {far_ms:.2f} ms, "
                    f"{more:.2f} ms more (target 3); a flush took {flush_ms:.2f} ms in that round, "
                    f"the rest is {ours:.2f} ms"
                )

    anyio.run(measure)


def test_how_late_the_end_of_a_lease_is_felt_by_a_running_call(folder):
    """From the deadline to the last stamp that a running tool wrote: what it did too late."""

    async def measure():
        late = []
        async with Client(gate(folder)) as far:
            await far.list_tools()
            for _ in range(20):
                granted = await far.call_tool("vmstate_request_escalation", {**ASKED, "ttl": "1s"})
                ends = granted.structured_content["expires_at"]
                path = folder / "stamps"
                path.unlink(missing_ok=True)
                answer = await far.call_tool("write", {"stamps": str(path)})
                assert answer.is_error
                await anyio.sleep(0.15)
                last = float(path.read_text().splitlines()[-1])
                late.append((last - datetime.fromisoformat(ends).timestamp()) * 1_000)
        late.sort()
        middle, worst = late[len(late) // 2], late[-1]
        print(f"\nlast effect after the deadline: p50 {middle:.0f} ms, worst {worst:.0f} ms (100)")

    anyio.run(measure)


def test_how_late_a_lock_is_felt_by_a_running_call(folder):
    """From the lock's own time, before it is durable, to the last stamp of the running tool."""

    async def measure():
        vm = Authority.open(folder / "constitution.toml", folder / "vmstate.db")
        key = PrivateKey.load(folder / "carol.key")
        async with Client(gate(folder)) as far:
            await far.list_tools()
            late = [await lateness(far, vm, key, number / LOCKS) for number in range(LOCKS)]
        vm.close()
        late.sort()
        middle, high = late[len(late) // 2], late[int(len(late) * 0.99) - 1]
        print(
            f"\nlast effect after a lock, {LOCKS} times: p50 {middle:.0f} ms, p99 {high:.0f} ms, "
            f"worst {late[-1]:.0f} ms (target: p99 100)"
        )

    async def lateness(far, vm, key, share):
        granted = await far.call_tool("vmstate_request_escalation", ASKED)
        assert not granted.is_error, granted.content
        path = folder / "stamps"
        path.unlink(missing_ok=True)
        async with anyio.create_task_group() as group:
            group.start_soon(far.call_tool, "write", {"stamps": str(path)})
            while not path.exists():
                await anyio.sleep(0.005)
            await anyio.sleep(0.02 * share)  # so that it meets the gate between any two looks
            asked = partial(vm.lock, "carol", principal="agent:7", key=key)
            locked = await anyio.to_thread.run_sync(asked)
        await anyio.sleep(0.05)
        last = float(path.read_text().splitlines()[-1])
        lock = locked.fields["what"]["detail"]["lock"]
        vm.unlock("carol", lock, key=key).raise_for_denial()
        return (last - locked.at.timestamp()) * 1_000

    anyio.run(measure)

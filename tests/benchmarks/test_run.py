"""How late a command under `vmstate run` still does something: after its deadline, after a lock.

The command never stops by itself: it ignores TERM and writes the time into shared memory as fast
as it can, so that its last effect is what stands there once it is dead. `pytest -m benchmark -s`.
"""

import mmap
import os
import statistics
import struct
import sys
import threading
import time
from datetime import timedelta
from pathlib import Path

import pytest

from vmstate import Authority, load_constitution
from vmstate.interfaces.cli.processes import Family
from vmstate.interfaces.cli.supervising import Watch, clock_of, supervise
from vmstate.ledger.store import Ledger

pytestmark = pytest.mark.benchmark

LAW = load_constitution(Path(__file__).parents[1] / "shared" / "short.toml")
ROUNDS, LIMIT_MS = 100, 100
LASTS = timedelta(milliseconds=500)
STUBBORN = """
import mmap, signal, struct, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
with open(sys.argv[1], "r+b") as file:
    shared = mmap.mmap(file.fileno(), 8)
pack, now = struct.Struct("q").pack_into, time.monotonic_ns
while True:
    pack(shared, 0, now())
"""


@pytest.fixture
def shared(tmp_path):
    path = tmp_path / "last"
    path.write_bytes(bytes(8))
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 8) as memory:
        yield path, memory


@pytest.fixture
def vm(tmp_path):
    made = Authority.create(LAW, tmp_path / "l.db")
    yield made
    made.close()


def one(vm, who, shared, ttl, *, then=None):
    """Run it under a lease; returns the last effect, and when on the same clock the lease ended."""
    path, memory = shared
    memory[:] = bytes(8)

    def last():
        return struct.unpack_from("q", memory)[0]

    lease = vm.escalate(who, "operator", trigger="asked", ttl=ttl).raise_for_denial().lease
    standing = vm.standing(who)
    deadline_ns = (
        time.monotonic_ns()
        + standing.left(standing.leases[-1]) // timedelta(microseconds=1) * 1_000
    )
    family = Family([sys.executable, "-S", "-E", "-c", STUBBORN, str(path)], os.environ)
    ended_ns = []
    thread = threading.Thread(target=lambda: ended_ns.append(then(lease, last)) if then else None)
    thread.start()
    supervise(family, Watch(vm, standing, lease, clock_of(vm)), timedelta())
    family.close()
    thread.join()
    return last(), ended_ns[0] if then else deadline_ns


def show(what, lates_ms):
    cuts = statistics.quantiles(lates_ms, n=100, method="inclusive")
    print(
        f"\n{what}, {len(lates_ms)} runs: p50 {cuts[49]:.1f} ms, p99 {cuts[98]:.1f} ms, "
        f"most {max(lates_ms):.1f} ms after it (limit {LIMIT_MS} ms)"
    )


def test_from_the_deadline_to_the_last_effect(vm, shared):
    lates = []
    for number in range(ROUNDS):
        effect_ns, deadline_ns = one(vm, f"u:{number}", shared, LASTS)
        if effect_ns:  # on a busy machine it may not have begun by then
            lates.append((effect_ns - deadline_ns) / 1e6)
    show("deadline to the last effect", lates)


def test_from_an_end_by_somebody_else_to_the_last_effect(vm, shared):
    """A release by another connection, as a lock or a revocation comes to be known."""
    other = Authority(LAW, Ledger.open(vm.ledger.path))

    def end(lease, last):
        while time.monotonic_ns() - last() > 5_000_000:
            time.sleep(0.002)  # until it writes
        other.release(other.lease(lease).principal, lease).raise_for_denial()
        return time.monotonic_ns()

    lates = []
    for number in range(ROUNDS):
        effect_ns, ended_ns = one(vm, f"u:{number}", shared, timedelta(minutes=1), then=end)
        lates.append((effect_ns - ended_ns) / 1e6)
    other.close()
    show("an end by another process to the last effect", lates)

"""What a great many leases cost, as ratios in one run: `pytest -m benchmark -s`.

    VMSTATE_MANY=50000 pytest -m benchmark -s tests/benchmarks/test_scale.py

A million leases and a million receipts by default, which takes some minutes and three gigabytes to
write. Memory is that of a process of its own at its peak, beside one that does the same with an
empty ledger. Nothing here fails for being slow.
"""

import json
import os
import statistics
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import apsw
import pytest
from crowds import give_and_take, grant

from vmstate import Authority, VirtualClock, load_constitution
from vmstate.constitution.loading import read_constitution
from vmstate.expiry import Expiry
from vmstate.keys import PrivateKey
from vmstate.ledger.store import Ledger

pytestmark = pytest.mark.benchmark

ROOT = Path(__file__).parents[2]
SHORT = ROOT / "tests" / "shared" / "short.toml"
LAW = load_constitution(SHORT)
MANY = int(os.environ.get("VMSTATE_MANY", "1_000_000"))
DUE, SOON = 10_000, timedelta(seconds=8)
ROUNDS = 7

# Each says a line of JSON: what it took, and the most memory it had.
CHILD = """
import hashlib, json, sys, time
from pathlib import Path
from vmstate import Authority
from vmstate.ledger.audit import audit_ledger
from vmstate.ledger.store import Ledger
verb, law, ledger = sys.argv[1], *map(Path, sys.argv[2:])


def most_kb():  # not of `getrusage`, which counts what its parent had before
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


before = most_kb()
began, told = time.process_time(), {}
if verb == "open":
    with_it = Authority.open(law, ledger)
    told["may"] = with_it.may("u:7", "operator")
elif verb == "hash":
    with Ledger.open(ledger).read() as snapshot:
        bodies, took = (one.body for one in snapshot.receipts()), 0.0
        while page := [body for _, body in zip(range(5000), bodies)]:
            began = time.process_time()
            for body in page:
                hashlib.sha256(body).digest()
            took += time.process_time() - began
        began = time.process_time() - took
else:
    found = audit_ledger(Ledger.open(ledger))
    told["findings"], told["size"] = [one.what for one in found.findings], found.size
told["took"] = time.process_time() - began
told["before_kb"] = before
told["most_kb"] = most_kb()
print(json.dumps(told))
"""


def child(verb, ledger):
    command = [sys.executable, "-c", CHILD, verb, str(SHORT), str(ledger)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT)
    return json.loads(done.stdout)


def p(values, hundredth):
    return sorted(values)[min(len(values) - 1, len(values) * hundredth // 100)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("scale")
    Authority.create(LAW, made / "empty.db").close()
    return made


@pytest.fixture(scope="module")
def live(folder):
    """A ledger of live leases, and how many they are."""
    vm = Authority.create(LAW, folder / "live.db")
    grant(vm, (f"u:{n}" for n in range(MANY)))
    vm.close()
    return folder / "live.db"


def test_many_due_at_one_instant(folder):
    vm = Authority.create(LAW, folder / "due.db")
    names = [f"u:{n}" for n in range(DUE)]
    grant(vm, names, ttl=SOON)
    at = vm.standing(names[0]).expires_at
    late, ended = [], threading.Event()

    def note(receipt):
        if receipt.type == "profile_deescalation":
            late.append((datetime.now(UTC) - at).total_seconds())  # noqa: TID251 -- what is measured
            if len(late) == DUE:
                ended.set()

    expiry = Expiry(vm)
    expiry.start()
    vm.subscribe(note)
    assert vm.may(names[-1], "operator")
    time.sleep(max(0.0, (at - datetime.now(UTC)).total_seconds()))  # noqa: TID251 -- ditto
    assert not any(vm.may(name, "operator") for name in names[:: DUE // 100])
    began = time.process_time()
    assert ended.wait(60)
    cost = (time.process_time() - began) / DUE * 1e6
    expiry.stop()
    bodies = [one.body for one in vm.receipts(after=DUE, limit=DUE)]
    vm.close()
    floor = _bare_inserts(folder, bodies)
    print(f"\n{DUE:,} leases due at one instant: nobody holds anything from then on")
    print(f"their receipts: p50 {p(late, 50):.2f} s, p99 {p(late, 99):.2f} s (target 0.5 s)")
    print(f"{cost:.0f} us of processor for each; in all {max(late) / floor:.1f}x bare inserts")


def _bare_inserts(folder, bodies):
    """How long the same bytes take with nothing decided, 500 in a transaction."""
    bare = apsw.Connection(str(folder / f"bare-{len(bodies)}-{time.monotonic_ns()}.db"))
    bare.pragma("journal_mode", "wal")
    bare.pragma("synchronous", "full")
    bare.execute("CREATE TABLE bare (seq INTEGER PRIMARY KEY, body BLOB)")
    began = time.perf_counter()
    for start in range(0, len(bodies), 500):
        with bare:
            bare.executemany("INSERT INTO bare VALUES (NULL, ?)", zip(bodies[start : start + 500]))
    return time.perf_counter() - began


def test_opening_a_ledger_with_many_live_leases(folder, live):
    ratios, more = [], []
    for _ in range(ROUNDS):
        full, empty = child("open", live), child("open", folder / "empty.db")
        assert full["may"]
        assert not empty["may"]
        ratios.append(full["took"] / empty["took"])
        more.append((full["most_kb"] - empty["most_kb"]) / 1024)
    print(f"\nopen {MANY:,} live leases, first answer: {statistics.median(ratios):.2f}x an empty")
    print(f"one (target 1.5x), {statistics.median(more):.1f} MB more memory (target 50 MB)")


def test_auditing_many_receipts(folder):
    path, clock = folder / "turned.db", VirtualClock(datetime(2026, 1, 1, tzinfo=UTC))
    vm = Authority.create(LAW, path, clock=clock)
    give_and_take(vm, clock, MANY)
    size = vm.size()
    vm.close()
    audited, hashed = child("audit", path), child("hash", path)
    assert (audited["findings"], audited["size"]) == ([], size)
    each = audited["took"] / size * 1e6
    more = (audited["most_kb"] - audited["before_kb"]) / 1024
    ratio = audited["took"] / hashed["took"]
    print(f"\naudit {size:,} receipts: {ratio:.0f}x one SHA-256 of each (target 7x),")
    most = audited["most_kb"] / 1024
    print(f"{each:.0f} us each; {most:.0f} MB (target 64 MB), of them {more:.0f} for this")


def test_locking_everybody(folder):
    many, path = min(MANY, 100_000), folder / "locked.db"
    vm = Authority.create(LAW, path)
    grant(vm, (f"u:{n}" for n in range(many)))
    other, waited, over = Authority(LAW, Ledger.open(path)), [], []
    last = f"u:{many - 1}"
    assert other.may(last, "operator")

    def ask():
        while other.may(last, "operator"):
            time.sleep(0.001)
        over.append(time.perf_counter() - began)
        while vm.due(limit=1):
            start = time.perf_counter()
            assert not other.escalate(last, "operator", trigger="asked").granted
            waited.append(time.perf_counter() - start)

    asking = threading.Thread(target=ask)
    began = time.perf_counter()
    asking.start()
    vm.lock("root", key=PrivateKey.derive("short", "root"), reason="measure").raise_for_denial()
    took = time.perf_counter() - began
    asking.join()
    bodies = [one.body for one in vm.receipts(after=many + 1, limit=many)]
    other.close()
    vm.close()
    floor = _bare_inserts(folder, bodies)
    print(
        f"\na lock over {many:,} leases: nobody holds them after {over[0]:.2f} s; its receipts take"
    )
    print(f"{took:.1f} s, {took / floor:.0f}x bare inserts; others wait p99 {p(waited, 99):.2f} s")


def wide_law():
    """A constitution of 50 profiles, each above the one before, and 500 rules."""
    lines = ['[constitution]\nname = "wide"\nversion = "1"\nbaseline = "p0"\n']
    lines.append('[groups]\nstaff = ["u:*"]\n[profiles.p0]\n')
    lines += [f'[profiles.p{n}]\nabove = "p{n - 1}"\n' for n in range(1, 50)]
    for n in range(500):
        above = n % 49 + 1
        climb = f'from = "p{above - 1}"\nto = "p{above}"\ntrigger = "asked_{n}"\nttl = "1h"\n'
        lines.append(f'[escalations.r{n}]\n{climb}needs.requester = ["staff"]\n')
    lines.append('[endings.timeout_expired]\nto = "previous"\n')
    return "".join(lines)


def test_checking_constitutions(tmp_path):
    wide = tmp_path / "wide.toml"
    wide.write_text(wide_law(), encoding="utf-8")
    assert len(read_constitution(wide.read_bytes()).rules) == 500
    command = [str(Path(sys.executable).with_name("vmstate")), "check"]
    cases = (("the default", ROOT / "constitution.toml", "0.3 s"), ("50 x 500", wide, "2 s"))
    for name, file, target in cases:
        took, ratios = [], []
        for _ in range(ROUNDS):
            began = time.perf_counter()
            subprocess.run([*command, str(file)], check=True, capture_output=True)
            took.append(time.perf_counter() - began)
            began = time.perf_counter()
            subprocess.run([sys.executable, "-c", "pass"], check=True)
            ratios.append(took[-1] / (time.perf_counter() - began))
        ratio, wall = statistics.median(ratios), statistics.median(took)
        print(f"\nvmstate check, {name}: {wall:.2f} s (target {target}), {ratio:.0f}x a bare one")


FLUSH_S = 0.002


class SlowDisk(apsw.VFS):
    """A disk whose every flush takes as long, and counts."""

    flushes = 0

    def __init__(self):
        super().__init__("slow", "unix", True)

    def xOpen(self, name, flags):  # noqa: N802 -- SQLite's name
        return SlowFile(name, flags)


class SlowFile(apsw.VFSFile):
    def __init__(self, name, flags):
        super().__init__("unix", name, flags)

    def xSync(self, _flags):  # noqa: N802 -- ditto
        SlowDisk.flushes += 1
        time.sleep(FLUSH_S)


@pytest.mark.parametrize(("callers", "target"), [(1, "0.75x"), (8, "4x"), (64, "12x")])
def test_durable_climbs_of_several_callers(tmp_path, callers, target):
    disk = SlowDisk()
    vm = Authority.create(LAW, tmp_path / "l.db")
    each = max(8, 256 // callers)
    began = time.perf_counter()
    for _ in range(50):
        time.sleep(FLUSH_S)
    rate = 50 / (time.perf_counter() - began)
    waited = []

    def climb(caller):
        for n in range(each):
            start = time.perf_counter()
            vm.escalate(f"u:{caller}-{n}", "operator", trigger="asked").raise_for_denial()
            waited.append(time.perf_counter() - start)

    threads = [threading.Thread(target=climb, args=(one,)) for one in range(callers)]
    SlowDisk.flushes, began = 0, time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    took = time.perf_counter() - began
    done, flushes = callers * each, SlowDisk.flushes
    vm.close()
    disk.unregister()
    print(f"\n{callers} callers: {done / took / rate:.2f}x the flush rate (target {target}),")
    print(f"p99 {p(waited, 99) * rate:.0f} flushes, {flushes / done:.2f} flushes a climb")

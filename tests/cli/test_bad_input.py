"""Bad input is told apart clearly, with its exit code, and nothing is lost or written."""

import ctypes
import resource
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest

VMSTATE = Path(sys.executable).with_name("vmstate")
SPARE_BYTES = 2**28  # beside what this process has; a reader without end is stopped there
CLOSED, READABLE, FOLDER = 0o000, 0o444, 0o555


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--reason", "ticket\x1b[2J 4711"], "the reason has the control character U+001B"),
        (["--reason", "ticket \u202e1174"], "the reason has the control character U+202E"),
        (["--reason", "ticket\n4711: two lines"], "the reason has the control character U+000A"),
        (["--reason", "r" * 1_025], "the reason has 1,025 bytes, at most 1,024 are allowed"),
        (["--reason", "ä" * 513], "the reason has 1,026 bytes, at most 1,024 are allowed"),
        (["--as", "a" * 256], "principal has 256 characters, at most 255 are allowed"),
        (["--fact", f"x={'y' * 257}"], "the fact has 257 characters, at most 256 are allowed"),
        (["--fact", "x=\x07"], "the fact has the control character U+0007"),
        (["--fact", "x y=1"], "'x y' is not a name"),
        ([f"--fact=x{i}=1" for i in range(17)], "facts: has a length of 17, at most 16 is allowed"),
        (["--ttl", "15 minuts"], "'15 minuts' is not a duration, write '15m'"),
        (["--ttl", "400d"], "'400d' is more than 366 days"),
        (["--ttl", "9" * 5_000 + "m"], "is not a duration"),
        (["--ttl", "\u0661\u0665m"], "is not a duration"),
    ],
    ids=lambda value: value[:40] if isinstance(value, str) else None,
)
def test_what_has_no_form_is_refused_without_a_receipt(words, message, used):
    before = used.sizes()
    line = ["escalate", "operator", "--as", "bob", "--reason", "ticket 4711: look", *words]
    done = used.vmstate(*line)
    assert done.code == 2
    assert message in done.err
    assert done.out == ""
    assert used.sizes() == before


@pytest.mark.parametrize("verb", ["status", "receipts list", "init"])
def test_a_file_that_can_not_be_reached_is_named(verb, used):
    name = "a" * 300  # as a folder that may not be entered, for whoever may enter all of them
    done = used.run(f"vmstate {verb} --ledger {name}")
    assert done.code == 6
    assert f"{name}" in done.err
    assert "File name too long" in done.err
    assert "the answer" not in done.err


@pytest.mark.parametrize(
    "line",
    [
        "receipts list --after 99999999999999999999",
        "receipts list -n 99999999999999999999",
        "receipts show 99999999999999999999",
        "receipts tail -n 99999999999999999999",
        "release lease-99999999999999999999",
        "release lease-x",
        "release x",
    ],
)
def test_a_number_beyond_all_receipts_is_only_a_number_beyond_all_receipts(line, used):
    assert used.run(f"vmstate {line}").code in {0, 2, 5}


@pytest.mark.parametrize(
    ("line", "code", "most"),
    [
        ("escalate operator --as bob --request /dev/zero", 2, "1,048,576"),
        ("sign /dev/zero --key carol.key", 2, "1,048,576"),
        ("check /dev/zero", 1, "1,048,576"),
        ("renew lease-2 --as alice --constitution /dev/zero", 6, "1,048,576"),
        ("drill run /dev/zero", 2, "262,144"),
        ("amend /dev/zero", 2, "1,048,576"),
    ],
)
def test_a_file_without_end_is_read_so_far_and_no_further(line, code, most, used):
    with limited_memory():
        done = used.vmstate(*line.split())
    assert done.code == code
    assert f"/dev/zero: has more than {most} bytes, at most so many are read" in done.out + done.err


def test_a_reason_of_exactly_1024_bytes_is_taken(used):
    done = used.vmstate("escalate", "operator", "--as", "bob", "--reason", "ä" * 512)
    assert done.code == 0


def test_a_leased_id_of_somebody_else_is_answered_like_one_that_is_not_there(used):
    own = used.run("vmstate release lease-2 --as bob")
    none = used.run("vmstate release lease-77 --as bob")
    assert (own.code, none.code) == (3, 3)
    drop = str.maketrans("", "", "0123456789abcdef")
    assert own.err.translate(drop) == none.err.translate(drop)


@contextmanager
def limited_memory():
    """What takes more memory than a command needs fails, and does not take the machine with it."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    before = resource.getrlimit(resource.RLIMIT_AS)
    most = pages * resource.getpagesize() + SPARE_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (most, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def obey_modes():
    """Drop, in a child that may be root, what lets root read and write whatever the mode says."""
    drop_from_bounding_set, override, search = 24, 1, 2
    for power in (override, search):
        ctypes.CDLL(None).prctl(drop_from_bounding_set, power, 0, 0, 0)


@pytest.fixture
def closed(live):
    """Runs a line in a process that obeys modes, while some paths have these."""

    def run(line, modes):
        before = live.sizes()
        for name in ("vmstate.db-shm", "vmstate.db-wal"):  # what our own look has left
            (live.path / name).unlink(missing_ok=True)
        for name, mode in modes.items():
            (live.path / name).chmod(mode)
        try:
            return subprocess.run(
                [VMSTATE, *line.split()],
                cwd=live.path,
                preexec_fn=obey_modes,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                check=False,
                timeout=30,
            )
        finally:
            for name in modes:
                (live.path / name).chmod(0o755)
            assert live.sizes() == before

    return run


ASK = "escalate operator --as bob --reason ticket-4711:look"


def test_a_constitution_that_may_not_be_read_is_named(closed):
    done = closed(ASK, {"constitution.toml": CLOSED})
    assert done.returncode == 6
    assert "constitution.toml: cannot be read: Permission denied" in done.stderr


def test_a_ledger_that_may_not_be_read_is_named(closed):
    done = closed("status", {"vmstate.db": CLOSED})
    assert done.returncode == 6
    assert done.stderr.startswith("error: vmstate.db: ")


def test_a_ledger_that_may_not_be_written_grants_nothing_and_says_so(closed):
    done = closed(ASK, {"vmstate.db": READABLE})
    assert done.returncode == 6
    assert "vmstate.db: this account may not write the ledger, and reads it while" in done.stderr
    assert done.stdout == ""


def test_a_ledger_in_a_folder_that_may_not_be_written_grants_nothing_and_says_so(closed):
    done = closed(ASK, {".": FOLDER})
    assert done.returncode == 6
    assert "vmstate.db: the ledger can't be opened here: check its folder" in done.stderr
    assert done.stdout == ""


def test_a_key_that_may_not_be_read_grants_nothing_and_leaves_reading(closed):
    done = closed(ASK, {"vmstate.db.key": CLOSED})
    assert done.returncode == 6
    assert "vmstate.db.key cannot be read: Permission denied: put the log's key back" in done.stderr
    assert closed("audit", {"vmstate.db.key": CLOSED}).returncode == 0


def test_init_in_a_folder_that_may_not_be_written_says_so(live, closed):
    (live.path / "laws").mkdir()
    done = closed("init --constitution laws/new.toml --ledger new.db", {"laws": FOLDER})
    assert done.returncode == 2
    assert done.stderr == "error: laws/new.toml can't be written: Permission denied\n"
    done = closed("init --ledger new.db", {".": FOLDER})
    assert done.returncode == 2
    assert done.stderr == "error: . can't be written: choose another with --ledger\n"

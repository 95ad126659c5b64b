"""A clock that was ahead for one command, as the people see it who have to lock in spite of it."""

import json
from datetime import timedelta

import pytest

from vmstate.clock import SystemClock, VirtualClock

LAW = """
[recovery]
needs.approval = { count = 1, of = ["approvers"] }
"""


@pytest.fixture
def clock(folder, monkeypatch):
    """Carol, who may lock, revoke and approve; alice, an operator; and a clock that is moved."""
    made = VirtualClock(SystemClock().read().wall)
    monkeypatch.setattr(SystemClock, "read", lambda _: made.read())
    folder.ok("vmstate init")
    for name in ("alice", "carol"):
        folder.ok(f"vmstate keys new {name} -o {name}.key >> constitution.toml")
    folder.ok("vmstate init")
    return made


def one_command_ahead(folder, clock, ahead):
    clock.step_wall(ahead)
    folder.ok('vmstate escalate operator --as alice --reason "ten minutes ahead"')
    clock.step_wall(-ahead)


@pytest.mark.parametrize("ahead", [timedelta(minutes=10), timedelta(days=1)], ids=str)
def test_the_emergency_lock_and_a_revocation_work_at_once(folder, clock, ahead):
    one_command_ahead(folder, clock, ahead)
    (held,) = json.loads(folder.ok("vmstate status --json"))["standing"]
    lease = held["leases"][0]["lease"]
    folder.ok(f"vmstate revoke {lease} --key carol.key --reason emergency")
    folder.ok("vmstate lock --all --key carol.key --reason emergency")
    (lock,) = json.loads(folder.ok("vmstate status --json"))["locks"]
    folder.ok(f"vmstate unlock {lock['lock']} --key carol.key --reason over")
    types = folder.ok("vmstate receipts list").splitlines()
    assert sum("clock_anomaly" in one for one in types) == 2
    assert not any("auth_failure" in one for one in types)
    assert folder.run("vmstate audit").code == 0


def test_status_and_watch_say_so_and_a_recovery_settles_it(folder, clock):
    assert json.loads(folder.ok("vmstate status --json"))["set_back"] is None
    one_command_ahead(folder, clock, timedelta(days=1))
    told = folder.run("vmstate status").err
    assert told.splitlines()[-1] == (
        "the clock reads 2030-01-01T12:00:00.000000Z, this ledger has seen "
        "2030-01-02T12:00:00.000000Z: what was signed before the clock was set back counts no "
        "more, sign it again; or vmstate recover --clock"
    )
    assert json.loads(folder.ok("vmstate status --json"))["set_back"] == {
        "seen": "2030-01-02T12:00:00.000000Z",
        "reads": "2030-01-01T12:00:00.000000Z",
        "after": None,
    }
    what = "set back by 1d: what was signed before counts no more"
    assert what in folder.ok("vmstate watch --once")
    folder.ok("vmstate recover --clock --as alice --reason 'the time server was wrong' -o r.json")
    assert json.loads(folder.ok("vmstate status --json"))["set_back"]["after"] is not None
    folder.ok("vmstate sign r.json --key carol.key -o a.json")
    done = folder.run("vmstate recover --clock --key alice.key --request r.json --approval a.json")
    assert (done.code, done.out) == (0, "the clock is taken as right from here on\n")
    assert json.loads(folder.ok("vmstate status --json"))["set_back"] is None
    assert folder.run("vmstate audit").code == 0

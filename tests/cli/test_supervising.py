"""A command under a lease: told, ended and buried with all that it started, in this process."""

import os
import signal
import threading
import time
from datetime import timedelta
from pathlib import Path

import pytest

from vmstate.authority import Authority
from vmstate.constitution.loading import load_constitution
from vmstate.errors import LedgerUnavailable
from vmstate.interfaces.cli import processes, supervising
from vmstate.interfaces.cli.processes import Family
from vmstate.interfaces.cli.supervising import Forwarding, Watch, clock_of, supervise
from vmstate.ledger.store import Ledger

LAW = load_constitution(Path(__file__).parents[1] / "shared" / "short.toml")
WHO = "u:a"
MS = timedelta(milliseconds=1)


class Stage:
    def __init__(self, folder):
        self.vm = Authority.create(LAW, folder / "l.db")
        self.folder = folder
        self.lease = ""

    def run(self, script, *, ttl=timedelta(hours=1), grace=timedelta(0), meanwhile=None):
        """Run a script under a lease; `meanwhile` is done once it has said that it is ready."""
        self.lease = self.vm.escalate(WHO, "operator", trigger="asked", ttl=ttl).lease
        watch = Watch(self.vm, self.vm.standing(WHO), self.lease, clock_of(self.vm))
        family = Family(["sh", "-c", script], {**os.environ, "HERE": str(self.folder)})
        thread = threading.Thread(target=self._once_ready, args=(meanwhile,))
        try:
            with Forwarding() as forwarding:
                forwarding.to(family)
                if meanwhile is not None:
                    thread.start()
                return supervise(family, watch, grace)
        finally:
            family.end()
            family.close()
            if meanwhile is not None:
                thread.join()

    def _once_ready(self, then):
        until = time.monotonic() + 8
        while not (self.folder / "ready").exists() and time.monotonic() < until:
            time.sleep(0.002)
        then()

    def said(self, name):
        path = self.folder / name
        return path.read_text() if path.exists() else ""

    def is_alive(self, name):
        """Whether the process whose number was written there still runs."""
        try:
            os.kill(int(self.said(name)), 0)
        except ProcessLookupError:
            return False
        return True


@pytest.fixture
def stage(tmp_path):
    made = Stage(tmp_path)
    yield made
    made.vm.close()


def ended(family):
    until = time.monotonic() + 8
    while family.code() is None and time.monotonic() < until:
        time.sleep(0.002)
    return family.code() is not None


STUBBORN = "trap '' TERM; echo $$ > $HERE/ready; while :; do echo x >> $HERE/effects; done"


def test_a_command_that_ends_by_itself_is_told_nothing(stage):
    outcome = stage.run("exit 7")
    assert (outcome.code, outcome.ended, outcome.left) == (7, None, ())
    stage.vm.release(WHO, stage.lease)
    assert stage.run("kill -KILL $$").code == 137


def test_at_the_deadline_it_is_killed_whatever_it_does_with_signals(stage):
    outcome = stage.run(STUBBORN, ttl=400 * MS)
    assert (outcome.code, outcome.ended) == (137, "its lease is over")
    assert stage.said("effects")
    assert not stage.is_alive("ready")
    assert not stage.vm.may(WHO, "operator")


def test_it_is_told_before_the_deadline_and_may_tidy_up(stage):
    script = "trap 'echo tidy > $HERE/tidied; exit 5' TERM; while :; do sleep 0.005; done"
    outcome = stage.run(script, ttl=600 * MS, grace=400 * MS)
    assert (outcome.code, outcome.ended) == (5, "its lease is about to end")
    assert stage.said("tidied") == "tidy\n"
    # Told at half of the lease: a grace as long as the lease would tell it at once.
    assert stage.vm.standing(WHO).leases[0].id == stage.lease


@pytest.mark.parametrize("how", ["release", "a row changed by hand"])
def test_an_end_from_elsewhere_ends_it_at_once(stage, how):
    def elsewhere():
        other = Authority(LAW, Ledger.open(stage.vm.ledger.path))
        if how == "release":
            other.release(WHO, stage.lease)
        else:
            change = "UPDATE lease SET deadline_us = 1"
            other.ledger.transact(lambda transaction: transaction._execute(change, ()))
        other.close()

    outcome = stage.run(STUBBORN, meanwhile=elsewhere)
    assert (outcome.code, outcome.ended) == (137, f"{stage.lease} was ended")


def test_a_renewal_is_seen_and_moves_the_end(stage):
    script = ": > $HERE/ready; sleep 1; exit 4"
    outcome = stage.run(script, ttl=800 * MS, meanwhile=lambda: stage.vm.renew(WHO, stage.lease))
    assert (outcome.code, outcome.ended) == (4, None)


def test_whoever_moved_to_another_session_is_found_and_ended(stage):
    far = "trap '' TERM; echo \\$\\$ > $HERE/far; while :; do sleep 1; done"
    near = "while [ ! -s $HERE/far ]; do sleep 0.002; done; while :; do sleep 0.01; done"
    script = f"trap '' TERM; (setsid sh -c \"{far}\" &); {near}"
    outcome = stage.run(script, ttl=800 * MS)
    assert (outcome.ended, outcome.left) == ("its lease is over", ())
    assert stage.said("far")
    assert not stage.is_alive("far")


def test_what_a_command_leaves_running_does_not_outlive_its_lease(stage):
    script = (
        "(sh -c 'echo $$ > $HERE/near; sleep 100' &); while [ ! -s $HERE/near ]; do :; done; exit 3"
    )
    outcome = stage.run(f"{script}; exit 3")
    assert (outcome.code, outcome.ended, outcome.left) == (3, None, ())
    assert not stage.is_alive("near")


def test_a_command_that_stops_goes_on_because_its_lease_does(stage):
    outcome = stage.run("kill -STOP $$; exit 6")
    assert outcome.code == 6


def test_signals_are_handed_on_and_the_command_decides(stage):
    script = "trap 'exit 9' USR1; : > $HERE/ready; while :; do sleep 0.005; done"
    before = signal.getsignal(signal.SIGUSR1)
    outcome = stage.run(script, meanwhile=lambda: os.kill(os.getpid(), signal.SIGUSR1))
    assert (outcome.code, outcome.ended) == (9, None)
    assert signal.getsignal(signal.SIGUSR1) == before


def test_a_signal_that_comes_before_the_command_is_kept_for_it():
    with Forwarding() as forwarding:
        os.kill(os.getpid(), signal.SIGUSR1)
        family = Family(["sleep", "100"], os.environ)
        try:
            forwarding.to(family)
            assert ended(family)
            assert family.code() == 128 + signal.SIGUSR1
        finally:
            family.end()
            family.close()


def test_a_ledger_that_can_not_be_seen_for_long_ends_it(stage, monkeypatch):
    version = stage.vm.version

    def away():
        if not stage.said("ready"):
            return version()
        raise LedgerUnavailable("the disk is gone")

    monkeypatch.setattr(supervising, "BLIND_FOR", 0.1)
    monkeypatch.setattr(stage.vm, "version", away)
    outcome = stage.run(STUBBORN)
    told = f"the ledger can't be read, so nobody knows whether {stage.lease} still stands"
    assert (outcome.code, outcome.ended) == (137, told)


def test_a_moment_out_of_sight_does_not(stage, monkeypatch):
    seen, version = [], stage.vm.version

    def flickering():
        seen.append(1)
        if len(seen) % 2:
            raise LedgerUnavailable("busy")
        return version()

    monkeypatch.setattr(stage.vm, "version", flickering)
    assert stage.run("sleep 0.1; exit 2").code == 2
    assert len(seen) > 2


def test_children_that_were_there_before_are_not_of_the_family(stage):
    pid = os.posix_spawn("/bin/sleep", ["sleep", "100"], os.environ)
    try:
        stage.run("exit 0")
        assert os.waitpid(pid, os.WNOHANG) == (0, 0)
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def test_what_moves_to_us_while_we_look_is_ended_as_well(tmp_path, monkeypatch):
    """All that was seen has ended by the time it is looked at, and left an orphan behind."""
    far = tmp_path / "far"
    family = Family(["sh", "-c", f"setsid sleep 100 & echo $! > {far}; sleep 100"], os.environ)
    until = time.monotonic() + 8
    while not far.exists() or not far.read_text().strip():
        assert time.monotonic() < until
    look, seen = processes.children, [processes.children(os.getpid())]

    def late(pid):
        """What was there a moment ago, the first time that we look."""
        if pid != os.getpid() or not seen:
            return look(pid)
        while not processes.is_over(family.pid):
            pass
        return seen.pop()

    monkeypatch.setattr(processes, "children", late)
    assert family.end() == ()
    family.close()
    assert processes.is_over(int(far.read_text()))

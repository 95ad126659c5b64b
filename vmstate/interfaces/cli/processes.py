"""A process and all that it starts: begun together, told together, and none of them left behind.

Between us and the command stands a process that keeps it (`keeper.py`): if we are killed it ends
the command and all that it started, if we are stopped it ends them at the deadline it was told
last, and if it is killed itself they come to us. On Linux both adopt whatever their children leave
orphaned, so that a process which moves to a session of its own is still found by its parents.
Elsewhere there is the process group alone. Nothing keeps a command of our own account from killing
both of us.
"""

import contextlib
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta

from vmstate.interfaces import keeper
from vmstate.interfaces.keeper import LOOK_AGAIN, SWEEP_FOR, adopt, children, is_over, tell

MOVED_US = 2_000  # a deadline that moved by less is not told again


class Family:
    """A command and its descendants.

    In the foreground of a terminal it stays in our process group, so that the keys reach it and
    the shell's job control goes on as it is; anywhere else it has a group of its own. `pid` is the
    process that keeps it, and leads that group.
    """

    def __init__(
        self, words: Sequence[str], env: Mapping[str, str], left: timedelta | None = None
    ) -> None:
        """Begin it, to last for `left` whatever becomes of us; raises OSError if it can't be."""
        self.is_foreground = _is_foreground()
        self._ours_before = frozenset(children(os.getpid()))
        self._reaper_before = adopt(1)
        self._told_us = 0 if left is None else _end_of(left)
        self._buried = 0  # how many of it were found to have ended, the last time we looked
        self._line, theirs = socket.socketpair()
        try:
            with theirs:
                self._process = self._start(words, env, theirs.fileno())
        except BaseException:
            self._line.close()
            adopt(self._reaper_before)
            raise
        self.pid = self._process.pid
        self._end = os.pidfd_open(self.pid) if sys.platform == "linux" else None

    def _start(
        self, words: Sequence[str], env: Mapping[str, str], line: int
    ) -> "subprocess.Popen[bytes]":
        told, fault = os.pipe()
        ours = (str(line), str(fault), str(self._told_us))
        # What comes before the keeper is ready is not for it; it lets them through once it is.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, keeper.NOT_OURS)
        with open(told, "rb") as pipe:  # noqa: PTH123 -- a number, not a path
            try:
                process = subprocess.Popen(  # noqa: S603 -- running it is what was asked
                    [sys.executable, "-I", "-S", keeper.__file__, *ours, *words],
                    env=dict(env),
                    process_group=None if self.is_foreground else 0,
                    pass_fds=(line, fault),
                )
            finally:
                signal.pthread_sigmask(signal.SIG_SETMASK, before)
                os.close(fault)
            number = int(pipe.read() or 0)  # its end comes once the command runs
        if number:
            process.wait()
            raise OSError(number, os.strerror(number))
        return process

    def hold(self, left: timedelta) -> None:
        """Let it last so long from now on, whatever becomes of this process."""
        until_us = _end_of(left)
        if abs(until_us - self._told_us) > MOVED_US:
            with contextlib.suppress(OSError):  # it is gone, which is seen elsewhere
                self._line.send(f"{until_us}\n".encode(), socket.MSG_DONTWAIT)
                self._told_us = until_us

    def code(self) -> int | None:
        """The exit code as a shell tells it, 128 and the signal's number; None while it runs."""
        code = self._process.poll()
        return code if code is None or code >= 0 else 128 - code

    def wait(self, seconds: float, wake: int) -> None:
        """Wait until the command ends or `wake` can be read, at most so long."""
        if self._end is None:
            seconds = min(seconds, 0.01)
        watched = [wake] if self._end is None else [wake, self._end]
        select.select(watched, (), (), max(seconds, 0.0))

    def go_on(self) -> None:
        """A lease does not stop, and so neither does what runs under it."""
        with contextlib.suppress(ChildProcessError):
            stopped = os.waitid(os.P_PID, self.pid, os.WSTOPPED | os.WNOHANG)
            if stopped is not None:
                self.tell(signal.SIGCONT)

    def tell(self, number: int) -> None:
        """Send a signal to all of it."""
        told = self._tell_group(number)
        for pid in self._members():
            if not told or _group_of(pid) != self.pid:
                tell(pid, number)

    def end(self) -> tuple[int, ...]:
        """Kill whatever is left of it, until nothing is; returns what can't be killed."""
        until = time.monotonic() + SWEEP_FOR
        while True:
            self._tell_group(signal.SIGKILL)
            self._buried = 0
            left = tuple(self._members())
            # A process of another account is not ours to end, and waiting would not change that.
            ours = [pid for pid in left if tell(pid, signal.SIGKILL)]
            # What one that ended leaves behind may have come to us after we looked.
            if (not ours and not self._buried) or time.monotonic() > until:
                return left
            time.sleep(LOOK_AGAIN)

    def is_gone(self) -> bool:
        """Whether the command has ended, and nothing that it started is left."""
        return self.code() is not None and next(self._members(), None) is None

    def close(self) -> None:
        """Be no longer who adopts; after `end`."""
        adopt(self._reaper_before)
        self._line.close()
        if self._end is not None:
            os.close(self._end)
            self._end = None

    def _tell_group(self, number: int) -> bool:
        """Send a signal to the command's own group at once, where it has one and leads it still.

        Once its leader is buried the group's number may become another's.
        """
        if self.is_foreground or self._process.poll() is not None:
            return False
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, number)
        return True

    def _members(self) -> Iterator[int]:
        """Whoever of it runs, the eldest first; what has ended and was left to us is buried."""
        waiting = [pid for pid in children(os.getpid()) if pid not in self._ours_before]
        for pid in waiting:
            if is_over(pid):
                self._buried += self._bury(pid)
                continue
            waiting += children(pid)  # the list grows while it is walked
            yield pid

    def _bury(self, pid: int) -> bool:
        """Take note of one that has ended; False if that was done before, or is its parent's."""
        if pid == self.pid:
            # The command's own end is told by `code`, which has to see it first.
            return self._process.returncode is None and self._process.poll() is not None
        with contextlib.suppress(ChildProcessError):
            return os.waitpid(pid, os.WNOHANG)[0] == pid
        return False


def _end_of(left: timedelta) -> int:
    return keeper.now_us() + left // timedelta(microseconds=1)


def _is_foreground() -> bool:
    """Whether this process is in the foreground of a terminal."""
    try:
        terminal = os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY)
    except OSError:
        return False
    try:
        return os.tcgetpgrp(terminal) == os.getpgrp()
    except OSError:
        return False
    finally:
        os.close(terminal)


def _group_of(pid: int) -> int:
    try:
        return os.getpgid(pid)
    except ProcessLookupError:
        return -1

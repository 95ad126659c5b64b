"""A process and all that it starts: begun together, told together, and none of them left behind.

On Linux this process adopts whatever its children leave orphaned, so that a process which moves to
a session of its own is still found by its parents; and the command is killed with us if we are
killed. Elsewhere there is the process group alone.
"""

import contextlib
import ctypes
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from pathlib import Path

SWEEP_FOR = timedelta(seconds=2)  # what can't be killed by then waits for a disk, or is not ours
LOOK_AGAIN = 0.001  # seconds, between looking for what is left
_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER, _PR_GET_CHILD_SUBREAPER = 1, 36, 37
_PROC = Path("/proc")


class Family:
    """A command and its descendants.

    In the foreground of a terminal it stays in our process group, so that the keys reach it and
    the shell's job control goes on as it is; anywhere else it has a group of its own.
    """

    def __init__(self, words: Sequence[str], env: Mapping[str, str]) -> None:
        """Begin it; raises OSError if it can't be begun."""
        self.is_foreground = _is_foreground()
        self._ours_before = frozenset(_children(os.getpid()))
        self._reaper_before = _adopt(1)
        try:
            self._process = subprocess.Popen(  # noqa: S603 -- running it is what was asked
                list(words),
                env=dict(env),
                process_group=None if self.is_foreground else 0,
                preexec_fn=_bound_to(os.getpid()),  # noqa: PLW1509 -- nothing runs beside us yet
            )
        except BaseException:
            _adopt(self._reaper_before)
            raise
        self.pid = self._process.pid
        self._end = os.pidfd_open(self.pid) if sys.platform == "linux" else None

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
                _tell(pid, number)

    def end(self) -> tuple[int, ...]:
        """Kill whatever is left of it, until nothing is; returns what can't be killed."""
        until = time.monotonic() + SWEEP_FOR.total_seconds()
        while True:
            self._tell_group(signal.SIGKILL)
            left = tuple(self._members())
            # A process of another account is not ours to end, and waiting would not change that.
            ours = [pid for pid in left if _tell(pid, signal.SIGKILL)]
            if not ours or time.monotonic() > until:
                return left
            time.sleep(LOOK_AGAIN)

    def is_gone(self) -> bool:
        """Whether the command has ended, and nothing that it started is left."""
        return self.code() is not None and next(self._members(), None) is None

    def close(self) -> None:
        """Be no longer who adopts; after `end`."""
        _adopt(self._reaper_before)
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
        waiting = [pid for pid in _children(os.getpid()) if pid not in self._ours_before]
        for pid in waiting:
            if _is_over(pid):
                # The command's own end is told by `code`, which has to see it first.
                if pid == self.pid:
                    self._process.poll()
                else:
                    with contextlib.suppress(ChildProcessError):
                        os.waitpid(pid, os.WNOHANG)
                continue
            waiting += _children(pid)  # the list grows while it is walked
            yield pid


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


def _tell(pid: int, number: int) -> bool:
    """Send a signal; False if that process is not ours to tell."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return True


def _group_of(pid: int) -> int:
    try:
        return os.getpgid(pid)
    except ProcessLookupError:
        return -1


def _is_over(pid: int) -> bool:
    """Whether it has ended, and only its parent does not know yet."""
    try:
        stat = (_PROC / str(pid) / "stat").read_bytes()
    except OSError:
        return True
    # The name stands in brackets and may hold any: what follows the last one is the state.
    return stat[stat.rindex(b")") + 2 :][:1] in {b"Z", b"X"}


def _children(pid: int) -> list[int]:
    """The processes that `pid` is the parent of; none where the system does not say."""
    found: list[int] = []
    with contextlib.suppress(OSError):
        for task in (_PROC / str(pid) / "task").iterdir():
            with contextlib.suppress(OSError):
                found += map(int, (task / "children").read_text(encoding="ascii").split())
    return found


if sys.platform == "linux":
    _libc = ctypes.CDLL(None, use_errno=True)

    def _adopt(whether: int) -> int:
        """Whether orphans below us become our children; returns what it was before."""
        before = ctypes.c_int()
        _libc.prctl(_PR_GET_CHILD_SUBREAPER, ctypes.byref(before), 0, 0, 0)
        _libc.prctl(_PR_SET_CHILD_SUBREAPER, whether, 0, 0, 0)
        return before.value

    class _bound_to:  # noqa: N801 -- used as a function
        """Runs in the child just before the command: it is killed when its parent dies."""

        def __init__(self, parent: int) -> None:
            self.parent = parent

        def __call__(self) -> None:
            _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
            if os.getppid() != self.parent:
                os._exit(1)  # it died before it was said

else:

    def _adopt(whether: int) -> int:
        return whether

    def _bound_to(_parent: int) -> None:
        return None

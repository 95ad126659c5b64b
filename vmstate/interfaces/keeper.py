"""The process between `vmstate run` and its command: whichever of the two is held up or killed, the
other ends the command with its lease.

It adopts what the command leaves orphaned, counts the deadline that it was last told by the hand
that goes on while the machine sleeps, and hears at once if `vmstate run` is no more: then nothing
is left of the command either. A `vmstate run` that was stopped it sends on. It reads no ledger.

Run by itself, `keeper.py LINE FAULT UNTIL CMD…`, as an interpreter that loads nothing else: it is
there in some milliseconds, and holds no key and no connection. UNTIL is the deadline, microseconds
of `now_us`, 0 for none; later ones are told at the socket LINE, each with its line end. Into the
pipe FAULT goes the number of the error if CMD can't be begun, and nothing if it is.
It ends as CMD does, with the exit code that a shell would tell.

`keeper.py tie PARENT CMD…` keeps the server behind a gate, whose authority is the gate's to watch:
for as long as the process PARENT lives, and when CMD has ended nothing that it started is left.
"""

import contextlib
import ctypes
import os
import select
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

TICK = 0.25  # seconds: how soon a machine that slept, or a process that was stopped, is noticed
LATE = 0.02  # seconds after the deadline, which `vmstate run` sees to itself unless it is held up
SWEEP_FOR = 2.0  # seconds: what can't be killed by then waits for a disk, or is not ours
STOP_US = 1_500_000  # for a server that is told to end; 2 s after that this process is killed too
LOOK_AGAIN = 0.001  # seconds, between looking for what is left
# What is meant for the command, and reaches this process because they share a group.
NOT_OURS = (
    signal.SIGHUP,
    signal.SIGINT,
    signal.SIGQUIT,
    signal.SIGTERM,
    signal.SIGUSR1,
    signal.SIGUSR2,
    signal.SIGTSTP,
)
_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER, _PR_GET_CHILD_SUBREAPER = 1, 36, 37
_HAND = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
_PROC = Path("/proc")
_STOPPED, _OVER = (b"T", b"t"), (b"Z", b"X")


def now_us() -> int:
    """The hand by which the deadline is counted here; any process of this boot reads the same."""
    # What has a Clock to ask loads far more than a keeper may.
    return time.clock_gettime_ns(_HAND) // 1_000  # noqa: TID251


def children(pid: int) -> list[int]:
    """The processes that `pid` is the parent of; none where the system does not say."""
    found: list[int] = []
    with contextlib.suppress(OSError):
        for task in (_PROC / str(pid) / "task").iterdir():
            with contextlib.suppress(OSError):
                found += map(int, (task / "children").read_text(encoding="ascii").split())
    return found


def is_over(pid: int) -> bool:
    """Whether it has ended, and only its parent does not know yet."""
    return _state(pid) in _OVER


def tell(pid: int, number: int) -> bool:
    """Send a signal; False if that process is not ours to tell."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return True


if sys.platform == "linux":
    _libc = ctypes.CDLL(None, use_errno=True)

    def adopt(whether: int) -> int:
        """Whether orphans below us become our children; returns what it was before."""
        before = ctypes.c_int()
        _libc.prctl(_PR_GET_CHILD_SUBREAPER, ctypes.byref(before), 0, 0, 0)
        _libc.prctl(_PR_SET_CHILD_SUBREAPER, whether, 0, 0, 0)
        return before.value

    def _die_with(parent: int) -> None:
        """Be killed when `parent` dies."""
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:
            os._exit(1)  # it died before it was said

else:

    def adopt(whether: int) -> int:
        return whether

    def _die_with(_parent: int) -> None:
        return None


def _state(pid: int) -> bytes:
    try:
        stat = (_PROC / str(pid) / "stat").read_bytes()
    except OSError:
        return b"X"
    # The name stands in brackets and may hold any: what follows the last one is the state.
    return stat[stat.rindex(b")") + 2 :][:1]


def _begin(words: list[str], fault: int) -> int:
    """Start the command; returns its process.

    It does nothing before this process has let go of `fault`: the command may stop us at once, and
    that it began is seen by its own end of that pipe alone.
    """
    keeper = os.getpid()
    wait, go = os.pipe()  # closed by whatever the child becomes
    pid = os.fork()
    if pid == 0:
        try:
            os.close(go)
            os.read(wait, 1)
            for number in (*NOT_OURS, signal.SIGPIPE, signal.SIGXFSZ):  # the last two by Python
                signal.signal(number, signal.SIG_DFL)
            _die_with(keeper)
            os.execvp(words[0], words)  # noqa: S606 -- running it is what was asked
        except OSError as error:
            os.write(fault, str(error.errno).encode())
        finally:
            os._exit(127)
    os.close(wait)
    os.close(fault)
    os.close(go)
    return pid


class _Keeper:
    def __init__(self, line: int, pid: int, parent: int, until_us: int) -> None:
        self._line, self._pid, self._parent = line, pid, parent
        self._until_us = until_us
        self._heard = b""
        self._code: int | None = None
        # Elsewhere than on Linux the end of the command is looked for.
        self._end = [os.pidfd_open(pid)] if sys.platform == "linux" else []

    def keep(self) -> int:
        """Wait for the command, or end it; returns its exit code as a shell tells it."""
        while self._code is None:
            left = TICK if self._end else 0.01
            if self._until_us:
                left = min(left, (self._until_us - now_us()) / 1e6 + LATE)
            if left <= 0:
                break
            ready, _, _ = select.select([self._line, *self._end], (), (), left)
            if self._line in ready and not self._hear():
                break
            self._bury()
            self._send_on()
        if self._code is None:
            self._end_all()
        tell(self._parent, signal.SIGCONT)
        return 128 + signal.SIGKILL if self._code is None else self._code

    def keep_all(self) -> int:
        """The same, and nothing that the command started outlives it."""
        code = self.keep()
        self._end_all()
        return code

    def end_soon(self, *_: object) -> None:
        """The command was told to end, and is ended if it does not."""
        self._until_us = now_us() + STOP_US

    def _hear(self) -> bool:
        """Take in a deadline; False if whoever told them is no more."""
        try:
            part = os.read(self._line, 4_096)
        except OSError:
            part = b""
        *whole, self._heard = (self._heard + part).split(b"\n")
        if whole:
            self._until_us = int(whole[-1])
        return bool(part) and os.getppid() == self._parent

    def _bury(self) -> int:
        """Take note of what has ended below us; returns how many."""
        buried = 0
        with contextlib.suppress(ChildProcessError):
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if pid == 0:
                    break
                buried += 1
                if pid == self._pid:
                    code = os.waitstatus_to_exitcode(status)
                    self._code = code if code >= 0 else 128 - code
        return buried

    def _send_on(self) -> None:
        """A lease does not stop, and so neither does what runs under it, nor who watches it."""
        for pid in (self._pid, self._parent):
            if _state(pid) in _STOPPED:
                tell(pid, signal.SIGCONT)

    def _end_all(self) -> None:
        """Kill the command and all that it started, until nothing is left."""
        until = time.monotonic() + SWEEP_FOR
        while time.monotonic() < until:
            ours = [tell(pid, signal.SIGKILL) for pid in self._members()]
            # What one that ended leaves behind may have come to us after we looked.
            if not self._bury() and not any(ours) and self._code is not None:
                return
            time.sleep(LOOK_AGAIN)

    def _members(self) -> Iterator[int]:
        waiting = children(os.getpid()) or ([self._pid] if self._code is None else [])
        for pid in waiting:
            waiting += children(pid)  # the list grows while it is walked
            if not is_over(pid):
                yield pid


def main(line: int, fault: int, until_us: int, words: list[str]) -> int:
    """Keep the command in `words`; returns its exit code."""
    parent = os.getppid()
    os.set_inheritable(line, False)
    os.set_inheritable(fault, False)
    _stand_by()
    return _Keeper(line, _begin(words, fault), parent, until_us).keep()


def tie(parent: int, words: list[str]) -> int:
    """Keep the command in `words` while `parent` lives; returns its exit code."""
    line = os.pidfd_open(parent)  # is ready, and can't be read, once that process has ended
    if os.getppid() != parent:
        return 1  # it ended before this process was there
    _stand_by()
    nothing = os.open(os.devnull, os.O_RDWR)
    keeper = _Keeper(line, _begin(words, os.dup(nothing)), parent, 0)
    for number in (0, 1):  # the command's alone: their ends are to be seen when it closes them
        os.dup2(nothing, number)
    signal.signal(signal.SIGTERM, keeper.end_soon)
    return keeper.keep_all()


def _stand_by() -> None:
    for number in NOT_OURS:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, NOT_OURS)
    adopt(1)


if __name__ == "__main__":
    # Nothing is to be said or flushed at the end: the streams are the command's.
    if sys.argv[1] == "tie":
        os._exit(tie(int(sys.argv[2]), sys.argv[3:]))
    os._exit(main(int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4:]))

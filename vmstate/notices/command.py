"""Telling by a command: its words as the constitution has them, the notice on standard input.

No shell reads the words. The command leads a process group of its own, which is killed when its
time is up; what it says is kept up to a bound, for the log. Of the service's environment it sees
everything but what is vmstate's own, and `VMSTATE_EVENT`.
"""

import os
import select
import signal
import subprocess
import time
from collections.abc import Mapping

OUTPUT_BYTES = 4_096  # of what a command says; the rest is read and dropped
LOOK_SECONDS = 0.05


def run_command(
    words: tuple[str, ...], notice: bytes, event: str, *, seconds: float
) -> tuple[str, str]:
    """Run a command with `notice` on its standard input.

    Returns why it failed, or nothing if it ended with 0, and what it said. What it leaves running
    after it ended is not waited for.
    """
    try:
        process = subprocess.Popen(  # noqa: S603 -- the words are the constitution's
            words,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env=_environment(event),
        )
    except OSError as error:
        return f"{words[0]} can't be run: {error.strerror}", ""
    assert process.stdin is not None
    assert process.stdout is not None
    with process.stdin, process.stdout:
        try:
            # Smaller than a pipe holds: a command that never reads does not hold us up.
            process.stdin.write(notice + b"\n")
            process.stdin.close()
        except BrokenPipeError:
            pass  # it has ended, or does not care what happened; its exit code says which
        said, in_time = _listen(process, process.stdout.fileno(), seconds)
    if not in_time:
        # Before it is waited for, so that its number still is its group's.
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        return f"took longer than {seconds:g} s and was killed", said
    code = process.wait()
    if code < 0:
        return f"was killed by {signal.Signals(-code).name}", said
    return ("" if code == 0 else f"ended with exit code {code}"), said


def _listen(process: "subprocess.Popen[bytes]", output: int, seconds: float) -> tuple[str, bool]:
    """What the process says until it ends, and whether that was in time."""
    deadline = time.monotonic() + seconds
    kept, open_ = b"", True
    while time.monotonic() < deadline:
        if open_ and select.select([output], [], [], LOOK_SECONDS)[0]:
            chunk = os.read(output, OUTPUT_BYTES)
            open_ = bool(chunk)
            kept = (kept + chunk)[:OUTPUT_BYTES]
        elif _has_ended(process):
            return kept.decode(errors="replace"), True
        elif not open_:
            time.sleep(LOOK_SECONDS)
    return kept.decode(errors="replace"), _has_ended(process)


def _has_ended(process: "subprocess.Popen[bytes]") -> bool:
    """Asked without taking its exit code: until then its number stays its group's."""
    found = os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    return found is not None


def _environment(event: str) -> Mapping[str, str]:
    kept = {name: text for name, text in os.environ.items() if not name.startswith("VMSTATE_")}
    return {**kept, "VMSTATE_EVENT": event}

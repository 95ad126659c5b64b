"""The whole suite runs on three processes, and says loudly what it left out.

Whatever is named on the command line runs in this process. Of the three each has whole files, so
that what the tests of a file share is made once. Two processors are enough for them: a good part of
what tests do is to wait, for a lease that ends or for a process that starts.
"""

import os
import shutil
import signal
import sys
import tempfile
from pathlib import Path

import pytest

PROCESSES, PROCESSORS = 3, 2
LONG = (
    "test_story.py",
    "test_readme.py",
    "test_pack_page.py",
    "test_http.py",
    "test_serve.py",
    "test_canary.py",
    "test_gate_process.py",
    "test_laws.py",
)
LEFT_OUT = "LEFT OUT, "  # begins the reason of a skip that nobody should overlook
MEMORY = Path("/dev/shm")  # noqa: S108 -- pytest makes a folder in it that is its own
ROOM = 1 << 30  # a run needs a tenth of it; a container's default of 64 MiB is too little


def _work_in_memory():
    """Put the files of tests, and of the programs that they start, where a flush costs nothing.

    The suite makes thousands of ledgers, each flushed at every commit, and loses them a moment
    later: on a disk it would mostly wait. No test takes the power away. Whoever sets TMPDIR says
    otherwise, and where there is no such place, or no room, or nothing in it may be run, the
    disk is what there is.
    """
    if "TMPDIR" in os.environ or not os.access(MEMORY, os.R_OK | os.W_OK | os.X_OK):
        return
    if os.statvfs(MEMORY).f_flag & os.ST_NOEXEC or shutil.disk_usage(MEMORY).free < ROOM:
        return
    os.environ["TMPDIR"] = str(MEMORY)
    tempfile.tempdir = None  # asked before this file was read, and kept


def _keep_bytecode():
    """Compile each module once, and not in each of the hundreds of processes that tests start."""
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    sys.dont_write_bytecode = False


def _hear_the_keyboard():
    """A shell lets what it runs in the background ignore Ctrl-C, and that would be inherited."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


_keep_bytecode()
_hear_the_keyboard()


def pytest_configure(config):
    if config.option.markexpr == "not benchmark":  # what is measured is measured on the disk
        _work_in_memory()


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config):
    if "PYTEST_XDIST_WORKER" in os.environ:
        return  # one of the three asks here as well, and must not start more
    whole = config.args_source == pytest.Config.ArgsSource.TESTPATHS
    unset = getattr(config.option, "numprocesses", 0) is None
    debugged = config.option.usepdb or config.option.capture == "no"
    if whole and unset and not debugged and (os.cpu_count() or 1) >= PROCESSORS:
        config.option.numprocesses = PROCESSES
        config.option.dist = "loadfile"
        # In our own order: by their numbers of tests, the few long ones would come last.
        config.option.loadscopereorder = False
        # What hangs is ended after a while, and would hang again in each process that took over.
        config.option.maxworkerrestart = "0"


def pytest_collection_modifyitems(items):
    """Long files begin first, so that no process waits for another at the end."""
    place = {name: number for number, name in enumerate(LONG)}
    items.sort(key=lambda item: place.get(item.path.name, len(LONG)))


def pytest_terminal_summary(terminalreporter):
    skips = terminalreporter.stats.get("skipped", [])
    reasons = [skip.longrepr[2].removeprefix("Skipped: ") for skip in skips]
    loud = dict.fromkeys(reason for reason in reasons if reason.startswith(LEFT_OUT))
    if loud:
        terminalreporter.section("left out", sep="!", yellow=True, bold=True)
    for reason in loud:
        terminalreporter.line(reason, yellow=True, bold=True)

"""The whole suite runs on two processes, and says loudly what it left out.

Whatever is named on the command line runs in this process. Of the two each has whole files, so that
what the tests of a file share is made once.
"""

import os

import pytest

PROCESSES = 2
LONG = frozenset(("test_readme.py", "test_story.py", "test_laws.py", "test_pack_page.py"))
LEFT_OUT = "LEFT OUT, "  # begins the reason of a skip that nobody should overlook


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config):
    if "PYTEST_XDIST_WORKER" in os.environ:
        return  # one of the two asks here as well, and must not start two more
    whole = config.args_source == pytest.Config.ArgsSource.TESTPATHS
    unset = getattr(config.option, "numprocesses", 0) is None
    debugged = config.option.usepdb or config.option.capture == "no"
    if whole and unset and not debugged and (os.cpu_count() or 1) >= PROCESSES:
        config.option.numprocesses = PROCESSES
        config.option.dist = "loadfile"
        # In our own order: by their numbers of tests, the few long ones would come last.
        config.option.loadscopereorder = False
        # What hangs is ended after a while, and would hang again in each process that took over.
        config.option.maxworkerrestart = "0"


def pytest_collection_modifyitems(items):
    """Long files begin first, so that neither process waits for the other at the end."""
    items.sort(key=lambda item: item.path.name not in LONG)


def pytest_terminal_summary(terminalreporter):
    skips = terminalreporter.stats.get("skipped", [])
    reasons = [skip.longrepr[2].removeprefix("Skipped: ") for skip in skips]
    loud = dict.fromkeys(reason for reason in reasons if reason.startswith(LEFT_OUT))
    if loud:
        terminalreporter.section("left out", sep="!", yellow=True, bold=True)
    for reason in loud:
        terminalreporter.line(reason, yellow=True, bold=True)

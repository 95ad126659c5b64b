"""`watch`: lines on change in a pipe, a screen that counts down on a terminal."""

import io
import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from rich.console import Console

from vmstate.interfaces.cli.watch import DRAWN, Frame, Row, changes, draw
from vmstate.ledger.receipt import Receipt

VMSTATE = Path(sys.executable).with_name("vmstate")
NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)
PATIENCE_SECONDS = 10.0
ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def lease(number, who="alice", minutes=10, left=5.0):
    until = NOON + timedelta(minutes=minutes)
    return Row("lease", f"lease-{number}", who, "operator", until, timedelta(minutes=left), 0.5)


def drawn(*rows, **more):
    fields = {"is_drill": False, "size": 3, "latest": (), **more}
    frame = Frame(at=NOON, origin="example/1f2e3d4c", baseline="observer", rows=rows, **fields)
    console = Console(width=100, file=io.StringIO())
    console.print(draw(frame))
    return console.file.getvalue()


def test_what_came_was_moved_or_is_gone_is_a_change_and_counting_down_is_none():
    told, seen = changes({}, [lease(1), lease(2)])
    assert told == [("+", lease(1)), ("+", lease(2))]
    assert changes(seen, [lease(1, left=4.9), lease(2, left=4.9)])[0] == []
    told, seen = changes(seen, [lease(1, minutes=20)])
    assert told == [("-", lease(2)), ("+", lease(1, minutes=20))]
    assert set(seen) == {("lease", "lease-1")}


def test_a_screen_shows_what_is_owed_first_and_then_what_ends_soonest():
    owed = Row("owed", "lease-3", "carol", "over, receipt owed", NOON - timedelta(minutes=1))
    seen = drawn(lease(1, minutes=30), lease(2, who="bob", left=0.5), owed)
    lines = [line.split() for line in seen.splitlines()]
    assert lines[0][0] == "example/1f2e3d4c"
    assert lines[2] == ["WHO", "HOLDS", "LEFT", "ENDS", "LEASE"]
    assert [line[0] for line in lines[3:6]] == ["carol", "bob", "alice"]
    assert lines[4][2:4] == ["30s", "━━━━━━╌╌╌╌╌╌"]
    assert "everybody else stands at observer" in seen


def test_a_screen_says_what_is_locked_who_is_behind_and_that_it_is_a_drill():
    locked = Row("lock", "lock-5", "everybody", "locked by root: keys were stolen")
    behind = Row("behind", "pager", "", "pager is behind: 1 notice waits")
    seen = drawn(locked, behind, is_drill=True)
    assert "DRILL" in seen
    assert "LOCKED\nlock-5  everybody  locked by root: keys were stolen" in seen
    assert "BEHIND\npager is behind: 1 notice waits" in seen
    assert "everybody stands at observer" in seen


def test_a_screen_says_what_waits_for_whom_and_for_how_long():
    until, left = NOON + timedelta(minutes=30), timedelta(minutes=30, microseconds=-1)
    what = "guardian, pending: requires approval by 1 of staff, has 0"
    seen = drawn(Row("request", "1f2e3d4c5b6a", "alice", what, until, left))
    line = f"1f2e3d4c5b6a  alice  {what}, until"
    assert f"WAITING\n{line}" in seen
    assert "12:30:00Z (29m59s)" in seen


def test_a_screen_names_how_many_leases_it_has_no_room_for():
    seen = drawn(*(lease(number) for number in range(DRAWN + 1_234)))
    assert "and 1,234 more, which end later" in seen


@pytest.fixture
def started(live):
    """`vmstate watch …` as its own process, on the machine's time; gone when the test is over."""
    running = []

    def start(*words, **more):
        process = subprocess.Popen([VMSTATE, "watch", *words], cwd=live.path, **more)
        running.append(process)
        return process

    yield start
    for process in running:
        process.kill()
        process.communicate()


def test_in_a_pipe_each_change_is_a_line_when_it_happens(live, started):
    process = started("--json", stdout=subprocess.PIPE, text=True)
    first = json.loads(process.stdout.readline())
    assert (first["change"], first["kind"]) == ("+", "lease")
    line = "vmstate escalate operator --as agent:99 --reason 'ticket 4711: look' --json"
    new = json.loads(live.ok(line))["receipt"]["what"]["lease"]
    while (seen := json.loads(process.stdout.readline()))["id"] != new:
        pass
    assert (seen["change"], seen["who"]) == ("+", "agent:99")
    live.ok(f"vmstate release {new} --as agent:99")
    while (seen := json.loads(process.stdout.readline()))["id"] != new:
        pass
    assert seen["change"] == "-"


def test_on_a_terminal_it_fills_the_screen_until_told_to_stop(started):
    main, side = pty.openpty()
    settings = {**os.environ, "COLUMNS": "100", "LINES": "30", "TERM": "xterm"}
    process = started(env=settings, stdout=side, stderr=side)
    os.close(side)
    try:
        seen = _read_until(main, "LATEST", "LATEST")  # two frames
        assert "\x1b[?1049h" in seen  # a screen of its own
        assert "HOLDS" in ESCAPE.sub("", seen)
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE_SECONDS) == 130
        assert "\x1b[?1049l" in _read_until(main, "\x1b[?1049l")  # and the one before it again
    finally:
        os.close(main)


def test_on_a_terminal_a_warning_of_the_constitutions_file_stays_on_top(live, started):
    (live.path / "constitution.toml").unlink()
    main, side = pty.openpty()
    settings = {**os.environ, "COLUMNS": "100", "LINES": "30", "TERM": "xterm"}
    started(env=settings, stdout=side, stderr=side)
    os.close(side)
    try:
        _, _, shown = _read_until(main, "\x1b[?1049h", "LATEST").partition("\x1b[?1049h")
    finally:
        os.close(main)
    assert "constitution.toml decides nothing here: there is no such file" in shown


def _read_until(terminal, *wanted):
    """What a terminal shows up to the last of these words, one after the other."""
    seen, place, deadline = "", 0, time.monotonic() + PATIENCE_SECONDS
    for word in wanted:
        while (found := seen.find(word, place)) < 0:
            assert time.monotonic() < deadline, seen
            if select.select([terminal], [], [], 0.1)[0]:
                seen += os.read(terminal, 65_536).decode(errors="replace")
        place = found + len(word)
    return seen


def test_a_screen_says_on_whose_word_it_was_and_what_was_asked_for_but_not_given(used):
    asked = used.run('vmstate escalate guardian --as alice --reason "ticket 4711: mend" --wait')
    used.ok(f"vmstate request approve {asked.out.strip()} --key carol.key --yes")
    lines = used.ok("vmstate receipts tail -n 1 --json").splitlines()
    seen = drawn(latest=tuple(Receipt.read(line.encode()) for line in lines))
    assert re.search(r"approval +alice +by carol, for guardian\n", seen.replace(" \n", "\n"))

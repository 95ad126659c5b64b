"""A table is drawn on a terminal; in a pipe it is whole values, tab-separated."""

import os
import pty
import re
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from touring import left_on_screen

NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)
VMSTATE = Path(sys.executable).with_name("vmstate")
ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
LONG = "agent:" + "x" * 194  # a name of 200 characters, which is a name


def on_a_terminal(folder, line, *, columns=100):
    """What both streams show on a terminal so wide, with its escapes."""
    return _shown_by([VMSTATE, *line.split()], folder.path, columns)


def _shown_by(words, path, columns):
    main, side = pty.openpty()
    settings = {**os.environ, "COLUMNS": str(columns), "TERM": "xterm"}
    process = subprocess.Popen(words, cwd=path, env=settings, stdout=side, stderr=side)
    os.close(side)
    seen = b""
    try:
        while chunk := os.read(main, 65_536):
            seen += chunk
    except OSError:
        pass  # Linux ends a terminal whose other side is closed with an error
    finally:
        os.close(main)
        process.wait()
    return seen.decode().replace("\r\n", "\n")


@pytest.fixture
def long(live):
    """The used ledger, in which a name of 200 characters stands as well."""
    live.vmstate("escalate", "operator", "--as", LONG, "--reason", "ticket 4713: a long name")
    return live


@pytest.mark.parametrize(
    ("line", "cells"), [("status", 6), ("receipts list", 7), ("receipts tail", 7)]
)
def test_a_piped_table_is_lines_of_whole_values(line, cells, long):
    rows = [row.split("\t") for row in long.ok(f"vmstate {line}").splitlines()]
    assert rows
    assert all(len(row) == cells for row in rows)
    assert any(LONG in row for row in rows)


def test_a_drawn_table_has_a_header_and_loses_no_letter_of_a_name(long):
    seen = ESCAPE.sub("", on_a_terminal(long, "receipts list"))
    header, *rows = seen.splitlines()
    assert header.split() == ["SEQ", "AT", "OUTCOME", "WHO", "BY", "WHAT", "RULE"]
    assert "\t" not in seen
    assert "…" not in seen
    assert sum(row.count("x") for row in rows) == 194


@pytest.mark.parametrize("columns", [40, 80, 200])
def test_a_drawn_table_is_no_wider_than_its_terminal(columns, long):
    seen = ESCAPE.sub("", on_a_terminal(long, "receipts list", columns=columns))
    assert max(map(len, seen.splitlines())) <= columns


def test_a_short_word_is_not_broken_in_two(tmp_path):
    draws = "from vmstate.interfaces.cli.output import table; table(['A'] * 7, [{}])"
    row = ("1700", "2026-11-26 00:07:45Z", "attestation", *["did:vm:guardian:one"] * 4)
    seen = _shown_by([sys.executable, "-c", draws.format(row)], tmp_path, 80)
    assert "attestation" in ESCAPE.sub("", seen)


def test_nothing_is_coloured_in_a_pipe(live):
    done = live.run("vmstate escalate guardian --as alice")
    assert "\x1b" not in done.out + done.err
    assert "\x1b" not in live.ok("vmstate drill run")


def test_a_denial_is_marked_on_a_terminal(live):
    seen = on_a_terminal(live, "escalate guardian --as bob")
    assert "\x1b[31m" in seen
    assert ESCAPE.sub("", seen).startswith("denied by escalations\n")


def test_an_audit_on_a_terminal_leaves_no_bar_behind(live):
    seen = left_on_screen(on_a_terminal(live, "audit"))
    assert "auditing" not in seen
    assert ": intact" in seen


def test_refusals_that_were_counted_are_a_row_of_their_own(folder):
    folder.at(NOON)
    folder.ok("vmstate init")
    for _ in range(12):
        assert folder.run("vmstate escalate guardian --as bob").code == 3
    folder.at(NOON + timedelta(minutes=1))
    folder.ok("vmstate escalate operator --as alice --reason 'ticket 4711: look'")
    rows = [row.split("\t") for row in folder.ok("vmstate receipts list --denied").splitlines()]
    assert len(rows) == 9
    assert rows[-1][5] == "observer to guardian, 4 more like receipt 8"

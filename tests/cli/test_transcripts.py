"""What a person types and what they see: `transcripts/*.txt`, each in an empty folder at noon.

    # what this shows
    @ 2030-01-01T12:10:00Z       from here on it is then; `@ own` for the machine's own time
    $ vmstate may bob operator   a command, in a shell of its own if it is not ours
    . vmstate init               a command that succeeds, and whose words are another's subject
    > no                         its standard output,
    ! error: …                   its standard error,
    ? 3                          and its exit code, which is 0 where none is given

`…` stands for any text in a line, and alone for any lines; {digest}, {short}, {root}, {origin},
{key} and {log_key} stand for what can't be known.
"""

import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import pytest

from vmstate.interfaces.cli.main import _VERBS

HERE = Path(__file__).parent / "transcripts"
TRANSCRIPTS = sorted(HERE.glob("*.txt"))
UNKNOWN = {
    "{digest}": r"sha256:[0-9a-f]{64}",
    "{short}": r"sha256:[0-9a-f]{12}…",
    "{log_key}": r"[a-z]+/[0-9a-f]{8}\+[0-9a-f]{8}\+[A-Za-z0-9+/]{44}",
    "{root}": r"[0-9a-f]{16}…",
    "{origin}": r"[a-z]+/[0-9a-f]{8}",
    "{key}": r"ed25519:[A-Za-z0-9+/]{43}=",
    "…": r".*",
}
# What asks, and so may leave a receipt; every other verb only reads.
WRITING = {
    "init",
    "escalate",
    "renew",
    "release",
    "revoke",
    "run",
    "recover",
    "serve",
    "lock",
    "unlock",
    "act",
    "budget",
    "amend",
    "attest",
    "request",
    "hook",
}


@dataclass
class Turn:
    """A command, and what is to follow it."""

    at: str | None
    line: str
    shown: bool
    out: list[str] = field(default_factory=list)
    err: list[str] = field(default_factory=list)
    code: int = 0


def read(path):
    """The turns of a transcript; a line of no known kind is a mistake in it."""
    turns, at = [], None
    for line in path.read_text(encoding="utf-8").splitlines():
        mark, _, rest = line.partition(" ")
        match mark:
            case "" | "#":
                pass
            case "@":
                at = rest
            case "$" | ".":
                turns.append(Turn(at, rest, shown=mark == "$"))
                at = None
            case ">":
                turns[-1].out.append(rest)
            case "!":
                turns[-1].err.append(rest)
            case "?":
                turns[-1].code = int(rest)
            case _:
                raise AssertionError(f"{path.name}: {line!r}")
    return turns


def as_pattern(lines):
    """The lines as written, but for what can't be known."""
    known = re.compile("|".join(map(re.escape, UNKNOWN)))
    pattern = ""
    for line in lines:
        if line == "…":
            pattern += r"(?:.*\n)*?"
            continue
        place = 0
        for found in known.finditer(line):
            pattern += re.escape(line[place : found.start()]) + UNKNOWN[found[0]]
            place = found.end()
        pattern += re.escape(line[place:]) + r"\n"
    return pattern


def verb_of(line):
    """The verb of a command line of ours, or None."""
    words = line.split()
    return next((word for word in words if word in _VERBS), None) if "vmstate" in words else None


@pytest.mark.parametrize("path", TRANSCRIPTS, ids=lambda path: path.stem)
def test_a_transcript_reads_as_written(path, folder):
    for turn in read(path):
        if turn.at is not None:
            own = turn.at == "own"
            folder.at(None if own else datetime.fromisoformat(turn.at).astimezone(UTC))
        before = folder.sizes()
        done = folder.run(turn.line)
        seen = f"$ {turn.line}\n{done.out}{done.err}? {done.code}"
        assert done.code == turn.code, seen
        if turn.shown:
            assert re.fullmatch(as_pattern(turn.out), done.out), seen
            assert re.fullmatch(as_pattern(turn.err), done.err), seen
        if verb_of(turn.line) is None:
            continue
        after = folder.sizes()
        lost = {name for name, size in before.items() if after.get(name, -1) < size}
        assert not lost, f"{seen}\n{lost} lost receipts"
        if done.code in {2, 5, 6} or verb_of(turn.line) not in WRITING:
            assert after == before, f"{seen}\nwrote receipts"


def test_every_verb_has_a_transcript():
    seen = {verb_of(turn.line) for path in TRANSCRIPTS for turn in read(path) if turn.shown}
    # serve is a process of its own: test_serve.py; canary waits on the machine's: test_canary.py;
    # what speaks with programs is tested with programs.
    assert set(_VERBS) - {"serve", "canary", "mcp", "gate"} <= seen


def test_a_transcript_says_what_it_shows():
    assert all(path.read_text(encoding="utf-8").startswith("# ") for path in TRANSCRIPTS)

"""The README as a script: its console blocks are run in a terminal and compared line by line."""

import os
import pty
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from threading import Timer

README = Path(__file__).parents[2] / "README.md"
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
TEXT = README.read_text(encoding="utf-8")
BLOCKS = BLOCK.findall(TEXT)
STORY = "## An agent asks\n"  # told in a folder of its own; the rest goes on in one
FILE = re.compile(r"# (\w+\.py)\n")  # how a block begins that is a file to be made
MOVES = re.compile(r"\bcd (\S+)$")
ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
# A line and the way back over it: a bar, which is drawn only where something takes its time.
WIPED = re.compile(r"[^\n]*(?:\r|\n(?:\x1b\[\?25h)?\r\x1b\[1A)\x1b\[2K")
SECONDS = 90  # for one command; the slowest waits 20 for the end of a lease
LIMITED = re.compile(r"timeout (\d+) (.*)")  # a command that ends only when it is told to


def run_in_terminal(command, folder):
    """What a person would see: both streams, in a terminal of 120 columns, without colours.

    The time that a command is given counts from the first that it says: how long it takes to begin
    is the machine's.
    """
    if limited := LIMITED.fullmatch(command):
        command = f"exec timeout {SECONDS} {limited[2]}"
    main, side = pty.openpty()
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "COLUMNS": "120", "TERM": "xterm"}
    process = subprocess.Popen(
        [shutil.which("bash"), "-c", command],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=side,
        stderr=side,
        start_new_session=True,  # so that all of it can be ended
    )
    os.close(side)
    limit = Timer(SECONDS, os.killpg, (process.pid, signal.SIGKILL))
    limit.start()
    seen = b""
    try:
        while chunk := os.read(main, 65_536):
            if limited and not seen:
                Timer(int(limited[1]), process.terminate).start()
            seen += chunk
    except OSError:
        pass  # Linux ends a terminal whose other side is closed with an error
    os.close(main)
    process.wait()
    assert limit.is_alive(), f"$ {command}\ndid not end in {SECONDS} s:\n{seen.decode()}"
    limit.cancel()
    return left_on_screen(seen.decode())


def left_on_screen(written):
    """What a terminal still shows when it was written, without colours."""
    return ESCAPES.sub("", WIPED.sub("", written.replace("\r\n", "\n")))


def commands(block):
    """Each `$ command` of a block, with the lines that are to follow it."""
    for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
        command, _, expected = part.partition("\n")
        yield command, expected


def matches(expected, seen):
    """Lines as written; `…` stands for anything, a line of it for any lines; spaces may be more.

    Line by line: one expression over the whole text would take for ever to say no.
    """
    reached = {0}  # how many lines of `seen` the lines so far can account for
    lines = seen.splitlines()
    for line in expected.splitlines():
        if line.strip() == "…":
            reached = set(range(min(reached), len(lines) + 1))
            continue
        parts = [" +".join(map(re.escape, re.split(" +", part))) for part in line.split("…")]
        wanted = re.compile(".*".join(parts) + " *")
        reached = {at + 1 for at in reached if at < len(lines) and wanted.fullmatch(lines[at])}
        if not reached:
            return False
    return len(lines) in reached


def split():
    """The text of the story, and all the rest."""
    before, _, after = TEXT.partition(STORY)
    story, heading, rest = after.partition("\n## ")
    return story, f"{before}{heading}{rest}"


def tour(text, folder):
    """Run every console block of `text` as it is written there; `cd` at a command's end counts.

    A block of Python that is a file is written where the commands run.
    """
    for kind, block in BLOCK.findall(text):
        if kind == "python" and (file := FILE.match(block)):
            (folder / file[1]).write_text(block, encoding="utf-8")
        for command, expected in commands(block) if kind == "console" else ():
            seen = run_in_terminal(command, folder)
            assert matches(expected, seen), f"$ {command}\n{seen}\n--- expected\n{expected}"
            if moved := MOVES.search(command):
                folder = (folder / moved[1]).resolve(strict=True)

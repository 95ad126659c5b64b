"""The README is true: its tours run as written, in a terminal, and its code runs as it stands."""

import os
import pty
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from vmstate.interfaces.cli.main import _VERBS

README = Path(__file__).parent.parent / "README.md"
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
TEXT = README.read_text(encoding="utf-8")
BLOCKS = BLOCK.findall(TEXT)
STORY = "## An agent asks\n"  # told in a folder of its own; the rest goes on in one
FILE = re.compile(r"# (\w+\.py)\n")  # how a block begins that is a file of the story
REQUIRED = "VMSTATE_REQUIRE_MCP_SERVERS"  # set to 1, the absence of a third party's is a failure
SERVERS = Path(os.environ.get("VMSTATE_MCP_SERVERS", "node_modules"))
ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


@pytest.fixture
def folder(tmp_path):
    """An empty folder, as the tour asks for."""
    return tmp_path


def run_in_terminal(command, folder):
    """What a person would see: both streams, in a terminal of 120 columns, without colours."""
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
    )
    os.close(side)
    seen = b""
    try:
        while chunk := os.read(main, 65_536):
            seen += chunk
    except OSError:
        pass  # Linux ends a terminal whose other side is closed with an error
    os.close(main)
    process.wait()
    return ESCAPES.sub("", seen.decode()).replace("\r\n", "\n")


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
    """Run every console block of `text` as it is written there."""
    for kind, block in BLOCK.findall(text):
        for command, expected in commands(block) if kind == "console" else ():
            seen = run_in_terminal(command, folder)
            assert matches(expected, seen), f"$ {command}\n{seen}\n--- expected\n{expected}"


def test_the_tour_runs_as_written(folder):
    tour(split()[1], folder)


def test_the_story_of_an_agent_that_asks_runs_as_written(folder):
    """With the official client, in front of a server that others wrote."""
    if not (SERVERS / "@modelcontextprotocol" / "server-filesystem").exists():
        missing = f"there is no {SERVERS}/@modelcontextprotocol/server-filesystem: npm install it"
        if os.environ.get(REQUIRED) == "1":
            pytest.fail(f"{REQUIRED}=1, and {missing}")
        pytest.skip(f"LEFT OUT, the story of an agent that asks: {missing}")
    (folder / "node_modules").symlink_to(SERVERS.absolute())
    story = split()[0]
    for kind, block in BLOCK.findall(story):
        if kind == "python":
            (folder / FILE.match(block)[1]).write_text(block, encoding="utf-8")
    tour(story, folder)


def test_the_digest_of_a_line_is_the_id_of_its_receipt(folder):
    run_in_terminal("vmstate init && vmstate export bundle", folder)
    leaf = "(printf '\\0'; head -n 1 bundle/receipts.jsonl | tr -d '\\n') | sha256sum"
    shown = run_in_terminal("vmstate receipts show 0 | head -n 1", folder)
    assert run_in_terminal(leaf, folder).split()[0] in shown


def test_the_code_runs_as_it_stands(folder):
    run_in_terminal("vmstate init", folder)
    blocks = [block for kind, block in BLOCKS if kind == "python" and not FILE.match(block)]
    assert len(blocks) == 4
    for number, block in enumerate(blocks):
        file = folder / f"test_block_{number}.py"
        file.write_text(block, encoding="utf-8")
        how = ["-m", "pytest", "-q"] if "def test_" in block else []
        done = subprocess.run(
            [sys.executable, "-W", "error", *how, file],
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr


def test_the_two_commands_are_the_ones_that_ci_and_the_issue_know():
    shell = [block.strip() for kind, block in BLOCKS if kind == "sh"]
    assert shell == [
        "python3 -m venv .venv && .venv/bin/pip install . && .venv/bin/vmstate drill run",
        "python3 -m venv .venv && .venv/bin/pip install -e '.[test]' && .venv/bin/pytest",
    ]


def test_the_changelog_names_every_verb():
    changelog = README.with_name("CHANGELOG.md").read_text(encoding="utf-8")
    (listed,) = re.findall(r"The command line: `([a-z ]+)`", changelog)
    assert set(listed.split()) == set(_VERBS)

"""The README is true: its tour runs as written, in a terminal, and its code runs as it stands."""

import re
import subprocess
import sys

import pytest
from touring import BLOCKS, FILE, README, run_in_terminal, split, tour

from vmstate.interfaces.cli.main import _VERBS


@pytest.fixture
def folder(tmp_path):
    """An empty folder, as the tour asks for."""
    return tmp_path


def test_the_tour_runs_as_written(folder):
    tour(split()[1], folder)


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

"""Without the extra `mcp` its verbs say how to get it, and everything else goes on."""

import subprocess
import sys

import pytest

SECONDS = 60

# Stands for a machine without it: nothing of the SDK, or of what comes with it, can be found.
BLOCKED = """
import sys
from importlib.abc import MetaPathFinder
from importlib.machinery import PathFinder

gone = {"mcp", "mcp_types", "anyio", "httpx2", "uvicorn", "starlette"}

class Finder(MetaPathFinder):
    def find_spec(self, name, path, target=None):
        return None if name in gone else PathFinder.find_spec(name, path, target)

sys.meta_path[:] = [one for one in sys.meta_path if one is not PathFinder]
sys.meta_path.append(Finder())
from vmstate.interfaces.cli.main import run
run()
"""


def run(folder, *words, stdin=""):
    return subprocess.run(
        [sys.executable, "-c", BLOCKED, *words],
        cwd=folder,
        input=stdin,
        capture_output=True,
        text=True,
        check=False,
        timeout=SECONDS,
    )


@pytest.mark.parametrize("words", [("gate", "--help"), ("gate", "--", "cat"), ("mcp",)])
def test_the_verbs_that_take_it_say_how_to_get_it(tmp_path, words):
    done = run(tmp_path, *words)
    assert (done.returncode, done.stdout) == (2, "")
    said = "error: the MCP SDK is not installed: pip install 'vmstate[mcp]'\n"
    assert done.stderr == said


def test_the_hook_takes_none_of_it(tmp_path):
    run(tmp_path, "init")
    call = '{"tool_name": "Read", "tool_input": {}}'
    done = run(tmp_path, "hook", "pre-tool-use", "--as", "agent:7", stdin=call)
    assert done.returncode == 0
    assert '"permissionDecision": "deny"' in done.stdout
    assert "Denied by tools" in done.stdout

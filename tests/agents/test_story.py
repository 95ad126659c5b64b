"""The README's story of an agent that asks, with the official client and a third party's server.

`npx` starts what is installed here and nothing else: the real one thinks about it for half a second
before each start, which says nothing of ours.
"""

import os
from pathlib import Path

import pytest
from touring import split, tour

REQUIRED = "VMSTATE_REQUIRE_MCP_SERVERS"  # set to 1, the absence of a third party's is a failure
SERVERS = Path(os.environ.get("VMSTATE_MCP_SERVERS", "node_modules"))


NPX = """#!/bin/sh
test "$1" = -y && package=$2 && shift 2 && exec node "node_modules/$package/dist/index.js" "$@"
"""


def test_an_agent_is_refused_asks_is_allowed_by_a_key_works_and_loses_it_again(
    tmp_path, monkeypatch
):
    if not (SERVERS / "@modelcontextprotocol" / "server-filesystem").exists():
        missing = f"there is no {SERVERS}/@modelcontextprotocol/server-filesystem: npm install it"
        if os.environ.get(REQUIRED) == "1":
            pytest.fail(f"{REQUIRED}=1, and {missing}")
        pytest.skip(f"LEFT OUT, the story of an agent that asks: {missing}")
    (tmp_path / "node_modules").symlink_to(SERVERS.absolute())
    (tmp_path / "programs").mkdir()
    (tmp_path / "programs" / "npx").write_text(NPX, encoding="utf-8")
    (tmp_path / "programs" / "npx").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'programs'}{os.pathsep}{os.environ['PATH']}")
    tour(split()[0], tmp_path)

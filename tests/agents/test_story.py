"""The README's story of an agent that asks, with the official client and a third party's server."""

import os
from pathlib import Path

import pytest
from touring import split, tour

REQUIRED = "VMSTATE_REQUIRE_MCP_SERVERS"  # set to 1, the absence of a third party's is a failure
SERVERS = Path(os.environ.get("VMSTATE_MCP_SERVERS", "node_modules"))


def test_an_agent_is_refused_asks_is_allowed_by_a_key_works_and_loses_it_again(tmp_path):
    if not (SERVERS / "@modelcontextprotocol" / "server-filesystem").exists():
        missing = f"there is no {SERVERS}/@modelcontextprotocol/server-filesystem: npm install it"
        if os.environ.get(REQUIRED) == "1":
            pytest.fail(f"{REQUIRED}=1, and {missing}")
        pytest.skip(f"LEFT OUT, the story of an agent that asks: {missing}")
    (tmp_path / "node_modules").symlink_to(SERVERS.absolute())
    tour(split()[0], tmp_path)

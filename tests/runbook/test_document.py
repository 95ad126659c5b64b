"""The runbook's own code runs as it is written, with nothing changed but where its tools live."""

import re
import sys
from pathlib import Path
from types import ModuleType

import vmstate.tools

DOCUMENT = Path(__file__).with_name("DRILL.txt")
BLOCKS = re.findall(
    r"^```python\n(.*?)^```$", DOCUMENT.read_text("utf-8"), re.DOTALL | re.MULTILINE
)


def test_the_documents_python_runs_in_its_order_and_unchanged(in_drill, folder, monkeypatch):
    package = ModuleType("vaultmesh_mcp")
    monkeypatch.setitem(sys.modules, "vaultmesh_mcp", package)
    monkeypatch.setitem(sys.modules, "vaultmesh_mcp.tools", vmstate.tools)
    names = {}
    assert len(BLOCKS) == 14
    for block in BLOCKS:
        exec(compile(block, DOCUMENT.name, "exec"), names)  # noqa: S102 -- that is the test
    assert in_drill.held == "observer"
    assert in_drill.audit() == ()
    assert not (folder / "vmstate.db").exists()
    artifact = names["artifact"]
    types = [entry["type"] for entry in artifact["escalations"]["history"]]
    assert {"profile_escalation", "profile_deescalation", "auth_failure"} == set(types)
    assert all(names["DRILL_MARKER"] in str(names[name]) for name in ("escalations", "history"))
    assert set(artifact["scroll_roots"]["scroll_roots"]) == {"identity", "guardian", "treasury"}


def test_every_block_of_code_in_the_document_was_found():
    fences = DOCUMENT.read_text("utf-8").count("```python")
    assert len(BLOCKS) == fences


def test_the_map_of_the_acceptance_table_names_the_tests_that_are_there():
    here = Path(__file__).parent
    readme = (here / "README.md").read_text("utf-8")
    tests = (here / "test_acceptance.py").read_text("utf-8")
    told = re.findall(r"^\| ([A-Z]\d+) \|.*\| `(test_\w+)` \|$", readme, re.MULTILINE)
    written = re.findall(r"^def (test_([A-Z]\d+)_\w+)", tests, re.MULTILINE)
    assert told == [(row, name) for name, row in written]

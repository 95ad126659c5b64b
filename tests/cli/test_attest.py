"""A sensor from the command line: at the socket under any account, and for a request that waits."""

import json
import shlex
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

from vmstate.authority import Authority
from vmstate.serving import Server
from vmstate.sockets import listening

VMSTATE = Path(sys.executable).with_name("vmstate")
SECONDS = 30  # far beyond what it takes, so that only a failure waits so long
AGENT, SENSOR = "did:vm:agent:7", "did:vm:sensor:edr"
SURE = 'needs.facts."threat.confidence" = { min = "0.80" }'
SEEN = "--fact threat.type=malware --fact threat.confidence=0.92"
PUSH = f"vmstate attest --principal {AGENT} {SEEN} --key edr.key"


def watch(folder, needs=SURE):
    """An agent that is an operator, under a law whose sensor and guardian have keys."""
    folder.ok("vmstate init --preset vaultmesh")
    folder.replace("constitution.toml", SURE, needs)
    folder.ok(f"vmstate keys new {SENSOR} -o edr.key >> constitution.toml")
    folder.ok("vmstate keys new did:vm:guardian:one -o one.key >> constitution.toml")
    folder.ok("vmstate init")
    folder.ok(f'vmstate escalate operator --as {AGENT} --reason "ticket 4711: look"')
    return folder


@pytest.fixture
def watched(folder):
    return watch(folder)


def test_a_sensor_needs_no_account_at_the_socket(watched, monkeypatch):
    monkeypatch.setattr("vmstate.serving.account_of", lambda _: "stranger")
    with ExitStack() as closing:
        vm = Authority.open("constitution.toml", "vmstate.db", serving=True)
        closing.callback(vm.close)
        server = Server(vm, closing.enter_context(listening(watched.path / "vm.sock")))
        server.start()
        closing.callback(server.stop)
        monkeypatch.setenv("VMSTATE_LEDGER", "none.db")
        monkeypatch.setenv("VMSTATE_SOCKET", "vm.sock")
        said = json.loads(watched.ok(f"{PUSH} --as {SENSOR} --json"))
        assert said["ok"] is True
        whose = watched.run(PUSH)
        assert (whose.code, "Missing option '--as'" in whose.err) == (2, True)
        assert watched.run("vmstate attest list").code == 3
        assert [one.by for one in vm.attested()] == [SENSOR]


def test_a_request_that_is_followed_is_activated_once_a_sensor_has_pushed(folder):
    folder.at(None)
    watched = watch(folder, f'{SURE}\nneeds.approval = {{ count = 1, of = ["guardians"] }}')
    asked = f"escalate guardian --as {AGENT} --trigger threat_detected {SEEN} --follow"
    words = [VMSTATE, *shlex.split(asked)]
    waiting = subprocess.Popen(
        words, cwd=watched.path, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert waiting.stderr is not None
    assert waiting.stderr.readline().startswith(f"{AGENT} waits for guardian until ".encode())
    listed = watched.ok("vmstate request list").split("\t")[0]
    assert "waits for more" in watched.ok(f"vmstate request approve {listed} --key one.key")
    watched.ok(PUSH)
    out, _ = waiting.communicate(timeout=SECONDS)
    assert waiting.returncode == 0
    assert f": {AGENT} is guardian until ".encode() in out


def test_the_list_and_why_say_the_same_in_json(watched):
    watched.ok(PUSH)
    (stands,) = json.loads(watched.ok("vmstate attest list --json"))["attested"]
    assert stands == {
        "by": SENSOR,
        "principal": AGENT,
        "facts": ["threat.confidence", "threat.type"],
        "seen_at": "2030-01-01T12:00:00.000000Z",
        "good_until": "2030-01-01T12:02:00.000000Z",
        "receipt": 3,
    }
    asked = f"vmstate why guardian --as {AGENT} --trigger threat_detected --json"
    assert json.loads(watched.ok(asked))["attested"] == [stands]

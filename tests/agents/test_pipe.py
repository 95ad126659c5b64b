"""A gate at an agent's pipe: it ends when told to, and answers what it can't read."""

import fcntl
import json
import os
import pty
import select
import shutil
import signal
import struct
import subprocess
import sys
import termios
import threading
import time
import tty
from pathlib import Path

import pytest
from typed import typed

from vmstate.authority import Authority

VMSTATE = Path(sys.executable).parent / "vmstate"
ODD = Path(__file__).with_name("odd.py")
SERVER = '\n[tools.odd]\ntools."*" = { profile = "observer" }\n'


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("made")
    for _ in range(2):
        assert typed("init", at=folder).code == 0
        text = (folder / "constitution.toml").read_text(encoding="utf-8")
        if SERVER not in text:
            (folder / "constitution.toml").write_text(text + SERVER, encoding="utf-8")
    return folder


LIMIT = 90  # seconds for a test of it
SECONDS = 12  # less than a gate waits for what does not end by itself
RUN = (
    "from vmstate.interfaces.cli import main; from vmstate.interfaces.mcp import run; "
    "run.LEAVE_SECONDS = {}; main.run()"
)


class Gate:
    """A gate, an agent's end of its input, and `answers`, the other end of its output."""

    def __init__(self, folder, leave, output=subprocess.PIPE, answers=None):
        command = ("gate", "--as", "agent:7", "--", sys.executable, ODD, "plain")
        self.process = subprocess.Popen(
            [sys.executable, "-c", RUN.format(leave), *command],
            cwd=folder,
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.DEVNULL,
        )
        self.answers = answers or self.process.stdout
        self._limit = threading.Timer(LIMIT, self.process.kill)  # and its pipe is at an end
        self._limit.start()
        info = {"protocolVersion": "2025-06-18", "capabilities": {}}
        info["clientInfo"] = {"name": "raw", "version": "1"}
        first = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": info}
        assert self.ask(json.dumps(first))["id"] == 1

    def ask(self, line):
        self.say(line.encode() + b"\n")
        return json.loads(self.answers.readline())

    def say(self, lines):
        self.process.stdin.write(lines)
        self.process.stdin.flush()

    def close(self):
        self._limit.cancel()
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.answers.close()


@pytest.fixture
def folder(made, tmp_path):
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    return tmp_path


@pytest.fixture
def gate(folder):
    it = Gate(folder, 15.0)
    yield it
    it.close()


@pytest.fixture
def gate_at_a_terminal(folder):
    """Its output is a terminal, of which nobody can tell when it has room."""
    main, side = pty.openpty()
    tty.setraw(side)
    it = Gate(folder, 1.0, side, os.fdopen(main, "rb"))
    os.close(side)
    yield it
    it.close()


def test_a_gate_that_is_told_to_stop_does_so_although_its_agents_pipe_is_open(gate, folder):
    gate.ask(_call("look"))
    gate.process.send_signal(signal.SIGTERM)
    assert gate.process.wait(SECONDS) == 0
    assert _counted(folder) == 1


def test_a_gate_that_is_told_to_stop_does_so_although_its_agent_reads_nothing(gate, folder):
    gate.ask(_call("look"))
    fcntl.fcntl(gate.answers, fcntl.F_SETPIPE_SZ, 4_096)  # room for one answer, whatever its size
    gate.say(b"{\n" * 200)
    _wait_for_an_answer(gate)
    gate.process.send_signal(signal.SIGTERM)
    assert gate.process.wait(SECONDS) == 0
    assert _counted(folder) == 1


def test_a_gate_at_a_terminal_that_nobody_reads_stops_as_well(gate_at_a_terminal, folder):
    gate = gate_at_a_terminal
    assert gate.ask(_call("look"))["result"]["content"][0]["text"] == "looked"
    gate.say(b"{\n" * 20_000)
    _wait_for_an_answer(gate)
    gate.process.send_signal(signal.SIGTERM)
    assert gate.process.wait(SECONDS) == 0
    assert _counted(folder) == 1


def test_an_answer_that_takes_many_turns_to_write_comes_whole(gate):
    gate.ask(_call("look"))
    fcntl.fcntl(gate.answers, fcntl.F_SETPIPE_SZ, 4_096)
    listed = gate.ask('{"jsonrpc": "2.0", "id": 8, "method": "tools/list"}')
    assert len(json.dumps(listed)) > 3 * 4_096
    assert gate.ask(_call("look"))["result"]["content"][0]["text"] == "looked"


def test_what_was_asked_last_is_answered_before_a_gate_whose_agent_leaves_ends(gate):
    gate.say(b"{\n")
    gate.process.stdin.close()
    assert json.loads(gate.answers.readline())["error"]["code"] == -32700
    assert gate.process.wait(SECONDS) == 0


def test_what_comes_last_is_a_line_although_its_break_is_missing(gate):
    gate.say(b"{")
    gate.process.stdin.close()
    assert json.loads(gate.answers.readline())["error"]["code"] == -32700


def test_a_line_without_end_is_not_kept_and_is_answered(gate):
    much = "a" * 40_000_000
    named = '"method": "tools/call", "params": {"name": "look", "arguments": {"x": "' + much + '"}}'
    long = {"code": -32600, "message": "what came is a message of more than 4,194,304 bytes"}
    first = gate.ask('{"jsonrpc": "2.0", "id": 5, ' + named + "}")
    last = gate.ask("{" + named + ',"jsonrpc":"2.0","id":6}')
    ours = gate.ask('{"jsonrpc": "2.0", "id": 5, "result": {"x": "' + much + '"}}')
    told = [(one["id"], one["error"]) for one in (first, last, ours)]
    assert told == [(5, long), (6, long), (None, long)]
    assert gate.ask(_call("look"))["result"]["content"][0]["text"] == "looked"
    kept = Path(f"/proc/{gate.process.pid}/status").read_text(encoding="utf-8")
    assert int(kept.split("VmHWM:")[1].split()[0]) * 1_024 < 4 * len(much)


def test_an_agent_that_takes_no_answers_is_heard_no_further_until_it_does(gate):
    ping = b'{"jsonrpc": "2.0", "id": 7, "method": "ping"}\n'
    os.set_blocking(gate.process.stdin.fileno(), False)
    asked, untaken = ping * 20_000, 0
    while select.select([], [gate.process.stdin], [], 0.5)[1] and untaken < len(asked):
        untaken += os.write(gate.process.stdin.fileno(), asked[untaken:])
    assert untaken < len(asked) / 2
    os.set_blocking(gate.process.stdin.fileno(), True)
    threading.Thread(target=gate.say, args=(asked[untaken:],)).start()
    assert all(json.loads(gate.answers.readline())["result"] == {} for _ in range(20_000))


@pytest.mark.parametrize(("closed", "name"), [("<&-", "input"), (">&-", "output")])
def test_a_gate_with_nobody_at_its_pipe_says_so(folder, closed, name):
    command = f"{VMSTATE} gate --as agent:7 -- {sys.executable} {ODD} plain {closed}"
    done = subprocess.run(["sh", "-c", command], cwd=folder, stderr=subprocess.PIPE, check=False)
    said = f"error: standard {name} is closed: over stdio an agent has to be there\n"
    assert (done.returncode, done.stderr.decode()) == (2, said)


def test_a_gate_whose_answers_nobody_reads_any_more_ends(gate, folder):
    gate.answers.close()
    gate.say(f"{_call('look')}\n".encode())
    gate.process.wait(SECONDS)  # with which code does not matter: nobody is there
    assert _counted(folder) == 1


def _wait_for_an_answer(gate):
    until = time.monotonic() + SECONDS
    while not _unread(gate.answers):
        assert time.monotonic() < until
        time.sleep(0.01)


def _unread(pipe):
    return struct.unpack("i", fcntl.ioctl(pipe, termios.FIONREAD, bytes(4)))[0]


def _counted(folder):
    """How many receipts there are of what was counted until then."""
    vm = Authority.open(folder / "constitution.toml", folder / "vmstate.db")
    counted = vm.receipts(type_="tool_call")
    vm.close()
    return len(counted)


def test_what_is_no_message_has_an_answer_and_the_next_call_too(gate):
    surrogate = _call("look").replace('"look"', '"look\\ud800"')
    deep = '{"jsonrpc": "2.0", "id": 7, "params": ' + "[" * 5_000 + "]" * 5_000 + "}"
    digits = '{"jsonrpc": "2.0", "id": ' + "9" * 6_000 + ', "method": "ping"}'
    bad = {"code": -32600, "message": "what came is no message that can be read"}
    assert gate.ask(surrogate) == {"jsonrpc": "2.0", "id": 7, "error": bad}
    assert gate.ask('{"jsonrpc": "2.0", "id": 7}') == {"jsonrpc": "2.0", "id": None, "error": bad}
    none = {"code": -32700, "message": "what came is no JSON that can be read"}
    for line in (deep, digits, "{"):
        assert gate.ask(line) == {"jsonrpc": "2.0", "id": None, "error": none}
    assert gate.ask(_call("look"))["result"]["content"][0]["text"] == "looked"


def _call(name):
    asked = {"name": name, "arguments": {}}
    return json.dumps({"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": asked})

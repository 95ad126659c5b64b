"""`vmstate run`: processes on the machine's time; few, because a lease lasts a second."""

import json
import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from vmstate.authority import Authority
from vmstate.constitution.loading import load_constitution
from vmstate.ledger.store import DrillMark

VMSTATE = Path(sys.executable).with_name("vmstate")
PATIENCE = 20  # seconds: far beyond what any of these takes


def start(folder, script, *options, **settings):
    words = [VMSTATE, "run", "operator", "--as", "bob", "--reason", "ticket 4712: restart"]
    return subprocess.Popen(
        [*words, *options, "--", "sh", "-c", script],
        cwd=folder.path,
        text=True,
        **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **settings},
    )


def done(process):
    out, err = process.communicate(timeout=PATIENCE)
    return out, err, process.returncode


def await_file(path):
    until = time.monotonic() + PATIENCE
    while not path.exists() or not path.read_text().strip():
        assert time.monotonic() < until, f"no {path.name}"
        time.sleep(0.005)
    return path.read_text().strip()


def is_gone(pid):
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.005)
    return False


def test_a_command_runs_under_a_lease_of_its_own_and_hands_its_code_on(live):
    script = "cat; env | grep -c ^VMSTATE_; echo $VMSTATE_LEASE $VMSTATE_PRINCIPAL; exit 7"
    process = start(live, script, stdin=subprocess.PIPE)
    out, err = process.communicate("piped\n", timeout=PATIENCE)
    assert process.returncode == 7
    assert out == "piped\n3\nlease-3 bob\n"
    granted, receipt, ended, receipt_of_end = err.splitlines()
    assert granted.startswith("lease-3: bob is operator until ")
    assert receipt.startswith("  receipt 3  sha256:")
    assert ended == "lease-3 ended by operator_release"
    assert receipt_of_end.startswith("  receipt 4  sha256:")
    assert '"why":"exit 7"' in live.ok("vmstate receipts show 4 --json").replace(": ", ":")


def test_at_its_end_nothing_of_it_is_left(live):
    """It ignores TERM, and so does what it put into another session."""
    stubborn = "trap '' TERM; echo $$ > {0}; while :; do sleep 0.01; done"
    inner = stubborn.format("far")
    script = f'setsid sh -c "{inner.replace("$", chr(92) + "$")}" & {stubborn.format("near")}'
    out, err, code = done(start(live, script, "--ttl", "1s"))
    assert (out, code) == ("", 124)
    assert "the command was ended: its lease is over\n" in err
    assert "lease-3 ended by timeout_expired\n" in err
    for name in ("near", "far"):
        assert is_gone(int((live.path / name).read_text()))
    assert "intact" in live.ok("vmstate audit")


def test_killed_itself_it_takes_along_the_command_and_what_that_moved_elsewhere(live):
    lasting = "echo $$ > {0}; while :; do sleep 0.01; done"
    inner = lasting.format("far").replace("$", chr(92) + "$")
    process = start(live, f'setsid sh -c "{inner}" & {lasting.format("near")}')
    pids = [int(await_file(live.path / name)) for name in ("near", "far")]
    process.kill()
    process.communicate(timeout=PATIENCE)
    assert all(is_gone(pid) for pid in pids)


@pytest.mark.parametrize("held", ["$PPID", "$(awk '{print $4}' /proc/$PPID/stat)"])
def test_a_command_that_stops_what_watches_it_ends_with_its_lease_all_the_same(live, held):
    script = f"trap '' TERM; echo $$ > pid; who={held}; while :; do kill -STOP $who; done"
    _, err, code = done(start(live, script, "--ttl", "1s"))
    assert code == 124
    assert "lease-3 ended by timeout_expired\n" in err
    assert is_gone(int((live.path / "pid").read_text()))


def test_a_command_that_kills_its_keeper_is_gone_with_all_that_it_started(live):
    script = 'setsid sh -c "echo \\$\\$ > far; sleep 100" & sleep 0.2; kill -9 $PPID; sleep 100'
    _, err, code = done(start(live, script))
    assert code == 128 + signal.SIGKILL
    assert "lease-3 ended by operator_release" in err
    assert is_gone(int((live.path / "far").read_text()))


def test_told_to_stop_it_tells_the_command_and_gives_back(live):
    process = start(live, "trap 'exit 5' TERM; echo $$ > pid; while :; do sleep 0.01; done")
    await_file(live.path / "pid")
    process.send_signal(signal.SIGTERM)
    _, err, code = done(process)
    assert code == 5
    assert "lease-3 ended by operator_release" in err


def test_on_a_terminal_the_keys_reach_the_command_and_it_does_not_stop(live):
    script = "trap 'echo heard; exit 3' INT; echo $$ > pid; while :; do sleep 0.01; done"
    child, terminal = pty.fork()
    if child == 0:
        os.chdir(live.path)
        words = ["vmstate", "run", "operator", "--as", "bob", "--reason", "ticket 4712: restart"]
        os.execv(VMSTATE, [*words, "--", "sh", "-c", script])  # noqa: S606 -- our own
    pid = int(await_file(live.path / "pid"))
    assert os.getpgid(pid) == os.getpgid(child)
    os.write(terminal, b"\x1a")  # Ctrl-Z
    seen = b""
    while b"a lease does not stop" not in seen:
        seen += os.read(terminal, 4_096)
    os.write(terminal, b"\x03")  # Ctrl-C
    try:
        while part := os.read(terminal, 4_096):
            seen += part
    except OSError:
        pass  # Linux ends a terminal whose other side is closed with an error
    _, status = os.waitpid(child, 0)
    os.close(terminal)
    assert os.waitstatus_to_exitcode(status) == 3
    assert b"heard" in seen
    assert b"lease-3 ended by operator_release" in seen


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        ("run guardian --as bob -- true", 3, "denied by "),
        ("run operator --as bob -- nonono", 127, "nonono is no command; nothing was asked"),
        ("run operator --as bob -- ./law.txt", 126, "./law.txt can't be executed; nothing was"),
        ("run operator --as bob", 2, "Missing argument '-- CMD…'"),
        ("run operator --as bob --grace soon -- true", 2, "'soon' is not a duration"),
        ("run operator --as alice -- true", 3, "[already_held]"),
    ],
)
def test_what_can_not_be_run_is_not_run(live, words, code, told):
    live.write("law.txt", "text")
    seen = live.run(f"vmstate {words}")
    assert (seen.out, seen.code) == ("", code)
    assert told in seen.err


def test_what_the_machine_can_not_begin_gives_its_lease_back(live):
    live.write("odd", "\0\1 of another machine")
    (live.path / "odd").chmod(0o755)
    seen = live.run("vmstate run operator --as bob --reason 'ticket 4712' -- ./odd")
    assert seen.code == 126
    assert "./odd can't be run: Exec format error\n" in seen.err
    assert "ended by operator_release" in seen.err


def test_a_drills_authority_runs_nothing_real(folder):
    drilled = folder.path / "drill.db"
    law = load_constitution(Path(__file__).parents[1] / "shared" / "short.toml")
    mark = DrillMark("d", "DRILL/", f"sha256:{'d' * 64}", {})
    Authority.create(law, drilled, drill=mark).close()
    folder.write("constitution.toml", law.toml.decode())
    seen = folder.run("vmstate --ledger drill.db run operator --as u:a --trigger asked -- true")
    assert seen.code == 2
    assert "is a drill's ledger: its authority runs nothing real" in seen.err


def test_as_json_the_receipts_are_lines_on_standard_error(live):
    out, err, code = done(start(live, "echo hello", "--json"))
    assert (out, code) == ("hello\n", 0)
    granted, ended = (json.loads(line)["receipt"] for line in err.splitlines())
    assert (granted["type"], ended["type"]) == ("profile_escalation", "profile_deescalation")
    assert ended["why"] == "exit 0"

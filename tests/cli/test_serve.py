"""`serve`, as the process that it is: on time, gone when told, and nothing lost when killed."""

import json
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import closing, suppress
from datetime import timedelta
from pathlib import Path

import pytest

from vmstate.client import Client
from vmstate.errors import LedgerUnavailable

VMSTATE = Path(sys.executable).with_name("vmstate")
PATIENCE_SECONDS = 10.0  # far beyond what holds, so that only a failure waits so long


@pytest.fixture
def short(folder):
    """A constitution whose one lease lasts a second, on the machine's own time."""
    folder.at(None)
    folder.ok("vmstate init")
    folder.replace("constitution.toml", 'ttl      = "1h"', 'ttl      = "1s"')
    folder.ok("vmstate init")
    return folder


@pytest.fixture
def serving(short):
    """A service that has said that it runs; it is gone when the test is over."""
    running = []

    def start(*words, stderr=subprocess.PIPE, warns=False):
        process = subprocess.Popen(
            [VMSTATE, "serve", *words],
            cwd=short.path,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
        )
        running.append(process)
        said = process.stderr or process.stdout
        warned = 3 if warns else 0
        assert "giving back on time" in [said.readline() for _ in range(warned + 1)][-1]
        return process

    yield start
    for process in running:
        process.kill()
        process.communicate()


def climb(folder, who="alice"):
    line = ["escalate", "operator", "--as", who, "--reason", "one second is enough", "--json"]
    return json.loads(folder.vmstate(*line).out)["receipt"]["what"]["lease"]


def until(holds):
    """Ask now and then, and leave the machine to those who are waited for."""
    began = time.monotonic()
    while not holds():
        assert time.monotonic() - began < PATIENCE_SECONDS
        time.sleep(0.05)


def ends(folder):
    lines = folder.ok("vmstate receipts list --type profile_deescalation --json").splitlines()
    return [json.loads(line) for line in lines]


def test_a_lease_of_one_second_is_given_back_with_a_line_of_its_own(short, serving):
    process = serving()
    lease = climb(short)
    line = process.stdout.readline()
    assert line.endswith(
        f" profile_deescalation alice {lease} operator to observer, timeout_expired\n"
    )
    (end,) = ends(short)
    assert end["what"]["ended_via"] == "scheduler"
    assert end["due"] == end["what"]["expires_at"]
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=PATIENCE_SECONDS)
    assert err == "stopped; what is still owed stays due\n"


def test_a_line_says_only_what_its_receipt_does(short, serving):
    process = serving("--socket", "s.sock")
    words = ("act", "reboot", "--as", "nobody", "--socket", "s.sock")
    assert short.vmstate(*words).code == 3
    assert process.stdout.readline().endswith(" auth_failure nobody (not proven) reboot\n")


def test_with_json_each_line_is_the_receipt_itself(short, serving):
    process = serving("--json")
    climb(short)
    said = json.loads(process.stdout.readline())
    assert said == ends(short)[0]


def test_what_was_owed_before_is_given_back_at_the_start(short, serving):
    short.replace("constitution.toml", '"alice", "bob"', '"alice", "bob", "carol"')
    short.ok("vmstate init")
    lease = climb(short)
    until(lambda: short.run("vmstate may alice operator").code == 3)  # it lasts a second
    process = serving(stderr=subprocess.STDOUT)  # the first line says that it serves
    assert lease in process.stdout.readline()
    assert ends(short)[0]["what"]["ended_via"] == "start_up"


@pytest.mark.parametrize("signal_", [signal.SIGTERM, signal.SIGINT])
def test_it_ends_within_two_seconds_of_being_told(signal_, short, serving):
    taken = []
    while len(taken) < 3 and not any(seconds < 2.0 for seconds in taken):
        # Once is enough: on a machine that is busy with something else any process may be late.
        process = serving()
        climb(short, f"agent:{len(taken)}")
        told = time.monotonic()
        process.send_signal(signal_)
        process.communicate(timeout=PATIENCE_SECONDS)
        taken.append(time.monotonic() - told)
        assert process.returncode == 0
    assert min(taken) < 2.0


def test_told_to_stop_many_times_it_stops(serving):
    process = serving()
    with suppress(ProcessLookupError):
        for _ in range(60):  # each may come in the middle of what the one before it does
            process.send_signal(signal.SIGTERM)
            time.sleep(0.00005)
    process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == 0


def test_killed_it_loses_nothing_and_the_next_one_goes_on(short, serving):
    process = serving()
    climb(short)
    climb(short, "bob")
    before = short.sizes()["vmstate.db"]
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert short.sizes()["vmstate.db"] >= before
    assert short.run("vmstate audit").code == 0
    after = serving()
    while len(ends(short)) < 2:
        assert after.stdout.readline()
    assert short.run("vmstate audit").code == 0


def test_a_reader_gone_stops_no_giving_back(short, serving):
    process = serving()
    process.stdout.close()
    climb(short)
    until(lambda: ends(short))
    process.terminate()
    assert process.wait(timeout=PATIENCE_SECONDS) == 0
    assert "stopped" in process.stderr.read()


def test_two_services_beside_each_other_give_back_once(short, serving):
    one, two = serving(), serving()
    climb(short)
    until(lambda: ends(short))
    for process in (one, two):
        process.terminate()
        process.communicate(timeout=PATIENCE_SECONDS)
    assert len(ends(short)) == 1
    assert short.run("vmstate audit").code == 0


def test_without_the_ledgers_key_it_says_so_instead_of_serving(short):
    (short.path / "vmstate.db.key").unlink()
    process = subprocess.Popen(
        [VMSTATE, "serve"], cwd=short.path, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL
    )
    first = process.stderr.readline().decode()
    process.kill()
    process.communicate()
    assert "put the log's key back" in first


def test_after_an_amendment_it_comes_back_although_its_file_is_the_old_one(short):
    short.ok("vmstate keys new carol -o carol.key >> constitution.toml")
    short.ok("vmstate keys new alice -o alice.key >> constitution.toml")
    short.ok("vmstate init")
    text = (short.path / "constitution.toml").read_text(encoding="utf-8")
    short.write("new.toml", text.replace('ttl      = "1s"', 'ttl      = "2s"'))
    short.ok("vmstate amend new.toml --as alice -o request")
    short.ok("vmstate sign request --key carol.key -o approval")
    short.ok("vmstate amend new.toml --request request --approval approval --key alice.key")
    process = subprocess.Popen(
        [VMSTATE, "serve"], cwd=short.path, stderr=subprocess.PIPE, text=True
    )
    said = [process.stderr.readline() for _ in range(4)]
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=PATIENCE_SECONDS)
    assert said[0].startswith("warning: constitution.toml decides nothing here: ")
    assert said[0].endswith("is an earlier law of vmstate.db\n")
    assert "giving back on time" in said[3]
    assert process.returncode == 0


def test_it_gives_back_on_time_although_the_constitutions_file_is_broken(short, serving):
    lease = climb(short)
    short.write("constitution.toml", "what is this")
    process = serving(warns=True)
    assert lease in process.stdout.readline()


def test_a_drills_ledger_is_not_served(short):
    drill = short.write(
        "mine.drill.toml",
        '[drill]\nid = "mine"\ntitle = "t"\nmarker = "DRILL/m"\nstart = "2030-01-01T00:00:00Z"\n'
        '[[step]]\nadvance = "1s"\n',
    )
    short.ok(f"vmstate drill run {drill.name} --keep kept")
    done = short.process([VMSTATE, "serve", "--ledger", "kept/mine.db"])
    assert done.code == 2
    assert done.err == "error: kept/mine.db is a drill's ledger: its time is the drill's\n"


def test_a_command_under_notify_is_told_of_an_end_on_time(short, serving):
    heard = short.path / "heard.json"
    table = f"""
[notify.pager]
command = ["/bin/sh", "-c", "cat > {heard}.new && mv {heard}.new {heard}"]
events  = ["ended"]
"""
    text = (short.path / "constitution.toml").read_text(encoding="utf-8")
    (short.path / "constitution.toml").write_text(text + table, encoding="utf-8")
    short.ok("vmstate init")
    process = serving()
    lease = climb(short)
    assert lease in process.stdout.readline()
    until(heard.exists)
    told = json.loads(heard.read_bytes())
    assert (told["type"], told["lease"], told["target"]) == ("vmstate.ended", lease, "pager")


def test_a_target_that_can_not_be_told_is_said_once_and_holds_up_nothing(short, serving):
    text = (short.path / "constitution.toml").read_text(encoding="utf-8")
    table = '\n[notify.pager]\ncommand = ["false"]\nevents  = ["ended"]\n'
    (short.path / "constitution.toml").write_text(text + table, encoding="utf-8")
    short.ok("vmstate init")
    process = serving()
    lease = climb(short)
    assert lease in process.stdout.readline()
    said = process.stderr.readline()
    assert said == "pager is behind: ended with exit code 1; trying again\n"


# ---- answering, and being a service of a machine ------------------------------------------------


def test_it_answers_at_a_socket_and_ends_in_time_though_somebody_waits_there(short, serving):
    bound = f'\n[principals.alice]\naccount = "{pwd.getpwuid(os.getuid()).pw_name}"\n'
    text = (short.path / "constitution.toml").read_text(encoding="utf-8")
    short.write("constitution.toml", text + bound)
    short.ok("vmstate init")
    process = serving("--socket", "vm.sock", "--socket-mode", "600")
    assert (short.path / "vm.sock").stat().st_mode & 0o777 == 0o600
    with closing(Client(short.path / "vm.sock")) as client:
        asked = {"trigger": "operator_request", "reason": "one second is enough"}
        lease = client.escalate("alice", "operator", **asked).lease
        assert lease in process.stdout.readline()
        waiting = threading.Thread(target=_wait, args=(client,))
        waiting.start()
        told = time.monotonic()
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=PATIENCE_SECONDS)
        assert time.monotonic() - told < 2.0
        waiting.join(PATIENCE_SECONDS)
        assert not waiting.is_alive()
    assert err == "stopped; what is still owed stays due\n"
    assert not (short.path / "vm.sock").exists()


@pytest.fixture
def bound(short):
    text = (short.path / "constitution.toml").read_text(encoding="utf-8")
    name = pwd.getpwuid(os.getuid()).pw_name
    short.write("constitution.toml", f'{text}\n[principals.alice]\naccount = "{name}"\n')
    short.ok("vmstate init")
    return short


def test_run_shows_the_receipt_of_its_end_by_time_as_the_service_writes_it(bound, serving):
    serving("--socket", "vm.sock")
    script = "trap '' TERM; while :; do sleep 0.05; done"
    words = ["--reason", "one second is enough", "--", "sh", "-c", script]
    done = bound.process([VMSTATE, "--socket", "vm.sock", "run", "operator", *words])
    assert done.code == 124
    assert "ended by timeout_expired\n" in done.err
    assert "owed" not in done.err


def test_whoever_follows_goes_on_when_the_service_starts_again(bound, serving):
    first = serving("--socket", "vm.sock")
    line = [VMSTATE, "--socket", "vm.sock", "receipts", "tail", "-f", "--json"]
    tail = subprocess.Popen(
        line, cwd=bound.path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert json.loads(tail.stdout.readline())["seq"] == 0
        first.send_signal(signal.SIGTERM)
        first.communicate(timeout=PATIENCE_SECONDS)
        assert tail.stderr.readline().endswith("; asked again until somebody does\n")
        serving("--socket", "vm.sock")
        with closing(Client(bound.path / "vm.sock")) as client:
            asked = {"trigger": "operator_request", "reason": "one second is enough"}
            granted = client.escalate("alice", "operator", **asked)
        seen = [json.loads(tail.stdout.readline()) for _ in range(granted.seq)]
        assert seen[-1]["what"]["lease"] == granted.lease
    finally:
        tail.kill()
        tail.communicate()


def _wait(client):
    with suppress(LedgerUnavailable):
        client.wait(client.version(), timedelta(minutes=1))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--socket", "vm.sock", "--socket-mode", "rw"], "'rw' is not a mode, write 660"),
        (["--socket", "constitution.toml"], "is there and is no socket"),
        (["--socket", "vm.sock", "--socket-group", "no-such"], "there is no group no-such"),
    ],
)
def test_a_socket_that_can_not_be_is_told_before_anything_is_served(words, message, short):
    done = short.run("vmstate serve " + " ".join(words))
    assert done.code == 2
    assert message in done.err


def test_a_service_manager_is_told_when_it_serves_and_when_it_stops(short):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(short.path / "notify"))
        manager.settimeout(PATIENCE_SECONDS)
        process = subprocess.Popen(
            [VMSTATE, "serve"],
            cwd=short.path,
            env={**os.environ, "NOTIFY_SOCKET": str(short.path / "notify")},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        assert manager.recv(64) == b"READY=1"
        process.terminate()
        assert manager.recv(64) == b"STOPPING=1"
        assert process.wait(PATIENCE_SECONDS) == 0


def test_the_unit_for_systemd_runs_this_program_and_systemd_finds_nothing_wrong_with_it(folder):
    done = folder.process([VMSTATE, "serve", "--print-unit"])
    assert done.code == 0
    assert f"ExecStart={VMSTATE} serve \\\n" in done.out
    assert "\nUser=vmstate\n" in done.out
    unit = folder.write("vmstate.service", done.out.replace("User=vmstate", "User=root"))
    if systemd := shutil.which("systemd-analyze"):
        checked = folder.process([systemd, "verify", "--man=no", unit])
        assert (checked.code, checked.out, checked.err) == (0, "", "")


def test_a_program_that_the_unit_could_not_see_is_told_of(folder, monkeypatch):
    hidden = "vmstate.interfaces.cli.unit.HIDDEN"
    monkeypatch.setattr(hidden, (str(folder.path.resolve()),))
    program = folder.path.resolve() / "vmstate"
    told = f"warning: the unit can't see {program}: install it elsewhere, such as /opt\n"
    done = folder.run("vmstate serve --print-unit")
    assert (done.code, done.err) == (0, told)
    assert "-- vmstate init --constitution /etc/vmstate/constitution.toml" in done.out
    monkeypatch.setattr(hidden, ())
    assert folder.run("vmstate serve --print-unit").err == ""


def test_the_unit_names_the_paths_that_were_given(folder):
    named = ["--constitution", "law.toml", "--ledger", "my ledgers/100%.db"]
    asked = [*named, "--socket", "/srv/vm.sock", "serve", "--print-unit", "--socket-mode", "600"]
    said = folder.process([VMSTATE, *asked]).out
    here = folder.path.resolve()
    assert f"serve \\\n    --constitution {here}/law.toml \\\n" in said
    assert f'    --ledger "{here}/my ledgers/100%%.db" \\\n' in said
    assert "    --socket /srv/vm.sock \\\n    --socket-mode 600\n" in said
    assert f'\nReadWritePaths="{here}/my ledgers" /srv\n' in said
    assert f"--ledger '{here}/my ledgers/100%.db'\n" in said  # in the comment, for a shell
    assert "/etc/vmstate" not in said
    if systemd := shutil.which("systemd-analyze"):
        unit = folder.write("vmstate.service", said.replace("User=vmstate", "User=root"))
        checked = folder.process([systemd, "verify", "--man=no", unit])
        assert (checked.code, checked.out, checked.err) == (0, "", "")


def test_the_unit_knows_the_paths_of_the_environment_too(folder):
    said = folder.run("VMSTATE_LEDGER=/srv/v/one.db vmstate serve --print-unit").out
    assert "    --ledger /srv/v/one.db \\\n    --socket /run/vmstate/vmstate.sock\n" in said
    assert "    --constitution /etc/vmstate/constitution.toml \\\n" in said

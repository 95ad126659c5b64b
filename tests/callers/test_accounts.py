"""Accounts of the machine as the kernel tells them: the service under its own, others asking it.

Takes root, to become somebody else. Elsewhere these tests are left out, loudly; with
VMSTATE_REQUIRE_ACCOUNTS=1 that is a failure.
"""

import json
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, closing, suppress
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

import vmstate
from vmstate.authority import Authority
from vmstate.constitution.loading import load_constitution
from vmstate.constitution.people import Caller
from vmstate.decisions.command import Escalate, make_command
from vmstate.keys import PrivateKey
from vmstate.ledger.audit import audit_ledger
from vmstate.ledger.store import Ledger
from vmstate.sockets import account_of

HERE = Path(__file__).parent
REASON = "look at ticket 4711"
PATIENCE_SECONDS = 20.0
UNNAMED = "54321"


class Accounts:
    """Whoever this process may become, which takes root."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-B", str(HERE / "as_account.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(Path(vmstate.__file__).parents[1])},
        )

    def ask(self, account: str, *words: str | Path, waits: bool = True, **env: str) -> Any:
        asked = {"account": account, "words": [*map(str, words)], "env": env, "waits": waits}
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(asked) + "\n")
        self.process.stdin.flush()
        answer = json.loads(self.process.stdout.readline())
        assert not waits or answer[0] >= 0, answer[2]
        return answer

    def hears(self) -> str:
        """What somebody says who is not waited for."""
        assert self.process.stderr is not None
        return self.process.stderr.readline()

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()


class Machine:
    """A service under its own account, and shells of an agent, a person and a stranger."""

    def __init__(self, accounts: Accounts, closing: ExitStack) -> None:
        names = [one.pw_name for one in pwd.getpwall() if 0 < one.pw_uid < 1_000]
        self.owner, self.agent, self.person, self.stranger = names[:4]
        self.place = Path(tempfile.mkdtemp(prefix="vmstate-"))
        closing.callback(shutil.rmtree, self.place)
        self.place.chmod(0o755)
        for name, mode in (("ledger", 0o700), ("run", 0o755)):
            (self.place / name).mkdir(mode=mode)
        self.ledger, self.socket = self.place / "ledger" / "vmstate.db", self.place / "run" / "s"
        self.law = self.place / "constitution.toml"
        preset = files("vmstate.constitution") / "presets" / "starter.toml"
        self.law.write_text(
            preset.read_text(encoding="utf-8")
            + f'\n[principals.alice]\naccount = "{self.person}"\n'
            + f'\n[principals."agent:7"]\naccount = "{self.agent}"\n'
            + f'\n[principals.carol]\nkey = "{PrivateKey.derive("carol").public}"\n'
            + "\n[callers]\nhost = false\n",
            encoding="utf-8",
        )
        self.law.chmod(0o644)
        Authority.create(load_constitution(self.law), self.ledger).close()
        for path in (self.ledger.parent, *self.ledger.parent.iterdir(), self.socket.parent):
            shutil.chown(path, self.owner, pwd.getpwnam(self.owner).pw_gid)
        where = ["--constitution", self.law, "--ledger", self.ledger, "--socket", self.socket]
        self.accounts = accounts
        self.service = self.begin(self.owner, *where, "serve", "--socket-mode", "666")
        closing.callback(stop, self.service)
        said = accounts.hears()
        assert f"giving back on time, answering at {self.socket}" in said, said

    def begin(self, who: str, *words: str | Path) -> int:
        """Run `vmstate` as an account of the machine, and wait for nothing."""
        pid: int = self.accounts.ask(who, *words, waits=False, **self.there)
        return pid

    def vm(self, who: str, *words: str, **settings: str) -> tuple[int, str, str]:
        """Run `vmstate` as an account of the machine."""
        code, out, err = self.accounts.ask(who, *words, **{**self.there, **settings})
        return code, out, err

    @property
    def there(self) -> dict[str, str]:
        there = {"VMSTATE_SOCKET": self.socket, "VMSTATE_LEDGER": self.ledger}
        return {name: str(path) for name, path in there.items()} | {
            "VMSTATE_CONSTITUTION": str(self.law)
        }

    def newest(self) -> dict:
        _, out, _ = self.vm(self.person, "receipts", "tail", "-n", "1", "--json")
        return json.loads(out)


def stop(pid: int) -> None:
    """Kill what may be gone already."""
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


@pytest.fixture(scope="module")
def others(accounts):  # noqa: ARG001 -- whether there may be any is asked first
    with closing(Accounts()) as others:
        yield others


@pytest.fixture(scope="module")
def machine(others):
    with ExitStack() as closing:
        yield Machine(others, closing)


def test_who_asks_is_the_account_and_the_receipt_says_so(machine):
    code, out, err = machine.vm(machine.agent, "escalate", "operator", "--reason", REASON)
    assert (code, out.startswith("lease-"), err.startswith("  receipt ")) == (0, True, True)
    assert machine.newest()["who"] == {
        "actor": "agent:7",
        "principal": "agent:7",
        "proof": "peer",
    }
    code, out, _ = machine.vm(machine.person, "status", "agent:7")
    assert (code, "operator" in out) == (0, True)
    lease = out.split("\t")[4]
    # Somebody else's lease is none of theirs, though they are somebody too.
    code, _, err = machine.vm(machine.person, "release", lease)
    assert (code, "[unknown_lease]" in err) == (3, True)
    assert machine.vm(machine.agent, "release", lease)[0] == 0


@pytest.mark.parametrize(
    ("words", "settings"),
    [
        (("--as", "carol"), {}),
        ((), {"VMSTATE_PRINCIPAL": "carol"}),
        ((), {"VMSTATE_PRINCIPAL": "carol", "USER": "root", "LOGNAME": "root", "SUDO_UID": "0"}),
    ],
)
def test_a_name_that_the_account_is_not_bound_to_is_refused_whatever_is_said(
    words, settings, machine
):
    asked = ("escalate", "operator", "--reason", REASON, *words)
    code, _, err = machine.vm(machine.agent, *asked, **settings)
    assert code == 3
    said = f"the account {machine.agent} asks as carol, may ask as agent:7  [not_caller]"
    assert said in err
    receipt = machine.newest()
    assert (receipt["type"], receipt["who"]["proof"]) == ("auth_failure", "none")
    assert machine.agent in receipt["authority"]["unmet"][0]["given"]


@pytest.mark.parametrize("who", ["stranger", UNNAMED])
def test_an_account_bound_to_nobody_may_read_nothing_and_ask_for_nothing(who, machine):
    account, shown = (who, f"#{who}") if who == UNNAMED else (machine.stranger, machine.stranger)
    for words in (("status",), ("receipts", "list"), ("may", "agent:7", "operator")):
        code, out, err = machine.vm(account, *words)
        assert (code, out) == (3, "")
        assert f"the account {shown} is nobody under [principals], and may read nothing" in err
    asked = ("escalate", "operator", "--as", "alice", "--reason", REASON)
    code, _, err = machine.vm(account, *asked)
    assert code == 3
    assert f"the account {shown} asks as alice, may ask as nobody  [not_caller]" in err


def test_what_a_stranger_hands_in_is_done_if_somebody_signed_it(machine):
    code, out, _ = machine.vm(machine.agent, "escalate", "operator", "--reason", REASON)
    assert code == 0
    lease = out.partition(":")[0]
    key = machine.place / "carol.key"
    PrivateKey.derive("carol").save(key)
    key.chmod(0o644)
    asked = ("revoke", lease, "--as", "carol", "--key", str(key))
    code, _, err = machine.vm(machine.stranger, *asked)
    assert code == 0, err
    assert machine.newest()["who"]["proof"] == "key"


def test_the_ledgers_file_its_key_and_the_sockets_place_are_the_services_alone(machine):
    for who in (machine.agent, machine.person):
        code, _, err = machine.vm(who, "status", VMSTATE_SOCKET="")
        assert code != 0
        assert "Traceback" not in err
    owner = pwd.getpwnam(machine.owner).pw_uid
    for path in (machine.ledger, machine.ledger.with_name("vmstate.db.key")):
        assert (path.stat().st_uid, path.stat().st_mode & 0o077) == (owner, 0)
    # Nobody but its owner can put another socket in its place.
    assert (machine.socket.parent.stat().st_uid, machine.socket.parent.stat().st_mode & 0o022) == (
        owner,
        0,
    )


@pytest.mark.parametrize(("uid", "name"), [(65_534, "#65534"), (int(UNNAMED), f"#{UNNAMED}")])
@pytest.mark.usefixtures("accounts")
def test_the_account_of_everybody_whom_the_kernel_can_not_tell_is_nobodys(uid, name):
    """A name for it stands in /etc/passwd; a constitution could bind it, and so anybody."""
    place = Path(tempfile.mkdtemp(prefix="vmstate-"))
    place.chmod(0o777)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(place / "s"))
        (place / "s").chmod(0o666)
        listener.listen()
        code = (
            f"import os, socket; os.setuid({uid}); s = socket.socket(socket.AF_UNIX); "
            f"s.connect({str(place / 's')!r}); s.recv(1)"
        )
        process = subprocess.Popen([sys.executable, "-c", code])
        connection, _ = listener.accept()
        with connection:
            assert account_of(connection) == name
        assert process.wait(PATIENCE_SECONDS) == 0
    shutil.rmtree(place)


def test_the_service_ends_within_two_seconds_of_being_told_though_clients_wait(others):
    with ExitStack() as closing:
        machine = Machine(others, closing)
        closing.callback(stop, machine.begin(machine.agent, "receipts", "tail", "-f"))
        idle = socket.socket(socket.AF_UNIX)
        closing.callback(idle.close)
        idle.connect(str(machine.socket))
        assert machine.vm(machine.agent, "status")[0] == 0
        began = time.monotonic()
        os.kill(machine.service, signal.SIGTERM)
        while "stopped; what is still owed stays due" not in others.hears():
            pass  # others speak here too
        assert time.monotonic() - began < 2.0
        code, _, err = machine.vm(machine.agent, "status")
        assert (code, "nobody answers at" in err) == (6, True)
        assert not machine.socket.exists()


def test_who_has_the_services_own_account_can_write_what_they_like(tmp_path):
    """What no account can help against, told as it is: the log's key signs whatever it is given.

    Only a checkpoint that was kept elsewhere shows what was rewritten, and only what was.
    """
    law = tmp_path / "constitution.toml"
    preset = files("vmstate.constitution") / "presets" / "starter.toml"
    text = preset.read_text(encoding="utf-8") + "\n[callers]\nhost = false\n"
    text += '[principals.alice]\naccount = "ann"\n'
    law.write_text(text, encoding="utf-8")
    Authority.create(load_constitution(law), tmp_path / "vmstate.db").close()
    vm = Authority(load_constitution(law), Ledger.open(tmp_path / "vmstate.db"), serving=True)
    asked = {"principal": "alice", "to": "operator", "trigger": "operator_request"}
    said = make_command(Escalate, {**asked, "reason": REASON, "proven": "peer"})
    denied = vm.submit(said)
    assert [one.code for one in denied.unmet] == ["not_proven"]
    forged = vm.submit(said.model_copy(update={"caller": Caller("ann")}))
    assert forged.fields["who"]["proof"] == "peer"
    assert audit_ledger(vm.ledger).findings == ()
    vm.close()


# ---- who may read the file -------------------------------------------------------------------

READS = ("status", "audit", "receipts list", "may alice operator", "watch --once", "request list")


@pytest.fixture
def shared(others):
    """A ledger that its owner lets everybody read, in a folder that is the owner's to write."""
    with ExitStack() as closing:
        place = Path(tempfile.mkdtemp(prefix="vmstate-"))
        closing.callback(shutil.rmtree, place)
        owner, reader = [one.pw_name for one in pwd.getpwall() if 0 < one.pw_uid < 1_000][:2]
        preset = files("vmstate.constitution") / "presets" / "starter.toml"
        (place / "constitution.toml").write_bytes(preset.read_bytes())
        Authority.create(load_constitution(place / "constitution.toml"), place / "l.db").close()
        for path in (place, *place.iterdir()):
            shutil.chown(path, owner)
        place.chmod(0o755)
        (place / "l.db").chmod(0o644)
        named = (("CONSTITUTION", "constitution.toml"), ("LEDGER", "l.db"))
        env = {f"VMSTATE_{name}": str(place / path) for name, path in named}

        def write():
            asked = ("escalate", "operator", "--as", "alice", "--reason", REASON)
            others.ask(owner, *asked, **env)

        def read(line):
            return others.ask(reader, *line.split(), **env)

        yield place / "l.db", write, read


def test_who_may_read_the_ledgers_file_reads_and_audits_it_and_writes_nothing(shared):
    ledger, write, read = shared
    write()
    before = ledger.read_bytes()
    for line in READS:
        code, out, err = read(line)
        assert code == 0, f"{line}: {out}{err}"
    assert "1 open lease: intact" in read("audit")[1]
    code, _, err = read("release lease-1")
    assert code == 6
    assert "reading and auditing go on without it" in err
    assert ledger.read_bytes() == before


def test_they_read_while_somebody_writes_and_after_that_one_was_killed(shared):
    ledger, write, read = shared
    write()
    holder = f"""
import os, sys
from vmstate.authority import Authority
vm = Authority.open(None, {str(ledger)!r})
vm.escalate("bob", "operator", trigger="operator_request", reason="{REASON}")
print("held", flush=True)
sys.stdin.read()
"""
    with subprocess.Popen(
        [sys.executable, "-c", holder], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        assert "2 open leases: intact" in read("audit")[1]
        process.kill()
    assert "2 open leases: intact" in read("audit")[1]
    write()
    assert "2 open leases: intact" in read("audit")[1]


def test_the_file_alone_is_the_whole_ledger_once_who_wrote_it_is_done(shared, tmp_path):
    ledger, write, _ = shared
    write()
    shutil.copy(ledger, tmp_path / "alone.db")
    with closing(Ledger.open(tmp_path / "alone.db")) as alone:
        assert audit_ledger(alone).size == 2


def test_what_else_it_takes_to_read_is_said(shared):
    ledger, write, read = shared
    for suffix in ("-wal", "-shm"):
        ledger.with_name(f"l.db{suffix}").unlink(missing_ok=True)
    code, _, err = read("status")
    assert code == 6
    assert "reads it while l.db-wal and l.db-shm are there and may be read too" in err
    write()
    assert read("status")[0] == 0


def test_a_ledger_that_only_its_owner_reads_keeps_no_files_beside_it(shared):
    ledger, write, read = shared
    ledger.chmod(0o600)
    write()
    assert not ledger.with_name("l.db-wal").exists()
    code, _, err = read("status")
    assert code == 2
    assert "l.db' is not readable" in err

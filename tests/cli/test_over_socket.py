"""Every command asks `vmstate serve` where a socket is named, and answers as it does otherwise."""

import io
import json
import os
import pwd
import sys
from contextlib import ExitStack, closing
from datetime import timedelta
from pathlib import Path

import pytest
from rich.console import Console

from vmstate.authority import Authority
from vmstate.client import Client
from vmstate.expiry import Expiry
from vmstate.interfaces.cli.watch import Frame, draw
from vmstate.keys import PrivateKey, new_token, save_token, token_digest
from vmstate.ledger.receipt import Receipt
from vmstate.serving import Server
from vmstate.sockets import listening

VMSTATE = Path(sys.executable).with_name("vmstate")
HERE = pwd.getpwuid(os.getuid()).pw_name
READ = '"database.write"  = { profile = "guardian" }'
ACTS = (
    READ
    + """
"service.stop"      = { profile = "operator", scroll = "cognitive", receipt = "service_stop" }
"guardian.anchor"   = { profile = "operator", scroll = "guardian", receipt = "guardian_anchor" }
"treasury.allocate" = { profile = "operator", scroll = "treasury", receipt = "treasury_budget" }
"treasury.debit"    = { profile = "operator", scroll = "treasury", receipt = "treasury_debit" }"""
)
OPERATORS = 'operators = ["alice", "bob"]'
TOKEN = new_token()
BOUND = f"""
[callers]
host = false

[principals.alice]
account = "{HERE}"

[principals.bob]
token = "{token_digest(TOKEN)}"
"""


@pytest.fixture
def make(folder, monkeypatch):
    """A folder whose ledger a service owns; whoever runs the tests is Alice at its socket."""
    with ExitStack() as closing:

        def make(*, live=False):
            if live:
                folder.at(None)
            folder.ok("vmstate init")
            folder.ok("vmstate keys new carol -o carol.key >> constitution.toml")
            folder.ok("vmstate keys new dora -o dora.key >> constitution.toml")
            folder.replace("constitution.toml", OPERATORS, OPERATORS.replace("]", ', "dora"]'))
            folder.replace("constitution.toml", READ, ACTS)
            text = (folder.path / "constitution.toml").read_text(encoding="utf-8")
            folder.write("constitution.toml", text + BOUND)
            folder.ok("vmstate init")
            save_token(TOKEN, folder.path / "bob.token")
            vm = Authority.open("constitution.toml", "vmstate.db", serving=True)
            closing.callback(vm.close)
            server = Server(vm, closing.enter_context(listening(folder.path / "vm.sock")))
            server.start()
            closing.callback(server.stop)
            if live:
                expiry = Expiry(vm)
                expiry.start()
                closing.callback(expiry.stop)
            # Where it is asked there is nothing else that it could have asked.
            monkeypatch.setenv("VMSTATE_LEDGER", "none.db")
            monkeypatch.setenv("VMSTATE_CONSTITUTION", "none.toml")
            monkeypatch.setenv("VMSTATE_SOCKET", "vm.sock")
            return folder

        yield make


@pytest.fixture
def served(make):
    return make()


def newest(folder):
    return json.loads(folder.ok("vmstate receipts tail -n 1 --json"))


def test_a_lease_from_the_asking_to_the_end_of_it(served):
    said = served.ok('vmstate escalate operator --reason "ticket 4711: look" --ttl 10m')
    assert said == "lease-2: alice is operator until 2030-01-01 12:10:00Z (10m)\n"
    assert newest(served)["who"] == {"actor": "alice", "principal": "alice", "proof": "peer"}
    assert "alice\toperator\t2030-01-01 12:10:00Z\t10m\tlease-2" in served.ok("vmstate status")
    told = json.loads(served.ok("vmstate status alice --json"))
    assert (told["drill"], told["overdue"], told["size"]) == (False, False, 3)
    assert served.ok("vmstate may alice operator") == "yes\n"
    assert "yes, by operator_on_request" not in served.run("vmstate why guardian").out
    assert served.ok('vmstate renew lease-2 --reason "not done yet, go on"').startswith("lease-2:")
    assert "alice" in served.ok("vmstate graph --live")
    assert served.ok("vmstate release lease-2") == (
        "lease-2 ended by operator_release: alice is observer\n"
    )
    listed = served.ok("vmstate receipts list").splitlines()
    assert [line.split("\t")[0] for line in listed] == ["0", "1", "2", "3", "4"]
    assert served.ok("vmstate receipts list -n 2 --after 2").count("\n") == 2
    assert json.loads(served.ok("vmstate receipts show 2 --json"))["seq"] == 2


def test_what_an_approver_signed_is_handed_in_and_what_a_sovereign_may_is_signed(served):
    served.ok('vmstate escalate operator --reason "ticket 4711: look"')
    served.ok('vmstate request new guardian --reason "ticket 4711: mend" -o request')
    signing = "vmstate --constitution constitution.toml sign request --key carol.key -o approval"
    served.ok(signing)
    said = served.ok("vmstate escalate guardian --request request --approval approval")
    assert said.startswith("lease-3: alice is guardian")
    denied = served.run("vmstate revoke lease-3")
    assert denied.code == 3
    assert "ending_not_admitted" in denied.err
    served.ok("vmstate revoke lease-3 --as carol --key carol.key")
    assert newest(served)["who"] == {"actor": "carol", "principal": "alice", "proof": "key"}
    locked = served.ok("vmstate lock --all --as carol --key carol.key --reason 'all stop'")
    assert "everybody is locked" in locked
    assert "everybody" in served.ok("vmstate lock list")
    assert served.run("vmstate unlock lock-6").code == 3
    lock = json.loads(served.ok("vmstate lock list --json"))["locks"][0]["lock"]
    served.ok(f"vmstate unlock {lock} --as carol --key carol.key")


def test_what_a_key_forged_is_listed_as_nobodys_and_names_the_account(served):
    fake = PrivateKey.derive("nobody")
    with closing(Client("vm.sock")) as door:
        denied = door.lock("carol", reason="all stop", key=fake)
    named = f"the account {HERE} asks as carol, may ask as alice"
    assert denied.message.startswith("the order's signature by carol does not verify; ")
    assert named in denied.message
    fake.save(served.path / "fake.key")
    refused = served.run("vmstate lock --all --as carol --key fake.key --reason 'all stop'")
    whose = "it is nobody's by the constitution: sign with theirs"
    assert (refused.code, refused.err) == (
        2,
        f"error: fake.key is not the key of carol, {whose}\n",
    )
    (line,) = served.ok("vmstate receipts list --who carol").splitlines()
    assert line.split("\t")[2:4] == ["denied", "carol (not proven)"]
    receipt = Receipt.read(served.ok("vmstate receipts list --denied --json").strip().encode())
    rest = {"origin": "example", "baseline": "observer", "is_drill": False, "size": 3, "rows": ()}
    frame = Frame(at=receipt.at, latest=(receipt,), **rest)
    console = Console(width=240, file=io.StringIO())
    console.print(draw(frame))
    shown = console.file.getvalue()
    assert "carol (not proven)" in shown
    assert named in shown


def test_who_has_only_a_key_asks_for_themselves_with_it(make):
    served = make(live=True)
    dora = "--key dora.key"
    said = served.ok(f'vmstate escalate operator {dora} --reason "ticket 4711: look"')
    assert said.startswith("lease-2: dora is operator")
    assert newest(served)["who"] == {"actor": "dora", "principal": "dora", "proof": "key"}
    assert served.ok(f'vmstate renew lease-2 {dora} --reason "not done yet, go on"')
    opened = served.run(f'vmstate escalate guardian {dora} --wait --reason "ticket 4711: mend"')
    assert opened.code == 4
    assert newest(served)["who"]["proof"] == "key"
    denied = served.run(f"vmstate request activate {opened.out.strip()} {dora}")
    assert "requires approval" in denied.err
    assert newest(served)["who"]["proof"] == "key"
    served.ok(f"vmstate request withdraw {opened.out.strip()} {dora}")
    assert newest(served)["who"]["proof"] == "key"
    served.ok(f"vmstate release lease-2 {dora}")
    assert newest(served)["who"] == {"actor": "dora", "principal": "dora", "proof": "key"}
    asked = ["--key", "dora.key", "--reason", "ticket 4712: look"]
    ran = served.process([VMSTATE, "run", "operator", *asked, "--", "true"])
    assert ran.code == 0, ran.err
    assert newest(served)["who"] == {"actor": "dora", "principal": "dora", "proof": "key"}


def test_acts_and_budgets_are_asked_for_at_the_socket(served):
    served.ok('vmstate escalate operator --reason "ticket 4711: look"')
    done = served.ok("vmstate act service.stop --argument unit=nginx --reason 'it leaks'")
    assert done == "service.stop is on record: alice, under lease-2\n"
    said = newest(served)
    assert said["who"] == {"actor": "alice", "principal": "alice", "proof": "peer"}
    assert said["what"]["detail"] == {"unit": "nginx"}
    read = served.run("vmstate act logs.read")
    assert (read.code, "ask `may`: vmstate may alice logs.read" in read.err) == (2, True)
    assert "checkpoint of 4 receipts  sha256:" in served.ok("vmstate act guardian.anchor")
    served.ok("vmstate budget create ops --allocated 100 --unit credits")
    assert served.ok("vmstate budget debit ops 40") == "ops: 40 credits spent, 60 left\n"
    assert served.ok("vmstate budget list") == "ops\tops\tcredits\t100\t40\t60\n"
    denied = served.run("vmstate budget debit ops 61")
    assert denied.code == 3
    assert "  attempted 61 credits of ops, available 60, charged 0\n" in denied.err
    assert served.run("vmstate --token-file bob.token budget debit ops 1").code == 3


def test_a_lock_is_set_by_whose_key_signs_it(served):
    served.ok("vmstate lock --all --key carol.key --reason 'all stop'")
    lock = newest(served)
    assert lock["who"]["actor"] == "carol"
    served.ok(f"vmstate unlock {lock['what']['detail']['lock']} --key carol.key")
    assert newest(served)["who"]["actor"] == "carol"


def test_a_token_makes_its_holder_somebody_else(served, monkeypatch):
    asked = 'vmstate --token-file bob.token escalate operator --reason "ticket 4711: look"'
    assert served.ok(asked).startswith("lease-2: bob is operator")
    assert newest(served)["who"] == {"actor": "bob", "principal": "bob", "proof": "token"}
    monkeypatch.setenv("VMSTATE_TOKEN_FILE", "bob.token")
    assert served.run("vmstate release lease-2 --as alice").code == 3
    assert newest(served)["authority"]["unmet"][0]["code"] == "not_caller"
    assert served.ok("vmstate release lease-2").endswith("bob is observer\n")
    served.write("none.token", "vmt_no-token\n")
    failed = served.run("vmstate --token-file none.token status")
    assert (failed.code, failed.err) == (
        2,
        "error: none.token holds no token: make one with vmstate keys token\n",
    )
    save_token(new_token(), served.path / "lost.token")
    lost = served.run("vmstate --token-file lost.token status")
    assert (lost.code, lost.err) == (
        3,
        "error: the token is nobody's under the law in force: get another\n",
    )


@pytest.mark.parametrize("lease", ["lease-2", "lease-99"])
def test_anothers_lease_is_looked_after_no_better_than_one_that_never_was(lease, served):
    asked = 'vmstate --token-file bob.token escalate operator --reason "ticket 4711: look"'
    served.ok(asked)
    for line in (f"vmstate release {lease}", f"vmstate renew {lease} --reason 'let me keep it'"):
        done = served.run(line)
        assert done.code == 3
        said = f"  {lease} is no live lease that the caller may end or renew  [unknown_lease]\n"
        assert said in done.err


def test_a_recovery_is_prepared_and_refused_like_any_other(served):
    served.ok("vmstate recover --clock --reason 'the clock was mended' -o request")
    done = served.run("vmstate recover --clock --request request")
    assert done.code == 3
    assert "[no_regression]" in done.err
    assert "[not_proven]" not in done.err


def test_the_canary_shows_that_the_service_gives_back(make, monkeypatch):
    served = make(live=True)
    monkeypatch.setattr("vmstate.interfaces.cli.canary.LEASE_FOR", timedelta(milliseconds=50))
    said = json.loads(served.ok("vmstate canary --json"))
    assert said["ok"]
    assert said["ended_via"] == "scheduler"


def test_the_law_and_what_waits_to_be_told_are_asked_for_at_the_socket(served):
    law = (served.path / "constitution.toml").read_text(encoding="utf-8")
    done = served.run("vmstate constitution show")
    assert (done.code, done.out) == (0, law)
    earlier = served.run("vmstate constitution show --digest 00")
    assert earlier.code == 2
    assert "name the file with --ledger" in earlier.err
    assert served.ok("vmstate constitution show --ledger vmstate.db") == law
    told = served.run("vmstate notify list")
    assert (told.code, told.err) == (
        0,
        "nobody is told anything: the constitution has no [notify]\n",
    )
    assert json.loads(served.ok("vmstate notify list --json")) == {"ok": True, "targets": []}


def test_a_shell_completes_leases_from_the_socket(served):
    served.ok('vmstate escalate operator --reason "ticket 4711: look"')
    from vmstate.interfaces.cli.options import _live_leases  # noqa: PLC0415
    from vmstate.interfaces.cli.settings import Settings  # noqa: PLC0415

    assert _live_leases(Settings(socket="vm.sock")) == ["lease-2"]


def test_a_socket_where_nobody_listens_is_an_error_and_never_the_file(served, monkeypatch):
    monkeypatch.setenv("VMSTATE_LEDGER", "vmstate.db")
    monkeypatch.setenv("VMSTATE_CONSTITUTION", "constitution.toml")
    monkeypatch.setenv("VMSTATE_SOCKET", "nobody.sock")
    for line in ("vmstate status", "vmstate receipts list"):
        done = served.run(line)
        assert done.code == 6
        assert done.err.startswith("error: nobody answers at nobody.sock (No such file")
    # Said to be nothing, on the command line or in the environment, the file is opened.
    assert served.run("vmstate --socket '' status").code == 0
    monkeypatch.setenv("VMSTATE_SOCKET", "")
    assert served.run("vmstate status").code == 0


def test_where_the_host_is_not_believed_the_file_may_be_read_and_audited_and_no_more(
    served, monkeypatch
):
    monkeypatch.setenv("VMSTATE_LEDGER", "vmstate.db")
    monkeypatch.setenv("VMSTATE_CONSTITUTION", "constitution.toml")
    served.ok('vmstate escalate operator --reason "ticket 4711: look"')
    monkeypatch.setenv("VMSTATE_SOCKET", "")
    sizes = served.sizes()
    for line in (
        'vmstate escalate operator --as bob --reason "ticket 4711: look"',
        "vmstate release lease-2",
        "vmstate revoke lease-2 --as carol --key carol.key",
        "vmstate canary --as bob",
    ):
        done = served.run(line)
        assert done.code == 6
        assert done.err == (
            "error: vmstate.db: [callers] host = false, so vmstate serve alone writes it: "
            "set VMSTATE_SOCKET to its socket; nothing was written\n"
        )
    assert served.sizes() == sizes
    for line in (
        "vmstate status",
        "vmstate may alice operator",
        "vmstate why guardian --as alice",
        "vmstate receipts list",
        "vmstate audit",
        "vmstate export bundle",
        "vmstate audit bundle",
    ):
        assert served.run(line).code in {0, 3}, line
    (served.path / "vmstate.db.key").unlink()
    assert served.run("vmstate audit").code == 0


def test_a_hook_and_an_amendment_take_who_asks_from_the_socket(served):
    call = '{"tool_name": "Bash", "tool_input": {}}'
    done = served.run(f"echo '{call}' | {VMSTATE} hook pre-tool-use")
    assert '"permissionDecision": "deny"' in done.out
    assert newest(served)["who"]["actor"] == "alice"
    text = (served.path / "constitution.toml").read_text(encoding="utf-8")
    served.write("next.toml", text.replace('ttl      = "1h"', 'ttl      = "2h"'))
    done = served.run("vmstate amend next.toml -o amendment")
    assert (done.code, "alice" in (served.path / "amendment").read_text(encoding="utf-8")) == (
        0,
        True,
    )


def test_whose_the_constitutions_file_is_is_said_after_an_amendment_over_the_socket(served):
    text = (served.path / "constitution.toml").read_text(encoding="utf-8")
    served.write("next.toml", text.replace('ttl      = "1h"', 'ttl      = "2h"'))
    assert served.run("vmstate amend next.toml -o request").code == 0
    assert served.run("vmstate sign request --as carol --key carol.key -o approval").code == 0
    line = "vmstate amend next.toml --request request --approval approval"
    refused = served.run(f"{line} --replace")
    assert (refused.code, newest(served)["type"]) == (2, "constitution_loaded")
    assert "the constitution's file is the service's, and --replace would write one" in refused.err
    done = served.run(line)
    assert done.code == 0
    assert "next: have next.toml put in place of the constitution's file by whoever" in done.err
    assert "cp " not in done.err


# ---- with a key, and nobody to the socket --------------------------------------------------------

MEND = "'ticket 4711: mend'"


@pytest.fixture
def unknown(served, monkeypatch):
    """The same folder; its caller is nobody there from here on, and `vm` asks as Alice did."""
    monkeypatch.setattr("vmstate.serving.account_of", lambda _: "stranger")
    assert served.run("vmstate status").code == 3
    return served


def test_what_a_stranger_signed_is_told_as_done_when_it_was(unknown):
    carol = "--as carol --key carol.key"
    said = unknown.ok(f"vmstate lock --all {carol} --reason 'all stop'")
    assert said == "lock-2: everybody is locked until it is lifted; what it covers is ended\n"
    assert unknown.ok(f"vmstate unlock lock-2 {carol}").startswith("lock-2 is lifted")
    dora = "--as dora --key dora.key"
    lease = unknown.ok(f"vmstate escalate operator {dora} --reason {MEND}").partition(":")[0]
    assert unknown.ok(f"vmstate release {lease} {dora}").startswith(f"{lease} ended by")


def test_a_stranger_acts_and_spends_by_their_key_and_reads_nothing(unknown):
    dora = "--as dora --key dora.key"
    unknown.ok(f"vmstate escalate operator {dora} --reason {MEND}")
    done = unknown.ok(f"vmstate act service.stop {dora} --argument unit=nginx")
    assert done == "service.stop is on record: dora, under lease-2\n"
    assert "checkpoint of 4 receipts" in unknown.ok(f"vmstate act guardian.anchor {dora}")
    unknown.ok(f"vmstate budget create ops --allocated 100 --unit credits {dora}")
    assert unknown.ok(f"vmstate budget debit ops 40 {dora}") == "ops: 40 credits spent, 60 left\n"
    assert unknown.run("vmstate act service.stop --as dora").code == 3
    assert unknown.run("vmstate budget list").code == 3


def test_a_strangers_request_is_opened_signed_and_activated_without_being_shown(unknown):
    there, dora = "vmstate --constitution constitution.toml", "--as dora --key dora.key"
    new = f"{there} --ledger vmstate.db --socket '' request new"
    unknown.ok(f"vmstate escalate operator {dora} --reason {MEND}")
    unknown.ok(f"{new} guardian --as dora --reason {MEND} -o request")
    opened = unknown.run("vmstate request open request --key dora.key")
    assert opened.code == 4
    id_ = opened.out.strip()
    unknown.ok(f"{there} sign request --key carol.key -o approval")
    short = id_.removeprefix("sha256:")[:12]
    taken = unknown.ok(f"vmstate request approve {id_} --approval approval")
    assert taken == f"taken for {short}\n"
    climbed = unknown.ok(f"vmstate request activate {id_} {dora}")
    assert "dora is guardian" in climbed
    again = unknown.run(f"vmstate request withdraw {id_} {dora}")
    assert (again.code, "[request_over]" in again.err) == (3, True)


@pytest.mark.parametrize("words", ["activate {id} --as dora --key dora.key", "deny {id} {carol}"])
def test_a_stranger_is_asked_for_the_whole_id_of_a_request(words, unknown):
    carol = "--as carol --key carol.key"
    done = unknown.run(f"vmstate request {words.format(id='0123456789ab', carol=carol)}")
    assert done.code == 2
    assert done.err == (
        "error: 0123456789ab can't be looked up by an account that is nobody here: write the id "
        "whole, sha256: and 64 digits\n"
    )


def test_what_reads_files_says_so_where_a_socket_is_named(served, monkeypatch):
    monkeypatch.delenv("VMSTATE_LEDGER")
    for line, bundle in (("audit", ", or a bundle's folder"), ("export bundle", "")):
        reads = f"{line.split()[0]} reads the ledger's file, and vm.sock is a socket"
        how = f"name the file with --ledger{bundle}, under an account that may read it"
        done = served.run(f"vmstate {line}")
        assert (done.code, done.err) == (2, f"error: {reads}: {how}\n")
    served.ok("vmstate export bundle --ledger vmstate.db")
    served.ok("vmstate audit bundle")


def test_keys_are_listed_as_the_law_in_force_at_the_socket_has_them(served):
    assert "bob" in served.ok("vmstate keys list")
    served.write("mine.toml", "")
    assert served.run("vmstate keys list --constitution mine.toml").code == 6

"""`--json` everywhere: one document on standard output, whatever the answer is."""

import json
import re
import shutil

import pytest

# Each verb once granted or good, and once refused or wrong; a process of its own: `serve`.
LINES = [
    "init",
    "check",
    "check carol.key",
    "graph -o law.mmd",
    "graph",
    "graph --live",
    "status",
    "status alice",
    "status mallory",
    'escalate operator --as bob --reason "ticket 4712: look"',
    "escalate guardian --as bob",
    "escalate guardian --request request.json --approval approval.json",
    "escalate guardian --request carol.key",
    'renew lease-2 --as alice --reason "ticket 4711: still at it"',
    "release lease-2",
    "release lease-99",
    "revoke lease-2 --as carol --key carol.key",
    "amend constitution.toml",
    "amend carol.key",
    "constitution show",
    "constitution show --digest none",
    "constitution reference",
    "lock --all --as carol --key carol.key",
    "lock --all",
    "lock list",
    "unlock lock-3 --as carol --key carol.key",
    "act task.execute --as alice",
    "act task.read --as alice",
    "act task.decide --as alice",
    "budget list",
    "budget create ops --allocated 9 --unit credits --as carol --key carol.key",
    "budget create ops --allocated 9 --unit credits --as alice",
    "budget debit ops 9 --as alice",
    "budget debit ops 0 --as alice",
    "may alice operator",
    "may alice guardian",
    'why operator --as bob --reason "ticket 4712: look"',
    "why guardian --as alice",
    "request new guardian --as alice",
    "request new guardian --as alice -o new.json",
    "sign request.json --key carol.key",
    "sign request.json --key carol.key -o new.json",
    "sign carol.key --key carol.key",
    "attest",
    "attest --principal alice --fact risk=0.9 --key carol.key",
    "attest --principal alice --fact risk=0.9 --as carol --statement seen",
    "attest list",
    "keys new dora",
    "notify list",
    "notify test nobody",
    "notify key",
    "receipts show 2",
    "receipts show 99",
    "export bundle",
    "audit",
    "audit none",
    "recover --clock --as alice -o recovery.json",
    "recover --clock --as alice",
    "recover --clock --as alice --request request.json",
    "drill list",
    "drill run",
    "drill run none.drill.toml",
    "--constitution none.toml status",
    "--ledger none.db status",
]
RANDOM = re.compile(
    r"sha256:[0-9a-f]{64}|\b[0-9a-f]{32}\b|[A-Za-z0-9+/]{43,86}={1,2}|\"wall_us\": \d+"
)


@pytest.fixture
def ready(used):
    """The used ledger with a request and its approval beside it."""
    used.ok(
        'vmstate request new guardian --as alice --reason "ticket 4711: restore" > request.json'
    )
    used.ok("vmstate sign request.json --key carol.key -o approval.json")
    return used


@pytest.mark.parametrize("line", LINES)
def test_json_is_one_document_on_standard_output(line, ready):
    done = ready.run(f"vmstate {line} --json")
    assert isinstance(json.loads(done.out), dict), done


@pytest.mark.parametrize("line", LINES)
def test_json_before_the_verb_and_after_it_are_the_same(line, ready, tmp_path_factory):
    aside = tmp_path_factory.mktemp("aside") / "copy"
    shutil.copytree(ready.path, aside)
    before = ready.run(f"vmstate --json {line}")
    for path in ready.path.iterdir():  # the folder itself is where we stand
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    shutil.copytree(aside, ready.path, dirs_exist_ok=True)
    after = ready.run(f"vmstate {line} --json")
    assert RANDOM.sub("#", before.out) == RANDOM.sub("#", after.out)
    assert before.code == after.code


@pytest.mark.parametrize("line", ["receipts list", "receipts tail", "receipts list --denied"])
def test_receipts_are_json_lines_each_the_exact_bytes_of_one(line, ready):
    ready.ok("vmstate export bundle")
    lines = (ready.path / "bundle" / "receipts.jsonl").read_text(encoding="utf-8").splitlines()
    seen = ready.ok(f"vmstate {line} --json").splitlines()
    assert seen == [body for body in lines if "--denied" not in line or '"denied"' in body]
    assert all(isinstance(json.loads(one), dict) for one in seen)


@pytest.mark.parametrize("line", ["escalate operator", "escalate operator --as alice --fact x"])
def test_a_mistyped_line_is_told_in_json_too(line, ready):
    done = ready.run(f"vmstate --json {line}")
    assert done.code == 2
    assert json.loads(done.out)["exit"] == 2


def test_what_is_not_ok_says_so_and_with_which_exit_code(ready):
    done = ready.run("vmstate status mallory --json")
    said = json.loads(done.out)
    assert done.code == 3
    assert said == {
        "ok": False,
        "error": "UnknownPrincipal",
        "message": "mallory is in no group and under no [principals]",
        "exit": 3,
    }


def test_a_denial_says_every_requirement_in_json(ready):
    done = ready.run("vmstate escalate guardian --as alice --ttl 1h --json")
    said = json.loads(done.out)
    assert done.code == 3
    assert said["ok"] is False
    assert [one["code"] for one in said["receipt"]["authority"]["unmet"]] == [
        "reason_short",
        "approval_missing",
        "ttl_above_rule",
    ]
    assert said["message"].startswith("the reason has 0 characters, needs 10 characters; ")


def test_each_lease_that_ended_is_told_with_its_receipt(ready):
    said = json.loads(ready.ok("vmstate revoke lease-2 --as carol --key carol.key --json"))
    assert said["ended"] == [{"lease": "lease-2", "receipt": said["receipt"]["seq"]}]

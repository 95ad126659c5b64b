"""Requests that are left open, as those who ask and those who sign type and see them."""

import io
import json
import os
import pty
import shlex
import subprocess
import sys
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from vmstate.keys import PrivateKey
from vmstate.signing import read_signed, read_statement

VMSTATE = Path(sys.executable).with_name("vmstate")
SECONDS = 30  # far beyond what it takes, so that only a failure waits so long
NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)
ASK = 'vmstate escalate guardian --as alice --reason "ticket 4711: restore"'
CAROL = "--key carol.key"


@pytest.fixture
def asked(used):
    """Alice, an operator, has left a request for GUARDIAN open; its id, cut to what is shown."""
    done = used.run(f"{ASK} --wait")
    assert done.code == 4
    used.id = done.out.strip()
    return used


def shown(folder):
    return json.loads(folder.ok(f"vmstate request show {folder.id} --json"))


def test_what_is_left_open_says_its_id_what_is_missing_and_what_to_do_next(used):
    done = used.run(f"{ASK} --wait")
    assert done.code == 4
    assert len(done.out.strip()) == 12
    assert done.err.splitlines()[:3] == [
        "alice waits for guardian until 2030-01-01 13:00:00Z:",
        "  requires approval by 1 of approvers, has 0  [approval_missing]",
        f"next: vmstate request approve {done.out.strip()} --key KEY, by whom it takes",
    ]


def test_what_is_missing_says_which_verb_brings_it(folder):
    folder.ok("vmstate init --preset vaultmesh")
    facts = "--fact threat.id=T-1 --fact threat.type=malware --fact threat.confidence=0.92"
    line = f"vmstate escalate guardian --trigger threat_detected --as did:vm:operator:ada {facts}"
    folder.ok('vmstate escalate operator --as did:vm:operator:ada --reason "look at ticket 4711"')
    done = folder.run(f"{line} --wait")
    assert done.code == 4
    nexts = [line for line in done.err.splitlines() if line.startswith("next:")]
    words = f"vmstate request attest {done.out.strip()} --key KEY"
    assert nexts == [f"next: {words}, by whom it takes"]
    denied = folder.run(f"vmstate request activate {done.out.strip()}")
    assert f"    instead  have it signed: {words}" in denied.err.splitlines()


def test_a_denial_for_want_of_signatures_alone_says_that_it_may_wait(used):
    waits = "    or  add --wait: it is left open until they have signed"
    assert waits in used.run(ASK).err.splitlines()
    assert waits not in used.run('vmstate escalate guardian --as alice --reason "x"').err


def test_request_approve_works_ends(asked):
    assert asked.run("vmstate may alice database.write").code == 3
    asked.at(NOON + timedelta(minutes=4))
    approved = asked.run(f"vmstate request approve {asked.id} {CAROL}")
    until = "2030-01-01 12:24:00Z"
    assert approved.out == f"{asked.id} is complete: it may be activated until {until}\n"
    assert approved.err.startswith("carol approves:\n  alice to guardian on operator_request\n")
    assert asked.run("vmstate may alice database.write").code == 3
    asked.at(NOON + timedelta(minutes=5))
    granted = asked.ok(f"vmstate request activate {asked.id}")
    # The lease it stands on ends ten minutes after noon.
    lasts = "until 2030-01-01 12:10:00Z (5m, cut by the parent)"
    assert granted == f"lease-5: alice is guardian {lasts}\n"
    assert asked.ok("vmstate may alice database.write") == "yes\n"
    asked.at(NOON + timedelta(minutes=10))
    assert asked.run("vmstate may alice database.write").code == 3
    assert ": intact" in asked.ok("vmstate audit")


def test_all_that_is_signed_is_shown_with_what_the_lease_would_really_last(asked):
    said = asked.ok(f"vmstate request show {asked.id}").splitlines()
    assert said[:3] == [
        "  alice to guardian on operator_request",
        "  for        as long as the rule allows",
        "  reason     ticket 4711: restore",
    ]
    assert said[-6:] == [
        "  state      pending until 2030-01-01 13:00:00Z",
        "  rule       guardian_on_request",
        "  would last 10m if activated now, cut by the parent",
        "  at most    15m, if the lease below is renewed with it",
        "  approved   by nobody yet; takes 1 of approvers",
        "  missing    requires approval by 1 of approvers, has 0",
    ]
    body = shown(asked)
    assert (body["state"], body["lasts_us"], body["clipped_by"]) == (
        "pending",
        600_000_000,
        "parent",
    )
    assert body["body"]["reason"] == "ticket 4711: restore"


def test_what_an_approval_that_is_soon_too_old_completes_is_good_for_no_longer(asked):
    done = asked.ok(f"vmstate request approve {asked.id} {CAROL} --for 2m")
    assert done == f"{asked.id} is complete: it may be activated until 2030-01-01 12:02:00Z\n"
    assert shown(asked)["signed_until"] == "2030-01-01T12:02:00.000000Z"


def test_an_approval_may_be_signed_elsewhere(asked):
    asked.ok(f"vmstate request show {asked.id} --statement --as carol -o statement")
    statement = read_statement((asked.path / "statement").read_bytes())
    assert statement.request == shown(asked)["request"]
    assert statement.expires_at == "2030-01-01T13:20:00.000000Z"
    key = PrivateKey.load(asked.path / "carol.key")
    (asked.path / "raw").write_bytes(key.sign((asked.path / "statement").read_bytes()))
    asked.ok("vmstate sign statement --signature raw -o approval.json")
    assert read_signed((asked.path / "approval.json").read_bytes()).by == "carol"
    done = asked.ok(f"vmstate request approve {asked.id} --approval approval.json")
    assert done.startswith(f"{asked.id} is complete")


def test_the_statement_needs_a_file_and_a_name(asked):
    line = f"vmstate request show {asked.id} --statement"
    for given, missing in (("--as carol", "-o"), ("-o statement", "--as")):
        done = asked.run(f"{line} {given}")
        assert done.code == 2
        assert f"Missing option '{missing}'" in done.err


def test_one_denial_ends_it(asked):
    denied = asked.ok(f'vmstate request deny {asked.id} {CAROL} --reason "not today"')
    assert denied == f"{asked.id} is denied\n"
    refused = asked.run(f"vmstate request activate {asked.id}")
    assert refused.code == 3
    assert "the request is denied, needs an open one  [request_over]" in refused.err
    assert asked.ok("vmstate request list") == ""
    assert "\tdenied\t" in asked.ok("vmstate request list --all")


def test_a_denial_by_a_name_alone_is_refused(asked):
    done = asked.run(f"vmstate request deny {asked.id} --as carol")
    assert done.code == 3
    assert "[not_proven]" in done.err


def test_the_requester_withdraws(asked):
    assert asked.ok(f"vmstate request withdraw {asked.id}") == f"{asked.id} is withdrawn\n"
    assert shown(asked)["state"] == "withdrawn"
    assert asked.ok(f"vmstate request show {asked.id}").splitlines()[-2] == (
        "  state      withdrawn since 2030-01-01 12:00:00Z"
    )


def test_a_file_is_opened_and_listed_by_whom(used):
    used.ok('vmstate request new guardian --as alice --reason "ticket 4711: look" -o r.json')
    assert used.run("vmstate request open r.json").code == 4
    listed = used.ok("vmstate request list --of alice").rstrip("\n").split("\t")
    assert listed[1:4] == ["alice", "guardian", "pending"]
    assert used.ok("vmstate request list --of bob") == ""
    again = used.run("vmstate request open r.json")
    assert again.code == 3
    assert "[request_open]" in again.err


def test_what_lacks_nothing_is_granted_and_what_lacks_more_is_denied(used):
    granted = used.run('vmstate escalate operator --as bob --reason "ticket 4712: look" --wait')
    assert granted.code == 0
    assert granted.out.startswith("lease-3: bob is operator until")
    denied = used.run("vmstate escalate guardian --as alice --reason x --wait")
    assert denied.code == 3
    assert "[reason_short]" in denied.err


def test_json_says_all_of_it(used):
    done = used.run(f"{ASK} --wait --json")
    assert done.code == 4
    said = json.loads(done.out)
    assert (said["ok"], said["receipt"]["type"]) == (False, "request")
    assert said["message"] == "requires approval by 1 of approvers, has 0"
    assert said["request"]["missing"][0]["code"] == "approval_missing"
    used.id = said["request"]["request"]
    taken = json.loads(used.ok(f"vmstate request approve {used.id} {CAROL} --json"))
    assert taken["receipt"]["what"]["detail"]["state"] == "complete"
    (listed,) = json.loads(used.ok("vmstate request list --json"))["requests"]
    assert listed["stages"] == [{"count": 1, "of": ["approvers"], "approved": ["carol"]}]


def test_an_approval_asked_again_under_its_key_is_answered_once(asked):
    line = f"vmstate request approve {asked.id} {CAROL} --idempotency-key k-1 --json"
    first, again = (json.loads(asked.ok(line)) for _ in range(2))
    assert first["id"] == again["id"]
    denied = asked.run(f"vmstate request approve {asked.id} {CAROL}")
    assert "[approval_repeated]" in denied.err
    assert ": intact" in asked.ok("vmstate audit")


@pytest.mark.parametrize("verb", ["approve", "attest", "deny"])
@pytest.mark.parametrize(
    ("who", "said"),
    [
        ("dora", "it is carol's: dora has none there, see vmstate keys show"),
        ("erin", "it is carol's: sign with theirs"),
    ],
)
def test_a_key_that_is_not_theirs_signs_nothing_and_leaves_no_denial_in_their_name(
    folder, verb, who, said
):
    folder.ok("vmstate init")
    for name in ("carol", "erin"):
        folder.ok(f"vmstate keys new {name} -o {name}.key >> constitution.toml")
    folder.ok("vmstate init")
    folder.ok('vmstate escalate operator --as alice --reason "ticket 4711: look"')
    id_ = folder.run(f"{ASK} --wait").out.strip()
    before = folder.sizes()
    done = folder.run(f"vmstate request {verb} {id_} --as {who} --key carol.key")
    assert (done.code, done.err) == (2, f"error: carol.key is not the key of {who}, {said}\n")
    assert folder.sizes() == before


class Typed(io.StringIO):
    """A terminal at which somebody has typed."""

    def isatty(self):
        return True


@pytest.mark.parametrize(("typed", "code", "state"), [("n", 130, "pending"), ("y", 0, "complete")])
def test_at_a_terminal_whoever_approves_is_asked_after_what_is_signed_was_shown(
    asked, monkeypatch, typed, code, state
):
    monkeypatch.setattr(sys, "stdin", Typed(f"{typed}\n"))
    done = asked.run(f"vmstate request approve {asked.id} {CAROL}")
    assert "sign it? [y/N]" in done.err
    assert done.err.index("carol approves:") < done.err.index("sign it?")
    assert (done.code, shown(asked)["state"]) == (code, state)


def test_what_was_typed_before_it_was_shown_is_no_answer(live):
    live.id = live.run(f"{ASK} --wait").out.strip()
    child, terminal = pty.fork()
    if child == 0:
        os.read(0, 1)  # the first of what is typed: the rest lies ready by now
        os.chdir(live.path)
        words = ["vmstate", *shlex.split(f"request approve {live.id} {CAROL}")]
        os.execv(VMSTATE, words)  # noqa: S606 -- our own
    os.write(terminal, b"\ny\ny\n")
    seen, answered = b"", False
    with suppress(OSError):  # Linux ends a terminal whose other side is closed with an error
        while part := os.read(terminal, 4_096):
            seen += part
            if b"sign it? [y/N]" in seen and not answered:
                answered = os.write(terminal, b"n\n") > 0
    _, status = os.waitpid(child, 0)
    os.close(terminal)
    assert os.waitstatus_to_exitcode(status) == 130, seen
    assert shown(live)["state"] == "pending"


def test_at_a_terminal_yes_is_taken_for_the_answer(asked, monkeypatch):
    monkeypatch.setattr(sys, "stdin", Typed(""))
    asked.ok(f"vmstate request approve {asked.id} {CAROL} --yes")
    assert shown(asked)["state"] == "complete"


def test_an_approval_in_hand_is_handed_in_at_once(used):
    used.ok('vmstate request new guardian --as alice --reason "ticket 4711: look" -o r.json')
    used.ok("vmstate sign r.json --key carol.key -o approval.json")
    done = used.run("vmstate escalate guardian --request r.json --approval approval.json --wait")
    used.id = done.out.strip()
    assert shown(used)["state"] == "complete"


def test_unknown_and_short_ids_are_told_apart(asked):
    assert asked.run("vmstate request show abc").code == 2
    done = asked.run("vmstate request show 000000000000")
    assert done.code == 5
    assert "there is no request sha256:000000000000: see vmstate request list" in done.err


def test_a_parent_is_renewed_where_the_climb_is(used):
    done = used.run(f"{ASK} --wait --renew-parent")
    assert done.code == 2
    assert "--renew-parent goes with vmstate request activate: leave it out here." in done.err


def test_a_request_that_is_followed_is_activated_as_soon_as_it_is_complete(live):
    words = [VMSTATE, *shlex.split(f"{ASK} --follow".removeprefix("vmstate "))]
    waiting = subprocess.Popen(words, cwd=live.path, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert waiting.stderr is not None
    assert waiting.stderr.readline().startswith(b"alice waits for guardian until ")
    listed = live.ok("vmstate request list").split("\t")[0]
    live.ok(f"vmstate request approve {listed} {CAROL}")
    out, _ = waiting.communicate(timeout=SECONDS)
    assert waiting.returncode == 0
    assert b": alice is guardian until " in out


def test_a_request_that_is_followed_and_denied_says_how_it_ended(live):
    words = [VMSTATE, *shlex.split(f"{ASK} --follow".removeprefix("vmstate "))]
    waiting = subprocess.Popen(words, cwd=live.path, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert waiting.stderr is not None
    waiting.stderr.readline()
    listed = live.ok("vmstate request list").split("\t")[0]
    live.ok(f"vmstate request deny {listed} {CAROL}")
    _, err = waiting.communicate(timeout=SECONDS)
    assert waiting.returncode == 3
    assert b"the request is denied, needs an open one" in err

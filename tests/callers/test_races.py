"""F18, F29: processes at one socket want to change one thing at one time; there is one order."""

import json
import os
import pwd
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest

import vmstate
from vmstate.canonical import encode
from vmstate.serving import account_of
from vmstate.signing import approve

ADA, AGENT, SOVEREIGN = "did:vm:operator:ada", "did:vm:agent:7", "did:vm:sovereign:root"
ONE, TWO = "did:vm:guardian:one", "did:vm:guardian:two"
REASON, CRISIS = "look at ticket 4711", "the building is on fire, all of it"
RACER = Path(__file__).with_name("racer.py")
RENEWABLE = ("renewals = 3", "renewals = 1000")


@pytest.fixture
def race(serve):
    """A service whose callers are whatever the kernel says, and processes that race at it."""
    here = pwd.getpwuid(os.getuid()).pw_name
    names = dict.fromkeys((ADA, AGENT, SOVEREIGN), here)
    service = serve(RENEWABLE, accounts=names)
    service.monkeypatch.setattr("vmstate.serving.account_of", account_of)
    racers = []

    def start(verb, who, what):
        process = subprocess.Popen(
            [sys.executable, RACER, service.path, verb, who, what],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(Path(vmstate.__file__).parents[1])},
        )
        racers.append(process)
        return process

    def go():
        for process in racers:
            assert process.stdout.readline() == "ready\n"
        for process in racers:
            process.stdin.write("go\n")
            process.stdin.flush()
        return [json.loads(process.communicate(timeout=20)[0]) for process in racers]

    service.start, service.go = start, go
    yield service
    for process in racers:
        process.kill()
        process.communicate()
    service.check_audit()


def climb(service, who=ADA):
    asked = {"trigger": "operator_request", "reason": REASON}
    return service.vm.escalate(who, "operator", **asked).raise_for_denial().lease


def test_revoked_while_it_is_renewed_it_is_over_and_no_renewal_comes_after(race):
    lease = climb(race)
    race.start("renew", ADA, lease)
    race.start("renew", ADA, lease)
    race.start("revoke", SOVEREIGN, lease)
    *_, revoked = race.go()
    assert revoked == []
    about = [one for one in race.vm.receipts() if one.lease == lease]
    (end,) = [one.seq for one in about if one.type == "profile_deescalation"]
    assert not [one for one in about if one.granted and one.seq > end]
    assert race.vm.standing(ADA).profile == "observer"


def test_revoked_twice_at_once_it_ends_once(race):
    lease = climb(race)
    for _ in range(2):
        race.start("revoke", SOVEREIGN, lease)
    assert sorted(race.go()) == [[], ["unknown_lease"]]


def quorum(service):
    """A request for phoenix that both guardians must sign, and what they signed."""
    climb(service)
    vm, clock = service.vm, service.now
    request = vm.prepare(ADA, "guardian", trigger="operator_request", reason=REASON)
    until = clock + timedelta(minutes=15)
    given = approve(request, ONE, service.key(ONE), expires_at=until)
    asked = {"trigger": request.trigger, "reason": REASON, "request": request}
    vm.escalate(ADA, "guardian", **asked, approvals=(given,)).raise_for_denial()
    wanted = vm.prepare(ADA, "phoenix", trigger="quorum_approved", reason=CRISIS)
    vm.open_request(wanted).raise_for_denial()
    files = []
    for name in (ONE, TWO):
        path = service.path.with_suffix(f".{len(files)}.approval")
        signed = approve(wanted, name, service.key(name), expires_at=until)
        path.write_bytes(encode(signed.body()))
        files.append(path)
    return wanted.id, files


def test_two_approvers_at_once_both_count_and_complete_it_once(race):
    request, files = quorum(race)
    for path in files:
        race.start("hand_in", request, path)
    assert race.go() == [[], []]
    states = [one.fields["what"]["detail"]["state"] for one in race.vm.receipts(type_="approval")]
    assert states == ["pending", "complete"]
    assert race.vm.activate(ADA, request).granted


def test_one_approval_from_two_processes_counts_once(race):
    request, (one, _) = quorum(race)
    for _ in range(2):
        race.start("hand_in", request, one)
    answers = sorted(race.go())
    assert answers[0] == []
    assert answers[1] in (["approval_repeated"], ["approval_used"])
    assert not race.vm.activate(ADA, request).granted


def test_at_the_deadline_itself_it_is_over_over_the_socket_as_well(race):
    lease = climb(race)
    race.wait(hours=1)
    race.start("renew", ADA, lease)
    race.start("revoke", SOVEREIGN, lease)
    assert race.go() == [0, ["unknown_lease"]]
    (end,) = race.vm.receipts(type_="profile_deescalation")
    assert (end.fields["what"]["ending"], end.outcome) == ("timeout_expired", "expired")


def test_somebody_elses_lease_is_answered_as_one_that_never_was(race):
    """F29: an id that leaked is worth nothing; but for the id, the answers are the same."""
    lease = climb(race)
    client = race.at(None)
    asked = [lambda one: client.release(AGENT, one), lambda one: client.renew(AGENT, one)]
    asked.append(lambda one: client.release(AGENT, one, ending="threat_resolved"))
    for ask in asked:
        theirs, none = (
            json.dumps(ask(one).fields["authority"]["unmet"]).replace(one, "LEASE")
            for one in (lease, "lease-999")
        )
        assert theirs == none
        assert "unknown_lease" in theirs

"""Every way to cheat that we could think of, and what comes of it.

| who asks is somebody else                                          | comes to                   |
|--------------------------------------------------------------------|----------------------------|
| ask as a sovereign on one's own account                            | not_caller                 |
| ask as a sovereign whose name is one's own in another case         | not_caller                 |
| ask for a colleague, as oneself                                    | not_self                   |
| ask on an account that is bound to nobody                          | not_caller                 |
| ask on an account whose number is all there is of it               | not_caller                 |
| ask as the agent of an account, holding the token of another agent | not_caller                 |
| write into the command that one is proven                          | InputError                 |
| write into the command whose account one has                       | InputError                 |
| write into the command that it only sets a drill up                | InputError                 |
| write into the command what vmstate itself would have found        | InputError                 |
| say in the environment that one is a sovereign                     | not_caller                 |
| send the socket the credentials of somebody else                   | not_caller                 |
| ask by a name of look-alike letters                                | InputError                 |
| end a colleague's lease by its id                                  | unknown_lease              |
| end a lease that never was                                         | unknown_lease              |
| renew a colleague's lease by its id                                | unknown_lease              |
| end a colleague's lease as a sovereign, without a proof            | not_caller                 |
| lift a lock that one may not lift                                  | lock_not_admitted          |
| recover as an account that nobody has bound                        | not_caller                 |
| revoke at the file, on the host's word                             | unknown_lease              |
| recover at the file, on the host's word                            | not_proven                 |
| lock at the file, on the host's word                               | not_proven                 |
| write at the file where the host is not believed                   | LedgerUnavailable          |
| settle at the file where the host is not believed                  | LedgerUnavailable          |
| read on an account that is bound to nobody                         | UnknownPrincipal           |
| read the law on an account that is bound to nobody                 | UnknownPrincipal           |
| show a token that is nobody's                                      | UnknownPrincipal           |
| show the digest from the constitution for the token                | UnknownPrincipal           |
| show a token after something was asked without it                  | InputError                 |
| go on asking as somebody else for ever                             | LedgerUnavailable          |

| a signature is not what it seems                                   | comes to                   |
|--------------------------------------------------------------------|----------------------------|
| approve one's own request with one's own key                       | approval_own               |
| approve it with a second key, under a second name                  | approval_own               |
| have it approved by whoever stands behind the asker                | approval_own               |
| have it approved by an agent of one's own                          | approval_own               |
| sign an approval in an approver's name with one's own key          | approval_signature         |
| approve as a name that differs in case                             | approval_no_key            |
| approve as a name of look-alike letters                            | InputError                 |
| approve without being an approver                                  | approval_not_admitted      |
| hand in an approval that was given on another ledger               | approval_other_ledger      |
| hand in a request that was written for another ledger              | request_other_ledger       |
| hand in an approval under another constitution                     | approval_other_constitution|
| hand in an approval that is too old                                | approval_stale             |
| hand in an approval of another request                             | approval_other_subject     |
| hand in an approval a second time                                  | approval_used              |
| hand in an approval of somebody whose key was taken away           | approval_no_key            |
| hand in an approval by a drill's stand-in                          | approval_no_key            |
| sign twice where two must sign                                     | approval_repeated          |
| change the facts after they were approved                          | request_differs            |
| change the reason after it was approved                            | request_differs            |
| attest a threat of one's own                                       | attestation_not_admitted   |
| hand in what was attested about somebody else                      | attestation_other_subject  |
| state another confidence than was attested                         | fact_differs               |
| push what was attested as no sensor                                | attestation_not_admitted   |
| push a threat about oneself                                        | attestation_own            |
| push in a sensor's name what one's own key signed                  | attestation_signature      |
| push what was seen too long ago                                    | attestation_stale          |
| push again what a grant used up                                    | attestation_used           |
| push again what was said before something newer                    | attestation_older          |
| rest a second time on what was pushed once                         | fact_missing               |
| rest on what was pushed about somebody else                        | fact_missing               |
| rest on what was pushed too long ago                               | fact_missing               |
| rest on what a sensor pushed that an amendment took the word of    | fact_missing               |
| rest on what a sensor pushed that is locked                        | fact_missing               |
| state another confidence than was pushed                           | fact_differs               |
| hand in an order a second time                                     | order_used                 |
| hand in an order for another lease                                 | order_other_subject        |
| hand in an order that is too old                                   | order_stale                |
| hand in an order that was given on another ledger                  | order_other_ledger         |
| sign an order in a sovereign's name with one's own key             | order_signature            |
| name an approver and sign nothing                                  | approval_missing           |

| the ledger is not what it seems                                    | comes to                   |
|--------------------------------------------------------------------|----------------------------|
| write a lease row into the file                                    | found by audit             |
| lengthen a lease in the file                                       | found by audit             |
| write into the file what a sensor never pushed                     | found by audit             |
| change who asked in a receipt                                      | found by audit             |
| let a drill's authority open a live gate                           | call_drill                 |
| switch drill mode on in the live ledger, over the socket           | InputError                 |

What a drill's ledger is to `vmstate gate` is in tests/agents; real accounts are in
`test_accounts.py`. Each test below is a line above, and each line a test.
"""

import array
import json
import os
import re
import socket
import struct
from contextlib import closing
from datetime import timedelta

import apsw
import pytest

from vmstate import wire
from vmstate.authority import Authority
from vmstate.canonical import format_at
from vmstate.decisions.command import Call, Release, make_command
from vmstate.errors import InputError, LedgerUnavailable, UnknownPrincipal, VmstateError
from vmstate.interfaces.cli.main import run
from vmstate.keys import new_token, token_digest
from vmstate.ledger.audit import audit_ledger
from vmstate.ledger.receipt import Receipt
from vmstate.ledger.store import Ledger
from vmstate.serving import REFUSALS
from vmstate.signing import Approval, Attestation, Order, approve, attest, sign

CHEATS = {}
ADA, BOB, AGENT = "did:vm:operator:ada", "did:vm:operator:bob", "did:vm:agent:7"
SOVEREIGN, ONE, TWO = "did:vm:sovereign:root", "did:vm:guardian:one", "did:vm:guardian:two"
SENSOR, STRANGER = "did:vm:sensor:edr", "mallory"
REASON = "look at ticket 4711"
CRISIS = "the building is on fire, all of it"
TOKEN = new_token()
OTHER_AGENT = "did:vm:agent:8"
TOOLS = '[tools.git]\ntools."*" = { profile = "operator" }\n'
NO_SENSORS = b'sensors    = ["did:vm:sensor:nobody"]'
THREAT = {"threat.id": "T-1", "threat.type": "intrusion", "threat.confidence": "0.92"}


def cheat(line, code, **options):
    """A way to cheat: `options` are those of the service that it is tried on."""

    def written(attempt):
        assert line not in CHEATS
        CHEATS[line] = (attempt, code, options)
        return attempt

    return written


def operator(door, who=ADA, **fields):
    asked = {"trigger": "operator_request", "reason": REASON, **fields}
    return door.escalate(who, "operator", **asked)


def approval(service, about, by=ONE, *, signer=None, **changes):
    """What `by` signed about a request; `changes` were made before it was signed."""
    key = service.key(signer or by)
    until = service.now + timedelta(minutes=15)
    made = approve(about, by, key, expires_at=until)
    return sign(Approval(**{**made.statement.body(), **changes}), key)


def guardian(service, who=ADA, account="ada", *, approvals=None, by=ONE, **changes):
    """Operator first, then guardian with an approval that `changes` were made to."""
    door = service.at(account)
    operator(door, who).raise_for_denial()
    request = door.prepare(who, "guardian", trigger="operator_request", reason=REASON)
    given = approvals or (approval(service, request, by, **changes),)
    return climb(door, request, given)


def climb(door, request, approvals, **changes):
    asked = {"trigger": request.trigger, "reason": request.reason, "facts": dict(request.facts)}
    asked |= {"request": request, "approvals": approvals, **changes}
    return door.escalate(request.principal, request.to, **asked)


# ---- who asks is somebody else ------------------------------------------------------------------


@cheat("ask as a sovereign on one's own account", "not_caller")
def _(service):
    return operator(service.at("agent"), SOVEREIGN)


@cheat("ask as a sovereign whose name is one's own in another case", "not_caller")
def _(service):
    return operator(service.at("agent"), AGENT.replace("agent", "Agent"))


@cheat("ask for a colleague, as oneself", "not_self")
def _(service):
    return operator(service.at("ada"), BOB, actor=ADA)


@cheat("ask on an account that is bound to nobody", "not_caller")
def _(service):
    return operator(service.at(STRANGER), ADA)


@cheat("ask on an account whose number is all there is of it", "not_caller")
def _(service):
    return operator(service.at("#4711"), ADA)


@cheat(
    "ask as the agent of an account, holding the token of another agent",
    "not_caller",
    tokens={OTHER_AGENT: TOKEN},
)
def _(service):
    return operator(service.at("agent", token=TOKEN), AGENT)


def _said(service, **fields):
    """A command as somebody writes it who needs none of our programs."""
    command = {"verb": "release", "principal": SOVEREIGN, "lease": "lease-1", **fields}
    connection = service.raw()
    line = {"v": 1, "do": "submit", "with": {"command": command}}
    connection.sendall(json.dumps(line).encode() + b"\n")
    return wire.read_answer(wire.QUESTIONS["submit"], connection.makefile("rb").readline()).value


@cheat("write into the command that one is proven", "InputError")
def _(service):
    return _said(service, proven="peer")


@cheat("write into the command whose account one has", "InputError")
def _(service):
    return _said(service, caller={"account": "root-phone", "token": None})


@cheat("write into the command that it only sets a drill up", "InputError")
def _(service):
    return _said(service, setup=True)


@cheat("write into the command what vmstate itself would have found", "InputError")
def _(service):
    claim = {"rule": "principals", "code": "approval_own", "required": "", "given": ONE}
    return _said(service, claims=[{**claim, "remedy": ""}])


@cheat("say in the environment that one is a sovereign", "not_caller")
def _(service):
    service.at("agent")
    for name in ("VMSTATE_PRINCIPAL", "USER", "LOGNAME", "SUDO_USER", "VMSTATE_ACCOUNT"):
        service.monkeypatch.setenv(name, SOVEREIGN)
    service.monkeypatch.setenv("VMSTATE_SOCKET", str(service.path))
    words = ["vmstate", "escalate", "operator", "--reason", REASON]
    service.monkeypatch.setattr("sys.argv", words)
    with pytest.raises(SystemExit):
        run()
    return service.newest()


@cheat("send the socket the credentials of somebody else", "not_caller")
def _(service):
    connection = service.raw()
    command = {"verb": "release", "principal": SOVEREIGN, "lease": "lease-1"}
    line = json.dumps({"v": 1, "do": "submit", "with": {"command": command}}).encode() + b"\n"
    # What SCM_CREDENTIALS may say is this process's own business, root's above all.
    forged = struct.pack("3i", os.getpid(), os.getuid(), os.getgid())
    passed = array.array("i", [0])
    connection.sendmsg(
        [line],
        [
            (socket.SOL_SOCKET, socket.SCM_CREDENTIALS, forged),
            (socket.SOL_SOCKET, socket.SCM_RIGHTS, passed),
        ],
    )
    return wire.read_answer(wire.QUESTIONS["submit"], connection.makefile("rb").readline()).value


@cheat("ask by a name of look-alike letters", "InputError")
def _(service):
    return _said(service, principal=AGENT.replace("a", "\N{CYRILLIC SMALL LETTER A}"))


@cheat("end a colleague's lease by its id", "unknown_lease")
def _(service):
    lease = operator(service.at("ada")).lease
    return service.at("agent").release(AGENT, lease)


@cheat("end a lease that never was", "unknown_lease")
def _(service):
    operator(service.at("ada"))
    return service.at("agent").release(AGENT, "lease-99")


@cheat("renew a colleague's lease by its id", "unknown_lease")
def _(service):
    lease = operator(service.at("ada")).lease
    return service.at("agent").renew(AGENT, lease, reason=REASON)


@cheat("end a colleague's lease as a sovereign, without a proof", "not_caller")
def _(service):
    lease = operator(service.at("ada")).lease
    return service.at("agent").revoke(SOVEREIGN, lease)


@cheat("lift a lock that one may not lift", "lock_not_admitted")
def _(service):
    lock = service.at("root-phone").lock(SOVEREIGN, profile="phoenix", reason=REASON)
    detail = lock.raise_for_denial().fields["what"]["detail"]
    return service.at("agent").unlock(AGENT, detail["lock"], reason=REASON)


@cheat("recover as an account that nobody has bound", "not_caller")
def _(service):
    ada = service.at("ada")
    request = ada.prepare_recovery(ADA, reason=REASON)
    return service.at(STRANGER).recover(ADA, request=request, approvals=(), reason=REASON)


@cheat("revoke at the file, on the host's word", "unknown_lease")
def _(service):
    return service.vm.revoke(SOVEREIGN, operator(service.at("ada")).lease)


@cheat("recover at the file, on the host's word", "not_proven")
def _(service):
    request = service.vm.prepare_recovery(SOVEREIGN, reason=REASON)
    return service.vm.recover(SOVEREIGN, request=request, approvals=(), reason=REASON)


@cheat("lock at the file, on the host's word", "not_proven")
def _(service):
    return service.vm.lock(SOVEREIGN, profile="phoenix", reason=REASON)


def _at_the_file(service):
    """The ledger as somebody opens it who has the file, and its key."""
    vm = Authority(service.vm.constitution, Ledger.open(service.vm.ledger.path))
    service.closing.callback(vm.close)
    return vm


@cheat("write at the file where the host is not believed", "LedgerUnavailable", host=False)
def _(service):
    return operator(_at_the_file(service))


@cheat("settle at the file where the host is not believed", "LedgerUnavailable", host=False)
def _(service):
    operator(service.at("ada"), ttl=timedelta(microseconds=1))
    return _at_the_file(service).settle([ADA])


@cheat("read on an account that is bound to nobody", "UnknownPrincipal")
def _(service):
    return service.at(STRANGER).status()


@cheat("read the law on an account that is bound to nobody", "UnknownPrincipal")
def _(service):
    return service.at(STRANGER).constitution


@cheat("show a token that is nobody's", "UnknownPrincipal", tokens={AGENT: TOKEN})
def _(service):
    return service.at("agent", token=new_token())


@cheat(
    "show the digest from the constitution for the token",
    "UnknownPrincipal",
    tokens={AGENT: TOKEN},
)
def _(service):
    return service.at(STRANGER, token=token_digest(TOKEN))


@cheat(
    "show a token after something was asked without it", "InputError", tokens={OTHER_AGENT: TOKEN}
)
def _(service):
    return service.at("agent").ask(wire.HELLO, token=TOKEN)


@cheat("go on asking as somebody else for ever", "LedgerUnavailable")
def _(service):
    door = service.at(STRANGER)
    for _ in range(REFUSALS):
        assert not operator(door).granted
    assert operator(service.at("ada")).granted  # others notice nothing of it
    return operator(door)


# ---- a signature is not what it seems -----------------------------------------------------------


@cheat("approve one's own request with one's own key", "approval_own")
def _(service):
    return guardian(service, by=ADA)


@cheat("approve it with a second key, under a second name", "approval_own", controllers={ONE: ADA})
def _(service):
    return guardian(service)


@cheat(
    "have it approved by whoever stands behind the asker", "approval_own", controllers={AGENT: ONE}
)
def _(service):
    return guardian(service, AGENT, "agent")


@cheat("have it approved by an agent of one's own", "approval_own", controllers={TWO: ADA})
def _(service):
    return guardian(service, by=TWO)


@cheat("sign an approval in an approver's name with one's own key", "approval_signature")
def _(service):
    return guardian(service, signer=ADA)


@cheat("approve as a name that differs in case", "approval_no_key")
def _(service):
    return guardian(service, by="did:vm:Guardian:one")


@cheat("approve as a name of look-alike letters", "InputError")
def _(service):
    door = service.at("ada")
    request = door.prepare(ADA, "guardian", trigger="operator_request", reason=REASON)
    given = approval(service, request).body()
    given["by"] = given["statement"]["by"] = ONE.replace("o", "\N{GREEK SMALL LETTER OMICRON}")
    escalate = {"verb": "escalate", "to": "guardian", "trigger": "operator_request"}
    return _said(service, **escalate, approvals=[given])


@cheat("approve without being an approver", "approval_not_admitted")
def _(service):
    return guardian(service, by=BOB)


@cheat("hand in an approval that was given on another ledger", "approval_other_ledger")
def _(service):
    return guardian(service, origin="vaultmesh/00000000")


@cheat("hand in a request that was written for another ledger", "request_other_ledger")
def _(service):
    door = service.at("ada")
    operator(door).raise_for_denial()
    request = door.prepare(ADA, "guardian", trigger="operator_request", reason=REASON)
    other = request.model_copy(update={"origin": "vaultmesh/00000000"})
    return climb(door, other, (approval(service, other),))


@cheat("hand in an approval under another constitution", "approval_other_constitution")
def _(service):
    return guardian(service, constitution=f"sha256:{'0' * 64}")


@cheat("hand in an approval that is too old", "approval_stale")
def _(service):
    return guardian(service, expires_at="2030-01-01T12:00:00.000000Z")


@cheat("hand in an approval of another request", "approval_other_subject")
def _(service):
    return guardian(service, request=f"sha256:{'0' * 64}")


@cheat("hand in an approval a second time", "approval_used", host=True)
def _(service):
    door = service.at("ada")
    operator(door).raise_for_denial()
    request = door.prepare(ADA, "guardian", trigger="operator_request", reason=REASON)
    given = (approval(service, request),)
    lease = climb(door, request, given).raise_for_denial().lease
    door.release(ADA, lease).raise_for_denial()
    service.wait(minutes=6)
    return climb(door, request, given)


@cheat(
    "hand in an approval of somebody whose key was taken away", "approval_no_key", keyless=(TWO,)
)
def _(service):
    return guardian(service, by=TWO)


@cheat("hand in an approval by a drill's stand-in", "approval_no_key")
def _(service):
    return guardian(service, by="did:vm:guardian:drill-one")


@cheat("sign twice where two must sign", "approval_repeated")
def _(service):
    guardian(service).raise_for_denial()
    door = service.at("ada")
    request = door.prepare(ADA, "phoenix", trigger="quorum_approved", reason=CRISIS)
    return climb(door, request, (approval(service, request), approval(service, request)))


def _threatened(service, *, by=SENSOR, about=ADA, **stated):
    door = service.at("ada")
    operator(door).raise_for_denial()
    asked = {"trigger": "threat_detected", "reason": REASON, "facts": THREAT}
    request = door.prepare(ADA, "guardian", **asked)
    signed = attest(request, by, service.key(by), at=service.now)
    told = sign(Attestation(**{**signed.statement.body(), "principal": about}), service.key(by))
    asked |= {"facts": {**THREAT, **stated}, "attestations": (told,)}
    return door.escalate(ADA, "guardian", **asked)


def _approved_then(service, **changes):
    guardian(service).raise_for_denial()
    door = service.at("ada")
    request = door.prepare(ADA, "phoenix", trigger="crisis_declared", reason=CRISIS)
    return climb(door, request, (approval(service, request, SOVEREIGN),), **changes)


@cheat("change the facts after they were approved", "request_differs")
def _(service):
    return _approved_then(service, facts={"threat.id": "T-2"})


@cheat("change the reason after it was approved", "request_differs")
def _(service):
    return _approved_then(service, reason="nothing is on fire, to be quite honest")


@cheat("attest a threat of one's own", "attestation_not_admitted")
def _(service):
    return _threatened(service, by=BOB)


@cheat("hand in what was attested about somebody else", "attestation_other_subject")
def _(service):
    return _threatened(service, about=BOB)


@cheat("state another confidence than was attested", "fact_differs")
def _(service):
    return _threatened(service, **{"threat.confidence": "0.99"})


def _pushed(service, *, by=SENSOR, about=ADA, signer=None, at=None, **changes):
    """What the sensor signed about somebody, pushed by an account that is nobody's."""
    operator(service.at("ada"))
    carrier = service.at(STRANGER)
    statement = carrier.prepare_attestation(by, about, THREAT)
    changes |= {} if at is None else {"at": format_at(at)}
    signed = sign(statement.model_copy(update=changes), service.key(signer or by))
    return carrier, signed, carrier.push_signed(signed)


def _rests(service, **fields):
    return service.at("ada").escalate(ADA, "guardian", trigger="threat_detected", **fields)


def _used_up(service):
    carrier, signed, receipt = _pushed(service)
    receipt.raise_for_denial()
    lease = _rests(service).raise_for_denial().lease
    service.at("ada").release(ADA, lease).raise_for_denial()
    return carrier, signed


@cheat("push what was attested as no sensor", "attestation_not_admitted")
def _(service):
    return _pushed(service, by=BOB)[2]


@cheat("push a threat about oneself", "attestation_own")
def _(service):
    return _pushed(service, by=SENSOR, about=SENSOR)[2]


@cheat("push in a sensor's name what one's own key signed", "attestation_signature")
def _(service):
    return _pushed(service, signer=ADA)[2]


@cheat("push what was seen too long ago", "attestation_stale")
def _(service):
    return _pushed(service, at=service.now - timedelta(minutes=2, seconds=1))[2]


@cheat("push again what a grant used up", "attestation_used")
def _(service):
    carrier, signed = _used_up(service)
    return carrier.push_signed(signed)


@cheat("push again what was said before something newer", "attestation_older")
def _(service):
    carrier, signed, _ = _pushed(service)
    service.wait(seconds=1)
    _pushed(service)[2].raise_for_denial()
    return carrier.push_signed(signed)


@cheat("rest a second time on what was pushed once", "fact_missing")
def _(service):
    _used_up(service)
    return _rests(service)


@cheat("rest on what was pushed about somebody else", "fact_missing")
def _(service):
    _pushed(service, about=BOB)[2].raise_for_denial()
    return _rests(service)


@cheat("rest on what was pushed too long ago", "fact_missing")
def _(service):
    _pushed(service)[2].raise_for_denial()
    service.wait(minutes=2, seconds=1)
    return _rests(service)


@cheat("rest on what a sensor pushed that an amendment took the word of", "fact_missing")
def _(service):
    _pushed(service)[2].raise_for_denial()
    toml = service.vm.constitution.toml.replace(b'sensors    = ["did:vm:sensor:edr"]', NO_SENSORS)
    asked = {"reason": "it sees too much"}
    request = service.vm.prepare_amendment(BOB, toml, **asked)
    asked |= {"request": request, "approvals": (approval(service, request, SOVEREIGN),)}
    service.vm.amend(BOB, toml, key=service.key(BOB), **asked).raise_for_denial()
    return _rests(service)


@cheat("rest on what a sensor pushed that is locked", "fact_missing")
def _(service):
    _pushed(service)[2].raise_for_denial()
    key = service.key(SOVEREIGN)
    service.vm.lock(SOVEREIGN, principal=SENSOR, reason="odd", key=key).raise_for_denial()
    return _rests(service)


@cheat("state another confidence than was pushed", "fact_differs")
def _(service):
    _pushed(service)[2].raise_for_denial()
    return _rests(service, facts={"threat.confidence": "0.99"})


def _ordered(service, **changes):
    """An order of the sovereign's for another's lease, changed before it was signed."""
    lease = operator(service.at("ada")).lease
    door = service.at(STRANGER)
    asked = {"principal": SOVEREIGN, "lease": lease, "ending": "sovereign_revoke"}
    command = make_command(Release, {**asked, "reason": REASON})
    made = door.ordered(command, service.key(SOVEREIGN))
    signer = service.key(changes.pop("signer", SOVEREIGN))
    order = sign(Order(**{**made.order.statement.body(), **changes}), signer)
    return door, made.model_copy(update={"order": order})


@cheat("hand in an order a second time", "order_used")
def _(service):
    door, command = _ordered(service)
    assert door.submit(command).fields["who"]["proof"] == "key"
    lease = operator(service.at("ada")).lease
    return door.submit(command.model_copy(update={"lease": lease}))


@cheat("hand in an order for another lease", "order_other_subject")
def _(service):
    door, command = _ordered(service)
    return door.submit(command.model_copy(update={"lease": "lease-99"}))


@cheat("hand in an order that is too old", "order_stale")
def _(service):
    door, command = _ordered(service)
    service.wait(minutes=5)
    return door.submit(command)


@cheat("hand in an order that was given on another ledger", "order_other_ledger")
def _(service):
    door, command = _ordered(service, origin="vaultmesh/00000000")
    return door.submit(command)


@cheat("sign an order in a sovereign's name with one's own key", "order_signature")
def _(service):
    door, command = _ordered(service, signer=ADA)
    return door.submit(command)


@cheat("name an approver and sign nothing", "approval_missing")
def _(service):
    door = service.at("ada")
    operator(door).raise_for_denial()
    reason = f"approved by {ONE}"
    return door.escalate(ADA, "guardian", trigger="operator_request", reason=reason)


# ---- the ledger is not what it seems ------------------------------------------------------------


def _edited(service, statement):
    """The ledger after somebody wrote into its file, who needs none of our programs for it."""
    operator(service.at("ada")).raise_for_denial()
    with closing(apsw.Connection(str(service.vm.ledger.path))) as connection:
        for trigger in list(
            connection.execute("SELECT name FROM sqlite_schema WHERE type='trigger'")
        ):
            connection.execute(f"DROP TRIGGER {trigger[0]}")
        connection.execute(statement)
        assert connection.changes() == 1
    return audit_ledger(service.vm.ledger)


@cheat("write a lease row into the file", "found by audit")
def _(service):
    with closing(apsw.Connection(str(service.vm.ledger.path))) as connection:
        columns = [row[1] for row in connection.execute("PRAGMA table_info(lease)")]
    taken = {"seq": "7", "principal": f"'{AGENT}'", "profile": "'phoenix'"}
    values = ", ".join(taken.get(name, name) for name in columns)
    return _edited(service, f"INSERT INTO lease SELECT {values} FROM lease")  # noqa: S608


@cheat("lengthen a lease in the file", "found by audit")
def _(service):
    return _edited(service, "UPDATE lease SET deadline_us = deadline_us + 1000000")


@cheat("write into the file what a sensor never pushed", "found by audit")
def _(service):
    row = f"'{ADA}', '{SENSOR}', 1, 9000000000000000"
    found = _edited(service, f"INSERT INTO pushed VALUES ({row})")  # noqa: S608
    assert [one.code for one in _rests(service).unmet] == ["fact_missing"] * 2
    return found


@cheat("change who asked in a receipt", "found by audit")
def _(service):
    changed = "CAST(replace(CAST(body AS TEXT), 'operator:ada', 'operator:bob') AS BLOB)"
    return _edited(service, f"UPDATE receipt SET body = {changed} WHERE seq = 1")  # noqa: S608


@cheat("let a drill's authority open a live gate", "call_drill", drill=True, extra=TOOLS)
def _(service):
    service.vm.drill_mode(on=True, set_by="a test").raise_for_denial()
    operator(service.at("ada")).raise_for_denial()
    asked = {"principal": ADA, "server": "git", "name": "push", "arguments": f"sha256:{'0' * 64}"}
    return service.at("ada").submit(make_command(Call, asked))


@cheat("switch drill mode on in the live ledger, over the socket", "InputError")
def _(service):
    return service.at("root-phone").drill_mode(on=True, set_by="an attacker")


# ---- the test -----------------------------------------------------------------------------------


@pytest.mark.parametrize("line", CHEATS)
def test_who_cheats_is_refused_or_found(line, serve):
    attempt, code, options = CHEATS[line]
    service = serve(**options)
    seen = _outcome(attempt, service)
    if isinstance(seen, Receipt):
        assert seen.outcome == "denied"
        assert code in [one.code for one in seen.unmet], seen.message
        service.check_audit()
    elif isinstance(seen, VmstateError):
        assert type(seen).__name__ == code, seen
        service.check_audit()
    else:
        assert code == "found by audit"
        assert not seen.is_good


def _outcome(attempt, service):
    try:
        return attempt(service)
    except (InputError, LedgerUnavailable, UnknownPrincipal) as error:
        return error


def test_the_table_above_has_a_line_for_each_and_no_other():
    rows = re.findall(r"^\| (\S.*?) +\| (\S.*?) *\|$", __doc__, re.MULTILINE)
    lines = [(line, code) for line, code in rows if code != "comes to" and not line.startswith("-")]
    assert lines == [(line, code) for line, (_, code, _) in CHEATS.items()]

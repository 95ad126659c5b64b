"""The door at a socket answers as the ledger does, and nobody at it disturbs anybody else."""

import json
import select
import socket
import stat
import threading
import time
from abc import ABCMeta
from contextlib import closing, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from vmstate import errors, serving, wire
from vmstate.client import Client
from vmstate.clock import VirtualClock
from vmstate.decisions.command import Escalate, Release, make_command
from vmstate.door import Door
from vmstate.errors import (
    ConstitutionError,
    InputError,
    LedgerMismatch,
    LedgerNotFound,
    LedgerUnavailable,
    UnknownPrincipal,
    VmstateError,
)
from vmstate.ledger.refusals import ALIKE
from vmstate.sockets import listening

AGENT, ADA = "did:vm:agent:7", "did:vm:operator:ada"
ONE, SENSOR = "did:vm:guardian:one", "did:vm:sensor:edr"
PATIENCE_SECONDS = 10.0  # far beyond what holds, so that only a failure waits so long


def climb(door, who=AGENT, **fields):
    asked = {"trigger": "operator_request", "reason": "look at ticket 4711", **fields}
    return door.escalate(who, "operator", **asked)


# ---- the same answers ---------------------------------------------------------------------------


def test_what_a_client_is_told_is_what_the_ledger_says(service):
    client, vm = service.at("agent"), service.vm
    granted = climb(client)
    assert granted.fields["who"] == {"actor": AGENT, "principal": AGENT, "proof": "peer"}
    assert granted == service.newest()
    assert client.may(AGENT, "operator")
    assert not client.may(AGENT, "guardian")
    assert client.standing(AGENT) == vm.standing(AGENT)
    assert client.status() == vm.status() == (vm.standing(AGENT),)
    assert client.lease(granted.lease) == vm.lease(granted.lease)
    assert client.lease("lease-99") is None
    assert client.size() == client.version() == vm.size()
    assert client.receipt(1) == granted
    assert client.receipts(after=0) == vm.receipts(after=0)
    asked = {"principal": AGENT, "to": "guardian", "trigger": "threat_detected"}
    command = make_command(Escalate, asked)
    assert client.why(command) == vm.why(command)
    assert (client.origin, client.is_drill) == (vm.origin, False)
    assert client.constitution.digest == vm.constitution.digest
    assert client.constitution is client.constitution
    assert client.now() == vm.now()
    assert client.names == (AGENT,)
    service.wait(hours=1)
    assert not client.may(AGENT, "operator")
    assert client.due(limit=5) == vm.due(limit=5) != ()
    assert not client.release(AGENT, granted.lease).granted
    service.check_audit()


def test_every_read_of_the_door_is_asked_over_the_socket_or_made_of_what_is():
    own = {"constitution", "origin", "is_drill", "now", "set_back", "version", "close"}
    assert isinstance(Door, ABCMeta)
    assert Door.__abstractmethods__ == own | (wire.QUESTIONS.keys() - {"hello", "law", "wait"})


def test_what_is_signed_at_the_socket_counts_once_a_clock_that_was_ahead_is_set_right(service):
    client, stranger = service.at("agent"), service.at("nobody-we-know")
    assert client.set_back() is None
    service.clock.step_wall(timedelta(days=1))
    climb(client)
    service.clock.step_wall(-timedelta(days=1))
    locked = stranger.lock(ONE, reason="an emergency", key=service.key(ONE))
    assert locked.granted
    told = client.set_back()
    assert (told.seen - told.reads, told.after) == (timedelta(days=1), service.vm.receipt(3).id)
    assert told == service.vm.set_back()
    facts = {"threat.id": "T-1", "threat.type": "intrusion", "threat.confidence": "0.92"}
    assert stranger.push(SENSOR, AGENT, facts, service.key(SENSOR)).granted
    service.check_audit()


def test_more_receipts_than_one_answer_holds_come_in_pages(service, monkeypatch):
    monkeypatch.setattr(wire, "PAGE", 2)
    client = service.at("agent")
    for _ in range(4):
        climb(client)
    assert [one.seq for one in client.receipts()] == [0, 1, 2, 3, 4]
    assert [one.seq for one in client.receipts(limit=3)] == [0, 1, 2]
    assert [one.seq for one in client.receipts(denied=True)] == [2, 3, 4]
    with pytest.raises(InputError, match="3 receipts at once, at most 2 are sent"):
        client.ask(wire.QUESTIONS["receipts"], limit=3)


def test_facts_statements_and_times_survive_the_way(service):
    client = service.at("ada")
    climb(client, ADA)
    prepared = client.prepare(
        ADA,
        "guardian",
        trigger="operator_request",
        reason="look at ticket 4711",
        ttl=timedelta(minutes=7),
    )
    from vmstate.signing import approve  # noqa: PLC0415

    by = "did:vm:guardian:one"
    until = service.now + timedelta(minutes=1)
    approval = approve(prepared, by, service.key(by), expires_at=until)
    granted = client.escalate(
        ADA,
        "guardian",
        trigger="operator_request",
        reason="look at ticket 4711",
        ttl=timedelta(minutes=7),
        request=prepared,
        approvals=(approval,),
    )
    assert granted.granted, granted.message
    assert granted.expires_at == service.now + timedelta(minutes=7)
    assert granted.fields["authority"]["approvals"] == [approval.body()]


def test_an_amended_law_is_followed_by_clients_that_are_there_already(serve):
    one, other = serve(), serve(accounts={ADA: "agent"})
    client = one.at("agent")
    assert client.constitution.digest == one.vm.constitution.digest
    # The service's law becomes another, as an amendment makes it.
    one.vm.law_in_force = other.vm.law_in_force
    one.vm._law = other.vm._law
    assert client.names == (ADA,)
    assert client.constitution.digest == other.vm.constitution.digest


def test_who_waits_is_told_of_a_commit_at_once_and_otherwise_when_time_is_up(service):
    client = service.at("agent")
    size = client.version()
    assert client.wait(size, timedelta(milliseconds=1)) == size
    assert client.wait(size - 1, timedelta(minutes=1)) == size
    told = []
    waiting = threading.Thread(
        target=lambda: told.append(client.wait(size, timedelta(seconds=PATIENCE_SECONDS)))
    )
    waiting.start()
    climb(service.vm, ADA)
    waiting.join(PATIENCE_SECONDS)
    assert told == [size + 1]


# ---- errors -------------------------------------------------------------------------------------


def test_an_error_is_raised_as_the_class_that_it_is(service):
    client = service.at("agent")
    with pytest.raises(LedgerNotFound):
        client.receipt(99)
    with pytest.raises(UnknownPrincipal, match="nobody:here is in no group"):
        client.standing("nobody:here")
    with pytest.raises(InputError, match="is not a name"):
        client.standing("no name")
    service.vm.close()
    with pytest.raises(LedgerUnavailable, match="was closed"):
        client.size()


@pytest.mark.parametrize(
    "error",
    [
        ConstitutionError(("one", "two")),
        errors.DrillError(("one",)),
        errors.TamperError("it was changed"),
        errors.Denied("no"),
        VmstateError("something"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_each_class_of_error_survives_the_way(error):
    line = wire.write_error(error, "")
    with pytest.raises(type(error)) as caught:
        wire.read_answer(wire.HELLO, line)
    assert type(caught.value) is type(error)
    assert str(caught.value) == str(error)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"220 ready", "not vmstate serve: JSONDecodeError"),
        (b"[]", "not vmstate serve: TypeError"),
        (b"{}", "not vmstate serve: KeyError"),
        (b'{"v":2}', "speaks version 2, this is version 1"),
        (b'{"v":1,"law":"","is":3}', "not vmstate serve: ValidationError"),
        (b'{"v":1,"error":{"name":"RuntimeError","said":["x"]}}', "answered with RuntimeError: x"),
    ],
)
def test_what_is_no_answer_is_taken_for_none(line, message):
    with pytest.raises(LedgerUnavailable, match=message):
        wire.read_answer(wire.HELLO, line)


def test_what_breaks_inside_is_told_without_what_broke_and_the_next_question_works(
    service, monkeypatch, caplog
):
    client = service.at("agent")
    with monkeypatch.context() as patch:
        patch.setattr(service.vm, "status", lambda: 1 / 0)
        with pytest.raises(LedgerUnavailable, match="failed on this, its log says why"):
            client.status()
    assert "ZeroDivisionError" in caplog.text
    assert client.status() == ()


# ---- garbage ------------------------------------------------------------------------------------


def say(connection, line):
    connection.sendall(line)
    return json.loads(connection.makefile("rb").readline())


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("GET / HTTP/1.1", "not JSON"),
        ("[]", "this is not a question"),
        ('{"v":7,"do":"size"}', "version 7 is asked for, this socket speaks 1"),
        ('{"v":1,"do":"settle"}', "'settle' is not asked over a socket: there are hello, law"),
        ('{"v":1,"do":"size","and":1}', "'size' is not asked over a socket"),
        ('{"v":1,"do":"size","with":{"x":1}}', "x: is not known here: leave it out"),
        ('{"v":1,"do":"may","with":{"principal":7,"what":""}}', "principal: 7 is not text"),
        ('{"v":1,"do":"submit","with":{"command":7}}', "int is not a command"),
        ('{"v":1,"do":"submit","with":{"command":{"verb":"drill_mode"}}}', "'drill_mode' is not"),
        ('{"v":1,"do":"submit","with":{"command":{"verb":"release"}}}', "is missing: add it"),
        ('{"v":1,"do":"wait","with":{"size":1.5,"milliseconds":1}}', "1.5 is float"),
    ],
)
def test_what_is_no_question_is_answered_with_what_is_wrong_with_it(line, message, service):
    connection = service.raw()
    size = service.vm.size()
    answer = say(connection, line.encode() + b"\n")
    assert answer["error"]["name"] == "InputError"
    assert message in answer["error"]["said"][0]
    assert say(connection, b'{"v":1,"do":"size"}\n')["is"] == size == service.vm.size()


@pytest.mark.parametrize(
    "field",
    [
        {"proven": "peer"},
        {"proven": "host"},
        {"caller": {"account": "root-phone"}},
        {"setup": True},
        {"setup": False},
        {"claims": [{"rule": "", "code": "not_self", "required": "", "given": "", "remedy": ""}]},
    ],
)
def test_what_only_a_door_may_say_of_a_command_is_refused(field, service):
    command = {"verb": "release", "principal": AGENT, "lease": "lease-1", **field}
    with pytest.raises(InputError, match="is for vmstate serve to"):
        wire.read_command(command)
    line = json.dumps({"v": 1, "do": "submit", "with": {"command": command}})
    size = service.vm.size()
    assert "vmstate serve to" in say(service.raw(), line.encode() + b"\n")["error"]["said"][0]
    assert service.vm.size() == size


def test_what_a_door_said_of_a_command_is_left_behind_when_it_is_sent_on(service):
    client = service.at("agent")
    asked = {"principal": AGENT, "lease": "lease-9", "proven": "token"}
    receipt = client.submit(make_command(Release, asked))
    assert receipt.fields["who"]["proof"] == "peer"


def test_a_line_without_an_end_is_cut_off_and_nobody_else_notices(service):
    connection, client = service.raw(), service.at("agent")
    connection.sendall(b"x" * (wire.LINE_BYTES + 1))
    answer = json.loads(connection.makefile("rb").readline())
    assert "the line has more than 262,144 bytes" in answer["error"]["said"][0]
    assert connection.recv(1) == b""
    assert client.size() == 1


def test_a_question_too_long_to_send_is_not_sent(service):
    client = service.at("agent")
    with pytest.raises(InputError, match=r"has 300,0.. bytes, at most 262,144 are sent"):
        client.may(AGENT, "x" * 300_000)
    assert client.size() == 1


def test_who_is_slow_or_silent_is_let_go_with_a_word(service, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(serving, "LINE_WITHIN", timedelta(milliseconds=30))
        silent = service.raw()
        assert silent.recv(1, socket.MSG_PEEK)
    monkeypatch.setattr(serving, "LINE_WITHIN", timedelta(milliseconds=30))
    slow = service.raw()
    slow.sendall(b'{"v":1,')
    for connection in (silent, slow):
        said = json.loads(connection.makefile("rb").readline())
        assert said == {"v": 1, "bye": "nothing whole was asked for too long"}
        assert connection.recv(1) == b""


def test_who_asks_too_fast_is_read_more_slowly(service, monkeypatch):
    client = service.at("agent")
    waits = []
    monkeypatch.setattr(serving, "BURST", 2)
    monkeypatch.setattr(serving, "PER_SECOND", 0.01)
    monkeypatch.setattr(service.server._stopping, "wait", waits.append)
    fast = service.at("agent")
    for _ in range(4):
        fast.size()
    assert len(waits) == 3  # a client asks once before it is asked anything
    assert waits[0] > 90
    assert client.size() == 1


def test_more_connections_than_there_is_room_for_are_turned_away(service, monkeypatch, caplog):
    monkeypatch.setattr(serving, "CONNECTIONS", 3)
    monkeypatch.setattr(serving, "PER_ACCOUNT", 2)
    first, second = service.at("agent"), service.at("agent")
    with pytest.raises(LedgerUnavailable, match="this account has 2 connections already"):
        service.at("agent")
    third = service.at("ada")
    with pytest.raises(LedgerUnavailable, match="there are 3 connections already"):
        service.at("ada")
    assert [one.size() for one in (first, second, third)] == [1, 1, 1]
    assert caplog.text.count("connections already") == 2


def test_whoever_has_most_makes_room_for_somebody_else_and_loses_nothing_by_it(
    service, monkeypatch
):
    monkeypatch.setattr(serving, "CONNECTIONS", 4)
    silent = service.raw("mallory")
    busy = [service.at("agent") for _ in range(3)]
    service.at("ada").size()  # closes that of the three which has been idle for longest
    closed, _, _ = select.select([one._idle[0] for one in busy], (), (), PATIENCE_SECONDS)
    (told,) = [json.loads(end.recv(1_000))["bye"] for end in closed]
    assert told == "others need the room: connect again"
    silent.close()
    until = time.monotonic() + PATIENCE_SECONDS
    while len(service.server._connections) > 3 and time.monotonic() < until:
        time.sleep(0.001)
    assert [one.size() for one in busy] == [1, 1, 1]


def test_four_accounts_that_say_nothing_keep_nobody_out(service, monkeypatch):
    monkeypatch.setattr(serving, "CONNECTIONS", 8)
    monkeypatch.setattr(serving, "PER_ACCOUNT", 2)
    held = [service.raw(f"mallory-{number}") for number in range(4) for _ in range(2)]
    assert service.at("ada").size() == 1
    assert len(held) == 8


def test_many_threads_share_a_client(service):
    client = service.at("agent")
    granted = []

    def ask(n):
        granted.append(climb(client, AGENT, reason=f"look at ticket {n:04}").granted)
        granted.append(client.may(AGENT, "operator"))

    threads = [threading.Thread(target=ask, args=(n,)) for n in range(24)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_SECONDS)
    assert len(granted) == 48
    assert granted.count(True) == 25  # one lease, and nobody was told a lie about it
    assert len(client._idle) <= 4


# ---- connections that end -----------------------------------------------------------------------


def test_a_connection_that_ended_between_two_questions_is_made_again(service, monkeypatch):
    client = service.at("agent")
    with monkeypatch.context() as patch:
        patch.setattr(serving, "IDLE_FOR", timedelta(milliseconds=1))
        client.size()
        (idle,) = client._idle
        assert idle.recv(4_096, socket.MSG_PEEK)  # it was told bye
    assert climb(client).granted
    assert service.vm.size() == 2


class Fake:
    """Something else at a socket: it reads one line, and does what the test says."""

    def __init__(self, path, *acts):
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.listener.bind(str(path))
        self.listener.listen()
        self.lines = []
        self.thread = threading.Thread(target=self.run, args=acts)
        self.thread.start()

    def run(self, *acts):
        noon = datetime(2030, 1, 1, 12, tzinfo=UTC)
        heading = wire.Heading("vm/1", "", is_drill=False, account="a", names=("a",), now=noon)
        for act in acts:
            connection, _ = self.listener.accept()
            with connection, connection.makefile("rb") as lines:
                lines.readline()
                connection.sendall(wire.write_answer(wire.HELLO, heading, ""))
                self.lines.append(lines.readline())
                act(connection)

    def close(self):
        self.listener.close()
        self.thread.join(PATIENCE_SECONDS)


def test_nothing_is_signed_by_the_clock_of_whoever_answers(service):
    agent = service.at("agent")
    climb(agent).raise_for_denial()
    asked = {"trigger": "operator_request", "reason": service.reason}
    request = agent.open_request(agent.prepare(AGENT, "guardian", **asked))
    id_ = request.fields["what"]["detail"]["request"]
    one = "did:vm:guardian:one"
    with closing(Client(service.path, clock=VirtualClock(service.now - timedelta(hours=1)))) as far:
        for sign in (
            lambda: far.withdraw(AGENT, id_, key=service.key(AGENT)),
            lambda: far.approve(id_, one, service.key(one)),
            lambda: far.approve(id_, one, service.key(one), good_for=timedelta(minutes=1)),
            lambda: far.attest(id_, one, service.key(one)),
        ):
            with pytest.raises(LedgerMismatch, match="its clock reads 2030-01-01T12:00"):
                sign()
    assert service.newest() == request


def test_what_is_signed_lasts_no_longer_than_the_law_lets_a_request_last(service):
    agent = service.at("agent")
    climb(agent).raise_for_denial()
    asked = {"trigger": "operator_request", "reason": service.reason}
    request = agent.open_request(agent.prepare(AGENT, "guardian", **asked))
    shown = agent.request(request.fields["what"]["detail"]["request"])
    table = service.vm.constitution.document.requests
    most = service.now + table.waits + table.usable_for
    assert agent.good_until(shown) == service.vm.good_until(shown) == most
    late = replace(shown, waits_until=shown.waits_until + timedelta(days=9_000))
    assert agent.good_until(late) == most
    other = shown.request.model_copy(update={"constitution": f"sha256:{'0' * 64}"})
    assert agent.good_until(replace(late, request=other)) == service.now


def test_of_what_was_signed_and_handed_over_nobody_says_that_nothing_was_decided(service):
    agent = service.at("agent")
    climb(agent).raise_for_denial()
    asked = {"principal": AGENT, "lease": "lease-1"}
    signed = agent.ordered(make_command(Release, asked), service.key(AGENT))
    agent.rest()
    service.server._stopping.set()  # whatever it is asked, it says bye
    with pytest.raises(LedgerUnavailable, match="stopping; it holds what was signed, good until"):
        agent.submit(signed)


def test_a_command_whose_answer_never_came_is_not_sent_again(tmp_path):
    with (
        closing(Fake(tmp_path / "s", lambda _: None)) as fake,
        closing(Client(tmp_path / "s")) as c,
    ):
        with pytest.raises(LedgerUnavailable) as caught:
            climb(c)
        assert len(fake.lines) == 1
    assert str(caught.value) == (
        f"{tmp_path}/s: no answer came: it is unknown whether this was decided, "
        "look at the receipts before asking again"
    )


def test_under_an_idempotency_key_it_is_sent_again_and_decided_once(service, monkeypatch):
    client = service.at("agent")
    send, lost = serving._Connection.send, []

    def lose_the_first(connection, line):
        if not lost:
            lost.append(line)
            raise BrokenPipeError
        send(connection, line)

    with monkeypatch.context() as patch:
        patch.setattr(serving._Connection, "send", lose_the_first)
        granted = climb(client, idempotency_key="once")
    assert granted.granted
    assert wire.read_answer(wire.QUESTIONS["submit"], lost[0]).value == granted
    assert service.vm.size() == 2


def test_half_an_answer_is_none(tmp_path):
    half = Fake(tmp_path / "s", lambda connection: connection.sendall(b'{"v":1,"is":1'))
    with (
        closing(half),
        closing(Client(tmp_path / "s")) as client,
        pytest.raises(LedgerUnavailable, match="no answer came: nothing was asked that changes"),
    ):
        client.size()


def test_an_answer_that_takes_too_long_is_not_waited_for(tmp_path, monkeypatch):
    monkeypatch.setattr("vmstate.client.ANSWER_WITHIN", timedelta(milliseconds=50))
    late = threading.Event()
    with (
        closing(Fake(tmp_path / "s", lambda _: late.wait(PATIENCE_SECONDS))),
        closing(Client(tmp_path / "s")) as client,
    ):
        with pytest.raises(LedgerUnavailable, match="no answer came"):
            client.size()
        late.set()


def test_who_looks_after_others_waits_for_no_read_as_long_as_for_a_decision(tmp_path):
    gone = threading.Event()

    def answer_late(connection):
        gone.wait(1)
        with suppress(OSError):
            connection.sendall(wire.write_answer(wire.QUESTIONS["size"], 1, ""))

    with (
        closing(Fake(tmp_path / "s", answer_late)),
        closing(Client(tmp_path / "s", shown_within=timedelta(milliseconds=50))) as client,
    ):
        with pytest.raises(LedgerUnavailable, match="no answer came"):
            client.size()
        gone.set()


def test_nobody_at_the_socket_is_told_with_what_to_do(tmp_path, service):
    with pytest.raises(LedgerUnavailable) as caught:
        Client(tmp_path / "none.sock")
    assert str(caught.value) == (
        f"nobody answers at {tmp_path}/none.sock (No such file or directory): start vmstate serve, "
        "or set VMSTATE_SOCKET to its socket, to nothing for the ledger's file"
    )
    client = service.at("agent")
    client.close()
    with pytest.raises(LedgerUnavailable, match="was closed: connect again"):
        client.size()


def test_a_forked_child_asks_on_connections_of_its_own(service):
    client = service.at("agent")
    (inherited,) = client._idle
    client._pid = -1
    assert client.size() == 1
    assert inherited.fileno() == -1
    assert len(client._idle) == 1


def test_stopping_tells_those_who_wait_and_takes_no_time(service):
    idle, client = service.raw(), service.at("agent")

    def wait():
        with suppress(LedgerUnavailable):  # where it was stopped before it had the question
            client.wait(1, timedelta(minutes=1))

    waiting = threading.Thread(target=wait)
    waiting.start()
    say(idle, b'{"v":1,"do":"size"}\n')
    began = time.monotonic()
    service.server.stop()
    assert time.monotonic() - began < 2.0
    waiting.join(PATIENCE_SECONDS)
    assert not waiting.is_alive()
    assert json.loads(idle.makefile("rb").readline())["bye"] == "vmstate serve is stopping"
    with pytest.raises(LedgerUnavailable, match="nobody answers"):
        client.size()


# ---- the socket's place -------------------------------------------------------------------------


def test_the_socket_has_its_mode_before_anybody_can_connect_and_is_gone_afterwards(tmp_path):
    path = tmp_path / "s"
    with listening(path):
        assert stat.S_IMODE(path.stat().st_mode) == 0o660
    assert not path.exists()
    with listening(path, mode=0o600):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_what_a_killed_service_left_behind_is_replaced(tmp_path):
    path = tmp_path / "s"
    left = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    left.bind(str(path))
    left.close()
    with listening(path) as listener:
        assert listener.getsockname() == str(path)


def test_a_socket_that_somebody_made_anew_meanwhile_stays(tmp_path):
    path = tmp_path / "s"
    with listening(path):
        (tmp_path / "other").touch()
        (tmp_path / "other").rename(path)
    assert path.exists()


def test_what_is_no_socket_or_somebody_elses_is_left_alone(tmp_path):
    path = tmp_path / "s"
    path.write_text("precious")
    with (
        pytest.raises(InputError, match="is there and is no socket: choose another"),
        listening(path),
    ):
        pass
    assert path.read_text() == "precious"
    with (
        listening(tmp_path / "t"),
        pytest.raises(InputError, match=r"somebody listens at .* already"),
        listening(tmp_path / "t"),
    ):
        pass
    (tmp_path / "t.lock").unlink()
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as other:
        other.bind(str(tmp_path / "t"))
        other.listen()
        with pytest.raises(InputError, match="somebody listens at"), listening(tmp_path / "t"):
            pass


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("x" * 120, {}, "a socket's path has 107 bytes at most"),
        ("none/s", {}, "can't be made: No such file or directory"),
        ("s", {"group": "no-such-group"}, "there is no group no-such-group"),
    ],
)
def test_a_place_where_no_socket_can_be_is_named(name, options, message, tmp_path):
    with pytest.raises(InputError, match=message), listening(tmp_path / name, **options):
        pass
    assert not (tmp_path / "s").exists()


def test_a_refusal_that_is_only_counted_is_told_with_what_it_lacked_itself(service):
    agent = service.at("agent")
    for number in range(ALIKE):
        agent.escalate(AGENT, "guardian", trigger=f"t{number}", reason=service.reason)
    told = agent.escalate(AGENT, "guardian", trigger="another", reason=service.reason)
    assert "on another" in told.message
    assert told.place == f"counted with receipt {service.newest().seq}"


def test_a_stranger_is_told_why_they_are_nobody_and_nothing_of_anybody_else(service):
    agent, stranger = service.at("agent"), service.at("stranger")
    lease = climb(agent).lease
    service.at("root-phone").lock(
        "did:vm:sovereign:root", principal=AGENT, reason="a secret"
    ).raise_for_denial()
    asked = {"trigger": "operator_request", "reason": service.reason}
    for told in (
        climb(stranger),
        stranger.escalate(AGENT, "guardian", **asked),
        stranger.renew(AGENT, lease, reason=service.reason),
        stranger.release(AGENT, lease),
        stranger.act(AGENT, "guardian.anchor"),
        stranger.escalate(AGENT, "operator", actor=ADA, **asked),
        stranger.deny(ADA, f"sha256:{'0' * 64}"),
    ):
        assert not told.granted
        assert {one.code for one in told.unmet} <= {"not_caller", "not_proven"}
        assert told.unmet
        assert (told.fields["what"]["from"], told.fields["cost"]) == (None, [])
        assert b"a secret" not in told.body
    service.check_audit()

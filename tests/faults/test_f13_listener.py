"""F13: a listener or webhook is down or hangs. Authority is unaffected; delivery is retried, stays
visible and is never forgotten.
"""

import json
import socket
import threading
import time
from contextlib import closing
from datetime import timedelta

import pytest

from vmstate.authority import Authority
from vmstate.clock import VirtualClock
from vmstate.constitution.loading import read_constitution
from vmstate.notices import Deliverer
from vmstate.notices.deliverer import BACK_OFF

TABLE = '[notify.pager]\nevents = ["ended"]\n'


@pytest.fixture
def make(stage):
    """A ledger with one target, in the words of its table."""

    def made(table):
        text = stage.law.toml.decode() + f"\n{TABLE}{table}\n"
        clock = VirtualClock(stage.noon)
        vm = Authority.create(read_constitution(text.encode()), stage.folder / "n.db", clock=clock)
        return stage.closing(vm, Authority.close), clock

    return made


@pytest.fixture
def silent():
    """A server that takes every connection and never answers."""
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        yield server.getsockname()[1]


@pytest.mark.parametrize("way", ["command", "webhook"])
def test_while_a_listener_hangs_others_climb_end_and_ask_as_ever(make, silent, stage, way):
    command, url = 'command = ["sleep", "60"]', f'url = "http://127.0.0.1:{silent}/"'
    vm, _ = make(command if way == "command" else url)
    deliverer = Deliverer(vm, deliver_for=timedelta(seconds=1))
    vm.release("u:a", stage.climb(vm, "u:a").lease)
    telling = threading.Thread(target=deliverer.deliver_due)
    telling.start()
    try:
        for number in range(20):
            lease = stage.climb(vm, f"u:{number}").lease
            assert vm.may(f"u:{number}", "operator")
            vm.release(f"u:{number}", lease).raise_for_denial()
            assert not vm.may(f"u:{number}", "operator")
        assert telling.is_alive()  # nothing of this waited for it
    finally:
        telling.join()
    stage.check_whole(vm)
    (backlog,) = vm.backlogs()
    assert (backlog.waiting, backlog.attempts, backlog.is_behind) == (21, 1, True)


def test_a_webhook_that_is_down_is_tried_until_it_is_up_and_then_told_everything(make, stage):
    with closing(socket.create_server(("127.0.0.1", 0))) as reserved:
        port = reserved.getsockname()[1]
    vm, clock = make(f'url = "http://127.0.0.1:{port}/"')
    deliverer = Deliverer(vm)
    ends = [vm.release("u:a", stage.climb(vm, "u:a").lease) for _ in range(3)]
    for wait in BACK_OFF:
        assert deliverer.deliver_due() == 0
        (backlog,) = vm.backlogs()
        assert backlog.is_behind
        assert backlog.message == (
            "pager is behind: 3 notices wait since 2030-01-01 12:00:00Z, "
            "can't be reached: Connection refused"
        )
        clock.advance(wait)
    heard = []
    with closing(socket.create_server(("127.0.0.1", port))) as server:
        answering = threading.Thread(target=_answer, args=(server, heard, len(ends)))
        answering.start()
        assert deliverer.deliver_due() == 3
        answering.join()
    # What failed often stood behind what did not, so the order is not that of the receipts.
    assert {one["receipt"]["id"] for one in heard} == {one.id for one in ends}
    assert not vm.backlogs()[0].is_behind


def test_what_waits_is_still_there_after_a_restart(make, stage):
    vm, clock = make('command = ["false"]')
    vm.release("u:a", stage.climb(vm, "u:a").lease)
    Deliverer(vm).deliver_due()
    again = stage.closing(Authority(vm.constitution, vm.ledger, clock=clock), lambda _: None)
    (backlog,) = again.backlogs()
    assert (backlog.waiting, backlog.attempts, backlog.fault) == (1, 1, "ended with exit code 1")
    clock.advance(BACK_OFF[0])
    Deliverer(again).deliver_due()
    assert again.backlogs()[0].attempts == 2


def test_a_listener_in_this_process_that_raises_or_is_slow_undoes_nothing(stage, caplog):
    vm = stage.make()

    def raises(_receipt):
        raise RuntimeError("no room")

    vm.subscribe(raises)
    assert stage.climb(vm, "u:a").granted
    assert vm.may("u:a", "operator")
    assert "a listener failed on receipt 1" in caplog.text


def test_a_service_is_stopped_in_time_although_a_listener_hangs(make, stage):
    vm, _ = make('command = ["sleep", "60"]')
    deliverer = Deliverer(vm, deliver_for=timedelta(seconds=5))
    deliverer.start()
    vm.release("u:a", stage.climb(vm, "u:a").lease)
    began = time.monotonic()
    deliverer.stop()
    assert time.monotonic() - began < 5


def _answer(server, heard, count):
    for _ in range(count):
        connection, _ = server.accept()
        with connection, connection.makefile("rb") as reading:
            lines = iter(reading.readline, b"\r\n")
            length = next(
                int(line.split()[1]) for line in lines if b"content-length" in line.lower()
            )
            list(lines)
            heard.append(json.loads(reading.read(length)))
            connection.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")

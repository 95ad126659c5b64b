"""A webhook as its receiver sees it: signed, once for each attempt, and believed by a 2xx alone."""

import base64
import json
import threading
from contextlib import closing, contextmanager
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from socket import create_server

import pytest

from vmstate.keys import Ed25519Key, PrivateKey
from vmstate.notices import Deliverer
from vmstate.notices.webhook import LONGEST_PAUSE_SECONDS, post, signed_headers, spell_key


class Receiver:
    """A server of one machine that answers with what it is told to, and keeps what it heard."""

    def __init__(self):
        self.status, self.headers, self.heard = 204, {}, []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["content-length"]))
                heard = {name.lower(): text for name, text in self.headers.items()}
                receiver.heard.append((self.path, heard, body))
                self.send_response(receiver.status)
                for name, text in receiver.headers.items():
                    self.send_header(name, text)
                self.end_headers()

            def log_message(self, *_):
                pass

        self._server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/hook?room=ops"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    def close(self):
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def receiver():
    with closing(Receiver()) as one:
        yield one


def test_a_signature_is_the_one_that_the_specifications_own_tests_expect():
    # libraries/go/webhook_asymmetric_test.go of Standard Webhooks, TestAsymmetricWebhookSign
    key = PrivateKey(base64.b64decode("VEVTVFNJR05JTkdLRVlET05PVFVTRVRISVNGT1JBTlk="))
    body = b'{"test": 2432232314}'
    headers = signed_headers("msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, body, key.sign)
    assert headers["webhook-signature"] == (
        "v1a,tQ9V2XOqn7jL/DQenEFpqIugdBVtiMmER5mhSkXBNwM0mkATuDe6KYYUuxqtaiHe"
        "YGb7KaaBRdM5WqyeFiL8Ag=="
    )


def test_a_receiver_checks_a_notice_with_the_logs_public_key(desk, receiver):
    desk.target("hook", "ended", url=receiver.url)
    vm = desk.make()
    lease = vm.escalate("u:a", "operator", trigger="asked").lease
    vm.release("u:a", lease)
    assert Deliverer(vm).deliver_due() == 1
    ((path, headers, body),) = receiver.heard
    assert path == "/hook?room=ops"
    assert headers["content-type"] == "application/json"
    assert headers["webhook-timestamp"] == str(int(desk.clock.read().wall.timestamp()))
    told = json.loads(body)
    assert (told["id"], told["target"], told["lease"]) == (headers["webhook-id"], "hook", lease)
    scheme, signature = headers["webhook-signature"].split(",")
    content = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    spelled = spell_key(vm.ledger.verifier.public)
    key = Ed25519Key(base64.b64decode(spelled.removeprefix("whpk_")))
    assert scheme == "v1a"
    assert key.verifies(base64.b64decode(signature), content)
    assert not key.verifies(base64.b64decode(signature), content.replace(b"operator", b"guardian"))


def test_the_logs_key_signs_nothing_of_several_lines_for_the_outside(desk):
    desk.target("hook", "ended")
    vm = desk.make()
    with pytest.raises(RuntimeError, match="a notice is one line"):
        vm.ledger.sign_notice(b"short/1f2e3d4c\n2\nroot\n")


def answered(receiver, status, **headers):
    receiver.status = status
    receiver.headers = {name.replace("_", "-"): text for name, text in headers.items()}
    return post(receiver.url, {}, b"{}", seconds=5)


def test_delivered_is_what_is_answered_with_a_2xx(receiver):
    assert [answered(receiver, status) for status in (200, 202, 204)] == [("", 0)] * 3
    for status in (400, 404, 410, 429, 500, 503):
        assert answered(receiver, status) == (f"answered {status}", 0)


def test_a_redirect_is_not_followed(receiver):
    fault, _ = answered(receiver, 307, location=receiver.url)
    assert fault == "answered 307, and redirects are not followed: mend the URL"
    assert len(receiver.heard) == 1


def test_a_receiver_that_asks_for_a_pause_is_given_one_of_an_hour_at_most(receiver):
    assert answered(receiver, 429, retry_after="120") == ("answered 429", 120)
    pause = answered(receiver, 503, retry_after="9" * 40)[1]
    assert pause == LONGEST_PAUSE_SECONDS == 3_600
    for text in ("Fri, 31 Dec 2029 23:59:59 GMT", "-5", "soon", "²"):
        assert answered(receiver, 503, retry_after=text.encode().decode("latin-1"))[1] == 0


def test_a_pause_that_was_asked_for_is_kept(desk, receiver):
    desk.target("hook", "ended", url=receiver.url)
    vm = desk.make()
    receiver.status, receiver.headers = 503, {"retry-after": "100"}
    vm.release("u:a", vm.escalate("u:a", "operator", trigger="asked").lease)
    deliverer = Deliverer(vm)
    deliverer.deliver_due()
    for moved in (50, 49.9):
        desk.clock.advance(_seconds(moved))
        deliverer.deliver_due()
    assert len(receiver.heard) == 1
    desk.clock.advance(_seconds(0.1))
    deliverer.deliver_due()
    assert len(receiver.heard) == 2


def test_nobody_there_says_why():
    with closing(create_server(("127.0.0.1", 0))) as server:
        port = server.getsockname()[1]
    url = f"http://127.0.0.1:{port}/"
    assert post(url, {}, b"{}", seconds=5) == ("can't be reached: Connection refused", 0)


def test_what_is_no_certificate_says_so():
    with _one_that(b"HTTP/1.1 204 No Content\r\n\r\n") as port:
        fault, _ = post(f"https://127.0.0.1:{port}/", {}, b"{}", seconds=5)
    assert fault.startswith("can't be reached: ")


def test_an_answer_that_never_comes_or_never_ends_is_cut_off():
    with _one_that(b"") as port:
        assert post(f"http://127.0.0.1:{port}/", {}, b"{}", seconds=0.2) == (
            "did not answer within 0.2 s",
            0,
        )
    with _one_that(b"HTTP/1.1 200 OK\r\n", then=b"x: y\r\n") as port:
        assert post(f"http://127.0.0.1:{port}/", {}, b"{}", seconds=0.2) == (
            "did not answer within 0.2 s",
            0,
        )


def _seconds(number):
    return timedelta(seconds=number)


@contextmanager
def _one_that(says, then=b""):
    """A server for one connection: says something, then `then` again and again until hung up on."""
    done = threading.Event()

    def serve(server):
        connection, _ = server.accept()
        with connection:
            try:
                connection.sendall(says)
                while not done.wait(0.02):
                    connection.sendall(then)
            except OSError:
                pass

    with closing(create_server(("127.0.0.1", 0))) as server:
        thread = threading.Thread(target=serve, args=(server,))
        thread.start()
        try:
            yield server.getsockname()[1]
        finally:
            done.set()
            thread.join()

"""A service at a socket, and callers who are whatever account the test says.

In this process every caller would be the one account that the tests run under, so most tests say
who is at the other end; what the kernel says of real accounts is asked in `test_accounts.py`.
"""

import os
import pwd
import socket
import threading
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from vmstate.authority import Authority
from vmstate.client import Client
from vmstate.clock import VirtualClock
from vmstate.constitution.loading import read_constitution
from vmstate.keys import PrivateKey, new_token, token_digest
from vmstate.ledger.audit import audit_ledger
from vmstate.ledger.store import DrillMark, Ledger
from vmstate.serving import Server
from vmstate.sockets import listening

ROOT = Path(__file__).parents[2]
NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)
REASON = "look at ticket 4711"
ADA, BOB, AGENT = "did:vm:operator:ada", "did:vm:operator:bob", "did:vm:agent:7"
SOVEREIGN, ONE, TWO = "did:vm:sovereign:root", "did:vm:guardian:one", "did:vm:guardian:two"
SENSOR = "did:vm:sensor:edr"
TOKEN = new_token()
HERE = pwd.getpwuid(os.getuid()).pw_name


def key(name):
    return PrivateKey.derive(name)


def law(*changes, accounts=None, tokens=None, host=True, controllers=None, keyless=(), extra=""):
    """The shipped constitution with a key for everybody, and who may ask over a socket."""
    text = (ROOT / "constitution.toml").read_text(encoding="utf-8")
    for old, new in changes:
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    tables: dict[str, list[str]] = {}
    for name in (ADA, BOB, AGENT, SOVEREIGN, ONE, TWO, SENSOR):
        tables[name] = [] if name in keyless else [f'key = "{key(name).public}"']
    for kind, values in (
        ("account", accounts or {AGENT: "agent", ADA: "ada", SOVEREIGN: "root-phone"}),
        ("token", {name: token_digest(one) for name, one in (tokens or {}).items()}),
        ("controller", controllers or {}),
    ):
        for name, value in values.items():
            tables.setdefault(name, []).append(f'{kind} = "{value}"')
    for name, lines in tables.items():
        text += "\n".join((f'\n[principals."{name}"]', *lines, ""))
    text += f"\n[callers]\nhost = {str(host).lower()}\n{extra}"
    return read_constitution(text.encode())


@dataclass
class Service:
    """A service, and clients of it under the accounts that the test names."""

    path: Path
    vm: Authority
    server: Server
    clock: VirtualClock
    closing: ExitStack
    monkeypatch: pytest.MonkeyPatch
    reason: str = REASON
    clients: list[Client] = field(default_factory=list)

    @property
    def now(self):
        return self.clock.read().wall

    def wait(self, **duration):
        self.clock.advance(timedelta(**duration))

    def at(self, account: str | None, *, token: str | None = None) -> Client:
        """A client whom the kernel says to be `account`; None for who runs the tests."""
        name = HERE if account is None else account
        # Each connection asks once, when it is accepted: clients here keep the one they have.
        self.monkeypatch.setattr("vmstate.serving.account_of", lambda _: name)
        client = Client(self.path, token=token, clock=self.clock)
        self.closing.callback(client.close)
        return client

    def raw(self, account: str = "agent") -> socket.socket:
        """A connection without a client."""
        looked_up = threading.Event()

        def look_up(_: socket.socket) -> str:
            looked_up.set()
            return account

        self.monkeypatch.setattr("vmstate.serving.account_of", look_up)
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.closing.callback(connection.close)
        connection.settimeout(10)
        connection.connect(str(self.path))
        assert looked_up.wait(10)  # who is there is asked when it is accepted
        return connection

    def key(self, name: str) -> PrivateKey:
        return key(name)

    def newest(self) -> Any:
        return self.vm.receipt(self.vm.size() - 1)

    def check_audit(self) -> None:
        assert audit_ledger(self.vm.ledger).findings == ()


@pytest.fixture
def serve(tmp_path, monkeypatch):
    """Make services: `serve(*changes, …)` under a law that `law` makes."""
    with ExitStack() as closing:

        def make(*changes, drill=False, **options) -> Service:
            number = len(list(tmp_path.glob("*.db")))
            clock = VirtualClock(NOON)
            ledger = tmp_path / f"{number}.db"
            constitution = law(*changes, **options)
            mark = DrillMark("drill-1", "DRILL/", f"sha256:{'d' * 64}", {}) if drill else None
            Authority.create(constitution, ledger, clock=clock, drill=mark).close()
            vm = Authority(constitution, Ledger.open(ledger), clock=clock, serving=True)
            closing.callback(vm.close)
            path = tmp_path / f"{number}.sock"
            server = Server(vm, closing.enter_context(listening(path)))
            server.start()
            closing.callback(server.stop)
            return Service(path, vm, server, clock, closing, monkeypatch)

        yield make


@pytest.fixture
def service(serve):
    return serve()


# ---- accounts of the machine --------------------------------------------------------------------

REQUIRED = "VMSTATE_REQUIRE_ACCOUNTS"  # set to 1, their absence is a failure
_left_out: list[str] = []


@pytest.fixture(scope="session")
def accounts():
    """The right to become other accounts; without it its tests are left out, loudly, or fail."""
    if os.geteuid() == 0:
        return
    missing = "this is not root, and nobody else may become another account"
    if os.environ.get(REQUIRED) == "1":
        pytest.fail(f"{REQUIRED}=1, and {missing}")
    _left_out.append(missing)
    pytest.skip(missing)


def pytest_terminal_summary(terminalreporter):
    if _left_out:
        left_out = f"LEFT OUT, callers under accounts of their own: {_left_out[0]}"
        terminalreporter.section("left out", sep="!", yellow=True, bold=True)
        terminalreporter.line(left_out, yellow=True, bold=True)

"""Ledgers to break, and other processes to break them with."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

import pytest
import staging
from staging import PATIENCE, clock, vm

import vmstate
from vmstate.authority import Authority
from vmstate.clock import Clock, VirtualClock
from vmstate.constitution.loading import read_constitution
from vmstate.keys import PrivateKey
from vmstate.ledger.audit import audit_ledger
from vmstate.ledger.merkle import Tree, leaf_hash
from vmstate.ledger.receipt import Receipt
from vmstate.ledger.store import Ledger
from vmstate.signing import Request

__all__ = ["clock", "vm"]  # fixtures

HERE = Path(__file__).parent


class Child:
    """A process that runs a verb of `child.py`; what it says is read line by line."""

    def __init__(self, verb: str, *arguments: object) -> None:
        home = str(Path(vmstate.__file__).parents[1])
        self.process = subprocess.Popen(
            [sys.executable, str(HERE / "child.py"), verb, *map(str, arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": home},
        )
        self._said: SimpleQueue[str] = SimpleQueue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._said.put(line)

    def says(self) -> list[Any]:
        """The next line that it says, or a failure."""
        try:
            return list(json.loads(self._said.get(timeout=PATIENCE)))
        except Empty:
            raise AssertionError(f"the process said nothing for {PATIENCE} s") from None

    def tell(self, line: str = "go") -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{line}\n")
        self.process.stdin.flush()

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def kill(self) -> list[list[Any]]:
        """Kill it where it stands; everything whole that it said and nobody read yet."""
        self.process.kill()
        self.process.wait(PATIENCE)
        self._reader.join(PATIENCE)
        lines = []
        while not self._said.empty():
            line = self._said.get()
            lines += [json.loads(line)] if line.endswith("\n") else []
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            pipe.close()
        return lines


class Stage(staging.Stage):
    """The same, and other processes."""

    def open(self, path: Path, clock: Clock | None = None) -> Authority:
        """The same ledger as another process would open it."""
        return self.closing(Authority(self.law, Ledger.open(path), clock=clock), Authority.close)

    def child(self, verb: str, *arguments: object) -> Child:
        return self.closing(Child(verb, *arguments), lambda one: one.process.poll() or one.kill())

    @staticmethod
    def crowd(vm: Authority, names: list[str], **fields: Any) -> list[Receipt]:
        """Many climb in one flush of the disk; each is decided as it would be alone."""
        ledger, transact = vm.ledger, vm.ledger.transact
        with pytest.MonkeyPatch.context() as patch:

            def together(outer: Any) -> list[Receipt]:
                patch.setattr(ledger, "transact", lambda work: work(outer))
                return [Stage.climb(vm, name, **fields) for name in names]

            return transact(together)

    @classmethod
    def check_whole(cls, vm: Authority) -> None:
        """Law 2, worked out here from the receipts alone: tree, numbers, and who holds what."""
        held: dict[str, tuple[Any, ...]] = {}
        tree = Tree()
        receipts = cls.receipts(vm)
        for number, receipt in enumerate(receipts):
            what = receipt.fields["what"]
            who = receipt.fields["who"]["principal"]
            assert receipt.seq == number
            tree = tree.append(leaf_hash(receipt.body))
            if receipt.type in {"profile_escalation", "lease_renewed"}:
                held[what["lease"]] = (who, what["to"], what["parent"], receipt.expires_at)
            elif receipt.type == "profile_deescalation":
                # Ends exactly once: a second end finds nothing here.
                assert held.pop(what["lease"])[:2] == (who, what["from"])
        with vm.ledger.read() as snapshot:
            assert snapshot.head().tree == tree
            opened = {
                one.id: (one.principal, one.profile, one.parent, one.expires_at)
                for one in snapshot.leases.every(open_only=True)
            }
        assert opened == held


class Asking:
    """The shipped constitution, a key for everybody in it, and a clock to move.

    Ada is an operator and may ask for GUARDIAN, which guardians and the sovereign approve.
    """

    ada, bob, agent = "did:vm:operator:ada", "did:vm:operator:bob", "did:vm:agent:7"
    one, two, root = "did:vm:guardian:one", "did:vm:guardian:two", "did:vm:sovereign:root"
    sensor = "did:vm:sensor:edr"
    reason = "look at ticket 4711"

    def __init__(self, path: Path, extra: str = "", controllers: dict[str, str] | None = None):
        text = (HERE.parents[1] / "constitution.toml").read_text(encoding="utf-8")
        named = (self.ada, self.bob, self.agent, self.one, self.two, self.root, self.sensor)
        for name in dict.fromkeys((*named, *(controllers or {}))):
            text += f'\n[principals."{name}"]\nkey = "{self.key(name).public}"\n'
            if name in (controllers or {}):
                text += f'controller = "{(controllers or {})[name]}"\n'
        self.clock = VirtualClock(Stage.noon)
        law = read_constitution(f"{text}\n{extra}".encode())
        self.vm = Authority.create(law, path, clock=self.clock)

    @staticmethod
    def key(name: str) -> PrivateKey:
        return PrivateKey.derive("asking", name)

    def climb(self, who: str) -> None:
        asked = {"trigger": "operator_request", "reason": self.reason}
        self.vm.escalate(who, "operator", **asked).raise_for_denial()

    def prepare(self, who: str, **fields: Any) -> Request:
        asked = {"trigger": "operator_request", "reason": self.reason, **fields}
        return self.vm.prepare(who, "guardian", **asked)

    def open(self, who: str) -> str:
        receipt = self.vm.open_request(self.prepare(who))
        assert receipt.type == "request", receipt.message
        return str(receipt.fields["what"]["detail"]["request"])

    def approve(self, request: str, by: str, **fields: Any) -> Receipt:
        return self.vm.approve(request, by, self.key(by), **fields)

    @staticmethod
    def codes(receipt: Receipt) -> list[str]:
        return [one.code for one in receipt.unmet]


@pytest.fixture
def make_asking(tmp_path: Path) -> Iterator[Callable[..., Asking]]:
    """Makes those; each ledger is audited when its test is over."""
    made: list[Asking] = []

    def make(**fields: Any) -> Asking:
        made.append(Asking(tmp_path / f"asking-{len(made)}.db", **fields))
        return made[-1]

    yield make
    for one in made:
        assert audit_ledger(one.vm.ledger).findings == ()
        one.vm.close()


@pytest.fixture
def asking(make_asking: Callable[..., Asking]) -> Asking:
    return make_asking()


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    with ExitStack() as closing:
        yield Stage(tmp_path, closing)


@pytest.fixture(scope="session")
def make_stage(
    tmp_path_factory: pytest.TempPathFactory,
) -> Callable[[], AbstractContextManager[Stage]]:
    """A stage for each example of a property."""

    @contextmanager
    def made() -> Iterator[Stage]:
        with ExitStack() as closing:
            yield Stage(tmp_path_factory.mktemp("example"), closing)

    return made

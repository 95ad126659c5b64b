"""A ledger under the shipped constitution, with keys for its people and a clock that is moved."""

from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path

import pytest

from vmstate import canonical
from vmstate.authority import Authority
from vmstate.clock import VirtualClock
from vmstate.constitution.loading import read_constitution
from vmstate.keys import PrivateKey
from vmstate.ledger.store import DrillMark
from vmstate.signing import Approval, Attestation, approve, new_nonce, sign

SHIPPED = Path(__file__).parents[2] / "constitution.toml"
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
REASON = "look at ticket 4711"
THREAT = {"threat.id": "T-1", "threat.type": "intrusion", "threat.confidence": "0.92"}
KEYED = (
    "did:vm:sovereign:root",
    "did:vm:guardian:one",
    "did:vm:guardian:two",
    "did:vm:sensor:edr",
    "did:vm:operator:ada",
    "did:vm:operator:bob",
)


def law(*changes, extra="", controllers=None):
    """The shipped constitution with texts replaced, and a key for everybody in `KEYED`."""
    text = SHIPPED.read_text(encoding="utf-8")
    for old, new in changes:
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    controllers = controllers or {}
    for name in dict.fromkeys((*KEYED, *controllers)):
        text += f'\n[principals."{name}"]\n'
        text += f'key = "{key(name).public}"\n' if name in KEYED else ""
        text += f'controller = "{controllers[name]}"\n' if name in controllers else ""
    return _read(f"{text}\n{extra}".encode())


# Nothing changes a constitution that was read, and most worlds have the same.
_read = cache(read_constitution)


def key(name):
    return PrivateKey.derive(name)


@dataclass
class World:
    vm: Authority
    clock: VirtualClock
    stand_ins: dict = field(default_factory=dict)

    ada = "did:vm:operator:ada"
    bob = "did:vm:operator:bob"
    agent = "did:vm:agent:7"
    root = "did:vm:sovereign:root"
    one = "did:vm:guardian:one"
    two = "did:vm:guardian:two"
    sensor = "did:vm:sensor:edr"
    reason = REASON
    threat = THREAT

    @property
    def now(self):
        return self.clock.read().wall

    def key(self, name):
        return self.stand_ins.get(name) or key(name)

    def wait(self, **duration):
        self.clock.advance(timedelta(**duration))

    # ---- asking -----------------------------------------------------------------------------

    def operator(self, principal=None, **fields):
        asked = {"trigger": "operator_request", "reason": REASON, **fields}
        return self.vm.escalate(principal or self.ada, "operator", **asked)

    def request(self, principal=None, to="guardian", trigger="operator_request", **fields):
        asked = {"reason": REASON, **fields}
        return self.vm.prepare(principal or self.ada, to, trigger=trigger, **asked)

    def ask(self, request, **fields):
        """Ask for what `request` says, with it and whatever else `fields` say."""
        asked = {"trigger": request.trigger, "reason": request.reason, "request": request}
        ttl = None if request.ttl_us is None else timedelta(microseconds=request.ttl_us)
        if "attestations" not in fields:
            asked["facts"] = request.facts
        return self.vm.escalate(request.principal, request.to, **{**asked, "ttl": ttl, **fields})

    def guardian(self, principal=None, **fields):
        """GUARDIAN by an approval of guardian one."""
        request = self.request(principal, **fields)
        return self.ask(request, approvals=(self.approval(request),))

    def phoenix(self, principal=None, **fields):
        """PHOENIX by an approval of the sovereign."""
        reason = "the building is on fire, all of it"
        fields = {"reason": reason, **fields}
        request = self.request(principal, "phoenix", "crisis_declared", **fields)
        return self.ask(request, approvals=(self.approval(request, self.root),))

    # ---- signing ----------------------------------------------------------------------------

    def approval(self, request, by=None, *, expires_at=None, signed_with=None, **changes):
        by = by or self.one
        until = expires_at or self.now + timedelta(minutes=15)
        signer = signed_with or self.key(by)
        signed = approve(request, by, signer, expires_at=until)
        return sign(Approval(**{**signed.statement.body(), **changes}), signer)

    def attestation(
        self, facts=None, principal=None, by=None, *, at=None, signed_with=None, **changes
    ):
        by = by or self.sensor
        statement = {
            "by": by,
            "origin": self.vm.ledger.origin,
            "constitution": self.vm.constitution.digest,
            "principal": principal or self.ada,
            "facts": dict(THREAT if facts is None else facts),
            "at": canonical.format_at(at or self.now),
            "nonce": new_nonce(),
        }
        return sign(Attestation(**{**statement, **changes}), signed_with or self.key(by))

    # ---- looking ----------------------------------------------------------------------------

    def profile(self, principal=None):
        return self.vm.standing(principal or self.ada).profile

    def leases(self):
        with self.vm.ledger.read() as snapshot:
            return tuple(snapshot.leases.every())

    def kept(self):
        """All that a denial must leave alone: leases, statements used, constitutions."""
        with self.vm.ledger.read() as snapshot:
            statements = tuple(snapshot.statements())
            return tuple(snapshot.leases.every()), statements, snapshot.constitution()

    def receipts(self, **asked):
        with self.vm.ledger.read() as snapshot:
            return tuple(snapshot.receipts(**asked))

    def denied(self, receipt, *codes):
        """Check that `receipt` is a denial with exactly these codes."""
        assert receipt.type == "auth_failure"
        assert receipt.outcome == "denied"
        assert [one.code for one in receipt.unmet] == list(codes)
        for one in receipt.unmet:
            assert one.message
            assert one.remedy
        return True


@pytest.fixture
def make_world(tmp_path):
    """Make worlds: `make_world(*changes, controllers=…, drill=…)`."""
    with ExitStack() as stack:
        made = []

        def make(*changes, drill=False, origin=None, **options):
            clock = VirtualClock(NOON)
            document = law(*changes, **options)
            stand_ins, mark = {}, None
            if drill:
                names = [n for group in document.document.drill.stand_ins.values() for n in group]
                stand_ins = {name: PrivateKey.derive("drill", name) for name in names}
                keys = {name: one.public for name, one in stand_ins.items()}
                mark = DrillMark("drill-1", "DRILL/", f"sha256:{'d' * 64}", keys)
            path = tmp_path / f"ledger-{len(made)}.db"
            vm = Authority.create(document, path, clock=clock, origin=origin, drill=mark)
            stack.callback(vm.close)
            made.append(path)
            if drill:
                vm.drill_mode(on=True, set_by="a test")
            return World(vm, clock, stand_ins)

        yield make


@pytest.fixture
def world(make_world):
    return make_world()


@pytest.fixture(scope="session")
def make_worlds(tmp_path_factory):
    """A world for each example of a property."""

    @contextmanager
    def made():
        clock = VirtualClock(NOON)
        path = tmp_path_factory.mktemp("example") / "ledger.db"
        with closing(Authority.create(law(), path, clock=clock)) as vm:
            yield World(vm, clock)

    return made

"""A law with keys for everybody, and a history in which everything that can happen does.

The history is told with fixed times and nonces, so that a ledger with a fixed origin holds the
same receipts to the byte, whoever runs it and whenever.
"""

import shutil
from contextlib import closing
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path

import pytest

from vmstate import canonical
from vmstate.authority import Authority
from vmstate.canonical import format_at
from vmstate.clock import VirtualClock
from vmstate.constitution.loading import load_constitution
from vmstate.decisions.command import Recover, Release, make_command
from vmstate.expiry import VirtualExpiry
from vmstate.keys import PrivateKey
from vmstate.ledger.audit import audit_bundle
from vmstate.ledger.bundle import export
from vmstate.ledger.checkpoint import Checkpoint, sign_checkpoint
from vmstate.ledger.merkle import Tree
from vmstate.ledger.place import key_path
from vmstate.ledger.receipt import Receipt
from vmstate.ledger.store import Ledger
from vmstate.ledger.transaction import DrillMark
from vmstate.signing import Order, Request, approve, attest, sign

GOLDEN = Path(__file__).with_name("golden")
LAW = load_constitution(GOLDEN / "constitution.toml")
NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
NAMES = ("g:one", "g:two", "root", "edr", "drill:root")
KEYS = {name: PrivateKey.derive("ledger", name) for name in NAMES}
DRILL = DrillMark(
    "golden", "DRILL/golden", f"sha256:{'d' * 64}", {"drill:root": KEYS["drill:root"].public}
)


class House:
    """A ledger under the law, a clock to move, and everybody's keys."""

    law = LAW
    golden = GOLDEN
    noon = NOON
    keys = KEYS
    drill = DRILL

    def __init__(self, path, **fields):
        self.path = path
        self.clock = VirtualClock(NOON)
        self.vm = Authority.create(LAW, path, clock=self.clock, **fields)
        if "drill" in fields:
            self.vm.drill_mode(on=True, set_by="a test")
        self._nonces = (f"{n:032x}" for n in count(1))

    def close(self):
        self.vm.close()

    @property
    def ledger(self):
        return self.vm.ledger

    def nonce(self):
        return next(self._nonces)

    def receipts(self, **wanted):
        with self.ledger.read() as snapshot:
            return list(snapshot.receipts(**wanted))

    def climb(self, who, to="operator", *, trigger="asked", reason="look at ticket 4711", **fields):
        return self.vm.escalate(who, to, trigger=trigger, reason=reason, **fields)

    def prepare(self, who, to, *, trigger="asked", **fields):
        return self.vm.prepare(who, to, trigger=trigger, nonce=self.nonce(), **fields)

    def approve(self, request, *people):
        until = self.clock.read().wall + 10 * MINUTE
        return tuple(
            approve(request, by, KEYS[by], expires_at=until, nonce=self.nonce()) for by in people
        )

    def approved(self, who, to, *people, trigger="asked"):
        """Climb with a request that `people` approved."""
        request = self.prepare(who, to, trigger=trigger)
        approvals = self.approve(request, *people)
        return self.climb(who, to, trigger=trigger, reason="", request=request, approvals=approvals)

    def attest(self, who, confidence):
        asked = self.prepare(who, "guardian", facts={"threat.confidence": confidence})
        at = self.clock.read().wall
        return attest(asked, "edr", KEYS["edr"], at=at, nonce=self.nonce())

    def sign_ending(self, by, lease, ending="sovereign_revoke"):
        statement = Order(
            by=by,
            origin=self.ledger.origin,
            constitution=LAW.digest,
            verb="release",
            arguments={"principal": by, "lease": lease, "ending": ending},
            reason="",
            expires_at=format_at(self.clock.read().wall + 5 * MINUTE),
            nonce=self.nonce(),
        )
        return sign(statement, KEYS[by])

    def revoke(self, by, lease):
        asked = {"principal": by, "lease": lease, "ending": "sovereign_revoke"}
        proof = self.sign_ending(by, lease)
        return self.vm.submit(make_command(Release, {**asked, "order": proof}))

    def recover(self, who, by):
        request = Request(
            principal=who,
            to=None,
            trigger="clock_recovery",
            facts={},
            reason="the battery was dead",
            ttl_us=None,
            origin=self.ledger.origin,
            constitution=LAW.digest,
            nonce=self.nonce(),
            after=self.vm.signing_after(),
        )
        asked = {"principal": who, "reason": request.reason, "request": request}
        command = make_command(Recover, {**asked, "approvals": self.approve(request, by)})
        return self.vm.submit(self.vm.ordered(command, KEYS[who], nonce=self.nonce()))


def tell(house, *, sovereign):
    """Grants, denials, approvals, renewals, every kind of end, and a clock that goes wrong."""
    vm, clock = house.vm, house.clock
    expiry = VirtualExpiry(vm)

    def done(receipt, outcome="granted"):
        assert receipt.outcome == outcome, receipt.message
        return receipt

    # Grants on a reason, on attested facts and on approvals; one is cut to what it stands on.
    done(house.climb("op:a"))
    done(
        house.climb("op:a", "guardian", trigger="threat", facts={"threat.confidence": "0.99"}),
        "denied",
    )
    seen = {"trigger": "threat", "facts": {"ticket": "4711"}}
    guardian = done(
        house.climb("op:a", "guardian", attestations=(house.attest("op:a", "0.92"),), **seen)
    )
    done(house.climb("op:b", ttl=20 * MINUTE))
    done(house.approved("op:b", "guardian", "g:one"))
    done(house.approved("op:b", "phoenix", "g:one", trigger="quorum"), "denied")
    phoenix = done(house.approved("op:b", "phoenix", "g:one", "g:two", trigger="quorum"))
    done(house.climb("nobody", reason="who am I, then?"), "denied")
    # A renewal, a release, a fall of three rungs by one signature, a cool-down.
    expiry.advance(5 * MINUTE)
    again = house.attest("op:a", "0.95")
    done(vm.renew("op:a", guardian.lease, attestations=(again,)))
    done(vm.release("op:b", guardian.lease), "denied")
    done(house.revoke(sovereign, phoenix.lease), "reverted")
    done(vm.release("op:a", guardian.lease, reason="false alarm"), "reverted")
    done(
        house.climb("op:a", "guardian", attestations=(house.attest("op:a", "0.92"),), **seen),
        "denied",
    )
    # Time ends what is left; an operator sets the clock, forward and back.
    done(house.climb("op:c", ttl=10 * MINUTE))
    expiry.advance(timedelta(hours=1))
    clock.step_wall(timedelta(hours=2))
    done(house.climb("op:d"))
    clock.step_wall(timedelta(hours=-2))
    done(house.climb("op:e"))
    clock.advance(timedelta(hours=3))
    done(house.climb("op:d"))
    # A reboot with a clock in the past: nothing is granted until it was declared right.
    clock.reboot(down_for=MINUTE, wall_error=timedelta(hours=-1))
    done(house.climb("op:f"), "denied")
    done(house.recover("g:two", sovereign), "recorded")
    done(house.climb("op:f"))
    expiry.run_due()
    expiry.stop()


@pytest.fixture
def house(tmp_path):
    with closing(House(tmp_path / "l.db")) as made:
        yield made


@pytest.fixture
def drilled(tmp_path):
    """A drill's ledger with a fixed origin, in which the history was told."""
    path = tmp_path / "drill.db"
    with closing(House(path, origin="golden/drill/golden", drill=DRILL)) as made:
        tell(made, sovereign="drill:root")
        yield made


@pytest.fixture(scope="session")
def told(tmp_path_factory):
    """A folder with a ledger in which the history was told, its key, and its bundle."""
    folder = tmp_path_factory.mktemp("told")
    with closing(House(folder / "l.db")) as made:
        tell(made, sovereign="root")
        export(made.ledger, folder / "bundle")
    return folder


@pytest.fixture
def copy(told, tmp_path):
    """A copy of that folder, to tamper with."""
    return Path(shutil.copytree(told, tmp_path / "copy"))


@pytest.fixture
def open_ledger():
    """Opens ledgers, and closes them when the test is over."""
    opened = []

    def opening(path):
        opened.append(Ledger.open(path))
        return opened[-1]

    yield opening
    for ledger in opened:
        ledger.close()


@pytest.fixture
def insider(copy):
    """Rewrites a copied bundle with the log's own key, and says what an audit finds then."""

    def found_after(attack):
        rewrite(copy, attack)
        return audit_bundle(copy / "bundle").findings

    return found_after


@pytest.fixture
def rewritten():
    """Rewrites the bundle in a folder as an insider would, and says what an audit finds then."""

    def found_after(folder, attack):
        rewrite(folder, attack)
        return audit_bundle(folder / "bundle").findings

    return found_after


def link(all_said):
    """Number and chain the receipts; `then` in one is what the insider does after that."""
    scrolls, granted, bodies = {}, {}, []
    for seq, said in enumerate(all_said):
        then = said.pop("then", None)
        last, last_id = scrolls.get(said["scroll"], (-1, None))
        said |= {"seq": seq, "scroll_seq": last + 1, "scroll_prev": last_id}
        lease = said["what"]["lease"]
        if said["type"] == "profile_deescalation":
            said["reverses"] = granted.get(lease, said["reverses"])
        body = canonical.encode(said)
        if then is not None:
            body = then(said) or canonical.encode(said)
        receipt = Receipt(body)
        if said["type"] == "profile_escalation":
            granted[lease] = receipt.id
        scrolls[said["scroll"]] = (last + 1, receipt.id)
        bodies.append(body)
    return bodies


def rewrite(folder, attack):
    """Do to the bundle in `folder` what `attack` does to its receipts, and sign the outcome."""
    bundle = folder / "bundle"
    said = [canonical.parse(line) for line in (bundle / "receipts.jsonl").read_bytes().splitlines()]
    attack(said)
    bodies, tree = link(said), Tree()
    for body in bodies:
        tree = tree.append(Receipt(body).leaf)
    (bundle / "receipts.jsonl").write_bytes(b"".join(body + b"\n" for body in bodies))
    head = Checkpoint.of(said[0]["node"], tree)
    key = PrivateKey.load(key_path(folder / "l.db"))
    (bundle / "checkpoint").write_text(sign_checkpoint(head, key), encoding="utf-8")

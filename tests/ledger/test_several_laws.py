"""A ledger that was under several laws: each receipt is judged by the law of its time."""

from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest

from vmstate.authority import Authority
from vmstate.clock import VirtualClock
from vmstate.constitution.loading import read_constitution
from vmstate.ledger.adopting import adopt
from vmstate.ledger.audit import audit_bundle, audit_ledger
from vmstate.ledger.bundle import export
from vmstate.ledger.store import Ledger

GOLDEN = (Path(__file__).with_name("golden") / "constitution.toml").read_bytes()
FIRST = read_constitution(GOLDEN.replace(b'version  = "', b'version  = "0.'))
SECOND = read_constitution(GOLDEN)
UNKNOWN = "puts a constitution in force that is not beside the receipts"


@pytest.fixture
def bundle(tmp_path):
    """The bundle of a ledger that took over an edited constitution before it was used."""
    clock = VirtualClock(datetime(2030, 1, 1, 12, tzinfo=UTC))
    with closing(Ledger.create(tmp_path / "l.db", FIRST, clock.read())) as ledger:
        adopt(ledger, SECOND, clock.read())
    with closing(Authority(SECOND, Ledger.open(tmp_path / "l.db"), clock=clock)) as vm:
        vm.escalate("op:a", "operator", trigger="asked", reason="look at ticket 4711")
        assert audit_ledger(vm.ledger).findings == ()
        export(vm.ledger, tmp_path / "bundle")
    return tmp_path / "bundle"


def earlier(bundle):
    return bundle / "constitutions" / f"{FIRST.digest.removeprefix('sha256:')}.toml"


def findings(bundle):
    return [(one.seq, one.what) for one in audit_bundle(bundle).findings]


def test_a_bundle_holds_the_laws_of_before_and_is_intact(bundle):
    assert earlier(bundle).read_bytes() == FIRST.toml
    assert [path.name for path in earlier(bundle).parent.iterdir()] == [earlier(bundle).name]
    assert (bundle / "constitution.toml").read_bytes() == SECOND.toml
    assert audit_bundle(bundle).findings == ()


def test_a_law_of_before_that_is_missing_is_named_by_the_receipt_that_put_it_in_force(bundle):
    earlier(bundle).unlink()
    assert findings(bundle) == [(0, UNKNOWN)]


@pytest.mark.parametrize("toml", [SECOND.toml, b"[", b""])
def test_what_has_not_the_digest_that_was_asked_for_is_not_taken_for_that_law(bundle, toml):
    earlier(bundle).write_bytes(toml)
    assert findings(bundle) == [(0, UNKNOWN)]


def test_the_law_in_force_is_the_last_one(bundle):
    law = bundle / "constitution.toml"
    (bundle / "constitutions" / f"{SECOND.digest.removeprefix('sha256:')}.toml").write_bytes(
        law.read_bytes()
    )
    law.write_bytes(FIRST.toml)
    what = "the constitution beside the receipts is not the one they were written under"
    assert findings(bundle) == [(None, what)]


def test_a_law_of_before_that_was_changed_in_the_file_is_found(bundle):
    with closing(Ledger.open(bundle.with_name("l.db"))) as ledger:
        change = "UPDATE constitution SET toml = CAST('[' AS BLOB) WHERE seq = 0"
        ledger.transact(lambda transaction: transaction._execute(change, ()))
        assert [(one.seq, one.what) for one in audit_ledger(ledger).findings] == [(0, UNKNOWN)]

"""The packaged drills as they ran, and the runbook's calls in an empty folder."""

from contextlib import closing
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import pytest

from vmstate.authority import Authority
from vmstate.constitution.loading import load_constitution
from vmstate.drills.drill import packaged_drills
from vmstate.drills.runner import DrillRun, run_drill
from vmstate.ledger.audit import audit_ledger
from vmstate.ledger.store import Ledger
from vmstate.session import close_session, session

LAW = Path(str(files("vmstate.constitution"))) / "presets" / "vaultmesh.toml"
SETTINGS = (
    "DRILL_MODE",
    "VMSTATE_CONSTITUTION",
    "VMSTATE_LEDGER",
    "VMSTATE_PRINCIPAL",
)


@dataclass(frozen=True)
class Ran:
    """A drill that ran, and the ledger that it left."""

    run: DrillRun
    path: Path

    @property
    def heading(self):
        return self.run.drill.document.drill

    def receipts(self, *types):
        """Its receipts of these types, in their order; all of them if none is named."""
        return [one for one in self.run.receipts if not types or one.type in types]

    def step(self, words):
        """The one step whose name begins so."""
        (found,) = [one for one in self.run.steps if one.name.startswith(words)]
        return found

    def moves(self):
        """Every change of profile: from, to, at, in the order of the receipts."""
        moved = self.receipts("profile_escalation", "profile_deescalation")
        return [(r.fields["what"]["from"], r.fields["what"]["to"], r.fields["at"]) for r in moved]

    def audit(self):
        with closing(Ledger.open(self.path)) as ledger:
            return audit_ledger(ledger)


@pytest.fixture(scope="session")
def ran(tmp_path_factory):
    """The five drills of the runbook, each run once under the packaged law."""
    folder = tmp_path_factory.mktemp("drills")
    law = load_constitution(LAW)
    drills = packaged_drills()
    return {d.id: Ran(run_drill(d, law, keep=folder), folder / f"{d.id}.db") for d in drills}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty folder with nothing of ours in the environment; the session is ended after it."""
    for name in SETTINGS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    close_session()


class Looking:
    """What the runbook's calls leave behind, read from their ledger."""

    @property
    def authority(self):
        return session().authority

    @property
    def principal(self):
        return session().principal

    @property
    def held(self):
        return session().held

    def receipts(self, **asked):
        with self.authority.ledger.read() as snapshot:
            return tuple(snapshot.receipts(**asked))

    def size(self):
        return len(self.receipts())

    def since(self, size):
        return self.receipts(after=size - 1)

    def audit(self):
        return audit_ledger(self.authority.ledger).findings


@pytest.fixture
def in_drill(folder, monkeypatch):  # noqa: ARG001 -- the folder is the current one
    """`DRILL_MODE=1`: the calls work on a drill's ledger."""
    monkeypatch.setenv("DRILL_MODE", "1")
    return Looking()


@pytest.fixture
def live(folder, monkeypatch):
    """A live ledger under the packaged law, and who asks in it: `live("did:vm:agent:7")`."""

    def ask_as(principal, law=None):
        (folder / "constitution.toml").write_text(law or LAW.read_text("utf-8"), encoding="utf-8")
        Authority.create(load_constitution(folder / "constitution.toml"), "vmstate.db").close()
        monkeypatch.setenv("VMSTATE_PRINCIPAL", principal)
        return Looking()

    return ask_as

"""Acts are the constitution's: who may, which receipt is left, what only pretends in a drill."""

from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from importlib.resources import files

import apsw
import pytest

from vmstate.authority import Authority
from vmstate.canonical import format_at
from vmstate.clock import VirtualClock
from vmstate.constitution.document import ENGINE_TYPES
from vmstate.constitution.loading import read_constitution
from vmstate.drills.stand_ins import StandIns
from vmstate.errors import ConstitutionError, InputError
from vmstate.expiry import VirtualExpiry
from vmstate.ledger.audit import audit_ledger

NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)
MODE_FOR = timedelta(hours=4)  # [drill] ttl
ADA = "did:vm:operator:ada"
DRILLER = "did:vm:operator:drill"
REASON = "look at ticket 4711, all of it"
LAW = (files("vmstate.constitution") / "presets" / "vaultmesh.toml").read_text("utf-8")
FREE = {  # every act from the baseline up, for tests of what an act leaves
    'profile = "operator"': 'profile = "observer"',
    'profile = "guardian"': 'profile = "observer"',
    'profile = "phoenix"': 'profile = "observer"',
}
RECORDED = {
    "task.execute": ("task_execution", "cognitive"),
    "cognitive.decide": ("cognitive_decision", "cognitive"),
    "tem.invoke": ("tem_invocation", "cognitive"),
    "guardian.anchor": ("guardian_anchor", "guardian"),
    "offsec.run": ("offsec_run", "cognitive"),
    "phoenix.rebuild": ("phoenix_rebuild", "guardian"),
    "phoenix.destroy": ("phoenix_destroy", "guardian"),
}
PRETENDED = {
    "offsec.run": "simulated",
    "phoenix.rebuild": "dry_run",
    "phoenix.destroy": "dry_run",
}


@dataclass
class Scene:
    """A ledger on a clock that is moved."""

    vm: Authority
    clock: VirtualClock
    who: str

    def operator(self, **fields):
        asked = {"trigger": "operator_request", "reason": REASON, **fields}
        return self.vm.escalate(self.who, "operator", **asked)

    def act(self, name, **fields):
        return self.vm.act(self.who, name, **{"reason": REASON, **fields})

    def receipts(self, **asked):
        with self.vm.ledger.read() as snapshot:
            return tuple(snapshot.receipts(**asked))

    def findings(self):
        return [str(one) for one in audit_ledger(self.vm.ledger).findings]


@contextmanager
def scene(path, *, drill=False, free=False):
    text = LAW
    for old, new in FREE.items() if free else ():
        assert old in text
        text = text.replace(old, new)
    law, clock, origin, mark = (
        read_constitution(text.encode()),
        VirtualClock(NOON),
        "test/acts",
        None,
    )
    if drill:
        stand_ins = StandIns(law, origin=origin, digest=f"sha256:{'d' * 64}")
        mark = stand_ins.mark("acts", "DRILL/ACTS")
    vm = Authority.create(law, path, clock=clock, origin=origin, drill=mark)
    try:
        yield Scene(vm, clock, DRILLER if drill else ADA)
    finally:
        vm.close()


@pytest.fixture
def plain(tmp_path):
    """The packaged law, live."""
    with scene(tmp_path / "ledger.db") as one:
        yield one


@pytest.fixture
def free(tmp_path):
    """Every act from the baseline up, live."""
    with scene(tmp_path / "ledger.db", free=True) as one:
        yield one


@pytest.fixture
def drill(tmp_path):
    """Every act from the baseline up, in a drill that is on."""
    with scene(tmp_path / "ledger.db", drill=True, free=True) as one:
        one.vm.drill_mode(on=True, set_by="a test")
        yield one


def codes(receipt):
    return [one.code for one in receipt.unmet]


# ---- who may -----------------------------------------------------------------------------------


def test_an_act_takes_its_profile_and_is_refused_below_it(plain):
    denial = plain.act("task.execute")
    assert (denial.type, denial.fields["scroll"]) == ("auth_failure", "identity")
    assert codes(denial) == ["act_out_of_reach"]
    assert denial.message == "task.execute requires operator, the present profile is observer"
    assert denial.rule == 'acts."task.execute"'
    assert denial.unmet[0].remedy == "climb first: operator on operator_request"
    assert denial.fields["what"]["act"] == "task.execute"
    lease = plain.operator().lease
    done = plain.act("task.execute")
    assert (done.type, done.outcome) == ("task_execution", "granted")
    assert (done.lease, done.fields["what"]["from"]) == (lease, "operator")
    assert done.fields["reversible"] is False
    assert plain.findings() == []


def test_a_remedy_names_the_whole_way_up_and_whom_to_ask_where_there_is_none(plain):
    denial = plain.act("phoenix.destroy")
    assert denial.unmet[0].remedy.startswith("climb first: operator on operator_request, then ")
    denial = plain.vm.act("did:vm:sensor:edr", "phoenix.destroy")
    assert denial.unmet[0].remedy == "ask somebody who may be phoenix"


def test_an_act_ends_with_the_lease_that_allowed_it(plain):
    lease = plain.operator().lease
    plain.clock.advance(timedelta(hours=1) - timedelta(microseconds=1))
    assert plain.act("task.execute").granted
    plain.clock.advance(timedelta(microseconds=1))
    before = len(plain.receipts())
    denial = plain.act("task.execute")
    assert codes(denial) == ["act_out_of_reach"]
    ended, last = plain.receipts(after=before - 1)
    assert (ended.lease, ended.fields["what"]["ended_via"]) == (lease, "settle")
    assert last == denial
    assert plain.findings() == []


def test_an_act_that_nobody_named_is_refused_and_the_nearest_one_told(plain):
    denial = plain.act("task.execut")
    assert codes(denial) == ["act_unknown"]
    assert "task.execute" in denial.unmet[0].remedy


def test_nobody_unknown_acts_and_nobody_acts_for_another(free):
    assert codes(free.vm.act("did:vm:nobody:1", "task.execute")) == ["unknown_principal"]
    assert codes(free.act("task.execute", actor="did:vm:operator:bob")) == ["not_self"]
    assert free.receipts(type_="task_execution") == ()


@pytest.mark.parametrize("name", ["context.read", "history.read"])
def test_a_read_leaves_no_receipt_and_is_asked_of_may(name, plain):
    before = plain.receipts()
    with pytest.raises(InputError, match=f"{name} is a read and leaves no receipt: ask `may`"):
        plain.act(name)
    assert plain.receipts() == before
    assert plain.vm.may(ADA, name)


# ---- what is left ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", RECORDED)
def test_each_act_leaves_the_receipt_in_the_scroll_that_the_constitution_names(name, free):
    anchors = name == "guardian.anchor"  # which takes no arguments: it says what the ledger says
    done = free.act(name) if anchors else free.act(name, arguments={"target": "sandbox"})
    assert (done.type, done.fields["scroll"]) == RECORDED[name]
    assert done.fields["what"]["act"] == name
    detail = done.fields["what"]["detail"]
    assert "size" in detail if anchors else detail == {"target": "sandbox"}
    assert done.fields["what"]["result"] is None  # a live act is done, not pretended
    assert done.rule == f'acts."{name}"'
    assert free.findings() == []


@pytest.mark.parametrize("name", ["treasury.allocate", "treasury.debit"])
def test_money_moves_by_its_own_commands_only(name, free):
    # As an act it would leave a budget's receipt without a budget, which no audit believes.
    with pytest.raises(InputError, match=name):
        free.act(name, arguments={"budget": "one", "allocated": "1000"})
    assert free.findings() == []


@pytest.mark.parametrize("type_", sorted(ENGINE_TYPES))
def test_no_act_leaves_a_receipt_that_only_vmstate_writes(type_):
    changed = LAW.replace('receipt = "task_execution"', f'receipt = "{type_}"')
    assert changed != LAW
    with pytest.raises(ConstitutionError, match=f"'{type_}' is written by vmstate itself"):
        read_constitution(changed.encode())


@pytest.mark.parametrize("type_", ["treasury_budget", "treasury_debit"])
def test_no_other_act_leaves_a_receipt_about_money(type_):
    old = 'scroll = "cognitive", receipt = "task_execution"'
    changed = LAW.replace(old, f'scroll = "treasury", receipt = "{type_}"')
    assert changed != LAW
    with pytest.raises(ConstitutionError, match=type_):
        read_constitution(changed.encode())


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"arguments": {"share": 0.5}}, "0.5 is not exact"),
        ({"arguments": {"note": "two\nlines"}}, "control character"),
        ({"arguments": {f"a{n}": "x" for n in range(17)}}, "at most 16"),
        ({"arguments": {"note": "x" * 257}}, "has 257 characters, at most 256"),
        ({"proofs": {"image": "not a digest"}}, "proofs.image"),
        ({"reason": "two\nlines"}, "control character"),
    ],
)
def test_an_act_without_form_leaves_nothing(fields, told, free):
    before = free.receipts()
    with pytest.raises(InputError, match=told):
        free.act("task.execute", **fields)
    assert free.receipts() == before


def test_a_digest_from_outside_is_taken_as_evidence_in_its_own_spelling(free):
    proof = f"blake3:{'a' * 64}"
    assert free.act("task.execute", proofs={"image": proof}).fields["proofs"] == {"image": proof}


# ---- in a drill --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", RECORDED)
def test_what_would_do_damage_only_pretends_in_a_drill(name, drill):
    done = drill.act(name)
    assert done.fields["what"]["result"] == PRETENDED.get(name)
    assert done.fields["drill"] == "DRILL/ACTS"
    assert drill.findings() == []


def test_the_receipt_of_drill_mode_says_what_makes_this_a_rehearsal(drill):
    (on,) = drill.receipts(type_="drill_mode")
    assert on.fields["what"]["detail"] == {
        "mode": "ON",
        "set_by": "a test",
        "until": format_at(NOON + MODE_FOR),
        "pretends": PRETENDED,
        "budget_ceiling": 1000,
        "currency": "DRILL_UNITS",
    }
    assert on.fields["authority"]["constitution"] == drill.vm.constitution.digest
    assert on.fields["scroll"] == "guardian"


def late_lease(drill):
    """A lease that would outlast the drill."""
    drill.clock.advance(MODE_FOR - timedelta(minutes=10))
    grant = drill.operator()
    assert grant.granted
    return grant


def test_when_its_time_is_up_everything_ends_with_it_to_the_microsecond(drill):
    expiry = VirtualExpiry(drill.vm)
    grant = late_lease(drill)
    before = len(drill.receipts())
    expiry.advance(timedelta(minutes=10) - timedelta(microseconds=1))
    assert drill.vm.may(DRILLER, "operator")
    assert len(drill.receipts()) == before
    expiry.advance(timedelta(microseconds=1))
    assert not drill.vm.may(DRILLER, "operator")
    over = format_at(NOON + MODE_FOR)
    off, end = drill.receipts(after=before - 1)
    assert off.type == "drill_mode"
    assert off.fields["what"]["detail"]["mode"] == "OFF"
    assert (off.fields["due"], off.fields["at"]) == (over, over)
    assert (end.type, end.lease, end.outcome) == ("profile_deescalation", grant.lease, "expired")
    assert end.fields["what"]["ending"] == "drill_ended"
    assert (end.fields["due"], end.fields["at"]) == (over, over)
    assert end.fields["what"]["ended_via"] == "scheduler"
    assert drill.vm.status() == ()
    assert drill.findings() == []
    expiry.stop()


def test_without_a_scheduler_the_next_command_writes_what_was_due(drill):
    grant = late_lease(drill)
    before = len(drill.receipts())
    drill.clock.advance(timedelta(hours=5))
    assert not drill.vm.may(DRILLER, "operator")  # over when it is read, whoever wrote what
    denial = drill.act("task.execute")
    off, end, last = drill.receipts(after=before - 1)
    assert (off.type, end.lease, last) == ("drill_mode", grant.lease, denial)
    assert off.fields["due"] == end.fields["due"] == format_at(NOON + MODE_FOR)
    assert "drill_over" in codes(denial)
    assert drill.findings() == []


def test_nothing_is_granted_before_a_drill_is_on(tmp_path):
    with scene(tmp_path / "ledger.db", drill=True, free=True) as early:
        denials = [
            early.operator(),
            early.act("task.execute"),
            early.vm.create_budget(DRILLER, "one", name="One", allocated=1, unit="DRILL_UNITS"),
            early.vm.debit(DRILLER, "one", 1),
        ]
        for denial in denials:
            assert not denial.granted
            assert "drill_not_on" in codes(denial)
            assert "the drill is not on, its mode was never on" in denial.message
        (unmet,) = denials[0].unmet
        assert unmet.remedy.startswith("switch it on: Authority.drill_mode(on=True)")
        assert early.vm.status() == ()
        early.vm.drill_mode(on=True, set_by="a test")
        assert early.operator().granted
        assert early.findings() == []


def test_a_drill_switched_off_before_it_was_on_stays_off(tmp_path):
    with scene(tmp_path / "ledger.db", drill=True) as early:
        early.vm.drill_mode(on=False, set_by="a test")
        assert codes(early.operator()) == ["drill_over"]
        assert codes(early.vm.drill_mode(on=True, set_by="again")) == ["drill_over"]


def test_nothing_is_granted_once_a_drill_is_over(drill):
    drill.clock.advance(MODE_FOR)
    told = f"the drill is over, it ended {format_at(NOON + MODE_FOR)}"
    denials = [
        drill.operator(),
        drill.act("task.execute"),
        drill.vm.create_budget(DRILLER, "one", name="One", allocated=1, unit="DRILL_UNITS"),
        drill.vm.debit(DRILLER, "one", 1),
        drill.vm.drill_mode(on=True, set_by="somebody in a hurry"),
    ]
    for denial in denials:
        assert not denial.granted
        assert "drill_over" in codes(denial)
        assert told in denial.message
    assert drill.vm.status() == ()
    assert drill.findings() == []


def test_switched_off_it_ends_everything_in_the_same_commit(drill):
    grant = drill.operator()
    before = len(drill.receipts())
    drill.clock.advance(timedelta(minutes=1))
    drill.vm.drill_mode(on=False, set_by="a test")
    off, end = drill.receipts(after=before - 1)
    assert off.fields["what"]["detail"] | {"pretends": None} == {
        "mode": "OFF",
        "set_by": "a test",
        "until": None,
        "pretends": None,
        "budget_ceiling": 1000,
        "currency": "DRILL_UNITS",
    }
    assert (end.lease, end.fields["what"]["ending"]) == (grant.lease, "drill_ended")
    assert end.fields["due"] == format_at(NOON + timedelta(minutes=1))
    assert codes(drill.operator()) == ["drill_over"]
    assert codes(drill.vm.drill_mode(on=True, set_by="again")) == ["drill_over"]
    assert drill.findings() == []


def test_a_live_ledger_refuses_drill_mode(plain):
    for on in (True, False):
        denial = plain.vm.drill_mode(on=on, set_by="a test")
        assert codes(denial) == ["not_a_drill"]
        assert denial.message == "drill mode is for drills, and this ledger is live"
    assert plain.receipts(type_="drill_mode") == ()
    assert plain.operator().granted
    assert plain.findings() == []


@pytest.mark.parametrize(
    "change",
    ["UPDATE drill SET until_us = until_us + 3600000000", "DELETE FROM drill"],
)
def test_a_drill_prolonged_by_hand_is_found(change, drill):
    connection = apsw.Connection(str(drill.vm.ledger.path))
    connection.execute(change)
    connection.close()
    assert drill.findings() != []

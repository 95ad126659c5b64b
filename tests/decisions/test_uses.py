"""A lease that may be used so often, and one that ends unless it is used."""

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import pytest

from vmstate.authority import Authority
from vmstate.canonical import format_at
from vmstate.clock import VirtualClock
from vmstate.constitution.loading import read_constitution
from vmstate.decisions.command import Call, Escalate, Renew, make_command
from vmstate.decisions.decision import Entry, Grounds
from vmstate.errors import InputError
from vmstate.expiry import VirtualExpiry
from vmstate.leases.lease import Lease
from vmstate.ledger.audit import audit_ledger
from vmstate.ledger.snapshot import Scope

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
US = timedelta(microseconds=1)
LAW = """
[constitution]
name = "uses"
version = "1"
baseline = "observer"
[groups]
staff = ["u:*"]
[profiles.observer]
[profiles.operator]
above = "observer"
[profiles.guardian]
above = "operator"
[acts]
note = { profile = "observer", scroll = "cognitive", receipt = "note" }
task = { profile = "operator", scroll = "cognitive", receipt = "task" }
guard = { profile = "guardian", scroll = "guardian", receipt = "guard" }
"treasury.allocate" = { profile = "operator", scroll = "treasury", receipt = "treasury_budget" }
"treasury.debit" = { profile = "operator", scroll = "treasury", receipt = "treasury_debit" }
[tools.git]
tools."git_*" = { profile = "operator" }
[escalations.operator]
from = "observer"
to = "operator"
trigger = "asked"
ttl = "1h"
renewals = 3
OPERATOR
[escalations.guardian]
from = "operator"
to = "guardian"
trigger = "asked"
ttl = "30m"
renewals = 1
GUARDIAN
[cooldown]
guardian = "5m"
[endings.timeout_expired]
to = "previous"
[endings.operator_release]
by = ["holder"]
to = "previous"
"""


@dataclass
class World:
    vm: Authority
    clock: VirtualClock
    who: str = "u:a"

    @property
    def now(self):
        return self.clock.read().wall

    def wait(self, **duration):
        self.clock.advance(timedelta(**duration))

    def climb(self, to="operator"):
        return self.vm.escalate(self.who, to, trigger="asked").raise_for_denial()

    def act(self, name="task"):
        return self.vm.act(self.who, name)

    def call(self, name="git_log"):
        asked = {"principal": self.who, "server": "git", "name": name}
        return self.vm.submit(make_command(Call, {**asked, "arguments": f"sha256:{'a' * 64}"}))

    def lease(self, receipt):
        return self.vm.lease(receipt.lease)

    def ends(self):
        """Each lease that ended, how, and when it was over."""
        ends = self.vm.receipts(type_="profile_deescalation")
        return [(one.lease, one.fields["what"]["ending"], one.fields["due"]) for one in ends]

    def findings(self):
        return [str(one) for one in audit_ledger(self.vm.ledger).findings]


@pytest.fixture
def make_world(tmp_path):
    made = []

    def make(operator="", guardian="", law=LAW):
        text = law.replace("OPERATOR", operator).replace("GUARDIAN", guardian)
        clock = VirtualClock(NOON)
        path = tmp_path / f"{len(made)}.db"
        made.append(Authority.create(read_constitution(text.encode()), path, clock=clock))
        return World(made[-1], clock)

    yield make
    for vm in made:
        vm.close()


# ---- uses --------------------------------------------------------------------------------------


def test_the_last_use_ends_the_lease_in_its_own_transaction(make_world):
    world = make_world("max_uses = 2")
    granted = world.climb()
    assert granted.fields["what"]["detail"] == {"max_uses": 2}
    assert world.act().lease == granted.lease
    assert world.lease(granted).uses == 1
    done = world.act()
    assert (done.type, done.outcome) == ("task", "granted")
    (end,) = world.vm.receipts(type_="profile_deescalation")
    assert (end.seq, end.at) == (done.seq + 1, done.at)
    assert end.fields["what"]["ending"] == "uses_spent"
    assert (end.outcome, end.rule) == ("expired", "escalations.operator.max_uses")
    assert end.fields["who"] == {"actor": None, "principal": world.who, "proof": None}
    assert end.fields["due"] is None
    assert not world.vm.may(world.who, "operator")
    assert world.act().unmet[0].code == "act_out_of_reach"
    assert world.findings() == []


def test_what_stands_on_a_lease_that_is_used_up_ends_before_it(make_world):
    world = make_world("max_uses = 1")
    operator, guardian = world.climb(), world.climb("guardian")
    assert world.act("task").granted
    assert world.ends() == [
        (guardian.lease, "parent_ended", None),
        (operator.lease, "uses_spent", None),
    ]
    assert world.vm.status() == ()
    assert world.findings() == []


def test_an_act_uses_the_lowest_lease_that_gives_its_profile(make_world):
    world = make_world("max_uses = 5", "max_uses = 5")
    operator, guardian = world.climb(), world.climb("guardian")
    assert world.act("task").lease == operator.lease
    assert world.act("guard").lease == guardian.lease
    assert world.act("note").lease is None  # the baseline allows it: no lease was needed
    assert (world.lease(operator).uses, world.lease(guardian).uses) == (1, 1)
    assert world.findings() == []


def test_a_tool_that_is_called_and_a_unit_that_is_spent_are_uses(make_world):
    world = make_world("max_uses = 3")
    granted = world.climb()
    assert world.call().lease == granted.lease
    world.vm.create_budget(world.who, "b", name="B", allocated=5, unit="unit")
    assert world.lease(granted).uses == 2
    world.vm.debit(world.who, "b", 1)
    assert world.ends() == [(granted.lease, "uses_spent", None)]
    assert world.findings() == []


def test_what_is_refused_is_no_use(make_world):
    world = make_world("max_uses = 1")
    granted = world.climb()
    world.vm.debit(world.who, "none", 1)
    world.act("guard")
    world.call("rm")
    with pytest.raises(InputError):
        world.act("treasury.debit")
    assert world.lease(granted).uses == 0
    assert world.findings() == []


def test_a_renewal_gives_time_and_no_new_uses(make_world):
    world = make_world("max_uses = 2")
    granted = world.climb()
    world.act()
    world.wait(minutes=10)
    renewed = world.vm.renew(world.who, granted.lease)
    assert renewed.fields["what"]["detail"] == {"max_uses": 2}
    assert world.lease(granted).uses == 1
    world.act()
    assert world.ends() == [(granted.lease, "uses_spent", None)]
    assert world.findings() == []


def test_a_renewal_under_a_law_that_allows_fewer_uses_than_there_were_is_denied(make_world):
    more, fewer = make_world("max_uses = 5"), make_world("max_uses = 2")
    more.climb()
    more.act()
    more.act()
    more.wait(minutes=1)
    with more.vm.ledger.read() as snapshot:
        state = snapshot.state(more.who, Scope("observer"))
    command = make_command(Renew, {"principal": more.who, "lease": state.stack.leases[0].id})
    denied = fewer.vm._law.decider.decide(state, command, more.clock.read()).answer
    assert [one.code for one in denied.grounds.unmet] == ["uses_spent"]
    assert denied.grounds.unmet[0].message == "used 2 times, may be used 2 times"


# ---- idleness ----------------------------------------------------------------------------------


def test_a_lease_that_is_never_used_ends_idle_counted_from_its_grant(make_world):
    world = make_world('idle_ttl = "10m"')
    granted = world.climb()
    assert granted.expires_at == NOON + timedelta(hours=1)
    assert granted.ends_at == NOON + timedelta(minutes=10)
    assert granted.fields["what"]["detail"] == {"idle_ttl_us": 600_000_000}
    world.clock.advance(timedelta(minutes=10) - US)
    assert world.vm.may(world.who, "operator")
    world.clock.advance(US)
    assert not world.vm.may(world.who, "operator")
    world.wait(minutes=5)
    assert world.act().unmet[0].code == "act_out_of_reach"
    (end,) = world.vm.receipts(type_="profile_deescalation")
    assert end.fields["what"]["ending"] == "idle"
    assert end.rule == "escalations.operator.idle_ttl"
    assert end.fields["due"] == format_at(NOON + timedelta(minutes=10))
    assert end.fields["what"]["detail"] == {"hand": "wall", "late_us": 300_000_000}
    assert end.expires_at == NOON + timedelta(hours=1)
    assert world.lease(granted).ended.wall == NOON + timedelta(minutes=10)
    assert world.findings() == []


def test_each_use_keeps_it_alive_and_none_past_its_end(make_world):
    world = make_world('idle_ttl = "10m"')
    granted = world.climb()
    for _ in range(6):
        world.wait(minutes=9)
        assert world.act().granted
    assert world.vm.standing(world.who).leases[0].ends_at == granted.expires_at
    world.wait(minutes=6)
    assert not world.vm.may(world.who, "operator")
    world.vm.settle([world.who])
    assert world.ends() == [(granted.lease, "timeout_expired", format_at(granted.expires_at))]
    assert world.findings() == []


def test_what_is_done_above_keeps_alive_what_it_stands_on_and_not_the_other_way(make_world):
    world = make_world('idle_ttl = "10m"', 'idle_ttl = "12m"')
    operator = world.climb()
    world.wait(minutes=8)
    guardian = world.climb("guardian")  # a climb is a sign of life of what it stands on
    assert world.lease(operator).ends_at == world.now + timedelta(minutes=10)
    world.wait(minutes=9)
    world.act("guard")
    assert world.lease(operator).ends_at == world.now + timedelta(minutes=10)
    world.wait(minutes=9)
    world.act("task")
    assert world.lease(operator).ends_at == world.now + timedelta(minutes=10)
    world.wait(minutes=3)
    world.vm.settle([world.who])
    assert world.ends() == [(guardian.lease, "idle", format_at(world.now))]
    assert world.findings() == []


def test_a_child_is_cut_to_its_parents_last_end_and_falls_when_that_idles(make_world):
    world = make_world('idle_ttl = "10m"')
    operator, guardian = world.climb(), world.climb("guardian")
    assert guardian.expires_at == NOON + timedelta(minutes=30)
    world.wait(minutes=20)
    assert not world.vm.may(world.who, "guardian")
    world.vm.settle([world.who])
    due = format_at(NOON + timedelta(minutes=10))
    assert world.ends() == [(guardian.lease, "parent_ended", due), (operator.lease, "idle", due)]
    assert world.lease(guardian).ended.wall == NOON + timedelta(minutes=10)
    assert world.findings() == []


def test_cool_down_runs_from_when_it_fell_idle(make_world):
    world = make_world("", 'idle_ttl = "10m"')
    world.climb()
    world.climb("guardian")
    world.wait(minutes=15)
    assert world.climb("guardian").granted
    assert world.findings() == []


def test_a_renewal_is_a_sign_of_life_and_one_that_adds_no_time_is_refused(make_world):
    world = make_world('idle_ttl = "10m"', 'idle_ttl = "10m"')
    operator, guardian = world.climb(), world.climb("guardian")
    refused = world.vm.renew(world.who, guardian.lease)
    assert [one.code for one in refused.unmet] == ["renewal_gains_nothing"]
    world.wait(minutes=9)
    renewed = world.vm.renew(world.who, guardian.lease)
    assert renewed.ends_at == world.now + timedelta(minutes=10)
    assert world.lease(guardian).ends_at == renewed.ends_at
    assert world.lease(operator).ends_at == renewed.ends_at
    assert world.findings() == []


def test_the_scheduler_ends_it_at_the_instant_and_not_before(make_world):
    world = make_world('idle_ttl = "10m"')
    granted = world.climb()
    expiry = VirtualExpiry(world.vm)
    assert expiry.next_deadline() == NOON + timedelta(minutes=10)
    expiry.advance(timedelta(minutes=9))
    world.act()
    assert expiry.next_deadline() == NOON + timedelta(minutes=19)
    expiry.advance(timedelta(minutes=30))
    (end,) = world.vm.receipts(type_="profile_deescalation")
    assert end.at == NOON + timedelta(minutes=19)
    assert world.ends() == [(granted.lease, "idle", format_at(end.at))]
    expiry.stop()
    assert world.findings() == []


def test_a_clock_set_back_keeps_nothing_alive(make_world):
    """By the boot hand it fell idle, whatever the wall says; and no use lengthens the limit."""
    world = make_world('idle_ttl = "10m"')
    granted = world.climb()
    world.wait(minutes=9)
    world.clock.step_wall(timedelta(hours=-1))
    assert world.act().granted
    lease = world.lease(granted)
    assert lease.ends_at == world.now + timedelta(minutes=10)
    world.clock.advance(timedelta(minutes=10))
    assert not world.vm.may(world.who, "operator")
    world.vm.settle([world.who])
    assert world.findings() == []


def test_after_a_reboot_a_use_can_not_reach_past_the_limit(make_world):
    world = make_world('idle_ttl = "10m"')
    granted = world.climb()
    world.clock.reboot(down_for=timedelta(minutes=5))
    world.act()
    for _ in range(5):
        world.wait(minutes=9)
        world.act()
    assert world.lease(granted).ends_at == granted.expires_at
    # The wall is set back in this boot: its hand was cut to what was left of the limit.
    world.clock.step_wall(timedelta(minutes=-40))
    world.wait(minutes=10)
    assert not world.vm.may(world.who, "operator")
    world.vm.settle([world.who])
    assert world.findings() == []


def test_in_one_stack_ends_come_in_the_order_in_which_they_fell(make_world):
    world = make_world('idle_ttl = "20m"', 'idle_ttl = "5m"')
    operator, guardian = world.climb(), world.climb("guardian")
    world.wait(hours=3)
    world.vm.settle([world.who])
    first, second = (format_at(NOON + timedelta(minutes=m)) for m in (5, 20))
    assert world.ends() == [(guardian.lease, "idle", first), (operator.lease, "idle", second)]
    assert world.findings() == []


# ---- told --------------------------------------------------------------------------------------


def test_why_says_the_bounds_before_anybody_asks(make_world):
    world = make_world('max_uses = 3\nidle_ttl = "10m"')
    asked = {"principal": world.who, "to": "operator", "trigger": "asked"}
    told = world.vm.why(make_command(Escalate, asked))
    assert told.limits == ("3 uses at most", "ends after 10m without one")
    assert told.lasts == timedelta(hours=1)
    to_guardian = world.vm.why(make_command(Escalate, {**asked, "to": "guardian"}))
    assert to_guardian.limits == ()
    assert [rung.limits for rung in to_guardian.route] == [told.limits, ()]


# ---- what no ledger may say --------------------------------------------------------------------


def _forged(world, granted, **changes):
    lease = world.lease(granted)
    fields = {"lease": lease.id, "from_profile": "operator", "principal": world.who, **changes}
    return Entry(fields.pop("type"), fields.pop("outcome"), Grounds("acts"), **fields)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"type": "task", "scroll": "cognitive", "outcome": "granted"}, "after its end"),
        (
            {"type": "task", "scroll": "cognitive", "outcome": "granted", "principal": "u:b"},
            "is no open lease of who did it",
        ),
        (
            {"type": "profile_deescalation", "outcome": "expired", "ending": "uses_spent"},
            "says the uses of 'lease-1' were spent, it was used 0",
        ),
        (
            {
                "type": "profile_deescalation",
                "outcome": "expired",
                "ending": "idle",
                "due": NOON + timedelta(minutes=9),
            },
            "was due at another time than its deadline",
        ),
    ],
)
def test_what_does_not_follow_about_a_lease_is_found(make_world, changes, told):
    world = make_world('max_uses = 2\nidle_ttl = "10m"')
    granted = world.climb()
    world.wait(minutes=11)
    changes = dict(changes)
    if changes["type"] == "profile_deescalation":
        lease = world.lease(granted)
        changes["ends"] = replace(lease, ended=lease.deadline, ending=changes["ending"])
    entry = _forged(world, granted, **changes)
    world.vm.ledger.transact(lambda transaction: transaction.append(entry, world.clock.read()))
    assert [one for one in world.findings() if told in one]


def test_a_use_beyond_the_last_is_found(make_world):
    world = make_world("max_uses = 1")
    granted = world.climb()
    entry = _forged(world, granted, type="task", scroll="cognitive", outcome="granted")

    def work(transaction):
        for _ in range(2):
            transaction.append(entry, world.clock.read())

    world.vm.ledger.transact(work)
    assert "receipt 3: was done under 'lease-1', whose uses were spent" in world.findings()


def test_a_bound_that_the_law_does_not_have_is_found(make_world):
    """Were the decider wrong about a rule's bounds, an auditor would see it."""
    world = make_world("max_uses = 1")
    now = world.clock.read()
    lease = Lease(1, world.who, "operator", "operator", "asked", None, now, now, now, max_uses=9)
    entry = Entry(
        "profile_escalation",
        "granted",
        Grounds("operator"),
        principal=world.who,
        lease=lease.id,
        trigger="asked",
        from_profile="observer",
        to_profile="operator",
        expires_at=now.wall + timedelta(minutes=1),
        detail={"max_uses": 9},
        opens=lease,
    )
    world.vm.ledger.transact(lambda transaction: transaction.append(entry, now))
    told = "receipt 1: is not bounded by uses or idleness as 'operator' says"
    assert told in world.findings()

"""Whatever is asked and whatever the clock does, the laws hold after each step."""

from datetime import timedelta
from typing import get_args

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from vmstate.decisions import command, decider
from vmstate.decisions.command import Release
from vmstate.ledger.audit import audit_ledger
from vmstate.ledger.receipt import Receipt

PEOPLE = ("did:vm:operator:ada", "did:vm:operator:bob")
WHO = st.sampled_from(PEOPLE)
WHICH = st.integers(0, 5)
ENDINGS = ("operator_release", "threat_resolved", "crisis_concluded", "sovereign_revoke", "none")
TTL = st.sampled_from([None, None, None, timedelta(minutes=2), timedelta(hours=2)])
SECONDS = st.sampled_from([0.000001, 60, 299.999999, 300, 600, 1_200, 2_700, 3_600, 90_000])
STEPS = st.sampled_from([-90_000, -3_600, -3_600, -300, 300, 3_600])
# PHOENIX may be renewed here, so that its hold cap has something to cut.
PHOENIX = (
    'trigger = "crisis_declared"\nttl     = "10m"',
    'trigger = "crisis_declared"\nttl     = "6m"\nrenewals = 2',
)
BUILDING = "the building is on fire, all of it"


def _folded(receipt):
    return "folded" in (receipt.fields["what"]["detail"] or {})


class Laws(RuleBasedStateMachine):
    def __init__(self, make_world):
        super().__init__()
        self.world = make_world(PHOENIX, controllers={PEOPLE[1]: "did:vm:person:zoe"})
        self.vm, self.clock = self.world.vm, self.world.clock
        self.rules = self.vm.constitution.rules
        self.ended = {}

    def teardown(self):
        findings = audit_ledger(self.vm.ledger).findings
        self.vm.close()
        assert not findings

    # ---- what is asked ----------------------------------------------------------------------

    def do(self, ask):
        """Ask, and check that what changed is what the new receipts say, and nothing else."""
        leases, statements, law = self.world.kept()
        newest = self.world.receipts()[-1].seq
        answer = ask()
        after, used, same_law = self.world.kept()
        assert same_law == law
        receipts = self.world.receipts(after=newest)
        by_type = {}
        for one in receipts:
            by_type.setdefault(one.type, []).append(one.lease)
        before = {lease.id: lease for lease in leases}
        opened = [lease.id for lease in after if lease.id not in before]
        both = [(before[lease.id], lease) for lease in after if lease.id in before]
        closed = [new.id for old, new in both if new.ended and not old.ended]
        longer = [new.id for old, new in both if new.renewals != old.renewals]
        stood_upon = {old.parent for old, new in both if new.ended is None}
        assert stood_upon.isdisjoint(longer)
        assert by_type.get("profile_escalation", []) == opened
        assert sorted(by_type.get("profile_deescalation", [])) == sorted(closed)
        assert by_type.get("lease_renewed", []) == longer
        changed = {new.id for old, new in both if new != old}
        assert changed == {*closed, *longer}
        if isinstance(answer, Receipt) and not answer.granted:
            # What was owed may have been settled; the command itself changed nothing.
            # One that repeats is answered with an earlier receipt, and counted.
            told = [r for r in receipts if r.body != answer.body]
            assert answer.seq <= newest or receipts[-1].body == answer.body
            owed = [r for r in told if r.type != "clock_anomaly" and not _folded(r)]
            assert all(r.outcome == "expired" for r in owed)
            assert used == statements
            assert not opened
            assert not longer
        return answer

    def lease(self, which):
        leases = self.world.leases()
        return leases[-1 - which % len(leases)].id if leases else "lease-1"

    @rule(who=WHO, ttl=TTL, reason=st.sampled_from(["look at ticket 4711", "short"]))
    def climb_to_operator(self, who, ttl, reason):
        self.do(lambda: self.world.operator(who, ttl=ttl, reason=reason))

    @rule(
        who=WHO,
        ttl=TTL,
        approver=st.sampled_from(["one", "two", "root", "bob"]),
        more=st.booleans(),
    )
    def climb_to_guardian(self, who, ttl, approver, more):
        self.clock.advance(timedelta(minutes=1))
        request = self.world.request(who, ttl=ttl)
        approval = self.world.approval(request, getattr(self.world, approver))
        self.do(lambda: self.world.ask(request, approvals=(approval,), renew_parent=more))

    @rule(who=WHO, confidence=st.sampled_from(["0.99", "0.5"]), signed=st.booleans())
    def climb_to_guardian_on_a_threat(self, who, confidence, signed):
        facts = {**self.world.threat, "threat.confidence": confidence}
        evidence = (self.world.attestation(facts, who),) if signed else ()
        trigger = "threat_detected"
        asked = {"trigger": trigger, "facts": facts, "attestations": evidence}
        answer = self.do(lambda: self.vm.escalate(who, "guardian", **asked))
        assert not answer.granted or (signed and confidence == "0.99")

    @rule(who=WHO, ttl=TTL)
    def climb_to_phoenix(self, who, ttl):
        self.do(lambda: self.world.phoenix(who, ttl=ttl))

    @rule(who=WHO, late=st.sampled_from([0, 0, 40, 58]), until=st.sampled_from(["", "phoenix"]))
    def climb_all_the_way_and_renew(self, who, late, until):
        self.do(lambda: self.world.operator(who))
        self.clock.advance(timedelta(minutes=late))
        self.do(lambda: self.world.guardian(who))
        if until == "phoenix":
            self.do(lambda: self.world.phoenix(who))
        self.clock.advance(timedelta(minutes=5))
        self.renew_the_top(who)

    @rule(who=WHO, late=st.sampled_from([0, 1, 5, 20]))
    def renew(self, who, late):
        self.clock.advance(timedelta(minutes=late))
        self.renew_the_top(who)

    def renew_the_top(self, who):
        leases = self.vm.standing(who).leases
        if not leases:
            return
        top = leases[-1]
        asked = {"reason": BUILDING}
        if top.trigger == "threat_detected":
            asked["attestations"] = (self.world.attestation(principal=who),)
        else:
            asked["request"] = self.world.request(who, top.profile, top.trigger, reason=BUILDING)
            asked["approvals"] = (self.world.approval(asked["request"], self.world.root),)
        self.do(lambda: self.vm.renew(who, top.id, **asked))

    @rule(who=WHO, which=WHICH)
    def renew_what_may_be_anothers_and_over(self, who, which):
        lease = self.lease(which)
        owner = {one.id: one.principal for one in self.world.leases()}.get(lease)
        answer = self.do(lambda: self.vm.renew(who, lease, reason=BUILDING))
        assert not answer.granted or owner == who

    @rule(who=WHO, which=WHICH, ending=st.sampled_from(ENDINGS))
    def release(self, who, which, ending):
        lease = self.lease(which)
        owner = {one.id: one.principal for one in self.world.leases()}.get(lease)
        command = Release(principal=who, lease=lease, ending=ending)
        answer = self.do(lambda: self.vm.submit(command))
        assert not answer.granted or owner == who

    @rule(which=WHICH)
    def revoke(self, which):
        lease = self.lease(which)
        root = self.world.root
        self.do(lambda: self.vm.revoke(root, lease, key=self.world.key(root)))

    @rule(names=st.lists(WHO, min_size=1, max_size=2))
    def settle(self, names):
        self.do(lambda: self.vm.settle(names))

    @rule()
    def recover(self):
        request = self.vm.prepare_recovery(PEOPLE[0])
        approvals = (self.world.approval(request, self.world.root),)
        self.do(lambda: self.vm.recover(PEOPLE[0], request=request, approvals=approvals))

    # ---- what time does ---------------------------------------------------------------------

    @rule(seconds=SECONDS)
    def wait(self, seconds):
        self.clock.advance(timedelta(seconds=seconds))

    @rule(which=WHICH, us=st.sampled_from([-1, 0, 0, 1]))
    def wait_for_a_deadline(self, which, us):
        now = self.clock.read()
        with self.vm.ledger.read() as snapshot:
            mark = snapshot.head().watermark
        held = [one for one in self.world.leases() if one.ended is None]
        left = [mark.left(one.deadline, now) for one in held]
        if left:
            wait = left[which % len(left)] + timedelta(microseconds=us)
            self.clock.advance(max(timedelta(), wait))

    @rule(seconds=STEPS)
    def step_the_wall_clock(self, seconds):
        self.clock.step_wall(timedelta(seconds=seconds))

    @precondition(lambda self: self.clock.read().boot_us > 0)
    @rule(down=SECONDS, error=st.just(0) | STEPS)
    def reboot(self, down, error):
        wrong = timedelta(seconds=error)
        self.clock.reboot(down_for=timedelta(seconds=down), wall_error=wrong)

    # ---- what always holds ------------------------------------------------------------------

    @invariant()
    def no_lease_is_live_past_either_deadline(self):
        now = self.clock.read()
        open_ = {one.id: one for one in self.world.leases() if one.ended is None}
        for who in PEOPLE:
            standing = self.vm.standing(who)
            for lease in standing.leases:
                assert open_[lease.id] == lease
                assert lease.principal == who
                assert now.wall < lease.deadline.wall
                same_boot = lease.deadline.boot_id == now.boot_id
                assert not same_boot or now.boot_us < lease.deadline.boot_us
            ladder = [lease.profile for lease in standing.leases]
            assert standing.profile == (ladder[-1] if ladder else "observer")

    @invariant()
    def what_may_be_done_is_what_a_live_lease_stands_for(self):
        law = self.vm.constitution
        for who in PEOPLE:
            held = self.vm.standing(who).profile
            for profile in law.document.profiles:
                assert self.vm.may(who, profile) == law.includes(held, profile)
            assert self.vm.may(who, "phoenix.destroy") == (held == "phoenix")

    @invariant()
    def a_child_never_outlives_its_parent(self):
        leases = {lease.id: lease for lease in self.world.leases()}
        for lease in leases.values():
            if lease.parent is None:
                continue
            parent = leases[lease.parent]
            assert lease.principal == parent.principal
            if lease.ended is None:  # a parent renewed later may end earlier on a wall set back
                assert lease.deadline.wall <= parent.deadline.wall
            if lease.ended is None and lease.deadline.boot_id == parent.deadline.boot_id:
                assert lease.deadline.boot_us <= parent.deadline.boot_us
            assert parent.ended is None or lease.ended is not None

    @invariant()
    def an_ended_lease_stays_as_it_ended(self):
        ended = {lease.id: lease for lease in self.world.leases() if lease.ended is not None}
        assert {key: ended[key] for key in self.ended} == self.ended
        self.ended = ended
        live = {one.id for who in PEOPLE for one in self.vm.standing(who).leases}
        assert live.isdisjoint(ended)

    @invariant()
    def nothing_lasts_longer_than_its_rule_and_its_renewals_allow(self):
        cap = self.vm.constitution.document.holds["phoenix"]
        for lease in self.world.leases():
            table = self.rules[lease.rule]
            assert lease.renewals <= table.renewals
            if lease.granted.boot_id != lease.deadline.boot_id:
                continue
            length = timedelta(microseconds=lease.deadline.boot_us - lease.granted.boot_us)
            assert length <= table.ttl * (1 + lease.renewals)
            assert lease.profile != "phoenix" or length <= cap

    @invariant()
    def every_change_has_its_receipt_and_every_receipt_its_change(self):
        leases = self.world.leases()
        receipts = self.world.receipts()
        named = {
            kind: sorted(one.lease for one in receipts if one.type == kind)
            for kind in ("profile_escalation", "profile_deescalation", "lease_renewed")
        }
        assert named["profile_escalation"] == sorted(lease.id for lease in leases)
        ended = sorted(lease.id for lease in leases if lease.ended is not None)
        assert named["profile_deescalation"] == ended
        renewed = [lease.id for lease in leases for _ in range(lease.renewals)]
        assert named["lease_renewed"] == sorted(renewed)


def test_the_laws_hold_whatever_is_asked_and_whatever_the_clock_does(make_world):
    run_state_machine_as_test(
        lambda: Laws(make_world),
        settings=settings(
            max_examples=30,
            stateful_step_count=40,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
        ),
    )


def test_every_command_has_somebody_who_judges_it():
    assert set(decider._ANSWERS) == set(get_args(command.Command))

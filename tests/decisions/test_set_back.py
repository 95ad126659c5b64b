"""What was too old once stays too old, wherever the wall clock is set after it (law 11)."""

from datetime import timedelta

from vmstate.decisions.command import SetLock, make_command
from vmstate.ledger.audit import audit_ledger
from vmstate.signing import Order, sign

BACK = -timedelta(minutes=12)


def test_an_approval_that_was_too_old_stays_so(world):
    world.operator()
    request = world.request()
    approval = world.approval(request, expires_at=world.now + timedelta(minutes=5))
    world.wait(minutes=15)
    world.clock.step_wall(BACK)
    denied = world.ask(request, approvals=(approval,))
    assert world.denied(denied, "approval_missing", "approval_set_back")


def test_an_attestation_that_was_too_old_stays_so(world):
    world.operator()
    attestation = world.attestation(world.threat)
    world.wait(minutes=15)
    world.clock.step_wall(-timedelta(minutes=14))
    asked = {"trigger": "threat_detected", "reason": world.reason}
    denied = world.vm.escalate(world.ada, "guardian", **asked, attestations=(attestation,))
    assert "attestation_set_back" in [one.code for one in denied.unmet]


def test_an_order_that_was_too_old_stays_so(world):
    asked = make_command(SetLock, {"principal": world.one, "scope": "all"})
    order = world.vm.ordered(asked, world.key(world.one))
    world.operator()
    world.wait(minutes=15)
    world.clock.step_wall(BACK)
    assert world.denied(world.vm.submit(order), "order_set_back", "not_proven")


def test_a_reboot_revives_nothing_of_what_the_boot_before_it_saw_grow_too_old(world):
    world.operator()
    request = world.request()
    approval = world.approval(request, expires_at=world.now + timedelta(minutes=5))
    world.wait(minutes=15)
    world.operator(world.bob)
    world.clock.step_wall(BACK)
    assert not world.ask(request, approvals=(approval,)).granted
    world.clock.reboot(down_for=timedelta(seconds=10))
    world.operator()
    denied = world.ask(request, approvals=(approval,))
    assert world.denied(denied, "approval_missing", "approval_set_back")
    assert audit_ledger(world.vm.ledger).findings == ()


def test_a_reboot_to_a_clock_in_the_past_revives_no_order(world):
    asked = make_command(SetLock, {"principal": world.one, "scope": "all"})
    order = world.vm.ordered(asked, world.key(world.one))
    world.wait(minutes=15)
    world.operator()
    world.clock.reboot(down_for=timedelta(seconds=10), wall_error=-timedelta(minutes=14))
    assert world.denied(world.vm.submit(order), "order_set_back", "not_proven")
    assert audit_ledger(world.vm.ledger).findings == ()


def test_what_was_handed_in_and_too_old_stays_so_and_the_ledger_audits(world):
    world.operator()
    request = world.request()
    assert world.vm.open_request(request).granted
    approval = world.approval(request, expires_at=world.now + timedelta(minutes=5))
    assert world.vm.hand_in(request.id, approval).granted
    world.wait(minutes=7)
    world.clock.step_wall(-timedelta(minutes=5))
    denied = world.vm.activate(world.ada, request.id)
    assert "approval_set_back" in [one.code for one in denied.unmet]
    assert audit_ledger(world.vm.ledger).findings == ()


def test_an_order_or_approval_dated_by_another_clock_counts_for_nothing(world):
    asked = make_command(SetLock, {"principal": world.one, "scope": "all"})
    order = world.vm.ordered(asked, world.key(world.one)).order
    late = {**order.statement.body(), "expires_at": "2099-01-01T00:00:00.000000Z"}
    signed = sign(Order(**late), world.key(world.one))
    denied = world.vm.submit(asked.model_copy(update={"order": signed}))
    assert world.denied(denied, "order_too_long", "not_proven")
    said = f"the order by {world.one} is good for too long, needs 5m at most"
    assert denied.message.startswith(said)
    world.operator()
    request = world.request()
    approval = world.approval(request, expires_at=world.now + timedelta(days=400))
    denied = world.ask(request, approvals=(approval,))
    assert world.denied(denied, "approval_missing", "approval_too_long")

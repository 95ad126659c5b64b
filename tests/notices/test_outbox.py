"""What is told, of what, how often, and to whom: rows written with their receipts."""

from datetime import timedelta

import pytest

from vmstate.authority import Authority
from vmstate.constitution.people import Caller
from vmstate.decisions.command import Call, Escalate, Release, make_command
from vmstate.decisions.statements import prepare_call
from vmstate.drills.stand_ins import StandIns
from vmstate.errors import LedgerUnavailable
from vmstate.expiry import VirtualExpiry
from vmstate.keys import PrivateKey
from vmstate.ledger.audit import audit_ledger
from vmstate.ledger.outbox import _BACKLOG, _DUE, FOLDS, KEPT, _values
from vmstate.notices import Deliverer
from vmstate.signing import approve, new_nonce


def climb(vm, who="u:a", to="operator"):
    return vm.escalate(who, to, trigger="asked").raise_for_denial()


def test_the_end_of_a_lease_is_told_with_its_receipt(pager):
    desk, vm, deliverer = pager("ended")
    lease = climb(vm).lease
    end = vm.release("u:a", lease)
    assert deliverer.deliver_due() == 1
    (told,) = desk.told("pager")
    assert told == {
        "v": 1,
        "id": told["id"],
        "type": "vmstate.ended",
        "timestamp": "2030-01-01T12:00:00.000000Z",
        "target": "pager",
        "origin": vm.origin,
        "receipt": {
            "seq": end.seq,
            "id": end.id,
            "type": "profile_deescalation",
            "outcome": "reverted",
        },
        "principal": "u:a",
        "lease": lease,
        "profile": "operator",
        "expires_at": "2030-01-01T13:00:00.000000Z",
        "count": 1,
        "first_seq": end.seq,
        "codes": [],
        "message": f"u:a no longer holds operator ({lease}): operator_release",
    }
    assert deliverer.deliver_due() == 0


def test_nothing_is_told_that_was_not_asked_for(pager):
    desk, vm, deliverer = pager("ending")
    vm.escalate("u:a", "sovereign", trigger="asked")
    vm.release("u:a", climb(vm).lease)
    assert deliverer.deliver_due() == 0
    assert desk.told("pager") == []


def test_each_target_is_told_what_it_asked_for(desk):
    desk.target("ends", "ended")
    desk.target("noes", "denied")
    desk.target("all")
    vm = desk.make()
    vm.release("u:a", climb(vm).lease)
    vm.escalate("u:a", "sovereign", trigger="asked")
    assert Deliverer(vm).deliver_due() == 4
    assert [one["type"] for one in desk.told("ends")] == ["vmstate.ended"]
    assert [one["type"] for one in desk.told("noes")] == ["vmstate.denied"]
    assert [one["type"] for one in desk.told("all")] == ["vmstate.ended", "vmstate.denied"]


def test_what_was_put_back_is_told_to_nobody(pager):
    desk, vm, _ = pager("ended")
    lease = climb(vm).lease

    def work(transaction):
        transaction.address(vm.constitution.document.notify)
        decision = vm._decide(transaction, release, vm.clock.read())
        for entry in decision.entries:
            transaction.append(entry, vm.clock.read())
        raise LedgerUnavailable("the disk is full")

    release = Release(principal="u:a", lease=lease)
    with pytest.raises(LedgerUnavailable):
        vm.ledger.transact(work)
    assert desk.waiting(vm, "pager") == ()


# ---- requests and amendments ----------------------------------------------------------------

APPROVED = """
[requests]
waits        = "30m"
usable_for   = "10m"
open_at_most = 2

[escalations.on_approval]
from = "observer"
to   = "guardian"
trigger = "asked"
ttl  = "10m"
needs.approval = { count = 1, of = ["sovereigns"] }
"""

SERVER = """
[tools.git]
approvers  = ["sovereigns"]
tools.push = { profile = "observer", each_call = true }
"""


def test_a_request_is_told_when_it_is_left_open_complete_and_over(desk):
    desk.target("pager", "request")
    desk.law_text += APPROVED
    vm = desk.make()
    key = PrivateKey.derive("short", "root")
    first, second = (
        vm.prepare("u:a", "guardian", trigger="asked", reason=f"ticket {number}")
        for number in (1, 2)
    )
    vm.open_request(first)
    vm.approve(first.id, "root", key).raise_for_denial()
    vm.open_request(second)
    vm.withdraw("u:a", second.id).raise_for_denial()
    Deliverer(vm).deliver_due()
    one, two = first.id[:19], second.id[:19]
    assert desk.messages("pager") == [
        f"request {one} of u:a for guardian: pending; ticket 1",
        f"request {one} of u:a for guardian: complete",
        f"request {two} of u:a for guardian: pending; ticket 2",
        f"request {two} of u:a for guardian: withdrawn",
    ]
    assert [one["principal"] for one in desk.told("pager")] == ["u:a"] * 4


def test_the_request_of_a_single_call_is_told_without_its_arguments(desk):
    desk.target("pager", "request", "denied")
    desk.law_text += APPROVED + SERVER
    vm = desk.make()
    asked = {"principal": "u:a", "server": "git", "name": "push", "arguments": f"sha256:{'a' * 64}"}
    command = make_command(Call, {**asked, "shown": '{"to":"swordfish"}'})
    request = prepare_call(vm.constitution, vm.origin, command, nonce=new_nonce())
    command = command.model_copy(update={"request": request})
    assert vm.submit(command).type == "request"
    vm.approve(request.id, "root", PrivateKey.derive("short", "root")).raise_for_denial()
    assert vm.submit(command).type == "tool_call"
    vm.submit(command.model_copy(update={"request": None}))
    desk.clock.advance(timedelta(minutes=1))
    Deliverer(vm).deliver_due()
    one = request.id[:19]
    assert desk.messages("pager") == [
        f"request {one} of u:a to call push of git: pending",
        f"request {one} of u:a to call push of git: complete",
        "u:a was denied once: tool_unapproved",
    ]


def test_an_amendment_is_told_to_whom_the_law_named_before_and_to_whom_it_names_now(desk):
    desk.target("old", "amended")
    vm = desk.make()
    desk.target("new", "amended")
    toml = desk.law_text.replace('version  = "1"', 'version  = "2"').encode()
    key = PrivateKey.derive("short", "root")
    request = vm.prepare_amendment("u:op", toml)
    approval = approve(request, "root", key, expires_at=vm.now() + timedelta(minutes=1))
    holder = PrivateKey.derive("short", "u:op")
    vm.amend("u:op", toml, request=request, approvals=(approval,), key=holder).raise_for_denial()
    Deliverer(vm).deliver_due()
    for name in ("old", "new"):
        assert desk.messages(name) == ["the constitution is now short 2"]


# ---- locks --------------------------------------------------------------------------------


def test_a_lock_is_told_and_so_is_what_it_ends_and_that_it_is_lifted(desk):
    desk.target("pager")
    vm = desk.make()
    key = PrivateKey.derive("short", "root")
    lease = climb(vm).lease
    lock = vm.lock("root", principal="u:a", reason="a stolen key", ttl=timedelta(hours=2), key=key)
    lock_id = lock.raise_for_denial().fields["what"]["detail"]["lock"]
    desk.clock.advance(timedelta(minutes=1))
    vm.unlock("root", lock_id, reason="found again", key=key).raise_for_denial()
    Deliverer(vm).deliver_due()
    assert desk.messages("pager") == [
        f"{lock_id} on u:a: locked until 2030-01-01 14:00:00Z; a stolen key",
        f"u:a no longer holds operator ({lease}): locked",
        f"{lock_id} on u:a: lifted; found again",
    ]


# ---- about to end ---------------------------------------------------------------------------


def test_the_end_of_a_lease_is_announced_as_long_before_as_was_asked_for(pager):
    desk, vm, deliverer = pager("ending", before="10m")
    lease = climb(vm).lease
    desk.clock.advance(timedelta(minutes=50) - timedelta(microseconds=1))
    assert deliverer.deliver_due() == 0
    desk.clock.advance(timedelta(microseconds=1))
    assert deliverer.deliver_due() == 1
    until = "until 2030-01-01 13:00:00Z, 10m more"
    assert desk.messages("pager") == [f"u:a holds operator ({lease}) {until}"]


def test_an_end_is_announced_five_minutes_before_where_nothing_is_said(pager):
    desk, vm, deliverer = pager("ending")
    climb(vm)
    desk.clock.advance(timedelta(minutes=55))
    assert deliverer.deliver_due() == 1


def test_an_end_is_announced_by_whichever_hand_of_the_clock_comes_first(pager):
    desk, vm, deliverer = pager("ending")
    climb(vm)
    desk.clock.advance(timedelta(minutes=56))
    desk.clock.step_wall(timedelta(minutes=-30))
    assert deliverer.deliver_due() == 1


def test_the_end_of_a_lease_that_was_given_back_is_not_announced(pager):
    desk, vm, deliverer = pager("ending")
    vm.release("u:a", climb(vm).lease)
    desk.clock.advance(timedelta(minutes=56))
    assert desk.waiting(vm, "pager") == ()
    assert deliverer.deliver_due() == 0


def test_a_renewal_plans_its_announcement_anew(pager):
    desk, vm, deliverer = pager("ending")
    lease = climb(vm).lease
    desk.clock.advance(timedelta(minutes=30))
    vm.renew("u:a", lease).raise_for_denial()
    desk.clock.advance(timedelta(minutes=26))
    assert deliverer.deliver_due() == 0
    desk.clock.advance(timedelta(minutes=29))
    assert deliverer.deliver_due() == 1


def test_an_end_is_not_announced_once_it_has_come(pager):
    desk, vm, deliverer = pager("ending")
    climb(vm)
    desk.clock.advance(timedelta(hours=2))
    assert len(desk.waiting(vm, "pager")) == 1
    assert deliverer.deliver_due() == 0
    assert desk.waiting(vm, "pager") == ()


def test_the_end_of_a_lease_shorter_than_the_warning_is_announced_at_once(pager):
    _, vm, deliverer = pager("ending", before="2h")
    climb(vm)
    assert deliverer.deliver_due() == 1


# ---- denied, in numbers ---------------------------------------------------------------------


def test_a_denial_is_told_at_once_and_its_like_in_numbers_a_minute_later(pager):
    desk, vm, deliverer = pager("denied")
    first = vm.escalate("u:a", "guardian", trigger="asked")
    deliverer.deliver_due()
    for _ in range(41):
        last = vm.escalate("u:a", "guardian", trigger="asked")
    desk.clock.advance(timedelta(seconds=59))
    assert deliverer.deliver_due() == 0
    desk.clock.advance(timedelta(seconds=1))
    assert deliverer.deliver_due() == 1
    one, many = desk.told("pager")
    assert (one["count"], one["first_seq"]) == (1, first.seq)
    assert (many["count"], many["first_seq"], many["receipt"]["seq"]) == (
        41,
        first.seq + 1,
        last.seq + 1,  # the receipt of those that were counted
    )
    assert many["message"] == "u:a was denied 41 times: no_path"
    assert many["codes"] == ["no_path"]


def test_denials_of_two_people_or_for_two_reasons_are_told_apart(pager):
    desk, vm, deliverer = pager("denied")
    for who, to in (("u:a", "guardian"), ("u:b", "guardian"), ("u:a", "sovereign")):
        vm.escalate(who, to, trigger="asked")
        vm.escalate(who, to, trigger="asked")
    assert deliverer.deliver_due() == 3
    assert [one["count"] for one in desk.told("pager")] == [2, 2, 2]


def test_a_name_that_nothing_proves_is_told_as_that(pager):
    desk, vm, deliverer = pager("denied")
    said = {"principal": "u:a", "to": "guardian", "trigger": "asked", "caller": Caller("mallory")}
    vm.submit(make_command(Escalate, said))
    deliverer.deliver_due()
    assert desk.messages("pager") == ["u:a (not proven) was denied once: not_caller"]


def test_names_that_are_made_up_are_told_as_one(pager):
    desk, vm, deliverer = pager("denied")
    for number in range(5):
        vm.escalate(f"nobody{number}", "operator", trigger="asked")
    assert deliverer.deliver_due() == 1
    (told,) = desk.told("pager")
    assert (told["count"], told["principal"]) == (5, None)
    assert told["message"].startswith("unknown names were denied 5 times: unknown_principal")


def test_what_one_is_denied_for_others_is_told_as_one(pager):
    desk, vm, deliverer = pager("denied")
    for number in range(5):
        vm.escalate(f"u:{number}", "operator", trigger="asked", actor="u:z")
    assert deliverer.deliver_due() == 1
    (told,) = desk.told("pager")
    assert (told["count"], told["principal"]) == (5, None)
    assert told["message"] == "u:z, asking for others, was denied 5 times: not_self"


def test_a_flood_of_denials_leaves_no_more_rows_than_the_bound(pager, monkeypatch):
    monkeypatch.setattr("vmstate.ledger.outbox.FOLDS", 3)
    desk, vm, deliverer = pager("denied")
    for number in range(9):
        vm.escalate(f"u:{number}", "guardian", trigger="asked")
    rows = desk.waiting(vm, "pager")
    assert [one.count for one in rows] == [1, 1, 1, 6]
    deliverer.deliver_due()
    assert desk.messages("pager")[-1] == "others were denied 6 times: no_path"
    assert desk.told("pager")[-1]["principal"] is None
    assert FOLDS == 256


# ---- the table ------------------------------------------------------------------------------


def test_of_what_was_told_only_the_newest_is_kept(pager, monkeypatch):
    monkeypatch.setattr("vmstate.ledger.outbox.KEPT", 2)
    _, vm, deliverer = pager("ended")
    for _ in range(5):
        vm.release("u:a", climb(vm).lease)
    assert deliverer.deliver_due() == 5
    with vm.ledger.read() as snapshot:
        rows = list(snapshot.execute("SELECT id FROM outbox"))
    assert len(rows) == 2
    assert KEPT == 1_000


def test_telling_writes_no_receipt_and_leaves_the_signed_head_alone(pager):
    _, vm, deliverer = pager("ended")
    vm.release("u:a", climb(vm).lease)
    with vm.ledger.read() as snapshot:
        before = snapshot.head()
    deliverer.deliver_due()
    with vm.ledger.read() as snapshot:
        assert snapshot.head() == before
    assert audit_ledger(vm.ledger).is_good


def test_a_ledger_whose_outbox_was_emptied_is_still_intact(pager):
    _, vm, _ = pager("ended")
    vm.release("u:a", climb(vm).lease)
    vm.ledger.transact(lambda t: t._execute("DELETE FROM outbox", ()))
    assert audit_ledger(vm.ledger).is_good


def test_nobody_is_told_of_a_drill(desk):
    desk.target("pager")
    origin = "short/drill/one"
    stand_ins = StandIns(desk.law, origin=origin, digest=f"sha256:{'0' * 64}")
    mark = stand_ins.mark("one", "DRILL/2030")
    vm = Authority.create(
        desk.law, desk.folder / "d.db", clock=desk.clock, origin=origin, drill=mark
    )
    vm.drill_mode(on=True, set_by="a test")
    vm.release("u:a", climb(vm).lease)
    assert Deliverer(vm).deliver_due() == 0
    vm.close()


def test_ends_that_the_scheduler_wrote_are_told_as_well(pager):
    desk, vm, deliverer = pager("ended")
    lease = climb(vm).lease
    expiry = VirtualExpiry(vm)
    expiry.advance(timedelta(hours=1))
    expiry.stop()
    assert deliverer.deliver_due() == 1
    assert desk.messages("pager") == [f"u:a no longer holds operator ({lease}): timeout_expired"]


def test_what_is_due_is_found_by_an_index_however_much_is_planned(pager):
    _, vm, _ = pager("ending")
    with vm.ledger.read() as snapshot:
        for query in (_DUE, _BACKLOG):
            values = {**_values("pager", vm.clock.read()), "n": 1}
            used = {k: v for k, v in values.items() if f":{k}" in query}
            plan = list(snapshot.execute(f"EXPLAIN QUERY PLAN {query}", used))
            searches = [row[3] for row in plan if "outbox" in row[3]]
            # Not all of a target's rows are gone through: each search is bounded by time as well.
            assert len(searches) == 4
            assert not [one for one in searches if "SCAN" in one or one.endswith("(target=?)")]

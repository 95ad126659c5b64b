"""F1: killed between the commit and the answer, whoever asks again learns what was answered."""

import signal

from vmstate.ledger.audit import audit_ledger


def test_asked_again_after_a_kill_it_is_the_answer_that_was_written_and_no_second_grant(stage):
    vm = stage.make()
    child = stage.child("once", vm.ledger.path, "u:a", "job 7", "killed")
    assert child.says() == ["ready"]
    child.tell()
    assert child.process.wait(8) == -signal.SIGKILL
    (written,) = stage.receipts(vm, type_="profile_escalation")
    answer = vm.escalate("u:a", "operator", trigger="asked", idempotency_key="job 7")
    assert answer.body == written.body
    assert [one.body for one in stage.receipts(vm)][-1] == written.body
    assert child.kill() == []  # it never said what it had been answered
    stage.check_whole(vm)
    assert audit_ledger(vm.ledger).findings == ()


def test_two_processes_that_ask_under_one_key_are_answered_by_one_receipt(stage):
    vm = stage.make()
    children = [stage.child("once", vm.ledger.path, "u:a", "job 7", "lives") for _ in range(2)]
    assert [child.says() for child in children] == [["ready"], ["ready"]]
    for child in children:
        child.tell()
    first, second = (child.says() for child in children)
    (written,) = stage.receipts(vm, type_="profile_escalation")
    assert first == second == [written.seq, written.id]
    assert audit_ledger(vm.ledger).findings == ()

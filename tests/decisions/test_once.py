"""A command that is sent again under its idempotency key is answered once."""

from datetime import timedelta

import apsw
import pytest

from vmstate.decisions.command import Call, make_command
from vmstate.errors import InputError
from vmstate.ledger.audit import audit_ledger

TASK = "task.execute"


def findings(world):
    return [str(one) for one in audit_ledger(world.vm.ledger).findings]


def test_the_same_command_under_one_key_is_answered_by_the_first_receipt(world):
    first = world.operator(idempotency_key="job 7")
    before = world.kept()
    size = world.vm.size()
    again = world.operator(idempotency_key="job 7")
    assert again.body == first.body
    assert (world.vm.size(), world.kept()) == (size, before)
    assert set(first.fields["proofs"]) == {"command", "idempotency", "tem_context_hash"}
    assert findings(world) == []


def test_it_is_answered_so_for_ever_and_whatever_became_of_it(world):
    first = world.operator(idempotency_key="k")
    world.vm.release(world.ada, first.lease)
    world.wait(days=40)
    assert world.operator(idempotency_key="k").body == first.body
    assert world.profile() == "observer"


def test_a_denial_is_an_answer_and_a_new_attempt_takes_a_new_key(world):
    denied = world.vm.escalate(
        world.ada, "operator", trigger="operator_request", idempotency_key="k"
    )
    assert world.denied(denied, "reason_short")
    again = world.vm.escalate(
        world.ada, "operator", trigger="operator_request", idempotency_key="k"
    )
    assert again.body == denied.body
    with pytest.raises(InputError):
        world.operator(idempotency_key="k")
    assert world.operator(idempotency_key="l").granted


def test_a_key_that_answered_something_else_is_refused_and_nothing_written(world):
    first = world.operator(idempotency_key="k")
    size = world.vm.size()
    told = (
        f"the idempotency key answered another command, receipt {first.seq}: "
        "give this one a key of its own"
    )
    with pytest.raises(InputError, match=told):
        world.operator(idempotency_key="k", ttl=timedelta(minutes=5))
    with pytest.raises(InputError, match=told):
        world.vm.act(world.ada, TASK, idempotency_key="k")
    assert world.vm.size() == size


def test_the_keys_of_one_are_not_those_of_another(world):
    assert world.operator(idempotency_key="k").granted
    other = world.operator(world.bob, idempotency_key="k")
    assert (other.granted, other.fields["who"]["principal"]) == (True, world.bob)
    assert findings(world) == []


def test_each_command_takes_a_key(world):
    vm, ada = world.vm, world.ada
    operator = world.operator(idempotency_key="1")
    world.wait(minutes=1)
    request = world.request()
    given = {"approvals": (world.approval(request),)}
    guardian = world.ask(request, **given, idempotency_key="2")
    call = {"principal": ada, "server": "none", "name": "x", "arguments": f"sha256:{'a' * 64}"}
    root = world.key(world.root)
    asked = {
        "2": lambda: world.ask(request, **given, idempotency_key="2"),
        "3": lambda: vm.renew(ada, guardian.lease, idempotency_key="3"),
        "4": lambda: vm.create_budget(
            ada, "b", name="B", allocated=5, unit="u", idempotency_key="4"
        ),
        "5": lambda: vm.debit(ada, "b", 2, idempotency_key="5"),
        "6": lambda: vm.act(ada, TASK, idempotency_key="6"),
        "7": lambda: vm.anchor(ada, idempotency_key="7"),
        "8": lambda: vm.submit(make_command(Call, {**call, "idempotency_key": "8"})),
        "9": lambda: vm.release(ada, guardian.lease, idempotency_key="9"),
        # Each time its order is signed anew, and it is the same command.
        "10": lambda: vm.revoke(world.root, operator.lease, key=root, idempotency_key="10"),
        "11": lambda: vm.lock(world.root, principal=ada, key=root, idempotency_key="11"),
        "12": lambda: vm.unlock(world.root, "lock-0", key=root, idempotency_key="12"),
        "13": lambda: vm.recover(
            world.root,
            request=recovery,
            approvals=(),
            key=root,
            idempotency_key="13",
        ),
    }
    recovery = vm.prepare_recovery(world.root)
    assert guardian.granted
    for ask in asked.values():
        first, size = ask(), vm.size()
        assert ask().body == first.body
        assert vm.size() == size
    with vm.ledger.read() as snapshot:
        assert len(list(snapshot.answers())) == len(asked) + 1
    assert findings(world) == []


@pytest.mark.parametrize(
    ("key", "told"),
    [
        ("", "too short, needs 1 or more"),
        ("k" * 129, "129 bytes"),
        ("a\nb", "control character"),
    ],
)
def test_a_key_without_form_is_refused(world, key, told):
    with pytest.raises(InputError, match=told):
        world.operator(idempotency_key=key)


@pytest.mark.parametrize("name", ["command", "idempotency", "request", "tem_context_hash"])
def test_no_act_can_say_what_receipts_prove_by_themselves(world, name):
    told = f"the proof '{name}' is vmstate's own: give it another name"
    with pytest.raises(InputError, match=told):
        world.vm.act(world.ada, TASK, proofs={name: f"sha256:{'a' * 64}"})


@pytest.mark.parametrize(
    "change",
    [
        "DELETE FROM answered",
        "UPDATE answered SET seq = 0",
        "UPDATE answered SET command = 'sha256:0'",
        "INSERT INTO answered VALUES ('sha256:0', 'sha256:0', 1)",
    ],
)
def test_a_table_of_answers_that_was_changed_by_hand_is_found(world, change):
    world.operator(idempotency_key="k")
    connection = apsw.Connection(str(world.vm.ledger.path))
    connection.execute(change)
    connection.close()
    assert findings(world) == ["the table of answered commands is not what the receipts answered"]


def test_two_receipts_that_answer_one_command_are_found(world):
    first = world.operator(idempotency_key="k")
    connection = apsw.Connection(str(world.vm.ledger.path))
    connection.execute("DELETE FROM answered")
    connection.close()
    world.operator(idempotency_key="k")
    assert f"receipt {first.seq + 1}: answers again what receipt {first.seq} answered" in findings(
        world
    )

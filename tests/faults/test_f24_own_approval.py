"""F24: the requester approves: by another key, through a child, through a controller, by hand."""

from datetime import timedelta

import pytest
from typed import typed

from vmstate.signing import approve

PERSON = "did:vm:operator:bob"

FAMILIES = {
    "by the key of another of their names": {"did:vm:guardian:one": "did:vm:operator:ada"},
    "by whoever controls them": {"did:vm:operator:ada": "did:vm:guardian:one"},
    "by another who is controlled like them": {
        "did:vm:operator:ada": PERSON,
        "did:vm:guardian:one": PERSON,
    },
    "by one two removes away": {
        "did:vm:operator:ada": "did:vm:x",
        "did:vm:x": PERSON,
        "did:vm:guardian:one": PERSON,
    },
}


@pytest.mark.parametrize("controllers", FAMILIES.values(), ids=FAMILIES)
def test_nobody_who_stands_for_the_requester_approves_or_denies(make_asking, controllers):
    asking = make_asking(controllers=controllers)
    asking.climb(asking.ada)
    request = asking.open(asking.ada)
    assert asking.codes(asking.approve(request, asking.one)) == ["approval_own"]
    denied = asking.vm.deny(asking.one, request, key=asking.key(asking.one))
    assert asking.codes(denied) == ["deny_own"]
    assert asking.vm.request(request).state == "pending"
    assert asking.approve(request, asking.two).outcome == "recorded"
    assert asking.vm.activate(asking.ada, request).granted


def test_a_child_agent_does_not_ask_for_what_its_controller_then_approves(make_asking):
    asking = make_asking(controllers={"did:vm:agent:7": "did:vm:guardian:one"})
    asking.climb(asking.agent)
    request = asking.open(asking.agent)
    assert asking.codes(asking.approve(request, asking.one)) == ["approval_own"]
    assert asking.approve(request, asking.two).outcome == "recorded"


def test_a_controller_named_after_the_approval_spoils_it(make_asking):
    """What counts is who stands behind whom when the climb is decided; the law says so then."""
    asking = make_asking()
    asking.climb(asking.ada)
    request = asking.open(asking.ada)
    asking.approve(request, asking.one)
    toml = asking.vm.constitution.toml
    key = f'key = "{asking.key(asking.one).public}"'.encode()
    toml = toml.replace(key, key + f'\ncontroller = "{asking.ada}"'.encode())
    amending = asking.vm.prepare_amendment(asking.bob, toml)
    until = asking.vm.now() + timedelta(minutes=5)
    approval = approve(amending, asking.root, asking.key(asking.root), expires_at=until)
    amended = asking.vm.amend(
        asking.bob, toml, request=amending, approvals=(approval,), key=asking.key(asking.bob)
    )
    assert amended.outcome == "recorded", amended.message
    assert asking.codes(asking.vm.activate(asking.ada, request)) == ["request_over"]
    fresh = asking.open(asking.ada)
    assert asking.codes(asking.approve(fresh, asking.one)) == ["approval_own"]


def test_the_requester_signs_in_the_name_of_an_approver(asking):
    asking.climb(asking.ada)
    request = asking.open(asking.ada)
    forged = asking.vm.approve(request, asking.one, asking.key(asking.ada))
    assert asking.codes(forged) == ["approval_signature"]
    own = asking.approve(request, asking.ada)
    assert asking.codes(own) == ["approval_own"]


def test_the_command_line_knows_no_other_way(tmp_path):
    """Whoever can open the ledger's file and has every option of the command may not approve."""

    def vmstate(*words):
        return typed(*words, at=tmp_path)

    vmstate("init")
    made = vmstate("keys", "new", "alice", "-o", "alice.key").out
    path = tmp_path / "constitution.toml"
    path.write_text(path.read_text(encoding="utf-8") + made, encoding="utf-8")
    vmstate("init")
    asked = ("--as", "alice", "--reason", "ticket 4711: look")
    vmstate("escalate", "operator", *asked)
    request = vmstate("escalate", "guardian", *asked, "--wait").out.strip()
    tries = {
        "approval_own": ("approve", request, "--key", "alice.key"),
        "approval_missing": ("activate", request, "--as", "alice"),
        "deny_own": ("deny", request, "--key", "alice.key"),
    }
    for code, words in tries.items():
        done = vmstate("request", *words)
        assert done.code == 3, done.err
        assert f"[{code}]" in done.err
    # Under another name it signs nothing; what is forged past the command is refused above.
    as_another = vmstate("request", "approve", request, "--key", "alice.key", "--as", "carol")
    assert (as_another.code, "it is alice's" in as_another.err) == (2, True)
    assert vmstate("may", "alice", "guardian").code == 3

"""F19: a holder who slept through the end of their lease wakes up, and their token is stale."""

from datetime import timedelta

import pytest

from vmstate.authority import Authority
from vmstate.constitution.loading import read_constitution
from vmstate.errors import LeaseEnded
from vmstate.ledger.audit import audit_ledger

ACTS = """
[acts]
task = { profile = "operator", scroll = "cognitive", receipt = "task" }
"treasury.allocate" = { profile = "operator", scroll = "treasury", receipt = "treasury_budget" }
"treasury.debit" = { profile = "operator", scroll = "treasury", receipt = "treasury_debit" }
"""


@pytest.fixture
def vm(stage, clock):
    law = read_constitution(stage.law.toml + ACTS.encode())
    return stage.closing(Authority.create(law, stage.folder / "f.db", clock=clock), Authority.close)


@pytest.fixture
def tokens(stage, vm, clock):
    """The token of a lease that is over, and that of the lease that was taken since."""
    old = stage.climb(vm, "u:a", ttl=timedelta(minutes=1))
    vm.create_budget("u:a", "b", name="B", allocated=5, unit="u").raise_for_denial()
    clock.advance(timedelta(minutes=2))
    return old, stage.climb(vm, "u:a")


def test_what_was_planned_under_the_old_lease_is_refused_under_the_new_one(vm, tokens):
    old, new = tokens
    asked = (
        lambda fence: vm.act("u:a", "task", fence=fence),
        lambda fence: vm.debit("u:a", "b", 1, fence=fence),
        lambda fence: vm.create_budget(
            "u:a", f"b{fence}", name="B", allocated=1, unit="u", fence=fence
        ),
    )
    for ask in asked:
        stale = ask(old.seq)
        assert [one.code for one in stale.unmet] == ["fence_stale"]
        assert stale.message == (
            f"it was planned under {old.lease}, which no longer stands: there is {new.lease}"
        )
        assert ask(new.seq).granted
    assert audit_ledger(vm.ledger).findings == ()


def test_a_token_stands_as_long_as_its_lease(stage, vm, tokens):
    old, new = tokens
    upper = stage.climb(vm, "u:a", "guardian")
    assert (vm.stands(old.lease), vm.stands(new.lease)) == (False, True)
    assert vm.act("u:a", "task", fence=upper.seq).granted
    vm.release("u:a", new.lease)
    assert not vm.stands(upper.lease)
    assert [one.code for one in vm.act("u:a", "task", fence=upper.seq).unmet] == [
        "act_out_of_reach",
        "fence_stale",
    ]
    assert not vm.stands("lease-999")
    assert not vm.stands("nonsense")


def test_a_block_that_slept_finds_its_lease_over_though_its_profile_is_held_again(stage, vm, clock):
    with vm.elevated("operator", as_="u:a", trigger="asked", ttl=timedelta(minutes=1)) as lease:
        clock.advance(timedelta(minutes=5))
        newer = stage.climb(vm, "u:a")
        assert vm.may("u:a", "operator")
        with pytest.raises(LeaseEnded):
            lease.check()
    assert vm.stands(newer.lease)  # left late, it gives back nothing of the other's

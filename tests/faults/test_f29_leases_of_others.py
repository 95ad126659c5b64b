"""F29: somebody else's lease id, seen in a log or guessed, is worth nothing to whoever has it."""

import json

import pytest

WAYS = {
    "released": lambda vm, who, lease: vm.release(who, lease),
    "released by another ending": lambda vm, who, lease: vm.release(
        who, lease, ending="threat_resolved"
    ),
    "renewed": lambda vm, who, lease: vm.renew(who, lease, reason="look at ticket 4711"),
}


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_it_is_answered_as_one_that_never_was(asking, way):
    asking.climb(asking.ada)
    (held,) = asking.vm.standing(asking.ada).leases
    lease = held.id
    theirs, none = (way(asking.vm, asking.bob, one) for one in (lease, "lease-999"))
    said = [
        json.dumps(one.fields["authority"]["unmet"]).replace(str(id_), "LEASE")
        for one, id_ in ((theirs, lease), (none, "lease-999"))
    ]
    assert said[0] == said[1]
    assert asking.codes(theirs) == ["unknown_lease"]
    assert [one.id for one in asking.vm.standing(asking.ada).leases] == [lease]

"""F25: as many requests are open as may be. Time drains them before one more is refused."""

from datetime import timedelta

from vmstate.expiry import VirtualExpiry

MINUTE = timedelta(minutes=1)


def fill(asking):
    asking.climb(asking.ada)
    opened = []
    for _ in range(3):
        opened.append(asking.open(asking.ada))
        asking.clock.advance(MINUTE)
    return opened


def test_a_full_queue_refuses_one_more_and_leaves_the_others_alone(asking):
    opened = fill(asking)
    refused = asking.vm.open_request(asking.prepare(asking.ada))
    assert asking.codes(refused) == ["requests_full"]
    assert [one.id for one in asking.vm.requests()] == opened
    asking.climb(asking.bob)
    asking.open(asking.bob)


def test_what_is_over_takes_no_room_although_nobody_wrote_that_it_is(asking):
    opened = fill(asking)
    asking.vm.renew(asking.ada, asking.vm.standing(asking.ada).leases[0].id, reason=asking.reason)
    asking.clock.advance(57 * MINUTE)  # the first one's hour is up
    receipt = asking.vm.open_request(asking.prepare(asking.ada))
    assert receipt.outcome == "recorded", receipt.message
    # What was owed comes before the answer, in the same transaction.
    ended = asking.vm.receipt(receipt.seq - 1)
    assert ended.fields["what"]["detail"]["request"] == opened[0]
    assert ended.fields["what"]["detail"]["state"] == "expired"
    assert ended.fields["what"]["ended_via"] == "settle"


def test_the_queue_of_another_name_of_the_same_person_drains_by_time_as_well(make_asking):
    asking = make_asking(controllers={"did:vm:agent:7": "did:vm:operator:ada"})
    asking.climb(asking.agent)
    for _ in range(3):
        asking.open(asking.agent)
    asking.clock.advance(30 * MINUTE)
    asking.climb(asking.ada)
    full = asking.vm.open_request(asking.prepare(asking.ada))
    assert asking.codes(full) == ["requests_full"]
    asking.clock.advance(30 * MINUTE)
    # Theirs are over when this is decided; their receipts follow when somebody looks at them.
    assert asking.vm.open_request(asking.prepare(asking.ada)).outcome == "recorded"


def test_the_scheduler_drains_it_on_a_quiet_server(asking):
    fill(asking)
    expiry = VirtualExpiry(asking.vm)
    expiry.advance(timedelta(hours=2))
    states = [one.state for one in asking.vm.requests(open_only=False)]
    assert states == ["expired"] * 3
    assert asking.vm.due(limit=10) == ()
    assert expiry.health().is_good
    expiry.stop()

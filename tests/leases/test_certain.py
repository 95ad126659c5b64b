"""What `may` keeps of a stack never says more than the stack itself would."""

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from vmstate.clock import Moment
from vmstate.leases.lease import Lease, LeaseStack
from vmstate.leases.watermark import Watermark, later

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
BOOTS = st.sampled_from(["here", "before"])
SECONDS = st.integers(-7_200, 7_200)
LENGTHS = st.lists(st.integers(1, 3_600), max_size=3)


def moment(boot_id, wall_s, boot_s):
    return Moment(NOON + timedelta(seconds=wall_s), boot_id, boot_s * 1_000_000)


def stack_of(boots, lengths, mark, closes):
    leases = []
    for seq, (boot_id, length) in enumerate(zip(boots, lengths, strict=False), 1):
        granted = moment(boot_id, 0, 5_000)
        deadline = later(granted, timedelta(seconds=length))
        profile, parent = f"p{seq}", leases[-1].id if leases else None
        leases.append(Lease(seq, "ada", profile, "r", "t", parent, granted, deadline, deadline))
    return LeaseStack("observer", mark, tuple(leases), closes)


@given(
    boots=st.lists(BOOTS, min_size=3, max_size=3),
    lengths=LENGTHS,
    newest=st.tuples(BOOTS, SECONDS, st.integers(5_000, 9_000)),
    ahead=st.integers(-3_600, 3_600),
    asked=st.tuples(BOOTS, SECONDS, st.integers(5_000, 9_000)),
    wall_step=SECONDS,
    passes=st.integers(0, 9_000),
    closes=st.none() | st.integers(1, 3_600),
)
def test_while_a_profile_is_certain_the_stack_gives_the_same_one(
    boots, lengths, newest, ahead, asked, wall_step, passes, closes
):
    newest = moment(*newest)
    ahead_us = int((newest.wall - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds()) * 1_000_000
    mark = Watermark(newest, ahead_us - newest.boot_us + ahead * 1_000_000)
    over = None if closes is None else later(moment("here", 0, 5_000), timedelta(seconds=closes))
    stack = stack_of(boots, lengths, mark, over)
    now = moment(*asked)
    certain = stack.certain(now)
    assert certain is None or certain.profile == stack.profile(now)
    then = Moment(
        now.wall + timedelta(seconds=passes + wall_step), now.boot_id, now.boot_us + passes * 10**6
    )
    if certain is not None and certain.holds(then):
        assert stack.profile(then) == certain.profile


def test_at_its_deadline_a_profile_is_no_longer_certain_on_either_hand():
    mark = Watermark(moment("here", 0, 5_000))
    stack = stack_of(["here"], [60], mark, None)
    certain = stack.certain(moment("here", 0, 5_000))
    assert certain.holds(moment("here", 59, 5_059))
    assert not certain.holds(moment("here", 60, 5_030))
    assert not certain.holds(moment("here", 30, 5_060))
    assert not certain.holds(moment("here", -1, 5_000))
    assert not certain.holds(moment("another", 10, 5_010))

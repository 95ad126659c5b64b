"""F6: the process is stopped past a deadline; the first check after it goes on says no."""

import signal
from datetime import timedelta

from vmstate.expiry import Expiry


def test_the_first_check_of_a_process_that_was_stopped_past_the_deadline_says_no(stage):
    held, other = stage.make(name="held"), stage.make(name="other")
    child = stage.child("hold", held.ledger.path, "u:held", 400)
    seq, _ = child.says()
    child.tell()
    assert child.says() == [True]
    child.signal(signal.SIGSTOP)

    # Time passes for real: a longer lease in another ledger, made later, runs out.
    next_end = stage.watch_ends(other)
    expiry = Expiry(other)
    expiry.start()
    stage.closing(expiry, Expiry.stop)
    stage.climb(other, "u:later", ttl=timedelta(milliseconds=450))
    next_end()

    child.tell()  # it waits in the pipe: the check is the first thing done after going on
    child.signal(signal.SIGCONT)
    assert child.says() == [False]
    assert stage.ends(held) == []  # and nobody had written an end
    assert held.settle(["u:held"])[0].lease == f"lease-{seq}"

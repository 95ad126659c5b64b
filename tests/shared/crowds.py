"""Ledgers of any size, each receipt written by the authority's own hand: `audit` finds them good.

Deciding takes longer than writing, and one climb is like another. So one is decided, and the rest
are that one under other names.
"""

from dataclasses import replace
from datetime import timedelta

from vmstate.decisions.command import Escalate, make_command
from vmstate.leases.lease import lease_id
from vmstate.ledger.snapshot import Scope

TOGETHER = 10_000  # grants in a transaction


def grant(vm, names, *, ttl=None):
    """Let each of `names` climb to OPERATOR now, all until the same instant."""
    decider, names = vm._law.decider, list(names)

    def work(transaction, some):
        now = vm.clock.read()
        asked = {"principal": some[0], "to": "operator", "trigger": "asked", "ttl": ttl}
        command = make_command(Escalate, {**asked, "reason": "one of a great many"})
        state = transaction.state(some[0], Scope("observer", (some[0],)))
        one = decider.decide(state, command, now).answer
        for name in some:
            seq = transaction.head().tree.size
            lease = replace(one.opens, seq=seq, principal=name)
            like = {"actor": name, "principal": name, "lease": lease_id(seq), "opens": lease}
            transaction.append(replace(one, **like), now)

    for start in range(0, len(names), TOGETHER):
        some = names[start : start + TOGETHER]
        vm.ledger.transact(lambda transaction, some=some: work(transaction, some))


def give_and_take(vm, clock, receipts, *, at_once=1_000):
    """Write so many receipts of climbs and of their ends, with few leases open at a time."""
    names = [f"u:{n}" for n in range(at_once)]
    while vm.size() < receipts:
        grant(vm, names, ttl=timedelta(minutes=1))
        clock.advance(timedelta(minutes=1))
        vm.settle(names)

"""Another process on the same ledger: started, stopped and killed by the tests beside it.

    python child.py VERB LEDGER [ARGUMENT…]

It answers on standard output, a line of JSON for each thing that happened, flushed at once, and
takes what it is told on standard input, a line each.
"""

import json
import os
import resource
import signal
import sys
import threading
from collections.abc import Iterator
from datetime import timedelta
from itertools import count
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from vmstate.authority import Authority
from vmstate.errors import LedgerUnavailable
from vmstate.expiry import Expiry
from vmstate.ledger.audit import audit_ledger
from vmstate.ledger.receipt import Receipt

SHORT = Path(__file__).parents[1] / "shared" / "short.toml"


def say(*what: object) -> None:
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


def told() -> Iterator[str]:
    return iter(sys.stdin.readline, "")


def storm(vm: Authority, name: str) -> None:
    """Climb, climb higher, give back, let time run out, for ever; say each answered receipt."""
    for n in count():
        who = f"u:{name}/{n % 7}"
        first = vm.escalate(who, "operator", trigger="asked", ttl=timedelta(milliseconds=5 + n % 9))
        say(first.seq, first.id)
        second = vm.escalate(who, "guardian", trigger="asked")
        say(second.seq, second.id)
        if n % 3 == 0 and first.lease is not None:
            third = vm.release(who, first.lease)
            say(third.seq, third.id)
        for ended in vm.settle([f"u:{name}/{other}" for other in range(7)]):
            say(ended.seq, ended.id)


def grant(vm: Authority, who: str, milliseconds: str) -> None:
    """Climb once and go away."""
    ttl = timedelta(milliseconds=int(milliseconds))
    receipt = vm.escalate(who, "operator", trigger="asked", ttl=ttl).raise_for_denial()
    say(receipt.seq, receipt.id)


def hold(vm: Authority, who: str, milliseconds: str) -> None:
    """Climb, then say at each line whether the lease still counts."""
    grant(vm, who, milliseconds)
    for _ in told():
        say(vm.may(who, "operator"))


def once(vm: Authority, who: str, key: str, killed: str) -> None:
    """On a line, climb under an idempotency key; `killed` between the commit and the answer."""
    if killed == "killed":
        vm.subscribe(lambda _: os.kill(os.getpid(), signal.SIGKILL))
    say("ready")
    next(told())
    receipt = vm.escalate(who, "operator", trigger="asked", idempotency_key=key)
    say(receipt.seq, receipt.id)


def settle(vm: Authority, *names: str) -> None:
    """On a line, end what is overdue of these, in several transactions; say how many ended."""
    say("ready")
    next(told())
    ended = 0
    for first in range(0, len(names), 10):
        ended += len(vm.settle(names[first : first + 10]))
    say(ended)


def renew(vm: Authority, who: str) -> None:
    """Renew each lease that it is told of until that is over; say how often it was granted."""
    say("ready")
    for lease in map(str.strip, told()):
        granted, over = 0, False
        while not over:
            answer = vm.renew(who, lease, ttl=timedelta(milliseconds=25))
            granted += answer.granted
            over = any(one.code == "unknown_lease" for one in answer.unmet)
        say(granted)


def give_back(vm: Authority) -> None:
    """On a line, run the scheduler until it finds nothing due; say how many ends it wrote."""
    ends: list[int] = []
    vm.subscribe(lambda one: ends.append(one.seq) if one.outcome == "expired" else None)
    drained, due = threading.Event(), vm.due

    def observed(*, limit: int) -> Any:
        found = due(limit=limit)
        if not found:
            drained.set()
        return found

    vm.due = observed  # type: ignore[method-assign]
    expiry = Expiry(vm)
    say("ready")
    next(told())
    expiry.start()
    drained.wait(8)
    expiry.stop()
    say(len(ends))


def cramped(vm: Authority) -> None:
    """Answer, then have no room for a while: files can't grow past a page, as on a full disk."""
    for who, ttl in (("u:a", timedelta(hours=1)), ("u:b", timedelta(milliseconds=300))):
        receipt = vm.escalate(who, "operator", trigger="asked", ttl=ttl)
        say(receipt.seq, receipt.id)
    _, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4_096, most))
    try:
        vm.escalate("u:c", "operator", trigger="asked")
    except LedgerUnavailable as error:
        say("LedgerUnavailable", str(error))
    say("may", vm.may("u:a", "operator"), vm.may("u:b", "operator"))
    ended: SimpleQueue[Receipt] = SimpleQueue()
    vm.subscribe(ended.put)
    refused = threading.Event()
    vm.settle = _observed(vm.settle, refused)  # type: ignore[method-assign]
    expiry = Expiry(vm)
    expiry.start()
    refused.wait(8)
    say("overdue", *(one.principal for one in vm.due(limit=5)))
    say("may", vm.may("u:a", "operator"), vm.may("u:b", "operator"))
    next(told())
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
    end = ended.get(timeout=8)
    say("ended", end.seq, end.id)
    expiry.stop()
    receipt = vm.escalate("u:c", "operator", trigger="asked")
    say(receipt.seq, receipt.id)


def shut_out(vm: Authority) -> None:
    """Come to a ledger that nobody has open, where the files beside it can't grow, and read it."""
    path, (_, most) = vm.ledger.path, resource.getrlimit(resource.RLIMIT_FSIZE)
    vm.close()
    resource.setrlimit(resource.RLIMIT_FSIZE, (4_096, most))
    vm = Authority.open(SHORT, path)
    say("may", vm.may("u:a", "operator"), vm.may("u:b", "operator"), vm.size())
    say("audit", len(audit_ledger(vm.ledger).findings))
    try:
        vm.escalate("u:c", "operator", trigger="asked")
    except LedgerUnavailable as error:
        say("LedgerUnavailable", str(error))
    next(told())
    say("may", vm.may("u:a", "operator"), vm.may("u:b", "operator"), vm.size())
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
    receipt = vm.escalate("u:c", "operator", trigger="asked")
    say(receipt.seq, receipt.id)
    say("may", vm.may("u:c", "operator"))
    vm.close()


def _observed(settle: Any, refused: threading.Event) -> Any:
    def observed(*args: Any, **fields: Any) -> Any:
        try:
            return settle(*args, **fields)
        except LedgerUnavailable:
            refused.set()
            raise

    return observed


def fork(vm: Authority) -> None:
    """Use the ledger in a forked child; say what it was told."""
    vm.may("u:a", "operator")
    vm.settle(["u:a"])
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        answers = []
        for use in (lambda: vm.may("u:a", "operator"), lambda: vm.settle(["u:a"])):
            try:
                answers.append(str(use()))
            except RuntimeError as error:
                answers.append(f"RuntimeError: {error}")
        os.write(writer, json.dumps(answers).encode())
        os._exit(0)
    os.waitpid(child, 0)
    say(*json.loads(os.read(reader, 65_536)))
    say(vm.may("u:a", "operator"))


def main(verb: str, ledger: str, *arguments: str) -> None:
    verbs = (storm, grant, hold, once, settle, renew, give_back, cramped, shut_out, fork)
    chosen = {one.__name__: one for one in verbs}[verb]
    vm = Authority.open(SHORT, ledger)
    try:
        chosen(vm, *arguments)
    except LedgerUnavailable as error:
        say("LedgerUnavailable", str(error))
    vm.close()


if __name__ == "__main__":
    main(*sys.argv[1:])

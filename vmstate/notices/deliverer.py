"""Tells what waits in the outbox, each target in a thread of its own.

One round for one target: claim what is due, in a small transaction without a receipt; deliver it
while nobody's lock is held; say in another such transaction what came of it.

Killed after the claim, or after a delivery and before it was noted, a row stays claimed until its
claim has passed and is then told by whoever looks next: at least once, with the same id. Of two
services at one ledger each claims what the other has not; a claim lasts `CLAIM_FOR` at most.

A failure closes its target for a while, longer each time, and the rows behind it wait untried;
what failed `STUCK_AFTER` times lets the others pass. No target's trouble holds up another.
"""

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta

from vmstate import canonical
from vmstate.authority import Authority
from vmstate.canonical import Json
from vmstate.clock import Moment, duration_us, to_us
from vmstate.constitution.document import Notify
from vmstate.errors import InputError, LedgerError
from vmstate.ledger.outbox import Notice, Outbox
from vmstate.ledger.receipt import Receipt
from vmstate.ledger.transaction import Transaction
from vmstate.notices.command import run_command
from vmstate.notices.event import spell_notice, trial_notice
from vmstate.notices.webhook import post, signed_headers
from vmstate.signing import new_nonce

log = logging.getLogger("vmstate.notices")

BATCH = 32  # notices claimed together: a flush is shared, and little is told twice after a crash
DELIVERY_FOR = timedelta(seconds=15)  # for one delivery, as Standard Webhooks recommends
CLAIM_FOR = timedelta(seconds=60)  # for a batch; a delivery that may not end in it is not begun
BACK_OFF = tuple(timedelta(seconds=s) for s in (1, 5, 30, 120, 300))
HEARTBEAT_FOR = timedelta(seconds=1)  # how late another process's receipt may be noticed
STOPPING_FOR = timedelta(seconds=2)  # what is on its way then is told again by the next service


@dataclass(slots=True)
class _Line:
    """One target as its thread knows it: until when it is left alone, on the boot hand."""

    name: str
    lock: threading.Lock = field(default_factory=threading.Lock)
    wake: threading.Event = field(default_factory=threading.Event)
    failures: int = 0
    boot_id: str = ""
    closed_until_us: int = 0

    def is_closed(self, now: Moment) -> bool:
        return self.boot_id == now.boot_id and now.boot_us < self.closed_until_us

    def close(self, now: Moment, wait: timedelta) -> None:
        self.boot_id, self.closed_until_us = now.boot_id, now.boot_us + duration_us(wait)


_Work = Callable[[_Line], int | None]  # how many were delivered, or None: this line is at its end


@dataclass(slots=True)
class _Outcome:
    """What came of a batch."""

    told: list[Notice] = field(default_factory=list)
    untrue: list[Notice] = field(default_factory=list)
    untried: list[Notice] = field(default_factory=list)
    failed: Notice | None = None
    fault: str = ""
    pause: timedelta = timedelta()


class Deliverer:
    """Delivers an authority's notices, in threads until stopped, or in the caller's own.

    The authority's clock says what is due; `deliver_for` is how long one delivery may take.
    """

    def __init__(self, authority: Authority, *, deliver_for: timedelta = DELIVERY_FOR) -> None:
        self._authority = authority
        self._deliver_for = min(deliver_for, CLAIM_FOR / 2)
        self._lines: dict[str, _Line] = {}
        self._threads: dict[str, threading.Thread] = {}
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._fault = ""
        self._digest = ""  # of the law by which targets were last looked through

    # ---- in threads ---------------------------------------------------------------------------

    def start(self) -> None:
        """Start telling; returns at once, however much waits."""
        self._authority.subscribe(self._notice)
        self._watch("", self._look_at_law)

    def stop(self) -> None:
        """Stop; what is on its way is waited for a moment, and else told again by whoever comes."""
        self._authority.unsubscribe(self._notice)
        self._stopping.set()
        with self._lock:
            lines, threads = list(self._lines.values()), list(self._threads.values())
        for line in lines:
            line.wake.set()
        for thread in threads:
            if thread is not threading.current_thread():
                thread.join(STOPPING_FOR.total_seconds())

    # ---- in the caller's thread ---------------------------------------------------------------

    def deliver_due(self) -> int:
        """Tell what is due now, to each target in turn; returns how many were delivered.

        Raises:
            LedgerError: the ledger can't be read or written now.
        """
        self._authority.settle(())
        self._forget_unnamed()
        named = self._authority.constitution.document.notify
        return sum(self._round(self._line(name)) for name in named)

    def test(self, target: str) -> str:
        """Send a test to `target`, now and once; returns why that failed, or nothing.

        Raises:
            InputError: the constitution names no such target.
        """
        table = self._authority.constitution.document.notify.get(target)
        if table is None:
            known = ", ".join(self._authority.constitution.document.notify) or "none"
            raise InputError(f"there is no target {target!r} under [notify]: there are {known}")
        authority = self._authority
        notice = trial_notice(target, authority.origin, authority.now(), new_nonce())
        return self._send(table, notice, "test")[0]

    # ---- inside -------------------------------------------------------------------------------

    def _line(self, name: str) -> _Line:
        with self._lock:
            return self._lines.setdefault(name, _Line(name))

    def _notice(self, _receipt: Receipt) -> None:
        for line in tuple(self._lines.values()):
            line.wake.set()

    def _watch(self, name: str, work: _Work) -> None:
        thread = threading.Thread(
            target=self._loop, args=(name, work), name=f"notices {name}".rstrip(), daemon=True
        )
        with self._lock:
            self._threads[name] = thread
        thread.start()

    def _loop(self, name: str, work: _Work) -> None:
        line = self._line(name)
        while not self._stopping.is_set():
            line.wake.clear()
            try:
                if work(line) is None:
                    return
            except LedgerError as error:
                self._report(str(error))
            except Exception:
                log.exception("telling %s failed; trying again", name)
            line.wake.wait(HEARTBEAT_FOR.total_seconds())

    def _look_at_law(self, _line: _Line) -> int:
        """Start a thread for each target that the law in force names and that has none."""
        self._authority.settle(())  # what is told in numbers has to be told in time
        self._forget_unnamed()
        for name in self._authority.constitution.document.notify:
            thread = self._threads.get(name)
            if thread is None or not thread.is_alive():
                self._watch(name, self._serve_line)
        return 0

    def _serve_line(self, line: _Line) -> int | None:
        if line.name not in self._authority.constitution.document.notify:
            return None
        told = self._round(line)
        if told:
            line.wake.set()  # there may be more than a batch
        return told

    def _report(self, fault: str) -> None:
        """Say once what keeps the ledger from being used."""
        if fault != self._fault:
            log.warning("notices wait: %s", fault)
        self._fault = fault

    def _forget_unnamed(self) -> None:
        """Who is taken out of `[notify]` by an amendment is told nothing more."""
        law = self._authority.law_in_force()
        if law.digest == self._digest:
            return
        with self._authority.ledger.read() as snapshot:
            targets = Outbox(snapshot).targets()
        gone = [name for name in targets if name not in law.document.notify]
        if gone:
            self._authority.ledger.transact(lambda t: Outbox(t).forget(gone))
            log.warning("no longer under [notify], told nothing more: %s", ", ".join(gone))
        self._digest = law.digest

    def _round(self, line: _Line) -> int:
        """Claim, deliver, note; returns how many were delivered."""
        with line.lock:
            authority, now = self._authority, self._authority.clock.read()
            if line.is_closed(now):
                return 0
            with authority.ledger.read() as snapshot:
                if not Outbox(snapshot).due(line.name, now, 1):
                    return 0
            until = now.boot_us + duration_us(CLAIM_FOR)
            claimed = authority.ledger.transact(
                lambda t: Outbox(t).claim(line.name, now, limit=BATCH, until_boot_us=until)
            )
            outcome = self._deliver(line, claimed, until)
            self._note(line, outcome)
            self._fault = ""
            return len(outcome.told)

    def _deliver(self, line: _Line, claimed: tuple[Notice, ...], until_boot_us: int) -> _Outcome:
        """Deliver one after the other, up to the first that fails."""
        authority, outcome = self._authority, _Outcome()
        table = authority.constitution.document.notify[line.name]
        for index, notice in enumerate(claimed):
            now = authority.clock.read()
            left_us = until_boot_us - now.boot_us
            if self._stopping.is_set() or left_us < duration_us(self._deliver_for):
                outcome.untried += claimed[index:]
                break
            with authority.ledger.read() as snapshot:
                baseline = authority.constitution.baseline
                said = spell_notice(notice, snapshot, authority.origin, baseline, now)
            if said is None:
                outcome.untrue.append(notice)
                continue
            outcome.fault, outcome.pause = self._send(table, said, notice.event)
            if outcome.fault:
                outcome.failed = notice
                outcome.untried += claimed[index + 1 :]
                break
            outcome.told.append(notice)
        return outcome

    def _note(self, line: _Line, outcome: _Outcome) -> None:
        """Say in the ledger what came of a batch, and close the target if it failed."""
        now = self._authority.clock.read()
        failed = outcome.failed
        hold = timedelta()
        if failed is not None:
            hold = max(BACK_OFF[min(failed.attempts, len(BACK_OFF) - 1)], outcome.pause)

        def work(transaction: Transaction) -> None:
            outbox = Outbox(transaction)
            outbox.told(outcome.told, now)
            outbox.drop(outcome.untrue)
            outbox.free(outcome.untried)
            if failed is not None:
                outbox.failed(failed, outcome.fault, now, hold_us=duration_us(hold))

        if failed is not None:
            wait = BACK_OFF[min(line.failures, len(BACK_OFF) - 1)]
            line.failures += 1
            line.close(now, max(wait, outcome.pause))
            if line.failures == 1:
                log.warning("%s is behind: %s; trying again", line.name, outcome.fault)
        elif outcome.told:
            if line.failures:
                log.warning("%s is told again, after %s failed attempts", line.name, line.failures)
            line.failures = 0
        self._authority.ledger.transact(work)

    def _send(self, table: Notify, notice: dict[str, Json], event: str) -> tuple[str, timedelta]:
        """Deliver one notice; returns why that failed, or nothing, and what pause was asked for."""
        body = canonical.encode(notice)
        seconds = self._deliver_for.total_seconds()
        if table.command is not None:
            fault, said = run_command(table.command, body, event, seconds=seconds)
            if said:
                log.info("%s said: %s", notice["target"], said.rstrip())
            return fault, timedelta()
        assert table.url is not None
        at_s = to_us(self._authority.now()) // 1_000_000
        id_ = str(notice["id"])
        headers = signed_headers(id_, at_s, body, self._authority.ledger.sign_notice)
        fault, pause = post(table.url, headers, body, seconds=seconds)
        return fault, timedelta(seconds=pause)

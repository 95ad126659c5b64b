"""APScheduler as a view of live leases. No other module imports `apscheduler`.

Law 3: the scheduler makes receipts prompt; it does not make authority end. There is no job to keep
in step with a lease: the job *is* the lease, read afresh, and it leaves the view when its end is
recorded, not because it was handed out. Nothing is written twice and nothing has to be restored.

What APScheduler 3 does by itself, and what is done about it here:

* it drops a one-shot job that is over a second late       each job has no misfire limit
* a store's exception kills its thread and `running` stays true    methods catch, rounds are guarded
* what is still due is asked for again at once             claims and back-off: no hot loop
* a job that raises is forgotten                           the lease stays due and is tried again
* jobs of one pool race each other for one writer          they run in the scheduler's own thread
* it sleeps on when another process adds something earlier a heartbeat
* `shutdown` in mid-round runs a job twice                 an end is compare-and-set on its row
* it holds its lock while a job runs                       the only call made back is `wakeup`

A lease that can't be ended after several tries is retried more slowly and shows in `health`.
"""

import logging
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from apscheduler.executors.base import BaseExecutor, run_job
from apscheduler.job import Job
from apscheduler.jobstores.base import BaseJobStore, JobLookupError
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.schedulers.base import BaseScheduler
from apscheduler.triggers.date import DateTrigger

from vmstate.authority import Authority
from vmstate.clock import Moment, duration_us
from vmstate.decisions.decider import SCHEDULER, START_UP
from vmstate.errors import LedgerUnavailable
from vmstate.ledger.receipt import Receipt
from vmstate.ledger.snapshot import Due

log = logging.getLogger("vmstate.expiry")

CHUNK = 500  # principals ended in one transaction: a flush is shared, other writers wait little
ROUND = 5_000  # leases looked at in one round, so that a backlog does not hold the store's lock
LISTED = 1_000  # jobs that a listing shows
HEARTBEAT_FOR = timedelta(seconds=1)  # how late a lease made by another process may be noticed
CLAIM_FOR = timedelta(seconds=30)  # what was handed out is not handed out again for so long
BACK_OFF = tuple(timedelta(seconds=s) for s in (1, 2, 5, 15, 60))
STUCK_AFTER = len(BACK_OFF)  # tries after which a lease counts as stuck
ROUNDS_AT_ONE_INSTANT = 10_000  # a drill that grants for no time at all would never move on
_ALIAS = "leases"


@dataclass(frozen=True, slots=True)
class Health:
    """Whether giving back works. `oldest_overdue` is the alarm that can't be wrong.

    `beat_for` is how long ago the scheduler last looked, None if it never did; `stuck` are
    principals whose leases could not be ended after several tries.
    """

    running: bool
    beat_for: timedelta | None
    oldest_overdue: Due | None
    overdue_for: timedelta
    stuck: tuple[str, ...]

    @property
    def is_good(self) -> bool:
        """Running, looking, and nothing overdue for longer than three heartbeats."""
        late = 3 * HEARTBEAT_FOR
        beating = self.beat_for is not None and self.beat_for <= late
        return self.running and beating and self.overdue_for <= late and not self.stuck


class _Claims:
    """Who is not to be tried again yet, and how often they failed. Counted on the boot hand."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._not_before_us: dict[str, int] = {}
        self._failures: dict[str, int] = {}
        self._most_together: dict[str, int] = {}
        self._closed_until_us = 0
        self._closings = 0

    def held(self, now: Moment) -> frozenset[str]:
        with self._lock:
            for name in [n for n, us in self._not_before_us.items() if us <= now.boot_us]:
                del self._not_before_us[name]
            return frozenset(self._not_before_us)

    def claim(self, names: Iterable[str], now: Moment) -> None:
        with self._lock:
            until = now.boot_us + duration_us(CLAIM_FOR)
            self._not_before_us.update(dict.fromkeys(names, until))

    def done(self, names: Iterable[str]) -> None:
        with self._lock:
            self._closings = 0
            for name in names:
                self._not_before_us.pop(name, None)
                self._failures.pop(name, None)
                self._most_together.pop(name, None)

    def failed(self, names: tuple[str, ...], now: Moment) -> None:
        """One alone waits; a group is tried again in halves, until the culprit is alone."""
        with self._lock:
            for name in names:
                if len(names) > 1:
                    self._most_together[name] = len(names) // 2
                    self._not_before_us.pop(name, None)
                    continue
                count = self._failures[name] = self._failures.get(name, 0) + 1
                wait = BACK_OFF[min(count, len(BACK_OFF)) - 1]
                self._not_before_us[name] = now.boot_us + duration_us(wait)

    def close(self, names: Iterable[str], now: Moment) -> None:
        """The whole ledger can't be written: nobody is to blame, everybody waits."""
        with self._lock:
            wait = BACK_OFF[min(self._closings, len(BACK_OFF) - 1)]
            self._closings += 1
            self._closed_until_us = now.boot_us + duration_us(wait)
            for name in names:
                self._not_before_us.pop(name, None)

    def closed_for(self, now: Moment) -> timedelta:
        with self._lock:
            left = timedelta(microseconds=self._closed_until_us - now.boot_us)
            return min(max(left, timedelta()), BACK_OFF[-1])

    def next_release(self, now: Moment) -> timedelta | None:
        with self._lock:
            first = min(self._not_before_us.values(), default=None)
            if first is None:
                return None
            return timedelta(microseconds=max(0, first - now.boot_us))

    def together(self, name: str) -> int:
        with self._lock:
            return self._most_together.get(name, CHUNK)

    def stuck(self) -> tuple[str, ...]:
        with self._lock:
            return tuple(sorted(n for n, c in self._failures.items() if c >= STUCK_AFTER))


class LeaseJobStore(BaseJobStore):
    """Open leases as jobs. Reads the ledger at each call; keeps nothing but claims."""

    def __init__(self, authority: Authority) -> None:
        super().__init__()
        self._authority = authority
        self._started = authority.clock.read()
        self._handed: set[str] = set()
        self._behind = timedelta()  # our clock to APScheduler's, which can't be injected
        self._failing = 0
        self.claims = _Claims()
        self.next_at: datetime | None = None
        self.beat: Moment | None = None

    # ---- reading ----------------------------------------------------------------------------

    def get_due_jobs(self, now: datetime) -> list[Job]:
        """Chunks of principals with overdue leases, the first deadline first; never raises."""
        try:
            moment = self._authority.clock.read()
            self.beat = moment
            self._behind = now - moment.wall
            jobs = [] if self.claims.closed_for(moment) else self._due_jobs(now, moment)
        except Exception:
            self._failing += 1
            log.exception("leases that are due can't be read; trying again")
            return []
        self._failing = 0
        self._handed = {job.id for job in jobs}
        return jobs

    def get_next_run_time(self) -> datetime | None:
        """When to look again, on APScheduler's clock; never raises."""
        try:
            next_at = self.next_deadline()
        except Exception:
            self._failing += 1
            log.exception("the next deadline can't be read; trying again")
            next_at = self._authority.clock.read().wall
        if self._failing:
            wait = BACK_OFF[min(self._failing, len(BACK_OFF)) - 1]
            next_at = self._authority.clock.read().wall + wait
        return None if next_at is None else next_at + self._behind

    def next_deadline(self) -> datetime | None:
        """When something is to be done next, on our own clock; None if no lease is open."""
        now = self._authority.clock.read()
        if closed_for := self.claims.closed_for(now):
            self.next_at = now.wall + closed_for
            return self.next_at
        held = self.claims.held(now)
        self.next_at = self._authority.next_deadline()
        if held and self.next_at is not None and self.next_at <= now.wall:
            # What is overdue is on hold, unless somebody else is overdue as well.
            due = self._authority.due(limit=ROUND)
            if all(one.principal in held for one in due):
                release = self.claims.next_release(now) or timedelta()
                self.next_at = now.wall + release
        return self.next_at

    def lookup_job(self, job_id: str) -> Job | None:
        return next((job for job in self.get_all_jobs() if job.id == job_id), None)

    def get_all_jobs(self) -> list[Job]:
        """The first leases to end, a job each, for listings."""
        with self._authority.ledger.read() as snapshot:
            leases = [
                lease for _, lease in zip(range(LISTED), snapshot.open_leases(), strict=False)
            ]
        leases.sort(key=lambda lease: (lease.expires_at, -lease.seq))
        return [self._job(one.id, one.expires_at, (one.principal,), SCHEDULER) for one in leases]

    # ---- giving back ------------------------------------------------------------------------

    def give_back(self, principals: tuple[str, ...], via: str) -> tuple[Receipt, ...]:
        """End what is overdue of these principals; what a job runs."""
        if self.claims.closed_for(self._authority.clock.read()):
            return ()  # an earlier chunk of this round found that nothing can be written
        try:
            receipts = self._authority.settle(principals, via=via)
        except LedgerUnavailable:
            self.claims.close(principals, self._authority.clock.read())
            raise
        except Exception:
            self.claims.failed(principals, self._authority.clock.read())
            raise
        self.claims.done(principals)
        return receipts

    def health(self, *, running: bool) -> Health:
        """How giving back is doing, by the ledger and the last beat."""
        now = self._authority.clock.read()
        since = None
        if self.beat is not None and self.beat.boot_id == now.boot_id:
            since = timedelta(microseconds=now.boot_us - self.beat.boot_us)
        overdue = next(iter(self._authority.due(limit=1)), None)
        late = timedelta() if overdue is None else max(timedelta(), now.wall - overdue.expires_at)
        return Health(running, since, overdue, late, self.claims.stuck())

    # ---- what APScheduler does after handing a job over, and nothing else ----------------------

    def remove_job(self, job_id: str) -> None:
        """A handed-out job is not removed: the end of its leases is what takes it away."""
        if job_id not in self._handed:
            raise JobLookupError(job_id)

    def add_job(self, job: Job) -> None:
        raise RuntimeError(f"{job.id}: only the authority makes leases")

    def update_job(self, job: Job) -> None:
        raise RuntimeError(f"{job.id}: the end of a lease can't be moved; renew the lease")

    def remove_all_jobs(self) -> None:
        raise RuntimeError("the ends of leases can't be removed; release the leases")

    # ---- inside -----------------------------------------------------------------------------

    def _due_jobs(self, now: datetime, moment: Moment) -> list[Job]:
        held = self.claims.held(moment)
        due = self._authority.due(limit=ROUND + len(held))
        jobs = []
        for chunk in self._chunks([one for one in due if one.principal not in held]):
            names = tuple(dict.fromkeys(one.principal for one in chunk))
            id_ = chunk[0].lease if len(names) == 1 else f"{chunk[0].lease}+{len(names) - 1}"
            via = START_UP if chunk[0].expires_at < self._started.wall else SCHEDULER
            # Ours may be ahead of APScheduler's clock; to it a job must be due now or earlier.
            jobs.append(self._job(id_, min(chunk[0].expires_at + self._behind, now), names, via))
            self.claims.claim(names, moment)
        return jobs

    def _chunks(self, due: list[Due]) -> Iterable[list[Due]]:
        """Split what is due: what ended before we started apart, what failed in smaller parts."""
        chunk: list[Due] = []
        names: set[str] = set()
        most, early, seen = CHUNK, False, set[str]()
        for one in due:
            if one.principal in seen:
                continue  # it goes with the earlier lease of the same principal
            one_early = one.expires_at < self._started.wall
            one_most = min(most, self.claims.together(one.principal))
            if chunk and (len(names) >= one_most or one_early != early):
                yield chunk
                chunk, names, one_most = [], set(), self.claims.together(one.principal)
            chunk.append(one)
            names.add(one.principal)
            seen.add(one.principal)
            most, early = one_most, one_early
        if chunk:
            yield chunk

    def _job(self, id_: str, at: datetime, names: tuple[str, ...], via: str) -> Job:
        # `Job(...)` would inspect the function's signature each time; a restored job does not.
        job = Job.__new__(Job)
        job.id, job.name, job.executor = id_, f"give back {id_}", _ALIAS
        job.func, job.func_ref, job.args, job.kwargs = self.give_back, None, (names, via), {}
        job.trigger, job.next_run_time = DateTrigger(at, timezone=UTC), at
        job.misfire_grace_time, job.coalesce, job.max_instances = None, True, 1
        job._scheduler, job._jobstore_alias = self._scheduler, self._alias  # noqa: SLF001
        return job


class _InlineExecutor(BaseExecutor):
    """Runs a job in the caller's thread, so that nothing is in flight once it was submitted."""

    def submit_job(self, job: Job, run_times: list[datetime]) -> None:
        with self._lock:
            self._instances[job.id] += 1
        name = self._logger.name
        self._run_job_success(job.id, run_job(job, job._jobstore_alias, run_times, name))  # noqa: SLF001

    def _do_submit_job(self, job: Job, run_times: list[datetime]) -> None:
        raise RuntimeError(f"{job.id} at {run_times}: jobs run in submit_job")


class _Guarded:
    """A scheduler whose rounds survive whatever its store does, and come at least each second."""

    def _process_jobs(self) -> float:
        beat = HEARTBEAT_FOR.total_seconds()
        try:
            wait: float | None = super()._process_jobs()  # type: ignore[misc]
        except Exception:
            log.exception("a round of giving back failed; trying again")
            return beat
        return beat if wait is None else min(wait, beat)


class _ThreadScheduler(_Guarded, BackgroundScheduler):
    """Looks in a thread of its own."""


class _StillScheduler(_Guarded, BaseScheduler):
    """Has no thread: looks when it is told to, in the caller's."""

    def wakeup(self) -> None:
        """Nobody sleeps."""

    def shutdown(self, wait: bool = True) -> None:  # noqa: FBT001, FBT002 -- its base's signature
        super().shutdown(wait)


def _scheduler(kind: Callable[..., Any], store: LeaseJobStore) -> Any:
    return kind(
        timezone=UTC,
        jobstores={_ALIAS: store},
        executors={_ALIAS: _InlineExecutor()},
        jobstore_retry_interval=HEARTBEAT_FOR.total_seconds() / 5,
    )


class Expiry:
    """Gives leases back on time, in a thread of its own, until stopped.

    What came due before it was started is ended first, with `ended_via = "start_up"`.
    """

    def __init__(self, authority: Authority) -> None:
        self._authority = authority
        self._store = LeaseJobStore(authority)
        self._scheduler = _scheduler(_ThreadScheduler, self._store)
        authority.subscribe(self._notice)

    def start(self) -> None:
        """Start the thread; returns at once, however much is overdue."""
        self._scheduler.start()

    def stop(self) -> None:
        """Stop after the transaction under way; what is still owed stays due."""
        self._scheduler.shutdown(wait=True)

    def health(self) -> Health:
        """How giving back is doing; read from the ledger and the last beat, not from a flag."""
        thread = getattr(self._scheduler, "_thread", None)
        return self._store.health(running=thread is not None and thread.is_alive())

    def _notice(self, receipt: Receipt) -> None:
        """Look again at once if a lease was made that ends before the next look."""
        if receipt.type not in {"profile_escalation", "lease_renewed"}:
            return
        next_at, expires_at = self._store.next_at, receipt.expires_at
        if next_at is None or (expires_at is not None and expires_at < next_at):
            self._scheduler.wakeup()


class VirtualExpiry:
    """The same job store on time that somebody else moves: no thread, no sleep.

    With an injected `VirtualClock` it moves that clock. Under freezegun or time-machine hand in
    their `move_to`, or move time yourself and call `run_due`.
    """

    def __init__(
        self, authority: Authority, *, move_to: Callable[[datetime], None] | None = None
    ) -> None:
        self._authority = authority
        clock: Any = authority.clock
        self._move_to = move_to or getattr(clock, "move_to", None)
        self._store = LeaseJobStore(authority)
        self._scheduler = _scheduler(_StillScheduler, self._store)
        self._scheduler.start()
        self.run_due()

    def run_due(self) -> None:
        """End everything that is due now.

        Raises:
            RuntimeError: something is still due after 10,000 rounds at one instant.
        """
        for _ in range(ROUNDS_AT_ONE_INSTANT):
            self._scheduler._process_jobs()  # noqa: SLF001 -- APScheduler 3 has no public step
            next_at = self._store.next_deadline()
            if next_at is None or next_at > self._authority.clock.read().wall:
                return
        now = self._authority.clock.read().wall
        raise RuntimeError(f"still due after {ROUNDS_AT_ONE_INSTANT:,} rounds at {now}")

    def run_until(self, at: datetime) -> None:
        """Let time pass until `at`, deadline by deadline: each end sees its own instant."""
        move_to = self._mover()
        while (next_at := self._store.next_deadline()) is not None and next_at <= at:
            move_to(max(next_at, self._authority.clock.read().wall))
            self.run_due()
        move_to(at)
        self.run_due()

    def advance(self, duration: timedelta) -> None:
        """Let `duration` pass, deadline by deadline."""
        self.run_until(self._authority.clock.read().wall + duration)

    def next_deadline(self) -> datetime | None:
        """When something ends next; None if no lease is open."""
        return self._store.next_deadline()

    def health(self) -> Health:
        """How giving back is doing; there is no thread that could have died."""
        return self._store.health(running=True)

    def stop(self) -> None:
        """Release the scheduler."""
        self._scheduler.shutdown(wait=True)

    def _mover(self) -> Callable[[datetime], None]:
        if self._move_to is None:
            raise RuntimeError("this clock can't be moved: hand in move_to, or a VirtualClock")
        return self._move_to

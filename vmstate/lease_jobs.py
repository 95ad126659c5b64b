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

from vmstate import claims
from vmstate.authority import Authority
from vmstate.claims import HEARTBEAT_FOR, Claims
from vmstate.clock import Moment
from vmstate.decisions.settling import SCHEDULER, START_UP
from vmstate.errors import LedgerError, LedgerUnavailable
from vmstate.ledger.receipt import Receipt
from vmstate.ledger.snapshot import Due

log = logging.getLogger("vmstate.expiry")

ROUND = 5_000  # leases looked at in one round, so that a backlog does not hold the store's lock
LISTED = 1_000  # jobs that a listing shows
PATIENCE = timedelta(seconds=1)  # for other writers: stopping must not take longer than two
_ALIAS = "leases"


@dataclass(frozen=True, slots=True)
class Health:
    """Whether giving back works. `oldest_overdue` is the alarm that can't be wrong.

    `beat_for` is how long ago the scheduler last looked, None if it never did; `stuck` are
    principals whose leases could not be ended after several tries; `fault` is why the ledger could
    not be asked, or written by the last try.
    """

    running: bool
    beat_for: timedelta | None
    oldest_overdue: Due | None
    stuck: tuple[str, ...]
    fault: str = ""

    @property
    def overdue_for(self) -> timedelta:
        """For how long the oldest overdue lease has been over."""
        return timedelta() if self.oldest_overdue is None else self.oldest_overdue.late_for

    @property
    def is_good(self) -> bool:
        """Running, looking, and nothing overdue for longer than three heartbeats."""
        late = 3 * HEARTBEAT_FOR
        beating = self.beat_for is not None and self.beat_for <= late
        healthy = self.running and beating and not self.stuck and not self.fault
        return healthy and self.overdue_for <= late


class LeaseJobStore(BaseJobStore):
    """Open leases as jobs. Reads the ledger at each call; keeps nothing but claims."""

    def __init__(self, authority: Authority) -> None:
        super().__init__()
        self._authority = authority
        self._handed: set[str] = set()
        self._behind = timedelta()  # our clock to APScheduler's, which can't be injected
        self._failing = 0
        self._fault = ""
        self._starting = True  # until a look finds nothing that came due while nobody looked
        self.claims = Claims()
        self.next_at: datetime | None = None
        self.beat: Moment | None = None

    # ---- reading ----------------------------------------------------------------------------

    def get_due_jobs(self, now: datetime) -> list[Job]:
        """Chunks of principals with overdue leases, the first deadline first; never raises."""
        try:
            moment = self._authority.clock.read()
            self.beat = moment
            self.claims.begin(moment)
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
            wait = claims.BACK_OFF[min(self._failing, len(claims.BACK_OFF)) - 1]
            next_at = self._authority.clock.read().wall + wait
        return None if next_at is None else next_at + self._behind

    def next_deadline(self) -> datetime | None:
        """When something is to be done next, on our own clock; None if no lease is open."""
        self.next_at = (
            None  # what is granted while it is looked for, and not seen, wakes the thread
        )
        now = self._authority.clock.read()
        if closed_for := self.claims.closed_for(now):
            self.next_at = now.wall + closed_for
            return self.next_at
        held = self.claims.held(now)
        ends = [self._authority.next_deadline()]
        due = self._authority.due(limit=ROUND + len(held) if held else 1)
        if any(one.principal not in held for one in due):
            ends = [now.wall]
        elif due:
            # All that is overdue is on hold; whoever comes due before it is let go is not.
            ends.append(now.wall + (self.claims.next_release(now) or timedelta()))
        self.next_at = min((end for end in ends if end is not None), default=None)
        return self.next_at

    def lookup_job(self, job_id: str) -> Job | None:
        return next((job for job in self.get_all_jobs() if job.id == job_id), None)

    def get_all_jobs(self) -> list[Job]:
        """The first leases to end, a job each, for listings."""
        with self._authority.ledger.read() as snapshot:
            leases = [
                lease
                for _, lease in zip(
                    range(LISTED), snapshot.leases.every(open_only=True), strict=False
                )
            ]
        leases.sort(key=lambda lease: (lease.ends_at, -lease.seq))
        return [
            self._job(one.id, one.ends_at, (one.principal,), SCHEDULER, one.ends_at)
            for one in leases
        ]

    # ---- giving back ------------------------------------------------------------------------

    def give_back(
        self, principals: tuple[str, ...], via: str, until: datetime
    ) -> tuple[Receipt, ...]:
        """End what of these principals was due by `until`; what a job runs."""
        if self.claims.closed_for(self._authority.clock.read()):
            return ()  # an earlier chunk of this round found that nothing can be written
        try:
            receipts = self._authority.settle(principals, via=via, until=until, patience=PATIENCE)
        except LedgerUnavailable as error:
            self._fault = str(error)
            self.claims.close(principals, self._authority.clock.read())
            raise
        except Exception:
            self.claims.failed(principals, self._authority.clock.read())
            raise
        self._fault = ""
        ended = {str(receipt.fields["who"]["principal"]) for receipt in receipts}
        self.claims.done(ended)
        # Somebody was quicker, or their lease can't be read: look again, and not at once.
        for name in principals:
            if name not in ended:
                self.claims.failed((name,), self._authority.clock.read())
        return receipts

    def health(self, *, running: bool) -> Health:
        """How giving back is doing, by the ledger and the last beat; never raises."""
        now = self._authority.clock.read()
        since = None
        if self.beat is not None and self.beat.boot_id == now.boot_id:
            since = timedelta(microseconds=now.boot_us - self.beat.boot_us)
        stuck = self.claims.stuck()
        try:
            overdue = next(iter(self._authority.due(limit=1)), None)
        except LedgerError as error:
            return Health(running, since, None, stuck, str(error))
        return Health(running, since, overdue, stuck, self._fault)

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
        if not due:
            self._starting = False
        via = START_UP if self._starting else SCHEDULER
        jobs = []
        for chunk in self._chunks([one for one in due if one.principal not in held]):
            names = tuple(dict.fromkeys(one.principal for one in chunk))
            id_ = chunk[0].lease if len(names) == 1 else f"{chunk[0].lease}+{len(names) - 1}"
            # Ours may be ahead of APScheduler's clock; to it a job must be due now or earlier.
            at = min(chunk[0].ended_at + self._behind, now)
            jobs.append(self._job(id_, at, names, via, chunk[-1].ended_at))
            self.claims.claim(names, moment)
        return jobs

    def _chunks(self, due: list[Due]) -> Iterable[list[Due]]:
        """Split what is due, in its order; what failed before goes into smaller parts."""
        chunk: list[Due] = []
        most = claims.CHUNK
        for one in due:
            most = min(most, self.claims.together(one.principal))
            if len(chunk) >= most:
                yield chunk
                chunk, most = [], self.claims.together(one.principal)
            chunk.append(one)
        if chunk:
            yield chunk

    def _job(
        self, id_: str, at: datetime, names: tuple[str, ...], via: str, until: datetime
    ) -> Job:
        # `Job(...)` would inspect the function's signature each time; a restored job does not.
        job = Job.__new__(Job)
        job.id, job.name, job.executor = id_, f"give back {id_}", _ALIAS
        job.func, job.func_ref = self.give_back, None
        job.args, job.kwargs = (names, via, until), {}
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
            if getattr(self, "running", False):
                log.exception("a round of giving back failed; trying again")
            return beat
        return beat if wait is None else min(wait, beat)


class ThreadScheduler(_Guarded, BackgroundScheduler):
    """Looks in a thread of its own."""


class StillScheduler(_Guarded, BaseScheduler):
    """Has no thread: looks when it is told to, in the caller's."""

    def wakeup(self) -> None:
        """Nobody sleeps."""

    def shutdown(self, wait: bool = True) -> None:  # noqa: FBT001, FBT002 -- its base's signature
        super().shutdown(wait)


def scheduler_over(kind: Callable[..., Any], store: LeaseJobStore) -> Any:
    """A scheduler of this kind that looks at these leases."""
    return kind(
        timezone=UTC,
        jobstores={_ALIAS: store},
        executors={_ALIAS: _InlineExecutor()},
        jobstore_retry_interval=HEARTBEAT_FOR.total_seconds() / 5,
    )

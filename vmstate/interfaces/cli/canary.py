"""`canary`: one short lease in the live ledger, to see with one's own eyes that it comes back.

A drill shows that the rules work, on time that it moves itself. The canary shows that this machine
gives back: the real clock, the real ledger, its disk, its key. It is an ordinary lease, and counts
for cool-downs and hold caps: give it a principal of its own.

It is `vmstate serve` that has to give back, asked at its socket or not: no scheduler runs here, or
nobody would see that the service is dead. Where there is no service, `--own-scheduler` runs one in
this process meanwhile, and shows that the rest of the machine gives back.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import click

from vmstate.canonical import Json, format_at
from vmstate.errors import InputError
from vmstate.interfaces.cli.output import answer, emit, say, spell_time
from vmstate.interfaces.cli.settings import (
    FAILED,
    OK,
    Command,
    Settings,
    asker,
    named,
    principal_option,
)

if TYPE_CHECKING:
    from vmstate.constitution.document import Escalation
    from vmstate.constitution.law import Constitution
    from vmstate.door import Door
    from vmstate.ledger.receipt import Receipt

DEFAULT_RULE = "operator_on_request"
LEASE_FOR = timedelta(
    seconds=5
)  # long enough to be seen in `status`, short enough to be waited for
BACK_WITHIN = timedelta(seconds=10)  # after its deadline; three heartbeats and a slow disk fit in
LOOK_FOR = timedelta(seconds=0.5)  # how soon an end that another process wrote is noticed
REASON = "canary: a short lease, to see it given back"


@dataclass(frozen=True, slots=True)
class _Return:
    """What was seen: when authority was first refused, and the receipt of the end if there is one.

    `refused_at` is None if the profile could still be used once the lease was over.
    """

    granted: "Receipt"
    refused_at: datetime | None
    end: "Receipt | None"

    @property
    def is_good(self) -> bool:
        return self.refused_at is not None and self.end is not None

    @property
    def late(self) -> timedelta | None:
        """How long after its deadline the end was on the record; None if nothing was due."""
        due = self.granted.expires_at
        if self.end is None or due is None or self.end.fields["due"] is None:
            return None
        return self.end.at - due


@click.command(cls=Command)
@principal_option("Whose lease it is.  [env: VMSTATE_PRINCIPAL]")
@click.option("--rule", default=DEFAULT_RULE, show_default=True, help="The rule that grants it.")
@click.option("--own-scheduler", is_flag=True, help="Give it back from here: no service runs.")
@click.pass_obj
def canary(settings: Settings, who: str | None, rule: str, *, own_scheduler: bool) -> None:
    """Take a lease of five seconds in the live ledger, and see it come back.

    What gives it back is vmstate serve, which has to be running; where none is meant to, say
    --own-scheduler. Exits 0 once it is back, 1 if it is not ten seconds after its deadline, 3 if it
    was not granted.
    """
    if settings.socket and own_scheduler:
        raise click.UsageError(
            "--own-scheduler is for a ledger without a service, and --socket names one: "
            "leave one of them out."
        )
    if not settings.socket:
        named(who)
    door = settings.authority()
    principal = asker(door, who)
    if door.is_drill:
        raise InputError(f"{settings.ledger} is a drill's ledger: a canary shows the live one")
    table = _table(door.constitution, rule)
    with _giving_back(door) if own_scheduler else nullcontext():
        granted = door.escalate(
            principal,
            table.to,
            trigger=table.trigger,
            reason=REASON,
            ttl=min(LEASE_FOR, table.ttl),
        )
        if not granted.granted:
            answer(granted, settings, "")
        if not settings.json:
            click.echo(_told_grant(granted))
        seen = _watch(door, granted)
        # Told before the scheduler is stopped, which waits for a write that may be stuck.
        if settings.json:
            emit(_body(seen))
        else:
            _tell(seen, own_scheduler=own_scheduler)
    raise SystemExit(OK if seen.is_good else FAILED)


@contextmanager
def _giving_back(door: "Door") -> Iterator[None]:
    """A scheduler of our own while the block lasts."""
    from vmstate.authority import Authority
    from vmstate.expiry import Expiry

    assert isinstance(door, Authority)
    expiry = Expiry(door)
    expiry.start()
    try:
        yield
    finally:
        expiry.stop()


def _table(law: "Constitution", rule: str) -> "Escalation":
    if rule not in law.rules:
        known = ", ".join(law.rules)
        raise InputError(f"{rule!r} is no rule of this constitution: name one of {known} (--rule)")
    return law.rules[rule]


def _watch(door: "Door", granted: "Receipt") -> _Return:
    """Wait for the deadline, ask whether the profile may be used, and wait for the receipt.

    Sleeps until something is written by anybody or a look is due, and gives up in time even if the
    clock is set back.
    """
    length = (granted.expires_at or granted.at) - granted.at
    give_up = time.monotonic() + (length + BACK_WITHIN).total_seconds()
    version = door.version()
    while (left := _left(door, granted)) > timedelta() and time.monotonic() < give_up:
        version = door.wait(version, left)
    may = door.may(_who(granted), granted.profile or "")
    refused_at = None if may else door.now()
    while (end := _end(door, granted)) is None and time.monotonic() < give_up:
        version = door.wait(version, LOOK_FOR)
    return _Return(granted, refused_at, end)


def _who(granted: "Receipt") -> str:
    return str(granted.fields["who"]["principal"])


def _left(door: "Door", granted: "Receipt") -> timedelta:
    """How long to sleep before the lease can be over; nothing once it is, by either hand.

    On the wall, and never more than the whole lease: a clock that was set back is not slept out.
    """
    standing = door.standing(_who(granted))
    for lease in standing.leases:
        if lease.id == granted.lease:
            length = lease.expires_at - lease.granted_at
            return min(lease.expires_at - standing.now.wall, length)
    return timedelta()


def _end(door: "Door", granted: "Receipt") -> "Receipt | None":
    who, kind = _who(granted), "profile_deescalation"
    later = door.receipts(after=granted.seq, principal=who, type_=kind)
    return next((receipt for receipt in later if receipt.lease == granted.lease), None)


def _told_grant(granted: "Receipt") -> str:
    assert granted.expires_at is not None
    until = spell_time(granted.expires_at)
    who, rule = _who(granted), granted.rule
    return f"granted   {granted.lease}: {who} is {granted.profile} until {until}, by {rule}"


def _tell(seen: _Return, *, own_scheduler: bool) -> None:
    deadline = seen.granted.expires_at
    assert deadline is not None
    if seen.refused_at is None:
        click.echo(f"refused   no: {seen.granted.profile} could still be used after the deadline")
    else:
        after = max(seen.refused_at - deadline, timedelta())
        click.echo(f"refused   {_milliseconds(after)} after the deadline, when first asked")
    if seen.end is None:
        waited = f"{BACK_WITHIN.total_seconds():g}s"
        click.echo(f"returned  no: {waited} after its deadline the end is not on the record")
        dead = "the lease is over, but nothing wrote its end: is vmstate serve running?"
        stuck = "look at the ledger's disk and key: vmstate status, vmstate audit"
        say(f"  {stuck if own_scheduler else dead}")
        return
    what = seen.end.fields["what"]
    via = f"by {what['ended_via']}" if what["ended_via"] else "by a command"
    late = "before its deadline" if seen.late is None else f"{_milliseconds(seen.late)} late"
    click.echo(f"returned  {late}, {via}: {what['ending']}, {what['from']} to {what['to']}")
    say(f"  receipt {seen.end.seq}  {seen.end.id}")


def _milliseconds(duration: timedelta) -> str:
    return f"{duration / timedelta(milliseconds=1):.1f} ms"


def _body(seen: _Return) -> dict[str, Json]:
    granted, end = seen.granted, seen.end
    what = end.fields["what"] if end is not None else {}
    late, refused_at = seen.late, seen.refused_at
    return {
        "ok": seen.is_good,
        "principal": _who(granted),
        "rule": granted.rule,
        "lease": granted.lease,
        "granted": granted.seq,
        "granted_at": format_at(granted.at),
        "expires_at": granted.fields["what"]["expires_at"],
        "refused_at": None if refused_at is None else format_at(refused_at),
        "ended": None if end is None else end.seq,
        "ended_at": None if end is None else format_at(end.at),
        "ended_via": what.get("ended_via"),
        "ending": what.get("ending"),
        "late_us": None if late is None else late // timedelta(microseconds=1),
    }

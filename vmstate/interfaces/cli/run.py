"""`run`: a command under a lease of its own, which it does not outlive."""

import os
import shutil
import time
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import click

from vmstate.canonical import format_at, parse_duration
from vmstate.errors import InputError, LedgerError
from vmstate.interfaces.cli.asking import key_options, read_key
from vmstate.interfaces.cli.authority import asked_for
from vmstate.interfaces.cli.options import (
    backing_options,
    climb_options,
    complete_profile,
    once_option,
)
from vmstate.interfaces.cli.output import receipt_body, say, say_denial, spell_grant
from vmstate.interfaces.cli.settings import DENIED, Command, Settings

if TYPE_CHECKING:
    from vmstate.door import Door
    from vmstate.interfaces.cli.supervising import Forwarding, Outcome
    from vmstate.keys import Signer
    from vmstate.ledger.receipt import Receipt

WRITTEN_WITHIN = 1.0  # seconds: a service that gives back on time writes the receipt well before
ENDED, NOT_STARTED, NO_COMMAND = 124, 126, 127  # as timeout(1) and shells have them


@click.command(cls=Command)
@click.argument("profile", shell_complete=complete_profile)
@click.argument("words", metavar="-- CMD…", nargs=-1, required=True, type=click.UNPROCESSED)
@climb_options
@click.option(
    "--grace",
    default="5s",
    show_default=True,
    help="How long before the end it is told to stop, at most half of the lease.",
)
@backing_options
@key_options
@once_option
@click.pass_obj
def run(
    settings: Settings, /, profile: str, words: tuple[str, ...], grace: str, **given: Any
) -> None:
    """Run CMD as PROFILE: climb, run it, give back when it exits, end it when the lease ends.

    The end comes as TERM, then KILL, to CMD and all that it started. Exits as CMD does; 3 if the
    climb is denied and nothing ran, 124 if the lease ended it, 126 and 127 if it can't be run.
    Two processes see to the end, and each goes on if the other is stopped or killed; a CMD that
    does away with both is not held: it runs under the same account. Standard input, output and
    error are CMD's; what is said here goes to standard error.
    """
    told_before = parse_duration(grace)
    door = settings.authority()
    if door.is_drill:
        raise InputError(f"{door.origin} is a drill's ledger: its authority runs nothing real")
    _check_runs(words[0])
    from vmstate.interfaces.cli.supervising import Forwarding

    key = read_key(given)
    asked = asked_for(door, profile, given, key)
    door.size()  # who may read nothing there could not be told when it is over: nothing is asked
    # From before the climb: a signal in between would leave a lease to nobody.
    with Forwarding() as forwarding:
        granted = door.submit(door.ordered(asked, key))
        _say(settings, granted)
        if not granted.granted:
            raise SystemExit(DENIED)
        raise SystemExit(_run(settings, door, granted, words, told_before, forwarding, key))


def _check_runs(word: str) -> None:
    """Nothing is asked for a command that can't be run."""
    if shutil.which(word) is None:
        there = os.path.exists(word)  # noqa: PTH110 -- a word of a command line
        what = "can't be executed" if there else "is no command"
        say(f"{click.style('error', fg='red', bold=True)}: {word} {what}; nothing was asked")
        raise SystemExit(NOT_STARTED if there else NO_COMMAND)


def _run(
    settings: Settings,
    door: "Door",
    granted: "Receipt",
    words: tuple[str, ...],
    grace: timedelta,
    forwarding: "Forwarding",
    key: "Signer | None",
) -> int:
    from vmstate.interfaces.cli.processes import Family
    from vmstate.interfaces.cli.supervising import Watch, clock_of, supervise

    who = str(granted.fields["who"]["principal"])
    standing = door.standing(who)
    if str(granted.lease) not in (one.id for one in standing.leases):
        say(f"{granted.lease} was over before the command began")
        _say_end(settings, door, granted, who)
        return ENDED
    assert granted.lease is not None
    assert granted.expires_at is not None
    env = {
        **os.environ,
        "VMSTATE_LEASE": granted.lease,
        "VMSTATE_EXPIRES_AT": format_at(granted.expires_at),
        "VMSTATE_PRINCIPAL": who,
    }
    watch = Watch(door, standing, granted.lease, clock_of(door))
    try:
        family = Family(words, env, watch.left())
    except OSError as error:
        say(f"{words[0]} can't be run: {error.strerror}")
        _give_back(settings, door, granted, who, "the command could not be started", key)
        return NOT_STARTED
    forwarding.to(family)
    try:
        outcome = supervise(family, watch, grace)
    finally:
        family.close()
    _say_outcome(outcome)
    _give_back(settings, door, granted, who, _reason(outcome), key)
    return outcome.code if outcome.ended is None else ENDED


def _reason(outcome: "Outcome") -> str:
    return (
        f"exit {outcome.code}" if outcome.ended is None else f"exit {outcome.code}, {outcome.ended}"
    )


def _say_outcome(outcome: "Outcome") -> None:
    if outcome.ended is not None:
        say(f"the command was ended: {outcome.ended}")
    if outcome.left:
        pids = ", ".join(map(str, outcome.left))
        say(f"{click.style('error', fg='red', bold=True)}: still running, can't be killed: {pids}")


def _give_back(
    settings: Settings, door: "Door", granted: "Receipt", who: str, why: str, key: "Signer | None"
) -> None:
    """Release the lease if it still stands, and show the receipt of its end."""
    try:
        standing = door.standing(who).leases
        if str(granted.lease) in (one.id for one in standing):
            _say(settings, door.release(who, str(granted.lease), key=key, reason=why))
        else:
            _say_end(settings, door, granted, who)
    except LedgerError as error:
        say(f"{error}; {granted.lease} ends by itself, at {granted.fields['what']['expires_at']}")


def _say_end(settings: Settings, door: "Door", granted: "Receipt", who: str) -> None:
    """Show the receipt of an end that came from elsewhere; it may have to be written first."""
    from vmstate.authority import Authority

    if isinstance(door, Authority):
        door.settle([who])
    until = time.monotonic() + WRITTEN_WITHIN
    while True:
        seen = door.version()
        ends = door.receipts(after=granted.seq, principal=who, type_="profile_deescalation")
        for end in ends:
            if end.lease == granted.lease:
                _say(settings, end)
                return
        if (left := until - time.monotonic()) <= 0:
            break
        door.wait(seen, timedelta(seconds=left))
    say(f"{granted.lease} is over; its receipt is owed, and vmstate serve writes it")


def _say(settings: Settings, receipt: "Receipt") -> None:
    """A receipt, on standard error: standard output is the command's."""
    if settings.json:
        import json

        say(json.dumps(receipt_body(receipt), ensure_ascii=False))
        return
    what = receipt.fields["what"]
    if not receipt.granted:
        say_denial(receipt.unmet, receipt.rule)
    elif receipt.type == "profile_escalation":
        say(spell_grant(receipt))
    else:
        say(f"{receipt.lease} ended by {what['ending']}")
    say(f"  {receipt.place}  {receipt.id}")

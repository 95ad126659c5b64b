"""`notify list|test|key`: who is told what, what still waits for them, and whether that can be.

What waits is delivered by `vmstate serve`. These verbs look at the ledger's file itself; at a
socket `list` tells how far behind each target is.
"""

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import click

from vmstate.canonical import Json, format_at
from vmstate.interfaces.cli.output import emit, say, spell_time, table
from vmstate.interfaces.cli.settings import FAILED, Group, Look, Return, Settings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vmstate.constitution.document import Notify
    from vmstate.ledger.outbox import Backlog, Notice

LISTED = 1_000  # notices of one target


@click.group(cls=Group)
def notify() -> None:
    """Who is told what, and what still waits to be told."""


@notify.command("list", cls=Look)
@click.pass_obj
def list_notices(settings: Settings) -> None:
    """List what is due and was not delivered, and why."""
    from vmstate.ledger.outbox import Outbox

    if settings.at_socket:
        _list_backlogs(settings)
        return
    authority = settings.file()
    backlogs = authority.backlogs()
    targets = authority.constitution.document.notify
    now = authority.clock.read()
    with authority.ledger.read() as snapshot:
        found = [
            (one, snapshot.receipt(one.seq).fields["who"]["principal"] or "")
            for backlog in backlogs
            for one in Outbox(snapshot).waiting(backlog.target, now, LISTED)
        ]
    if settings.json:
        told: list[Json] = [
            {**_target_body(one, targets[one.target]), "notices": _bodies(found, one.target)}
            for one in backlogs
        ]
        emit({"ok": True, "targets": told})
        return
    rows = [
        (
            one.target,
            one.event,
            str(one.seq),
            who,
            str(one.count),
            spell_time(one.due_at),
            str(one.attempts),
            one.fault,
        )
        for one, who in found
    ]
    table(("TARGET", "EVENT", "RECEIPT", "WHO", "COUNT", "SINCE", "TRIES", "WHY"), rows)
    if not backlogs:
        say("nobody is told anything: the constitution has no [notify]")
    for backlog in backlogs:
        say(_line(backlog, targets[backlog.target]))


def _list_backlogs(settings: Settings) -> None:
    """What a socket tells: each target, and how much waits for it."""
    door = settings.authority()
    backlogs, targets = door.backlogs(), door.constitution.document.notify
    if settings.json:
        told: list[Json] = [_target_body(one, targets[one.target]) for one in backlogs]
        emit({"ok": True, "targets": told})
        return
    for backlog in backlogs:
        say(_line(backlog, targets[backlog.target]))
    if not backlogs:
        say("nobody is told anything: the constitution has no [notify]")
    else:
        say("which notices those are stands in the ledger's file: name it with --ledger")


@notify.command(cls=Return)
@click.argument("target")
@click.pass_obj
def test(settings: Settings, target: str) -> None:
    """Send TARGET a notice that says it is a test, now and once."""
    from vmstate.notices import Deliverer

    fault = Deliverer(settings.file()).test(target)
    if settings.json:
        emit({"ok": not fault, "target": target, "fault": fault or None})
    elif fault:
        say(f"{target} can't be told: it {fault}")
    else:
        click.echo(f"{target} was told")
    if fault:
        raise SystemExit(FAILED)


@notify.command(cls=Look)
@click.pass_obj
def key(settings: Settings) -> None:
    """Print the public key with which receivers of webhooks check what they are told."""
    from vmstate.notices.webhook import spell_key

    spelled = spell_key(settings.file().ledger.verifier.public)
    if settings.json:
        emit({"ok": True, "key": spelled})
    else:
        click.echo(spelled)


def backlog_body(backlog: "Backlog") -> dict[str, Json]:
    """What `--json` shows of a target that is behind, or not."""
    oldest = backlog.oldest_at
    return {
        "target": backlog.target,
        "behind": backlog.is_behind,
        "waiting": backlog.waiting,
        "since": None if oldest is None else format_at(oldest),
        "attempts": backlog.attempts,
        "fault": backlog.fault or None,
    }


def _target_body(backlog: "Backlog", target: "Notify") -> dict[str, Json]:
    return {**backlog_body(backlog), "by": _way(target), "events": [*target.events]}


def _bodies(found: "Sequence[tuple[Notice, str]]", target: str) -> list[Json]:
    return [
        {
            "event": one.event,
            "receipt": one.seq,
            "principal": who or None,
            "count": one.count,
            "since": format_at(one.due_at),
            "attempts": one.attempts,
            "fault": one.fault or None,
        }
        for one, who in found
        if one.target == target
    ]


def _way(target: "Notify") -> str:
    """The program or the host: the rest of a URL is nobody's business on a screen."""
    if target.command is not None:
        return target.command[0]
    return urlsplit(target.url or "").netloc


def _line(backlog: "Backlog", target: "Notify") -> str:
    if backlog.is_behind:
        return backlog.message
    waits = f"{backlog.waiting} on the way" if backlog.waiting else "nothing waits"
    return f"{backlog.target} is told of {', '.join(target.events)} by {_way(target)}: {waits}"

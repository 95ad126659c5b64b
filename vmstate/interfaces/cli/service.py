"""`serve`, `recover`: keeping it going, and going on after a clock was wrong."""

import os
import re
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vmstate.canonical import encode
from vmstate.errors import InputError
from vmstate.interfaces.cli.options import (
    exception_options,
    once_option,
    read_prepared,
    read_signer,
    read_statements,
)
from vmstate.interfaces.cli.output import answer, say, spell_time
from vmstate.interfaces.cli.rows import spell_what
from vmstate.interfaces.cli.settings import Return, Settings, asker
from vmstate.interfaces.cli.statements import write_or_print

if TYPE_CHECKING:
    from types import FrameType

    from vmstate.authority import Authority
    from vmstate.ledger.receipt import Receipt

SOCKET_MODE = "660"
STOPS = (signal.SIGTERM, signal.SIGINT)


class _Listening(Return):
    """Where other verbs ask at the socket, this one answers."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for option in self.params:
            if isinstance(option, click.Option) and option.name == "socket":
                option.help = "Make a socket there, and answer those who ask at it."


@click.command(cls=_Listening)
@click.option(
    "--socket-mode", default=SOCKET_MODE, show_default=True, help="Who may connect, as in chmod."
)
@click.option("--socket-group", metavar="GROUP", help="Whose socket it is, as in chgrp.")
@click.option(
    "--print-unit", is_flag=True, help="Print a unit for systemd instead, for the paths given."
)
@click.pass_obj
def serve(
    settings: Settings, socket_mode: str, socket_group: str | None, *, print_unit: bool
) -> None:
    """Give leases back on time, until SIGTERM or Ctrl-C; with --socket, answer there as well.

    Authority ends at its deadline with or without this; what runs here writes the receipts on
    time, and tells the targets of [notify]. Each receipt written is a line on standard output.
    """
    if print_unit:
        _print_unit(settings, socket_mode, socket_group)
        return
    from vmstate.expiry import Expiry
    from vmstate.notices import Deliverer
    from vmstate.sockets import tell_manager

    authority = settings.file(serving=True)
    if authority.is_drill:
        raise InputError(f"{settings.ledger} is a drill's ledger: its time is the drill's")
    authority.ledger.require_key()
    told = _until_told()
    authority.subscribe(lambda receipt: _show(settings, receipt))
    expiry = Expiry(authority)
    deliverer = Deliverer(authority)
    with _answering(settings, authority, socket_mode, socket_group) as where:
        # Said first: what was overdue is ended in a thread as soon as it starts, each with a line.
        say(f"{authority.origin}: giving back on time{where}; SIGTERM or Ctrl-C stops")
        expiry.start()
        deliverer.start()
        tell_manager("READY=1")
        told()
        tell_manager("STOPPING=1")
    expiry.stop()
    deliverer.stop()
    for number in STOPS:  # told once more at the very end, it has still ended well
        signal.signal(number, signal.SIG_IGN)
    say("stopped; what is still owed stays due")


def _until_told() -> Callable[[], bytes]:
    """Take what asks to stop from here on; what comes back waits for the first of them.

    A handler may run in the middle of whatever waits, so it takes no lock: it writes to a pipe. It
    is told any number of times, and a pipe that is full was told.
    """
    told, tell = os.pipe()
    os.set_blocking(tell, False)

    def ask_to_stop(_signal: int, _frame: "FrameType | None") -> None:
        with suppress(BlockingIOError):
            os.write(tell, b".")

    for number in STOPS:
        signal.signal(number, ask_to_stop)
    return lambda: os.read(told, 1)


def _print_unit(settings: Settings, mode: str, group: str | None) -> None:
    from vmstate.interfaces.cli.unit import unit_for

    _read_mode(mode)
    more = {} if mode == SOCKET_MODE else {"socket-mode": mode}
    text, warnings = unit_for(settings, {**more, **({"socket-group": group} if group else {})})
    click.echo(text, nl=False)
    for warning in warnings:
        say(warning)


@contextmanager
def _answering(
    settings: Settings, authority: "Authority", mode: str, group: str | None
) -> Iterator[str]:
    """Answer at the socket while the block lasts, if one was named; says where."""
    if not settings.socket:
        yield ""
        return
    from vmstate.serving import Server
    from vmstate.sockets import listening

    path = Path(settings.socket)
    with listening(path, mode=_read_mode(mode), group=group) as listener:
        server = Server(authority, listener)
        server.start()
        try:
            yield f", answering at {path}"
        finally:
            server.stop()


def _read_mode(text: str) -> int:
    if not re.fullmatch(r"0?[0-7]{3}", text):
        raise click.BadParameter(f"{text!r} is not a mode, write 660", param_hint="--socket-mode")
    return int(text, 8)


def _show(settings: Settings, receipt: "Receipt") -> None:
    if settings.json:
        click.echo(receipt.body)
        return
    what = receipt.fields["what"]
    said = spell_what(receipt)
    if what["ending"]:
        said = f"{what['lease']} {what['from']} to {what['to']}, {what['ending']}"
    words = (spell_time(receipt.at), str(receipt.seq), receipt.type, receipt.who, said)
    click.echo(" ".join(word for word in words if word))


@click.command(cls=Return)
@click.option("--clock", "clock", is_flag=True, help="The clock is right, although it reads early.")
@exception_options
@once_option
@click.pass_obj
def recover(
    settings: Settings,
    who: str | None,
    key_file: Path | None,
    passphrase_file: Path | None,
    reason: str | None,
    request_file: Path | None,
    approvals: tuple[Path, ...],
    output: Path | None,
    once: str | None,
    *,
    clock: bool,
) -> None:
    """Go on after a clock in the past, with the approvals that [recovery] asks for.

    That is after a reboot by which the clock was behind the ledger, or after it was set back, for
    those who signed before and can't sign again.

    First without --request, which prepares it; then have it signed (vmstate sign), and hand both
    in with your own key: whoever says that a clock is right has to be known for certain.
    """
    if not clock:
        raise click.UsageError("Missing option '--clock': say what is to be recovered.")
    authority = settings.authority()
    prepared = None if request_file is None else read_prepared(request_file)
    if prepared is None:
        prepared = authority.prepare_recovery(asker(authority, who), reason=reason or "")
        write_or_print(settings, encode(prepared.body()), output, {"request": prepared.id})
        say(f"next: have it signed, vmstate sign {output or 'FILE'} --as APPROVER --key KEY")
        return
    receipt = authority.recover(
        who or prepared.principal,
        request=prepared,
        approvals=read_statements(approvals),
        reason=prepared.reason if reason is None else reason,
        key=None if key_file is None else read_signer(key_file, passphrase_file),
        idempotency_key=once,
    )
    answer(receipt, settings, "the clock is taken as right from here on")

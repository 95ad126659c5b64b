"""The door at a socket: `vmstate serve` answers, under its own account.

Takes the same calls as a ledger in this process. What is asked is sent once. Where the connection
was gone before anything was sent, another is made. Where a command was sent and no answer came, it
is sent again if it has an idempotency key; else `LedgerUnavailable` says that nobody can tell
whether it was decided: the receipts can.

Whoever answers is believed in what they show, and in nothing that is signed by it: a signature
lasts no longer than the service could make it last that this machine's own clock knows of.
"""

import contextlib
import os
import socket
import threading
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

from vmstate import wire
from vmstate.canonical import format_at
from vmstate.clock import Clock, SystemClock
from vmstate.constitution.law import Constitution
from vmstate.constitution.loading import read_constitution
from vmstate.decisions.command import Command, HandIn, Push
from vmstate.decisions.showing import Pending
from vmstate.decisions.statements import sign_order
from vmstate.door import Door
from vmstate.errors import LedgerMismatch, LedgerUnavailable
from vmstate.governing import Ordered
from vmstate.keys import Signer
from vmstate.leases.watermark import SetBack
from vmstate.ledger.receipt import Receipt
from vmstate.wire import HELLO, LAW, QUESTIONS, WAIT, Answer, Heading, Question

ANSWER_WITHIN = timedelta(seconds=30)  # a ledger that is kept busy gives up earlier
AT_ONCE = 16  # questions of this process; more wait, so that one program leaves room for others
KEPT = 4  # connections that stay open
APART = timedelta(minutes=1)  # from our clock, which is that of the same machine

_P = ParamSpec("_P")
_R = TypeVar("_R")


class _UnansweredError(LedgerUnavailable):
    """Something was asked, and the connection ended or time was up before an answer came."""


def _asked(method: Callable[Concatenate[Any, _P], _R]) -> Callable[Concatenate[Any, _P], _R]:
    """A read of the door that the other side answers."""
    names = tuple(QUESTIONS[method.__name__].arguments.model_fields)

    def ask(self: "Client", /, *given: Any, **named: Any) -> Any:
        arguments = {**dict(zip(names, given, strict=False)), **named}
        return self.ask(QUESTIONS[method.__name__], **arguments)

    ask.__doc__ = method.__doc__
    return ask


class Client(Door):
    """Asks at `path`. Safe to share between threads; a forked child makes connections of its own.

    `token` is what is shown instead of this process's account, `keeps` how many connections stay
    open while nobody asks. `clock` is this machine's, by which what is signed comes to its end.
    `shown_within` is how long what only reads is waited for, by whoever has others to look after;
    a command is waited for as long as it may take to be decided.

    Raises:
        LedgerUnavailable: nobody listens there.
        UnknownPrincipal: the token is nobody's.
    """

    def __init__(
        self,
        path: Path | str,
        *,
        token: str | None = None,
        keeps: int = KEPT,
        clock: Clock | None = None,
        shown_within: timedelta | None = None,
    ) -> None:
        self.path = Path(path)
        self.shown_within = shown_within
        self._token = token
        self._keeps = keeps
        self._clock = clock or SystemClock()
        self._lock = threading.Lock()
        self._turns = threading.BoundedSemaphore(AT_ONCE)
        self._idle: list[socket.socket] = []
        self._pid = os.getpid()
        self._closed = False
        self._law: Constitution | None = None
        self._digest = ""
        self.heading()

    # ---- what is asked ------------------------------------------------------------------------

    may = _asked(Door.may)
    standing = _asked(Door.standing)
    status = _asked(Door.status)
    why = _asked(Door.why)
    attested = _asked(Door.attested)
    locks = _asked(Door.locks)
    foresee_amendment = _asked(Door.foresee_amendment)
    backlogs = _asked(Door.backlogs)
    due = _asked(Door.due)
    requests = _asked(Door.requests)
    request = _asked(Door.request)
    lease = _asked(Door.lease)
    budgets = _asked(Door.budgets)
    heads = _asked(Door.heads)
    size = _asked(Door.size)
    receipt = _asked(Door.receipt)

    def submit(self, command: Command) -> Receipt:
        try:
            receipt: Receipt = self.ask(QUESTIONS["submit"], command=command)
        except _UnansweredError:
            if command.idempotency_key is None:
                raise
            # Under its key it is answered once, however often it is asked.
            receipt = self.ask(QUESTIONS["submit"], command=command)
        return receipt

    def receipts(
        self,
        *,
        after: int = -1,
        limit: int = 1_000,
        principal: str | None = None,
        type_: str | None = None,
        denied: bool = False,
    ) -> tuple[Receipt, ...]:
        found: list[Receipt] = []
        while (most := min(limit - len(found), wire.PAGE)) > 0:
            asked = {"principal": principal, "type_": type_, "denied": denied}
            page = self.ask(QUESTIONS["receipts"], after=after, limit=most, **asked)
            found += page
            if len(page) < most:
                break
            after = page[-1].seq
        return tuple(found)

    def heading(self) -> Heading:
        """Which ledger this is, and whom it takes this caller for."""
        heading: Heading = self.ask(HELLO)
        return heading

    @property
    def constitution(self) -> Constitution:
        if self._law is None or self._law.digest != self._digest:
            found = self.ask(LAW)
            law = read_constitution(found.toml.encode(), name=f"the law at {self.path}")
            if law.digest != found.digest:
                raise LedgerMismatch(
                    f"{self.path}: the law that was sent has the digest {law.digest}, not "
                    f"{found.digest}: install the same release on both sides"
                )
            self._law = law
        return self._law

    @property
    def origin(self) -> str:
        return self.heading().origin

    @property
    def is_drill(self) -> bool:
        return self.heading().is_drill

    @property
    def names(self) -> tuple[str, ...]:
        return self.heading().names

    def now(self) -> datetime:
        return self.heading().now

    def version(self) -> int:
        # Each commit leaves a receipt (law 2), and none is ever taken away.
        size: int = self.size()
        return size

    def wait(self, version: int, timeout: timedelta) -> int:
        most = max(0, int(timeout / timedelta(milliseconds=1)))
        here: int = self.ask(WAIT, size=version, milliseconds=most)
        return here

    def ordered(self, command: Ordered, key: Signer | None, *, nonce: str | None = None) -> Ordered:
        # A stranger may not read the law, and need not: its digest is what is signed.
        if key is None:
            return command
        here = self.heading()
        now = self._as_here(here.now)
        after = None if here.set_back is None else here.set_back.after
        order = sign_order(here.law, here.origin, now, command, key=key, nonce=nonce, after=after)
        return command.model_copy(update={"order": order})

    def set_back(self) -> SetBack | None:
        return self.heading().set_back

    def law_digest(self) -> str:
        return self.heading().law  # a sensor may be a stranger, who may not read the law

    def signing_at(self) -> datetime:
        return self._as_here(self.now())

    def good_until(self, shown: Pending) -> datetime:
        # A request under another law than was sent is of no use where that law rules.
        law, longest = self.constitution, timedelta()
        table = law.document.requests
        if table is not None and law.digest == shown.request.constitution:
            longest = table.waits + table.usable_for
        return min(super().good_until(shown), self.signing_at() + longest)

    def _as_here(self, there: datetime) -> datetime:
        here = self._clock.read().wall
        if abs(there - here) > APART:
            raise LedgerMismatch(
                f"{self.path}: its clock reads {format_at(there)}, needs {format_at(here)} as this "
                "machine's does, or what is signed would be good for longer: nothing was signed"
            )
        return there

    def close(self) -> None:
        with self._lock:
            self._closed = True
        self.rest()

    def rest(self) -> None:
        """Close the connections that nobody asks on; the next question makes another."""
        with self._lock:
            for connection in self._idle:
                connection.close()
            self._idle.clear()

    # ---- how ----------------------------------------------------------------------------------

    def ask(self, question: Question, **arguments: Any) -> Any:
        """Ask once, and return what was answered; raises what the other side raised."""
        line = question.ask(arguments)
        patience = ANSWER_WITHIN if question.name == "submit" else self._shown_within
        patience += timedelta(milliseconds=arguments.get("milliseconds", 0))
        # Who waits for news must not keep out who has something to ask.
        command = arguments.get("command")
        with contextlib.nullcontext() if question is WAIT else self._turns:
            answer = self._exchange(question, line, patience)
        if answer.bye is not None:
            raise LedgerUnavailable(f"{self.path}: {answer.bye}; {_undecided(command)}")
        if answer.law:
            self._digest = answer.law
        return answer.value

    def _exchange(self, question: Question, line: bytes, patience: timedelta) -> Answer:
        """Ask on a kept connection; if that was gone before anything was taken in, on another."""
        kept = self._kept()
        if kept is not None and (answer := self._once(kept, question, line, patience)).bye is None:
            return answer
        return self._once(self._connect(patience), question, line, patience)

    def _once(
        self, connection: socket.socket, question: Question, line: bytes, patience: timedelta
    ) -> Answer:
        """One line out, one line back: a bye where the line was not taken in.

        The connection is kept for the next question if all went well, and closed if not: an answer
        that still came would be taken for the next one's.
        """
        with contextlib.ExitStack() as undo:
            undo.callback(connection.close)
            back = _ask_once(connection, line, patience)
            if not back.endswith(b"\n"):
                raise self._unknown(question)
            answer: Answer | None = None
            try:
                answer = wire.read_answer(question, back)
            finally:
                # An error is an answer too, and the connection as good as before.
                if answer is None or answer.bye is None:
                    undo.pop_all()
                    self._keep(connection)
            return answer

    def _unknown(self, question: Question) -> LedgerUnavailable:
        what = "nothing was asked that changes anything"
        if question.name == "submit":
            what = (
                "it is unknown whether this was decided, look at the receipts before asking again"
            )
        return _UnansweredError(f"{self.path}: no answer came: {what}")

    @property
    def _shown_within(self) -> timedelta:
        return ANSWER_WITHIN if self.shown_within is None else self.shown_within

    def _connect(self, patience: timedelta) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.settimeout(patience.total_seconds())
            connection.connect(str(self.path))
            self._show_token(connection, patience)
        except OSError as error:
            connection.close()
            raise LedgerUnavailable(
                f"nobody answers at {self.path} ({error.strerror or error}): start vmstate serve, "
                "or set VMSTATE_SOCKET to its socket, to nothing for the ledger's file"
            ) from error
        except BaseException:
            connection.close()
            raise
        return connection

    def _show_token(self, connection: socket.socket, patience: timedelta) -> None:
        if self._token is None:
            return
        line = HELLO.ask({"token": self._token})
        answer = wire.read_answer(HELLO, _ask_once(connection, line, patience))
        if answer.bye is not None:
            raise LedgerUnavailable(f"{self.path}: {answer.bye}; nothing was decided")

    def _kept(self) -> socket.socket | None:
        with self._lock:
            if self._closed:
                raise LedgerUnavailable(f"{self.path} was closed: connect again")
            if self._pid != os.getpid():
                # A forked child shares its parent's connections: it may close them, never ask.
                self._pid, inherited, self._idle = os.getpid(), self._idle, []
                for one in inherited:
                    one.close()
            return self._idle.pop() if self._idle else None

    def _keep(self, connection: socket.socket) -> None:
        with self._lock:
            if not self._closed and len(self._idle) < self._keeps:
                self._idle.append(connection)
                return
        connection.close()


def _undecided(command: Command | None) -> str:
    """What is known of a command that was not taken in, by the word of whoever got it."""
    if isinstance(command, HandIn | Push):
        return "it holds what was signed, and may have it decided: look at the receipts"
    if command is not None and command.order is not None:
        until = getattr(command.order.statement, "expires_at", "it was used")
        return f"it holds what was signed, good until {until}: look at the receipts"
    return "nothing was decided"


def _ask_once(connection: socket.socket, line: bytes, patience: timedelta) -> bytes:
    """What comes back for `line`, a whole line; less if the connection ended or time was up.

    Where `line` can't have been taken in a bye comes back: either the other side said so, or it
    was gone with some of the line unsent or unread, and a line without its end is no question.
    """
    until = time.monotonic() + patience.total_seconds()
    back = bytearray()
    gone = wire.write_bye("the connection was gone")
    try:
        connection.settimeout(patience.total_seconds())
        connection.sendall(line)
    except BrokenPipeError:
        pass  # it may have said bye first
    except OSError:
        return b""
    else:
        gone = b""
    try:
        while not back.endswith(b"\n") and len(back) <= wire.ANSWER_BYTES:
            connection.settimeout(max(until - time.monotonic(), 0.001))
            part = connection.recv(262_144)
            if not part:
                break
            back += part
    except ConnectionResetError:
        gone = wire.write_bye("the connection was gone")
    except OSError:
        return b""
    return bytes(back) if back.endswith(b"\n") else gone

"""The socket of `vmstate serve`: one thread for each connection, in front of one authority.

Who is at the other end is what the kernel says (`SO_PEERCRED`), or who holds the token that was
shown. What they are called is what the law in force says of that account or token; it is looked up
in the transaction that decides, so that a name taken away counts for nothing from then on. An order
proves its signer on anybody's connection.

What a stranger may have: the heading (which ledger, which law, whom the socket takes them for) and
the answer to what they ask for. No read, not even the law. A refusal of somebody whom nothing
proves is a receipt that names their account, for so many of them and no more: a stranger can't
fill the ledger. What somebody has signed is heard all the same, whoever carries it.

Everything is bounded: connections in all and for each account, the length of a line, how long one
may take to arrive and its answer to be fetched, idle time, how fast one connection may ask. Whoever
is slow, silent or talks nonsense holds up their own thread, and nobody else's. Where there is room
for no more, whoever has most of it makes some, of what they leave idle: some accounts together can
no more keep the others out than one can.
"""

import contextlib
import logging
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from vmstate import wire
from vmstate.authority import Authority
from vmstate.constitution.people import Caller
from vmstate.decisions.command import Command
from vmstate.decisions.evidence import is_signed
from vmstate.door import LOOK_EVERY
from vmstate.errors import InputError, LedgerUnavailable, UnknownPrincipal, VmstateError
from vmstate.keys import token_digest
from vmstate.ledger.receipt import Receipt
from vmstate.sockets import account_of
from vmstate.wire import HELLO, LAW, WAIT, Heading, Law, Question

log = logging.getLogger("vmstate.serving")

CONNECTIONS = 256  # threads; and
PER_ACCOUNT = 64  # so that no account keeps the others out
IDLE_FOR = timedelta(minutes=10)
LINE_WITHIN = timedelta(seconds=10)  # from its first byte to its last; the first of all at once
FETCHED_WITHIN = timedelta(seconds=10)  # an answer, or its reader is gone
WAIT_AT_MOST = timedelta(minutes=1)  # for something new; then it is asked again
PER_SECOND, BURST = 1_000, 2_000  # questions on one connection; then it is read more slowly
REFUSALS, REFUSED_EVERY = 20, timedelta(seconds=30)  # on record for one account nothing proves
STOP_WITHIN = timedelta(seconds=1)  # for what is being decided; the rest is told bye


class Allowance:
    """So much at once, and one more for each interval: what is not measured is unlimited."""

    def __init__(self, most: int, every_seconds: float) -> None:
        self._most, self._every = float(most), every_seconds
        self._left, self._seen = float(most), time.monotonic()

    def left(self) -> float:
        """How many are left; below one, none is."""
        now = time.monotonic()
        self._left = min(self._most, self._left + (now - self._seen) / self._every)
        self._seen = now
        return self._left

    def take(self) -> float:
        """Take one; how many seconds that is too early."""
        self._left = self.left() - 1
        return max(0.0, -self._left * self._every)


@dataclass
class _Connection:
    """One client: what the kernel says of it, the token it showed, and what came in so far."""

    socket: socket.socket
    account: str
    token: str | None = None
    asked: bool = False
    spoke: bool = False
    # On the monotonic clock; None while something is done.
    idle_since: float | None = field(default_factory=time.monotonic)
    leaves: bool = False  # it makes room, and is told so
    buffer: bytearray = field(default_factory=bytearray)
    pace: Allowance = field(default_factory=lambda: Allowance(BURST, 1 / PER_SECOND))

    @property
    def caller(self) -> Caller:
        return Caller(self.account, self.token)

    def line(self) -> bytes | None:
        """The next line, without its end; None once nothing more comes.

        Raises:
            InputError: it is too long.
            TimeoutError: nothing came for too long, or the rest of it did not.
        """
        self.idle_since = time.monotonic()
        # Who connects has something to ask: a connection that never did keeps others out.
        most = IDLE_FOR if self.spoke else LINE_WITHIN
        until = self.idle_since + most.total_seconds()
        while (end := self.buffer.find(b"\n")) < 0:
            if len(self.buffer) > wire.LINE_BYTES:
                raise InputError(f"the line has more than {wire.LINE_BYTES:,} bytes: send less")
            self.socket.settimeout(max(until - time.monotonic(), 0.001))
            if not (part := self.socket.recv(65_536)):
                return None
            if not self.buffer:
                self.idle_since = None
                until = time.monotonic() + LINE_WITHIN.total_seconds()
            self.buffer += part
        self.spoke, self.idle_since = True, None
        line = bytes(self.buffer[:end])
        del self.buffer[: end + 1]
        return line

    def leave(self) -> None:
        """Be closed by the thread that reads it; what came in by now is still answered."""
        self.leaves = True
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RD)

    def send(self, line: bytes) -> None:
        self.socket.settimeout(FETCHED_WITHIN.total_seconds())
        self.socket.sendall(line)


class Server:
    """Answers at a socket until it is stopped. `authority` must be one that is serving."""

    def __init__(self, authority: Authority, listener: socket.socket) -> None:
        self._authority = authority
        self._listener = listener
        self._lock = threading.Lock()
        self._connections: dict[threading.Thread, _Connection] = {}
        self._refusals: dict[str, Allowance] = {}
        self._told: dict[str, Allowance] = {}
        self._news = threading.Condition()
        self._announced = 0
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._accept, name="vmstate socket", daemon=True)

    def start(self) -> None:
        """Begin to answer; returns at once."""
        self._authority.subscribe(self._notice)
        self._thread.start()

    def stop(self) -> None:
        """Answer what is being decided, tell everybody else bye, and stop; within a second."""
        self._stopping.set()
        self._authority.unsubscribe(self._notice)
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # wakes the thread that accepts
        self._listener.close()
        with self._lock:
            open_ = dict(self._connections)
        for connection in open_.values():
            with contextlib.suppress(OSError):
                connection.socket.shutdown(socket.SHUT_RD)  # wakes the thread that reads
        with self._news:
            self._news.notify_all()
        until = time.monotonic() + STOP_WITHIN.total_seconds()
        for thread in (self._thread, *open_):
            thread.join(max(until - time.monotonic(), 0))

    # ---- connections --------------------------------------------------------------------------

    def _accept(self) -> None:
        while not self._stopping.is_set():
            try:
                accepted, _ = self._listener.accept()
            except OSError as error:
                if not self._stopping.wait(LOOK_EVERY.total_seconds()):
                    self._tell("the socket", f"a connection was lost: {error}")
                continue
            connection = _Connection(accepted, account_of(accepted))
            if why := self._take_in(connection):
                self._tell(f"the account {connection.account}", why)
                with accepted, contextlib.suppress(OSError):
                    accepted.setblocking(False)  # nobody makes the one thread that accepts wait
                    accepted.send(wire.write_bye(why))

    def _take_in(self, connection: _Connection) -> str:
        """Give a connection its thread; returns why not, or nothing."""
        thread = threading.Thread(
            target=self._serve, args=(connection,), name="vmstate client", daemon=True
        )
        with self._lock:
            staying = [one for one in self._connections.values() if not one.leaves]
            accounts = Counter(one.account for one in staying)
            if len(staying) >= CONNECTIONS and not _make_room(staying, accounts, connection):
                return f"there are {CONNECTIONS} connections already: close some"
            if accounts[connection.account] >= PER_ACCOUNT:
                return f"this account has {PER_ACCOUNT} connections already: close some"
            self._connections[thread] = connection
        try:
            thread.start()
        except RuntimeError as error:
            with self._lock:
                del self._connections[thread]
            return str(error)
        return ""

    def _serve(self, connection: _Connection) -> None:
        try:
            with connection.socket:
                self._converse(connection)
        except OSError as error:
            log.info("a client of the account %s is gone: %s", connection.account, error)
        except Exception:
            log.exception("a client of the account %s could not be served", connection.account)
        finally:
            with self._lock:
                self._connections.pop(threading.current_thread(), None)

    def _converse(self, connection: _Connection) -> None:
        why = "vmstate serve is stopping"
        while not self._stopping.is_set():
            try:
                line = connection.line()
            except TimeoutError:
                why = "nothing whole was asked for too long"
                break
            except InputError as error:
                # What follows such a line can't be told from the rest of it.
                connection.send(wire.write_error(error, ""))
                return
            if line is None or self._stopping.is_set():
                break
            if late := connection.pace.take():
                self._stopping.wait(late)
            connection.send(self._answer(connection, line))
        if connection.leaves:
            connection.socket.setblocking(False)  # its thread is needed
            connection.socket.send(wire.write_bye("others need the room: connect again"))
            return
        connection.send(wire.write_bye(why))

    # ---- questions ----------------------------------------------------------------------------

    def _answer(self, connection: _Connection, line: bytes) -> bytes:
        """The line that answers `line`; whatever goes wrong is told in it."""
        law = ""
        try:
            constitution = self._authority.law_in_force()
            law = constitution.digest
            question, arguments = wire.read_question(line)
            if question is HELLO:
                self._show(connection, **arguments)
            connection.asked = True
            names = constitution.people.names_of(connection.caller)
            answer = self._ask(connection, question, arguments, names)
            # What was just decided may have been an amendment.
            return wire.write_answer(question, answer, self._authority.constitution.digest)
        except VmstateError as error:
            return wire.write_error(error, law)
        except Exception:
            log.exception("a question of the account %s could not be answered", connection.account)
            what = "vmstate serve failed on this, its log says why: look at the receipts"
            return wire.write_error(LedgerUnavailable(what), law)

    def _show(self, connection: _Connection, *, token: str | None) -> None:
        """Take a token as the first thing that is said; what is no token of anybody's is refused.

        It leaves no receipt: nothing was asked, and nobody named.
        """
        if token is None:
            return
        if connection.asked:
            raise InputError("a token is shown before anything else: connect again to show one")
        digest = token_digest(token)
        if digest not in self._authority.constitution.people.tokens.values():
            self._tell(f"the account {connection.account}", "it showed a token that is nobody's")
            raise UnknownPrincipal("the token is nobody's under the law in force: get another")
        connection.token = digest

    def _ask(
        self,
        connection: _Connection,
        question: Question,
        arguments: Mapping[str, Any],
        names: tuple[str, ...],
    ) -> Any:
        authority = self._authority
        if question is HELLO:
            law = authority.constitution.digest
            origin, is_drill, now = authority.origin, authority.is_drill, authority.now()
            authority.signing_after()  # which writes down that the clock was set back
            back = authority.set_back()
            return Heading(origin, law, is_drill, connection.account, names, now, back)
        if question.name == "submit":
            return self._submit(connection, arguments["command"], names)
        if not names:
            raise UnknownPrincipal(
                f"{connection.caller} is nobody under [principals], and may read nothing: "
                "have it bound to a name, or sign what you ask for"
            )
        if question is LAW:
            in_force = authority.constitution
            return Law(in_force.digest, in_force.toml.decode())
        if question is WAIT:
            return self._wait(**arguments)
        if question.name == "why":
            arguments = {"command": _from(connection.caller, arguments["command"])}
        if arguments.get("limit", 0) > wire.PAGE and question.name == "receipts":
            raise InputError(f"{arguments['limit']} receipts at once, at most {wire.PAGE} are sent")
        return getattr(authority, question.name)(**arguments)

    def _submit(self, connection: _Connection, command: Command, names: tuple[str, ...]) -> Receipt:
        account = connection.account
        # Who carries a signature does not matter: what others have signed is none of its own tries.
        signed = is_signed(command, self._authority.constitution.people)
        with self._lock:
            refusals = self._refusals.setdefault(
                account, Allowance(REFUSALS, REFUSED_EVERY.total_seconds())
            )
            spent = not signed and command.asked_by not in names and refusals.left() < 1
        if spent:
            what = f"it goes on asking as {command.asked_by}, no longer on record"
            self._tell(f"the account {account}", what)
            raise LedgerUnavailable(
                f"the account {account} was refused {REFUSALS} times for asking as somebody else: "
                "wait; nothing was decided"
            )
        receipt = self._authority.submit(_from(connection.caller, command))
        if not signed and receipt.fields["who"]["proof"] == "none":
            with self._lock:
                refusals.take()
        return receipt

    def _wait(self, *, size: int, milliseconds: int) -> int:
        """How many receipts there are, once that is not `size`: told by our own commits at once."""
        until = time.monotonic() + min(milliseconds / 1_000, WAIT_AT_MOST.total_seconds())
        while True:
            seen = self._announced
            here, left = self._authority.size(), until - time.monotonic()
            if here != size or left <= 0 or self._stopping.is_set():
                return here
            with self._news:
                if self._announced == seen:
                    self._news.wait(min(left, LOOK_EVERY.total_seconds()))

    def _notice(self, _: Receipt) -> None:
        with self._news:
            self._announced += 1
            self._news.notify_all()

    def _tell(self, who: str, what: str) -> None:
        """A line in the log, at most one about each in so long."""
        with self._lock:
            told = self._told.setdefault(who, Allowance(1, REFUSED_EVERY.total_seconds()))
            quiet = told.left() < 1
            if not quiet:
                told.take()
        if not quiet:
            log.warning("%s: %s", who, what)


def _from(caller: Caller, command: Command) -> Command:
    """`command` as somebody at the socket asks it: nothing is believed of them yet."""
    return command.model_copy(update={"proven": "none", "caller": caller})


def _make_room(
    staying: Iterable[_Connection], accounts: Mapping[str, int], newcomer: _Connection
) -> bool:
    """Close the oldest idle connection of whoever has most, and more than `newcomer` then has."""
    idle = [
        (-accounts[one.account], since, one)
        for one in staying
        if (since := one.idle_since) is not None
        and accounts[one.account] > accounts.get(newcomer.account, 0) + 1
    ]
    if not idle:
        return False
    min(idle, key=lambda found: found[:2])[2].leave()
    return True

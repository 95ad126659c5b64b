"""The ledger's file: one writer, many readers, and all of a change or none of it.

Law 2: no change without its receipt, no receipt without its change. `transact(work)` hands a
`Transaction` to `work`, which reads, appends receipts and so moves leases; then the head of the
tree is rewritten and signed, and everything commits together. Whatever raises puts all of it back.

Killed before the commit, SQLite's write-ahead log has no commit frame and the next opening sees
nothing of it; killed after, all of it is there, signature included. There is no third place.

Who reads finds the newest commits by an index that all who have the file open share, 32 KiB in a
file beside it, which whoever comes first makes. Where the disk has no room for that, whoever wants
to read has the file alone for as long as one reading takes, and keeps the index to itself (law 6).

No other module imports `apsw`. It brings its own SQLite: versions up to 3.51.2 can corrupt a
write-ahead log when two connections write and checkpoint at one moment.
"""

import ctypes
import itertools
import os
import secrets
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from typing import NoReturn, TypeVar

import apsw

from vmstate import canonical
from vmstate.clock import Moment
from vmstate.constitution.law import Constitution
from vmstate.errors import (
    InputError,
    LedgerMismatch,
    LedgerNotFound,
    LedgerUnavailable,
    TamperError,
)
from vmstate.keys import PrivateKey
from vmstate.ledger.checkpoint import VerifierKey
from vmstate.ledger.place import (
    check_place,
    key_path,
    share_side_files,
    undone,
    why_closed,
    why_full,
)
from vmstate.ledger.snapshot import Snapshot
from vmstate.ledger.transaction import DrillMark, Log, Transaction, loading_entry

FORMAT = 1
APPLICATION_ID = 0x766D7374  # "vmst", so that `file` and we can tell a ledger from another database
BUSY_MS = 5_000  # how long another process's write is waited for before the ledger is "busy"
ORIGIN_HEX = 8
# What SQLite says where it can't make the index, or make it longer.
_NO_INDEX = (apsw.SQLITE_IOERR_SHMOPEN, apsw.SQLITE_IOERR_SHMSIZE, apsw.SQLITE_IOERR_SHMMAP)

CLOSED, FORKED = "closed", "forked"

_OPENED: "weakref.WeakSet[Ledger]" = weakref.WeakSet()
_Result = TypeVar("_Result")


class Ledger:
    """One ledger file. Safe to share between threads; open it anew in a forked process."""

    def __init__(self, path: Path, connection: apsw.Connection) -> None:
        self.path = path
        self._gone = ""  # why it can't be used here any more
        _OPENED.add(self)
        self._lock = threading.Lock()
        self._readers_lock = threading.Lock()
        self._writer: apsw.Connection | None = None
        # Weak: a thread's reader closes with its thread, and only a close of all has to know it.
        self._readers: weakref.WeakSet[apsw.Connection] = weakref.WeakSet((connection,))
        self._local = threading.local()
        self._local.reader, self._local.ask = connection, None
        self._alone = itertools.count(1)
        self._key: PrivateKey | None = None
        query = "SELECT format, origin, verifier, drill FROM meta"
        meta = next(connection.execute(query), None)
        if meta is None:
            raise LedgerMismatch(f"{path} is not a vmstate ledger: its heading is empty")
        if meta[0] != FORMAT:
            raise LedgerMismatch(f"{path} has format {meta[0]}, this release reads {FORMAT}")
        self.origin: str = meta[1]
        self.verifier = VerifierKey.parse(meta[2])
        self.drill = None if meta[3] is None else DrillMark.parse(meta[3])

    @classmethod
    def open(cls, path: Path) -> "Ledger":
        """Open a ledger that exists; reads nothing but its heading.

        Raises:
            LedgerNotFound: there is no such file.
            LedgerMismatch: it is not a ledger, or of another format.
            LedgerUnavailable: it can't be read now.
        """
        try:
            is_dir, exists = path.is_dir(), path.exists()
        except OSError as error:
            what = f"{path}: the ledger can't be looked for: {error.strerror}"
            raise LedgerUnavailable(f"{what}; check its folder, owner and mode") from error
        if is_dir:
            raise LedgerMismatch(f"{path} is a folder: name the ledger's file with --ledger")
        if not exists:
            raise LedgerNotFound(f"there is no ledger {path}: make one with vmstate init")
        with _reported(path):
            connection = _open_to_read(path)
            if connection.pragma("application_id") != APPLICATION_ID:
                connection.close()
                raise LedgerMismatch(f"{path} is not a vmstate ledger")
            opened = cls(path, connection)
            opened._leave_to_others(connection)
            return opened

    @classmethod
    def create(
        cls,
        path: Path,
        constitution: Constitution,
        now: Moment,
        *,
        origin: str | None = None,
        drill: DrillMark | None = None,
    ) -> "Ledger":
        """Make a ledger and its key, with the receipt of its constitution as the first.

        `origin` names the log in everything it signs; by default the constitution's name and
        eight random hexadecimal digits. The key file is made first: killed in between, there is
        a key without a ledger, which guards nothing.

        Raises:
            InputError: a ledger or key of that name is there already, or can't be written.
        """
        origin = origin or f"{constitution.name}/{secrets.token_hex(ORIGIN_HEX // 2)}"
        check_place(path)
        key = PrivateKey.generate()
        key.save(key_path(path))
        with undone(path), _reported(path):
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
            connection = _connect(path, apsw.SQLITE_OPEN_READWRITE)
            connection.pragma("journal_mode", "wal")
            # One transaction from nothing to a ledger with its first receipt and a signed head.
            with connection:
                _fill(connection, constitution, origin, VerifierKey(origin, key.public), drill)
                transaction = Transaction(connection, Log(origin, drill, key))
                transaction.append(loading_entry(constitution, drill), now)
                transaction.seal()
            connection.close()
        return cls.open(path)

    def transact(
        self, work: Callable[[Transaction], _Result], *, patience_ms: int = BUSY_MS
    ) -> _Result:
        """Run `work` in one write transaction and return what it returns, once it is durable.

        Whoever else writes is waited for: `patience_ms` at most in this process, and as long
        again for other processes. Time read inside `work` is read while nobody else writes.
        On any error everything is put back, and `work` may be run again by its caller only.

        Raises:
            LedgerUnavailable: the file, its disk or its key can't be used now; nothing happened.
        """
        self._require_use()
        with self._turn(patience_ms), _reported(self.path):
            if self._key is None:
                self._key = self._load_key()
            if self._writer is None:
                self._writer = _connect_to_write(self.path)
            connection = self._writer
            try:
                connection.set_busy_timeout(patience_ms)
                connection.execute("BEGIN IMMEDIATE")
            except apsw.ConnectionClosedError:
                self._writer = None  # lost, not ours: the next transaction opens another
                raise
            try:
                transaction = Transaction(connection, Log(self.origin, self.drill, self._key))
                result = work(transaction)
                transaction.seal()
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise
            return result

    @contextmanager
    def _turn(self, patience_ms: int) -> Iterator[None]:
        """This process's turn to write."""
        if not self._lock.acquire(timeout=patience_ms / 1_000):
            what = "another thread keeps the ledger busy: try again"
            raise LedgerUnavailable(f"{self.path}: {what}; nothing was written")
        try:
            yield
        finally:
            self._lock.release()

    @contextmanager
    def read(self) -> Iterator[Snapshot]:
        """A snapshot for this thread, consistent until the block ends.

        Raises:
            LedgerUnavailable: the file can't be read now.
        """
        self._require_use()
        with _reported(self.path):
            connection = self._reader()
            snapshot = Snapshot(connection, is_drill=self.drill is not None)
            if connection.in_transaction:
                yield snapshot
                return
            try:
                connection.execute("BEGIN")
            except apsw.ConnectionClosedError:
                self._local.reader = self._local.ask = None
                raise
            try:
                yield snapshot
            finally:
                connection.execute("ROLLBACK")
                self._leave_to_others(connection)

    def version(self) -> int:
        """A number that differs, for this thread, once anybody else's commit can be seen.

        Raises:
            LedgerUnavailable: the file can't be read now.
        """
        self._require_use()
        ask = getattr(self._local, "ask", None)
        try:
            if ask is None:
                connection = self._reader()
                if self._leave_to_others(connection):
                    return -next(self._alone)  # nobody can tell: nothing is kept from before
                ask = self._local.ask = connection.cursor().execute
            # A cursor that is kept: `may` asks this each time, and `pragma()` takes twice as long.
            version: int = ask("PRAGMA data_version").get
        except apsw.Error as error:
            _report(self.path, error)
        return version

    def require_key(self) -> None:
        """Make sure that this ledger can be written to as far as its key goes.

        Raises:
            LedgerUnavailable, LedgerMismatch: the key is missing, or another's.
        """
        self._load_key()

    def sign_notice(self, content: bytes) -> bytes:
        """Sign one line that is told outside, with the log's key.

        A checkpoint has three lines and more, so neither is ever taken for the other.

        Raises:
            LedgerUnavailable, LedgerMismatch: the key is missing, or another's.
        """
        if b"\n" in content:
            raise RuntimeError("a notice is one line: a checkpoint is signed by its transaction")
        return self._load_key().sign(content)

    def close(self) -> None:
        """Close every connection; the ledger can't be used afterwards."""
        with self._lock:
            with self._readers_lock:
                readers = list(self._readers)
                self._readers.clear()
            for connection in (*readers, *([self._writer] if self._writer else [])):
                connection.close()
            self._writer = None
            self._gone = CLOSED

    def _reader(self) -> apsw.Connection:
        connection: apsw.Connection | None = getattr(self._local, "reader", None)
        if connection is None:
            connection = _open_to_read(self.path)
            self._local.reader, self._local.ask = connection, None
            with self._readers_lock:
                self._readers.add(connection)
        return connection

    def _leave_to_others(self, connection: apsw.Connection) -> bool:
        """Close what has the file alone, so that others get at it; whether it had."""
        if not connection.open_flags & apsw.SQLITE_OPEN_READWRITE:
            return False
        connection.close()
        self._local.reader = self._local.ask = None
        return True

    def _load_key(self) -> PrivateKey:
        path = key_path(self.path)
        try:
            key = PrivateKey.load(path)
        except InputError as error:
            remedy = "put the log's key back to write again; reading and auditing go on without it"
            raise LedgerUnavailable(f"{error}: {remedy}") from error
        if key.public != self.verifier.public:
            raise LedgerMismatch(f"{path} is not the key of this ledger: put the right one back")
        return key

    def _require_use(self) -> None:
        if self._gone == CLOSED:
            raise LedgerUnavailable(f"{self.path} was closed: open it again")
        if self._gone == FORKED:
            raise RuntimeError("a ledger does not survive a fork: open it in the new process")


def _leave_to_parent() -> None:
    """In a process that was just forked: the ledgers that were open are its parent's."""
    for ledger in _OPENED:
        ledger._gone = ledger._gone or FORKED  # noqa: SLF001 -- our own


# Told once, and not asked at each use: `may` would pay for it.
os.register_at_fork(after_in_child=_leave_to_parent)


def _fill(
    connection: apsw.Connection,
    constitution: Constitution,
    origin: str,
    verifier: VerifierKey,
    drill: DrillMark | None,
) -> None:
    connection.execute((files("vmstate.ledger") / "schema.sql").read_text(encoding="utf-8"))
    connection.pragma("application_id", APPLICATION_ID)
    mark = None if drill is None else canonical.encode(drill.body()).decode()
    meta = (FORMAT, origin, str(verifier), mark)
    connection.execute("INSERT INTO meta VALUES (1, ?, ?, ?, ?)", meta)
    law = (0, constitution.digest, constitution.canonical, constitution.toml)
    connection.execute("INSERT INTO constitution VALUES (?, ?, ?, ?)", law)
    # A head over nothing: replaced, and signed for the first time, with the first receipt.
    empty = (0, b"", "", 0, "", 0, 0, 0, "", None, None, None, None, 0, 0, "")
    connection.execute(f"INSERT INTO head VALUES (1{', ?' * len(empty)})", empty)


def _connect(path: Path, flags: int) -> apsw.Connection:
    return _set_up(apsw.Connection(str(path), flags=flags))


def _set_up(connection: apsw.Connection) -> apsw.Connection:
    connection.set_busy_timeout(BUSY_MS)
    # FULL is a property of a connection, not of the file: without it a commit is not durable.
    connection.pragma("synchronous", "full")
    connection.pragma("foreign_keys", 1)
    # Else SQLite plans a statement on a partial index anew for each value that is bound to it,
    # which takes several times as long as running it; no plan of ours depends on a value.
    connection.config(apsw.SQLITE_DBCONFIG_ENABLE_QPSG, 1)
    return connection


def _connect_to_write(path: Path) -> apsw.Connection:
    """A connection that writes. Where other accounts may read the ledger, they go on doing so.

    SQLite takes its two side files away with the last connection that writes, and who may not make
    them reads nothing then. Where the ledger's mode lets others read, both stay, with that mode.

    Source: sqlite.org/walformat.html, on SQLITE_FCNTL_PERSIST_WAL.
    """
    connection = _connect(path, apsw.SQLITE_OPEN_READWRITE)
    connection.pragma("user_version")  # now both are there
    if share_side_files(path, Path(connection.filename)):
        keep = ctypes.c_int(1)
        connection.file_control("main", apsw.SQLITE_FCNTL_PERSIST_WAL, ctypes.addressof(keep))
    return connection


def _open_to_read(path: Path) -> apsw.Connection:
    """A connection to read by; alone with the file where there is no room for what is shared."""
    try:
        return _connect(path, apsw.SQLITE_OPEN_READONLY)
    except apsw.IOError as error:
        if not _has_no_index(error):
            raise
    # An exclusive lock takes a file that is open for writing; nothing is written by it.
    connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE)
    connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
    connection.pragma("locking_mode", "exclusive")
    return _set_up(connection)


def _has_no_index(error: apsw.Error) -> bool:
    return getattr(error, "extendedresult", 0) in _NO_INDEX


@contextmanager
def _reported(path: Path) -> Iterator[None]:
    """Turn what SQLite says into our errors; what else goes wrong inside is its caller's."""
    try:
        yield
    except apsw.Error as error:
        _report(path, error)


def _report(path: Path, error: apsw.Error) -> NoReturn:
    match error:
        case apsw.NotADBError():
            raise LedgerMismatch(f"{path} is not a vmstate ledger: {error}") from error
        case apsw.CorruptError():
            raise TamperError(f"{path} is damaged: {error}: run vmstate audit") from error
        case apsw.BusyError() | apsw.LockedError():
            what = "another process keeps the ledger busy: try again"
        case apsw.FullError():
            what = "the disk is full: make room, what is owed follows"
        case apsw.IOError() | apsw.CantOpenError() if (full := why_full(path)) is not None:
            what = full
        case apsw.IOError() if _has_no_index(error):
            what = "the files beside it can't grow: make room, or raise the limit on a file's size"
        case apsw.ReadOnlyError() | apsw.CantOpenError() | apsw.PermissionsError():
            what = why_closed(path)
        case _:
            what = "the ledger can't be used"
    raise LedgerUnavailable(f"{path}: {what} ({error}); nothing was written") from error

"""One principal at one ledger: what the runbook's calls work on, live or in a drill.

Law 14: a drill can't touch the real thing. `DRILL_MODE=1` makes a drill's ledger of its own beside
the live one, on the wall clock, with a scheduler; pointed at a live ledger it is an error.
"""

import atexit
import fcntl
import os
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from importlib.resources import files
from pathlib import Path
from typing import Any

from vmstate.authority import Authority
from vmstate.client import Client
from vmstate.clock import SystemClock
from vmstate.constitution.law import Constitution
from vmstate.constitution.loading import load_constitution, read_constitution
from vmstate.decisions.command import Escalate, Release, make_command
from vmstate.door import Door
from vmstate.drills.stand_ins import StandIns
from vmstate.errors import InputError, LedgerMismatch, LedgerNotFound
from vmstate.expiry import Expiry
from vmstate.keys import load_token
from vmstate.ledger.store import Ledger
from vmstate.signing import new_nonce

SETUP_REASON = "DRILL: set-up"
DRILLS_AT_ONCE = 64  # processes with a drill each beside one ledger; more is a loop gone wild
_held_names: list[int] = []


class Session:
    """One principal at one ledger; what the module's functions work on.

    `expiry` is None at a socket: there it is the service that gives back.
    """

    def __init__(
        self, authority: Door, expiry: Expiry | None, principal: str, stand_ins: StandIns | None
    ) -> None:
        self.authority = authority
        self.expiry = expiry
        self.principal = principal
        self.stand_ins = stand_ins
        # A seat and what is asked from it belong together, whatever other threads ask meanwhile.
        self.lock = threading.RLock()

    @property
    def in_drill(self) -> bool:
        return self.stand_ins is not None

    @property
    def held(self) -> str:
        """The profile held now."""
        return self.authority.standing(self.principal).profile

    def close(self) -> None:
        """Stop giving back and close the ledger; a drill's mode is switched off first."""
        if self.in_drill:
            self.authority.drill_mode(on=False, set_by="the session ended")
        if self.expiry is not None:
            self.expiry.stop()
        self.authority.close()


_lock = threading.Lock()
_sessions: dict[int, Session] = {}
_seated: ContextVar[Session | None] = ContextVar("vmstate_session", default=None)


@contextmanager
def acting_as(here: Session) -> Iterator[None]:
    """Let what is called inside the block work on `here`; a server has one for each caller."""
    token = _seated.set(here)
    try:
        yield
    finally:
        _seated.reset(token)


def session() -> Session:
    """The session of the block around, else this process's, made when it is first needed."""
    if (here := _seated.get()) is not None:
        return here
    with _lock:
        if os.getpid() not in _sessions:
            _sessions.clear()  # a forked child can use neither its parent's ledger nor its thread
            _sessions[os.getpid()] = _open_session()
        return _sessions[os.getpid()]


def close_session() -> None:
    """End this process's session, if there is one; the next call makes another."""
    with _lock:
        found = _sessions.pop(os.getpid(), None)
    if found is not None:
        found.close()
    while _held_names:
        os.close(_held_names.pop())


# A drill that nobody ended ends with its process, on the record.
atexit.register(close_session)


def seat(here: Session, profile: str, *, exactly: bool) -> str:
    """Make a drill's principal stand at `profile`, by lawful steps; says why if that can't be.

    Each rung up uses the first rule, by id, that is met with the set-up reason, the stand-ins'
    approvals and no facts.
    """
    law = here.authority.constitution
    if profile not in law.document.profiles:
        return f"{profile!r} is not a profile"
    if here.held == profile or (not exactly and law.includes(here.held, profile)):
        return ""
    while not law.includes(profile, here.held):
        lease = here.authority.standing(here.principal).leases[-1]
        receipt = here.authority.submit(_unseating(here, lease.id))
        if not receipt.granted:
            return receipt.message
    while here.held != profile:
        rungs = law.lineage(profile)
        if fault := _step_up(here, rungs[rungs.index(here.held) + 1]):
            return f"no lawful seat at {profile}: {fault}"
    return ""


def _unseating(here: Session, lease: str) -> Release:
    asked = {"principal": here.principal, "lease": lease, "reason": SETUP_REASON, "setup": True}
    return make_command(Release, asked)


def _step_up(here: Session, to: str) -> str:
    """One rung up by the first rule that is met; returns why not, or nothing."""
    assert here.stand_ins is not None
    fault = f"no rule leads from {here.held} to {to}"
    for rule in sorted(here.authority.constitution.rules.items()):
        table = rule[1]
        if (table.from_, table.to) != (here.held, to) or table.needs.facts:
            continue
        asked: dict[str, Any] = {"principal": here.principal, "to": to, "trigger": table.trigger}
        asked |= {"reason": SETUP_REASON, "facts": {}, "setup": True}
        if table.needs.approval:
            groups = [group for stage in table.needs.approval for group in stage.of]
            asked |= _approved_by_all(here, here.stand_ins, asked, groups)
        command = make_command(Escalate, asked)
        if not here.authority.why(command).granted:
            fault = here.authority.submit(command).message
            continue
        return here.authority.submit(command).message
    return fault


def _approved_by_all(
    here: Session, stand_ins: StandIns, asked: Mapping[str, Any], groups: Iterable[str]
) -> dict[str, Any]:
    request = here.authority.prepare(
        asked["principal"], asked["to"], trigger=asked["trigger"], reason=asked["reason"]
    )
    now = here.authority.now()
    names = dict.fromkeys(name for group in groups for name in stand_ins.named(group))
    approvals = tuple(stand_ins.approve(request, name, now) for name in names)
    return {"request": request, "approvals": approvals}


def _open_session() -> Session:
    constitution = Path(os.environ.get("VMSTATE_CONSTITUTION", "constitution.toml"))
    ledger = Path(os.environ.get("VMSTATE_LEDGER", "vmstate.db"))
    mode = os.environ.get("DRILL_MODE", "")
    if mode not in {"", "0", "1"}:
        # Whoever set it to `true` means a drill, and must not find out in the live ledger.
        raise InputError(
            f"DRILL_MODE is {mode!r}: set it to 1 for a drill, to 0 or not at all else"
        )
    if mode == "1":
        return _open_drill(constitution, ledger)
    principal = os.environ.get("VMSTATE_PRINCIPAL")
    if path := os.environ.get("VMSTATE_SOCKET"):
        return _open_at(path, principal)
    if principal is None:
        raise InputError("VMSTATE_PRINCIPAL is not set: say who asks, or set DRILL_MODE=1")
    authority = Authority.open(constitution, ledger)
    if authority.ledger.drill is not None:
        authority.close()
        raise LedgerMismatch(f"{ledger} is a drill's ledger: set DRILL_MODE=1 for a drill")
    return _begin(authority, principal, None)


def _open_at(path: str, principal: str | None) -> Session:
    """One principal at a socket: the one named, or the only one that this account may be."""
    token = os.environ.get("VMSTATE_TOKEN_FILE")
    client = Client(path, token=load_token(Path(token)) if token else None)
    if principal is None and len(client.names) == 1:
        principal = client.names[0]
    if principal is None:
        names = " or ".join(client.names) or "nobody"
        client.close()
        raise InputError(f"VMSTATE_PRINCIPAL is not set: say who asks, at {path} it may be {names}")
    return Session(client, None, principal, None)


def _open_drill(constitution: Path, ledger: Path) -> Session:
    """A new ledger for this process's drill; one of an earlier drill is kept beside it."""
    path = _claim_name(ledger)
    law = _drill_law(constitution)
    table = law.document.drill
    if table is None:
        raise InputError(f"{constitution} has no [drill] table: add one to run drills")
    _put_aside(path)
    origin = f"{law.name}/drill/{new_nonce()[:8]}"
    stand_ins = StandIns(law, origin=origin, digest=f"sha256:{new_nonce()}{new_nonce()}")
    now = SystemClock().read().wall
    marker = f"{table.marker}{now:%Y-%m-%d}"
    mark = stand_ins.mark(origin.rsplit("/", 1)[1], marker)
    authority = Authority.create(law, path, origin=origin, drill=mark)
    authority.drill_mode(on=True, set_by="DRILL_MODE=1")
    return _begin(authority, table.principal, stand_ins)


def _claim_name(ledger: Path) -> Path:
    """The first name beside `ledger` that no other process's drill is using.

    The name is held by a lock on a file of its own for as long as this process lives.
    """
    for number in range(1, DRILLS_AT_ONCE + 1):
        middle = "drill" if number == 1 else f"drill-{number}"
        path = ledger.with_name(f"{ledger.stem}.{middle}.db")
        handle = os.open(path.with_name(f"{path.name}.lock"), os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(handle)
            continue
        _held_names.append(handle)
        return path
    raise InputError(f"{DRILLS_AT_ONCE} drills are using {ledger.parent} already: end one of them")


def _drill_law(path: Path) -> Constitution:
    """The constitution at hand, or where there is none the packaged one."""
    if path.exists():
        return load_constitution(path)
    preset = files("vmstate.constitution") / "presets" / "vaultmesh.toml"
    return read_constitution(preset.read_bytes(), name="vaultmesh.toml")


def _put_aside(path: Path) -> None:
    """Rename an earlier drill's ledger; anything else by that name is left alone."""
    if not path.exists():
        return
    try:
        earlier = Ledger.open(path)
    except LedgerNotFound:
        return
    is_drill = earlier.drill is not None
    earlier.close()
    if not is_drill:
        raise LedgerMismatch(f"{path} is a live ledger: a drill does not touch it")
    number = 1
    while (aside := path.with_name(f"{path.stem}.{number}.db")).exists():
        number += 1
    for suffix in ("", ".key", "-wal", "-shm"):
        part = path.with_name(path.name + suffix)
        if part.exists():
            part.rename(aside.with_name(aside.name + suffix))


def _begin(authority: Authority, principal: str, stand_ins: StandIns | None) -> Session:
    expiry = Expiry(authority)
    expiry.start()
    return Session(authority, expiry, principal, stand_ins)

"""Authority for the length of a block, and functions that need it.

    with vm.elevated("guardian", as_="alice", reason="ticket 4711: restore") as lease:
        for row in rows:
            lease.check()  # raises LeaseEnded once it is over
            restore(row)

    @requires("guardian")
    def restore(row): ...

A block takes a lease when it is entered and gives it back when it is left, and no other: what was
held before is held afterwards. If the profile is held already the block runs under what is held.
Blocks of one process that run under one lease, in threads or tasks, share it, and the last one to
be left gives it back; so no block ends the lease of another.

What is carried along is who asks and which lease that is, never an answer: authority is read each
time it matters. A generator has no context of its own: one that yields inside a block lends the
block to whoever iterates it, until it goes on or is closed. Keep blocks around the loop, not in it.
"""

import inspect
import logging
import os
import threading
from collections.abc import Callable
from contextlib import suppress
from contextvars import ContextVar
from datetime import datetime, timedelta
from functools import partial, wraps
from types import TracebackType
from typing import Any, ParamSpec, Protocol, Self, TypeVar
from weakref import WeakValueDictionary

from vmstate.constitution.law import Constitution
from vmstate.decisions.command import Escalate, Release, make_command
from vmstate.decisions.route import Explanation
from vmstate.errors import Denied, InputError, LeaseEnded, LedgerError, UnknownPrincipal
from vmstate.leases.lease import Lease
from vmstate.leases.standing import Standing
from vmstate.ledger.receipt import Receipt

log = logging.getLogger("vmstate")

DEFAULT_TRIGGER = "operator_request"
_P = ParamSpec("_P")
_Result = TypeVar("_Result")
_current: ContextVar["Elevation | None"] = ContextVar("vmstate_elevation", default=None)


class Doorway(Protocol):
    """What is needed of a door."""

    @property
    def constitution(self) -> Constitution: ...
    @property
    def origin(self) -> str: ...
    @property
    def is_drill(self) -> bool: ...
    def submit(self, command: Any) -> Receipt: ...
    def standing(self, principal: str) -> Standing: ...
    def lease(self, lease: str) -> Lease | None: ...
    def may(self, principal: str, what: str) -> bool: ...
    def why(self, command: Any) -> Explanation: ...


class _Seat:
    """What the blocks of this process run under, for one principal at one ledger.

    `blocks` counts, for each lease that a block took, the blocks that run under it or above it.
    """

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.blocks: dict[str, int] = {}


_seats: WeakValueDictionary[tuple[str, str], _Seat] = WeakValueDictionary()
_seats_lock = threading.Lock()


def _seat(origin: str, principal: str) -> _Seat:
    with _seats_lock:
        seat = _seats.get((origin, principal))
        if seat is None:
            seat = _seats[origin, principal] = _Seat()
        return seat


def current() -> "Elevation | None":
    """The innermost block that runs here: in this task, or in this thread."""
    return _current.get()


class Elevation:
    """A block that runs under a profile; `Door.elevated` makes it, and it is entered once."""

    def __init__(self, door: Doorway, command: Escalate) -> None:
        self.door = door
        self.principal = command.principal
        self.profile = command.to
        self.receipt: Receipt | None = None
        self._command = command
        self._outer: Elevation | None = None
        self._lease: Lease | None = None
        self._counted: tuple[str, ...] = ()
        self._seat: _Seat | None = None
        self._pid = os.getpid()

    @property
    def lease(self) -> Lease:
        """The lease it runs under, as it was when the block was entered."""
        if self._lease is None:
            raise RuntimeError("the block has not been entered: with vm.elevated(...) as lease")
        return self._lease

    @property
    def id(self) -> str:
        """The lease's id."""
        return self.lease.id

    @property
    def seq(self) -> int:
        """The number of the receipt that granted it: the fencing token for whoever acts on it."""
        return self.lease.seq

    @property
    def expires_at(self) -> datetime:
        """When the lease ends at the latest, unless it is renewed."""
        return self.lease.expires_at

    def left(self) -> timedelta:
        """How long the lease still lasts if nothing is done under it; none once it is over."""
        with suppress(UnknownPrincipal):
            standing = self.door.standing(self.principal)
            for lease in standing.leases:
                if lease.seq == self.seq:
                    return max(standing.left(lease), timedelta())
        return timedelta()

    def check(self) -> None:
        """Go on if the lease still stands.

        Raises:
            LeaseEnded: it is over, however it ended.
        """
        if self.seq not in (one.seq for one in self._leases()):
            raise LeaseEnded(
                f"{self.id} is over: {self.principal} no longer holds {self.profile} by it; "
                "enter the block again"
            )

    # ---- as a block -------------------------------------------------------------------------

    def __enter__(self) -> Self:
        self._enter()
        self._outer = _current.get()
        _current.set(self)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        raised: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        _current.set(self._outer)
        self._leave(raised)

    async def __aenter__(self) -> Self:
        import asyncio  # noqa: PLC0415 -- who never awaits pays nothing for it

        try:
            await _in_thread(self._enter)
        except asyncio.CancelledError as error:
            # Cancelled while it was being granted: nobody will enter the block.
            await _in_thread(partial(self._leave, error))
            raise
        self._outer = _current.get()
        _current.set(self)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        raised: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        _current.set(self._outer)
        await _in_thread(partial(self._leave, raised))

    def _enter(self) -> None:
        if self._lease is not None:
            raise RuntimeError("a block is entered once: call vm.elevated(...) again")
        seat = _seat(self.door.origin, self.principal)
        with seat.lock:
            lease = self._held()
            if lease is None:
                self.receipt = self.door.submit(self._command).raise_for_denial()
                lease = next((one for one in self._leases() if one.seq == self.receipt.seq), None)
                if lease is None:
                    raise LeaseEnded(f"{self.receipt.lease} was over before the block began")
                seat.blocks[lease.id] = 0
            below = (one.id for one in self._leases() if one.seq <= lease.seq)
            self._counted = tuple(name for name in below if name in seat.blocks)
            for name in self._counted:
                seat.blocks[name] += 1
            self._seat, self._lease = seat, lease

    def _leave(self, raised: BaseException | None) -> None:
        if self._seat is None or self._pid != os.getpid():
            return  # in a forked child the lease is its parent's
        why = (
            "the block was left" if raised is None else f"the block raised {type(raised).__name__}"
        )
        with self._seat.lock:
            ours = []
            for name in self._counted:
                self._seat.blocks[name] -= 1
                if self._seat.blocks[name] == 0:
                    del self._seat.blocks[name]
                    ours.append(name)
            try:
                # What has ended by itself is no error, and asking for its end would be refused.
                for lease in reversed(self._leases()):
                    if lease.id in ours:
                        fields = {"principal": self.principal, "lease": lease.id, "reason": why}
                        self.door.submit(make_command(Release, fields))
            except LedgerError:
                # The lease ends at its deadline. What the block raised says more than this does.
                log.warning("%s could not be given back, it lasts until its end", ours)
                if raised is None:
                    raise

    # ---- looking ----------------------------------------------------------------------------

    def _held(self) -> Lease | None:
        """The lowest lease that gives the profile already."""
        law = self.door.constitution
        profiles = law.document.profiles
        if self.profile == law.baseline:
            raise InputError(f"{self.profile} is what everybody is: it needs no lease")
        if self.profile not in profiles:
            return None  # asking says so, on the record
        found = (one for one in self._leases() if law.includes(one.profile, self.profile))
        return next(found, None)

    def _leases(self) -> tuple[Lease, ...]:
        with suppress(UnknownPrincipal):
            return self.door.standing(self.principal).leases
        return ()


class Elevates(Doorway, Protocol):
    """What every door has of this module."""

    def stands(self, lease: str) -> bool:
        """Whether the lease with this id, its fencing token, still stands.

        For whoever acts on somebody's word that they hold it: they may have slept since.
        """
        held = self.lease(lease)
        if held is None or held.ended is not None:
            return False
        with suppress(UnknownPrincipal):
            return held.seq in (one.seq for one in self.standing(held.principal).leases)
        return False

    def elevated(
        self,
        to: str,
        *,
        as_: str | None = None,
        trigger: str = DEFAULT_TRIGGER,
        **fields: Any,
    ) -> Elevation:
        """A block that runs under the profile `to`: `with vm.elevated("guardian", …) as lease`.

        `as_` is whose authority it is, by default that of the block around it; `fields` are those
        of `escalate`. Works with `async with` too. Entering it asks, and raises Denied with the
        receipt where that is refused; leaving it gives back what it took, and nothing else. What
        is held already is not taken again. Not for the body of a generator, which would lend the
        block to its caller. See `vmstate.elevation`.
        """
        block = current()
        if as_ is None and block is None:
            raise InputError("nobody is named who asks: say as_=, or stand in another's block")
        asked = {"principal": as_ or (block.principal if block else ""), "to": to}
        return Elevation(self, make_command(Escalate, {**asked, "trigger": trigger, **fields}))


def requires(
    profile: str,
    *,
    vm: Doorway | None = None,
    principal: str | None = None,
    in_drill: bool = False,
) -> Callable[[Callable[_P, _Result]], Callable[_P, _Result]]:
    """Let a function be called by whoever holds `profile` at that moment, and by nobody else.

    Whose authority that is, and at which door, is the enclosing `elevated` block's where it is not
    said; inside a block, the block's own lease has to stand too. A new thread is in no block. A
    drill's authority counts for functions alone that are declared `in_drill` (law 14).

    The function raises Denied, with the way up; nothing is written. Coroutine functions are asked
    for when they are awaited; what yields can't be guarded, because it runs after it was called.
    """

    def guarded(function: Callable[_P, _Result]) -> Callable[_P, _Result]:
        name = function.__qualname__
        if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            raise TypeError(
                f"{name} yields, and would run on after it was allowed: guard its parts"
            )

        def check() -> None:
            _require(name, profile, vm, principal, in_drill=in_drill)

        if inspect.iscoroutinefunction(function):
            import asyncio  # noqa: PLC0415 -- who never awaits pays nothing for it

            @wraps(function)
            async def later(*args: _P.args, **kwargs: _P.kwargs) -> Any:
                await asyncio.to_thread(check)
                return await function(*args, **kwargs)

            return later  # type: ignore[return-value] # a coroutine function still

        @wraps(function)
        def now(*args: _P.args, **kwargs: _P.kwargs) -> _Result:
            check()
            return function(*args, **kwargs)

        return now

    return guarded


def _require(
    name: str, profile: str, vm: Doorway | None, principal: str | None, *, in_drill: bool
) -> None:
    """Raise Denied unless the profile is held."""
    block = _current.get()
    if block is not None and (vm or block.door).origin == block.door.origin:
        if principal in {None, block.principal}:
            block.check()
            principal = block.principal
        vm = vm or block.door
    if vm is None or principal is None:
        raise Denied(
            f"{name} requires {profile}, and nobody is known to ask: call it in a block of "
            "vm.elevated(...), or say vm= and principal="
        )
    if vm.is_drill and not in_drill:
        raise Denied(
            f"{name} is real and {vm.origin} is a drill's ledger: call it at a live one, or "
            "declare it with in_drill=True"
        )
    if not vm.may(principal, profile):
        raise Denied(f"{name} requires {profile}, {_way_up(vm, principal, profile)}")


def _way_up(vm: Doorway, principal: str, profile: str) -> str:
    """Where `principal` stands, and the shortest lawful way to `profile`."""
    asked = {"principal": principal, "to": profile, "trigger": DEFAULT_TRIGGER}
    found = vm.why(make_command(Escalate, asked))
    ways = ", then ".join(f"{rung.to_profile} on {rung.trigger}" for rung in found.route)
    remedy = f"climb first: {ways}" if ways else f"ask somebody who may be {profile}"
    return f"{principal} is {found.held}: {remedy}"


async def _in_thread(work: Callable[[], _Result]) -> _Result:
    """Do blocking work in a thread, to its end even if the task is cancelled meanwhile."""
    import asyncio  # noqa: PLC0415 -- who never awaits pays nothing for it

    task = asyncio.ensure_future(asyncio.to_thread(work))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        with suppress(Exception):
            await asyncio.wait((task,))
            task.result()
        raise

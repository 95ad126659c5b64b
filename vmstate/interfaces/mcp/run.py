"""Puts a gate or a server together, runs it, and leaves nothing uncounted behind."""

import os
import signal
import threading
from collections.abc import Callable
from contextlib import suppress

import anyio
import anyio.to_thread
from mcp.server.lowlevel import NotificationOptions

from vmstate.client import Client
from vmstate.door import Door
from vmstate.errors import LedgerError, VmstateError
from vmstate.interfaces.mcp.front import caller_by_token, read_address, serve_http, serve_stdio
from vmstate.interfaces.mcp.gate import FLUSH_EVERY, Gate
from vmstate.interfaces.mcp.server import AuthorityServer
from vmstate.interfaces.mcp.shown import Shown
from vmstate.interfaces.mcp.upstream import Address, Child, connect
from vmstate.interfaces.mcp.warden import Warden
from vmstate.session import Session

LEAVE_SECONDS = 15.0  # for all that ends by itself; the server behind alone may take 6
ITSELF = "vmstate"  # the server that counts of what is asked of authority itself are under


def run_gate(
    door: Door,
    server: str,
    target: Child | Address,
    *,
    principal: str | None,
    listen: str | None,
) -> None:
    """Run until the agent leaves, or until SIGTERM; what was counted is written at the end.

    With `listen` the callers are known by their tokens, else there is one, `principal`.
    """
    if listen is not None:
        read_address(listen)
    warden, over = _warden(door, server, listen), threading.Event()
    try:
        anyio.run(_run_gate, door, warden, target, principal, listen, over)
    except BaseExceptionGroup as group:
        raise _reason(group) from group
    finally:
        over.set()
        _close(warden)


def _warden(door: Door, server: str, listen: str | None) -> Warden:
    """Callers over HTTP are known by their tokens, which a socket has to be shown."""
    if listen is None:
        return Warden(door, server)
    return Warden(
        door, server, by_token=True, shown=Shown(door.path) if isinstance(door, Client) else None
    )


def _close(warden: Warden) -> None:
    """Leave nothing uncounted behind."""
    try:
        warden.flush(everything=True)
    finally:
        if warden.shown is not None:
            warden.shown.close()


def _reason(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """What went wrong, of all that ended because something did."""
    ours = group.subgroup(VmstateError) or group
    first: BaseException = ours
    while isinstance(first, BaseExceptionGroup):
        first = first.exceptions[0]
    return first


async def _run_gate(
    door: Door,
    warden: Warden,
    target: Child | Address,
    principal: str | None,
    listen: str | None,
    over: threading.Event,
) -> None:
    gates: list[Gate] = []

    async def changed(kind: str) -> None:
        for gate in gates:
            await gate.upstream_changed(kind)

    def who() -> str:
        return caller_by_token() if principal is None or listen is not None else principal

    async with connect(target, changed) as upstream, anyio.create_task_group() as group:
        gate = Gate(door, warden, upstream, who)
        gates.append(gate)
        group.start_soon(gate.watch)
        group.start_soon(_stop_on_signal, group.cancel_scope, warden, over)
        if listen is None:
            await serve_stdio(gate.server(), gate.options())
        else:
            await serve_http(gate.server(), warden, listen)
        group.cancel_scope.cancel()


async def _flush(warden: Warden) -> None:
    while True:
        await anyio.sleep(FLUSH_EVERY)
        with suppress(LedgerError):  # what could not be written is counted on
            await anyio.to_thread.run_sync(warden.flush)


async def _stop_on_signal(scope: anyio.CancelScope, warden: Warden, over: threading.Event) -> None:
    with anyio.open_signal_receiver(signal.SIGTERM) as signals:
        async for _ in signals:
            threading.Thread(target=_leave, args=(warden, over), daemon=True).start()
            scope.cancel()
            return


def _leave(warden: Warden, over: threading.Event) -> None:
    """End although a thread is held up, as one is that writes to a terminal nobody reads."""
    if over.wait(LEAVE_SECONDS):
        return
    try:
        _close(warden)
    finally:
        os._exit(0)


def run_server(
    door: Door,
    session_of: Callable[[str, Door], Session],
    *,
    principal: str | None,
    listen: str | None,
) -> None:
    """Serve authority itself; see `run_gate`."""
    if listen is not None:
        read_address(listen)
    who = caller_by_token if principal is None or listen is not None else lambda: principal
    warden = _warden(door, ITSELF, listen)
    made, over = AuthorityServer(warden, who, session_of), threading.Event()
    try:
        anyio.run(_run_server, made, listen, over)
    except BaseExceptionGroup as group:
        raise _reason(group) from group
    finally:
        over.set()
        _close(warden)


async def _run_server(made: AuthorityServer, listen: str | None, over: threading.Event) -> None:
    async with anyio.create_task_group() as group:
        group.start_soon(_stop_on_signal, group.cancel_scope, made.warden, over)
        group.start_soon(_flush, made.warden)
        if listen is None:
            await serve_stdio(made.server(), NotificationOptions())
        else:
            await serve_http(made.server(), made.warden, listen)
        group.cancel_scope.cancel()

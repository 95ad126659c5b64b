"""Puts a gate or a server together, runs it, and leaves nothing uncounted behind."""

import signal
from collections.abc import Callable
from contextlib import suppress

import anyio
import anyio.to_thread
from mcp.server.lowlevel import NotificationOptions

from vmstate.decisions.fields import Proven
from vmstate.door import Door
from vmstate.errors import LedgerError, VmstateError
from vmstate.interfaces.mcp.front import caller_by_token, read_address, serve_http, serve_stdio
from vmstate.interfaces.mcp.gate import FLUSH_EVERY, Gate
from vmstate.interfaces.mcp.server import AuthorityServer
from vmstate.interfaces.mcp.upstream import Address, Child, connect
from vmstate.interfaces.mcp.warden import Warden
from vmstate.session import Session

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
    warden = Warden(door, server, "host" if listen is None else "token")
    try:
        anyio.run(_run_gate, door, warden, target, principal, listen)
    except BaseExceptionGroup as group:
        raise _reason(group) from group
    finally:
        warden.flush(everything=True)


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
        group.start_soon(_stop_on_signal, group.cancel_scope)
        if listen is None:
            await serve_stdio(gate.server(), gate.options())
        else:
            await serve_http(gate.server(), door, listen, warden.judge_stranger)
        group.cancel_scope.cancel()


async def _flush(warden: Warden) -> None:
    while True:
        await anyio.sleep(FLUSH_EVERY)
        with suppress(LedgerError):  # what could not be written is counted on
            await anyio.to_thread.run_sync(warden.flush)


async def _stop_on_signal(scope: anyio.CancelScope) -> None:
    with anyio.open_signal_receiver(signal.SIGTERM) as signals:
        async for _ in signals:
            scope.cancel()
            return


def run_server(
    door: Door,
    session_of: Callable[[str], Session],
    *,
    principal: str | None,
    listen: str | None,
) -> None:
    """Serve authority itself; see `run_gate`."""
    if listen is not None:
        read_address(listen)
    proven: Proven = "host" if listen is None else "token"
    who = caller_by_token if principal is None or listen is not None else lambda: principal
    warden = Warden(door, ITSELF, proven)
    made = AuthorityServer(warden, who, session_of)
    try:
        anyio.run(_run_server, door, made, listen)
    except BaseExceptionGroup as group:
        raise _reason(group) from group
    finally:
        warden.flush(everything=True)


async def _run_server(door: Door, made: AuthorityServer, listen: str | None) -> None:
    async with anyio.create_task_group() as group:
        group.start_soon(_stop_on_signal, group.cancel_scope)
        group.start_soon(_flush, made.warden)
        if listen is None:
            await serve_stdio(made.server(), NotificationOptions())
        else:
            await serve_http(made.server(), door, listen, made.warden.judge_stranger)
        group.cancel_scope.cancel()

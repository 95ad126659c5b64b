"""Where agents connect: standard input and output, or HTTP with a bearer token for each of them.

Over stdio the command line says who calls. Over HTTP the token does: `[principals.<name>]` holds
its digest, so the constitution names who may come in and holds no secret. A token for nobody is
answered 401 before anything of the protocol is read.
"""

import socket
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

import anyio
import anyio.to_thread
import click
import uvicorn
from mcp.server.auth.middleware.auth_context import get_access_token
from mcp.server.auth.provider import AccessToken
from mcp.server.auth.settings import AuthSettings
from mcp.server.lowlevel import NotificationOptions, Server
from mcp.shared.message import SessionMessage
from pydantic import AnyHttpUrl

from vmstate.errors import InputError, LedgerError
from vmstate.interfaces.mcp.pipe import (
    MESSAGE_BYTES,
    messages_alone,
    read_messages,
    write_messages,
)
from vmstate.interfaces.mcp.warden import Warden
from vmstate.keys import token_digest

STOP_SECONDS = 5  # in which connections may end by themselves when a server is told to stop


def caller_by_token() -> str:
    """Whose token came with the request under way."""
    token = get_access_token()
    if token is None or token.subject is None:
        raise RuntimeError("a request came in without a token")
    return token.subject


class Tokens:
    """Bearer tokens, known by their digests; `warden` is told of each that is nobody's."""

    def __init__(self, warden: Warden) -> None:
        self._warden = warden
        self._door = warden.door

    async def verify_token(self, token: str) -> AccessToken | None:
        """Who presents `token`; None for nobody. It is compared as its digest."""
        digest = token_digest(token)
        name, shown = self._names().get(digest), self._warden.shown
        # What was shown at a socket the service looks up itself, at each question.
        if name is None or shown is None or not shown.has(name, digest):
            name = await anyio.to_thread.run_sync(self._meet, digest, token)
        if name is None:
            return None
        return AccessToken(token=digest, client_id=name, subject=name, scopes=[])

    def _meet(self, digest: str, token: str) -> str | None:
        """Who this is, by the law as it is now: another process may have amended it."""
        self._door.locks()  # asking is what finds that
        name, shown = self._names().get(digest), self._warden.shown
        if name is None:
            with suppress(LedgerError):  # nobody comes in, whether or not it can be said why
                self._warden.judge_stranger()
        elif shown is not None:
            shown.take(name, digest, token)
        return name

    def _names(self) -> Mapping[str, str]:
        principals = self._door.constitution.document.principals
        return {one.token: name for name, one in principals.items() if one.token is not None}


async def serve_stdio(server: Server[Any], options: NotificationOptions) -> None:
    """Serve one agent until its end of the pipe is closed."""
    put, incoming = anyio.create_memory_object_stream[SessionMessage | Exception](0)
    outgoing, said = anyio.create_memory_object_stream[SessionMessage](0)
    with messages_alone() as output:
        async with anyio.create_task_group() as group:
            group.start_soon(read_messages, sys.stdin.fileno(), put, outgoing.clone())
            group.start_soon(write_messages, output, said)
            await server.run(incoming, outgoing, server.create_initialization_options(options))
            # What was said last is still to be written, if anybody reads it.
            group.cancel_scope.deadline = anyio.current_time() + STOP_SECONDS


async def serve_http(server: Server[Any], warden: Warden, listen: str) -> None:
    """Serve agents at `listen` (`HOST:PORT`) under `/mcp`, until cancelled.

    Raises:
        InputError: no address, no tokens, or an address that can't be listened at.
    """
    host, port = read_address(listen)
    if not any(one.token for one in warden.door.constitution.document.principals.values()):
        remedy = 'put token = "sha256:…", the digest of one, under [principals]'
        raise InputError(f"nobody has a token: {remedy}")
    try:
        listening = socket.create_server((host, port), family=_family(host), reuse_port=False)
    except OSError as error:
        raise InputError(f"{listen} can't be listened at: {error.strerror}") from error
    bound = listening.getsockname()[1]
    shown = f"[{host}]:{bound}" if ":" in host else f"{host}:{bound}"
    app = server.streamable_http_app(
        host=host,
        max_request_body_size=MESSAGE_BYTES,
        auth=AuthSettings(issuer_url=AnyHttpUrl(f"http://{shown}"), resource_server_url=None),
        token_verifier=Tokens(warden),
    )
    config = uvicorn.Config(
        app, log_level="critical", access_log=False, timeout_graceful_shutdown=STOP_SECONDS
    )
    click.echo(f"listening at http://{shown}/mcp; SIGTERM or Ctrl-C stops", err=True)
    with listening:
        await _Quiet(config).serve(sockets=[listening])


class _Quiet(uvicorn.Server):
    """A server that leaves signals to us: it would end the process before counts are written."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def read_address(listen: str) -> tuple[str, int]:
    """`HOST:PORT`, of which the host may be left out; raises InputError."""
    host, _, port = listen.rpartition(":")
    if not port.isascii() or not port.isdigit() or int(port) > 65_535:  # noqa: PLR2004 -- ports end there
        raise InputError(f"{listen!r} is no address to listen at, write '127.0.0.1:8765'")
    return host.strip("[]") or "127.0.0.1", int(port)

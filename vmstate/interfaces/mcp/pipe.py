"""Standard input as a gate or a server reads it: what waits there holds nobody up.

The SDK reads it in a thread that can't be called off: told to stop, a gate would go on until its
agent closes the pipe. Ours is left behind with the process. And what the SDK can't read it drops
without a word, so that an agent waits for ever: here each such line has its answer.
"""

import json
import os
import sys
import threading
from collections.abc import AsyncIterator
from concurrent.futures import CancelledError
from contextlib import suppress
from typing import Any

import anyio
import anyio.from_thread
import anyio.lowlevel
import mcp_types as types
from anyio.streams.memory import MemoryObjectSendStream
from mcp.shared.message import SessionMessage
from pydantic import ValidationError

CHUNK_BYTES = 65_536
NO_JSON = "what came is no JSON that can be read"
NO_MESSAGE = "what came is no message that can be read"


class Lines:
    """The lines of standard input that are messages; of the others `answers` holds the errors.

    An error names the request it is about where that can be told, and nothing of what it said.
    """

    def __init__(self) -> None:
        self._put, self.answers = anyio.create_memory_object_stream[SessionMessage](0)
        self._lines = self._read()

    def __aiter__(self) -> AsyncIterator[str]:
        return self._lines

    async def _read(self) -> AsyncIterator[str]:
        send, chunks = anyio.create_memory_object_stream[bytes](0)
        token = anyio.lowlevel.current_token()
        work = (sys.stdin.fileno(), send, token)
        threading.Thread(target=_pump, args=work, name="standard input", daemon=True).start()
        rest = b""
        async with chunks, self._put:
            async for chunk in chunks:
                *whole, rest = (rest + chunk).split(b"\n")
                for raw in whole:
                    line = raw.decode(errors="replace")
                    if (error := _fault(line)) is None:
                        yield line
                    else:
                        await self._put.send(SessionMessage(error))


def _pump(fd: int, send: MemoryObjectSendStream[bytes], token: Any) -> None:
    """Hand on what comes, until nothing does or nobody takes it."""
    gone = (anyio.BrokenResourceError, anyio.ClosedResourceError, RuntimeError, CancelledError)
    with suppress(OSError, *gone):
        while chunk := os.read(fd, CHUNK_BYTES):
            anyio.from_thread.run(send.send, chunk, token=token)
    with suppress(*gone):
        anyio.from_thread.run(send.aclose, token=token)


def _fault(line: str) -> types.JSONRPCError | None:
    """The answer to what is no message; None to what is one, or nothing at all."""
    if not line.strip():
        return None
    try:
        types.jsonrpc_message_adapter.validate_json(line, by_name=False)
    except ValidationError:
        pass
    else:
        return None
    try:
        asked = json.loads(line)
    except (ValueError, RecursionError):
        error = types.ErrorData(code=types.PARSE_ERROR, message=NO_JSON)
        return types.JSONRPCError(jsonrpc="2.0", id=None, error=error)
    error = types.ErrorData(code=types.INVALID_REQUEST, message=NO_MESSAGE)
    return types.JSONRPCError(jsonrpc="2.0", id=_id_of(asked), error=error)


def _id_of(asked: object) -> int | str | None:
    """Whose answer it is; that of an answer names nothing of ours."""
    if not isinstance(asked, dict) or "method" not in asked:
        return None
    named = asked.get("id")
    if isinstance(named, str) and named.isprintable():
        return named
    return named if isinstance(named, int) and not isinstance(named, bool) else None

"""Standard input and output as a gate or a server uses them: what waits there holds nobody up.

The SDK reads and writes them in threads, which takes longer and can't be called off: told to stop,
a gate would go on until its agent closes or empties the pipe. Here it is asked first whether there
is something to read, or room to write to. And what the SDK can't read it drops without a word, so
that an agent waits for ever: here each such line has its answer.
"""

import json
import os
import select
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import anyio
import anyio.to_thread
import mcp_types as types
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
from mcp.shared.message import SessionMessage
from pydantic import ValidationError

CHUNK_BYTES = 65_536
ROOM_BYTES = select.PIPE_BUF  # that a pipe takes without waiting where it has room at all
NO_JSON = "what came is no JSON that can be read"
NO_MESSAGE = "what came is no message that can be read"

Put = MemoryObjectSendStream[SessionMessage]
PutAny = MemoryObjectSendStream[SessionMessage | Exception]
_GONE = (anyio.BrokenResourceError, anyio.ClosedResourceError)


@contextmanager
def messages_alone() -> Iterator[int]:
    """Standard output, for messages only: what else is said there goes to standard error."""
    fd = os.dup(1)
    with suppress(OSError):  # which may be closed
        os.dup2(2, 1)
    try:
        yield fd
    finally:
        os.dup2(fd, 1)
        os.close(fd)


async def read_messages(fd: int, put: PutAny, answers: Put) -> None:
    """Hand on the messages that come, until nothing does; what is none is answered.

    The answer names the request it is about where that can be told, and nothing of what it said.
    """
    rest = b""
    with suppress(*_GONE):
        async with put, answers:
            while chunk := await _read(fd):
                *whole, rest = (rest + chunk).split(b"\n")
                for line in (raw.decode(errors="replace") for raw in whole):
                    if not line.strip():
                        continue
                    try:
                        said = types.jsonrpc_message_adapter.validate_json(line, by_name=False)
                    except ValidationError:
                        await answers.send(SessionMessage(_fault(line)))
                    else:
                        await put.send(SessionMessage(said))


async def write_messages(fd: int, said: MemoryObjectReceiveStream[SessionMessage]) -> None:
    """Write what is said, a line each, until nothing more is.

    Raises:
        BrokenPipeError: nobody reads it any more.
    """
    mode = os.fstat(fd).st_mode
    can_wait = stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)
    async with said:
        async for one in said:
            line = one.message.model_dump_json(by_alias=True, exclude_unset=True)
            data = memoryview(f"{line}\n".encode())
            if can_wait:
                await _write(fd, data)
            else:  # a terminal or a file, of which nobody can tell when they have room
                await anyio.to_thread.run_sync(_write_all, fd, data)


async def _read(fd: int) -> bytes:
    with suppress(PermissionError):  # a file, which never makes anybody wait
        await anyio.wait_readable(fd)
    try:
        return os.read(fd, CHUNK_BYTES)
    except OSError:  # as that of a terminal that is gone
        return b""


async def _write(fd: int, data: memoryview) -> None:
    poll = select.poll()
    poll.register(fd, select.POLLOUT)
    while data:
        if not poll.poll(0):
            await anyio.wait_writable(fd)
        data = data[os.write(fd, data[:ROOM_BYTES]) :]


def _write_all(fd: int, data: memoryview) -> None:
    while data:
        data = data[os.write(fd, data) :]


def _fault(line: str) -> types.JSONRPCError:
    """The answer to what is no message."""
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

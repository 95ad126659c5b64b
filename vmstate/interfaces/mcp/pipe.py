"""Standard input and output as a gate or a server uses them: what waits there holds nobody up.

The SDK reads and writes them in threads, which takes longer and can't be called off: told to stop,
a gate would go on until its agent closes or empties the pipe. Here it is asked first whether there
is something to read, or room to write to. And what the SDK can't read it drops without a word, so
that an agent waits for ever: here each such line has its answer. Nothing is kept without bound: of
a line that is too long only its ends, and who takes no answers is heard no further.
"""

import json
import os
import re
import select
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

import anyio
import anyio.to_thread
import mcp_types as types
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
from mcp.shared.message import SessionMessage
from pydantic import ValidationError

from vmstate.errors import InputError

CHUNK_BYTES = 65_536
MESSAGE_BYTES = 4_194_304  # of one message; the arguments of a call are a quarter of that at most
ENDS_BYTES = 256  # of each end of a line that is longer, in which its id is looked for
UNTAKEN = 1_000  # answers that wait to be written; with more, nothing else is read until then
LOOK_AGAIN = 0.02  # seconds
ROOM_BYTES = select.PIPE_BUF  # that a pipe takes without waiting where it has room at all
NO_JSON = "what came is no JSON that can be read"
NO_MESSAGE = "what came is no message that can be read"
TOO_LONG = f"what came is a message of more than {MESSAGE_BYTES:,} bytes"

# A request as clients write it, with a number of theirs before all else or after it. An answer of
# theirs has a number of ours.
_ID_FIRST = re.compile(r'\{"jsonrpc": ?"2.0", ?"id": ?([0-9]{1,15}), ?"method": ?"')
_ID_LAST = re.compile(r'\{"method": ?".*,"id": ?([0-9]{1,15})\}\s*', re.DOTALL)

Put = MemoryObjectSendStream[SessionMessage]
PutAny = MemoryObjectSendStream[SessionMessage | Exception]
_GONE = (anyio.BrokenResourceError, anyio.ClosedResourceError)


@contextmanager
def messages_alone() -> Iterator[int]:
    """Standard output, for messages only: what else is said there goes to standard error.

    Raises:
        InputError: it is closed, or standard input is; their numbers may be those of other files.
    """
    for stream, name in ((sys.stdin, "input"), (sys.stdout, "output")):
        if stream is None:
            raise InputError(f"standard {name} is closed: over stdio an agent has to be there")
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
    lines = _Lines()
    with suppress(*_GONE):
        async with put, answers:
            while chunk := await _read(fd):
                for line in lines.of(chunk):
                    await _hand_on(line, put, answers)
                while answers.statistics().tasks_waiting_send > UNTAKEN:  # noqa: ASYNC110 -- no event of it
                    await anyio.sleep(LOOK_AGAIN)
            await _hand_on(lines.end(), put, answers)  # which may lack its line break


async def _hand_on(line: "_Line", put: PutAny, answers: Put) -> None:
    text = line.kept.decode(errors="replace")
    if line.size > MESSAGE_BYTES:
        await answers.send(SessionMessage(_fault_of_long(text)))
    elif text.strip():
        try:
            said = types.jsonrpc_message_adapter.validate_json(text, by_name=False)
        except ValidationError:
            await answers.send(SessionMessage(_fault(text)))
        else:
            await put.send(SessionMessage(said))


@dataclass(frozen=True, slots=True)
class _Line:
    """What came up to a line break: all of it, or of one that is too long its two ends."""

    kept: bytes
    size: int


@dataclass(slots=True)
class _Lines:
    """Makes lines of what is read, however it comes in pieces."""

    _parts: list[bytes] = field(default_factory=list)
    _size: int = 0

    def of(self, chunk: bytes) -> Iterator[_Line]:
        """The lines that end in `chunk`."""
        *ends, rest = chunk.split(b"\n")
        for end in ends:
            self._add(end)
            yield self.end()
        self._add(rest)

    def end(self) -> _Line:
        """What came since the last line."""
        line = _Line(b"".join(self._parts), self._size)
        self._parts, self._size = [], 0
        return line

    def _add(self, part: bytes) -> None:
        self._parts.append(part)
        self._size += len(part)
        if self._size > MESSAGE_BYTES:
            whole = b"".join(self._parts)
            self._parts = [whole[:ENDS_BYTES], whole[-ENDS_BYTES:]]


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


def _fault_of_long(ends: str) -> types.JSONRPCError:
    """The answer to a message of which only the ends are known, which mostly tell its id."""
    found = _ID_FIRST.match(ends) or _ID_LAST.fullmatch(ends)
    asked = None if found is None else int(found[1])
    error = types.ErrorData(code=types.INVALID_REQUEST, message=TOO_LONG)
    return types.JSONRPCError(jsonrpc="2.0", id=asked, error=error)


def _id_of(asked: object) -> int | str | None:
    """Whose answer it is; that of an answer names nothing of ours."""
    if not isinstance(asked, dict) or "method" not in asked:
        return None
    named = asked.get("id")
    if isinstance(named, str) and named.isprintable():
        return named
    return named if isinstance(named, int) and not isinstance(named, bool) else None

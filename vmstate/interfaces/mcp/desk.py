"""Where single calls wait for people: a folder that approvers read and leave their signatures in.

    requests/6b8e….json              the request, as `vmstate sign` takes it
    requests/6b8e….carol.json        what an approver signed; any name that begins so will do

A request for one call is written there and nowhere else. An approval counts by its signature, so it
does not matter who put it there. Nothing in the folder grants anything.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from vmstate.canonical import encode
from vmstate.errors import InputError
from vmstate.files import read_at_most
from vmstate.signing import Request, Signed, read_request, read_signed

WAITING = 100  # requests of one principal that may wait; more would bury the approver
APPROVALS = 16  # as many as a command takes
FILE_BYTES = 65_536  # a request that fits a receipt, or one signature


@dataclass(frozen=True, slots=True)
class Desk:
    """The folder; made when the first request is laid into it."""

    folder: Path

    def lay(self, request: Request) -> None:
        """Put `request` where its approvers look.

        Raises:
            InputError: too many of this principal wait already, or the folder can't be written.
        """
        mine = [one for one in self._waiting() if one.principal == request.principal]
        if len(mine) >= WAITING:
            raise InputError(f"{len(mine)} requests wait already, at most {WAITING} may")
        try:
            self.folder.mkdir(mode=0o700, exist_ok=True)
            path = self._path(request.id)
            if not path.exists():
                part = path.with_suffix(".part")
                part.write_bytes(encode(request.body()) + b"\n")
                part.rename(path)
        except OSError as error:
            raise InputError(f"{self.folder} can't be written: {error.strerror}") from error

    def find(self, request: str) -> Request | None:
        """The request with this id, if it waits here."""
        return _read_request(self._path(request)) if _is_id(request) else None

    def find_like(self, fits: Callable[[Request], bool]) -> Request | None:
        """A request that waits and that `fits`."""
        return next((one for one in self._waiting() if fits(one)), None)

    def approvals(self, request: Request) -> tuple[Signed, ...]:
        """What was signed for `request` so far; whether it counts is for the ledger to say."""
        found: dict[str, Signed] = {}
        stem = request.id.removeprefix("sha256:")
        for path in sorted(self.folder.glob(f"{stem}.*.json")):
            try:
                signed = read_signed(read_at_most(path, FILE_BYTES))
            except (OSError, InputError):
                continue  # half written, or not ours: what can't be read approves nothing
            found.setdefault(signed.statement.id, signed)
        return tuple(found.values())[:APPROVALS]

    def take(self, request: Request) -> None:
        """Clear away a request that was answered, and what was signed for it."""
        stem = request.id.removeprefix("sha256:")
        for path in (self._path(request.id), *self.folder.glob(f"{stem}.*.json")):
            path.unlink(missing_ok=True)

    def _path(self, request: str) -> Path:
        return self.folder / f"{request.removeprefix('sha256:')}.json"

    def _waiting(self) -> Iterator[Request]:
        for path in self.folder.glob("?" * 64 + ".json"):
            if (request := _read_request(path)) is not None:
                yield request


def _is_id(text: str) -> bool:
    digits = text.removeprefix("sha256:")
    return len(digits) == 64 and all(one in "0123456789abcdef" for one in digits)  # noqa: PLR2004 -- SHA-256


def _read_request(path: Path) -> Request | None:
    try:
        return read_request(read_at_most(path, FILE_BYTES))
    except (OSError, InputError):
        return None

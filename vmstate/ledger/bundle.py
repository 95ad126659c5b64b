"""What a stranger gets: a folder that needs no vmstate and no database to be verified.

    checkpoint           the signed tree head, a C2SP tlog-checkpoint
    receipts.jsonl       the receipts' exact bytes, one to a line, in their order
    keys/log.vkey        the verifier key of the log, a C2SP signed-note key
    constitution.toml    the law in force, as it was read
    constitutions/       laws of before, each as <its digest in hexadecimal>.toml; if there were any

The leaf of a receipt is SHA-256 of a zero byte and the line without its newline (RFC 6962).
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from vmstate.constitution.loading import FILE_BYTES
from vmstate.errors import InputError, LedgerNotFound, TamperError
from vmstate.files import read_at_most
from vmstate.ledger.receipt import RECEIPT_BYTES
from vmstate.ledger.snapshot import Snapshot
from vmstate.ledger.store import Ledger

Progress = Callable[[int, int], None]  # so many more done, out of how many in all

CHECKPOINT = "checkpoint"
RECEIPTS = "receipts.jsonl"
VERIFIER = "keys/log.vkey"
CONSTITUTION = "constitution.toml"
EARLIER = "constitutions"


@dataclass(frozen=True, slots=True)
class Bundle:
    """A bundle's folder, read as it is; nothing in it is believed before it was audited."""

    path: Path

    @property
    def note(self) -> str:
        return self._text(CHECKPOINT)

    @property
    def verifier(self) -> str:
        return self._text(VERIFIER).removesuffix("\n")

    @property
    def toml(self) -> bytes:
        return self._read(CONSTITUTION)

    def law(self, digest: str) -> bytes | None:
        """The TOML of an earlier law, `sha256:<hex>`; None if it isn't here."""
        path = self.path / _earlier(digest)
        return _read(path) if path.is_file() else None

    def bodies(self) -> Iterator[bytes]:
        """The receipts' bytes; raises TamperError where a line is no line of the format."""
        with self._find(RECEIPTS).open("rb") as file:
            number = 0
            while line := file.readline(RECEIPT_BYTES + 2):
                if not line.endswith(b"\n"):
                    raise TamperError(f"{RECEIPTS}: line {number + 1} is cut off or too long")
                number += 1
                yield line[:-1]

    def _text(self, name: str) -> str:
        # What is no text is no checkpoint and no key either, which is for their readers to say.
        return self._read(name).decode(errors="replace")

    def _read(self, name: str) -> bytes:
        return _read(self._find(name))

    def _find(self, name: str) -> Path:
        path = self.path / name
        if not path.is_file():
            raise LedgerNotFound(f"{self.path} is not a bundle: it has no {name}")
        return path


def _read(path: Path) -> bytes:
    try:
        return read_at_most(path, FILE_BYTES)
    except InputError as error:
        raise TamperError(str(error)) from error


def export(ledger: Ledger, folder: Path, *, progress: Progress | None = None) -> Bundle:
    """Write the ledger as it stands now into `folder`, which is made, or empty.

    Raises:
        InputError: the folder holds something, or can't be written.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder} is there already and not an empty folder: name another")
    try:
        (folder / "keys").mkdir(parents=True)
        with ledger.read() as snapshot:
            head = snapshot.head()
            (folder / CHECKPOINT).write_bytes(head.note.encode())
            (folder / VERIFIER).write_text(f"{ledger.verifier}\n", encoding="ascii")
            (folder / CONSTITUTION).write_bytes(snapshot.constitution()[2])
            _write_earlier(snapshot, folder)
            with (folder / RECEIPTS).open("wb") as file:
                for receipt in snapshot.receipts():
                    file.write(receipt.body + b"\n")
                    if progress is not None:
                        progress(1, head.tree.size)
    except OSError as error:
        raise InputError(f"{folder} can't be written: {error.strerror}") from error
    return Bundle(folder)


def _write_earlier(snapshot: Snapshot, folder: Path) -> None:
    """The laws that were in force before the one that is."""
    in_force = snapshot.in_force()
    for digest in {digest for _, digest in snapshot.laws()} - {in_force}:
        found = snapshot.law(digest)
        if found is not None:
            (folder / EARLIER).mkdir(exist_ok=True)
            (folder / _earlier(digest)).write_bytes(found[1])


def _earlier(digest: str) -> str:
    return f"{EARLIER}/{digest.removeprefix('sha256:')}.toml"

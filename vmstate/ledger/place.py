"""Where a ledger lies: whether one can be made there, and who else may read it.

SQLite keeps two files beside the ledger's, its log and the index of that. Who may not make them
reads the ledger only while both are there and may be read as well.

Source: sqlite.org/wal.html, "Read-Only Databases".
"""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from vmstate.errors import InputError

SIDE_FILES = ("-wal", "-shm")
ROOM_BYTES = 65_536  # with less no command can be written: an index, and some pages
READ_BY_OTHERS = stat.S_IRGRP | stat.S_IROTH


def check_place(path: Path) -> None:
    """Whether a ledger can be made at `path`.

    Raises:
        InputError: there is one already, or its folder is none or can't be written.
    """
    if path.exists():
        raise InputError(f"{path} is there already: give --ledger another name")
    if not path.parent.is_dir():
        raise InputError(f"{path.parent} is not a folder: make it first")
    if not os.access(path.parent, os.W_OK):
        raise InputError(f"{path.parent} can't be written: choose another with --ledger")


def share_side_files(path: Path, real: Path) -> bool:
    """Whether the ledger's mode lets other accounts read it; its side files then get that mode.

    They are made with the mode that the ledger has at that moment, which is its owner's alone. They
    lie beside the file that `path` leads to, `real`.
    """
    mode = stat.S_IMODE(path.stat().st_mode)
    if not mode & READ_BY_OTHERS:
        return False
    for suffix in SIDE_FILES:
        with suppress(OSError):  # another account's, or gone: whoever can't read is told
            real.with_name(real.name + suffix).chmod(mode)
    return True


def why_closed(path: Path) -> str:
    """What keeps this account from opening a ledger that is there, and what would help."""
    if not os.access(path, os.R_OK) or os.access(path, os.W_OK):
        return "the ledger can't be opened here: check its folder, owner and mode"
    beside = " and ".join(path.name + suffix for suffix in SIDE_FILES)
    return (
        f"this account may not write the ledger, and reads it while {beside} are there and may be "
        "read too: they are once its owner has written to it with its present mode; or take a "
        "copy, vmstate export"
    )


def key_path(ledger: Path) -> Path:
    """Where the log key of a ledger is kept."""
    return ledger.with_name(f"{ledger.name}.key")


def why_full(path: Path) -> str | None:
    """That the disk which the ledger is on is full, and what would help; None if it is not."""
    folder = path.absolute().parent
    try:
        found = os.statvfs(folder)
    except OSError:
        return None
    free = found.f_bavail * found.f_frsize
    if free >= ROOM_BYTES:
        return None
    return (
        f"the disk is full, it has {free:,} bytes left for {folder}: make room, what is owed "
        "follows"
    )


@contextmanager
def undone(path: Path) -> Iterator[None]:
    """Leave neither key nor file behind where a ledger could not be made."""
    try:
        yield
    except BaseException as error:
        for part in (key_path(path), path, *(path.with_name(path.name + s) for s in SIDE_FILES)):
            part.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise InputError(f"{path} can't be made: {error.strerror}") from error
        raise

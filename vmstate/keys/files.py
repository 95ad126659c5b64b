"""Key files: read once, written once, and readable by their owner only."""

import os
from pathlib import Path

from vmstate.errors import InputError

FILE_BYTES = 65_536  # an OpenSSH key file has up to 3,500


def read_key(path: Path) -> bytes:
    """The bytes of a key file. It is read from end to end once, so that a pipe will do.

    Raises:
        InputError: no such file, or one that is far too long for a key.
    """
    try:
        with path.open("rb") as file:
            data = file.read(FILE_BYTES + 1)
    except OSError as error:
        raise InputError(f"key file {path} cannot be read: {error.strerror}") from error
    if len(data) > FILE_BYTES:
        raise InputError(f"key file {path} has more than {FILE_BYTES:,} bytes: that is no key")
    return data


def write_secret(path: Path, data: bytes, what: str) -> None:
    """Write a new file that only its owner can read; never overwrites.

    Raises:
        InputError: the file is there already, or its folder can't be written.
    """
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        raise InputError(f"{what} {path} cannot be made: {error.strerror}") from error
    with os.fdopen(handle, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())

"""Files that somebody named, read from end to end once, and no further than they may be long."""

from pathlib import Path

from vmstate.errors import InputError


def read_at_most(path: Path, most_bytes: int) -> bytes:
    """The bytes of the file; a pipe or a device will do, even one that never ends.

    Raises:
        OSError: it can't be read.
        InputError: there are more.
    """
    with path.open("rb") as file:
        data = file.read(most_bytes + 1)
    if len(data) > most_bytes:
        raise InputError(f"{path}: has more than {most_bytes:,} bytes, at most so many are read")
    return data

"""A Unix socket: who is at its other end, and making one that nobody else has.

Source: unix(7), socket(7).
"""

import contextlib
import fcntl
import grp
import os
import pwd
import socket
import stat
import struct
from collections.abc import Iterator
from pathlib import Path

from vmstate.errors import InputError

MODE = 0o660  # who may ask is the socket's group; who is believed is the law's business
WAITING = 256  # connections that the kernel keeps until they are accepted
PATH_BYTES = 107  # what a socket's address holds
_PEER = struct.Struct("3i")


def account_of(connection: socket.socket) -> str:
    """The account at the other end of a Unix socket, as the kernel says since it connected.

    Whoever it hands its connection to asks as it does. One without a name is told by its number,
    which no constitution can bind; so is the one that stands for everybody whom this user
    namespace does not know.
    """
    size = _PEER.size
    _, uid, _ = _PEER.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size))
    overflow = Path("/proc/sys/kernel/overflowuid").read_text(encoding="ascii").strip()
    try:
        return f"#{uid}" if str(uid) == overflow else pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"#{uid}"


@contextlib.contextmanager
def listening(path: Path, *, mode: int = MODE, group: str | None = None) -> Iterator[socket.socket]:
    """A socket at `path` for as long as the block lasts; gone afterwards.

    What a killed service left behind is replaced; anything else that is there is left alone.

    Raises:
        InputError: something else is there, somebody listens there already, or it can't be made.
    """
    if len(os.fsencode(path)) > PATH_BYTES:
        raise InputError(f"{path}: a socket's path has {PATH_BYTES} bytes at most, choose another")
    with _claimed(path):
        _require_free(path)
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
            inode = _bind(listener, path, mode, group)
            try:
                yield listener
            finally:
                with contextlib.suppress(OSError):
                    if path.stat().st_ino == inode:
                        path.unlink()


def _bind(listener: socket.socket, path: Path, mode: int, group: str | None) -> int:
    """Give the socket its place in the file system; returns its number there."""
    try:
        listener.bind(str(path))
        # Nobody can connect before it listens, so nobody meets it with another mode or group.
        if group is not None:
            os.chown(path, -1, grp.getgrnam(group).gr_gid)
        path.chmod(mode)
        listener.listen(WAITING)
    except KeyError as error:
        path.unlink()
        raise InputError(f"there is no group {group}: see /etc/group") from error
    except OSError as error:
        raise InputError(f"{path} can't be made: {error.strerror}") from error
    return path.stat().st_ino


@contextlib.contextmanager
def _claimed(path: Path) -> Iterator[None]:
    """Two services can't both find the same socket left behind: one of them holds this lock."""
    lock = path.with_name(f"{path.name}.lock")
    try:
        handle = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise InputError(f"{path} can't be made: {error.strerror}") from error
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise InputError(f"somebody listens at {path} already: choose another") from error
        yield
    finally:
        os.close(handle)


def _require_free(path: Path) -> None:
    try:
        kind = path.lstat().st_mode
    except OSError:
        return  # nothing is there, or making it will say why it can't be
    if not stat.S_ISSOCK(kind):
        raise InputError(f"{path} is there and is no socket: choose another")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
        except OSError as error:
            raise InputError(f"{path} can't be made: {error.strerror}") from error
        else:
            raise InputError(f"somebody listens at {path} already: choose another")


def tell_manager(state: str) -> None:
    """Tell whoever started this as a service that it is `READY=1` or `STOPPING=1`.

    Nothing to do where nobody asked to be told. Source: sd_notify(3).
    """
    place = os.environ.get("NOTIFY_SOCKET", "")
    if not place.startswith(("/", "@")):
        return
    address = f"\0{place[1:]}" if place.startswith("@") else place
    with (
        contextlib.suppress(OSError),  # a manager that does not listen is no reason not to serve
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager,
    ):
        manager.sendto(state.encode(), address)

"""How SSH writes bytes (RFC 4251 section 5), and base64 in one spelling.

    string   00 00 00 03 'a' 'b' 'c'     a length, then that many bytes
    mpint    00 00 00 02 00 80           a string: a whole number, no byte more than it takes

Whoever reads a stranger's bytes gets `ValueError` for whatever has no form, and nothing else.
"""

import base64
import binascii


class Reader:
    """Bytes read from the front."""

    __slots__ = ("_rest",)

    def __init__(self, data: bytes) -> None:
        self._rest = data

    def take(self, count: int) -> bytes:
        """The next `count` bytes; raises ValueError where there are fewer."""
        if len(self._rest) < count:
            raise ValueError(f"ends {count - len(self._rest)} bytes early")
        taken, self._rest = self._rest[:count], self._rest[count:]
        return taken

    def number(self) -> int:
        return int.from_bytes(self.take(4))

    def string(self) -> bytes:
        return self.take(self.number())

    def mpint(self) -> int:
        """A whole number, which may not be negative; raises ValueError for a longer spelling."""
        data = self.string()
        value = int.from_bytes(data)
        if mpint(value) != string(data):
            raise ValueError("a number is negative or has another spelling")
        return value

    def rest(self) -> bytes:
        return self.take(len(self._rest))

    def end(self) -> None:
        """Raises ValueError if anything is left."""
        if self._rest:
            raise ValueError(f"{len(self._rest)} bytes too many")


def string(data: bytes) -> bytes:
    """`data` with its length before it."""
    return len(data).to_bytes(4) + data


def mpint(value: int) -> bytes:
    """A whole number that is not negative, in its one spelling."""
    return string(value.to_bytes(value.bit_length() // 8 + 1) if value else b"")


def from_base64(text: str) -> bytes | None:
    """The bytes of strict base64, or None: one spelling only."""
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None
    return raw if base64.b64encode(raw).decode() == text else None

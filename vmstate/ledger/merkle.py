"""The RFC 6962 tree over leaf hashes, as a compact range. Knows bytes, and nothing of receipts.

A tree of n leaves is held as its peaks: the roots of the full subtrees that the binary digits of n
name, the largest first. Appending touches as many peaks as n has trailing ones.

Source: RFC 6962 section 2.1 (leaf prefix 0x00, node prefix 0x01).
"""

import hashlib
from dataclasses import dataclass

HASH_BYTES = 32
EMPTY_ROOT = hashlib.sha256(b"").digest()


def leaf_hash(data: bytes) -> bytes:
    """The hash of one leaf's bytes."""
    return hashlib.sha256(b"\x00" + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """The hash of two subtrees."""
    return hashlib.sha256(b"\x01" + left + right).digest()


@dataclass(frozen=True, slots=True)
class Tree:
    """`size` leaves, held as their peaks, the largest subtree first."""

    size: int = 0
    peaks: tuple[bytes, ...] = ()

    def append(self, leaf: bytes) -> "Tree":
        """The tree with one more leaf, given as its hash."""
        peaks, node, full = list(self.peaks), leaf, self.size
        while full & 1:
            node = node_hash(peaks.pop(), node)
            full >>= 1
        peaks.append(node)
        return Tree(self.size + 1, tuple(peaks))

    def root(self) -> bytes:
        """The hash that stands for all leaves in their order."""
        if not self.peaks:
            return EMPTY_ROOT
        root = self.peaks[-1]
        for peak in reversed(self.peaks[:-1]):
            root = node_hash(peak, root)
        return root

    def to_bytes(self) -> bytes:
        """The peaks, one after the other."""
        return b"".join(self.peaks)

    @classmethod
    def from_bytes(cls, size: int, data: bytes) -> "Tree":
        """Read what `to_bytes` wrote; raises ValueError if it is not a tree of `size` leaves."""
        if len(data) != size.bit_count() * HASH_BYTES:
            raise ValueError(f"{len(data)} bytes of peaks do not fit a tree of {size} leaves")
        parts = range(0, len(data), HASH_BYTES)
        return cls(size, tuple(data[start : start + HASH_BYTES] for start in parts))

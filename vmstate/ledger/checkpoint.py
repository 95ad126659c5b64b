"""A signed tree head as text, and the key that signs it.

A checkpoint is a C2SP tlog-checkpoint inside a C2SP signed note:

    vaultmesh/1f2e3d4c
    42
    nND/nri/U0xuHUrYSy0HtMeal2vzD9V4k/BO79C+QeI=

    — vaultmesh/1f2e3d4c 8sZ5MbHQ…

The verifier key is one line, `<origin>+<key id in hex>+<base64 of 0x01 and the public key>`, where
the key id is the first four bytes of SHA-256(origin, newline, 0x01, public key). Only the one
spelling is accepted, and no extension lines.

Source: https://c2sp.org/tlog-checkpoint, https://c2sp.org/signed-note
"""

import base64
import binascii
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass

from vmstate.errors import TamperError
from vmstate.keys import KEY_BYTES, Ed25519Key, PrivateKey
from vmstate.ledger.merkle import HASH_BYTES, Tree

_ED25519 = b"\x01"
_KEY_ID_BYTES = 4
_SIZE = re.compile(r"0|[1-9][0-9]{0,18}")
_NAME = re.compile(r"[^\s+\x00-\x1f\x7f]+")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """`size` leaves of the log `origin` have this root."""

    origin: str
    size: int
    root: bytes

    def text(self) -> str:
        """The body of the note: what is signed."""
        return f"{self.origin}\n{self.size}\n{base64.b64encode(self.root).decode()}\n"

    @classmethod
    def of(cls, origin: str, tree: Tree) -> "Checkpoint":
        return cls(origin, tree.size, tree.root())

    @classmethod
    def parse(cls, text: str) -> "Checkpoint":
        """Read the body of a note; raises TamperError for anything but its one spelling."""
        match text.split("\n"):
            case [origin, size, root, ""] if _NAME.fullmatch(origin) and _SIZE.fullmatch(size):
                checkpoint = cls(origin, int(size), _decode(root))
                if len(checkpoint.root) == HASH_BYTES and checkpoint.text() == text:
                    return checkpoint
            case _:
                pass
        raise TamperError("malformed checkpoint: origin, size and base64 root, a line each")


@dataclass(frozen=True, slots=True)
class Heads:
    """The newest signed note, and for each scroll its size and root at that moment."""

    note: str
    scrolls: Mapping[str, tuple[int, str]]


@dataclass(frozen=True, slots=True)
class VerifierKey:
    """Who signs checkpoints: a name, which is the log's origin, and a public key."""

    name: str
    public: Ed25519Key

    @property
    def key_id(self) -> bytes:
        named = self.name.encode() + b"\n" + _ED25519 + self.public.raw
        return hashlib.sha256(named).digest()[:_KEY_ID_BYTES]

    def __str__(self) -> str:
        key = base64.b64encode(_ED25519 + self.public.raw).decode()
        return f"{self.name}+{self.key_id.hex()}+{key}"

    @classmethod
    def parse(cls, text: str) -> "VerifierKey":
        """Read one line; raises TamperError for anything but its one spelling."""
        match text.split("+", 2):
            case [name, _, encoded] if _NAME.fullmatch(name):
                raw = _decode(encoded)
                if raw[:1] == _ED25519 and len(raw) == 1 + KEY_BYTES:
                    key = cls(name, Ed25519Key(raw[1:]))
                    if str(key) == text:
                        return key
            case _:
                pass
        raise TamperError("malformed verifier key: <name>+<key id>+<base64>")


def sign_checkpoint(checkpoint: Checkpoint, key: PrivateKey) -> str:
    """Return the signed note; the signer's name is the checkpoint's origin."""
    text = checkpoint.text()
    verifier = VerifierKey(checkpoint.origin, key.public)
    signed = base64.b64encode(verifier.key_id + key.sign(text.encode())).decode()
    return f"{text}\n\u2014 {checkpoint.origin} {signed}\n"


def open_checkpoint(note: str, key: VerifierKey) -> Checkpoint:
    """Return the checkpoint in `note` if `key` signed it.

    Signatures by others are passed over, as the specification asks.

    Raises:
        TamperError: no signature by `key`, one that does not verify, or a malformed note.
    """
    text, blank, signatures = note.partition("\n\n")
    text += "\n"
    if not blank or not signatures.endswith("\n"):
        raise TamperError("malformed note: text, an empty line, signatures")
    ours = [raw for name, raw in map(_signature, signatures[:-1].split("\n")) if name == key.name]
    ours = [raw[_KEY_ID_BYTES:] for raw in ours if raw[:_KEY_ID_BYTES] == key.key_id]
    if not ours:
        raise TamperError(f"the note has no signature by {key.name} with key {key.key_id.hex()}")
    if not all(key.public.verifies(signature, text.encode()) for signature in ours):
        raise TamperError(f"the signature of {key.name} does not verify")
    return Checkpoint.parse(text)


def _signature(line: str) -> tuple[str, bytes]:
    """The name and the bytes of a signature line, whoever signed."""
    match line.split(" "):
        case ["\u2014", name, encoded] if _NAME.fullmatch(name):
            raw = _decode(encoded)
            if len(raw) >= _KEY_ID_BYTES:
                return name, raw
        case _:
            pass
    raise TamperError("malformed note: a signature line is '\u2014 name base64'")


def _decode(text: str) -> bytes:
    """The bytes of base64 in its one spelling; nothing for any other."""
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return b""
    return raw if base64.b64encode(raw).decode() == text else b""

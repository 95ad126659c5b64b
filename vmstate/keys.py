"""Keys that people and ledgers sign with. No other module imports `cryptography`.

    ed25519:11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=      a public key, as it is written
    -----BEGIN PRIVATE KEY-----                               a private one: PKCS#8, in PEM

Nothing secret is ever shown: no private key has a text, and a message names its file only.
"""

import base64
import binascii
import hashlib
import os
import secrets
from pathlib import Path
from typing import Self

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from vmstate import canonical
from vmstate.errors import InputError

KEY_BYTES = 32
SIGNATURE_BYTES = 64
_KEY_PREFIX = "ed25519:"


class PublicKey:
    """An Ed25519 public key; its text is `ed25519:<base64>`."""

    __slots__ = ("_key", "raw")

    def __init__(self, raw: bytes) -> None:
        self.raw = raw
        self._key = Ed25519PublicKey.from_public_bytes(raw)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `ed25519:<base64>`; raises InputError for any other spelling."""
        raw = from_base64(text.removeprefix(_KEY_PREFIX))
        if not text.startswith(_KEY_PREFIX) or raw is None or len(raw) != KEY_BYTES:
            raise InputError(f"{text!r} is not a key, write 'ed25519:' and 32 bytes in base64")
        return cls(raw)

    def __str__(self) -> str:
        return _KEY_PREFIX + base64.b64encode(self.raw).decode()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PublicKey) and self.raw == other.raw

    def __hash__(self) -> int:
        return hash(self.raw)

    def verifies(self, signature: bytes, message: bytes) -> bool:
        """Whether `signature` is this key's over exactly `message`."""
        try:
            self._key.verify(signature, message)
        except InvalidSignature:
            return False
        return True


class PrivateKey:
    """An Ed25519 private key; its file is PKCS#8 PEM, which openssl reads too."""

    __slots__ = ("_key", "public")

    def __init__(self, seed: bytes) -> None:
        self._key = Ed25519PrivateKey.from_private_bytes(seed)
        self.public = PublicKey(self._key.public_key().public_bytes_raw())

    @classmethod
    def generate(cls) -> Self:
        return cls(secrets.token_bytes(KEY_BYTES))

    @classmethod
    def derive(cls, *parts: str) -> Self:
        """The same key from the same parts: for a drill's stand-ins, who guard nothing real."""
        return cls(hashlib.sha256(canonical.encode(["vmstate stand-in", *parts])).digest())

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a key file.

        Raises:
            InputError: no such file, not a PEM, encrypted, or not Ed25519.
        """
        try:
            key = serialization.load_pem_private_key(path.read_bytes(), password=None)
        except OSError as error:
            raise InputError(f"key file {path} cannot be read: {error.strerror}") from error
        except TypeError as error:
            raise InputError(f"key file {path} has a passphrase: give one without") from error
        except (ValueError, UnsupportedAlgorithm) as error:
            raise InputError(f"key file {path} is not a private key in PEM form") from error
        if not isinstance(key, Ed25519PrivateKey):
            raise InputError(f"key file {path} is not an Ed25519 key: make one, vmstate keys new")
        return cls(key.private_bytes_raw())

    def save(self, path: Path) -> None:
        """Write a new file that only its owner can read; never overwrites.

        Raises:
            InputError: the file is there already, or its folder can't be written.
        """
        pem = self._key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        try:
            handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except OSError as error:
            raise InputError(f"key file {path} cannot be made: {error.strerror}") from error
        with os.fdopen(handle, "wb") as file:
            file.write(pem)
            file.flush()
            os.fsync(file.fileno())

    def sign(self, message: bytes) -> bytes:
        return self._key.sign(message)


def from_base64(text: str) -> bytes | None:
    """The bytes of strict base64, or None: one spelling only."""
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None
    return raw if base64.b64encode(raw).decode() == text else None

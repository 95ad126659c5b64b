"""Private keys in files of their own, and nothing that shows one.

    -----BEGIN PRIVATE KEY-----               PKCS#8 in PEM, which openssl reads and writes too
    -----BEGIN ENCRYPTED PRIVATE KEY-----     the same behind a passphrase

Nothing secret is ever shown: a private key's only text is its public key's fingerprint, and a
message names its file and says no word of what is in it.
"""

import hashlib
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Self

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from vmstate import canonical
from vmstate.errors import InputError
from vmstate.keys.files import read_key, write_secret
from vmstate.keys.public import KEY_BYTES, Ed25519Key

PASSPHRASE_BYTES = 1_023  # what openssl reads of one

Ask = Callable[[Path], bytes]  # the passphrase of this key file, from whoever knows it


class PrivateKey:
    """An Ed25519 private key; its file is PKCS#8 PEM, which openssl reads too."""

    __slots__ = ("_key", "public")

    def __init__(self, seed: bytes) -> None:
        self._key = Ed25519PrivateKey.from_private_bytes(seed)
        self.public = Ed25519Key(self._key.public_key().public_bytes_raw())

    def __repr__(self) -> str:
        return f"<PrivateKey of {self.public.fingerprint}>"

    @classmethod
    def generate(cls) -> Self:
        return cls(secrets.token_bytes(KEY_BYTES))

    @classmethod
    def derive(cls, *parts: str) -> Self:
        """The same key from the same parts: for a drill's stand-ins, who guard nothing real."""
        return cls(hashlib.sha256(canonical.encode(["vmstate stand-in", *parts])).digest())

    @classmethod
    def load(cls, path: Path, ask: Ask | None = None) -> Self:
        """Read a key file; raises InputError where it can't be read or `parse` refuses it."""
        return cls.parse(read_key(path), path, ask)

    @classmethod
    def parse(cls, data: bytes, path: Path, ask: Ask | None = None) -> Self:
        """Read what stands in the key file `path`; `ask` is called if it has a passphrase.

        Raises:
            InputError: not a PEM, not Ed25519, behind another passphrase, or behind one and nobody
                to ask.
        """
        key: object
        try:
            key = serialization.load_pem_private_key(data, password=None)
        except TypeError as error:  # what the library says of a file with a passphrase
            if ask is None:
                raise InputError(f"key file {path} has a passphrase: give one without") from error
            key = _opened(path, data, ask)
        except (ValueError, UnsupportedAlgorithm) as error:
            raise InputError(f"key file {path} is not a private key in PEM form") from error
        if not isinstance(key, Ed25519PrivateKey):
            raise InputError(f"key file {path} is not an Ed25519 key: make one, vmstate keys new")
        return cls(key.private_bytes_raw())

    def save(self, path: Path, passphrase: bytes | None = None) -> None:
        """Write a new file that only its owner can read, behind `passphrase` if there is one.

        Raises:
            InputError: the file is there already, or its folder can't be written; a passphrase of
                no or too many bytes.
        """
        lock: serialization.KeySerializationEncryption = serialization.NoEncryption()
        if passphrase is not None:
            lock = serialization.BestAvailableEncryption(_checked(passphrase))
        pem = self._key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, lock
        )
        write_secret(path, pem, "key file")

    def sign(self, message: bytes) -> bytes:
        """64 bytes, the same each time."""
        return self._key.sign(message)


def _opened(path: Path, data: bytes, ask: Ask) -> object:
    passphrase = _checked(ask(path))
    try:
        return serialization.load_pem_private_key(data, password=passphrase)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise InputError(f"key file {path} does not open with this passphrase") from error


def _checked(passphrase: bytes) -> bytes:
    if not 0 < len(passphrase) <= PASSPHRASE_BYTES:
        raise InputError(
            f"the passphrase has {len(passphrase):,} bytes, needs 1 to {PASSPHRASE_BYTES:,}"
        )
    return passphrase

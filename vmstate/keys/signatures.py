"""Signatures as they are handed in: 64 bytes by Ed25519, or what `ssh-keygen -Y sign` makes.

    -----BEGIN SSH SIGNATURE-----      base64 of:   'SSHSIG'  uint32 1
    U1NIU0lHAAAAAQAAADMAAAALc3No…                   string public key, namespace, reserved, hash
    -----END SSH SIGNATURE-----                     string of: string scheme, string signature, …

What SSH signs is not the message but 'SSHSIG', the namespace `vmstate`, an empty string, the
hash's name and the message's hash: so a signature made to log in, to sign a commit or for another
program counts for nothing here, and none made here counts there.

Deliberately absent: another namespace, another hash than SHA-2 with 256 or 512 bits, a `reserved`
field with something in it, certificates.

Source: OpenSSH, PROTOCOL.sshsig
"""

import hashlib
from dataclasses import dataclass
from typing import Self

from vmstate.errors import InputError
from vmstate.keys.wire import Reader, from_base64, string

NAMESPACE = b"vmstate"
RAW_BYTES = 64  # an Ed25519 signature with nothing around it
SIGNATURE_BYTES = 4_096  # of an SSH signature; one by RSA with 4,096 bits has 1,200
FILE_BYTES = 8_192  # the same in base64, with its lines
_MAGIC, _VERSION = b"SSHSIG", 1
_HASHES = {b"sha256": hashlib.sha256, b"sha512": hashlib.sha512}
_BEGIN, _END = "-----BEGIN SSH SIGNATURE-----", "-----END SSH SIGNATURE-----"


@dataclass(frozen=True, slots=True)
class SshSignature:
    """An SSH signature taken apart; whether it holds is for its key to say.

    `scheme` is how it was signed and `signature` what came of it; `extra` is what a key in hardware
    adds, and empty for any other. `hash` is the name of the message's hash.
    """

    public: bytes
    hash: bytes
    scheme: bytes
    signature: bytes
    extra: bytes

    @classmethod
    def parse(cls, blob: bytes) -> Self:
        """Read a blob; raises ValueError for anything but a signature in our namespace."""
        if len(blob) > SIGNATURE_BYTES:
            raise ValueError(f"has {len(blob):,} bytes, at most {SIGNATURE_BYTES:,} are read")
        reader = Reader(blob)
        if reader.take(len(_MAGIC)) != _MAGIC or reader.number() != _VERSION:
            raise ValueError("does not begin as an SSH signature of version 1")
        public, namespace, reserved, hash_ = (reader.string() for _ in range(4))
        inner = Reader(reader.string())
        reader.end()
        if namespace != NAMESPACE or reserved or hash_ not in _HASHES:
            raise ValueError("is for another namespace, or by another hash")
        return cls(public, hash_, inner.string(), inner.string(), inner.rest())

    def covers(self, message: bytes) -> bytes:
        """What was signed if `message` was."""
        hashed = _HASHES[self.hash](message).digest()
        return _MAGIC + b"".join(map(string, (NAMESPACE, b"", self.hash, hashed)))


def read_signature(data: bytes) -> bytes:
    """The signature in a file: 64 bytes as they are, base64 of them, or SSH's armour.

    Raises:
        InputError: it is none of these.
    """
    if len(data) == RAW_BYTES:
        return data
    text = data.decode("ascii", errors="replace") if len(data) <= FILE_BYTES else ""
    lines = text.split()
    armoured = text.strip().startswith(_BEGIN) and text.strip().endswith(_END)
    if armoured:
        lines = text.strip().removeprefix(_BEGIN).removesuffix(_END).split()
    signature = from_base64("".join(lines))
    if not signature or (len(signature) != RAW_BYTES and not signature.startswith(_MAGIC)):
        raise InputError(
            f"{len(data):,} bytes are not a signature: give the 64 bytes that openssl wrote, "
            "base64 of them, or what ssh-keygen -Y sign wrote"
        )
    return signature

"""Public keys: who may have signed. Beside `private.py`, the only importer of `cryptography`.

    ed25519:11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=
    ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIDHmHLpmldIcPiwYu4jJRJllNbaY2wE/OaG4PKNvXYm+
    sk-ssh-ed25519@openssh.com AAAAGnNrLXNzaC1lZDI1NTE5QG9wZW5zc2guY29t…

The first kind signs a message's bytes; the others are lines of an OpenSSH `.pub` file and sign as
`ssh-keygen -Y sign` does (`signatures.py`). The comment at the end of such a line is dropped, so
that pasting the whole line works and the key still has one spelling, which enters the digest.

A key in hardware (`sk-…`) must say in each signature that somebody touched it: without the touch,
whoever controls the machine it sticks in could sign alone. (`ssh-keygen -Y verify` does not ask for
that; `sshd` does.) That a PIN was asked for is not demanded, nor any make of authenticator: the
constitution trusts the key that it names.

Keys are equal if whoever signs for one can sign for the other, however they are written: so no two
names can share one.

Deliberately absent: DSA, RSA below 2,048 bits or with SHA-1, certificates, points of small order
(under which a signature can be made that nobody's private key made).
"""

import base64
import hashlib
import re
from abc import ABC, abstractmethod
from typing import Final

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_public_key,
    load_ssh_public_key,
)

from vmstate.errors import InputError
from vmstate.keys.signatures import RAW_BYTES, SshSignature
from vmstate.keys.wire import Reader, from_base64, string

KEY_BYTES = 32
RSA_BITS = (2_048, 4_096)  # below it is weak; above it a receipt could not hold all signatures
RSA_EXPONENT_BITS = 32  # a longer one makes each verification slow, and no program chooses it
LINE_CHARACTERS = 2_048  # of a key's text with its comment; RSA with 4,096 bits takes 724
_SHOWN_CHARACTERS = 80  # of what was given as a key: enough to find it again
_PREFIX = "ed25519:"
_LINE = re.compile(r"([a-z0-9@.-]+) ([A-Za-z0-9+/]+={0,2})(?: [^\r\n]*)?")
_TOUCHED = 0x01  # the authenticator's flag for: somebody was there
_PLAIN_ED25519 = b"ssh-ed25519"
# Each type of key, and the one scheme by which it signs.
_SCHEMES: Final = {
    "ssh-ed25519": b"ssh-ed25519",
    "sk-ssh-ed25519@openssh.com": b"sk-ssh-ed25519@openssh.com",
    "ecdsa-sha2-nistp256": b"ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384": b"ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521": b"ecdsa-sha2-nistp521",
    "sk-ecdsa-sha2-nistp256@openssh.com": b"sk-ecdsa-sha2-nistp256@openssh.com",
    "ssh-rsa": b"rsa-sha2-512",
}
_CURVE_HASHES: Final = {256: hashes.SHA256(), 384: hashes.SHA384(), 521: hashes.SHA512()}
_FIELD = 2**255 - 19
# The y of Ed25519's points whose order divides 8: with such a key 0 is everybody's secret.
_ORDER_8 = 2707385501144840649318225287225658788936804267575313519463743609750303021402
_SMALL_ORDER = {0, 1, _FIELD - 1, _ORDER_8, _FIELD - _ORDER_8}


class PublicKey(ABC):
    """A public key in its one spelling, `str(key)`."""

    __slots__ = ()

    @staticmethod
    def parse(text: str) -> "PublicKey":
        """Read `ed25519:<base64>` or a line of an OpenSSH `.pub` file.

        Raises:
            InputError: it is neither, or a key that can't be trusted to sign.
        """
        if text.startswith(_PREFIX):
            return Ed25519Key.parse(text)
        return SshKey.parse(text)

    @property
    @abstractmethod
    def kind(self) -> str:
        """`ed25519`, or the name that SSH gives its type."""

    @property
    @abstractmethod
    def wire(self) -> bytes:
        """The key as SSH writes it."""

    @property
    @abstractmethod
    def _material(self) -> tuple[str, bytes]:
        """What two keys share that one person can sign for."""

    @property
    def fingerprint(self) -> str:
        """`SHA256:…` as `ssh-keygen -l` shows it."""
        hashed = hashlib.sha256(self.wire).digest()
        return f"SHA256:{base64.b64encode(hashed).decode().rstrip('=')}"

    @abstractmethod
    def verifies(self, signature: bytes, message: bytes) -> bool:
        """Whether `signature` is this key's over exactly `message`; never raises."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PublicKey) and self._material == other._material

    def __hash__(self) -> int:
        return hash(self._material)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self}>"


class Ed25519Key(PublicKey):
    """Ed25519 with nothing around it, as openssl signs; its text is `ed25519:<base64>`."""

    __slots__ = ("_key", "raw")

    def __init__(self, raw: bytes) -> None:
        self.raw = raw
        self._key = Ed25519PublicKey.from_public_bytes(raw)

    @staticmethod
    def parse(text: str) -> "Ed25519Key":
        """Read `ed25519:<base64>`; raises InputError for any other spelling."""
        raw = from_base64(text.removeprefix(_PREFIX))
        if not text.startswith(_PREFIX) or raw is None or len(raw) != KEY_BYTES:
            raise _not_a_key(text)
        _require_order(raw, text)
        return Ed25519Key(raw)

    @property
    def kind(self) -> str:
        return "ed25519"

    @property
    def wire(self) -> bytes:
        return string(_PLAIN_ED25519) + string(self.raw)

    @property
    def _material(self) -> tuple[str, bytes]:
        return "ed25519", self.raw

    def __str__(self) -> str:
        return _PREFIX + base64.b64encode(self.raw).decode()

    def verifies(self, signature: bytes, message: bytes) -> bool:
        if len(signature) != RAW_BYTES:
            return False
        try:
            self._key.verify(signature, message)
        except InvalidSignature:
            return False
        return True


_Loaded = Ed25519PublicKey | ec.EllipticCurvePublicKey | rsa.RSAPublicKey


class SshKey(PublicKey):
    """A key of OpenSSH's, which may be in a file, in an agent or in hardware.

    `application` is what a key in hardware was made for (`ssh:`), None for any other.
    """

    __slots__ = ("_kind", "_loaded", "_wire", "application")

    def __init__(self, kind: str, wire: bytes, loaded: _Loaded, application: bytes | None) -> None:
        self._kind, self._wire, self._loaded = kind, wire, loaded
        self.application = application

    @staticmethod
    def parse(text: str) -> "SshKey":
        """Read a line of a `.pub` file, with or without its comment; raises InputError."""
        match = _LINE.fullmatch(text) if len(text) <= LINE_CHARACTERS else None
        wire = from_base64(match[2]) if match else None
        if match is None or wire is None or match[1] not in _SCHEMES:
            raise _not_a_key(text)
        kind, application = match[1], None
        try:
            loaded = load_ssh_public_key(f"{kind} {match[2]}".encode())
            assert isinstance(loaded, _Loaded)  # as each type in _SCHEMES is
            plain = string(kind.encode()) + _body(loaded)
            reader = Reader(wire)
            if reader.take(len(plain)) != plain:
                raise _not_a_key(text)  # OpenSSH has another spelling for this key
            if kind.startswith("sk-"):
                application = reader.string()
            reader.end()
        except (ValueError, UnsupportedAlgorithm) as error:
            raise _not_a_key(text) from error
        _require_strength(loaded, text)
        return SshKey(kind, wire, loaded, application)

    @staticmethod
    def from_wire(wire: bytes) -> "SshKey":
        """The key that SSH writes so; raises InputError."""
        try:
            kind = Reader(wire).string().decode("ascii")
        except ValueError as error:
            raise InputError("this is not a public key as SSH writes it") from error
        return SshKey.parse(f"{kind} {base64.b64encode(wire).decode()}")

    @property
    def kind(self) -> str:
        return self._kind

    @property
    def wire(self) -> bytes:
        return self._wire

    @property
    def _material(self) -> tuple[str, bytes]:
        match self._loaded:
            case Ed25519PublicKey():
                return "ed25519", self._loaded.public_bytes_raw()
            case rsa.RSAPublicKey():  # whoever knows the factors can sign for any exponent
                return "rsa", self._loaded.public_numbers().n.to_bytes(RSA_BITS[1] // 8)
            case ec.EllipticCurvePublicKey():
                return "ecdsa", _body(self._loaded)

    def __str__(self) -> str:
        return f"{self._kind} {base64.b64encode(self._wire).decode()}"

    def verifies(self, signature: bytes, message: bytes) -> bool:
        try:
            made = SshSignature.parse(signature)
            if made.public != self._wire or made.scheme != _SCHEMES[self._kind]:
                return False
            self._verify(made.signature, self._signed(made, message))
        except (ValueError, InvalidSignature, UnsupportedAlgorithm):
            return False
        return True

    def _signed(self, made: SshSignature, message: bytes) -> bytes:
        """The bytes that the key itself signed; raises ValueError if nobody touched it.

        Source: OpenSSH, PROTOCOL.u2f: digest of the application, flags, counter, digest of the
        message. The counter is not compared: an id that counts once stands in every statement.
        """
        if self.application is None:
            Reader(made.extra).end()
            return made.covers(message)
        reader = Reader(made.extra)
        flags, counter = reader.take(1), reader.take(4)
        reader.end()
        if not flags[0] & _TOUCHED:
            raise ValueError("was made without a touch")
        application = hashlib.sha256(self.application).digest()
        return application + flags + counter + hashlib.sha256(made.covers(message)).digest()

    def _verify(self, signature: bytes, signed: bytes) -> None:
        """Raises InvalidSignature, or ValueError for a signature without form."""
        match self._loaded:
            case Ed25519PublicKey():
                self._loaded.verify(signature, signed)
            case rsa.RSAPublicKey():
                self._loaded.verify(signature, signed, padding.PKCS1v15(), hashes.SHA512())
            case ec.EllipticCurvePublicKey():
                numbers = Reader(signature)
                der = encode_dss_signature(numbers.mpint(), numbers.mpint())
                numbers.end()
                hash_ = _CURVE_HASHES[self._loaded.curve.key_size]
                self._loaded.verify(der, signed, ec.ECDSA(hash_))


def read_pem_public(data: bytes) -> Ed25519Key:
    """The key in what `openssl pkey -pubout` wrote; raises InputError."""
    try:
        loaded = load_pem_public_key(data)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise InputError("this is not a public key in PEM form") from error
    if not isinstance(loaded, Ed25519PublicKey):
        raise InputError("this PEM is not an Ed25519 key: use one, or an SSH key")
    return Ed25519Key.parse(str(Ed25519Key(loaded.public_bytes_raw())))


def _body(loaded: _Loaded) -> bytes:
    """A plain key as OpenSSH writes it, after the name of its type."""
    line = loaded.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
    reader = Reader(base64.b64decode(line.split()[1]))
    reader.string()
    return reader.rest()


def _require_strength(loaded: _Loaded, text: str) -> None:
    match loaded:
        case Ed25519PublicKey():
            _require_order(loaded.public_bytes_raw(), text)
        case rsa.RSAPublicKey():
            least, most = RSA_BITS
            if not least <= loaded.key_size <= most:
                raise InputError(
                    f"{_shown(text)} is an RSA key of {loaded.key_size:,} bits, "
                    f"use {least:,} to {most:,}, or better Ed25519"
                )
            if loaded.public_numbers().e.bit_length() > RSA_EXPONENT_BITS:
                raise InputError(f"{_shown(text)} has an RSA exponent that no program chooses")
        case ec.EllipticCurvePublicKey():
            pass


def _require_order(raw: bytes, text: str) -> None:
    y = int.from_bytes(raw, "little") % 2**255 % _FIELD
    if y in _SMALL_ORDER:
        raise InputError(f"{_shown(text)} is a key for which anybody can sign: make another")


def _not_a_key(text: str) -> InputError:
    return InputError(
        f"{_shown(text)} is not a key, write 'ed25519:' and 32 bytes in base64, "
        "or the line of an OpenSSH .pub file"
    )


def _shown(text: str) -> str:
    """What was given as a key, so far as it may be repeated: it may be a secret, by mistake."""
    if "PRIVATE" in text or text.startswith("vmt_"):
        return "a secret"
    return repr(text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}…")

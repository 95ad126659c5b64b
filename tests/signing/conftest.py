"""SSH keys for the tests: real ones by `ssh-keygen`, and an authenticator without hardware."""

import base64
import hashlib
import subprocess

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from vmstate.keys.wire import mpint, string

SK_ED25519 = "sk-ssh-ed25519@openssh.com"
SK_ECDSA = "sk-ecdsa-sha2-nistp256@openssh.com"
TOUCHED, VERIFIED = 0x01, 0x04


class Ssh:
    """`ssh-keygen` in a folder, and what else a test of SSH signatures needs."""

    SK_ED25519, SK_ECDSA, VERIFIED = SK_ED25519, SK_ECDSA, VERIFIED

    def __init__(self, folder):
        self.folder = folder
        self.armour, self.inside, self.enclose = armour, inside, enclose
        self.covered, self.rsa_line, self.string = covered, rsa_line, string
        self.Authenticator = Authenticator

    def keygen(self, *words, data=b"", check=True):
        """Run it; its output is bytes."""
        words = ["ssh-keygen", *map(str, words)]
        return subprocess.run(
            words, cwd=self.folder, input=data, capture_output=True, check=check, timeout=30
        )

    def key(self, kind, *bits, passphrase=""):
        """A key pair by ssh-keygen; returns the private file and the line of the public one."""
        path = self.folder / f"id_{kind}{''.join(bits[1:])}"
        if not path.exists():
            self.keygen("-q", "-t", kind, *bits, "-N", passphrase, "-C", "a b@c", "-f", path)
        return path, path.with_suffix(".pub").read_text().strip()

    def sign(self, path, message, *, namespace="vmstate", hashed="sha512"):
        """The armoured signature that `ssh-keygen -Y sign` alone makes."""
        words = ["-Y", "sign", "-n", namespace, "-O", f"hashalg={hashed}", "-f", path]
        return self.keygen(*words, data=message).stdout

    def accepts(self, line, blob, message):
        """What `ssh-keygen -Y verify` says of a signature in our namespace."""
        (self.folder / "allowed").write_text(f"somebody {line}\n")
        (self.folder / "made.sig").write_text(armour(blob))
        words = ["-f", "allowed", "-I", "somebody", "-n", "vmstate", "-s", "made.sig"]
        return self.keygen("-Y", "verify", *words, data=message, check=False).returncode == 0


def armour(blob):
    encoded = base64.b64encode(blob).decode()
    lines = [encoded[i : i + 70] for i in range(0, len(encoded), 70)]
    return "\n".join(["-----BEGIN SSH SIGNATURE-----", *lines, "-----END SSH SIGNATURE-----", ""])


def inside(armoured):
    """The blob in an armour."""
    return base64.b64decode(b"".join(armoured.split(b"\n")[1:-2]))


def enclose(public, inner, *, version=1, namespace=b"vmstate", reserved=b"", hashed=b"sha512"):
    """An SSH signature around `inner`, with any field wrong that a test wants wrong."""
    fields = (public, namespace, reserved, hashed, inner)
    return b"SSHSIG" + version.to_bytes(4) + b"".join(map(string, fields))


def covered(message, *, namespace=b"vmstate", reserved=b"", hashed=b"sha512"):
    """What an SSH signature is over."""
    digest = hashlib.new(hashed.decode(), message).digest()
    return b"SSHSIG" + b"".join(map(string, (namespace, reserved, hashed, digest)))


class Authenticator:
    """What a security key does, in software: it counts, sets flags, and signs.

    Source: OpenSSH, PROTOCOL.u2f
    """

    def __init__(self, kind, application=b"ssh:"):
        self.kind, self.application, self.counter = kind.encode(), application, 6
        self._key = (
            ed25519.Ed25519PrivateKey.generate()
            if kind == SK_ED25519
            else ec.generate_private_key(ec.SECP256R1())
        )

    @property
    def public(self):
        if self.kind.decode() == SK_ED25519:
            point = string(self._key.public_key().public_bytes_raw())
        else:
            form = (Encoding.X962, PublicFormat.UncompressedPoint)
            point = string(b"nistp256") + string(self._key.public_key().public_bytes(*form))
        return string(self.kind) + point + string(self.application)

    @property
    def line(self):
        return f"{self.kind.decode()} {base64.b64encode(self.public).decode()}"

    def sign(self, message, *, flags=TOUCHED, application=None, extra=b"", version=1, **fields):
        """The blob of a signature; `fields` as `enclose` and `covered` take them."""
        self.counter += 1
        tail = bytes([flags]) + self.counter.to_bytes(4)
        signed = (
            hashlib.sha256(application or self.application).digest()
            + tail
            + hashlib.sha256(covered(message, **fields)).digest()
        )
        inner = string(self.kind) + string(self._signature(signed)) + tail + extra
        return enclose(self.public, inner, version=version, **fields)

    def _signature(self, signed):
        if self.kind.decode() == SK_ED25519:
            return self._key.sign(signed)
        r, s = decode_dss_signature(self._key.sign(signed, ec.ECDSA(hashes.SHA256())))
        return mpint(r) + mpint(s)


def rsa_line(bits, exponent=65_537):
    """The line of an RSA key that ssh-keygen would not make."""
    key = rsa.generate_private_key(public_exponent=exponent, key_size=bits).public_key()
    return key.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()


@pytest.fixture(scope="session")
def ssh(tmp_path_factory):
    return Ssh(tmp_path_factory.mktemp("ssh"))

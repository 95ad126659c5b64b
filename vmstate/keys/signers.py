"""Who signs: a key in a file of ours, or whatever `ssh-keygen` can reach.

With an OpenSSH key the real `ssh-keygen -Y sign -n vmstate` runs, so that agents, passphrases,
PINs and the touch of a hardware key work as their owner knows them; it speaks with its owner on
their own terminal. What it made is verified before anybody gets it.
"""

import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Protocol

from vmstate.errors import InputError
from vmstate.keys.files import read_key
from vmstate.keys.private import Ask, PrivateKey
from vmstate.keys.public import PublicKey, SshKey, read_pem_public
from vmstate.keys.signatures import NAMESPACE, read_signature
from vmstate.keys.wire import Reader, from_base64

SIGN_SECONDS = 300  # to find the hardware key, type its PIN and touch it; it gives up in 30 itself
_BEGIN, _END = "-----BEGIN OPENSSH PRIVATE KEY-----", "-----END OPENSSH PRIVATE KEY-----"
_MAGIC = b"openssh-key-v1\0"


class Signer(Protocol):
    """Signs as one public key; `public.verifies(signer.sign(m), m)` holds for every m."""

    @property
    def public(self) -> PublicKey: ...

    def sign(self, message: bytes) -> bytes:
        """The signature's bytes: how a file spells them is not a key's business."""
        ...


class SshSigner:
    """Signs by `ssh-keygen` with the key in `path`: a private one, or a `.pub` for an agent's."""

    __slots__ = ("path", "public")

    def __init__(self, path: Path, public: SshKey) -> None:
        self.path = path
        self.public = public

    def __repr__(self) -> str:
        return f"<SshSigner of {self.public.fingerprint}>"

    def sign(self, message: bytes) -> bytes:
        """Run `ssh-keygen`, which may ask for a passphrase, a PIN or a touch.

        The message goes by a file: on standard input it would take the terminal away from
        whoever is to type a passphrase.

        Raises:
            InputError: no `ssh-keygen`, it did not sign, or it signed with another key.
        """
        program = shutil.which("ssh-keygen")
        if program is None:
            raise InputError(f"{self.path} is an SSH key, and there is no ssh-keygen to sign with")
        with tempfile.TemporaryDirectory(prefix="vmstate-sign-") as folder:
            file = Path(folder) / "statement"
            file.write_bytes(message)
            key = self.path.absolute()  # a name that begins with a dash would be an option
            words = ["-q", "-Y", "sign", "-n", NAMESPACE.decode(), "-f", str(key), str(file)]
            try:
                done = subprocess.run(  # noqa: S603 -- no shell, and no word of a stranger's
                    [program, *words], stdout=subprocess.DEVNULL, check=False, timeout=SIGN_SECONDS
                )
            except subprocess.TimeoutExpired as error:
                what = f"ssh-keygen did not sign with {self.path} in {SIGN_SECONDS} seconds"
                raise InputError(what) from error
            made = file.with_name("statement.sig")
            if done.returncode or not made.exists():
                what = f"ssh-keygen did not sign with {self.path} (exit code {done.returncode})"
                raise InputError(f"{what}: it says why itself")
            signature = read_signature(made.read_bytes())
        if not self.public.verifies(signature, message):
            raise InputError(f"ssh-keygen signed with another key than the one in {self.path}")
        return signature


def load_signer(path: Path, ask: Ask | None = None) -> Signer:
    """The signer behind a key file of ours, an OpenSSH one, or an OpenSSH `.pub`.

    `ask` is called for the passphrase of a key file of ours; `ssh-keygen` asks for itself.

    Raises:
        InputError: it is none of these, or can't be read.
    """
    data = read_key(path)
    public = _openssh(data, path)
    return PrivateKey.parse(data, path, ask) if public is None else SshSigner(path, public)


def load_public(path: Path, ask: Ask | None = None) -> PublicKey:
    """The public half of a key file: a private one, an OpenSSH `.pub`, or a public PEM.

    Raises:
        InputError: it is none of these, or can't be read.
    """
    data = read_key(path)
    if data.lstrip().startswith(b"-----BEGIN PUBLIC KEY-----"):
        return read_pem_public(data)
    public = _openssh(data, path)
    return PrivateKey.parse(data, path, ask).public if public is None else public


def _openssh(data: bytes, path: Path) -> SshKey | None:
    """The public key in an OpenSSH file, private or not; None for a file of another kind."""
    text = data.decode("utf-8", errors="replace").strip()
    if text.startswith(_BEGIN) and text.endswith(_END):
        encoded = text.removeprefix(_BEGIN).removesuffix(_END)
        try:
            return SshKey.from_wire(_public_part("".join(encoded.split())))
        except ValueError as error:
            raise InputError(f"key file {path} is not as OpenSSH writes a private key") from error
    if text.startswith(("ssh-", "ecdsa-", "sk-")):
        return SshKey.parse(text)
    return None


def _public_part(encoded: str) -> bytes:
    """The public key in a private key's file, which stands there in the clear.

    Source: OpenSSH, PROTOCOL.key
    """
    reader = Reader(from_base64(encoded) or b"")
    if reader.take(len(_MAGIC)) != _MAGIC:
        raise ValueError("does not begin as an OpenSSH key")
    _cipher, _kdf, _options = (reader.string() for _ in range(3))
    if reader.number() != 1:
        raise ValueError("holds more than one key")
    return reader.string()

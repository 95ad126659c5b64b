"""Tokens: what a program shows to prove that it may ask. The constitution holds a digest only.

    vmt_…                  256 random bits in base64url; the secret, in a file of its own
    sha256:…               SHA-256 of the token's characters: what `[principals.<name>] token` holds

A digest without salt is enough: nobody can guess 256 bits, so there is nothing to slow down.
"""

import hashlib
import re
import secrets
from pathlib import Path

from vmstate.errors import InputError
from vmstate.keys.files import read_key, write_secret

PREFIX = "vmt_"  # people, and programs that look for leaked secrets, know one by it
TOKEN_BYTES = 32
_TOKEN = re.compile(r"vmt_[A-Za-z0-9_-]{43}")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


def new_token() -> str:
    """A token that nobody has yet. Show it to no one: hand it to `save_token`."""
    return PREFIX + secrets.token_urlsafe(TOKEN_BYTES)


def token_digest(token: str) -> str:
    """What the constitution holds instead of the token."""
    return f"sha256:{hashlib.sha256(token.encode()).hexdigest()}"


def check_token_digest(text: str) -> str:
    """Return `text` if it is what `token_digest` makes.

    Raises:
        InputError: it is not. What it is stays unsaid: it may be the token, by mistake.
    """
    if not _DIGEST.fullmatch(text):
        raise InputError(
            "this is not a token's digest, write the line that `vmstate keys token` prints"
        )
    return text


def save_token(token: str, path: Path) -> None:
    """Write a token and a line's end to a new file that only its owner can read.

    Raises:
        InputError: the file is there already, or its folder can't be written.
    """
    write_secret(path, f"{token}\n".encode(), "token file")


def load_token(path: Path) -> str:
    """Read a token's file.

    Raises:
        InputError: it can't be read, or holds no token.
    """
    token = read_key(path).decode(errors="replace").strip()
    if not _TOKEN.fullmatch(token):
        raise InputError(f"{path} holds no token: make one with vmstate keys token")
    return token

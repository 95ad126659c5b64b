"""Keys that people and ledgers sign with, and what their signatures look like."""

from vmstate.keys.private import Ask, PrivateKey
from vmstate.keys.public import KEY_BYTES, Ed25519Key, PublicKey, SshKey
from vmstate.keys.signatures import read_signature
from vmstate.keys.signers import Signer, SshSigner, load_public, load_signer
from vmstate.keys.tokens import (
    check_token_digest,
    load_token,
    new_token,
    save_token,
    token_digest,
)
from vmstate.keys.wire import from_base64

__all__ = [
    "KEY_BYTES",
    "Ask",
    "Ed25519Key",
    "PrivateKey",
    "PublicKey",
    "Signer",
    "SshKey",
    "SshSigner",
    "check_token_digest",
    "from_base64",
    "load_public",
    "load_signer",
    "load_token",
    "new_token",
    "read_signature",
    "save_token",
    "token_digest",
]

"""The kinds of value that a constitution is written in, and the form that each must have."""

import re
from datetime import timedelta
from decimal import Decimal
from ipaddress import ip_address
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field

from vmstate import canonical
from vmstate.errors import InputError
from vmstate.forms import checked, from_text, line, name
from vmstate.keys import PublicKey, check_token_digest


def _check_word(text: str) -> str:
    if (
        not text.replace("_", "a").replace("-", "a").replace(".", "a").isalnum()
        or not text.isascii()
    ):
        raise InputError(f"{text!r} is not a name: use letters, digits and _ - .")
    return canonical.check_name(text, what="name")


def _check_pattern(text: str) -> str:
    """A principal, or everyone below a prefix: `did:vm:agent:*`."""
    if not text.endswith("*"):
        return canonical.check_name(text)
    prefix = text[:-1]
    if not prefix.endswith((":", "/")):
        # `did:vm:sovereign*` would admit `did:vm:sovereign-impostor`.
        raise InputError(f"{text!r}: a wildcard stands after ':' or '/', write 'did:vm:agent:*'")
    canonical.check_name(prefix)
    return text


def _check_account(text: str) -> str:
    """An account of the machine, by name; a number could be anybody's tomorrow."""
    if not re.fullmatch(r"[a-z_][a-z0-9_.-]{0,31}", text):
        raise InputError(f"{text!r} is not an account's name, write it as in /etc/passwd")
    return text


def _check_url(text: str) -> str:
    """Where notices are posted: encrypted unless it stays on this machine, and without a password.

    What is told is not for whoever listens on the way, and a constitution holds no secret.
    """
    if re.search(r"[^!-~]", text):
        raise InputError(f"{text!r} is not a URL: percent-encode what is no ASCII")
    try:
        parts = urlsplit(text)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise InputError(f"{text!r} is not a URL: {error}") from error
    if parts.scheme not in {"https", "http"} or not host:
        raise InputError(f"{text!r} is not a URL, write it as https://host/path")
    if parts.scheme == "http" and not is_loopback(host):
        raise InputError(
            f"{text!r} would be read on the way: write https://, or http:// to 127.0.0.1"
        )
    if parts.username is not None or parts.password is not None:
        raise InputError("the URL names a user: leave it out, each notice is signed")
    if parts.fragment:
        raise InputError(f"{text!r} has a fragment, which is never sent: leave it out")
    return text


def is_loopback(host: str) -> bool:
    """Whether `host` is this machine, spelled so that no resolver is asked."""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


_NO_DURATION = "a duration, write '15m' or '1h30m' in quotes"
Duration = Annotated[timedelta, from_text(canonical.parse_duration, timedelta, _NO_DURATION)]
Exact = Annotated[Decimal, from_text(canonical.parse_decimal, Decimal)]
Key = Annotated[PublicKey, from_text(PublicKey.parse, PublicKey)]
Word = Annotated[str, checked(_check_word)]
Name = Annotated[str, name()]
Pattern = Annotated[str, checked(_check_pattern)]
Line = Annotated[str, line()]
Account = Annotated[str, checked(_check_account)]
TokenDigest = Annotated[str, checked(check_token_digest)]
Url = Annotated[str, checked(_check_url)]
Words = Annotated[tuple[Word, ...], Field(strict=False, min_length=1)]


class Table(BaseModel):
    """A table of the file: frozen, strict, and without keys that nobody reads."""

    model_config = ConfigDict(
        frozen=True,
        strict=True,
        extra="forbid",
        arbitrary_types_allowed=True,
        populate_by_name=False,
    )

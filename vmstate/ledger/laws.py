"""Every law that a ledger was under, found by its digest as receipts are read again.

A receipt is judged by the law of its time, people and keys included. A file keeps each law in its
table of constitutions; a bundle keeps those of before beside the one in force. What is found is
taken only if it has the digest that was asked for.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any

from vmstate.constitution.law import Constitution
from vmstate.constitution.loading import read_constitution
from vmstate.constitution.people import People
from vmstate.errors import ConstitutionError
from vmstate.keys import PublicKey
from vmstate.ledger.bundle import Bundle
from vmstate.ledger.snapshot import Snapshot

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")  # else a receipt could name any file

FindLaw = Callable[[str], Constitution | None]


def laws_of_bundle(bundle: Bundle) -> FindLaw:
    """Finds the laws of a bundle."""

    def find(digest: str) -> Constitution | None:
        if not _DIGEST.fullmatch(digest):
            return None
        return _read(bundle.law(digest), digest) or _read(bundle.toml, digest)

    return find


def laws_of_file(snapshot: Snapshot) -> FindLaw:
    """Finds the laws of a ledger's file, while `snapshot` is good."""

    def find(digest: str) -> Constitution | None:
        form, toml = snapshot.law(digest) or (b"", None)
        law = _read(toml, digest)
        return law if law is not None and law.canonical == form else None

    return find


def people_of(law: Constitution, drill: Mapping[str, Any] | None) -> People:
    """Everybody whom `law` names, and in a drill's ledger, by its mark, the stand-ins."""
    table = law.document.drill
    if drill is None or table is None:
        return law.people
    keys = {name: PublicKey.parse(key) for name, key in drill["stand_ins"].items()}
    return law.people.with_stand_ins(table.stand_ins, keys)


def _read(toml: bytes | None, digest: str) -> Constitution | None:
    if toml is None:
        return None
    try:
        law = read_constitution(toml)
    except ConstitutionError:
        return None
    return law if law.digest == digest else None

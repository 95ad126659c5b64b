"""Who asks: by the key they sign with, by the socket, or by the host's word."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from vmstate.canonical import check_name
from vmstate.errors import LedgerNotFound, UnknownPrincipal
from vmstate.interfaces.cli.options import passphrase_option, read_signer
from vmstate.interfaces.cli.settings import asker
from vmstate.interfaces.cli.statements import check_signs, owner_of

if TYPE_CHECKING:
    from vmstate.door import Door
    from vmstate.keys import Signer
    from vmstate.leases.lease import Lease

_Function = TypeVar("_Function", bound=Callable[..., Any])
_Shown = TypeVar("_Shown")


def key_options(function: _Function) -> _Function:
    """`--key` and `--passphrase-file`: for whoever signs what they ask for."""
    path = click.Path(path_type=Path)
    told = "Sign it with this key file, as whoever's key it is."
    return click.option("--key", "key_file", type=path, help=told)(passphrase_option(function))


def read_key(given: Mapping[str, Any]) -> "Signer | None":
    """The key that `key_options` name, if they do; raises InputError."""
    key_file = given["key_file"]
    return None if key_file is None else read_signer(key_file, given["passphrase_file"])


def key_owner(door: "Door", given: Mapping[str, Any], key: "Signer | None") -> str | None:
    """Whom `--as` names, else whose key it is; None where neither is said.

    Raises:
        InputError: the key is not that of whom `--as` names.
    """
    who = given["who"]
    if key is None:
        return None if who is None else check_name(who)
    law = shown_by(lambda: door.constitution)
    if law is None:
        return None if who is None else check_name(who)  # they have to say
    if who is None:
        return owner_of(law.people.keys, key.public, given["key_file"])
    check_signs(law.people.keys, check_name(who), key.public, given["key_file"])
    return str(who)


def shown_by(read: Callable[..., _Shown], *given: Any) -> _Shown | None:
    """What `read` shows; None to a stranger at a socket, who may read nothing.

    What they signed is decided all the same, and has to be told without it.
    """
    try:
        return read(*given)
    except UnknownPrincipal:
        return None


def signs_as(door: "Door", given: Mapping[str, Any], key: "Signer | None") -> str:
    """Who asks: as `key_owner`, else the one name that the socket takes this caller for."""
    who = key_owner(door, given, key)
    if who is None and key is not None:
        raise click.UsageError("Missing option '--as': whose key it is can't be looked up here.")
    return asker(door, who)


def lease_holder(door: "Door", lease: str) -> str:
    """Whose lease this is: the host vouches for whoever can open the ledger.

    A socket vouches for nobody. There the caller is one of the names that it knows them by, and
    another's lease is looked after no better than one that never was.
    """
    names, held = door.names, door.lease(lease)
    if names:
        own = held is not None and held.principal in names
        return asker(door, held.principal if held is not None and own else None)
    return require_lease(door, lease).principal


def require_lease(door: "Door", lease: str) -> "Lease":
    """The lease, live or over; raises LedgerNotFound."""
    held = door.lease(lease)
    if held is None:
        raise LedgerNotFound(f"there is no lease {lease}: vmstate status shows those that live")
    return held

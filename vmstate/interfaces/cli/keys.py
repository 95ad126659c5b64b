"""`keys new|show|list|token`: what people sign with, and what programs prove themselves with.

No verb prints a private key or a token: each goes to a file that only its owner can read, and what
is printed is what the constitution needs.
"""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from vmstate.canonical import Json, check_name
from vmstate.errors import InputError
from vmstate.interfaces.cli.options import (
    ask_passphrase,
    passphrase_option,
    read_passphrase,
    type_passphrase,
)
from vmstate.interfaces.cli.output import emit, say, table
from vmstate.interfaces.cli.settings import Command, Group, Look, Settings

if TYPE_CHECKING:
    from vmstate.constitution.document import Principal


@click.group(cls=Group)
def keys() -> None:
    """Make and show keys of people, and tokens of programs."""


@keys.command("new", cls=Command)
@click.argument("name")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="The key file to write.")
@click.option("--passphrase", is_flag=True, help="Put it behind a passphrase; you are asked.")
@click.option(
    "--passphrase-file",
    type=click.Path(path_type=Path),
    help="Put it behind the passphrase that is this file's first line.",
)
@click.pass_obj
def new_key(
    settings: Settings,
    name: str,
    output: Path | None,
    passphrase_file: Path | None,
    *,
    passphrase: bool,
) -> None:
    """Make a key for NAME, and print the lines that the constitution needs.

    The private key goes to a file that only you can read; give nobody that file. Who has an SSH
    key, in hardware even, needs none: see vmstate keys show.
    """
    from vmstate.keys import PrivateKey

    check_name(name)
    path = output or _file_for(name, "key")
    locked: bytes | None = None
    if passphrase_file is not None:
        locked = read_passphrase(passphrase_file)
    elif passphrase:
        locked = _typed_twice(path)
    key = PrivateKey.generate()
    key.save(path, locked)
    if settings.json:
        emit({"ok": True, "name": name, "key": str(key.public), "file": str(path)})
        return
    click.echo(f'[principals."{name}"]\nkey = "{key.public}"')
    say(f"the private key is in {path}: keep it, and give it to nobody")


def _typed_twice(path: Path) -> bytes:
    why = f"{path} is to have a passphrase"
    typed = type_passphrase(f"passphrase for {path}: ", why)
    if typed != type_passphrase("the same again: ", why):
        raise InputError("the two passphrases differ: nothing was made")
    return typed


def _file_for(name: str, kind: str) -> Path:
    return Path(f"{''.join(c if c.isalnum() else '-' for c in name)}.{kind}")


@keys.command("show", cls=Command)
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--as", "who", metavar="NAME", help="Whose key it is: prints the table's line too.")
@passphrase_option
@click.pass_obj
def show_key(settings: Settings, file: Path, who: str | None, passphrase_file: Path | None) -> None:
    """Print the lines that the constitution needs for the key in FILE, never its private half.

    FILE is a private key (vmstate's, openssl's or OpenSSH's), an OpenSSH .pub or a public PEM.
    """
    from vmstate.keys import load_public

    public = load_public(file, ask_passphrase(passphrase_file))
    if settings.json:
        shown: dict[str, Json] = {"kind": public.kind, "fingerprint": public.fingerprint}
        emit({"ok": True, "name": who, "key": str(public), **shown})
        return
    if who is not None:
        click.echo(f'[principals."{check_name(who)}"]')
    click.echo(f'key = "{public}"')
    say(f"{public.kind} {public.fingerprint}")


@keys.command("list", cls=Look)
@click.pass_obj
def list_keys(settings: Settings) -> None:
    """List the names under [principals], with their keys' fingerprints as ssh shows them.

    At a socket (and without --constitution) those of the law in force there.
    """
    asks = settings.at_socket and "constitution" not in settings.typed
    law = settings.authority().constitution if asks else settings.law()
    bodies = [_body(name, principal) for name, principal in law.document.principals.items()]
    if settings.json:
        listed: list[Json] = [*bodies]
        emit({"ok": True, "principals": listed})
        return
    columns = ("name", "kind", "fingerprint", "account", "token", "controller")
    rows = [[str(body[column] or "") for column in columns] for body in bodies]
    header = ("NAME", "KEY", "FINGERPRINT", "ACCOUNT", "TOKEN", "CONTROLLER")
    table(header, rows, hidden=frozenset({"TOKEN"}))  # a digest, which nobody compares by eye


def _body(name: str, principal: "Principal") -> dict[str, Json]:
    key = principal.key
    return {
        "name": name,
        "kind": None if key is None else key.kind,
        "key": None if key is None else str(key),
        "fingerprint": None if key is None else key.fingerprint,
        "account": principal.account,
        "token": principal.token,
        "controller": principal.controller,
    }


@keys.command("token", cls=Command)
@click.argument("name")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="The token file to write.")
@click.pass_obj
def make_token(settings: Settings, name: str, output: Path | None) -> None:
    """Make a token for NAME, and print the lines that the constitution needs.

    The token goes to a file that only you can read, for the program that is to show it; the
    constitution holds its digest, from which nobody can work it out.
    """
    from vmstate.keys import new_token, save_token, token_digest

    path = output or _file_for(check_name(name), "token")
    token = new_token()
    save_token(token, path)
    digest = token_digest(token)
    if settings.json:
        emit({"ok": True, "name": name, "token": digest, "file": str(path)})
        return
    click.echo(f'[principals."{name}"]\ntoken = "{digest}"')
    say(f"the token is in {path}: give it to that program only")

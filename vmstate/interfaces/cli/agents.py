"""`gate`, `mcp`, `hook`: the doors of agents."""

from importlib.util import find_spec
from typing import TYPE_CHECKING

import click

from vmstate.canonical import parse_duration
from vmstate.errors import InputError
from vmstate.interfaces.cli.settings import (
    Command,
    Settings,
    asker,
    drill_mode,
    principal_option,
)

if TYPE_CHECKING:
    from vmstate.door import Door
    from vmstate.expiry import Expiry
    from vmstate.interfaces.mcp.upstream import Address, Child

TRIAL = "gate:start"  # a name that nobody has: a transaction about it writes nothing
REMEDY = "the MCP SDK is not installed: pip install 'vmstate[mcp]'"


def _guarding(settings: Settings) -> "Door":
    """Where to ask, if what is said there may guard something real (law 14)."""
    from vmstate.authority import Authority
    from vmstate.client import Client
    from vmstate.interfaces.mcp.shown import SHOWN_WITHIN

    door = settings.authority()
    if isinstance(door, Client):
        door.shown_within = SHOWN_WITHIN
    _require_live(settings, door)
    if isinstance(door, Authority):
        door.ledger.require_key()
        door.settle((TRIAL,))  # a gate that can't write lets through what nobody ever reads of
    return door


def _require_live(settings: Settings, door: "Door") -> None:
    if door.is_drill:
        what = "its authority is for drills, and a gate guards something real"
        raise InputError(f"{settings.ledger} is a drill's ledger: {what}")


class _Served(Command):
    """A verb that takes the MCP SDK; without it even its help says how to get it."""

    def parse_args(self, context: click.Context, args: list[str]) -> list[str]:
        if find_spec("mcp") is None:
            raise InputError(REMEDY)
        return super().parse_args(context, args)


@click.command(cls=_Served)
@principal_option("Who calls, over stdio.  [env: VMSTATE_PRINCIPAL]")
@click.option("--server", help="Its table under [tools]; by default the only one there is.")
@click.option("--listen", metavar="HOST:PORT", help="Serve over HTTP, each caller by its token.")
@click.option("--url", help="Stand in front of a server at an address instead of a command.")
@click.option("--token-env", metavar="NAME", help="The variable with that server's bearer token.")
@click.option("--pass-env", "passed", multiple=True, metavar="NAME", help="Hand on to the command.")
@click.option(
    "--answer-within",
    "within",
    default="5m",
    show_default=True,
    metavar="DURATION",
    help="Call off what that server leaves unanswered for so long, with no progress.",
)
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
@click.pass_obj
def gate(
    settings: Settings,
    who: str | None,
    server: str | None,
    listen: str | None,
    url: str | None,
    token_env: str | None,
    passed: tuple[str, ...],
    within: str,
    command: tuple[str, ...],
) -> None:
    """Stand in front of an MCP server: `vmstate gate --as AGENT -- COMMAND…`.

    What may be called is what [tools.<server>] of the constitution gives the profile that is held
    at that moment; everything else is denied. A call that takes an approval of its own waits as an
    open request (vmstate request approve), and goes through once it is made again. The server's
    credentials stay here: a command gets the variables named with --pass-env, an address the token
    in --token-env.
    """
    authority = _guarding(settings)
    target = _target(command, url, token_env, passed, within)
    name = _server_of(authority, server)
    if listen is None:
        who = asker(authority, who)
        authority.standing(who)  # somebody unknown is told so at once, not call by call
    from vmstate.interfaces.mcp.run import run_gate

    run_gate(authority, name, target, principal=who, listen=listen)


@click.command("mcp", cls=_Served)
@principal_option("Who calls, over stdio.  [env: VMSTATE_PRINCIPAL]")
@click.option("--listen", metavar="HOST:PORT", help="Serve over HTTP, each caller by its token.")
@click.pass_obj
def mcp_(settings: Settings, who: str | None, listen: str | None) -> None:
    """Serve authority to agents: status, why, asking, taking, giving back, and the runbook's calls.

    Nothing here approves, locks, amends or recovers. With DRILL_MODE=1, over stdio, everything is
    done in a drill's ledger of its own.
    """
    from vmstate.interfaces.mcp.run import run_server
    from vmstate.session import Session, session

    if drill_mode():
        if listen is not None:
            raise InputError("a drill is one principal's: leave --listen out, or DRILL_MODE")
        here = session()
        run_server(here.authority, lambda *_: here, principal=here.principal, listen=None)
        return
    door = _guarding(settings)
    if listen is None:
        who = asker(door, who)
        door.standing(who)
    expiry = _giving_back(door)

    def session_of(principal: str, door: "Door") -> Session:
        return Session(door, expiry, principal, None)

    run_server(door, session_of, principal=who, listen=listen)


def _giving_back(door: "Door") -> "Expiry | None":
    """A scheduler of our own, where the ledger's file is open here."""
    from vmstate.authority import Authority
    from vmstate.expiry import Expiry

    if not isinstance(door, Authority):
        return None
    expiry = Expiry(door)
    expiry.start()
    click.get_current_context().call_on_close(expiry.stop)
    return expiry


def _target(
    command: tuple[str, ...],
    url: str | None,
    token_env: str | None,
    passed: tuple[str, ...],
    within: str,
) -> "Child | Address":
    import os
    from urllib.parse import urlsplit

    from vmstate.interfaces.mcp.upstream import Address, Child

    if (url is None) == (not command):
        raise click.UsageError("Name the server: either '-- COMMAND…' or '--url URL'.")
    seconds = parse_duration(within).total_seconds()
    if url is None:
        return Child(command, passed, seconds)
    if "@" in urlsplit(url).netloc:
        remedy = "put the server's token in a variable and name it with --token-env"
        raise InputError(f"the address has a name or password in it: {remedy}")
    token = None
    if token_env is not None:
        token = os.environ.get(token_env)
        if token is None:
            raise InputError(f"{token_env} is not set: it has to hold the server's token")
    return Address(url, token, seconds)


def _server_of(authority: "Door", named: str | None) -> str:
    servers = authority.constitution.document.tools
    known = ", ".join(servers) or "none"
    if named is None and len(servers) == 1:
        return next(iter(servers))
    if named is None:
        raise click.UsageError(f"Missing option '--server': there are {known}.")
    if named not in servers:
        raise InputError(f"{named} is no server under [tools]: there are {known}")
    return named

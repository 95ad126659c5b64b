"""`vmstate`: the operators' door. Each verb's module is loaded when the verb is used."""

import sys
from collections.abc import Mapping
from importlib import import_module
from typing import Any

import click

from vmstate.errors import (
    ConstitutionError,
    Denied,
    DrillError,
    InputError,
    LedgerNotFound,
    UnknownPrincipal,
    VmstateError,
)
from vmstate.interfaces.cli.settings import (
    DENIED,
    ERROR,
    NOT_FOUND,
    USAGE,
    Settings,
    global_options,
)

# Verb to its module, its name there, and its line in the help: so that neither `--help` nor
# completion has to load a single one of them.
_VERBS: Mapping[str, tuple[str, str, str]] = {
    "init": ("setup", "init", "Write a constitution to start from, a ledger and its key."),
    "check": ("setup", "check", "Say what is wrong with a constitution, line by line."),
    "graph": ("setup", "graph", "Draw the constitution, and who stands where in it."),
    "status": ("authority", "status", "Show who holds what, and until when."),
    "watch": ("watch", "watch", "Show that as it changes, with what waits and what is owed."),
    "escalate": ("authority", "escalate", "Ask for a profile."),
    "run": ("run", "run", "Run a command under a lease that it does not outlive."),
    "renew": ("authority", "renew", "Ask for a later end of the topmost lease."),
    "release": ("ending", "release", "Give a lease back."),
    "revoke": ("ending", "revoke", "End anybody's lease, with a key that may."),
    "lock": ("locks", "lock", "End at once what somebody or everybody holds, and refuse more."),
    "unlock": ("locks", "unlock", "Lift a lock; what it ended stays ended."),
    "act": ("acts", "act", "Put an act of the constitution on record, or say why not."),
    "budget": ("budgets", "budget", "Allocate and spend budgets of whole units."),
    "may": ("authority", "may", "Answer whether somebody may do something now."),
    "why": ("authority", "why", "Say what a request would come to, and what is missing."),
    "request": ("requests", "request", "Requests that wait for others' signatures."),
    "attest": ("attest", "attest", "Push what a sensor sees, ahead of any request."),
    "sign": ("statements", "sign", "Approve or attest a prepared request."),
    "keys": ("keys", "keys", "Make and show keys of people, and tokens of programs."),
    "receipts": ("receipts", "receipts", "List, show and follow what was decided."),
    "export": ("receipts", "export", "Write the ledger out for somebody who has no vmstate."),
    "audit": ("receipts", "audit", "Verify a ledger or an exported folder."),
    "constitution": (
        "law",
        "constitution",
        "Show the laws of a ledger, and all that one may say.",
    ),
    "amend": ("law", "amend", "Put another law in force, by the approvals that this takes."),
    "recover": ("service", "recover", "Go on after a clock in the past, on the record."),
    "serve": ("service", "serve", "Give leases back on time until told to stop."),
    "mcp": ("agents", "mcp_", "Serve authority to agents, as an MCP server."),
    "hook": ("hook", "hook", "Decide for agent programs that ask before they run a tool."),
    "notify": ("notify", "notify", "Show what waits to be told to [notify], and try it."),
    "gate": ("agents", "gate", "Stand in front of an MCP server."),
    "drill": ("drills", "drill", "Rehearse on virtual time."),
    "canary": ("canary", "canary", "Take a short lease, and see that it comes back."),
    "completion": ("setup", "completion", "Print the completion script for a shell."),
}


class _Lazy(click.Group):
    """A group that knows its verbs' names without loading them."""

    def list_commands(self, _: click.Context) -> list[str]:
        return list(_VERBS)

    def get_command(self, _: click.Context, name: str) -> click.Command | None:
        if name not in _VERBS:
            return None
        module, attribute, _help = _VERBS[name]
        command: click.Command = getattr(
            import_module(f"vmstate.interfaces.cli.{module}"), attribute
        )
        return command

    def format_commands(self, _: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, help_) for name, (_, _, help_) in _VERBS.items()])

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        if args and args[0] not in _VERBS:
            import difflib

            near = difflib.get_close_matches(args[0], _VERBS, n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise click.UsageError(f"No such command {args[0]!r}.{hint}", ctx)
        return super().resolve_command(ctx, args)


@click.command(
    cls=_Lazy,
    params=global_options(environment=True),
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Exit codes: 0 ok, 1 failed, 2 usage, 3 denied, 4 blocked, 5 not found, 6 error.",
)
@click.version_option(package_name="vmstate", message="%(version)s")
@click.pass_context
def vmstate(context: click.Context) -> None:
    """Time-boxed authority that gives itself back, and can prove it."""
    context.ensure_object(Settings)


def run() -> None:
    """Run the command line of this process, and exit."""
    settings = Settings()
    try:
        result = vmstate.main(obj=settings, standalone_mode=False, prog_name="vmstate")
    except click.exceptions.Exit as exit_:
        sys.exit(exit_.exit_code)
    except click.ClickException as error:
        if settings.json or "--json" in sys.argv:
            say_json("UsageError", error.format_message(), error.exit_code)
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        click.echo("stopped", err=True)
        sys.exit(130)
    except BrokenPipeError:
        # Whoever read our output has seen enough; closing what is left must not complain.
        sys.stderr.close()
        sys.exit(0)
    except OSError as error:
        # Without a file's name it is standard output, which went to a full disk, or to nobody.
        named = error.filename is not None
        what = f"{error.filename} can't be used" if named else "the answer can't be written"
        click.echo(f"error: {what}: {error.strerror}", err=True)
        sys.exit(ERROR)
    except VmstateError as error:
        sys.exit(report(error, settings))
    sys.exit(result if isinstance(result, int) else 0)


def report(error: VmstateError, settings: Settings) -> int:
    """Show an error; returns its exit code."""
    code = exit_code(error)
    if settings.json:
        say_json(type(error).__name__, str(error), code)
    click.echo(f"{click.style('error', fg='red', bold=True)}: {error}", err=True)
    return code


def say_json(name: str, message: str, code: int) -> None:
    """An error as JSON, on standard output like every other answer."""
    import json

    click.echo(json.dumps({"ok": False, "error": name, "message": message, "exit": code}))


def exit_code(error: VmstateError) -> int:
    """The exit code that stands for an error (DESIGN 10)."""
    match error:
        case Denied() | UnknownPrincipal():
            return DENIED
        case LedgerNotFound():
            return NOT_FOUND
        case InputError() | DrillError():
            return USAGE
        case ConstitutionError():
            return ERROR
        case _:
            return ERROR

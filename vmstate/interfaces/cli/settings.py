"""Which constitution, which ledger, and in which form the answer is wanted."""

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Any, TypeVar

import click
from click.core import ParameterSource

from vmstate.errors import ConstitutionError, InputError, LedgerMismatch

if TYPE_CHECKING:
    from vmstate.authority import Authority
    from vmstate.constitution.law import Constitution
    from vmstate.door import Door

OK, FAILED, USAGE, DENIED, BLOCKED, NOT_FOUND, ERROR = range(7)

_Function = TypeVar("_Function", bound=Callable[..., Any])
_Opened = TypeVar("_Opened", bound="Door")


@dataclass
class Settings:
    """The global options; each may stand before the verb or after it.

    `typed` names those that stand on the command line, and not only in the environment. An empty
    `socket` is none: the ledger's file is opened. `looks` is set by verbs that write to no ledger,
    `returns` by those that grant nothing: both go on whatever the constitution's file says, and
    warn of it unless they are `quiet`. `warned` is what was said then.
    """

    constitution: Path = Path("constitution.toml")
    ledger: Path = Path("vmstate.db")
    socket: str = ""
    token_file: Path | None = None
    json: bool = False
    looks: bool = False
    returns: bool = False
    quiet: bool = False
    warned: str = ""
    typed: set[str] = field(default_factory=set)

    @property
    def at_socket(self) -> bool:
        """Whether a verb that may look at the file has to ask at a socket all the same."""
        return bool(self.socket) and "ledger" not in self.typed

    def law(self) -> "Constitution":
        """The constitution; raises ConstitutionError."""
        from vmstate.constitution.loading import load_constitution

        return load_constitution(self.constitution)

    def authority(self) -> "Door":
        """Where to ask: `vmstate serve` at its socket if one was named, else the ledger's file.

        Raises what `Client` and `Authority.open` do; a socket where nobody listens is an error,
        never a reason to open the file instead.
        """
        if not self.socket:
            return self.file()
        door = self.open()
        click.get_current_context().call_on_close(door.close)
        return door

    def open(self) -> "Door":
        """The same for somebody who closes it."""
        if not self.socket:
            return self._meant(self._at_file(serving=False))
        from vmstate.client import Client
        from vmstate.keys import load_token

        token = None if self.token_file is None else load_token(self.token_file)
        return self._meant(Client(self.socket, token=token))

    def file(self, *, serving: bool = False) -> "Authority":
        """The ledger's file, whatever socket was named."""
        authority = self._at_file(serving=serving)
        click.get_current_context().call_on_close(authority.close)
        return self._meant(authority)

    def _at_file(self, *, serving: bool) -> "Authority":
        """The ledger's file, where the constitution's says what rules in it.

        The ledger keeps the law in force, and a file that was edited, broken or lost changes
        nothing of it. Law 6: nothing is granted to somebody who may believe that the file rules,
        and what takes back, refuses or only looks never waits for the file to be put right.
        """
        from vmstate.authority import Authority

        try:
            return Authority.open(self.constitution, self.ledger, serving=serving)
        except (ConstitutionError, LedgerMismatch) as error:
            if not self.ledger.exists():
                raise
            authority = Authority.open(None, self.ledger, serving=serving)  # or says the same again
            fault, remedies = self._fault(authority, error)
            if self.returns:
                self.warned = f"{self.constitution} decides nothing here: {fault}"
                mark = click.style("warning", fg="yellow", bold=True)
                if not self.quiet:
                    click.echo("\n  ".join((f"{mark}: {self.warned}", *remedies)), err=True)
                return authority
            authority.close()
            what = "\n  ".join(
                (f"nothing is granted under {self.constitution}: {fault}", *remedies)
            )
            raise LedgerMismatch(what) from error

    def _fault(
        self, authority: "Authority", error: ConstitutionError | LedgerMismatch
    ) -> tuple[str, tuple[str, str]]:
        """What the constitution's file is in place of the law in force, and which commands help."""
        here, vmstate = quote(str(self.constitution)), "vmstate"
        if "ledger" in self.typed:
            vmstate += f" --ledger {quote(str(self.ledger))}"
        law = authority.constitution.digest
        show = f"{vmstate} constitution show > in-force.toml"
        kept = f"in force is {law}: {show}, then --constitution in-force.toml"
        if isinstance(error, ConstitutionError):
            back = f"to put it back: {vmstate} constitution show > {here}"
            if not self.constitution.exists():
                return "there is no such file", (kept, back)
            if self.constitution.is_file() and not self.constitution.stat().st_size:
                return "it is empty", (kept, back)
            more = len(error.problems) - 1
            first = f"{error.problems[0]}{f' (and {more} more)' if more else ''}"
            return first, (kept, f"what is wrong with it: vmstate check {here}")
        given = self.law().digest
        with authority.ledger.read() as snapshot:
            laws, size = snapshot.laws(), snapshot.head().tree.size
        earlier = given in {digest for _, digest in laws}
        what = "is an earlier law of" if earlier else "is not the law in force in"
        adopts = size == len(laws)  # nothing was decided yet
        put = f"{vmstate} init" if adopts else f"{vmstate} amend {here}"
        return f"{given} {what} {self.ledger}", (kept, f"to put the file in force: {put}")

    def require_meant(self, *, is_drill: bool) -> None:
        """Refuse to write to a live ledger where a drill is what was asked for (law 14).

        Raises:
            InputError: `DRILL_MODE` is set, the ledger is live, and the verb would write to it.
        """
        if self.looks or is_drill or not drill_mode():
            return
        where = self.socket or self.ledger
        raise InputError(
            f"DRILL_MODE is {drill_mode()!r}, and {where} is live: nothing was written; unset it "
            "to mean the live ledger, or name a drill's with --ledger"
        )

    def _meant(self, door: _Opened) -> _Opened:
        try:
            self.require_meant(is_drill=door.is_drill)
        except InputError:
            door.close()
            raise
        return door


def drill_mode() -> str:
    """What `DRILL_MODE` is set to; empty where it asks for no drill."""
    mode = os.environ.get("DRILL_MODE", "")
    return "" if mode == "0" else mode


def _remember(name: str) -> Callable[[click.Context, click.Parameter, Any], Any]:
    def remember(context: click.Context, parameter: click.Parameter, value: Any) -> Any:
        if value is not None and value is not False:
            settings = context.ensure_object(Settings)
            setattr(settings, name, value)
            source = context.get_parameter_source(parameter.name or "")
            if source is ParameterSource.COMMANDLINE:
                settings.typed.add(name)
        return value

    return remember


def global_options(*, environment: bool = False) -> list[click.Option]:
    """Fresh copies of the options that every command has.

    Only the program's own, before the verb, look into the environment: what is said on the command
    line wins, wherever it stands.
    """
    return [
        click.Option(
            ["--constitution"],
            envvar="VMSTATE_CONSTITUTION" if environment else None,
            type=click.Path(path_type=Path),
            expose_value=False,
            callback=_remember("constitution"),
            help="The constitution's file.  [default: constitution.toml]",
        ),
        click.Option(
            ["--ledger"],
            envvar="VMSTATE_LEDGER" if environment else None,
            type=click.Path(path_type=Path),
            expose_value=False,
            callback=_remember("ledger"),
            help="The ledger's file.  [default: vmstate.db]",
        ),
        click.Option(
            ["--socket"],
            envvar="VMSTATE_SOCKET" if environment else None,
            metavar="PATH",
            expose_value=False,
            callback=_remember("socket"),
            help="Ask vmstate serve there, not the ledger's file.",
        ),
        click.Option(
            ["--token-file"],
            envvar="VMSTATE_TOKEN_FILE" if environment else None,
            type=click.Path(path_type=Path),
            expose_value=False,
            callback=_remember("token_file"),
            help="Show the token in it at the socket.",
        ),
        click.Option(
            ["--json"],
            is_flag=True,
            expose_value=False,
            callback=_remember("json"),
            help="Answer in JSON, on standard output.",
        ),
    ]


class Command(click.Command):
    """A command that takes the global options after its verb as well."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.params = [*self.params, *global_options()]


class Look(Command):
    """A command that writes to no ledger, so that it shows a live one while a drill is on."""

    def invoke(self, ctx: click.Context) -> Any:
        settings = ctx.ensure_object(Settings)
        settings.looks = settings.returns = True
        return super().invoke(ctx)


class Return(Command):
    """A command that grants nothing: it ends, refuses, or keeps what gives back going."""

    def invoke(self, ctx: click.Context) -> Any:
        ctx.ensure_object(Settings).returns = True
        return super().invoke(ctx)


class Group(click.Group):
    """A noun with verbs below it; takes the global options too."""

    command_class = Command

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.params = [*self.params, *global_options()]


def principal_option(help_: str) -> Callable[[_Function], _Function]:
    """`--as NAME`: who is meant."""
    return click.option("--as", "who", metavar="NAME", envvar="VMSTATE_PRINCIPAL", help=help_)


def asker(door: "Door", who: str | None) -> str:
    """Who asks: `who`, or the one name that the socket takes this caller for."""
    if who is None and len(door.names) == 1:
        return door.names[0]
    return named(who)


def named(who: str | None) -> str:
    """`who` as `principal_option` has it, or a usage error that says how to give it."""
    return required(who, "--as", "give --as NAME, or set VMSTATE_PRINCIPAL")


def required(value: str | None, option: str, remedy: str) -> str:
    """`value`, or a usage error that names the option and what to write."""
    if value is None:
        raise click.UsageError(f"Missing option '{option}': {remedy}.")
    return value

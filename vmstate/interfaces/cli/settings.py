"""Which constitution, which ledger, and in which form the answer is wanted."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from vmstate.authority import Authority
    from vmstate.constitution.law import Constitution

OK, FAILED, USAGE, DENIED, BLOCKED, NOT_FOUND, ERROR = range(7)

_Function = TypeVar("_Function", bound=Callable[..., Any])


@dataclass
class Settings:
    """The global options; each may stand before the verb or after it.

    `chosen` names those that were given, on the command line or in the environment.
    """

    constitution: Path = Path("constitution.toml")
    ledger: Path = Path("vmstate.db")
    json: bool = False
    chosen: set[str] = field(default_factory=set)

    def law(self) -> "Constitution":
        """The constitution; raises ConstitutionError."""
        from vmstate.constitution.loading import load_constitution

        return load_constitution(self.constitution)

    def authority(self) -> "Authority":
        """The ledger under the constitution; raises what `Authority.open` does."""
        from vmstate.authority import Authority

        authority = Authority.open(self.constitution, self.ledger)
        click.get_current_context().call_on_close(authority.close)
        return authority


def _remember(name: str) -> Callable[[click.Context, click.Parameter, Any], Any]:
    def remember(context: click.Context, _: click.Parameter, value: Any) -> Any:
        if value is not None and value is not False:
            settings = context.ensure_object(Settings)
            setattr(settings, name, value)
            settings.chosen.add(name)
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


class Group(click.Group):
    """A noun with verbs below it; takes the global options too."""

    command_class = Command

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.params = [*self.params, *global_options()]


def principal_option(help_: str) -> Callable[[_Function], _Function]:
    """`--as NAME`: who is meant."""
    return click.option("--as", "who", metavar="NAME", envvar="VMSTATE_PRINCIPAL", help=help_)


def required(value: str | None, option: str) -> str:
    """`value`, or a usage error that names the option."""
    if value is None:
        raise click.UsageError(f"Missing option '{option}'.")
    return value

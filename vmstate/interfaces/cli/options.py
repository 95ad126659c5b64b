"""What people type: facts, files of statements, and completions for names."""

from collections.abc import Callable, Iterable
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from vmstate.canonical import parse_duration
from vmstate.errors import InputError, VmstateError
from vmstate.files import read_at_most
from vmstate.interfaces.cli.settings import Settings, principal_option

if TYPE_CHECKING:
    from vmstate.keys import Ask, Signer
    from vmstate.signing import Request, Signed

FILE_BYTES = 1_048_576  # of a constitution; requests, statements and checkpoints are shorter

_Function = TypeVar("_Function", bound=Callable[..., Any])
_Read = TypeVar("_Read")


class Whole(click.IntRange):
    """A whole number within bounds, called that where something else was typed."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        try:
            int(str(value))
        except ValueError:
            self.fail(f"{value!r} is not a whole number.", param, ctx)
        return super().convert(value, param, ctx)


def read_facts(pairs: Iterable[str]) -> dict[str, str]:
    """The facts that `--fact` states, as `read_pairs` has them."""
    return read_pairs(pairs, "--fact")


def read_pairs(pairs: Iterable[str], option: str) -> dict[str, str]:
    """`name=value` each; raises a usage error for anything else, and for a name given twice."""
    read: dict[str, str] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name or not value:
            raise click.BadParameter(f"{pair!r} is not NAME=VALUE", param_hint=option)
        if name in read:
            raise click.BadParameter(f"{name!r} is given twice", param_hint=option)
        read[name] = value
    return read


def read_ttl(text: str | None) -> timedelta | None:
    """A duration such as `15m`, or None; raises InputError."""
    return None if text is None else parse_duration(text)


def read_file(path: Path) -> bytes:
    """The bytes of a file that the caller named; raises InputError."""
    try:
        return read_at_most(path, FILE_BYTES)
    except OSError as error:
        raise InputError(f"{path} can't be read: {error.strerror}") from error


def write_file(path: Path, data: bytes) -> None:
    """Write a file that is not there yet; raises InputError."""
    try:
        with path.open("xb") as file:
            file.write(data)
    except OSError as error:
        raise InputError(f"{path} can't be written: {error.strerror}") from error


def read_signer(path: Path, passphrase_file: Path | None) -> "Signer":
    """Who signs with the key in `path`; raises InputError.

    The passphrase of a key file is read from `passphrase_file`, or asked for. It never comes by
    the command line, which every process of the machine can read.
    """
    from vmstate.keys import SshSigner, load_signer

    signer = load_signer(path, ask_passphrase(passphrase_file))
    if passphrase_file is not None and isinstance(signer, SshSigner):
        raise click.UsageError(
            f"{path} is an SSH key, whose passphrase ssh-keygen asks for itself: "
            "leave --passphrase-file out, or add the key to an agent."
        )
    return signer


def ask_passphrase(passphrase_file: Path | None) -> "Ask":
    """Where the passphrase of a key file comes from: that file, or the person at the terminal."""

    def ask(path: Path) -> bytes:
        if passphrase_file is not None:
            return read_passphrase(passphrase_file)
        return type_passphrase(f"passphrase of {path}: ", f"{path} has a passphrase")

    return ask


def read_passphrase(path: Path) -> bytes:
    """The first line of a file; raises InputError."""
    return read_file(path).partition(b"\n")[0].removesuffix(b"\r")


def type_passphrase(prompt: str, what: str) -> bytes:
    """What is typed at the terminal, unseen; raises InputError where there is none."""
    from getpass import getpass

    try:
        Path("/dev/tty").open("rb").close()  # else getpass would read, and show, standard input
    except OSError as error:
        remedy = "there is no terminal to ask on: give --passphrase-file"
        raise InputError(f"{what}, and {remedy}") from error
    try:
        return getpass(prompt).encode()
    except EOFError as error:
        raise click.Abort from error


def passphrase_option(function: _Function) -> _Function:
    """`--passphrase-file`: for whoever has no terminal to be asked on."""
    return click.option(
        "--passphrase-file",
        type=click.Path(path_type=Path),
        help="A file whose first line is the key file's passphrase; else you are asked.",
    )(function)


def read_prepared(path: Path) -> "Request":
    """A prepared request from a file; raises InputError."""
    from vmstate.signing import read_request

    return read_named(path, read_request)


def read_statements(paths: Iterable[Path]) -> "tuple[Signed, ...]":
    """Signed statements from files; raises InputError."""
    from vmstate.signing import read_signed

    return tuple(read_named(path, read_signed) for path in paths)


def read_named(path: Path, read: Callable[[bytes], _Read]) -> _Read:
    """What `read` makes of a file; its InputError names the file."""
    data = read_file(path)
    try:
        return read(data)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def complete_profile(context: click.Context, _: click.Parameter, incomplete: str) -> list[str]:
    """Profiles of the constitution that begin so."""
    return _complete(context, incomplete, lambda s: list(s.law().document.profiles))


def complete_trigger(context: click.Context, _: click.Parameter, incomplete: str) -> list[str]:
    """Triggers of the constitution that begin so."""
    return _complete(context, incomplete, lambda s: [r.trigger for r in s.law().rules.values()])


def complete_act(context: click.Context, _: click.Parameter, incomplete: str) -> list[str]:
    """Acts of the constitution that leave a receipt and begin so; those of budgets are verbs."""
    return _complete(context, incomplete, _recorded_acts)


def complete_budget(context: click.Context, _: click.Parameter, incomplete: str) -> list[str]:
    """Budgets whose ids begin so."""
    return _complete(context, incomplete, _budgets)


def complete_lease(context: click.Context, _: click.Parameter, incomplete: str) -> list[str]:
    """Live leases that begin so."""
    return _complete(
        context,
        incomplete,
        _live_leases,
    )


def complete_lock(context: click.Context, _: click.Parameter, incomplete: str) -> list[str]:
    """Locks that stand and begin so."""
    return _complete(context, incomplete, _standing_locks)


def complete_request(context: click.Context, _: click.Parameter, incomplete: str) -> list[str]:
    """Open requests whose ids begin so."""
    return _complete(context, incomplete, _open_requests)


def _recorded_acts(settings: Settings) -> list[str]:
    from vmstate.constitution.document import MONEY_TYPES

    acts = settings.law().document.acts
    kept = {name for name, one in acts.items() if one.receipt is not None}
    return [*(kept - set(MONEY_TYPES.values()))]


def _budgets(settings: Settings) -> list[str]:
    with closing(settings.open()) as door:
        return [one.id for one in door.budgets()]


def _open_requests(settings: Settings) -> list[str]:
    with closing(settings.open()) as door:
        return [one.id.removeprefix("sha256:") for one in door.requests()]


def _standing_locks(settings: Settings) -> list[str]:
    with closing(settings.open()) as door:
        return [lock.id for lock in door.locks()]


def _live_leases(settings: Settings) -> list[str]:
    with closing(settings.open()) as door:
        return [lease.id for one in door.status() for lease in one.leases]


def _complete(
    context: click.Context, incomplete: str, names: Callable[[Settings], list[str]]
) -> list[str]:
    settings = context.find_object(Settings) or Settings()
    settings.looks = settings.returns = settings.quiet = True
    try:
        known = names(settings)
    except VmstateError:
        return []  # a shell asks while its user is typing: there is nobody to tell
    return sorted({name for name in known if name.startswith(incomplete)})


def fact_option(function: _Function) -> _Function:
    """`--fact`: what is stated of the case."""
    told = "What is the case, as [facts] knows it; may be repeated."
    return click.option("--fact", "facts", multiple=True, metavar="NAME=VALUE", help=told)(function)


def approval_option(function: _Function) -> _Function:
    """`--approval`: what others have signed."""
    path = click.Path(path_type=Path)
    told = "A file with an approval of it (vmstate sign); may be repeated."
    return click.option("--approval", "approvals", type=path, multiple=True, help=told)(function)


def ending_option(usual: str) -> Callable[[_Function], _Function]:
    """`--ending`: by which of the law's endings a lease ends."""
    told = "By which of [endings]; each says who may."
    return click.option("--ending", default=usual, show_default=True, help=told)


def climb_options(function: _Function) -> _Function:
    """What kind of climb it is."""
    return _with(
        function,
        click.option(
            "--trigger",
            shell_complete=complete_trigger,
            help="What calls for it.  [default: operator_request]",
        ),
        click.option(
            "--renew-parent", is_flag=True, help="Renew the lease below in the same breath."
        ),
    )


def backing_options(function: _Function) -> _Function:
    """The options by which evidence stands behind a climb or a renewal."""
    path = click.Path(path_type=Path)
    return _with(
        function,
        principal_option("Who asks: the principal.  [env: VMSTATE_PRINCIPAL]"),
        click.option("--reason", help="Why; goes into the receipt."),
        fact_option,
        click.option("--ttl", help="For how long, such as 15m; at most the rule's."),
        click.option(
            "--request",
            "request_file",
            type=path,
            help="The prepared request (vmstate request new -o), which others have signed.",
        ),
        approval_option,
        click.option(
            "--attestation",
            "attestations",
            type=path,
            multiple=True,
            help="A file in which its facts are attested (vmstate sign --attest); may be repeated.",
        ),
    )


def exception_options(function: _Function) -> _Function:
    """The options of what is prepared, approved by others, and then asked for with one's key."""
    path = click.Path(path_type=Path)
    return _with(
        function,
        principal_option("Who asks for it.  [env: VMSTATE_PRINCIPAL]"),
        click.option("--key", "key_file", type=path, help="Their key file."),
        passphrase_option,
        click.option("--reason", help="Why; the approver signs it too."),
        click.option(
            "--request", "request_file", type=path, help="What was prepared, and then signed."
        ),
        approval_option,
        click.option("-o", "--output", type=path, help="Where to prepare it."),
    )


def _with(function: _Function, *options: Callable[[_Function], _Function]) -> _Function:
    """`function` with these options, in this order."""
    for option in reversed(options):
        function = option(function)
    return function


def once_option(function: _Function) -> _Function:
    """`--idempotency-key`: for whoever may have to ask again without knowing what was answered."""
    told = "Asked again under the same KEY, it is answered once."
    return click.option("--idempotency-key", "once", metavar="KEY", help=told)(function)

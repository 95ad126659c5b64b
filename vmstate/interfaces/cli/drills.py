"""`drill list new run`: rehearsing on virtual time."""

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vmstate.canonical import Json, format_duration
from vmstate.errors import DrillError, InputError
from vmstate.interfaces.cli.output import emit, say, table
from vmstate.interfaces.cli.settings import BLOCKED, ERROR, FAILED, OK, Command, Group, Settings

if TYPE_CHECKING:
    from vmstate.constitution.law import Constitution
    from vmstate.drills.drill import Drill
    from vmstate.drills.pack import Pack
    from vmstate.drills.runner import DrillRun

_COLOURS = {"pass": "green", "fail": "red", "blocked": "yellow", "error": "red"}
_LEDGERS = {"ledger": "--ledger", "socket": "--socket", "token_file": "--token-file"}
_COLUMNS = ("VERDICT", "DRILL", "TITLE", "STEPS", "RECEIPTS", "VIRTUAL", "REASON")
_MISFITS = 10  # lines about packaged drills: a constitution of other names misfits each of them
# What is worst comes first, and is what the exit code says.
_CODES = {"error": ERROR, "blocked": BLOCKED, "fail": FAILED, "pass": OK}


def _without_ledger(params: Sequence[click.Parameter]) -> list[click.Parameter]:
    """The same, without help on options that say which ledger: a drill has its own."""
    for param in params:
        if isinstance(param, click.Option) and param.name in _LEDGERS:
            param.hidden = True
    return list(params)


class _Command(Command):
    """A verb about drills; the ledger that others write to is none of its business."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.params = _without_ledger(self.params)

    def invoke(self, ctx: click.Context) -> Any:
        for name in sorted(ctx.ensure_object(Settings).typed & _LEDGERS.keys()):
            raise click.UsageError(
                f"{_LEDGERS[name]} is given, and a drill has a ledger of its own: leave it out. "
                "What `drill run --keep FOLDER` leaves, other verbs read.",
                ctx,
            )
        return super().invoke(ctx)


class _Group(Group):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.params = _without_ledger(self.params)


@click.group(cls=_Group)
def drill() -> None:
    """Rehearse on virtual time, in ledgers of their own."""


@drill.command("list", cls=_Command)
@click.pass_obj
def list_drills(settings: Settings) -> None:
    """List the packaged drills."""
    from vmstate.drills.drill import packaged_drills

    drills = packaged_drills()
    if settings.json:
        emit({"ok": True, "drills": [{"id": one.id, "title": one.title} for one in drills]})
        return
    rows = [(one.id, one.title, f"{one.size} steps") for one in drills]
    table(("DRILL", "TITLE", "STEPS"), rows)


@drill.command("new", cls=_Command)
@click.argument("file", type=click.Path(path_type=Path))
@click.pass_obj
def new(settings: Settings, file: Path) -> None:
    """Write a drill to start from, which passes under the constitution that `init` writes."""
    from importlib.resources import files

    data = (files("vmstate.drills") / "starter.drill.toml").read_bytes()
    try:
        with file.open("xb") as written:
            written.write(data)
    except OSError as error:
        raise InputError(f"{file} can't be written: {error.strerror}") from error
    if settings.json:
        emit({"ok": True, "file": str(file)})
        return
    click.echo(f"{file}: a drill to start from")
    say(f"next: vmstate drill run -v {file}")


@drill.command("run", cls=_Command)
@click.argument("drill_files", nargs=-1, type=click.Path(path_type=Path), metavar="[FILES]...")
@click.option(
    "--keep",
    type=click.Path(path_type=Path),
    help="A new or empty folder in which each drill's ledger stays, to be audited.",
)
@click.option(
    "--pack",
    type=click.Path(path_type=Path),
    help="A new or empty folder for the artifact pack: one page for people, and its data.",
)
@click.option("-v", "--verbose", is_flag=True, help="Show every step, not only what failed.")
@click.pass_obj
def run(
    settings: Settings,
    drill_files: tuple[Path, ...],
    keep: Path | None,
    pack: Path | None,
    *,
    verbose: bool,
) -> None:
    """Run the packaged drills, or those in FILES.

    The packaged ones run under the packaged constitution unless --constitution names another on
    this line; FILES run under yours. No live ledger is touched. Exits 0 if all passed, else with
    what is worst among them: 6 where one could not be run to its end, else 4 where one was blocked
    because a gate before it did not pass, else 1 where one failed.
    """
    from vmstate.drills.drill import load_drill, packaged_drills
    from vmstate.drills.report import suite_body
    from vmstate.drills.runner import run_suite

    drills = tuple(load_drill(path) for path in drill_files) or packaged_drills()
    twice = {one.id for one in drills if sum(other.id == one.id for other in drills) > 1}
    if twice:
        raise InputError(f"two drills are called {min(twice)!r}: give each an id of its own")
    law = _law(settings, packaged=not drill_files)
    _check_names(drills, law, packaged=not drill_files)
    for folder in (keep, pack):
        if folder is not None:
            from vmstate.drills.pack import make_folder

            make_folder(folder)
    runs = []
    for one in run_suite(drills, law, keep=keep):
        runs.append(one)
        if not settings.json:
            _show(one, verbose=verbose)
    written = _write_pack(runs, law, pack, keep) if pack is not None else None
    if settings.json:
        emit({**suite_body(runs, law.digest), "pack": _pack_body(written)})
    else:
        _summary(runs, law, verbose=verbose, kept=keep is not None)
        if written is not None:
            told = f"pack {written.id}: {written.page}, {written.data}"
            click.echo(told, err=not sys.stdout.isatty())
    verdicts = {one.verdict for one in runs}
    raise SystemExit(next(code for name, code in _CODES.items() if name in verdicts))


def _law(settings: Settings, *, packaged: bool) -> "Constitution":
    from importlib.resources import files

    from vmstate.constitution.loading import read_constitution

    if not packaged or "constitution" in settings.typed:
        return settings.law()
    preset = files("vmstate.constitution") / "presets" / "vaultmesh.toml"
    return read_constitution(preset.read_bytes(), name="vaultmesh.toml")


def _check_names(drills: "tuple[Drill, ...]", law: "Constitution", *, packaged: bool) -> None:
    """Refuse names that the law doesn't know; of packaged drills in a few lines, which say why."""
    from vmstate.drills.naming import check_names

    try:
        check_names(drills, law)
    except DrillError as error:
        if not packaged:
            raise
        whose = f"the packaged drills rehearse the runbook's constitution, not {law.name}"
        told = (f"{whose}: for your own, vmstate drill new", *error.problems[:_MISFITS])
        more = len(error.problems) - _MISFITS
        raise DrillError((*told, f"and {more} more") if more > 0 else told) from error


def _write_pack(
    runs: "list[DrillRun]", law: "Constitution", folder: Path, keep: Path | None
) -> "Pack":
    from vmstate.drills.pack import write_pack

    return write_pack(runs, law, folder, keep=keep)


def _pack_body(pack: "Pack | None") -> Json:
    if pack is None:
        return None
    page, data = str(pack.page), str(pack.data)
    return {"id": pack.id, "page": page, "data": data, "digest": pack.digest, "root": pack.root}


def _show(one: "DrillRun", *, verbose: bool) -> None:
    """A drill's row on standard output; in a pipe what is told of its steps is no data."""
    passed = f"{sum(step.passed for step in one.steps)}/{one.drill.size}"
    receipts, virtual = str(len(one.receipts)), format_duration(one.virtual_for)
    piped = not sys.stdout.isatty()
    if piped:
        cells = (one.verdict, one.drill.id, one.drill.title, passed, receipts, virtual, one.reason)
        table(_COLUMNS, [cells])
    else:
        verdict = click.style(f"{one.verdict.upper():7}", fg=_COLOURS[one.verdict], bold=True)
        counts = f"{passed:>5} steps  {receipts:>3} receipts  {virtual:>6} virtual"
        click.echo(f"{verdict} {one.drill.id:8} {one.drill.title:44} {counts}")
    for line in _told(one, verbose=verbose):
        click.echo(f"{one.drill.id}:{line}" if piped else line, err=piped)


def _told(one: "DrillRun", *, verbose: bool) -> Iterator[str]:
    for number, step in enumerate(one.steps, 1):
        if verbose or not step.passed:
            mark = "ok  " if step.passed else click.style("FAIL", fg="red", bold=True)
            seqs = ", ".join(str(receipt.seq) for receipt in step.receipts)
            at = step.at.strftime("%H:%M:%S")
            yield f"  {mark} {number:>2} {at}  {step.name}{f'  [{seqs}]' if seqs else ''}"
        for difference in step.differences:
            yield f"          {difference.what}"
            yield f"            expected  {difference.expected}"
            yield f"            got       {difference.got}"
    if one.reason:
        yield f"  {one.reason}"
    if verbose and one.root:
        yield f"  root {one.root}"


def _summary(runs: "list[DrillRun]", law: "Constitution", *, verbose: bool, kept: bool) -> None:
    counts = {name: sum(one.verdict == name for one in runs) for name in _CODES}
    told = ", ".join(f"{count} {name}" for name, count in counts.items() if count)
    piped = not sys.stdout.isatty()
    click.echo(f"{told}  under {law.name} {law.version} {law.digest[:19]}…", err=piped)
    hints = ("" if verbose else "-v shows every step",
             "" if kept else "--keep FOLDER leaves the ledgers to be audited")  # fmt: skip
    if any(hints):
        say("; ".join(hint for hint in hints if hint))

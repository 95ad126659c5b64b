"""What `--help` says, for every verb there is."""

from collections.abc import Iterator

import click
import pytest

from vmstate.interfaces.cli.main import vmstate


def every(command, path=()) -> Iterator[tuple[str, click.Command]]:
    """The command and all below it, by the words that lead there."""
    yield " ".join(path), command
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            yield from every(command.get_command(context, name), (*path, name))


COMMANDS = dict(every(vmstate))


@pytest.mark.parametrize("line", COMMANDS)
def test_every_option_says_what_it_is_for(line):
    options = [one for one in COMMANDS[line].params if isinstance(one, click.Option)]
    assert [one.opts for one in options if not (one.help or "").endswith((".", "]"))] == []


def test_serve_answers_where_every_other_verb_asks():
    told = {
        line: option.help
        for line, command in COMMANDS.items()
        for option in command.params
        if option.name == "socket"
    }
    assert told.pop("serve") == "Make a socket there, and answer those who ask at it."
    assert set(told.values()) == {"Ask vmstate serve there, not the ledger's file."}

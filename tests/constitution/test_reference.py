"""The reference names every key there is, says of each whether it is required, and loads."""

import tomllib
import typing
from datetime import timedelta
from importlib.resources import files
from pathlib import Path

import pytest
from pydantic import BaseModel

from vmstate.canonical import format_duration
from vmstate.constitution.document import NOTICES, Document
from vmstate.constitution.lines import kind_at, line_index, line_of
from vmstate.constitution.loading import read_constitution
from vmstate.ledger.outbox import BEFORE

TEXT = (files("vmstate.constitution") / "reference.toml").read_text(encoding="utf-8")
README = Path(__file__).parents[2] / "README.md"
LINES = TEXT.split("\n")


def tables(parsed, place=()):
    """Each table of the file that is a model: where it stands, its model and what it says."""
    kind = kind_at(Document, place)
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        yield place, kind, parsed
    below = parsed.items() if isinstance(parsed, dict) else enumerate(parsed)
    for key, value in below:
        if isinstance(value, dict) or (isinstance(value, list) and isinstance(value[0], dict)):
            yield from tables(value, (*place, key))


def models(annotation):
    """Every model that a value of this type may hold, however deep."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
        for field in annotation.model_fields.values():
            yield from models(field.annotation)
        return
    for part in typing.get_args(annotation):
        yield from models(part)


TABLES = list(tables(tomllib.loads(TEXT)))
MODELS = sorted({*models(Document)}, key=lambda model: model.__name__)
INDEX = line_index(TEXT)


def test_the_reference_loads():
    law = read_constitution(TEXT.encode(), name="reference.toml")
    assert law.name == "reference"


def test_the_readme_shows_it_whole():
    assert f"```toml\n{TEXT}```\n" in README.read_text(encoding="utf-8")


def test_every_key_of_every_table_stands_in_it():
    said = {}
    for _, model, table in TABLES:
        said.setdefault(model, set()).update(table)
    known = {
        model: {field.alias or name for name, field in model.model_fields.items()}
        for model in MODELS
    }
    assert said == known


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.__name__)
def test_of_every_key_it_is_said_whether_it_is_required_or_what_is_its_default(model):
    for name, field in model.model_fields.items():
        key = field.alias or name
        where = next(place for place, kind, said in TABLES if kind is model and key in said)
        at = line_of((*where, key), INDEX) - 1
        # A line that is full goes on in the comments below it.
        comment = "\n".join([LINES[at], *_comments_below(at)])
        if field.is_required():
            assert "required" in comment, key
        elif default := spelled(field.default):
            assert f"default {default}" in comment, key


def _comments_below(at):
    for line in LINES[at + 1 :]:
        if not line.startswith("# ") and "= {" not in line:
            return
        yield line


def spelled(default):
    """A default as the file would write it; None if it is nothing, or a table."""
    if isinstance(default, bool):
        return str(default).lower()
    if isinstance(default, int):
        return str(default)
    if isinstance(default, timedelta):
        return f'"{format_duration(default)}"'
    return f'"{default}"' if isinstance(default, str) else None


def test_what_stands_for_a_missing_key_elsewhere_is_said_too():
    assert f'default "{format_duration(BEFORE)}"' in TEXT
    events = next(line for line in LINES if line.startswith("events"))
    assert all(f'"{one}"' in events for one in NOTICES)

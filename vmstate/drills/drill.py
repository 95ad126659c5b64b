"""A drill that was read: well formed, its steps fitting together, and named by its digest."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from importlib.resources import files
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from vmstate import canonical
from vmstate.constitution.lines import Place, misfits, not_toml
from vmstate.drills.consistent import mistakes
from vmstate.drills.document import VERBS, Arguments, Document, takes_no
from vmstate.drills.numbering import report_drill
from vmstate.errors import DrillError, InputError
from vmstate.files import read_at_most

FILE_BYTES = 262_144  # the longest packaged drill takes a fiftieth of it
SUITE = (
    "0-gates",
    "1-false-positive-threat",
    "3-escalation-abuse",
    "2-budget-pressure",
    "4-phoenix-readiness",
)


@dataclass(frozen=True, slots=True)
class Drill:
    """A drill that was read and found well formed; `digest` names exactly what was read.

    `text` is the file, for whoever finds something wrong in it later.
    """

    name: str
    document: Document
    digest: str
    text: str

    @property
    def id(self) -> str:
        return self.document.drill.id

    @property
    def title(self) -> str:
        return self.document.drill.title

    @property
    def size(self) -> int:
        """How many steps it has, set-up and clean-up among them."""
        document = self.document
        return len(document.setup) + len(document.step) + len(document.cleanup)

    @property
    def start(self) -> datetime:
        return canonical.parse_at(self.document.drill.start)

    @property
    def marker(self) -> str:
        """The marker with its date, which is that of the drill's own start."""
        return self.document.drill.marker.replace("{date}", self.document.drill.start[:10])


def _of_its_verb(place: Place, parsed: Mapping[str, Any]) -> str | None:
    """What to say of a key that is in no verb's `with`: what this step's verb takes."""
    match place:
        case (str(table), int(index), "with", str(key)) if key not in Arguments.model_fields:
            verb = parsed[table][index].get("do")
            return takes_no(verb, key) if isinstance(verb, str) and verb in VERBS else None
    return None


def load_drill(path: Path) -> Drill:
    """Read a drill file; raises DrillError with one line for each mistake."""
    try:
        data = read_at_most(path, FILE_BYTES)
    except OSError as error:
        raise DrillError((f"{path}: cannot be read: {error.strerror}",)) from error
    except InputError as error:
        raise DrillError((str(error),)) from error
    return read_drill(data, name=str(path))


def packaged_drills() -> tuple[Drill, ...]:
    """The runbook's drills, in the order of its suite: gates, threat, abuse, budget, phoenix."""
    folder = files("vmstate.drills") / "runbook"
    names = [f"{name}.drill.toml" for name in SUITE]
    return tuple(read_drill((folder / name).read_bytes(), name=name) for name in names)


def read_drill(data: bytes, *, name: str) -> Drill:
    """Read a drill from its bytes; raises DrillError with one line for each mistake."""
    if len(data) > FILE_BYTES:
        problem = f"{name}: has {len(data):,} bytes, at most {FILE_BYTES:,} are read"
        raise DrillError((problem,))
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise DrillError((f"{name}: is not UTF-8 text: {error.reason}",)) from error
    try:
        parsed = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise DrillError((not_toml(name, text, error),)) from error
    except RecursionError as error:
        raise DrillError((f"{name}: is nested too deep to be read",)) from error
    try:
        document = Document.model_validate(parsed)
    except ValidationError as error:
        misfit = misfits(Document, error)
        told = [(place, _of_its_verb(place, parsed) or what) for place, what in misfit]
        raise DrillError(report_drill(name, text, told, parsed)) from error
    if found := list(mistakes(document)):
        raise DrillError(report_drill(name, text, found, parsed))
    try:
        return Drill(name, document, canonical.digest(canonical.encode(parsed)), text)
    except InputError as error:
        raise DrillError((f"{name}:1: {error}",)) from error

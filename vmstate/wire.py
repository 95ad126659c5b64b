"""What goes over the socket of `vmstate serve`: a line of JSON asks, a line of JSON answers.

    {"v":1,"do":"hello","with":{"token":"vmt_…"}}
    {"v":1,"law":"sha256:…","is":{"origin":"vaultmesh/1f2e3d4c","names":["did:vm:agent:7"],…}}
    {"v":1,"do":"may","with":{"principal":"did:vm:agent:7","what":"operator"}}
    {"v":1,"law":"sha256:…","is":true}
    {"v":1,"do":"submit","with":{"command":{"verb":"release","principal":"…","lease":"lease-4"}}}
    {"v":1,"law":"sha256:…","error":{"name":"LedgerUnavailable","said":["… is full …"]}}
    {"v":1,"bye":"nobody asked anything for 10m"}

Each answer names the law in force, so that nobody goes on under an old one. What may be asked are
methods of `Door`, with their arguments and results as they are typed there: another read is
another name in `QUESTIONS`. After a `bye` nothing was taken in, and it may be asked again
elsewhere; an answer that never came says nothing about what was decided.

Who asks is never told by who asks: what only a door itself may say of a command is refused here.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from inspect import Parameter, signature
from typing import Annotated, Any, get_args, get_type_hints

import orjson
from pydantic import (
    BaseModel,
    ConfigDict,
    PlainSerializer,
    PlainValidator,
    TypeAdapter,
    ValidationError,
    create_model,
)

from vmstate import canonical, errors
from vmstate.canonical import Json
from vmstate.decisions.command import Command, CommandBase, DrillMode
from vmstate.door import Door
from vmstate.errors import ConstitutionError, DrillError, InputError, LedgerUnavailable
from vmstate.leases.watermark import SetBack
from vmstate.misfit import first_misfit

VERSION = 1
LINE_BYTES = 262_144  # four receipts' worth of evidence; an amended constitution fits as well
ANSWER_BYTES = 33_554_432  # where everybody stands, in a ledger with 100,000 live leases
PAGE = 100  # receipts in one answer, at most 65,535 bytes each

# What an interface may find wrong by itself. Nothing else: a claim stands in a receipt as a fact.
CLAIMS = frozenset(
    ("tool_malformed", "call_stopped", "token_unknown", "claim_mismatch", "approval_unsigned")
)
_OF_THE_DOOR = ("proven", "caller", "setup")
# A drill's ledger is served by nobody: its time is the drill's.
_KINDS: Mapping[str, type[CommandBase]] = {
    kind.verb: kind for kind in get_args(Command) if kind is not DrillMode
}


@dataclass(frozen=True, slots=True)
class Heading:
    """What anybody at the socket is told: which ledger this is, and whom they are taken for.

    `names` are those that the caller may ask as, none for a stranger; `account` is theirs.
    `set_back` says what a signature has to name to count, where the clock was set back.
    """

    origin: str
    law: str
    is_drill: bool
    account: str
    names: tuple[str, ...]
    now: datetime
    set_back: SetBack | None = None


@dataclass(frozen=True, slots=True)
class Law:
    """The constitution's file as the ledger keeps it."""

    digest: str
    toml: str


# ---- commands -----------------------------------------------------------------------------------


def write_command(command: CommandBase) -> dict[str, Json]:
    """A command as JSON; what only a door may say of it is left out."""
    fields = type(command).model_fields
    said = command.model_dump(mode="json", exclude={"proven", "caller"})
    told = {n: v for n, v in said.items() if getattr(command, n) != fields[n].default}
    return {"verb": command.verb, **told}


def read_command(value: object) -> CommandBase:
    """The command that JSON holds.

    Raises:
        InputError: no such verb, a field without form, or one that only a door may set.
    """
    if not isinstance(value, dict):
        raise InputError(f"{type(value).__name__} is not a command, needs an object with its verb")
    fields = dict(value)
    kind = _KINDS.get(str(fields.pop("verb", None)))
    if kind is None:
        known = ", ".join(_KINDS)
        raise InputError(f"{value.get('verb')!r} is not asked over a socket: there are {known}")
    for name in _OF_THE_DOOR:
        if name in fields:
            raise InputError(f"{name} is for vmstate serve to say, not for who asks: leave it out")
    try:
        command = kind.model_validate_json(orjson.dumps(fields))
    except ValidationError as error:
        raise InputError(first_misfit(error)) from error
    for claim in command.claims:
        if claim.code not in CLAIMS:
            raise InputError(f"{claim.code!r} is for vmstate serve to find: leave the claim out")
    return command


_OnTheWire = Annotated[
    Any, PlainValidator(read_command), PlainSerializer(write_command, return_type=dict[str, Any])
]


# ---- questions ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Question:
    """One thing that may be asked: its arguments by name, and the type of its answer."""

    name: str
    arguments: type[BaseModel]
    answer: TypeAdapter[Any]

    @classmethod
    def of(cls, method: Callable[..., Any]) -> "Question":
        """The question that a method of the door is, with the types it is written with."""
        hints = get_type_hints(method)
        fields: dict[str, Any] = {}
        for name, parameter in list(signature(method).parameters.items())[1:]:
            kind = _OnTheWire if hints[name] == Command else hints[name]
            given = parameter.default
            fields[name] = (kind, ... if given is Parameter.empty else given)
        config = ConfigDict(strict=True, extra="forbid")
        model = create_model(method.__name__, __config__=config, **fields)
        return cls(method.__name__.lstrip("_"), model, TypeAdapter(hints["return"]))

    def ask(self, arguments: Mapping[str, Any]) -> bytes:
        """The line that asks this; raises InputError for one that is too long to send."""
        asked = self.arguments.model_construct(**arguments)
        given = asked.model_dump(mode="json", include=set(arguments), warnings="error")
        line = write_line({"v": VERSION, "do": self.name, "with": given})
        if len(line) > LINE_BYTES:
            what = f"the question has {len(line):,} bytes, at most {LINE_BYTES:,} are sent"
            raise InputError(f"{what}: hand in less evidence")
        return line

    def read(self, given: Json) -> dict[str, Any]:
        """The arguments in a line that asks this; raises InputError."""
        try:
            asked = self.arguments.model_validate_json(orjson.dumps(given))
        except ValidationError as error:
            raise InputError(first_misfit(error)) from error
        return {name: getattr(asked, name) for name in type(asked).model_fields}


def _hello(_: object, *, token: str | None = None) -> Heading:  # type: ignore[empty-body]
    """Say which token is held, before anything else; and learn who is at the other end."""


def _law(_: object) -> Law:  # type: ignore[empty-body]
    """The law in force."""


def _wait(_: object, *, size: int, milliseconds: int) -> int:  # type: ignore[empty-body]
    """How many receipts there are, once they are not `size`, or after so long."""


# What anybody may ask who can open the socket; all else is for those whom the law names.
HELLO, LAW, WAIT = Question.of(_hello), Question.of(_law), Question.of(_wait)
# A read of the door that is not named here is not asked over a socket.
_ASKED = (
    Door.submit,
    Door.why,
    Door.may,
    Door.standing,
    Door.status,
    Door.locks,
    Door.foresee_amendment,
    Door.backlogs,
    Door.due,
    Door.requests,
    Door.attested,
    Door.request,
    Door.lease,
    Door.budgets,
    Door.heads,
    Door.size,
    Door.receipt,
    Door.receipts,
)
QUESTIONS: Mapping[str, Question] = {
    **{one.name: one for one in (HELLO, LAW, WAIT)},
    **{method.__name__: Question.of(method) for method in _ASKED},
}


# ---- lines --------------------------------------------------------------------------------------


def write_line(value: Mapping[str, Any]) -> bytes:
    """One line of JSON."""
    return orjson.dumps(value) + b"\n"


def read_question(line: bytes) -> tuple[Question, dict[str, Any]]:
    """What a line asks, with its arguments; raises InputError."""
    value = canonical.parse(line)
    if not isinstance(value, dict):
        raise InputError('this is not a question: write {"v":1,"do":…,"with":{…}}')
    if value.get("v") != VERSION:
        raise InputError(f"version {value.get('v')!r} is asked for, this socket speaks {VERSION}")
    question = QUESTIONS.get(str(value.get("do")))
    if question is None or not value.keys() <= {"v", "do", "with"}:
        known = ", ".join(QUESTIONS)
        raise InputError(f"{value.get('do')!r} is not asked over a socket: there are {known}")
    return question, question.read(value.get("with", {}))


def write_answer(question: Question, answer: Any, law: str) -> bytes:
    """The line that answers; raises InputError for one that is too long to send."""
    line = write_line(
        {"v": VERSION, "law": law, "is": question.answer.dump_python(answer, mode="json")}
    )
    if len(line) > ANSWER_BYTES:
        raise InputError(
            f"the answer has {len(line):,} bytes, at most {ANSWER_BYTES:,} are sent: "
            "ask the ledger's file"
        )
    return line


def write_error(error: errors.VmstateError, law: str) -> bytes:
    """The line that tells what went wrong."""
    problems = getattr(error, "problems", None)
    said = [str(error)] if problems is None else list(problems)
    return write_line({"v": VERSION, "law": law, "error": {"name": _name(error), "said": said}})


def write_bye(why: str) -> bytes:
    """The last line, before the socket is closed."""
    return write_line({"v": VERSION, "bye": why})


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back: the law in force, and what was asked for. `bye` says why nothing was."""

    law: str = ""
    value: Any = None
    bye: str | None = None


def read_answer(question: Question, line: bytes) -> Answer:
    """What a line answers.

    Raises:
        VmstateError: what the other side raised, as the same class.
        LedgerUnavailable: this is no answer to that question.
    """
    try:
        value = orjson.loads(line)
        if value["v"] != VERSION:
            raise LedgerUnavailable(
                f"vmstate serve speaks version {value['v']!r}, this is version {VERSION}: "
                "install the same release on both sides"
            )
        if "bye" in value:
            return Answer(bye=str(value["bye"]))
        if "error" in value:
            raise _raised(value["error"]["name"], [str(one) for one in value["error"]["said"]])
        answer = question.answer.validate_json(orjson.dumps(value["is"]), strict=True)
        return Answer(str(value["law"]), answer)
    except (ValueError, KeyError, TypeError) as error:
        raise LedgerUnavailable(
            f"what answers at the socket is not vmstate serve: {type(error).__name__}"
        ) from error


def _name(error: errors.VmstateError) -> str:
    """The class by which the other side knows it: our own, or the nearest above."""
    return next(k.__name__ for k in type(error).__mro__ if k.__module__ == errors.__name__)


def _raised(name: str, said: list[str]) -> errors.VmstateError:
    kind = getattr(errors, name, None)
    if kind is ConstitutionError or kind is DrillError:
        made: errors.VmstateError = kind(tuple(said))
        return made
    if isinstance(kind, type) and issubclass(kind, errors.VmstateError):
        return kind("\n".join(said))
    return LedgerUnavailable(f"vmstate serve answered with {name}: {'; '.join(said)}")

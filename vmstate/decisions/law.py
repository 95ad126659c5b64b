"""What every decision leans on: the constitution, its people, its machine, this ledger's origin."""

from collections.abc import Mapping
from dataclasses import dataclass

from vmstate.canonical import Json
from vmstate.clock import Moment
from vmstate.constitution.document import Document
from vmstate.constitution.law import Constitution
from vmstate.constitution.machine import ProfileMachine
from vmstate.constitution.people import People
from vmstate.constitution.unmet import Unmet
from vmstate.decisions.command import Command
from vmstate.decisions.decision import State
from vmstate.decisions.evidence import Setting
from vmstate.signing import Request


@dataclass(frozen=True, slots=True)
class Law:
    """`people` are the constitution's, and a drill's stand-ins where the ledger is a drill's."""

    constitution: Constitution
    origin: str
    people: People
    machine: ProfileMachine

    @property
    def document(self) -> Document:
        return self.constitution.document

    def setting(self, state: State, now: Moment, principal: str) -> Setting:
        """Where, when and for whom a signed statement would have to count."""
        digest = self.constitution.digest
        return Setting(self.origin, digest, self.people, now, state.used, principal)

    def unknown_principal(self, name: str) -> Unmet:
        remedy = "add the name to a group, or ask as somebody who is in one"
        return Unmet("groups", "unknown_principal", "a known principal", name, remedy)


def standing_faults(law: Law, command: Command) -> list[Unmet]:
    """What is wrong with who asks for themselves, whatever they ask for."""
    unmet = list(command.claims)
    if not law.people.knows(command.principal):
        unmet.append(law.unknown_principal(command.principal))
    if command.asked_by != command.principal:
        remedy = "ask as yourself"
        unmet.append(Unmet("principals", "not_self", command.principal, command.asked_by, remedy))
    return unmet


def proof_faults(law: Law, command: Command) -> list[Unmet]:
    """What is wrong with who asks for what takes a proven actor; the host's word is none."""
    unmet = list(command.claims)
    actor = command.asked_by
    if not law.people.knows(actor):
        unmet.append(law.unknown_principal(actor))
    if not command.is_proven:
        remedy = "sign it (--key FILE), or ask through vmstate serve"
        required = "a signature, an account or a token"
        unmet.append(Unmet("principals", "not_proven", required, actor, remedy))
    return unmet


def request_faults(
    request: Request, command: Command, wanted: Mapping[str, Json], at: Setting
) -> list[Unmet]:
    """Where a prepared request differs from what is asked now, or from where it is asked."""
    unmet = []
    remedy = "prepare a new one: vmstate request new"
    if request.origin != at.origin:
        code = "request_other_ledger"
        unmet.append(Unmet("requests", code, at.origin, request.origin, remedy))
    if request.constitution != at.constitution:
        code = "request_other_constitution"
        unmet.append(Unmet("requests", code, at.constitution, request.constitution, remedy))
    if request.id in at.used:
        unmet.append(Unmet("requests", "request_used", "a fresh request", request.id, remedy))
    asked = {"principal": command.principal, "reason": command.reason, **wanted}
    said = request.body()
    for key, value in asked.items():
        if said[key] != value:
            words = f"{key} = {_words(said[key])}", f"{key} = {_words(value)}"
            unmet.append(Unmet("requests", "request_differs", *words, remedy))
    return unmet


def _words(value: Json) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{k}={v}" for k, v in sorted(value.items())) or "nothing"
    return "nothing" if value is None else str(value)

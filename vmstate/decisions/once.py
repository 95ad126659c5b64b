"""A command that is sent again under its idempotency key is answered once.

Whoever had no answer, because the line was cut or a process was killed between commit and answer,
sends the same command under the same key and gets the receipt that was written then, a denial too;
nothing is written. A new attempt takes a new key. The answer's receipt keeps two digests:

    "proofs":{"command":"sha256:…","idempotency":"sha256:…", …}

`idempotency` is over who asks and the key, so that nobody can use up the keys of another: what is
asked by somebody whom nothing proves is kept under none. `command` is over what was asked, evidence
included. An order is not: each time it is signed anew.
"""

from dataclasses import dataclass

from vmstate.canonical import Json, digest, encode
from vmstate.decisions.command import CommandBase, HandIn, Push
from vmstate.decisions.ordering import order_arguments
from vmstate.signing import Attestation, Signed

KEY, COMMAND = "idempotency", "command"  # their names among a receipt's proofs


@dataclass(frozen=True, slots=True)
class Once:
    """By what a command is known again, and what it must have asked to be the same."""

    key: str
    command: str

    @property
    def proofs(self) -> dict[str, str]:
        """What the receipt of the answer keeps."""
        return {KEY: self.key, COMMAND: self.command}

    @classmethod
    def of(cls, command: CommandBase) -> "Once | None":
        """None for a command without a key, which is decided each time."""
        if command.idempotency_key is None:
            return None
        actor, key = command.asked_by, command.idempotency_key
        arguments: dict[str, Json] = dict(order_arguments(command))
        if isinstance(command, HandIn):
            # Signed anew whenever it is asked, it is still the same word about the same request.
            arguments["statement"] = command.statement.statement.kind
        if isinstance(command, Push):
            # And so is the same word about the same facts of somebody.
            arguments["statement"] = digest(encode(_word(command.statement)))
        asked: dict[str, Json] = {
            "verb": command.verb,
            "actor": actor,
            "reason": command.reason,
            "arguments": arguments,
        }
        return cls(digest(encode({"actor": actor, "key": key})), digest(encode(asked)))


def _word(signed: Signed) -> Json:
    """What a pushed statement says, however often it is signed anew."""
    said = signed.statement
    about = said.facts if isinstance(said, Attestation) else {}
    return {"kind": said.kind, "facts": {**about}}

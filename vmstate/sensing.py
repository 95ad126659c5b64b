"""What sensors say before anybody asks: signed here, and pushed through any door.

The half of a door that a sensor uses. It takes the sensor's key and nothing else: at a socket any
account may carry what was signed, and what is signed is good there for as long as [facts] says.
"""

from abc import abstractmethod
from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal

from vmstate.canonical import format_at
from vmstate.decisions.command import Push, make_command
from vmstate.decisions.fields import spell_fact
from vmstate.decisions.pushing import Attested
from vmstate.errors import InputError
from vmstate.governing import Governing
from vmstate.keys import Signer
from vmstate.ledger.receipt import Receipt
from vmstate.signing import Attestation, Signed, new_nonce, sign


class Sensing(Governing):
    """What sensors ask of a door, and what stands of it."""

    @abstractmethod
    def attested(self, principal: str | None = None) -> tuple[Attested, ...]:
        """What sensors pushed about `principal`, or about everybody, that would count now; in the
        order in which it was pushed.
        """

    def law_digest(self) -> str:
        """The digest of the law in force, for which a statement is signed."""
        return self.constitution.digest

    def signing_at(self) -> datetime:
        """The time by which what is signed now comes to its end."""
        return self.now()

    def prepare_attestation(
        self,
        by: str,
        principal: str,
        facts: Mapping[str, str | int | Decimal],
        *,
        nonce: str | None = None,
    ) -> Attestation:
        """Write down what the sensor `by` sees of `principal` now, to be signed as it is.

        One attestation states all that is seen together: facts of two are never mixed.

        Raises:
            InputError: a fact that has no exact spelling.
        """
        try:
            stated = {name: str(spell_fact(value)) for name, value in facts.items()}
        except ValueError as error:
            raise InputError(str(error)) from error
        return Attestation(
            by=by,
            origin=self.origin,
            constitution=self.law_digest(),
            principal=principal,
            facts=stated,
            at=format_at(self.signing_at()),
            nonce=nonce or new_nonce(),
            after=self.signing_after(),
        )

    def push(
        self,
        by: str,
        principal: str,
        facts: Mapping[str, str | int | Decimal],
        key: Signer,
        *,
        reason: str = "",
        nonce: str | None = None,
        idempotency_key: str | None = None,
    ) -> Receipt:
        """Sign what the sensor `by` sees of `principal` now, and push that."""
        statement = self.prepare_attestation(by, principal, facts, nonce=nonce)
        signed = sign(statement, key)
        return self.push_signed(signed, reason=reason, idempotency_key=idempotency_key)

    def push_signed(
        self, statement: Signed, *, reason: str = "", idempotency_key: str | None = None
    ) -> Receipt:
        """Push a signed attestation ahead of any request, whoever carries it.

        It stands until it is too old: what its principal asks for meanwhile and brings no
        attestation for rests on it, once. Of each sensor the newest about each principal stands.

        Raises:
            InputError: it is an approval or an order.
        """
        said = statement.statement
        if not isinstance(said, Attestation):
            raise InputError(f"this is a signed {said.kind}, needs an attestation")
        asked = {"principal": said.principal, "actor": said.by, "statement": statement}
        fields = {"reason": reason, "idempotency_key": idempotency_key}
        return self.submit(make_command(Push, {**asked, **fields}))

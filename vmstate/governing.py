"""What is asked about the law itself, by whoever may: amendments, recovery, locks.

The half of a door that whoever answers for the constitution uses, and what any command needs: who
decides it, and how it is signed by who asks.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any, TypeVar

from vmstate.constitution.law import Constitution
from vmstate.decisions.command import (
    Amend,
    Command,
    CommandBase,
    LiftLock,
    Recover,
    SetLock,
    make_command,
)
from vmstate.decisions.statements import prepare_amendment, prepare_recovery, sign_order
from vmstate.errors import InputError
from vmstate.keys import Signer
from vmstate.leases.watermark import SetBack
from vmstate.ledger.receipt import Receipt
from vmstate.signing import Request, Signed

Ordered = TypeVar("Ordered", bound=CommandBase)


class Governing(ABC):
    """What is the door's own, and what the law's keepers ask of it."""

    @property
    @abstractmethod
    def constitution(self) -> Constitution:
        """The law in force; another object once it was amended."""

    @property
    @abstractmethod
    def origin(self) -> str:
        """The ledger's name in everything that is signed for it."""

    @abstractmethod
    def now(self) -> datetime:
        """The wall time by which this door judges."""

    @abstractmethod
    def set_back(self) -> SetBack | None:
        """Whether the clock reads an earlier time than this ledger has seen, so that what was
        signed before counts no longer.
        """

    def signing_after(self) -> str | None:
        """The receipt that what is signed now has to name, to count under a clock set back."""
        found = self.set_back()
        return None if found is None else found.after

    @abstractmethod
    def submit(self, command: Command) -> Receipt:
        """Decide `command` and record the decision; both happen, or neither.

        Returns the receipt that answers it; `Receipt.raise_for_denial` turns a denial into an
        exception for whoever wants one. A refusal that repeats many of the last minute is counted,
        and answered with what it lacked and the receipt of its like (`ledger/refusals.py`).

        Raises:
            LedgerUnavailable: nothing could be written, so nothing was decided.
        """

    def ordered(self, command: Ordered, key: Signer | None, *, nonce: str | None = None) -> Ordered:
        """`command` with its asker's signature over it; as it is where there is no key."""
        if key is None:
            return command
        law, origin, now = self.constitution, self.origin, self.now()
        after = self.signing_after()
        order = sign_order(law.digest, origin, now, command, key=key, nonce=nonce, after=after)
        return command.model_copy(update={"order": order})

    def prepare_amendment(self, principal: str, toml: bytes, *, reason: str = "") -> Request:
        """Write down that the law in `toml` is to rule, for those who must approve it.

        Raises:
            ConstitutionError: it does not load.
        """
        request = prepare_amendment(self.constitution, self.origin, principal, toml, reason=reason)
        return self._dated(request)

    def amend(
        self,
        principal: str,
        toml: bytes,
        *,
        request: Request,
        approvals: Iterable[Signed],
        reason: str = "",
        key: Signer | None = None,
        idempotency_key: str | None = None,
    ) -> Receipt:
        """Put the law in `toml` in force, with the approvals that the present one asks for.

        `principal` has to be proven: by `key`, or by how the door knows its caller. What becomes of
        live leases is put on record in the same transaction, a receipt each.
        """
        asked: dict[str, Any] = {"principal": principal, "toml": toml, "reason": reason}
        asked |= {"request": request, "approvals": tuple(approvals)}
        command = make_command(Amend, {**asked, "idempotency_key": idempotency_key})
        return self.submit(self.ordered(command, key))

    def prepare_recovery(self, principal: str, *, reason: str = "") -> Request:
        """Write down that the clock is to be declared right, for those who must approve it."""
        return self._dated(
            prepare_recovery(self.constitution, self.origin, principal, reason=reason)
        )

    def _dated(self, request: Request) -> Request:
        """`request`, which says since when it can have been signed where that has to be said."""
        after = self.signing_after()
        return request if after is None else request.model_copy(update={"after": after})

    def recover(
        self,
        principal: str,
        *,
        request: Request,
        approvals: Iterable[Signed],
        reason: str = "",
        key: Signer | None = None,
        idempotency_key: str | None = None,
    ) -> Receipt:
        """Declare on the record that the clock is right, with the approvals that this takes.

        `principal` has to be proven: by `key`, or by how the door knows its caller.
        """
        asked: dict[str, Any] = {"principal": principal, "reason": reason, "request": request}
        asked |= {"approvals": tuple(approvals), "idempotency_key": idempotency_key}
        command = make_command(Recover, asked)
        return self.submit(self.ordered(command, key))

    def lock(
        self,
        actor: str,
        *,
        principal: str | None = None,
        profile: str | None = None,
        ttl: timedelta | None = None,
        reason: str = "",
        key: Signer | None = None,
        nonce: str | None = None,
        idempotency_key: str | None = None,
    ) -> Receipt:
        """End at once what one person, a profile and those above it, or everybody holds; as
        `actor`, proven by `key` or by how the door knows its caller.

        With neither `principal` nor `profile` it is on everybody. What it covers is refused for
        `ttl`, or until it is lifted; what it ended stays ended. Raises InputError for both.
        """
        if principal is not None and profile is not None:
            raise InputError("a lock is on a principal or on a profile: set two")
        scope = "all" if principal is profile else "profile" if principal is None else "principal"
        asked: dict[str, Any] = {"principal": actor, "scope": scope}
        asked["name"] = principal or profile or ""
        asked |= {"ttl": ttl, "reason": reason, "idempotency_key": idempotency_key}
        command = make_command(SetLock, asked)
        return self.submit(self.ordered(command, key, nonce=nonce))

    def unlock(
        self,
        actor: str,
        lock: str,
        *,
        reason: str = "",
        key: Signer | None = None,
        nonce: str | None = None,
        idempotency_key: str | None = None,
    ) -> Receipt:
        """Lift the lock with this id, as `actor`, proven likewise. It restores nothing."""
        asked = {"principal": actor, "lock": lock, "reason": reason}
        command = make_command(LiftLock, {**asked, "idempotency_key": idempotency_key})
        return self.submit(self.ordered(command, key, nonce=nonce))

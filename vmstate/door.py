"""Where authority is asked for: a ledger in this process, or `vmstate serve` at a socket.

Both answer the same calls, so that whoever asks need not know which of them it is. A door takes
commands and answers with receipts (law 8); what it reads it reads as of one instant.
"""

import re
import time
from abc import abstractmethod
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from vmstate.constitution.document import ANCHOR
from vmstate.decisions.amending import Amendment
from vmstate.decisions.command import (
    Act,
    Activate,
    Command,
    CreateBudget,
    Debit,
    DenyRequest,
    DrillMode,
    Escalate,
    HandIn,
    OpenRequest,
    Release,
    Renew,
    Withdraw,
    make_command,
)
from vmstate.decisions.route import Explanation
from vmstate.decisions.showing import Pending
from vmstate.decisions.statements import prepare_request
from vmstate.elevation import Elevates
from vmstate.errors import InputError
from vmstate.keys import Signer
from vmstate.leases.lease import Lease
from vmstate.leases.lock import Lock
from vmstate.leases.standing import Standing
from vmstate.ledger.checkpoint import Heads
from vmstate.ledger.outbox import Backlog
from vmstate.ledger.receipt import Receipt
from vmstate.ledger.snapshot import Due
from vmstate.sensing import Sensing
from vmstate.signing import Request, Signed, approve, attest
from vmstate.treasury.budget import Budget

LOOK_EVERY = timedelta(milliseconds=50)  # how soon another process's commit is noticed

_DIGITS = re.compile("[0-9a-f]{6,64}")


def check_request_id(text: str) -> str:
    """A request's id, or how it begins, as it is kept: `sha256:` may be left out.

    Raises:
        InputError: it is no such thing, or shorter than six digits.
    """
    digits = text.removeprefix("sha256:")
    if not _DIGITS.fullmatch(digits):
        raise InputError(f"{text!r} is no request's id: give six of its hexadecimal digits or more")
    return f"sha256:{digits}"


class Door(Sensing, Elevates):
    """What may be asked. `submit` and the reads are the door's own; the rest is made of them.

    Whatever asks takes an `idempotency_key`: asked again under it, it is answered by the receipt
    that answered first, and nothing is written. Raises InputError where that was something else.
    """

    # ---- what each door has of its own --------------------------------------------------------

    @property
    @abstractmethod
    def is_drill(self) -> bool:
        """Whether this is a drill's ledger, whose authority guards nothing real (law 14)."""

    @abstractmethod
    def may(self, principal: str, what: str) -> bool:
        """Whether `principal` may now do what the profile or act `what` takes.

        An unknown name of either kind may nothing. Decided from the deadlines, on each call.
        """

    @abstractmethod
    def standing(self, principal: str) -> Standing:
        """Where `principal` stands now.

        Raises:
            UnknownPrincipal: nobody by that name is in any group or under [principals].
        """

    @abstractmethod
    def status(self) -> tuple[Standing, ...]:
        """Everybody who stands above the baseline now, in the order of their oldest lease."""

    @abstractmethod
    def locks(self) -> tuple[Lock, ...]:
        """The locks that stand now, in the order in which they were set."""

    @abstractmethod
    def backlogs(self) -> tuple[Backlog, ...]:
        """What each `[notify]` target has still to be told, in the order of the constitution."""

    @abstractmethod
    def why(self, command: Command) -> Explanation:
        """What `command` would come to, decided the same way and not written."""

    @abstractmethod
    def due(self, *, limit: int) -> tuple[Due, ...]:
        """Leases that are over and not yet recorded as ended, the first deadline first."""

    @abstractmethod
    def requests(
        self, principal: str | None = None, *, open_only: bool = True
    ) -> tuple[Pending, ...]:
        """The requests that were left open, in their order, of `principal` or of everybody."""

    @abstractmethod
    def request(self, request: str) -> Pending:
        """The request with this id, or with one that begins so: six digits of it are enough.

        Raises:
            LedgerNotFound: there never was one.
            InputError: it is no id, or begins several.
        """

    @abstractmethod
    def foresee_amendment(self, toml: bytes) -> Amendment:
        """What the law in `toml` would do to the leases held now; nothing is written.

        Raises:
            ConstitutionError: it does not load.
        """

    @abstractmethod
    def lease(self, lease: str) -> Lease | None:
        """The lease with this id, open or ended; None if there never was one."""

    @abstractmethod
    def budgets(self) -> tuple[Budget, ...]:
        """Every budget, in the order of their allocation."""

    @abstractmethod
    def heads(self) -> Heads:
        """The newest signed checkpoint, and how far each scroll has come."""

    @abstractmethod
    def size(self) -> int:
        """How many receipts there are."""

    @abstractmethod
    def receipt(self, seq: int) -> Receipt:
        """Receipt number `seq`; raises LedgerNotFound."""

    @abstractmethod
    def receipts(
        self,
        *,
        after: int = -1,
        limit: int = 1_000,
        principal: str | None = None,
        type_: str | None = None,
        denied: bool = False,
    ) -> tuple[Receipt, ...]:
        """Receipts in their order, those numbered above `after`, at most `limit`."""

    @abstractmethod
    def version(self) -> int:
        """A number that differs, for this thread, once anybody's commit can be seen."""

    @abstractmethod
    def close(self) -> None:
        """Be done with it."""

    # ---- made of these ------------------------------------------------------------------------

    @property
    def names(self) -> tuple[str, ...]:
        """Whom this door takes its caller for; none where it takes their word for it."""
        return ()

    def wait(self, version: int, timeout: timedelta) -> int:
        """The version once it is not `version` any more, or after `timeout`."""
        until = time.monotonic() + timeout.total_seconds()
        while (here := self.version()) == version and (left := until - time.monotonic()) > 0:
            time.sleep(min(left, LOOK_EVERY.total_seconds()))
        return here

    # ---- asking -------------------------------------------------------------------------------

    def escalate(self, principal: str, to: str, *, trigger: str, **fields: Any) -> Receipt:
        """Ask for the profile `to`.

        `fields` are those of `Escalate`: `reason`, `facts` (text, whole numbers or Decimals; a
        float has no exact spelling), `ttl`, `request`, `approvals`, `attestations`,
        `renew_parent`. Raises InputError if one of them has no form, and as `submit` does.
        """
        asked = {"principal": principal, "to": to, "trigger": trigger, **fields}
        return self.submit(make_command(Escalate, asked))

    def renew(self, principal: str, lease: str, **fields: Any) -> Receipt:
        """Ask for a later deadline on the topmost lease; its rule decides again."""
        return self.submit(make_command(Renew, {"principal": principal, "lease": lease, **fields}))

    def open_request(
        self, request: Request, *, key: Signer | None = None, **fields: Any
    ) -> Receipt:
        """Ask for what `request` says; if nothing but signatures is missing, leave it open.

        The receipt is of type `request` if it was left open, and the grant itself if nothing was
        missing. Anything else that is missing denies it. Here and below `fields` may be an
        `idempotency_key`, and `key` signs it as whoever asks.
        """
        asked = {"principal": request.principal, "reason": request.reason, "request": request}
        return self.submit(self.ordered(make_command(OpenRequest, {**asked, **fields}), key))

    def hand_in(
        self,
        request: str,
        statement: Signed,
        *,
        reason: str = "",
        idempotency_key: str | None = None,
    ) -> Receipt:
        """Hand in a signed approval or attestation for an open request, whoever carries it."""
        asked = {"principal": statement.by, "reason": reason, "request": request}
        fields = {"statement": statement, "idempotency_key": idempotency_key}
        return self.submit(make_command(HandIn, {**asked, **fields}))

    def approve(
        self,
        request: str,
        by: str,
        key: Signer,
        *,
        good_for: timedelta | None = None,
        reason: str = "",
        nonce: str | None = None,
        idempotency_key: str | None = None,
    ) -> Receipt:
        """Sign an open request as `by`, and hand that in.

        The approval is good for as long as the request can still be used, or for `good_for`.
        """
        shown = self.request(request)
        until = self.good_until(shown) if good_for is None else self.signing_at() + good_for
        after = self.signing_after()
        signed = approve(shown.request, by, key, expires_at=until, nonce=nonce, after=after)
        return self.hand_in(shown.id, signed, reason=reason, idempotency_key=idempotency_key)

    def attest(
        self,
        request: str,
        by: str,
        key: Signer,
        *,
        reason: str = "",
        nonce: str | None = None,
        idempotency_key: str | None = None,
    ) -> Receipt:
        """Sign the facts of an open request as seen now by the sensor `by`, and hand that in."""
        shown = self.request(request)
        at, after = self.signing_at(), self.signing_after()
        signed = attest(shown.request, by, key, at=at, nonce=nonce, after=after)
        return self.hand_in(shown.id, signed, reason=reason, idempotency_key=idempotency_key)

    def deny(
        self,
        actor: str,
        request: str,
        *,
        key: Signer | None = None,
        nonce: str | None = None,
        **fields: Any,
    ) -> Receipt:
        """End an open request as `actor`, who might have approved it, and proves to be that.

        `fields` may be a `reason`, and so they may for `withdraw`.
        """
        command = make_command(DenyRequest, {"principal": actor, "request": request, **fields})
        return self.submit(self.ordered(command, key, nonce=nonce))

    def withdraw(
        self, principal: str, request: str, *, key: Signer | None = None, **fields: Any
    ) -> Receipt:
        """End an open request of one's own."""
        asked = {"principal": principal, "request": request, **fields}
        return self.submit(self.ordered(make_command(Withdraw, asked), key))

    def activate(
        self, principal: str, request: str, *, key: Signer | None = None, **fields: Any
    ) -> Receipt:
        """Climb by an open request of one's own; its time counts from here.

        The rule is asked again, so that whatever changed since counts. `fields` may say
        `renew_parent`.
        """
        asked = {"principal": principal, "request": request, **fields}
        return self.submit(self.ordered(make_command(Activate, asked), key))

    def good_until(self, shown: Pending) -> datetime:
        """The last that a signature for this request can be of use."""
        table = self.constitution.document.requests
        usable_for = timedelta() if table is None else table.usable_for
        return shown.usable_until or shown.waits_until + usable_for

    def release(
        self,
        principal: str,
        lease: str,
        *,
        key: Signer | None = None,
        ending: str = "operator_release",
        reason: str = "",
        idempotency_key: str | None = None,
    ) -> Receipt:
        """Give one's own lease back, by an ending that its holder may use."""
        asked = {"principal": principal, "lease": lease, "ending": ending, "reason": reason}
        command = make_command(Release, {**asked, "idempotency_key": idempotency_key})
        return self.submit(self.ordered(command, key))

    def revoke(
        self,
        actor: str,
        lease: str,
        *,
        key: Signer | None = None,
        ending: str = "sovereign_revoke",
        reason: str = "",
        nonce: str | None = None,
        idempotency_key: str | None = None,
    ) -> Receipt:
        """End anybody's lease, as `actor`: proven by `key`, or by how the door knows its caller."""
        asked = {"principal": actor, "lease": lease, "ending": ending, "reason": reason}
        command = make_command(Release, {**asked, "idempotency_key": idempotency_key})
        return self.submit(self.ordered(command, key, nonce=nonce))

    def act(
        self, principal: str, name: str, *, key: Signer | None = None, **fields: Any
    ) -> Receipt:
        """Do what `[acts]` names, on the record. `fields` are `arguments` (texts) and `reason`.

        In a drill some acts only pretend; the receipt's `what.result` says so.

        Raises:
            InputError: the act is a read, which leaves no receipt: ask `may`.
        """
        command = make_command(Act, {"principal": principal, "act": name, **fields})
        return self.submit(self.ordered(command, key))

    def anchor(self, principal: str, **fields: Any) -> Receipt:
        """Put every scroll's root and the checkpoint's digest on the record, by `guardian.anchor`.

        The digest is that of the checkpoint's unsigned body, which anybody can work out again.
        """
        return self.act(principal, ANCHOR, **fields)

    def create_budget(
        self,
        principal: str,
        budget: str,
        *,
        name: str,
        allocated: int,
        unit: str,
        key: Signer | None = None,
        **fields: Any,
    ) -> Receipt:
        """Allocate whole units to a budget with an id that is free."""
        asked = {"principal": principal, "budget": budget, "name": name, **fields}
        command = make_command(CreateBudget, {**asked, "allocated": allocated, "unit": unit})
        return self.submit(self.ordered(command, key))

    def debit(
        self, principal: str, budget: str, amount: int, *, key: Signer | None = None, **fields: Any
    ) -> Receipt:
        """Spend whole units from a budget; more than its balance is refused."""
        asked = {"principal": principal, "budget": budget, "amount": amount, **fields}
        return self.submit(self.ordered(make_command(Debit, asked), key))

    def drill_mode(self, *, on: bool, set_by: str) -> Receipt:
        """Switch the mode of a drill's ledger; off ends everything in it. Refused in a live one."""
        drill = self.constitution.document.drill
        if drill is None:
            raise InputError("the constitution has no [drill] table: add one to run drills")
        asked = {"principal": drill.principal, "on": on, "set_by": set_by}
        return self.submit(make_command(DrillMode, asked))

    def prepare(
        self,
        principal: str,
        to: str,
        *,
        trigger: str,
        reason: str = "",
        facts: Mapping[str, str] | None = None,
        ttl: timedelta | None = None,
        nonce: str | None = None,
    ) -> Request:
        """Write down what is to be asked, so that others can sign exactly that.

        Raises:
            InputError: a fact that can't be read, or a field without form.
        """
        request = prepare_request(
            self.constitution,
            self.origin,
            principal,
            to,
            trigger=trigger,
            reason=reason,
            facts=facts or {},
            ttl=ttl,
            nonce=nonce,
        )
        return self._dated(request)

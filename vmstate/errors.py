"""What can go wrong, in one tree.

* VmstateError
  * InputError             what was handed in cannot be read
  * ConstitutionError      the constitution is not well formed
  * DrillError             a drill file is not well formed
  * UnknownPrincipal       a read was asked for by or about nobody known
  * Denied                 the constitution said no, and the caller asked to be told by exception
    * LeaseEnded           what was held is over
  * LedgerError
    * LedgerNotFound       there is no such ledger, lease or receipt
    * LedgerUnavailable    the ledger cannot be written or read now: nothing was decided
    * LedgerMismatch       this ledger belongs to another constitution, format or kind
    * TamperError          a receipt, signature or checkpoint does not verify

A denial is not an error: every door returns it as a receipt (law 8). `Denied` is raised only by
`Receipt.raise_for_denial()`, and by blocks and functions that run under authority. A programmer's
mistake is a `RuntimeError`, never one of these.
"""

from typing import Any


class VmstateError(Exception):
    """Base of every error that vmstate raises on purpose; its text is meant for a person."""


class InputError(VmstateError):
    """What was handed in cannot be read; nothing was decided and nothing was written."""


class ConstitutionError(VmstateError):
    """The constitution is not well formed; `problems` holds one line for each mistake."""

    def __init__(self, problems: tuple[str, ...]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class DrillError(VmstateError):
    """A drill file is not well formed; `problems` holds one line for each mistake."""

    def __init__(self, problems: tuple[str, ...]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class UnknownPrincipal(VmstateError):  # noqa: N818 -- named for who, as the denial code is
    """Nobody by this name is in any group or under [principals]; reads are refused as well."""


class Denied(VmstateError):  # noqa: N818 -- the word every reader expects
    """The constitution denied something; `receipt` says so on the record, if it was a command.

    It is a `Receipt`, or None where only a read was refused.
    """

    def __init__(self, message: str, receipt: Any = None) -> None:
        super().__init__(message)
        self.receipt = receipt


class LeaseEnded(Denied):
    """The lease that something ran under is over."""


class LedgerError(VmstateError):
    """The ledger cannot be used as asked."""


class LedgerNotFound(LedgerError):  # noqa: N818 -- reads as what happened
    """There is no such ledger, lease or receipt."""


class LedgerUnavailable(LedgerError):  # noqa: N818 -- reads as what happened
    """The ledger cannot be written or read now. Nothing was granted (law 6)."""


class LedgerMismatch(LedgerError):  # noqa: N818 -- reads as what happened
    """The ledger belongs to another constitution, format, key or kind."""


class TamperError(LedgerError):
    """A receipt, signature or checkpoint does not verify."""

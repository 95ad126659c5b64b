"""An edited constitution in a ledger that was never used: another first receipt, no amendment."""

from vmstate.clock import Moment
from vmstate.constitution.law import Constitution
from vmstate.errors import LedgerMismatch
from vmstate.ledger.receipt import Receipt
from vmstate.ledger.store import Ledger
from vmstate.ledger.transaction import Transaction, loading_entry


def adopt(ledger: Ledger, constitution: Constitution, now: Moment) -> Receipt:
    """Put an edited constitution in force in a ledger that was never used.

    Raises:
        LedgerMismatch: the ledger holds more than `constitution_loaded`; it must be amended.
    """

    def work(transaction: Transaction) -> Receipt:
        for receipt in transaction.receipts():
            if receipt.type != "constitution_loaded":
                raise LedgerMismatch(
                    f"{ledger.path} has been used under another constitution: amend it, "
                    "or make another ledger with --ledger"
                )
        entry = loading_entry(constitution, ledger.drill)
        return transaction.put_in_force(constitution, entry, now)

    return ledger.transact(work)

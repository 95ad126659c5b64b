"""Time-boxed authority that gives itself back, and can prove it.

from vmstate import Authority

vm = Authority.open("constitution.toml", "vmstate.db")
receipt = vm.escalate("did:vm:agent:7", "operator", trigger="operator_request",
                      reason="look at ticket 4711")
vm.may("did:vm:agent:7", "operator")    # True until receipt.expires_at, and not at it
"""

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vmstate.authority import Authority
    from vmstate.client import Client
    from vmstate.clock import Clock, Moment, SystemClock, VirtualClock
    from vmstate.constitution.law import Constitution
    from vmstate.constitution.loading import load_constitution
    from vmstate.constitution.unmet import Unmet
    from vmstate.decisions.route import Explanation
    from vmstate.elevation import requires
    from vmstate.errors import Denied, LeaseEnded, LedgerUnavailable, VmstateError
    from vmstate.expiry import Expiry, VirtualExpiry
    from vmstate.keys import PrivateKey
    from vmstate.leases.lease import Lease
    from vmstate.leases.standing import Standing
    from vmstate.ledger.receipt import Receipt

# The face is loaded when it is used: importing vmstate must not load a scheduler or a database.
_HOMES = {
    "Authority": "vmstate.authority",
    "Client": "vmstate.client",
    "Clock": "vmstate.clock",
    "Constitution": "vmstate.constitution.law",
    "Denied": "vmstate.errors",
    "Expiry": "vmstate.expiry",
    "Explanation": "vmstate.decisions.route",
    "Lease": "vmstate.leases.lease",
    "LeaseEnded": "vmstate.errors",
    "LedgerUnavailable": "vmstate.errors",
    "Moment": "vmstate.clock",
    "PrivateKey": "vmstate.keys",
    "Receipt": "vmstate.ledger.receipt",
    "Standing": "vmstate.leases.standing",
    "SystemClock": "vmstate.clock",
    "Unmet": "vmstate.constitution.unmet",
    "VirtualClock": "vmstate.clock",
    "VirtualExpiry": "vmstate.expiry",
    "VmstateError": "vmstate.errors",
    "load_constitution": "vmstate.constitution.loading",
    "requires": "vmstate.elevation",
}

__all__ = [
    "Authority",
    "Client",
    "Clock",
    "Constitution",
    "Denied",
    "Expiry",
    "Explanation",
    "Lease",
    "LeaseEnded",
    "LedgerUnavailable",
    "Moment",
    "PrivateKey",
    "Receipt",
    "Standing",
    "SystemClock",
    "Unmet",
    "VirtualClock",
    "VirtualExpiry",
    "VmstateError",
    "load_constitution",
    "requires",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'vmstate' has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    # freezegun looks at every name that a module lists, while time is frozen; and pydantic can't
    # read a `datetime` that is frozen. So beside it a name is listed once it was asked for.
    beside = "freezegun" in sys.modules
    return sorted(name for name in __all__ if not beside or name in globals())

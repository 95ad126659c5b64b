"""Waiting for what comes, at a ledger's file or at a socket whose service may start again."""

import time
from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING, TypeVar

from vmstate.errors import LedgerUnavailable
from vmstate.interfaces.cli.output import say
from vmstate.interfaces.cli.settings import Settings

if TYPE_CHECKING:
    from vmstate.door import Door
    from vmstate.keys import Signer
    from vmstate.ledger.receipt import Receipt
    from vmstate.signing import Request

_T = TypeVar("_T")

ASK_AGAIN_SECONDS = 0.5  # of a socket where nobody answers
LOOK_AGAIN = timedelta(seconds=1)  # time by itself may end a request that is followed


def patiently(settings: Settings, ask: Callable[[], _T]) -> _T:
    """What `ask` answers; for as long as nobody does at the socket it is asked again.

    For whoever follows what comes: a service that starts again is no end of it. Why nobody answers
    is said once. A ledger's file that can't be read stays an error.
    """
    is_told = False
    while True:
        try:
            return ask()
        except LedgerUnavailable as error:
            if not settings.socket:
                raise
            if not is_told:
                say(f"{error}; asked again until somebody does")
            is_told = True
            time.sleep(ASK_AGAIN_SECONDS)


def follow_request(
    settings: Settings, door: "Door", prepared: "Request", key: "Signer | None"
) -> "Receipt":
    """Wait until nobody has to sign the request any more, or it is over, and activate it."""

    def wait() -> bool:
        seen = door.version()
        shown = door.request(prepared.id)
        if shown.is_ready or not shown.is_open:
            return False
        door.wait(seen, LOOK_AGAIN)
        return True

    while patiently(settings, wait):
        pass
    # One that is over meanwhile is denied, and its receipt says how it ended.
    return door.activate(prepared.principal, prepared.id, key=key)

"""Agents with a token each in front of `vmstate serve`: each is asked for by the token it showed.

A gate that listens runs under one account, and the service takes nobody's word for who else calls.
So each agent's commands go over connections that showed its token, and the receipts say `token`.
Tokens are held in memory for as long as the gate runs, and written nowhere.
"""

import threading
from collections import OrderedDict
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

from vmstate.client import Client
from vmstate.errors import LedgerUnavailable

# A service that hangs answers nobody: what runs under its leases is stopped then, not in half a
# minute. `vmstate run` is as patient.
SHOWN_WITHIN = timedelta(seconds=5)
CONNECTED = 32  # agents whose connection stays open; the service has 64 for one account


@dataclass(slots=True)
class Shown:
    """The clients of those who showed a token, at the socket `path`."""

    path: Path
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _clients: OrderedDict[str, tuple[str, Client]] = field(default_factory=OrderedDict)

    def has(self, principal: str, digest: str) -> bool:
        """Whether `principal` showed the token with this digest, and no other since."""
        with self._lock:
            found = self._clients.get(principal)
            if found is None or found[0] != digest:
                return False
            self._clients.move_to_end(principal)
            return True

    def take(self, principal: str, digest: str, token: str) -> None:
        """Ask as `principal` by `token` from now on.

        Raises:
            UnknownPrincipal: the service knows no such token.
            LedgerUnavailable: nobody answers.
        """
        client = Client(self.path, token=token, keeps=1, shown_within=SHOWN_WITHIN)
        with self._lock:
            before = self._clients.pop(principal, None)
            self._clients[principal] = (digest, client)
            resting = [one for _, one in self._clients.values()][:-CONNECTED]
        if before is not None:
            before[1].close()
        for one in resting:
            one.rest()

    def of(self, principal: str) -> Client:
        """Where `principal` is asked for; raises LedgerUnavailable if it showed no token."""
        with self._lock:
            found = self._clients.get(principal)
        if found is None:
            raise LedgerUnavailable(f"{principal} has shown no token here: nothing was decided")
        return found[1]

    def close(self) -> None:
        """Be done with all of them."""
        with self._lock:
            clients = [one for _, one in self._clients.values()]
            self._clients.clear()
        for one in clients:
            one.close()

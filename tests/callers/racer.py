"""Another process at the same socket: it says when it is ready, and goes when it is told to.

python racer.py SOCKET renew PRINCIPAL LEASE     until it is over; says how often it was granted
python racer.py SOCKET revoke ACTOR LEASE        says what is missing
python racer.py SOCKET hand_in REQUEST FILE      says what is missing
"""

import json
import sys
from contextlib import closing
from pathlib import Path

from vmstate.client import Client
from vmstate.ledger.receipt import Receipt
from vmstate.signing import read_signed


def codes(receipt: Receipt) -> list[str]:
    return [one.code for one in receipt.unmet]


def renew(client: Client, who: str, lease: str) -> int:
    granted = 0
    while "unknown_lease" not in codes(
        answer := client.renew(who, lease, reason="look at ticket 4711")
    ):
        granted += answer.granted
    return granted


def main(path: str, verb: str, who: str, what: str) -> None:
    with closing(Client(path)) as client:
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        sys.stdin.readline()
        said: object
        if verb == "renew":
            said = renew(client, who, what)
        elif verb == "revoke":
            said = codes(client.revoke(who, what))
        else:
            said = codes(client.hand_in(who, read_signed(Path(what).read_bytes())))
        sys.stdout.write(json.dumps(said) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])

"""Telling people and programs in time: what the outbox holds is delivered, at least once.

No decision waits for a listener, and no listener decides anything: authority ends at its deadline
whether or not anybody was told. What can't be delivered is tried again, shows in `vmstate status`
and in `health`, and is never forgotten while the constitution names its target.

A notice is one JSON object in canonical form (RFC 8785), on the command's standard input or in the
body of a POST. Every key is always there:

    {"v":1,"id":"msg_3f…","type":"vmstate.ended","timestamp":"2030-01-01T12:15:00.000000Z",
     "target":"pager","origin":"vaultmesh/1f2e3d4c",
     "receipt":{"seq":5,"id":"sha256:…","type":"profile_deescalation","outcome":"expired"},
     "principal":"did:vm:agent:7","lease":"lease-3","profile":"guardian",
     "expires_at":"2030-01-01T12:15:00.000000Z","count":1,"first_seq":5,"codes":[],
     "message":"did:vm:agent:7 no longer holds guardian (lease-3): timeout_expired"}

`type` is `vmstate.` and one of `request ending ended lock denied amended`, or `test`; `timestamp`
is the receipt's. Whoever is told twice sees the same `id` twice: drop the second; what failed comes
after what did not, so go by `receipt.seq` where order matters. A denial is told
in numbers: `count` refusals between the receipts `first_seq` and `receipt.seq`, for `codes`; told
again with a higher count it has another `id`. `profile` is the one that is asked for, held or lost.
Nothing secret is in a notice, and no fact or reason that somebody stated, except why a request asks
for what it asks and why somebody was locked: whoever is called has to know. `principal` is null for
refusals of several: of names that nobody knows, or of others than those told one by one.

Source: DESIGN 7; Standard Webhooks 1.0.0 (`webhook.py`).
"""

from vmstate.notices.deliverer import Deliverer

__all__ = ["Deliverer"]

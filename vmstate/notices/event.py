"""What is told of a receipt: a sentence for people, and the names for programs."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from vmstate import canonical
from vmstate.canonical import Json
from vmstate.clock import Moment
from vmstate.decisions.command import TOOL_CALL
from vmstate.leases.lease import lease_id
from vmstate.ledger.outbox import OTHERS, Notice
from vmstate.ledger.receipt import Receipt
from vmstate.ledger.snapshot import Snapshot

ID_HEX = 32
CODES = 16  # of a denial; a row of refusals has the same ones


def spell_notice(
    notice: Notice, snapshot: Snapshot, origin: str, baseline: str, now: Moment
) -> dict[str, Json] | None:
    """The object that is sent, or None if what was planned is no longer so.

    The end of a lease that is over, or was moved, is not announced.
    """
    receipt = snapshot.receipt(notice.seq)
    what = receipt.fields["what"]
    left = ""
    if notice.event == "ending":
        assert notice.lease_seq is not None
        lease = snapshot.leases.named(lease_id(notice.lease_seq))
        if lease is None or lease.ended is not None or lease.expires_at != receipt.expires_at:
            return None
        stack = snapshot.stack(lease.principal, baseline)
        if lease not in stack.standing(now):
            return None
        left = canonical.format_duration(stack.longest(lease, now))
    ended = notice.event == "ended"
    return {
        "v": 1,
        "id": _message_id(notice, origin),
        "type": f"vmstate.{notice.event}",
        "timestamp": receipt.fields["at"],
        "target": notice.target,
        "origin": origin,
        "receipt": {
            "seq": receipt.seq,
            "id": receipt.id,
            "type": receipt.type,
            "outcome": receipt.outcome,
        },
        "principal": None if notice.is_of_many else receipt.fields["who"]["principal"],
        "lease": what["lease"],
        "profile": what["from"] if ended else what["to"],
        "expires_at": what["expires_at"],
        "count": notice.count,
        "first_seq": notice.first_seq,
        "codes": [*_codes(receipt)],
        "message": _sentence(notice, receipt, left),
    }


def trial_notice(target: str, origin: str, at: datetime, nonce: str) -> dict[str, Json]:
    """What `vmstate notify test` sends: a notice about no receipt."""
    return {
        "v": 1,
        "id": f"msg_{nonce}",
        "type": "vmstate.test",
        "timestamp": canonical.format_at(at),
        "target": target,
        "origin": origin,
        "receipt": None,
        "principal": None,
        "lease": None,
        "profile": None,
        "expires_at": None,
        "count": 1,
        "first_seq": None,
        "codes": [],
        "message": f"a test of {target}: nothing happened",
    }


def _message_id(notice: Notice, origin: str) -> str:
    """The same for each attempt to say the same thing, and no dot in it (Standard Webhooks)."""
    said: list[Json] = [origin, notice.target, notice.event, notice.id, notice.seq, notice.count]
    return f"msg_{canonical.digest(canonical.encode(said)).partition(':')[2][:ID_HEX]}"


def _codes(receipt: Receipt) -> list[str]:
    return list(dict.fromkeys(one.code for one in receipt.unmet))[:CODES]


def _denied(notice: Notice, receipt: Receipt) -> str:
    """Who was, as far as it is one; the receipt is of the last of several."""
    if notice.fold == OTHERS:
        return "others were"
    if notice.is_for_others:
        return f"{receipt.by}, asking for others, was"
    return "unknown names were" if notice.is_of_many else f"{receipt.who} was"


def _sentence(notice: Notice, receipt: Receipt, left: str) -> str:
    fields = receipt.fields
    what, who = fields["what"], fields["who"]["principal"]
    held = f"{what['from']} ({what['lease']})"
    match notice.event:
        case "ended":
            said = f"{who} no longer holds {held}: {what['ending']}"
        case "ending":
            until = f"until {_to_the_second(what['expires_at'])}, {left} more"
            said = f"{who} holds {what['to']} ({what['lease']}) {until}"
        case "denied":
            times = "once" if notice.count == 1 else f"{notice.count} times"
            said = f"{_denied(notice, receipt)} denied {times}: {', '.join(_codes(receipt))}"
        case "request":
            said = _request_sentence(receipt)
        case "amended":
            said = f"the constitution is now {_text(what['detail'], 'name', 'version')}".rstrip()
        case _:
            said = _lock_sentence(receipt)
    return said


def _lock_sentence(receipt: Receipt) -> str:
    detail, why = receipt.fields["what"]["detail"], receipt.fields["why"]
    said = f"{detail['lock']} on {detail['name'] or 'everybody'}: {detail['state']}"
    if detail["state"] == "locked" and detail["until"]:
        said += f" until {_to_the_second(detail['until'])}"
    return f"{said}; {why}" if why else said


def _request_sentence(receipt: Receipt) -> str:
    fields = receipt.fields
    what, detail = fields["what"], fields["what"]["detail"]
    state = _text(detail, "state", "status") or receipt.type
    number = _text(detail, "request", "id")[:19]
    for_what = f" for {what['to']}" if what["to"] else ""
    if what["trigger"] == TOOL_CALL:
        facts = fields["authority"]["facts"]
        for_what = f" to call {facts['name']} of {facts['server']}" if facts else " for one call"
    said = f"request {number} of {fields['who']['principal']}{for_what}: {state}"
    return f"{said}; {fields['why']}" if fields["why"] else said


def _text(detail: Mapping[str, Any] | None, *names: str) -> str:
    """What a receipt's detail says under these names, as far as it does."""
    return " ".join(str(detail[n]) for n in names if detail and isinstance(detail.get(n), str))


def _to_the_second(at: str) -> str:
    return f"{canonical.parse_at(at):%Y-%m-%d %H:%M:%SZ}"

"""A flood of refusals: the first of them stand one by one, the rest as a number.

Each refused command leaves a receipt, and whoever is refused again and again could fill a disk with
them. So within a minute, by the boot hand, a refusal that repeats is counted instead of written:

* one that is the same to the letter (who asks and how that is proven, all that they ask for and
  hand in, the rule, the reasons) from the ninth on;
* one of the same kind (who asks and how that is proven, whether for themselves, by which verb, for
  which reasons) from the sixty-fifth on, whatever it says besides. Whoever asks for others makes up
  their names: whom it would have been for does not tell one kind from another.

Every command is decided all the same, and is answered with the rule that refused it and all that
it lacked (law 7); what stands in the ledger for it is the newest receipt of its like, which is
named. The count is in the ledger before anybody is answered, and goes on record as
a receipt of its own once the minute is over, by whoever writes next:

    "detail": {"folded": {"count": 41, "first": "…", "last": "…", "like": 8, "same": true}}

`like` is the receipt that they repeat. What was counted left no idempotency key behind: sent again,
it is decided again. Never counted: what a gate tallies itself, and anything in a drill. Not
bounded: names made up by whoever can open the file, who could fill it without us.
"""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from vmstate import canonical
from vmstate.canonical import Json, format_at
from vmstate.clock import Moment, duration_us, from_us, to_us
from vmstate.decisions.command import Call, CommandBase, Tally
from vmstate.decisions.decision import Decision, Entry, Grounds
from vmstate.decisions.ordering import order_arguments
from vmstate.ledger.receipt import Receipt
from vmstate.ledger.snapshot import Snapshot
from vmstate.ledger.transaction import Transaction

WINDOW = timedelta(minutes=1)
SAME = 8  # that are the same to the letter stand one by one in a window
ALIKE = 64  # of one kind, whatever they say
OWED_AT_ONCE = 32  # receipts of counts in one transaction, which is somebody else's
FORGOTTEN_AT_ONCE = 1_000  # windows in which nothing was counted

_ROW = "SELECT seq, written FROM refusal WHERE key = ?"
_INSERT = "INSERT INTO refusal VALUES (?, ?, ?, ?, 1, 0, 0, 0, ?)"
_WRITTEN = "UPDATE refusal SET seq = ?, written = written + 1 WHERE key = ?"
_COUNT = """UPDATE refusal SET counted = counted + 1, last_us = :at,
    first_us = CASE counted WHEN 0 THEN :at ELSE first_us END WHERE key = :key"""
# Those of other boots are over: nobody can say how long ago they were.
_CLOSED = """SELECT * FROM refusal WHERE began_boot = :boot AND began_boot_us <= :since
    UNION ALL SELECT * FROM refusal WHERE began_boot < :boot
    UNION ALL SELECT * FROM refusal WHERE began_boot > :boot"""
_ANY = "SELECT 1 FROM refusal LIMIT 1"  # mostly there are none, which is told soonest so
_ANY_CLOSED = f"SELECT 1 FROM ({_CLOSED}) LIMIT 1"
_OWED = f"""SELECT key, seq, counted, first_us, last_us, same FROM ({_CLOSED})
    WHERE counted > 0 ORDER BY first_us, seq LIMIT :n"""
_FORGET = f"""DELETE FROM refusal WHERE key IN (SELECT key FROM ({_CLOSED})
    WHERE counted = 0 LIMIT :n)"""


def record(
    transaction: Transaction, command: CommandBase, decision: Decision
) -> tuple[tuple[Receipt, ...], Receipt]:
    """Write what was decided, or count it if it is a refusal that repeats.

    Returns the receipts that were written, and the one that answers the command.
    """
    entries, now = decision.entries, decision.now
    if not _may_count(transaction, command, decision.answer):
        written = tuple(transaction.append(entry, now) for entry in entries)
        return written, written[entries.index(decision.answer)]
    keys = _keys(command, decision.answer)
    like = _counted(transaction, keys, now)
    owed = (one for one in entries if like is None or one is not decision.answer)
    written = tuple(transaction.append(entry, now) for entry in owed)
    if like is None:
        answer = written[entries.index(decision.answer)]
        _remember(transaction, keys, answer, now)
        return written, answer
    grounds = decision.answer.grounds
    return written, like.answering(grounds.rule, grounds.unmet)


def _counted(transaction: Transaction, keys: tuple[str, str], now: Moment) -> Receipt | None:
    """Count one more among its like if there were many; returns the newest receipt of these."""
    for key, most in zip(keys, (SAME, ALIKE), strict=True):
        row = next(transaction.execute(_ROW, (key,)), None)
        if row is not None and row[1] >= most:
            transaction.execute(_COUNT, {"key": key, "at": to_us(now.wall)})
            return transaction.receipt(row[0])
    return None


def _remember(
    transaction: Transaction, keys: tuple[str, str], receipt: Receipt, now: Moment
) -> None:
    """Count the receipt of a refusal among its like."""
    for key, is_same in zip(keys, (1, 0), strict=True):
        if next(transaction.execute(_ROW, (key,)), None) is None:
            row = (key, receipt.seq, now.boot_id, now.boot_us, is_same)
            transaction.execute(_INSERT, row)
        else:
            transaction.execute(_WRITTEN, (receipt.seq, key))


def any_closed(snapshot: Snapshot, now: Moment) -> bool:
    """Whether a window is over, so that there is something to write or to forget."""
    return next(snapshot.execute(_ANY_CLOSED, _closing(now)), None) is not None


def put_on_record(transaction: Transaction, now: Moment) -> tuple[Receipt, ...]:
    """Write the receipts of what was counted in windows that are over."""
    written: list[Receipt] = []
    if next(transaction.execute(_ANY), None) is None:
        return ()
    owed = list(transaction.execute(_OWED, {**_closing(now), "n": OWED_AT_ONCE}))
    for key, seq, counted, first_us, last_us, same in owed:
        folded: dict[str, Json] = {
            "count": counted,
            "first": format_at(from_us(first_us)),
            "last": format_at(from_us(last_us)),
            "like": seq,
            "same": bool(same),
        }
        written.append(transaction.append(_entry(transaction.receipt(seq), folded), now))
        transaction.execute("DELETE FROM refusal WHERE key = ?", (key,))
    transaction.execute(_FORGET, {**_closing(now), "n": FORGOTTEN_AT_ONCE})
    return tuple(written)


def _closing(now: Moment) -> Mapping[str, Any]:
    return {"boot": now.boot_id, "since": now.boot_us - duration_us(WINDOW)}


def _may_count(transaction: Transaction, command: CommandBase, answer: Entry) -> bool:
    told_by_a_gate = isinstance(command, Call | Tally)
    return answer.outcome == "denied" and not told_by_a_gate and transaction.drill() is None


def _keys(command: CommandBase, answer: Entry) -> tuple[str, str]:
    codes: list[Json] = [*sorted({one.code for one in answer.grounds.unmet})]
    caller = None if command.caller is None else str(command.caller)
    for_themselves = answer.actor == answer.principal
    kind: list[Json] = [command.verb, answer.actor, for_themselves, answer.proof, caller, codes]
    order = None if command.order is None else command.order.statement.id
    asked: list[Json] = [*kind, answer.principal, answer.grounds.rule, command.reason, order]
    asked += [command.idempotency_key, {**order_arguments(command)}]
    same, alike = (canonical.digest(canonical.encode(one)) for one in (asked, kind))
    return same, alike


def _entry(like: Receipt, folded: Mapping[str, Json]) -> Entry:
    said = like.fields
    who, what = said["who"], said["what"]
    return Entry(
        like.type,
        like.outcome,
        Grounds(like.rule, facts=said["authority"]["facts"], unmet=like.unmet),
        actor=who["actor"],
        principal=who["principal"],
        proof=who["proof"],
        why=said["why"],
        lease=what["lease"],
        trigger=what["trigger"],
        ending=what["ending"],
        act=what["act"],
        from_profile=what["from"],
        to_profile=what["to"],
        ttl_requested_us=what["ttl_requested_us"],
        detail={**(what["detail"] or {}), "folded": dict(folded)},
    )

"""What a drill's receipts tell: who held what and on whose word, what was refused, how it ended.

Everything here is worked out from receipts; nothing is asked of the engine that wrote them. What
the ledger's own tables say once the drill is over (`Aftermath`) is set beside it, and must agree.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from vmstate.canonical import Json, format_at, format_duration, parse_at
from vmstate.constitution.law import Constitution
from vmstate.drills.runner import DrillRun
from vmstate.ledger.receipt import Receipt
from vmstate.treasury.budget import Budget

TIMED_OUT = "timeout_expired"
_VIA = {
    "scheduler": "the scheduler",
    "settle": "the command that settled it",
    "start_up": "the first look after a start",
}


@dataclass(slots=True)
class Holding:
    """One lease, from its grant to its end. `receipts` are its grant, its renewals and its end."""

    principal: str
    profile: str
    lease: str
    grant: Receipt
    expires_at: datetime
    receipts: list[int] = field(default_factory=list)
    end: Receipt | None = None

    @property
    def until(self) -> datetime | None:
        """When it was over: its deadline if that ended it, else when the end was recorded."""
        if self.end is None:
            return None
        due = self.end.fields["due"]
        return self.end.at if due is None else parse_at(due)

    @property
    def ending(self) -> str | None:
        return None if self.end is None else str(self.end.fields["what"]["ending"])


@dataclass(frozen=True, slots=True)
class Moment:
    """A receipt, and the profile that its principal held just before and just after it."""

    receipt: Receipt
    before: str
    after: str


def read_holdings(receipts: Iterable[Receipt]) -> tuple[Holding, ...]:
    """Every lease that these receipts grant, in the order of the grants."""
    held: dict[str, Holding] = {}
    for receipt in receipts:
        what = receipt.fields["what"]
        lease = what["lease"]
        if receipt.type == "profile_escalation":
            who, ends = receipt.fields["who"]["principal"], parse_at(what["expires_at"])
            held[lease] = Holding(who, what["to"], lease, receipt, ends)
        elif lease not in held or receipt.type not in {"lease_renewed", "profile_deescalation"}:
            continue
        elif receipt.type == "lease_renewed" and receipt.granted:
            held[lease].expires_at = parse_at(what["expires_at"])
        elif receipt.type == "profile_deescalation":
            held[lease].end = receipt
        held[lease].receipts.append(receipt.seq)
    return tuple(held.values())


def walk(receipts: Iterable[Receipt], baseline: str) -> Iterator[Moment]:
    """Each receipt with what its principal held around it, as grants and ends add up to."""
    stacks: dict[str, list[tuple[str, str]]] = {}
    for receipt in receipts:
        what = receipt.fields["what"]
        stack = stacks.setdefault(receipt.fields["who"]["principal"] or "", [("", baseline)])
        before = stack[-1][1]
        if receipt.type == "profile_escalation":
            stack.append((what["lease"], what["to"]))
        elif receipt.type == "profile_deescalation":
            stack[:] = [one for one in stack if one[0] != what["lease"]]
        yield Moment(receipt, before, stack[-1][1])


def words(receipt: Receipt) -> list[Json]:
    """On whose word: who signed for this, with which key; nobody where the caller's own did."""
    authority = receipt.fields["authority"]
    return [
        {"kind": kind, "by": one["by"], "key": one["key"]}
        for kind, said in (("approved", "approvals"), ("attested", "attestations"))
        for one in authority[said]
    ]


def holding_body(holding: Holding, drill: str) -> dict[str, Json]:
    """One line of "who held what"."""
    said, end = holding.grant.fields, holding.end
    ended_by = (
        None if end is None else end.fields["what"]["ended_via"] or end.fields["who"]["actor"]
    )
    receipts: list[Json] = list(holding.receipts)
    return {
        "drill": drill,
        "principal": holding.principal,
        "profile": holding.profile,
        "lease": holding.lease,
        "from": said["at"],
        "to": None if holding.until is None else format_at(holding.until),
        "expires_at": format_at(holding.expires_at),
        "clipped_by": said["what"]["clipped_by"],
        "rule": holding.grant.rule,
        "trigger": said["what"]["trigger"],
        "why": said["why"],
        "facts": said["authority"]["facts"],
        "asked_by": said["who"]["actor"],
        "proof": said["who"]["proof"],
        "words": words(holding.grant),
        "ending": holding.ending,
        "ended_by": ended_by,
        "timed_out": holding.ending == TIMED_OUT,
        "receipts": receipts,
    }


def row_body(
    receipt: Receipt, previous: Receipt | None, reversed_by: int | None
) -> dict[str, Json]:
    """One row of the timeline; `previous` is the receipt before it, to show where time jumped."""
    said = receipt.fields
    jump = receipt.at - previous.at if previous is not None else None
    return {
        "seq": receipt.seq,
        "at": said["at"],
        "jump": format_duration(jump) if jump else None,
        "type": receipt.type,
        "outcome": receipt.outcome,
        "who": said["who"],
        "what": _phrase(receipt),
        "why": said["why"],
        "rule": receipt.rule,
        "words": words(receipt),
        "facts": said["authority"]["facts"],
        "cost": said["cost"],
        "proofs": {"receipt": receipt.id, **said["proofs"]},
        "scroll": f"{said['scroll']} {said['scroll_seq']}",
        "reversible": said["reversible"],
        "reversed_by": reversed_by,
        "reverses": said["reverses"],
    }


def timeline(receipts: Sequence[Receipt]) -> list[Json]:
    """The rows of all receipts, in their order."""
    reversed_by = {one.fields["reverses"]: one.seq for one in receipts if one.fields["reverses"]}
    before = (None, *receipts)
    return [
        row_body(receipt, previous, reversed_by.get(receipt.id))
        for receipt, previous in zip(receipts, before, strict=False)
    ]


def _phrase(receipt: Receipt) -> str:
    """What was done or refused, in a line."""
    what: dict[str, Any] = receipt.fields["what"]
    detail: dict[str, Any] = what["detail"] or {}
    if not receipt.granted:
        return f"refused: {what['act'] or _climb(what)}: {receipt.message}"
    match receipt.type:
        case "profile_escalation" | "profile_deescalation" | "lease_renewed":
            return _moved(receipt, what)
        case "request" | "approval" | "attestation" | "lock":
            return _by_others(receipt, what, detail)
        case "constitution_loaded":
            return f"{detail['name']} {detail['version']} comes into force"
        case "drill_mode":
            until = f" until {_time(detail['until'])}" if detail["until"] else ""
            pretends = ", ".join(f"{act} is {how}" for act, how in detail["pretends"].items())
            return f"drill mode {detail['mode']}{until}, set by {detail['set_by']}; {pretends}"
        case "treasury_budget":
            return f"{detail['allocated']} {detail['unit']} allocated to {detail['budget']}"
        case "drill_pack":
            return f"{len(detail['drills'])} drills and their pack put on record"
        case _:
            given = ", ".join(f"{name} {_brief(str(value))}" for name, value in detail.items())
            pretence = f" ({what['result']})" if what["result"] else ""
            return f"{what['act'] or receipt.type}{pretence}{f': {given}' if given else ''}"


def _by_others(receipt: Receipt, what: Mapping[str, Any], detail: Mapping[str, Any]) -> str:
    """What waits for others, what they said to it, and what they stopped."""
    match receipt.type:
        case "request":
            return f"request {_brief(detail['request'])} for {what['to']}: {detail['state']}"
        case "approval":
            return f"signed for request {_brief(detail['request'])}: {detail['state']}"
        case "attestation":
            facts = ", ".join(sorted(receipt.fields["authority"]["facts"]))
            return f"{receipt.fields['who']['actor']} attests {facts}"
        case _:
            return f"{detail['lock']} on {detail['name'] or 'everybody'}: {detail['state']}"


def _moved(receipt: Receipt, what: Mapping[str, Any]) -> str:
    """How a lease began, went on or ended."""
    if receipt.type == "profile_deescalation":
        return f"{what['from']} to {what['to']}: {what['ending']}{_lateness(receipt)}"
    until = _time(what["expires_at"])
    if receipt.type == "lease_renewed":
        return f"{what['lease']} renewed until {until}"
    clipped = f", cut short by the {what['clipped_by']}" if what["clipped_by"] else ""
    return f"{what['from']} to {what['to']} until {until}{clipped}, {what['lease']}"


def _climb(what: Mapping[str, Any]) -> str:
    if what["to"]:
        return f"{what['from']} to {what['to']} on {what['trigger']}"
    return f"{what['lease'] or 'a request'} {what['ending'] or ''}".strip()


def _lateness(receipt: Receipt) -> str:
    """Who ended it, and how long after it was due."""
    via, due = receipt.fields["what"]["ended_via"], receipt.fields["due"]
    if receipt.fields["what"]["ending"] == "drill_ended":
        return ", with the drill"
    if via is None or due is None:
        return ""
    late = receipt.at - parse_at(due)
    return f", by {_VIA[via]}, {f'late by {format_duration(late)}' if late else 'on time'}"


def _brief(value: str) -> str:
    return f"{value[:19]}…" if value.startswith("sha256:") else value


def _time(at: str) -> str:
    return at[11:19]


# ---- what is left --------------------------------------------------------------------------------


def baseline_body(run: DrillRun, constitution: Constitution) -> dict[str, Json]:
    """Proof that nothing is left: each claim with what was expected and what there was."""
    checks = [_check(*one) for one in _claims(run, constitution)]
    return {"normal": all(one["passed"] is True for one in checks), "checks": list(checks)}


_Claim = tuple[str, str, str, tuple[int, ...]]


def _check(what: str, expected: str, got: str, receipts: tuple[int, ...]) -> dict[str, Json]:
    passed = expected == got
    seqs: list[Json] = list(receipts)
    return {"what": what, "expected": expected, "got": got, "passed": passed, "receipts": seqs}


def _claims(run: DrillRun, constitution: Constitution) -> Iterator[_Claim]:
    after = run.aftermath
    if after is None:
        yield "the drill ran to its end", "yes", run.reason or "no", ()
        return
    holdings = read_holdings(run.receipts)
    left = [one.lease for one in holdings if one.end is None]
    ends = tuple(sorted(one.end.seq for one in holdings if one.end is not None))
    yield "leases open, by the receipts", "none", ", ".join(left) or "none", ends
    yield "leases open, by the ledger's table", "0", str(after.open_leases), ()
    last: dict[str, Moment] = {}
    for moment in walk(run.receipts, constitution.baseline):
        name = moment.receipt.fields["who"]["principal"] or ""
        if name not in last or moment.before != moment.after:
            last[name] = moment
    for name in sorted(name for name in last if name):
        moment = last[name]
        yield f"profile of {name}", constitution.baseline, moment.after, (moment.receipt.seq,)
    waits = "none" if after.next_deadline is None else format_at(after.next_deadline)
    yield "next thing the scheduler waits for", "none", waits, ()
    modes = [one for one in run.receipts if one.type == "drill_mode"]
    mode = modes[-1].fields["what"]["detail"]["mode"] if modes else "never on"
    yield "drill mode", "OFF", str(mode), tuple(one.seq for one in modes)
    yield from _treasury_claims(run.receipts, after.budgets, constitution)
    origins = sorted({str(one.fields["node"]) for one in run.receipts})
    # No budget or lease of a live ledger can have moved: not one receipt is from anywhere else.
    yield "ledgers written to", after.origin, ", ".join(origins), ()
    found = "; ".join(after.findings) or "nothing found"
    yield "audit of the ledger", "nothing found", found, ()


def _treasury_claims(
    receipts: Sequence[Receipt], budgets: Sequence[Budget], constitution: Constitution
) -> Iterator[_Claim]:
    """Budgets are what their receipts add up to, and together no more than the ceiling."""
    allocated, charged, seqs = tally(receipts)
    table = {one.id: one for one in budgets}
    for name in sorted({*allocated, *table}):
        left = allocated.get(name, 0) - charged.get(name, 0)
        said = f"{left} of {allocated.get(name, 0)} left"
        one = table.get(name)
        kept = "no such budget" if one is None else f"{one.available} of {one.allocated} left"
        yield f"budget {name}", said, kept, tuple(seqs.get(name, ()))
    drill = constitution.document.drill
    ceiling = drill.budget_ceiling if drill is not None else 0
    together = sum(allocated.values())
    most = f"{min(together, ceiling)}, at most {ceiling}"
    yield "allocated by the drill together", most, f"{together}, at most {ceiling}", ()


def tally(
    receipts: Iterable[Receipt],
) -> tuple[dict[str, int], dict[str, int], dict[str, list[int]]]:
    """What was allocated and charged to each budget, and the receipts that are about it."""
    allocated: dict[str, int] = {}
    charged: dict[str, int] = {}
    seqs: dict[str, list[int]] = {}
    for receipt in receipts:
        if receipt.type == "treasury_budget" and receipt.granted:
            detail = receipt.fields["what"]["detail"]
            allocated[detail["budget"]] = detail["allocated"]
            seqs.setdefault(detail["budget"], []).append(receipt.seq)
        for line in receipt.fields["cost"]:
            charged[line["budget"]] = charged.get(line["budget"], 0) + line["charged"]
            seqs.setdefault(line["budget"], []).append(receipt.seq)
    return allocated, charged, seqs

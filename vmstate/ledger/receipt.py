"""A receipt: one decision, when it fell and under which law, as canonical bytes.

Law 12: receipts never change; mending a mistake is another receipt. Every key is always present:

    {"at":"2026-01-01T12:00:00.000000Z","authority":{"approvals":[],"attestations":[],
     "constitution":"sha256:…","facts":{},"rule":"operator_on_request","unmet":[]},"clock":"system",
     "cost":[],"drill":null,"due":null,"node":"vaultmesh/1f2e3d4c","outcome":"granted",
     "proofs":{"tem_context_hash":"sha256:…"},"reverses":null,"reversible":true,"scroll":"identity",
     "scroll_prev":null,"scroll_seq":0,"seq":1,"type":"profile_escalation","v":1,
     "what":{"act":null,"clipped_by":null,"detail":null,"ended_via":null,"ending":null,
     "expires_at":"2026-01-01T13:00:00.000000Z","from":"observer","lease":"lease-1","parent":null,
     "result":null,"setup":false,"to":"operator","trigger":"operator_request",
     "ttl_requested_us":null},"who":{"actor":"did:vm:agent:7","principal":"did:vm:agent:7",
     "proof":"host"},"why":"look at ticket 4711"}

A receipt's id is `sha256:` and the hexadecimal RFC 6962 leaf hash of these bytes.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import cached_property
from typing import Any, Self

from vmstate import canonical
from vmstate.canonical import Json
from vmstate.constitution.document import MONEY_TYPES
from vmstate.constitution.guards import limits_of
from vmstate.constitution.law import Constitution
from vmstate.constitution.unmet import Unmet
from vmstate.decisions.decision import Entry
from vmstate.decisions.fields import CONTEXT
from vmstate.errors import Denied, InputError, TamperError
from vmstate.ledger.merkle import leaf_hash

RECEIPT_BYTES = 65_535  # an entry bundle of C2SP tlog-tiles gives a leaf a 16-bit length
SCROLL_OF = {
    "profile_escalation": "identity",
    "profile_deescalation": "identity",
    "lease_renewed": "identity",
    "auth_failure": "identity",
    "request": "identity",
    "approval": "identity",
    "attestation": "identity",
    "constitution_loaded": "guardian",
    "treasury_denial": "treasury",
    "drill_mode": "guardian",
    "drill_pack": "guardian",
    "clock_anomaly": "guardian",
    "recovery": "guardian",
    "lock": "guardian",
    "constitution_amended": "guardian",
    "lease_clamped": "identity",
    "tool_call": "cognitive",
}
VERSION = 1
KEYS = frozenset(
    (
        "v",
        "seq",
        "scroll",
        "scroll_seq",
        "scroll_prev",
        "type",
        "outcome",
        "at",
        "due",
        "clock",
        "who",
        "what",
        "why",
        "authority",
        "cost",
        "proofs",
        "reversible",
        "reverses",
        "drill",
        "node",
    )
)


TABLES = {
    "who": frozenset(("actor", "principal", "proof")),
    "what": frozenset(
        (
            "lease",
            "parent",
            "trigger",
            "ending",
            "from",
            "to",
            "expires_at",
            "ttl_requested_us",
            "clipped_by",
            "act",
            "result",
            "ended_via",
            "setup",
            "detail",
        )
    ),
    "authority": frozenset(("constitution", "rule", "facts", "unmet", "approvals", "attestations")),
}


@dataclass(frozen=True, slots=True)
class Place:
    """Where in the ledger a receipt stands, and what it says of the ledger itself."""

    seq: int
    scroll: str
    scroll_seq: int
    scroll_prev: str | None
    node: str
    constitution: str
    drill: str | None
    reverses: str | None = None


@dataclass(frozen=True, slots=True)
class Counted:
    """A refusal that has no receipt of its own: which rule refused, and all that was missing."""

    rule: str
    unmet: tuple[Unmet, ...]


@dataclass(frozen=True)
class Receipt:
    """What was decided, as it stands in the ledger. `body` is the evidence; the rest is read.

    Where it answers a refusal that was only `counted` it is the receipt of its like: the rule and
    what was missing are those of what was asked, everything else is the like's.
    """

    body: bytes
    counted: Counted | None = field(default=None, compare=False)

    @classmethod
    def read(cls, body: bytes) -> Self:
        """Take `body` for a receipt if it is one, in its canonical spelling.

        Raises:
            TamperError: too long, not canonical, or not exactly a receipt's keys.
        """
        receipt = cls(body)
        if receipt.fault is not None:
            raise TamperError(receipt.fault)
        return receipt

    @cached_property
    def fault(self) -> str | None:
        """Why `body` is no receipt in its canonical spelling; None if it is one."""
        if len(self.body) > RECEIPT_BYTES:
            return f"a receipt of {len(self.body):,} bytes, at most {RECEIPT_BYTES:,}"
        try:
            fields = canonical.decode(self.body)
        except InputError as error:
            return f"not a canonical receipt: {error}"
        if not isinstance(fields, dict) or fields.keys() != KEYS or fields["v"] is not VERSION:
            return "not a receipt of version 1: it has other keys"
        for table, keys in TABLES.items():
            inner = fields[table]
            if not isinstance(inner, dict) or inner.keys() != keys:
                return f"not a receipt of version 1: {table!r} has other keys"
        self.__dict__["fields"] = fields  # so that they are read once
        return None

    @cached_property
    def fields(self) -> dict[str, Any]:
        """The receipt as JSON; treat it as read-only."""
        value: Any = canonical.parse(self.body)
        return dict(value)

    @cached_property
    def leaf(self) -> bytes:
        return leaf_hash(self.body)

    @property
    def id(self) -> str:
        return spell_leaf(self.leaf)

    @property
    def seq(self) -> int:
        return int(self.fields["seq"])

    @property
    def type(self) -> str:
        return str(self.fields["type"])

    @property
    def outcome(self) -> str:
        """`granted`, `denied`, `expired`, `reverted` or `recorded`."""
        return str(self.fields["outcome"])

    @property
    def granted(self) -> bool:
        """Whether what was asked for was done."""
        return self.outcome != "denied"

    @cached_property
    def at(self) -> datetime:
        return canonical.parse_at(self.fields["at"])

    @property
    def lease(self) -> str | None:
        """The id of the lease that this is about."""
        return self._text("lease")

    @property
    def profile(self) -> str | None:
        """The profile that was left with, whichever way it went."""
        return self._text("to")

    @property
    def expires_at(self) -> datetime | None:
        text = self._text("expires_at")
        return None if text is None else canonical.parse_at(text)

    @property
    def ends_at(self) -> datetime | None:
        """When the lease that this grants or renews ends if nothing is done under it."""
        if self.expires_at is None or self._idle_ttl is None:
            return self.expires_at
        return min(self.expires_at, self.at + self._idle_ttl)

    @property
    def limits(self) -> tuple[str, ...]:
        """What else than time ends the lease that this grants or renews, a phrase for each."""
        return limits_of((self.fields["what"]["detail"] or {}).get("max_uses"), self._idle_ttl)

    @property
    def _idle_ttl(self) -> timedelta | None:
        idle_us = (self.fields["what"]["detail"] or {}).get("idle_ttl_us")
        return None if idle_us is None else timedelta(microseconds=idle_us)

    @property
    def rule(self) -> str:
        if self.counted is not None:
            return self.counted.rule
        return str(self.fields["authority"]["rule"])

    @property
    def unmet(self) -> tuple[Unmet, ...]:
        """All requirements that were not met; empty unless denied."""
        if self.counted is not None:
            return self.counted.unmet
        return tuple(Unmet(**one) for one in self.fields["authority"]["unmet"])

    @property
    def who(self) -> str:
        """Whom it is about, as people read it; who asked without being proven is said to."""
        who = self.fields["who"]
        principal = str(who["principal"] or "")
        return self.by if principal == who["actor"] else principal

    @property
    def by(self) -> str:
        """Who asked, likewise; empty where nobody did."""
        who = self.fields["who"]
        return f"{who['actor'] or ''}{' (not proven)' if who['proof'] == 'none' else ''}"

    @property
    def folded(self) -> int:
        """How many refusals this one stands for, besides those with a receipt of their own."""
        told = (self.fields["what"]["detail"] or {}).get("folded")
        return int(told["count"]) if told is not None else 0

    @property
    def message(self) -> str:
        """All that was missing, in sentences; empty unless denied."""
        return "; ".join(one.message for one in self.unmet)

    @property
    def place(self) -> str:
        """Where the decision stands in the ledger: `receipt 7`, `counted with receipt 7`."""
        return f"{'counted with ' if self.counted is not None else ''}receipt {self.seq}"

    def answering(self, rule: str, unmet: tuple[Unmet, ...]) -> Self:
        """This receipt as the answer to a refusal that is counted with it."""
        return replace(self, counted=Counted(rule, unmet))

    def raise_for_denial(self) -> Self:
        """Return this receipt, or raise Denied with its message if it is a denial."""
        if not self.granted:
            raise Denied(f"{self.message} ({self.place})", self)
        return self

    def _text(self, key: str) -> str | None:
        value = self.fields["what"][key]
        return None if value is None else str(value)


def spell_leaf(leaf: bytes) -> str:
    """The id of the receipt with this leaf hash."""
    return f"sha256:{leaf.hex()}"


def scroll_of(type_: str, law: Constitution | None) -> str | None:
    """The scroll that receipts of a type go into; acts have types of their own, by their law."""
    if type_ in SCROLL_OF or law is None:
        return SCROLL_OF.get(type_)
    if type_ in MONEY_TYPES:
        return "treasury"
    return next((one.scroll for one in law.document.acts.values() if one.receipt == type_), None)


def write_receipt(entry: Entry, at: datetime, place: Place) -> Receipt:
    """Return the receipt of `entry`, written `at`.

    Raises:
        InputError: it would have more than 65,535 bytes: too much evidence was handed in.
    """
    virtual = place.drill is not None
    fields: dict[str, Json] = {
        "v": VERSION,
        "seq": place.seq,
        "scroll": place.scroll,
        "scroll_seq": place.scroll_seq,
        "scroll_prev": place.scroll_prev,
        "type": entry.type,
        "outcome": entry.outcome,
        "at": canonical.format_at(at),
        "due": _at(entry.due),
        "clock": "virtual" if virtual else "system",
        "who": {"actor": entry.actor, "principal": entry.principal, "proof": entry.proof},
        "what": _what(entry),
        "why": entry.why,
        "authority": _authority(entry, place.constitution),
        "cost": list(entry.cost),
        "proofs": _proofs(entry),
        "reversible": entry.reversible,
        "reverses": place.reverses,
        "drill": place.drill,
        "node": place.node,
    }
    body = canonical.encode(fields)
    if len(body) > RECEIPT_BYTES:
        raise InputError(
            f"the receipt would have {len(body):,} bytes, at most {RECEIPT_BYTES:,} fit: "
            "hand in fewer facts or statements"
        )
    receipt = Receipt(body)
    receipt.__dict__["fields"] = fields
    return receipt


def _what(entry: Entry) -> dict[str, Json]:
    return {
        "lease": entry.lease,
        "parent": entry.parent,
        "trigger": entry.trigger,
        "ending": entry.ending,
        "from": entry.from_profile,
        "to": entry.to_profile,
        "expires_at": _at(entry.expires_at),
        "ttl_requested_us": entry.ttl_requested_us,
        "clipped_by": entry.clipped_by,
        "act": entry.act,
        "result": entry.result,
        "ended_via": entry.ended_via,
        "setup": entry.setup,
        "detail": None if entry.detail is None else dict(entry.detail),
    }


def _authority(entry: Entry, constitution: str) -> dict[str, Json]:
    grounds = entry.grounds
    return {
        "constitution": constitution,
        "rule": grounds.rule,
        "facts": dict(grounds.facts),
        "unmet": [one.body() for one in grounds.unmet],
        "approvals": [signed.body() for signed in grounds.approvals],
        "attestations": [signed.body() for signed in grounds.attestations],
    }


def _proofs(entry: Entry) -> dict[str, Json]:
    proofs: Mapping[str, Json] = dict(entry.proofs)
    if entry.type == "profile_escalation":
        # What the guards saw, so that an auditor can judge the rule again (runbook, drill 1).
        facts = canonical.encode(dict(entry.grounds.facts))
        proofs = {**proofs, CONTEXT: canonical.digest(facts)}
    if entry.grounds.request is not None:
        proofs = {**proofs, "request": entry.grounds.request}
    return dict(proofs)


def _at(at: datetime | None) -> str | None:
    return None if at is None else canonical.format_at(at)

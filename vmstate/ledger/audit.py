"""Is this ledger what it claims to be? Asked of a file or of a bundle, by whoever holds a copy.

1. The checkpoint is signed by the log's key.
2. Each receipt is canonical, stands at its own number, and continues its scroll.
3. The tree over the receipts has the checkpoint's size and root.
4. Each approval, attestation and signed ending verifies, is for this ledger, law and request, and
   was used once.
5. The leases follow from the receipts: none ends twice or without a grant, none outlives its
   parent, none was renewed or given back after its end (law 2).
6. In a file, every table beside the receipts says what the receipts say.

Findings are gathered, not raised: an auditor wants all of them. What is not claimed: whoever has
both the file and the log's key can write another history; only a copy of a checkpoint kept
elsewhere shows that.
"""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from vmstate import canonical
from vmstate.canonical import parse_at
from vmstate.constitution.law import Constitution
from vmstate.constitution.loading import read_constitution
from vmstate.errors import ConstitutionError, InputError, TamperError
from vmstate.leases.lease import EXPIRED, lease_id
from vmstate.ledger.bundle import Bundle, Progress
from vmstate.ledger.checkpoint import Checkpoint, VerifierKey, open_checkpoint
from vmstate.ledger.merkle import Tree
from vmstate.ledger.receipt import SCROLL_OF, Receipt
from vmstate.ledger.snapshot import Snapshot, lease_seq
from vmstate.ledger.store import Ledger
from vmstate.signing import Approval, PublicKey, Request, Signed
from vmstate.treasury.budget import Budget

FINDINGS = 100  # after so many, one more would tell nobody anything


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is not as claimed; `seq` is the receipt it is about, if it is about one."""

    seq: int | None
    what: str

    def __str__(self) -> str:
        return self.what if self.seq is None else f"receipt {self.seq}: {self.what}"


@dataclass(frozen=True, slots=True)
class Audit:
    """What was looked at, and what was found; nothing found is good."""

    origin: str
    size: int
    root: bytes
    constitution: str
    open_leases: int
    findings: tuple[Finding, ...]

    @property
    def is_good(self) -> bool:
        return not self.findings


@dataclass(slots=True)
class _Held:
    """A lease as far as receipts tell."""

    principal: str
    profile: str
    parent: str | None
    expires_at: datetime
    receipt_id: str
    children: int = 0


@dataclass
class _Replay:
    """What has been read so far, and what follows from it."""

    law: Constitution | None
    origin: str
    keys: dict[str, PublicKey]
    findings: list[Finding] = field(default_factory=list)
    tree: Tree = field(default_factory=Tree)
    scrolls: dict[str, tuple[int, str]] = field(default_factory=dict)
    leases: dict[str, _Held] = field(default_factory=dict)
    granted: int = 0
    used: dict[str, int] = field(default_factory=dict)
    constitution: str = ""
    falling: tuple[str, int] = ("", -1)
    budgets: dict[str, Budget] = field(default_factory=dict)
    acts: dict[str, str] = field(default_factory=dict)

    def find(self, what: str, seq: int | None = None) -> None:
        if len(self.findings) < FINDINGS:
            self.findings.append(Finding(seq, what))


def audit_bundle(folder: Path, *, progress: Progress | None = None) -> Audit:
    """Audit an exported folder; raises LedgerNotFound if it is none."""
    bundle = Bundle(folder)
    replay, checkpoint = _begin(bundle.note, bundle.verifier, bundle.toml)
    _read_all(replay, bundle.bodies(), checkpoint, progress)
    return _conclude(replay, checkpoint)


def audit_ledger(ledger: Ledger, *, progress: Progress | None = None) -> Audit:
    """Audit a ledger's file, the tables beside its receipts included."""
    with ledger.read() as snapshot:
        head = snapshot.head()
        _, form, toml = snapshot.constitution()
        replay, checkpoint = _begin(head.note, str(ledger.verifier), toml)
        if replay.law is not None and replay.law.canonical != form:
            replay.find("the constitution's canonical bytes are not those of its TOML")
        _read_all(replay, _rows(replay, snapshot), checkpoint, progress)
        _compare_tables(replay, snapshot)
        if head.tree != replay.tree:
            replay.find("the head's tree is not the tree over the receipts")
    return _conclude(replay, checkpoint)


def _begin(note: str, verifier: str, toml: bytes) -> tuple[_Replay, Checkpoint | None]:
    """Steps before the first receipt: the law, and the checkpoint's signature."""
    replay = _Replay(law=None, origin="", keys={})
    try:
        replay.law = read_constitution(toml)
        replay.keys = dict(replay.law.people.keys)
        acts = replay.law.document.acts.values()
        replay.acts = {one.receipt: one.scroll for one in acts if one.receipt and one.scroll}
    except ConstitutionError as error:
        replay.find(f"the constitution does not load: {error.problems[0]}")
    try:
        key = VerifierKey.parse(verifier)
        replay.origin = key.name
        return replay, open_checkpoint(note, key)
    except TamperError as error:
        replay.find(str(error))
        return replay, None


def _read_all(
    replay: _Replay,
    bodies: Iterator[bytes],
    checkpoint: Checkpoint | None,
    progress: Progress | None,
) -> None:
    total = 0 if checkpoint is None else checkpoint.size
    try:
        for body in bodies:
            _read_one(replay, body)
            if progress is not None:
                progress(1, total)
    except TamperError as error:
        replay.find(str(error))


def _read_one(replay: _Replay, body: bytes) -> None:
    seq = replay.tree.size
    receipt = Receipt(body)
    replay.tree = replay.tree.append(receipt.leaf)
    try:
        receipt = Receipt.read(body)
        _place(replay, receipt, seq)
        _judge(replay, receipt, seq)
    except TamperError as error:
        replay.find(str(error), seq)
    except (InputError, KeyError, TypeError, ValueError, AttributeError) as error:
        # Well-formed JSON of a shape that no receipt has; whoever wrote it was not vmstate.
        replay.find(f"a field has the wrong shape ({type(error).__name__}: {error})", seq)


def _place(replay: _Replay, receipt: Receipt, seq: int) -> None:
    """Does it stand where it says, in the log and in its scroll?"""
    said = receipt.fields
    if said["seq"] != seq:
        replay.find(f"says it is number {said['seq']}", seq)
    if {**replay.acts, **SCROLL_OF}.get(receipt.type) != said["scroll"]:
        replay.find(f"type {receipt.type!r} does not go into scroll {said['scroll']!r}", seq)
    last, last_id = replay.scrolls.get(said["scroll"], (-1, None))
    if (said["scroll_seq"], said["scroll_prev"]) != (last + 1, last_id):
        replay.find(f"does not continue scroll {said['scroll']!r}", seq)
    replay.scrolls[said["scroll"]] = (last + 1, receipt.id)
    if said["node"] != replay.origin:
        replay.find(f"was written by {said['node']!r}, this is {replay.origin!r}", seq)
    parse_at(said["at"])


def _judge(replay: _Replay, receipt: Receipt, seq: int) -> None:
    """Does what it says follow from what came before?"""
    said = receipt.fields
    if receipt.type == "constitution_loaded":
        replay.constitution = said["authority"]["constitution"]
        drill = said["what"]["detail"]["drill"]
        if drill is not None:
            keys = drill["stand_ins"].items()
            replay.keys |= {name: PublicKey.parse(key) for name, key in keys}
    elif said["authority"]["constitution"] != replay.constitution:
        replay.find("was written under a constitution that was not in force", seq)
    if said["outcome"] != "denied":
        _check_statements(replay, receipt, seq)
    match receipt.type:
        case "profile_escalation":
            _granted(replay, receipt, seq)
        case "lease_renewed":
            _renewed(replay, receipt, seq)
        case "profile_deescalation":
            _ended(replay, receipt, seq)
        case "treasury_budget":
            _allocated(replay, receipt, seq)
        case _:
            pass
    if receipt.granted:
        _charged(replay, receipt, seq)


def _allocated(replay: _Replay, receipt: Receipt, seq: int) -> None:
    detail = receipt.fields["what"]["detail"]
    if detail["budget"] in replay.budgets:
        replay.find(f"allocates {detail['budget']!r}, which was allocated before", seq)
    made = Budget(detail["budget"], detail["name"], detail["unit"], detail["allocated"], 0, seq)
    replay.budgets[made.id] = made


def _charged(replay: _Replay, receipt: Receipt, seq: int) -> None:
    """Each charge is to a budget that has it, and says what there was."""
    for line in receipt.fields["cost"]:
        budget = replay.budgets.get(line["budget"])
        if budget is None or line["available"] != budget.available:
            replay.find(f"charges {line['budget']!r} as if it had {line['available']}", seq)
        elif line["charged"] > budget.available or line["charged"] < 0:
            replay.find(f"charges more to {line['budget']!r} than it has", seq)
        else:
            replay.budgets[budget.id] = budget.after(line["charged"])


def _granted(replay: _Replay, receipt: Receipt, seq: int) -> None:
    what = receipt.fields["what"]
    if what["lease"] != lease_id(seq):
        replay.find(f"grants {what['lease']!r}, its number makes that {lease_id(seq)!r}", seq)
    expires_at = parse_at(what["expires_at"])
    if expires_at <= receipt.at:
        replay.find("grants a lease that is over when it begins", seq)
    parent = replay.leases.get(what["parent"]) if what["parent"] is not None else None
    if what["parent"] is not None and parent is None:
        replay.find(f"stands on {what['parent']!r}, which is not open", seq)
    if parent is not None:
        parent.children += 1
        if parent.expires_at < expires_at:
            replay.find("outlives the lease that it stands on", seq)
        if parent.expires_at <= receipt.at:
            replay.find("stands on a lease that was over", seq)
    facts = canonical.digest(canonical.encode(receipt.fields["authority"]["facts"]))
    if receipt.fields["proofs"].get("tem_context_hash") != facts:
        replay.find("its context hash is not that of its facts", seq)
    who = receipt.fields["who"]["principal"]
    held = _Held(who, what["to"], what["parent"], expires_at, receipt.id)
    replay.leases[what["lease"]] = held
    replay.granted += 1


def _renewed(replay: _Replay, receipt: Receipt, seq: int) -> None:
    what = receipt.fields["what"]
    held = replay.leases.get(what["lease"])
    if held is None:
        replay.find(f"renews {what['lease']!r}, which is not open", seq)
        return
    if held.expires_at <= receipt.at:
        replay.find(f"renews {what['lease']!r} after its end", seq)
    parent = replay.leases.get(held.parent) if held.parent is not None else None
    held.expires_at = parse_at(what["expires_at"])
    if parent is not None and parent.expires_at < held.expires_at:
        replay.find("outlives the lease that it stands on", seq)


def _ended(replay: _Replay, receipt: Receipt, seq: int) -> None:
    what = receipt.fields["what"]
    held = replay.leases.pop(what["lease"], None)
    if held is None:
        replay.find(f"ends {what['lease']!r}, which is not open", seq)
        return
    if held.children:
        replay.find(f"ends {what['lease']!r}, on which another still stands", seq)
    if held.parent in replay.leases:
        replay.leases[held.parent].children -= 1
    if receipt.fields["reverses"] != held.receipt_id:
        replay.find(f"does not name the receipt that granted {what['lease']!r}", seq)
    who = receipt.fields["who"]["principal"]
    if (who, what["from"]) != (held.principal, held.profile):
        replay.find(f"names another holder or profile of {what['lease']!r}", seq)
    timed_out = what["ending"] == EXPIRED
    if timed_out and parse_at(receipt.fields["due"]) != held.expires_at:
        replay.find(f"says {what['lease']!r} was due at another time than its deadline", seq)


def _check_statements(replay: _Replay, receipt: Receipt, seq: int) -> None:
    """Signatures verify, are for exactly this, and count once."""
    said = receipt.fields
    request = said["proofs"].get("request")
    if request is not None:
        _use(replay, request, seq)
        if _rebuilt_request(receipt) != request:
            replay.find("its request is not the digest of what was granted", seq)
    for body in (*said["authority"]["approvals"], *said["authority"]["attestations"]):
        try:
            signed = Signed.model_validate(body)
        except ValidationError:
            replay.find("holds a statement that is none", seq)
            continue
        statement = signed.statement
        key = replay.keys.get(signed.by)
        if key is None or not signed.verifies(key):
            replay.find(f"the signature by {signed.by!r} does not verify", seq)
        if (statement.origin, statement.constitution) != (replay.origin, replay.constitution):
            replay.find(f"the statement by {signed.by!r} is for another ledger or law", seq)
        if isinstance(statement, Approval) and request is not None and statement.request != request:
            replay.find(f"the approval by {signed.by!r} is for another request", seq)
        # One signed ending may take several rungs down, which are receipts in a row.
        if receipt.type != "profile_deescalation" or replay.falling != (statement.id, seq):
            _use(replay, statement.id, seq)
        replay.falling = (statement.id, seq + 1)


def _use(replay: _Replay, statement: str, seq: int) -> None:
    if statement in replay.used:
        replay.find(f"uses what receipt {replay.used[statement]} used", seq)
    replay.used[statement] = seq


def _rebuilt_request(receipt: Receipt) -> str | None:
    """The id of the request that this receipt says it answered, worked out from the receipt."""
    said = receipt.fields
    with suppress(ValidationError, KeyError, TypeError):
        return Request(
            principal=said["who"]["principal"],
            to=said["what"]["to"],
            trigger=said["what"]["trigger"],
            facts=said["authority"]["facts"],
            reason=said["why"],
            ttl_us=said["what"]["ttl_requested_us"],
            origin=said["node"],
            constitution=said["authority"]["constitution"],
            nonce=said["what"]["detail"]["request_nonce"],
        ).id
    return None


def _rows(replay: _Replay, snapshot: Snapshot) -> Iterator[bytes]:
    """The bodies in a file, each checked against the columns that index it."""
    for seq, leaf, body, scroll, scroll_seq, type_, outcome, principal, lease in snapshot.index():
        expected = replay.tree.size
        receipt = Receipt(body)
        if seq != expected:
            replay.find(f"receipts {expected} to {seq - 1} are missing", expected)
        if leaf != receipt.leaf:
            replay.find("its leaf column is not the hash of its body", seq)
        with suppress(InputError, KeyError, TypeError, ValueError):
            said: dict[str, Any] = receipt.fields
            named = said["what"]["lease"]
            columns = (scroll, scroll_seq, type_, outcome, principal, lease)
            wanted = (
                *(said[key] for key in ("scroll", "scroll_seq", "type", "outcome")),
                said["who"]["principal"],
                lease_seq(named) if named is not None else None,
            )
            if columns != wanted:
                replay.find("a column that indexes it says otherwise", seq)
        yield body


def _compare_tables(replay: _Replay, snapshot: Snapshot) -> None:
    """Law 2 from the other side: no lease, end or use without its receipt."""
    rows = 0
    for lease in snapshot.leases():
        rows += 1
        held = replay.leases.get(lease.id)
        if (held is not None) != (lease.ended is None):
            state = "open" if held is not None else "ended, or was never granted"
            replay.find(
                f"the table of leases is wrong on {lease.id}: by the receipts it is {state}"
            )
        elif held is not None:
            said = (held.principal, held.profile, held.parent, held.expires_at)
            if said != (lease.principal, lease.profile, lease.parent, lease.expires_at):
                replay.find(f"the table of leases is wrong on who holds {lease.id}, or until when")
    if rows != replay.granted:
        replay.find(f"the table of leases has {rows} rows, the receipts grant {replay.granted}")
    if dict(snapshot.statements()) != replay.used:
        replay.find("the table of used statements is not what the receipts used")
    if {one.id: one for one in snapshot.budgets()} != replay.budgets:
        replay.find("the table of budgets is not what the receipts allocated and charged")
    if snapshot.constitution()[0] != replay.constitution:
        replay.find("the constitution in force is not the one that the receipts put in force")


def _conclude(replay: _Replay, checkpoint: Checkpoint | None) -> Audit:
    root = replay.tree.root()
    if checkpoint is not None and (checkpoint.size, checkpoint.root) != (replay.tree.size, root):
        replay.find(
            f"the checkpoint is over {checkpoint.size} receipts with root "
            f"{checkpoint.root.hex()[:16]}…, here are {replay.tree.size} with {root.hex()[:16]}…"
        )
    if replay.law is not None and replay.law.digest != replay.constitution:
        replay.find("the constitution beside the receipts is not the one they were written under")
    return Audit(
        origin=replay.origin,
        size=replay.tree.size,
        root=root,
        constitution=replay.constitution,
        open_leases=len(replay.leases),
        findings=tuple(replay.findings),
    )

"""Is this ledger what it claims to be? Asked of a file or of a bundle, by whoever holds a copy.

1. The checkpoint is signed by the log's key.
2. Each receipt is canonical, stands at its own number, and continues its scroll; time goes back
   only where a receipt says so.
3. The tree over the receipts has the checkpoint's size and root, and contains the checkpoint that
   the auditor kept from before, if any.
4. Each approval, attestation and order verifies, is for this ledger, law and receipt, and
   was used once.
5. The leases follow from the receipts: each by a rule of the constitution of its time, with the
   approvals that it asks for; none ends twice or without a grant, outlives its parent, or is
   renewed or given back after its end (law 2). What a lock covers ends at once; of a great many
   the lock writes the first ends itself, and the others may still be owed. So do the budgets, the
   locks, and the requests that were left open: each bounded by [requests], with what was handed in
   for it, ended once.
6. In a file, every table beside the receipts says what the receipts say; but for the outbox
   and the refusals counted so far, which hold what is still to come and are nobody's evidence.

Findings are gathered, not raised: an auditor wants all of them. What is not claimed: whoever has
both the file and the log's key can write another history, with signatures of nobody else; only a
checkpoint kept elsewhere shows that. What a boot-time hand read stands in no receipt.
"""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vmstate.canonical import Json
from vmstate.constitution.law import Constitution
from vmstate.constitution.loading import read_constitution
from vmstate.errors import ConstitutionError, InputError, TamperError
from vmstate.ledger.bundle import VERIFIER, Bundle, Progress
from vmstate.ledger.checkpoint import Checkpoint, VerifierKey, open_checkpoint
from vmstate.ledger.compared import LeaseRows, RequestRows, compare_head, compare_tables
from vmstate.ledger.finding import SEE_AUDIT, Finding
from vmstate.ledger.laws import laws_of_bundle, laws_of_file
from vmstate.ledger.lease_table import lease_seq
from vmstate.ledger.receipt import Receipt
from vmstate.ledger.replay import Replay
from vmstate.ledger.snapshot import Head, Snapshot
from vmstate.ledger.store import Ledger

__all__ = ["Audit", "Finding", "audit_bundle", "audit_ledger"]


@dataclass(frozen=True, slots=True)
class Audit:
    """What was looked at, and what was found; nothing found is good.

    `log_key` is the one that the checkpoint was verified with; empty where there was none to use.
    """

    origin: str
    log_key: str
    size: int
    root: bytes
    constitution: str
    open_leases: int
    findings: tuple[Finding, ...]

    @property
    def is_good(self) -> bool:
        return not self.findings


@dataclass(slots=True)
class _Roots:
    """The checkpoints that the tree has to agree with: its own, and one kept from before."""

    key: VerifierKey | None = None
    head: Checkpoint | None = None
    kept: Checkpoint | None = None


def audit_bundle(
    folder: Path,
    *,
    kept: str | None = None,
    log_key: VerifierKey | None = None,
    progress: Progress | None = None,
) -> Audit:
    """Audit an exported folder; `kept` is a checkpoint's text from before.

    `log_key` is the one that it has to be signed with. Without it the folder's own is taken, which
    shows that all of it is of one piece, and not whose.

    Raises:
        LedgerNotFound: the folder is no bundle.
    """
    bundle = Bundle(folder)
    law, fault = _read_law(bundle.toml)
    replay = Replay(law=law, origin="", find_law=laws_of_bundle(bundle))
    replay.findings += [] if fault is None else [Finding(None, fault)]
    note, key = bundle.note, _key_of(replay, bundle.verifier, log_key)
    if key is None:
        # Whatever else is claimed rests on it: each receipt would be found to be somebody else's.
        return _conclude(replay, _Roots(), law)
    roots = _begin(replay, note, key, kept)
    _read_all(replay, map(Receipt, bundle.bodies()), roots, progress)
    return _conclude(replay, roots, law)


def audit_ledger(
    ledger: Ledger,
    *,
    kept: str | None = None,
    log_key: VerifierKey | None = None,
    progress: Progress | None = None,
) -> Audit:
    """Audit a ledger's file, the tables beside its receipts included; the rest as above."""
    with ledger.read() as snapshot:
        replay, head = _open_file(snapshot)
        law, replay.find_law = replay.law, laws_of_file(snapshot)
        note = None if head is None else head.note
        _demand(replay, ledger.verifier, log_key)
        roots = _begin(replay, note, ledger.verifier, kept)
        rows = LeaseRows(replay, snapshot, head)
        replay.on_end = rows.compare
        asked = RequestRows(replay, snapshot)
        replay.requests.on_end = asked.compare
        _read_all(replay, _receipts(replay, snapshot), roots, progress)
        rows.compare_rest()
        asked.compare_rest()
        compare_tables(replay, snapshot)
        if head is not None:
            compare_head(replay, head)
        if ledger.origin != replay.origin:
            replay.find(f"the heading says {ledger.origin!r}, the key is that of {replay.origin!r}")
        mark: Json = None if ledger.drill is None else ledger.drill.body()
        if mark != replay.drill:
            replay.find("the heading says otherwise than the receipts whether this is a drill")
    return _conclude(replay, roots, law)


def _read_law(toml: bytes) -> tuple[Constitution | None, str | None]:
    try:
        return read_constitution(toml), None
    except ConstitutionError as error:
        return None, f"the constitution does not load: {error.problems[0]}"


def _open_file(snapshot: Snapshot) -> tuple[Replay, Head | None]:
    """The law and the head of a file, as far as they can be read."""
    faults = []
    law, head = None, None
    try:
        _, form, toml = snapshot.constitution()
        law, fault = _read_law(toml)
        faults += [] if fault is None else [fault]
        if law is not None and law.canonical != form:
            faults.append("the constitution's canonical bytes are not those of its TOML")
    except TamperError as error:
        faults.append(str(error).removesuffix(SEE_AUDIT))
    try:
        head = snapshot.head()
    except TamperError as error:
        faults.append(str(error).removesuffix(SEE_AUDIT))
    return Replay(law=law, origin="", findings=[Finding(None, one) for one in faults]), head


def _key_of(replay: Replay, text: str, demanded: VerifierKey | None) -> VerifierKey | None:
    """The log's key as the bundle has it, or the one demanded if that is none."""
    try:
        key = VerifierKey.parse(text)
    except TamperError as error:
        remedy = "" if demanded else ": nothing else can be checked; --log-key takes the operator's"
        replay.find(f"{VERIFIER} is not a key: {error}{remedy}")
        return demanded
    _demand(replay, key, demanded)
    return key


def _demand(replay: Replay, key: VerifierKey, demanded: VerifierKey | None) -> None:
    if demanded is not None and key != demanded:
        replay.find(f"the log's key here is {key}, it has to be {demanded}")


def _begin(replay: Replay, note: str | None, key: VerifierKey, kept: str | None) -> _Roots:
    """The signatures of the checkpoints, before the first receipt; `note` is None without a head,
    which was found already.
    """
    roots = _Roots(key)
    replay.origin = key.name
    try:
        roots.head = None if note is None else open_checkpoint(note, key)
    except TamperError as error:
        replay.find(str(error))
    if kept is not None:
        try:
            roots.kept = open_checkpoint(kept, key)
        except TamperError as error:
            replay.find(f"the checkpoint kept from before: {error}")
    return roots


def _read_all(
    replay: Replay, receipts: Iterator[Receipt], roots: _Roots, progress: Progress | None
) -> None:
    total = 0 if roots.head is None else roots.head.size
    kept = roots.kept
    try:
        for receipt in receipts:
            replay.read(receipt)
            at_kept = kept is not None and kept.size == replay.tree.size
            if at_kept and kept is not None and kept.root != replay.tree.root():
                replay.find(f"the first {kept.size} receipts are not those kept from before")
            if progress is not None:
                progress(1, total)
    except TamperError as error:
        replay.find(str(error))
    replay.end_of_sweep()


def _receipts(replay: Replay, snapshot: Snapshot) -> Iterator[Receipt]:
    """The receipts in a file, each checked against the columns that index it."""
    for seq, leaf, body, scroll, scroll_seq, type_, outcome, principal, lease in snapshot.index():
        expected = replay.tree.size
        receipt = Receipt(body)
        if seq != expected:
            replay.find(f"receipts {expected} to {seq - 1} are missing", expected)
        if leaf != receipt.leaf:
            replay.find("its leaf column is not the hash of its body", seq)
        yield receipt
        with suppress(InputError, KeyError, TypeError, ValueError, AttributeError):
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


def _conclude(replay: Replay, roots: _Roots, law: Constitution | None) -> Audit:
    root, head, kept = replay.tree.root(), roots.head, roots.kept
    if head is not None and (head.size, head.root) != (replay.tree.size, root):
        replay.find(
            f"the checkpoint is over {head.size} receipts with root {head.root.hex()[:16]}…, "
            f"here are {replay.tree.size} with {root.hex()[:16]}…{_suspects(replay, head)}"
        )
    if kept is not None and kept.size > replay.tree.size:
        replay.find(f"there were {kept.size} receipts before, here are {replay.tree.size}")
    if roots.key is not None and law is not None and law.digest != replay.constitution:
        replay.find("the constitution beside the receipts is not the one they were written under")
    return Audit(
        origin=replay.origin,
        log_key="" if roots.key is None else str(roots.key),
        size=replay.tree.size,
        root=root,
        constitution=replay.constitution,
        open_leases=sum(one.felled is None for one in replay.leases.values()),
        findings=tuple(replay.findings),
    )


def _suspects(replay: Replay, head: Checkpoint) -> str:
    """Which receipts may have been changed, where each follows the one before it in its scroll.

    Each names the digest of that one, so only what none follows can be changed by itself.
    """
    if head.size != replay.tree.size or replay.torn or not replay.newest:
        return ""
    *others, last = sorted(replay.newest.values())
    listed = f"{', '.join(map(str, others))} or {last}" if others else str(last)
    return f"; changed was receipt {listed}, or a scroll from some receipt on to its end"

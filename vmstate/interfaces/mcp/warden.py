"""Decides each call of one server's tools, and puts it on record.

Law 2: what needs a lease has its receipt before it is done. What everybody may do, and refusals
that repeat what a receipt has said, are counted and written together, so that neither a busy agent
nor a stubborn one grows the ledger without bound. Killed in between, a gate loses the count of at
most `FOLD_FOR` of calls that everybody may make, and nothing else.

The digest of a call's arguments is `sha256:` over 32 hexadecimal digits of salt, a line break, and
the arguments as JSON with sorted keys and no spaces. Its salt goes back to the caller alone.
"""

import secrets
import threading
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from vmstate.canonical import Json, digest, format_at
from vmstate.constitution.people import Caller
from vmstate.constitution.tools import Kind, ToolRule, rule_path
from vmstate.constitution.unmet import Unmet
from vmstate.decisions.command import TOOL_CALL, Call, Command, Escalate, Tally, make_command
from vmstate.decisions.route import Explanation
from vmstate.decisions.statements import prepare_call
from vmstate.door import Door
from vmstate.interfaces.mcp.counting import MANY, Bucket, Fold
from vmstate.interfaces.mcp.refusal import Refusal, name_missing, next_rung
from vmstate.interfaces.mcp.shown import Shown
from vmstate.interfaces.mcp.spelling import as_shown, form_of, spell, unseen_of
from vmstate.leases.lease import USES_SPENT
from vmstate.ledger.receipt import Receipt
from vmstate.signing import Request, new_nonce

FOLD_FOR = 10.0  # seconds for which calls that everybody may make are counted before a receipt
FOLD_CALLS = 1_000  # and how many
REPEAT_FOR = 60.0  # seconds in which a refusal that repeats another is only counted
OWN_REFUSALS = 20  # receipts of refusals that one principal can cause in that time
STRANGER = "token:unknown"  # whose name stands on record for a token that is nobody's
PREFIX = "vmstate_"  # of vmstate's own tools beside those of the server behind the gate


@dataclass(frozen=True, slots=True)
class Judgement:
    """What becomes of a call; `receipt` is None where it is counted with others."""

    allowed: bool
    rule: ToolRule | None
    receipt: int | None
    lease: str | None
    salt: str
    refusal: Refusal | None = None


_Key = tuple[str, Kind, str, bool]  # principal, kind, name, refused


@dataclass(slots=True)
class Warden:
    """Safe to use from several threads.

    `door` is the gate's own, and reads for everybody. `by_token` where callers come with tokens,
    which the law in force then has to know; where `door` is a socket, `shown` asks for each.
    """

    door: Door
    server: str
    by_token: bool = False
    shown: Shown | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _folds: dict[_Key, Fold] = field(default_factory=dict)
    _buckets: dict[str, Bucket] = field(default_factory=dict)
    _unwritten: bool = False  # whether what was counted could not be written the last time

    def judge(
        self, principal: str, kind: Kind, name: str, arguments: Mapping[str, Any] | None
    ) -> Judgement:
        """Decide one call and put it on record, now or with others.

        With others only while what is counted can be written: else each takes its own receipt.

        Raises:
            LedgerUnavailable: nothing could be decided, so nothing may be done.
        """
        return self.count(principal, kind, name, arguments) or self.decide(
            principal, kind, name, arguments
        )

    def count(
        self, principal: str, kind: Kind, name: str, arguments: Mapping[str, Any] | None
    ) -> Judgement | None:
        """Let a call be made that everybody may make, and count it; None for any other.

        It waits for no disk.
        """
        if self._unwritten or (free := self._free(principal, kind, name)) is None:
            return None
        text = spell(arguments)
        if form_of(self.server, name, text)[1]:
            return None
        salt = secrets.token_hex(16)
        # Counted by pattern: names below one could be as many as an agent likes.
        self._fold((principal, kind, free[0], False), digest(f"{salt}\n{text}".encode()))
        return Judgement(True, free[1], None, None, salt)

    def decide(
        self, principal: str, kind: Kind, name: str, arguments: Mapping[str, Any] | None
    ) -> Judgement:
        """Decide one call and put it on record, now or with refusals that it repeats.

        Raises:
            LedgerUnavailable: nothing could be decided, so nothing may be done.
        """
        salt = secrets.token_hex(16)
        text = spell(arguments)
        shown, claims = form_of(self.server, name, text)
        salted = digest(f"{salt}\n{text}".encode())
        asked = {"principal": principal, "server": self.server, "kind": kind, "name": shown}
        command = make_command(Call, {**asked, "arguments": salted, "claims": claims})
        command = command.model_copy(update=self._known(principal))
        found = None if claims else self.found(kind, name)
        if found is not None and found[1].each_call:
            if not (unseen := unseen_of(rule_path(self.server, kind, found[0]), name, text)):
                return self._judge_single(command, text)
            command = command.model_copy(update={"claims": unseen})
        return self._decide(command, salt)

    def _free(self, principal: str, kind: Kind, name: str) -> tuple[str, ToolRule] | None:
        """The rule, with its pattern, by which everybody may make this call; None if none does."""
        baseline = self.door.constitution.baseline
        found = self.found(kind, name)
        if found is None or not _is_free(found[1], baseline):
            return None
        if not self.door.may(principal, baseline):
            return None
        found = self.found(kind, name)  # again: asking is what finds an amended law
        return found if found is not None and _is_free(found[1], baseline) else None

    def _judge_single(self, command: Call, text: str) -> Judgement:
        """A call that needs its own approval: the same call finds the request that it left open."""
        waiting = (one.request for one in self.door.requests(command.principal))
        request = next((one for one in waiting if self._is_for(one, command, text)), None)
        if request is None:
            nonce = new_nonce()
            shown = command.model_copy(update=as_shown(text, nonce))
            request = prepare_call(self.door.constitution, self.door.origin, shown, nonce=nonce)
        shown = command.model_copy(update={**as_shown(text, request.nonce), "request": request})
        judged = self._decide(shown, request.nonce)
        if judged.refusal is not None and judged.refusal.only_approval:
            check: dict[str, Json] = {"request": request.id}
            then: dict[str, Json] = {"tool": f"{PREFIX}check_request", "arguments": check}
            refusal = replace(judged.refusal, request=request.id, next=then)
            return replace(judged, refusal=refusal)
        return judged

    def _is_for(self, request: Request, command: Call, text: str) -> bool:
        """Whether a request that waits is for exactly this call, here and under this law."""
        shown = command.model_copy(update=as_shown(text, request.nonce))
        law, origin = self.door.constitution, self.door.origin
        return request == prepare_call(law, origin, shown, nonce=request.nonce)

    def judge_stranger(self) -> Judgement:
        """Put on record that somebody came with a token that is nobody's."""
        remedy = "use a token whose digest stands under [principals]"
        given = "a token that is nobody's"
        claim = Unmet("principals", "token_unknown", "the token of somebody", given, remedy)
        asked = {"principal": STRANGER, "server": self.server, "name": MANY, "claims": (claim,)}
        salt = secrets.token_hex(16)
        command = make_command(Call, {**asked, "arguments": digest(salt.encode())})
        return self._decide(command, salt)

    def ask(self, command: Command) -> Receipt | Explanation:
        """Ask for something of vmstate's own at the door.

        Who has caused as many receipts of refusals as one may, for now, is told of one more by
        what it would have said, and it is counted.
        """
        with self._lock:
            spent = self._spent(command.principal)
        if spent:
            explanation = self.door_of(command.principal).why(command)
            if not explanation.granted:
                name = f"{PREFIX}{command.verb}"
                self._repeated((command.principal, "tool", name, True), digest(name.encode()))
                return explanation
        asked = command.model_copy(update=self._known(command.principal))
        receipt = self.door_of(command.principal).submit(asked)
        if not receipt.granted:
            with self._lock:
                self._spent(command.principal)
                self._buckets[command.principal].add(receipt)
        return receipt

    def told_in(self, principal: str, unmet: tuple[Unmet, ...]) -> int | None:
        """The newest receipt of a refusal of theirs like one for `unmet`, which has none itself."""
        with self._lock:
            bucket = self._buckets.get(principal)
            newest = {} if bucket is None else bucket.newest
            return next((newest[one] for one in (unmet[0].code, MANY) if one in newest), None)

    def found(self, kind: Kind, name: str) -> tuple[str, ToolRule] | None:
        """The pattern that decides about `name`, with its rule; None if there is none."""
        server = self.door.constitution.document.tools.get(self.server)
        return None if server is None else server.rule_for(kind, name)

    def may_call(self, principal: str, kind: Kind, name: str) -> tuple[bool, ToolRule | None]:
        """Whether a list may show `name` as callable now, and the rule; writes nothing."""
        found = self.found(kind, name)
        if found is None:
            return False, None
        return self.door.may(principal, found[1].profile), found[1]

    def cut(self, principal: str, kind: Kind, name: str, judged: Judgement) -> Refusal:
        """Put on record that a call was stopped, because the authority it began under has ended."""
        asked = {"principal": principal, "server": self.server, "kind": kind, "name": name}
        began = "" if judged.receipt is None else f", it began under receipt {judged.receipt}"
        path = f"tools.{self.server}"
        remedy = "ask for the authority again, then call again"
        over = Unmet(path, "call_stopped", "authority to its end", f"{name}{began}", remedy)
        salted = digest(judged.salt.encode())
        command = make_command(Call, {**asked, "arguments": salted, "claims": (over,)})
        command = command.model_copy(update=self._known(principal))
        receipt = self.door_of(principal).submit(command)
        refused = self._refused(command, receipt.unmet, receipt.seq, judged.salt).refusal
        assert refused is not None
        return refused

    def may_go_on(self, principal: str, kind: Kind, name: str, judged: Judgement) -> bool:
        """Whether a call that runs still has the authority it began under.

        The call that spends the last use of a lease has what was left of it.
        """
        if self.may_call(principal, kind, name)[0]:
            return True
        lease = None if judged.lease is None else self.door.lease(judged.lease)
        if lease is None or lease.ending != USES_SPENT or self.door.now() >= lease.expires_at:
            return False
        law = self.door.constitution
        locks = self.door.locks()
        return not any(lock.covers(law, law.people, principal, lease.profile) for lock in locks)

    def flush(self, *, everything: bool = False, of: Collection[str] = ()) -> None:
        """Write what has been counted for long enough, what was allowed to those in `of`, or all.

        Raises:
            LedgerUnavailable: what could not be written is counted on.
        """
        now = time.monotonic()
        with self._lock:
            due = [
                key
                for key, fold in self._folds.items()
                if everything or _is_due(key, fold, now) or (key[0] in of and not key[3])
            ]
        for key in due:
            with self._lock:
                fold = self._folds.pop(key, None)
            if fold is not None and fold.count:
                self._write(key, fold)

    def door_of(self, principal: str) -> Door:
        """Where `principal` is asked for."""
        if self.shown is None or principal == STRANGER:
            return self.door
        return self.shown.of(principal)

    # ---- inside -----------------------------------------------------------------------------

    def _known(self, principal: str) -> dict[str, Any]:
        """How it is known that `principal` calls; a token that is not theirs proves nobody."""
        tokens = self.door.constitution.people.tokens
        apart = self.by_token and self.shown is None
        return {"caller": Caller("", tokens.get(principal, ""))} if apart else {}

    def _decide(self, command: Call, salt: str) -> Judgement:
        """Write the receipt of a call; of a refusal only where it is news."""
        key: _Key = (command.principal, command.kind, command.name, True)
        door = self.door_of(command.principal)
        if self._is_no_news(key) and not (explanation := door.why(command)).granted:
            earlier = self._repeated(key, command.arguments)
            if earlier is not None:
                told = earlier.receipt
                if told is None:
                    told = self.told_in(command.principal, explanation.unmet)
                return self._refused(command, explanation.unmet, told, salt)
        receipt = door.submit(command)
        if not receipt.granted or receipt.type != TOOL_CALL:  # refused, or its request left open
            self._remember(key, receipt)
            return self._refused(command, receipt.unmet, receipt.seq, salt)
        self._forget(key)
        found = self.found(command.kind, command.name)
        return Judgement(
            True, None if found is None else found[1], receipt.seq, receipt.lease, salt
        )

    def _refused(
        self, command: Call, unmet: tuple[Unmet, ...], receipt: int | None, salt: str
    ) -> Judgement:
        out = next((one for one in unmet if one.code == "tool_out_of_reach"), None)
        # The way up is that of an escalation, whatever it would come to.
        to = out.required if out is not None else self.door.constitution.baseline
        asked = {"principal": command.principal, "to": to, "trigger": TOOL_CALL}
        way = self.door_of(command.principal).why(make_command(Escalate, asked))
        refusal = Refusal(
            rule=unmet[0].rule,
            profile_now=way.held,
            profile_needed=out.required if out is not None else None,
            missing=name_missing(unmet, self.door.constitution.document, prefix=PREFIX),
            next=next_rung(way.route, PREFIX, (*unmet, *way.unmet)) if out is not None else None,
            receipt=receipt,
        )
        return Judgement(False, None, receipt, None, salt, refusal)

    def _fold(self, key: _Key, arguments: str) -> None:
        with self._lock:
            if key not in self._folds:
                self._folds[key] = self._begun()
            self._folds[key].add(arguments)

    def _is_no_news(self, key: _Key) -> bool:
        """Whether a refusal of this would repeat another, or be one too many."""
        with self._lock:
            return key in self._folds or self._spent(key[0])

    def _repeated(self, key: _Key, arguments: str) -> Fold | None:
        """Count a refusal that is no news, and say with which receipt it is told."""
        principal = key[0]
        with self._lock:
            fold = self._folds.get(key)
            if fold is None and self._spent(principal):
                key = (principal, key[1], MANY, True)
                fold = self._folds.setdefault(key, self._begun())
            if fold is not None:
                fold.add(arguments)
            return fold

    def _remember(self, key: _Key, receipt: Receipt) -> None:
        with self._lock:
            fold = self._folds.setdefault(key, self._begun())
            fold.receipt = receipt.seq
            self._spent(key[0])
            self._buckets[key[0]].add(receipt)

    def _forget(self, key: _Key) -> None:
        """What was refused is allowed now: the next refusal of it will be news."""
        with self._lock:
            fold = self._folds.pop(key, None)
        if fold is not None and fold.count:
            self._write(key, fold)

    def _write(self, key: _Key, fold: Fold) -> None:
        try:
            self.door_of(key[0]).submit(_tally(self.server, key, fold))
        except BaseException:
            with self._lock:
                self._put_back(key, fold)
                self._unwritten = True
            raise
        self._unwritten = False

    def _spent(self, principal: str) -> bool:
        """Whether somebody has caused as many receipts of refusals as one may."""
        now = time.monotonic()
        bucket = self._buckets.get(principal)
        if bucket is None or now - bucket.began >= REPEAT_FOR:
            bucket = self._buckets[principal] = Bucket(now)
        return bucket.caused >= OWN_REFUSALS

    def _begun(self) -> Fold:
        return Fold(time.monotonic(), format_at(self.door.now()))

    def _put_back(self, key: _Key, fold: Fold) -> None:
        """Count on with what could not be written; what came meanwhile follows it."""
        later = self._folds.get(key)
        if later is not None:
            fold.count += later.count
            fold.add(later.spelled)
            fold.count -= 1
        self._folds[key] = fold


def _is_free(rule: ToolRule, baseline: str) -> bool:
    """Whether everybody may call it, so that calls can go on record together."""
    return rule.profile == baseline and not rule.each_call


def _is_due(key: _Key, fold: Fold, now: float) -> bool:
    refused = key[3]
    return now - fold.began >= (REPEAT_FOR if refused else FOLD_FOR) or fold.count >= FOLD_CALLS


def _tally(server: str, key: _Key, fold: Fold) -> Tally:
    principal, kind, name, refused = key
    asked = {"principal": principal, "server": server, "kind": kind, "name": name}
    counted = {"arguments": fold.spelled, "count": fold.count, "since": fold.since}
    return make_command(Tally, {**asked, **counted, "refused": refused})

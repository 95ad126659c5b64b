"""One requirement that was not met, and what it says to people.

Law 7: every unmet requirement is reported, each with its rule, what was required, what was given
and what would mend it. A receipt holds those five fields; the sentence follows from them, so that
a stranger reading the receipt sees the same words that the caller saw. `malformed` is not `no`: it
says that an answer could not be worked out, and it denies.
"""

from dataclasses import dataclass

from vmstate.canonical import Json

_SIGNED = {
    "signature": "the {kind}'s signature by {given} does not verify",
    "no_key": "{given} has no key to check the {kind} with",
    "other_ledger": "the {kind} by {given} was signed for another ledger than {required}",
    "other_constitution": "the {kind} by {given} was signed under another constitution",
    "stale": "the {kind} by {given} is too old, it was good until {required}",
    "set_back": "the {kind} by {given} may be older than a clock that was set back: {required}",
    "early": "the {kind} by {given} is from the future",
    "too_long": "the {kind} by {given} is good for too long, needs {required}",
    "used": "the {kind} by {given} has been used already",
    "other_subject": "the {kind} by {given} is for something else than {required}",
    "own": "the {kind} by {given} does not count, needs one by {required}",
    "not_admitted": "the {kind} by {given} does not count: they are not in {required}",
    "repeated": "the {kind} by {given} counts once, they signed before",
    "locked": "the {kind} by {given} does not count while they are locked: {required}",
    "older": "the {kind} by {given} is no newer than the one before it, of {required}",
    "second": "the {kind} by {given} is one too many, all facts take {required}",
}
_MESSAGES = {
    "no_path": "No escalation path from {given}",
    "already_held": "{required} is held already, the present profile is {given}",
    "unknown_principal": "{given} is in no group and under no [principals]",
    "unknown_profile": "{given} is not a profile",
    "requester": "{given} is not in {required}",
    "reason_short": "the reason has {given}, needs {required}",
    "fact_missing": "{given} is not stated, needs {required}",
    "fact_unmet": "{given}, needs {required}",
    "fact_unknown": "{given} is not a fact of this constitution",
    "fact_unattested": "{given} is stated on the requester's word, needs attestation by {required}",
    "fact_differs": "{given}, but the attestation says {required}",
    "malformed": "{given} can't be judged, needs {required}",
    "approval_missing": "requires approval by {required}, has {given}",
    "cooldown": "{given}, needs {required}",
    "hold_spent": "{given}, may be held {required}",
    "ttl_above_rule": "{given} was asked for, at most {required} may be had",
    "clock_regression": "the clock reads {given}, which is before {required}",
    "unknown_lease": "{given} is no live lease that the caller may end or renew",
    "not_top": "{given} is not the topmost lease, which is {required}",
    "locked": "{given} is locked: {required}",
    "no_locks": "the constitution has no [locks], so nobody may {given}",
    "lock_not_admitted": "{given} is not in {required}, and may not do that",
    "lock_on_baseline": "{given} is the baseline, which needs no lease, needs {required}",
    "lock_for_ever": "nobody could lift a lock on {given}, needs {required}",
    "locks_full": "there are {given} locks, at most {required} may stand",
    "unknown_lock": "{given} is no lock that stands",
    "not_proven": "{given} is not proven to be who asks, needs {required}",
    "not_caller": "{given}, may ask as {required}",
    "not_self": "{given} asks for {required}, and only oneself may be asked for",
    "renewals_none": "a lease by {given} may not be renewed",
    "renewals_spent": "renewed {given}, may be renewed {required}",
    "renewed_apart": "{given} takes {required} of its own, and is not renewed along with a climb",
    "fence_stale": "it was planned under {given}, which no longer stands: there is {required}",
    "uses_spent": "used {given}, may be used {required}",
    "renewal_gains_nothing": "it lasts until {given}, renewed it would last until {required}",
    "ending_unknown": "{given} is not an ending of this constitution",
    "ending_not_admitted": "{given} may not end a lease by {required}",
    "request_differs": "the prepared request says {required}, the command says {given}",
    "request_other_ledger": "the prepared request is for the ledger {given}, this is {required}",
    "request_other_constitution": "the prepared request is under the constitution {given}",
    "request_used": "the prepared request {given} has been used already",
    "request_open": "the prepared request {given} is open already, and may be activated",
    "request_unknown": "{given} is no request that the caller has to do with",
    "request_over": "the request is {given}, needs {required}",
    "request_exceptional": "{given} can't be left open, needs {required}",
    "request_of_call": "the request is for a call of {given}, needs {required}",
    "requests_absent": "the constitution has no [requests], so nothing is left open",
    "requests_full": "{given} are open, at most {required} may be",
    "approval_late_stage": "{given} approves at a later stage, {required} is asked first",
    "approval_unasked": "the approval by {given} does not count: the request takes no approval, "
    "it waits for {required}",
    "approval_spare": "the approval by {given} is not needed, has {required}",
    "deny_own": "{given} stands for the requester, who withdraws instead",
    "deny_not_admitted": "{given} may not deny it, needs {required}",
    "act_unknown": "{given} is not an act of this constitution",
    "act_out_of_reach": "{given}",
    "token_unknown": "somebody came with {given}, needs {required}",
    "server_unknown": "{given} is no server under [tools] of this constitution",
    "tool_unlisted": "{given} is not listed in {required}",
    "tool_out_of_reach": "{given}",
    "tool_malformed": "{given} can't be called, needs {required}",
    "tool_unapproved": "each call needs its own approval by {required}, has {given}",
    "call_stopped": "stopped: {given}, needs {required}",
    "tally_above": "{given} can't be told together, needs {required}",
    "tool_repeated": "refused {given} more, {required}",
    "call_drill": "{given} is a drill's ledger, and this gate guards something real",
    "budget_unknown": "there is no budget {given}",
    "budget_exists": "there is a budget {given} already",
    "budget_insufficient": "insufficient balance: {given}, needs {required}",
    "budget_ceiling": "above the ceiling of this drill: {given}, may come to {required}",
    "claim_mismatch": "the claim is {given}, the ledger says {required}",
    "approval_unsigned": "{given} is only named, an approval takes {required}",
    "budget_currency": "{given} is not the currency of drills, {required} is",
    "drill_over": "the drill is over, it ended {given}",
    "drill_not_on": "the drill is not on, its mode was {given}",
    "drill_on": "the drill is on already, until {given}",
    "not_a_drill": "{given} is for drills, and this ledger is live",
    "no_amendment": "{given} has no {required}, so it can't be amended",
    "amends_nothing": "{given} is in force already, needs {required}",
    "amend_drill": "{given} is a drill's ledger, whose law stays as it is, needs {required}",
    "no_recovery": "the constitution has no [recovery]",
    "no_regression": "the clock needs no recovery, it reads {given}",
    **{
        f"{kind}_{fault}": text.replace("{kind}", kind)
        for kind in ("approval", "attestation", "order")
        for fault, text in _SIGNED.items()
    },
}
CODES = frozenset(_MESSAGES)  # each of which agents are told in words of their own


@dataclass(frozen=True, slots=True)
class Unmet:
    """`rule` is a path in the constitution, `code` for machines, `remedy` what to do about it."""

    rule: str
    code: str
    required: str
    given: str
    remedy: str

    @property
    def message(self) -> str:
        """What was seen and what was needed, as a sentence."""
        return _MESSAGES[self.code].format(required=self.required, given=self.given)

    def body(self) -> dict[str, Json]:
        """The JSON object that a receipt holds."""
        return {
            "rule": self.rule,
            "code": self.code,
            "required": self.required,
            "given": self.given,
            "remedy": self.remedy,
        }

"""The runbook's pass and fail conditions, each judged by the receipts that a drill left.

A condition is met only by what is found: receipts that say so, and steps that looked and saw it.
Where nothing was found there is nothing to point at, and it is not met. None of them asks what
the drill's own verdict was.

    G  drill_0   the gates            A  drill_1   a threat that is none
    B  drill_2   budget pressure      C  drill_3   escalation abuse      D  drill_4   phoenix
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import pairwise

from vmstate import canonical
from vmstate.canonical import parse_at
from vmstate.constitution.law import Constitution
from vmstate.drills.pack.account import TIMED_OUT
from vmstate.drills.pack.seen import Seen
from vmstate.drills.runner import DrillRun, StepRun
from vmstate.ledger.receipt import Receipt

OPERATOR, GUARDIAN, PHOENIX = "operator", "guardian", "phoenix"
CEILING = 1_000  # of training allocations, all of them together
MARK = "DRILL/"
PRETENCES = frozenset(("dry_run", "simulated"))


@dataclass(frozen=True, slots=True)
class Condition:
    """One line of the acceptance table, and whether these receipts, and steps, meet it."""

    id: str
    drill: str
    must: str
    passed: bool
    receipts: tuple[int, ...]
    steps: tuple[int, ...]


# Whether it is met, and what shows it: receipts, and steps that looked and left none.
_Evidence = tuple[bool, Iterable[Receipt | StepRun]]


def _nothing() -> _Evidence:
    return False, ()


def _codes(receipt: Receipt) -> set[str]:
    return {one.code for one in receipt.unmet}


# ---- drill 0: the gates --------------------------------------------------------------------------


def _mode_is_on(seen: Seen) -> _Evidence:
    return bool(seen.mode()), seen.receipts[1:2]


def _destruction_pretends(seen: Seen) -> _Evidence:
    acts = seen.constitution.document.acts
    top = [name for name, act in acts.items() if act.profile == PHOENIX]
    pretends = seen.mode().get("pretends", {})
    real = [one for name in top for one in _acted(seen, name) if not _pretended(one)]
    met = bool(top) and all(pretends.get(name) in PRETENCES for name in top) and not real
    return met, seen.receipts[1:2]


def _treasury_is_apart(seen: Seen) -> _Evidence:
    refused = [o for o in seen.of("treasury_denial") if "budget_ceiling" in _codes(o)]
    after = seen.run.aftermath
    apart = after is not None and "/drill/" in after.origin
    return apart and seen.mode().get("budget_ceiling") == CEILING and bool(refused), (
        *seen.receipts[1:2],
        *refused,
    )


def _anchors_are_marked(seen: Seen) -> _Evidence:
    anchors = seen.of("guardian_anchor")
    marked = all(str(one.fields["drill"]).startswith(MARK) for one in anchors)
    return bool(anchors) and marked, anchors


def _offence_is_simulated(seen: Seen) -> _Evidence:
    runs = _acted(seen, "offsec.run")
    return bool(runs) and all(o.fields["what"]["result"] == "simulated" for o in runs), runs


def _health_is_operational(seen: Seen) -> _Evidence:
    asked = [o for o in seen.run.steps if "health.status" in o.step.expect.result]
    looked = [o for o in asked if o.result.get("health.status") == "operational"]
    return bool(looked) and bool(seen.mode()) and seen.within(2), (*seen.receipts[1:2], *looked)


# ---- drill 1: a threat that is none --------------------------------------------------------------


def _each_change_has_a_receipt(seen: Seen) -> _Evidence:
    """Each climb and fall goes on from where the one before it left off."""
    changes = [m for m in seen.moments if m.receipt in (*seen.climbs, *seen.falls)]
    joined = all(
        (one.before, one.after)
        == (one.receipt.fields["what"]["from"], one.receipt.fields["what"]["to"])
        for one in changes
    )
    return bool(changes) and joined and seen.is_sound, [one.receipt for one in changes]


def _context_is_hashed(seen: Seen) -> _Evidence:
    hashed = [one for one in seen.climbs if one.fields["authority"]["facts"]]
    right = all(
        one.fields["proofs"].get("tem_context_hash")
        == canonical.digest(canonical.encode(one.fields["authority"]["facts"]))
        for one in seen.climbs
    )
    return bool(hashed) and right, hashed


def _reversibility_is_right(seen: Seen) -> _Evidence:
    """What is said to be reversible was reversed, and nothing else says so."""
    reversible = [one for one in seen.receipts if one.fields["reversible"]]
    reversed_ = {one.fields["reverses"] for one in seen.falls}
    right = reversible == seen.climbs and all(one.id in reversed_ for one in reversible)
    return bool(reversible) and right, reversible


def _falls_at_its_time(seen: Seen, profile: str = GUARDIAN) -> _Evidence:
    falls = [
        one.end
        for one in seen.holdings
        if one.profile == profile
        and one.end is not None
        and one.ending == TIMED_OUT
        and one.end.at == parse_at(one.end.fields["due"]) == one.expires_at
    ]
    return bool(falls), falls


def _ends_at_baseline(seen: Seen) -> _Evidence:
    home = [one for one in seen.falls if one.fields["what"]["to"] == seen.baseline]
    still = set(seen.left) == {seen.baseline}
    empty = seen.run.aftermath is not None and seen.run.aftermath.open_leases == 0
    return bool(home) and still and empty, home[-1:]


def _no_change_went_unseen(seen: Seen) -> _Evidence:
    """Every receipt names the profile that the changes before it add up to."""
    named = [m for m in seen.moments if m.receipt.fields["what"]["from"] is not None]
    agree = all(m.receipt.fields["what"]["from"] == m.before for m in named)
    return bool(named) and agree and seen.is_sound, [m.receipt for m in named]


def _no_tem_below_guardian(seen: Seen) -> _Evidence:
    done = [m for m in seen.moments if m.receipt in _acted(seen, "tem.invoke")]
    held = all(seen.constitution.includes(m.before, GUARDIAN) for m in done)
    refused = [
        m.receipt
        for m in seen.moments
        if m.receipt.type == "auth_failure"
        and m.receipt.fields["what"]["act"] == "tem.invoke"
        and not seen.constitution.includes(m.before, GUARDIAN)
    ]
    return bool(done) and held and bool(refused), (*refused, *(m.receipt for m in done))


def _no_lease_outlasts_its_time(seen: Seen) -> _Evidence:
    ends = [one.end for one in seen.holdings if one.end is not None]
    timely = all(one.until is not None and one.until <= one.expires_at for one in seen.holdings)
    prompt = all(end.fields["due"] is None or end.at == parse_at(end.fields["due"]) for end in ends)
    by_time = [one for one in ends if one.fields["what"]["ending"] == TIMED_OUT]
    return bool(by_time) and timely and prompt and len(ends) == len(seen.holdings), by_time


def _each_fall_has_a_receipt(seen: Seen) -> _Evidence:
    grants = {one.id for one in seen.climbs}
    ended = [one.fields["reverses"] for one in seen.falls]
    return bool(grants) and sorted(ended) == sorted(grants) and seen.is_sound, seen.falls


def _the_chain_of_six(seen: Seen) -> _Evidence:
    """A read without a receipt; then operator, decision, Tem, and both rungs down, in order."""
    read = [o for o in seen.run.steps if o.step.do in {"may", "context"} and not o.receipts]
    may = [one for one in read if one.passed and one.result.get("success") is True]
    links = (
        seen.of("profile_escalation", to=OPERATOR),
        seen.of("cognitive_decision", **{"from": GUARDIAN}),
        seen.of("tem_invocation", **{"from": GUARDIAN}),
        seen.of("profile_deescalation", to=OPERATOR, ending=TIMED_OUT),
        seen.of("profile_deescalation", to=seen.baseline, ending=TIMED_OUT),
    )
    if not may or not all(links):
        return _nothing()
    chain = [link[0] for link in links]
    seqs = [one.seq for one in chain]
    marker = f"{MARK}FP-THREAT/{seen.run.drill.start:%Y-%m-%d}"
    marked = all(one.fields["drill"] == marker for one in seen.receipts)
    return seqs == sorted(seqs) and marked and seen.within(5), (*may, *chain)


# ---- drill 2: budget pressure --------------------------------------------------------------------


def _overdrafts(seen: Seen) -> list[Receipt]:
    return [o for o in seen.of("treasury_denial") if "budget_insufficient" in _codes(o)]


def _blocked_before_writing(seen: Seen) -> _Evidence:
    """Nothing was charged, and what was there before is there at the next receipt about it."""
    refused = _overdrafts(seen)
    lines = [line for one in seen.receipts for line in one.fields["cost"]]
    steady = all(
        now["available"] == before["available"] - before["charged"]
        for before, now in pairwise(lines)
        if before["budget"] == now["budget"]
    )
    unpaid = all(one.fields["cost"][0]["charged"] == 0 for one in refused)
    return bool(refused) and unpaid and steady and seen.is_sound, refused


def _denial_says_four_things(seen: Seen) -> _Evidence:
    refused = _overdrafts(seen)
    whole = all(
        one.fields["what"]["act"]
        and one.fields["cost"][0]["requested"] > one.fields["cost"][0]["available"]
        and "insufficient" in one.message
        for one in refused
    )
    return bool(refused) and whole, refused


def _budget_is_unchanged(seen: Seen) -> _Evidence:
    made = {o.fields["what"]["detail"]["budget"]: o for o in seen.of("treasury_budget")}
    asked = [
        (made[line["budget"]], one)
        for one in _overdrafts(seen)
        for line in one.fields["cost"]
        if line["budget"] in made and (line["requested"], line["unit"]) == (500, "DRILL_UNITS")
    ]
    small = all(made_.fields["what"]["detail"]["allocated"] == 100 for made_, _ in asked)  # noqa: PLR2004 -- the runbook's
    still = all(seen.kept_still(one, "budgets") for one in _overdrafts(seen))
    return bool(asked) and small and still and seen.within(3), [o for both in asked for o in both]


# ---- drill 3: escalation abuse -------------------------------------------------------------------


def _abuses(seen: Seen) -> list[Receipt]:
    return [one for one in seen.of("auth_failure") if one.fields["what"]["to"] == PHOENIX]


def _no_profile_change(seen: Seen) -> _Evidence:
    tried = _abuses(seen)
    still = all(seen.kept_still(o, "profiles") and seen.kept_still(o, "leases") for o in tried)
    never = not seen.of("profile_escalation", to=PHOENIX)
    return bool(tried) and still and never and _no_change_went_unseen(seen)[0], tried


def _denial_names_what_lacks(seen: Seen) -> _Evidence:
    tried = _abuses(seen)
    named = all(
        one.unmet and all(lack.rule and lack.required and lack.remedy for lack in one.unmet)
        for one in tried
    )
    return bool(tried) and named, tried


def _both_abuses_are_receipted(seen: Seen) -> _Evidence:
    tried = _abuses(seen)
    skipped = [o for o in tried if "no_path" in _codes(o)]
    alone = [o for o in tried if "approval_missing" in _codes(o)]
    filed = all(one.fields["scroll"] == "identity" for one in tried)
    return bool(skipped) and bool(alone) and filed and seen.within(3), (*skipped, *alone)


# ---- drill 4: phoenix ----------------------------------------------------------------------------


def _activation_is_receipted(seen: Seen) -> _Evidence:
    entries = seen.of("profile_escalation", to=PHOENIX)
    whole = all(o.expires_at is not None and o.fields["authority"]["approvals"] for o in entries)
    return bool(entries) and whole, entries


def _destruction_is_blocked(seen: Seen) -> _Evidence:
    acts = seen.constitution.document.acts
    done = [o for name, act in acts.items() if act.profile == PHOENIX for o in _acted(seen, name)]
    return bool(done) and all(_pretended(one) for one in done), done


def _phoenix_falls_at_its_time(seen: Seen) -> _Evidence:
    return _falls_at_its_time(seen, PHOENIX)


def _every_rung_is_walked(seen: Seen) -> _Evidence:
    """Guardian, operator, baseline, each with its receipt after each end of PHOENIX."""
    rungs = (GUARDIAN, OPERATOR, seen.baseline)
    ends = [o for o in seen.falls if o.fields["what"]["from"] == PHOENIX]
    walks = []
    for end in ends:
        following = [o for o in seen.falls if o.seq >= end.seq][: len(rungs)]
        walks.append(tuple(one.fields["what"]["to"] for one in following) == rungs)
    dated = all(one.expires_at is not None for one in seen.climbs)
    home = _ends_at_baseline(seen)[0]
    return bool(walks) and all(walks) and dated and home and seen.within(5), seen.falls


def _acted(seen: Seen, act: str) -> list[Receipt]:
    return [o for o in seen.receipts if o.granted and o.fields["what"]["act"] == act]


def _pretended(receipt: Receipt) -> bool:
    return receipt.fields["what"]["result"] in PRETENCES


_Check = Callable[[Seen], _Evidence]
_TABLE: tuple[tuple[str, str, str, _Check], ...] = (
    ("G1", "drill_0", "drill mode is set", _mode_is_on),
    ("G2", "drill_0", "what destroys is disabled or a dry run", _destruction_pretends),
    ("G3", "drill_0", "the training budget is apart, its ceiling is 1000", _treasury_is_apart),
    ("G4", "drill_0", "anchors are tagged DRILL/*", _anchors_are_marked),
    ("G5", "drill_0", "OFFSEC is simulated", _offence_is_simulated),
    ("G6", "drill_0", "a receipt proves drill mode, health is operational, in 2 minutes", _health_is_operational),  # noqa: E501 -- a row of a table
    ("A1", "drill_1", "every transition has a receipt", _each_change_has_a_receipt),
    ("A2", "drill_1", "the escalation's receipt holds the Tem context hash", _context_is_hashed),
    ("A3", "drill_1", "reversibility is right", _reversibility_is_right),
    ("A4", "drill_1", "de-escalation comes at the TTL", _falls_at_its_time),
    ("A5", "drill_1", "it ends at the baseline", _ends_at_baseline),
    ("A6", "drill_1", "never: a transition without a receipt", _no_change_went_unseen),
    ("A7", "drill_1", "never: Tem without guardian", _no_tem_below_guardian),
    ("A8", "drill_1", "never: a TTL that does not fire", _no_lease_outlasts_its_time),
    ("A9", "drill_1", "never: a de-escalation without a receipt", _each_fall_has_a_receipt),
    ("A10", "drill_1", "the chain of six, marked DRILL/FP-THREAT/{date}, in 5 minutes", _the_chain_of_six),  # noqa: E501 -- a row of a table
    ("B1", "drill_2", "blocked before anything is written", _blocked_before_writing),
    ("B2", "drill_2", "the receipt says attempt, cost, balance and reason", _denial_says_four_things),  # noqa: E501 -- a row of a table
    ("B3", "drill_2", "500 asked of 100 DRILL_UNITS changes nothing, in 3 minutes", _budget_is_unchanged),  # noqa: E501 -- a row of a table
    ("C1", "drill_3", "no profile changes", _no_profile_change),
    ("C2", "drill_3", "each denial names what was missing", _denial_names_what_lacks),
    ("C3", "drill_3", "both abuses are receipted, in 3 minutes", _both_abuses_are_receipted),
    ("D1", "drill_4", "the activation has a receipt", _activation_is_receipted),
    ("D2", "drill_4", "what destroys is blocked in drill mode", _destruction_is_blocked),
    ("D3", "drill_4", "the TTL takes PHOENIX back", _phoenix_falls_at_its_time),
    ("D4", "drill_4", "back over every rung to the baseline with receipts, in 5 minutes", _every_rung_is_walked),  # noqa: E501 -- a row of a table
)  # fmt: skip


def judge(runs: Iterable[DrillRun], constitution: Constitution) -> tuple[Condition, ...]:
    """Every condition of the drills that were run; of other drills the runbook says nothing."""
    seen = {run.drill.id: Seen(run, constitution) for run in runs}
    found = []
    for id_, drill, must, check in _TABLE:
        if drill in seen:
            met, shown = check(seen[drill])
            seqs = tuple(sorted({one.seq for one in shown if isinstance(one, Receipt)}))
            numbers = enumerate(seen[drill].run.steps, 1)
            steps = tuple(n for n, step in numbers if any(step is one for one in shown))
            found.append(Condition(id_, drill, must, met and bool(seqs), seqs, steps))
    return tuple(found)

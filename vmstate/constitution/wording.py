"""What a picture of a constitution says, row by row, in whatever language it is drawn.

It says what the constitution says and nothing else: there is no clock and no chance in it.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import groupby
from typing import TypeAlias

from vmstate.canonical import format_duration
from vmstate.constitution.document import Escalation, Fact
from vmstate.constitution.guards import describe_fact_need, describe_limits, describe_source
from vmstate.constitution.law import Constitution
from vmstate.errors import InputError

SYMBOL_CHARACTERS = 8  # an emoji with its modifiers; a longer symbol would drown the name
STANDINGS = 6  # shown by name on one rung, the others are counted: a picture is not a list
ROW_CHARACTERS = 46  # so that three rules fit on a page beside each other
ROWS = 6  # of one guard; a list that needs more ends in "…" and is read in the file
# Verdana is the widest of the usual faces: what is laid out with its widths fits in any other.
FACE, MONO = "Verdana", "Courier"
_EMOJI = "Noto Color Emoji,Apple Color Emoji,Segoe UI Emoji"  # last: these have digits of their own
FACES = {
    FACE: f"Verdana,DejaVu Sans,Geneva,sans-serif,{_EMOJI}",
    MONO: "Courier New,Courier,DejaVu Sans Mono,monospace",
}
INK, GREY, RED, BLUE = "#1f2933", "#52606d", "#9b1c1c", "#1d4e89"
TINTS = (  # fill and line of a rung, cool to warm; a ladder with more rungs starts again
    ("#eaeff5", "#627d98"),
    ("#e3f2e9", "#2f7d55"),
    ("#fcf1d3", "#a06a00"),
    ("#fae3de", "#b23a2a"),
    ("#efe6f7", "#6b46a8"),
)


@dataclass(frozen=True, slots=True)
class Standing:
    """Who stands on which profile, and until when; at the baseline `expires_at` is None."""

    principal: str
    profile: str
    expires_at: datetime | None


@dataclass(frozen=True, slots=True)
class Look:
    """How one kind of row is written."""

    colour: str
    points: int = 9
    bold: bool = False
    face: str = FACE
    characters: int = ROW_CHARACTERS


_TITLE = Look(INK, points=15, bold=True)
_DIGEST = Look(GREY, face=MONO, characters=80)
_PROFILE = Look(INK, points=12, bold=True)
_STRONG = Look(INK, bold=True)
_TERMS = Look(BLUE)
_NEED = Look(INK)
_APPROVAL = Look(RED, bold=True)
_NOTE = Look(GREY)
ENDING = Look(GREY, characters=100)
LOOKS = (_TITLE, _DIGEST, _PROFILE, _STRONG, _TERMS, _NEED, _APPROVAL, _NOTE, ENDING)
Rows: TypeAlias = Iterable[tuple[Look, str]]


def heading_rows(
    constitution: Constitution, live: Sequence[Standing], as_of: datetime | None
) -> Rows:
    """Which law is shown, and of what instant."""
    yield _TITLE, f"{constitution.name} {constitution.version}"
    yield _DIGEST, constitution.digest
    if as_of is not None:
        yield _NOTE, f"as of {_spell_at(as_of)}"
        if all(standing.profile == constitution.baseline for standing in live):
            yield _NOTE, f"nobody above {constitution.baseline}"


def _spell_at(at: datetime) -> str:
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S}Z"


def rung_rows(constitution: Constitution, profile: str, live: Sequence[Standing]) -> Rows:
    """A profile: how long it may be held, and who stands on it."""
    document = constitution.document
    symbol = document.profiles[profile].symbol[:SYMBOL_CHARACTERS]
    yield _PROFILE, f"{symbol} {profile.upper()}".strip()
    if profile == constitution.baseline:
        yield _NOTE, "baseline, needs no lease"
    if profile in dict(unreached(constitution)):
        yield _NOTE, "no rule leads here"
    if profile in document.holds:
        yield _NOTE, f"held {format_duration(document.holds[profile])} at a stretch at most"
    if profile in document.cooldown:
        yield _NOTE, f"cool-down {format_duration(document.cooldown[profile])}"
    here = sorted((s for s in live if s.profile == profile), key=lambda s: s.principal)
    for standing in here[:STANDINGS]:
        yield _STRONG, f"● {standing.principal}"
        if standing.expires_at is not None:
            yield _NEED, f"until {_spell_at(standing.expires_at)}"
    if len(here) > STANDINGS:
        yield _STRONG, f"● and {len(here) - STANDINGS} more"


def rule_rows(constitution: Constitution, rule_id: str, rule: Escalation) -> Rows:
    """A rule: what it gives, and all that it asks for."""
    needs, facts = rule.needs, constitution.document.facts
    yield _STRONG, rule_id
    renewals = {0: "no renewal", 1: "1 renewal"}.get(rule.renewals, f"{rule.renewals} renewals")
    yield _TERMS, f"{rule.trigger}, {format_duration(rule.ttl)}, {renewals}"
    if limits := describe_limits(rule):
        yield _TERMS, ", ".join(limits)
    asker = "anybody known" if needs.requester is None else ", ".join(needs.requester)
    yield _NEED, f"asked by {asker}"
    if needs.reason is not None:
        yield _NEED, f"reason of at least {needs.reason.min_length} characters"
    for source, group in groupby(needs.facts.items(), key=lambda item: _source(facts[item[0]])):
        yield from ((_NEED, f"{fact} {describe_fact_need(need)}") for fact, need in group)
        yield _NOTE, source
    for number, stage in enumerate(needs.approval):
        then = "then " if number else ""
        yield _APPROVAL, f"{then}approved by {stage.count} of {', '.join(stage.of)}"


def _source(fact: Fact) -> str:
    return describe_source(fact) or "on the requester's word"


def legend_rows(constitution: Constitution) -> Rows:
    """Each ending: by whom, and how far down."""
    far = {"previous": "the profile held before", "baseline": "the baseline from any rung"}
    yield _STRONG, "How a lease ends"
    for name, ending in constitution.document.endings.items():
        by = "time" if ending.by is None else ", ".join(ending.by)
        yield ENDING, f"{name}: by {by}, down to {far[ending.to]}"
    yield ENDING, "Approvals count for distinct people, and never for who asks."


def falls(constitution: Constitution) -> dict[tuple[str, str], list[str]]:
    """The endings between two profiles: to the one held before, and from each top to the baseline.

    An ending to the baseline ends every lease so, which the legend says; drawn from each rung it
    would hide the others. Where the arrow from the lowest rung is there anyway, it is named on it.
    """
    endings, rules = constitution.document.endings.items(), constitution.rules.values()
    near = [name for name, ending in endings if ending.to == "previous"]
    far = [name for name, ending in endings if ending.to == "baseline"]
    falls = {(rule.to, rule.from_): near for rule in rules}
    left = {rule.from_ for rule in rules}
    tops = [(rule.to, constitution.baseline) for rule in rules if rule.to not in left and far]
    lowest = [fall for fall in falls if fall[1] == constitution.baseline]
    for fall in dict.fromkeys((*lowest, *tops)):
        falls[fall] = [*falls.get(fall, []), *far]
    return falls


def unreached(constitution: Constitution) -> Iterator[tuple[str, str]]:
    """Each profile that no rule leads to, and the one that it stands above."""
    reached = {rule.to for rule in constitution.rules.values()}
    for name, profile in constitution.document.profiles.items():
        if profile.above is not None and name not in reached:
            yield name, profile.above


def tint(constitution: Constitution, profile: str) -> int:
    """Which of `TINTS` a rung has."""
    return constitution.rank(profile) % len(TINTS)


def check_standings(constitution: Constitution, live: Sequence[Standing]) -> None:
    """Raise InputError if somebody stands on no profile of this law."""
    profiles = constitution.document.profiles
    for standing in live:
        if standing.profile not in profiles:
            known = ", ".join(profiles)
            raise InputError(f"no profile {standing.profile!r} to stand on: there are {known}")

"""The chapters of the page: who held what, verdicts, conditions, and each drill in full.

Everything comes from `pack.json`'s own data, and is escaped where it is put into a tag.
"""

from collections.abc import Iterator, Sequence

from vmstate.drills.pack.cells import (
    Body,
    day,
    lines,
    links,
    mark,
    row,
    short,
    signed,
    span,
    spell_facts,
    table,
    word,
)
from vmstate.drills.pack.markup import Markup, joined, tag
from vmstate.drills.pack.picture import LEGEND

# ---- the summary ---------------------------------------------------------------------------------


def contents(core: Body) -> Markup:
    where = [("held", "who held what"), ("verdicts", "verdicts"), ("conditions", "conditions")]
    where += [(f"of:{one['id']}", one["id"]) for one in core["drills"]]
    where += [("law", "constitution"), ("of:suite", "suite ledger")]
    if not core["conditions"]:
        where = [one for one in where if one[0] != "conditions"]
    return tag("nav", *(tag("a", name, href=f"#{id_}") for id_, name in where))


_SIGNED = (
    "An approval or attestation is a signature by a stand-in, with a key that was made for the "
    "drill and stands in its first receipt. This page checks each of these signatures."
)
_HELD = ("who", "from, to", "by rule", "on whose word", "how it ended", "drill, receipts")


def held_by_profile(core: Body) -> Iterator[Markup]:
    yield tag("h2", "Who held what", id="held")
    yield tag("p", "Every lease of every drill, the highest profile first. Times are virtual, UTC. "
              "Where time stood still, the numbers of receipts say what came first.")  # fmt: skip
    yield tag("p", _SIGNED, class_="sub")
    for rank, profile in core["constitution"]["profiles"]:
        held = [one for one in core["escalations"] if one["profile"] == profile]
        if held:
            times = "once" if len(held) == 1 else f"{len(held)} times"
            yield tag("h3", f"{profile.upper()}, held {times}", class_=f"rung rank{rank % 4}")
            yield table("held", _HELD, (_holding(one) for one in held))
    if not core["escalations"]:
        yield tag("p", "Nobody held anything above the baseline.")


def _holding(one: Body) -> Markup:
    rule = [tag("code", one["rule"]), f"on {one['trigger']}"]
    if one["why"]:
        rule.append(f"“{one['why']}”")
    ended = one["ending"] or "not ended"
    by = f"by {one['ended_by']}" if one["ended_by"] and not one["timed_out"] else ""
    by = f"by the {one['ended_by']}, its time was up" if one["timed_out"] else by
    cells = (
        tag("b", one["principal"]),
        span(one["from"], one["to"], one["expires_at"], one["receipts"]),
        lines(rule),
        lines((word(one["words"], one["proof"]), spell_facts(one["facts"]))),
        lines((tag("span", ended), by if one["ending"] != "drill_ended" else "with its drill")),
        lines((one["drill"], links(one["drill"], one["receipts"]))),
    )
    return row(_HELD, cells)


_VERDICTS = ("drill", "verdict", "title", "steps", "receipts", "virtual time", "baseline after it")


def verdicts(core: Body) -> Iterator[Markup]:
    yield tag("h2", "Verdicts", id="verdicts")
    rows = []
    for one in core["drills"]:
        passed = sum(step["passed"] for step in one["steps"])
        cells = (
            tag("a", one["id"], href=f"#of:{one['id']}"),
            tag("span", one["verdict"], class_=f"verdict {one['verdict']}"),
            lines((one["title"], one["reason"] or "")),
            f"{passed} of {one['size']}",
            str(len(one["leaves"])),
            one["virtual"],
            mark(one["baseline"]["normal"]),
        )
        rows.append(row(_VERDICTS, cells))
    yield table("verdicts", _VERDICTS, rows)


def _shown(one: Body) -> Iterator[str]:
    """What shows that a condition is met: receipts by number, and steps by theirs."""
    yield links(one["drill"], one["receipts"]) or "nothing"
    for number in one["steps"]:
        yield ", "
        yield tag("a", f"step {number}", href=f"#{_step_id(one['drill'], number)}")


def _step_id(drill: str, number: int) -> str:
    return f"{drill}:step-{number}"


_CONDITIONS = ("id", "what must hold", "met", "drill, and what shows it")


def conditions(core: Body) -> Iterator[Markup]:
    if not core["conditions"]:
        return
    met = sum(one["passed"] for one in core["conditions"])
    yield tag("h2", "The runbook's conditions", id="conditions")
    yield tag("p", f"{met} of {len(core['conditions'])} met, each judged by what the receipts say.")
    rows = []
    for one in core["conditions"]:
        shown = joined((f"{one['drill']}: ", *_shown(one)))
        rows.append(row(_CONDITIONS, (one["id"], one["must"], mark(one["passed"]), shown)))
    yield table("conditions", _CONDITIONS, rows)


# ---- one drill -----------------------------------------------------------------------------------

_TIMELINE = ("receipt", "who", "what", "why", "authority", "cost", "proof hashes", "reversible")
_STEPS = ("step", "at", "what", "result", "expected and got", "receipts")
_DENIALS = ("receipt", "attempted", "refused because", "the rule's own text")
_CHECKS = ("claim", "expected", "got", "holds", "receipts")


def drill_chapter(one: Body, picture: Markup) -> Iterator[Markup]:
    verdict = tag("span", one["verdict"], class_=f"verdict {one['verdict']}")
    yield tag("h2", verdict, f" {one['id']}: {one['title']}", id=f"of:{one['id']}", class_="drill")
    told = f"Marker {one['marker']}; {one['virtual']} of virtual time from {day(one['start'])}."
    yield tag("p", told, class_="sub")
    if one["reason"]:
        yield tag("p", one["reason"], class_="bad")
    if one["timeline"]:
        yield tag("div", picture, class_="scroller", tabindex="0", role="region",
                  aria_label=f"timeline of {one['id']}")  # fmt: skip
        yield tag("p", LEGEND, class_="sub")
    steps = (_step(one["id"], number, step) for number, step in enumerate(one["steps"], 1))
    passed = sum(step["passed"] for step in one["steps"])
    yield _fold(f"Steps: {passed} of {one['size']} pass", table("steps", _STEPS, steps))
    if one["timeline"]:
        told = f"Timeline: {len(one['timeline'])} receipts"
        yield _fold(told, table("timeline", _TIMELINE, _timeline(one)))
    if one["denials"]:
        told = f"Denials, and the rule that each enforced: {len(one['denials'])}"
        rows = (_denial(one["id"], denial) for denial in one["denials"])
        yield _fold(told, table("denials", _DENIALS, rows))
    yield tag("h3", "Back to normal: ", mark(one["baseline"]["normal"]))
    yield table(
        "claims", _CHECKS, (_claim(one["id"], check) for check in one["baseline"]["checks"])
    )
    if one["checkpoint"]:
        yield _fold("Scroll roots and signed checkpoint", *_roots(one))


def _fold(told: str, *inner: Markup) -> Markup:
    """A long part of a chapter: open; on a narrow screen the page's script closes it."""
    return tag("details", tag("summary", tag("h3", told)), *inner, class_="fold", open="")


def _step(drill: str, number: int, step: Body) -> Markup:
    looked = [_look(check) for check in step["checks"] if check["passed"]]
    wrong = [
        tag("div", _look(check), class_="bad") for check in step["checks"] if not check["passed"]
    ]
    told = joined(part for one in looked for part in ("; ", one))
    looked_at = lines((*wrong, Markup(told.removeprefix("; "))))
    part = "" if step["part"] == "step" else f" ({step['part']})"
    cells = (
        f"{number}{part}",
        step["at"][11:19],
        step["name"],
        mark(step["passed"]),
        looked_at,
        links(drill, step["receipts"]),
    )
    return row(_STEPS, cells, id=_step_id(drill, number))


def _look(check: Body) -> Markup:
    """`what: expected`, and what there was where that does not say it."""
    if not check["passed"]:
        return joined((f"{check['what']}: expected {check['expected']}, got {check['got']}",))
    seen = f" ({check['got']})" if check["got"] != check["expected"] else ""
    return joined((f"{check['what']} ", tag("b", check["expected"]), seen))


def _timeline(one: Body) -> Iterator[Markup]:
    for entry in one["timeline"]:
        if entry["jump"]:
            told = f">> +{entry['jump']}: virtual time jumps to {day(entry['at'])}"
            yield tag("tr", tag("td", told, colspan=len(_TIMELINE)), class_="jump")
        number = tag("b", str(entry["seq"]))
        cells = (
            lines((joined((number, f" {entry['at'][11:19]}")), entry["type"])),
            _who(entry["who"]),
            entry["what"],
            entry["why"] or "—",
            _authority(entry),
            _cost(entry["cost"]),
            _proofs(entry),
            _reversal(one["id"], entry),
        )
        kind = "denied" if entry["outcome"] == "denied" else None
        yield row(_TIMELINE, cells, id=f"{one['id']}-{entry['seq']}", class_=kind)


def _who(who: Body) -> Markup:
    principal, actor = who["principal"], who["actor"]
    if principal is None:
        return joined(("the engine",))
    if actor is None:
        return lines((principal, "by the engine"))
    other = f"asked by {actor}" if actor != principal else ""
    return lines((principal, other, f"proof: {who['proof']}" if who["proof"] else ""))


def _authority(entry: Body) -> Markup:
    words = word(entry["words"], None) if entry["words"] else ""
    return lines((tag("code", entry["rule"]), words, spell_facts(entry["facts"])))


def _cost(charges: Sequence[Body]) -> Markup:
    """What it cost; nothing is said to cost 0, never left blank."""
    if not charges:
        return joined(("0",))
    return lines(
        f"{one['charged']} of {one['available']} {one['unit']} in {one['budget']}"
        + (f", {one['requested']} asked" if one["requested"] != one["charged"] else "")
        for one in charges
    )


def _proofs(entry: Body) -> Markup:
    shown = [tag("button", short(entry["proofs"]["receipt"]), class_="show", type="button")]
    shown += [
        joined((f"{name.replace('_', ' ')} ", short(digest)))
        for name, digest in entry["proofs"].items()
        if name != "receipt"
    ]
    return lines((*shown, entry["scroll"]))


def _reversal(drill: str, entry: Body) -> Markup:
    if entry["reversed_by"] is not None:
        return joined(("yes, reversed by ", links(drill, (entry["reversed_by"],))))
    return joined(("yes, not reversed" if entry["reversible"] else "no",))


def _denial(drill: str, one: Body) -> Markup:
    because = lines(
        joined((lack["message"], " ", tag("code", lack["code"]))) for lack in one["unmet"]
    )
    law = joined(joined((tag("code", q["path"]), tag("pre", q["text"]))) for q in one["law"])
    attempted = lines((tag("b", one["attempted"]), f"by {one['who']}",
                        f"as {one['held']}" if one["held"] else ""))  # fmt: skip
    return row(_DENIALS, (links(drill, (one["seq"],)), attempted, because, law))


def _claim(drill: str, check: Body) -> Markup:
    shown = links(drill, check["receipts"])
    cells = (check["what"], check["expected"], check["got"], mark(check["passed"]), shown)
    return row(_CHECKS, cells)


_ROOTS = ("scroll", "receipts", "root: the id of its newest receipt")


def _roots(one: Body) -> Iterator[Markup]:
    rows = (
        row(_ROOTS, (name, str(scroll["size"]), tag("code", scroll["root"], class_="hash")))
        for name, scroll in one["scrolls"].items()
    )
    yield table("scrolls", _ROOTS, rows)
    yield signed("pre", one["id"], "checkpoint")
    yield tag("p", "Verifier key ", signed("code", one["id"], "verifier"))
    yield tag("p", "Drill file ", tag("code", one["digest"], class_="hash"))

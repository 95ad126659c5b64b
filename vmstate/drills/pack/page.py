"""The pack as one page: from `pack.json`'s own data, with nothing that has to be fetched.

The page holds the data twice: as words for people, and as it was recorded, in blocks that its
script recomputes. The digests of the words and of the markup they stand in, attributes included,
are part of what is recorded, so that page and data can't drift apart unseen; so is that of the
frame around them: title, policy, seal, and what is told without a script. What another run or
another machine has otherwise is blank in these digests: what log keys sign, and the drawing. The
script compares those, and the style sheet, with the data, which the record does not cover.

The three parts must stand where they were put, with nothing around them that could hide them, and
nothing else on the page may say or show anything. What is silent is let be, because browsers and
their extensions put things of their own there. The script can't tell whether it was replaced.

Every text is escaped by `tag`; the policy admits the page's one script and one style by their
digests, images from the page itself, and nothing else.
"""

import base64
import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.resources import files
from string import Template

from vmstate import canonical
from vmstate.canonical import Json
from vmstate.drills.pack.cells import Body, signed
from vmstate.drills.pack.chapters import (
    conditions,
    contents,
    drill_chapter,
    held_by_profile,
    verdicts,
)
from vmstate.drills.pack.markup import Markup, joined, parts_of, passages_of, tag, words_of

PASSAGE_HEX = 8  # of each passage's digest; pack.js reads as many


@dataclass(frozen=True, slots=True)
class Drawn:
    """The page's three parts, with what is other in every run left blank, and their frame."""

    heading: Markup
    account: Markup
    footing: Markup
    frame: Markup

    def digests(self) -> dict[str, str]:
        """What is recorded of the page: its words, and the markup with every attribute.

        `passages` are the beginnings of digests, one of each passage: they prove nothing, and say
        where to look once the words are not those that were recorded.
        """
        every = (self.heading, self.account, self.footing)
        said = words_of(joined((self.heading, " ", self.account, " ", self.footing)))
        markup: list[Json] = [[*part] for one in every for part in parts_of(one)]
        return {
            "words": canonical.digest(said.encode()),
            "passages": "".join(_beginning(text) for one in every for text in passages_of(one)),
            "markup": canonical.digest(canonical.encode(markup)),
            "frame": canonical.digest(canonical.encode([[*p] for p in parts_of(self.frame)])),
        }


def _beginning(text: str) -> str:
    return canonical.digest(text.encode()).removeprefix("sha256:")[:PASSAGE_HEX]


def draw_page(core: Body, pictures: Mapping[str, Markup]) -> Drawn:
    """What a reader is told."""
    return Drawn(
        tag("div", _heading(core), id="heading"),
        tag("main", _account(core, pictures), id="account"),
        tag("footer", _footing(), id="footing"),
        _frame(core),
    )


_FRAME = re.compile("<meta http-equiv[^>]*>|<title>.*?</title>|<header>.*</header>", re.DOTALL)


def _frame(core: Body) -> Markup:
    """What the page says and forbids beside its three parts."""
    blank = {"account": "", "footing": "", "style": "", "script": "", "data": ""}
    page = _fill(core, {**blank, "heading": tag("div", id="heading")})
    return Markup("".join(_FRAME.findall(page)))


def style_digest() -> str:
    """The digest of the style sheet that the page has."""
    return canonical.digest(_packaged("pack.css").encode())


def fill_page(drawn: Drawn, core: Body, beside: Body, suite: Body, diagram: bytes) -> str:
    """The whole file."""
    account: str = drawn.account
    for log, said in beside["signed"].items():
        account = _with_signed(account, "pre", log, "checkpoint", said["checkpoint"])
        account = _with_signed(account, "code", log, "verifier", said["verifier"])
    footing: str = drawn.footing
    for name, part in _SUITE_PARTS:
        footing = _with_signed(footing, name, "suite", part, suite[part])
    parts = {
        "heading": drawn.heading,
        "account": account.replace(_picture(), _picture(diagram)),
        "footing": footing,
        "style": _packaged("pack.css"),
        "script": _packaged("pack.js"),
        "data": "\n".join(_data(core, beside, suite)),
    }
    return _fill(core, parts)


def _fill(core: Body, parts: Mapping[str, str]) -> str:
    """The template with these parts, and a policy that admits the packaged script and style."""
    script, style = (_source(_packaged(name)) for name in ("pack.js", "pack.css"))
    policy = (
        f"default-src 'none'; script-src '{script}'; style-src '{style}'; "
        "img-src data:; base-uri 'none'; form-action 'none'"
    )
    title = tag("i", core["drill_id"]).removeprefix("<i>").removesuffix("</i>")
    return Template(_packaged("pack.html")).substitute(parts, policy=policy, title=title)


def _packaged(name: str) -> str:
    return (files("vmstate.drills.pack") / name).read_text(encoding="utf-8")


def _with_signed(markup: str, name: str, log: str, part: str, text: str) -> str:
    blank = signed(name, log, part)
    return markup.replace(blank, signed(name, log, part, text.rstrip("\n")))


def _picture(diagram: bytes = b"") -> Markup:
    """An image, not inline: whatever a drawing program put into it, it can't run here."""
    data = f"data:image/svg+xml;base64,{base64.b64encode(diagram).decode()}" if diagram else ""
    told = "the escalations of this constitution, as a graph"
    return Markup(f'<img alt="{told}" class="diagram" src="{data}">')


def _heading(core: Body) -> Markup:
    """What stands above everything: the verdict, and under which law."""
    every = list(core["pass_fail"].values())
    passed = sum(one == "pass" for one in every)
    kind = "pass" if passed == len(every) else "fail"
    law = core["constitution"]
    told = "A rehearsal on virtual time, in ledgers of its own. Recomputing it needs no network."
    verdict = (
        tag("span", kind, class_=f"verdict {kind}"),
        f" {passed} of {len(every)} drills pass under ",
        tag("b", law["name"]),
        f" {law['version']}, ",
        tag("code", law["digest"], class_="hash"),
    )
    title = tag("h1", "Drill pack ", core["drill_id"])
    return joined((title, tag("p", *verdict), tag("p", told, class_="sub")))


def _account(core: Body, pictures: Mapping[str, Markup]) -> Markup:
    """Everything a reader is told of the drills and of the law."""
    parts: list[str] = [contents(core), *held_by_profile(core), *verdicts(core), *conditions(core)]
    for drill in core["drills"]:
        parts += drill_chapter(drill, pictures.get(drill["id"], Markup()))
    parts += _law(core)
    return joined(parts)


# ---- the law, the suite, the data ----------------------------------------------------------------


def _law(core: Body) -> Iterator[Markup]:
    law = core["constitution"]
    yield tag("h2", f"Constitution: {law['name']} {law['version']}", id="law")
    yield tag("p", tag("code", law["digest"], class_="hash"))
    yield tag("div", _picture(), class_="scroller law", tabindex="0", role="region",
              aria_label="diagram of the constitution")  # fmt: skip
    yield tag("details", tag("summary", "The file, as it was read"), tag("pre", law["toml"]))


_SUITE_PARTS = (("pre", "checkpoint"), ("code", "verifier"), ("code", "pack"))


def _footing() -> Markup:
    """What the suite's own ledger holds; it comes after the words were digested."""
    told = (
        "A ledger of the suite's own holds the digest of everything above, with each drill's root "
        "and verdict. Keep a copy of its checkpoint: who has all the files and keys can write "
        "another history, and only such a copy shows it. This page checks itself against accidents "
        "and edits; vmstate audit checks the ledgers, where they were kept."
    )
    checkpoint, verifier, pack = (signed(name, "suite", part) for name, part in _SUITE_PARTS)
    return joined(
        (
            tag("h2", "Suite ledger", id="of:suite"),
            tag("p", told),
            checkpoint,
            tag("p", "Verifier key ", verifier),
            tag("p", "Digest of this pack ", pack),
        )
    )


def _data(core: Body, beside: Body, suite: Body) -> Iterator[str]:
    """The blocks that the script reads: receipts one to a line, so that damage stays local."""
    drills = [{k: v for k, v in one.items() if k != "receipts"} for one in core["drills"]]
    yield _block({**core, "drills": drills}, 'id="core"')
    yield _block(beside, 'id="beside"')
    yield _block({k: v for k, v in suite.items() if k != "receipts"}, 'id="suite"')
    for log, receipts in (
        *((o["id"], o["receipts"]) for o in core["drills"]),
        ("suite", suite["receipts"]),
    ):
        lines = "\n".join(_quoted(body) for body in receipts)
        yield f'<script type="text/plain" class="receipts" data-log="{log}">\n{lines}\n</script>'


def _block(value: Body, attributes: str) -> str:
    return f'<script type="application/json" {attributes}>{_quoted(value)}</script>'


def _quoted(value: object) -> str:
    """JSON that can't end the block it stands in."""
    return json.dumps(value, ensure_ascii=False).replace("<", "\\u003c")


def _source(text: str) -> str:
    """How a content security policy names the one script or style that it admits."""
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"

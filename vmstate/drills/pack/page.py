"""The pack as one page: from `pack.json`'s own data, with nothing that has to be fetched.

The page holds the data twice: as words for people, in `<main>`, and as it was recorded, in blocks
that its script recomputes. The digest of the words is part of what is recorded, so that words and
data can't drift apart unseen. Every text is escaped by `tag`; the policy admits the page's one
script and one style by their digests, images from the page itself, and nothing else.
"""

import base64
import hashlib
import json
from collections.abc import Iterator, Mapping
from importlib.resources import files
from string import Template

from vmstate.drills.pack.cells import Body
from vmstate.drills.pack.chapters import (
    conditions,
    contents,
    drill_chapter,
    held_by_profile,
    verdicts,
)
from vmstate.drills.pack.markup import Markup, joined, tag


def fill_page(heading: Markup, account: Markup, core: Body, suite: Body) -> str:
    """The whole file."""
    folder = files("vmstate.drills.pack")
    style = (folder / "pack.css").read_text(encoding="utf-8")
    script = (folder / "pack.js").read_text(encoding="utf-8")
    policy = (
        f"default-src 'none'; script-src '{_source(script)}'; style-src '{_source(style)}'; "
        "img-src data:; base-uri 'none'; form-action 'none'"
    )
    template = Template((folder / "pack.html").read_text(encoding="utf-8"))
    return template.substitute(
        policy=policy,
        title=tag("i", core["drill_id"]).removeprefix("<i>").removesuffix("</i>"),
        style=style,
        heading=heading,
        account=account,
        suite=_suite(suite),
        data="\n".join(_data(core, suite)),
        script=script,
    )


def draw_heading(core: Body) -> Markup:
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


def draw_account(core: Body, pictures: Mapping[str, Markup], diagram: bytes) -> Markup:
    """Everything a reader is told; its words are digested into what is recorded."""
    parts: list[str] = [contents(core), *held_by_profile(core), *verdicts(core), *conditions(core)]
    for drill in core["drills"]:
        parts += drill_chapter(drill, pictures.get(drill["id"], Markup()))
    parts += _law(core, diagram)
    return joined(parts)


# ---- the law, the suite, the data ----------------------------------------------------------------


def _law(core: Body, diagram: bytes) -> Iterator[Markup]:
    law = core["constitution"]
    yield tag("h2", f"Constitution: {law['name']} {law['version']}", id="law")
    yield tag("p", tag("code", law["digest"], class_="hash"))
    if diagram:
        # An image, not inline: whatever a drawing program put into it, it can't run here.
        data = f"data:image/svg+xml;base64,{base64.b64encode(diagram).decode()}"
        told = "the escalations of this constitution, as a graph"
        yield Markup(f'<img class="diagram" alt="{told}" src="{data}">')
    yield tag("details", tag("summary", "The file, as it was read"), tag("pre", law["toml"]))


def _suite(suite: Body) -> Markup:
    """What the suite's own ledger holds; it came after the words above were digested."""
    told = (
        "A ledger of the suite's own holds the digest of everything above, with each drill's root "
        "and verdict. Keep a copy of its checkpoint: who has all the files and keys can write "
        "another history, and only such a copy shows it. This page checks itself against accidents "
        "and edits; vmstate audit checks the ledgers, where they were kept."
    )
    return joined(
        (
            tag("h2", "Suite ledger", id="of:suite"),
            tag("p", told),
            tag("pre", suite["checkpoint"].rstrip("\n"), id="suite-checkpoint"),
            tag(
                "p",
                "Verifier key ",
                tag("code", suite["verifier"], class_="hash", id="suite-verifier"),
            ),
            tag(
                "p",
                "Digest of this pack ",
                tag("code", suite["pack"], class_="hash", id="suite-pack"),
            ),
        )
    )


def _data(core: Body, suite: Body) -> Iterator[str]:
    """The blocks that the script reads: receipts one to a line, so that damage stays local."""
    drills = [{k: v for k, v in one.items() if k != "receipts"} for one in core["drills"]]
    yield _block({**core, "drills": drills}, 'id="core"')
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

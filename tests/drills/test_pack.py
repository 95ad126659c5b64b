"""The pack: what it says, that it is on record, and that no condition is met by nothing."""

import dataclasses
import json
import os
import subprocess
import sys
from datetime import timedelta
from importlib.resources import files
from pathlib import Path

import pytest
from typed import typed

from vmstate import canonical
from vmstate.constitution.loading import read_constitution
from vmstate.drills.drill import packaged_drills, read_drill
from vmstate.drills.pack import write_pack
from vmstate.drills.pack.conditions import judge
from vmstate.drills.pack.markup import Markup, joined, parts_of, tag, words_of
from vmstate.drills.pack.picture import draw_timeline
from vmstate.drills.runner import run_drill, run_suite
from vmstate.errors import InputError
from vmstate.ledger.audit import audit_ledger
from vmstate.ledger.checkpoint import VerifierKey, open_checkpoint
from vmstate.ledger.merkle import Tree
from vmstate.ledger.receipt import Receipt
from vmstate.ledger.store import Ledger

CONDITIONS = [
    *(f"G{n}" for n in range(1, 7)),
    *(f"A{n}" for n in range(1, 11)),
    *(f"B{n}" for n in range(1, 4)),
    *(f"C{n}" for n in range(1, 4)),
    *(f"D{n}" for n in range(1, 5)),
]


def _read(pack):
    return json.loads(pack.data.read_bytes())


def _drill(core, drill_id):
    return next(one for one in core["drills"] if one["id"] == drill_id)


@pytest.fixture(scope="module")
def pack(runs, law, tmp_path_factory):
    return write_pack(runs, law, tmp_path_factory.mktemp("pack") / "new")


@pytest.fixture(scope="module")
def core(pack):
    return _read(pack)["core"]


def test_a_pack_is_one_page_and_its_data_in_a_folder_of_its_own(pack):
    assert sorted(path.name for path in pack.folder.iterdir()) == ["pack.html", "pack.json"]
    data = pack.data.read_bytes()
    assert canonical.encode(canonical.parse(data)) == data


def test_the_same_suite_twice_gives_the_same_data_and_the_same_root_of_its_own_ledger(
    law, runs, tmp_path
):
    again = tuple(run_suite(packaged_drills(), law))
    packs = [write_pack(one, law, tmp_path / name) for name, one in (("a", runs), ("b", again))]
    assert packs[0].root == packs[1].root
    assert packs[0].digest == packs[1].digest
    one, two = map(_read, packs)
    assert one["core"] == two["core"]
    assert one["suite"]["receipts"] == two["suite"]["receipts"]
    # What log keys sign is another thing each time, and no ledger knows of it.
    for drill in one["beside"]["signed"]:
        assert one["beside"]["signed"][drill] != two["beside"]["signed"][drill]
        assert one["beside"]["signed"][drill]["verifier"] not in json.dumps(one["core"])
    assert one["suite"]["checkpoint"] != two["suite"]["checkpoint"]


def test_another_verdict_gives_the_suites_ledger_another_root(law, runs, tmp_path):
    other = (dataclasses.replace(runs[0], verdict="fail"), *runs[1:])
    packs = [write_pack(one, law, tmp_path / name) for name, one in (("a", runs), ("b", other))]
    assert packs[0].root != packs[1].root


def test_the_runbooks_own_fields_are_there(core):
    assert core["drill_id"].startswith("DRILL-2025-12-18-")
    assert core["pass_fail"] == {f"drill_{n}": "pass" for n in range(5)}
    assert core["scroll_roots"]["drill_1"].keys() == {"cognitive", "guardian", "identity"}
    assert [one["profile"] for one in core["escalations"] if one["drill"] == "drill_4"] == [
        "operator", "guardian", "phoenix", "operator", "operator", "guardian", "phoenix",
    ]  # fmt: skip
    assert {one["type"] for one in core["decisions"]} == {
        "cognitive_decision", "tem_invocation", "offsec_run",
    }  # fmt: skip


def test_it_says_who_held_guardian_from_when_to_when_and_on_whose_word(core):
    one = next(
        e for e in core["escalations"] if (e["drill"], e["profile"]) == ("drill_1", "guardian")
    )
    assert one["principal"] == "did:vm:operator:drill"
    assert (one["from"][11:19], one["to"][11:19]) == ("12:00:00", "12:15:00")
    assert [(w["kind"], w["by"]) for w in one["words"]] == [("attested", "did:vm:sensor:drill")]
    assert one["words"][0]["key"].startswith("ed25519:")
    assert (one["ending"], one["ended_by"], one["receipts"]) == (
        "timeout_expired", "scheduler", [5, 8],
    )  # fmt: skip


def test_the_timeline_has_who_what_why_authority_cost_proofs_reversibility_and_jumps(core):
    rows = _drill(core, "drill_1")["timeline"]
    assert [row["jump"] for row in rows if row["jump"]] == ["15m", "45m"]
    grant = rows[5]
    assert grant["who"]["principal"] == "did:vm:operator:drill"
    assert grant["what"] == "operator to guardian until 12:15:00, lease-5"
    assert grant["rule"] == "guardian_on_threat"
    assert grant["facts"]["threat.confidence"] == "0.92"
    assert set(grant["proofs"]) == {"receipt", "request", "tem_context_hash"}
    assert (grant["reversible"], grant["reversed_by"]) == (True, 8)
    assert rows[8]["what"] == "guardian to operator: timeout_expired, by the scheduler, on time"
    paid = _drill(core, "drill_2")["timeline"][6]
    assert [(line["charged"], line["available"]) for line in paid["cost"]] == [(60, 100)]


def test_each_denial_quotes_the_rule_that_it_enforced(core):
    skipped, alone, wrong = _drill(core, "drill_3")["denials"]
    assert skipped["law"][0]["path"] == "escalations"
    assert "operator to guardian on threat_detected" in skipped["law"][0]["text"]
    assert alone["law"] == wrong["law"]
    assert alone["law"][0]["text"].startswith("[escalations.phoenix_on_crisis]\nfrom    =")
    assert alone["law"][0]["text"].endswith('of = ["sovereigns"] }')
    ceiling = _drill(core, "drill_0")["denials"][0]
    assert ceiling["law"] == [{"path": "drill.budget_ceiling", "text": "budget_ceiling = 1000"}]


def test_baseline_proof_is_worked_out_of_receipts_and_of_tables(core):
    for drill in core["drills"]:
        claims = {one["what"]: one["got"] for one in drill["baseline"]["checks"]}
        assert drill["baseline"]["normal"] is True
        assert claims["leases open, by the receipts"] == "none"
        assert claims["leases open, by the ledger's table"] == "0"
        assert claims["next thing the scheduler waits for"] == "none"
        assert claims["audit of the ledger"] == "nothing found"
        assert claims["drill mode"] == "OFF"
    budgets = {c["what"]: c["got"] for c in _drill(core, "drill_2")["baseline"]["checks"]}
    assert budgets["budget drill-budget-001"] == "40 of 100 left"


def test_what_is_left_open_is_not_called_normal(runs, law, tmp_path):
    whole = runs[1]
    cut = dataclasses.replace(
        whole,
        receipts=whole.receipts[:9],
        aftermath=dataclasses.replace(whole.aftermath, open_leases=1, findings=("a finding",)),
    )
    core = _read(write_pack([cut], law, tmp_path / "pack"))["core"]
    failed = {
        c["what"]: c["got"] for c in core["drills"][0]["baseline"]["checks"] if not c["passed"]
    }
    assert failed == {
        "leases open, by the receipts": "lease-2",
        "leases open, by the ledger's table": "1",
        "profile of did:vm:operator:drill": "operator",
        "drill mode": "ON",
        "audit of the ledger": "a finding",
    }


def test_each_drill_comes_with_its_checkpoint_and_the_key_to_verify_it(pack, core):
    for drill in core["drills"]:
        signed = _read(pack)["beside"]["signed"][drill["id"]]
        checkpoint = open_checkpoint(signed["checkpoint"], VerifierKey.parse(signed["verifier"]))
        assert checkpoint.text() == drill["checkpoint"]
        tree = Tree()
        for body, leaf in zip(drill["receipts"], drill["leaves"], strict=True):
            assert Receipt(body.encode()).leaf.hex() == leaf
            tree = tree.append(bytes.fromhex(leaf))
        assert (checkpoint.size, checkpoint.root) == (tree.size, tree.root())
        assert f"sha256:{tree.root().hex()}" == drill["root"]


def test_the_suites_ledger_has_the_packs_digest_under_its_last_checkpoint(runs, law, tmp_path):
    keep = tmp_path / "keep"
    keep.mkdir()
    pack = write_pack(runs, law, tmp_path / "pack", keep=keep)
    body = _read(pack)
    assert canonical.digest(canonical.encode(body["core"])) == pack.digest
    ledger = Ledger.open(keep / "suite.db")
    try:
        assert audit_ledger(ledger).findings == ()
        assert (ledger.origin, ledger.drill.id) == ("vaultmesh/drill/suite", "suite")
        with ledger.read() as snapshot:
            head, receipt = snapshot.head(), snapshot.receipt(1)
    finally:
        ledger.close()
    assert (receipt.type, receipt.outcome, receipt.fields["scroll"]) == (
        "drill_pack", "recorded", "guardian",
    )  # fmt: skip
    detail = receipt.fields["what"]["detail"]
    assert detail["pack"] == pack.digest
    assert detail["drills"] == {run.drill.id: {"root": run.root, "verdict": "pass"} for run in runs}
    assert body["suite"]["checkpoint"] == head.note
    assert body["suite"]["receipts"][1] == receipt.body.decode()


def test_constitution_and_diagram_are_in_it(core, law, pack):
    assert core["constitution"]["toml"].encode() == law.toml
    assert core["constitution"]["digest"] == law.digest
    assert core["constitution"]["diagram"].startswith("---\ntitle:")
    assert 'src="data:image/svg+xml;base64,' in pack.page.read_text(encoding="utf-8")


def test_steps_say_what_was_expected_and_what_there_was(law, tmp_path):
    text = """
[drill]
id = "wrong"
title = "A drill that expects too much"
marker = "DRILL/WRONG/{date}"
start = "2025-12-18T12:00:00Z"
[[step]]
name = "climb"
do = "escalate"
with = { to = "operator", trigger = "operator_request", reason = "DRILL: expects too much" }
expect.result = { expires_at = "2025-12-18T14:00:00.000000Z" }
expect.unchanged = ["profiles"]
expect.active = 1
"""
    run = run_drill(read_drill(text.encode(), name="wrong.drill.toml"), law)
    core = _read(write_pack([run], law, tmp_path / "pack"))["core"]
    assert core["pass_fail"] == {"wrong": "fail"}
    assert core["conditions"] == []
    (step,) = core["drills"][0]["steps"]
    looked = {one["what"]: (one["expected"], one["got"], one["passed"]) for one in step["checks"]}
    assert looked["result expires_at"] == (
        "2025-12-18T14:00:00.000000Z", "2025-12-18T13:00:00.000000Z", False,
    )  # fmt: skip
    assert looked["active leases"] == ("1", "1", True)
    assert looked["profile of did:vm:operator:drill"] == ("observer", "operator", False)
    assert "profiles" not in looked


def test_a_blocked_drill_is_in_the_pack_with_nothing_to_show(law, tmp_path):
    gate, threat = packaged_drills()[:2]
    closed = dataclasses.replace(run_drill(gate, law), verdict="fail")
    blocked = next(iter(run_suite([threat], law)))
    blocked = dataclasses.replace(
        blocked, verdict="blocked", steps=(), receipts=(), root="", reason="drill_0 did not pass",
        aftermath=None,
    )  # fmt: skip
    core = _read(write_pack([closed, blocked], law, tmp_path / "pack"))["core"]
    assert core["pass_fail"] == {"drill_0": "fail", "drill_1": "blocked"}
    assert {c["passed"] for c in core["conditions"] if c["drill"] == "drill_1"} == {False}
    assert _drill(core, "drill_1")["baseline"]["normal"] is False
    page = (tmp_path / "pack" / "pack.html").read_text(encoding="utf-8")
    assert "0 of 10" in page


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda runs: runs[:0], "no drill was run: a pack is about one at least"),
        (lambda runs: [runs[0], runs[0]], "two drills are called 'drill_0': give one of them"),
    ],
)
def test_what_can_be_no_pack_is_refused(runs, law, tmp_path, change, message):
    with pytest.raises(InputError, match=message):
        write_pack(change(runs), law, tmp_path / "pack")
    assert not (tmp_path / "pack").exists()


def test_a_drill_called_as_the_suite_is_refused(runs, law, tmp_path):
    document = runs[0].drill.document
    heading = document.drill.model_copy(update={"id": "suite"})
    drill = dataclasses.replace(
        runs[0].drill, document=document.model_copy(update={"drill": heading})
    )
    with pytest.raises(InputError, match="a drill is called 'suite', as the suite's own ledger is"):
        write_pack([dataclasses.replace(runs[0], drill=drill)], law, tmp_path / "pack")


def test_a_folder_that_holds_something_is_left_alone(runs, law, tmp_path):
    (tmp_path / "mine.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(InputError, match="is there already and not an empty folder: name another"):
        write_pack(runs, law, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


# ---- conditions ----------------------------------------------------------------------------------


def test_all_conditions_of_the_runbook_are_met_by_its_drills_each_with_receipts(runs, law):
    found = judge(runs, law)
    assert [one.id for one in found] == CONDITIONS
    assert [one.id for one in found if not one.passed] == []
    assert all(one.receipts for one in found)


def test_a_condition_that_a_step_showed_and_no_receipt_names_the_step(runs, law, core, pack):
    found = {one.id: one for one in judge(runs, law)}
    assert (found["G6"].receipts, found["G6"].steps) == ((1,), (1,))
    assert found["A10"].steps == (1,)
    assert {one.id for one in found.values() if one.steps} == {"G6", "A10"}
    assert next(c for c in core["conditions"] if c["id"] == "G6")["steps"] == [1]
    page = pack.page.read_text(encoding="utf-8")
    assert '<a href="#drill_0:step-1">step 1</a>' in page
    assert '<tr id="drill_0:step-1">' in page


def _without(type_, **what):
    """Receipts of one kind taken away."""

    def change(run):
        kept = tuple(
            one
            for one in run.receipts
            if one.type != type_
            or any(one.fields["what"].get(key) != value for key, value in what.items())
        )
        return dataclasses.replace(run, receipts=kept)

    return change


def _edited(type_, edit):
    """Receipts of one kind changed, in bytes of their own."""

    def change(run):
        receipts = []
        for one in run.receipts:
            if one.type == type_:
                fields = json.loads(one.body)
                edit(fields)
                receipts.append(Receipt(canonical.encode(fields)))
            else:
                receipts.append(one)
        return dataclasses.replace(run, receipts=tuple(receipts))

    return change


def _slower(minutes):
    return lambda run: dataclasses.replace(run, wall_for=timedelta(minutes=minutes))


def _set(*path, to):
    def edit(fields):
        for part in path[:-1]:
            fields = fields[part]
        fields[path[-1]] = to

    return edit


def _unsound(run):
    after = dataclasses.replace(run.aftermath, findings=("a lease without its receipt",))
    return dataclasses.replace(run, aftermath=after)


def _no_look(run):
    """The steps ran, and looked at nothing."""
    steps = tuple(
        dataclasses.replace(
            one,
            result={},
            step=one.step.model_copy(
                update={"expect": one.step.expect.model_copy(update={"unchanged": ()})}
            ),
        )
        for one in run.steps
    )
    return dataclasses.replace(run, steps=steps)


@pytest.mark.parametrize(
    ("condition", "change"),
    [
        ("G1", _edited("drill_mode", _set("what", "detail", "mode", to="OFF"))),
        ("G2", _edited("drill_mode", _set("what", "detail", "pretends", to={}))),
        ("G3", _without("treasury_denial")),
        ("G3", _edited("drill_mode", _set("what", "detail", "budget_ceiling", to=2000))),
        ("G4", _edited("guardian_anchor", _set("drill", to="LIVE/1"))),
        ("G4", _without("guardian_anchor")),
        ("G5", _edited("offsec_run", _set("what", "result", to=None))),
        ("G6", _no_look),
        ("G6", _slower(3)),
        ("A1", _without("profile_escalation", to="guardian")),
        ("A1", _unsound),
        ("A2", _edited("profile_escalation", _set("proofs", to={}))),
        ("A3", _edited("profile_escalation", _set("reversible", to=False))),
        ("A3", _without("profile_deescalation", to="observer")),
        ("A4", _edited("profile_deescalation", _set("at", to="2025-12-18T12:20:00.000000Z"))),
        ("A5", _without("profile_deescalation", to="observer")),
        ("A6", _without("profile_escalation", to="guardian")),
        ("A7", _without("profile_escalation", to="guardian")),
        ("A7", _without("auth_failure")),
        ("A8", _without("profile_deescalation", to="observer")),
        ("A8", _edited("profile_deescalation", _set("at", to="2025-12-18T13:00:01.000000Z"))),
        ("A9", _without("profile_deescalation", to="operator")),
        ("A10", _without("tem_invocation")),
        ("A10", _no_look),
        ("A10", _slower(6)),
        ("A10", _edited("tem_invocation", _set("drill", to="DRILL/OTHER"))),
        ("B1", _without("treasury_denial")),
        ("B1", _unsound),
        ("B2", _edited("treasury_denial", _set("what", "act", to=None))),
        ("B3", _no_look),
        ("B3", _slower(4)),
        ("B3", _edited("treasury_budget", _set("what", "detail", "allocated", to=600))),
        ("C1", _no_look),
        ("C1", _edited("profile_escalation", _set("what", "to", to="phoenix"))),
        ("C2", _edited("auth_failure", _set("authority", "unmet", to=[]))),
        ("C3", _without("auth_failure", **{"from": "operator"})),
        ("C3", _edited("auth_failure", _set("scroll", to="guardian"))),
        ("C3", _slower(4)),
        ("D1", _edited("profile_escalation", _set("authority", "approvals", to=[]))),
        ("D2", _edited("phoenix_destroy", _set("what", "result", to=None))),
        ("D2", _without("phoenix_destroy")),
        (
            "D3",
            _without("profile_deescalation", **{"from": "phoenix", "ending": "timeout_expired"}),
        ),
        ("D4", _without("profile_deescalation", to="operator")),
        ("D4", _slower(6)),
    ],
)
def test_a_condition_is_not_met_without_what_shows_it(runs, law, condition, change):
    number = "GABCD".index(condition[0])
    drill = f"drill_{number}"
    changed = [change(run) if run.drill.id == drill else run for run in runs]
    found = {one.id: one.passed for one in judge(changed, law)}
    assert found[condition] is False
    assert all(found[one] for one in CONDITIONS if one[0] != condition[0])


# ---- markup and picture --------------------------------------------------------------------------


def test_text_is_escaped_and_only_markup_is_not():
    cell = tag("td", "<img onerror=1>", tag("b", '"&'), data_label='a"b', class_=None)
    assert cell == ('<td data-label="a&quot;b">&lt;img onerror=1&gt;<b>&quot;&amp;</b></td>')
    assert isinstance(joined(("<", Markup("<br>"))), Markup)
    assert words_of(tag("p", " <a>\n", tag("b", "b "), " c")) == "<a> b c"


def test_the_parts_of_markup_are_those_that_a_browser_makes_of_it():
    markup = tag("p", "a & b", Markup("<br>"), tag("pre", "\n\r\n c"), viewBox="1 2", class_="x<y")
    assert parts_of(markup) == [
        ["begin", "p", "class", "x<y", "viewbox", "1 2"],
        ["text", "a & b"],
        ["begin", "br"],
        ["begin", "pre"],
        ["text", "\n c"],
        ["end", "pre"],
        ["end", "p"],
    ]


def test_the_picture_ends_a_lease_solid_for_its_ttl_and_dashed_for_an_earlier_end(runs, law):
    threat, phoenix = (
        draw_timeline(run.receipts, law, "timeline")
        for run in runs
        if run.drill.id in {"drill_1", "drill_4"}
    )
    assert (threat.count('class="end ttl"'), threat.count('class="end early"')) == (2, 0)
    assert (phoenix.count('class="end ttl"'), phoenix.count('class="end early"')) == (4, 3)
    assert threat.count('class="denial"') == 2
    assert "&gt;&gt; +15m" in threat
    assert draw_timeline(runs[0].receipts, law, "t") == draw_timeline(runs[0].receipts, law, "t")


# ---- the starter drill ---------------------------------------------------------------------------


def test_the_starter_drill_passes_under_the_starter_constitution():
    preset = files("vmstate.constitution") / "presets" / "starter.toml"
    drill = read_drill(
        (files("vmstate.drills") / "starter.drill.toml").read_bytes(), name="starter"
    )
    run = run_drill(drill, read_constitution(preset.read_bytes()))
    assert (run.verdict, run.reason) == ("pass", "")
    assert [step.differences for step in run.steps if step.differences] == []


# ---- the command line ----------------------------------------------------------------------------


def test_drill_run_writes_a_pack_and_says_where(tmp_path):
    done = typed("drill", "run", "--pack", "pack", "--keep", "kept", "--json", at=tmp_path)
    assert (done.code, done.err) == (0, "")
    pack = json.loads(done.out)["pack"]
    assert (pack["page"], pack["data"]) == ("pack/pack.html", "pack/pack.json")
    core = json.loads((tmp_path / "pack" / "pack.json").read_bytes())["core"]
    assert (pack["id"], pack["digest"]) == (
        core["drill_id"], canonical.digest(canonical.encode(core)),
    )  # fmt: skip
    assert (tmp_path / "kept" / "suite.db").exists()
    again = typed("drill", "run", "--pack", "pack", at=tmp_path)
    assert again.code == 2
    assert "pack is there already and not an empty folder: name another" in again.err
    assert again.out == ""


def test_a_new_users_first_drill_passes_and_packs(tmp_path):
    assert typed("init", at=tmp_path).code == 0
    made = typed("drill", "new", "first.drill.toml", at=tmp_path)
    assert made.out == "first.drill.toml: a drill to start from\n"
    run = typed("drill", "run", "first.drill.toml", "--pack", "pack", at=tmp_path)
    assert (run.code, run.out[:4]) == (0, "pass")
    assert len(run.out.splitlines()) == 1
    assert "pack/pack.html" in run.err
    again = typed("drill", "new", "first.drill.toml", at=tmp_path)
    assert again.code == 2
    assert "first.drill.toml can't be written: File exists" in again.err


# ---- without a browser ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("demanded", "code", "said"),
    [
        ("0", 0, "LEFT OUT, the pack's page in a real browser: there is no /nowhere/chromium"),
        ("1", 1, "VMSTATE_REQUIRE_CHROMIUM=1, and there is no /nowhere/chromium"),
    ],
)
def test_without_a_browser_the_page_is_left_out_loudly_or_fails_where_it_is_demanded(
    demanded, code, said
):
    here = Path(__file__).parent
    environment = {
        **os.environ,
        "VMSTATE_CHROMIUM": "/nowhere/chromium",
        "VMSTATE_REQUIRE_CHROMIUM": demanded,
    }
    command = [sys.executable, "-m", "pytest", str(here / "test_pack_page.py"), "-k", "intact_page"]
    done = subprocess.run(
        command, cwd=here, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == code
    assert said in done.stdout

import base64
import hashlib
import json
import tomllib
from datetime import timedelta
from decimal import Decimal
from importlib.resources import files
from pathlib import Path

import pytest
import rfc8785

from vmstate.constitution.document import ENDINGS, Document
from vmstate.constitution.loading import load_constitution, read_constitution
from vmstate.keys import PrivateKey

ROOT = Path(__file__).parents[2]
SHIPPED = ROOT / "constitution.toml"
SMALL = (Path(__file__).parent / "small.toml").read_text(encoding="utf-8")


def digest(text):
    return read_constitution(text.encode()).digest


def changed(*pairs):
    text = SMALL
    for old, new in pairs:
        assert old in text
        text = text.replace(old, new)
    return digest(text)


def test_the_digest_is_that_of_the_canonical_bytes_and_these_hold_what_the_file_says():
    law = read_constitution(SMALL.encode())
    said = {
        "constitution": {"name": "small", "version": "1", "baseline": "observer"},
        "groups": {"agents": ["u:agent:*"], "staff": ["u:staff:ada", "u:staff:bob"]},
        "profiles": {"observer": {}, "operator": {"above": "observer"}},
        "facts": {"level": {"type": "decimal", "min": "0", "max": "1"}},
        "escalations": {
            "up": {
                "from": "observer",
                "to": "operator",
                "trigger": "operator_request",
                "ttl": 3_600_000_000,
                "needs": {"requester": ["agents", "staff"], "facts": {"level": {"min": "0.8"}}},
            }
        },
        "endings": {"timeout_expired": {"to": "previous"}},
    }
    assert law.canonical == rfc8785.dumps(said)
    assert law.digest == f"sha256:{hashlib.sha256(rfc8785.dumps(said)).hexdigest()}"
    assert law.toml == SMALL.encode()


def _tables_backwards(text):
    tables = text.split("\n[")
    return "\n[".join(["", *reversed([tables[0].removeprefix("["), *tables[1:]])])


@pytest.mark.parametrize(
    "text",
    [
        SMALL.replace(" ", "  ").replace("=  ", "="),
        f"# a comment\n\n{SMALL}# another\n".replace('"60m"', '"60m" # an hour'),
        _tables_backwards(SMALL),
        SMALL.replace('"60m"', '"1h"'),
        SMALL.replace('"60m"', '"3600s"'),
        SMALL.replace('"0.80"', '"0.8"'),
        SMALL.replace('max = "1"', 'max = "1.000"'),
        SMALL.replace('{ min = "0.80" }', "{ 'min' = '0.80' }"),
        SMALL.replace("needs.facts.level = {", "[escalations.up.needs.facts.level]\n#").replace(
            "[endings", 'min = "0.80"\n[endings'
        ),
        SMALL.replace('["agents", "staff"]', '[\n  "agents",\n  "staff",\n]'),
        SMALL.replace("\n", "\r\n"),
        SMALL.replace('"small"', '"sm\\u0061ll"'),
    ],
    ids=[
        "spaces", "comments", "order of tables", "1h", "3600s", "0.8", "1.000", "quotes",
        "inline or not", "line breaks", "windows line ends", "escapes",
    ],
)  # fmt: skip
def test_the_digest_does_not_depend_on_how_the_file_is_written(text):
    assert text != SMALL
    assert digest(text) == digest(SMALL)


def test_the_digest_depends_on_the_order_of_an_array():
    assert changed(('["agents", "staff"]', '["staff", "agents"]')) != digest(SMALL)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"small"', '"smaller"'),
        ('version  = "1"', 'version  = "1.0"'),
        ('"60m"', '"61m"'),
        ('"0.80"', '"0.81"'),
        ('max = "1"', 'max = "2"'),
        ('"operator_request"', '"crisis_declared"'),
        ('["agents", "staff"]', '["agents"]'),
        ('"u:staff:bob"', '"u:staff:Bob"'),
        ("[escalations.up]", "[escalations.upwards]"),
        ('above = "observer"', 'above = "observer"\nsymbol = "o"'),
        ("needs.facts.level = ", "needs.reason = { min_length = 1 }\nneeds.facts.level = "),
    ],
)
def test_the_digest_depends_on_every_value(old, new):
    assert changed((old, new)) != digest(SMALL)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"60m"', '"60m"\nrenewals = 0'),
        ('above = "observer"', 'above = "observer"\nsymbol = ""'),
        ("[facts]", "[acts]\n[facts]"),
    ],
)
def test_a_default_is_part_of_the_digest_only_where_it_is_written(old, new):
    # A release that adds a key with a default must not change the digest of files without it.
    assert changed((old, new)) != digest(SMALL)
    assert b"renewals" not in read_constitution(SMALL.encode()).canonical


def test_every_model_of_the_document_could_get_a_default_without_changing_the_digest():
    said = json.loads(read_constitution(SHIPPED.read_bytes()).canonical)
    written = tomllib.loads(SHIPPED.read_text(encoding="utf-8"))
    assert _keys(said) == _keys(written)


def _keys(value):
    if isinstance(value, dict):
        return {key: _keys(item) for key, item in value.items()}
    return [_keys(item) for item in value] if isinstance(value, list) else None


# ---- the constitution that is shipped -------------------------------------------------------


def test_the_packaged_preset_is_the_constitution_at_the_top_byte_for_byte():
    preset = files("vmstate.constitution") / "presets" / "vaultmesh.toml"
    assert preset.read_bytes() == SHIPPED.read_bytes()


def test_every_table_of_the_shipped_constitution_is_readable_on_the_document():
    document = load_constitution(SHIPPED).document
    tables = tomllib.loads(SHIPPED.read_text(encoding="utf-8"))
    assert set(tables) <= set(Document.model_fields)
    for table, content in tables.items():
        read = getattr(document, table)
        assert read is not None
        if isinstance(read, dict):
            assert list(read) == list(content)


def test_what_the_shipped_constitution_says_is_what_is_read():
    law = load_constitution(SHIPPED)
    document = law.document
    assert (law.name, law.version, law.baseline) == ("vaultmesh", "1.0.0", "observer")
    assert law.lineage("phoenix") == ("observer", "operator", "guardian", "phoenix")
    assert [law.rank(profile) for profile in document.profiles] == [0, 1, 2, 3]
    assert set(document.endings) == set(ENDINGS)
    rule = document.escalations["guardian_on_threat"]
    assert (rule.from_, rule.to, rule.trigger) == ("operator", "guardian", "threat_detected")
    assert (rule.ttl, rule.renewals) == (timedelta(minutes=15), 1)
    assert rule.needs.facts["threat.confidence"].min == Decimal("0.80")
    assert rule.needs.facts["threat.type"].not_in == ("informational",)
    assert document.cooldown == {"guardian": timedelta(minutes=5), "phoenix": timedelta(hours=1)}
    assert document.holds == {"phoenix": timedelta(minutes=10)}
    assert document.facts["threat.id"].max_age == timedelta(minutes=2)
    assert document.acts["phoenix.rebuild"].in_drill == "dry_run"
    assert document.recovery.needs.approval[0].of == ("sovereigns",)
    assert document.drill.stand_ins["sensors"] == ("did:vm:sensor:drill",)
    assert document.invariants["phoenix_hold"].at_most == timedelta(minutes=10)
    assert document.requests.open_at_most == 3
    assert document.locks.lift == ("sovereigns",)


def test_who_holds_a_profile_may_do_what_it_and_those_below_it_take_and_nothing_else():
    law = load_constitution(SHIPPED)
    for held, at_most in zip(law.document.profiles, range(4), strict=True):
        for what, rank in (*((p, law.rank(p)) for p in law.document.profiles), *acts(law)):
            assert law.admits(held, what) == (rank <= at_most)
        assert not law.admits(held, "unheard.of")
    assert not law.admits("", "observer")
    assert not law.admits("unheard.of", "observer")


def acts(law):
    return ((name, law.rank(act.profile)) for name, act in law.document.acts.items())


def test_what_is_absent_is_denied():
    document = read_constitution(SMALL.encode()).document
    assert document.locks is None
    assert document.recovery is None
    assert document.amendment is None
    assert document.drill is None
    assert document.acts == {}


def test_a_document_cannot_be_changed():
    document = load_constitution(SHIPPED).document
    with pytest.raises(ValueError, match="frozen"):
        document.escalations["phoenix_on_crisis"].ttl = timedelta(hours=1)


def test_the_comment_of_an_ssh_key_is_no_part_of_the_digest_and_another_spelling_is_another_law():
    key = PrivateKey.derive("ada").public
    line = f"ssh-ed25519 {base64.b64encode(key.wire).decode()}"

    def digest_with(text):
        return digest(f'{SMALL}\n[principals."u:staff:ada"]\nkey = "{text}"\n')

    assert digest_with(line) == digest_with(f"{line} ada@laptop") == digest_with(f"{line} ")
    assert digest_with(line) != digest_with(str(key))

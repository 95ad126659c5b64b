"""A law that nobody can stop, change or climb by is well formed; whoever wrote it is told."""

from importlib.resources import files
from pathlib import Path

import pytest

from vmstate.constitution.loading import read_constitution
from vmstate.constitution.unable import find_unable
from vmstate.keys import PrivateKey

STARTER = (files("vmstate.constitution") / "presets" / "starter.toml").read_text(encoding="utf-8")
SHIPPED = (Path(__file__).parents[2] / "constitution.toml").read_text(encoding="utf-8")


def bound(*names, by="key"):
    keys = {name: f'key = "{PrivateKey.derive(name).public}"' for name in names}
    lines = {name: keys[name] if by == "key" else f'account = "{name[-8:]}"' for name in names}
    return "".join(f'\n[principals."{name}"]\n{line}\n' for name, line in lines.items())


def without(text, table):
    """The text without one table."""
    before, _, after = text.partition(f"[{table}]")
    assert after
    return before + "[" + after.partition("\n[")[2]


def said(text):
    return find_unable(read_constitution(text.encode()))


def test_where_everybody_who_is_needed_has_a_key_nothing_is_said():
    assert said(STARTER + bound("carol")) == ()


@pytest.mark.parametrize(
    ("table", "line"),
    [
        ("locks", "nobody may lock: there is no [locks]"),
        ("amendment", "this law can never be changed: there is no [amendment]"),
        (
            "requests",
            (
                "no request, as for guardian_on_request, can wait until it is signed: "
                "there is no [requests]"
            ),
        ),
    ],
)
def test_a_table_without_which_the_law_can_not_be_stopped_changed_or_signed_for(table, line):
    assert said(without(STARTER, table) + bound("carol")) == (line,)


def test_a_law_in_which_nobody_ends_anothers_lease():
    text = STARTER.replace('sovereign_revoke = { by = ["approvers"], to = "baseline" }\n', "")
    line = "nobody may revoke another's lease: no ending names a group in its `by`"
    assert said(text + bound("carol")) == (line,)


def test_groups_that_must_approve_and_have_no_keys():
    assert said(STARTER)[-3:] == (
        "this law can't be changed yet: nobody in approvers has a key",
        "nobody can go on after a clock in the past yet: nobody in approvers has a key",
        "guardian_on_request can't be granted yet: nobody in approvers has a key",
    )


def test_an_account_is_enough_to_lock_and_too_little_to_approve():
    lines = said(STARTER + bound("carol", by="account"))
    assert [line.partition(" yet")[0] for line in lines] == [
        "this law can't be changed",
        "nobody can go on after a clock in the past",
        "guardian_on_request can't be granted",
    ]


def test_fewer_people_with_keys_than_it_takes():
    people = ("did:vm:guardian:one", "did:vm:sovereign:root", "did:vm:sensor:edr")
    lines = said(SHIPPED + bound(*people))
    assert [line for line in lines if "phoenix_on_quorum" in line] == [
        (
            "phoenix_on_quorum can't be granted yet: 1 in guardians can sign for it with a key, "
            "it takes 2"
        )
    ]


def test_facts_that_nobody_has_a_key_to_attest():
    lines = said(SHIPPED)
    assert [line for line in lines if "attest" in line] == [
        (
            "guardian_on_threat can't be granted yet: nobody in sensors has a key to attest "
            "threat.confidence, threat.type"
        )
    ]


def test_single_calls_that_nobody_can_approve():
    table = '\n[tools.files]\napprovers = ["approvers"]\ntools.write = { profile = "operator" }\n'
    assert said(STARTER + table)[-1] == (
        "no single call of tools.files can be approved yet: nobody in approvers has a key"
    )

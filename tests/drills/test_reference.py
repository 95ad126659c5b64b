"""The README's tables say what a step takes, and what it may expect and keep."""

import re
from pathlib import Path

import pytest

from vmstate.drills.consistent import RESULT_FIELDS
from vmstate.drills.document import LOCKED, REQUIRED, VERBS, Denial, Expectation, Step
from vmstate.drills.naming import _SIGNED

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
DRILLS = README.partition("\n## Drills\n")[2].partition("\n## ")[0]
ROWS = {
    verb: keys
    for verbs, keys in re.findall(r"^\| ((?:`\w+` ?)+) \| (.+) \|$", DRILLS, re.MULTILINE)
    for verb in re.findall(r"`(\w+)`", verbs)
    if verb != "do"
}


def test_every_verb_has_a_row():
    assert set(ROWS) == set(VERBS)


@pytest.mark.parametrize("verb", VERBS)
def test_a_row_names_what_its_verb_takes_and_what_it_requires(verb):
    row = ROWS[verb].removeprefix("exactly one of ").replace("nothing", "")
    assert set(re.findall(r"\w+", row)) == VERBS[verb]
    assert set(re.findall(r"\*\*(\w+)\*\*", row)) == set(REQUIRED.get(verb, ()))


def test_a_lock_is_said_to_be_on_exactly_one_of_three():
    assert ROWS["lock"].startswith(f"exactly one of {', '.join(LOCKED)};")


def test_it_names_what_a_saved_result_holds_and_who_signs():
    assert set(re.findall(r"\{op\.(\w+)\}", DRILLS)) == set(RESULT_FIELDS)
    signed = re.search(r"What takes a signature \((.+?)\)", DRILLS)
    assert set(re.findall(r"`(\w+)`", signed[1])) == set(_SIGNED)


def test_it_names_what_a_step_holds_and_what_it_may_expect():
    assert {f"expect.{name}" for name in Expectation.model_fields} <= set(
        re.findall(r"expect\.\w+", DRILLS)
    )
    assert all(f"{name}" in DRILLS for name in Denial.model_fields)
    steps = {field.alias or name for name, field in Step.model_fields.items()} - {"name"}
    assert all(re.search(rf"`{name}\b", DRILLS) for name in steps)

import copy
import itertools
import json
import tomllib
from pathlib import Path

import pytest

from vmstate.constitution.lines import spell_place
from vmstate.constitution.loading import FILE_BYTES, load_constitution, read_constitution
from vmstate.errors import ConstitutionError

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
BAD = sorted((HERE / "bad").glob("*.toml"))
SMALL = (HERE / "small.toml").read_text(encoding="utf-8")


def problems(text, name="constitution.toml"):
    with pytest.raises(ConstitutionError) as caught:
        read_constitution(text if isinstance(text, bytes) else text.encode(), name=name)
    assert str(caught.value) == "\n".join(caught.value.problems)
    return caught.value.problems


def places(text):
    """`(line, path)` of each problem."""
    return [tuple(problem.split(": ")[:2]) for problem in problems(text)]


@pytest.mark.parametrize("path", BAD, ids=lambda path: path.stem)
def test_each_mistake_is_reported_with_its_line_its_path_and_what_to_write(path):
    text = path.read_text(encoding="utf-8")
    comments = itertools.takewhile(lambda line: line.startswith("# "), text.splitlines())
    expected = tuple(line.removeprefix("# ") for line in comments)
    assert expected
    assert problems(text) == expected


def test_there_are_cases_of_mistakes():
    assert len(BAD) >= 35


# ---- files that can't be read at all --------------------------------------------------------


def test_a_file_that_is_not_there_says_how_to_make_one(tmp_path):
    path = tmp_path / "constitution.toml"
    with pytest.raises(ConstitutionError) as caught:
        load_constitution(path)
    assert str(caught.value) == (
        f"{path}: cannot be read: No such file or directory; "
        "give --constitution, or make one: vmstate init"
    )


def test_a_folder_is_no_constitution(tmp_path):
    with pytest.raises(ConstitutionError, match="cannot be read: Is a directory"):
        load_constitution(tmp_path)


@pytest.mark.parametrize("text", ["", " \n\t\n"])
def test_an_empty_file_says_how_to_start(text):
    message = "constitution.toml: is empty: write one to start from with vmstate init"
    assert problems(text) == (message,)


def test_a_file_that_is_not_text_is_refused():
    assert problems(b"\xff\xfe") == ("constitution.toml: is not UTF-8 text: invalid start byte",)


def test_a_file_without_end_is_read_no_further_than_a_constitution_may_be_long():
    with pytest.raises(ConstitutionError) as caught:
        load_constitution("/dev/zero")
    message = "/dev/zero: has more than 1,048,576 bytes, at most so many are read"
    assert caught.value.problems == (message,)


def test_a_file_that_is_too_long_is_not_parsed():
    message = "constitution.toml: has 1,048,577 bytes, at most 1,048,576 are read"
    assert problems(b"#" * (FILE_BYTES + 1)) == (message,)


def test_messages_name_the_file_that_was_given(tmp_path):
    path = tmp_path / "law.toml"
    path.write_text(SMALL.replace('"60m"', '"1 hour"'))
    with pytest.raises(ConstitutionError) as caught:
        load_constitution(path)
    assert str(caught.value).startswith(f"{path}:21: escalations.up.ttl: '1 hour' is not")


# ---- lines ----------------------------------------------------------------------------------


def test_what_stands_in_a_long_array_is_found_where_the_array_begins():
    text = SMALL.replace(
        'staff  = ["u:staff:ada", "u:staff:bob"]',
        'staff = [\n  "u:staff:ada", # ]\n  "[not a header]",\n]\nothers = ["u:staff*", "u:x"]',
    )
    assert places(text) == [
        ("constitution.toml:8", "groups.staff.1"),
        ("constitution.toml:12", "groups.others.0"),
    ]


@pytest.mark.parametrize("quotes", ['"""', "'''"])
def test_what_looks_like_a_header_in_a_long_string_is_none(quotes):
    inside = f"symbol = {quotes}\n[escalations.up]\nttl = 5\n{quotes}\n"
    text = SMALL.replace('above = "observer"\n', f'{inside}above = "observer"\n')
    text = text.replace('"60m"', '"1 hour"')
    assert places(text) == [
        ("constitution.toml:12", "profiles.operator.symbol"),
        ("constitution.toml:25", "escalations.up.ttl"),
    ]


def test_a_long_string_on_one_line_ends_there():
    text = SMALL.replace('name     = "small"', 'name     = """small"""')
    assert places(text.replace('"60m"', "60")) == [("constitution.toml:21", "escalations.up.ttl")]


def test_what_stands_in_an_inline_table_is_found_on_its_line():
    text = SMALL.replace('{ min = "0.80" }', '{ "min" = 0.80 }')
    assert places(text) == [("constitution.toml:23", "escalations.up.needs.facts.level.min")]


def test_a_table_written_out_is_found_like_an_inline_one():
    text = SMALL.replace("needs.facts.level = {", "[escalations.up.needs.facts.level]\n#")
    text = text.replace('{ type = "decimal", min = "0", max = "1" }', '{ type = "text" }')
    text = text.replace("[endings", "min = 0.8\n[endings")
    assert places(text) == [("constitution.toml:26", "escalations.up.needs.facts.level.min")]


def test_quoted_keys_are_found_and_spelled_as_the_file_must_spell_them():
    text = SMALL.replace("level =", '"threat.level" =', 1).replace("facts.level", "facts.'a.b'")
    text = text.replace("[profiles.operator]", '[ profiles . "operator" ]\ncolour = 1')
    assert places(text) == [
        ("constitution.toml:12", "profiles.operator.colour"),
        ("constitution.toml:24", 'escalations.up.needs.facts."a.b"'),
    ]


def test_what_stands_in_an_array_of_tables_is_found_at_its_own_header():
    text = SMALL + "\n[[groups.more]]\na = 1\n[[groups.more]]\nb = 2\n"
    assert places(text) == [
        ("constitution.toml:28", "groups.more.0"),
        ("constitution.toml:30", "groups.more.1"),
    ]


def test_lines_are_counted_as_an_editor_counts_them_with_windows_line_ends():
    text = SMALL.replace('"60m"', '"1 hour"').replace("\n", "\r\n")
    assert places(text) == [("constitution.toml:21", "escalations.up.ttl")]


@pytest.mark.parametrize("character", ["\u2028", "\u2029", "\u0085"])
def test_a_character_that_ends_no_line_in_toml_does_not_move_the_lines(character):
    text = f"# a comment{character} goes on\n{SMALL}".replace('"60m"', '"1 hour"')
    assert places(text) == [("constitution.toml:22", "escalations.up.ttl")]


def test_a_key_of_dots_is_the_same_place_as_its_table():
    text = SMALL.replace("[constitution]\nname     = ", "constitution.name = ")
    text = text.replace("version  =", "constitution.version =")
    text = text.replace('baseline = "observer"', 'constitution.baseline = "nobody"')
    assert places(text) == [("constitution.toml:3", "constitution.baseline")]


# ---- strictness that has no one message -----------------------------------------------------


def test_a_group_can_not_be_called_like_the_holder_of_a_lease():
    # In an ending's `by` the word means whoever holds the lease; such a group would be ignored.
    text = SMALL.replace("agents = [", 'holder = ["u:staff:ada"]\nagents = [')
    assert any("holder" in problem for problem in problems(text))


def test_a_number_that_json_cannot_hold_is_found_at_its_place():
    invariant = (
        "[invariants.one]\ntext = 'x'\nentering = '*'\nrequires = { rungs = 99999999999999999 }"
    )
    assert places(f"{SMALL}\n{invariant}\n") == [
        ("constitution.toml:31", "invariants.one.requires.rungs")
    ]


def test_shapes_and_names_are_reported_together():
    text = SMALL.replace('"operator_request"', "7").replace('to      = "operator"', 'to = "x"')
    assert places(text.replace('"60m"', '"1 hour"').replace('["agents",', '["agent",')) == [
        ("constitution.toml:19", "escalations.up.to"),
        ("constitution.toml:20", "escalations.up.trigger"),
        ("constitution.toml:21", "escalations.up.ttl"),
        ("constitution.toml:22", "escalations.up.needs.requester"),
    ]


def spelled(value):
    """A parsed value as TOML on one line."""
    if isinstance(value, dict):
        return f"{{ {', '.join(f'{json.dumps(k)} = {spelled(v)}' for k, v in value.items())} }}"
    if isinstance(value, list):
        return f"[{', '.join(map(spelled, value))}]"
    return json.dumps(value, ensure_ascii=False)


def written(parsed):
    return "".join(f"{json.dumps(key)} = {spelled(value)}\n" for key, value in parsed.items())


def within(value, place=()):
    """Every place in a parsed file, tables and lists included."""
    inner = value.items() if isinstance(value, dict) else enumerate(value)
    for key, item in inner:
        yield (*place, key)
        if isinstance(item, dict | list):
            yield from within(item, (*place, key))


def changed(parsed, place, value):
    parsed = copy.deepcopy(parsed)
    table = parsed
    for key in place[:-1]:
        table = table[key]
    table[place[-1]] = value
    return parsed


TOOLS = """
[tools.git]
visibility = "annotate"
approvers  = ["guardians"]
tools."git_*" = { profile = "operator", each_call = true, on_end = "finish" }
"""
WHOLE = tomllib.loads((ROOT / "constitution.toml").read_text(encoding="utf-8") + TOOLS)


@pytest.mark.parametrize("table", WHOLE)
def test_a_value_that_misfits_makes_no_name_look_unknown_wherever_it_stands(table):
    for place in ((table,), *within(WHOLE[table], (table,))):
        (problem,) = problems(written(changed(WHOLE, place, 0.5)))
        assert problem.split(": ")[1] == spell_place(place)


PLANTED = {
    ("profiles", "phoenix", "above"): "guardain",
    ("acts", "tem.invoke", "profile"): "guardain",
    ("facts", "threat.type", "attested_by"): "sensor",
    ("escalations", "operator_on_request", "to"): "operators",
    ("escalations", "phoenix_on_quorum", "needs", "requester", 0): "operator",
    ("escalations", "guardian_on_threat", "needs", "facts", "threat.type", "not_in", 0): "info",
    ("endings", "threat_resolved", "by", 1): "guardian",
    ("locks", "lift", 0): "sovereign",
}


@pytest.mark.parametrize("table", WHOLE)
def test_a_value_that_misfits_hides_no_wrong_name_wherever_it_stands(table):
    parsed = WHOLE
    for place, name in PLANTED.items():
        parsed = changed(parsed, place, name)
    wrong = {spell_place(place[:-1] if isinstance(place[-1], int) else place) for place in PLANTED}
    for place in within(WHOLE[table], (table,)):
        if any(one[: len(place)] == place for one in PLANTED):
            continue
        if place[:3] == ("facts", "threat.type", "one_of"):
            continue  # which values there are is then not known
        told = {problem.split(": ")[1] for problem in problems(written(changed(parsed, place, 5)))}
        assert told - {spell_place(place)} == wrong - {spell_place(place)}, place


@pytest.mark.parametrize(
    "place",
    [("profiles", "guardian"), ("groups", "sovereigns"), ("facts", "threat.type")],
    ids=lambda place: place[0],
)
def test_a_name_that_is_none_makes_nothing_look_unknown(place):
    table = dict(WHOLE[place[0]])
    table[f"{place[1]} "] = table.pop(place[1])
    (problem,) = problems(written({**WHOLE, place[0]: table}))
    assert "is not a name" in problem


@pytest.mark.parametrize("table", ["profiles", "groups", "facts", "endings", "principals"])
def test_a_table_under_a_misspelled_name_is_read_for_the_names_in_it(table):
    parsed = {name: value for name, value in WHOLE.items() if name != table}
    parsed[table[:-1]] = WHOLE.get(table, {"u:x": {}})
    told = {problem.split(": ")[1] for problem in problems(written(parsed))}
    assert table[:-1] in told
    assert told <= {table, table[:-1]}

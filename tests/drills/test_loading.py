"""A drill that is not well formed is refused when it is read, with file and line, all at once.

Each file in `bad/` begins with a comment for each message expected, without the file's name.
"""

from itertools import takewhile
from pathlib import Path

import pytest

from vmstate.drills.drill import FILE_BYTES, load_drill, packaged_drills, read_drill
from vmstate.errors import DrillError

HEADING = '[drill]\nid="d"\ntitle="t"\nmarker="m"\nstart="2030-01-01T00:00:00Z"\n'
BAD = sorted((Path(__file__).parent / "bad").glob("*.drill.toml"))


def expected_of(path):
    said = takewhile(lambda line: line.startswith("# "), path.read_text("utf-8").splitlines())
    return [f"{path}{line[2:]}" for line in said]


@pytest.mark.parametrize("path", BAD, ids=lambda path: path.name.partition(".")[0])
def test_a_bad_drill_says_what_is_wrong_with_it(path):
    with pytest.raises(DrillError) as caught:
        load_drill(path)
    assert list(caught.value.problems) == expected_of(path)


def test_a_drill_that_is_not_there_is_named(tmp_path):
    with pytest.raises(DrillError, match=r"none\.toml: cannot be read: No such file"):
        load_drill(tmp_path / "none.toml")


def test_a_drill_of_more_bytes_than_are_read_is_refused():
    with pytest.raises(DrillError, match=r"^x: has 262,145 bytes, at most 262,144 are read$"):
        read_drill(b"#" * (FILE_BYTES + 1), name="x")


def test_a_file_without_end_is_read_no_further_than_a_drill_may_be_long():
    with pytest.raises(DrillError, match=r"^/dev/zero: has more than 262,144 bytes"):
        load_drill(Path("/dev/zero"))


def test_a_drill_that_is_not_text_is_refused():
    with pytest.raises(DrillError, match=r"^x: is not UTF-8 text: "):
        read_drill(b"\xff\xfe", name="x")


def test_the_packaged_drills_are_read_in_the_order_of_the_runbook():
    assert [drill.id for drill in packaged_drills()] == [
        *("drill_0", "drill_1", "drill_3", "drill_2", "drill_4"),
    ]


def test_a_digest_names_what_was_read_and_not_how_it_was_spaced():
    one = read_drill(f'{HEADING}[[step]]\nadvance="1s"\n'.encode(), name="one")
    spaced = read_drill(f'# spaced\n{HEADING}\n[[step]]\nadvance = "1s"'.encode(), name="two")
    other = read_drill(f'{HEADING}[[step]]\nadvance="2s"\n'.encode(), name="one")
    assert one.digest == spaced.digest != other.digest


def test_a_marker_has_the_date_of_the_drills_own_start():
    drill = packaged_drills()[1]
    assert drill.marker == "DRILL/FP-THREAT/2025-12-18"


@pytest.mark.parametrize(
    "step",
    [
        'do = "escalate"\nwith = { trigger = "operator_request" }',
        'do = "escalate"\nwith = { to = "operator" }',
        'do = "renew"',
        'do = "release"',
        'do = "revoke"',
        'do = "may"',
        'do="may"\nwith={what="x"}\nexpect.result={success=true}\nsave="s"\n[[step]]\nadvance_to="{s.expires_at}"',
    ],
)
def test_what_could_not_run_is_refused_when_it_is_read_with_file_and_line(step):
    with pytest.raises(DrillError, match=r"^one\.toml:\d+: step \d"):
        read_drill(f"{HEADING}[[step]]\n{step}\n".encode(), name="one.toml")


@pytest.mark.parametrize(
    ("expected", "message"),
    [
        ("result = { receipt = 9007199254740993 }", "9007199254740993 is not below 2^53"),
        ('profile = { "\u00e4lice" = "observer" }', "key '\u00e4lice' is not ASCII text"),
    ],
)
def test_what_has_no_digest_is_refused_when_it_is_read_with_its_file(expected, message):
    with pytest.raises(DrillError) as caught:
        read_drill(
            f'{HEADING}[[step]]\nadvance = "1s"\nexpect.{expected}\n'.encode(), name="one.toml"
        )
    assert caught.value.problems == (f"one.toml:1: {message}",)


def test_what_is_nested_too_deep_is_refused_when_it_is_read():
    with pytest.raises(DrillError) as caught:
        read_drill(b"x = " + b"[" * 5_000, name="one.toml")
    assert caught.value.problems == ("one.toml: is nested too deep to be read",)


@pytest.mark.parametrize(
    "wait",
    [
        'advance_to = "9999-12-31T12:00:00Z + 2d"',
        'advance_to = "0001-01-01T12:00:00Z - 2d"',
        'advance_to = "9999-12-31T12:00:00Z"\n[[step]]\nadvance = "2d"',
    ],
)
def test_a_wait_until_a_time_that_no_calendar_has_is_refused_when_it_is_read(wait):
    heading = HEADING
    if "[[step]]" in wait:
        heading = heading.replace("2030-01-01T00:00:00Z", "9999-12-31T00:00:00Z")
    with pytest.raises(DrillError, match=r"^one\.toml:\d+: step \d advance"):
        read_drill(f"{heading}[[step]]\n{wait}\n".encode(), name="one.toml")

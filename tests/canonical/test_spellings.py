from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vmstate import canonical
from vmstate.errors import InputError

YEAR = 366 * 86_400


def refusal(read, *arguments, **named):
    with pytest.raises(InputError) as caught:
        read(*arguments, **named)
    return str(caught.value)


# ---- durations ------------------------------------------------------------------------------


@settings(max_examples=200, deadline=None)
@given(st.integers(1, YEAR))
def test_every_whole_second_up_to_a_year_reads_back_as_it_was_written(seconds):
    duration = timedelta(seconds=seconds)
    assert canonical.parse_duration(canonical.format_duration(duration)) == duration


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("30m", 1_800),
        ("1h30m", 5_400),
        ("90s", 90),
        ("2d", 172_800),
        ("1d1h1m1s", 90_061),
        ("60m", 3_600),
        ("0h5m", 300),
        ("005m", 300),
        ("366d", YEAR),
    ],
)
def test_a_duration_is_read(text, seconds):
    assert canonical.parse_duration(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("15 minuts", "'15 minuts' is not a duration, write '15m' or '1h30m'"),
        ("15 minutes", "'15 minutes' is not a duration, write '15m' or '1h30m'"),
        ("2 Hours", "'2 Hours' is not a duration, write '2h' or '1h30m'"),
        ("90S", "'90S' is not a duration, write '90s' or '1h30m'"),
        (" 3d ", "' 3d ' is not a duration, write '3d' or '1h30m'"),
        ("soon", "'soon' is not a duration, write '15m' or '1h30m'"),
        ("", "'' is not a duration, write '15m' or '1h30m'"),
        ("15", "'15' is not a duration, write '15m' or '1h30m'"),
        ("1.5h", "'1.5h' is not a duration, write '15m' or '1h30m'"),
        ("-5m", "'-5m' is not a duration, write '15m' or '1h30m'"),
        ("+5m", "'+5m' is not a duration, write '15m' or '1h30m'"),
        ("30m1h", "'30m1h' is not a duration, write '15m' or '1h30m'"),
        ("1h1h", "'1h1h' is not a duration, write '15m' or '1h30m'"),
        ("1h 30m", "'1h 30m' is not a duration, write '15m' or '1h30m'"),
        ("5m\n", r"'5m\n' is not a duration, write '5m' or '1h30m'"),
        ("1w", "'1w' is not a duration, write '15m' or '1h30m'"),
        ("PT5M", "'PT5M' is not a duration, write '15m' or '1h30m'"),
        ("0s", "'0s' is no time at all, write '15m' or '1h30m'"),
        ("0h0m", "'0h0m' is no time at all, write '15m' or '1h30m'"),
        ("367d", "'367d' is more than 366 days"),
        ("366d1s", "'366d1s' is more than 366 days"),
        ("9000h", "'9000h' is more than 366 days"),
        ("999999999999h", "'999999999999h' is more than 366 days"),
    ],
)
def test_what_is_no_duration_is_told_what_to_write(text, message):
    assert refusal(canonical.parse_duration, text) == message


def test_a_duration_of_look_alike_digits_is_refused():
    fullwidth = "\uff11\uff15m"
    message = f"{fullwidth!r} is not a duration, write '15m' or '1h30m'"
    assert refusal(canonical.parse_duration, fullwidth) == message


def test_a_duration_of_more_digits_than_python_reads_is_refused_like_any_other():
    assert refusal(canonical.parse_duration, "9" * 5_000 + "m")


@pytest.mark.parametrize(
    ("duration", "text"),
    [
        (timedelta(), "0s"),
        (timedelta(milliseconds=999), "0s"),
        (timedelta(minutes=61), "1h1m"),
        (timedelta(days=1, seconds=59, microseconds=5), "1d59s"),
    ],
)
def test_a_duration_is_written_in_the_units_that_are_not_zero(duration, text):
    assert canonical.format_duration(duration) == text


# ---- decimals -------------------------------------------------------------------------------


@settings(max_examples=200, deadline=None)
@given(st.integers(-(10**18) + 1, 10**18 - 1), st.integers(0, 18))
def test_a_decimal_reads_back_as_it_was_written(digits, places):
    value = Decimal(digits).scaleb(-places)
    text = canonical.format_decimal(value)
    assert canonical.parse_decimal(text) == value
    assert canonical.format_decimal(canonical.parse_decimal(text)) == text


@pytest.mark.parametrize(
    ("text", "spelled"),
    [("0.80", "0.8"), ("1.000", "1"), ("0", "0"), ("-0", "0"), ("-0.00", "0"), ("100", "100")],
)
def test_a_decimal_has_one_shortest_spelling(text, spelled):
    assert canonical.format_decimal(canonical.parse_decimal(text)) == spelled


@pytest.mark.parametrize(
    "text",
    ["", "1e3", "1E-2", "+1", " 1", "1 ", ".5", "5.", "01", "1,5", "NaN", "Infinity", "--1",
     "0x1", "1_000", "\u0661", "\uff10.9", "1\n", "0." + "1" * 19, "1" * 19],
)  # fmt: skip
def test_what_is_no_plain_decimal_is_refused(text):
    assert refusal(canonical.parse_decimal, text) == f"{text!r} is not a decimal, write '0.80'"


# ---- instants -------------------------------------------------------------------------------


@settings(max_examples=150, deadline=None)
@given(st.datetimes(datetime(1000, 1, 1), datetime(9999, 12, 30), timezones=st.just(UTC)))  # noqa: DTZ001 -- hypothesis wants naive bounds
def test_a_time_reads_back_as_it_was_written(at):
    text = canonical.format_at(at)
    assert canonical.parse_at(text) == at
    assert text.endswith("Z")
    assert len(text) == len("2026-01-01T00:00:00.000000Z")


def test_a_time_of_another_zone_is_written_in_utc():
    east = datetime(2026, 1, 1, 1, tzinfo=timezone(timedelta(hours=2)))
    assert canonical.format_at(east) == "2025-12-31T23:00:00.000000Z"


@pytest.mark.parametrize("text", ["2026-01-01T00:00:00Z", "2026-01-01T00:00:00.0Z"])
def test_fewer_decimals_are_read(text):
    assert canonical.parse_at(text) == datetime(2026, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    "text",
    ["", "2026-01-01", "2026-01-01T00:00:00", "2026-01-01 00:00:00Z", "2026-01-01T00:00:00z",
     "2026-01-01T00:00:00+00:00", "2026-13-01T00:00:00Z", "2026-02-30T00:00:00Z",
     "2026-01-01T24:00:00Z", "2026-01-01T00:00:60Z", "2026-01-01T00:00:00.0000000Z",
     "2026-01-01T00:00:00Z\n", "now", "\uff12026-01-01T00:00:00Z"],
)  # fmt: skip
def test_what_is_no_time_is_told_what_to_write(text):
    message = f"{text!r} is not a time, write '2026-01-01T00:00:00Z'"
    assert refusal(canonical.parse_at, text) == message


# ---- names and text -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["a", "7", "did:vm:agent:7", "ada@example.org", "node/1", "a_b-c.d", "A" * 255]
)
def test_a_name_is_returned_as_it_was(name):
    assert canonical.check_name(name) == name


def test_names_never_fold_case():
    assert canonical.check_name("Ada") != canonical.check_name("ada")


@pytest.mark.parametrize(
    "name",
    ["", ":a", "-a", "_a", ".a", "@a", "a b", "a*", "did:vm:agent:*", "a\n", "a\x00", "a,b", 'a"',
     "\u0430da", "ad\u0430", "a\u200b", "\uff41da", "a\u0301", "a\uff44a", "Ⅷ", "a\u202eb"],
)  # fmt: skip
def test_what_is_no_name_is_told_what_a_name_is(name):
    assert refusal(canonical.check_name, name) == (
        f"principal {name!r} is not a name: start with a letter or digit, go on with letters, "
        "digits and : . _ / @ -"
    )


def test_a_name_of_256_characters_is_too_long():
    message = refusal(canonical.check_name, "a" * 256, what="actor")
    assert message == "actor has 256 characters, at most 255 are allowed"


def test_a_message_about_a_name_says_what_the_name_was_for():
    assert refusal(canonical.check_name, "a b", what="trigger").startswith("trigger 'a b' is not")


@pytest.mark.parametrize(
    "text", ["", "look at ticket 4711", "öffnen 🔥", "naïve — “quoted”", "日本"]
)
def test_text_that_reads_as_it_is_passes(text):
    assert canonical.check_text(text, what="the reason", most_bytes=1_024) == text


@pytest.mark.parametrize(
    "character",
    ["\x00", "\t", "\n", "\r", "\x1b", "\x7f", "\x85", "\x9b", "\u2028", "\u2029", "\ud800",
     "\u202a", "\u202b", "\u202c", "\u202d", "\u202e", "\u2066", "\u2067", "\u2068", "\u2069",
     "\u061c", "\u200e", "\u200f"],
)  # fmt: skip
def test_a_character_that_could_hide_what_is_said_is_named_with_its_place(character):
    message = refusal(canonical.check_text, f"ok{character}", what="the reason", most_bytes=1_024)
    assert message == (
        f"the reason has the control character U+{ord(character):04X} at position 2, "
        "which could hide what it says: leave it out"
    )


@pytest.mark.parametrize("text", ["a" * 1_024, "é" * 512, "🔥" * 256])
def test_1024_bytes_are_allowed_and_one_more_is_not(text):
    assert canonical.check_text(text, what="the reason", most_bytes=1_024) == text
    message = refusal(canonical.check_text, f"{text}x", what="the reason", most_bytes=1_024)
    assert message == "the reason has 1,025 bytes, at most 1,024 are allowed"

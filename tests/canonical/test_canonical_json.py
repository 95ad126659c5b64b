import contextlib
import json
import string

import pytest
import rfc8785
from hypothesis import given, settings
from hypothesis import strategies as st

from vmstate import canonical
from vmstate.errors import InputError

KEYS = st.text(st.characters(max_codepoint=127), max_size=8)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
INTEGERS = st.integers(-(2**53) + 1, 2**53 - 1)
VALUES = st.recursive(
    st.none() | st.booleans() | INTEGERS | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=300, deadline=None)
@given(VALUES)
def test_the_bytes_are_those_of_another_jcs_encoder(value):
    assert canonical.encode(value) == rfc8785.dumps(value)


@settings(max_examples=150, deadline=None)
@given(VALUES)
def test_what_was_encoded_decodes_to_the_same_value(value):
    assert canonical.decode(canonical.encode(value)) == value


@settings(max_examples=150, deadline=None)
@given(VALUES)
def test_parse_reads_any_spacing_and_decode_refuses_it(value):
    spaced = json.dumps(value, indent=2, ensure_ascii=True).encode()
    assert canonical.parse(spaced) == value
    if spaced != canonical.encode(value):
        with pytest.raises(InputError, match="not in its canonical spelling"):
            canonical.decode(spaced)


@settings(max_examples=150, deadline=None)
@given(VALUES, VALUES)
def test_two_values_have_the_same_bytes_only_if_they_are_the_same(one, other):
    # `True == 1` in Python and not in JSON, so types are compared through another encoder.
    same = json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)
    assert (canonical.encode(one) == canonical.encode(other)) == same


def test_a_tuple_is_a_list():
    assert canonical.encode((1, ("a",))) == b'[1,["a"]]'


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (0.5, "0.5 is float: write numbers as decimal text"),
        ({"a": [1.0]}, "1.0 is float: write numbers as decimal text"),
        (float("nan"), "nan is float: write numbers as decimal text"),
        (2**53, "9007199254740992 is not below 2^53"),
        ([-(2**53)], "-9007199254740992 is not below 2^53"),
        (10**30, f"{10**30} is not below 2^53"),
        ({"é": 1}, "key 'é' is not ASCII text"),
        ({"a": {"\u0430": 1}}, "key '\u0430' is not ASCII text"),
        ({"\ud800": 1}, r"key '\ud800' is not ASCII text"),
        ("\ud800", "not canonical JSON: str is not valid UTF-8: surrogates not allowed"),
        (b"bytes", "b'bytes' is bytes: write numbers as decimal text"),
        ({1, 2}, "{1, 2} is set: write numbers as decimal text"),
    ],
)
def test_a_value_outside_the_profile_is_refused(value, message):
    with pytest.raises(InputError) as caught:
        canonical.encode(value)
    assert str(caught.value) == message


@pytest.mark.parametrize("value", [2**53 - 1, -(2**53) + 1, 0, True, None, "", [], {}])
def test_the_edges_of_the_profile_are_inside(value):
    assert canonical.decode(canonical.encode(value)) == value


@pytest.mark.parametrize(
    "spelling",
    [
        b'{"a":1,"a":1}',
        b'{"a":1,"a":2}',
        b'{"b":1,"a":1}',
        b'{"a": 1}',
        b' {"a":1}',
        b'{"a":1}\n',
        b"[1 ,2]",
        b"-0",
        rb'"\u0061"',
        rb'"\/"',
        rb'"\u000A"',
        rb'"\u00e9"',
    ],
)
def test_decode_refuses_every_other_spelling(spelling):
    canonical.parse(spelling)
    with pytest.raises(InputError) as caught:
        canonical.decode(spelling)
    assert str(caught.value) == "JSON is not in its canonical spelling (RFC 8785)"


@pytest.mark.parametrize(
    "data",
    [b"", b"{", b"nul", b"[1,]", b"'a'", b"NaN", b"\xff", rb'"\ud800"', b"1e400", b'{"a":1}{}'],
)
def test_what_is_not_json_is_said_to_be_none(data):
    with pytest.raises(InputError, match=r"^not JSON: "):
        canonical.parse(data)


@pytest.mark.parametrize("data", [b"1.0", b"1e3", b'{"a":[0.1]}', b"99999999999999999999"])
def test_a_number_that_is_not_whole_and_safe_is_not_read(data):
    with pytest.raises(InputError, match="write numbers as decimal text"):
        canonical.parse(data)
    with pytest.raises(InputError, match="write numbers as decimal text"):
        canonical.decode(data)


@pytest.mark.parametrize("depth", [200, 1_000, 1_024, 5_000, 100_000])
def test_nesting_without_measure_is_an_input_error_at_worst(depth):
    with contextlib.suppress(InputError):
        assert canonical.parse(b"[" * depth + b"]" * depth)


def test_the_digest_names_its_algorithm():
    # `printf abc | sha256sum`
    known = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert canonical.digest(b"abc") == f"sha256:{known}"


@settings(max_examples=100, deadline=None)
@given(st.dictionaries(st.text(string.printable, min_size=1, max_size=6), INTEGERS, min_size=2))
def test_the_order_in_which_keys_were_added_has_no_meaning(table):
    backwards = dict(reversed(table.items()))
    assert canonical.encode(table) == canonical.encode(backwards)

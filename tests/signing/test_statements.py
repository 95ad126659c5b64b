import base64
import json
import subprocess
from datetime import UTC, datetime, timedelta

import pytest
import rfc8785

from vmstate.errors import InputError
from vmstate.keys import PrivateKey
from vmstate.signing import (
    STATEMENT_BYTES,
    Order,
    Request,
    approve,
    assemble,
    attest,
    read_request,
    read_signed,
    read_statement,
    sign,
)

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
ADA, GIL = "did:vm:operator:ada", "did:vm:guardian:gil"
KEY, OTHER = PrivateKey.derive("gil"), PrivateKey.derive("somebody else")
NONCE = "0123456789abcdef" * 2
REQUEST = Request(
    principal=ADA,
    to="guardian",
    trigger="operator_request",
    facts={"threat.confidence": "0.92"},
    reason="look at ticket 4711",
    ttl_us=900_000_000,
    origin="small/12345678",
    constitution=f"sha256:{'a' * 64}",
    nonce=NONCE,
)
APPROVED = approve(REQUEST, GIL, KEY, expires_at=NOON)
ATTESTED = attest(REQUEST, GIL, KEY, at=NOON)
ENDED = sign(
    Order(
        by=GIL,
        origin=REQUEST.origin,
        constitution=REQUEST.constitution,
        verb="release",
        arguments={"lease": "lease-1", "ending": "sovereign_revoke"},
        reason="",
        expires_at="2026-01-01T12:00:00.000000Z",
        nonce=NONCE,
    ),
    KEY,
)
SIGNED = {"approval": APPROVED, "attestation": ATTESTED, "order": ENDED}
FIELDS = {
    "request": "v principal to trigger facts reason ttl_us origin constitution nonce",
    "approval": "v kind by origin request constitution nonce expires_at",
    "attestation": "v kind by origin constitution principal facts at nonce",
    "order": "v kind by origin constitution verb arguments reason expires_at nonce",
}


def spelled(body):
    return json.dumps(body).encode()


def refusal(read, data):
    with pytest.raises(InputError) as caught:
        read(data)
    return str(caught.value)


# ---- what is signed -------------------------------------------------------------------------


def test_a_request_is_exactly_its_fields_and_its_id_their_digest():
    assert sorted(REQUEST.body()) == sorted(FIELDS["request"].split())
    assert REQUEST.bytes() == rfc8785.dumps(REQUEST.body())
    changed = REQUEST.model_copy(update={"nonce": "0" * 32})
    assert changed.id != REQUEST.id


@pytest.mark.parametrize("kind", SIGNED)
def test_what_is_signed_is_exactly_the_statements_fields(kind):
    statement = SIGNED[kind].statement
    assert sorted(statement.body()) == sorted(FIELDS[kind].split())
    assert statement.bytes() == rfc8785.dumps(statement.body())
    assert statement.kind == kind


def test_an_approval_says_which_request_and_an_attestation_which_facts():
    assert APPROVED.statement.request == REQUEST.id
    assert APPROVED.statement.expires_at == "2026-01-01T12:00:00.000000Z"
    assert ATTESTED.statement.facts == REQUEST.facts
    assert ATTESTED.statement.principal == ADA
    for signed in (APPROVED, ATTESTED):
        assert signed.statement.origin == REQUEST.origin
        assert signed.statement.constitution == REQUEST.constitution


def test_two_like_approvals_are_two_statements():
    again = approve(REQUEST, GIL, KEY, expires_at=NOON)
    assert again.statement.id != APPROVED.statement.id


@pytest.mark.parametrize("kind", SIGNED)
def test_what_openssl_signs_over_the_statements_bytes_is_accepted(kind, tmp_path):
    statement = SIGNED[kind].statement
    KEY.save(tmp_path / "gil.key")
    (tmp_path / "statement").write_bytes(statement.bytes())
    command = ["openssl", "pkeyutl", "-sign", "-rawin", "-inkey", "gil.key", "-in", "statement"]
    made = subprocess.run(command, cwd=tmp_path, check=True, capture_output=True).stdout
    text = base64.b64encode(made).decode()
    by_hand = {"by": GIL, "key": str(KEY.public), "signature": text, "statement": statement.body()}
    assert read_signed(spelled(by_hand)).verifies(KEY.public)


# ---- what verifies --------------------------------------------------------------------------


@pytest.mark.parametrize("kind", SIGNED)
def test_a_statement_verifies_and_does_so_after_any_spacing(kind):
    signed = SIGNED[kind]
    assert signed.verifies(KEY.public)
    assert read_signed(json.dumps(signed.body(), indent=4).encode()) == signed


@pytest.mark.parametrize("kind", SIGNED)
def test_no_other_key_verifies_it(kind):
    signed = SIGNED[kind]
    assert not signed.verifies(OTHER.public)
    claimed = signed.model_copy(update={"key": str(OTHER.public)})
    assert not claimed.verifies(OTHER.public)
    assert not claimed.verifies(KEY.public)


def _changes():
    other = {
        "by": "did:vm:guardian:two",
        "origin": "small/87654321",
        "constitution": f"sha256:{'b' * 64}",
        "nonce": "f" * 32,
        "request": f"sha256:{'c' * 64}",
        "principal": "did:vm:operator:bob",
        "facts": {"threat.confidence": "0.99"},
        "at": "2026-01-01T12:00:01.000000Z",
        "expires_at": "2026-01-01T12:00:01.000000Z",
        "lease": "lease-2",
        "ending": "crisis_concluded",
        "reason": "another",
    }
    for kind in SIGNED:
        for name in FIELDS[kind].split():
            if name in other:
                yield pytest.param(kind, {name: other[name]}, id=f"{kind} {name}")


@pytest.mark.parametrize(("kind", "change"), list(_changes()))
def test_a_statement_with_one_field_changed_does_not_verify(kind, change):
    signed = SIGNED[kind]
    statement = signed.statement.model_copy(update=change)
    for by in {signed.by, statement.by}:
        forged = signed.model_copy(update={"statement": statement, "by": by})
        assert not forged.verifies(KEY.public)


def test_a_name_outside_that_differs_from_the_one_signed_does_not_verify():
    assert not APPROVED.model_copy(update={"by": "did:vm:sovereign:root"}).verifies(KEY.public)


def test_a_signature_has_one_base64_spelling():
    text = APPROVED.signature
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    unused_bits = text[:-3] + letters[letters.index(text[-3]) ^ 1] + "=="
    assert base64.b64decode(unused_bits) == base64.b64decode(text)
    for other in (unused_bits, text[:-1], f"{text}\n", f" {text}", text.replace("=", ""), "", "é"):
        assert not APPROVED.model_copy(update={"signature": other}).verifies(KEY.public)
    longer = base64.b64encode(base64.b64decode(text) + b"\0").decode()
    assert not APPROVED.model_copy(update={"signature": longer}).verifies(KEY.public)


# ---- what is read ---------------------------------------------------------------------------

WHAT = "a signed statement (vmstate sign)"


@pytest.mark.parametrize("read", [read_request, read_signed])
@pytest.mark.parametrize("data", [b"", b"{", b"{}{}", b"\xff", b"{\"by\":'a'}"])
def test_what_is_not_json_is_said_to_be_none(read, data):
    assert refusal(read, data).startswith("not JSON: ")


@pytest.mark.parametrize("read", [read_request, read_signed])
def test_brackets_without_end_are_refused_like_any_other_input(read):
    assert refusal(read, b"[" * 1_000 + b"]" * 1_000)


@pytest.mark.parametrize("read", [read_request, read_signed])
@pytest.mark.parametrize("data", [b"[]", b"1", b"null", b'"text"', b"{}"])
def test_what_is_no_statement_at_all_is_refused(read, data):
    assert refusal(read, data).startswith("this is not a ")


def test_a_file_that_is_too_long_is_not_even_parsed():
    data = b" " * STATEMENT_BYTES + b"{}"
    assert refusal(read_signed, data) == f"32,770 bytes is too long for {WHAT}: 32,768 at most"
    data = b" " * (STATEMENT_BYTES - 2) + b"{}"
    assert refusal(read_signed, data).startswith(f"this is not {WHAT}")


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"extra": 1}, "extra"),
        ({"v": 2}, "v"),
        ({"principal": "a b"}, "principal"),
        ({"principal": None}, "principal"),
        ({"to": 1}, "to"),
        ({"facts": {"a": 1}}, "facts.a"),
        ({"facts": ["a"]}, "facts"),
        ({"reason": "a\nb"}, "reason"),
        ({"reason": "a" * 1_025}, "reason"),
        ({"ttl_us": 0}, "ttl_us"),
        ({"ttl_us": "5"}, "ttl_us"),
        ({"constitution": "sha256:abc"}, "constitution"),
        ({"nonce": "A" * 32}, "nonce"),
        ({"nonce": "a" * 31}, "nonce"),
        ({"nonce": "a" * 32 + "\n"}, "nonce"),
    ],
)
def test_a_request_with_a_field_of_no_form_is_refused_with_its_place(change, where):
    message = refusal(read_request, spelled({**REQUEST.body(), **change}))
    assert message.startswith(f"this is not a prepared request (vmstate request new): {where}")


@pytest.mark.parametrize("field", [f for f in REQUEST.body() if f != "v"])
def test_a_request_with_a_field_missing_is_refused(field):
    body = {key: value for key, value in REQUEST.body().items() if key != field}
    assert f": {field}: " in refusal(read_request, spelled(body))


@pytest.mark.parametrize(
    "change",
    [
        {"extra": 1},
        {"by": "a b"},
        {"key": 1},
        {"signature": None},
        {"statement": None},
        {"statement": REQUEST.body()},
        {"statement": {**APPROVED.statement.body(), "kind": "blessing"}},
        {"statement": {**APPROVED.statement.body(), "kind": "attestation"}},
        {"statement": {**APPROVED.statement.body(), "extra": 1}},
        {"statement": {**APPROVED.statement.body(), "expires_at": "2026-01-01T12:00:00Z"}},
        {"statement": {**APPROVED.statement.body(), "request": "sha256:ABC"}},
        {"statement": {**ATTESTED.statement.body(), "facts": {"a": 0.5}}},
    ],
    ids=range(12),
)
def test_a_signed_statement_of_no_form_is_refused(change):
    refusal(read_signed, spelled({**APPROVED.body(), **change}))


def test_a_message_about_a_field_speaks_our_words_only():
    message = refusal(read_request, spelled({**REQUEST.body(), "principal": "a b"}))
    assert message == (
        "this is not a prepared request (vmstate request new): principal: principal 'a b' is not "
        "a name: start with a letter or digit, go on with letters, digits and : . _ / @ -"
    )


def test_a_request_is_no_signed_statement_and_a_signed_statement_no_request():
    refusal(read_signed, REQUEST.bytes())
    refusal(read_request, spelled(APPROVED.body()))


@pytest.mark.parametrize(
    "made", [REQUEST, APPROVED, *(signed.statement for signed in SIGNED.values())], ids=type
)
def test_a_statement_cannot_be_changed_once_it_is_made(made):
    with pytest.raises(ValueError, match="frozen"):
        made.by = GIL


def test_a_time_that_is_not_utc_is_signed_in_utc():
    later = approve(REQUEST, GIL, KEY, expires_at=NOON + timedelta(hours=1))
    assert later.statement.expires_at == "2026-01-01T13:00:00.000000Z"


# ---- signed elsewhere -----------------------------------------------------------------------


@pytest.mark.parametrize("kind", SIGNED)
def test_a_statement_is_read_from_exactly_the_bytes_that_were_signed(kind):
    signed = SIGNED[kind]
    data = signed.statement.bytes()
    assert read_statement(data) == signed.statement
    assert assemble(read_statement(data), KEY.public, KEY.sign(data)) == signed
    for other in (data + b"\n", b" " + data, json.dumps(signed.statement.body()).encode()):
        assert refusal(read_statement, other) == (
            "this is not a statement (vmstate sign --statement-only): keys in their order, "
            "no space and no line's end; a signature is over exactly these bytes"
        )


def test_a_signature_that_is_not_the_keys_over_the_statement_is_not_put_beside_it():
    statement = APPROVED.statement
    for signature in (b"", bytes(64), OTHER.sign(statement.bytes()), KEY.sign(b"another")):
        with pytest.raises(InputError) as caught:
            assemble(statement, KEY.public, signature)
        assert str(caught.value) == (
            f"this is not a signature over the statement by the key of {GIL}, needs one by "
            f"{KEY.public.fingerprint} (ed25519) over exactly its bytes"
        )


def test_what_is_of_no_kind_that_is_signed_is_no_statement():
    what = "this is not a statement (vmstate sign --statement-only)"
    for body in ({}, REQUEST.body(), {**APPROVED.statement.body(), "kind": "blessing"}):
        assert (
            refusal(read_statement, spelled(body)) == f"{what}: it: its kind is none that is signed"
        )

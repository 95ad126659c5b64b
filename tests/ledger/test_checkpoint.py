"""Checkpoints and verifier keys: one spelling each, and openssl reads them as we do."""

import base64
import hashlib
import re
import string
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmstate.errors import TamperError
from vmstate.keys import PrivateKey
from vmstate.ledger.checkpoint import Checkpoint, VerifierKey, open_checkpoint, sign_checkpoint
from vmstate.ledger.merkle import Tree, leaf_hash

ORIGIN = "vaultmesh/1f2e3d4c"
KEY = PrivateKey.derive("checkpoint")
OURS = VerifierKey(ORIGIN, KEY.public)
HEAD = Checkpoint(ORIGIN, 42, hashlib.sha256(b"root").digest())
NOTE = sign_checkpoint(HEAD, KEY)
OTHER = sign_checkpoint(HEAD, PrivateKey.derive("somebody else")).split("\n\n")[1]
SPKI = bytes.fromhex("302a300506032b6570032100")  # what X.509 writes before an Ed25519 key

# The example of C2SP signed-note, which the tests of Go's golang.org/x/mod/sumdb/note use too.
PETER = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
PETER_SAYS = (
    "If you think cryptography is the answer to your problem,\n"
    "then you don't know what your problem is.\n"
)
PETER_SIGNS = (
    "\u2014 PeterNeumann "
    "x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n"
)


def refusal(note, key=OURS):
    with pytest.raises(TamperError) as caught:
        open_checkpoint(note, key)
    return str(caught.value)


# ---- the note -------------------------------------------------------------------------------


def test_a_note_is_three_lines_an_empty_one_and_a_signature():
    assert NOTE.split("\n")[:4] == [ORIGIN, "42", base64.b64encode(HEAD.root).decode(), ""]
    signature = re.fullmatch(f"\u2014 {ORIGIN} ([A-Za-z0-9+/=]+)\n", NOTE.split("\n\n")[1])
    raw = base64.b64decode(signature[1])
    assert raw[:4] == OURS.key_id
    assert len(raw) == 4 + 64


@given(st.integers(0, 300))
def test_what_was_signed_is_read_back(size):
    tree = Tree()
    for n in range(size):
        tree = tree.append(leaf_hash(b"%d" % n))
    checkpoint = Checkpoint.of(ORIGIN, tree)
    assert open_checkpoint(sign_checkpoint(checkpoint, KEY), OURS) == checkpoint
    assert (checkpoint.size, checkpoint.root) == (size, tree.root())


def test_openssl_verifies_the_text_of_a_note(tmp_path):
    text, signature = NOTE.split("\n\n")
    (tmp_path / "text").write_bytes(f"{text}\n".encode())
    (tmp_path / "signature").write_bytes(base64.b64decode(signature.split(" ")[2])[4:])
    (tmp_path / "key").write_bytes(SPKI + KEY.public.raw)
    verify = (
        "openssl pkeyutl -verify -rawin -pubin -keyform DER -inkey key -in text -sigfile signature"
    )
    done = subprocess.run(verify.split(), cwd=tmp_path, capture_output=True, check=False)
    assert done.stdout == b"Signature Verified Successfully\n"
    (tmp_path / "text").write_bytes(f"{text.replace('42', '43')}\n".encode())
    done = subprocess.run(verify.split(), cwd=tmp_path, capture_output=True, check=False)
    assert done.returncode != 0


@given(st.data())
def test_a_changed_byte_is_refused(data):
    raw = bytearray(NOTE.encode())
    place = data.draw(st.integers(0, len(raw) - 1))
    raw[place] = data.draw(st.integers(0, 255).filter(lambda byte: byte != raw[place]))
    try:
        changed = raw.decode()
    except UnicodeDecodeError:
        return
    refusal(changed)


@pytest.mark.parametrize("letter", sorted({*string.ascii_letters, *string.digits, *"+/"}))
def test_the_bits_that_base64_leaves_over_are_not_a_second_spelling(letter):
    changed = f"{NOTE[:-3]}{letter}{NOTE[-2:]}"
    if changed != NOTE:
        refusal(changed)


@given(st.data())
def test_a_note_cut_short_is_refused(data):
    refusal(NOTE[: data.draw(st.integers(0, len(NOTE) - 1))])


@pytest.mark.parametrize(
    ("text", "spelled"),
    {
        "a leading zero": (f"{ORIGIN}\n042\n", True),
        "a sign": (f"{ORIGIN}\n+42\n", True),
        "a size in other digits": (f"{ORIGIN}\n\u0664\u0662\n", True),
        "an empty origin": ("\n42\n", True),
        "an origin with a space": ("vault mesh\n42\n", True),
        "an origin with a plus": ("vault+mesh\n42\n", True),
        "an origin with a control character": ("vault\x01mesh\n42\n", True),
        "no root": (f"{ORIGIN}\n42\n", False),
    }.values(),
)
def test_any_other_spelling_of_a_checkpoint_is_refused(text, spelled):
    root = base64.b64encode(HEAD.root).decode()
    with pytest.raises(TamperError, match="malformed checkpoint"):
        Checkpoint.parse(f"{text}{root}\n" if spelled else text)


@pytest.mark.parametrize(
    "root", ["", "AAAA", base64.b64encode(bytes(33)).decode(), "A" * 42 + "B="]
)
def test_a_root_that_is_not_32_bytes_in_strict_base64_is_refused(root):
    with pytest.raises(TamperError, match="malformed checkpoint"):
        Checkpoint.parse(f"{ORIGIN}\n42\n{root}\n")


def test_an_extension_line_is_refused_even_if_it_is_signed():
    text = f"{HEAD.text()}extra\n"
    signed = base64.b64encode(OURS.key_id + KEY.sign(text.encode())).decode()
    assert "malformed checkpoint" in refusal(f"{text}\n\u2014 {ORIGIN} {signed}\n")


# ---- whose signature ------------------------------------------------------------------------


@pytest.mark.parametrize("ours_first", [True, False])
def test_signatures_by_others_are_passed_over(ours_first):
    text, ours = NOTE.split("\n\n")
    witness = f"\u2014 witness.example/w1 {base64.b64encode(bytes(76)).decode()}\n"
    lines = [ours, OTHER, witness] if ours_first else [OTHER, witness, ours]
    assert open_checkpoint(f"{text}\n\n{''.join(lines)}", OURS) == HEAD


def test_a_note_without_our_signature_is_refused():
    text = HEAD.text()
    missing = f"the note has no signature by {ORIGIN} with key {OURS.key_id.hex()}"
    assert refusal(f"{text}\n{OTHER}") == missing
    renamed = NOTE.replace(f"\u2014 {ORIGIN}", "\u2014 vaultmesh/00000000")
    assert refusal(renamed) == missing


def test_our_signature_over_something_else_is_refused():
    other = sign_checkpoint(Checkpoint(ORIGIN, 43, HEAD.root), KEY).split("\n\n")[1]
    assert refusal(f"{HEAD.text()}\n{other}") == f"the signature of {ORIGIN} does not verify"


@pytest.mark.parametrize("cut", [0, 1, 63])
def test_a_signature_of_another_length_is_refused(cut):
    raw = OURS.key_id + KEY.sign(HEAD.text().encode())[:cut]
    note = f"{HEAD.text()}\n\u2014 {ORIGIN} {base64.b64encode(raw).decode()}\n"
    assert refusal(note) == f"the signature of {ORIGIN} does not verify"


@pytest.mark.parametrize(
    "line",
    [
        "",
        "junk",
        "- vaultmesh/1 AAAAAAAA",
        "\u2014 w",
        "\u2014 w !!!!",
        "\u2014 w AA==",
        "\u2014  AAAAAAAA",
    ],
)
@pytest.mark.parametrize("after_ours", [True, False])
def test_a_line_that_is_no_signature_makes_the_note_malformed(line, after_ours):
    text, ours = NOTE.split("\n\n")
    lines = f"{ours}{line}\n" if after_ours else f"{line}\n{ours}"
    assert "malformed note" in refusal(f"{text}\n\n{lines}")


# ---- the verifier key -----------------------------------------------------------------------


def test_the_key_id_is_the_start_of_the_hash_that_the_specification_names():
    named = ORIGIN.encode() + b"\n\x01" + KEY.public.raw
    assert OURS.key_id == hashlib.sha256(named).digest()[:4]


def test_a_verifier_key_is_read_back():
    assert VerifierKey.parse(str(OURS)) == OURS


def test_the_published_example_is_read_and_its_signature_verifies():
    peter = VerifierKey.parse(PETER)
    assert str(peter) == PETER
    assert (peter.name, peter.key_id.hex()) == ("PeterNeumann", "c74f20a3")
    raw = base64.b64decode(PETER_SIGNS.split(" ")[2])
    assert raw[:4] == peter.key_id
    assert peter.public.verifies(raw[4:], PETER_SAYS.encode())
    # It is a signed note, and no checkpoint: the signature holds and the text is refused.
    assert "malformed checkpoint" in refusal(f"{PETER_SAYS}\n{PETER_SIGNS}", peter)
    forged = PETER_SAYS.replace("answer", "enigma")
    assert "does not verify" in refusal(f"{forged}\n{PETER_SIGNS}", peter)


@given(st.data())
def test_any_other_spelling_of_a_verifier_key_is_refused(data):
    text = str(OURS)
    place = data.draw(st.integers(0, len(text) - 1))
    letter = data.draw(st.characters(codec="utf-8").filter(lambda one: one != text[place]))
    with pytest.raises(TamperError, match="malformed verifier key"):
        VerifierKey.parse(f"{text[:place]}{letter}{text[place + 1 :]}")


@pytest.mark.parametrize("name", ["", "two words", "two\nlines", "no\u00a0break", "nul\x00"])
def test_a_name_that_no_note_can_carry_is_refused(name):
    with pytest.raises(TamperError, match="malformed verifier key"):
        VerifierKey.parse(str(VerifierKey(name, KEY.public)))


@pytest.mark.parametrize("kind", [b"\x00", b"\x02", b"\x04", b""])
def test_a_key_of_another_kind_is_refused(kind):
    named = hashlib.sha256(ORIGIN.encode() + b"\n" + kind + KEY.public.raw).digest()[:4]
    encoded = base64.b64encode(kind + KEY.public.raw).decode()
    with pytest.raises(TamperError, match="malformed verifier key"):
        VerifierKey.parse(f"{ORIGIN}+{named.hex()}+{encoded}")

import base64
import re
import subprocess

import pytest

from vmstate.errors import InputError
from vmstate.keys import Ed25519Key, PrivateKey, PublicKey, load_public

NOT_A_KEY = (
    "is not a key, write 'ed25519:' and 32 bytes in base64, or the line of an OpenSSH .pub file"
)

# RFC 8032 section 7.1: secret key, public key, message, signature.
VECTORS = {
    "test 1": (
        "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        "",
        (
            "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e06522490155"
            "5fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b"
        ),
    ),
    "test 2": (
        "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        "72",
        (
            "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
            "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"
        ),
    ),
    "test 3": (
        "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
        "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
        "af82",
        (
            "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac"
            "18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a"
        ),
    ),
}


@pytest.mark.parametrize("vector", VECTORS.values(), ids=VECTORS.keys())
def test_the_vectors_of_rfc_8032_hold(vector):
    seed, public, message, signature = map(bytes.fromhex, vector)
    key = PrivateKey(seed)
    assert key.public.raw == public
    assert key.sign(message) == signature
    assert Ed25519Key(public).verifies(signature, message)
    assert not Ed25519Key(public).verifies(signature, message + b"\0")
    assert not Ed25519Key(public).verifies(signature[:-1], message)
    assert not Ed25519Key(public).verifies(bytes(64), message)


def test_a_signature_with_the_group_order_added_does_not_verify():
    # Ed25519's scalar has one spelling (RFC 8032 section 5.1.7): S and S + L are not both good.
    key = PrivateKey.derive("malleable")
    signature = key.sign(b"m")
    order = 2**252 + 27742317777372353535851937790883648493
    scalar = int.from_bytes(signature[32:], "little") + order
    assert not key.public.verifies(signature[:32] + scalar.to_bytes(32, "little"), b"m")


def test_a_public_key_has_one_text():
    key = PrivateKey.derive("one text").public
    assert PublicKey.parse(str(key)) == key
    assert hash(PublicKey.parse(str(key))) == hash(key)
    assert re.fullmatch(r"ed25519:[A-Za-z0-9+/]{43}=", str(key))
    assert key != str(key)


def _spellings(text):
    encoded = text.removeprefix("ed25519:")
    raw = base64.b64decode(encoded)
    # 32 bytes leave two unused bits in the last character: another letter decodes the same.
    last = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    sibling = last[last.index(encoded[42]) ^ 1]
    return {
        "no prefix": encoded,
        "another algorithm": f"rsa:{encoded}",
        "capital prefix": f"ED25519:{encoded}",
        "no padding": text.rstrip("="),
        "unused bits set": f"ed25519:{encoded[:42]}{sibling}=",
        "a space": f"ed25519: {encoded}",
        "a line break": f"{text}\n",
        "31 bytes": f"ed25519:{base64.b64encode(raw[:31]).decode()}",
        "33 bytes": f"ed25519:{base64.b64encode(raw + raw[:1]).decode()}",
        "hexadecimal": f"ed25519:{raw.hex()}",
        "not ASCII": f"ed25519:é{encoded[1:]}",
        "nothing": "",
    }


@pytest.mark.parametrize("case", _spellings(str(PrivateKey.derive("x").public)))
def test_any_other_spelling_of_a_key_is_told_what_to_write(case):
    text = _spellings(str(PrivateKey.derive("x").public))[case]
    with pytest.raises(InputError) as caught:
        PublicKey.parse(text)
    shown = repr(text if len(text) <= 80 else f"{text[:80]}…")
    assert str(caught.value) == f"{shown} {NOT_A_KEY}"


@pytest.mark.parametrize(
    "secret",
    ["-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQ\n", "vmt_0123456789", "OPENSSH PRIVATE KEY"],
)
def test_a_secret_given_as_a_public_key_is_not_repeated(secret):
    with pytest.raises(InputError) as caught:
        PublicKey.parse(secret)
    assert str(caught.value) == f"a secret {NOT_A_KEY}"


def test_a_private_key_has_no_text_that_shows_it():
    seed = bytes(range(32))
    key = PrivateKey(seed)
    for text in (repr(key), str(key), f"{key}", repr([key])):
        assert key.public.fingerprint in text
        assert seed.hex() not in text
        assert base64.b64encode(seed).decode() not in text


FIELD = 2**255 - 19
ORDER_8 = 2707385501144840649318225287225658788936804267575313519463743609750303021402


@pytest.mark.parametrize("y", [0, 1, FIELD - 1, FIELD, FIELD + 1, ORDER_8, FIELD - ORDER_8])
@pytest.mark.parametrize("sign", [0, 2**255])
def test_a_key_for_which_anybody_can_sign_is_refused(y, sign):
    raw = (y + sign).to_bytes(32, "little")
    text = f"ed25519:{base64.b64encode(raw).decode()}"
    with pytest.raises(InputError, match=r"is a key for which anybody can sign: make another$"):
        PublicKey.parse(text)


def test_under_such_a_key_a_signature_verifies_that_no_private_key_made():
    nobody = Ed25519Key((1).to_bytes(32, "little"))
    assert nobody.verifies((1).to_bytes(32, "little") + bytes(32), b"whatever it says")


def test_a_stand_in_has_the_same_key_from_the_same_parts_only():
    assert PrivateKey.derive("a", "b").public == PrivateKey.derive("a", "b").public
    others = [PrivateKey.derive(*p).public for p in (["b", "a"], ["ab"], ["a", "b", ""], ["a,b"])]
    assert PrivateKey.derive("a", "b").public not in others
    assert PrivateKey.generate().public != PrivateKey.generate().public


# ---- files ----------------------------------------------------------------------------------


def test_a_key_file_can_be_read_by_its_owner_only_and_reads_back(tmp_path):
    path = tmp_path / "ada.key"
    key = PrivateKey.generate()
    key.save(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert PrivateKey.load(path).public == key.public


def test_a_key_file_is_never_overwritten(tmp_path):
    path = tmp_path / "ada.key"
    PrivateKey.generate().save(path)
    before = path.read_bytes()
    with pytest.raises(InputError) as caught:
        PrivateKey.generate().save(path)
    assert str(caught.value) == f"key file {path} cannot be made: File exists"
    assert path.read_bytes() == before


def test_a_key_file_is_not_written_through_a_link(tmp_path):
    (tmp_path / "ada.key").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(InputError, match="cannot be made: File exists"):
        PrivateKey.generate().save(tmp_path / "ada.key")
    assert not (tmp_path / "elsewhere").exists()


def test_a_key_file_in_no_folder_is_not_made(tmp_path):
    path = tmp_path / "none" / "ada.key"
    with pytest.raises(InputError) as caught:
        PrivateKey.generate().save(path)
    assert str(caught.value) == f"key file {path} cannot be made: No such file or directory"


def openssl(*arguments, **options):
    return subprocess.run(["openssl", *arguments], check=True, capture_output=True, **options)


def test_a_key_that_openssl_made_is_read_and_gives_the_same_public_key(tmp_path):
    path = tmp_path / "made.pem"
    openssl("genpkey", "-algorithm", "ed25519", "-out", path)
    der = openssl("pkey", "-in", path, "-pubout", "-outform", "DER").stdout
    assert PrivateKey.load(path).public.raw == der[-32:]


def test_a_key_that_we_made_is_read_by_openssl(tmp_path):
    key = PrivateKey.generate()
    key.save(tmp_path / "ours.key")
    der = openssl("pkey", "-in", tmp_path / "ours.key", "-pubout", "-outform", "DER").stdout
    assert der[-32:] == key.public.raw


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-algorithm", "RSA"], "key file {} is not an Ed25519 key: make one, vmstate keys new"),
        (["-algorithm", "ED448"], "key file {} is not an Ed25519 key: make one, vmstate keys new"),
    ],
    ids=["RSA", "Ed448"],
)
def test_a_key_of_another_kind_is_refused(tmp_path, arguments, message):
    path = tmp_path / "other.pem"
    openssl("genpkey", *arguments, "-out", path)
    with pytest.raises(InputError) as caught:
        PrivateKey.load(path)
    assert str(caught.value) == message.format(path)


def test_a_key_file_behind_a_passphrase_is_refused_where_nobody_can_be_asked(tmp_path):
    path = tmp_path / "locked.key"
    PrivateKey.generate().save(path, b"secret")
    with pytest.raises(InputError) as caught:
        PrivateKey.load(path)
    assert str(caught.value) == f"key file {path} has a passphrase: give one without"


def test_a_key_file_behind_a_passphrase_opens_with_it_and_with_no_other(tmp_path):
    key, path = PrivateKey.generate(), tmp_path / "locked.key"
    key.save(path, b"correct horse")
    assert path.read_bytes().startswith(b"-----BEGIN ENCRYPTED PRIVATE KEY-----")
    assert path.stat().st_mode & 0o777 == 0o600
    asked = []

    def ask(file):
        asked.append(file)
        return b"correct horse"

    assert PrivateKey.load(path, ask).public == key.public
    assert asked == [path]
    with pytest.raises(InputError) as caught:
        PrivateKey.load(path, lambda _: b"battery staple")
    assert str(caught.value) == f"key file {path} does not open with this passphrase"


def test_nobody_is_asked_for_the_passphrase_of_a_file_that_has_none(tmp_path):
    PrivateKey.derive("open").save(tmp_path / "open.key")
    assert PrivateKey.load(tmp_path / "open.key", pytest.fail).public


@pytest.mark.parametrize("passphrase", [b"", b"a" * 1_024], ids=["no byte", "too many"])
def test_a_passphrase_has_a_byte_and_not_more_than_openssl_reads(tmp_path, passphrase):
    message = f"the passphrase has {len(passphrase):,} bytes, needs 1 to 1,023"
    key = PrivateKey.generate()
    with pytest.raises(InputError) as caught:
        key.save(tmp_path / "a.key", passphrase)
    assert str(caught.value) == message
    assert not (tmp_path / "a.key").exists()
    key.save(tmp_path / "a.key", b"a" * 1_023)
    with pytest.raises(InputError) as caught:
        PrivateKey.load(tmp_path / "a.key", lambda _: passphrase)
    assert str(caught.value) == message


def test_openssl_and_we_read_each_others_files_behind_a_passphrase(tmp_path):
    ours, theirs = tmp_path / "ours.key", tmp_path / "theirs.pem"
    key = PrivateKey.generate()
    key.save(ours, b"secret")
    out = ["-pubout", "-outform", "DER"]
    assert openssl("pkey", "-in", ours, "-passin", "pass:secret", *out).stdout[-32:] == (
        key.public.raw
    )
    openssl("genpkey", "-algorithm", "ed25519", "-aes256", "-pass", "pass:secret", "-out", theirs)
    der = openssl("pkey", "-in", theirs, "-passin", "pass:secret", *out).stdout
    assert PrivateKey.load(theirs, lambda _: b"secret").public.raw == der[-32:]


def test_the_public_half_is_read_from_a_private_file_and_a_public_one(tmp_path):
    key = PrivateKey.generate()
    key.save(tmp_path / "private.pem")
    openssl("pkey", "-in", tmp_path / "private.pem", "-pubout", "-out", tmp_path / "public.pem")
    for name in ("private.pem", "public.pem"):
        assert load_public(tmp_path / name) == key.public


def test_a_public_pem_of_another_kind_is_refused(tmp_path):
    path = tmp_path / "rsa.pem"
    openssl("genpkey", "-algorithm", "ED448", "-out", tmp_path / "ed448.pem")
    openssl("pkey", "-in", tmp_path / "ed448.pem", "-pubout", "-out", path)
    with pytest.raises(
        InputError, match=r"^this PEM is not an Ed25519 key: use one, or an SSH key"
    ):
        load_public(path)
    path.write_text("-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n")
    with pytest.raises(InputError, match=r"^this is not a public key in PEM form$"):
        load_public(path)


def test_a_file_that_is_far_too_long_is_no_key(tmp_path):
    path = tmp_path / "long"
    path.write_bytes(b"-" * 65_537)
    with pytest.raises(InputError) as caught:
        load_public(path)
    assert str(caught.value) == f"key file {path} has more than 65,536 bytes: that is no key"


def test_a_key_on_a_curve_that_no_library_supports_is_refused_like_any_other(tmp_path):
    # PKCS#8 of a key on secp112r1; written out because some builds of openssl can't make one.
    der = (
        "ME4CAQAwEAYHKoZIzj0CAQYFK4EEAAYENzA1AgEBBA5ezEF6z1ts/ZGhzSxw76EgAx4ABNNTq702uZsRAgr2n6OT"
        "Lcyd9umPqAbNVe31Qrs="
    )
    path = tmp_path / "curve.pem"
    path.write_text(f"-----BEGIN PRIVATE KEY-----\n{der}\n-----END PRIVATE KEY-----\n")
    with pytest.raises(InputError, match=re.escape(f"key file {path} is not ")):
        PrivateKey.load(path)


@pytest.mark.parametrize(
    "content",
    [b"", b"ed25519:AAAA", b"\xff\xfe", b"-----BEGIN PRIVATE KEY-----\nAAAA\n"],
    ids=["empty", "our own text", "not text", "cut off"],
)
def test_what_is_no_pem_is_refused(tmp_path, content):
    path = tmp_path / "no.pem"
    path.write_bytes(content)
    with pytest.raises(InputError) as caught:
        PrivateKey.load(path)
    assert str(caught.value) == f"key file {path} is not a private key in PEM form"


def test_a_public_key_file_is_no_private_key(tmp_path):
    PrivateKey.generate().save(tmp_path / "private.pem")
    openssl("pkey", "-in", tmp_path / "private.pem", "-pubout", "-out", tmp_path / "public.pem")
    with pytest.raises(InputError, match="is not a private key in PEM form"):
        PrivateKey.load(tmp_path / "public.pem")


def test_a_key_file_that_is_not_there_is_named(tmp_path):
    path = tmp_path / "no.key"
    with pytest.raises(InputError) as caught:
        PrivateKey.load(path)
    assert str(caught.value) == f"key file {path} cannot be read: No such file or directory"

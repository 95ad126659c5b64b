"""SSH keys and their signatures, with `ssh-keygen` as the other opinion."""

import base64
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmstate.errors import InputError
from vmstate.keys import Ed25519Key, PublicKey, read_signature
from vmstate.keys.signatures import SshSignature
from vmstate.keys.wire import Reader

NOT_A_KEY = (
    "is not a key, write 'ed25519:' and 32 bytes in base64, or the line of an OpenSSH .pub file"
)
MESSAGE = b'{"by":"carol","kind":"approval"}'
SOFTWARE = {
    "ed25519": ("ed25519",),
    "ecdsa 256": ("ecdsa", "-b", "256"),
    "ecdsa 384": ("ecdsa", "-b", "384"),
    "ecdsa 521": ("ecdsa", "-b", "521"),
    "rsa 2048": ("rsa", "-b", "2048"),
}
HARDWARE = ("sk-ssh-ed25519@openssh.com", "sk-ecdsa-sha2-nistp256@openssh.com")


@pytest.fixture(scope="module", params=[*SOFTWARE, *HARDWARE])
def made(request, ssh):
    """A key of each kind: its line, and a signature over MESSAGE by it."""
    if request.param in HARDWARE:
        key = ssh.Authenticator(request.param)
        return key.line, key.sign(MESSAGE)
    path, line = ssh.key(*SOFTWARE[request.param])
    return line, ssh.inside(ssh.sign(path, MESSAGE))


# ---- what verifies --------------------------------------------------------------------------


def test_what_ssh_keygen_signs_or_accepts_verifies_and_over_no_other_message(made, ssh):
    line, signature = made
    key = PublicKey.parse(line)
    assert ssh.accepts(line, signature, MESSAGE)
    assert key.verifies(signature, MESSAGE)
    assert not key.verifies(signature, MESSAGE + b"\n")
    assert not key.verifies(signature, b"")


def test_a_signature_by_another_key_of_the_same_kind_does_not_verify(ssh):
    for kind in HARDWARE:
        one, other = ssh.Authenticator(kind), ssh.Authenticator(kind)
        assert not PublicKey.parse(other.line).verifies(one.sign(MESSAGE), MESSAGE)


def test_no_signature_with_one_bit_changed_verifies(made):
    line, signature = made
    key = PublicKey.parse(line)
    for position in range(len(signature)):
        changed = bytearray(signature)
        changed[position] ^= 1
        assert not key.verifies(bytes(changed), MESSAGE), position


def test_no_signature_cut_off_or_continued_verifies(made):
    line, signature = made
    key = PublicKey.parse(line)
    assert not any(key.verifies(signature[:end], MESSAGE) for end in range(len(signature)))
    assert not key.verifies(signature + b"\0", MESSAGE)


@given(st.binary(max_size=200))
def test_garbage_verifies_under_no_key_and_raises_nothing(ssh, data):
    key = PublicKey.parse(ssh.key("ed25519")[1])
    assert not key.verifies(data, MESSAGE)
    assert not key.verifies(b"SSHSIG\0\0\0\1" + data, MESSAGE)
    assert not key.verifies(ssh.enclose(key.wire, data), MESSAGE)


@given(st.binary(max_size=80), st.sampled_from(HARDWARE))
def test_garbage_from_an_authenticator_raises_nothing(authenticators, data, kind):
    key = authenticators[kind]
    for inner in (data, key.string(data) + b"\1\0\0\0\1"):
        blob = key.enclose(key.wire, key.string(kind.encode()) + inner)
        assert not key.verifies(blob, MESSAGE)


@pytest.fixture(scope="module")
def authenticators(ssh):
    class Key:
        def __init__(self, kind):
            parsed = PublicKey.parse(ssh.Authenticator(kind).line)
            self.wire, self.verifies = parsed.wire, parsed.verifies
            self.string, self.enclose = ssh.string, ssh.enclose

    return {kind: Key(kind) for kind in HARDWARE}


def test_a_signature_far_too_long_is_not_even_taken_apart(ssh):
    line = ssh.key("ed25519")[1]
    key = PublicKey.parse(line)
    assert not key.verifies(ssh.enclose(key.wire, bytes(2**20)), MESSAGE)


@pytest.mark.parametrize("hashed", ["sha256", "sha512"])
def test_both_hashes_of_ssh_are_understood(ssh, hashed):
    path, line = ssh.key("ed25519")
    signature = ssh.inside(ssh.sign(path, MESSAGE, hashed=hashed))
    assert PublicKey.parse(line).verifies(signature, MESSAGE)


def test_what_was_signed_to_sign_commits_or_files_counts_for_nothing(ssh):
    path, line = ssh.key("ed25519")
    for namespace in ("git", "file", "vmstate2"):
        signature = ssh.inside(ssh.sign(path, MESSAGE, namespace=namespace))
        assert not PublicKey.parse(line).verifies(signature, MESSAGE)


@pytest.mark.parametrize(
    "fields",
    [
        {"version": 2},
        {"reserved": b"x"},
        {"hashed": b"sha1"},
        {"hashed": b"md5"},
        {"namespace": b""},
    ],
    ids=str,
)
def test_a_wrapping_that_says_anything_unusual_is_refused(ssh, fields):
    key = ssh.Authenticator(ssh.SK_ED25519)
    blob = key.sign(MESSAGE, **fields)
    assert not PublicKey.parse(key.line).verifies(blob, MESSAGE)
    assert PublicKey.parse(key.line).verifies(key.sign(MESSAGE), MESSAGE)


def _around(ssh, line, made, *, signature=None, extra=b"", **fields):
    """The same signature with something changed that was not signed."""
    scheme = ssh.string(made.scheme)
    inner = scheme + ssh.string(signature or made.signature) + made.extra + extra
    return ssh.enclose(PublicKey.parse(line).wire, inner, **fields)


def test_what_stands_around_a_signature_has_one_spelling_too(made, ssh):
    line, signature = made
    key, parts = PublicKey.parse(line), SshSignature.parse(signature)
    assert _around(ssh, line, parts) == signature
    changed = {
        "something reserved": _around(ssh, line, parts, reserved=b"x"),
        "something behind": _around(ssh, line, parts, extra=b"\0"),
        "something behind the numbers": _around(
            ssh, line, parts, signature=parts.signature + b"\0\0\0\0"
        ),
    }
    assert [what for what, blob in changed.items() if key.verifies(blob, MESSAGE)] == []


def test_the_numbers_of_an_ecdsa_signature_have_one_spelling(ssh):
    path, line = ssh.key(*SOFTWARE["ecdsa 256"])
    parts = SshSignature.parse(ssh.inside(ssh.sign(path, MESSAGE)))
    numbers = Reader(parts.signature)
    r, s = numbers.string(), numbers.string()
    assert PublicKey.parse(line).verifies(_around(ssh, line, parts), MESSAGE)
    longer = ssh.string(b"\0" + r) + ssh.string(s)
    blob = _around(ssh, line, parts, signature=longer)
    assert not PublicKey.parse(line).verifies(blob, MESSAGE)


def test_rsa_with_a_shorter_hash_than_ssh_keygen_uses_is_refused(ssh):
    path, line = ssh.key(*SOFTWARE["rsa 2048"])
    signature = ssh.inside(ssh.sign(path, MESSAGE))
    renamed = signature.replace(b"rsa-sha2-512", b"rsa-sha2-256")
    assert renamed != signature
    assert not PublicKey.parse(line).verifies(renamed, MESSAGE)


# ---- keys in hardware -----------------------------------------------------------------------


@pytest.mark.parametrize("kind", HARDWARE)
def test_a_signature_without_a_touch_does_not_verify_although_it_is_the_keys_own(ssh, kind):
    key = ssh.Authenticator(kind)
    untouched = key.sign(MESSAGE, flags=ssh.VERIFIED)
    assert not PublicKey.parse(key.line).verifies(untouched, MESSAGE)
    assert ssh.accepts(key.line, untouched, MESSAGE)  # which leaves this to whoever asks


@pytest.mark.parametrize("kind", HARDWARE)
def test_a_pin_may_have_been_asked_for_and_need_not(ssh, kind):
    key = ssh.Authenticator(kind)
    for flags in (1, 1 | ssh.VERIFIED):
        signature = key.sign(MESSAGE, flags=flags)
        assert ssh.accepts(key.line, signature, MESSAGE)
        assert PublicKey.parse(key.line).verifies(signature, MESSAGE)


@pytest.mark.parametrize("kind", HARDWARE)
def test_the_touch_and_the_count_are_signed_too(ssh, kind):
    key = ssh.Authenticator(kind)
    untouched = key.sign(MESSAGE, flags=0)
    claimed = untouched[:-5] + b"\1" + untouched[-4:]
    assert not PublicKey.parse(key.line).verifies(claimed, MESSAGE)
    counted = key.sign(MESSAGE)
    assert not PublicKey.parse(key.line).verifies(counted[:-1] + b"\xff", MESSAGE)


@pytest.mark.parametrize("kind", HARDWARE)
def test_what_the_same_hardware_signed_for_another_application_does_not_verify(ssh, kind):
    key = ssh.Authenticator(kind)
    elsewhere = key.sign(MESSAGE, application=b"ssh:elsewhere")
    assert not PublicKey.parse(key.line).verifies(elsewhere, MESSAGE)


@pytest.mark.parametrize("kind", HARDWARE)
def test_bytes_after_the_count_are_refused(ssh, kind):
    key = ssh.Authenticator(kind)
    assert not PublicKey.parse(key.line).verifies(key.sign(MESSAGE, extra=b"\0"), MESSAGE)


@pytest.mark.parametrize("kind", HARDWARE)
def test_a_key_in_hardware_for_an_application_of_ones_own_is_a_key_too(ssh, kind):
    key = ssh.Authenticator(kind, application=b"ssh:vmstate")
    assert PublicKey.parse(key.line).application == b"ssh:vmstate"
    assert PublicKey.parse(key.line).verifies(key.sign(MESSAGE), MESSAGE)


# ---- how a key is written -------------------------------------------------------------------


def test_a_key_has_one_text_and_its_comment_is_no_part_of_it(made):
    line, _ = made
    text = " ".join(line.split()[:2])
    for spelled in (text, f"{text} ", f"{text} carol", f"{text} a b@c", line):
        assert str(PublicKey.parse(spelled)) == text
    assert PublicKey.parse(text).kind == text.split()[0]


def test_a_fingerprint_is_what_ssh_keygen_shows(made, ssh):
    line, _ = made
    (ssh.folder / "shown.pub").write_text(line)
    shown = ssh.keygen("-l", "-f", "shown.pub").stdout.decode().split()[1]
    assert PublicKey.parse(line).fingerprint == shown


def test_ed25519_has_the_same_fingerprint_in_either_spelling(ssh):
    line = ssh.key("ed25519")[1]
    plain = Ed25519Key(base64.b64decode(line.split()[1])[-32:])
    assert plain.fingerprint == PublicKey.parse(line).fingerprint


def test_keys_are_equal_if_one_private_key_signs_for_both(ssh):
    line = ssh.key("ed25519")[1]
    point = base64.b64decode(line.split()[1])[-32:]
    wire = ssh.string(b"sk-ssh-ed25519@openssh.com") + ssh.string(point) + ssh.string(b"ssh:")
    hardware = f"sk-ssh-ed25519@openssh.com {base64.b64encode(wire).decode()}"
    spellings = [str(Ed25519Key(point)), line, hardware]
    keys = {PublicKey.parse(text) for text in spellings}
    assert len(keys) == 1
    assert len({str(PublicKey.parse(text)) for text in spellings}) == 3
    others = [PublicKey.parse(ssh.Authenticator(kind).line) for kind in HARDWARE]
    assert len({*keys, *others, *map(PublicKey.parse, _lines(ssh))}) == 7


def _lines(ssh):
    return [ssh.key(*words)[1] for words in SOFTWARE.values()]


def test_ecdsa_in_hardware_equals_the_same_point_outside_it(ssh):
    hardware = ssh.Authenticator(ssh.SK_ECDSA)
    reader = hardware.public[len(ssh.string(ssh.SK_ECDSA.encode())) :]
    body = reader[: -len(ssh.string(b"ssh:"))]
    wire = ssh.string(b"ecdsa-sha2-nistp256") + body
    plain = f"ecdsa-sha2-nistp256 {base64.b64encode(wire).decode()}"
    assert PublicKey.parse(plain) == PublicKey.parse(hardware.line)


def test_no_other_spelling_of_a_key_is_read(made):
    line, _ = made
    kind, encoded, *_ = line.split()
    wire = base64.b64decode(encoded)
    longer = base64.b64encode(wire + b"\0").decode()
    cut = base64.b64encode(wire[:-1]).decode()
    for text in (
        encoded,
        kind,
        f"{kind}  {encoded}",
        f"{kind}\t{encoded}",
        f" {kind} {encoded}",
        f"{kind} {encoded}\n",
        f"{kind} {encoded} two\nlines",
        f'restrict,command="x" {kind} {encoded}',
        f"ssh-dss {encoded}",
        f"ssh-ed25519-cert-v01@openssh.com {encoded}",
        f"{kind.upper()} {encoded}",
        f"{kind} {longer}",
        f"{kind} {cut}",
        f"{kind} {encoded[:-4]}",
        f"{kind} {encoded} {'c' * 2_048}",
    ):
        with pytest.raises(InputError, match=r" is not a key, write 'ed25519:' and 32 bytes in "):
            PublicKey.parse(text)


def test_a_key_under_the_name_of_another_kind_is_refused(ssh):
    lines = [*_lines(ssh), *(ssh.Authenticator(kind).line for kind in HARDWARE)]
    for line in lines:
        for other in lines:
            kind, encoded = other.split()[0], line.split()[1]
            if kind != line.split()[0]:
                with pytest.raises(InputError, match=" is not a key, "):
                    PublicKey.parse(f"{kind} {encoded}")


def test_hardware_keys_for_another_program_than_ssh_are_refused(ssh):
    for kind in HARDWARE:
        with pytest.raises(InputError, match=" is not a key, "):
            PublicKey.parse(ssh.Authenticator(kind, application=b"https://example.org").line)


@given(st.sampled_from([*HARDWARE, "ssh-ed25519", "ssh-rsa", "ecdsa-sha2-nistp256"]), st.binary())
def test_garbage_is_no_key_and_says_so(ssh, kind, data):
    for wire in (data, ssh.string(kind.encode()) + data):
        with pytest.raises(InputError):
            PublicKey.parse(f"{kind} {base64.b64encode(wire).decode()}")


def test_an_rsa_key_too_short_to_trust_or_too_long_for_a_receipt_is_refused(ssh):
    line = ssh.rsa_line(1_024)
    with pytest.raises(InputError) as caught:
        PublicKey.parse(line)
    assert str(caught.value) == (
        f"'{line[:80]}…' is an RSA key of 1,024 bits, use 2,048 to 4,096, or better Ed25519"
    )


def test_an_rsa_key_with_a_boundless_exponent_is_refused(ssh):
    wire = base64.b64decode(ssh.rsa_line(2_048).split()[1])
    modulus = wire[len(ssh.string(b"ssh-rsa")) + 7 :]
    wire = ssh.string(b"ssh-rsa") + ssh.string((2**32 + 1).to_bytes(5)) + modulus
    line = f"ssh-rsa {base64.b64encode(wire).decode()}"
    with pytest.raises(InputError) as caught:
        PublicKey.parse(line)
    assert str(caught.value) == f"'{line[:80]}…' has an RSA exponent that no program chooses"


def test_an_ssh_key_for_which_anybody_can_sign_is_refused(ssh):
    wire = ssh.string(b"ssh-ed25519") + ssh.string((1).to_bytes(32, "little"))
    with pytest.raises(InputError, match=r"is a key for which anybody can sign: make another$"):
        PublicKey.parse(f"ssh-ed25519 {base64.b64encode(wire).decode()}")


# ---- signatures in files --------------------------------------------------------------------


def test_a_signature_is_read_raw_in_base64_and_in_armour(ssh):
    path, _ = ssh.key("ed25519")
    armoured = ssh.sign(path, MESSAGE)
    blob = ssh.inside(armoured)
    assert ssh.armour(blob).encode() == armoured
    raw = bytes(range(64))
    encoded = base64.b64encode(raw)
    wrapped = base64.encodebytes(blob)
    for data in (armoured, armoured.replace(b"\n", b"\r\n"), base64.b64encode(blob), wrapped):
        assert read_signature(data) == blob
    for data in (raw, encoded, encoded + b"\n", encoded[:64] + b"\n" + encoded[64:] + b"\n"):
        assert read_signature(data) == raw


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\n",
        b"A",
        b"AAAA",
        b"\xff" * 63,
        b"\xff" * 65,
        b"-----BEGIN SSH SIGNATURE-----",
        b"-----BEGIN SSH SIGNATURE-----\n-----END SSH SIGNATURE-----\n",
        b"-----BEGIN SSH SIGNATURE-----\nAAAA\n-----END SSH SIGNATURE-----\n",
        b"-----BEGIN PGP SIGNATURE-----\nAAAA\n-----END PGP SIGNATURE-----\n",
        b"A" * 8_193,
    ],
    ids=range(11),
)
def test_a_file_that_holds_no_signature_is_told_what_one_is(data):
    with pytest.raises(InputError) as caught:
        read_signature(data)
    assert str(caught.value) == (
        f"{len(data):,} bytes are not a signature: give the 64 bytes that openssl wrote, "
        "base64 of them, or what ssh-keygen -Y sign wrote"
    )


@given(st.binary())
def test_whatever_is_in_a_file_is_a_signature_or_refused(data):
    with suppress(InputError):
        assert len(read_signature(data)) == 64 or read_signature(data).startswith(b"SSHSIG")

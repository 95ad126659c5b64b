"""Approvals by keys that people have already, made and asked for by programs of their own."""

import json
import os
import pty
import re
import select
import subprocess
import sys
from pathlib import Path

import pytest

SECONDS = 30  # far beyond what any of these takes, so that only a failure waits so long
VMSTATE = Path(sys.executable).with_name("vmstate")
# An approval as the README tells how to write one, with nothing of ours.
STATEMENT = """\
set -eu
request=sha256:$(tr -d '\\n' < request.json | sha256sum | cut -c1-64)
origin=$(grep -o '"origin":"[^"]*"' request.json | cut -d'"' -f4)
law=$(grep -o '"constitution":"[^"]*"' request.json | cut -d'"' -f4)
until=$(date -u -d '+15 min' +%FT%T.000000Z)
nonce=$(od -An -N16 -tx1 /dev/urandom | tr -d ' \\n')
printf '{"by":"carol","constitution":"%s","expires_at":"%s","kind":"approval",' \\
  "$law" "$until" > approval.statement
printf '"nonce":"%s","origin":"%s","request":"%s","v":1}' \\
  "$nonce" "$origin" "$request" >> approval.statement
"""
JOINED = """\
printf '{"by":"carol","key":"%s","signature":"%s","statement":%s}' \\
  "$key" "$signature" "$(cat approval.statement)" > approval.json
"""
OPENSSL_KEY = """\
set -eu
openssl genpkey -algorithm ed25519 -out carol.pem
key=ed25519:$(openssl pkey -in carol.pem -pubout -outform DER | tail -c 32 | base64)
printf '[principals.carol]\\nkey = "%s"\\n' "$key" >> constitution.toml
"""
OPENSSL_SIGNATURE = """\
openssl pkeyutl -sign -rawin -inkey carol.pem -in approval.statement -out approval.sig
key=ed25519:$(openssl pkey -in carol.pem -pubout -outform DER | tail -c 32 | base64)
signature=$(base64 -w 0 approval.sig)
"""
SSH_KEY = """\
set -eu
ssh-keygen -q -t {kind} -N '' -C carol@laptop -f id_carol
printf '[principals.carol]\\nkey = "%s"\\n' "$(cat id_carol.pub)" >> constitution.toml
"""
SSH_SIGNATURE = """\
ssh-keygen -q -Y sign -n vmstate -f id_carol approval.statement
key=$(cut -d' ' -f1,2 id_carol.pub)
signature=$(grep -v -- '^-' approval.statement.sig | tr -d '\\n')
"""


def shell(folder, script):
    done = folder.process(["bash", "-c", script])
    assert done.code == 0, done.err


def prepare(folder, key):
    """A ledger in which Alice is operator and Carol's key may approve what she asks for."""
    folder.at(None)
    folder.ok("vmstate init")
    shell(folder, key)
    folder.ok("vmstate init")
    folder.ok('vmstate escalate operator --as alice --reason "ticket 4711: look"')
    reason = '--reason "ticket 4711: restore"'
    folder.ok(f"vmstate request new guardian --as alice {reason} -o request.json")


def assert_granted(folder):
    out = folder.ok("vmstate escalate guardian --request request.json --approval approval.json")
    assert out.startswith("lease-3: alice is guardian until ")
    assert "intact" in folder.ok("vmstate audit")


def test_an_approval_made_with_openssl_alone_is_accepted(folder):
    prepare(folder, OPENSSL_KEY)
    shell(folder, STATEMENT + OPENSSL_SIGNATURE + JOINED)
    assert_granted(folder)


@pytest.mark.parametrize("kind", ["ed25519", "ecdsa", "rsa -b 2048"])
def test_an_approval_made_with_ssh_keygen_alone_is_accepted(folder, kind):
    prepare(folder, SSH_KEY.format(kind=kind))
    shell(folder, STATEMENT + SSH_SIGNATURE + JOINED)
    assert_granted(folder)


@pytest.mark.parametrize(
    "signature",
    [
        "",
        "=",
        "AAAA",
        "not base64",
        "U1NIU0lH",
        "U1NIU0lHAAAAAf////8=",
        "A" * 86 + "==",
        "A" * 30_000,
        "\u00e9",
        "U1NIU0lHAAAAAQAAAAAAAAAHdm1zdGF0ZQAAAAAAAAAGc2hhNTEyAAAAAA==",
    ],
    ids=range(10),
)
@pytest.mark.parametrize("key", ["ed25519", "ssh"])
def test_a_malformed_signature_is_denied_without_a_traceback(used_by, folder, key, signature):
    used_by(key)
    shell(folder, STATEMENT)
    folder.write("signature", signature)
    ours = "ed25519:$(openssl pkey -in carol.pem -pubout -outform DER | tail -c 32 | base64)"
    name = ours if key == "ed25519" else "$(cut -d' ' -f1,2 id_carol.pub)"
    shell(folder, f'set -eu\nkey="{name}"\nsignature=$(cat signature)\n{JOINED}')
    done = folder.run("vmstate escalate guardian --request request.json --approval approval.json")
    assert done.code == 3, done.err
    assert "[approval_signature]" in done.err
    assert "Traceback" not in done.err
    assert "intact" in folder.ok("vmstate audit")


@pytest.fixture(scope="module")
def prepared_with():
    return {}


@pytest.fixture
def used_by(folder, prepared_with):
    """The folder of `prepare`, made once for each kind of key."""

    def use(key):
        if key not in prepared_with:
            prepare(folder, OPENSSL_KEY if key == "ed25519" else SSH_KEY.format(kind="ed25519"))
            prepared_with[key] = {path.name: path.read_bytes() for path in folder.path.iterdir()}
        for name, data in prepared_with[key].items():
            (folder.path / name).write_bytes(data)
            (folder.path / name).chmod(0o600)
        folder.at(None)

    return use


# ---- who is asked, and where ----------------------------------------------------------------


def in_terminal(folder, words, answers):
    """Run a command with a terminal of its own; returns what is seen there and the exit code."""
    main, side = pty.openpty()
    process = subprocess.Popen(
        ["setsid", "--ctty", "--wait", *words],
        cwd=folder.path,
        stdin=side,
        stdout=side,
        stderr=side,
        env={k: v for k, v in os.environ.items() if not k.startswith(("SSH_", "DISPLAY"))},
    )
    os.close(side)
    seen = b""
    try:
        while select.select([main], [], [], SECONDS)[0] and (chunk := os.read(main, 65_536)):
            seen += chunk
            if answers and answers[0][0] in seen:
                os.write(main, answers.pop(0)[1] + b"\n")
    except OSError:
        pass  # Linux ends a terminal whose other side is closed with an error
    os.close(main)
    shown = re.sub(r"\x1b\[[0-9;]*m", "", seen.decode())
    return shown.replace("\r\n", "\n"), process.wait(SECONDS)


def test_a_passphrase_is_typed_unseen_twice_to_make_a_key_and_once_to_sign(folder):
    folder.at(None)
    folder.ok("vmstate init")
    make = [VMSTATE, "keys", "new", "carol", "--passphrase"]
    twice = [
        (b"passphrase for carol.key: ", b"correct horse"),
        (b"the same again: ", b"correct horse"),
    ]
    seen, code = in_terminal(folder, make, twice)
    assert code == 0, seen
    assert "correct horse" not in seen
    folder.ok('vmstate request new guardian --as alice --reason "ticket 4711" -o request.json')
    sign = [VMSTATE, "sign", "request.json", "--as", "carol", "--key", "carol.key"]
    once = (b"passphrase of carol.key: ", b"correct horse")
    seen, code = in_terminal(folder, [*sign, "-o", "approval.json"], [once])
    assert code == 0, seen
    assert "carol approves:" in seen
    assert "correct horse" not in seen
    seen, code = in_terminal(folder, sign, [(once[0], b"battery staple")])
    assert code == 2
    assert "key file carol.key does not open with this passphrase" in seen


def test_two_passphrases_that_differ_make_no_key(folder):
    make = [VMSTATE, "keys", "new", "carol", "--passphrase"]
    typed = [(b"passphrase for carol.key: ", b"one"), (b"the same again: ", b"two")]
    seen, code = in_terminal(folder, make, typed)
    assert code == 2
    assert "error: the two passphrases differ: nothing was made" in seen
    assert not (folder.path / "carol.key").exists()


def test_without_a_terminal_nobody_is_asked_and_the_remedy_is_told(folder):
    without = ["setsid", "--wait", VMSTATE, "keys"]
    folder.write("pass", "secret\n")
    folder.ok("vmstate keys new dave --passphrase-file pass")
    done = folder.process([*without, "show", "dave.key"])
    assert (done.code, done.out) == (2, "")
    remedy = "there is no terminal to ask on: give --passphrase-file"
    assert done.err == f"error: dave.key has a passphrase, and {remedy}\n"
    done = folder.process([*without, "new", "carol", "--passphrase"])
    assert done.err == f"error: carol.key is to have a passphrase, and {remedy}\n"


def test_ssh_keygen_asks_for_the_passphrase_of_its_own_key_at_the_terminal(folder):
    folder.at(None)
    folder.ok("vmstate init")
    shell(folder, "ssh-keygen -q -t ed25519 -N 'correct horse' -f id_carol")
    folder.ok('vmstate request new guardian --as alice --reason "ticket 4711" -o request.json')
    sign = [VMSTATE, "sign", "request.json", "--as", "carol", "--key", "id_carol"]
    asked = (b"Enter passphrase: ", b"correct horse")
    seen, code = in_terminal(folder, [*sign, "-o", "approval.json"], [asked])
    assert code == 0, seen
    assert "carol approves:" in seen
    assert "correct horse" not in seen


def test_a_key_in_an_agent_signs_although_its_file_is_gone(folder):
    prepare(folder, SSH_KEY.format(kind="ed25519"))
    script = f"""\
set -eu
ssh-add -q id_carol
rm id_carol
{VMSTATE} sign request.json --key id_carol.pub -o approval.json
"""
    done = folder.process(["ssh-agent", "bash", "-c", script])
    assert done.code == 0, done.err
    assert_granted(folder)


def test_a_revocation_by_an_ssh_key_ends_the_lease(folder):
    prepare(folder, SSH_KEY.format(kind="ed25519"))
    out = folder.ok("vmstate revoke lease-2 --as carol --key id_carol --reason enough")
    assert out == "lease-2 ended by sovereign_revoke: alice is observer\n"


OTHER_SPELLING = """\
set -eu
ssh-keygen -q -t ed25519 -N '' -f id_carol
key=ed25519:$(cut -d' ' -f2 id_carol.pub | base64 -d | tail -c 32 | base64)
printf '[principals.carol]\\nkey = "%s"\\n' "$key" >> constitution.toml
"""


def test_a_denial_names_the_key_that_should_have_signed_by_its_fingerprint(folder):
    prepare(folder, SSH_KEY.format(kind="ed25519"))
    shell(folder, STATEMENT + "key=$(cut -d' ' -f1,2 id_carol.pub)\nsignature=AAAA\n" + JOINED)
    asked = "--request request.json --approval approval.json --json"
    done = folder.run(f"vmstate escalate guardian {asked}")
    shown = folder.ok("ssh-keygen -l -f id_carol.pub").split()[1]
    unmet = json.loads(done.out)["receipt"]["authority"]["unmet"]
    needed = {one["code"]: one["required"] for one in unmet}
    assert needed["approval_signature"] == f"a signature by {shown}"


def test_a_key_that_the_constitution_writes_in_another_way_is_told_so_before_it_signs(folder):
    prepare(folder, OTHER_SPELLING)
    done = folder.run("vmstate sign request.json --key id_carol")
    line = " ".join((folder.path / "id_carol.pub").read_text().split()[:2])
    assert (done.code, done.out) == (2, "")
    assert done.err == (
        "error: id_carol signs as ssh-ed25519, and the constitution writes this key of carol as "
        f'ed25519: sign with a file of that kind, or write key = "{line}" there\n'
    )


def test_no_private_key_passphrase_or_token_is_shown_or_kept_anywhere_else(folder):
    folder.write("pass", "correct horse\n")
    prepare(folder, OPENSSL_KEY)
    shell(folder, "ssh-keygen -q -t ed25519 -N '' -f id_dave")
    lines = [
        "vmstate keys new erin",
        "vmstate keys new frank --passphrase-file pass --json",
        "vmstate keys token bot",
        "vmstate keys token agent:1 --json",
        "vmstate keys show carol.pem",
        "vmstate keys show id_dave",
        "vmstate keys show frank.key --passphrase-file pass",
        "vmstate keys list --json",
        "vmstate sign request.json --key carol.pem -o approval.json",
        "vmstate sign request.json --key id_dave --as dave",
        "vmstate sign request.json --key frank.key --passphrase-file pass --as frank",
        "vmstate sign request.json --key bot.token",
        "vmstate sign request.json --signature carol.pem",
        "vmstate keys show bot.token",
        "vmstate escalate guardian --request erin.key",
        "vmstate escalate guardian --request request.json --approval bot.token",
        "vmstate escalate guardian --request request.json --approval approval.json",
        "vmstate revoke lease-3 --as carol --key carol.pem --reason enough",
    ]
    seen = "".join(done.out + done.err for done in map(folder.run, lines))
    assert "lease-3 ended by sovereign_revoke, lease-2 with it" in seen
    files = ("carol.pem", "erin.key", "frank.key", "id_dave", "bot.token", "agent-1.token")
    secrets = {"correct horse"}
    for name in files:
        secrets |= {
            line for line in (folder.path / name).read_text().splitlines() if line[0] != "-"
        }
    holders = {*files, "pass"}
    for path in folder.path.iterdir():
        kept = path.read_bytes().decode("latin-1")
        assert path.name in holders or not any(secret in kept for secret in secrets), path.name
    assert not any(secret in seen for secret in secrets)

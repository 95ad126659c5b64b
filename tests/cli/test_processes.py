"""What only a process of its own can show: exit codes, pipes, signals and what start-up loads."""

import json
import os
import shutil
import signal
import subprocess
import sys
from contextlib import closing
from importlib.resources import files
from pathlib import Path

import pytest

from vmstate.authority import Authority
from vmstate.constitution.loading import load_constitution

VMSTATE = Path(sys.executable).with_name("vmstate")
HEAVY = ("pydantic", "apsw", "apscheduler", "rich", "cryptography", "transitions", "orjson")


@pytest.mark.parametrize(
    ("line", "code"),
    [
        (["status"], 0),
        (["check", "carol.key"], 1),
        (["escalat"], 2),
        (["may", "alice", "guardian"], 3),
        (["drill", "run", "blocked.drill.toml", "after.drill.toml"], 4),
        (["receipts", "show", "99"], 5),
        (["--ledger", "carol.key", "status"], 6),
    ],
)
def test_the_exit_code_says_what_became_of_it(line, code, live):
    for name, id_ in (("blocked", "gate"), ("after", "after")):
        live.write(
            f"{name}.drill.toml",
            f'[drill]\nid = "{id_}"\ntitle = "t"\nmarker = "DRILL/m"\n'
            'start = "2030-01-01T00:00:00Z"\n'
            'gate = true\n[[step]]\ndo = "may"\nwith = { what = "operator" }\n'
            "expect.result = { success = true }\n",
        )
    done = live.process([VMSTATE, *line])
    assert done.code == code
    assert "Traceback" not in done.err


@pytest.mark.parametrize("line", ["--help", "-h", "--version", "frobnicate"])
def test_help_loads_none_of_the_heavy_libraries(line, folder):
    code = (
        "import sys; from vmstate.interfaces.cli.main import run\n"
        f"sys.argv = ['vmstate', {line!r}]\n"
        "try: run()\n"
        "except SystemExit: pass\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules])"
    )
    done = folder.process([sys.executable, "-W", "error", "-c", code])
    assert done.out.splitlines()[-1] == "[]", done


def test_a_list_does_not_load_what_only_asking_and_drawing_need(live):
    code = (
        "import sys; from vmstate.interfaces.cli.main import run\n"
        "sys.argv = ['vmstate', 'receipts', 'list']\n"
        "try: run()\n"
        "except SystemExit: pass\n"
        "unused = ('rich', 'apscheduler', 'asyncio', 'graphviz', 'freezegun')\n"
        "print([name for name in unused if name in sys.modules])"
    )
    done = live.process([sys.executable, "-W", "error", "-c", code])
    assert done.out.splitlines()[-1] == "[]", done


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """A ledger with more receipts than a pipe takes at once."""
    path = tmp_path_factory.mktemp("many")
    law = files("vmstate.constitution") / "presets" / "starter.toml"
    (path / "constitution.toml").write_bytes(law.read_bytes())
    authority = Authority.create(load_constitution(path / "constitution.toml"), path / "vmstate.db")
    with closing(authority):
        for number in range(
            300
        ):  # each somebody else: of one asker's refusals most are only counted
            name = f"agent:{number:03}{'x' * 191}"
            assert authority.escalate(name, "guardian", trigger="nothing_known").seq == number + 1
    return path


@pytest.fixture
def full(many, folder):
    folder.at(None)
    shutil.copytree(many, folder.path, dirs_exist_ok=True)
    return folder


@pytest.mark.parametrize("line", ["receipts list", "receipts list --json", "receipts tail -n 999"])
def test_a_reader_who_has_seen_enough_is_no_error(line, full):
    process = subprocess.Popen(
        [VMSTATE, *line.split()], cwd=full.path, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    process.stdout.readline()
    process.stdout.close()
    err = process.stderr.read().decode()
    process.stderr.close()
    process.wait()
    assert err == ""
    assert process.returncode in {0, 1}


def test_a_full_disk_is_told_of_where_it_was_full(full):
    done = full.process(["bash", "-c", f"{VMSTATE} receipts list > /dev/full"])
    assert done.code == 6
    assert "Traceback" not in done.err
    assert "vmstate.db" not in done.err  # the ledger is well; standard output is not
    done = full.process(["bash", "-c", f"{VMSTATE} graph > /dev/full"])
    assert done.code == 6
    assert "Traceback" not in done.err


def test_an_export_that_finds_no_room_names_its_own_folder(full):
    done = full.process(["bash", "-c", f"ulimit -f 200; {VMSTATE} export bundle"])
    assert done.code == 2
    assert done.err.startswith("error: bundle can't be written: ")


def test_a_follower_of_nothing_older_sees_only_what_is_new(live):
    line = [VMSTATE, "receipts", "tail", "-n", "0", "-f", "--json"]
    process = subprocess.Popen(line, cwd=live.path, stdout=subprocess.PIPE)
    try:
        # It says nothing that could be waited for, so receipts are written until it shows one.
        seen = b""
        os.set_blocking(process.stdout.fileno(), False)
        for _ in range(20):
            live.vmstate("escalate", "guardian", "--as", "bob")
            try:
                process.wait(timeout=0.2)
            except subprocess.TimeoutExpired:
                seen += process.stdout.read() or b""
            if b"\n" in seen:
                break
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate()
    first = json.loads(seen.splitlines()[0])
    assert first["seq"] >= 3  # 0 to 2 were there before it looked


def test_a_stop_by_the_keyboard_is_no_traceback(live):
    process = subprocess.Popen(
        [VMSTATE, "receipts", "tail", "-f"],
        cwd=live.path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    process.stdout.readline()
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert (process.returncode, err.split()) == (130, [b"stopped"])


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("vmstate esc", ["escalate"]),
        ("vmstate escalate g", ["guardian"]),
        ("vmstate escalate operator --trigger o", ["operator_request"]),
        ("vmstate release l", ["lease-2"]),
        ("vmstate --ledger vmstate.db release l", ["lease-2"]),
        ("vmstate --constitution none.toml escalate g", []),
        ("vmstate --constitution none.toml release l", ["lease-2"]),
        ("vmstate receipts s", ["show"]),
    ],
)
def test_a_shell_completes_verbs_profiles_triggers_and_leases(words, expected, live):
    asked = words.split()
    done = live.process(
        [VMSTATE],
        _VMSTATE_COMPLETE="bash_complete",
        COMP_WORDS=words,
        COMP_CWORD=str(len(asked) - 1),
    )
    assert done.err == ""
    assert [line.partition(",")[2] for line in done.out.split()] == expected

"""A command is told on its standard input, in bounded time, by no shell."""

import time

from vmstate.notices.command import OUTPUT_BYTES, run_command


def run(*words, seconds=5.0):
    return run_command(words, b'{"v":1}', "ended", seconds=seconds)


def test_a_command_reads_the_notice_and_may_say_something():
    assert run("cat") == ("", '{"v":1}\n')


def test_words_are_words_to_no_shell():
    assert run("echo", "$HOME; false", "`id`") == ("", "$HOME; false `id`\n")


def test_the_kind_of_event_stands_in_the_environment_and_nothing_of_ours_beside_it(monkeypatch):
    monkeypatch.setenv("VMSTATE_TOKEN", "a secret")
    monkeypatch.setenv("PAGER_ROOM", "ops")
    fault, said = run("env")
    assert fault == ""
    names = dict(line.partition("=")[::2] for line in said.splitlines())
    assert names["VMSTATE_EVENT"] == "ended"
    assert names["PAGER_ROOM"] == "ops"
    assert "VMSTATE_TOKEN" not in names


def test_a_command_that_fails_says_how():
    assert run("sh", "-c", "echo no room >&2; exit 3") == ("ended with exit code 3", "no room\n")
    assert run("sh", "-c", "kill -9 $$") == ("was killed by SIGKILL", "")


def test_a_command_that_is_not_there_says_so():
    assert run("/no/such/thing")[0] == "/no/such/thing can't be run: No such file or directory"
    assert run("no-such-thing")[0] == "no-such-thing can't be run: No such file or directory"


def test_a_command_that_does_not_read_is_no_failure():
    assert run("true") == ("", "")


def test_a_command_that_hangs_is_killed_with_what_it_started(tmp_path):
    alive = tmp_path / "alive"
    line = f"(sleep 0.6; touch {alive}) & echo waiting; wait"
    fault, said = run("sh", "-c", line, seconds=0.2)
    assert fault == "took longer than 0.2 s and was killed"
    assert said == "waiting\n"
    assert run("sleep", "0.6")[0] == ""
    assert not alive.exists()


def test_what_a_command_leaves_running_is_not_waited_for():
    began = time.monotonic()
    assert run("sh", "-c", "sleep 3 & echo done") == ("", "done\n")
    assert time.monotonic() - began < 2


def test_a_command_that_never_stops_talking_is_kept_to_a_bound():
    fault, said = run("sh", "-c", "head -c 300000 /dev/zero | tr '\\0' x")
    assert (fault, said) == ("", "x" * OUTPUT_BYTES)

"""The ledger keeps the law in force: a file that was edited, broken or lost stops no emergency."""

import pytest

SAID = "constitution.toml decides nothing here: "
RETURNS = (
    "status",
    "watch --once",
    "graph --live",
    "may bob operator",
    "why operator --as agent:7 --reason 'ticket 4712: look'",
    "request list",
    "request show {request}",
    "request deny {request} --key carol.key --reason 'not tonight'",
    "revoke lease-3 --as carol --key carol.key --reason 'enough of that'",
    "release lease-2 --as alice",
    "lock --all --as carol --key carol.key --reason 'everything stops here'",
    "lock list",
    "unlock lock-8 --as carol --key carol.key --reason 'it was a false alarm'",
)
GRANTS = (
    "escalate operator --as bob --reason 'ticket 4712: look'",
    "renew lease-2 --as alice --reason 'ticket 4711: longer'",
    "run operator --as bob --reason 'ticket 4712: look' -- true",
    "request approve {request} --key carol.key --yes",
    "request activate {request}",
)


def broken(folder):
    text = (folder.path / "constitution.toml").read_text(encoding="utf-8")
    folder.write("constitution.toml", f"{text}\nx = 1\n")


def edited(folder):
    folder.replace("constitution.toml", '"15m"', '"14m"')


def lost(folder):
    (folder.path / "constitution.toml").unlink()


@pytest.fixture(params=[broken, edited, lost], ids=lambda spoil: spoil.__name__)
def spoilt(used, request):
    """Two leases and a request; the constitution's file is not the ledger's law any more."""
    used.ok("vmstate escalate operator --as bob --ttl 10m --reason 'ticket 4712: look'")
    used.run("vmstate escalate guardian --as alice --reason 'ticket 4711: mend' --wait")
    (used.asked,) = (line.split("\t")[0] for line in used.ok("vmstate request list").splitlines())
    request.param(used)
    return used


def test_what_takes_back_refuses_or_looks_goes_on_and_warns(spoilt):
    for line in RETURNS:
        done = spoilt.run(f"vmstate {line.format(request=spoilt.asked)}")
        assert done.code == 0, f"{line}: {done.err}"
        assert done.err.startswith(f"warning: {SAID}"), line
        assert "in force is sha256:" in done.err


def test_nothing_is_granted_and_the_commands_that_help_are_named(spoilt):
    before = spoilt.sizes()
    for line in GRANTS:
        done = spoilt.run(f"vmstate {line.format(request=spoilt.asked)}")
        assert done.code == 6, line
        assert done.err.startswith("error: nothing is granted under constitution.toml: "), line
        assert "vmstate constitution show > in-force.toml" in done.err
    assert spoilt.sizes() == before
    spoilt.ok("vmstate constitution show > in-force.toml")
    spoilt.ok(f"vmstate --constitution in-force.toml {GRANTS[1]}")


def test_what_reads_the_record_needs_no_constitutions_file(spoilt):
    assert ": intact" in spoilt.ok("vmstate audit")
    assert "\tgranted\t" in spoilt.ok("vmstate receipts list")
    spoilt.ok("vmstate export bundle")
    assert ": intact" in spoilt.ok("vmstate audit bundle")
    assert "[escalations.operator_on_request]" in spoilt.ok("vmstate constitution show")


def test_an_edited_file_changes_nothing_of_what_is_decided(used):
    used.ok("vmstate keys new alice -o alice.key >> constitution.toml")
    used.replace("constitution.toml", 'lift = ["approvers"]', 'lift = ["approvers", "operators"]')
    used.replace("constitution.toml", 'by   = ["approvers"]', 'by = ["approvers", "operators"]')
    assert used.run("vmstate check").code == 0
    done = used.run("vmstate lock --all --as alice --key alice.key --reason 'as the file says'")
    assert done.code == 2
    assert "it is nobody's by the constitution: alice has none there" in done.err
    used.replace("constitution.toml", 'by = ["approvers", "operators"]', 'by = ["operators"]')
    used.ok("vmstate lock --all --as carol --key carol.key --reason 'as the ledger says'")


def test_with_a_ledger_named_the_commands_that_help_name_it_too(used):
    broken(used)
    said = used.run("vmstate --ledger ./vmstate.db status").err
    assert "vmstate --ledger vmstate.db constitution show > in-force.toml" in said

"""Where a setting comes from: the line first, then the environment, then what is usual."""

import pytest


@pytest.fixture
def two(folder):
    """Two ledgers of one constitution: Alice is operator in the first only."""
    folder.ok("vmstate init --constitution law.toml --ledger one.db")
    folder.ok("vmstate init --constitution law.toml --ledger two.db")
    reason = '--reason "ticket 4711: look"'
    folder.ok(
        f"vmstate --constitution law.toml --ledger one.db escalate operator --as alice {reason}"
    )
    return folder


def test_the_environment_names_constitution_and_ledger(two):
    line = "VMSTATE_CONSTITUTION=law.toml VMSTATE_LEDGER=one.db vmstate may alice operator"
    assert two.ok(line) == "yes\n"


@pytest.mark.parametrize(
    "line",
    [
        "vmstate --ledger one.db --constitution law.toml may alice operator",
        "vmstate may alice operator --ledger one.db --constitution law.toml",
        "vmstate --ledger one.db may alice operator --constitution law.toml",
        "vmstate --ledger two.db may alice operator --ledger one.db --constitution law.toml",
    ],
)
@pytest.mark.parametrize("setting", ["", "VMSTATE_LEDGER=two.db VMSTATE_CONSTITUTION=none.toml "])
def test_what_the_line_says_goes_before_what_the_environment_says(line, setting, two):
    assert two.ok(setting + line) == "yes\n"


def test_the_environment_names_the_principal_and_the_line_another(two):
    setting = "VMSTATE_PRINCIPAL=bob VMSTATE_CONSTITUTION=law.toml VMSTATE_LEDGER=two.db"
    reason = '--reason "ticket 4711: look"'
    assert two.ok(f"{setting} vmstate escalate operator {reason}").startswith("lease-1: bob is ")
    line = f"{setting} vmstate escalate operator --as alice {reason}"
    assert two.ok(line).startswith("lease-2: alice is ")


def test_who_signs_is_whose_key_it_is_and_not_whoever_usually_asks(used):
    used.ok('vmstate request new guardian --as alice --reason "ticket 4711: it" -o request.json')
    line = "VMSTATE_PRINCIPAL=alice vmstate sign request.json --key carol.key"
    assert used.run(line).err.startswith("carol approves:\n")

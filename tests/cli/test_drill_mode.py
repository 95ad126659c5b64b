"""Where `DRILL_MODE` asks for a drill, no verb writes to the live ledger (law 14)."""

import pytest

TOLD = (
    "error: DRILL_MODE is '{}', and vmstate.db is live: nothing was written; unset it to mean "
    "the live ledger, or name a drill's with --ledger\n"
)


@pytest.mark.parametrize(
    "line",
    [
        'escalate operator --as bob --reason "ticket 4711: look"',
        "renew lease-2 --as alice",
        "release lease-2 --as alice",
        "revoke lease-2 --as carol --key carol.key",
        "lock --all --as carol --key carol.key",
        "act task.execute --as alice",
        "budget create ops --allocated 9 --unit credits --as alice",
        "budget debit ops 9 --as alice",
        "recover --clock --as alice -o clock.json",
        "amend constitution.toml",
        "canary --as alice",
        "gate --as alice -- true",
        "serve",
    ],
)
@pytest.mark.parametrize("mode", ["1", "true", "0x"])
def test_a_verb_that_writes_refuses_the_live_ledger(line, mode, used):
    before = used.sizes()
    done = used.run(f"DRILL_MODE={mode} vmstate {line}")
    assert (done.code, done.out, done.err) == (2, "", TOLD.format(mode))
    assert used.sizes() == before


def test_no_unused_ledger_takes_over_another_law_either(folder):
    folder.ok("vmstate init")
    folder.replace("constitution.toml", '"alice"', '"anna"')
    assert folder.run("DRILL_MODE=1 vmstate init").err == TOLD.format(1)


@pytest.mark.parametrize(
    "line",
    [
        "status",
        "may alice operator",
        "watch --once",
        "receipts list",
        "lock list",
        "budget list",
        "request list",
        "graph --live",
        "audit",
    ],
)
def test_a_verb_that_only_looks_shows_the_live_ledger(line, used):
    done = used.run(f"DRILL_MODE=1 vmstate {line}")
    assert (done.out, done.code) == (used.ok(f"vmstate {line}"), 0)


@pytest.mark.parametrize("setting", ["DRILL_MODE=0", "DRILL_MODE="])
def test_off_and_empty_ask_for_no_drill(setting, used):
    used.ok(f'{setting} vmstate escalate operator --as bob --reason "ticket 4711: look"')
    done = used.run(f"{setting} vmstate mcp < constitution.toml")
    assert "Missing option '--as'" in done.err


def test_a_drills_ledger_may_be_written(folder):
    folder.ok("vmstate drill run --keep kept")
    law = folder.write("law.toml", folder.ok("vmstate constitution show --ledger kept/drill_1.db"))
    line = (
        f"DRILL_MODE=1 vmstate --constitution {law.name} --ledger kept/drill_1.db release lease-2"
    )
    done = folder.run(f"{line} --as did:vm:operator:drill")
    assert done.code == 3
    assert "DRILL_MODE" not in done.err

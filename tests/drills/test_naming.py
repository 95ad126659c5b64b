"""Names that the constitution does not know are told before anything of a drill runs."""

import pytest

from vmstate.drills.drill import packaged_drills, read_drill
from vmstate.drills.naming import check_names
from vmstate.drills.runner import run_suite
from vmstate.errors import DrillError

WRONG = """
[[setup]]
do   = "escalate"
as   = "mallory"
with = { to = "operater", trigger = "operator_requested", reason = "DRILL" }

[[step]]
do   = "escalate"
with = { to = "guardian", trigger = "operator_request", facts = { ticket = "4711" }, approved_by = ["drill-approver", "carol"], attested_by = "edr" }
save = "top"
expect.denied = { rule = "guardian_on_reqest" }

[[step]]
do   = "release"
with = { lease = "{top.lease}", ending = "operator_releas" }
expect.receipts = [ { type = "profile_descalation", ending = "timeout", from = "gardian", to = "*" } ]

[[step]]
do   = "may"
with = { what = "service.restar" }
expect.result = { success = true }

[[step]]
advance = "1m"
expect.profile  = { "agent:drill" = "opertor", "bob:the" = "observer" }
expect.receipts = [ { rule = "escalations.operator_on_reqest.ttl", principal = "eve" } ]

[[cleanup]]
do   = "act"
with = { act = "service.stop" }
"""  # noqa: E501 -- one step of a drill file
PEOPLE = "is in no group, under no [principals] and no stand-in: name one who is"
REFUSED = "; if it is to be refused, write expect."
TOLD = {
    (10, "step 1 (set-up) as"): f"'mallory' {PEOPLE}{REFUSED}denied.code = 'unknown_principal'",
    (11, "step 1 (set-up) with.to"): (
        "no profile 'operater' (did you mean 'operator'?): there are observer, operator, guardian"
        f"{REFUSED}denied.code = 'unknown_profile'"
    ),
    (11, "step 1 (set-up) with.trigger"): (
        "no trigger 'operator_requested' (did you mean 'operator_request'?): there are "
        f"operator_request{REFUSED}denied.code = 'no_path'"
    ),
    (15, "step 2 with.approved_by"): (
        f"no stand-in 'carol': there are drill-approver{REFUSED}denied.code = 'approval_no_key'"
    ),
    (15, "step 2 with.attested_by"): (
        f"no stand-in 'edr': there are drill-approver{REFUSED}denied.code = 'attestation_no_key'"
    ),
    (15, "step 2 with.facts.ticket"): (
        f"no fact 'ticket': there are none{REFUSED}denied.code = 'fact_unknown'"
    ),
    (17, "step 2 expect.denied.rule"): (
        "no rule 'guardian_on_reqest' (did you mean 'guardian_on_request'?): there are "
        "operator_on_request, guardian_on_request"
    ),
    (21, "step 3 with.ending"): (
        "no ending 'operator_releas' (did you mean 'operator_release'?): there are "
        f"timeout_expired, operator_release, sovereign_revoke{REFUSED}denied.code = "
        "'ending_unknown'"
    ),
    (22, "step 3 expect.receipts.ending"): "no end of a lease 'timeout' (did you mean 'timeout_",
    (22, "step 3 expect.receipts.from"): "no profile 'gardian' (did you mean 'guardian'?): there",
    (22, "step 3 expect.receipts.type"): (
        "no type of receipt 'profile_descalation' (did you mean 'profile_deescalation'?): there"
    ),
    (26, "step 4 with.what"): (
        "no act or profile 'service.restar' (did you mean 'service.restart'?): there are "
        "logs.read, service.restart, database.write, observer, operator, guardian"
        f"{REFUSED}result.success = false"
    ),
    (31, 'step 5 expect.profile."agent:drill"'): "no profile 'opertor' (did you mean 'operator'?)",
    (31, 'step 5 expect.profile."bob:the"'): f"'bob:the' {PEOPLE}",
    (32, "step 5 expect.receipts.principal"): f"'eve' {PEOPLE}",
    (32, "step 5 expect.receipts.rule"): "no rule 'operator_on_reqest' (did you mean 'operator_on_",
    (
        36,
        "step 6 (clean-up) with.act",
    ): "no act 'service.stop' (did you mean 'service.restart'?): there are",
}
UNKNOWN_ON_PURPOSE = """
[[step]]
do   = "escalate"
as   = "mallory"
with = { to = "operator", trigger = "operator_request" }
expect.denied  = { code = "unknown_principal" }
expect.profile = { "mallory" = "unknown" }

[[step]]
do   = "escalate"
with = { to = "emperor", trigger = "coronation" }
expect.denied   = { rule = "profiles", code = "unknown_profile" }
expect.receipts = [ { to = "emperor", trigger = "coronation" } ]

[[step]]
do   = "escalate"
with = { to = "operator", trigger = "coronation", facts = { crown = "gold" } }
expect.denied = { code = "no_path" }

[[step]]
do   = "act"
with = { act = "throne.mount" }
expect.denied   = { code = "act_unknown" }
expect.receipts = [ { type = "auth_failure" } ]

[[step]]
do   = "may"
as   = "mallory"
with = { what = "throne.mount" }
expect.result = { success = false }
"""


def told(drills, law):
    with pytest.raises(DrillError) as caught:
        check_names(drills, law)
    return caught.value.problems


def test_every_unknown_name_is_told_with_its_line_and_what_to_write(rehearsal):
    problems = told([rehearsal.read(WRONG)], rehearsal.starter)
    assert len(problems) == len(TOLD)
    for problem, ((line, place), what) in zip(problems, TOLD.items(), strict=True):
        assert problem.startswith(f"mine.drill.toml:{line}: {place}: {what}")


def test_a_step_may_be_about_a_name_that_nobody_knows(rehearsal):
    # Expecting the refusal for one unknown name hides no other.
    problems = told([rehearsal.read(UNKNOWN_ON_PURPOSE)], rehearsal.starter)
    assert [problem.split(": ")[1] for problem in problems] == ["step 3 with.facts.crown"]
    rehearsal.passes(UNKNOWN_ON_PURPOSE.replace(', facts = { crown = "gold" }', ""))


def test_the_packaged_drills_name_nothing_that_their_constitution_does_not_know(rehearsal):
    check_names(packaged_drills(), rehearsal.vaultmesh)


def test_nothing_of_a_suite_runs_if_one_of_its_drills_has_a_name_that_nobody_knows(
    rehearsal, tmp_path
):
    first, *others = packaged_drills()
    text = others[-1].text.replace("crisis_concluded", "crisis_over")
    last = read_drill(text.encode(), name="last.drill.toml")
    with pytest.raises(DrillError, match=r"no ending 'crisis_over'"):
        list(run_suite([first, last], rehearsal.vaultmesh, keep=tmp_path))
    assert list(tmp_path.iterdir()) == []
    # Run by itself it is an error, with the same words.
    run = rehearsal.run(WRONG)
    assert (run.verdict, run.steps, run.root) == ("error", (), "")
    assert run.reason == "\n".join(told([rehearsal.read(WRONG)], rehearsal.starter))


@pytest.mark.parametrize(
    ("step", "line", "place", "who", "code"),
    [
        ('do = "approve"\nwith = { request = "x" }', 9, "do", "agent:drill", "approval_no_key"),
        ('do = "lock"\nas = "alice"\nwith = { all = true }', 10, "as", "alice", "order_no_key"),
        ('do = "push"\nwith = { facts = {} }', 9, "do", "agent:drill", "attestation_no_key"),
    ],
)
def test_a_step_by_somebody_who_can_not_sign_it_says_who_can(
    step, line, place, who, code, rehearsal
):
    (problem,) = told([rehearsal.read(f"\n[[step]]\n{step}\n")], rehearsal.starter)
    verb = step.split('"')[1]
    assert problem == (
        f"mine.drill.toml:{line}: step 1 {place}: {verb!r} takes a signature, in a drill only "
        f'stand-ins sign, and {who!r} is none: write as = "STAND-IN" beside do; '
        "there are drill-approver; if it is to be refused, write "
        f"expect.denied.code = {code!r}"
    )
    refused = f'\n[[step]]\n{step}\nexpect.denied = {{ code = "{code}" }}\n'
    check_names([rehearsal.read(refused)], rehearsal.starter)

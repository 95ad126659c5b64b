"""Drills that rehearse what waits for others, and the stop of everything."""

import pytest

from vmstate.drills.pack.account import timeline
from vmstate.errors import DrillError

CLIMB = """
[[step]]
do   = "escalate"
with = { to = "operator", trigger = "operator_request", reason = "DRILL: look around" }
save = "op"
"""
ASK = """
[[step]]
do   = "open_request"
with = { to = "guardian", trigger = "operator_request", reason = "DRILL: mend the database" }
save = "asked"
expect.receipts = [ { type = "request", request = "sha256:*" } ]
"""
WAIT = '\n[[step]]\nadvance = "5m"\n'


def step(verb, with_, who="drill-approver", more=""):
    return f'\n[[step]]\ndo = "{verb}"\nas = "{who}"\nwith = {{ {with_} }}\n{more}\n'


def about(verb, who="drill-approver", more=""):
    """A step about the request that was opened."""
    return step(verb, 'request = "{asked.request}"', who, more)


def test_a_request_is_opened_approved_and_activated_and_its_time_counts_from_there(rehearsal):
    run = rehearsal.passes(
        CLIMB
        + ASK
        + about("activate", "agent:drill", 'expect.denied = { code = "approval_missing" }')
        + about("approve", "agent:drill", 'expect.denied = { code = "approval_no_key" }')
        + about("approve", more='expect.receipts = [ { type = "approval" } ]')
        + WAIT
        + about("activate", "alice", 'expect.denied = { code = "request_unknown" }')
        + about("activate", "agent:drill", 'expect.result = { lease = "lease-*" }')
    )
    grant = [one for one in run.receipts if one.profile == "guardian" and one.granted][-1]
    assert grant.fields["at"] == "2030-01-01T12:05:00.000000Z"
    assert grant.fields["what"]["expires_at"] == "2030-01-01T12:20:00.000000Z"


def test_a_request_ends_by_a_denial_by_its_owner_and_by_time(rehearsal):
    gone = 'expect.denied = { code = "request_over" }'
    run = rehearsal.passes(
        CLIMB
        + ASK
        + about("deny", more='expect.receipts = [ { type = "request", outcome = "recorded" } ]')
        + about("approve", more=gone)
        + ASK.replace("mend", "mend, again:")
        + about("withdraw", "agent:drill")
        + about("activate", "agent:drill", gone)
        + ASK.replace("mend", "mend, once more:")
        + '\n[[step]]\nadvance = "idle"\n'
        + about("approve", more=gone)
    )
    assert run.aftermath.next_deadline is None


def test_what_a_sensor_attests_makes_an_open_request_complete(rehearsal):
    law = rehearsal.vaultmesh
    climb = CLIMB.replace("look around", "look around at night")
    ask = """
[[step]]
do   = "open_request"
with = { to = "guardian", trigger = "threat_detected", facts = { "threat.confidence" = "0.93", "threat.type" = "intrusion" }, reason = "DRILL: a threat" }
save = "asked"
"""  # noqa: E501 -- one step of a drill file
    sensor = law.document.drill.stand_ins["sensors"][0]
    lacking = 'expect.denied = { code = "fact_unattested" }'
    rehearsal.passes(
        climb
        + ask
        + about("activate", law.document.drill.principal, lacking)
        + about("attest", sensor, 'expect.receipts = [ { type = "approval" } ]')
        + '\n[[step]]\ndo = "activate"\nwith = { request = "{asked.request}" }\nsave = "top"\n'
        + 'expect.result = { profile = "guardian" }',
        law=law,
    )


def test_what_a_sensor_pushed_before_is_what_a_climb_rests_on(rehearsal):
    law = rehearsal.vaultmesh
    facts = 'facts = { "threat.confidence" = "0.93", "threat.type" = "intrusion" }'
    sensor = law.document.drill.stand_ins["sensors"][0]
    nobody = 'expect.denied = { code = "attestation_no_key" }'
    run = rehearsal.passes(
        CLIMB
        + step("push", facts, law.document.drill.principal, nobody)
        + step("push", facts, sensor, 'expect.receipts = [ { type = "attestation" } ]')
        + """
[[step]]
do   = "escalate"
with = { to = "guardian", trigger = "threat_detected", reason = "DRILL: a threat" }
expect.result = { profile = "guardian" }
""",
        law=law,
    )
    said = [row["what"] for row in timeline(run.receipts)]
    assert f"{sensor} attests threat.confidence, threat.type" in said


def test_a_lock_ends_what_it_covers_and_refuses_more_until_it_is_lifted(rehearsal):
    refused = 'expect.denied = { code = "locked" }'
    again = CLIMB.replace('save = "op"', refused)
    run = rehearsal.passes(
        CLIMB
        + step(
            "lock", "all = true", "agent:drill", 'expect.denied = { code = "lock_not_admitted" }'
        )
        + step("lock", 'all = true, reason = "all stop"', more='save = "stop"\nexpect.active = 0')
        + again
        + step("unlock", 'lock = "{stop.lock}"')
        + CLIMB.replace('save = "op"', "")
        + step("lock", 'principal = "agent:drill", ttl = "10m"', more="expect.active = 0")
        + again
        + WAIT
        + WAIT
        + CLIMB.replace('save = "op"', "")
        + step("lock", 'profile = "guardian"', more="expect.active = 1")
    )
    assert [one.name for one in run.steps if one.name.startswith("lock")] == [
        *("lock everybody", "lock everybody", "lock agent:drill", "lock guardian"),
    ]


def test_twice_the_same_leaves_the_same_root(rehearsal):
    steps = CLIMB + ASK + about("approve") + about("activate", "agent:drill")
    steps += step("lock", "all = true", more='save = "stop"') + step(
        "unlock", 'lock = "{stop.lock}"'
    )
    one, two = rehearsal.passes(steps), rehearsal.passes(steps)
    assert one.root == two.root


def test_the_packs_timeline_says_what_became_of_requests_and_locks(rehearsal):
    steps = CLIMB + ASK + about("approve") + step("lock", "all = true", more='save = "stop"')
    run = rehearsal.passes(steps + step("unlock", 'lock = "{stop.lock}"'))
    asked = run.receipts[3].fields["what"]["detail"]["request"][:19]
    said = [row["what"] for row in timeline(run.receipts)]
    assert said[3:-1] == [
        f"request {asked}… for guardian: pending",
        f"signed for request {asked}…: complete",
        "lock-5 on everybody: locked",
        "operator to observer: locked",
        f"request {asked}… for guardian: locked",
        "lock-5 on everybody: lifted",
    ]


@pytest.mark.parametrize("with_", ["", 'principal = "alice", all = true'])
def test_a_lock_that_names_not_one_thing_is_refused_when_it_is_read(with_, rehearsal):
    told = "'lock' is on exactly one of principal, profile, all = true: name it"
    with pytest.raises(DrillError, match=rf"^mine.drill.toml:\d+: step 1.*{told}"):
        rehearsal.read(step("lock", with_))


@pytest.mark.parametrize(
    ("with_", "message"),
    [
        ('principal = "mallory"', "with.principal: 'mallory' is in no group"),
        ('profile = "gardian"', "with.profile: no profile 'gardian' (did you mean 'guardian'?)"),
    ],
)
def test_what_a_lock_names_must_be_known(with_, message, rehearsal):
    run = rehearsal.run(step("lock", with_))
    assert run.verdict == "error"
    assert message in run.reason

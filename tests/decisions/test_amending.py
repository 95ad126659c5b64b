"""Amendments: who may change the law, what becomes of what is held, and what rules from then on."""

from contextlib import closing
from datetime import timedelta

import pytest

from vmstate.authority import Authority
from vmstate.decisions.command import Amend, make_command
from vmstate.errors import ConstitutionError, InputError, LedgerMismatch
from vmstate.ledger.audit import audit_bundle, audit_ledger
from vmstate.ledger.bundle import export
from vmstate.ledger.store import Ledger

HOUR, MINUTE = timedelta(hours=1), timedelta(minutes=1)
AMENDMENT = '[amendment]\nneeds.approval = { count = 1, of = ["sovereigns"] }\n'
OPERATOR_TTL = 'trigger  = "operator_request"\nttl      = "1h"'
GUARDIAN_TTL = 'ttl     = "30m"'


def changed(world, *changes):
    """The law in force with texts replaced."""
    text = world.vm.constitution.toml.decode()
    for old, new in changes:
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    return text.encode()


def amend(world, *changes, by=None, **given):
    """Have Ada ask for the law with texts replaced, as the sovereign approves."""
    toml = given.pop("toml", None) or changed(world, *changes)
    request = world.vm.prepare_amendment(world.ada, toml, reason="less of everything")
    approvals = (world.approval(request, by or world.root),)
    asked = {"request": request, "approvals": approvals, "reason": request.reason}
    return world.vm.amend(world.ada, toml, **{**asked, "key": world.key(world.ada), **given})


def operator_ttl(ttl):
    return OPERATOR_TTL, OPERATOR_TTL.replace("1h", ttl)


def rule(name, extra):
    return f"[escalations.{name}]\n", f"[escalations.{name}]\n{extra}\n"


def effects(world, since):
    """What was put on record of leases since a receipt: type, lease, and why."""
    found = [one.fields["what"] | {"type": one.type} for one in world.receipts()[since.seq + 1 :]]
    return [(one["type"], one["lease"], one["detail"]["why"]) for one in found]


def is_whole(world, tmp_path):
    assert audit_ledger(world.vm.ledger).findings == ()
    export(world.vm.ledger, tmp_path / "bundle")
    assert audit_bundle(tmp_path / "bundle").findings == ()
    return True


# ---- who may --------------------------------------------------------------------------------


def test_an_amendment_is_on_record_under_the_old_law_and_the_new_one_rules_what_follows(
    world, tmp_path
):
    old = world.vm.constitution
    receipt = amend(world, ('version  = "1.0.0"', 'version  = "1.1.0"'))
    new = world.vm.constitution
    assert new.digest != old.digest
    assert (receipt.type, receipt.outcome, receipt.rule) == (
        "constitution_amended",
        "recorded",
        "amendment",
    )
    said = receipt.fields
    assert said["authority"]["constitution"] == old.digest
    assert said["authority"]["facts"] == {"constitution.new": new.digest}
    detail = {key: said["what"]["detail"][key] for key in ("from", "to", "name", "version")}
    assert detail == {
        "from": old.digest,
        "to": new.digest,
        "name": "vaultmesh",
        "version": "1.1.0",
    }
    assert said["who"]["proof"] == "key"
    assert world.operator().fields["authority"]["constitution"] == new.digest
    assert is_whole(world, tmp_path)


def test_a_process_that_is_open_goes_on_under_the_new_law_and_an_old_file_opens_nothing(world):
    old = world.vm.constitution
    with closing(Authority(old, Ledger.open(world.vm.ledger.path), clock=world.clock)) as other:
        amend(world, operator_ttl("10m"))
        receipt = other.escalate(
            world.ada, "operator", trigger="operator_request", reason="look at ticket 4711"
        )
        assert receipt.expires_at == world.now + 10 * MINUTE
        assert other.constitution.digest == world.vm.constitution.digest
    with (
        closing(Ledger.open(world.vm.ledger.path)) as ledger,
        pytest.raises(LedgerMismatch, match="is under the constitution"),
    ):
        Authority(old, ledger)


def test_an_amendment_needs_what_the_law_in_force_asks_for_and_not_the_new_one(world):
    nobody = AMENDMENT, AMENDMENT.replace("sovereigns", "guardians")
    assert world.denied(
        amend(world, nobody, by=world.one), "approval_missing", "approval_not_admitted"
    )
    assert amend(world, nobody).granted
    assert world.denied(
        amend(world, operator_ttl("10m")), "approval_missing", "approval_not_admitted"
    )
    assert amend(world, operator_ttl("10m"), by=world.one).granted


def test_an_amendment_without_approvals_or_proof_of_who_asks_is_refused(world):
    assert world.denied(amend(world, operator_ttl("10m"), approvals=()), "approval_missing")
    assert world.denied(amend(world, operator_ttl("10m"), key=None), "not_proven")


def test_nobody_approves_an_amendment_of_their_own(world):
    toml = changed(world, operator_ttl("10m"))
    request = world.vm.prepare_amendment(world.root, toml)
    given = {"request": request, "approvals": (world.approval(request, world.root),)}
    denied = world.vm.amend(world.root, toml, key=world.key(world.root), **given)
    assert world.denied(denied, "approval_missing", "approval_own")


def test_what_was_approved_is_what_comes_into_force(world):
    toml = changed(world, operator_ttl("10m"))
    request = world.vm.prepare_amendment(world.ada, toml)
    given = {"request": request, "approvals": (world.approval(request, world.root),)}
    other = changed(world, operator_ttl("9h"))
    denied = world.vm.amend(world.ada, other, key=world.key(world.ada), **given)
    assert world.denied(denied, "request_differs")
    assert world.vm.amend(world.ada, toml, key=world.key(world.ada), **given).granted


def test_an_approval_under_the_old_law_counts_for_nothing_under_the_new(world):
    world.operator()
    request = world.request()
    approval = world.approval(request)
    amend(world, ('version  = "1.0.0"', 'version  = "1.1.0"'))
    denied = world.ask(request, approvals=(approval,))
    codes = {one.code for one in denied.unmet}
    assert {"request_other_constitution", "approval_other_constitution"} <= codes


def test_an_order_says_which_law_by_the_digest_of_its_file(world):
    toml = changed(world, operator_ttl("10m"))
    command = make_command(Amend, {"principal": world.ada, "toml": toml})
    order = world.vm.ordered(command, world.key(world.ada)).order
    other = make_command(Amend, {"principal": world.ada, "toml": toml + b"\n", "order": order})
    denied = world.vm.submit(other)
    assert denied.unmet[0].code == "order_other_subject"


def test_the_law_in_force_amends_nothing(world):
    denied = amend(world)
    assert world.denied(denied, "amends_nothing")
    assert denied.message == (
        f"{world.vm.constitution.digest} is in force already, needs another law"
    )


def test_without_an_amendment_table_the_law_stays(make_world):
    world = make_world((AMENDMENT, ""))
    denied = amend(world, operator_ttl("10m"))
    assert world.denied(denied, "no_amendment")
    assert denied.message == "vaultmesh has no [amendment], so it can't be amended"


def test_the_law_of_a_drill_stays(make_world):
    world = make_world(drill=True, origin="vaultmesh/drill/d1")
    denied = amend(world, operator_ttl("10m"))
    assert "amend_drill" in [one.code for one in denied.unmet]
    assert (
        "vaultmesh/drill/d1 is a drill's ledger, whose law stays as it is, needs a live ledger"
        in denied.message
    )


def test_a_law_that_does_not_load_is_told_before_anything_happens(world):
    size = world.vm.size()
    with pytest.raises(ConstitutionError, match=r"the new constitution:\d+: .*3 parsecs"):
        amend(world, toml=changed(world, operator_ttl("3 parsecs")))
    with pytest.raises(InputError, match="the constitution is not UTF-8 text"):
        make_command(Amend, {"principal": world.ada, "toml": b"\xff"})
    assert world.vm.size() == size


def test_a_clock_in_the_past_amends_nothing(world):
    world.operator()
    world.clock.reboot(down_for=MINUTE, wall_error=-HOUR)
    assert "clock_regression" in [one.code for one in amend(world, operator_ttl("9m")).unmet]


def test_whose_person_is_locked_neither_asks_for_an_amendment_nor_approves_one(world):
    world.vm.lock(world.one, principal=world.root, ttl=HOUR, key=world.key(world.one))
    denied = amend(world, operator_ttl("10m"))
    assert world.denied(denied, "approval_missing", "approval_locked")
    world.vm.lock(world.one, principal=world.ada, key=world.key(world.one), ttl=HOUR)
    assert "order_locked" in [one.code for one in amend(world, operator_ttl("10m")).unmet]


# ---- keys -----------------------------------------------------------------------------------


def test_a_key_that_was_exchanged_signs_nothing_more_and_the_new_one_does(world, tmp_path):
    world.operator()
    old, new = world.key(world.one), world.key("one's new key")
    amend(world, (str(old.public), str(new.public)))
    request = world.request()
    denied = world.ask(request, approvals=(world.approval(request, world.one),))
    assert world.denied(denied, "approval_missing", "approval_signature")
    by_new = world.approval(request, world.one, signed_with=new)
    assert world.ask(request, approvals=(by_new,)).granted
    assert is_whole(world, tmp_path)


def test_a_key_that_was_taken_away_signs_nothing_more_and_what_it_signed_stays_true(
    world, tmp_path
):
    world.operator()
    world.guardian()
    table = f'[principals."{world.one}"]\nkey = "{world.key(world.one).public}"\n'
    amend(world, (table, ""))
    request = world.request(world.bob)
    world.operator(world.bob)
    denied = world.ask(request, approvals=(world.approval(request, world.one),))
    assert world.denied(denied, "approval_missing", "approval_no_key")
    assert is_whole(world, tmp_path)


# ---- what becomes of what is held -----------------------------------------------------------


def test_a_lease_is_cut_to_what_the_new_law_allows(world, tmp_path):
    lease = world.operator()
    world.wait(minutes=5)
    amended = amend(world, operator_ttl("10m"))
    assert effects(world, amended) == [("lease_clamped", lease.lease, "ttl")]
    cut = world.receipts()[-1]
    assert cut.expires_at == lease.at + 10 * MINUTE
    assert cut.fields["what"]["detail"]["was"] == lease.fields["what"]["expires_at"]
    assert cut.fields["what"]["clipped_by"] == "ttl"
    assert cut.fields["authority"]["constitution"] == world.vm.constitution.digest
    world.wait(minutes=4, seconds=59)
    assert world.vm.may(world.ada, "operator")
    world.wait(seconds=1)
    assert not world.vm.may(world.ada, "operator")
    assert is_whole(world, tmp_path)


def test_a_lease_that_is_over_by_the_new_law_ends_with_the_amendment(world, tmp_path):
    lease = world.operator()
    world.wait(minutes=10)
    amended = amend(world, operator_ttl("10m"))
    assert effects(world, amended) == [("profile_deescalation", lease.lease, "ttl")]
    assert world.receipts()[-1].fields["what"]["ending"] == "amended"
    assert not world.vm.may(world.ada, "operator")
    assert is_whole(world, tmp_path)


def test_a_longer_ttl_lengthens_nothing(world):
    lease = world.operator()
    amended = amend(world, operator_ttl("9h"))
    assert effects(world, amended) == []
    assert world.vm.lease(lease.lease).expires_at == lease.expires_at


def test_a_renewed_lease_is_not_cut_by_a_law_that_leaves_its_rule_as_it_was(world):
    lease = world.operator().lease
    world.wait(minutes=50)
    until = world.vm.renew(world.ada, lease, reason="look at ticket 4711").expires_at
    world.wait(minutes=30)
    amended = amend(world, ('version  = "1.0.0"', 'version  = "1.1.0"'))
    assert effects(world, amended) == []
    assert world.vm.lease(lease).expires_at == until


def test_a_renewed_lease_is_cut_by_fewer_renewals_and_by_a_shorter_ttl(world, tmp_path):
    lease = world.operator().lease
    world.wait(minutes=50)
    world.vm.renew(world.ada, lease, reason="look at ticket 4711")
    amended = amend(world, operator_ttl("40m"))
    assert effects(world, amended) == [("lease_clamped", lease, "ttl")]
    granted = world.vm.lease(lease).granted_at
    assert world.vm.lease(lease).expires_at == granted + 80 * MINUTE
    world.wait(minutes=10)
    amended = amend(world, ('ttl      = "40m"\nrenewals = 3', 'ttl      = "40m"\nrenewals = 0'))
    assert effects(world, amended) == [("profile_deescalation", lease, "ttl")]
    assert is_whole(world, tmp_path)


def test_what_stands_on_a_lease_that_is_cut_is_cut_with_it_and_first(world, tmp_path):
    operator = world.operator().lease
    guardian = world.guardian().lease
    amended = amend(world, operator_ttl("10m"), rule("guardian_on_request", 'on_amend = "keep"'))
    assert effects(world, amended) == [
        ("lease_clamped", guardian, "parent"),
        ("lease_clamped", operator, "ttl"),
    ]
    world.wait(minutes=10)
    assert world.profile() == "observer"
    assert is_whole(world, tmp_path)


def test_a_rule_that_says_keep_keeps_its_leases_and_says_so_in_the_law_that_granted_them(
    make_world, tmp_path
):
    world = make_world(rule("operator_on_request", 'on_amend = "keep"'))
    lease = world.operator()
    amended = amend(
        world,
        operator_ttl("10m"),
        ('on_amend = "keep"', 'on_amend = "end"'),
    )
    assert effects(world, amended) == []
    assert world.vm.lease(lease.lease).expires_at == lease.expires_at
    amended = amend(world, ('version  = "1.0.0"', 'version  = "1.1.0"'))
    assert effects(world, amended) == [("profile_deescalation", lease.lease, "rule_ends")]
    assert is_whole(world, tmp_path)


def test_a_rule_that_says_end_ends_its_leases_and_what_stands_on_them_the_top_first(
    make_world, tmp_path
):
    world = make_world(rule("operator_on_request", 'on_amend = "end"'))
    operator = world.operator().lease
    guardian = world.guardian().lease
    amended = amend(world, ('version  = "1.0.0"', 'version  = "1.1.0"'))
    assert effects(world, amended) == [
        ("profile_deescalation", guardian, "parent"),
        ("profile_deescalation", operator, "rule_ends"),
    ]
    endings = [one.fields["what"]["ending"] for one in world.receipts()[-2:]]
    assert endings == ["parent_ended", "amended"]
    assert is_whole(world, tmp_path)


GONE = {
    "the rule": (
        ("[escalations.operator_on_request]", "[escalations.operator_when_asked]"),
        "rule_gone",
    ),
    "the rule's trigger": (
        (OPERATOR_TTL, OPERATOR_TTL.replace("tor_r", "tors_r")),
        "rule_gone",
    ),
    "the holder": (
        ('operators  = ["did:vm:operator:*"]', 'operators  = ["did:vm:operator:drill"]'),
        "requester",
    ),
}


@pytest.mark.parametrize("name", GONE)
def test_a_lease_ends_whose_ground_is_gone(make_world, tmp_path, name):
    world = make_world()
    change, why = GONE[name]
    lease = world.operator().lease
    amended = amend(world, change)
    assert amended.granted, amended.message
    assert effects(world, amended) == [("profile_deescalation", lease, why)]
    assert world.profile() == "observer"
    assert is_whole(world, tmp_path)


def test_a_lease_ends_whose_holder_the_new_law_does_not_know(make_world, tmp_path):
    world = make_world(rule("operator_on_request", 'on_amend = "keep"'))
    lease = world.operator(world.agent).lease
    amended = amend(world, ('agents     = ["did:vm:agent:*"]', 'agents     = ["did:vm:robot:*"]'))
    assert effects(world, amended) == [("profile_deescalation", lease, "unknown_principal")]
    assert not world.vm.may(world.agent, "operator")
    assert is_whole(world, tmp_path)


def test_a_lease_ends_whose_profile_has_another_place_on_the_ladder(world, tmp_path):
    world.operator()
    guardian = world.guardian().lease
    ladder = '[profiles.guardian]\nsymbol = "🛡"\nabove  = "operator"'
    between = f'[profiles.auditor]\nabove = "operator"\n\n{ladder}'.replace(
        'symbol = "🛡"\nabove  = "operator"', 'symbol = "🛡"\nabove  = "auditor"'
    )
    amended = amend(world, (ladder, between))
    assert amended.granted, amended.message
    assert effects(world, amended) == [("profile_deescalation", guardian, "profile_moved")]
    assert world.profile() == "operator"
    assert is_whole(world, tmp_path)


def test_a_new_baseline_ends_everything(world, tmp_path):
    lease = world.operator().lease
    amended = amend(
        world,
        ('baseline = "observer"', 'baseline = "guest"'),
        ("[profiles.observer]\n", '[profiles.guest]\n\n[profiles.observer]\nabove = "guest"\n'),
    )
    assert amended.granted, amended.message
    assert effects(world, amended) == [("profile_deescalation", lease, "rule_gone")]
    assert world.receipts()[-1].fields["what"]["to"] == "guest"
    assert world.profile() == "guest"
    assert is_whole(world, tmp_path)


def test_a_new_hold_cap_cuts_what_is_held(world, tmp_path):
    world.operator()
    guardian = world.guardian()
    world.wait(minutes=5)
    amended = amend(world, ('phoenix = "10m"', 'phoenix = "10m"\nguardian = "12m"'))
    assert effects(world, amended) == [("lease_clamped", guardian.lease, "hold")]
    assert world.vm.lease(guardian.lease).expires_at == guardian.at + 12 * MINUTE
    assert is_whole(world, tmp_path)


def test_new_bounds_on_uses_and_idleness_bind_what_is_held(world, tmp_path):
    lease = world.operator().lease
    world.wait(minutes=5)
    amended = amend(world, rule("operator_on_request", 'max_uses = 2\nidle_ttl = "10m"'))
    assert effects(world, amended) == [("lease_clamped", lease, "uses")]
    held = world.vm.lease(lease)
    assert (held.max_uses, held.idle_ttl) == (2, 10 * MINUTE)
    world.wait(minutes=10)
    assert not world.vm.may(world.ada, "operator")
    world.vm.settle([world.ada])
    assert is_whole(world, tmp_path)


def test_what_was_over_by_then_ends_by_its_own_deadline_before_the_law_changes(world, tmp_path):
    lease = world.operator(ttl=10 * MINUTE)
    world.wait(minutes=20)
    amended = amend(world, operator_ttl("5m"))
    assert effects(world, amended) == []
    end = world.receipts()[amended.seq - 1]
    assert (end.lease, end.fields["what"]["ending"]) == (lease.lease, "timeout_expired")
    assert is_whole(world, tmp_path)


def test_listeners_hear_of_everything_that_an_amendment_does(world):
    world.operator()
    heard = []
    world.vm.subscribe(lambda receipt: heard.append(receipt.type))
    amend(world, operator_ttl("10m"))
    assert heard == ["constitution_amended", "lease_clamped"]


# ---- open requests ----------------------------------------------------------------------------


def requests(world, since):
    """What was put on record of requests since a receipt: state, id, and which it opens again."""
    found = [one for one in world.receipts()[since.seq + 1 :] if one.type == "request"]
    details = [one.fields["what"]["detail"] for one in found]
    return [(one["state"], one["request"], one.get("reopens")) for one in details]


def test_an_open_request_is_asked_anew_under_the_new_law_and_waits_no_longer(world, tmp_path):
    world.operator()
    request = world.request()
    opened = world.vm.open_request(request)
    world.wait(minutes=40)
    world.vm.approve(request.id, world.one, key=world.key(world.one))
    assert world.vm.foresee_amendment(changed(world, operator_ttl("10m"))).requests == 1
    amended = amend(world, ('version  = "1.0.0"', 'version  = "1.1.0"'))
    (old, new) = requests(world, amended)
    assert old == ("amended", request.id, None)
    assert (new[0], new[2]) == ("pending", request.id)
    assert new[1] != request.id
    waiting = world.vm.request(new[1])
    assert waiting.waits_until == opened.at + HOUR
    assert world.vm.requests() == (waiting,)
    assert world.denied(world.vm.activate(world.ada, request.id), "request_over")
    assert not world.vm.activate(world.ada, new[1]).granted
    world.vm.approve(new[1], world.one, key=world.key(world.one))
    assert world.vm.activate(world.ada, new[1]).granted
    assert is_whole(world, tmp_path)


def test_an_open_request_is_not_asked_anew_where_the_new_law_refuses_or_grants_it(world, tmp_path):
    world.operator()
    world.operator(world.bob)
    request, other = world.request(), world.request(world.bob)
    world.vm.open_request(request)
    world.vm.open_request(other)
    needs = 'needs.approval  = { count = 1, of = ["guardians", "sovereigns"] }\n'
    amended = amend(world, (needs, ""))
    assert requests(world, amended) == [
        ("amended", request.id, None),
        ("amended", other.id, None),
    ]
    assert world.profile() == "operator"
    assert is_whole(world, tmp_path)


def test_a_request_that_waits_longer_than_the_new_law_lets_it_is_cut_to_that(world, tmp_path):
    world.operator()
    world.vm.open_request(world.request())
    world.wait(minutes=2)
    amended = amend(world, ('waits        = "1h"', 'waits        = "5m"'))
    (waiting,) = world.vm.requests()
    assert waiting.waits_until == amended.at + 5 * MINUTE
    assert is_whole(world, tmp_path)


def test_a_request_that_was_over_by_then_is_not_opened_again(world, tmp_path):
    world.operator()
    request = world.request()
    world.vm.open_request(request)
    world.vm.approve(request.id, world.one, key=world.key(world.one))
    world.wait(minutes=16)
    amended = amend(world, ('version  = "1.0.0"', 'version  = "1.1.0"'))
    assert requests(world, amended) == []
    assert world.vm.requests() == ()
    assert is_whole(world, tmp_path)


# ---- foreseen -------------------------------------------------------------------------------


def test_what_an_amendment_would_do_is_foreseen_by_the_same_path_and_nothing_is_written(world):
    world.operator()
    world.guardian()
    world.operator(world.bob, ttl=5 * MINUTE)
    world.wait(minutes=2)
    size, toml = world.vm.size(), changed(world, operator_ttl("10m"))
    seen = world.vm.foresee_amendment(toml)
    assert (seen.kept, seen.clamped, seen.ended) == (1, 2, 0)
    assert seen.old == world.vm.constitution.digest
    assert seen.old_toml == world.vm.constitution.toml
    assert seen.requests == 0
    assert world.vm.size() == size
    amended = amend(world, toml=toml)
    assert seen.new == world.vm.constitution.digest
    told = [("lease_clamped", one.lease.id, one.why) for one in seen.effects]
    assert effects(world, amended) == told

"""Locks and amendments at the socket: asked by who is known there, as in the ledger's file."""

from datetime import timedelta

import pytest

from vmstate.errors import ConstitutionError
from vmstate.signing import approve

ADA, SOVEREIGN, ONE = "did:vm:operator:ada", "did:vm:sovereign:root", "did:vm:guardian:one"
MINUTE = timedelta(minutes=1)
SHORTER = ('trigger  = "operator_request"\nttl      = "1h"', '= "operator_request"\nttl = "10m"')


def climb(client, who=ADA):
    return client.escalate(
        who, "operator", trigger="operator_request", reason="look at ticket 4711"
    )


def shorter(client):
    text = client.constitution.toml.decode()
    assert text.count(SHORTER[0]) == 1
    return text.replace(SHORTER[0], f"trigger  {SHORTER[1]}").encode()


def test_an_account_that_may_locks_and_lifts_and_everybody_sees_what_stands(service):
    ada, sovereign = service.at("ada"), service.at("root-phone")
    assert climb(ada).granted
    locked = sovereign.lock(SOVEREIGN, principal=ADA, reason="stolen", ttl=5 * MINUTE)
    assert locked.granted, locked.message
    assert locked.fields["who"]["proof"] == "peer"
    assert not ada.may(ADA, "operator")
    (lock,) = ada.locks()
    assert (lock.name, lock.reason, lock.by) == (ADA, "stolen", SOVEREIGN)
    assert [one.code for one in climb(ada).unmet] == ["locked"]
    assert not ada.lock(ADA).granted
    assert sovereign.unlock(SOVEREIGN, lock.id).granted
    assert ada.locks() == ()
    service.check_audit()


def test_an_amendment_is_foreseen_and_made_and_the_client_goes_on_under_it(service):
    ada = service.at("ada")
    lease = climb(ada)
    toml, old = shorter(ada), ada.constitution.digest
    seen = ada.foresee_amendment(toml)
    assert (seen.kept, seen.clamped, seen.ended) == (0, 1, 0)
    assert seen.effects[0].after.expires_at == lease.at + 10 * MINUTE
    request = ada.prepare_amendment(ADA, toml, reason="an hour is long")
    until = service.now + MINUTE
    approval = approve(request, SOVEREIGN, service.key(SOVEREIGN), expires_at=until)
    amended = ada.amend(ADA, toml, request=request, approvals=(approval,), reason="an hour is long")
    assert amended.granted, amended.message
    assert amended.fields["who"]["proof"] == "peer"
    assert ada.lease(lease.lease).expires_at == lease.at + 10 * MINUTE
    assert ada.constitution.digest == seen.new != old
    service.check_audit()


def test_a_law_that_does_not_load_is_told_as_in_the_file(service):
    ada = service.at("ada")
    with pytest.raises(ConstitutionError, match="the new constitution:1: is not TOML"):
        ada.foresee_amendment(b"[")

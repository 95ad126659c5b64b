"""Idempotency keys over a socket: nobody hears another's answers, nor uses up their keys."""

from vmstate.decisions.command import Release, make_command

ADA = "did:vm:operator:ada"


def asked(client, who=ADA, **fields):
    return client.escalate(
        who, "operator", trigger="operator_request", reason="look at ticket 4711", **fields
    )


def test_asked_again_after_a_lost_connection_the_answer_is_the_same(service):
    first = asked(service.at("ada"), idempotency_key="k")
    again = asked(service.at("ada"), idempotency_key="k")
    assert (first.granted, again.body) == (True, first.body)
    service.check_audit()


def test_a_stranger_hears_no_answer_and_uses_up_no_key(service):
    denied = asked(service.at("agent"), idempotency_key="k")
    assert "not_caller" in [one.code for one in denied.unmet]
    assert "idempotency" not in denied.fields["proofs"]
    first = asked(service.at("ada"), idempotency_key="k")
    assert first.granted
    again = asked(service.at("agent"), idempotency_key="k")
    assert (again.granted, again.seq) == (False, first.seq + 1)
    service.check_audit()


def test_who_signed_an_order_hears_its_answer_from_any_account(service):
    """The very same command, order and all, which by then was used."""
    lease = asked(service.at("ada")).lease
    client = service.at("agent")
    fields = {"principal": ADA, "lease": lease, "idempotency_key": "k"}
    order = client.ordered(make_command(Release, fields), service.key(ADA))
    first = client.submit(order)
    assert (first.granted, first.fields["who"]["proof"]) == (True, "key")
    assert client.submit(order).body == first.body
    service.check_audit()

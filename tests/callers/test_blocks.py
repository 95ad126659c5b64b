"""Blocks and commands under a lease, where authority is asked for at a socket."""

import os
import threading
from datetime import timedelta

import pytest

from vmstate.elevation import requires
from vmstate.errors import LeaseEnded
from vmstate.interfaces.cli.processes import Family
from vmstate.interfaces.cli.run import _say_end
from vmstate.interfaces.cli.settings import Settings
from vmstate.interfaces.cli.supervising import Watch, supervise

ADA, ROOT = "did:vm:operator:ada", "did:vm:sovereign:root"
ASKED = {"trigger": "operator_request", "reason": "look at ticket 4711"}


@requires("operator")
def restart():
    return "restarted"


def test_a_block_takes_and_gives_back_over_a_socket(service):
    with service.at("ada").elevated("operator", as_=ADA, **ASKED) as lease:
        assert restart() == "restarted"
        assert service.vm.stands(lease.id)
        service.wait(hours=1)
        with pytest.raises(LeaseEnded):
            restart()
    assert service.vm.status() == ()
    service.check_audit()


def test_a_lock_set_elsewhere_ends_a_command_whose_lease_is_watched_over_a_socket(service):
    """The service's clock stands still here; only what it says of the lease can end the command."""
    client = service.at("ada")
    lease = client.escalate(ADA, "operator", **ASKED).raise_for_denial().lease
    watch = Watch(client, client.standing(ADA), lease, service.clock)
    family = Family(["sleep", "100"], os.environ)
    try:
        service.vm.lock(ROOT, principal=ADA, key=service.key(ROOT)).raise_for_denial()
        outcome = supervise(family, watch, timedelta())
    finally:
        family.end()
        family.close()
    assert outcome.ended == f"{lease} was ended"
    service.check_audit()


def test_the_receipt_of_an_end_by_time_is_waited_for_where_the_service_writes_it(service, capsys):
    client = service.at("ada")
    granted = client.escalate(ADA, "operator", **ASKED).raise_for_denial()
    service.wait(hours=3)
    late = threading.Timer(0.2, service.vm.settle, [[ADA]])
    late.start()
    _say_end(Settings(), client, granted, ADA)
    late.join()
    assert "lease-1 ended by timeout_expired\n" in capsys.readouterr().err

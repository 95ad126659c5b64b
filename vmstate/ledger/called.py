"""Does a receipt that lets a tool be called follow from the law of its time?"""

from collections.abc import Iterator, Mapping

from vmstate.constitution.law import Constitution
from vmstate.constitution.people import People
from vmstate.constitution.tools import rule_path
from vmstate.decisions.command import TOOL_CALL
from vmstate.ledger.held import Held
from vmstate.ledger.receipt import Receipt


def call_faults(
    receipt: Receipt, law: Constitution | None, people: People, leases: Mapping[str, Held]
) -> Iterator[str]:
    """Why this call, or these that are told together, could not have been allowed.

    Nothing where it is no call.
    """
    if law is None or receipt.type != TOOL_CALL:
        return
    said = receipt.fields
    detail, principal = said["what"]["detail"], said["who"]["principal"]
    server = law.document.tools.get(detail["server"])
    found = None if server is None else server.rule_for(detail["kind"], detail["name"])
    if server is None or found is None:
        yield f"lets {detail['name']!r} be called, which [tools] does not list"
        return
    pattern, rule = found
    if receipt.rule != rule_path(detail["server"], detail["kind"], pattern):
        yield f"names {receipt.rule!r}, another rule decides about {detail['name']!r}"
    held = leases.get(receipt.lease or "")
    profile = law.baseline if held is None else held.profile
    if not law.includes(profile, rule.profile):
        yield f"lets {profile} call what takes {rule.profile}"
    if "count" in detail and (rule.each_call or rule.profile != law.baseline):
        yield "tells calls together that each need a receipt"
    if rule.each_call:
        approvers = [one["by"] for one in said["authority"]["approvals"]]
        own = people.person(principal)
        counted = [
            name
            for name in approvers
            if people.in_any(name, server.approvers or ()) and people.person(name) != own
        ]
        if not counted:
            yield "lets a call be made that nobody approved"
        asked = said["authority"]["facts"]
        if said["proofs"].get("request") is None or any(
            asked.get(key) != detail[key] for key in ("server", "kind", "name")
        ):
            yield "lets a call be made that no request is for"

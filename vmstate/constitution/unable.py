"""What a well-formed law leaves nobody able to do: a warning for each, and never a mistake.

A law that nobody can stop or change is a law, and keys may be bound later. But whoever wrote it
should not find out on the day on which they need it.
"""

from collections.abc import Iterable, Iterator

from vmstate.constitution.document import HOLDER, ApprovalNeed
from vmstate.constitution.guards import seat
from vmstate.constitution.law import Constitution


def find_unable(law: Constitution) -> tuple[str, ...]:
    """One line for each thing that nobody can do under `law` as it stands."""
    return (*_stopping(law), *_changing(law), *_climbing(law))


def _stopping(law: Constitution) -> Iterator[str]:
    locks = law.document.locks
    if locks is None:
        yield "nobody may lock: there is no [locks]"
    else:
        for key, groups in (("lock", locks.by), ("lift a lock", locks.lift)):
            if not _proven(law, groups):
                yield f"nobody may {key} yet: {_nobody(groups)} has a key, an account or a token"
    others: list[str] = []
    for name, ending in law.document.endings.items():
        groups = tuple(group for group in ending.by or () if group != HOLDER)
        others += groups
        if groups and not _proven(law, groups):
            held = " but the holder" if HOLDER in (ending.by or ()) else ""
            missing = f"{_nobody(groups)} has a key, an account or a token"
            yield f"nobody{held} may end a lease by {name} yet: {missing}"
    if not others:
        yield "nobody may revoke another's lease: no ending names a group in its `by`"


def _changing(law: Constitution) -> Iterator[str]:
    document = law.document
    if document.amendment is None:
        yield "this law can never be changed: there is no [amendment]"
    elif missing := _unseated(law, document.amendment.needs.approval):
        yield f"this law can't be changed yet: {missing}"
    if document.recovery is not None:
        missing = _unseated(law, document.recovery.needs.approval)
        if missing:
            yield f"nobody can go on after a clock in the past yet: {missing}"


def _climbing(law: Constitution) -> Iterator[str]:
    document = law.document
    signed = [name for name, rule in law.rules.items() if rule.needs.approval]
    if signed and document.requests is None:
        yield f"no request, as for {signed[0]}, can wait until it is signed: there is no [requests]"
    for name, rule in law.rules.items():
        if missing := _unseated(law, rule.needs.approval):
            yield f"{name} can't be granted yet: {missing}"
        attested = {fact: document.facts[fact].attested_by for fact in rule.needs.facts}
        for by in dict.fromkeys(attested.values()):
            if by is not None and not _with_keys(law, (by,)):
                facts = ", ".join(fact for fact, one in attested.items() if one == by)
                yield f"{name} can't be granted yet: {_nobody((by,))} has a key to attest {facts}"
    for name, server in document.tools.items():
        if server.approvers is not None and not _with_keys(law, server.approvers):
            missing = f"{_nobody(server.approvers)} has a key"
            yield f"no single call of tools.{name} can be approved yet: {missing}"


def _unseated(law: Constitution, stages: tuple[ApprovalNeed, ...]) -> str:
    """Why these approvals can't be had from people who have keys; empty if they can."""
    seats = seat(law.people, law.people.keys, stages)
    for names, stage in zip(seats, stages, strict=True):
        if not _with_keys(law, stage.of):
            return f"{_nobody(stage.of)} has a key"
        if len(names) < stage.count:
            of = ", ".join(stage.of)
            return f"{len(names)} in {of} can sign for it with a key, it takes {stage.count}"
    return ""


def _with_keys(law: Constitution, groups: Iterable[str]) -> bool:
    groups = tuple(groups)
    return any(law.people.in_any(name, groups) for name in law.people.keys)


def _proven(law: Constitution, groups: Iterable[str]) -> bool:
    """Whether anybody in `groups` can be known for certain."""
    groups, people = tuple(groups), law.people
    known = (*people.keys, *people.accounts, *people.tokens)
    return any(people.in_any(name, groups) for name in known)


def _nobody(groups: Iterable[str]) -> str:
    return f"nobody in {', '.join(groups)}"

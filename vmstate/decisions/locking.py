"""Deciding locks: who may lock whom or what, and who may lift it.

A lock takes nobody's leave but that of `[locks]`; what its maker holds, waits for or is covered by
is no reason against it. Lifting restores nothing: what a lock ended is asked for anew.

Whose person is locked may neither lock nor lift, whatever proves them: a stolen key is what locks
are for. So a lock that nobody else could ever lift has to end by itself.
"""

from collections.abc import Iterator
from dataclasses import replace

from vmstate.canonical import Json, format_at
from vmstate.clock import Moment
from vmstate.constitution.facts import did_you_mean
from vmstate.constitution.unmet import Unmet
from vmstate.decisions.command import LiftLock, SetLock
from vmstate.decisions.decision import Entry, Grounds, State
from vmstate.decisions.ending import end_of
from vmstate.decisions.law import Law, proof_faults
from vmstate.decisions.refusing import denial
from vmstate.errors import InputError
from vmstate.leases.lease import LOCKED, LeaseStack
from vmstate.leases.lock import Lock
from vmstate.leases.watermark import later

LOCKS = 1_000  # on people and profiles: each decision reads those that stand


def set_lock(law: Law, state: State, command: SetLock, now: Moment) -> Entry:
    """The receipt of a lock, or of its refusal; `ends_by` says what it ends.

    Raises:
        InputError: the scope and the name don't go together.
    """
    if (command.scope == "all") != (not command.name):
        wanted = "takes no name" if command.scope == "all" else "needs a name"
        raise InputError(f"a lock on {command.scope} {wanted}")
    unmet = _locker_faults(law, state, command, "by", "lock")
    unmet += _scope_faults(law, command)
    if command.ttl is None and not unmet and not any(_lifters(law, state, command)):
        remedy = "say for how long: --ttl, or name more people in [locks] lift"
        subject = command.name or "everybody"
        unmet.append(Unmet("locks.lift", "lock_for_ever", "an end", subject, remedy))
    if command.scope != "all" and len(state.locks) >= LOCKS:
        remedy = "lift some of them, see vmstate lock list; or lock everybody"
        unmet.append(Unmet("locks", "locks_full", f"{LOCKS:,}", f"{len(state.locks):,}", remedy))
    if unmet:
        return denial(state, command, unmet, now)
    until = None if command.ttl is None else later(now, command.ttl)
    by, reason = command.asked_by, command.reason
    lock = Lock(state.next_seq, command.scope, command.name, by, reason, now, until)
    return _asked(lock, "locks.by", command)


def lift_lock(law: Law, state: State, command: LiftLock, now: Moment) -> Entry:
    """The receipt of a lock that was lifted, or of the refusal to lift it."""
    unmet = _locker_faults(law, state, command, "lift", "lift a lock")
    lock = next((one for one in state.locks if one.id == command.lock), None)
    if lock is None:
        remedy = "name one of vmstate lock list"
        unmet.append(Unmet("locks", "unknown_lock", "a lock that stands", command.lock, remedy))
    if unmet or lock is None:
        return denial(state, command, unmet, now)
    return _asked(replace(lock, state="lifted"), "locks.lift", command)


def lock_ends(state: State, now: Moment) -> tuple[Entry, ...]:
    """The receipts of locks that time has ended: no command, no actor."""
    over = (replace(one, state="expired") for one in state.locks if not one.stands(now))
    return tuple(
        replace(_entry(one, "locks"), due=one.until.wall if one.until else None) for one in over
    )


def ends_by(law: Law, entry: Entry, stack: LeaseStack, now: Moment) -> Iterator[Entry]:
    """The ends of what the lock in `entry` covers of one stack, the top of it first.

    What is overdue has to have been ended before, by its own deadline.
    """
    lock, leases = entry.lock, stack.leases
    assert lock is not None
    first = next(
        (depth for depth, one in enumerate(leases) if law.covers(lock, one.principal, one.profile)),
        len(leases),
    )
    for lease in reversed(leases[first:]):
        below, said = stack.below(lease), {"lock": lock.id}
        yield end_of(lease, LOCKED, now, rule="locks", below=below, by=entry, detail=said)


def _locker_faults(
    law: Law, state: State, command: SetLock | LiftLock, key: str, doing: str
) -> list[Unmet]:
    """Why who asks may not lock or lift; `key` names the groups who may."""
    unmet = proof_faults(law, state, command)
    table = law.document.locks
    if table is None:
        remedy = "have the constitution amended"
        return [*unmet, Unmet("locks", "no_locks", "[locks]", doing, remedy)]
    groups = table.by if key == "by" else table.lift
    if not law.people.in_any(command.asked_by, groups):
        named = ", ".join(groups)
        remedy = f"have it signed by somebody in {named}: --as NAME --key FILE"
        unmet.append(Unmet(f"locks.{key}", "lock_not_admitted", named, command.asked_by, remedy))
    return unmet


def _scope_faults(law: Law, command: SetLock) -> list[Unmet]:
    """Why this can't be locked: a mistyped name would lock nobody, and look as if it had."""
    profiles, name = law.document.profiles, command.name
    if command.scope == "principal" and not law.people.knows(name):
        return [law.unknown_subject(name)]
    if command.scope == "profile" and name not in profiles:
        known = ", ".join(profiles)
        remedy = f"name one of {known}{did_you_mean(name, profiles)}"
        return [Unmet("profiles", "unknown_profile", known, name, remedy)]
    if command.scope == "profile" and name == law.document.constitution.baseline:
        remedy = "lock everybody instead: --all"
        return [Unmet("locks", "lock_on_baseline", "a profile above it", name, remedy)]
    return []


def _lifters(law: Law, state: State, command: SetLock) -> Iterator[str]:
    """Whoever could lift the lock asked for: admitted, provable, and locked by nothing."""
    people, table = law.people, law.document.locks
    locked = {people.person(one.name) for one in state.locks if one.scope == "principal"}
    if command.scope == "principal":
        locked.add(people.person(command.name))
    bound = (n for n, one in law.document.principals.items() if one.account or one.token)
    if table is not None:
        admitted = (one for one in (*people.keys, *bound) if people.in_any(one, table.lift))
        yield from (one for one in admitted if people.person(one) not in locked)


def _asked(lock: Lock, rule: str, command: SetLock | LiftLock) -> Entry:
    entry = _entry(lock, rule)
    actor, proof = command.asked_by, command.proof
    return replace(entry, actor=actor, proof=proof, why=command.reason)


def _entry(lock: Lock, rule: str) -> Entry:
    until = None if lock.until is None else format_at(lock.until.wall)
    detail: dict[str, Json] = {
        "lock": lock.id,
        "scope": lock.scope,
        "name": lock.name or None,
        "until": until,
        "state": lock.state,
    }
    return Entry(
        "lock",
        "expired" if lock.state == "expired" else "recorded",
        Grounds(rule),
        principal=lock.name if lock.scope == "principal" else None,
        expires_at=None if lock.until is None else lock.until.wall,
        detail=detail,
        lock=lock,
    )

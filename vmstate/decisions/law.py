"""What every decision leans on: the constitution, its people, its machine, this ledger's origin."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from vmstate.canonical import Json, format_at
from vmstate.clock import Moment
from vmstate.constitution.document import ApprovalNeed, Document
from vmstate.constitution.facts import did_you_mean
from vmstate.constitution.guards import seat
from vmstate.constitution.law import Constitution
from vmstate.constitution.machine import ProfileMachine
from vmstate.constitution.people import People
from vmstate.constitution.unmet import Unmet
from vmstate.decisions.command import Amend, Call, Command, Recover
from vmstate.decisions.decision import State
from vmstate.decisions.evidence import Heard, Setting
from vmstate.leases.lock import Lock
from vmstate.signing import Request, Signed


@dataclass(frozen=True, slots=True)
class Law:
    """`people` are the constitution's, and a drill's stand-ins where the ledger is a drill's."""

    constitution: Constitution
    origin: str
    people: People
    machine: ProfileMachine

    @property
    def document(self) -> Document:
        return self.constitution.document

    def setting(self, state: State, now: Moment, principal: str) -> Setting:
        """Where, when and for whom a signed statement would have to count."""
        digest = self.constitution.digest
        locked = {
            self.people.person(lock.name): lock.words
            for lock in state.locks
            if lock.scope == "principal" and lock.stands(now)
        }
        mark, people, used = state.watermark, self.people, state.used
        return Setting(
            self.origin,
            digest,
            people,
            now,
            mark.signed_wall(now),
            used,
            principal,
            locked,
            since=mark.wall_since(now),
            after=mark.back,
            pushed=tuple(one.statement for one in state.pushed),
        )

    def covers(self, lock: Lock, principal: str, profile: str) -> bool:
        """Whether `lock` keeps `principal` from holding `profile`."""
        return lock.covers(self.constitution, self.people, principal, profile)

    def unknown_principal(self, name: str) -> Unmet:
        remedy = "add the name to a group, or ask as somebody who is in one"
        return Unmet("groups", "unknown_principal", "a known principal", name, remedy)

    def unknown_subject(self, name: str) -> Unmet:
        """As `unknown_principal`, of somebody whom who asks names."""
        written = {one for patterns in self.people.groups.values() for one in patterns}
        known = (*(one for one in written if not one.endswith("*")), *self.people.named)
        remedy = f"name somebody in a group{did_you_mean(name, tuple(sorted(known)))}"
        return Unmet("groups", "unknown_principal", "a known principal", name, remedy)


LOCKS_TOLD = 4  # of those that cover one case; a receipt has 65,535 bytes


def standing_faults(law: Law, state: State, command: Command) -> list[Unmet]:
    """What is wrong with who asks for themselves, whatever they ask for."""
    baseline = law.document.constitution.baseline
    locked = lock_faults(law, state, command.principal, baseline)
    return [*asker_faults(law, command), *locked]


def lock_faults(law: Law, state: State, principal: str, profile: str) -> list[Unmet]:
    """The locks that keep `principal` from holding `profile`, or from anything at all.

    What time ended is on record by then, and no longer in `state`.
    """
    covering = [one for one in state.locks if law.covers(one, principal, profile)]
    return [_locked(lock, principal, profile) for lock in covering[:LOCKS_TOLD]]


def _locked(lock: Lock, principal: str, profile: str) -> Unmet:
    given = profile if lock.scope == "profile" else principal
    remedy = f"have it lifted: vmstate unlock {lock.id}"
    return Unmet("locks", "locked", lock.words, given, remedy)


def asker_faults(law: Law, command: Command) -> list[Unmet]:
    """`standing_faults` of what is past, which no lock can change."""
    unmet = list(command.claims)
    if not law.people.knows(command.principal):
        unmet.append(law.unknown_principal(command.principal))
    if command.asked_by != command.principal:
        remedy = "ask as yourself"
        unmet.append(Unmet("principals", "not_self", command.principal, command.asked_by, remedy))
    return unmet


def proof_faults(law: Law, state: State, command: Command) -> list[Unmet]:
    """What is wrong with who asks for what takes a proven actor; the host's word is none.

    Somebody whose person is locked proves nothing. Who is merely covered by a lock on a profile or
    on everybody does: else nobody could lift it.
    """
    actor = command.asked_by
    unmet = [*command.claims, *personal_locks(law, state, actor)]
    if not law.people.knows(actor):
        unmet.append(law.unknown_principal(actor))
    if not command.is_proven:
        remedy = "sign it (--key FILE), or ask through vmstate serve"
        if command.caller is not None:
            bound = "an account or with a token that is bound"
            remedy = f"sign it as {actor} (--key FILE), or ask under {bound} to that name"
        required = "a signature, an account or a token"
        unmet.append(Unmet("principals", "not_proven", required, actor, remedy))
    return unmet


def personal_locks(law: Law, state: State, actor: str) -> list[Unmet]:
    """The locks on the person of `actor`, however they are known."""
    baseline = law.document.constitution.baseline
    on_person = tuple(one for one in state.locks if one.scope == "principal")
    return lock_faults(law, replace(state, locks=on_person), actor, baseline)


def clock_faults(state: State, now: Moment) -> list[Unmet]:
    """Why a clock in the past lets nothing be granted (law 11)."""
    until = state.watermark.refuses_grants(now)
    if until is None:
        return []
    remedy = "set the clock right, or have it recovered: vmstate recover --clock"
    required = f"the newest receipt, {format_at(until)}"
    given = format_at(now.wall)
    return [Unmet("recovery", "clock_regression", required, given, remedy)]


def drill_faults(state: State, now: Moment) -> list[Unmet]:
    """Nothing is granted in a drill before its mode is on, or after."""
    drill = state.drill
    if drill is None or drill.is_on(now):
        return []
    wanted, remedy = "a drill that is running", "start another drill: vmstate drill run"
    if drill.until is None:
        remedy = "switch it on: Authority.drill_mode(on=True), as vmstate drill run does"
        return [Unmet("drill", "drill_not_on", wanted, "never on", remedy)]
    ended = format_at(min(drill.until.wall, now.wall))
    return [Unmet("drill.ttl", "drill_over", wanted, ended, remedy)]


def request_faults(
    request: Request, command: Command, wanted: Mapping[str, Json], at: Setting
) -> list[Unmet]:
    """Where a prepared request differs from what is asked now, or from where it is asked."""
    unmet = []
    remedy = "prepare a new one: vmstate request new"
    if request.origin != at.origin:
        code = "request_other_ledger"
        unmet.append(Unmet("requests", code, at.origin, request.origin, remedy))
    if request.constitution != at.constitution:
        code = "request_other_constitution"
        unmet.append(Unmet("requests", code, at.constitution, request.constitution, remedy))
    if request.id in at.used:
        unmet.append(Unmet("requests", "request_used", "a fresh request", request.id, remedy))
    asked = {"principal": command.principal, "reason": command.reason, **wanted}
    said = request.body()
    for key, value in asked.items():
        if said[key] != value:
            words = f"{key} = {_words(said[key])}", f"{key} = {_words(value)}"
            unmet.append(Unmet("requests", "request_differs", *words, remedy))
    return unmet


def exception_faults(
    command: Amend | Call | Recover, trigger: str, facts: Mapping[str, str], at: Setting
) -> list[Unmet]:
    """As `request_faults`, of the request for something else than a profile, if there is one."""
    if command.request is None:
        return []
    wanted: dict[str, Json] = {"to": None, "trigger": trigger, "facts": dict(facts), "ttl_us": None}
    return request_faults(command.request, command, wanted, at)


def admitted_approvals(law: Law, heard: Heard, groups: Iterable[str]) -> tuple[Signed, ...]:
    """The statements that a decision rests on: one for each person whom it admits."""
    groups = tuple(groups)
    admitted = [one for one in heard.counted if law.people.in_any(one.by, groups)]
    return tuple({law.people.person(one.by): one for one in reversed(admitted)}.values())[::-1]


def seated_approvals(
    law: Law, heard: Heard, stages: tuple[ApprovalNeed, ...]
) -> tuple[Signed, ...]:
    """As `admitted_approvals`, of each person the statement by which they serve at a stage."""
    serving = [name for names in seat(law.people, heard.approvers, stages) for name in names]
    first = sorted(heard.counted, key=lambda one: one.by not in serving)
    groups = (group for stage in stages for group in stage.of)
    kept = admitted_approvals(law, replace(heard, counted=tuple(first)), groups)
    return tuple(one for one in heard.counted if one in kept)


def _words(value: Json) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{k}={v}" for k, v in sorted(value.items())) or "nothing"
    return "nothing" if value is None else str(value)

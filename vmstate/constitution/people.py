"""Who is meant where a rule names people, and which key speaks for them.

A group lists principals, or everyone below a prefix. Names are compared as they are: no case is
folded and no look-alike is mapped, because a name that is not exactly right is another name.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from vmstate.keys import PublicKey

CONTROLLERS = 8  # a chain of people who stand for people; longer is a mistake, and so is a circle


@dataclass(frozen=True, slots=True)
class Caller:
    """Who is at the other end of a socket: an account of the machine, and the token it showed.

    `token` is the digest of one that was shown. It narrows: who shows one asks by it alone.
    """

    account: str
    token: str | None = None

    @property
    def proof(self) -> Literal["peer", "token"]:
        """What proves the names that this caller may ask as."""
        return "peer" if self.token is None else "token"

    def __str__(self) -> str:
        shown = "" if self.token is None else "with a token, "
        return f"{shown}the account {self.account}"


@dataclass(frozen=True)
class People:
    """`groups` holds patterns, `keys` who signs with what, `controllers` who stands behind whom.

    `accounts` and `tokens` are what callers of a socket are known by, a token by its digest.
    """

    groups: Mapping[str, tuple[str, ...]]
    keys: Mapping[str, PublicKey] = field(default_factory=dict)
    controllers: Mapping[str, str] = field(default_factory=dict)
    accounts: Mapping[str, str] = field(default_factory=dict)
    tokens: Mapping[str, str] = field(default_factory=dict)
    named: frozenset[str] = frozenset()

    def knows(self, name: str) -> bool:
        """Whether `name` is in any group or under `[principals]`."""
        return name in self.named or self.in_any(name, self.groups)

    def in_any(self, name: str, groups: Iterable[str]) -> bool:
        """Whether `name` is in at least one of `groups`."""
        return any(
            name.startswith(pattern[:-1]) if pattern.endswith("*") else name == pattern
            for group in groups
            for pattern in self.groups.get(group, ())
        )

    def person(self, name: str) -> str:
        """Who stands behind `name` in the end: two names with one person count as one."""
        for _ in range(CONTROLLERS):
            if name not in self.controllers:
                break
            name = self.controllers[name]
        return name

    def family(self, name: str) -> tuple[str, ...]:
        """Every declared name with the same person behind it, `name` itself included."""
        person = self.person(name)
        declared = {other for other in self.controllers if self.person(other) == person}
        return tuple(sorted(declared | {name, person}))

    def names_of(self, caller: Caller) -> tuple[str, ...]:
        """The names that `caller` may ask as, in alphabetical order; none for a stranger."""
        known, shown = self.accounts, caller.account
        if caller.token is not None:
            known, shown = self.tokens, caller.token
        return tuple(sorted(name for name, one in known.items() if one == shown))

    def with_stand_ins(
        self, groups: Mapping[str, tuple[str, ...]], keys: Mapping[str, PublicKey]
    ) -> "People":
        """The same people and a drill's stand-ins, who belong to these groups there only."""
        joined = {
            name: (*self.groups.get(name, ()), *groups.get(name, ()))
            for name in {**self.groups, **groups}
        }
        return replace(self, groups=joined, keys={**self.keys, **keys})

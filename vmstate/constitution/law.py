"""A constitution that was read and found well formed, as the rest of vmstate asks it."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from vmstate.constitution.document import Document, Escalation
from vmstate.constitution.names import lineage
from vmstate.constitution.people import People

if TYPE_CHECKING:
    from vmstate.constitution.machine import ProfileMachine


@dataclass(frozen=True)
class Constitution:
    """What may be held. `toml` is the file as it was read, `canonical` the bytes of its digest."""

    document: Document
    toml: bytes
    canonical: bytes

    @property
    def name(self) -> str:
        return self.document.constitution.name

    @property
    def version(self) -> str:
        return self.document.constitution.version

    @property
    def baseline(self) -> str:
        """The profile that everybody has without a lease."""
        return self.document.constitution.baseline

    @property
    def rules(self) -> Mapping[str, Escalation]:
        """The escalations by rule id."""
        return self.document.escalations

    @cached_property
    def digest(self) -> str:
        """`sha256:<hex>`: which law a receipt was written under."""
        return f"sha256:{hashlib.sha256(self.canonical).hexdigest()}"

    @cached_property
    def people(self) -> People:
        """The groups that the file names, and by what it believes who asks."""
        principals = self.document.principals
        return People(
            groups=self.document.groups,
            keys={n: p.key for n, p in principals.items() if p.key is not None},
            controllers={n: p.controller for n, p in principals.items() if p.controller},
            accounts={n: p.account for n, p in principals.items() if p.account is not None},
            tokens={n: p.token for n, p in principals.items() if p.token is not None},
            named=frozenset(principals),
        )

    @cached_property
    def _lineages(self) -> Mapping[str, tuple[str, ...]]:
        return {profile: lineage(self.document, profile) for profile in self.document.profiles}

    def lineage(self, profile: str) -> tuple[str, ...]:
        """The profiles from the baseline up to `profile`, both included."""
        return self._lineages[profile]

    def includes(self, held: str, wanted: str) -> bool:
        """Whether who holds `held` may do what `wanted` may."""
        return wanted in self._lineages.get(held, ())

    def admits(self, held: str, what: str) -> bool:
        """Whether who holds `held` may do what the profile or act `what` takes.

        An unknown name of either kind may nothing, and gives nothing.
        """
        return what in self._within.get(held, ())

    @cached_property
    def _within(self) -> Mapping[str, frozenset[str]]:
        acts = self.document.acts.items()
        return {
            held: frozenset((*line, *(name for name, act in acts if act.profile in line)))
            for held, line in self._lineages.items()
        }

    def rank(self, profile: str) -> int:
        """How many rungs `profile` stands above the baseline."""
        return len(self._lineages[profile]) - 1

    def machine(self) -> "ProfileMachine":
        """The `transitions.Machine` that decides; one for each constitution object."""
        return self._machine

    @cached_property
    def _machine(self) -> "ProfileMachine":
        # Imported here: reading and drawing a constitution must not load `transitions`.
        from vmstate.constitution.machine import compile_machine  # noqa: PLC0415

        return compile_machine(self.document)

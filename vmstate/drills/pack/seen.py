"""One drill's run, as the runbook's conditions ask it."""

from collections.abc import Mapping
from datetime import timedelta
from functools import cached_property
from typing import Any

from vmstate.constitution.law import Constitution
from vmstate.drills.pack.account import Holding, Moment, read_holdings, walk
from vmstate.drills.runner import DrillRun, StepRun
from vmstate.ledger.receipt import Receipt


class Seen:
    """One run, as the conditions ask it."""

    def __init__(self, run: DrillRun, constitution: Constitution) -> None:
        self.run = run
        self.constitution = constitution
        self.baseline = constitution.baseline
        self.receipts = run.receipts

    @cached_property
    def moments(self) -> tuple[Moment, ...]:
        return tuple(walk(self.receipts, self.baseline))

    @cached_property
    def holdings(self) -> tuple[Holding, ...]:
        return read_holdings(self.receipts)

    @property
    def climbs(self) -> list[Receipt]:
        return self.of("profile_escalation")

    @property
    def falls(self) -> list[Receipt]:
        return self.of("profile_deescalation")

    @property
    def is_sound(self) -> bool:
        """Whether the audit of the ledger, tables included, found nothing."""
        return self.run.aftermath is not None and not self.run.aftermath.findings

    @property
    def left(self) -> tuple[str, ...]:
        """The profiles held at the end."""
        last = {m.receipt.fields["who"]["principal"]: m.after for m in self.moments}
        return tuple(after for who, after in last.items() if who is not None)

    def of(self, type_: str, **what: str) -> list[Receipt]:
        """Receipts of a type, whose `what` says this."""
        return [
            one
            for one in self.receipts
            if one.type == type_ and all(one.fields["what"][k] == v for k, v in what.items())
        ]

    def mode(self) -> Mapping[str, Any]:
        """What the receipt of drill mode ON says, if it is the first after the constitution's."""
        for receipt in self.receipts[1:2]:
            if receipt.type == "drill_mode":
                detail: Mapping[str, Any] = receipt.fields["what"]["detail"]
                return detail if detail["mode"] == "ON" else {}
        return {}

    def within(self, minutes: int) -> bool:
        """Whether the drill took less of real time than the runbook gives it."""
        return self.run.wall_for <= timedelta(minutes=minutes)

    def step_of(self, receipt: Receipt) -> StepRun | None:
        return next((one for one in self.run.steps if receipt in one.receipts), None)

    def kept_still(self, receipt: Receipt, what: str) -> bool:
        """Whether the step that left this receipt looked at `what`, and saw it unchanged."""
        step = self.step_of(receipt)
        return step is not None and step.passed and what in step.step.expect.unchanged

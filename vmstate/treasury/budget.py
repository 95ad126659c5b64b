"""A budget, and what a charge to it comes to. Whole units only; a balance is never below zero."""

from dataclasses import dataclass, replace

from vmstate.canonical import SAFE_INTEGER, Json

MOST_UNITS = SAFE_INTEGER - 1  # beyond it a JSON reader would round


@dataclass(frozen=True, slots=True)
class Budget:
    """`seq` is the receipt that allocated it; `unit` is its currency."""

    id: str
    name: str
    unit: str
    allocated: int
    spent: int
    seq: int

    @property
    def available(self) -> int:
        return self.allocated - self.spent

    def after(self, amount: int) -> "Budget":
        """The budget once `amount` is spent; raises ValueError if there is less."""
        if amount > self.available:
            raise ValueError(f"{self.id} has {self.available}, not {amount}")
        return replace(self, spent=self.spent + amount)


def cost_line(budget: str, unit: str, *, requested: int, available: int, charged: int) -> Json:
    """What a receipt says of one charge, made or refused."""
    return {
        "budget": budget,
        "unit": unit,
        "requested": requested,
        "available": available,
        "charged": charged,
    }

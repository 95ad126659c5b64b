"""A step's number: where something is wrong in a drill's file, as its report counts.

    mine.drill.toml:36: step 3 with.to: no profile 'gardian' …      [[step]] number 3, or number 2
                                                                    after a [[setup]]

Set-up, steps and clean-up are numbered through, from 1, in what is run and in what is refused.
"""

from collections.abc import Mapping, Sized
from typing import Any

from vmstate.constitution.lines import Place, report, spell_place

PARTS = {"setup": "set-up", "step": "step", "cleanup": "clean-up"}


def report_drill(
    name: str, text: str, found: list[tuple[Place, str]], tables: Mapping[str, Any]
) -> tuple[str, ...]:
    """One line for each finding, as `report` has it; `tables` are the drill's, read or not yet."""
    before: dict[str, int] = {}
    count = 0
    for table in PARTS:
        steps = tables.get(table)
        before[table], count = count, count + (len(steps) if isinstance(steps, Sized) else 0)

    def spell(place: Place) -> str:
        table, index = (*place, None, None)[:2]
        if table not in before or not isinstance(index, int):
            return spell_place(place)
        part = "" if table == "step" else f" ({PARTS[str(table)]})"
        below = f" {spell_place(place[2:])}" if place[2:] else ""
        return f"step {before[str(table)] + index + 1}{part}{below}"

    return report(name, text, found, spell)

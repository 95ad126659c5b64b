"""What an insider does to receipts: an attack takes all that they say, and changes it."""

import copy
from collections.abc import Callable
from typing import Any

Attack = Callable[[list[Any]], Any]


def put(seq: int, *path: Any) -> Attack:
    """Set one value of a receipt: the path to it, and the value last."""

    def attack(said: list[Any]) -> None:
        *way, last, value = path
        place = said[seq]
        for key in way:
            place = place[key]
        assert last in place  # else nothing would be forged
        place[last] = value

    return attack


def drop(seq: int) -> Attack:
    """Leave a receipt out."""
    return lambda said: said.pop(seq)


def move(seq: int, to: int) -> Attack:
    """Have a receipt stand elsewhere."""
    return lambda said: said.insert(to, said.pop(seq))


def again(seq: int, to: int) -> Attack:
    """Have a receipt stand elsewhere as well."""
    return lambda said: said.insert(to, copy.deepcopy(said[seq]))

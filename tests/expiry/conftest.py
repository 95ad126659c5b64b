"""A ledger for each test, and the few things that every test here does with one."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from staging import Stage, clock, vm

__all__ = ["clock", "vm"]  # fixtures


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    with ExitStack() as closing:
        yield Stage(tmp_path, closing)

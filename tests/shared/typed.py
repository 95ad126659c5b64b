"""The command as a person types it, in this process: another one would only take its time."""

import io
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import pytest

from vmstate.interfaces.cli.main import run


@dataclass(frozen=True)
class Done:
    """What a command left on both streams, and its exit code."""

    out: str
    err: str
    code: int


def typed(*words: str | Path, at: Path) -> Done:
    """Run `vmstate WORDS` in the folder `at`, as its entry point does."""
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8", newline="") for _ in "oe")
    code = None
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.chdir(at)
        patch.setattr(sys, "argv", ["vmstate", *map(str, words)])
        try:
            run()
        except SystemExit as exit_:
            code = exit_.code
    assert isinstance(code, int)
    for stream in (out, err):
        stream.flush()
    return Done(*(stream.buffer.getvalue().decode() for stream in (out, err)), code)

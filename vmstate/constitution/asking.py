"""One guard is asked, and whatever it does instead of answering denies as `malformed`.

vmstate's own guards only compute, and are called as they are. A condition that somebody else put
into the machine might never come back, and the decision that waits for it holds the ledger's write
lock. So it is asked on a thread of its own, which is waited for so long and no longer: the decision
is then a denial, and goes on. Such a thread can't be killed. It is left behind with the case it was
given, which is frozen and opens nothing; what it answers later is heard by nobody. While it is
there, its guard is not asked again and denies at once, so that one guard never leaves two threads
and never holds up two decisions.

What this can't help against is a guard that hangs inside an extension while it holds Python's own
lock: then nothing else in that process runs either.
"""

import contextvars
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta

from vmstate.constitution.guards import Case
from vmstate.constitution.unmet import Unmet

ANSWERS_WITHIN = timedelta(seconds=1)  # nobody else is granted anything meanwhile


@dataclass(slots=True)
class Watch:
    """How long guards of others are waited for, and those that are still out."""

    answers_within: timedelta = ANSWERS_WITHIN
    out: dict[int, threading.Thread] = field(default_factory=dict)

    def ask(self, guard: Callable[[Case], object], case: Case) -> tuple[Unmet, ...]:
        """What `guard` misses in `case`; any other behaviour of it is malformed, and denies."""
        if type(guard).__module__.startswith("vmstate."):
            return _answer(guard, case)
        if (before := self.out.get(id(guard))) is not None:
            if before.is_alive():
                return (_malformed(guard, "it has not answered an earlier case yet"),)
            self.out.pop(id(guard), None)
        answers: list[tuple[Unmet, ...]] = []
        context = contextvars.copy_context()
        thread = threading.Thread(
            target=lambda: answers.append(context.run(_answer, guard, case)),
            name="vmstate guard",
            daemon=True,  # a process may end without it
        )
        thread.start()
        thread.join(self.answers_within.total_seconds())
        if answers:
            return answers[0]
        # The thread refers to the guard, so its id stays its own for as long as it is out.
        self.out[id(guard)] = thread
        waited = f"{self.answers_within.total_seconds():g}s"
        return (_malformed(guard, f"it did not answer within {waited}"),)


def _answer(guard: Callable[[Case], object], case: Case) -> tuple[Unmet, ...]:
    try:
        answer = guard(case)
    except Exception as error:  # noqa: BLE001 -- whatever a guard raises denies
        return (_malformed(guard, f"{type(error).__name__}: {error}"),)
    if isinstance(answer, tuple) and all(isinstance(one, Unmet) for one in answer):
        return answer
    return (_malformed(guard, f"it answered {type(answer).__name__}"),)


def _malformed(guard: object, what: str) -> Unmet:
    path = getattr(guard, "path", "escalations")
    given = "".join(c if c.isprintable() else "?" for c in f"a guard ({what})")[:256]
    return Unmet(path, "malformed", "a guard that answers", given, "report it: nothing was granted")

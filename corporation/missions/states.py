"""The states of a mission and what may follow what; the table here is the test's table too."""

from enum import StrEnum


class State(StrEnum):
    """Where a mission is (architecture §2); the last four are final."""

    WAITING = "waiting"
    QUEUED = "queued"
    CLAIMED = "claimed"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    TIMED_OUT = "timed_out"
    CANCELLED = "cancelled"


FINAL = frozenset({State.SUCCEEDED, State.FAILED, State.TIMED_OUT, State.CANCELLED})
LIVE = frozenset({State.QUEUED, State.CLAIMED, State.RUNNING})
"""States in which a factory holds an attempt."""

_NEXT: dict[State, frozenset[State]] = {
    State.WAITING: frozenset({State.QUEUED, State.FAILED, State.TIMED_OUT, State.CANCELLED}),
    State.QUEUED: frozenset({State.CLAIMED, State.RUNNING, State.WAITING}) | FINAL,
    State.CLAIMED: frozenset({State.RUNNING, State.WAITING}) | FINAL,
    State.RUNNING: frozenset({State.WAITING}) | FINAL,
}


def may_follow(before: State, after: State) -> bool:
    """Whether a mission in `before` may go to `after`; nothing follows a final state."""
    return after in _NEXT.get(before, frozenset())

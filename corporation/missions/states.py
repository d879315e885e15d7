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


# A broadcast is done by its children, and no factory ever holds the order itself (S-25): from waiting it goes straight
# to its end. Of any other mission a success that nobody ran would be a lie, so only a broadcast may do that; the ledger
# refuses it too (`success_was_earned`, migration 0004).
_NEXT_OF_A_BROADCAST: dict[State, frozenset[State]] = {State.WAITING: FINAL}


def may_follow(before: State, after: State, *, broadcast: bool = False) -> bool:
    """Whether a mission in `before` may go to `after`; nothing follows a final state.

    A `broadcast`, a system mission to every factory, has a table of its own: it waits, and then it has ended.
    """
    steps = _NEXT_OF_A_BROADCAST if broadcast else _NEXT
    return after in steps.get(before, frozenset())

"""In which order several test processes begin the files: the longest first, so that none is left alone at the end."""

from typing import Final

LONGEST: Final = (
    "tests/faults/test_chaos.py",
    "tests/faults/test_no_secret_gets_out.py",
    "tests/roles/test_matrix.py",
    "tests/faults/test_streams_under_fire.py",
    "tests/integration/test_stack_up.py",
    "tests/integration/test_stack_roles.py",
    "tests/contracts/http/test_factory_joins.py",
    "tests/integration/test_heart_at_work.py",
    "tests/integration/test_ops_join.py",
    "tests/integration/test_missions_end_to_end.py",
    "tests/roles/test_fail_closed.py",
    "tests/faults/test_redis_away_for_two_minutes.py",
    "tests/faults/test_factory_drained_and_another_killed.py",
    "tests/roles/test_database_role_refused.py",
)
"""The files that take more than about ten seconds, the longest first; `pytest --durations=0` says how long they take.

A file that takes longer than it should here costs time and breaks nothing."""

_PLACES: Final = {name: place for place, name in enumerate(LONGEST)}


def place_of(nodeid: str) -> int:
    """The place of this test's file: those of LONGEST in their order, then all others in theirs."""
    return _PLACES.get(nodeid.partition("::")[0], len(LONGEST))

"""In which order several test processes begin the files: the longest first, so that none is left alone at the end."""

from typing import Final

LONGEST: Final = (
    "tests/faults/test_chaos.py",
    "tests/integration/test_stack_roles.py",
    "tests/faults/test_no_secret_gets_out.py",
    "tests/security/test_every_route_fuzzed.py",
    "tests/integration/test_stack_up.py",
    "tests/contracts/http/test_factory_joins.py",
    "tests/integration/test_stopping.py",
    "tests/integration/test_cli_usage.py",
    "tests/roles/test_fail_closed.py",
    "tests/faults/test_streams_under_fire.py",
    "tests/integration/test_warden.py",
    "tests/integration/test_missions_end_to_end.py",
    "tests/contracts/streams/test_kit.py",
    "tests/roles/test_matrix.py",
    "tests/security/test_missions_under_profiles.py",
    "tests/security/test_quarantined_factory_loses_everything.py",
    "tests/security/test_signed_missions_at_work.py",
    "tests/integration/test_taken_messages.py",
    "tests/integration/test_heart_at_work.py",
    "tests/integration/test_pull_at_work.py",
    "tests/integration/test_frozen_loop.py",
    "tests/integration/test_stack_vault.py",
    "tests/integration/test_embedded_postgres.py",
    "tests/faults/test_redis_away_for_two_minutes.py",
    "tests/faults/test_factory_drained_and_another_killed.py",
    "tests/integration/ledger/test_claims_in_any_order.py",
    "tests/delegation/test_consumer.py",
)
"""The files that take more than about ten seconds, the longest first; `pytest --durations=0` says how long they take.

A file that takes longer than it should here costs time and breaks nothing."""

_PLACES: Final = {name: place for place, name in enumerate(LONGEST)}


def place_of(nodeid: str) -> int:
    """The place of this test's file: those of LONGEST in their order, then all others in theirs."""
    return _PLACES.get(nodeid.partition("::")[0], len(LONGEST))

"""How several test processes share the work: file by file, the longest first, so that none is left alone at the end."""

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import pytest
    from xdist.remote import Producer
    from xdist.scheduler import LoadScopeScheduling

LONGEST: Final = (
    "tests/faults/test_chaos.py",
    "tests/integration/test_stack_roles.py",
    "tests/faults/test_no_secret_gets_out.py",
    "tests/security/test_every_route_fuzzed.py",
    "tests/fuzz/test_every_parser.py",
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

APART: Final = frozenset(
    {
        "tests/fuzz/test_every_parser.py",
        "tests/integration/test_stack_roles.py",
        "tests/integration/test_stack_up.py",
    }
)
"""Long files whose tests share nothing: each of their tests may run in another process."""

_PLACES: Final = {name: place for place, name in enumerate(LONGEST)}


def place_of(nodeid: str) -> int:
    """The place of this test's file: those of LONGEST in their order, then all others in theirs."""
    return _PLACES.get(nodeid.partition("::")[0], len(LONGEST))


def share_of(nodeid: str) -> str:
    """What stays in one test process with this test: its file, which starts its servers once; alone, one of APART.

    A share for each test would also make xdist count all shares again after each of them.
    """
    file = nodeid.partition("::")[0]
    return nodeid if file in APART else file


def scheduling(config: "pytest.Config", log: "Producer") -> "LoadScopeScheduling":
    """Hands out shares in the order of the tests, a new one to each process that is almost done with its last."""
    from xdist.scheduler import LoadScopeScheduling

    class ByShare(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return share_of(nodeid)

    return ByShare(config, log)

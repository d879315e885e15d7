"""Which functions read what strangers send, and how each is tried: one row each.

A row's `read` does what the product does with the input, and fails by itself where something that was read cannot be
written back. What is not in `declared` must not be raised, and no error may show the mark of a secret, except where
`echoes` says why that is meant.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st


@dataclass(frozen=True)
class Parser:
    """One function, named `module:function`, and what is known of it."""

    name: str
    given: st.SearchStrategy[Any]
    read: Callable[[Any], Any]
    declared: tuple[type[BaseException], ...] = ()
    echoes: str = ""
    """Why an error of it may repeat what was given."""
    words: Callable[[BaseException], str] = str
    """What of an error is shown to anybody."""


def all_parsers() -> list[Parser]:
    """Every row, those of the wire first."""
    from parsers_of_factories import OF_FACTORIES
    from parsers_of_files import OF_FILES
    from parsers_of_http import OF_HTTP
    from parsers_of_messages import OF_MESSAGES

    return [*OF_HTTP, *OF_MESSAGES, *OF_FACTORIES, *OF_FILES]


NO_PARSER: Mapping[str, str] = {
    **dict.fromkeys(
        (
            "corporation.bootstrap_jobs.store:read_notifications",
            "corporation.missions.dispatch:read_views",
            "corporation.missions.history:read_history",
            "corporation.missions.history:read_one",
            "corporation.missions.queries:read_log",
            "corporation.missions.queries:read_state",
            "corporation.missions.store.broadcasting:read_listeners",
            "corporation.missions.store.explaining:read_facts",
            "corporation.missions.store.reporting:read_standings",
            "corporation.missions.store.adopting:read_attempts",
            "corporation.missions.store.adopting:read_standing",
            "corporation.missions.store.dispatching:read_factories",
            "corporation.missions.store.handed_over:read_handed_over",
            "corporation.missions.store.claiming:read_claimer",
            "corporation.missions.store.claiming:read_claimed",
            "corporation.missions.store.https_results:read_answered",
            "corporation.missions.workload:read_workload",
            "corporation.trust.redis_users:read_users",
            "corporation.trust.audit:read",
            "corporation.trust.standing:read",
            "corporation.factories.events:read_events",
            "corporation.factories.node_signs:read_nodes",
            "corporation.loops.ticks:read_ticks",
            "hq_api.metrics:read",
            "hq_api.metrics:read_ledger",
            "hq_api.dashboard.fleet:read_fleet",
        ),
        "asks the ledger, whose types its columns hold",
    ),
    **dict.fromkeys(
        (
            "corporation.cli.control:judged",
            "corporation.embedded.stack_restarts:judge_end",
            "corporation.embedded.stack_restarts:judge_wait",
            "corporation.factories.instances:judge_instance",
            "corporation.factories.signs_of_life:judge_lights",
            "corporation.factories.staleness:judge_status",
            "corporation.missions.dispatch:judged",
            "corporation.missions.finish:judge",
            "factory_tasks.loop_watch:judge_loop",
        ),
        "decides about values of ours, which others have read",
    ),
    **dict.fromkeys(
        (
            "hq_api.routers.health:read_version",
            "hq_api.routers.audit:read_audit",
            "hq_api.routers.metrics:read_metrics",
            "hq_api.routers.missions:read_mission",
        ),
        "a route: tests/security/test_every_route_fuzzed.py",
    ),
    "hq_api.body:read_document": "tests/security/test_every_route_fuzzed.py; what it reads with is strict_json",
    "hq_api.body:read_object": "the same",
    "hq_api.body:read_optional_object": "the same",
    "hq_api.dashboard.login_form:read_form": "parse_form reads what it brings",
    "hq_api.dashboard.door:from_our_page": "is_same_origin decides",
    "hq_api.app:read_settings": "load_settings reads",
    "hq_api.edited_orders:judge": "edited_order reads what it judges",
    "hq_api.metrics:read_broker": "asks Redis for numbers",
    "corporation.database_role:judge": "asks the database about its own role",
    "corporation.delegation.mission_stream:read_new": "read_entry reads what it brings",
    "corporation.delegation.mission_stream:read_own": "the same",
    "corporation.variables:read": "load_settings calls it for each variable",
    "factory_tasks.pull.orders:read": "read_claimed reads what it brings",
    "corporation.cli.reading:read_file": "its bytes go through `decoded` and `json_object`",
    "corporation.cli.reading:read_stdin": "the same",
}
"""Functions with such a name that read nothing of strangers, and why that is so."""

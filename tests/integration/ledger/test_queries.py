"""What is read of missions: every filter, pages that lose and repeat nothing, and the shapes of contract http §7."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from builders import submission
from ledger_at_work import LedgerAtWork

from corporation.db import transaction
from corporation.factories.staleness import Thresholds
from corporation.missions import queries
from corporation.missions.outcomes import Failed, Stop
from corporation.missions.queries import MissionFilter, Position
from corporation.missions.store.broadcasting import spread_one
from corporation.missions.store.progress import add_lines, find_attempt


def listed(ledger: LedgerAtWork, limit: int = 50, after: Position | None = None, **wanted: Any) -> list[str]:
    with ledger.engine.connect() as connection:
        rows = queries.list_missions(connection, MissionFilter(**wanted), limit, after)
    return [row["job_id"] for row in rows]


def found(ledger: LedgerAtWork, job_id: str = "j-1") -> Any:
    with ledger.engine.connect() as connection:
        return queries.find_mission(connection, job_id)


def a_mixed_ledger(ledger: LedgerAtWork) -> None:
    [attempt, _] = ledger.hand_out("done", "queued")
    ledger.report(attempt)
    ledger.collect()
    ledger.submit(submission("code", source="telegram", mission_kind="coding_task"))
    ledger.submit(submission("aimed", source="ops", context={"target_factory_id": "bench-2"}))


@pytest.mark.parametrize(
    ("wanted", "job_ids"),
    [
        ({}, {"done", "queued", "code", "aimed"}),
        ({"states": ["succeeded"]}, {"done"}),
        ({"states": ["succeeded", "queued"]}, {"done", "queued"}),
        ({"states": []}, set[str]()),
        ({"kinds": ["coding_task"]}, {"code"}),
        ({"factory_id": "desk-7"}, {"done", "queued"}),
        ({"target_factory_id": "bench-2"}, {"aimed"}),
        ({"source": "telegram"}, {"code"}),
        ({"idempotency_key": "k-queued"}, {"queued"}),
        ({"states": ["waiting"], "source": "ops"}, {"aimed"}),
        ({"states": ["waiting"], "source": "rest"}, set[str]()),
        ({"source": "' OR 1=1 --"}, set[str]()),
    ],
)
def test_a_filter_finds_what_it_says(ledger: LedgerAtWork, wanted: dict[str, Any], job_ids: set[str]) -> None:
    a_mixed_ledger(ledger)

    assert set(listed(ledger, **wanted)) == job_ids


def test_a_filter_by_time_leaves_out_the_moment_itself(ledger: LedgerAtWork) -> None:
    ledger.publish("j-1")
    created, moment = ledger.mission().created_at, timedelta(microseconds=1)

    assert listed(ledger, created_after=created) == listed(ledger, created_before=created) == []
    assert listed(ledger, created_after=created - moment, created_before=created + moment) == ["j-1"]


def pages(ledger: LedgerAtWork, size: int) -> list[list[str]]:
    """All pages of the list, each asked for from where the one before it ended."""
    result: list[list[str]] = []
    after: Position | None = None
    while page := listed(ledger, size, after):
        result.append(page)
        after = Position(ledger.mission(page[-1]).created_at, page[-1])
    return result


@pytest.mark.parametrize("size", [1, 3, 7, 50])
def test_pages_lose_and_repeat_nothing_also_among_missions_of_one_moment(ledger: LedgerAtWork, size: int) -> None:
    for batch in range(3):
        ledger.publish(*(f"j-{batch}-{number}" for number in range(4)))
    read = [job_id for page in pages(ledger, size) for job_id in page]

    assert read == [f"j-{batch}-{number}" for batch in (2, 1, 0) for number in range(4)]


def test_what_arrives_between_two_pages_does_not_move_the_second(ledger: LedgerAtWork) -> None:
    ledger.publish("a", "b", "c")
    first = listed(ledger, 2)
    ledger.publish("new")

    assert listed(ledger, 2, Position(ledger.mission(first[-1]).created_at, first[-1])) == ["c"]


def test_a_mission_is_shown_in_the_shape_of_the_contract(ledger: LedgerAtWork) -> None:
    [attempt] = ledger.hand_out("j-1", max_retries=2, timeout_seconds=900, ttl_seconds=60)
    ledger.hear(attempt)
    mission = found(ledger)

    assert " ".join(mission) == (
        "job_id idempotency_key mission_kind requested_kind state state_reason priority source target_factory_id "
        "factory_id attempt attempts_left created_at started_at finished_at deadline_at next_attempt_at error aliases "
        "parent_job_id replay_of timeout_seconds max_retries cancel_requested_at cancel_reason envelope result "
        "result_published_at attempts"
    )
    assert (mission["state"], mission["attempt"], mission["attempts_left"]) == ("running", 1, 1)
    [shown] = mission["attempts"]
    assert " ".join(shown) == (
        "attempt_id attempt factory_id state claimed_at started_at finished_at lease_expires_at progress error "
        "late_result adopted"
    )
    assert (shown["attempt_id"], shown["state"], shown["finished_at"]) == (attempt, "running", None)
    assert mission["started_at"].endswith("+00:00")


def test_a_final_mission_shows_its_result_and_its_error(ledger: LedgerAtWork) -> None:
    [attempt] = ledger.hand_out("j-1")
    ledger.report(attempt, Stop("no such repository"))
    ledger.collect()
    mission = found(ledger)

    assert (mission["error"], mission["result"]["terminal_status"]) == ("no such repository", "failed")
    assert mission["attempts"][0]["error"] == "no such repository"


def test_a_mission_shows_which_broadcast_it_belongs_to_and_what_it_repeats(ledger: LedgerAtWork) -> None:
    """H-27, S-25."""
    ledger.beat("desk-7")
    ledger.submit(submission("p", "ops", mission_kind="system:pause_factory"))
    with transaction(ledger.engine) as connection:
        assert spread_one(connection, Thresholds())
    ledger.submit(replace(submission("p-r1"), replay_of=ledger.mission("p").id))

    shown = {job_id: found(ledger, job_id) for job_id in ("p", "p.desk-7", "p-r1")}
    assert {job_id: (one["parent_job_id"], one["replay_of"]) for job_id, one in shown.items()} == {
        "p": (None, None),
        "p.desk-7": ("p", None),
        "p-r1": (None, "p"),
    }


def test_attempts_are_shown_the_first_one_first(ledger: LedgerAtWork) -> None:
    ledger.hand_out("j-1")
    ledger.report(ledger.attempt_of(), Failed("x"))
    ledger.collect()
    ledger.end_backoff()
    ledger.dispatch()

    assert [one["attempt"] for one in found(ledger)["attempts"]] == [1, 2]


def test_numbers_in_an_envelope_are_read_as_they_were_written(ledger: LedgerAtWork) -> None:
    ledger.submit(submission(context={"whole": 2**53 - 1, "half": 0.1, "one": 1.0}))
    context = found(ledger)["envelope"]["payload"]["context"]

    assert (context["whole"], context["half"], str(context["one"])) == (2**53 - 1, 0.1, "1.0")


def test_an_alias_shows_its_mission(ledger: LedgerAtWork) -> None:
    ledger.publish("j-1")
    ledger.submit(submission("j-2", idempotency_key="k-j-1"), submission("j-0", idempotency_key="k-j-1"))

    assert found(ledger, "j-2") == found(ledger, "j-1")
    assert found(ledger)["aliases"] == ["j-0", "j-2"]
    with ledger.engine.connect() as connection:
        assert queries.find_id(connection, "j-2") == queries.find_id(connection, "j-1") == ledger.mission().id


def test_a_mission_nobody_knows_is_not_found(ledger: LedgerAtWork) -> None:
    with ledger.engine.connect() as connection:
        assert queries.find_mission(connection, "nobody") is None
        assert queries.find_id(connection, "nobody") is None
        assert queries.list_events(connection, "nobody", 0, 10) is None


def test_events_are_read_on_from_where_one_stopped(ledger: LedgerAtWork) -> None:
    [attempt] = ledger.hand_out("j-1")
    ledger.report(attempt)
    ledger.collect()
    with ledger.engine.connect() as connection:
        first = queries.list_events(connection, "j-1", 0, 2) or []
        rest = queries.list_events(connection, "j-1", first[-1]["seq"], 10) or []

    assert [(event["seq"], event["type"]) for event in first + rest] == [
        (1, "published"),
        (2, "queued"),
        (3, "started"),
        (4, "succeeded"),
    ]
    assert set(first[0]) == {"seq", "at", "type", "attempt", "factory_id", "detail"}


def test_a_log_is_read_on_over_the_attempts(ledger: LedgerAtWork) -> None:
    ledger.hand_out("j-1")
    for _ in range(2):
        with transaction(ledger.engine) as connection:
            attempt = find_attempt(connection, ledger.attempts()[-1].id)
            assert attempt is not None
            add_lines(connection, attempt, ["one", "two"], None)
        ledger.report(ledger.attempt_of(), Failed("x"))
        ledger.collect()
        ledger.end_backoff()
        ledger.dispatch()

    with ledger.engine.connect() as connection:
        read = queries.read_log(connection, ledger.mission().id, 1, 1, 10)
    assert [(one.attempt, one.number, one.line) for one in read] == [(1, 2, "two"), (2, 1, "one"), (2, 2, "two")]


def test_waiting_missions_are_counted_no_further_than_asked(ledger: LedgerAtWork) -> None:
    ledger.publish("a", "b", "c")

    with ledger.engine.connect() as connection:
        assert [queries.count_waiting(connection, at_most) for at_most in (2, 3, 10)] == [2, 3, 3]


def test_factories_that_never_registered_are_told(ledger: LedgerAtWork) -> None:
    ledger.beat("desk-7")

    with ledger.engine.connect() as connection:
        assert queries.unknown_factories(connection, ["desk-7", "bench-2"]) == {"bench-2"}
        assert queries.unknown_factories(connection, []) == set()


def test_kinds_that_factories_advertise_are_known(ledger: LedgerAtWork) -> None:
    ledger.beat("a", labels=["kind:noop", "vp_coder", "kind:", "kinds:x"])
    ledger.beat("b", labels=["kind:noop", "kind:dance"])

    with ledger.engine.connect() as connection:
        assert queries.advertised_kinds(connection) == {"noop", "dance"}


def test_a_kind_stays_known_while_no_worker_lives_to_say_so(ledger: LedgerAtWork) -> None:
    """Until one that lives says otherwise, or the factory is removed: a restart makes no order wrong."""
    ledger.beat("a", labels=["kind:dance"])
    ledger.beat("a", labels=[], slots=0)
    with ledger.engine.connect() as connection:
        assert queries.advertised_kinds(connection) == {"dance"}
    ledger.beat("a", labels=["kind:sing"], slots=1)
    ledger.beat("a", labels=[], slots=0)
    with ledger.engine.connect() as connection:
        assert queries.advertised_kinds(connection) == {"sing"}
    ledger.beat("a", labels=[], slots=1)
    with ledger.engine.connect() as connection:
        assert queries.advertised_kinds(connection) == set()


def test_what_waits_for_a_worker_that_restarts_is_not_sent_to_it(ledger: LedgerAtWork) -> None:
    ledger.beat("a", labels=["vp_general"])
    ledger.beat("a", labels=[], slots=0)
    ledger.publish("j-1")

    assert ledger.dispatch() == 0
    ledger.explain()
    assert (ledger.state(), ledger.mission().state_reason) == ("waiting", "no_free_slot")


def test_the_state_is_read_with_why_it_waits(ledger: LedgerAtWork) -> None:
    ledger.publish("j-1")
    ledger.explain()

    with ledger.engine.connect() as connection:
        assert queries.read_state(connection, ledger.mission().id) == ("waiting", "no_live_factory")

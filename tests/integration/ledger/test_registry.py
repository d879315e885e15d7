"""What the registry remembers of beats, and that showing the fleet costs the same however long its history is."""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from builders import beat
from ledger_at_work import LedgerAtWork
from sqlalchemy import Engine, TextClause, event, text

from corporation import clock
from corporation.db import transaction
from corporation.factories.lights import ask_echoes
from corporation.factories.registry import LIST, Wanted, list_registrations, remove
from corporation.factories.signs_of_life import WorkerSign
from corporation.factories.staleness import Thresholds, judge_status
from corporation.factories.store import Heard, forget_random_ids, hear
from corporation.factories.sweep import HELD
from corporation.missions.store import cancelling
from hq_api.dashboard.fleet import RUNNING

LIMITS = Thresholds()
SAYINGS = ("online", "paused", "draining", "stale", "offline")
SILENCES = (0, 299, 301, 899, 901, 10**7)


def heard(ledger: LedgerAtWork, factory_id: str = "desk-7", **changes: Any) -> Heard:
    with transaction(ledger.engine) as connection:
        return hear(connection, beat(factory_id, **changes), LIMITS)


def silent(ledger: LedgerAtWork, seconds: float, factory_id: str = "desk-7") -> None:
    ledger.sql(
        "UPDATE corporation.factories SET last_seen_at = now() - :ago * interval '1 second',"
        " workers_seen_at = now() - :ago * interval '1 second' WHERE factory_id = :id",
        ago=seconds,
        id=factory_id,
    )


def row_of(ledger: LedgerAtWork, factory_id: str = "desk-7") -> Any:
    [row] = ledger.sql("SELECT * FROM corporation.factories WHERE factory_id = :id", id=factory_id)
    return row


def happened(ledger: LedgerAtWork) -> list[str]:
    return [row.type for row in ledger.sql("SELECT type FROM corporation.factory_events ORDER BY id")]


def test_a_factory_that_is_told_to_stop_while_missions_run_has_stopped_in_its_history(ledger: LedgerAtWork) -> None:
    """F-23: it may be killed before it can say goodbye; and if it can, that is no second stop."""
    leaving: dict[str, Any] = {"registration_status": "draining", "slots": 0}
    heard(ledger)
    heard(ledger, **leaving)
    heard(ledger, registration_status="offline", slots=0)
    assert happened(ledger) == ["online", "stopped"]
    heard(ledger)
    heard(ledger, **leaving)
    heard(ledger)
    assert happened(ledger) == ["online", "stopped", "online", "stopped", "online"]


def test_a_factory_that_is_drained_and_has_no_worker_has_not_stopped(ledger: LedgerAtWork) -> None:
    heard(ledger)
    ledger.sql("UPDATE corporation.factories SET draining = true")
    heard(ledger, registration_status="draining", slots=0)

    assert happened(ledger) == ["online"]


def shown(ledger: LedgerAtWork, limit: int = 1000, **wanted: str) -> tuple[list[dict[str, Any]], int]:
    with transaction(ledger.engine) as connection:
        return list_registrations(connection, Wanted(limit, **wanted), LIMITS, 180)


def wakes(ledger: LedgerAtWork, **changes: Any) -> bool:
    """Whether this beat wakes the dispatcher."""
    woken: list[str] = []

    def hear_statement(*said: Any) -> None:
        if "pg_notify" in said[2]:
            woken.append(str(said[3]))

    event.listen(ledger.engine, "before_cursor_execute", hear_statement)
    try:
        heard(ledger, **changes)
    finally:
        event.remove(ledger.engine, "before_cursor_execute", hear_statement)
    return any("corporation_dispatch" in one for one in woken)


@pytest.mark.parametrize(
    ("change", "wakes_it"),
    [
        ({}, False),
        ({"heartbeat_latency_ms": 3.0}, False),
        ({"metadata": {"uptime_seconds": 9}}, False),
        ({"version": "b"}, False),
        ({"slots": 3}, True),
        ({"labels": ["vp_coder"]}, True),
        ({"registration_status": "draining"}, True),
        ({"queues": ["another"]}, True),
    ],
    ids=str,
)
def test_the_dispatcher_is_woken_by_what_routing_looks_at_and_by_nothing_else(
    ledger: LedgerAtWork, change: dict[str, Any], wakes_it: bool
) -> None:
    assert wakes(ledger)

    assert wakes(ledger, **change) == wakes_it
    assert not wakes(ledger, **change)


@pytest.mark.parametrize("judged", ["online", "stale", "offline"])
def test_a_beat_of_a_factory_that_was_away_revives_it_at_once(ledger: LedgerAtWork, judged: str) -> None:
    """F-15; also when no sweep had noticed yet that it was away."""
    heard(ledger)
    silent(ledger, 1000)
    ledger.sql("UPDATE corporation.factories SET judged_status = :judged", judged=judged)

    assert wakes(ledger)
    row = row_of(ledger)
    assert row.judged_status == "online"
    assert happened(ledger) == ["online", *(["online"] if judged != "online" else [])]


def test_a_beat_says_that_hqs_flag_is_set_and_what_it_says_of_itself_sets_none(ledger: LedgerAtWork) -> None:
    """F-16, F-20."""
    by_itself = heard(ledger, registration_status="paused")
    ledger.sql("UPDATE corporation.factories SET draining = true")
    drained = heard(ledger)

    assert (by_itself.registration["registration_status"], by_itself.paused) == ("paused", False)
    assert (drained.registration["registration_status"], drained.draining) == ("draining", True)
    assert row_of(ledger).judged_status == "draining"


def test_an_older_beat_of_the_same_instance_changes_nothing(ledger: LedgerAtWork) -> None:
    heard(ledger, instance_id="a", beat_number=5, version="new")
    silent(ledger, 20)
    before = row_of(ledger)

    late = heard(ledger, instance_id="a", beat_number=5, version="old", slots=0, labels=[])

    assert late.verdict == "older"
    assert row_of(ledger) == before
    assert heard(ledger, instance_id="a", beat_number=6).verdict == "taken"


def test_a_second_instance_is_refused_while_the_first_is_heard_of_and_people_hear_of_it_once(
    ledger: LedgerAtWork,
) -> None:
    heard(ledger, instance_id="a", beat_number=5, interval_seconds=15)
    before = row_of(ledger)

    refused = [heard(ledger, instance_id="b", beat_number=n, version="b", slots=9).verdict for n in range(1, 5)]

    assert refused == ["split_brain"] * 4
    after = row_of(ledger)
    assert (after.instance_id, after.split_brain_with) == ("a", "b")
    assert (after.version, after.slots, after.last_seen_at) == (before.version, before.slots, before.last_seen_at)
    assert happened(ledger) == ["online"], "it may be a restart of the first one"
    heard(ledger, instance_id="a", beat_number=6, interval_seconds=15)
    heard(ledger, instance_id="b", beat_number=5)
    heard(ledger, instance_id="a", beat_number=7, interval_seconds=15)
    assert happened(ledger) == ["online", "split_brain"]
    [[kind, metadata]] = ledger.sql("SELECT kind, metadata FROM corporation.notifications")
    assert (kind, metadata) == ("split_brain", {"factory_id": "desk-7", "instance_id": "b", "holder": "a"})
    assert shown(ledger)[0][0]["split_brain"]["with"] == "b"


def test_people_hear_again_of_a_split_brain_that_lasts(ledger: LedgerAtWork) -> None:
    heard(ledger, instance_id="a", beat_number=5)
    heard(ledger, instance_id="b", beat_number=1)
    heard(ledger, instance_id="a", beat_number=6)
    ledger.sql("UPDATE corporation.factory_events SET at = now() - interval '11 min'")
    heard(ledger, instance_id="b", beat_number=2)
    heard(ledger, instance_id="a", beat_number=7)

    assert happened(ledger).count("split_brain") == 2
    assert len(ledger.sql("SELECT 1 FROM corporation.notifications")) == 2


def test_of_instances_that_come_at_once_one_is_believed_and_the_others_are_refused(ledger: LedgerAtWork) -> None:
    def say(instance: int) -> str:
        return heard(ledger, instance_id=f"i-{instance}", beat_number=1).verdict

    with ThreadPoolExecutor(8) as callers:
        verdicts = list(callers.map(say, range(16)))

    assert sorted(verdicts) == ["split_brain"] * 15 + ["taken"]
    assert happened(ledger) == ["online"]


def test_another_instance_takes_over_when_the_first_fell_silent_and_then_holds_the_name(ledger: LedgerAtWork) -> None:
    heard(ledger, instance_id="a", beat_number=500, interval_seconds=15)
    heard(ledger, instance_id="b", beat_number=1, interval_seconds=15)
    silent(ledger, 38)

    taken = heard(ledger, instance_id="b", beat_number=2, interval_seconds=15)
    back = heard(ledger, instance_id="a", beat_number=501, interval_seconds=15)

    assert (taken.verdict, back.verdict) == ("taken", "split_brain")
    row = row_of(ledger)
    assert (row.instance_id, row.beat_number, row.split_brain_with) == ("b", 2, "a")


def test_hqs_own_api_keeps_no_name_for_a_worker_that_is_gone(ledger: LedgerAtWork) -> None:
    heard(ledger, instance_id="a", beat_number=5)
    silent(ledger, 200)
    heard(ledger, source="gateway_startup")

    row = row_of(ledger)
    assert (row.instance_id, row.beat_number) == ("a", 5)
    assert heard(ledger, instance_id="b", beat_number=1).verdict == "taken"


def test_a_beat_without_an_instance_leaves_what_is_known_of_it(ledger: LedgerAtWork) -> None:
    heard(ledger, instance_id="a", beat_number=5, interval_seconds=15, workers=[WorkerSign("w", 1)])

    assert heard(ledger).verdict == "taken"
    row = row_of(ledger)
    assert (row.instance_id, row.beat_number, row.interval_seconds) == ("a", 5, 15)
    assert [one["name"] for one in row.workers] == ["w"]


def test_who_stands_still_is_in_the_history_once(ledger: LedgerAtWork) -> None:
    frozen = [WorkerSign("w", 1, loop_age_seconds=70, connected=True)]
    ticking = [WorkerSign("w", 1, loop_age_seconds=1, connected=True)]
    for workers in (ticking, frozen, frozen, ticking, frozen):
        heard(ledger, workers=workers)

    assert happened(ledger).count("restart_asked") == 2


@pytest.mark.parametrize("paused", [False, True])
@pytest.mark.parametrize("draining", [False, True])
def test_statements_judge_a_factory_exactly_as_the_decision_does(
    ledger: LedgerAtWork, paused: bool, draining: bool
) -> None:
    if paused and draining:
        return  # the ledger refuses both
    for said in SAYINGS:
        for seconds in SILENCES:
            heard(ledger, f"{said}-{seconds}", registration_status=said)
            silent(ledger, seconds, f"{said}-{seconds}")
    ledger.sql(
        "UPDATE corporation.factories SET paused = :paused, draining = :draining", paused=paused, draining=draining
    )

    found = {one["factory_id"]: one["registration_status"] for one in shown(ledger)[0]}
    assert found == {
        f"{said}-{seconds}": judge_status(said, seconds, paused, LIMITS, draining=draining)
        for said in SAYINGS
        for seconds in SILENCES
    }
    for status in SAYINGS:
        assert {one["factory_id"] for one in shown(ledger, status=status)[0]} == {
            factory_id for factory_id, judged in found.items() if judged == status
        }


def test_the_page_is_newest_first_and_counts_before_the_limit(ledger: LedgerAtWork) -> None:
    for number in range(5):
        heard(ledger, f"desk-{number}")
        silent(ledger, 10 * number, f"desk-{number}")

    rows, count = shown(ledger, limit=2)

    assert ([one["factory_id"] for one in rows], count) == (["desk-0", "desk-1"], 5)
    assert shown(ledger, limit=2, status="offline") == ([], 0)
    assert [one["factory_id"] for one in shown(ledger, only="desk-3")[0]] == ["desk-3"]


def test_the_page_says_what_runs_there_and_who_paused_it(ledger: LedgerAtWork) -> None:
    [first, _] = ledger.hand_out("j-1", "j-2")
    ledger.hear(first)
    ledger.sql(
        "UPDATE corporation.factories SET paused = true, paused_at = now(), paused_by = 'ana', pause_note = 'moving',"
        " paused_until = now() + interval '1 hour'"
    )

    [one], _ = shown(ledger)
    assert (one["slots"], one["busy"], one["queued"]) == (2, 1, 1)
    assert (one["pause"]["who"], one["pause"]["note"]) == ("ana", "moving")
    assert one["pause"]["since"] < one["pause"]["until"]
    assert one["lights"]["work"]["state"] == "green"
    assert one["registration_status"] == "paused"


def test_a_factory_that_was_never_heard_of_has_no_age_and_its_first_beat_ends_no_absence(ledger: LedgerAtWork) -> None:
    ledger.sql(
        "INSERT INTO corporation.factories (factory_id, source, last_seen_at) VALUES ('desk-7', 'enrolment', 'epoch')"
    )
    [one], _ = shown(ledger)
    heard(ledger)

    assert (one["registration_status"], one["age_seconds"], one["lights"]["process"]["state"]) == (
        "offline",
        None,
        "unknown",
    )
    assert ledger.sql("SELECT type, detail FROM corporation.factory_events") == [("online", {"first": True})]


def test_removing_a_factory_forgets_its_echo_and_keeps_its_history(ledger: LedgerAtWork) -> None:
    heard(ledger, labels=["delegation_redis"])
    with transaction(ledger.engine) as connection:
        ask_echoes(connection, clock.new_id)
        removed = [remove(connection, "desk-7", "ana") for _ in range(2)]

    assert removed == [True, False]
    assert ledger.sql("SELECT 1 FROM corporation.factory_echoes UNION ALL SELECT 1 FROM corporation.outbox") == []
    assert happened(ledger) == ["online", "removed"]


def test_random_ids_that_hq_had_before_are_forgotten_once_they_are_silent(ledger: LedgerAtWork) -> None:
    """F-13: names that only look like them, that others gave themselves, or that still beat, stay."""
    for factory_id, source in (
        ("factory-0a1b2c3d", "gateway_startup"),
        ("factory-ffffffff", "gateway_startup"),
        ("factory-0a1b2c3e", "api_registration"),
        ("factory-0a1b2c3x", "gateway_startup"),
        ("hq-east", "gateway_startup"),
    ):
        heard(ledger, factory_id, source=source)
        silent(ledger, 0 if factory_id == "factory-ffffffff" else 1000, factory_id)
    with transaction(ledger.engine) as connection:
        assert forget_random_ids(connection, "hq-east", 300) == 1
    assert "factory-0a1b2c3d" not in {one["factory_id"] for one in shown(ledger)[0]}


def history(ledger: LedgerAtWork, missions: int) -> None:
    """So many missions that ended on desk-0 to desk-9, in turn."""
    ledger.sql(
        """
        WITH made AS (
          INSERT INTO corporation.missions (job_id, idempotency_key, mission_kind, requested_kind, source, priority,
                                            broker_priority, timeout_seconds, max_retries, attempts_total, envelope,
                                            body_digest, state, attempt, finished_at)
          SELECT 'old-' || n, 'old-' || n, 'general_task', 'general_task', 'rest', 1, 1, 60, 0, 1, '{}', '',
                 'succeeded', 1, now() FROM generate_series(1, CAST(:missions AS integer)) n
          RETURNING id
        )
        INSERT INTO corporation.attempts (id, mission_id, number, factory_id, queue, state, lease_expires_at,
                                          finished_at)
        SELECT gen_random_uuid(), id, 1, 'desk-' || id % 10, 'q', 'succeeded', now(), now() FROM made
        """,
        missions=missions,
    )
    ledger.sql("ANALYZE corporation.attempts, corporation.missions")


def rows_read(ledger: LedgerAtWork, statement: TextClause, **values: Any) -> dict[str, float]:
    """How many rows of each table the statement looked at."""
    with transaction(ledger.engine) as connection:
        explain = text(f"EXPLAIN (ANALYZE, FORMAT JSON) {statement.text}")
        [tree] = connection.execute(explain, values).scalar_one()
    return dict(_read_by(tree["Plan"]))


def _read_by(node: dict[str, Any]) -> Counter[str]:
    read: Counter[str] = Counter()
    if name := node.get("Relation Name"):
        rows = node["Actual Rows"] + node.get("Rows Removed by Filter", 0)
        read[name] += round(rows * node["Actual Loops"])
    for child in node.get("Plans", []):
        read += _read_by(child)
    return read


def test_neither_a_beat_nor_the_page_nor_the_sweep_reads_more_when_the_history_is_long(ledger_engine: Engine) -> None:
    ledger = LedgerAtWork(ledger_engine)
    for number in range(10):
        heard(ledger, f"desk-{number}")
    history(ledger, 20_000)
    limits = {"stale": 300, "offline": 900}

    page = rows_read(ledger, LIST, only=None, status=None, limit=1000, lease=180, split_brain=900, **limits)
    stops = rows_read(ledger, cancelling.OF_FACTORY, factory_id="desk-3", limit=10_000)
    held = rows_read(ledger, HELD, factory_ids=["desk-3"], shown=20)
    runs = rows_read(ledger, RUNNING, factory_ids=["desk-3"])

    assert page == {"factories": 10}
    assert (stops, held, runs) == ({}, {}, {})

"""Bootstrap jobs are missions: whoever runs and ends them, each ends once, and people are told once (http §11)."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from ledger_at_work import AT_ONCE, LedgerAtWork
from sqlalchemy import Engine, text
from sqlalchemy.exc import IntegrityError

from corporation import clock
from corporation.bootstrap_jobs import store
from corporation.bootstrap_jobs.backends import Sight
from corporation.bootstrap_jobs.holding import NotTheirs, Unknown, Worker, claim, finish, start
from corporation.bootstrap_jobs.making import Made, Order, make
from corporation.bootstrap_jobs.records import shown
from corporation.bootstrap_jobs.runs import Run
from corporation.bootstrap_jobs.store import JobRow
from corporation.db import transaction
from corporation.missions.outcomes import Done, Failed, Stop
from corporation.missions.store.dispatching import expire

NOON = datetime(2026, 6, 1, 8, tzinfo=UTC)
OVER_HTTP = Sight(broker_answers=False, over_redis=False, over_http=False, claim_ttl_seconds=1800)
CONNECTED = Sight(broker_answers=True, over_redis=True, over_http=False, claim_ttl_seconds=1800)
BENCH = Worker("bench-2-4411", "bench-2", bound=False)
SAID = {"repo_dir": "/r/demo", "stdout": "", "stderr": "", "error": ""}
MARKS = iter(f"{number:06x}" for number in range(1, 10_000))

MANY = text("""
    WITH made AS (
      INSERT INTO corporation.missions (job_id, idempotency_key, mission_kind, requested_kind, source, priority,
             broker_priority, timeout_seconds, max_retries, attempts_total, envelope, body_digest, state, error,
             finished_at)
      SELECT 'm-' || n, 'k-' || n, 'bootstrap_repo', 'x', 'dashboard', 1, 1, 60, 1, 1, '{}', 'x', 'failed', 'no', now()
        FROM generate_series(1, 5000) AS n
      RETURNING id)
    INSERT INTO corporation.bootstrap_jobs SELECT id, 'run', 'name', 'redis_stream', NULL FROM made
""")


def order(ledger: LedgerAtWork, name: str = "run-5", sight: Sight = OVER_HTTP, **changes: Any) -> Made:
    run = Run(f"youtube-tutorial-creation/{name}", Path(name), "Queue demo", "", "")
    asked = Order(run, changes.pop("repo_name", ""), "", "", changes.pop("timeout_seconds", 900))
    with transaction(ledger.engine) as connection:
        return make(connection, asked, "http://hq", sight, 0, changes.pop("now", NOON), next(MARKS))


def have(ledger: LedgerAtWork, worker: Worker = BENCH, sight: Sight = OVER_HTTP) -> JobRow | None:
    with transaction(ledger.engine) as connection:
        return claim(connection, worker, sight, 1800, clock.new_id)


def begin(ledger: LedgerAtWork, job_id: str, worker: Worker = BENCH) -> Any:
    with transaction(ledger.engine) as connection:
        return start(connection, job_id, worker, 1800, clock.new_id)


def end(ledger: LedgerAtWork, job_id: str, worker: Worker = BENCH, *, completed: bool = True, **said: str) -> Any:
    with transaction(ledger.engine) as connection:
        return finish(connection, job_id, worker, SAID | said, AT_ONCE, lambda: 0.5, completed=completed)


def news(ledger: LedgerAtWork) -> list[tuple[str, str, str]]:
    rows = ledger.sql("SELECT kind, metadata FROM corporation.notifications ORDER BY id")
    short = [row.kind.removeprefix("tutorial_repo_bootstrap_") for row in rows]
    return [(kind, row.metadata["job_id"], row.metadata["error"]) for kind, row in zip(short, rows, strict=True)]


def test_one_of_our_own_factories_runs_a_job_as_any_mission_and_people_are_told(ledger: LedgerAtWork) -> None:
    ledger.beat(labels=("tutorial_bootstrap_consumer",), slots=1)
    job = order(ledger, sight=CONNECTED).job
    ledger.dispatch()
    ledger.send()
    attempt_id = ledger.attempt_of(job.job_id)
    ledger.hear(attempt_id)
    ledger.report(attempt_id, Done({"repo_dir": "/r/demo", "repo_open_uri": "file:///r/demo", "stdout": "x" * 9000}))
    ledger.collect()

    with transaction(ledger.engine) as connection:
        found = store.find(connection, job.job_id)
        assert found is not None
        record = shown(found, CONNECTED)
    assert (record["status"], record["dispatch_backend"], record["worker_id"]) == (
        "completed",
        "redis_stream",
        "desk-7",
    )
    assert (record["delegation_message_id"], record["repo_dir"]) == (attempt_id, "/r/demo")
    assert (len(record["stdout"]), record["repo_open_uri"]) == (6000, "file:///r/demo")
    assert news(ledger) == [("queued", job.job_id, ""), ("ready", job.job_id, "")]


def test_a_failure_for_good_is_told_and_one_that_is_tried_again_is_not(ledger: LedgerAtWork) -> None:
    ledger.beat(labels=("tutorial_bootstrap_consumer",), slots=1)
    job_id = order(ledger, sight=CONNECTED).job.job_id
    for outcome in (Failed("not yet"), Stop("never")):
        ledger.end_backoff()
        ledger.dispatch()
        ledger.report(ledger.attempt_of(job_id), outcome)
        ledger.collect()

    assert news(ledger) == [("queued", job_id, ""), ("failed", job_id, "never")]


def test_a_mission_that_is_no_job_is_told_to_nobody(ledger: LedgerAtWork) -> None:
    ledger.beat(labels=("tutorial_bootstrap_consumer",), slots=1)
    ledger.publish("j-1", context={"mission_kind": "bootstrap_repo", "tutorial_run_path": "x"})
    ledger.dispatch()
    ledger.report(ledger.attempt_of("j-1"))
    ledger.collect()

    assert (ledger.state(), news(ledger)) == ("succeeded", [])


def test_a_job_that_nobody_takes_until_its_deadline_is_told_as_failed(ledger: LedgerAtWork) -> None:
    job_id = order(ledger).job.job_id
    ledger.sql("UPDATE corporation.missions SET deadline_at = now() - interval '1 second'")
    with transaction(ledger.engine) as connection:
        assert expire(connection) == 1

    assert [kind for kind, _, _ in news(ledger)] == ["queued", "failed"]
    assert have(ledger) is None
    assert isinstance(begin(ledger, job_id), NotTheirs)


def test_news_that_cannot_be_told_hold_up_no_end(ledger: LedgerAtWork) -> None:
    job_id = order(ledger).job.job_id
    ledger.sql("ALTER TABLE corporation.notifications ADD CONSTRAINT no_news CHECK (kind NOT LIKE '%ready') NOT VALID")
    have(ledger)
    try:
        end(ledger, job_id)
    finally:
        ledger.sql("ALTER TABLE corporation.notifications DROP CONSTRAINT no_news")

    assert ledger.state(job_id) == "succeeded"
    assert [kind for kind, _, _ in news(ledger)] == ["queued"]


def test_a_claim_that_lapses_is_rescued_and_what_its_worker_says_then_is_evidence(ledger: LedgerAtWork) -> None:
    """H-35."""
    job_id = order(ledger).job.job_id
    have(ledger)
    [attempt] = ledger.attempts(job_id)
    assert timedelta(seconds=1790) < attempt.lease_left <= timedelta(seconds=1800)
    ledger.lapse(str(attempt.id))
    ledger.rescue(AT_ONCE)
    ledger.end_backoff()
    again = have(ledger, Worker("another", "another", bound=False))

    assert again is not None
    assert (again.claims, again.worker_id, again.requeued_at is not None) == (2, "another", True)
    assert isinstance(end(ledger, job_id), NotTheirs)
    assert ledger.events(job_id).count("late_result") == 1
    assert end(ledger, job_id, Worker("another", "another", bound=False)).state == "succeeded"


def test_the_same_result_again_changes_nothing_also_after_the_job_moved_on(ledger: LedgerAtWork) -> None:
    job_id = order(ledger).job.job_id
    have(ledger)
    first = end(ledger, job_id, completed=False, error="no")
    again = end(ledger, job_id, completed=False, error="no")
    ledger.end_backoff()
    have(ledger, Worker("another", "another", bound=False))

    assert (first.state, again.state) == ("waiting", "waiting")
    assert end(ledger, job_id, completed=False, error="no").state == "claimed"
    assert [one.state for one in ledger.attempts(job_id)] == ["failed", "claimed"]


def test_two_results_at_odds_count_once(ledger: LedgerAtWork) -> None:
    job_id = order(ledger).job.job_id
    have(ledger)
    end(ledger, job_id)

    assert isinstance(end(ledger, job_id, completed=False, error="no"), NotTheirs)
    assert ledger.state(job_id) == "succeeded"


def test_what_lies_in_a_factorys_queue_is_that_factorys(ledger: LedgerAtWork) -> None:
    ledger.beat(labels=("tutorial_bootstrap_consumer",), slots=1)
    job_id = order(ledger, sight=CONNECTED).job.job_id
    ledger.dispatch()
    ledger.send()

    assert have(ledger) is None
    assert isinstance(begin(ledger, job_id), NotTheirs)
    assert begin(ledger, job_id, Worker(None, "desk-7", bound=True)).state == "running"


def test_what_is_meant_for_a_factory_and_not_sent_yet_is_not_for_http_while_the_broker_is_there(
    ledger: LedgerAtWork,
) -> None:
    ledger.beat(labels=("tutorial_bootstrap_consumer",), slots=1)
    job_id = order(ledger, sight=CONNECTED).job.job_id
    ledger.dispatch()

    assert have(ledger, sight=CONNECTED) is None
    assert isinstance(begin(ledger, job_id), NotTheirs)
    assert begin(ledger, job_id, Worker(None, "desk-7", bound=True)).state == "running"
    assert ledger.send() == 0


@pytest.mark.parametrize("made", [OVER_HTTP, CONNECTED], ids=["made so", "made before"])
def test_a_job_for_http_is_had_by_who_asks_though_it_was_meant_for_a_factory_and_could_not_be_sent(
    ledger: LedgerAtWork, made: Sight
) -> None:
    """H-34, http §8: whoever claims first in the ledger. No attempt is used up, and what a sender has is stopped."""
    ledger.beat(labels=("tutorial_bootstrap_consumer",), slots=1)
    job_id = order(ledger, sight=made).job.job_id
    ledger.dispatch()
    left = ledger.mission(job_id).attempts_total - ledger.mission(job_id).attempt
    had = have(ledger)

    assert had is not None
    assert (had.job_id, had.worker_id, had.backend, had.claims) == (job_id, "bench-2-4411", "http_queue", 1)
    assert [one.state for one in ledger.attempts(job_id)] == ["withdrawn", "claimed"]
    assert ledger.mission(job_id).attempts_total - ledger.mission(job_id).attempt == left
    assert [row.topic for row in ledger.sql("SELECT topic FROM corporation.outbox")] == ["stop"]
    assert have(ledger, Worker("another", "another", bound=False)) is None
    assert end(ledger, job_id).state == "succeeded"


def test_a_job_for_http_that_is_not_sent_yet_is_had_by_who_starts_it(ledger: LedgerAtWork) -> None:
    ledger.beat(labels=("tutorial_bootstrap_consumer",), slots=1)
    job_id = order(ledger).job.job_id
    ledger.dispatch()

    assert begin(ledger, job_id).state == "running"
    assert [one.state for one in ledger.attempts(job_id)] == ["withdrawn", "running"]


def test_what_was_handed_out_twice_may_have_begun_and_is_left_to_its_factory(ledger: LedgerAtWork) -> None:
    ledger.beat(labels=("tutorial_bootstrap_consumer",), slots=1)
    order(ledger)
    ledger.dispatch()
    ledger.sql("UPDATE corporation.attempts SET sends = 2")

    assert have(ledger) is None


def test_an_unknown_job_is_unknown(ledger: LedgerAtWork) -> None:
    ledger.publish("j-1")

    assert isinstance(begin(ledger, "j-1"), Unknown)
    assert isinstance(end(ledger, "tbj_0_0"), Unknown)


def test_a_quarantined_factory_gets_no_job(ledger: LedgerAtWork) -> None:
    order(ledger)
    ledger.sql("INSERT INTO corporation.factory_access (factory_id, quarantined_at) VALUES ('bench-2', now())")

    assert have(ledger) is None
    assert have(ledger, Worker("another", "another", bound=False)) is not None


def test_a_made_up_name_is_free_again_when_its_job_has_ended(ledger: LedgerAtWork) -> None:
    names = [order(ledger, f"run-{number}").job.repo_name for number in range(2)]
    job = have(ledger)
    assert job is not None
    end(ledger, job.job_id)

    assert names[0] == "queue_demo__20260601_080000"
    assert names[1].startswith("queue_demo__20260601_080000_")
    assert order(ledger, "run-7").job.repo_name == "queue_demo__20260601_080000"


def test_a_run_can_be_made_again_when_its_job_has_ended(ledger: LedgerAtWork) -> None:
    first = order(ledger)
    assert order(ledger).reused
    have(ledger)
    end(ledger, first.job.job_id)

    assert order(ledger).job.job_id != first.job.job_id


@pytest.mark.parametrize(
    ("backend", "reason", "rule"),
    [
        ("carrier_pigeon", None, "dispatch_backend_check"),
        ("http_queue", None, "a_fallback_has_a_reason"),
        ("redis_stream", "why", "a_fallback_has_a_reason"),
        ("http_queue", "", "fallback_reason_check"),
    ],
)
def test_a_job_that_breaks_a_rule_is_refused(ledger: LedgerAtWork, backend: str, reason: str | None, rule: str) -> None:
    ledger.publish("j-1")
    add = "INSERT INTO corporation.bootstrap_jobs VALUES (:id, 'run', 'name', :backend, :reason)"
    values = {"id": ledger.mission().id, "backend": backend, "reason": reason}

    with ledger.engine.connect() as connection, pytest.raises(IntegrityError, match=rule):
        connection.execute(text(add), values)


def test_the_first_page_costs_the_same_however_many_jobs_there_were(ledger_engine: Engine) -> None:
    with ledger_engine.begin() as connection:
        connection.execute(MANY)
        connection.execute(text("ANALYZE corporation.missions, corporation.bootstrap_jobs"))
        # So few missions fit into a hash table; with many more the planner has no such choice.
        connection.execute(text("SET LOCAL enable_seqscan = off"))
        [[plan]] = connection.execute(
            text(f"EXPLAIN (ANALYZE, FORMAT JSON) {store.LIST.text}"),
            {"run_path": None, "unfinished": False, "limit": 100},
        )

    assert 0 < _most_rows(plan[0]["Plan"]) <= 100


def _most_rows(node: dict[str, Any]) -> int:
    return max([node["Actual Rows"] * node["Actual Loops"], *(_most_rows(one) for one in node.get("Plans", ()))])

"""The gatekeeper of a worker: every message that we send passes, and what it refuses is kept, counted and answered."""

import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import redis
from celery import Celery
from celery.beat import Scheduler
from malformed_messages import QUEUE, ROWS, message, order
from structlog.testing import capture_logs

import celeryconfig
from corporation import clock
from corporation.federation.message_frame import Reason
from corporation.federation.processes import my_identity
from corporation.federation.refused_messages import LONGEST_KEPT, MOST_KEPT, RefusedMessages, refused_message
from corporation.missions.store.sending import AttemptMessage
from corporation.settings import Settings, load_settings
from factory_tasks.broker import CeleryBroker
from factory_tasks.gatekeeper import LINES_A_MINUTE, Gatekeeper
from factory_tasks.node import Node, build_node

NOW = datetime(2026, 6, 1, tzinfo=UTC)


@pytest.fixture
def settings(tmp_path: Path, redis_url: str) -> Settings:
    return load_settings(
        {
            "FACTORY_ROLE": "LOCAL_WORKER",
            "UA_FACTORY_ID": "desk-7",
            "UA_REDIS_URL": redis_url,
            "UA_VP_DB_PATH": str(tmp_path / "spool.db"),
        }
    )


@pytest.fixture
def here(settings: Settings) -> Node:
    return build_node(settings)


@pytest.fixture
def app(settings: Settings) -> Iterator[Celery]:
    """A worker's application with one kind and the task of beat."""
    app = Celery("worker", set_as_current=False)
    app.conf.update(celeryconfig.configuration(settings) | {"imports": []})

    def noop(self: Any, order: dict[str, Any]) -> None: ...

    def heartbeat() -> None: ...

    app.task(noop, name="mission.noop", bind=True, shared=False)
    app.task(heartbeat, name=celeryconfig.HEARTBEAT_TASK, shared=False)
    app.finalize()
    yield app
    app.close()


@pytest.fixture
def keeper(here: Node, app: Celery) -> Gatekeeper:
    return Gatekeeper(here, app, lambda: NOW)


def row(number: int) -> bytes:
    return ROWS[number - 1].make()


# What we send.


def test_every_message_of_the_engine_passes(here: Node, app: Celery, settings: Settings) -> None:
    context = {"mission_kind": "noop", "text": "ü\u2028\u202e", "number": 1e300, "deep": [[[[[[[[[[[[1]]]]]]]]]]]]}
    envelope = {"job_id": "m-1", "priority": -(2**53 - 1), "payload": {"task": "words", "context": context}}
    CeleryBroker(settings).send(
        [
            AttemptMessage(number, str(uuid4()), 1, queue, "desk-7", "m-1", "noop", seconds, envelope)
            for number, (queue, seconds) in enumerate([(QUEUE, 1), ("factory.desk-7", 10**9)])
        ]
    )

    keeper = Gatekeeper(here, app)
    with redis.Redis.from_url(settings.redis_url) as client:
        for queue in (QUEUE, "factory.desk-7"):
            [raw] = client.lrange(queue, 0, -1)
            assert keeper.admit(raw, queue) is not None
    assert here.refused.counts() == {}


def test_the_beat_of_beat_passes_and_an_old_one_is_counted(here: Node, app: Celery, settings: Settings) -> None:
    scheduler = Scheduler(app)
    scheduler.apply_async(scheduler.schedule["heartbeat"])
    with redis.Redis.from_url(settings.redis_url) as client:
        [raw] = client.lrange("desk-7.control", 0, -1)

    assert Gatekeeper(here, app).admit(raw, "desk-7.control") is not None
    late = Gatekeeper(here, app, lambda: clock.utc_now() + timedelta(hours=1))
    assert late.admit(raw, "desk-7.control") is None
    assert (here.refused.counts(), here.refused.newest(9)) == ({"expired": 1}, [])


def test_what_celery_tells_all_workers_passes(keeper: Gatekeeper, app: Celery, settings: Settings) -> None:
    with redis.Redis.from_url(settings.redis_url) as client, client.pubsub() as ears:
        ears.subscribe("/0.celery.pidbox")
        ears.get_message(timeout=5)
        app.control.broadcast("ping")
        told = ears.get_message(timeout=5)

    assert told is not None
    assert keeper.admit_broadcast(told["data"], "/0.celery.pidbox")


# What is refused.


def test_what_is_refused_is_kept_with_its_reason(here: Node, keeper: Gatekeeper) -> None:
    raw = row(48)

    assert keeper.admit(raw, QUEUE) is None

    assert here.refused.newest(1) == [
        refused_message(clock.iso(NOW), QUEUE, "too_large", here.refused.newest(1)[0].why, raw)
    ]
    assert len(here.refused.newest(1)[0].start) == LONGEST_KEPT


def test_an_argument_that_the_task_does_not_take_is_a_permanent_failure(here: Node, keeper: Gatekeeper) -> None:
    """C49: the pulse finds the report in the spool and tells HQ, so that the mission need not wait for its lease."""
    keeper.admit(row(49), QUEUE)

    [(attempt_id, report)] = here.spool.unreported()
    assert report["outcome"] == "stop"
    assert "surprise" in report["error"]
    assert here.refused.newest(1)[0].attempt_id == attempt_id


def test_a_kind_that_is_not_here_is_a_failure_that_may_be_tried_again(here: Node, keeper: Gatekeeper) -> None:
    keeper.admit(row(27), QUEUE)

    assert [report["outcome"] for _, report in here.spool.unreported()] == ["failed"]


def test_no_answer_touches_an_attempt_that_is_known_here(here: Node, keeper: Gatekeeper) -> None:
    attempt_id = str(uuid4())
    here.spool.accept(attempt_id, "m-1", 1, my_identity(), "now")

    keeper.admit(message(headers={"id": attempt_id}, kwargs={"surprise": 1}), QUEUE)

    assert here.spool.unreported() == []


def test_an_answer_for_an_order_that_no_file_can_hold_does_not_disturb_the_worker(
    here: Node, keeper: Gatekeeper
) -> None:
    assert keeper.admit(message(kwargs={"surprise": 1, "order": order("\ud800")}), QUEUE) is None
    assert here.refused.counts() == {"signature_mismatch": 1}


def test_what_the_consumer_failed_on_is_answered_too(here: Node, keeper: Gatekeeper) -> None:
    raw = message()
    document = keeper.admit(raw, QUEUE)
    assert document is not None

    keeper.consumer_failed(raw, QUEUE, document, KeyError("words of the message"))

    [(_, report)] = here.spool.unreported()
    assert (report["outcome"], here.refused.newest(1)[0].reason) == ("failed", "consumer_failed")
    assert "words" not in str(report)


def test_a_flood_of_bad_messages_is_no_flood_of_lines(here: Node, keeper: Gatekeeper) -> None:
    with capture_logs() as lines:
        for _ in range(100):
            keeper.admit(b"the words of a message", QUEUE)

    assert len(lines) == LINES_A_MINUTE
    assert "words" not in str(lines)
    assert here.refused.counts() == {"not_json": 100}


def test_a_spool_that_cannot_be_written_costs_the_record_and_not_the_worker(
    keeper: Gatekeeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(RefusedMessages, "keep", full)

    assert keeper.admit(b"not json", QUEUE) is None


# What is kept.


def test_the_newest_are_kept_and_all_are_counted(tmp_path: Path) -> None:
    refused = RefusedMessages(tmp_path / "spool.db")
    for number in range(MOST_KEPT + 5):
        refused.keep(refused_message("now", QUEUE, Reason.not_json, str(number), b"x"))

    assert [one.why for one in refused.newest(2)] == [str(MOST_KEPT + 4), str(MOST_KEPT + 3)]
    assert refused.newest(MOST_KEPT + 5)[-1].why == "5"
    assert refused.counts() == {"not_json": MOST_KEPT + 5}


def test_it_shares_its_file_with_the_attempts_whoever_opens_it_first(tmp_path: Path) -> None:
    for number, first in enumerate((True, False)):
        here = build_node(load_settings({"UA_VP_DB_PATH": str(tmp_path / f"{number}.db")}))
        if first:
            here.refused.count("expired")
        here.spool.accept("at-1", "j-1", 1, my_identity(), "now")
        here.refused.count("expired")

        assert [one.attempt_id for one in here.spool.running()] == ["at-1"]
        assert sum(here.refused.counts().values()) == 1 + first

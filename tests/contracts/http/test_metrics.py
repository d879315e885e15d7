"""`GET /metrics`: every name of the contract, as Prometheus reads it, and nothing that only a stranger would guess."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis
from prometheus_client.parser import text_string_to_metric_families
from served_api import PUBLISH, Api, served, settings_for, token

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]
STREAM = "ua:missions:delegation"
STATUSES = ("online", "paused", "draining", "stale", "offline", "quarantined")


def samples(api: Api) -> Samples:
    """Every number by its name and labels."""
    answer = api.ops.get("/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain; version=")
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


def value(found: Samples, name: str, **labels: str) -> float:
    """One number."""
    return found[name, frozenset(labels.items())]


@pytest.fixture
def with_redis(shared_url: str, redis_url: str) -> Iterator[Api]:
    """A served headquarters whose Redis answers."""
    with served(settings_for(shared_url, UA_REDIS_URL=redis_url)) as api:
        yield api


def test_what_the_ledger_knows_is_told_without_redis(api: Api, order: Callable[..., dict[str, Any]]) -> None:
    api.ops.post(PUBLISH, json=order())
    api.ops.post(PUBLISH, json=order(job_id="j-2", idempotency_key="k-2"))
    api.sql("""UPDATE corporation.missions SET state = 'failed', state_reason = NULL, finished_at = now(), error = 'no',
                      started_at = created_at + interval '3 seconds' WHERE job_id = 'j-2'""")
    api.sql("UPDATE corporation.missions SET state_reason = 'no_live_factory' WHERE job_id = 'j-1'")
    found = samples(api)

    assert value(found, "ua_missions_total", state="waiting", kind="general_task", source="rest") == 1
    assert value(found, "ua_missions_total", state="failed", kind="general_task", source="rest") == 1
    assert value(found, "ua_missions_waiting", reason="no_live_factory") == 1
    assert value(found, "ua_dlq_open") == 1
    assert value(found, "ua_results_unpublished") == 1
    assert value(found, "ua_publish_to_start_seconds_bucket", le="5.0") == 1
    assert value(found, "ua_publish_to_start_seconds_bucket", le="1.0") == 0
    assert value(found, "ua_publish_to_start_seconds_count") == 1
    assert value(found, "ua_publish_to_start_seconds_sum") == 3
    assert value(found, "ua_redis_up") == 0
    assert not any(name.startswith("ua_stream") for name, _ in found)


def test_what_redis_knows_is_told_when_it_answers(with_redis: Api, redis_url: str) -> None:
    """Lag, pending, oldest age, and the depth of a factory's queue."""
    api = with_redis
    api.sql("""INSERT INTO corporation.factories (factory_id, source, slots, last_seen_at)
               VALUES ('desk "7"', 'api_registration', 2, now() - interval '90 seconds')""")
    with redis.Redis.from_url(redis_url) as client:
        client.xgroup_create(STREAM, "ua_workers", id="0", mkstream=True)
        for _ in range(5):
            client.xadd(STREAM, {"envelope": json.dumps({})})
        client.xreadgroup("ua_workers", "worker_x", {STREAM: ">"}, count=2)
        client.rpush("factory.desk-7-", "a message")
        found = samples(api)

    assert value(found, "ua_redis_up") == 1
    assert (value(found, "ua_stream_pending"), value(found, "ua_stream_lag")) == (2, 3)
    assert 0 <= value(found, "ua_stream_oldest_age_seconds") < 60
    assert value(found, "ua_queue_depth", queue="factory.desk-7-") == 1
    assert value(found, "ua_factories", status="online") >= 1
    assert 90 <= value(found, "ua_heartbeat_age_seconds", factory_id='desk "7"') < 120


def test_a_factory_is_counted_under_the_status_that_it_has_now(api: Api) -> None:
    """Not under what it said last: silence, HQ's flags and a quarantine count for more."""
    api.sql("""
        INSERT INTO corporation.factories (factory_id, source, registration_status, paused, draining, last_seen_at)
        SELECT name, 'api_registration', said, paused, draining, now() - silent * interval '1 second'
          FROM (VALUES ('fine', 'online', false, false, 1), ('rests', 'online', true, false, 2),
                       ('empties', 'online', false, true, 3), ('goes', 'draining', false, false, 4),
                       ('late', 'online', true, false, 400), ('lost', 'online', false, true, 1000),
                       ('cut', 'online', true, false, 5)) AS t(name, said, paused, draining, silent)
    """)
    api.sql("INSERT INTO corporation.factory_access (factory_id, quarantined_at) VALUES ('cut', now())")
    api.sql("""INSERT INTO corporation.factories (factory_id, source, registration_status, last_seen_at)
               VALUES ('new', 'enrolment', 'offline', 'epoch')""")
    found = samples(api)

    counts = {status: value(found, "ua_factories", status=status) for status in STATUSES}
    assert counts == {"online": 1, "paused": 1, "draining": 2, "stale": 1, "offline": 2, "quarantined": 1}
    assert 1000 <= value(found, "ua_heartbeat_age_seconds", factory_id="lost") < 1030
    assert ("ua_heartbeat_age_seconds", frozenset({("factory_id", "new")})) not in found


def test_a_status_that_no_factory_has_is_told_as_none(api: Api) -> None:
    found = samples(api)

    assert {value(found, "ua_factories", status=status) for status in STATUSES} == {0}


def test_what_strangers_wrote_into_redis_does_not_keep_the_numbers_back(with_redis: Api, redis_url: str) -> None:
    """Bytes that are no text, an id from the end of time, and keys that hold something else."""
    with redis.Redis.from_url(redis_url) as client:
        client.xgroup_create(STREAM, "ua_workers", id="0", mkstream=True)
        client.xadd(STREAM, {b"\xff": b"\xfe"}, id="18446744073709551615-1")
        hostile = samples(with_redis)
        client.delete(STREAM)
        client.set(STREAM, "x")
        no_stream = samples(with_redis)

    assert (value(hostile, "ua_redis_up"), value(hostile, "ua_stream_lag")) == (1, 1)
    assert ("ua_stream_oldest_age_seconds", frozenset()) not in hostile, "nobody was given an entry, so nothing says"
    assert value(no_stream, "ua_redis_up") == 1
    assert ("ua_stream_lag", frozenset()) not in no_stream


def test_what_waits_is_no_older_than_the_last_look_at_which_nothing_waited(with_redis: Api, redis_url: str) -> None:
    """However old the last delivered entry is: no entry is read for that."""
    with redis.Redis.from_url(redis_url) as client:
        client.xgroup_create(STREAM, "ua_workers", id="0", mkstream=True)
        client.xadd(STREAM, {"envelope": "{}"}, id="1780000000000-0")
        client.xreadgroup("ua_workers", "worker_x", {STREAM: ">"})
        client.xadd(STREAM, {"envelope": "{}"})
        at_first = samples(with_redis)
        client.xreadgroup("ua_workers", "worker_x", {STREAM: ">"})
        nothing = samples(with_redis)
        client.xadd(STREAM, {"envelope": "{}"})
        later = samples(with_redis)

    assert value(at_first, "ua_stream_oldest_age_seconds") > 1000
    assert value(nothing, "ua_stream_oldest_age_seconds") == 0
    assert 0 <= value(later, "ua_stream_oldest_age_seconds") < 60


def test_where_redis_does_not_know_the_lag_it_is_at_most_what_lies_there(with_redis: Api, redis_url: str) -> None:
    """Where entries were removed from the middle, Redis would have to count and says nil."""
    with redis.Redis.from_url(redis_url) as client:
        client.xgroup_create(STREAM, "ua_workers", id="0", mkstream=True)
        ids = [client.xadd(STREAM, {"envelope": "{}"}) for _ in range(120)]
        client.xdel(STREAM, ids[60])
        [group] = client.xinfo_groups(STREAM)
        found = samples(with_redis)

    assert group["lag"] is None
    assert value(found, "ua_stream_lag") == 119


@pytest.mark.parametrize("scope", ["publish", "factory"])
def test_metrics_are_for_operators(api: Api, scope: str) -> None:
    more = {"factory_id": "desk-7"} if scope == "factory" else {}
    with api.as_token(token(scope, **more)) as stranger:
        assert stranger.get("/metrics").status_code == 403


def test_the_names_of_the_contract_are_all_there(with_redis: Api, redis_url: str) -> None:
    """Contract http §12."""
    wanted = {
        "ua_missions_total",
        "ua_missions_waiting",
        "ua_queue_depth",
        "ua_publish_to_start_seconds",
        "ua_attempts",
        "ua_stream_pending",
        "ua_stream_lag",
        "ua_dlq_open",
        "ua_factories",
        "ua_heartbeat_age_seconds",
        "ua_results_unpublished",
    }
    text = with_redis.ops.get("/metrics").text

    assert wanted - {family.name for family in text_string_to_metric_families(text)} == set()

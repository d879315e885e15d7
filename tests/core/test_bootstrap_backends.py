"""By which way a bootstrap job can be had: over the broker while that works, else by asking for it (H-34)."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from corporation.bootstrap_jobs.backends import Backend, Sight, Waiting, backend_now, first_backend, seen
from corporation.bootstrap_jobs.names import clean_name, default_name, distinguished, job_name
from corporation.missions.routing import FactoryView

LABEL = "tutorial_bootstrap_consumer"
DESK = FactoryView("desk-7", "online", frozenset({LABEL}), 1, 0)
BENCH = FactoryView("bench-2", "online", frozenset({LABEL, "transport:http"}), 0, 0, takes_messages=False)
BOTH = Sight(broker_answers=True, over_redis=True, over_http=True, claim_ttl_seconds=1800)
REDIS = Backend("redis_stream")


@pytest.mark.parametrize(
    ("factories", "over_redis", "over_http"),
    [
        ([], False, False),
        ([DESK], True, False),
        ([BENCH], False, True),
        ([DESK, BENCH], True, True),
        ([replace(DESK, status="paused")], True, False),
        ([replace(DESK, status="stale"), BENCH], False, True),
        ([replace(DESK, status="offline")], False, False),
        ([replace(DESK, quarantined=True)], False, False),
        ([replace(DESK, labels=frozenset({"vp_coder"}))], False, False),
        ([replace(DESK, slots=0)], False, True),
    ],
)
def test_who_could_take_a_job_is_seen_by_labels_life_and_slots(
    factories: list[FactoryView], over_redis: bool, over_http: bool
) -> None:
    sight = seen(factories, True, 1800)

    assert (sight.over_redis, sight.over_http) == (over_redis, over_http)


@pytest.mark.parametrize(
    ("broker", "over_redis", "over_http", "reason"),
    [
        (True, True, True, None),
        (True, True, False, None),
        (True, False, False, None),
        (True, False, True, "the only live workers ask over HTTP"),
        (False, True, True, "redis down"),
        (False, False, False, "redis down"),
    ],
)
def test_a_new_job_goes_over_the_broker_unless_that_would_reach_nobody(
    broker: bool, over_redis: bool, over_http: bool, reason: str | None
) -> None:
    expected = Backend("http_queue", reason) if reason else REDIS

    assert first_backend(Sight(broker, over_redis, over_http, 1800)) == expected


@pytest.mark.parametrize(
    ("waiting", "reason"),
    [
        (Waiting(1799, lapsed=False), None),
        (Waiting(1800, lapsed=False), "nobody claimed it within 1800 s"),
        (Waiting(1, lapsed=True), "its worker fell silent"),
        (None, None),
    ],
)
def test_a_job_that_nobody_takes_or_keeps_becomes_claimable(waiting: Waiting | None, reason: str | None) -> None:
    assert backend_now(REDIS, waiting, BOTH) == (Backend("http_queue", reason) if reason else REDIS)


def test_what_went_to_http_stays_there() -> None:
    stored = Backend("http_queue", "redis down")

    assert backend_now(stored, Waiting(0, lapsed=False), BOTH) == stored
    assert backend_now(stored, None, BOTH) == stored


def test_names_are_short_plain_and_told_apart() -> None:
    noon = datetime(2026, 6, 1, 8, 0, 0, 123000, tzinfo=UTC)

    assert job_name(noon, "a1b2c3") == "tbj_1780300800123_a1b2c3"
    assert default_name("Queue demo", noon) == "queue_demo__20260601_080000"
    assert clean_name(distinguished("x" * 120, "a1b2c3")) == f"{'x' * 113}_a1b2c3"

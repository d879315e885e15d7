"""The fleet at the door: who may see and remove factories, beats that come twice or too often, and what they spent."""

from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import httpx
import pytest
from served_api import Api, token

BEATS = "/api/v1/factory/registrations"
COSTS = "/api/v1/ops/fleet/cost-summary"
ROW = {
    "factory_id", "factory_role", "deployment_profile", "source", "registration_status", "heartbeat_latency_ms",
    "capabilities", "metadata", "first_seen_at", "last_seen_at", "updated_at", "paused", "local_control_supported",
    "local_service_unit", "local_service_scope", "local_service_active", "local_service_state",
}  # fmt: skip
FULL = {
    "factory_id": "desk-7",
    "factory_role": "LOCAL_WORKER",
    "deployment_profile": "local_workstation",
    "registration_status": "online",
    "heartbeat_latency_ms": 38.5,
    "capabilities": ["delegation_redis", "vp_coder"],
    "metadata": {"hostname": "desk-7", "pid": 4121},
    "running": [],
    "slots": 2,
    "queues": ["factory.desk-7"],
    "version": "4f2a9c1d0b7e6a5f4c3b2a190817263544f0e1d2",
    "instance_id": "spool-1.boot-1",
    "beat_number": 1,
    "interval_seconds": 15,
    "workers": [
        {"name": "w-1", "slots": 2, "busy": 0, "queues": ["q"], "loop_age_seconds": 0.5, "connected": True},
    ],
    "echo": None,
    "transport": "redis",
    "transport_why": None,
}
DAY = {"period_start": "2026-06-01T00:00:00.000000+00:00", "period_end": "2026-06-01T08:00:00.000000+00:00"}
SPENT = {
    **DAY,
    "total_input_tokens": 51200,
    "total_output_tokens": 6400,
    "total_requests": 44,
    "estimated_cost_usd": 0.21,
    "breakdown_by_model": {
        "glm-x": {"requests": 44, "input_tokens": 51200, "output_tokens": 6400, "estimated_cost_usd": 0.21}
    },
}


@pytest.fixture
def desk(api: Api) -> Iterator[httpx.Client]:
    """The factory desk-7, with a token of its own."""
    with api.as_token(token(scope="factory", factory_id="desk-7", sub="desk-7")) as client:
        yield client


def beat(client: httpx.Client, **changes: Any) -> httpx.Response:
    return client.post(BEATS, json=FULL | changes)


def listed(client: httpx.Client, **query: Any) -> list[str]:
    answer = client.get(BEATS, params=query)
    assert answer.status_code == 200, answer.text
    return [row["factory_id"] for row in answer.json()["registrations"]]


def silent(api: Api, factory_id: str, seconds: float) -> None:
    api.sql(
        "UPDATE corporation.factories SET last_seen_at = now() - :ago * interval '1 second',"
        " workers_seen_at = now() - :ago * interval '1 second' WHERE factory_id = :id",
        ago=seconds,
        id=factory_id,
    )


def test_the_page_shows_each_factory_as_it_is_now(api: Api) -> None:
    beat(api.ops)
    body = api.ops.get(BEATS).json()

    assert set(body) == {"registrations", "count", "headquarters_factory_id"}
    assert (body["count"], body["headquarters_factory_id"]) == (1, api.settings.factory_id)
    [row] = body["registrations"]
    assert set(row) >= ROW
    assert row["metadata"] == {"hostname": "desk-7", "pid": 4121, "remote_host": "127.0.0.1", "transport": "redis"}
    assert (row["local_control_supported"], row["local_service_unit"], row["paused"]) == (False, None, False)
    assert (row["slots"], row["busy"], row["version"], row["queues"]) == (2, 0, FULL["version"], ["factory.desk-7"])
    assert (row["draining"], row["pause"], row["quarantined"], row["split_brain"]) == (False, None, False, None)
    assert row["transport"] == "redis"
    assert 0 <= row["age_seconds"] < 30
    assert [row["lights"][name]["state"] for name in ("process", "consumer", "work")] == ["green", "green", "unknown"]


def test_a_silent_factory_is_shown_stale_without_waiting_for_a_sweep(api: Api) -> None:
    for name, seconds in (("a", 0), ("b", 301), ("c", 901)):
        beat(api.ops, factory_id=name)
        silent(api, name, seconds)

    rows = {row["factory_id"]: row["registration_status"] for row in api.ops.get(BEATS).json()["registrations"]}
    assert rows == {"a": "online", "b": "stale", "c": "offline"}
    assert listed(api.ops) == ["a", "b", "c"]
    assert listed(api.ops, registration_status=" STALE ") == ["b"]
    assert listed(api.ops, registration_status="") == ["a", "b", "c"]
    assert listed(api.ops, registration_status="nonsense") == []
    assert listed(api.ops, registration_status="a\0b") == []


@pytest.mark.parametrize(("limit", "shown"), [(-5, 1), (0, 1), (1, 1), (2, 2), (10**12, 3)])
def test_the_limit_is_clamped_and_the_count_is_of_all(api: Api, limit: int, shown: int) -> None:
    for name in ("a", "b", "c"):
        beat(api.ops, factory_id=name)

    body = api.ops.get(BEATS, params={"limit": limit}).json()
    assert (len(body["registrations"]), body["count"]) == (shown, 3)


def test_a_factory_sees_itself_only(api: Api, desk: httpx.Client) -> None:
    assert listed(desk) == []
    for name in ("desk-7", "desk-8"):
        beat(api.ops, factory_id=name)

    assert listed(desk) == ["desk-7"]
    assert desk.get(BEATS).json()["count"] == 1
    with api.as_token(token(scope="publish")) as publisher:
        assert publisher.get(BEATS).status_code == 403
    with api.as_token("nonsense") as stranger:
        assert stranger.get(BEATS).status_code == 401


def test_a_removed_factory_is_gone_and_removing_it_again_changes_nothing(api: Api) -> None:
    beat(api.ops)
    answers = [api.ops.delete(f"{BEATS}/desk-7").json() for _ in range(2)]

    assert answers == [{"ok": True, "factory_id": "desk-7", "deleted": n} for n in (1, 0)]
    assert listed(api.ops) == []
    assert api.sql("SELECT by FROM corporation.factory_events WHERE type = 'removed'") == [("ops",)]


def test_a_beat_after_the_removal_is_refused(api: Api, desk: httpx.Client) -> None:
    """R9: the tokens it still has are worth nothing."""
    beat(desk)
    api.ops.delete(f"{BEATS}/desk-7")

    assert beat(desk, beat_number=2).status_code == 401
    assert listed(api.ops) == []
    assert api.sql("SELECT factory_id FROM corporation.factory_access") == [("desk-7",)]


def test_removing_a_factory_ends_its_credential(api: Api, desk: httpx.Client) -> None:
    beat(desk)
    api.sql(
        "INSERT INTO corporation.factory_credentials (credential_hash, factory_id)"
        " VALUES (sha256('x'), 'desk-7'), (sha256('y'), 'desk-8')"
    )
    api.ops.delete(f"{BEATS}/desk-7")

    live = api.sql("SELECT factory_id FROM corporation.factory_credentials WHERE revoked_at IS NULL")
    assert live == [("desk-8",)]


def test_headquarters_cannot_be_removed_and_only_an_operator_removes(api: Api, desk: httpx.Client) -> None:
    own = api.ops.delete(f"{BEATS}/{api.settings.factory_id}")
    beat(desk)

    assert own.status_code == 409
    assert desk.delete(f"{BEATS}/desk-7").status_code == 403
    assert listed(api.ops) == ["desk-7"]


@pytest.mark.parametrize("name", ["a/b", "a b", "../x", "ü", "x" * 300, "a%00b"])
def test_any_name_can_be_asked_to_be_removed(api: Api, name: str) -> None:
    answer = api.ops.delete(f"{BEATS}/{name.replace('..', '%2E%2E')}")

    assert (answer.status_code, answer.json()["deleted"]) == (200, 0)
    assert api.sql("SELECT 1 FROM corporation.factory_access") == []


def test_a_beat_every_ten_milliseconds_is_slowed_down_and_the_last_state_kept(api: Api) -> None:
    """R7: a hundred in ten seconds are taken, and what others do is not held against a factory."""
    answers = [beat(api.ops, beat_number=n, heartbeat_latency_ms=n) for n in range(1, 111)]

    assert [answer.status_code for answer in answers] == [200] * 100 + [429] * 10
    assert int(answers[-1].headers["retry-after"]) <= 10
    assert api.sql("SELECT heartbeat_latency_ms FROM corporation.factories") == [(100.0,)]
    assert beat(api.ops, factory_id="desk-8").status_code == 200


def test_nobody_uses_up_the_beats_of_another_factory(api: Api, desk: httpx.Client) -> None:
    with api.as_token(token(scope="factory", factory_id="desk-8")) as other:
        assert {beat(other).status_code for _ in range(110)} == {403}

    assert beat(desk).status_code == 200


def test_a_second_instance_is_refused_and_told_why(api: Api, desk: httpx.Client) -> None:
    """R8."""
    beat(desk)
    refused = beat(desk, instance_id="spool-2.boot-1", version="other", cost_snapshot=SPENT)

    assert refused.status_code == 409
    assert refused.json()["detail"].startswith("split_brain: ")
    assert api.sql("SELECT version, split_brain_with FROM corporation.factories") == [
        (FULL["version"], "spool-2.boot-1")
    ]
    assert api.sql("SELECT 1 FROM corporation.factory_costs") == []
    assert api.sql("SELECT kind FROM corporation.notifications") == [], "it may be a restart"
    assert beat(desk, beat_number=2).status_code == 200
    assert api.sql("SELECT kind FROM corporation.notifications") == [("split_brain",)], "both are heard of"


def test_a_refused_instance_renews_no_lease(api: Api, desk: httpx.Client) -> None:
    beat(desk)
    api.ops.post("/api/v1/delegation/publish", json={"job_id": "j-1", "payload": {"task": "t"}})
    attempt_id = hold(api)
    beat(desk, instance_id="another", running=[{"attempt_id": attempt_id}])

    assert api.sql("SELECT state, lease_expires_at < now() + interval '1 min' FROM corporation.attempts") == [
        ("queued", True)
    ]


def hold(api: Api) -> str:
    """The id of an attempt of the only mission, held by desk-7."""
    attempt_id = str(uuid4())
    api.sql(
        "UPDATE corporation.missions SET state = 'queued', attempt = 1, attempt_id = CAST(:id AS uuid),"
        " factory_id = 'desk-7'",
        id=attempt_id,
    )
    api.sql(
        "INSERT INTO corporation.attempts (id, mission_id, number, factory_id, queue, lease_expires_at)"
        " SELECT CAST(:id AS uuid), id, 1, 'desk-7', 'q', now() + interval '5 seconds' FROM corporation.missions",
        id=attempt_id,
    )
    return attempt_id


def test_an_older_beat_is_answered_with_what_is_stored_and_renews_nothing(api: Api, desk: httpx.Client) -> None:
    """R14."""
    newest = beat(desk, beat_number=7).json()["registration"]
    api.ops.post("/api/v1/delegation/publish", json={"job_id": "j-1", "payload": {"task": "t"}})
    late = beat(desk, beat_number=6, capabilities=[], version="old", running=[{"attempt_id": hold(api)}])

    assert late.status_code == 200
    assert late.json()["registration"] == newest
    assert late.json()["instructions"]["cancel"] == []
    assert api.sql("SELECT state FROM corporation.attempts") == [("queued",)]


def test_what_a_client_says_of_when_it_was_seen_is_ignored(api: Api) -> None:
    """R6, F-14."""
    answer = beat(api.ops, last_seen_at="2999-01-01T00:00:00+00:00", first_seen_at="1999-01-01T00:00:00+00:00")

    record = answer.json()["registration"]
    assert "2999" not in record["last_seen_at"]
    assert "1999" not in record["first_seen_at"]


@pytest.mark.parametrize("name", ["../x", "HEADQUARTERS", "dеsk-7", "a" * 200])
def test_odd_names_are_names_but_never_two_with_one_queue(api: Api, name: str) -> None:
    """R1: what is written alike in a queue's name is refused."""
    assert beat(api.ops, factory_id=name).status_code == 200
    alike = "".join(one if one.isascii() and one.isalnum() else "-" for one in name)

    if alike != name and ".." not in name:
        assert beat(api.ops, factory_id=alike).status_code == 409


def test_a_body_that_is_too_long_is_not_read(api: Api) -> None:
    """R3."""
    assert beat(api.ops, capabilities=["x" * 100] * 10_000).status_code == 413


def test_a_beat_is_told_what_headquarters_wants(api: Api, desk: httpx.Client) -> None:
    beat(desk)
    api.sql("UPDATE corporation.factories SET draining = true, desired_commit = 'c', desired_branch = 'main'")
    frozen = [
        {"name": "w-1", "slots": 2, "busy": 0, "queues": [], "loop_age_seconds": 61, "connected": True},
        {"name": "w-3", "slots": 2, "busy": 1, "queues": [], "loop_age_seconds": 61, "connected": True},
        {"name": "w-2", "slots": 2, "busy": 1, "queues": [], "loop_age_seconds": 600, "connected": False},
    ]
    answer = beat(desk, beat_number=2, workers=frozen).json()

    assert answer["instructions"] == {
        "cancel": [],
        "desired_version": {"commit": "c", "branch": "main"},
        "paused": False,
        "shared_config_version": 0,
        "draining": True,
        "restart_workers": ["w-1"],
    }
    assert answer["registration"]["registration_status"] == "draining"


def test_an_echo_is_heard_with_a_beat_and_one_that_is_none_hurts_nobody(api: Api, desk: httpx.Client) -> None:
    beat(desk)
    echo_id = str(uuid4())
    api.sql(
        "INSERT INTO corporation.factory_echoes (factory_id, echo_id) VALUES ('desk-7', CAST(:id AS uuid))", id=echo_id
    )

    heard = []
    for number, echo in enumerate(("no id", str(uuid4()), echo_id), 2):
        assert beat(desk, beat_number=number, echo=echo).status_code == 200
        heard += api.sql("SELECT heard_at IS NOT NULL FROM corporation.factory_echoes")
    assert heard == [(False,), (False,), (True,)]


def test_what_a_factory_spent_counts_once_however_often_it_is_said(api: Api, desk: httpx.Client) -> None:
    """F-8, and the answer of http §10."""
    for number in range(1, 4):
        beat(desk, beat_number=number, cost_snapshot={**SPENT, "factory_id": "desk-7"})

    answer = api.ops.get(COSTS)
    assert answer.status_code == 200
    assert answer.json() == SPENT | {"factories": [{"factory_id": "desk-7", **SPENT}]}


def test_the_summary_is_for_operators_and_for_a_time(api: Api, desk: httpx.Client) -> None:
    beat(desk, cost_snapshot=SPENT)

    assert desk.get(COSTS).status_code == 403
    assert api.ops.get(COSTS, params={"since": "2026-06-02"}).json()["factories"] == []
    assert api.ops.get(COSTS, params={"until": "2026-06-02"}).json()["total_requests"] == 44
    assert api.ops.get(COSTS, params={"since": "soon"}).status_code == 422


def test_removing_a_factory_keeps_what_it_spent(api: Api, desk: httpx.Client) -> None:
    beat(desk, cost_snapshot=SPENT)
    api.ops.delete(f"{BEATS}/desk-7")

    assert api.ops.get(COSTS).json()["total_requests"] == 44

"""Factories at the door: beats, progress, logs and bundles, and what they may not do (http §5, §8, fleet §2)."""

from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
from served_api import Api, token

BEATS = "/api/v1/factory/registrations"
# As an existing external worker sends it (fleet F-6), and as ours do.
SMALL = {
    "factory_id": "bench-2",
    "factory_role": "LOCAL_WORKER",
    "registration_status": "online",
    "capabilities": ["tutorial_bootstrap_consumer", "transport:http"],
    "metadata": {"worker_id": "bench-2-4411", "hostname": "bench-2", "pid": 4411, "transport": "http"},
}
RECORD = {
    "factory_id", "factory_role", "deployment_profile", "source", "registration_status", "heartbeat_latency_ms",
    "capabilities", "metadata", "first_seen_at", "last_seen_at", "updated_at", "paused",
}  # fmt: skip
COSTS = {
    "factory_id": "odd",
    "period_start": "2026-06-01T00:00:00.000000+00:00",
    "period_end": "2026-06-01T08:00:00.000000+00:00",
    "total_input_tokens": 51200,
    "total_output_tokens": 6400,
    "total_requests": 44,
    "estimated_cost_usd": 0.21,
    "breakdown_by_model": {
        "glm-x": {"requests": 44, "input_tokens": 51200, "output_tokens": 6400, "estimated_cost_usd": 0.21}
    },
}
BAD_COSTS: list[dict[str, Any]] = [
    {"factory_id": "another"},
    {"period_start": None},
    {"period_start": "yesterday"},
    {"period_start": 1780300800},
    {"period_start": "9999-12-31T23:59:59-14:00"},
    {"period_end": "2026-05-31T00:00:00+00:00"},
    {"total_input_tokens": -1},
    {"total_requests": 1.5},
    {"estimated_cost_usd": -0.01},
    {"estimated_cost_usd": 1e308},
    {"estimated_cost_usd": "a lot"},
    {"breakdown_by_model": []},
    {"breakdown_by_model": {"": {}}},
    {"breakdown_by_model": {"glm-x": 7}},
    {"breakdown_by_model": {"glm-x": {"requests": -1}}},
    {"breakdown_by_model": {f"m-{n}": {} for n in range(201)}},
]


def factory(api: Api, factory_id: str) -> httpx.Client:
    return api.as_token(token(scope="factory", factory_id=factory_id))


def running_attempt(api: Api, factory_id: str = "desk-7", lease_seconds: int = 5) -> str:
    """A mission held by an attempt of this factory, as the dispatcher leaves it."""
    attempt_id = str(uuid4())
    api.ops.post("/api/v1/delegation/publish", json={"job_id": "j-1", "payload": {"task": "t"}}).raise_for_status()
    api.sql(
        "UPDATE corporation.missions SET state = 'queued', attempt = 1, attempt_id = CAST(:id AS uuid),"
        " factory_id = :factory WHERE job_id = 'j-1'",
        id=attempt_id,
        factory=factory_id,
    )
    api.sql(
        "INSERT INTO corporation.attempts (id, mission_id, number, factory_id, queue, lease_expires_at)"
        " SELECT CAST(:id AS uuid), id, 1, :factory, 'q', now() + :lease * interval '1 second'"
        " FROM corporation.missions",
        id=attempt_id,
        factory=factory_id,
        lease=lease_seconds,
    )
    return attempt_id


def lease_left(api: Api) -> float:
    [row] = api.sql("SELECT extract(epoch FROM lease_expires_at - now()) FROM corporation.attempts")
    return float(row[0])


def test_a_small_beat_of_an_existing_client_is_taken(api: Api) -> None:
    answer = api.ops.post(BEATS, json=SMALL)

    assert answer.status_code == 200
    body = answer.json()
    assert body["ok"] is True
    assert set(body["registration"]) == RECORD
    assert body["registration"]["source"] == "api_registration"
    assert body["registration"]["metadata"]["remote_host"] == "127.0.0.1"
    assert body["instructions"] == {
        "cancel": [],
        "desired_version": None,
        "paused": False,
        "shared_config_version": 0,
        "draining": False,
        "restart_workers": [],
    }


def test_what_a_beat_leaves_out_keeps_its_value_and_an_empty_list_replaces_it(api: Api) -> None:
    api.ops.post(BEATS, json=SMALL)
    kept = api.ops.post(BEATS, json={"factory_id": "bench-2"}).json()["registration"]
    emptied = api.ops.post(BEATS, json={"factory_id": "bench-2", "capabilities": []}).json()["registration"]

    assert kept["capabilities"] == SMALL["capabilities"]
    assert emptied["capabilities"] == []
    assert emptied["first_seen_at"] == kept["first_seen_at"]


def test_a_new_factory_that_says_little_gets_the_documented_defaults(api: Api) -> None:
    record = api.ops.post(BEATS, json={"factory_id": " desk-7 "}).json()["registration"]

    assert (record["factory_id"], record["factory_role"]) == ("desk-7", "LOCAL_WORKER")
    assert (record["deployment_profile"], record["registration_status"]) == ("local_workstation", "online")


@pytest.mark.parametrize(
    "change",
    [
        {"factory_id": ""},
        {"factory_id": "  "},
        {"factory_id": None},
        {"factory_id": 7},
        {"factory_id": "x" * 201},
        {"capabilities": "vp_coder"},
        {"capabilities": ["x"] * 10_000},
        {"capabilities": [""]},
        {"capabilities": [7]},
        {"factory_role": "BOSS"},
        {"registration_status": "asleep"},
        {"heartbeat_latency_ms": -1},
        {"slots": -1},
        {"slots": 10**9},
        {"running": {}},
        {"metadata": []},
        {"metadata": {"x": "a\0b"}},
        {"metadata": {"hostname": "<b>desk</b>"}},
        {"metadata": {"hostname": "\x1b[31mdesk"}},
        {"metadata": {"hostname": "desk\u202e7"}},
        {"metadata": {"hostname": "desk\n7"}},
        {"metadata": {"hostname": ["desk"]}},
        {"metadata": {"hostname": "d" * 256}},
        {"version": "a\0b"},
        {"instance_id": " "},
        {"instance_id": "i" * 201},
        {"beat_number": 0},
        {"beat_number": 1.5},
        {"interval_seconds": 0},
        {"interval_seconds": -15},
        {"workers": {}},
        {"workers": [{}]},
        {"workers": [{"name": "w", "slots": -1}]},
        {"workers": [{"name": "w", "loop_age_seconds": -1}]},
        {"workers": [{"name": "\x1b[31m"}]},
        {"workers": [{"name": "w"}] * 101},
        {"cost_snapshot": []},
        {"cost_snapshot": {}},
        *({"cost_snapshot": COSTS | change} for change in BAD_COSTS),
    ],
    ids=str,
)
def test_a_beat_that_is_none_is_refused_and_nothing_is_stored(api: Api, change: dict[str, Any]) -> None:
    answer = api.ops.post(BEATS, json={**SMALL, "factory_id": "odd", **change})

    assert answer.status_code == 422
    assert isinstance(answer.json()["detail"], list)
    assert api.sql("SELECT 1 FROM corporation.factories WHERE factory_id LIKE 'odd%'") == []


def test_a_factory_can_only_speak_for_itself(api: Api) -> None:
    with factory(api, "desk-7") as client:
        foreign = client.post(BEATS, json=SMALL)
        promoted = client.post(BEATS, json={"factory_id": "desk-7", "factory_role": "HEADQUARTERS"})
        own = client.post(BEATS, json={"factory_id": "desk-7"})

    assert (foreign.status_code, promoted.status_code, own.status_code) == (403, 403, 200)
    assert api.sql("SELECT 1 FROM corporation.factories WHERE factory_id = 'bench-2'") == []


def test_a_publisher_cannot_beat(api: Api) -> None:
    with api.as_token(token(scope="publish")) as client:
        assert client.post(BEATS, json=SMALL).status_code == 403


def test_a_beat_renews_the_leases_of_what_it_runs_and_says_that_it_runs(api: Api) -> None:
    attempt_id = running_attempt(api)
    running = [{"attempt_id": attempt_id, "job_id": "j-1", "progress": {"percent": 40, "message": "reading"}}]

    answer = api.ops.post(BEATS, json={"factory_id": "desk-7", "running": running}).json()

    assert answer["instructions"]["cancel"] == []
    assert lease_left(api) > 100
    mission = api.ops.get("/api/v1/missions/j-1").json()
    assert mission["state"] == "running"
    assert mission["attempts"][0]["progress"] == {"message": "reading", "percent": 40}


def test_a_beat_cannot_renew_what_another_factory_holds_and_is_told_to_stop_it(api: Api) -> None:
    attempt_id = running_attempt(api)
    claimed = [{"attempt_id": attempt_id, "job_id": "j-1"}, {"attempt_id": "no uuid", "job_id": "x"}]

    answer = api.ops.post(BEATS, json={"factory_id": "desk-8", "running": claimed}).json()

    assert [one["attempt_id"] for one in answer["instructions"]["cancel"]] == [attempt_id, "no uuid"]
    assert lease_left(api) < 10
    assert api.ops.get("/api/v1/missions/j-1").json()["state"] == "queued"


def test_progress_keeps_each_log_line_once_however_often_it_is_sent(api: Api) -> None:
    attempt_id = running_attempt(api)
    path = f"/api/v1/factory/missions/{attempt_id}/progress"
    body = {"percent": 10, "message": "working", "log": ["one", "two"], "log_from": 1}

    first = api.ops.post(path, json=body)
    again = api.ops.post(path, json=body)
    api.ops.post(path, json={"log": ["three\0"], "log_from": 3})

    assert first.status_code == again.status_code == 200
    assert set(first.json()) == {"attempt_id", "lease_expires_at", "cancel_requested"}
    lines = [row[0] for row in api.sql("SELECT line FROM corporation.mission_log ORDER BY attempt, number")]
    assert lines == ["one", "two", "three␀"]


def test_lines_without_a_number_follow_the_last_one(api: Api) -> None:
    attempt_id = running_attempt(api)
    for line in ("one", "two"):
        api.ops.post(f"/api/v1/factory/missions/{attempt_id}/progress", json={"log": [line]})

    rows = api.sql("SELECT number, line FROM corporation.mission_log ORDER BY number")
    assert [tuple(row) for row in rows] == [(1, "one"), (2, "two")]


@pytest.mark.parametrize("body", [{"percent": 150}, {"percent": -1}, {"message": 5}, {"log": "x"}, {"log_from": 0}])
def test_progress_that_is_none_is_refused(api: Api, body: dict[str, Any]) -> None:
    attempt_id = running_attempt(api)

    assert api.ops.post(f"/api/v1/factory/missions/{attempt_id}/progress", json=body).status_code == 422


def test_starting_twice_gives_the_same_answer(api: Api) -> None:
    attempt_id = running_attempt(api)
    path = f"/api/v1/factory/missions/{attempt_id}/start"

    first, second = api.ops.post(path, json={}), api.ops.post(path, json={})

    assert (first.status_code, second.status_code) == (200, 200)
    assert first.json()["state"] == second.json()["state"] == "running"
    types = [event["type"] for event in api.ops.get("/api/v1/missions/j-1/events").json()["events"]]
    assert types.count("started") == 1


@pytest.mark.parametrize("route", ["start", "progress"])
def test_an_attempt_that_is_unknown_foreign_or_over_is_refused(api: Api, route: str) -> None:
    attempt_id = running_attempt(api)
    path = f"/api/v1/factory/missions/{attempt_id}/{route}"
    with factory(api, "desk-8") as stranger:
        foreign = stranger.post(path, json={}).status_code
    unknown = api.ops.post(f"/api/v1/factory/missions/{uuid4()}/{route}", json={}).status_code
    junk = api.ops.post(f"/api/v1/factory/missions/junk/{route}", json={}).status_code
    api.sql("UPDATE corporation.attempts SET state = 'lost', finished_at = now()")
    over = api.ops.post(path, json={}).status_code

    assert (foreign, unknown, junk, over) == (403, 404, 404, 409)


def test_a_bundle_is_only_for_the_factory_that_holds_the_mission(api: Api) -> None:
    running_attempt(api)
    api.sql('UPDATE corporation.missions SET envelope = \'{"payload": {"context": {"tutorial_run_path": "r"}}}\'')
    root = Path(api.settings.artifact_root)
    (root / "r" / "implementation").mkdir(parents=True, exist_ok=True)
    path = "/api/v1/ops/tutorials/bootstrap-jobs/j-1/bundle"
    with factory(api, "desk-7") as holder, factory(api, "desk-8") as stranger:
        given, refused = holder.get(path), stranger.get(path)

    assert given.status_code == 200
    assert given.headers["content-type"] == "application/gzip"
    assert given.headers["content-disposition"] == 'attachment; filename="j-1_implementation.tgz"'
    assert given.headers["x-tutorial-run-path"] == "r"
    assert refused.status_code == 403

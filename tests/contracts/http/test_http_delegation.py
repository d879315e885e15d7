"""History and workload as operators read them (contract http §10)."""

from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from served_api import PUBLISH, Api, token

Order = Callable[..., dict[str, Any]]
HISTORY = "/api/v1/ops/delegation/history"
WORKLOAD = "/api/v1/ops/delegation/workload"
CLAIM = "/api/v1/factory/missions/claim"
ROW = {
    "mission_id",
    "vp_id",
    "mission_type",
    "objective",
    "status",
    "source",
    "created_at",
    "updated_at",
    "job_id",
    "idempotency_key",
    "mission_kind",
    "target_factory_id",
    "factory_id",
    "priority",
    "published_at",
    "consumed_at",
    "started_at",
    "completed_at",
    "duration_seconds",
    "error",
}


@pytest.fixture
def desk(api: Api) -> Iterator[httpx.Client]:
    """The factory desk-7, which may do general missions."""
    with api.as_token(token("factory", factory_id="desk-7", jti=None)) as client:
        beat = {"factory_id": "desk-7", "capabilities": ["vp_general"], "slots": 2}
        client.post("/api/v1/factory/registrations", json=beat).raise_for_status()
        yield client


def publish(api: Api, order: Order, *names: str, **changes: Any) -> None:
    missions = [order(job_id=name, idempotency_key=f"k-{name}", **changes) for name in names]
    api.ops.post(PUBLISH, json={"missions": missions}).raise_for_status()


def claim(desk: httpx.Client, how_many: int = 1) -> list[str]:
    answer = desk.post(CLAIM, json={"factory_id": "desk-7", "max": how_many}).json()
    return [one["attempt_id"] for one in answer["attempts"]]


def end(desk: httpx.Client, attempt_id: str, **body: Any) -> None:
    desk.post(f"/api/v1/factory/missions/{attempt_id}/start", json={}).raise_for_status()
    path = f"/api/v1/factory/missions/{attempt_id}/result"
    desk.post(path, json={"status": "SUCCESS", **body}).raise_for_status()


def found(api: Api, **wanted: Any) -> list[str]:
    answer = api.ops.get(HISTORY, params=wanted).json()
    return [row["job_id"] for row in answer["missions"]]


def test_a_row_has_the_documented_keys(api: Api, desk: httpx.Client, order: Order) -> None:
    publish(api, order, "b-1", priority=3)
    [attempt] = claim(desk)
    desk.post(f"/api/v1/factory/missions/{attempt}/start", json={}).raise_for_status()
    answer = api.ops.get(HISTORY).json()

    [row] = answer["missions"]
    assert answer["total"] == 1
    assert set(row) == ROW
    assert (row["status"], row["vp_id"], row["mission_type"]) == ("running", "vp.general.primary", "general_task")
    assert (row["objective"], row["factory_id"], row["priority"]) == ("Tidy the notes", "desk-7", 3)
    assert row["mission_id"] == row["job_id"] == "b-1"
    assert row["published_at"] == row["created_at"] < row["consumed_at"] <= row["started_at"]
    assert (row["completed_at"], row["duration_seconds"]) == (None, None)


def test_each_state_is_found_by_its_words(api: Api, desk: httpx.Client, order: Order) -> None:
    publish(api, order, "done", "bad", "held", max_retries=1)
    attempts = claim(desk, 3)
    end(desk, attempts[0], result={"result_ref": "workspace://desk-7/done"})
    end(desk, attempts[1], status="FAILED", error="no", retryable=False)
    publish(api, order, "waits", "unwanted", payload={"task": "t", "context": {"mission_kind": "coding_task"}})
    api.ops.post("/api/v1/missions/unwanted/cancel", json={}).raise_for_status()

    assert found(api, status="queued") == found(api, status="published") == ["waits"]
    assert found(api, status="claimed") == found(api, status="consumed") == ["held"]
    assert found(api, status="completed") == ["done"]
    assert found(api, status="failed") == found(api, status="dlq") == ["bad"]
    assert found(api, status="cancelled") == ["unwanted"]
    assert found(api, status="running") == []
    assert api.ops.get(HISTORY, params={"status": "perhaps"}).status_code == 422


def test_a_dead_letter_that_was_discarded_is_not_found_as_one(api: Api, desk: httpx.Client, order: Order) -> None:
    publish(api, order, "bad")
    [attempt] = claim(desk)
    end(desk, attempt, status="FAILED", error="no", retryable=False)
    [letter] = api.ops.get("/api/v1/dlq").json()["entries"]
    api.ops.post(f"/api/v1/dlq/{letter['dlq_id']}/discard", json={}).raise_for_status()

    assert found(api, status="dlq") == []
    assert found(api, status="failed") == ["bad"]


def test_pages_are_clamped_and_count_all_that_match(api: Api, order: Order) -> None:
    publish(api, order, *(f"m-{number:03}" for number in range(105)))
    answer = api.ops.get(HISTORY, params={"limit": 1000}).json()
    assert (len(answer["missions"]), answer["total"]) == (100, 105)
    assert len(api.ops.get(HISTORY, params={"limit": -5}).json()["missions"]) == 1
    assert len(api.ops.get(HISTORY).json()["missions"]) == 20
    rest = api.ops.get(HISTORY, params={"limit": 100, "offset": 100}).json()
    assert (len(rest["missions"]), rest["total"]) == (5, 105)
    assert api.ops.get(HISTORY, params={"limit": "many"}).status_code == 422
    assert api.ops.get(HISTORY, params={"mission_kind": "coding_task"}).json() == {"missions": [], "total": 0}


def test_a_kind_is_found_by_its_other_name(api: Api, order: Order) -> None:
    """S-15."""
    publish(api, order, "repository", payload={"task": "t", "context": {"mission_kind": "tutorial_bootstrap_repo"}})

    assert api.ops.get(HISTORY, params={"mission_kind": "tutorial_bootstrap_repo"}).json()["total"] == 1


def test_one_mission_has_its_envelope_and_its_result(api: Api, desk: httpx.Client, order: Order) -> None:
    publish(api, order, "b-0")
    assert api.ops.get(f"{HISTORY}/b-0").json()["mission"]["result_json"] is None
    [attempt] = claim(desk)
    end(desk, attempt, result={"result_ref": "workspace://desk-7/b-0"})
    mission = api.ops.get(f"{HISTORY}/b-0").json()["mission"]

    assert set(mission) == ROW | {"envelope_json", "result_json", "attempts"}
    assert mission["status"] == "completed"
    assert mission["envelope_json"]["payload"]["task"] == "Tidy the notes"
    assert mission["result_json"]["status"] == "SUCCESS"
    assert mission["result_json"]["result"]["result_ref"] == "workspace://desk-7/b-0"
    assert [one["attempt_id"] for one in mission["attempts"]] == [attempt]
    assert api.ops.get(f"{HISTORY}/nobody").status_code == 404


def test_the_workload_says_who_works_on_what(api: Api, desk: httpx.Client, order: Order) -> None:
    publish(api, order, "b-0", "b-1")
    first, second = claim(desk, 2)
    end(desk, first)
    desk.post(f"/api/v1/factory/missions/{second}/start", json={}).raise_for_status()
    desk.post(f"/api/v1/factory/missions/{second}/progress", json={"percent": 40}).raise_for_status()
    publish(api, order, "later", payload={"task": "t", "context": {"mission_kind": "coding_task"}})
    answer = api.ops.get(WORKLOAD).json()

    [factory] = answer["factories"]
    assert (factory["factory_id"], factory["registration_status"], factory["slots"]) == ("desk-7", "online", 2)
    assert factory["current_mission"] == factory["running"][0]
    assert factory["running"][0].keys() == {"job_id", "mission_kind", "started_at", "elapsed_seconds", "progress"}
    assert (factory["running"][0]["job_id"], factory["running"][0]["progress"]["percent"]) == ("b-1", 40)
    assert factory["queue_depth"] == 0
    assert factory["last_completed"]["job_id"] == "b-0"
    assert factory["last_completed"]["status"] == "completed"
    assert answer["unassigned"] == {"waiting": 1, "queued": 0}
    assert answer["updated_at"].endswith("+00:00")


def test_what_happened_to_a_factory_is_told(api: Api, desk: httpx.Client) -> None:
    api.sql(
        "INSERT INTO corporation.factory_events (factory_id, type, by, detail)"
        " VALUES ('desk-7', 'paused', 'ops', '{\"note\": \"moving\"}')"
    )
    [event] = [
        one for one in api.ops.get("/api/v1/ops/factory/desk-7/events").json()["events"] if one["type"] == "paused"
    ]
    assert (event["by"], event["detail"]) == ("ops", {"note": "moving"})
    assert api.ops.get("/api/v1/ops/factory/nobody/events").json()["events"] == []


@pytest.mark.parametrize("path", [HISTORY, f"{HISTORY}/b-0", WORKLOAD, "/api/v1/ops/factory/desk-7/events"])
def test_only_operators_may_ask(api: Api, desk: httpx.Client, path: str) -> None:
    assert desk.get(path).status_code == 403
    with api.as_token("nobody") as stranger:
        assert stranger.get(path).status_code == 401


@pytest.mark.parametrize("factory_id", ["a b/../c", "a/b", "events", "x%2Fy"])
def test_the_history_of_a_factory_whose_name_is_no_path_is_told(api: Api, factory_id: str) -> None:
    api.sql("INSERT INTO corporation.factory_events (factory_id, type) VALUES (:id, 'offline')", id=factory_id)
    answer = api.ops.get(f"/api/v1/ops/factory/{quote(factory_id, safe='')}/events").json()

    assert (answer["factory_id"], [one["type"] for one in answer["events"]]) == (factory_id, ["offline"])


def test_the_workload_says_which_factory_is_in_quarantine(api: Api, desk: httpx.Client) -> None:
    assert [one["quarantined"] for one in api.ops.get(WORKLOAD).json()["factories"]] == [False]
    api.ops.post("/api/v1/ops/factory/quarantine", json={"target_factory_id": "desk-7"}).raise_for_status()

    assert [one["quarantined"] for one in api.ops.get(WORKLOAD).json()["factories"]] == [True]

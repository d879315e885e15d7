"""Stopping a mission over HTTP, and how its factory hears of it (contract http §7, §8, fleet §3)."""

from typing import Any
from uuid import uuid4

import pytest
from served_api import PUBLISH, Api, token

MISSION = "/api/v1/missions/j-1"
CANCEL = f"{MISSION}/cancel"


def published(api: Api, job_id: str = "j-1") -> None:
    api.ops.post(PUBLISH, json={"job_id": job_id, "payload": {"task": "t"}}).raise_for_status()


def running(api: Api, factory_id: str = "desk-7") -> str:
    """A mission that this factory works on, as dispatcher and heartbeat leave it; its attempt's id."""
    attempt_id = str(uuid4())
    published(api)
    api.sql(
        """WITH m AS (UPDATE corporation.missions SET state = 'queued', attempt = 1, attempt_id = CAST(:id AS uuid),
                             factory_id = :factory WHERE job_id = 'j-1' RETURNING id)
           INSERT INTO corporation.attempts (id, mission_id, number, factory_id, queue, lease_expires_at)
           SELECT CAST(:id AS uuid), id, 1, :factory, 'q', now() + interval '60 s' FROM m""",
        id=attempt_id,
        factory=factory_id,
    )
    api.ops.post(f"/api/v1/factory/missions/{attempt_id}/start").raise_for_status()
    return attempt_id


def test_a_mission_that_waits_is_cancelled_now(api: Api) -> None:
    published(api)
    answer = api.ops.post(CANCEL, json={"reason": "not needed"})

    assert (answer.status_code, answer.json()) == (
        200,
        {"ok": True, "job_id": "j-1", "state": "cancelled", "cancel_requested": True},
    )
    mission = api.ops.get(MISSION).json()
    assert (mission["state"], mission["error"], mission["cancel_reason"]) == ("cancelled", "not needed", "not needed")
    assert mission["result"]["terminal_status"] == "cancelled"
    assert mission["cancel_requested_at"] == mission["finished_at"]


def test_a_mission_that_runs_is_told_to_stop(api: Api) -> None:
    """The contract's example, and H-26: the history says so."""
    running(api)
    answer = api.ops.post(CANCEL)

    assert (answer.status_code, answer.json()) == (
        202,
        {"ok": True, "job_id": "j-1", "state": "running", "cancel_requested": True},
    )
    last = api.ops.get(f"{MISSION}/events").json()["events"][-1]
    assert last["type"] == "cancel_requested"
    assert last["detail"] == {"reason": "stopped by operator", "by": "ops"}
    assert api.ops.get(MISSION).json()["state"] == "running"


def test_the_answer_to_progress_says_that_it_is_cancelled_and_why(api: Api) -> None:
    """H-31."""
    path = f"/api/v1/factory/missions/{running(api)}/progress"
    assert api.ops.post(path, json={}).json()["cancel_requested"] is False

    api.ops.post(CANCEL, json={"reason": "wrong repository"})
    told = api.ops.post(path, json={}).json()
    assert (told["cancel_requested"], told["cancel_reason"]) == (True, "wrong repository")


@pytest.mark.parametrize("names_it", [True, False])
def test_every_beat_is_told_what_to_stop_until_it_has(api: Api, names_it: bool) -> None:
    """Fleet §3: also a factory that forgot to say that it runs it."""
    attempt_id = running(api)
    api.ops.post(CANCEL, json={"reason": "wrong repository"})
    beat: dict[str, Any] = {"factory_id": "desk-7"}
    if names_it:
        beat["running"] = [{"attempt_id": attempt_id, "job_id": "j-1"}]

    for _ in range(2):
        told = api.ops.post("/api/v1/factory/registrations", json=beat).json()["instructions"]["cancel"]
        assert told == [{"attempt_id": attempt_id, "job_id": "j-1", "reason": "wrong repository"}]


def test_a_beat_that_runs_what_was_cancelled_before_it_began_is_told_why(api: Api) -> None:
    attempt_id = str(uuid4())
    published(api)
    api.sql(
        """WITH m AS (UPDATE corporation.missions SET state = 'queued', attempt = 1, attempt_id = CAST(:id AS uuid),
                             factory_id = 'desk-7' RETURNING id)
           INSERT INTO corporation.attempts (id, mission_id, number, factory_id, queue, lease_expires_at)
           SELECT CAST(:id AS uuid), id, 1, 'desk-7', 'q', now() + interval '60 s' FROM m""",
        id=attempt_id,
    )
    assert api.ops.post(CANCEL, json={"reason": "not needed"}).status_code == 200

    beat = {"factory_id": "desk-7", "running": [{"attempt_id": attempt_id, "job_id": "j-1"}]}
    told = api.ops.post("/api/v1/factory/registrations", json=beat).json()["instructions"]["cancel"]
    assert told == [{"attempt_id": attempt_id, "job_id": "j-1", "reason": "not needed"}]
    assert api.ops.post(f"/api/v1/factory/missions/{attempt_id}/progress", json={}).status_code == 409


def test_cancelling_again_answers_the_same(api: Api) -> None:
    published(api)
    first, second = api.ops.post(CANCEL, json={"reason": "one"}), api.ops.post(CANCEL, json={"reason": "two"})

    assert (first.status_code, first.json()) == (second.status_code, second.json())
    assert api.ops.get(MISSION).json()["cancel_reason"] == "one"


def test_what_ended_otherwise_is_a_conflict_that_says_how(api: Api) -> None:
    published(api)
    api.sql(
        "UPDATE corporation.missions SET state = 'failed', state_reason = NULL, error = 'exit 2', finished_at = now()"
    )
    answer = api.ops.post(CANCEL)

    assert answer.status_code == 409
    assert "the mission is failed already" in answer.json()["detail"]


@pytest.mark.parametrize("name", ["j-404", "a%00b"])
def test_an_unknown_mission_is_not_found(api: Api, name: str) -> None:
    assert api.ops.post(f"/api/v1/missions/{name}/cancel").status_code == 404


def test_a_job_id_with_slashes_can_be_cancelled(api: Api) -> None:
    published(api, "a/b/cancel")

    assert api.ops.post("/api/v1/missions/a%2Fb%2Fcancel/cancel").json()["job_id"] == "a/b/cancel"


@pytest.mark.parametrize("reason", ["", "  ", "x" * 501, "two\nlines", "\u0007", 7, ["no"]])
def test_a_reason_is_one_line_of_at_most_500_characters(api: Api, reason: Any) -> None:
    published(api)

    assert api.ops.post(CANCEL, json={"reason": reason}).status_code == 422
    assert api.ops.get(MISSION).json()["state"] == "waiting"


@pytest.mark.parametrize("claims", [{"scope": "publish"}, {"scope": "factory", "factory_id": "desk-7"}])
def test_only_operators_cancel(api: Api, claims: dict[str, str]) -> None:
    published(api)
    with api.as_token(token(**claims)) as client:
        assert client.post(CANCEL).status_code == 403

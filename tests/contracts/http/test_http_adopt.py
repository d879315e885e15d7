"""Taking a late result after all, over HTTP (contract http H-32)."""

import json
from typing import Any
from uuid import uuid4

import pytest
from served_api import PUBLISH, Api, token

MISSION = "/api/v1/missions/j-1"
ADOPT = f"{MISSION}/adopt"
DONE = {"outcome": "done", "result": {"output": "all of it"}}


def given_up(api: Api, state: str = "waiting", report: dict[str, Any] | None = DONE) -> str:
    """A mission in this state whose only attempt was lost and reported later; the attempt's id."""
    attempt_id = str(uuid4())
    api.ops.post(PUBLISH, json={"job_id": "j-1", "payload": {"task": "t"}}).raise_for_status()
    final = state != "waiting"
    api.sql(
        """WITH m AS (UPDATE corporation.missions SET attempt = 1, state = :state,
                             state_reason = CASE WHEN :final THEN NULL ELSE 'backoff' END,
                             error = CASE WHEN :final THEN 'lost' END, finished_at = CASE WHEN :final THEN now() END,
                             event_seq = event_seq + CASE WHEN :final THEN 1 ELSE 0 END
                       WHERE job_id = 'j-1' RETURNING id, event_seq),
               told AS (INSERT INTO corporation.mission_events (mission_id, seq, type)
                        SELECT id, event_seq, :state FROM m WHERE :final)
           INSERT INTO corporation.attempts (id, mission_id, number, factory_id, queue, lease_expires_at, state,
                                             finished_at, outcome)
           SELECT CAST(:id AS uuid), id, 1, 'desk-7', 'q', now(), 'lost', now(), CAST(:report AS json) FROM m""",
        id=attempt_id,
        state=state,
        final=final,
        report=json.dumps(report) if report else None,
    )
    return attempt_id


def test_a_mission_that_has_not_ended_succeeds_and_twice_is_as_once(api: Api) -> None:
    attempt_id = given_up(api)
    answers = [api.ops.post(ADOPT, json={"attempt": 1, "reason": "looked at it"}) for _ in range(2)]

    assert [answer.status_code for answer in answers] == [200, 200]
    assert answers[0].json() == answers[1].json() == {
        "ok": True, "job_id": "j-1", "state": "succeeded", "adopted": {"job_id": "j-1", "attempt": 1},
        "location": MISSION,
    }  # fmt: skip
    mission = api.ops.get(MISSION).json()
    assert (mission["state"], mission["result"]["output"]) == ("succeeded", "all of it")
    [attempt] = mission["attempts"]
    assert (attempt["state"], attempt["late_result"], attempt["adopted"]) == ("lost", DONE, True)
    events = api.ops.get(f"{MISSION}/events").json()["events"]
    assert [event["type"] for event in events] == ["published", "adopted", "succeeded"]
    assert events[1]["detail"] == {"by": "ops", "reason": "looked at it", "attempt_id": attempt_id}


def test_who_adopted_it_is_the_subject_of_the_token(api: Api) -> None:
    given_up(api)
    with api.as_token(token("ops", sub="alice")) as alice:
        alice.post(ADOPT, json={"attempt": 1}).raise_for_status()
    events = api.ops.get(f"{MISSION}/events").json()["events"]

    assert (events[1]["detail"]["by"], events[1]["detail"]["reason"]) == ("alice", "adopted by operator")
    [act] = api.ops.get("/api/v1/ops/audit", params={"action": "mission.adopt"}).json()["acts"]
    assert (act["actor"], act["target"], act["detail"]) == ("alice", "j-1", {"attempt": 1, "became": "j-1"})


@pytest.mark.parametrize("state", ["failed", "timed_out", "cancelled"])
def test_of_one_that_has_ended_a_new_one_has_succeeded(api: Api, state: str) -> None:
    given_up(api, state)
    answers = [api.ops.post(ADOPT, json={"attempt": 1}) for _ in range(2)]

    assert answers[0].json() == answers[1].json()
    assert (answers[0].json()["job_id"], answers[0].json()["adopted"]["job_id"]) == ("j-1-r1", "j-1")
    assert answers[0].headers["location"] == "/api/v1/missions/j-1-r1"
    assert api.ops.get(MISSION).json()["state"] == state
    new = api.ops.get("/api/v1/missions/j-1-r1").json()
    assert (new["state"], new["replay_of"], new["attempts"]) == ("succeeded", "j-1", [])
    letters = api.ops.get("/api/v1/dlq", params={"status": "all"}).json()["entries"]
    resolved = [(letter["status"], letter["replay_job_id"]) for letter in letters]
    assert resolved == ([] if state == "cancelled" else [("replayed", "j-1-r1")])


@pytest.mark.parametrize("report", [None, {"outcome": "failed", "error": "no"}, {}])
def test_what_did_not_say_late_that_it_is_done_is_409_and_says_what_there_is(
    api: Api, report: dict[str, Any] | None
) -> None:
    given_up(api, report=report)
    answer = api.ops.post(ADOPT, json={"attempt": 1})

    assert answer.status_code == 409
    assert answer.json()["detail"].startswith("nothing_to_adopt: attempt 1 ")
    assert answer.json()["detail"].endswith("of its 1 attempts none has a late result that is done")
    assert api.ops.get(MISSION).json()["state"] == "waiting"


def test_another_attempt_is_409_and_names_the_one(api: Api) -> None:
    given_up(api)

    assert api.ops.post(ADOPT, json={"attempt": 2}).json()["detail"] == (
        "nothing_to_adopt: there is no such attempt; a late result that is done has attempt 1"
    )


@pytest.mark.parametrize(
    "body", [{}, {"attempt": 0}, {"attempt": "1"}, {"attempt": 2**31}, {"attempt": 1, "reason": "two\nlines"}, []]
)
def test_a_body_that_names_no_attempt_is_refused(api: Api, body: Any) -> None:
    given_up(api)

    assert api.ops.post(ADOPT, json=body).status_code == 422


@pytest.mark.parametrize("name", ["nobody", "%00"])
def test_an_unknown_mission_is_404(api: Api, name: str) -> None:
    assert api.ops.post(f"/api/v1/missions/{name}/adopt", json={"attempt": 1}).status_code == 404


@pytest.mark.parametrize("scope", ["publish", "factory"])
def test_adopting_is_for_operators(api: Api, scope: str) -> None:
    given_up(api)
    more = {"factory_id": "desk-7"} if scope == "factory" else {}
    with api.as_token(token(scope, **more)) as stranger:
        assert stranger.post(ADOPT, json={"attempt": 1}).status_code == 403

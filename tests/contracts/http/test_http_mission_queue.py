"""Missions over HTTPS: claimed once, begun, told of and brought home by factories that speak nothing else (http §8)."""

import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import uuid4

import httpx
import pytest
from served_api import PUBLISH, Api, token

from corporation.db import transaction
from corporation.missions.evict import evict_some
from corporation.missions.queues import TakenBack, Whereabouts
from corporation.missions.retry import RetryPolicy

Order = Callable[..., dict[str, Any]]
CLAIM = "/api/v1/factory/missions/claim"
BEAT = "/api/v1/factory/registrations"


@pytest.fixture
def desk(api: Api) -> Iterator[httpx.Client]:
    """The factory desk-7, which may do general missions and has just been heard of."""
    with api.as_token(token("factory", factory_id="desk-7", jti=None)) as client:
        beat = {"factory_id": "desk-7", "capabilities": ["vp_general", "transport:http"], "slots": 2}
        client.post(BEAT, json=beat).raise_for_status()
        yield client


def publish(api: Api, order: Order, *names: str, **changes: Any) -> None:
    missions = [order(job_id=name, idempotency_key=f"k-{name}", **changes) for name in names]
    answer = api.ops.post(PUBLISH, json={"missions": missions})
    assert answer.status_code == 202, answer.text


def claim(client: httpx.Client, **more: Any) -> list[dict[str, Any]]:
    answer = client.post(CLAIM, json={"factory_id": "desk-7", "max": 32, **more})
    assert answer.status_code == 200, answer.text
    return answer.json()["attempts"]


def result_of(client: httpx.Client, attempt: dict[str, Any], **body: Any) -> httpx.Response:
    return client.post(f"/api/v1/factory/missions/{attempt['attempt_id']}/result", json={"status": "SUCCESS", **body})


def state_of(api: Api, job_id: str) -> str:
    return api.ops.get(f"/api/v1/missions/{job_id}").json()["state"]


def events_of(api: Api, job_id: str) -> list[str]:
    return [event["type"] for event in api.ops.get(f"/api/v1/missions/{job_id}/events").json()["events"]]


def test_the_answer_to_a_claim_has_the_documented_shape(api: Api, desk: httpx.Client, order: Order) -> None:
    publish(api, order, "b-3")
    [attempt] = claim(desk)

    assert set(attempt) == {
        "attempt_id",
        "attempt",
        "job_id",
        "mission_kind",
        "lease_expires_at",
        "timeout_seconds",
        "envelope",
    }
    assert (attempt["attempt"], attempt["job_id"], attempt["mission_kind"]) == (1, "b-3", "general_task")
    assert attempt["envelope"]["payload"]["task"] == "Tidy the notes"
    assert events_of(api, "b-3")[-1] == "claimed"
    assert state_of(api, "b-3") == "claimed"


def test_nothing_to_do_is_an_empty_list(desk: httpx.Client) -> None:
    answer = desk.post(CLAIM, json={"factory_id": "desk-7"})
    assert (answer.status_code, answer.json()) == (200, {"attempts": [], "paused": False})


def test_missions_come_by_clamped_priority_then_age_and_of_one_batch_as_they_were_given(
    api: Api, desk: httpx.Client, order: Order
) -> None:
    publish(api, order, "late-z", "late-a", priority=5)
    publish(api, order, "urgent", priority=-3)
    publish(api, order, "also", priority=0)

    assert [one["job_id"] for one in claim(desk, max=4)] == ["urgent", "also", "late-z", "late-a"]


def test_a_mission_for_another_factory_or_kind_is_not_handed_out(api: Api, desk: httpx.Client, order: Order) -> None:
    api.ops.post(BEAT, json={"factory_id": "bench-2", "capabilities": ["vp_general"]}).raise_for_status()
    publish(api, order, "theirs", payload={"task": "t", "context": {"target_factory_id": "bench-2"}})
    publish(api, order, "code", payload={"task": "t", "context": {"mission_kind": "coding_task"}})
    publish(api, order, "ours", payload={"task": "t", "context": {"target_factory_id": "desk-7"}})

    assert claim(desk, mission_kinds=["research_task"]) == []
    assert [one["job_id"] for one in claim(desk)] == ["ours"]
    assert claim(desk, mission_kinds=["coding_task"]) == []


def test_a_paused_factory_gets_nothing_and_hears_why(api: Api, desk: httpx.Client, order: Order) -> None:
    publish(api, order, "waits")
    api.sql("UPDATE corporation.factories SET paused = true")
    assert desk.post(CLAIM, json={"factory_id": "desk-7"}).json() == {"attempts": [], "paused": True}
    api.sql("UPDATE corporation.factories SET paused = false, registration_status = 'paused'")
    assert desk.post(CLAIM, json={"factory_id": "desk-7"}).json() == {"attempts": [], "paused": True}


def test_an_order_to_the_factory_itself_is_handed_to_who_names_its_kind_even_when_paused(
    api: Api, desk: httpx.Client, order: Order
) -> None:
    """F-22."""
    context = {"mission_kind": "system:pause_factory", "target_factory_id": "desk-7"}
    publish(api, order, "pause-1", payload={"task": "t", "context": context})
    api.sql("UPDATE corporation.factories SET paused = true")

    assert claim(desk) == []
    assert [one["job_id"] for one in claim(desk, mission_kinds=["system:pause_factory"])] == ["pause-1"]


def test_two_hundred_missions_are_each_claimed_once_by_eight_who_ask_at_once(
    api: Api, desk: httpx.Client, order: Order
) -> None:
    publish(api, order, *(f"m-{number}" for number in range(200)))

    def all_of_mine(_: int) -> list[str]:
        mine: list[str] = []
        while got := claim(desk, max=7):
            mine += [one["job_id"] for one in got]
        return mine

    with ThreadPoolExecutor(8) as pool:
        counts = Counter(name for mine in pool.map(all_of_mine, range(8)) for name in mine)
    assert (len(counts), set(counts.values())) == (200, {1})


def test_a_long_poll_ends_as_soon_as_there_is_a_mission(api: Api, desk: httpx.Client, order: Order) -> None:
    answers: list[list[dict[str, Any]]] = []
    asking = threading.Thread(target=lambda: answers.append(claim(desk, wait_seconds=20)))
    asking.start()
    began = time.monotonic()
    publish(api, order, "fresh")
    asking.join(10)

    assert [one["job_id"] for one in answers[0]] == ["fresh"]
    assert time.monotonic() - began < 10


def test_a_long_poll_without_a_mission_ends_at_its_limit(desk: httpx.Client) -> None:
    began = time.monotonic()
    assert claim(desk, wait_seconds=0.3) == []
    assert time.monotonic() - began >= 0.3


def test_what_the_dispatcher_queued_here_is_claimed_and_its_message_is_not_sent(
    api: Api, desk: httpx.Client, order: Order
) -> None:
    publish(api, order, "meant")
    attempt_id = str(uuid4())
    api.sql(
        "UPDATE corporation.missions SET state = 'queued', state_reason = NULL, attempt = 1, attempt_id = :id,"
        " factory_id = 'desk-7'",
        id=attempt_id,
    )
    api.sql(
        "INSERT INTO corporation.attempts (id, mission_id, number, factory_id, queue, lease_expires_at)"
        " SELECT :id, id, 1, 'desk-7', 'factory.desk-7', now() + interval '1 minute' FROM corporation.missions",
        id=attempt_id,
    )
    api.sql("INSERT INTO corporation.outbox (topic, attempt_id) VALUES ('attempt', :id)", id=attempt_id)

    assert [one["attempt_id"] for one in claim(desk)] == [attempt_id]
    assert api.sql("SELECT 1 FROM corporation.outbox") == []


def test_a_claim_whose_answer_was_lost_is_answered_again_to_who_says_what_it_holds(
    api: Api, desk: httpx.Client, order: Order
) -> None:
    publish(api, order, "lost")
    [attempt] = claim(desk)

    assert claim(desk) == []
    assert claim(desk, holding=[attempt["attempt_id"]]) == []
    assert [one["attempt_id"] for one in claim(desk, holding=[])] == [attempt["attempt_id"]]
    desk.post(f"/api/v1/factory/missions/{attempt['attempt_id']}/start", json={}).raise_for_status()
    assert claim(desk, holding=[]) == []


def test_from_claim_to_success(api: Api, desk: httpx.Client, order: Order) -> None:
    publish(api, order, "b-3")
    [attempt] = claim(desk)
    path = f"/api/v1/factory/missions/{attempt['attempt_id']}"
    first = desk.post(f"{path}/start", json={})
    again = desk.post(f"{path}/start", json={})
    assert first.json().keys() == {"attempt_id", "job_id", "state", "lease_expires_at"}
    assert {**first.json(), "lease_expires_at": ""} == {**again.json(), "lease_expires_at": ""}
    usage = {"gpt-x": {"input_tokens": 10, "output_tokens": 2}}
    told = desk.post(f"{path}/progress", json={"percent": 40, "message": "reading", "log": ["line"], "usage": usage})
    assert told.json().keys() == {"attempt_id", "lease_expires_at", "cancel_requested"}

    body = {"result": {"result_ref": "workspace://desk-7/b-3", "output": "3 risks"}, "error": None, "memo": None}
    answer = result_of(desk, attempt, **body)
    assert answer.json() == {
        "attempt_id": attempt["attempt_id"],
        "job_id": "b-3",
        "state": "succeeded",
        "accepted": True,
    }
    assert result_of(desk, attempt, **body).json() == answer.json()
    shown = api.ops.get("/api/v1/missions/b-3").json()
    assert shown["result"]["output"] == "3 risks"
    assert events_of(api, "b-3").count("succeeded") == 1


def test_a_failure_goes_round_again_and_its_answer_stays_the_same(api: Api, desk: httpx.Client, order: Order) -> None:
    publish(api, order, "again", max_retries=3)
    [attempt] = claim(desk)
    first = result_of(desk, attempt, status="FAILED", error="no luck")
    assert first.json()["state"] == "waiting"
    api.sql("UPDATE corporation.missions SET next_attempt_at = now()")
    [second] = claim(desk)
    assert second["attempt"] == 2
    result_of(desk, second).raise_for_status()

    assert result_of(desk, attempt, status="FAILED", error="no luck").json() == first.json()
    assert state_of(api, "again") == "succeeded"


def test_a_failure_that_is_not_retryable_ends_the_mission(api: Api, desk: httpx.Client, order: Order) -> None:
    """H-31."""
    publish(api, order, "never", max_retries=3)
    [attempt] = claim(desk)
    assert result_of(desk, attempt, status="FAILED", error="no", retryable=False).json()["state"] == "failed"


def test_a_secret_in_an_error_is_neither_stored_nor_told(api: Api, desk: httpx.Client, order: Order) -> None:
    """S-40: by its shape, or as one that HQ knows; also in the mailbox, and in what came too late."""
    publish(api, order, "leaky", max_retries=1)
    [attempt] = claim(desk)
    error = f"{'x' * 5000} Bearer eyJhbGciOiJub25lIn0.eyJzdWIiOiIxIn0.abc password=hunter2"
    body = {"status": "FAILED", "error": error, "result": {"log": "token: hunter2"}}
    first = result_of(desk, attempt, **body)

    assert (first.status_code, result_of(desk, attempt, **body).json()) == (200, first.json())
    for _ in range(2):
        assert result_of(desk, attempt, **body, usage={}).status_code == 409
    assert api.ops.get("/api/v1/missions/leaky").json()["error"].endswith("x Bearer *** password=***")
    assert events_of(api, "leaky").count("late_result") == 1
    tables = ("corporation.missions", "corporation.attempts", "corporation.mission_events", "corporation.dead_letters")
    rows = [
        [row.whole for row in api.sql(f"SELECT row_to_json(t)::text AS whole FROM {table} AS t")]  # noqa: S608
        for table in tables
    ]
    mailbox = "SELECT result FROM mailbox.celery_taskmeta WHERE task_id = :id"
    rows.append([bytes(row.result).decode() for row in api.sql(mailbox, id=attempt["attempt_id"])])
    assert min(map(len, rows)) > 0
    assert [row for table in rows for row in table if "hunter2" in row or "eyJ" in row] == []


def test_a_late_result_is_refused_and_kept_once(api: Api, desk: httpx.Client, order: Order) -> None:
    """H-32, S1, S2, S13."""
    publish(api, order, "late")
    [attempt] = claim(desk)
    result_of(desk, attempt).raise_for_status()
    for _ in range(3):
        answer = result_of(desk, attempt, status="FAILED", error="after all not")
        assert answer.status_code == 409
        assert answer.json()["detail"].startswith("not_current")

    assert events_of(api, "late").count("late_result") == 1
    assert state_of(api, "late") == "succeeded"
    for number in range(10):
        assert result_of(desk, attempt, status="FAILED", error=f"no {number}").status_code == 409
    assert events_of(api, "late").count("late_result") == 5


class NobodyAsks:
    """Queues of which nothing is to be known: what was claimed lies in none."""

    def look_into(self, queue: str) -> Whereabouts:
        """Never called."""
        raise AssertionError(queue)

    def withdraw(self, queue: str, attempt_ids: Collection[str]) -> TakenBack:
        """Never called."""
        raise AssertionError((queue, attempt_ids))

    def incarnation(self) -> str:
        """Never called."""
        raise AssertionError


def test_what_a_factory_brings_home_after_its_quarantine_is_refused_and_kept(
    api: Api, desk: httpx.Client, order: Order
) -> None:
    """Its processes ran on meanwhile, and what they did was given up at once."""
    publish(api, order, "ran-on")
    [attempt] = claim(desk)
    path = f"/api/v1/factory/missions/{attempt['attempt_id']}"
    desk.post(path + "/start", json={}).raise_for_status()
    api.ops.post("/api/v1/ops/factory/quarantine", json={"target_factory_id": "desk-7"}).raise_for_status()
    assert result_of(desk, attempt).status_code == 401
    with transaction(api.engine) as connection:
        assert evict_some(connection, NobodyAsks(), RetryPolicy(), lambda: 0.5, 10) == 1
    api.ops.post("/api/v1/ops/factory/release", json={"target_factory_id": "desk-7"}).raise_for_status()
    assert result_of(desk, attempt).status_code == 401, "a token from before"

    with api.as_token(token("factory", factory_id="desk-7", jti=None, epoch=1)) as released:
        assert released.post(path + "/start", json={}).status_code == 409
        assert released.post(path + "/progress", json={"percent": 90}).status_code == 409
        answer = result_of(released, attempt, result={"summary": "mine"})
    assert (answer.status_code, answer.json()["detail"].partition(":")[0]) == (409, "not_current")
    assert state_of(api, "ran-on") == "waiting"
    assert events_of(api, "ran-on")[-1] == "late_result"


def test_who_may_not_speak_for_an_attempt(api: Api, desk: httpx.Client, order: Order) -> None:
    """H-30."""
    publish(api, order, "ours")
    [attempt] = claim(desk)
    with api.as_token(token("factory", factory_id="bench-2", jti=None)) as other:
        assert result_of(other, attempt).status_code == 403
        assert other.post(CLAIM, json={"factory_id": "desk-7"}).status_code == 403
    with api.as_token(token("publish", jti=None)) as publisher:
        assert publisher.post(CLAIM, json={"factory_id": "desk-7"}).status_code == 403
    assert result_of(desk, {"attempt_id": str(uuid4())}).status_code == 404
    assert result_of(desk, {"attempt_id": "no-uuid"}).status_code == 404
    assert state_of(api, "ours") == "claimed"


def test_a_cancelled_attempt_hears_that_it_is_over(api: Api, desk: httpx.Client, order: Order) -> None:
    publish(api, order, "unwanted")
    [attempt] = claim(desk)
    assert api.ops.post("/api/v1/missions/unwanted/cancel", json={"reason": "no"}).status_code == 200
    path = f"/api/v1/factory/missions/{attempt['attempt_id']}"

    assert desk.post(f"{path}/start", json={}).status_code == 409
    assert desk.post(f"{path}/progress", json={}).status_code == 409
    assert result_of(desk, attempt).status_code == 409


def test_a_report_of_our_own_factories_counts_in_its_own_words(api: Api, desk: httpx.Client, order: Order) -> None:
    publish(api, order, "later", max_retries=3)
    [attempt] = claim(desk)
    report = {"outcome": "later", "error": "not now", "after_seconds": 3600}
    assert result_of(desk, attempt, status="FAILED", report=report).json()["state"] == "waiting"
    [[seconds]] = api.sql("SELECT extract(epoch FROM next_attempt_at - now()) FROM corporation.missions")
    assert 3500 < seconds <= 3600


@pytest.mark.parametrize(
    "body",
    [
        {"status": "SUCCESSS"},
        {"status": "success"},
        {"result": "text"},
        {"usage": {"input_tokens": -1}},
        {"usage": {"estimated_cost_usd": -0.1}},
        {"usage": {"estimated_cost_usd": 1e308}},
        {"error": "\0"},
        {"retryable": "no"},
        {"report": {"outcome": "done"}, "status": "FAILED"},
        {"report": {"outcome": "perhaps"}},
    ],
)
def test_a_result_that_is_none_changes_nothing(
    api: Api, desk: httpx.Client, order: Order, body: dict[str, Any]
) -> None:
    """S4, S7, S8, S11."""
    publish(api, order, "safe")
    [attempt] = claim(desk)
    assert result_of(desk, attempt, **body).status_code == 422
    assert state_of(api, "safe") == "claimed"


def test_a_result_of_many_megabytes_is_refused(api: Api, desk: httpx.Client, order: Order) -> None:
    """S5."""
    publish(api, order, "large")
    [attempt] = claim(desk)
    assert result_of(desk, attempt, result={"output": "x" * 2_000_000}).status_code == 413
    pickled = desk.post(
        f"/api/v1/factory/missions/{attempt['attempt_id']}/result",
        content=b"\x80\x04K\x01.",
        headers={"Content-Type": "application/json"},
    )
    assert pickled.status_code in (400, 422)


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"factory_id": " "},
        {"factory_id": "desk-7", "max": 0},
        {"factory_id": "desk-7", "max": 33},
        {"factory_id": "desk-7", "max": True},
        {"factory_id": "desk-7", "wait_seconds": 31},
        {"factory_id": "desk-7", "wait_seconds": -1},
        {"factory_id": "desk-7", "mission_kinds": "general_task"},
        {"factory_id": "desk-7", "holding": ["no-uuid"]},
    ],
)
def test_a_claim_that_is_none_is_refused(desk: httpx.Client, body: dict[str, Any]) -> None:
    assert desk.post(CLAIM, json=body).status_code == 422


def test_progress_beyond_its_range_is_refused(api: Api, desk: httpx.Client, order: Order) -> None:
    """S10, S11."""
    publish(api, order, "m-1")
    [attempt] = claim(desk)
    path = f"/api/v1/factory/missions/{attempt['attempt_id']}/progress"
    assert desk.post(path, json={"percent": 150}).status_code == 422
    assert desk.post(path, json={"usage": {"gpt-x": {"input_tokens": -1}}}).status_code == 422

"""Publishing: one mission per key whatever happens, and each entry of a batch gets its own verdict."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import unquote

import pytest
from served_api import PUBLISH, Api, served, settings_for, token

Make = Callable[..., dict[str, Any]]


def aimed(order: Make, target: Any, **changes: Any) -> dict[str, Any]:
    return order(payload={"task": "Tidy", "context": {"target_factory_id": target}}, **changes)


def test_a_new_mission_is_accepted_and_found_where_the_answer_says(api: Api, order: Make) -> None:
    answer = api.ops.post(PUBLISH, json=order())

    location = "/api/v1/missions/j-1"
    assert answer.status_code == 202
    assert answer.json() == {"job_id": "j-1", "state": "waiting", "location": location, "created": True}
    assert answer.headers["location"] == location
    assert api.ops.get(location).json()["envelope"]["payload"] == {"context": {}, "task": "Tidy the notes"}


def test_missing_identities_are_made_up(api: Api) -> None:
    made = api.ops.post(PUBLISH, json={"payload": {"task": "Tidy"}}).json()

    mission = api.ops.get(made["location"]).json()
    assert mission["idempotency_key"] == made["job_id"] == mission["job_id"]
    assert len(made["job_id"]) == 36


def test_the_same_key_again_is_the_existing_mission_whatever_the_rest_says(api: Api, order: Make) -> None:
    api.ops.post(PUBLISH, json=order())

    again = api.ops.post(PUBLISH, json=order(job_id="j-2", payload={"task": "Something else"}))

    assert (again.status_code, again.json()["job_id"], again.json()["created"]) == (200, "j-1", False)
    assert api.stored() == 1
    assert api.ops.get("/api/v1/missions/j-2").json()["job_id"] == "j-1"


def test_fifty_publishes_at_once_with_one_key_make_one_mission(api: Api) -> None:
    def publish(_: int) -> tuple[int, str]:
        answer = api.ops.post(PUBLISH, json={"payload": {"task": "Tidy"}}, headers={"Idempotency-Key": "once"})
        return answer.status_code, answer.json()["job_id"]

    with ThreadPoolExecutor(50) as pool:
        answers = list(pool.map(publish, range(50)))

    assert sorted(status for status, _ in answers) == [200] * 49 + [202]
    assert len({job_id for _, job_id in answers}) == 1
    assert api.stored() == 1


def test_the_same_job_id_is_repeated_or_in_conflict(api: Api, order: Make) -> None:
    api.ops.post(PUBLISH, json=order())

    same = api.ops.post(PUBLISH, json=order(approved=True))
    other = api.ops.post(PUBLISH, json=order(priority=5))

    assert (same.status_code, other.status_code) == (200, 409)
    assert other.json() == {"detail": "job_id j-1 exists with a different body"}
    assert api.stored() == 1


def test_the_key_in_the_header_counts_and_must_agree_with_the_body(api: Api, order: Make) -> None:
    header = {"Idempotency-Key": "k-1"}

    assert api.ops.post(PUBLISH, json={"payload": {"task": "x"}}, headers=header).status_code == 202
    assert api.ops.post(PUBLISH, json=order(), headers=header).status_code == 200
    assert api.ops.post(PUBLISH, json=order(idempotency_key="other"), headers=header).status_code == 422
    assert (
        api.ops.post(PUBLISH, json={"payload": {"task": "x"}}, headers={"Idempotency-Key": b"\xff"}).status_code == 422
    )
    assert api.stored() == 1


def test_a_job_id_of_any_text_is_found_again(api: Api, order: Make) -> None:
    for name in ("../../etc/passwd", "a b?c#d%e", "ü/é", "x" * 128, '"><script>'):
        location = api.ops.post(PUBLISH, json=order(job_id=name, idempotency_key=name)).headers["location"]

        assert unquote(location.removeprefix("/api/v1/missions/")) == name
        assert api.ops.get(location).json()["job_id"] == name
        assert api.ops.get(location + "/events").json()["events"][0]["type"] == "published"


def test_an_unknown_kind_is_told_which_kinds_there_are(api: Api, order: Make) -> None:
    problem = api.ops.post(PUBLISH, json=order(mission_kind="dance")).json()["detail"][0]

    assert problem["loc"] == ["body", "mission_kind"]
    assert "research_task" in problem["msg"]
    assert "research_task" in problem["ctx"]["known_kinds"]


def test_a_kind_that_a_factory_advertises_is_accepted(api: Api, order: Make) -> None:
    api.sql(
        "INSERT INTO corporation.factories (factory_id, source, capabilities)"
        " VALUES ('desk-7', 'api_registration', '[\"kind:dance\"]')"
    )

    assert api.ops.post(PUBLISH, json=order(mission_kind="dance")).status_code == 202
    assert api.ops.get("/api/v1/missions/j-1").json()["mission_kind"] == "dance"


def test_an_unknown_target_is_refused_unless_the_caller_waits(api: Api, order: Make) -> None:
    refused = api.ops.post(PUBLISH, json=aimed(order, "bench-2"))

    assert refused.status_code == 404
    assert api.stored() == 0
    assert api.ops.post(PUBLISH, params={"wait": "true"}, json=aimed(order, "bench-2")).status_code == 202
    # Known already: judged before the target, so a repetition without `wait` gets its mission.
    assert api.ops.post(PUBLISH, json=aimed(order, "bench-2")).status_code == 200


@pytest.mark.parametrize("status", ["online", "paused", "offline"])
def test_a_registered_target_is_accepted_even_when_it_is_away(api: Api, order: Make, status: str) -> None:
    api.sql(
        "INSERT INTO corporation.factories (factory_id, source, registration_status)"
        " VALUES ('desk-7', 'api_registration', :status)",
        status=status,
    )

    assert api.ops.post(PUBLISH, json=aimed(order, "desk-7")).status_code == 202


def test_a_batch_answers_for_each_entry_in_order(api: Api, order: Make) -> None:
    api.ops.post(PUBLISH, json=order(job_id="old", idempotency_key="old"))
    entries = [
        order(job_id="new", idempotency_key="new"),
        order(job_id="old", idempotency_key="old", priority=9),
        {"payload": {"task": ""}},
        aimed(order, "bench-2", job_id="lost", idempotency_key="lost"),
        aimed(order, "bench-2", job_id="lost", idempotency_key="lost"),
        order(job_id="old", idempotency_key="old"),
        order(job_id="new", idempotency_key="new"),
        order(job_id="kind", idempotency_key="kind", mission_kind="dance"),
        7,
    ]

    answer = api.ops.post(PUBLISH, json={"missions": entries})

    body = answer.json()
    assert answer.status_code == 207
    assert [entry["status"] for entry in body["missions"]] == [202, 409, 422, 404, 404, 200, 200, 422, 422]
    assert [entry["index"] for entry in body["missions"]] == list(range(9))
    assert (body["accepted"], body["existing"], body["rejected"]) == (1, 2, 6)
    assert body["missions"][0]["location"] == "/api/v1/missions/new"
    assert body["missions"][2]["detail"][0]["loc"] == ["body", "missions", 2, "payload", "task"]
    assert api.stored() == 2


def test_a_batch_without_refusals_says_whether_anything_was_new(api: Api, order: Make) -> None:
    batch = {"missions": [{"payload": {"task": f"Number {n}"}} for n in range(1000)]}
    key = {"Idempotency-Key": "nightly"}

    first = api.ops.post(PUBLISH, json=batch, headers=key)
    again = api.ops.post(PUBLISH, json=batch, headers=key)

    assert (first.status_code, first.json()["accepted"]) == (202, 1000)
    assert (again.status_code, again.json()["existing"]) == (200, 1000)
    assert api.ops.get("/api/v1/missions", params={"idempotency_key": "nightly:999"}).json()["missions"]


def test_a_batch_may_be_longer_than_one_mission_but_its_missions_may_not(api: Api, order: Make) -> None:
    fit = order(payload={"task": "x" * 200_000})
    huge = order(job_id="j-2", idempotency_key="k-2", payload={"task": "x" * 300_000})

    answer = api.ops.post(PUBLISH, json={"missions": [fit, huge]})

    assert [entry["status"] for entry in answer.json()["missions"]] == [202, 413]


def test_a_publisher_may_not_give_orders_to_factories(api: Api, order: Make) -> None:
    entries = [order(), order(job_id="j-2", idempotency_key="k-2", payload={"task": "system:pause_factory"})]

    with api.as_token(token("publish")) as publisher:
        answer = publisher.post(PUBLISH, json={"missions": entries})

    assert [entry["status"] for entry in answer.json()["missions"]] == [202, 403]


def test_a_full_queue_refuses_what_is_new_and_still_knows_what_it_has(shared_url: str, order: Make) -> None:
    with served(settings_for(shared_url, UA_MISSION_WAITING_LIMIT="1")) as api:
        api.ops.post(PUBLISH, json=order())

        full = api.ops.post(PUBLISH, json=order(job_id="j-2", idempotency_key="k-2"))

        assert full.status_code == 429
        assert full.json()["detail"].startswith("queue_full: ")
        assert full.headers["retry-after"]
        assert api.ops.post(PUBLISH, json=order()).status_code == 200
        assert api.stored() == 1


def test_without_a_ledger_the_caller_is_told_to_come_back(order: Make) -> None:
    with served(settings_for("postgresql://nobody:hunter2@127.0.0.1:1/none")) as api:
        answer = api.ops.post(PUBLISH, json=order())

        assert answer.status_code == 503
        assert answer.headers["retry-after"] == "5"
        assert answer.json()["detail"].startswith("ledger_unavailable: ")
        assert "hunter2" not in answer.text

"""Many dead letters at once over HTTP: counted first, then run again or put away, none stopping the rest."""

from collections.abc import Callable
from typing import Any

import pytest
from served_api import Api
from test_dead_letters import DLQ, entries, failed, refused

Order = Callable[..., dict[str, Any]]
REPLAY, DISCARD = f"{DLQ}/replay", f"{DLQ}/discard"


@pytest.fixture
def three(api: Api, order: Order) -> list[str]:
    """Two missions failed and one timed out; their letters, the oldest first."""
    return [failed(api, order, "j-1"), failed(api, order, "j-2"), failed(api, order, "j-3", state="timed_out")]


def test_a_look_says_how_many_and_what_they_are_and_does_nothing(api: Api, three: list[str]) -> None:
    refused(api)
    answer = api.ops.post(REPLAY, json={"all": True, "dry_run": True})

    assert answer.status_code == 200
    assert answer.json() == {
        "dry_run": True,
        "count": 4,
        "by_cause": {"failed": 2, "malformed": 1, "timed_out": 1},
        "by_kind": {"general_task": 3},
        "newest": "dl-4",
    }
    assert len(entries(api)) == 4


def test_all_that_match_run_again_the_oldest_first(api: Api, three: list[str]) -> None:
    answer = api.ops.post(REPLAY, json={"cause": ["failed"], "expect": 2}).json()

    assert answer == {
        "replayed": [{"dlq_id": three[0], "job_id": "j-1-r1"}, {"dlq_id": three[1], "job_id": "j-2-r1"}],
        "refused": [],
        "remaining": 0,
        "last": three[1],
        "queue_full": False,
    }
    assert [entry["dlq_id"] for entry in entries(api)] == [three[2]]
    assert api.ops.get("/api/v1/missions/j-1-r1").json()["state"] == "waiting"


def test_one_that_cannot_run_again_stops_no_other(api: Api, three: list[str]) -> None:
    bad = refused(api)
    answer = api.ops.post(REPLAY, json={"dlq_ids": [bad, three[2]]}).json()

    assert answer["replayed"] == [{"dlq_id": three[2], "job_id": "j-3-r1"}]
    [left] = answer["refused"]
    assert (left["dlq_id"], left["why"]) == (
        bad,
        "it holds no order that could be run again; replay it with an envelope",
    )


def test_whoever_names_letters_is_told_what_became_of_each(api: Api, three: list[str]) -> None:
    api.ops.post(f"{DLQ}/{three[0]}/replay")
    api.ops.post(f"{DLQ}/{three[1]}/discard")
    answer = api.ops.post(REPLAY, json={"dlq_ids": [*three, "dl-99"]}).json()

    assert answer["replayed"] == [
        {"dlq_id": three[0], "job_id": "j-1-r1"},
        {"dlq_id": three[2], "job_id": "j-3-r1"},
    ]
    assert {one["dlq_id"]: one["why"] for one in answer["refused"]} == {
        three[1]: "the dead letter was discarded; publish its mission anew instead",
        "dl-99": "no dead letter is called so",
    }


def test_a_count_that_changed_stops_it(api: Api, three: list[str]) -> None:
    answer = api.ops.post(REPLAY, json={"all": True, "expect": 7})

    assert answer.status_code == 409
    assert "3 dead letters match now and not 7" in answer.json()["detail"]
    assert len(entries(api)) == 3


def test_a_caller_goes_on_where_the_last_call_ended(api: Api, three: list[str]) -> None:
    first = api.ops.post(DISCARD, json={"all": True, "limit": 2, "reason": "a test"}).json()
    rest = api.ops.post(DISCARD, json={"all": True, "after": first["last"]}).json()

    assert (first["discarded"], first["remaining"], first["last"]) == (three[:2], 1, three[1])
    assert (rest["discarded"], rest["remaining"]) == ([three[2]], 0)
    assert entries(api) == []


def test_what_came_after_the_look_is_not_meant(api: Api, three: list[str]) -> None:
    answer = api.ops.post(DISCARD, json={"all": True, "up_to": three[1], "expect": 2}).json()

    assert answer["discarded"] == three[:2]


def test_calling_again_finds_only_what_is_open(api: Api, three: list[str]) -> None:
    api.ops.post(REPLAY, json={"all": True})
    again = api.ops.post(REPLAY, json={"all": True}).json()

    assert (again["replayed"], again["refused"], again["last"]) == ([], [], None)
    assert api.ops.get("/api/v1/missions/j-1-r2").status_code == 404


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ({"cause": ["timed_out"]}, [2]),
        ({"mission_kind": ["general_task"]}, [0, 1, 2]),
        ({"mission_kind": ["coding_task"]}, []),
        ({"job_id": "j-2"}, [1]),
        ({"error": "EXIT 2"}, [0, 1, 2]),
        ({"error": "exit 3"}, []),
        ({"factory_id": "desk-7"}, []),
        ({"created_after": "2020-01-01T00:00:00Z"}, [0, 1, 2]),
        ({"created_before": "2020-01-01"}, []),
    ],
)
def test_the_filters_of_a_list_and_of_a_bulk_mean_the_same(
    api: Api, three: list[str], wanted: dict[str, Any], found: list[int]
) -> None:
    query = {name: ",".join(value) if isinstance(value, list) else value for name, value in wanted.items()}

    assert [entry["dlq_id"] for entry in entries(api, **query)] == [three[index] for index in reversed(found)]
    assert api.ops.post(DISCARD, json=wanted).json()["discarded"] == [three[index] for index in found]


@pytest.mark.parametrize(
    "body",
    [
        {}, {"dry_run": True}, {"all": False}, {"cause": ["lost"]}, {"cause": []}, {"dlq_ids": ["12"]}, {"dlq_ids": []},
        {"all": True, "limit": 0}, {"all": True, "limit": 201}, {"all": True, "expect": -1}, {"job_id": "a\u0000"},
        {"all": True, "after": "x"}, {"created_after": "soon"},
    ],
)  # fmt: skip
def test_who_does_not_say_what_is_meant_is_refused(api: Api, three: list[str], body: dict[str, Any]) -> None:
    for path in (REPLAY, DISCARD):
        assert api.ops.post(path, json=body).status_code == 422
    assert len(entries(api)) == 3


def test_no_more_run_again_than_missions_may_wait(api: Api, three: list[str]) -> None:
    object.__setattr__(api.settings, "waiting_limit", 2)
    first = api.ops.post(REPLAY, json={"all": True})
    full = api.ops.post(REPLAY, json={"all": True})

    assert (len(first.json()["replayed"]), first.json()["queue_full"], first.json()["remaining"]) == (2, True, 1)
    assert (full.status_code, full.headers["retry-after"]) == (429, "30")
    assert api.ops.post(f"{DLQ}/{three[2]}/replay").status_code == 429
    assert api.ops.post(f"{DLQ}/{three[0]}/replay").json()["job_id"] == "j-1-r1"
    assert [entry["dlq_id"] for entry in entries(api)] == [three[2]]


def test_a_long_order_is_left_out_of_the_list_and_shown_alone(api: Api, order: Order) -> None:
    letter = failed(api, order, payload={"task": "x" * 20_000, "context": {}})
    [listed] = entries(api)

    assert (listed["envelope"], listed["left_out"]) == (None, ["envelope"])
    assert len(api.ops.get(f"{DLQ}/{letter}").json()["envelope"]["payload"]["task"]) == 20_000

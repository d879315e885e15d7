"""What clients of other makers send and the contract allows: empty query values, null for "not set", odd job_ids."""

from typing import Any

import pytest
import stranger
from served_api import OPS_TOKEN, PUBLISH, Api

from hq_api.addresses import without_empty_values

MISSIONS = "/api/v1/missions"
BEATS = "/api/v1/factory/registrations"

# Empty query values.

PRINTED = [
    "/api/v1/dlq?status=open&limit=50&cursor=",
    "/api/v1/dlq?status=&cause=&limit=&created_after=",
    "/api/v1/ops/fleet/cost-summary?since=&until=",
    "/api/v1/dashboard/tutorials/notifications?limit=&include_dismissed=",
    "/api/v1/dashboard/tutorials/bootstrap-jobs?limit=&run_path=",
    "/api/v1/missions?state=&mission_kind=&created_after=&created_before=&limit=&cursor=",
    "/api/v1/ops/delegation/history?limit=20&offset=0&status=&factory_id=&mission_kind=",
    "/api/v1/factory/registrations?limit=200&registration_status=",
    "/api/v1/ops/audit?before=&since=&limit=",
    "/api/v1/missions?limit&cursor",
]


@pytest.mark.parametrize("address", PRINTED)
def test_an_empty_query_value_says_nothing(api: Api, address: str) -> None:
    """http §7, §9, §10, §11 print some of these."""
    path, _, query = address.partition("?")
    without = without_empty_values(query.encode()).decode()

    answers = [api.ops.get(address).json(), api.ops.get(f"{path}?{without}").json()]

    assert answers[0].keys() == answers[1].keys() != {"detail"}


def test_a_mission_is_published_and_its_events_are_read_with_empty_values(api: Api) -> None:
    sent = api.ops.post(f"{PUBLISH}?wait=", json={"job_id": "j-1", "payload": {"task": "Tidy"}})
    events = api.ops.get(f"{MISSIONS}/j-1/events?after=&limit=")

    assert (sent.status_code, events.status_code) == (202, 200)
    assert [event["type"] for event in events.json()["events"]] == ["published"]


@pytest.mark.parametrize(
    ("address", "status"),
    [
        (f"{MISSIONS}?limit=none", 422),
        (f"{MISSIONS}?state=%20", 422),
        (f"{MISSIONS}?cursor=+", 400),
        (f"{MISSIONS}?limit=&limit=0", 422),
        ("/api/v1/dlq?status=opened", 422),
        ("/api/v1/dlq?cursor=x", 400),
        ("/api/v1/ops/fleet/cost-summary?since=yesterday", 422),
        (f"{MISSIONS}?token=x", 400),
    ],
)
def test_a_query_value_that_is_there_is_judged(api: Api, address: str, status: int) -> None:
    assert api.ops.get(address).status_code == status


def test_the_description_says_that_a_query_value_may_be_empty(api: Api) -> None:
    paths = api.ops.get("/openapi.json").json()["paths"]
    queries = [
        one
        for methods in paths.values()
        for operation in methods.values()
        for one in operation.get("parameters", [])
        if one["in"] == "query"
    ]

    assert queries
    assert all(one["allowEmptyValue"] for one in queries)


# null for "not set".


def test_null_for_the_names_of_an_order_is_as_if_they_were_left_out(api: Api) -> None:
    """http §7: a made job_id, and the key of the header or else the job_id."""
    order = {"job_id": None, "idempotency_key": None, "payload": {"task": "Tidy"}}
    made = api.ops.post(PUBLISH, json=order).json()
    by_header = api.ops.post(PUBLISH, json=order, headers={"Idempotency-Key": "k-7"}).json()
    batch = api.ops.post(PUBLISH, json={"missions": [order]}, headers={"Idempotency-Key": "k-8"}).json()

    keys = [api.ops.get(one["location"]).json()["idempotency_key"] for one in (made, by_header, *batch["missions"])]
    assert keys == [made["job_id"], "k-7", "k-8:0"]


@pytest.mark.parametrize(
    "changes",
    [{"priority": None}, {"payload": None}, {"payload": {"task": "x", "context": None}}, {"payload": {"task": None}}],
)
def test_null_is_refused_where_a_text_says_so(api: Api, changes: dict[str, Any]) -> None:
    """streams §3: `priority` and `payload.context`."""
    assert api.ops.post(PUBLISH, json={"payload": {"task": "Tidy"}} | changes).status_code == 422
    assert api.stored() == 0


def test_null_in_a_beat_is_as_if_it_was_left_out(api: Api) -> None:
    """H-17, H-18"""
    beat = {"factory_id": "desk-7", "registration_status": None, "running": None, "capabilities": None, "slots": None}

    answer = api.ops.post(BEATS, json=beat)

    assert answer.status_code == 200
    assert answer.json()["registration"]["registration_status"] == "online"


def test_the_description_says_where_null_may_stand(api: Api) -> None:
    paths = api.ops.get("/openapi.json").json()["paths"]
    order, _ = body_schema(paths[PUBLISH])["anyOf"]
    beat = body_schema(paths[BEATS])

    may_be_null = [*(order["properties"][name] for name in ("job_id", "idempotency_key"))]
    may_be_null += [*(beat["properties"][name] for name in ("registration_status", "running"))]
    assert all({"type": "null"} in one["anyOf"] for one in may_be_null)
    assert order["properties"]["priority"]["type"] == "integer"


def body_schema(path: dict[str, Any]) -> dict[str, Any]:
    return path["post"]["requestBody"]["content"]["application/json"]["schema"]


# Where a beat came from.


def test_where_a_beat_came_from_is_known_also_without_metadata(api: Api) -> None:
    """H-17: `metadata.remote_host` is added when absent, and metadata that are left out keep the stored value."""
    told = [
        api.ops.post(BEATS, json={"factory_id": "desk-7"} | more).json()["registration"]["metadata"]
        for more in (
            {},
            {"metadata": None},
            {"metadata": {"hostname": "desk-7", "remote_host": "10.8.0.7"}},
            {},
            {"metadata": {}},
        )
    ]
    own = {"hostname": "desk-7", "remote_host": "10.8.0.7"}

    assert told == [{"remote_host": "127.0.0.1"}, {"remote_host": "127.0.0.1"}, own, own, {"remote_host": "127.0.0.1"}]


def test_a_factory_that_was_stored_without_it_gets_it_with_its_next_beat(api: Api) -> None:
    api.ops.post(BEATS, json={"factory_id": "desk-7"})
    api.sql("""UPDATE corporation.factories SET metadata = '{"hostname": "desk-7"}'""")

    metadata = api.ops.post(BEATS, json={"factory_id": "desk-7"}).json()["registration"]["metadata"]

    assert metadata == {"remote_host": "127.0.0.1", "hostname": "desk-7"}


# job_ids that look like something else.

ODD = [
    "a/events",
    "a/log",
    "a/explain",
    "a/cancel",
    "a/b/events",
    "events",
    "/",
    "a/",
    "a%2Fevents",
    ".",
    "..",
    "../x",
    "a?b#c",
]


@pytest.mark.parametrize("job_id", ODD)
def test_a_location_leads_to_its_mission_whatever_it_is_called(api: Api, job_id: str) -> None:
    """bad input A41: any text. A client takes dots out of a path, encoded ones too, before it asks."""
    for name in ("a", job_id):
        api.ops.post(PUBLISH, json={"job_id": name, "payload": {"task": "Tidy"}}).raise_for_status()
    sent = api.ops.post(PUBLISH, json={"job_id": job_id, "payload": {"task": "Tidy"}})

    found = stranger.get(api.url + sent.headers["location"], headers={"Authorization": f"Bearer {OPS_TOKEN}"})

    assert (sent.status_code, found.status_code) == (200, 200)
    assert found.json()["job_id"] == job_id


def test_what_follows_an_odd_job_id_is_found_too(api: Api) -> None:
    api.ops.post(PUBLISH, json={"job_id": "a/events", "payload": {"task": "Tidy"}}).raise_for_status()

    for written in ("a%2Fevents", "a%2fevents", "a/events"):
        assert api.ops.get(f"{MISSIONS}/{written}/events").status_code == 200
    assert api.ops.get(f"{MISSIONS}/a/events").status_code == 404  # the events of `a`, which is not there


def test_an_order_hidden_in_a_job_id_is_none(api: Api) -> None:
    api.ops.post(PUBLISH, json={"job_id": "a", "payload": {"task": "Tidy"}}).raise_for_status()

    assert api.ops.post(f"{MISSIONS}/a%2Fcancel", json={}).status_code == 405
    assert api.ops.get(f"{MISSIONS}/a").json()["state"] != "cancelled"

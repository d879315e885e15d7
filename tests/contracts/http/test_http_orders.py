"""Orders to factories over HTTP, to whoever speaks HTTP only: HQ's flag, the beat's answer, the claim, and the end.

Contract fleet F-20 to F-22, streams S-25, S-33 and S-35, http §8.
"""

from typing import Any

import pytest
from served_api import PUBLISH, Api, token

from corporation.db import transaction
from hq_api.own_node import DelegationLink
from hq_api.self_registration import register

BEAT = "/api/v1/factory/registrations"
CLAIM = "/api/v1/factory/missions/claim"
CONTROL = "/api/v1/ops/factory/control"
PAUSE, RESUME = "system:pause_factory", "system:resume_factory"
BOOTSTRAP = {"capabilities": ["tutorial_bootstrap_consumer", "transport:http"], "metadata": {"transport": "http"}}


def order(kind: str = PAUSE, job_id: str = "o-1", target: str = "ext-1", **context: Any) -> dict[str, Any]:
    said = {"mission_kind": kind, "target_factory_id": target} | context
    return {"job_id": job_id, "payload": {"task": "rest", "context": said}}


def beat(api: Api, factory_id: str = "ext-1", **more: Any) -> bool:
    """One beat as an external bootstrap worker sends it (F-6); whether HQ's answer says that it rests."""
    answer = api.ops.post(BEAT, json={"factory_id": factory_id} | BOOTSTRAP | more).raise_for_status().json()
    return bool(answer["instructions"]["paused"])


def published(api: Api, body: dict[str, Any], wait: bool = False) -> None:
    api.ops.post(PUBLISH, params={"wait": wait}, json=body).raise_for_status()


def mission(api: Api, job_id: str = "o-1") -> dict[str, Any]:
    return dict(api.ops.get(f"/api/v1/missions/{job_id}").raise_for_status().json())


def claimed(api: Api, **more: Any) -> tuple[list[str], bool]:
    answer = api.ops.post(CLAIM, json={"factory_id": "ext-1", "max": 32} | more).raise_for_status().json()
    return [one["mission_kind"] for one in answer["attempts"]], answer["paused"]


def acts(api: Api) -> list[Any]:
    return api.sql("SELECT actor, action, target, note FROM corporation.audit_log WHERE action LIKE 'factory.%'")


def test_an_order_that_is_published_pauses_and_ends_with_the_answer_to_the_next_beat(api: Api) -> None:
    """F-20, S-35."""
    beat(api)
    published(api, order(note="moving"))
    waits = api.ops.get("/api/v1/missions/o-1/explain").json()

    assert waits["reasons"][0]["code"] == "behind_others"
    assert waits["sentence"].startswith("It is an order to ext-1 itself, which is told with the answer to its next")
    assert beat(api)
    ended = mission(api)
    assert (ended["state"], ended["result"]["action"], ended["result"]["note"]) == ("succeeded", "pause", "moving")
    assert (ended["result"]["mission_id"], ended["result"]["result_ref"]) == ("o-1", "")
    assert claimed(api) == ([], True)
    published(api, order(RESUME, "o-2"))
    assert not beat(api)
    assert mission(api, "o-2")["state"] == "succeeded"


def test_who_published_it_is_in_the_histories_once(api: Api) -> None:
    beat(api)
    with api.as_token(token(sub="ana")) as ana:
        for _ in range(2):
            ana.post(PUBLISH, json=order(note="moving") | {"idempotency_key": "k"}).raise_for_status()
        ana.post(PUBLISH, json={"missions": [order(RESUME, "o-2", ""), {"payload": {"task": "t"}}]}).raise_for_status()

    [row] = api.sql("SELECT type, by FROM corporation.factory_events WHERE type = 'paused'")
    assert (row.type, row.by) == ("paused", "ana")
    assert [tuple(one) for one in acts(api)] == [
        ("ana", "factory.pause", "ext-1", "moving"),
        ("ana", "factory.resume", None, None),
    ]


def test_a_refused_order_says_nothing(api: Api) -> None:
    beat(api)
    assert api.ops.post(PUBLISH, json=order(target="nobody")).status_code == 404
    with api.as_token(token("publish")) as publisher:
        assert publisher.post(PUBLISH, json=order()).status_code == 403

    assert (beat(api), acts(api)) == (False, [])


def test_an_order_to_wait_for_its_factory_is_in_the_answer_to_the_first_beat(api: Api) -> None:
    published(api, order(), wait=True)

    assert mission(api)["state_reason"] == "behind_others"
    assert beat(api)
    assert mission(api)["state"] == "succeeded"


def test_an_operators_order_to_a_factory_that_only_beats_ends(api: Api) -> None:
    beat(api)
    answer = api.ops.post(CONTROL, json={"target_factory_id": "ext-1", "action": "drain", "note": "disk"}).json()
    beat(api)

    ended = mission(api, answer["job_id"])
    assert (ended["state"], ended["result"]["action"], ended["result"]["mode"]) == ("succeeded", "pause", "drain")


def test_a_claim_for_all_that_the_labels_allow_includes_orders(api: Api) -> None:
    """Http §8: system kinds need no label; of a paused factory only who names them gets them."""
    beat(api)
    published(api, order())
    assert claimed(api) == ([], True)
    published(api, order(RESUME, "o-2"))

    assert claimed(api, mission_kinds=["bootstrap_repo"]) == ([], False)
    assert claimed(api) == ([PAUSE, RESUME], False)
    beat(api)
    assert [mission(api, name)["state"] for name in ("o-1", "o-2")] == ["claimed", "claimed"], "whoever is first counts"


def test_a_paused_factory_that_names_the_kind_carries_the_order_out_itself(api: Api) -> None:
    """F-22."""
    beat(api)
    published(api, order())

    assert claimed(api, mission_kinds=[PAUSE, "bootstrap_repo"]) == ([PAUSE], True)
    attempt_id = mission(api)["attempts"][0]["attempt_id"]
    done = {"status": "SUCCESS", "result": {"action": "pause", "note": ""}}
    api.ops.post(f"/api/v1/factory/missions/{attempt_id}/result", json=done).raise_for_status()
    assert mission(api)["state"] == "succeeded"
    assert beat(api), "the flag stays"


@pytest.mark.parametrize(("queues", "ends"), [([], True), (["{id}.control"], False)])
def test_headquarters_obeys_when_it_is_named(api: Api, queues: list[str], ends: bool) -> None:
    """S-25: by its own registration, unless a control worker of its own takes the order."""
    own = api.settings.factory_id
    link = DelegationLink(wanted=False, last_error=None)
    listens = [one.format(id=own) for one in queues]
    api.ops.post(BEAT, json={"factory_id": own, "factory_role": "HEADQUARTERS", "queues": listens}).raise_for_status()
    published(api, order(target=own))
    with transaction(api.engine) as connection:
        register(connection, api.settings, link)

    assert (mission(api)["state"] == "succeeded") is ends
    assert api.sql("SELECT paused FROM corporation.factories")[0].paused


def test_headquarters_whose_own_workers_fell_silent_obeys_too(api: Api) -> None:
    own = api.settings.factory_id
    body = {"factory_id": own, "factory_role": "HEADQUARTERS", "queues": [f"{own}.control"], "slots": 2}
    api.ops.post(BEAT, json=body).raise_for_status()
    api.sql("UPDATE corporation.factories SET workers_seen_at = now() - interval '1 day'")
    published(api, order(target=own))
    with transaction(api.engine) as connection:
        register(connection, api.settings, DelegationLink(wanted=False, last_error=None))

    assert mission(api)["state"] == "succeeded"

"""Results and claims at their edges: what grows, what comes during a look, what came late first (contract http §8)."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from served_api import PUBLISH, Api, token

from corporation.clock import monotonic
from hq_api.routers import claims

Order = Callable[..., dict[str, Any]]
CLAIM = "/api/v1/factory/missions/claim"


@pytest.fixture
def desk(api: Api) -> Iterator[httpx.Client]:
    """The factory desk-7, which may do general missions and has just been heard of."""
    with api.as_token(token("factory", factory_id="desk-7", jti=None)) as client:
        beat = {"factory_id": "desk-7", "capabilities": ["vp_general", "transport:http"], "slots": 2}
        client.post("/api/v1/factory/registrations", json=beat).raise_for_status()
        yield client


def publish(api: Api, order: Order, name: str) -> None:
    assert api.ops.post(PUBLISH, json=order(job_id=name, idempotency_key=f"k-{name}")).status_code == 202


def claim(client: httpx.Client, **more: Any) -> list[dict[str, Any]]:
    answer = client.post(CLAIM, json={"factory_id": "desk-7", **more})
    assert answer.status_code == 200, answer.text
    return answer.json()["attempts"]


def bring(client: httpx.Client, attempt: dict[str, Any], body: bytes) -> httpx.Response:
    path = f"/api/v1/factory/missions/{attempt['attempt_id']}/result"
    return client.post(path, content=body, headers={"Content-Type": "application/json"})


@pytest.mark.parametrize(
    "output",
    [json.dumps("é" * 500_000, ensure_ascii=False), "[" + ",".join(["1e15"] * 200_000) + "]"],
    ids=["text that is longer in ASCII", "numbers that are written out"],
)
def test_a_result_that_grows_beyond_the_mailbox_is_refused_and_not_an_error_of_ours(
    api: Api, desk: httpx.Client, order: Order, output: str
) -> None:
    """S5."""
    publish(api, order, "grows")
    [attempt] = claim(desk)
    answer = bring(desk, attempt, f'{{"status": "SUCCESS", "result": {{"output": {output}}}}}'.encode())

    assert answer.status_code == 413
    assert bring(desk, attempt, b'{"status": "SUCCESS"}').json()["state"] == "succeeded"


@pytest.mark.parametrize("used", [{"estimated_cost_usd": -5}, {"estimated_cost_usd": 1e308}, {"input_tokens": -1}])
def test_a_cost_that_is_none_is_refused_for_each_model_too(
    api: Api, desk: httpx.Client, order: Order, used: dict[str, Any]
) -> None:
    """S11."""
    publish(api, order, "costs")
    [attempt] = claim(desk)
    body = {"status": "SUCCESS", "usage": {"breakdown_by_model": {"glm-x": used}}}

    assert bring(desk, attempt, json.dumps(body).encode()).status_code == 422


def test_a_late_failure_does_not_take_the_place_of_a_late_success(api: Api, desk: httpx.Client, order: Order) -> None:
    """H-32: an operator may still adopt what was done."""
    publish(api, order, "late")
    [attempt] = claim(desk)
    api.ops.post("/api/v1/missions/late/cancel", json={}).raise_for_status()
    for body in ({"status": "SUCCESS", "result": {"output": "3 risks"}}, {"status": "FAILED", "error": "after all"}):
        assert bring(desk, attempt, json.dumps(body).encode()).status_code == 409

    [[kept]] = api.sql("SELECT outcome FROM corporation.attempts")
    assert kept["result"] == {"output": "3 risks"}


def test_a_mission_that_comes_while_somebody_looks_is_not_missed(
    api: Api, desk: httpx.Client, order: Order, monkeypatch: pytest.MonkeyPatch, wait_until: Callable[..., Any]
) -> None:
    """The look has found nothing, and the wait has not begun."""
    look, found = claims._claim, []

    def late_to_wait(*asked: Any) -> Any:
        answer = look(*asked)
        if not found:
            before = api.app.state.waiting._woken
            publish(api, order, "between")
            wait_until(lambda: api.app.state.waiting._woken is not before, what="everybody is woken")
        found.append(answer)
        return answer

    monkeypatch.setattr(claims, "_claim", late_to_wait)
    began = monotonic()

    assert [one["job_id"] for one in claim(desk, wait_seconds=20)] == ["between"]
    assert monotonic() - began < 3


def test_what_was_claimed_over_https_was_not_published_to_the_broker(
    api: Api, desk: httpx.Client, order: Order
) -> None:
    before = api.ops.get("/api/v1/factory/capabilities").json()["delegation"]
    publish(api, order, "claimed")
    claim(desk)
    after = api.ops.get("/api/v1/factory/capabilities").json()["delegation"]

    assert (after["last_publish_at"], after["published_total"]) == (None, before["published_total"])

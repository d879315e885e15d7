"""Other sites' pages (H-12): none but the configured ones may read an answer, and a preflight needs no token."""

from collections.abc import Iterator

import httpx
import pytest
import stranger
from served_api import PUBLISH, Api, served, settings_for

FRIEND = "https://panel.example"
ALLOWING = "access-control-allow-"


@pytest.fixture(scope="module")
def open_api(module_servers: tuple[str, str]) -> Iterator[Api]:
    """A headquarters whose answers one other site may read; nothing here stores anything."""
    with served(settings_for(module_servers[0], UA_CORS_ALLOWED_ORIGINS=FRIEND)) as api:
        yield api


def preflight(api: Api, origin: str, path: str = PUBLISH, method: str = "POST") -> httpx.Response:
    asked = {
        "Origin": origin,
        "Access-Control-Request-Method": method,
        "Access-Control-Request-Headers": "authorization,content-type,idempotency-key,x-ua-ops-token,x-request-id",
    }
    return stranger.request("OPTIONS", api.url + path, headers=asked)


def allowances(answer: httpx.Response) -> dict[str, str]:
    return {name: value for name, value in answer.headers.items() if name.startswith(ALLOWING)}


def test_a_configured_origin_may_send_tokens_and_never_cookies(open_api: Api) -> None:
    """H-12."""
    answer = preflight(open_api, FRIEND)

    assert answer.status_code == 204
    allowed = allowances(answer)
    assert allowed["access-control-allow-origin"] == FRIEND
    headers = {name.strip().lower() for name in allowed["access-control-allow-headers"].split(",")}
    assert {"authorization", "content-type", "idempotency-key", "x-ua-ops-token", "x-request-id"} <= headers
    assert "access-control-allow-credentials" not in allowed


@pytest.mark.parametrize(
    "origin",
    ["https://evil.example", "http://panel.example", f"{FRIEND}:8443", f"{FRIEND}.evil.example", "null", "*", ""],
)
def test_a_foreign_origin_gets_an_answer_that_allows_nothing(open_api: Api, origin: str) -> None:
    """H-12: the preflight is answered without a token all the same."""
    answer = preflight(open_api, origin)
    read = stranger.get(open_api.url + "/api/v1/health", headers={"Origin": origin})

    assert (answer.status_code, allowances(answer)) == (204, {})
    assert (read.status_code, allowances(read)) == (200, {})


def test_without_configuration_no_origin_is_allowed(api: Api) -> None:
    """H-12."""
    answer = preflight(api, FRIEND)

    assert (answer.status_code, allowances(answer)) == (204, {})


def test_a_page_of_a_configured_origin_can_read_answers_and_refusals(open_api: Api) -> None:
    """H-12: also why it was refused, or nobody could find the mistake."""
    good = open_api.ops.get("/api/v1/missions", headers={"Origin": FRIEND})
    bad = stranger.get(open_api.url + "/api/v1/missions", headers={"Origin": FRIEND})

    assert (good.status_code, bad.status_code) == (200, 401)
    for answer in (good, bad):
        assert answer.headers["access-control-allow-origin"] == FRIEND
        assert "access-control-allow-credentials" not in answer.headers
        assert "Origin" in answer.headers["vary"]


def test_a_preflight_is_no_way_around_the_token(open_api: Api) -> None:
    assert open_api.ops.options(PUBLISH).status_code == 405
    assert stranger.options(open_api.url + PUBLISH, headers={"Origin": FRIEND}).status_code == 405
    assert open_api.stored() == 0


@pytest.mark.parametrize("path", ["/api/v1/health", "/api/v1/ops/fleet", "/nowhere"])
def test_a_closed_surface_answers_a_preflight_without_a_token_too(shared_url: str, path: str) -> None:
    """H-12 and H-14: the preflight is no call; the call after it is refused."""
    changes = {"FACTORY_ROLE": "LOCAL_WORKER", "UA_CORS_ALLOWED_ORIGINS": FRIEND}
    with served(settings_for(shared_url, **changes)) as worker:
        answer = preflight(worker, FRIEND, path)
        called = worker.ops.post(path, headers={"Origin": FRIEND})

    assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (204, FRIEND)
    assert called.status_code == (405 if path.endswith("health") else 403)

"""Who may call: one token, judged strictly, and every refusal looks the same."""

import base64
import json
from typing import Any

import httpx
import jwt
import pytest
from served_api import JWT_SECRET, OPS_TOKEN, PUBLISH, Api, served, settings_for, token

from corporation.clock import utc_now

MISSIONS = "/api/v1/missions"
NOW = int(utc_now().timestamp())
CLAIMS = {"iss": "universal-agent", "aud": "ua-ops", "sub": "x", "iat": NOW, "exp": NOW + 3600, "scope": "ops"}


def part(value: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


BAD = {
    "alg none": jwt.encode(CLAIMS, None, algorithm="none"),
    "alg None by hand": f"{part({'alg': 'None'})}.{part(CLAIMS)}.",
    "other algorithm": jwt.encode(CLAIMS, JWT_SECRET * 2, algorithm="HS512"),
    "foreign secret": token(secret="x" * 40),
    "unknown kid": token(headers={"kid": "k1"}),
    "path in kid": token(headers={"kid": "../../dev/null"}),
    "jku": token(headers={"jku": "http://127.0.0.1/keys"}),
    "embedded jwk": token(headers={"jwk": {"kty": "oct", "k": "eA"}}),
    "crit": token(headers={"crit": ["exp"]}),
    "wrong typ": token(headers={"typ": "at+jwt"}),
    "no exp": token(exp=None),
    "no iat": token(iat=None),
    "no aud": token(aud=None),
    "aud a list": token(aud=["ua-ops"]),
    "other aud": token(aud="other"),
    "other iss": token(iss="somebody"),
    "expired": token(iat=NOW - 3600, exp=NOW),
    "31 s late": token(iat=NOW - 3600, exp=NOW - 31),
    "nbf in the future": token(nbf=NOW + 100),
    "iat in the future": token(iat=NOW + 100),
    "life of ten years": token(exp=NOW + 315_360_000),
    "exp a string": token(exp=str(NOW + 60)),
    "exp true": token(exp=True),
    "sub a number": token(sub=7),
    "cut signature": token()[:-4],
    "no signature": token().rsplit(".", 1)[0] + ".",
    "dots": "...",
    "two dots": "..",
    "wrong": "wrong",
    "nearly": OPS_TOKEN[:-1],
    "more": OPS_TOKEN + "x",
}


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD.keys())
def test_every_bad_token_gets_the_same_401(api: Api, bad: str) -> None:
    answers = [
        httpx.get(api.url + MISSIONS, headers=headers)
        for headers in ({"Authorization": f"Bearer {bad}"}, {"x-ua-ops-token": bad})
    ]

    assert [(a.status_code, a.json()) for a in answers] == [(401, {"detail": "Unauthorized"})] * 2


def test_no_token_at_all_is_the_same_401(api: Api) -> None:
    assert httpx.get(api.url + MISSIONS).json() == {"detail": "Unauthorized"}
    assert httpx.get(api.url + MISSIONS, headers={"x-ua-ops-token": ""}).json() == {"detail": "Unauthorized"}
    assert httpx.get(api.url + MISSIONS, headers={"Authorization": "Bearer"}).json() == {"detail": "Unauthorized"}
    assert httpx.post(api.url + PUBLISH, json={}).status_code == 401


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": f"Bearer {OPS_TOKEN}"},
        {"Authorization": f"bearer {OPS_TOKEN}"},
        {"x-ua-ops-token": OPS_TOKEN},
        {"Authorization": f"Bearer {token()}"},
        {"x-ua-ops-token": token()},
        {"Authorization": f"Bearer {token(scope=None)}"},
        {"Authorization": f"Bearer {token('publish', jti=None)}"},
    ],
)
def test_a_good_token_is_accepted_wherever_it_may_stand(api: Api, headers: dict[str, str]) -> None:
    assert httpx.get(api.url + MISSIONS, headers=headers).status_code == 200


def test_only_the_first_token_present_is_judged(api: Api) -> None:
    headers = {"Authorization": "Bearer wrong", "x-ua-ops-token": OPS_TOKEN}

    assert httpx.get(api.url + MISSIONS, headers=headers).status_code == 401


@pytest.mark.parametrize("scope", ["factory", "wizard", "", "OPS"])
def test_a_valid_token_of_another_scope_is_forbidden(api: Api, scope: str) -> None:
    with api.as_token(token(scope, factory_id="desk-7")) as client:
        assert client.get(MISSIONS).status_code == 403
        assert client.post(PUBLISH, json={}).status_code == 403


def test_ambiguous_and_exposed_tokens_are_bad_requests(api: Api) -> None:
    twice = [("Authorization", f"Bearer {OPS_TOKEN}"), ("Authorization", "Bearer other")]

    assert httpx.get(api.url + MISSIONS, headers=twice).status_code == 400
    assert httpx.get(f"{api.url}{MISSIONS}?token={OPS_TOKEN}").status_code == 400


def test_the_static_token_can_be_switched_off(database_url: str) -> None:
    with served(settings_for(database_url, UA_OPS_AUTH_ALLOW_LEGACY="no")) as api:
        assert api.ops.get(MISSIONS).status_code == 401
        with api.as_token(token()) as client:
            assert client.get(MISSIONS).status_code == 200


def test_the_api_description_is_for_operators_only(api: Api) -> None:
    with api.as_token(token("publish")) as publisher:
        assert publisher.get("/openapi.json").status_code == 403
    described = api.ops.get("/openapi.json").json()

    body = described["paths"][PUBLISH]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert body["anyOf"][0]["properties"]["payload"]["required"] == ["task"]
    assert api.ops.get("/docs").status_code == 404


def test_a_worker_shows_its_health_and_nothing_else(database_url: str) -> None:
    with served(settings_for(database_url, FACTORY_ROLE="LOCAL_WORKER")) as worker:
        assert worker.ops.get("/api/v1/health").status_code == 200
        assert worker.ops.get("/api/v1/hooks/readyz").status_code == 200
        for path in ("/", "/docs", "/openapi.json", "/api/v1/version", MISSIONS, "/api/v1/ops/fleet"):
            assert worker.ops.get(path).status_code == 403
        assert worker.ops.post(PUBLISH, json={}).status_code == 403
        assert httpx.get(worker.url + "/api/v1/ops/fleet").status_code == 401


def test_a_standalone_node_has_no_missions_of_a_fleet(database_url: str) -> None:
    with served(settings_for(database_url, FACTORY_ROLE="STANDALONE_NODE")) as node:
        assert node.ops.post(PUBLISH, json={}).status_code == 403
        assert httpx.post(node.url + PUBLISH, json={}).status_code == 401

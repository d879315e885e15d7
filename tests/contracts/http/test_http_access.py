"""Who may call: one token, judged strictly, and every refusal looks the same."""

import base64
import hashlib
import hmac
import json
from typing import Any

import httpx
import jwt
import pytest
import stranger
from served_api import JWT_SECRET, OPS_TOKEN, PUBLISH, Api, served, settings_for, token

from corporation.clock import utc_now

MISSIONS = "/api/v1/missions"
OPS = "/api/v1/ops/tokens/revoke"
NOW = int(utc_now().timestamp())
CLAIMS = {"iss": "universal-agent", "aud": "ua-ops", "sub": "x", "iat": NOW, "exp": NOW + 3600, "scope": "ops"}
PUBLIC_KEY = b"-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEA%b=\n-----END PUBLIC KEY-----\n" % (b"A" * 42)


def part(value: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


def signed_with(key: bytes, header: Any = None) -> str:
    """A token made without a library, which would refuse such a key."""
    text = f"{part(header or {'alg': 'HS256', 'typ': 'JWT'})}.{part(CLAIMS)}"
    signature = hmac.new(key, text.encode(), hashlib.sha256).digest()
    return f"{text}.{base64.urlsafe_b64encode(signature).rstrip(b'=').decode()}"


CATALOGUE = {
    "alg none": jwt.encode(CLAIMS, None, algorithm="none"),
    "HS256 with the public key": signed_with(PUBLIC_KEY),
    "foreign key": token(secret="x" * 40),
    "unknown kid": token(headers={"kid": "k1"}),
    "path in kid": token(headers={"kid": "../../dev/null"}),
    "jku": token(headers={"jku": "http://127.0.0.1/keys"}),
    "embedded jwk": token(headers={"jwk": {"kty": "oct", "k": "eA"}}),
    "crit": token(headers={"crit": ["exp"]}),
    "wrong typ": token(headers={"typ": "at+jwt"}),
    "no exp": token(exp=None),
    "no aud": token(aud=None),
    "aud a list": token(aud=["ua-ops"]),
    "other aud": token(aud="other"),
    "other iss": token(iss="somebody"),
    "expired": token(iat=NOW - 3600, exp=NOW),
    "10 s late": token(iat=NOW - 3600, exp=NOW - 10),
    "31 s late": token(iat=NOW - 3600, exp=NOW - 31),
    # So far that it is still the future for the last of many tests.
    "nbf in the future": token(nbf=NOW + 3000),
    "iat in the future": token(iat=NOW + 3000),
    "life of 10 years": token(exp=NOW + 315_360_000),
    "exp a string": token(exp=str(NOW + 60)),
    "cut signature": token()[:-4],
    "empty": "",
    "...": "...",
    "15 KiB": token(sub="x" * 10_000)[:-2],
}
"""The tokens of the catalogue (bad input §5). Its last two are below: a megabyte, and one with a newline at its end.

It has one more, without `jti`: the contract accepts that (H-11).
"""

MORE = {
    "alg None by hand": f"{part({'alg': 'None'})}.{part(CLAIMS)}.",
    "other algorithm": jwt.encode(CLAIMS, JWT_SECRET * 2, algorithm="HS512"),
    "no iat and 10 years": token(iat=None, exp=NOW + 315_360_000),
    "exp true": token(exp=True),
    "sub a number": token(sub=7),
    "no signature": token().rsplit(".", 1)[0] + ".",
    "two dots": "..",
    "wrong": "wrong",
    "nearly": OPS_TOKEN[:-1],
    "more": OPS_TOKEN + "x",
    "a factory's credential": "fc_" + OPS_TOKEN,
}


@pytest.mark.parametrize("bad", (CATALOGUE | MORE).values(), ids=(CATALOGUE | MORE).keys())
def test_every_bad_token_gets_the_same_401(api: Api, bad: str) -> None:
    """H-8, H-9, H-10"""
    answers = [
        stranger.request(method, api.url + path, headers=headers)
        for headers in ({"Authorization": f"Bearer {bad}".strip()}, {"x-ua-ops-token": bad})
        for method, path in (("GET", MISSIONS), ("POST", OPS))
    ]

    assert [(a.status_code, a.content) for a in answers] == [(401, b'{"detail":"Unauthorized"}')] * 4
    assert {frozenset(a.headers.items() - varying(a)) for a in answers} == {
        frozenset(answers[0].headers.items() - varying(answers[0]))
    }
    assert all(a.headers["www-authenticate"] == "Bearer" for a in answers)


def varying(answer: httpx.Response) -> set[tuple[str, str]]:
    return {(name, value) for name, value in answer.headers.items() if name in ("date", "x-request-id")}


def test_a_megabyte_of_token_is_turned_away_before_it_is_judged(api: Api) -> None:
    """The limit on headers is met first, and nothing of it is kept or echoed."""
    head = b"GET /api/v1/missions HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer "
    answer = api.exchange(head + b"a" * 1_000_000 + b"\r\n\r\n")

    assert answer.split(b" ", 2)[1] in (b"431", b"400")
    assert b"aaaa" not in answer


def test_a_newline_after_a_token_ends_the_header_and_is_no_part_of_it(api: Api) -> None:
    """The same token with the newline as text is refused in the pure tests: no header can carry it."""
    head = b"GET /api/v1/missions HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer "
    answer = api.exchange(head + token().encode() + b"\n\r\n")

    assert answer.split(b" ", 2)[1] in (b"200", b"400")


def test_no_token_at_all_is_the_same_401(api: Api) -> None:
    """H-7, H-10"""
    assert stranger.get(api.url + MISSIONS).json() == {"detail": "Unauthorized"}
    assert stranger.get(api.url + MISSIONS, headers={"x-ua-ops-token": ""}).json() == {"detail": "Unauthorized"}
    assert stranger.get(api.url + MISSIONS, headers={"Authorization": "Bearer"}).json() == {"detail": "Unauthorized"}
    assert stranger.post(api.url + PUBLISH, json={}).status_code == 401


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": f"Bearer {OPS_TOKEN}"},
        {"Authorization": f"bearer {OPS_TOKEN}"},
        {"Authorization": f"BEARER   {OPS_TOKEN}"},
        {"x-ua-ops-token": OPS_TOKEN},
        {"Authorization": "Basic YTpi", "x-ua-ops-token": OPS_TOKEN},
        {"Authorization": f"Bearer {token()}"},
        {"x-ua-ops-token": token()},
        {"Authorization": f"Bearer {token(scope=None)}"},
        {"Authorization": f"Bearer {token('publish')}"},
        {"Authorization": f"Bearer {token('publish', jti=None)}"},
    ],
)
def test_a_good_token_is_accepted_wherever_it_may_stand(api: Api, headers: dict[str, str]) -> None:
    """H-7; without `scope` it means ops, and one without `jti` is accepted until it expires (H-11)."""
    assert stranger.get(api.url + MISSIONS, headers=headers).status_code == 200


def test_only_the_first_token_present_is_judged(api: Api) -> None:
    """H-7"""
    for first in ("wrong", ""):
        headers = {"Authorization": f"Bearer {first}".strip(), "x-ua-ops-token": OPS_TOKEN}

        assert stranger.get(api.url + MISSIONS, headers=headers).status_code == 401


@pytest.mark.parametrize("scope", ["factory", "wizard", "", "OPS"])
def test_a_valid_token_of_another_scope_is_forbidden(api: Api, scope: str) -> None:
    """H-10, H-11"""
    with api.as_token(token(scope, factory_id="desk-7")) as client:
        assert client.get(MISSIONS).status_code == 403
        assert client.post(PUBLISH, json={}).status_code == 403


@pytest.mark.parametrize("header", ["Authorization", "x-ua-ops-token"])
def test_two_tokens_of_one_kind_are_a_bad_request(api: Api, header: str) -> None:
    prefix = "Bearer " if header == "Authorization" else ""
    twice = [(header, prefix + OPS_TOKEN), (header, prefix + "other")]

    assert stranger.get(api.url + MISSIONS, headers=twice).status_code == 400


@pytest.mark.parametrize("name", ["token", "access_token", "Token", "jwt", "x-ua-ops-token"])
def test_a_token_in_the_address_is_a_bad_request_also_with_a_good_one_beside_it(api: Api, name: str) -> None:
    for sent in (OPS_TOKEN, token(), "wrong"):
        answer = api.ops.get(f"{MISSIONS}?{name}={sent}")

        assert answer.status_code == 400
        assert sent not in answer.text


def test_the_static_token_can_be_switched_off(shared_url: str) -> None:
    """H-9"""
    with served(settings_for(shared_url, UA_OPS_AUTH_ALLOW_LEGACY="no")) as api:
        assert api.ops.get(MISSIONS).status_code == 401
        with api.as_token(token()) as client:
            assert client.get(MISSIONS).status_code == 200


def test_without_a_signing_secret_a_token_with_two_dots_is_never_the_static_one(shared_url: str) -> None:
    """H-8"""
    dotted = f"a.{OPS_TOKEN}.b"
    with (
        served(settings_for(shared_url, UA_OPS_JWT_SECRET="", UA_OPS_TOKEN=dotted)) as api,
        api.as_token(dotted) as client,
    ):
        assert client.get(MISSIONS).status_code == 401


def guesses(api: Api, count: int = 62) -> list[httpx.Response]:
    """The answers to so many wrong tokens from one address."""
    with stranger.client(api.url) as client:
        return [client.get(MISSIONS, headers={"Authorization": "Bearer wrong"}) for _ in range(count)]


def test_brute_force_is_slowed_down_and_locks_out_nobody_whose_token_cannot_be_guessed(api: Api) -> None:
    answers = guesses(api)

    assert [a.status_code for a in answers] == [401] * 60 + [429] * 2
    assert 1 <= int(answers[-1].headers["retry-after"]) <= 60
    assert answers[-1].json()["detail"].startswith("too_many_requests: ")
    for good in (OPS_TOKEN, token(), token("publish", jti=None)):
        with api.as_token(good) as client:
            assert {client.get(MISSIONS).status_code for _ in range(3)} == {200}
    assert stranger.get(api.url + MISSIONS).status_code == 401
    with api.as_token(token(secret="x" * 40)) as client:
        assert client.get(MISSIONS).status_code == 429
    assert guesses(api, 1)[0].status_code == 429


def test_a_static_token_that_could_be_guessed_is_refused_with_the_guesses(shared_url: str) -> None:
    """Else guessing at it would not be slowed down; 32 bytes are enough."""
    for length, status in ((31, 429), (32, 200)):
        with served(settings_for(shared_url, UA_OPS_TOKEN=OPS_TOKEN[:length])) as api:
            with api.as_token(OPS_TOKEN[:length]) as owner:
                before = owner.get(MISSIONS).status_code
                guesses(api, 60)
                after = owner.get(MISSIONS)
            assert (before, after.status_code) == (200, status)
            assert ("retry-after" in after.headers) is (status == 429)


def test_a_token_of_an_issuer_whose_clock_is_a_little_ahead_is_accepted(api: Api) -> None:
    with api.as_token(token(iat=int(utc_now().timestamp()) + 3)) as client:
        assert client.get(MISSIONS).status_code == 200


def test_who_never_fails_and_who_shows_nothing_is_never_slowed_down(api: Api) -> None:
    with stranger.client(api.url) as client:
        assert {client.get(MISSIONS).status_code for _ in range(70)} == {401}
    assert {api.ops.get(MISSIONS).status_code for _ in range(70)} == {200}


def test_the_api_description_is_for_operators_only(api: Api) -> None:
    with api.as_token(token("publish")) as publisher:
        assert publisher.get("/openapi.json").status_code == 403
    described = api.ops.get("/openapi.json").json()

    body = described["paths"][PUBLISH]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert body["anyOf"][0]["properties"]["payload"]["required"] == ["task"]
    assert api.ops.get("/docs").status_code == 404


def test_a_worker_shows_its_health_and_nothing_else(shared_url: str) -> None:
    with served(settings_for(shared_url, FACTORY_ROLE="LOCAL_WORKER")) as worker:
        assert worker.ops.get("/api/v1/health").status_code == 200
        assert worker.ops.get("/api/v1/hooks/readyz").status_code == 200
        for path in ("/", "/docs", "/openapi.json", "/api/v1/version", MISSIONS, "/api/v1/ops/fleet"):
            assert worker.ops.get(path).status_code == 403
        assert worker.ops.post(PUBLISH, json={}).status_code == 403
        assert stranger.get(worker.url + "/api/v1/ops/fleet").status_code == 401


def test_a_standalone_node_has_no_missions_of_a_fleet(shared_url: str) -> None:
    with served(settings_for(shared_url, FACTORY_ROLE="STANDALONE_NODE")) as node:
        assert node.ops.post(PUBLISH, json={}).status_code == 403
        assert stranger.post(node.url + PUBLISH, json={}).status_code == 401

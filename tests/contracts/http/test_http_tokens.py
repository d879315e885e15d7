"""Credentials become tokens of an hour, and tokens end when they are revoked (contract http §2, §4, H-21)."""

from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any

import httpx
import jwt
import pytest
import stranger
from canary import MARK, secret
from served_api import JWT_SECRET, OPS_TOKEN, Api, forgetful, registered, served, settings_for, token

from corporation.tokens import credentials

MINT = "/auth/ops-token"
REVOKE = "/api/v1/ops/tokens/revoke"
MISSIONS = "/api/v1/missions"
BEATS = "/api/v1/factory/registrations"
INTERNAL = secret("internal")
DESK_7 = credentials.PREFIX + secret("desk-7")
DESK_8 = credentials.PREFIX + secret("desk-8")


@pytest.fixture(scope="module")
def module_api(module_servers: tuple[str, str], wait_until: Callable[..., Any]) -> Iterator[Api]:
    """A headquarters with every kind of secret."""
    with served(settings_for(module_servers[0], UA_INTERNAL_API_TOKEN=INTERNAL)) as api:
        registered(api, wait_until)
        yield api


@pytest.fixture
def api(module_api: Api, shared_url: str) -> Api:
    """The same with an empty ledger, but for a credential each of two factories."""
    del shared_url
    issue(module_api, "desk-7", DESK_7)
    issue(module_api, "desk-8", DESK_8)
    return forgetful(module_api)


def issue(api: Api, factory_id: str, credential: str) -> None:
    with api.engine.begin() as connection:
        credentials.issue(connection, factory_id, credential)


def mint(api: Api, credential: str | None, **wish: Any) -> httpx.Response:
    headers = {"Authorization": f"Bearer {credential}"} if credential else {}
    return stranger.post(api.url + MINT, headers=headers, json=wish)


def claims_of(answer: httpx.Response) -> dict[str, Any]:
    assert answer.status_code == 200, answer.text
    return jwt.decode(answer.json()["token"], JWT_SECRET, algorithms=["HS256"], audience="ua-ops")


def test_a_bootstrap_credential_is_exchanged_for_a_token_of_an_hour(api: Api) -> None:
    """H-11"""
    answer = mint(api, INTERNAL, subject="night shift")
    claims = claims_of(answer)
    body = answer.json()

    assert list(body) == ["token", "token_type", "ttl_seconds", "expires_at", "jti"]
    assert body["jti"] == claims["jti"]
    assert (body["token_type"], body["ttl_seconds"]) == ("Bearer", 3600)
    assert len(body["expires_at"]) == len("2026-06-01T09:00:00.000000+00:00")
    assert body["expires_at"].endswith("+00:00")
    assert datetime.fromisoformat(body["expires_at"]).timestamp() == claims["exp"] == claims["iat"] + 3600
    assert set(claims) == {"iss", "aud", "sub", "iat", "exp", "jti", "scope"}
    assert (claims["iss"], claims["sub"], claims["scope"]) == ("universal-agent", "night shift", "ops")
    assert answer.headers["cache-control"] == "no-store"
    with api.as_token(body["token"]) as client:
        assert client.get(MISSIONS).status_code == 200


def test_each_exchange_gives_another_token(api: Api) -> None:
    assert claims_of(mint(api, INTERNAL))["jti"] != claims_of(mint(api, INTERNAL))["jti"]


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": f"Bearer {INTERNAL}"},
        {"Authorization": f"bearer {OPS_TOKEN}"},
        {"x-ua-internal-token": INTERNAL},
        {"x-ua-internal-token": OPS_TOKEN},
        {"x-ua-ops-token": OPS_TOKEN},
        {"x-ua-ops-token": INTERNAL},
        {"x-ua-internal-token": INTERNAL, "x-ua-ops-token": "wrong"},
    ],
)
def test_the_credential_may_stand_in_three_places(api: Api, headers: dict[str, str]) -> None:
    assert stranger.post(api.url + MINT, headers=headers).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Bearer", "x-ua-internal-token": INTERNAL},
        {"Authorization": "Bearer wrong", "x-ua-internal-token": INTERNAL},
        {"x-ua-internal-token": "wrong", "x-ua-ops-token": OPS_TOKEN},
        {"x-ua-internal-token": "", "x-ua-ops-token": OPS_TOKEN},
        {"x-ua-ops-token": OPS_TOKEN[:-1]},
        {"Authorization": f"Bearer {credentials.PREFIX}unknown"},
        {"Authorization": f"Bearer {DESK_7[:-1]}"},
        {"Authorization": f"Bearer {token()}"},
        {"x-ua-internal-token": token("factory", factory_id="desk-7")},
    ],
)
def test_only_the_first_one_present_is_judged_and_no_jwt_makes_a_jwt(api: Api, headers: dict[str, str]) -> None:
    """H-7, H-10, §4"""
    answer = stranger.post(api.url + MINT, headers=headers)

    assert (answer.status_code, answer.content) == (401, b'{"detail":"Unauthorized"}')
    assert answer.headers["www-authenticate"] == "Bearer"


def test_ambiguous_and_exposed_credentials_are_bad_requests(api: Api) -> None:
    twice = [("x-ua-internal-token", INTERNAL), ("x-ua-internal-token", "other")]

    assert stranger.post(api.url + MINT, headers=twice).status_code == 400
    assert stranger.post(f"{api.url}{MINT}?token={INTERNAL}").status_code == 400


def test_the_internal_token_opens_nothing_else(api: Api) -> None:
    for headers in ({"Authorization": f"Bearer {INTERNAL}"}, {"x-ua-internal-token": INTERNAL}):
        assert stranger.get(api.url + MISSIONS, headers=headers).status_code == 401
    assert stranger.get(api.url + MISSIONS, headers={"x-ua-internal-token": OPS_TOKEN}).status_code == 401


def test_a_credential_opens_nothing_else(api: Api) -> None:
    for path in (MISSIONS, BEATS):
        with api.as_token(DESK_7) as client:
            assert client.post(path, json={"factory_id": "desk-7"}).status_code in (401, 405)


@pytest.mark.parametrize(
    ("role", "credential", "unset", "status"),
    [
        ("LOCAL_WORKER", OPS_TOKEN, (), 403),
        ("STANDALONE_NODE", OPS_TOKEN, (), 403),
        ("STANDALONE_NODE", None, ("UA_OPS_TOKEN",), 403),
        ("HEADQUARTERS", None, ("UA_OPS_TOKEN",), 503),
        ("HEADQUARTERS", "wrong", ("UA_OPS_TOKEN",), 503),
        ("HEADQUARTERS", None, (), 401),
        ("HEADQUARTERS", "wrong", ("UA_OPS_JWT_SECRET",), 401),
        ("HEADQUARTERS", OPS_TOKEN, ("UA_OPS_JWT_SECRET",), 503),
        ("HEADQUARTERS", OPS_TOKEN, (), 200),
    ],
)
def test_what_is_checked_first_answers(
    shared_url: str, role: str, credential: str | None, unset: tuple[str, ...], status: int
) -> None:
    """§4: the role, then the credential, then the signing secret."""
    changes = {"FACTORY_ROLE": role} | dict.fromkeys(unset, "")
    with served(settings_for(shared_url, **changes)) as api:
        answer = mint(api, credential)

        assert answer.status_code == status
        assert OPS_TOKEN not in answer.text
        if status == 503:
            assert "UA_" in answer.json()["detail"]


def test_a_factory_gets_its_token_where_no_other_credential_is_configured(shared_url: str) -> None:
    """§4: a factory credential passes both checks."""
    with served(settings_for(shared_url, UA_OPS_TOKEN="")) as api:
        issue(api, "desk-7", DESK_7)

        assert mint(api, DESK_7, scope="factory", factory_id="desk-7").status_code == 200
        assert mint(api, DESK_8, scope="factory", factory_id="desk-8").status_code == 503


def test_the_operators_own_tokens_may_be_exchanged_where_the_static_one_opens_nothing(shared_url: str) -> None:
    """§4 names UA_OPS_TOKEN without the condition of H-9: that is how one gets away from it."""
    with served(settings_for(shared_url, UA_OPS_AUTH_ALLOW_LEGACY="0")) as api:
        assert api.ops.get(MISSIONS).status_code == 401
        assert mint(api, OPS_TOKEN).status_code == 200


@pytest.mark.parametrize(
    ("wish", "subject", "scope"),
    [
        ({}, "ops", "ops"),
        ({"subject": None, "scope": None, "factory_id": None}, "ops", "ops"),
        ({"subject": "  "}, "ops", "ops"),
        ({"subject": " desk "}, "desk", "ops"),
        ({"scope": "publish"}, "ops", "publish"),
        ({"scope": "publish", "factory_id": "desk-7"}, "ops", "publish"),
        ({"subject": "x", "surprise": [1]}, "x", "ops"),
    ],
)
def test_the_operator_gets_what_he_asks_for(api: Api, wish: dict[str, Any], subject: str, scope: str) -> None:
    claims = claims_of(mint(api, INTERNAL, **wish))

    assert (claims["sub"], claims["scope"]) == (subject, scope)
    assert "factory_id" not in claims


def test_the_operator_may_ask_for_any_factory(api: Api) -> None:
    claims = claims_of(mint(api, INTERNAL, scope="factory", factory_id=" bench-2 "))

    assert (claims["sub"], claims["scope"], claims["factory_id"]) == ("ops", "factory", "bench-2")


@pytest.mark.parametrize(
    ("wish", "loc"),
    [
        ({"scope": "wizard"}, "scope"),
        ({"scope": "OPS"}, "scope"),
        ({"scope": ["ops"]}, "scope"),
        ({"scope": "factory"}, "factory_id"),
        ({"scope": "factory", "factory_id": "  "}, "factory_id"),
        ({"scope": "factory", "factory_id": 7}, "factory_id"),
        ({"scope": "factory", "factory_id": "x" * 201}, "factory_id"),
        ({"subject": 7}, "subject"),
        ({"subject": "x" * 201}, "subject"),
        ({"subject": "a\0b"}, "subject"),
    ],
)
def test_a_wish_that_cannot_be_granted_says_which_field(api: Api, wish: dict[str, Any], loc: str) -> None:
    """H-3"""
    answer = mint(api, INTERNAL, **wish)

    assert answer.status_code == 422
    assert [problem["loc"] for problem in answer.json()["detail"]] == [["body", loc]]


@pytest.mark.parametrize(
    ("body", "media", "status"),
    [
        (b"", None, 200),
        (b"", "application/json", 200),
        (b"{}", "application/json", 200),
        (b"{}", None, 415),
        (b"{}", "text/plain", 415),
        (b"null", "application/json", 422),
        (b"[]", "application/json", 422),
        (b"{", "application/json", 400),
        (b'{"scope": "ops", "scope": "publish"}', "application/json", 400),
        (b'{"subject": "' + b"x" * 300_000 + b'"}', "application/json", 413),
    ],
)
def test_the_body_is_strict_and_may_be_left_out(api: Api, body: bytes, media: str | None, status: int) -> None:
    headers = {"Authorization": f"Bearer {INTERNAL}"} | ({"Content-Type": media} if media else {})

    assert stranger.post(api.url + MINT, headers=headers, content=body).status_code == status


def test_a_stranger_makes_us_read_no_body(api: Api) -> None:
    headers = {"Authorization": "Bearer wrong", "Content-Type": "text/plain"}

    assert stranger.post(api.url + MINT, headers=headers, content=b"{").status_code == 401


def test_a_factory_gets_a_token_for_itself(api: Api) -> None:
    """H-21, H-11"""
    answer = mint(api, DESK_7, scope="factory", factory_id="desk-7", subject="somebody else")
    claims = claims_of(answer)

    assert (claims["sub"], claims["scope"], claims["factory_id"]) == ("desk-7", "factory", "desk-7")
    with api.as_token(answer.json()["token"]) as client:
        assert client.post(BEATS, json={"factory_id": "desk-7"}).status_code == 200
        assert client.post(BEATS, json={"factory_id": "desk-8"}).status_code == 403
        assert client.get(MISSIONS).status_code == 403


@pytest.mark.parametrize(
    "wish",
    [
        {},
        {"scope": "ops"},
        {"scope": "publish"},
        {"scope": "publish", "factory_id": "desk-7"},
        {"scope": "factory", "factory_id": "desk-8"},
        {"scope": "factory", "factory_id": "hq-east"},
    ],
)
def test_a_factory_gets_nothing_else(api: Api, wish: dict[str, Any]) -> None:
    """§4: other requests are 403."""
    assert mint(api, DESK_7, **wish).status_code == 403


def test_a_credential_ends_with_the_next_one_and_with_its_revocation(api: Api) -> None:
    """H-21"""
    newer = credentials.PREFIX + secret("desk-7-again")
    wish = {"scope": "factory", "factory_id": "desk-7"}
    issue(api, "desk-7", newer)
    assert (mint(api, DESK_7, **wish).status_code, mint(api, newer, **wish).status_code) == (401, 200)

    with api.engine.begin() as connection:
        credentials.revoke(connection, "desk-7")
    assert mint(api, newer, **wish).status_code == 401
    assert mint(api, DESK_8, scope="factory", factory_id="desk-8").status_code == 200


def test_a_revoked_token_is_refused_at_once_and_everywhere(api: Api) -> None:
    """H-10, H-11; bad input §5"""
    given = mint(api, INTERNAL).json()["token"]
    token_id = jwt.decode(given, options={"verify_signature": False})["jti"]
    with api.as_token(given) as client:
        assert client.get(MISSIONS).status_code == 200
        answer = api.ops.post(REVOKE, json={"jti": token_id})

        assert (answer.status_code, answer.json()) == (200, {"ok": True, "jti": token_id})
        for path in (MISSIONS, f"{MISSIONS}/j-1/log", "/openapi.json", "/api/v1/factory/capabilities"):
            assert (client.get(path).status_code, client.get(path).json()) == (401, {"detail": "Unauthorized"})
        assert client.post(BEATS, json={"factory_id": "x"}).status_code == 401
        assert client.post(REVOKE, json={"jti": "other"}).status_code == 401
        assert client.get(MISSIONS, headers={"Authorization": f"Bearer {OPS_TOKEN}"}).status_code == 200


def test_a_factorys_token_can_be_revoked_and_it_gets_another(api: Api) -> None:
    wish = {"scope": "factory", "factory_id": "desk-7"}
    first, second = (mint(api, DESK_7, **wish).json()["token"] for _ in range(2))
    api.ops.post(REVOKE, json={"jti": jwt.decode(first, options={"verify_signature": False})["jti"]})

    for given, status in ((first, 401), (second, 200)):
        with api.as_token(given) as client:
            assert client.post(BEATS, json={"factory_id": "desk-7"}).status_code == status


def test_revoking_again_and_what_nobody_has_gives_the_same_answer(api: Api) -> None:
    """§4: idempotent."""
    answers = [api.ops.post(REVOKE, json={"jti": "no-such-token", "why": "x"}) for _ in range(3)]

    assert [(a.status_code, a.json()) for a in answers] == [(200, {"ok": True, "jti": "no-such-token"})] * 3
    assert api.sql("SELECT jti, revoked_by FROM corporation.revoked_tokens") == [("no-such-token", "ops")]


def test_a_token_may_end_itself(api: Api) -> None:
    with api.as_token(token(jti="mine", sub="night shift")) as client:
        assert client.post(REVOKE, json={"jti": "mine"}).status_code == 200
        assert client.post(REVOKE, json={"jti": "mine"}).status_code == 401
    assert api.sql("SELECT revoked_by FROM corporation.revoked_tokens") == [("night shift",)]


def test_a_revocation_outlives_the_process(shared_url: str) -> None:
    """H-11"""
    settings = settings_for(shared_url)
    with served(settings) as api:
        api.ops.post(REVOKE, json={"jti": "t-9"})
    with served(settings) as api, api.as_token(token(jti="t-9")) as client:
        assert client.get(MISSIONS).status_code == 401


@pytest.mark.parametrize(
    "body", [{}, {"jti": ""}, {"jti": 7}, {"jti": None}, {"jti": "x" * 301}, {"jti": "a\0b"}, {"jti": ["a"]}]
)
def test_what_is_no_jti_is_refused(api: Api, body: dict[str, Any]) -> None:
    answer = api.ops.post(REVOKE, json=body)

    assert answer.status_code == 422
    assert answer.json()["detail"][0]["loc"] == ["body", "jti"]


@pytest.mark.parametrize(
    ("role", "bearer", "status"),
    [
        ("HEADQUARTERS", None, 401),
        ("HEADQUARTERS", token("publish"), 403),
        ("HEADQUARTERS", token("factory", factory_id="desk-7"), 403),
        ("HEADQUARTERS", INTERNAL, 401),
        ("STANDALONE_NODE", OPS_TOKEN, 403),
        ("STANDALONE_NODE", None, 401),
        ("LOCAL_WORKER", OPS_TOKEN, 403),
        ("LOCAL_WORKER", None, 401),
    ],
)
def test_only_an_operator_revokes_and_only_at_headquarters(
    shared_url: str, role: str, bearer: str | None, status: int
) -> None:
    headers = {"Authorization": f"Bearer {bearer}"} if bearer else {}
    with served(settings_for(shared_url, FACTORY_ROLE=role, UA_INTERNAL_API_TOKEN=INTERNAL)) as api:
        assert stranger.post(api.url + REVOKE, headers=headers, json={"jti": "t-1"}).status_code == status


def test_a_ledger_that_is_away_never_opens_the_door() -> None:
    with served(settings_for("postgresql://127.0.0.1:1/nowhere", UA_INTERNAL_API_TOKEN=INTERNAL)) as api:
        with api.as_token(token()) as client:
            answer = client.get(MISSIONS)
            assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
        with api.as_token(token(secret="x" * 40)) as client:
            assert client.get(MISSIONS).status_code == 401
        assert mint(api, DESK_7, scope="factory", factory_id="desk-7").status_code == 503
        # It would open nothing now, and nobody could write down later who made it.
        assert mint(api, INTERNAL).status_code == 503
        assert mint(api, "wrong").status_code == 401


def test_brute_force_on_credentials_is_slowed_down_after_five_and_locks_no_owner_out(api: Api) -> None:
    """Bad input §5"""
    guesses = ["wrong", DESK_7 + "x", OPS_TOKEN + "x", token(), f"{credentials.PREFIX}x", "wrong", INTERNAL[:-1]]
    answers = [mint(api, guess) for guess in guesses]

    assert [a.status_code for a in answers] == [401] * 5 + [429] * 2
    assert 1 <= int(answers[-1].headers["retry-after"]) <= 60
    assert [mint(api, own).status_code for own in (INTERNAL, OPS_TOKEN)] == [200, 200]
    assert mint(api, DESK_7, scope="factory", factory_id="desk-7").status_code == 200
    assert mint(api, None).status_code == 401
    assert mint(api, "wrong").status_code == 429
    assert api.ops.get(MISSIONS).status_code == 200


@pytest.mark.parametrize("name", ["UA_INTERNAL_API_TOKEN", "UA_OPS_TOKEN"])
def test_a_credential_that_could_be_guessed_is_refused_with_the_guesses(shared_url: str, name: str) -> None:
    for length, status in ((31, 429), (32, 200)):
        own = INTERNAL[:length]
        with served(settings_for(shared_url, **{name: own})) as api:
            before = mint(api, own).status_code
            guesses = [mint(api, "wrong").status_code for _ in range(5)]

            assert (before, guesses, mint(api, own).status_code) == (200, [401] * 5, status)


def test_a_credential_gives_three_hundred_tokens_a_minute(api: Api) -> None:
    """A node with many processes has one credential, and each process mints for itself."""
    with stranger.client(api.url, headers={"x-ua-internal-token": INTERNAL}) as client:
        assert {client.post(MINT, json={"scope": "wizard"}).status_code for _ in range(3)} == {422}
        codes = [client.post(MINT).status_code for _ in range(301)]

    assert codes == [200] * 300 + [429]
    assert mint(api, DESK_7, scope="factory", factory_id="desk-7").status_code == 200


def test_no_answer_and_no_row_holds_a_secret(api: Api) -> None:
    """H-4, E-4"""
    bad = [mint(api, sent, scope=secret("scope"), subject=secret("subject")) for sent in (DESK_7 + "x", INTERNAL)]
    wrong = stranger.post(
        f"{api.url}{MINT}", headers={"x-ua-internal-token": INTERNAL}, content=secret("body").encode()
    )

    assert not [answer.text for answer in (*bad, wrong) if MARK in answer.text]
    rows = api.sql("SELECT CAST(c AS text) FROM corporation.factory_credentials AS c")
    assert len(rows) == 2
    assert not [row for row in rows if DESK_7 in row[0] or DESK_8 in row[0]]

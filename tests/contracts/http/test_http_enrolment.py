"""A factory joins with a code that works once, and what it had before ends with that (contract http §5, H-20, H-21)."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from typing import Any

import httpx
import jwt
import pytest
import stranger
from canary import secret
from served_api import JWT_SECRET, Api, forgetful, registered, served, settings_for, token

from corporation.clock import utc_now
from corporation.factories.joining import make, new_code

JOIN_CODES = "/api/v1/ops/factory/join-codes"
ENROL = "/api/v1/factory/enrol"
BEATS = "/api/v1/factory/registrations"
MINT = "/auth/ops-token"
HQ_ID = "hq-east"
BROKER = f"redis://:{secret('factories-broker')}@127.0.0.1:6379/0"
KEYS = [
    "factory_id",
    "factory_credential",
    "token",
    "token_type",
    "ttl_seconds",
    "expires_at",
    "hq_base_url",
    "heartbeat_interval_seconds",
    "streams",
    "redis_url",
    "factory_queue",
    "mission_keys",
]


@pytest.fixture(scope="module")
def module_api(module_servers: tuple[str, str], wait_until: Callable[..., Any]) -> Iterator[Api]:
    """A headquarters that has a name and tells factories where its broker is."""
    named = {"UA_FACTORY_ID": HQ_ID, "UA_FACTORY_REDIS_URL": BROKER}
    with served(settings_for(module_servers[0], **named)) as api:
        registered(api, wait_until)
        yield api


@pytest.fixture
def api(module_api: Api, shared_url: str) -> Api:
    """The same with an empty ledger."""
    del shared_url
    return forgetful(module_api)


def code_for(api: Api, factory_id: str | None = None, **more: Any) -> str:
    answer = api.ops.post(JOIN_CODES, json={"factory_id": factory_id, **more})
    assert answer.status_code == 201, answer.text
    return str(answer.json()["join_code"])


def enrol(api: Api, code: str, factory_id: str | None = "desk-8", **more: Any) -> httpx.Response:
    named = {"factory_id": factory_id} if factory_id is not None else {}
    return stranger.post(api.url + ENROL, json={"join_code": code, **named, "hostname": "desk", **more})


def enrolled(api: Api, factory_id: str = "desk-8", *, bound: bool = True) -> dict[str, Any]:
    answer = enrol(api, code_for(api, factory_id if bound else None), factory_id)
    assert answer.status_code == 201, answer.text
    return answer.json()


def beat(api: Api, bearer: str, factory_id: str = "desk-8") -> int:
    with api.as_token(bearer) as client:
        return client.post(BEATS, json={"factory_id": factory_id}).status_code


def mint(api: Api, credential: str, factory_id: str = "desk-8") -> httpx.Response:
    wish = {"scope": "factory", "factory_id": factory_id}
    return stranger.post(api.url + MINT, headers={"Authorization": f"Bearer {credential}"}, json=wish)


@pytest.mark.parametrize("factory_id", ["desk-8", None])
def test_a_join_code_is_told_once_and_only_its_hash_is_kept(api: Api, factory_id: str | None) -> None:
    """H-20"""
    answer = api.ops.post(JOIN_CODES, json={"factory_id": factory_id, "ttl_seconds": 60})
    body = answer.json()
    life = datetime.fromisoformat(body["expires_at"]) - utc_now()

    assert (answer.status_code, list(body)) == (201, ["join_code", "factory_id", "expires_at"])
    assert body["factory_id"] == factory_id
    assert timedelta(seconds=50) < life < timedelta(seconds=61)
    assert len(body["join_code"].replace("-", "")) * 5 >= 128
    [row] = api.sql("SELECT row_to_json(c)::text FROM corporation.join_codes c")
    assert body["join_code"].replace("-", "").lower() not in row[0].replace("-", "").lower()


def test_a_code_lives_fifteen_minutes_unless_told_otherwise(api: Api) -> None:
    expires_at = datetime.fromisoformat(api.ops.post(JOIN_CODES, json={}).json()["expires_at"])

    assert timedelta(seconds=880) < expires_at - utc_now() < timedelta(seconds=901)


@pytest.mark.parametrize(
    "body",
    [
        {"ttl_seconds": 0},
        {"ttl_seconds": -1},
        {"ttl_seconds": "900"},
        {"ttl_seconds": True},
        {"ttl_seconds": 10**12},
        {"factory_id": ""},
        {"factory_id": "  "},
        {"factory_id": "x" * 201},
        {"factory_id": "a\nb"},
        {"factory_id": "a\0b"},
        {"factory_id": 7},
    ],
)
def test_a_code_that_makes_no_sense_is_not_made(api: Api, body: dict[str, Any]) -> None:
    assert api.ops.post(JOIN_CODES, json=body).status_code == 422
    assert api.sql("SELECT 1 FROM corporation.join_codes") == []


@pytest.mark.parametrize(("scope", "status"), [("publish", 403), ("factory", 403), (None, 401)])
def test_only_an_operator_makes_codes(api: Api, scope: str | None, status: int) -> None:
    with api.as_token(token(scope, factory_id="desk-8") if scope else "wrong") as client:
        assert client.post(JOIN_CODES, json={}).status_code == status


def test_a_code_is_exchanged_for_a_credential_and_a_first_token(api: Api) -> None:
    """H-20, H-21"""
    answer = enrol(api, code_for(api), version="4f2a9c1")
    body = answer.json()
    claims = jwt.decode(body["token"], JWT_SECRET, algorithms=["HS256"], audience="ua-ops")

    assert (answer.status_code, list(body)) == (201, KEYS)
    assert answer.headers["cache-control"] == "no-store"
    assert body["factory_credential"].startswith("fc_")
    assert (body["token_type"], body["ttl_seconds"], body["factory_queue"]) == ("Bearer", 3600, "local_factory")
    assert body["hq_base_url"] == api.url
    assert body["streams"] == {
        "missions": "ua:missions:delegation",
        "results": "ua:missions:delegation:results",
        "dlq": "ua:missions:dlq",
        "group": "ua_workers",
    }
    assert {name: claims[name] for name in ("sub", "scope", "factory_id", "epoch")} == {
        "sub": "desk-8",
        "scope": "factory",
        "factory_id": "desk-8",
        "epoch": 1,
    }
    assert datetime.fromisoformat(body["expires_at"]).timestamp() == claims["exp"]
    assert beat(api, body["token"]) == 200
    assert mint(api, body["factory_credential"]).status_code == 200
    [row] = api.sql("SELECT row_to_json(c)::text FROM corporation.factory_credentials c")
    assert body["factory_credential"] not in row[0]


def test_the_row_of_a_newcomer_is_not_alive_before_its_first_beat(api: Api) -> None:
    """F-14"""
    enrolled(api)
    [row] = api.ops.get(BEATS).json()["registrations"]

    assert (row["source"], row["registration_status"], row["metadata"]["hostname"]) == ("enrolment", "offline", "desk")
    assert datetime.fromisoformat(row["last_seen_at"]).year == 1970
    [event] = api.sql("SELECT type, by, detail FROM corporation.factory_events WHERE factory_id = 'desk-8'")
    assert (event.type, event.by, event.detail["hostname"]) == ("enrolled", "ops", "desk")


def test_joining_again_leaves_the_row_as_old_as_it_was_and_forgets_who_spoke_for_it(api: Api) -> None:
    """F-14"""
    first = enrolled(api)
    with api.as_token(first["token"]) as client:
        client.post(BEATS, json={"factory_id": "desk-8", "instance_id": "one", "beat_number": 7, "slots": 3})
    [[seen]] = api.sql("SELECT last_seen_at FROM corporation.factories")
    enrolled(api)

    [row] = api.sql("SELECT last_seen_at, instance_id, beat_number, slots, source FROM corporation.factories")
    assert tuple(row) == (seen, None, None, 3, "enrolment")


def test_a_new_enrolment_ends_the_credential_and_the_tokens_of_the_old_one(api: Api) -> None:
    """H-21"""
    first = enrolled(api)
    exchanged = mint(api, first["factory_credential"]).json()["token"]
    second = enrolled(api)

    assert mint(api, first["factory_credential"]).status_code == 401
    assert [beat(api, old) for old in (first["token"], exchanged)] == [401, 401]
    assert beat(api, second["token"]) == 200
    assert beat(api, mint(api, second["factory_credential"]).json()["token"]) == 200


def test_a_code_works_once(api: Api) -> None:
    """H-20"""
    code = code_for(api)

    assert [enrol(api, code, f"desk-{number}").status_code for number in (1, 2)] == [201, 401]


def test_unknown_used_and_expired_codes_get_the_same_answer(api: Api) -> None:
    """H-20"""
    used, expired = code_for(api), code_for(api)
    assert enrol(api, used).status_code == 201
    api.sql(
        "UPDATE corporation.join_codes SET created_at = now() - interval '1 hour', expires_at = now() - interval '1 s'"
        " WHERE used_at IS NULL"
    )
    answers = [enrol(api, code, "desk-9") for code in (used, expired, new_code(lambda size: b"x" * size))]

    assert {(one.status_code, one.content) for one in answers} == {(401, b'{"detail":"Unauthorized"}')}
    assert api.sql("SELECT 1 FROM corporation.factories WHERE factory_id = 'desk-9'") == []


def test_a_code_may_be_typed_in_any_case_and_without_its_dashes(api: Api) -> None:
    assert enrol(api, code_for(api).lower().replace("-", " ")).status_code == 201


def test_a_code_that_was_made_for_one_factory_is_still_good_after_another_tried_it(api: Api) -> None:
    """H-20"""
    code = code_for(api, "desk-8")

    assert enrol(api, code, "desk-9").status_code == 403
    assert enrol(api, code, "desk-8").status_code == 201


def test_a_code_that_was_made_for_one_factory_tells_it_who_it_is(api: Api) -> None:
    assert enrol(api, code_for(api, "desk-8"), None).json()["factory_id"] == "desk-8"


def test_who_has_a_code_for_anybody_must_say_who_it_is_and_may_try_again(api: Api) -> None:
    code = code_for(api)
    answer = enrol(api, code, None)

    assert answer.status_code == 422
    assert answer.json()["detail"][0]["loc"] == ["body", "factory_id"]
    assert enrol(api, code).status_code == 201


def test_one_code_lets_one_of_many_in_that_come_at_once(api: Api) -> None:
    """H-20"""
    code = code_for(api)
    with ThreadPoolExecutor(16) as threads:
        coming = [threads.submit(enrol, api, code, f"desk-{number}") for number in range(16)]
    statuses = [one.result().status_code for one in coming]

    assert sorted(set(statuses)) == [201, 401] or sorted(set(statuses)) == [201, 401, 429]
    assert statuses.count(201) == 1
    assert len(api.sql("SELECT 1 FROM corporation.factories")) == 1


def test_of_many_codes_for_anybody_one_takes_a_name_and_the_others_stay_good(api: Api) -> None:
    codes = [code_for(api) for _ in range(8)]
    with ThreadPoolExecutor(8) as threads:
        coming = [threads.submit(enrol, api, code) for code in codes]
    statuses = [one.result().status_code for one in coming]

    assert sorted(statuses) == [201, *[409] * 7]
    assert len(api.sql("SELECT 1 FROM corporation.join_codes WHERE used_at IS NULL")) == 7
    assert len(api.sql("SELECT 1 FROM corporation.factory_credentials WHERE revoked_at IS NULL")) == 1


def test_a_code_for_anybody_does_not_take_a_name_from_who_has_it(api: Api) -> None:
    first = enrolled(api)
    answer = enrol(api, code_for(api))

    assert (answer.status_code, answer.json()["detail"].partition(":")[0]) == (409, "already_enrolled")
    assert beat(api, first["token"]) == 200


@pytest.mark.parametrize("bound", [True, False])
def test_nobody_joins_as_headquarters(api: Api, bound: bool) -> None:
    code = code_for(api, HQ_ID if bound else None)

    assert enrol(api, code, HQ_ID).status_code == 403
    assert api.sql("SELECT 1 FROM corporation.factory_credentials") == []


@pytest.mark.parametrize(("taken", "name"), [("desk.8", "desk-8"), (None, "hq.east")])
def test_two_factories_do_not_share_one_queue_name(api: Api, taken: str | None, name: str) -> None:
    """F-2, S-24"""
    if taken:
        enrolled(api, taken)
    code = code_for(api, name)
    answer = enrol(api, code, name)

    assert (answer.status_code, answer.json()["detail"].partition(":")[0]) == (409, "name_taken")
    assert api.sql("SELECT 1 FROM corporation.join_codes WHERE used_at IS NULL") != []


@pytest.mark.parametrize(
    "changes",
    [
        {"join_code": None},
        {"join_code": ""},
        {"join_code": 7},
        {"join_code": "x" * 201},
        {"factory_id": ""},
        {"factory_id": "x" * 201},
        {"factory_id": "\x1b[2J"},
        {"hostname": "\x1b[2J"},
        {"hostname": "x" * 201},
        {"version": ["1"]},
        {"join_code": "a\0b"},
    ],
)
def test_an_enrolment_that_makes_no_sense_is_refused_and_repeats_nothing(api: Api, changes: dict[str, Any]) -> None:
    body = {"join_code": code_for(api), "factory_id": "desk-8", "hostname": "desk", "version": "1"} | changes
    answer = stranger.post(api.url + ENROL, json=body)

    assert answer.status_code == 422
    assert not any(value in answer.text for value in changes.values() if isinstance(value, str) and len(value) > 3)


def test_wrong_codes_are_slowed_down_and_right_ones_are_not(api: Api) -> None:
    good = code_for(api)
    statuses = [enrol(api, new_code(lambda size: b"y" * size)).status_code for _ in range(12)]

    assert statuses == [*[401] * 10, 429, 429]
    assert enrol(api, good).status_code == 201


def test_a_broker_on_loopback_is_told_to_who_comes_from_there(api: Api) -> None:
    assert enrolled(api)["redis_url"] == BROKER


def test_a_broker_on_loopback_is_not_told_to_other_machines(
    module_servers: tuple[str, str], shared_url: str, wait_until: Callable[..., Any]
) -> None:
    del shared_url
    proxied = {"UA_FACTORY_REDIS_URL": BROKER, "UA_GATEWAY_TRUSTED_PROXIES": "127.0.0.1"}
    with served(settings_for(module_servers[0], **proxied)) as api:
        registered(api, wait_until)
        body = {"join_code": code_for(api), "factory_id": "far"}
        far = stranger.post(api.url + ENROL, json=body, headers={"X-Forwarded-For": "10.8.0.7"})

    assert (far.status_code, far.json()["redis_url"]) == (201, None)


def test_what_headquarters_was_told_is_what_a_factory_is_told(
    module_servers: tuple[str, str], shared_url: str, wait_until: Callable[..., Any]
) -> None:
    del shared_url
    told = {
        "UA_HQ_BASE_URL": "https://hq.example",
        "UA_HEARTBEAT_INTERVAL_SECONDS": "60",
        "UA_FACTORY_REDIS_URL": "redis://:x@10.8.0.1:6379/0",
    }
    with served(settings_for(module_servers[0], **told)) as api:
        registered(api, wait_until)
        body = enrolled(api)

    shown = (body["hq_base_url"], body["heartbeat_interval_seconds"], body["redis_url"])
    assert shown == ("https://hq.example", 60, told["UA_FACTORY_REDIS_URL"])


def test_codes_that_ended_long_ago_are_forgotten(api: Api) -> None:
    with api.engine.begin() as connection:
        make(connection, "old", None, "ops", 60)
    api.sql("UPDATE corporation.join_codes SET created_at = now() - interval '3 days'")
    api.sql("UPDATE corporation.join_codes SET expires_at = now() - interval '2 days'")
    code_for(api)

    assert len(api.sql("SELECT 1 FROM corporation.join_codes")) == 1


@pytest.mark.parametrize("path", [JOIN_CODES, ENROL])
def test_a_body_that_is_no_object_is_refused(api: Api, path: str) -> None:
    for content in (b"[]", b"{", b"\xff", b"null"):
        answer = api.ops.post(path, content=content, headers={"Content-Type": "application/json"})
        assert answer.status_code in (400, 422), content

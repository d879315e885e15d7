"""Where HQ makes users of the broker, each factory is told one of its own, and HQ keeps no password."""

import hashlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import unquote, urlsplit

import httpx
import pytest
import stranger
from served_api import Api, forgetful, registered, served, settings_for, token

from corporation.clock import utc_now
from corporation.factories.access import quarantine
from corporation.trust import redis_users

JOIN_CODES = "/api/v1/ops/factory/join-codes"
ENROL = "/api/v1/factory/enrol"
BEATS = "/api/v1/factory/registrations"
PASSWORD = "/api/v1/factory/redis-password"
OPS = "/api/v1/ops/factory/"
WITHOUT_USER = "redis://127.0.0.1:6379/0"
SIGNING = "c2lnbmluZyBrZXkgb2YgYSB0ZXN0LCAzMiBieXRlcyE="


@pytest.fixture(scope="module")
def module_api(module_servers: tuple[str, str], wait_until: Callable[..., Any]) -> Iterator[Api]:
    """A headquarters that tells factories where its broker is, and no password."""
    named = {"UA_FACTORY_ID": "hq-east", "UA_FACTORY_REDIS_URL": WITHOUT_USER, "UA_MISSION_SIGNING_KEY": SIGNING}
    with served(settings_for(module_servers[0], **named)) as api:
        registered(api, wait_until)
        yield api


@pytest.fixture
def api(module_api: Api, shared_url: str) -> Api:
    """The same with an empty ledger."""
    del shared_url
    return forgetful(module_api)


def enrol(api: Api, factory_id: str, *, bound: bool = True) -> httpx.Response:
    code = api.ops.post(JOIN_CODES, json={"factory_id": factory_id if bound else None}).json()["join_code"]
    return stranger.post(api.url + ENROL, json={"join_code": code, "factory_id": factory_id})


def enrolled(api: Api, factory_id: str = "desk-8") -> dict[str, Any]:
    answer = enrol(api, factory_id)
    assert answer.status_code == 201, answer.text
    return answer.json()


def password_in(answer: dict[str, Any]) -> str:
    return unquote(urlsplit(answer["redis_url"]).password or "")


def fetch(api: Api, bearer: str) -> httpx.Response:
    with api.as_token(bearer) as client:
        return client.post(PASSWORD, json={})


def beat(api: Api, bearer: str, factory_id: str = "desk-8") -> dict[str, Any]:
    with api.as_token(bearer) as client:
        return client.post(BEATS, json={"factory_id": factory_id}).json()["instructions"]


def rotate(api: Api, factory_id: str = "desk-8", **more: Any) -> httpx.Response:
    return api.ops.post(OPS + "rotate", json={"target_factory_id": factory_id, **more})


def user(api: Api) -> Any:
    [row] = api.sql("SELECT *, removed_at IS NOT NULL AS removed FROM corporation.redis_users")
    return row


def acts(api: Api) -> list[tuple[str, str, str | None, str]]:
    rows = api.sql("SELECT actor, action, target, outcome FROM corporation.audit_log ORDER BY id")
    return [(row.actor, row.action, row.target, row.outcome) for row in rows]


def test_a_newcomer_is_told_a_user_and_a_queue_of_its_own_and_who_signs(api: Api) -> None:
    told = enrolled(api)
    parts = urlsplit(told["redis_url"])

    assert (parts.username, parts.hostname, parts.port, parts.path) == ("f_desk-8", "127.0.0.1", 6379, "/0")
    assert told["factory_queue"] == "factory.desk-8"
    assert len(told["mission_keys"]) == 1
    row = user(api)
    assert row.password_sha256 == hashlib.sha256(password_in(told).encode()).hexdigest()
    assert (row.user_name, row.enabled, row.applied_at) == ("f_desk-8", True, None)


def test_an_id_that_is_no_name_of_a_user_is_written_so_that_clients_read_it(api: Api) -> None:
    told = enrolled(api, "my.desk:8")

    assert unquote(urlsplit(told["redis_url"]).username or "") == user(api).user_name == "f_my-desk:8"


def test_who_joins_again_gets_another_password_and_the_old_one_ends(api: Api) -> None:
    first, second = enrolled(api), enrolled(api)

    assert password_in(first) != password_in(second)
    row = user(api)
    assert row.password_sha256 == redis_users.hashed(password_in(second))
    assert (row.previous_sha256, row.cut, row.enabled) == (None, True, True)


@pytest.mark.parametrize("factory_id", ["desk_index", "desk_mutex", "desk._index"])
def test_an_id_whose_keys_would_be_another_factorys_is_refused(api: Api, factory_id: str) -> None:
    answer = enrol(api, factory_id)

    assert answer.status_code == 409
    assert answer.json()["detail"].startswith("name_taken: ")
    assert api.sql("SELECT 1 FROM corporation.redis_users") == api.sql("SELECT 1 FROM corporation.factories") == []


def test_two_ids_that_are_one_name_in_redis_cannot_both_join(api: Api) -> None:
    enrolled(api, "desk.8")

    assert enrol(api, "desk-8").json()["detail"].startswith("name_taken: ")
    assert user(api).factory_id == "desk.8"


@pytest.mark.parametrize("address", ["redis://:shared@127.0.0.1:6379/0", "redis://all:shared@127.0.0.1:6379/0", ""])
def test_without_users_of_their_own_factories_share_what_hq_was_told(shared_url: str, address: str) -> None:
    """And one that had a user of its own before has it no more."""
    with served(settings_for(shared_url, UA_FACTORY_REDIS_URL=WITHOUT_USER)) as api:
        enrolled(api)
    with served(settings_for(shared_url, UA_FACTORY_REDIS_URL=address)) as api:
        told = enrolled(api)
        row = user(api)

    assert (told["redis_url"], told["factory_queue"]) == (address or None, "local_factory")
    assert (told["mission_keys"], row.removed) == ([], True)


def test_quarantine_shuts_the_user_out_and_release_lets_it_in(api: Api) -> None:
    enrolled(api)
    api.ops.post(OPS + "quarantine", json={"target_factory_id": "desk-8"})
    shut = user(api)
    api.ops.post(OPS + "release", json={"target_factory_id": "desk-8"})

    assert (shut.enabled, shut.cut) == (False, True)
    assert (user(api).enabled, user(api).password_sha256) == (True, shut.password_sha256)


def test_a_factory_that_is_forgotten_has_no_user_any_more(api: Api) -> None:
    enrolled(api)
    api.ops.delete(f"{BEATS}/desk-8")

    assert user(api).removed


def test_the_fleet_shows_the_user_and_whether_the_broker_follows(api: Api) -> None:
    enrolled(api)
    rotate(api)
    [row] = api.ops.get(BEATS).json()["registrations"]

    shown = row["redis_user"]
    assert (shown["name"], shown["enabled"], shown["applied"], shown["refused_commands"]) == (
        "f_desk-8",
        True,
        False,
        0,
    )
    assert (shown["rotation_asked_at"] is not None, shown["previous_until"]) == (True, None)


def test_a_factory_is_asked_with_each_beat_until_it_has_fetched_its_new_password(api: Api) -> None:
    told = enrolled(api)
    assert "rotate_redis_password" not in beat(api, told["token"])
    asked, again = rotate(api, note="it is June"), rotate(api)
    beats = [beat(api, told["token"])["rotate_redis_password"] for _ in range(2)]
    answer = fetch(api, told["token"])

    assert asked.json() == {"ok": True, "factory_id": "desk-8", "changed": True}
    assert again.json()["changed"] is False
    assert beats == [True, True]
    assert "rotate_redis_password" not in beat(api, told["token"])
    body = answer.json()
    assert (answer.status_code, answer.headers["cache-control"], body["redis_user"]) == (201, "no-store", "f_desk-8")
    left = datetime.fromisoformat(body["previous_until"]) - utc_now()
    assert timedelta(minutes=14) < left < timedelta(minutes=16)
    row = user(api)
    assert row.password_sha256 == redis_users.hashed(body["redis_password"])
    assert row.previous_sha256 == redis_users.hashed(password_in(told))


def test_who_has_taken_a_new_password_is_not_asked_for_another_while_the_old_one_is_good(api: Api) -> None:
    """A third would make worthless the one that is in use."""
    told = enrolled(api)
    rotate(api)
    used = fetch(api, told["token"]).json()["redis_password"]

    assert rotate(api).json()["changed"] is False
    assert "rotate_redis_password" not in beat(api, told["token"])
    assert user(api).password_sha256 == redis_users.hashed(used)


def test_a_quarantine_that_comes_while_a_factory_joins_is_not_undone_by_it(
    api: Api, wait_until: Callable[..., Any]
) -> None:
    """Reproduced before: the factory in quarantine had a user that was let in, with a fresh password."""
    enrolled(api)
    waiting = (
        "SELECT count(*) AS n FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    )
    with ThreadPoolExecutor(1) as another:
        with api.engine.begin() as connection:
            quarantine(connection, "desk-8", "ana", None)
            joining = another.submit(enrol, api, "desk-8")
            wait_until(lambda: api.sql(waiting)[0].n, 10, "it waits for the quarantine")
        answer = joining.result(timeout=10)

    assert (answer.status_code, answer.json()["detail"].partition(":")[0]) == (403, "quarantined")
    assert user(api).enabled is False


def test_only_the_factory_itself_is_told_its_password(api: Api) -> None:
    told = enrolled(api)
    other = enrolled(api, "desk-9")

    assert fetch(api, token("publish")).status_code == 403
    assert api.ops.post(PASSWORD, json={}).status_code == 403
    assert stranger.post(api.url + PASSWORD, json={}).status_code == 401
    assert fetch(api, other["token"]).json()["redis_user"] == "f_desk-9"
    [[kept]] = api.sql("SELECT password_sha256 FROM corporation.redis_users WHERE factory_id = 'desk-8'")
    assert kept == redis_users.hashed(password_in(told))


def test_who_was_shut_out_fetches_no_password(api: Api) -> None:
    told = enrolled(api)
    api.ops.post(OPS + "quarantine", json={"target_factory_id": "desk-8"})

    assert fetch(api, told["token"]).status_code == 401
    assert rotate(api).json()["detail"].startswith("quarantined: ")


def test_who_joined_meanwhile_ends_a_password_that_is_being_fetched(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """The token was good when it was shown, and is not when its factory's row is changed."""
    told = enrolled(api)
    rotate_row, second = redis_users.rotate, dict[str, Any]()

    def slowly(connection: Any, factory_id: str, password: str) -> Any:
        second.update(enrolled(api))
        return rotate_row(connection, factory_id, password)

    monkeypatch.setattr(redis_users, "rotate", slowly)

    assert fetch(api, told["token"]).status_code == 401
    assert user(api).password_sha256 == redis_users.hashed(password_in(second))


def test_a_factory_without_a_user_of_its_own_cannot_rotate(api: Api) -> None:
    told = enrolled(api)
    api.sql("DELETE FROM corporation.redis_users")

    for answer in (rotate(api), fetch(api, told["token"])):
        assert (answer.status_code, answer.json()["detail"].partition(":")[0]) == (409, "no_redis_user")
    assert rotate(api, "nobody").status_code == 404
    assert rotate(api, "hq-east").json()["detail"].startswith("own_registration: ")


def test_a_password_that_is_not_changed_in_quarantine_is_in_the_log(api: Api) -> None:
    enrolled(api)
    api.ops.post(OPS + "quarantine", json={"target_factory_id": "desk-8"})

    assert rotate(api).json()["detail"].startswith("quarantined: ")
    assert acts(api)[-1] == ("ops", "factory.rotate", "desk-8", "refused")


def test_a_factory_cannot_have_the_broker_make_passwords_without_end(api: Api) -> None:
    told = enrolled(api)
    statuses = [fetch(api, told["token"]).status_code for _ in range(8)]

    assert statuses == [*[201] * 6, 429, 429]


def test_each_of_these_acts_is_in_the_log_and_no_secret_is(api: Api) -> None:
    told = enrolled(api)
    stranger.post(api.url + ENROL, json={"join_code": "wrong", "factory_id": "desk-8"})
    rotate(api, note="it is June")
    rotate(api)
    fresh = fetch(api, told["token"]).json()["redis_password"]
    for what in ("quarantine", "quarantine", "release"):
        api.ops.post(OPS + what, json={"target_factory_id": "desk-8"})
    api.ops.post(OPS + "rename", json={"target_factory_id": "desk-8", "display_name": "The desk"})

    assert acts(api) == [
        ("ops", "join_code.make", "desk-8", "done"),
        ("join code of ops", "factory.enrol", "desk-8", "done"),
        ("stranger", "factory.enrol", "desk-8", "refused"),
        ("ops", "factory.rotate", "desk-8", "done"),
        ("ops", "factory.rotate", "desk-8", "unchanged"),
        ("desk-8", "redis_password.issue", "desk-8", "done"),
        ("ops", "factory.quarantine", "desk-8", "done"),
        ("ops", "factory.quarantine", "desk-8", "unchanged"),
        ("ops", "factory.release", "desk-8", "done"),
        ("ops", "factory.rename", "desk-8", "done"),
    ]
    written = str(api.sql("SELECT row_to_json(a)::text FROM corporation.audit_log a"))
    assert "rest 127.0.0.1" in written
    secrets = (password_in(told), fresh, told["factory_credential"], told["token"])
    assert [secret for secret in secrets if secret in written] == []


def test_what_redis_refused_a_factory_is_counted_for_monitors(api: Api) -> None:
    enrolled(api)
    api.sql("UPDATE corporation.redis_users SET refused_commands = 3")

    assert 'ua_redis_refused_commands_total{user="f_desk-8"} 3.0' in api.ops.get("/metrics").text

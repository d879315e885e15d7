"""A factory is shut out at once and let in again, and what people call it changes nothing but that."""

from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
import stranger
from served_api import Api, forgetful, registered, served, settings_for, token

from corporation.factories.access import epoch_of, is_barred, quarantine, release, shut_out
from corporation.tokens import credentials

ACCESS = "/api/v1/ops/factory/"
BEATS = "/api/v1/factory/registrations"
CLAIM = "/api/v1/factory/missions/claim"
HQ_ID = "hq-east"


@pytest.fixture(scope="module")
def module_api(module_servers: tuple[str, str], wait_until: Callable[..., Any]) -> Iterator[Api]:
    """A headquarters that has a name."""
    with served(settings_for(module_servers[0], UA_FACTORY_ID=HQ_ID)) as api:
        registered(api, wait_until)
        yield api


@pytest.fixture
def api(module_api: Api, shared_url: str) -> Api:
    """The same, which knows one factory, heard of just now."""
    del shared_url
    module_api.ops.post(BEATS, json={"factory_id": "desk-7"})
    return forgetful(module_api)


def order(api: Api, what: str, factory_id: str = "desk-7", **more: Any) -> httpx.Response:
    return api.ops.post(ACCESS + what, json={"target_factory_id": factory_id, **more})


def beat(api: Api, bearer: str) -> int:
    with api.as_token(bearer) as client:
        return client.post(BEATS, json={"factory_id": "desk-7"}).status_code


def credential_of(api: Api, factory_id: str = "desk-7") -> str:
    fresh = credentials.new_credential(lambda size: b"c" * size)
    with api.engine.begin() as connection:
        credentials.issue(connection, factory_id, fresh)
    return fresh


def mint(api: Api, credential: str) -> httpx.Response:
    wish = {"scope": "factory", "factory_id": "desk-7"}
    return stranger.post(api.url + "/auth/ops-token", headers={"Authorization": f"Bearer {credential}"}, json=wish)


def events(api: Api) -> list[tuple[str, str | None]]:
    rows = api.sql("SELECT type, by FROM corporation.factory_events WHERE factory_id = 'desk-7' ORDER BY id")
    return [(row.type, row.by) for row in rows]


def test_quarantine_ends_every_token_and_the_credential_at_once(api: Api) -> None:
    credential = credential_of(api)
    minted, others = mint(api, credential).json()["token"], token("factory", factory_id="desk-7")
    answer = order(api, "quarantine", note="odd traffic")

    told = {"ok": True, "factory_id": "desk-7", "quarantined": True, "changed": True}
    assert answer.json() == told | {"shared_redis_password": False}
    assert [beat(api, one) for one in (minted, others)] == [401, 401]
    assert mint(api, credential).status_code == 401
    with api.as_token(minted) as client:
        assert client.post(CLAIM, json={"factory_id": "desk-7", "max": 1}).status_code == 401
    [row] = api.ops.get(BEATS).json()["registrations"]
    assert (row["quarantined"], row["quarantine"]["who"], row["quarantine"]["note"]) == (True, "ops", "odd traffic")


def test_release_gives_the_credential_back_and_no_token_of_before(api: Api) -> None:
    credential = credential_of(api)
    old = mint(api, credential).json()["token"]
    order(api, "quarantine")
    answer = order(api, "release")

    assert answer.json() == {"ok": True, "factory_id": "desk-7", "quarantined": False, "changed": True}
    assert beat(api, old) == 401
    assert beat(api, mint(api, credential).json()["token"]) == 200
    assert [event for event in events(api) if event[0] != "online"] == [("quarantined", "ops"), ("released", "ops")]


def test_saying_it_again_changes_nothing_and_hides_nobody(api: Api) -> None:
    order(api, "quarantine", note="first")
    again = order(api, "quarantine", note="second")
    [row] = api.sql("SELECT quarantine_note, epoch FROM corporation.factory_access")

    assert (again.status_code, again.json()["changed"]) == (200, False)
    assert tuple(row) == ("first", 1)
    assert [order(api, "release").json()["changed"] for _ in range(2)] == [True, False]


def test_operators_and_other_factories_are_not_shut_out_with_it(api: Api) -> None:
    order(api, "quarantine")

    assert api.ops.post(BEATS, json={"factory_id": "desk-8"}).status_code == 200
    with api.as_token(token("factory", factory_id="desk-8")) as client:
        assert client.post(BEATS, json={"factory_id": "desk-8"}).status_code == 200


def test_whoever_shows_the_right_credential_hears_that_it_is_in_quarantine_and_nobody_hears_more(api: Api) -> None:
    """Its log can say whom to ask; who guesses, or has one that was revoked, learns nothing (H-10)."""
    credential = credential_of(api)
    order(api, "quarantine")
    shut = mint(api, credential)
    guessed = mint(api, credentials.new_credential(lambda size: b"g" * size))
    api.ops.delete(f"{BEATS}/desk-7").raise_for_status()
    removed = mint(api, credential)

    assert (shut.status_code, shut.json()["detail"].partition(":")[0]) == (401, "quarantined")
    assert shut.headers["www-authenticate"] == "Bearer"
    for other in (guessed, removed):
        assert (other.status_code, other.json()) == (401, {"detail": "Unauthorized"})


def test_nobody_joins_out_of_a_quarantine_and_the_code_stays_good(api: Api) -> None:
    order(api, "quarantine")
    code = api.ops.post(ACCESS + "join-codes", json={"factory_id": "desk-7"}).json()["join_code"]

    def join() -> httpx.Response:
        return stranger.post(api.url + "/api/v1/factory/enrol", json={"join_code": code, "factory_id": "desk-7"})

    refused = join()
    order(api, "release")
    assert (refused.status_code, refused.json()["detail"].partition(":")[0]) == (403, "quarantined")
    assert join().status_code == 201


@pytest.mark.parametrize("what", ["quarantine", "release"])
def test_headquarters_cannot_shut_itself_out(api: Api, what: str) -> None:
    assert order(api, what, HQ_ID).status_code == 409
    assert api.sql("SELECT 1 FROM corporation.factory_access") == []


@pytest.mark.parametrize("what", ["quarantine", "release", "rename"])
def test_a_factory_that_nobody_knows_is_a_404(api: Api, what: str) -> None:
    answer = order(api, what, "nobody", display_name="x")

    assert (answer.status_code, answer.json()["detail"].partition(":")[0]) == (404, "unknown_target")
    assert api.sql("SELECT 1 FROM corporation.factory_access") == []


def test_a_factory_with_a_credential_can_be_shut_out_before_it_ever_spoke(api: Api) -> None:
    credential_of(api, "desk-9")

    assert order(api, "quarantine", "desk-9").status_code == 200


@pytest.mark.parametrize("what", ["quarantine", "release", "rename"])
@pytest.mark.parametrize(("scope", "status"), [("publish", 403), ("factory", 403), (None, 401)])
def test_only_an_operator_may(api: Api, what: str, scope: str | None, status: int) -> None:
    with api.as_token(token(scope, factory_id="desk-7") if scope else "wrong") as client:
        assert client.post(ACCESS + what, json={"target_factory_id": "desk-7"}).status_code == status


@pytest.mark.parametrize("what", ["quarantine", "release", "rename"])
@pytest.mark.parametrize(
    "changes",
    [
        {"target_factory_id": None},
        {"target_factory_id": " "},
        {"target_factory_id": "x" * 201},
        {"note": "a\nb", "display_name": "a\nb"},
        {"note": "\x1b[2J", "display_name": "\x1b[2J"},
        {"note": "x" * 1001, "display_name": "x" * 201},
        {"note": 7, "display_name": 7},
        {"note": "a\0b", "display_name": "a\0b"},
    ],
)
def test_what_makes_no_sense_is_refused(api: Api, what: str, changes: dict[str, Any]) -> None:
    assert api.ops.post(ACCESS + what, json={"target_factory_id": "desk-7"} | changes).status_code == 422
    assert [event for event in events(api) if event[0] in ("quarantined", "released", "renamed")] == []


def test_a_display_name_is_shown_and_the_id_stays(api: Api) -> None:
    """F-1"""
    answer = order(api, "rename", display_name="  The desk ")
    [row] = api.ops.get(BEATS).json()["registrations"]

    assert answer.json() == {"ok": True, "factory_id": "desk-7", "display_name": "The desk"}
    assert (row["factory_id"], row["display_name"]) == ("desk-7", "The desk")
    assert order(api, "rename", display_name="").json()["display_name"] is None
    assert api.sql("SELECT 1 FROM corporation.factories WHERE display_name IS NOT NULL") == []


@pytest.mark.parametrize(
    ("claims", "status"),
    [({"epoch": 0}, 401), ({"epoch": 1}, 200), ({"epoch": 2}, 200), ({}, 401)],
)
def test_a_token_of_an_epoch_that_is_over_counts_no_more(api: Api, claims: dict[str, Any], status: int) -> None:
    with api.engine.begin() as connection:
        assert shut_out(connection, "desk-7") == 1

    # Made a moment before its factory was shut out, unless it says better.
    assert beat(api, token("factory", factory_id="desk-7", **claims)) == status


def test_a_token_without_an_epoch_counts_when_it_is_younger_than_the_epoch(api: Api) -> None:
    with api.engine.begin() as connection:
        shut_out(connection, "desk-7")
    api.sql("UPDATE corporation.factory_access SET epoch_since = now() - interval '10 s'")

    assert beat(api, token("factory", factory_id="desk-7")) == 200


@pytest.mark.parametrize("epoch", [-1, "1", 1.0, True, 2**31, [1]])
def test_an_epoch_that_is_none_makes_no_token(api: Api, epoch: Any) -> None:
    assert beat(api, token("factory", factory_id="desk-7", epoch=epoch)) == 401


def test_a_revoked_token_of_a_factory_is_refused_as_any_other(api: Api) -> None:
    assert beat(api, token("factory", factory_id="desk-7", jti="t-9")) == 200
    api.ops.post("/api/v1/ops/tokens/revoke", json={"jti": "t-9"})

    assert beat(api, token("factory", factory_id="desk-7", jti="t-9")) == 401


def test_what_a_removed_factory_had_from_joining_is_worth_nothing(api: Api) -> None:
    code = api.ops.post(ACCESS + "join-codes", json={"factory_id": "desk-7"}).json()["join_code"]
    joined = stranger.post(api.url + "/api/v1/factory/enrol", json={"join_code": code}).json()
    removed = api.ops.delete(f"{BEATS}/desk-7").json()

    assert removed["deleted"] == 1
    assert mint(api, joined["factory_credential"]).status_code == 401
    assert beat(api, joined["token"]) == 401


def test_being_barred_is_one_question(api: Api) -> None:
    with api.engine.begin() as connection:
        assert not is_barred(connection, "desk-7", 0)
        assert shut_out(connection, "desk-7") == epoch_of(connection, "desk-7") == 1
        assert (is_barred(connection, "desk-7", 0), is_barred(connection, "desk-7", 1)) == (True, False)
        assert not is_barred(connection, "desk-7")
        assert quarantine(connection, "desk-7", "ops", None)
        assert is_barred(connection, "desk-7", 99)
        assert release(connection, "desk-7", "ops")
        assert (is_barred(connection, "desk-7", 1), is_barred(connection, "desk-7", 2)) == (True, False)

"""The dashboard's door: who gets in with what, where the cookie counts, and what it may change (H-13)."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlencode

import httpx
import pytest
import stranger
from canary import secret
from fastapi import Depends
from pydantic import SecretStr
from served_api import JWT_SECRET, OPS_TOKEN, PUBLISH, Api, served, settings_for, token

from corporation.clock import utc_now
from hq_api.app import create_app
from hq_api.dashboard import operator
from hq_api.dashboard.session import COOKIE, open_session, seal

LOGIN, LOGOUT, NODE, FLEET = "/dashboard/login", "/dashboard/logout", "/dashboard", "/dashboard/corporation"
NAVIGATION = "/api/v1/dashboard/navigation"
NOWHERE = "postgresql://nobody@127.0.0.1:1/nothing"
SAME = {"Sec-Fetch-Site": "same-origin"}


@contextmanager
def browser(api: Api, **headers: str) -> Iterator[httpx.Client]:
    """A client that accepts HTML, says where it comes from and keeps cookies, as browsers do."""
    said = {"Accept": "text/html,application/xhtml+xml;q=0.9,*/*;q=0.8"} | SAME | headers
    with stranger.client(api.url, headers=said) as client:
        yield client


def cookie(secret: str = JWT_SECRET, token_jti: str | None = None) -> dict[str, str]:
    """The header of somebody who is signed in."""
    value = seal(open_session("ana", "session-1", utc_now(), token_jti), SecretStr(secret), SecretStr(OPS_TOKEN))
    return {"Cookie": f"{COOKIE}={value}"}


def sign_in(client: httpx.Client, shown: str = OPS_TOKEN, goal: str = "") -> httpx.Response:
    return client.post(LOGIN, data={"token": shown, "next": goal})


def test_a_browser_without_a_session_is_shown_the_login_and_brought_back(api: Api) -> None:
    """H-13"""
    with browser(api) as client:
        away = client.get(FLEET)
        form = client.get(away.headers["location"])
        back = sign_in(client, goal="/dashboard/corporation")

        assert (away.status_code, away.headers["location"]) == (303, f"{LOGIN}?next=%2Fdashboard%2Fcorporation")
        assert form.status_code == 200
        assert '<input type="hidden" name="next" value="/dashboard/corporation">' in form.text
        assert (back.status_code, back.headers["location"]) == (303, FLEET)
        assert [client.get(path).status_code for path in (NODE, FLEET, NAVIGATION)] == [200] * 3
        assert client.get(LOGIN).headers["location"] == NODE


def test_a_program_without_a_token_gets_the_401_of_everywhere_and_the_way_to_the_login(api: Api) -> None:
    """H-10, H-13, and H-2: keys are only added."""
    answers = [stranger.get(api.url + path) for path in (NODE, FLEET, NAVIGATION)]
    answers.append(stranger.get(api.url + NAVIGATION, headers={"Accept": "text/html"}))

    answers.append(stranger.get(api.url + NODE, headers={"Authorization": "Bearer wrong"}))

    assert [(a.status_code, a.json()) for a in answers] == [(401, {"detail": "Unauthorized", "login": LOGIN})] * 5
    assert stranger.get(api.url + "/api/v1/missions").json() == {"detail": "Unauthorized"}


def test_a_program_is_told_how_to_send_the_login_form(api: Api) -> None:
    without = stranger.post(api.url + LOGIN, data={"token": OPS_TOKEN})
    with_origin = stranger.post(api.url + LOGIN, data={"token": OPS_TOKEN}, headers={"Origin": api.url})

    assert (without.status_code, "sends the header Origin" in without.json()["detail"]) == (403, True)
    assert (with_origin.status_code, COOKIE in with_origin.headers["set-cookie"]) == (303, True)


def test_the_cookie_is_kept_from_scripts_and_from_other_sites_for_a_day(api: Api) -> None:
    """H-13"""
    with browser(api) as client:
        attributes = sign_in(client).headers["set-cookie"].split("; ")

    assert attributes[0].startswith(f"{COOKIE}=ey")
    assert sorted(attributes[1:]) == ["HttpOnly", "Max-Age=86400", "Path=/", "SameSite=strict"]


@pytest.mark.parametrize(
    ("profile", "origin", "secure"),
    [
        ("local_workstation", None, False),
        ("local_workstation", "http://hq.example", False),
        ("local_workstation", "https://hq.example", True),
        ("vps", None, True),
    ],
)
def test_the_cookie_travels_over_https_only_wherever_there_is_https(
    shared_url: str, profile: str, origin: str | None, secure: bool
) -> None:
    headers = {"Host": "hq.example"} | ({"Origin": origin} if origin else {})
    settings = settings_for(shared_url, UA_DEPLOYMENT_PROFILE=profile)
    with served(settings) as api, browser(api, **headers) as client:
        assert ("Secure" in sign_in(client).headers["set-cookie"].split("; ")) is secure


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/api/v1/missions"),
        ("GET", "/api/v1/missions/j-1"),
        ("GET", "/api/v1/missions/j-1/log"),
        ("POST", PUBLISH),
        ("GET", "/api/v1/factory/capabilities"),
        ("POST", "/api/v1/factory/registrations"),
        ("POST", "/api/v1/ops/tokens/revoke"),
        ("POST", "/auth/ops-token"),
        ("GET", "/openapi.json"),
    ],
)
def test_outside_the_dashboard_the_cookie_is_nothing(api: Api, method: str, path: str) -> None:
    """H-13"""
    assert stranger.request(method, api.url + path, headers=cookie() | SAME, json={}).status_code == 401


@pytest.mark.parametrize("path", [NODE, FLEET, NAVIGATION])
def test_a_token_opens_the_dashboard_only_with_the_scope_ops(api: Api, path: str) -> None:
    """H-10, H-13"""
    shown = {"ops": 200, "publish": 403, "factory": 403, "wizard": 403}
    tokens = {scope: {"Authorization": f"Bearer {token(scope, factory_id='desk-7')}"} for scope in shown}
    answers = {scope: stranger.get(api.url + path, headers=headers).status_code for scope, headers in tokens.items()}

    assert answers == shown
    assert api.ops.get(path).status_code == 200
    assert stranger.get(api.url + path, headers={"x-ua-ops-token": OPS_TOKEN}).status_code == 200


def test_a_wrong_token_is_not_saved_by_a_good_cookie(api: Api) -> None:
    """H-7: only the first one present is judged."""
    headers = cookie() | {"Authorization": "Bearer wrong"}

    assert stranger.get(api.url + NAVIGATION, headers=headers).status_code == 401
    assert stranger.get(api.url + NAVIGATION, headers=cookie()).status_code == 200


def test_a_cookie_is_no_token_and_a_token_no_cookie(api: Api) -> None:
    """H-13"""
    value = cookie()["Cookie"].partition("=")[2]

    assert stranger.get(api.url + "/api/v1/missions", headers={"Authorization": f"Bearer {value}"}).status_code == 401
    assert stranger.get(api.url + NAVIGATION, headers={"Authorization": f"Bearer {value}"}).status_code == 401
    assert stranger.get(api.url + NAVIGATION, headers={"Cookie": f"{COOKIE}={token()}"}).status_code == 401
    assert stranger.get(api.url + NAVIGATION, headers={"Cookie": f"{COOKIE}={OPS_TOKEN}"}).status_code == 401


def test_a_cookie_that_was_touched_or_planted_beside_ours_is_nothing(api: Api) -> None:
    """H-13; every way of touching it is in tests/core/test_dashboard_session.py."""
    good, foreign = cookie()["Cookie"], cookie(secret("another"))["Cookie"]

    for value in (good[:-1], foreign, f"{good}; {foreign}", f"{foreign}; {good}", f"{COOKIE}="):
        assert stranger.get(api.url + NAVIGATION, headers={"Cookie": value}).status_code == 401
    assert stranger.get(api.url + NAVIGATION, headers={"Cookie": f"theme=dark; {good}"}).status_code == 200


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Sec-Fetch-Site": "same-origin"}, 200),
        ({"Origin": "http://testserver"}, 200),
        ({"Sec-Fetch-Site": "same-origin", "Origin": "null"}, 200),
        ({}, 401),
        ({"Sec-Fetch-Site": "same-site"}, 401),
        ({"Sec-Fetch-Site": "cross-site", "Origin": "http://testserver"}, 401),
        ({"Sec-Fetch-Site": "none"}, 401),
        ({"Origin": "null"}, 401),
        ({"Origin": "http://evil.example"}, 401),
        ({"Referer": "http://testserver/dashboard"}, 401),
    ],
)
def test_a_change_made_with_the_cookie_comes_from_our_pages_or_not_at_all(
    api: Api, headers: dict[str, str], status: int
) -> None:
    """H-13; a token in a header needs no such proof, since no other site can make a browser send it."""
    change, token_of_ops = "/api/v1/dashboard/change", {"x-ua-ops-token": OPS_TOKEN}

    assert guarded(api, "POST", change, cookie() | headers) == status
    assert guarded(api, "DELETE", change, cookie() | headers) == status
    assert guarded(api, "GET", change, cookie() | headers) == 200
    assert guarded(api, "POST", change, token_of_ops | headers) == 200


@pytest.mark.parametrize("path", ["/api/v1/dashboardx", "/dashboardx", "/api/v1/elsewhere", "/dashboard/../elsewhere"])
def test_a_route_that_was_guarded_by_mistake_is_not_opened_by_the_cookie(api: Api, path: str) -> None:
    """H-13"""
    assert guarded(api, "GET", path, cookie() | SAME) != 200
    assert guarded(api, "GET", "/dashboard/page", cookie() | SAME) == 200


def guarded(api: Api, method: str, path: str, headers: dict[str, str]) -> int:
    """The status of a request to the application with a route of `path` that asks for an operator."""
    app = create_app(settings_for(NOWHERE, FACTORY_ROLE="STANDALONE_NODE"))
    app.state.ledger = api.engine
    app.add_api_route(path, lambda: "done", methods=[method], dependencies=[Depends(operator)])

    async def ask() -> int:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://testserver") as client:
            return (await client.request(method, path, headers=headers)).status_code

    return asyncio.run(ask())


@pytest.mark.parametrize("headers", [{"Sec-Fetch-Site": "cross-site"}, {"Sec-Fetch-Site": "same-site"}, {}])
def test_another_sites_form_signs_nobody_in_or_out(api: Api, headers: dict[str, str]) -> None:
    foreign = headers | {"Origin": "http://evil.example"}
    answer = stranger.post(api.url + LOGIN, data={"token": OPS_TOKEN}, headers=foreign)
    signed_out = stranger.post(api.url + LOGOUT, headers=cookie() | foreign)

    assert (answer.status_code, "set-cookie" in answer.headers) == (403, False)
    assert (signed_out.status_code, "set-cookie" in signed_out.headers) == (401, False)
    assert stranger.get(api.url + NAVIGATION, headers=cookie()).status_code == 200


@pytest.mark.parametrize(
    "shown",
    ["", "wrong", OPS_TOKEN[:-1], token("publish"), token("factory", factory_id="desk-7"), token(exp=1), "..", "\x00é"],
)
def test_every_token_that_opens_nothing_gets_the_same_page(api: Api, shown: str) -> None:
    """H-10"""
    with browser(api) as client:
        refused, empty = sign_in(client, shown), sign_in(client, "")

    assert (refused.status_code, refused.text) == (401, empty.text)
    assert "set-cookie" not in refused.headers
    assert "This token was not accepted" in refused.text


def test_guessing_at_the_login_ends_after_five_tries_a_minute(api: Api) -> None:
    with browser(api) as client:
        guesses = [sign_in(client, f"guess-{number}").status_code for number in range(6)]
        late = sign_in(client, "the last guess")

    assert guesses == [401] * 5 + [429]
    assert (late.status_code, "set-cookie" in late.headers) == (429, False)
    assert 1 <= int(late.headers["retry-after"]) <= 60
    assert "try again in" in late.text
    assert api.ops.get(NODE).status_code == 200


def test_others_guesses_lock_out_nobody_but_whose_token_could_be_guessed(shared_url: str) -> None:
    for length, status in ((31, 429), (32, 303)):
        own = OPS_TOKEN[:length]
        with served(settings_for(shared_url, UA_OPS_TOKEN=own)) as api, browser(api) as before, browser(api) as after:
            sign_in(before, own)
            guesses = [sign_in(after, "wrong").status_code for _ in range(5)]

            assert (guesses, sign_in(after, own).status_code) == ([401] * 5, status)
            assert sign_in(after, token()).status_code == 303
            assert before.get(NODE).status_code == 200


@pytest.mark.parametrize("goal", ["//evil.example", "https://evil.example", "/dashboard/login", "/\\evil", "\r\nX: y"])
def test_the_login_leads_to_our_own_pages_only(api: Api, goal: str) -> None:
    with browser(api) as client:
        assert f'value="{NODE}"' in client.get(f"{LOGIN}?{urlencode({'next': goal})}").text
        assert sign_in(client, goal=goal).headers["location"] == NODE
        assert client.get(f"{LOGIN}?{urlencode({'next': goal})}").headers["location"] == NODE


def test_without_a_signing_secret_the_login_says_what_to_set(shared_url: str) -> None:
    with served(settings_for(shared_url, UA_OPS_JWT_SECRET="")) as api, browser(api) as client:
        answers = [client.get(LOGIN), sign_in(client)]

        assert [answer.status_code for answer in answers] == [503, 503]
        assert all("UA_OPS_JWT_SECRET" in answer.text and "<form" not in answer.text for answer in answers)
        assert client.get(NAVIGATION, headers=cookie("")).status_code == 401
        assert api.ops.get(NODE).status_code == 200


def test_a_form_is_read_up_to_its_limit_and_in_its_one_format(api: Api) -> None:
    with browser(api) as client:
        assert client.post(LOGIN, data={"token": "x" * 20_000}).status_code == 413
        assert client.post(LOGIN, json={"token": OPS_TOKEN}).status_code == 415
        assert client.post(LOGIN, files={"token": OPS_TOKEN.encode()}).status_code == 415
        assert client.post(LOGIN, content=f"token={OPS_TOKEN}&token=x", headers=FORM).status_code == 400
        assert client.post(LOGIN, content=(b"token=" + b"x" * 9000 for _ in range(2)), headers=FORM).status_code == 413


def test_a_token_in_the_address_is_refused_and_never_shown(api: Api) -> None:
    with browser(api) as client:
        answer = client.get(f"{LOGIN}?token={OPS_TOKEN}")

    assert answer.status_code == 400
    assert OPS_TOKEN not in answer.text


def test_signing_out_ends_the_session_for_every_copy_of_the_cookie(api: Api) -> None:
    with browser(api) as client:
        sign_in(client)
        copy = {"Cookie": f"{COOKIE}={client.cookies[COOKIE]}"}
        assert stranger.get(api.url + NAVIGATION, headers=copy).status_code == 200
        out = client.post(LOGOUT)
        again = client.post(LOGOUT)

        assert [(a.status_code, a.headers["location"]) for a in (out, again)] == [(303, LOGIN)] * 2
        assert COOKIE not in client.cookies
        assert stranger.get(api.url + NAVIGATION, headers=copy).status_code == 401
        assert client.get(NODE).status_code == 303


def test_revoking_a_token_ends_the_sessions_that_were_opened_with_it(api: Api) -> None:
    with browser(api) as client:
        sign_in(client, token(jti="lent-1"))
        assert client.get(NODE).status_code == 200

        assert api.ops.post("/api/v1/ops/tokens/revoke", json={"jti": "lent-1"}).status_code == 200
        assert client.get(NODE).status_code == 303
        assert sign_in(client, token(jti="lent-1")).status_code == 401


def test_a_new_secret_ends_every_session(shared_url: str) -> None:
    for name in ("UA_OPS_JWT_SECRET", "UA_OPS_TOKEN"):
        with served(settings_for(shared_url, **{name: secret("rotated")})) as api:
            assert stranger.get(api.url + NAVIGATION, headers=cookie()).status_code == 401
    with served(settings_for(shared_url)) as api:
        assert stranger.get(api.url + NAVIGATION, headers=cookie()).status_code == 200


def test_a_node_without_a_ledger_has_no_dashboard_and_takes_no_cookie(shared_url: str) -> None:
    """It could not know which sessions were ended; a worker's UI is switched on in vain."""
    changes = {"FACTORY_ROLE": "LOCAL_WORKER", "UA_CAPABILITY_GATEWAY_MODE": "full", "UA_CAPABILITY_START_UI": "1"}
    with served(settings_for(shared_url, **changes)) as worker:
        codes = {worker.ops.get(path).status_code for path in (NODE, FLEET, NAVIGATION, LOGIN)}
        posted = [stranger.post(worker.url + path, headers=cookie() | SAME).status_code for path in (LOGIN, LOGOUT)]

        assert (codes, posted) == ({404}, [404, 404])
        worker.app.add_api_route("/dashboard/page", lambda: "done", dependencies=[Depends(operator)])
        assert stranger.get(worker.url + "/dashboard/page", headers=cookie() | SAME).status_code == 401
        assert worker.ops.get("/dashboard/page").status_code == 200


def test_whoever_comes_by_a_link_from_elsewhere_may_go_on_with_their_session(api: Api) -> None:
    """A strict cookie is not sent with the first request after a link on another site."""
    with browser(api, **{"Sec-Fetch-Site": "cross-site"}) as client:
        assert f'<a href="{FLEET}">Continue</a>' in client.get(f"{LOGIN}?next={FLEET}").text


FORM = {"Content-Type": "application/x-www-form-urlencoded"}

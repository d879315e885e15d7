"""Every address asks who is there before it reads anything, lets in whom its description names, and nobody else."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import every_route
import httpx
import pytest
from every_route import BY_CREDENTIAL, CALLERS, OPEN, Known, Operation

# `every_route` is imported first: it says where the served application of the contracts' tests lies.
import stranger  # isort: skip
from served_api import OPS_TOKEN, Api, forgetful, settings_for, token  # isort: skip

from fastapi.routing import APIRoute, iter_route_contexts  # isort: skip
from hq_api.api_description import scopes_of  # isort: skip
from hq_api.app import create_app  # isort: skip
from hq_api.edge import SECURITY_HEADERS  # isort: skip

OPERATIONS: Final = every_route.operations()
ASKING: Final = [one for one in OPERATIONS if one.scopes is not None]
NOT_DESCRIBED: Final = {
    "/openapi.json": ("ops",),
    "/dashboard": ("ops",),
    "/dashboard/corporation": ("ops",),
    "/dashboard/": None,  # leads to the first of these
    "/dashboard/login": None,
    "/dashboard/logout": None,  # asks for the same origin, and ends what the cookie opened
    "/dashboard/static/{name}": None,  # our style sheet, which the login page needs
}
"""What people open, and who may; None is everybody."""


@pytest.fixture(scope="module")
def inhabited(
    module_servers: tuple[str, str], wait_until: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Api, Known]]:
    folder: Path = tmp_path_factory.mktemp("artifacts")
    with every_route.inhabited(*module_servers, wait_until, folder) as all_of_it:
        yield all_of_it


@pytest.fixture
def api(inhabited: tuple[Api, Known]) -> Api:
    """A headquarters in which there is something of everything; it knows of no failure."""
    return forgetful(inhabited[0])


def ask(api: Api, operation: Operation, **options: Any) -> httpx.Response:
    """The answer to a request whose body is no JSON at all, at an address where nothing is."""
    path = operation.path
    for name in ("job_id", "attempt_id", "dlq_id", "factory_id"):
        path = path.replace(f"{{{name}}}", "nothing-there")
    headers = options.pop("headers", {})
    if operation.method == "POST":
        options["content"] = b'{"half'
        headers = {"Content-Type": "application/json", **headers}
    return stranger.request(operation.method, api.url + path, headers=headers, **options)


def bearer(secret: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {secret}"}


def test_whoever_is_there_is_in_the_description_or_in_the_table_of_this_file() -> None:
    """A new address is described, or named above with who may ask."""
    app = create_app(settings_for("postgresql://nowhere/nothing"))
    described = {one.path for one in OPERATIONS}
    others = {
        str(context.path_format): scopes_of(context.original_route)
        for context in iter_route_contexts(app.routes)
        if isinstance(context.original_route, APIRoute) and context.path_format not in described
    }

    assert others == NOT_DESCRIBED
    assert {one.path for one in OPERATIONS if one.scopes is None} == OPEN | BY_CREDENTIAL


def test_a_stranger_is_401_everywhere_before_a_byte_of_the_body_is_judged(api: Api) -> None:
    """H-7, H-10: except where the credential itself is in the body, the body comes after the token."""
    answers = {one.name: ask(api, one) for one in OPERATIONS if one.path not in OPEN | {"/api/v1/factory/enrol"}}

    assert {answer.status_code for answer in answers.values()} == {401}, statuses(answers)
    for name, answer in answers.items():
        assert (name, answer.json()["detail"], answer.headers["www-authenticate"]) == (name, "Unauthorized", "Bearer")


def test_what_everybody_may_ask_says_nothing_about_missions_or_factories(
    api: Api, inhabited: tuple[Api, Known]
) -> None:
    said = "".join(stranger.get(api.url + path).text for path in OPEN)

    named = [*inhabited[1].by_parameter["job_id"], *inhabited[1].by_parameter["attempt_id"], every_route.FACTORY_ID]
    assert not [name for name in named if f'"{name}"' in said]


@pytest.mark.parametrize("scope", CALLERS)
def test_each_scope_passes_where_it_is_named_and_is_403_everywhere_else(api: Api, scope: str) -> None:
    """H-10, H-11: also with a body that nobody could read."""
    shown = bearer(every_route.tokens()[scope])
    answers = {one.name: ask(api, one, headers=shown).status_code for one in ASKING}

    refused = {one.name for one in ASKING if scope not in (one.scopes or ())}
    assert {name for name, status in answers.items() if status == 403} == refused
    assert set(answers.values()) <= {200, 400, 403, 404, 409}, answers


def wrong_tokens() -> dict[str, str]:
    return {
        "guessed": "x" * 40,
        "expired": token(exp=1_780_000_000, iat=1_779_996_400),
        "of another issuer": token(iss="somebody"),
        "for somebody else": token(aud="ua-dashboard"),
        "of another secret": token(secret="y" * 40),
        "unsigned": token().rpartition(".")[0] + ".",
        "pointing at its key": token(headers={"jku": "https://evil.example/keys"}),
        "of a factory without a name": token("factory", factory_id=None, jti=None),
        "of no scope we know": token("wizard", jti=None),
    }


@pytest.mark.parametrize("kind", wrong_tokens())
def test_no_token_that_is_wrong_in_any_way_opens_anything(api: Api, kind: str) -> None:
    """H-8, H-11: what is valid but grants nothing is 403, all else 401."""
    shown = bearer(wrong_tokens()[kind])
    answers = {}
    for one in ASKING:
        answers[one.name] = ask(forgetful(api), one, headers=shown)

    expected = 403 if kind in ("of a factory without a name", "of no scope we know") else 401
    assert {answer.status_code for answer in answers.values()} == {expected}, statuses(answers)


def test_a_name_with_a_line_break_in_it_is_a_name_and_asks_like_every_other(api: Api) -> None:
    """S-3: a mission from the stream may be called anything, and is found by its name all the same."""
    api.sql("UPDATE corporation.missions SET job_id = E'two\nlines' WHERE job_id = 'waits'")
    try:
        found = [api.ops.get(f"/api/v1/missions/two%0Alines{more}").status_code for more in ("", "/events", "/explain")]
        strange = [stranger.post(f"{api.url}/api/v1/missions/two%0Alines{more}").status_code for more in ("/cancel",)]
    finally:
        api.sql("UPDATE corporation.missions SET job_id = 'waits' WHERE job_id = E'two\nlines'")

    assert (found, strange) == ([200] * 3, [401])


def test_the_cookie_opens_the_dashboards_addresses_and_no_other(api: Api) -> None:
    """H-13."""
    origin = {"Origin": api.url, "Content-Type": "application/x-www-form-urlencoded"}
    signed_in = stranger.post(f"{api.url}/dashboard/login", content=f"token={OPS_TOKEN}", headers=origin)
    cookie = signed_in.headers["set-cookie"].partition(";")[0]

    shown = {"Cookie": cookie, "Sec-Fetch-Site": "same-origin"}
    opened = {one.name for one in ASKING if ask(api, one, headers=shown).status_code != 401}

    assert opened == {one.name for one in ASKING if one.path.startswith("/api/v1/dashboard/")}
    assert {one.name for one in ASKING if {"dashboard": []} in one.says["security"]} == opened


def test_a_change_with_the_cookie_from_another_site_is_401(api: Api) -> None:
    """H-13: by the browser's own word, whatever the page says."""
    origin = {"Origin": api.url, "Content-Type": "application/x-www-form-urlencoded"}
    signed_in = stranger.post(f"{api.url}/dashboard/login", content=f"token={OPS_TOKEN}", headers=origin)
    cookie = signed_in.headers["set-cookie"].partition(";")[0]
    changes = [one for one in ASKING if one.method != "GET" and one.path.startswith("/api/v1/dashboard/")]

    assert changes
    for told in ({"Sec-Fetch-Site": "cross-site"}, {"Sec-Fetch-Site": "same-site"}, {"Origin": "https://evil"}, {}):
        for one in changes:
            assert ask(api, one, headers={"Cookie": cookie, **told}).status_code == 401


def test_every_answer_is_dressed_whatever_it_says(api: Api) -> None:
    """Refusals, answers, what is not there, files and pages alike."""
    shown = bearer(OPS_TOKEN)
    answers = [ask(api, one, headers=told) for one in OPERATIONS for told in ({}, shown)]
    answers += [stranger.get(api.url + path) for path in ("/nowhere", "/dashboard/login", "/dashboard/static/x")]
    answers += [stranger.request("TRACE", api.url + "/"), stranger.options(api.url + "/api/v1/missions")]

    for answer in answers:
        for name in SECURITY_HEADERS:
            assert name in answer.headers, (answer.request.url, answer.status_code, name)
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "server" not in answer.headers
        assert "strict-transport-security" not in answer.headers  # it came in clear


def statuses(answers: dict[str, httpx.Response]) -> dict[str, int]:
    return {name: answer.status_code for name, answer in answers.items()}

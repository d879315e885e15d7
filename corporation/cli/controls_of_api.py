"""The controls of HQ's API that a stranger at its door could try: it is asked, not believed."""

from typing import Final

import httpx

from corporation.cli.client import HqClient
from corporation.cli.connection import connection_in, find_base_url
from corporation.cli.control import Control, judged
from corporation.cli.exits import NO_PERMISSION, Refusal
from corporation.cli.security_view import View
from corporation.embedded.stack_state import StateFolderError

ANSWER_SECONDS: Final = 3
CLOSED: Final = ("/docs", "/redoc", "/openapi.json", "/api/v1/missions", "/api/v1/ops/audit")
STRANGE: Final = "https://stranger.invalid"
NAMES: Final = ("closed doors", "strange pages")


def of_api(view: View) -> list[Control]:
    """What HQ answers somebody who shows nothing, and whether a token that never ends is good there."""
    try:
        base_url = find_base_url(view.environ, view.folder)
        found = _doors(base_url)
    except (Refusal, StateFolderError, httpx.HTTPError, ValueError) as error:
        seen = f"HQ's API gave no answer ({type(error).__name__})"
        found = [Control(name, "unknown", seen, "start it with `corporation up`") for name in NAMES]
    return [*found, static_token(view)]


def _doors(base_url: str) -> list[Control]:
    with httpx.Client(base_url=base_url, timeout=ANSWER_SECONDS, trust_env=False) as http:
        answers = {path: http.get(path, headers={"origin": STRANGE}) for path in CLOSED}
    ajar = [path for path, answer in answers.items() if answer.status_code not in (401, 403, 404)]
    let_in = any(answer.headers.get("access-control-allow-origin") in ("*", STRANGE) for answer in answers.values())
    doors = f"{', '.join(ajar)} answered somebody who showed nothing" if ajar else f"{len(CLOSED)} tried, none opened"
    pages = "any page of the internet may read its answers" if let_in else "another page's script is told nothing"
    return [
        judged(NAMES[0], not ajar, doors, "let nothing stand between callers and HQ that answers for it"),
        judged(NAMES[1], not let_in, pages, "remove that header from the proxy; see UA_CORS_ALLOWED_ORIGINS"),
    ]


def static_token(view: View) -> Control:
    """The token of the operator, which never ends, opens nothing; HQ is asked where there is one that may be sent."""
    advice = "mint tokens that end at /auth/ops-token, and set UA_OPS_AUTH_ALLOW_LEGACY=0"
    name, accepted = "no endless token", _accepts(view)
    if accepted is None and (not view.settings.ops_auth_allow_legacy or _is_not_needed(view)):
        return Control(name, "on", "none is set, or none is allowed here")
    if accepted is None:
        return Control(name, "unknown", "HQ was not asked: it is away, or no such token is here", advice)
    seen = "UA_OPS_TOKEN is taken, and never ends" if accepted else "UA_OPS_TOKEN is not taken"
    return judged(name, not accepted, seen, advice, advised=True)


def _is_not_needed(view: View) -> bool:
    """Whether these settings are the API's, and know tokens that end and no other."""
    return view.settings.ops_jwt_secret is not None and view.settings.ops_token is None


def _accepts(view: View) -> bool | None:
    """Whether HQ takes the token; None where there is none, it is one that ends, or HQ did not answer."""
    try:
        connection = connection_in(view.environ, view.folder, "")
        if connection.token.count(".") == 2:
            return None
        with HqClient(connection, tries=1, answer_seconds=ANSWER_SECONDS) as client:
            client.missions({"limit": 1})
    except StateFolderError:
        return None
    except Refusal as refusal:
        return False if refusal.exit_code == NO_PERMISSION else None
    return True

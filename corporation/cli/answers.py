"""What an answer of HQ means to a person and to a script: one sentence and one exit status for each HTTP status."""

import math
import re
import shlex
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final

import httpx

from corporation.cli import exits
from corporation.cli.exits import Refusal

LONGEST_WAIT_SECONDS: Final = 30.0
"""However long HQ asks us to wait, a person at a terminal is told before this."""

MAY_RETRY: Final = frozenset({429, 502, 503, 504})

_MEANING: Final[dict[int, tuple[int, str, str]]] = {
    400: (exits.DATA, "refused the request", "correct it and run the command again"),
    401: (exits.NO_PERMISSION, "does not accept the token", "check that it is this HQ's current token"),
    403: (exits.NO_PERMISSION, "says the token may not do this", "use a token with the scope `ops`"),
    404: (exits.NO_INPUT, "does not know it", "check the name; `corporation missions list` shows what there is"),
    405: (exits.SOFTWARE, "does not offer this", "update the older of the two sides"),
    409: (exits.DATA, "reports a conflict", "put right what it names, and run the command again"),
    413: (exits.DATA, "says it is too large", "send less, or let the mission fetch it"),
    415: (exits.SOFTWARE, "does not take this form of request", "update the older of the two sides"),
    422: (exits.DATA, "says the request is not valid", "correct it and run the command again"),
    429: (exits.TRY_LATER, "is too busy", "run the same command again later"),
    502: (exits.TRY_LATER, "is not reached by its proxy", "run the same command again later"),
    503: (exits.TRY_LATER, "cannot answer at the moment", "run the same command again later"),
    504: (exits.TRY_LATER, "did not answer its proxy in time", "run the same command again later"),
}

_OF_A_FACTORY: Final[dict[str, tuple[int, str]]] = {
    "unknown_factory": (
        exits.NO_INPUT,
        "HQ knows no factory {name}; `corporation factories` lists them. One that will join later: say --expected",
    ),
    "unknown_target": (exits.NO_INPUT, "HQ knows no factory {name}; `corporation factories` lists them"),
    "own_registration": (
        exits.DATA,
        "{name} is headquarters itself, to which this cannot be done; `corporation factories` lists the others",
    ),
    "no_redis_user": (
        exits.DATA,
        "{name} has no password of its own that HQ could change: that of the factory beside HQ is its stack's, and one "
        "that joined without a user of Redis gets it by joining again, if HQ makes users (UA_REDIS_ADMIN_URL)",
    ),
    "quarantined": (
        exits.DATA,
        "{name} is in quarantine, where its password is worth nothing and none is changed; "
        "`corporation release {name}` lets it back in first",
    ),
    "name_taken": (
        exits.DATA,
        "{name} cannot be told from another factory once it is written in a queue's name; choose another name",
    ),
}
"""What HQ's own words about one factory mean; any other refusal is told as everywhere."""

_BAD_CHARACTERS: Final = "has a character that is not taken here, such as a line break or a control character"

_IS_THE_NODES: Final = re.compile("^[a-z_]+: this node is ")
"""How HQ's API begins to say that its role refuses something, so that no token would help."""
_MISSION: Final = re.compile("^/api/v1/missions/|/(events|explain|cancel|replay|adopt|log)$")
"""What stands around a mission's name in the addresses that are asked about one."""
_PUBLISH: Final = "/delegation/publish"
_JOB_TAKEN: Final = "choose another --job-id, or look at the mission that has it"
_NOT_HERE: Final = (exits.NO_PERMISSION, "refuses this to everybody", "name a headquarters in UA_HQ_BASE_URL")


def refusal_of(response: httpx.Response, base_url: str, token_from: str) -> Refusal:
    """The refusal that `response` (an error) is: what happened, why as HQ says it, what next."""
    status = response.status_code
    default = (exits.SOFTWARE, f"answered {status}", "look into the log of HQ's API")
    why = detail_of(response)
    exit_code, what, what_next = _MEANING.get(status, default)
    if status == 409 and response.request.url.path.endswith(_PUBLISH):
        what_next = _JOB_TAKEN
    source = f" from {token_from}" if status in (401, 403) else ""
    if status == 404 and why.startswith("unknown_mission"):
        return Refusal(exits.NO_INPUT, no_mission(_MISSION.sub("", response.request.url.path)))
    if status == 403 and _IS_THE_NODES.search(why):
        exit_code, what, what_next, source = *_NOT_HERE, ""
    return Refusal(exit_code, f"HQ at {base_url} {what}{source} ({status}{': ' + why if why else ''}); {what_next}")


def refusal_about(factory_id: str, response: httpx.Response, base_url: str, token_from: str) -> Refusal:
    """As `refusal_of`, for what was asked about one factory: what is not there is called by its name."""
    code = detail_of(response).partition(":")[0]
    if response.status_code not in (404, 409) or code not in _OF_A_FACTORY:
        return refusal_of(response, base_url, token_from)
    exit_code, sentence = _OF_A_FACTORY[code]
    return Refusal(exit_code, sentence.format(name=factory_id))


def no_mission(name: str) -> str:
    """What a person is told who named a mission that is not there; perhaps the name is that of its key."""
    return (
        f"HQ knows no mission {name}; `corporation missions list` shows them, "
        f"`corporation missions list --key {shlex.quote(name)}` one by its idempotency key"
    )


def detail_of(response: httpx.Response) -> str:
    """HQ's own words about an error, from either of its shapes, or an empty text."""
    try:
        body = response.json()
    except (ValueError, RecursionError):
        return ""
    return words_of(body.get("detail") if isinstance(body, dict) else None)


def words_of(detail: object) -> str:
    """The words of what HQ calls the detail of an error, the first ten of a list; an empty text for none."""
    if isinstance(detail, list):
        return "; ".join(_item(item) for item in detail[:10])
    return str(detail)[:1000] if detail else ""


def _item(item: Any) -> str:
    if not isinstance(item, dict):
        return str(item)[:200]
    loc = item.get("loc")
    place = ".".join(str(part) for part in loc if part != "body") if isinstance(loc, list) else ""
    # The pattern itself is for programs.
    what = _BAD_CHARACTERS if item.get("type") == "string_pattern_mismatch" else str(item.get("msg", ""))[:300]
    return f"{place or 'body'}: {what}"


def seconds_to_wait(response: httpx.Response | None, attempt: int, now: datetime) -> float:
    """How long to wait before try `attempt` + 1 (from 1): as `Retry-After` asks, else doubling from half a second."""
    header = response.headers.get("retry-after", "") if response is not None else ""
    asked = _retry_after(header, now)
    return min(asked if asked is not None else 0.5 * 2 ** (attempt - 1), LONGEST_WAIT_SECONDS)


def _retry_after(header: str, now: datetime) -> float | None:
    try:
        seconds = float(header) if header.strip() else math.nan
    except ValueError:
        try:
            seconds = (parsedate_to_datetime(header) - now).total_seconds()
        except (TypeError, ValueError):
            return None
    return max(seconds, 0.0) if math.isfinite(seconds) else None

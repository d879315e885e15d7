"""What `corporation doctor` looks at over HTTP: the node's HQ, its clock, and whether it accepts what we show."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final

import httpx

from corporation import clock
from corporation.cli import exits
from corporation.cli.client import HqClient
from corporation.cli.connection import Connection, connection_in, find_base_url
from corporation.cli.exits import Refusal
from corporation.cli.finding import Finding
from corporation.cli.own_row import SHUT_OUT
from corporation.embedded.stack_state import StateFolder, StateFolderError
from corporation.errors import CorporationError
from corporation.federation.hq_token import UNAUTHORIZED, FactoryToken, HqRefusedError
from corporation.settings import Settings

MOST_SKEW_SECONDS: Final = 30.0
ANSWER_SECONDS: Final = 5
"""More than the three in which HQ says that its own ledger does not answer."""


def headquarters(environ: Mapping[str, str], folder: StateFolder, settings: Settings, token_from: str) -> list[Finding]:
    """The API that this node works with answers, its clock agrees with ours, and it takes what this node shows.

    `token_from` says where the operator's token of `environ` came from.
    """
    try:
        base_url = find_base_url(environ, folder)
    except (Refusal, StateFolderError) as error:
        return [Finding("headquarters", "problem", str(error), "", exits.CONFIG)]
    found = answers(base_url)
    if any(one.grade == "problem" and one.exit_code == exits.UNAVAILABLE for one in found):
        return found
    if settings.policy.is_headquarters:
        return [*found, known_token(environ, folder, token_from)]
    # A node with a ledger and no fleet gives nothing away and shows nobody anything.
    return found if settings.policy.opens_ledger else [*found, factory_proof(base_url, settings, token_from)]


def answers(base_url: str) -> list[Finding]:
    """The API at `base_url` says that it is healthy, and what time it is."""
    try:
        with httpx.Client(base_url=base_url, timeout=ANSWER_SECONDS, trust_env=False) as http:
            answer = http.get("/api/v1/health")
        health = answer.json()
    except (httpx.HTTPError, ValueError, RecursionError) as error:
        advice = "start it with `corporation up`, or check UA_HQ_BASE_URL"
        what = f"{base_url} gives no answer about its health ({type(error).__name__})"
        return [Finding("headquarters", "problem", what, advice, exits.UNAVAILABLE)]
    health = health if isinstance(health, dict) else {}
    return [_health(health, base_url), clock_skew(health, answer.elapsed.total_seconds(), clock.utc_now())]


def _health(health: Mapping[str, object], base_url: str) -> Finding:
    if health.get("status") == "healthy":
        return Finding("headquarters", "ok", base_url)
    if health.get("db_status") in ("disconnected", "error"):
        what = f"{base_url} answers, but its ledger does not answer it ({health.get('db_error')})"
        return Finding("headquarters", "problem", what, "see to its PostgreSQL; it goes on then", exits.UNAVAILABLE)
    what = f"{base_url} is {health.get('status')}: {health.get('db_error') or 'no reason given'}"
    return Finding("headquarters", "problem", what, "look into the log of its API", exits.UNAVAILABLE)


def known_token(environ: Mapping[str, str], folder: StateFolder, token_from: str) -> Finding:
    """There is an operator's token that may be sent, and HQ takes it."""
    try:
        return operator_token(connection_in(environ, folder, token_from))
    except (Refusal, StateFolderError) as error:
        return Finding("token", "problem", str(error), "", exits.CONFIG)


def operator_token(connection: Connection) -> Finding:
    """HQ takes the operator's token."""
    with HqClient(connection, tries=1, answer_seconds=ANSWER_SECONDS) as client:
        try:
            client.missions({"limit": 1})
        except Refusal as refusal:
            code = exits.CONFIG if refusal.exit_code == exits.NO_PERMISSION else exits.UNAVAILABLE
            return Finding("token", "problem", str(refusal), "", code)
    return Finding("token", "ok", f"accepted (from {connection.token_from})")


def factory_proof(base_url: str, settings: Settings, token_from: str) -> Finding:
    """HQ takes what this factory proves itself with: its credential, else the operator's token."""
    if settings.factory_credential:
        return _credential(base_url, settings.factory_id, settings.factory_credential.get_secret_value())
    if settings.ops_token:
        return operator_token(Connection(base_url, settings.ops_token.get_secret_value(), token_from))
    advice = "set UA_FACTORY_CREDENTIAL; `corporation env` at HQ prints one"
    return Finding("token", "problem", "this factory has nothing to prove itself with", advice, exits.CONFIG)


def _credential(base_url: str, factory_id: str, credential: str) -> Finding:
    auth = FactoryToken(base_url, factory_id, credential)
    try:
        with httpx.Client(base_url=base_url, timeout=ANSWER_SECONDS, trust_env=False, auth=auth) as http:
            # Any request will do: before it is sent, HQ exchanges the credential for a token or refuses to.
            http.get("/api/v1/health")
    except HqRefusedError as refused:
        said = SHUT_OUT.format(factory_id) if refused.status == UNAUTHORIZED else str(refused)
        return Finding("token", "problem", said, "", exits.CONFIG)
    except (httpx.HTTPError, CorporationError) as error:
        what = f"{base_url} did not judge UA_FACTORY_CREDENTIAL ({type(error).__name__})"
        return Finding("token", "problem", what, "try again", exits.UNAVAILABLE)
    return Finding("token", "ok", "HQ exchanges UA_FACTORY_CREDENTIAL")


def clock_skew(health: Mapping[str, object], took_seconds: float, now: datetime) -> Finding:
    """HQ's clock and ours differ by less than the limit, half of the answer's way allowed for."""
    try:
        theirs = datetime.fromisoformat(str(health.get("timestamp")))
    except ValueError:
        return Finding("clock", "warning", "HQ did not say what time it is", "update HQ")
    theirs = theirs if theirs.tzinfo else theirs.replace(tzinfo=UTC)
    skew = (now - theirs).total_seconds() - took_seconds / 2
    if abs(skew) <= MOST_SKEW_SECONDS:
        return Finding("clock", "ok", f"{abs(skew):.1f} s from HQ's")
    word = "ahead of" if skew > 0 else "behind"
    what = f"this clock is {abs(skew):.0f} s {word} HQ's; tokens and deadlines will seem wrong"
    return Finding("clock", "problem", what, "let both machines set their time (NTP)", exits.CONFIG)

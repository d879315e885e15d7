"""A mission's log over a WebSocket: what SSE says, as messages, and close codes that say why it ends (H-15, H-28)."""

import asyncio
import json
import logging
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from served_api import OPS_TOKEN, PUBLISH, Api, served, settings_for, token
from structlog.testing import capture_logs
from structlog.typing import EventDict
from websockets.exceptions import ConnectionClosed, InvalidStatus

from hq_api import log_events
from hq_api.access import Unauthorized
from hq_api.routers import mission_log_socket
from hq_api.server_log import LOGGERS, hide_queries

LOG = "/api/v1/missions/j-1/log"
WORKER_IN_FULL = {"FACTORY_ROLE": "LOCAL_WORKER", "UA_CAPABILITY_GATEWAY_MODE": "full"}


def publish(api: Api, job_id: str = "j-1") -> None:
    api.ops.post(PUBLISH, json={"job_id": job_id, "payload": {"task": "Tidy"}}).raise_for_status()


def write_lines(api: Api, count: int, length: int = 4) -> None:
    api.sql(
        "INSERT INTO corporation.mission_log (mission_id, attempt, number, line)"
        " SELECT id, 1, n, rpad('line', :length, md5(n::text)) FROM corporation.missions, generate_series(1, :count) n",
        count=count,
        length=length,
    )


def finish(api: Api) -> None:
    api.sql("UPDATE corporation.missions SET state = 'failed', error = 'x', finished_at = now()")


def messages(api: Api, path: str = LOG, bearer: str = OPS_TOKEN) -> tuple[list[dict[str, Any]], int | None]:
    """All that is said on `path`, and the close code."""
    told: list[dict[str, Any]] = []
    with api.socket(path, bearer) as socket:
        try:
            while True:
                told.append(json.loads(socket.recv(timeout=30)))
        except ConnectionClosed:
            return told, socket.close_code


def close_code(api: Api, path: str = LOG, bearer: str | None = OPS_TOKEN) -> int | None:
    with api.socket(path, bearer) as socket, pytest.raises(ConnectionClosed):
        socket.recv(timeout=30)
    return socket.close_code


def test_the_messages_are_those_of_the_event_stream(api: Api) -> None:
    """H-28."""
    publish(api)
    write_lines(api, 3)
    finish(api)

    told, code = messages(api)
    events = [block.split("\n") for block in api.ops.get(LOG).text.strip().split("\n\n")]

    assert code == 1000
    assert [message["event"] for message in told] == ["log", "log", "log", "state", "end"]
    assert [[f"id: {m['id']}", f"event: {m['event']}", f"data: {json.dumps(m['data'])}"] for m in told] == events
    assert set(told[0]) == {"id", "event", "data"}


def test_a_follower_goes_on_where_it_was(api: Api) -> None:
    """H-28."""
    publish(api)
    write_lines(api, 3)
    finish(api)
    first = messages(api)[0][0]["id"]

    told, _ = messages(api, f"{LOG}?after={first}")
    from_junk, _ = messages(api, f"{LOG}?after=x")

    assert [message["data"]["line"][:4] for message in told if message["event"] == "log"] == ["line", "line"]
    assert told[0]["id"] == first + 1
    assert len(from_junk) == len(told) + 1


def test_lines_that_come_later_are_told_too(api: Api) -> None:
    publish(api)
    with api.socket(LOG, OPS_TOKEN) as socket:
        state = json.loads(socket.recv(timeout=30))
        write_lines(api, 1)
        line = json.loads(socket.recv(timeout=30))

    assert (state["event"], state["data"]["state"]) == ("state", "waiting")
    assert (line["event"], line["data"]["attempt"]) == ("log", 1)


def test_a_publisher_may_follow(api: Api) -> None:
    publish(api)
    finish(api)

    assert messages(api, bearer=token("publish"))[1] == 1000


@pytest.mark.parametrize("bearer", [None, "wrong", token(secret="x" * 40)], ids=["none", "wrong", "foreign"])
def test_bad_auth_is_accepted_and_closed_with_4401(api: Api, bearer: str | None) -> None:
    """H-15: nobody can tell whether the mission exists."""
    publish(api)

    assert close_code(api, bearer=bearer) == close_code(api, "/api/v1/missions/none/log", bearer) == 4401


def test_a_token_in_the_address_is_bad_auth_however_good_it_is(api: Api, capfd: pytest.CaptureFixture[str]) -> None:
    """H-15, H-4: it is in no log either."""
    publish(api)

    assert close_code(api, f"{LOG}?token={OPS_TOKEN}") == 4401
    assert OPS_TOKEN not in "".join(capfd.readouterr())


@pytest.mark.parametrize("name", LOGGERS)
def test_the_servers_own_lines_show_no_query(name: str) -> None:
    """H-4: a server logs the address of a handshake by itself."""
    hide_queries()
    logger = logging.getLogger(name)
    line = logger.makeRecord(name, logging.INFO, "", 0, '%s "%s" %d', ("::1", f"{LOG}?token={OPS_TOKEN}", 403), None)

    assert logger.filter(line)
    assert line.getMessage() == f'::1 "{LOG}" 403'


def test_a_token_is_refused_from_its_revocation_on(api: Api) -> None:
    """H-11, H-15."""
    publish(api)
    finish(api)
    bearer = token("publish", jti="to-be-revoked")

    before = messages(api, bearer=bearer)[1]
    api.ops.post("/api/v1/ops/tokens/revoke", json={"jti": "to-be-revoked"}).raise_for_status()

    assert (before, close_code(api, bearer=bearer)) == (1000, 4401)


def test_a_stream_that_is_open_ends_when_its_token_is_revoked(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """H-11, H-15: over both ways; whose token holds is told on."""
    assert log_events.JUDGE_EVERY_SECONDS <= 5
    monkeypatch.setattr(log_events, "JUDGE_EVERY_SECONDS", 0)
    publish(api)
    lent = token("publish", jti="lent")
    with (
        api.socket(LOG, lent) as socket,
        api.socket(LOG, token(jti="kept")) as kept,
        api.as_token(lent) as client,
        client.stream("GET", LOG) as stream,
    ):
        lines = stream.iter_lines()
        first = next(lines), json.loads(socket.recv(timeout=30))["event"], json.loads(kept.recv(timeout=30))["event"]
        api.ops.post("/api/v1/ops/tokens/revoke", json={"jti": "lent"}).raise_for_status()
        rest = list(lines)
        with pytest.raises(ConnectionClosed):
            socket.recv(timeout=30)
        write_lines(api, 1)
        told = json.loads(kept.recv(timeout=30))["event"]

    assert first[1:] == ("state", "state")
    assert "event: end" not in rest
    assert (socket.close_code, told) == (4401, "log")


def test_a_follower_who_is_not_welcome_any_more_is_told_nothing_further(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also a token that expired: what judging raises ends the stream, and comes before the next line."""
    monkeypatch.setattr(log_events, "JUDGE_EVERY_SECONDS", 0)
    publish(api)
    mission_id = log_events.find(api.engine, "j-1")
    assert mission_id is not None
    asked: list[str] = []
    told: list[str] = []

    def judge_again() -> None:
        asked.append("again")
        if len(asked) == 2:
            raise Unauthorized

    async def follow() -> None:
        async for events in log_events.follow(api.engine, mission_id, 0, judge_again):
            told.extend(event.kind for event in events)
            await asyncio.to_thread(write_lines, api, 1)

    with pytest.raises(Unauthorized):
        asyncio.run(follow())
    assert told == ["state"]


def test_a_good_token_without_the_scope_gets_4403(api: Api) -> None:
    publish(api)

    assert close_code(api, bearer=token("factory", factory_id="desk-7")) == 4403


@pytest.mark.parametrize("name", ["nobody", "a%00b", "%ff", "", "a/b"])
def test_an_id_that_names_no_mission_gets_4000(api: Api, name: str) -> None:
    """H-15."""
    assert close_code(api, f"/api/v1/missions/{name}/log") == 4000


@pytest.mark.parametrize(
    "changes",
    [
        {"UA_OPS_TOKEN": "", "UA_OPS_JWT_SECRET": ""},
        {"UA_OPS_JWT_SECRET": "", "UA_OPS_AUTH_ALLOW_LEGACY": "0"},
    ],
    ids=["none set", "none accepted"],
)
def test_where_no_token_could_be_accepted_the_code_is_1011(shared_url: str, changes: dict[str, str]) -> None:
    """H-15."""
    with served(settings_for(shared_url, **changes)) as api:
        assert close_code(api) == 1011


def test_without_a_ledger_the_code_is_1011() -> None:
    with served(settings_for("postgresql://nobody@127.0.0.1:1/none")) as api:
        assert close_code(api) == 1011


@pytest.mark.parametrize("path", [LOG, "/", "/api/v1/health", "/nowhere"])
@pytest.mark.parametrize("bearer", [None, OPS_TOKEN], ids=["stranger", "operator"])
def test_on_a_closed_surface_every_socket_gets_4403(shared_url: str, path: str, bearer: str | None) -> None:
    """H-15."""
    with served(settings_for(shared_url, FACTORY_ROLE="LOCAL_WORKER")) as worker:
        assert close_code(worker, path, bearer) == 4403


def test_a_node_that_keeps_no_fleet_gets_4403_after_the_token(shared_url: str) -> None:
    for changes in ({"FACTORY_ROLE": "STANDALONE_NODE"}, WORKER_IN_FULL):
        with served(settings_for(shared_url, **changes)) as node:
            assert (close_code(node), close_code(node, bearer="wrong")) == (4403, 4401)


def test_an_address_without_a_socket_is_no_handshake(api: Api) -> None:
    with pytest.raises(InvalidStatus) as refused:
        api.socket("/api/v1/missions", OPS_TOKEN)

    assert refused.value.response.status_code == 403


def test_a_handshake_of_too_many_bytes_is_refused(api: Api) -> None:
    """The limit of A74, for sockets."""
    with pytest.raises(InvalidStatus) as refused:
        api.socket(f"{LOG}?x={'x' * 7000}", "x" * 7000, user_agent_header="x" * 7000)

    assert refused.value.response.status_code == 431
    assert refused.value.response.headers["x-content-type-options"] == "nosniff"


def test_the_handshake_carries_the_request_id(api: Api) -> None:
    """H-4."""
    with api.socket(LOG, OPS_TOKEN) as socket:
        assert socket.response is not None
        assert socket.response.headers["x-request-id"]


@pytest.mark.parametrize("sent", ["hello", b"\0", "x" * 4000], ids=["text", "bytes", "long"])
def test_a_client_that_talks_is_let_go(api: Api, sent: str | bytes) -> None:
    publish(api)
    with api.socket(LOG, OPS_TOKEN) as socket:
        socket.send(sent)
        with suppress(ConnectionClosed):
            while True:
                socket.recv(timeout=30)

    assert socket.close_code == 1003


def test_a_client_that_goes_ends_it(api: Api, wait_until: Callable[..., Any]) -> None:
    publish(api)
    with capture_logs() as lines:
        with api.socket(LOG, OPS_TOKEN) as socket:
            socket.recv(timeout=30)

        wait_until(lambda: ended(lines), what="the line that the edge writes when a request is over")


def test_a_client_that_does_not_read_is_let_go(
    api: Api, monkeypatch: pytest.MonkeyPatch, wait_until: Callable[..., Any]
) -> None:
    monkeypatch.setattr(mission_log_socket, "SEND_SECONDS", 0.2)
    publish(api)
    write_lines(api, 5000, 8000)
    with capture_logs() as lines, api.socket(LOG, OPS_TOKEN, compression=None, close_timeout=0.1):
        wait_until(lambda: 1008 in ended(lines), 30, what="the end of a stream that nobody reads")


def ended(lines: list[EventDict]) -> list[int]:
    """The close codes of the sockets that are over by what was logged since the test began."""
    return [line["status"] for line in lines if line["event"] == "request" and line["method"] == "WEBSOCKET"]

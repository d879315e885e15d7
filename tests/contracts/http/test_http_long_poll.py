"""Waiting for missions: the answer comes with the mission, many may wait, and who has gone gets nothing (http §8)."""

import json
import socket
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import httpx
import pytest
import stranger
import uvicorn
from served_api import OPS_TOKEN, PUBLISH, Api, settings_for

from corporation.clock import monotonic
from hq_api import long_poll
from hq_api.__main__ import Server
from hq_api.app import create_app

Order = Callable[..., dict[str, Any]]
Wait = Callable[..., Any]
CLAIM = "/api/v1/factory/missions/claim"
BEAT = {"factory_id": "desk-7", "capabilities": ["vp_general", "transport:http"]}
LISTENERS = "SELECT pid FROM pg_stat_activity WHERE application_name = 'corporation-missions-wait'"


@pytest.fixture
def waiters(api: Api, wait_until: Wait) -> Iterator[Callable[[int], None]]:
    """`waiters(n)`: n clients wait for missions now. Afterwards none does, so that no test meets another's."""
    api.ops.post("/api/v1/factory/registrations", json=BEAT).raise_for_status()
    yield lambda count: wait_until(lambda: waiting_at(api) == count, what=f"{count} who wait")
    wait_until(lambda: waiting_at(api) == 0, 15, "nobody waits")


def waiting_at(api: Api) -> int:
    return api.app.state.waiting._waiters


def publish(client: httpx.Client, order: Order, *names: str) -> None:
    missions = [order(job_id=name, idempotency_key=f"k-{name}") for name in names]
    assert client.post(PUBLISH, json={"missions": missions}).status_code == 202


def ask(url: str, wait_seconds: float, most: int = 1) -> list[str]:
    """The missions of one claim, on a connection of its own."""
    headers = {"Authorization": f"Bearer {OPS_TOKEN}"}
    body = {"factory_id": "desk-7", "max": most, "wait_seconds": wait_seconds}
    answer = stranger.post(url + CLAIM, json=body, headers=headers, timeout=60)
    assert answer.status_code == 200, answer.text
    return [one["job_id"] for one in answer.json()["attempts"]]


def in_background(ask: Callable[[], list[str]]) -> Future[list[str]]:
    answer: Future[list[str]] = Future()
    threading.Thread(target=lambda: answer.set_result(ask()), daemon=True).start()
    return answer


def request(port: int, wait_seconds: float) -> socket.socket:
    """A connection on which a claim was sent and nothing was read."""
    body = json.dumps({"factory_id": "desk-7", "wait_seconds": wait_seconds})
    head = f"POST {CLAIM} HTTP/1.1\r\nHost: hq\r\nConnection: close\r\nAuthorization: Bearer {OPS_TOKEN}\r\n"
    head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    connection = socket.create_connection(("127.0.0.1", port), timeout=30)
    connection.sendall((head + body).encode())
    return connection


def missions_in(connection: socket.socket) -> list[str]:
    answer = bytearray()
    while chunk := connection.recv(65536):
        answer += chunk
    return [one["job_id"] for one in json.loads(bytes(answer).partition(b"\r\n\r\n")[2])["attempts"]]


def test_who_waits_has_the_mission_within_a_second(api: Api, waiters: Callable[[int], None], order: Order) -> None:
    answer = in_background(lambda: ask(api.url, 20))
    waiters(1)
    began = monotonic()
    publish(api.ops, order, "fresh")

    assert answer.result(10) == ["fresh"]
    assert monotonic() - began < 1


def test_a_hundred_who_wait_hold_no_connection_to_the_ledger_and_no_thread(
    api: Api, waiters: Callable[[int], None], order: Order
) -> None:
    """And of ten missions that come, each goes to one of them."""
    with ExitStack() as held:
        asking = [held.enter_context(request(api.port, 3)) for _ in range(100)]
        waiters(100)
        began = monotonic()
        for _ in range(10):
            api.ops.get("/api/v1/missions").raise_for_status()
        took = monotonic() - began
        open_transactions = api.sql(
            "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND xact_start IS NOT NULL"
            "   AND pid <> pg_backend_pid() AND backend_type = 'client backend'"
        )
        publish(api.ops, order, *(f"m-{number}" for number in range(10)))
        got = Counter(name for one in asking for name in missions_in(one))

    assert (len(got), set(got.values())) == (10, {1})
    assert took < 2
    assert open_transactions == []


def test_who_has_gone_gets_nothing(api: Api, waiters: Callable[[int], None], order: Order) -> None:
    with request(api.port, 30):
        waiters(1)
    publish(api.ops, order, "later")
    waiters(0)

    assert api.sql("SELECT state, attempt FROM corporation.missions") == [("waiting", 0)]
    assert ask(api.url, 0) == ["later"]


def test_a_mission_that_becomes_due_without_a_word_is_found_too(
    api: Api, waiters: Callable[[int], None], order: Order, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody tells of the end of a backoff."""
    monkeypatch.setattr(long_poll, "LOOK_EVERY_SECONDS", 0.1)
    publish(api.ops, order, "again")
    api.sql("UPDATE corporation.missions SET next_attempt_at = now() + interval '1 day'")
    answer = in_background(lambda: ask(api.url, 20))
    waiters(1)
    api.sql("UPDATE corporation.missions SET next_attempt_at = now()")

    assert answer.result(10) == ["again"]


def test_the_listener_comes_back_when_its_connection_was_cut(
    api: Api, waiters: Callable[[int], None], order: Order, wait_until: Wait
) -> None:
    [[cut]] = api.sql(LISTENERS)
    api.sql("SELECT pg_terminate_backend(:pid)", pid=cut)
    idle = LISTENERS + " AND pid <> :cut AND state = 'idle' AND query LIKE 'LISTEN%'"
    wait_until(lambda: api.sql(idle, cut=cut), what="another listener")
    answer = in_background(lambda: ask(api.url, 20))
    waiters(1)
    began = monotonic()
    publish(api.ops, order, "heard")

    assert answer.result(10) == ["heard"]
    assert monotonic() - began < 1


def test_a_pause_ends_the_wait_with_the_reason(api: Api, waiters: Callable[[int], None]) -> None:
    """The next look is enough: it comes within seconds, or with the next mission for anybody."""
    with request(api.port, 30) as asking:
        waiters(1)
        api.sql("UPDATE corporation.factories SET paused = true WHERE factory_id = 'desk-7'")
        api.sql("SELECT pg_notify('corporation_dispatch', '')")
        answer = bytearray()
        while chunk := asking.recv(65536):
            answer += chunk

    assert json.loads(answer.partition(b"\r\n\r\n")[2]) == {"attempts": [], "paused": True}


def test_a_server_that_is_told_to_stop_answers_who_waits_at_once(shared_url: str, wait_until: Wait) -> None:
    """It would else wait for them until its patience ends, and cut them off."""
    app = create_app(settings_for(shared_url))
    listener = socket.create_server(("127.0.0.1", 0))
    port = int(listener.getsockname()[1])
    server = Server(app, uvicorn.Config(app, http="httptools", log_level="critical"), None)
    serving = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    serving.start()
    wait_until(lambda: server.started, what="the server listens")
    with ThreadPoolExecutor(3) as pool:
        answers = [pool.submit(ask, f"http://127.0.0.1:{port}", 30) for _ in range(3)]
        wait_until(lambda: app.state.waiting._waiters == 3, what="three who wait")
        began = monotonic()
        server.should_exit = True
        got = [answer.result(10) for answer in answers]
        serving.join(10)

    assert got == [[], [], []]
    assert not serving.is_alive()
    assert monotonic() - began < 5

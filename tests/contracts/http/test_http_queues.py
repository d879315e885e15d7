"""`POST /api/v1/ops/queues/rebuild`: what Redis lost is handed out again, once, and nothing that it did not lose."""

import socket
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import redis
import stranger
from builders import rules
from served_api import OPS_TOKEN, PUBLISH, Api, rebuilding, served, settings_for, token

from corporation.clock import new_id
from corporation.db import transaction
from corporation.missions.brokers import load_broker
from corporation.missions.dispatch import dispatch_some
from corporation.missions.outbox import send_some
from corporation.missions.queues import Queues, TakenBack, Whereabouts
from corporation.missions.rebuild import rebuild_queues, total
from corporation.missions.store import rebuild_wishes
from factory_tasks.queue_look import MOST_ENTRIES
from hq_api.rebuild_waiting import Patience

REBUILD = "/api/v1/ops/queues/rebuild"
QUEUE = "factory.desk-7"
CONTROL_QUEUE = "desk-7.control"


class Interrupted:
    """Queues of which the first look into `queue` is followed by something else."""

    def __init__(self, queues: Queues, queue: str, then: Callable[[], object]) -> None:
        self._queues = queues
        self._queue = queue
        self._then: Callable[[], object] | None = then

    def look_into(self, queue: str) -> Whereabouts:
        """As the queues say, before it happens."""
        found = self._queues.look_into(queue)
        if queue == self._queue and self._then:
            then, self._then = self._then, None
            then()
        return found

    def withdraw(self, queue: str, attempt_ids: Collection[str]) -> TakenBack:
        """As the queues say."""
        return self._queues.withdraw(queue, attempt_ids)

    def incarnation(self) -> str:
        """As the queues say."""
        return self._queues.incarnation()


@pytest.fixture
def connected(shared_url: str, redis_url: str) -> Iterator[Api]:
    """A served headquarters whose engine does rebuilds, and whose Redis is there, and empty."""
    settings = settings_for(shared_url, UA_REDIS_URL=redis_url)
    with served(settings) as api, rebuilding(settings):
        yield api


@pytest.fixture
def without_engine(shared_url: str, redis_url: str) -> Iterator[Api]:
    """The same without an engine, and with little patience."""
    with served(settings_for(shared_url, UA_REDIS_URL=redis_url)) as api:
        api.app.state.rebuild_patience = Patience(0.2, 1.0)
        yield api


def wishes(api: Api) -> list[Any]:
    return api.sql("SELECT * FROM corporation.queue_rebuilds")


def send(api: Api) -> None:
    with transaction(api.engine) as connection:
        send_some(connection, load_broker(api.settings), 100)


def sent(api: Api, *job_ids: str) -> None:
    """Missions that lie in the queue of desk-7."""
    beat = {"factory_id": "desk-7", "capabilities": ["vp_general"], "slots": len(job_ids)}
    api.ops.post("/api/v1/factory/registrations", json=beat).raise_for_status()
    missions = [{"job_id": one, "mission_kind": "general_task", "payload": {"task": "Tidy"}} for one in job_ids]
    api.ops.post(PUBLISH, json={"missions": missions}).raise_for_status()
    with transaction(api.engine) as connection:
        assert dispatch_some(connection, rules(), new_id) == len(job_ids)
    send(api)


def rebuild(api: Api, *, dry_run: bool = False) -> dict[str, Any]:
    answer = api.ops.post(REBUILD, json={"dry_run": dry_run})
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert body.pop("ok") is True
    return body


def counts(body: dict[str, Any]) -> tuple[int, int, int, int]:
    return body["resent"], body["lying"], body["held"], body["orphans_removed"]


def outbox(api: Api) -> int:
    return len(api.sql("SELECT 1 FROM corporation.outbox"))


def test_while_everything_works_nothing_is_sent_twice(connected: Api) -> None:
    sent(connected, "j-1", "j-2")

    assert counts(rebuild(connected)) == (0, 2, 0, 0)
    assert outbox(connected) == 0


def test_what_redis_lost_is_handed_out_again_once(connected: Api, redis_url: str) -> None:
    sent(connected, "j-1", "j-2", "j-3")
    with redis.Redis.from_url(redis_url) as client:
        client.flushall()
        preview = rebuild(connected, dry_run=True)
        assert (counts(preview), outbox(connected)) == ((3, 0, 0, 0), 0)

        assert counts(rebuild(connected)) == (3, 0, 0, 0)
        assert counts(rebuild(connected)) == (0, 0, 0, 0), "what is in the outbox is not lost"
        assert outbox(connected) == 3
        send(connected)
        assert client.llen(QUEUE) == 3
    assert counts(rebuild(connected)) == (0, 3, 0, 0)
    assert [row.sends for row in connected.sql("SELECT sends FROM corporation.attempts")] == [2, 2, 2]
    acts = connected.ops.get("/api/v1/ops/audit", params={"action": "queues.rebuild"}).json()["acts"]
    assert [act["detail"]["resent"] for act in acts] == [0, 0, 3], "a look alone is no act"


def test_messages_that_nobody_waits_for_are_removed_and_foreign_ones_are_not(connected: Api, redis_url: str) -> None:
    sent(connected, "j-1", "j-2")
    ended(connected, "j-1")
    with redis.Redis.from_url(redis_url) as client:
        client.lpush(QUEUE, b"not ours")
        preview = rebuild(connected, dry_run=True)
        assert (counts(preview), client.llen(QUEUE)) == ((0, 1, 0, 1), 3)
        done = rebuild(connected)
        assert (counts(done), client.llen(QUEUE)) == ((0, 1, 0, 1), 2)
    [row] = [row for row in done["queues"] if row["queue"] == QUEUE]
    assert row == {
        "queue": QUEUE,
        "resent": 0,
        "lying": 1,
        "held": 0,
        "orphans_removed": 1,
        "foreign": 1,
        "unread": False,
    }


def ended(api: Api, job_id: str) -> None:
    """The attempt of that mission is over, and the mission waits for another."""
    api.sql(
        """WITH over AS (
             UPDATE corporation.missions SET state = 'waiting', state_reason = 'backoff', attempt_id = NULL
              WHERE job_id = :job_id RETURNING id)
           UPDATE corporation.attempts SET state = 'lost', finished_at = now()
             FROM over WHERE mission_id = over.id""",
        job_id=job_id,
    )


def test_old_orders_to_a_factory_are_removed_from_its_control_queue_too(connected: Api, redis_url: str) -> None:
    """An old append-only file brings both queues back."""
    sent(connected, "j-1")
    ended(connected, "j-1")
    with redis.Redis.from_url(redis_url) as client:
        client.rename(QUEUE, CONTROL_QUEUE)
        assert counts(rebuild(connected)) == (0, 0, 0, 1)
        assert client.exists(QUEUE, CONTROL_QUEUE) == 0


def test_several_at_once_while_the_engine_sends_leave_one_message_each(connected: Api, redis_url: str) -> None:
    names = [f"j-{number}" for number in range(40)]
    sent(connected, *names)
    with redis.Redis.from_url(redis_url) as client, ThreadPoolExecutor(8) as pool:
        for _ in range(5):
            client.flushall()
            asked = [pool.submit(rebuild, connected) for _ in range(6)]
            while not all(one.done() for one in asked):
                send(connected)
            send(connected)
            assert sum(one.result()["resent"] for one in asked) == len(names)
            assert (client.llen(QUEUE), outbox(connected)) == (len(names), 0)


def test_what_was_sent_between_the_look_and_the_act_is_not_sent_again(connected: Api, redis_url: str) -> None:
    """Another rebuild, or the engine, was faster: its message lies there by now."""
    sent(connected, "j-1")
    queues = Interrupted(load_broker(connected.settings), QUEUE, lambda: (rebuild(connected), send(connected)))
    with redis.Redis.from_url(redis_url) as client:
        client.flushall()
        with transaction(connected.engine) as connection:
            rows = rebuild_queues(connection, queues, 180.0, dry_run=False)
        send(connected)

        assert (total(rows, "resent"), client.llen(QUEUE)) == (0, 1)


def test_a_queue_that_is_too_full_to_be_read_is_said(connected: Api, redis_url: str) -> None:
    sent(connected, "j-1")
    with redis.Redis.from_url(redis_url) as client:
        client.delete(QUEUE)
        client.lpush(QUEUE, *[b"x"] * (MOST_ENTRIES + 1))
        done = rebuild(connected)

    assert counts(done) == (0, 0, 0, 0)
    assert [row["queue"] for row in done["queues"] if row["unread"]] == [QUEUE]


def test_a_redis_that_is_away_is_a_503_that_says_when_to_come_back(api: Api) -> None:
    with rebuilding(api.settings):
        answer = api.ops.post(REBUILD, json={})

    assert answer.status_code == 503
    assert answer.json()["detail"].startswith("broker_unavailable: ")
    assert answer.json()["detail"].endswith("; nothing was handed out, send the same request again")
    assert int(answer.headers["retry-after"]) >= 1
    assert wishes(api) == api.ops.get("/api/v1/ops/audit", params={"action": "queues.rebuild"}).json()["acts"] == []


def test_without_an_engine_the_wish_is_withdrawn_and_that_is_said(without_engine: Api) -> None:
    """A wish that nobody waits for must not be done hours later."""
    answer = without_engine.ops.post(REBUILD, json={})

    assert answer.status_code == 503
    assert answer.json()["detail"].startswith("engine_away: HQ's engine did not do it within 0.2 s, and the wish was")
    assert "corporation up" in answer.json()["detail"]
    assert int(answer.headers["retry-after"]) >= 1
    assert wishes(without_engine) == []


def test_who_is_not_first_waits_longer_and_is_told_the_same(without_engine: Api) -> None:
    """An engine may be at the one that came before."""
    with transaction(without_engine.engine) as connection:
        rebuild_wishes.ask(connection, "somebody", "rest", 60.0, dry_run=True)
    answer = without_engine.ops.post(REBUILD, json={})

    assert answer.json()["detail"].startswith("engine_away: HQ's engine did not do it within 1 s")
    assert [row.asked_by for row in wishes(without_engine)] == ["somebody"]


def test_what_an_engine_is_at_for_long_is_neither_withdrawn_nor_waited_for(
    without_engine: Api, wait_until: Callable[..., Any]
) -> None:
    with transaction(without_engine.engine) as connection, ThreadPoolExecutor(1) as pool:
        asked = pool.submit(without_engine.ops.post, REBUILD, json={})
        wish = wait_until(lambda: rebuild_wishes.take(connection), what="the wish")
        answer = asked.result()
        rebuild_wishes.answer(connection, wish.id, rebuild_wishes.Answer({"ok": True}, None))

    assert (answer.status_code, answer.json()["detail"].split(":")[0]) == (503, "rebuild_underway")
    assert [row.answer for row in wishes(without_engine)] == [{"ok": True}]


def test_who_goes_away_takes_the_wish_along(without_engine: Api, wait_until: Callable[..., Any]) -> None:
    without_engine.app.state.rebuild_patience = Patience(60.0, 60.0)
    with socket.create_connection(("127.0.0.1", without_engine.port)) as caller:
        lines = (f"POST {REBUILD} HTTP/1.1", "Host: hq", f"Authorization: Bearer {OPS_TOKEN}", "Content-Length: 0")
        caller.sendall("\r\n".join([*lines, "", ""]).encode())
        wait_until(lambda: wishes(without_engine), what="the wish")

    wait_until(lambda: not wishes(without_engine), what="the end of the wish")


def test_two_engines_do_each_wish_once(connected: Api, redis_url: str) -> None:
    sent(connected, "j-1", "j-2", "j-3")
    with redis.Redis.from_url(redis_url) as client:
        client.flushall()
    with rebuilding(connected.settings), ThreadPoolExecutor(6) as pool:
        done = [one.result() for one in [pool.submit(rebuild, connected) for _ in range(6)]]

    assert sorted(one["resent"] for one in done) == [0, 0, 0, 0, 0, 3]
    assert (outbox(connected), wishes(connected)) == (3, [])
    acts = connected.ops.get("/api/v1/ops/audit", params={"action": "queues.rebuild"}).json()["acts"]
    assert [act["outcome"] for act in acts] == ["done"] * 6
    assert {act["origin"] for act in acts} == {"rest 127.0.0.1"}


def test_a_body_may_be_left_out_and_a_slip_in_it_does_nothing(connected: Api) -> None:
    assert connected.ops.post(REBUILD).status_code == 200
    for body in ({"dry_run": "yes"}, {"dryrun": True}, {"dry_run": None}):
        assert connected.ops.post(REBUILD, json=body).status_code == 422, body


def test_only_an_operator_of_headquarters_may(api: Api, shared_url: str) -> None:
    with stranger.client(api.url) as nobody:
        assert nobody.post(REBUILD, json={}).status_code == 401
    for scope in ("publish", "factory"):
        with api.as_token(token(scope, factory_id="desk-7")) as client:
            assert client.post(REBUILD, json={}).status_code == 403
    with served(settings_for(shared_url, FACTORY_ROLE="STANDALONE_NODE")) as elsewhere:
        answer = elsewhere.ops.post(REBUILD, json={})
    assert (answer.status_code, answer.json()["detail"].split(":")[0]) == (403, "forbidden")

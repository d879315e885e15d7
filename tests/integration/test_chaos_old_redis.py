"""What the chaos asks of a real Redis: that it comes back with an old file, and what is left in it in the end."""

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import redis

from corporation.embedded.valkey import start_valkey
from corporation.roles import control_queue
from ops.bench.chaos_aof import EVERY_MS, AppendOnlyFile
from ops.bench.chaos_ledger import MISSION_STREAM, Servers
from ops.bench.chaos_streams import GROUP


def test_redis_comes_back_without_what_was_acknowledged_last(tmp_path: Path, wait_until: Callable[..., Any]) -> None:
    """The server read the cut file, and appends to it again."""
    server = start_valkey(tmp_path)
    file = AppendOnlyFile(tmp_path)
    part = tmp_path / "data" / "appendonlydir" / "appendonly.aof.1.incr.aof"
    with redis.Redis.from_url(server.url) as client:
        client.set("old", "1")
        wait_until(lambda: b"old" in part.read_bytes(), 5)
        file.look(1000)
        client.set("new", "1")
        wait_until(lambda: b"new" in part.read_bytes(), 5)
        file.look(1000 + EVERY_MS)
    os.killpg(server.pid, signal.SIGKILL)
    server.process.wait()
    gone = file.rewind(1000)
    server = start_valkey(tmp_path, port=server.port)
    try:
        with redis.Redis.from_url(server.url) as client:
            assert gone
            assert client.mget("old", "new") == [b"1", None]
            assert client.set("newer", "1")
    finally:
        server.stop()


def test_messages_in_hand_are_named_by_their_attempt_and_those_of_no_mission_are_not(redis_url: str) -> None:
    with redis.Redis.from_url(redis_url) as client:
        for number, task in enumerate(["mission.chaos", "corporation.heartbeat", "corporation.stop_attempt"]):
            taken = [{"headers": {"task": task, "id": f"attempt-{number}"}}, "", "factory.alpha"]
            client.hset("unacked:alpha", str(number), json.dumps(taken))

    assert Servers("", redis_url).unacknowledged() == [("alpha", "attempt-0")]


def test_what_lies_on_the_mission_stream_and_in_a_control_queue_is_left(redis_url: str, database_url: str) -> None:
    """One entry was read and not acknowledged, two were not read; a heartbeat on its way is nothing that is left."""
    with redis.Redis.from_url(redis_url) as client:
        client.xgroup_create(MISSION_STREAM, GROUP, id="0", mkstream=True)
        for number in range(3):
            client.xadd(MISSION_STREAM, {"n": number})
        client.xreadgroup(GROUP, "somebody", {MISSION_STREAM: ">"}, count=1)
        for task in ("corporation.heartbeat", "corporation.stop_attempt"):
            client.lpush(control_queue("alpha"), json.dumps({"headers": {"task": task}}))

    left = {what: count for what, count in Servers(database_url, redis_url).left().items() if count}
    assert left == {
        "messages in the control queue of alpha": 1,
        "entries of the stream not acknowledged": 1,
        "entries of the stream not read": 2,
    }

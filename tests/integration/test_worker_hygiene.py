"""One worker against the 49 messages of bad-input §2: none kills it, none is put back, and the next good one runs."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import psutil
import pytest
import redis
from kombu import Connection
from malformed_messages import QUEUE, ROWS, Row, message, order

import celeryconfig
from corporation.federation.refused_messages import MOST_KEPT, RefusedMessages
from corporation.federation.spool import Spool
from corporation.settings import load_settings
from ops.bench.cluster import Cluster

ROOM_FOR_THE_WORST: Final = 80 * 2**20
"""Bytes that the worker may grow by while it refuses 20 MB and a bomb of 200 MB:
twice what was measured (95 to 134 MB)."""

FLOOD: Final = 1_500
"""More messages than are kept."""


@dataclass
class Field:
    """A worker with one slot, what it refused, and the file in which every mission that really ran leaves a line."""

    cluster: Cluster
    client: "redis.Redis[bytes]"
    refused: RefusedMessages
    marks: Path
    pids: tuple[int, ...]
    peak_at_first: int = 0

    def push(self, raw: bytes) -> None:
        self.client.lpush(QUEUE, raw)

    def mission(self, job_id: str, **context: Any) -> bytes:
        said = {"mission_kind": "noop", "mark": str(self.marks), **context}
        envelope = {"job_id": job_id, "payload": {"task": "t", "context": said}}
        return message(kwargs={"order": order(job_id, factory_id="bench", envelope=envelope)})

    def ran(self, job_id: str) -> int:
        lines = self.marks.read_text().splitlines() if self.marks.exists() else []
        return sum(line.split()[0] == job_id for line in lines)

    def processes(self) -> tuple[int, ...]:
        worker = psutil.Process(self.cluster.processes["worker"].pid)
        return (worker.pid, *sorted(child.pid for child in worker.children()))

    def held(self) -> list[str]:
        return [key.decode() for key in self.client.scan_iter("unacked*")]

    def peak_bytes(self) -> int:
        lines = Path(f"/proc/{self.pids[0]}/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


@pytest.fixture(scope="module")
def field(
    tmp_path_factory: pytest.TempPathFactory, module_servers: tuple[str, str], wait_until: Callable[..., Any]
) -> Iterator[Field]:
    database_url, redis_url = module_servers
    folder = tmp_path_factory.mktemp("hygiene")
    with (
        redis.Redis.from_url(redis_url) as client,
        Cluster(folder, database_url, redis_url, lambda condition: wait_until(condition, 60)) as cluster,
    ):
        cluster.start_worker(slots=1)
        # A Redis of somebody's own takes what ours would refuse.
        client.config_set("proto-max-bulk-len", 512 * 1024 * 1024)
        field = Field(cluster, client, RefusedMessages(folder / "spool.db"), folder / "marks", ())
        field.push(field.mission("first"))
        wait_until(lambda: field.ran("first"), 30, "the first mission")
        field.pids = field.processes()
        field.peak_at_first = field.peak_bytes()
        yield field


@pytest.mark.parametrize("row", [row for row in ROWS if row.reason], ids=lambda row: row.name)
def test_the_worker_refuses_it_and_runs_the_next(field: Field, row: Row, wait_until: Callable[..., Any]) -> None:
    """C1 to C49; C15 is below."""
    reason = str(row.reason)
    before = field.refused.counts().get(reason, 0)
    raw = row.make()

    field.push(raw)
    field.push(field.mission(f"after-{row.name}"))

    wait_until(lambda: field.ran(f"after-{row.name}") == 1, 10, "the next good mission")
    assert field.refused.counts()[reason] == before + 1
    if reason != "expired":
        [kept] = field.refused.newest(1)
        assert (kept.reason, kept.queue, kept.size, kept.start) == (reason, QUEUE, len(raw), raw[:4096])
    wait_until(lambda: not field.held(), 10, "nothing is held any more")
    assert field.client.llen(QUEUE) == 0
    assert field.processes() == field.pids


def test_a_second_copy_with_the_same_tag_does_not_run(field: Field, wait_until: Callable[..., Any]) -> None:
    """C15"""
    raw = field.mission("twice")
    field.push(raw)
    field.push(raw)
    field.push(field.mission("after-twice"))

    wait_until(lambda: field.ran("after-twice") == 1, 10, "the next good mission")
    assert field.ran("twice") == 1
    wait_until(lambda: not field.held(), 10, "nothing is held any more")
    assert field.processes() == field.pids


def test_a_running_mission_that_a_jump_of_the_clock_hands_out_again_runs_once(
    field: Field, wait_until: Callable[..., Any]
) -> None:
    """kombu notes by the wall clock since when a message is held: after a jump of two days it puts it back."""
    field.push(field.mission("jumped", sleep=1.5))
    [key] = wait_until(lambda: [key for key in field.held() if key.endswith("_index")], 10, "the message is held")
    [(tag, _)] = field.client.zrange(key, 0, -1, withscores=True)
    field.client.zadd(key, {tag: 1.0})  # as if it had been held since long before the jump
    settings = load_settings({"UA_FACTORY_ID": "bench", "UA_REDIS_URL": field.cluster.redis_url})
    options = celeryconfig.configuration(settings)["broker_transport_options"]

    with Connection(field.cluster.redis_url, transport_options=options) as other, other.channel() as channel:
        channel.qos.restore_visible(num=100, interval=1)
    assert field.client.llen(QUEUE) == 1  # its second copy, while the first one runs

    field.push(field.mission("after-jumped"))
    wait_until(lambda: field.ran("after-jumped") == 1, 10, "the next good mission")
    assert field.ran("jumped") == 1
    wait_until(lambda: not field.held(), 10, "nothing is held any more")


def test_a_broadcast_that_nobody_can_read_leaves_remote_control_at_work(
    field: Field, wait_until: Callable[..., Any]
) -> None:
    before = sum(field.refused.counts().values())
    for poison in (b"[" * 100_000, b"\xff", b"{}", message(body=5)[:-5]):
        field.client.publish("/0.celery.pidbox", poison)

    wait_until(lambda: sum(field.refused.counts().values()) == before + 4, 10, "all are refused")
    field.push(field.mission("after-broadcasts"))
    wait_until(lambda: field.ran("after-broadcasts") == 1, 10, "the next good mission")
    assert field.processes() == field.pids


def test_the_worst_of_them_stay_within_bounds_of_memory(field: Field, wait_until: Callable[..., Any]) -> None:
    """C42 and C48, ten of each."""
    for number in range(10):
        for row in (ROWS[41], ROWS[47]):
            field.push(row.make())
        field.push(field.mission(f"after-heavy-{number}"))
        wait_until(lambda name=f"after-heavy-{number}": field.ran(name) == 1, 10, "the next good mission")

    assert field.peak_bytes() - field.peak_at_first < ROOM_FOR_THE_WORST


def test_a_flood_of_small_ones_takes_neither_memory_nor_disk(field: Field, wait_until: Callable[..., Any]) -> None:
    before = field.refused.counts().get("bad_headers", 0)
    already = field.peak_bytes()
    poison = [message(headers={"id": "x" * 3_000}) for _ in range(FLOOD)]
    with field.client.pipeline() as pipe:
        for raw in poison:
            pipe.lpush(QUEUE, raw)
        pipe.execute()
    field.push(field.mission("after-flood"))

    wait_until(lambda: field.ran("after-flood") == 1, 120, "the next good mission")
    assert field.refused.counts()["bad_headers"] == before + FLOOD
    assert len(field.refused.newest(FLOOD)) == MOST_KEPT
    assert sum(file.stat().st_size for file in field.refused.path.parent.glob("spool.db*")) < 32 * 2**20
    assert field.peak_bytes() - already < 16 * 2**20
    assert field.processes() == field.pids


def test_a_control_worker_refuses_and_goes_on_beating(field: Field, wait_until: Callable[..., Any]) -> None:
    """It runs its tasks in its only process, and reads Redis in another loop of Celery's than a pool does."""
    queue, ready = "bench.control", field.cluster.folder / "control.ready"
    arguments = ["-m", "celery", "-A", "factory_tasks", "worker", "-Q", queue, "-n", "control@%h", "-P", "solo"]
    field.cluster._start("control", arguments, field.cluster._factory() | {"UA_READY_FILE": str(ready)})
    wait_until(ready.exists, 60, "the control worker")
    before = sum(field.refused.counts().values())
    beat = {"task": celeryconfig.HEARTBEAT_TASK, "ignore_result": True}
    place = {"delivery_info": {"exchange": "", "routing_key": queue}}

    # There is no HQ here: its first beat, which fails, must be over before that is forgotten.
    wait_until(lambda: '"source": "start"' in field.cluster.log("control"), 30, "the beat with which it starts")
    # Nothing went wrong so far, or the next beat would be waited with.
    Spool(field.refused.path).note("beat_failures", "0")
    poison = [row.make() for row in ROWS[:14]]
    for raw in [*poison, message(headers=beat, properties=place, body=[[], {}, {}])]:
        field.client.lpush(queue, raw)

    # There is no HQ here, so a beat that ran says that it failed.
    wait_until(lambda: '"source": "beat"' in field.cluster.log("control"), 10, "the beat")
    assert sum(field.refused.counts().values()) == before + len(poison)
    assert field.cluster.processes["control"].poll() is None

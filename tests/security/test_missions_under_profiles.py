"""Missions in a cluster where nobody may do more at the broker than it must: they end as ever, and nothing is refused.

The engine, the API, HQ's workers, Flower and a factory are each their own user; the operator's account is the test's.
"""

import json
import signal
import sys
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import urlsplit

import httpx
import pytest
import redis
from redis.exceptions import NoPermissionError
from redis_servers import KINDS, PASSWORD, forget_refusals, fresh_server, make_user, refusals
from warm_starts import WarmStarts

from corporation.embedded.ports import free_port
from corporation.federation import notes
from corporation.federation.spool import Spool
from corporation.missions.store.sending import EchoMessage
from corporation.roles import control_queue, private_queue
from corporation.settings import load_settings
from corporation.trust.redis_profiles import HqUser, factory_rules, hq_rules, producer_rules, user_of, user_of_hq
from factory_tasks.broker import CeleryBroker

sys.path.append(str(Path(__file__).parent.parent / "faults"))

from faulty_cluster import QUICK, FaultyCluster, Story

FACTORY, HQ = "bench", "bench-hq"
TAKEN = "before corporation.federation.spool:Spool.accept"
WORKED = "after ops.bench.noop:leave_mark"
MISSIONS = "ua:missions:delegation"
ACCOUNT = ("corporation", "a-password-for-one-minute-on-loopback")
PIDBOX = '{"method": "shutdown", "arguments": {}, "destination": null}'


@dataclass
class SealedCluster(FaultyCluster):
    """Each process is a user of its own; those of the factory have their password in a file."""

    urls: dict[str, str] = field(default_factory=dict[str, str])
    """By the user; a process whose name is none of these is the factory's."""

    def start_hq_worker(self) -> None:
        """HQ's own mission worker and its control worker are ready when this returns."""
        for name, queue in (("hq-worker", "headquarters"), ("hq-control", control_queue(HQ))):
            ready = self._fresh(name)
            more = {
                "UA_READY_FILE": str(ready),
                "UA_VP_DB_PATH": str(self.spool_of(HQ)),
                "UA_HEARTBEAT_INTERVAL_SECONDS": "10",
            }
            arguments = ["-m", "celery", "-A", "factory_tasks", "worker", "-Q", queue, "-P", "solo", "-n", f"{name}@%h"]
            self._start(name, arguments, self._hq() | more)
            self.wait(ready.exists)

    def start_telling_worker(self, name: str = "telling") -> None:
        """The factory's worker, which tells Flower what it does, takes missions when this returns."""
        ready = self._fresh(name)
        arguments = ["-m", "celery", "-A", "factory_tasks", "worker", "-Q", "local_factory", "-n", f"{name}@%h", "-E"]
        self._start(name, arguments, self._factory() | {"UA_READY_FILE": str(ready)})
        self.wait(ready.exists)

    def start_beat(self) -> None:
        """The factory's beat is told to run; it has no ready file."""
        self._start("beat", ["-m", "celery", "-A", "factory_tasks", "beat"], self._factory())

    @contextmanager
    def flower(self) -> Generator[httpx.Client]:
        """Somebody who looks at Flower, which runs as long as the block."""
        port = free_port(None)
        arguments = ["-m", "celery", "-A", "factory_tasks", "flower", "--address=127.0.0.1", f"--port={port}"]
        self._start("flower", arguments, self._hq() | {"FLOWER_BASIC_AUTH": ":".join(ACCOUNT)})
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", auth=ACCOUNT, timeout=20) as client:
            self.wait(lambda: _answers(client))
            yield client
        self.kill("flower")

    def as_user(self, who: str) -> "redis.Redis":
        """A client that may do what this user may."""
        return redis.Redis.from_url(self.urls[who])

    def _spawn(self, name: str, arguments: Sequence[str], env: Mapping[str, str], output: BinaryIO) -> Any:
        return super()._spawn(name, arguments, {**env, **self._own(name)}, output)

    def _own(self, name: str) -> dict[str, str]:
        who = "hq-worker" if name.startswith("hq-") else name
        if who in self.urls:
            return {"UA_REDIS_URL": self.urls[who]}
        url = urlsplit(self.urls["factory"])
        bare = url._replace(netloc=f"{url.username}@{url.hostname}:{url.port}").geturl()
        password = self.folder / "redis-password"
        password.write_text(f"{PASSWORD}\n")
        return {
            "UA_REDIS_URL": bare,
            "UA_REDIS_PASSWORD_FILE": str(password),
            "UA_FACTORY_QUEUE": private_queue(FACTORY),
        }


def _answers(client: httpx.Client) -> bool:
    try:
        return client.get("/api/queues/length").status_code == 200
    except httpx.HTTPError:
        return False


def _users(admin: "redis.Redis", url: str) -> dict[str, str]:
    rules: dict[str, tuple[str, Callable[..., tuple[str, ...]]]] = {
        "factory": (user_of(FACTORY), partial(factory_rules, FACTORY, seen=True)),
        "hq-worker": (user_of(HQ), partial(factory_rules, HQ, own_queues=["headquarters"])),
        **{str(role): (user_of_hq(role), partial(hq_rules, role)) for role in HqUser},
        "press": ("press", partial(producer_rules, MISSIONS)),
    }
    return {who: make_user(admin, url, name, words) for who, (name, words) in rules.items()}


@pytest.fixture(params=KINDS, scope="module")
def cluster(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    module_servers: tuple[str, str],
    wait_until: Callable[..., Any],
    warm: WarmStarts,
) -> Iterator[SealedCluster]:
    """API, engine, control worker and beat; workers are for the tests to start."""
    folder = tmp_path_factory.mktemp("sealed")
    (server := folder / "server").mkdir()
    with fresh_server(request.param, server) as url, redis.Redis.from_url(url) as admin:
        urls = _users(admin, url)
        waiting: Any = lambda it: wait_until(it, 60)  # noqa: E731 - shorter than a function of this shape
        with SealedCluster(folder, module_servers[0], url, waiting, QUICK, warm=warm, urls=urls) as cluster:
            cluster.db.execute("TRUNCATE corporation.missions, corporation.factories CASCADE")
            cluster.start_api()
            cluster.start_engine()
            cluster.start_control()
            cluster.start_beat()
            yield cluster


@pytest.fixture
def worker(cluster: SealedCluster) -> Iterator[SealedCluster]:
    """The factory's worker, started by hand by the queue that all factories know; ended after the test."""
    cluster.start_worker()
    cluster.wait(lambda: cluster.value("SELECT 1 FROM corporation.factories WHERE factory_id = 'bench' AND slots = 2"))
    yield cluster
    for name in {"worker", "next"} & set(cluster.processes):
        cluster.kill(name)


@pytest.fixture(autouse=True)
def nobody_refused(cluster: SealedCluster) -> Iterator[None]:  # pyright: ignore[reportUnusedFunction]
    """Whatever the test made the processes do, each of them had the right to."""
    yield
    assert refused_at(cluster) == []


def refused_at(cluster: SealedCluster, *, forget: bool = False) -> list[tuple[str, str]]:
    """Whom the server has refused something, and what."""
    with redis.Redis.from_url(cluster.redis_url) as admin:
        found = refusals(admin)
        if forget:
            forget_refusals(admin)
        return found


@pytest.fixture
def settled(wait_until: Callable[..., Any]) -> Callable[[SealedCluster], None]:
    return lambda cluster: wait_until(lambda: not cluster.left(), 30, "all done")


def test_missions_succeed_and_are_tried_again_by_hq(worker: SealedCluster, settled: Callable[..., None]) -> None:
    worker.publish(worker.order("m-1"), worker.order("m-2", max_retries=2, answer="failed"))
    settled(worker)

    assert worker.story("m-1") == Story("succeeded", ("succeeded",), (1,))
    assert worker.story("m-2") == Story("failed", ("failed", "failed"), (1, 2))


def test_a_worker_that_is_killed_in_mid_work_costs_one_attempt(
    worker: SealedCluster, settled: Callable[..., None]
) -> None:
    worker.arm("next", WORKED)
    worker.kill("worker")
    worker.start_worker("next")
    worker.publish(worker.order("killed", max_retries=2))
    worker.crashed("next")
    worker.start_worker()
    settled(worker)

    assert worker.story("killed") == Story("succeeded", ("lost", "succeeded"), (1, 2))


def test_what_a_killed_worker_had_in_hand_is_put_back_and_run_once(
    worker: SealedCluster, settled: Callable[..., None]
) -> None:
    worker.arm("next", TAKEN)
    worker.kill("worker")
    worker.start_worker("next")
    worker.publish(worker.order("taken", max_retries=2))
    worker.crashed("next")
    assert len(worker.unacknowledged()) == 1
    worker.start_worker()
    settled(worker)

    assert worker.story("taken") == Story("succeeded", ("succeeded",), (1,))
    assert not worker.unacknowledged()


def test_a_warm_shutdown_finishes_what_runs_and_leaves_what_waits(
    worker: SealedCluster, settled: Callable[..., None]
) -> None:
    gate = worker.folder / "gate"
    orders = [worker.order(f"warm-{number}", gate=str(gate)) for number in (1, 2, 3)]
    worker.publish(*orders)
    worker.wait(lambda: sum(job.startswith("warm-") for job, _ in worker.effects()) == 2)
    process = worker.processes["worker"]
    process.send_signal(signal.SIGTERM)
    gate.touch()

    assert process.wait(30) == 0
    assert not worker.unacknowledged()
    worker.start_worker()
    settled(worker)
    # What waited may have been taken back meanwhile, and sent again as another attempt.
    assert [len(worker.story(f"warm-{number}").effects) for number in (1, 2, 3)] == [1, 1, 1]


def test_an_order_to_stop_and_an_echo_reach_the_factory(worker: SealedCluster, settled: Callable[..., None]) -> None:
    gate = worker.folder / "never"
    worker.publish(worker.order("stopped", gate=str(gate)))
    worker.wait(lambda: ("stopped", 1) in worker.effects())
    assert worker.cancel("stopped").status_code == 200
    settled(worker)
    engine = {"FACTORY_ROLE": "HEADQUARTERS", "UA_FACTORY_ID": HQ, "UA_REDIS_URL": worker.urls["engine"]}
    CeleryBroker(load_settings(engine)).echo([EchoMessage(1, "echo-1", private_queue(FACTORY), FACTORY)])

    spool = Spool(worker.spool_of())
    worker.wait(lambda: spool.noted(notes.ECHO_HEARD) == "echo-1")
    assert worker.story("stopped").state == "cancelled"


def test_a_mission_from_a_stream_is_run_and_its_end_is_told(
    worker: SealedCluster, settled: Callable[..., None]
) -> None:
    order = json.dumps({**worker.order("streamed"), "redis": True})
    with worker.as_user("press") as press:
        press.xadd(MISSIONS, {"envelope": order, "payload": order})
    worker.wait(lambda: "streamed" in worker.told())


def test_hq_knows_how_much_waits_where(worker: SealedCluster) -> None:
    with worker.client as client:
        client.headers["authorization"] = f"Bearer {client.headers.pop('x-ua-ops-token')}"
        numbers = client.get("/metrics").raise_for_status().text

    assert "ua_redis_up 1.0" in numbers
    assert 'factory.bench"' in numbers


def test_what_redis_lost_is_handed_out_again_by_who_may(worker: SealedCluster, settled: Callable[..., None]) -> None:
    """The operator asks the API, which may look into no queue; the engine does it, control queues included."""
    gate = worker.folder / "rebuilt"
    worker.publish(*(worker.order(f"rebuilt-{number}", gate=str(gate)) for number in (1, 2, 3)))
    worker.wait(lambda: sum(job.startswith("rebuilt-") for job, _ in worker.effects()) == 2)
    with worker.client as client:
        client.headers["authorization"] = f"Bearer {client.headers.pop('x-ua-ops-token')}"
        seen = client.post("/api/v1/ops/queues/rebuild", json={"dry_run": True}).raise_for_status().json()
        done = client.post("/api/v1/ops/queues/rebuild").raise_for_status().json()
    gate.touch()
    settled(worker)

    assert {row["queue"] for row in seen["queues"]} >= {private_queue(FACTORY), control_queue(FACTORY)}
    assert (done["ok"], done["resent"], done["orphans_removed"]) == (True, 0, 0)
    assert [len(worker.story(f"rebuilt-{number}").effects) for number in (1, 2, 3)] == [1, 1, 1]


def test_hqs_own_workers_and_a_factorys_beat_do_their_work(cluster: SealedCluster) -> None:
    cluster.start_hq_worker()
    cluster.wait(lambda: cluster.value("SELECT 1 FROM corporation.factories WHERE factory_id = 'bench-hq'"))
    seen = cluster.value("SELECT last_seen_at FROM corporation.factories WHERE factory_id = 'bench'")

    # No worker runs there now: it is its beat that tells its control worker to be heard.
    later = "SELECT last_seen_at > %s FROM corporation.factories WHERE factory_id = 'bench'"
    cluster.wait(lambda: cluster.value(later, seen))
    for name in ("hq-worker", "hq-control"):
        assert cluster.stop(name) == 0


def test_flower_sees_what_a_worker_tells_and_can_order_nothing(
    cluster: SealedCluster, settled: Callable[..., None]
) -> None:
    with cluster.flower() as flower:
        cluster.start_telling_worker()
        # Until HQ has heard of the worker it knows nobody who could do it.
        cluster.wait(lambda: cluster.ask(cluster.order("seen")).status_code == 202)
        settled(cluster)
        cluster.wait(lambda: flower.get("/api/tasks").json())
        lengths = flower.get("/api/queues/length").json()["active_queues"]
        stopped = flower.post("/api/worker/shutdown/telling@vm")
        assert refused_at(cluster) == []
        sent = flower.post("/api/task/send-task/mission.noop", json={"args": []})
    cluster.kill("telling")

    assert {queue["name"]: queue["messages"] for queue in lengths}["headquarters"] == 0
    assert (stopped.status_code, sent.status_code) == (404, 503)
    assert refused_at(cluster, forget=True) == [("corporation_flower", "command lpush")]


def test_a_factory_can_neither_broadcast_nor_listen_nor_send_to_another(cluster: SealedCluster) -> None:
    with cluster.as_user("factory") as thief:
        for words in (
            ["PUBLISH", "/0.celery.pidbox", PIDBOX],
            ["PSUBSCRIBE", "/0.celery.pidbox"],
            ["LPUSH", "factory.desk-8", "forged"],
            ["BRPOP", "factory.desk-8", "1"],
        ):
            with pytest.raises(NoPermissionError):
                thief.execute_command(*words)
    assert {user for user, _ in refused_at(cluster, forget=True)} == {"f_bench"}

"""A factory that is put in quarantine has nothing within five seconds, and its missions end elsewhere, each once."""

import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from database_roles import Role, a_role
from sqlalchemy import NullPool, create_engine
from trusting_nobody import TrustingNobody, connections, cut, is_let_in

from corporation.db import open_ledger, sqlalchemy_url, transaction
from corporation.trust.mailbox_roles import admit

if TYPE_CHECKING:
    from warm_starts import WarmStarts

    from corporation.embedded.server_process import Server

sys.path.append(str(Path(__file__).parent.parent / "integration" / "ledger"))

from faulty_cluster import QUICK, Story
from history import assert_history_is_whole

LIMIT_SECONDS = 5.0
CLAIM = "/api/v1/factory/missions/claim"
BEATS = "/api/v1/factory/registrations"
MINT = "/auth/ops-token"


@pytest.fixture
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator["Server"]:
    """A Redis of this test's own: its users would outlive the test in another."""
    from corporation.embedded.valkey import start_valkey

    server = start_valkey(tmp_path_factory.mktemp("valkey"))
    yield server
    server.stop()


@pytest.fixture
def cluster(
    tmp_path: Path, database_url: str, server: "Server", wait_until: Callable[..., Any], warm: "WarmStarts"
) -> Iterator[TrustingNobody]:
    """API, engine, and `desk-7`, which has joined and works with two slots."""
    made = TrustingNobody(tmp_path, database_url, server.url, lambda it: wait_until(it, 60), QUICK, warm=warm)
    with made as cluster:
        cluster.start_api()
        cluster.start_engine()
        cluster.join("desk-7")
        cluster.start_worker("worker", queue="factory.desk-7", factory="desk-7")
        cluster.wait(lambda: cluster.value("SELECT 1 FROM corporation.factories WHERE slots = 2"))
        yield cluster
        engine = create_engine(sqlalchemy_url(database_url), poolclass=NullPool, isolation_level="REPEATABLE READ")
        with engine.connect() as connection:
            assert_history_is_whole(connection)


@pytest.fixture
def role(cluster: TrustingNobody, database_url: str) -> Iterator[Role]:
    """The role that `desk-7` would have if it opened the mailbox itself, as a factory of HQ's own machine does."""
    with a_role(database_url, name="f_desk_7_quarantined") as role:
        ledger = open_ledger(database_url, 1)
        with transaction(ledger) as connection:
            admit(connection, role.name, "desk-7")
        ledger.dispose()
        yield role


def test_a_quarantined_factory_loses_everything_and_its_missions_end_elsewhere_once(
    cluster: TrustingNobody, role: Role, server: "Server", wait_until: Callable[..., Any]
) -> None:
    told, gate = cluster.joined["desk-7"], cluster.folder / "gate"
    with cluster.as_factory(told["factory_credential"]) as client:
        minted = client.post(MINT, json={"scope": "factory", "factory_id": "desk-7"}).json()["token"]
    cluster.publish(*(cluster.order(f"begun-{number}", max_retries=2, gate=str(gate)) for number in range(2)))
    wait_until(lambda: len(cluster.effects()) == 2, 30, "two missions at work")
    cluster.publish(*(cluster.order(f"queued-{number}", max_retries=1) for number in range(2)))
    wait_until(lambda: cluster.messages("desk-7") == 2, 30, "two more in the queue")
    assert len(connections(server)) >= 2
    mailbox = psycopg.connect(role.url, autocommit=True)
    assert mailbox.execute("SELECT count(task_id) FROM mailbox.celery_taskmeta").fetchone() == (4,)

    began = time.monotonic()
    cluster.order_factory("quarantine", "desk-7")
    wait_until(lambda: not connections(server), LIMIT_SECONDS, "every connection to Redis is closed")
    seconds = time.monotonic() - began

    assert not is_let_in(told["redis_url"])
    for bearer in (told["token"], minted):
        with cluster.as_factory(bearer) as client:
            assert client.post(BEATS, json={"factory_id": "desk-7"}).status_code == 401
            assert client.post(CLAIM, json={"factory_id": "desk-7", "max": 1}).status_code == 401
            assert client.post("/api/v1/factory/redis-password", json={}).status_code == 401
    with cluster.as_factory(told["factory_credential"]) as client:
        assert client.post(MINT, json={"scope": "factory", "factory_id": "desk-7"}).status_code == 401
    with mailbox:
        assert mailbox.execute("SELECT count(task_id) FROM mailbox.celery_taskmeta").fetchone() == (0,)
        assert mailbox.execute("UPDATE mailbox.celery_taskmeta SET status = 'SUCCESS'").rowcount == 0
    assert time.monotonic() - began < LIMIT_SECONDS
    assert seconds < LIMIT_SECONDS
    wait_until(lambda: cluster.messages("desk-7") == 0, LIMIT_SECONDS, "what lay in its queue is taken back")
    held = "SELECT count(*) FROM corporation.attempts WHERE finished_at IS NULL"
    wait_until(lambda: cluster.value(held) == 0, LIMIT_SECONDS, "what it ran is given up")
    assert time.monotonic() - began < LIMIT_SECONDS

    cluster.join("desk-8")
    cluster.start_worker("spare", queue="factory.desk-8", factory="desk-8")
    # Its machine is not ours any more: it works on, and what it has to say is heard by nobody. No lease is waited for.
    gate.touch()
    finals = "SELECT count(*) FROM corporation.missions WHERE finished_at IS NOT NULL"
    wait_until(lambda: cluster.value(finals) == 4, 40, "all four have ended")
    # The streams' publisher tells a moment later.
    wait_until(lambda: len(cluster.told()) == 4, 10, "each end is told")

    for number in range(2):
        assert cluster.story(f"begun-{number}") == Story("succeeded", ("lost", "succeeded"), (1, 2))
        assert cluster.story(f"queued-{number}") == Story("succeeded", ("withdrawn", "succeeded"), (2,))
    assert connections(server) == []
    assert {row[0] for row in cluster.db.execute("SELECT factory_id FROM corporation.missions")} == {"desk-8"}


def test_a_released_factory_works_again_without_a_restart(
    cluster: TrustingNobody, server: "Server", wait_until: Callable[..., Any]
) -> None:
    cluster.order_factory("quarantine", "desk-7")
    wait_until(lambda: not connections(server), LIMIT_SECONDS, "every connection to Redis is closed")
    cluster.order_factory("release", "desk-7")
    cluster.publish(cluster.order("after"))

    wait_until(lambda: cluster.effects() == [("after", 1)], 40, cluster.log("worker")[-2000:])
    wait_until(lambda: cluster.value("SELECT state FROM corporation.missions") == "succeeded", 20)


def test_a_factory_whose_quarantine_redis_missed_is_shut_out_when_it_answers_again(
    cluster: TrustingNobody, server: "Server", wait_until: Callable[..., Any]
) -> None:
    """The engine was down; the ledger remembers, and nobody else has to."""
    cluster.kill("engine")
    cluster.order_factory("quarantine", "desk-7")
    assert connections(server)
    cluster.start_engine()

    wait_until(lambda: not connections(server), LIMIT_SECONDS, "every connection to Redis is closed")
    assert not is_let_in(cluster.joined["desk-7"]["redis_url"])


def test_a_password_is_exchanged_under_a_worker_that_works_on(
    cluster: TrustingNobody, server: "Server", wait_until: Callable[..., Any]
) -> None:
    """Nothing restarts; what runs goes on, and every later connection shows the new password."""
    worker, file, gate = cluster.processes["worker"].pid, cluster.password_of("desk-7"), cluster.folder / "gate"
    cluster.publish(cluster.order("during", gate=str(gate)))
    wait_until(lambda: cluster.effects() == [("during", 1)], 30, "a mission at work")
    before = file.read_text()
    cluster.order_factory("rotate", "desk-7")
    wait_until(lambda: file.read_text() != before, 30, "the new password")
    assert is_let_in(cluster.joined["desk-7"]["redis_url"]), "the old one is good for a while"

    ended = "UPDATE corporation.redis_users SET previous_until = now(), applied_at = now() - interval '1 hour'"
    cluster.db.execute(ended)
    wait_until(lambda: not is_let_in(cluster.joined["desk-7"]["redis_url"]), LIMIT_SECONDS, "the old one is over")
    cut(server)
    wait_until(lambda: len(connections(server)) >= 2, 30, "the worker is back")
    gate.touch()
    cluster.publish(cluster.order("after"))
    done = "SELECT count(*) FROM corporation.missions WHERE state = 'succeeded'"
    wait_until(lambda: cluster.value(done) == 2, 40, "both are done")

    assert cluster.effects() == [("during", 1), ("after", 1)]
    assert (cluster.processes["worker"].pid, cluster.processes["worker"].poll()) == (worker, None)

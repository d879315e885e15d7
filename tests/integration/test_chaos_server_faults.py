"""What the chaos does to real servers really happens, and is made good again."""

from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest
import redis

from corporation.embedded.postgres import start_postgres
from corporation.embedded.valkey import start_valkey
from ops.bench.chaos_ledger import AWAY, Servers
from ops.bench.chaos_plan import Fault, Kind
from ops.bench.chaos_server_faults import Later, ServerFaults

NEVER_SECONDS = 3600.0


@pytest.fixture
def valkey(tmp_path: Path) -> Iterator[ServerFaults]:
    """What strikes a Redis of its own."""
    server = start_valkey(tmp_path)
    try:
        yield faults_of(tmp_path, Servers("", server.url), valkey=server)
    finally:
        server.stop()


@pytest.fixture
def postgres(tmp_path: Path, cluster_template: Path) -> Iterator[ServerFaults]:
    """What strikes a PostgreSQL of its own, in which there is a table of missions."""
    server = start_postgres(tmp_path / "postgres", template=cluster_template, durable=False)
    try:
        faults = faults_of(tmp_path, Servers(server.url, ""), postgres=server)
        faults.servers.execute("CREATE SCHEMA IF NOT EXISTS corporation")
        faults.servers.execute("CREATE TABLE IF NOT EXISTS corporation.missions (id int)")
        yield faults
    finally:
        server.stop()


def faults_of(place: Path, servers: Servers, **system: Any) -> ServerFaults:
    parts: Any = SimpleNamespace(**system)
    return ServerFaults(parts, servers, place, Later())


def struck(faults: ServerFaults, kind: Kind) -> frozenset[str] | None:
    """Whom a fault of this kind touches, which lasts until all is made good."""
    return getattr(faults, kind)(Fault(kind, 0.0, NEVER_SECONDS))


def test_a_redis_whose_memory_is_full_answers_and_takes_nothing(valkey: ServerFaults) -> None:
    assert struck(valkey, "refuse_writes") == {"redis"}
    with valkey.servers.redis() as client:
        assert client.ping()
        with pytest.raises(redis.OutOfMemoryError):
            client.lpush("queue", "x")
        valkey.later.act(everything=True)

        assert client.lpush("queue", "x") == 1


def test_a_frozen_redis_keeps_its_connections_and_answers_nobody(valkey: ServerFaults) -> None:
    with redis.Redis.from_url(valkey.servers.redis_url, socket_timeout=0.3) as client:
        client.set("key", "1")
        assert struck(valkey, "freeze_valkey") == {"redis"}
        with pytest.raises(redis.TimeoutError):
            client.get("key")
        valkey.later.act(everything=True)

        assert client.get("key") == b"1"


def test_redis_hangs_up_on_everybody_once(valkey: ServerFaults) -> None:
    with valkey.servers.redis() as client, valkey.servers.redis() as witness:
        before = client.client_id()
        assert struck(valkey, "cut_clients") == {"redis"}

        assert str(before) not in {one["id"] for one in witness.client_list()}


def test_what_cannot_be_made_good_is_tried_again(valkey: ServerFaults) -> None:
    struck(valkey, "refuse_writes")
    struck(valkey, "freeze_valkey")
    full, frozen = valkey.later.waits
    valkey.later.waits = [full]
    valkey.later.act(everything=True)

    assert len(valkey.later.waits) == 1
    valkey.later.waits = [frozen, *valkey.later.waits]
    valkey.later.act(everything=True)
    valkey.later.act(everything=True)
    with valkey.servers.redis() as client:
        assert client.set("key", "1")


def test_nobody_gets_a_fresh_session_while_all_are_taken(
    postgres: ServerFaults, wait_until: Callable[..., Any]
) -> None:
    assert struck(postgres, "take_sessions") == {"everybody"}
    with pytest.raises(psycopg.OperationalError, match="too many clients"):
        postgres.servers.execute("SELECT 1")
    postgres.later.act(everything=True)

    wait_until(lambda: _answers(postgres.servers), 10)


def _answers(servers: Servers) -> bool:
    try:
        return servers.execute("SELECT 1") == 1
    except AWAY:
        return False


def test_whoever_looks_at_missions_waits_while_somebody_has_them_to_himself(postgres: ServerFaults) -> None:
    assert struck(postgres, "lock_ledger") == {"everybody"}
    with pytest.raises(psycopg.errors.LockNotAvailable):
        postgres.servers.execute("SELECT count(*) FROM corporation.missions")
    postgres.later.act(everything=True)

    assert postgres.servers.execute("SELECT count(*) FROM corporation.missions") == 1

"""Real servers for every test that asks for one, one of each per test process; nothing of the caller's environment.

Imports of servers and drivers happen inside the fixtures, so that the pure tests in `core/` stay fast.
"""

from __future__ import annotations

import fcntl
import itertools
import os
import shutil
import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest

if TYPE_CHECKING:
    from warm_starts import WarmStarts
    from xdist.remote import Producer
    from xdist.scheduler import LoadScopeScheduling

    from corporation.embedded.server_process import Server

_numbers = itertools.count(1)


@pytest.fixture(autouse=True, scope="session")
def _bare_environment() -> None:  # pyright: ignore[reportUnusedFunction]
    """No test depends on, or reaches, what the person who runs it has configured, variables or a dotenv file."""
    ours = {
        "DATABASE_URL",
        "REDIS_PASSWORD",
        "FACTORY_ROLE",
        "LLM_PROVIDER_OVERRIDE",
        "ENABLE_VP_CODER",
        "ENABLE_VP_GENERAL",
    }
    for name in [name for name in os.environ if name.startswith(("UA_", "INFISICAL_", "TELEGRAM_")) or name in ours]:
        del os.environ[name]
    os.environ["UA_DOTENV_PATH"] = os.devnull


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Where several test processes share the work, they begin with the longest; the order stays as it is otherwise."""
    if hasattr(config, "workerinput"):
        from order import place_of

        items.sort(key=lambda item: place_of(item.nodeid))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> LoadScopeScheduling | None:
    """With `--dist loadscope` the tests that share a module's servers stay in one process; `order.py` says which."""
    from order import scheduling

    return scheduling(config, log) if config.getvalue("dist") == "loadscope" else None


def pytest_sessionfinish(session: pytest.Session) -> None:
    """After the last test of the whole run, everything it left is searched for the mark that all secrets carry."""
    from canary import leaks_below

    if hasattr(session.config, "workerinput"):
        return  # a test process; the one that started it looks at all of them
    factory: pytest.TempPathFactory | None = getattr(session.config, "_tmp_path_factory", None)
    leaks = list(leaks_below(factory.getbasetemp())) if factory else []
    for leak in leaks:
        print(f"LEAK: {leak}")  # noqa: T201 - there is no test left to fail
    if leaks:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.fixture(scope="session")
def wait_until() -> Callable[..., Any]:
    """`wait_until(condition, limit_seconds=10, what="…")`: the first true value of `condition()`, else a failure.

    It is how a test waits: never for a time, always for something.
    """

    def wait(condition: Callable[[], Any], limit_seconds: float = 10, what: str = "what the test waits for") -> Any:
        pause = threading.Event()
        for _ in range(max(1, round(limit_seconds / 0.02))):
            if value := condition():
                return value
            pause.wait(0.02)
        if value := condition():
            return value
        pytest.fail(f"not true within {limit_seconds:g} s: {what}")

    return wait


@pytest.fixture(scope="session")
def warm() -> Iterator[WarmStarts]:
    """Starts processes of ours without their imports; `warm_starts.py` says for which tests that is enough."""
    from warm_starts import WarmStarts

    with WarmStarts() as starts:
        yield starts


@pytest.fixture(scope="session")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The Valkey server of this test process; tests use `redis_url`."""
    from corporation.embedded.binaries import find_valkey
    from corporation.embedded.valkey import start_valkey

    _skip_or_fail_without(find_valkey)
    server = start_valkey(tmp_path_factory.mktemp("valkey"))
    yield server
    server.stop()


@pytest.fixture
def redis_url(valkey: Server) -> Iterator[str]:
    """The address of an empty Redis-compatible database; no secret of a test may be left in it."""
    import redis
    from canary import leaks_in_redis

    with redis.Redis.from_url(valkey.url) as client:
        client.flushall()
    yield valkey.url
    assert not leaks_in_redis(valkey.url)


@pytest.fixture(scope="session")
def cluster_template(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Path:
    """The folder of a stopped, empty PostgreSQL, made once for all test processes: copying it is faster than initdb."""
    from corporation.embedded.binaries import find_postgres
    from corporation.embedded.postgres import start_postgres

    _skip_or_fail_without(find_postgres)
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if hasattr(request.config, "workerinput") else base
    folder, complete = shared / "postgres-template", shared / "postgres-template.complete"
    with (shared / "postgres-template.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not complete.exists():
            start_postgres(folder, durable=False).stop()
            complete.touch()
    return folder


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory, cluster_template: Path) -> Iterator[Server]:
    """The PostgreSQL server of this test process, not durable; tests use `database_url`."""
    from canary import leaks_below

    from corporation.embedded.postgres import start_postgres
    from corporation.embedded.postgres_place import home_of

    folder = tmp_path_factory.mktemp("postgres")
    server = start_postgres(folder, template=cluster_template, durable=False)
    yield server
    server.stop()
    leaks = list(leaks_below(home_of(folder)))
    shutil.rmtree(home_of(folder))
    assert not leaks


@pytest.fixture
def empty_database_url(postgres: Server) -> Iterator[str]:
    """The address of a database without any table, dropped afterwards with every connection to it."""
    with _database(postgres, "template1") as url:
        yield url


@pytest.fixture
def database_url(postgres: Server, _migrated: str) -> Iterator[str]:
    """The address of a fresh database with the newest schema, dropped afterwards with every connection to it."""
    with _database(postgres, _migrated) as url:
        yield url


@pytest.fixture(scope="module")
def module_servers(postgres: Server, valkey: Server, _migrated: str) -> Iterator[tuple[str, str]]:
    """A migrated database and an empty Redis for all tests of a module: those that start whole processes on them."""
    import redis
    from canary import leaks_in_redis

    with redis.Redis.from_url(valkey.url) as client:
        client.flushall()
    with _database(postgres, _migrated) as url:
        yield url, valkey.url
    assert not leaks_in_redis(valkey.url)


@pytest.fixture(scope="session")
def _migrated(postgres: Server) -> Iterator[str]:  # pyright: ignore[reportUnusedFunction]
    """A migrated database that nobody connects to any more, for cloning."""
    from corporation.db import migrate

    with _database(postgres, "template1") as url:
        migrate(url)
        yield urlsplit(url).path.lstrip("/")


@contextmanager
def _database(postgres: Server, template: str) -> Generator[str]:
    import psycopg
    from canary import leaks_in_database
    from psycopg import sql

    name = f"test_{next(_numbers)}"
    # Measured: the default strategy makes each drop three times slower, and nothing faster.
    statement = "CREATE DATABASE {} TEMPLATE {} STRATEGY file_copy"
    create = sql.SQL(statement).format(sql.Identifier(name), sql.Identifier(template))
    drop = sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name))
    address = urlsplit(postgres.url)
    with psycopg.connect(address._replace(path="/postgres").geturl(), autocommit=True) as connection:
        connection.execute(create)
    yield address._replace(path=f"/{name}").geturl()
    with psycopg.connect(address._replace(path=f"/{name}").geturl(), autocommit=True) as connection:
        leaks = leaks_in_database(connection)
    with psycopg.connect(address._replace(path="/postgres").geturl(), autocommit=True) as connection:
        connection.execute(drop)
    assert not leaks


def _skip_or_fail_without(find: Callable[[], Path]) -> None:
    """Without the server's program a test is skipped at home; where CI says that it is CI, it fails."""
    from corporation.embedded.server_process import ServerError

    try:
        find()
    except ServerError as error:
        if "CI" in os.environ:
            raise
        pytest.skip(str(error))

"""The HTTP door: one served headquarters for all tests of a module, which finds its ledger and its counts empty."""

from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
from canary import leaks_in_database
from served_api import Api, forgetful, registered, served, settings_for

from hq_api.bounded_http import BoundedHttp

# Without the triggers of foreign keys the order does not matter. Measured: TRUNCATE takes sixty times as long.
EMPTY = """
    SELECT 'SET session_replication_role = replica;'
           || string_agg(format('DELETE FROM %I.%I', schemaname, tablename), ';')
      FROM pg_tables WHERE schemaname = 'corporation'
"""


@pytest.fixture
def api(module_api: Api, shared_url: str) -> Api:
    """A served headquarters with an empty ledger, which knows of no failure; tests with other settings serve theirs."""
    del shared_url
    return forgetful(module_api)


@pytest.fixture(scope="module")
def module_api(module_servers: tuple[str, str], wait_until: Callable[..., Any]) -> Iterator[Api]:
    """What is behind `api`; it has registered itself, so it writes nothing by itself for a minute."""
    with served(settings_for(module_servers[0])) as api:
        registered(api, wait_until)
        yield api


@pytest.fixture(scope="module")
def hasty(module_servers: tuple[str, str]) -> Iterator[Api]:
    """A server that waits 0.3 s for a head, and for the rest of what it has answered."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(BoundedHttp, "head_seconds", 0.3)
        with served(settings_for(module_servers[0])) as api:
            yield api


@pytest.fixture
def shared_url(module_servers: tuple[str, str], cleaner: psycopg.Connection) -> Iterator[str]:
    """The address of the module's ledger, which is empty; `database_url` is one that nobody else ever wrote into."""
    yield module_servers[0]
    leaks = leaks_in_database(cleaner)
    [[statements]] = cleaner.execute(EMPTY).fetchall()
    cleaner.execute(statements)
    assert not leaks


@pytest.fixture(scope="module")
def cleaner(module_servers: tuple[str, str]) -> Iterator[psycopg.Connection]:
    """A connection to the module's ledger, behind the back of all."""
    with psycopg.connect(module_servers[0], autocommit=True) as connection:
        yield connection


@pytest.fixture
def order() -> Callable[..., dict[str, Any]]:
    """Makes a valid envelope with these changes at its top."""

    def make(**changes: Any) -> dict[str, Any]:
        return {"job_id": "j-1", "idempotency_key": "k-1", "payload": {"task": "Tidy the notes"}} | changes

    return make

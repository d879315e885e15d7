"""A server's processes do not start as the owner of the database, and do as a role that was granted it (E10)."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import psycopg
import pytest
from canary import secret, shows
from database_roles import Role, a_role
from fake_infisical import FakeInfisical
from role_node import JWT_SECRET, OPS_TOKEN, Node
from warm_starts import WarmStarts

from corporation.db import migrate

REFUSED = ("api", "engine", "missions", "control", "beat", "telegram")
BOT = {"TELEGRAM_BOT_TOKEN": secret("bot"), "TELEGRAM_ALLOWED_USER_IDS": "7"}


@pytest.fixture(scope="module")
def granted(module_servers: tuple[str, str]) -> Iterator[Role]:
    """A role that was granted the ledger of this module and owns nothing."""
    with a_role(module_servers[0]) as role:
        migrate(module_servers[0], [role.name])
        yield role


@pytest.fixture(scope="module")
def vps() -> Iterator[Mapping[str, str]]:
    """The variables that make a node a server whose secrets come from a vault, which answers."""
    with FakeInfisical({"UA_OPS_TOKEN": OPS_TOKEN, "UA_OPS_JWT_SECRET": JWT_SECRET}) as fake:
        yield fake.environ(UA_DEPLOYMENT_PROFILE="vps")


def test_no_process_of_a_server_starts_as_the_owner(
    tmp_path: Path,
    module_servers: tuple[str, str],
    vps: Mapping[str, str],
    wait_until: Callable[..., Any],
    warm: WarmStarts,
) -> None:
    database_url, redis_url = module_servers
    with Node("HEADQUARTERS", tmp_path, database_url, redis_url, wait_until, more={**vps, **BOT}, warm=warm) as node:
        for name in REFUSED:
            node.spawn(name)
        ended = {name: node.processes.pop(name).wait(timeout=60) for name in REFUSED}

        assert ended == dict.fromkeys(REFUSED, 78)
        for name in REFUSED:
            said = node.log(name)
            assert "UA_DATABASE_URL: the database role 'corporation' is too strong: it is a superuser; " in said
            assert not shows(said)
            assert database_url not in said
            assert "Traceback" not in said


def test_a_server_under_another_program_and_the_launcher_refuse_it_too(
    tmp_path: Path,
    module_servers: tuple[str, str],
    vps: Mapping[str, str],
    wait_until: Callable[..., Any],
    warm: WarmStarts,
) -> None:
    """uvicorn that is given the application by name, and `corporation up` on a given database."""
    database_url, redis_url = module_servers
    with Node("HEADQUARTERS", tmp_path, database_url, redis_url, wait_until, more=vps, warm=warm) as node:
        environ = node.environment("uvicorn")
    commands = {
        "uvicorn": ["-m", "uvicorn", "hq_api.app:app", "--port", "0"],
        "up": ["-m", "corporation.cli", "up", "--once", "--state", str(tmp_path / "stack")],
    }
    for name, command in commands.items():
        ended = warm.run(command, environ)
        assert ended.returncode == 78, (name, ended.stderr)
        assert "the database role 'corporation' is too strong" in ended.stderr
        assert "`corporation migrate --grant corporation_hq`" in ended.stderr
        assert not shows(ended.stdout + ended.stderr)
    assert not list((tmp_path / "stack" / "logs").iterdir()), "no process was started"


def test_a_factory_on_a_server_does_not_start_with_the_owners_mailbox(
    tmp_path: Path,
    module_servers: tuple[str, str],
    vps: Mapping[str, str],
    wait_until: Callable[..., Any],
    warm: WarmStarts,
) -> None:
    with Node("LOCAL_WORKER", tmp_path, *module_servers, wait_until, more=vps, warm=warm) as node:
        status, said = node.refusal("missions")

    assert status == 78
    assert "UA_RESULT_BACKEND_URL: the database role 'corporation' is too strong" in said


def test_a_server_starts_as_a_role_that_was_granted_the_ledger(
    tmp_path: Path,
    module_servers: tuple[str, str],
    granted: Role,
    vps: Mapping[str, str],
    wait_until: Callable[..., Any],
    warm: WarmStarts,
) -> None:
    with Node("HEADQUARTERS", tmp_path, granted.url, module_servers[1], wait_until, more=vps, warm=warm) as node:
        node.spawn("api")
        ready = [node.spawn(name) for name in ("engine", "missions")]
        wait_until(lambda: all(one.exists() for one in ready), 60, "the engine and the worker")
        wait_until(lambda: node.get("/api/v1/health", None).status_code == 200, 30, "the API")

        with psycopg.connect(module_servers[0]) as db:
            # The server has other databases, in which other tests are at work.
            query = """SELECT DISTINCT usename FROM pg_stat_activity
                        WHERE application_name LIKE 'corporation%' AND datname = current_database()"""
            assert db.execute(query).fetchall() == [(granted.name,)]


def test_a_server_starts_while_its_database_is_away(
    tmp_path: Path,
    module_servers: tuple[str, str],
    vps: Mapping[str, str],
    wait_until: Callable[..., Any],
    warm: WarmStarts,
) -> None:
    away = "postgresql://127.0.0.1:1/nowhere"
    with Node("HEADQUARTERS", tmp_path, away, module_servers[1], wait_until, more=vps, warm=warm) as node:
        ready = node.spawn("api")
        wait_until(ready.exists, 60, "the API")

        assert node.get("/api/v1/health", None).status_code == 503
        assert "database_role_not_checked" in node.log("api")

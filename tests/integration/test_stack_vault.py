"""A node whose secrets all come from the vault: they are used, and nothing in its state folder holds one (E-4)."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest
import redis
from canary import secret, shows
from fake_infisical import FakeInfisical
from leftovers import left_in
from psycopg import sql

from corporation.db import migrate

COMMAND = [sys.executable, "-m", "corporation.cli"]
LIMIT_SECONDS = 240
REDIS_PASSWORD = secret("vault-redis")
DATABASE_PASSWORD = secret("vault-database")
TOKENS = {
    name: secret(f"vault-{name}")
    for name in ("UA_OPS_TOKEN", "UA_OPS_JWT_SECRET", "UA_INTERNAL_API_TOKEN", "ANTHROPIC_API_KEY")
}


@pytest.fixture
def given_redis(redis_url: str) -> Iterator[str]:
    """The address of a Redis whose password is in the vault."""
    with redis.Redis.from_url(redis_url) as client:
        client.execute_command("ACL", "SETUSER", "vault", "on", f">{REDIS_PASSWORD}", "~*", "&*", "+@all")
        yield f"redis://vault:{REDIS_PASSWORD}@{redis_url.partition('@')[2]}"
        client.execute_command("ACL", "DELUSER", "vault")


@pytest.fixture
def given_database(empty_database_url: str) -> str:
    """The address of a ledger whose password is in the vault; its role owns nothing, as a server asks for."""
    address = urlsplit(empty_database_url)
    role = f"vault_{os.getpid()}"
    create = sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(sql.Identifier(role), sql.Literal(DATABASE_PASSWORD))
    with psycopg.connect(empty_database_url, autocommit=True) as connection:
        connection.execute(create)
    migrate(empty_database_url, [role])
    return address._replace(netloc=f"{role}:{DATABASE_PASSWORD}@{address.hostname}:{address.port}").geturl()


def run(given: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    bare = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR") if name in os.environ}
    return subprocess.run(
        [*COMMAND, *arguments],
        env=bare | {"UA_DOTENV_PATH": os.devnull} | given,
        capture_output=True,
        text=True,
        timeout=LIMIT_SECONDS,
        check=False,
    )


def test_no_secret_of_the_vault_is_left_in_the_state_folder(
    tmp_path: Path, given_redis: str, given_database: str
) -> None:
    state = tmp_path / "state"
    vault = TOKENS | {"UA_REDIS_URL": given_redis, "UA_DATABASE_URL": given_database}
    with FakeInfisical(vault) as fake:
        strict = fake.environ(UA_DEPLOYMENT_PROFILE="vps")
        ended = run(strict, "up", "--role", "hq", "--once", "--state", str(state))
        env = run(strict, "env", "--role", "hq", "--json", "--state", str(state))
    without = run({}, "env", "--role", "hq", "--json", "--state", str(state))

    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert not shows(ended.stdout + ended.stderr)
    assert [str(file) for file in state.rglob("*") if file.is_file() and shows(file.read_bytes())] == []
    assert left_in(state) == []
    # Who has the vault gets a working set; who has not gets the addresses.
    printed, bare = json.loads(env.stdout), json.loads(without.stdout)
    assert (printed["UA_REDIS_URL"], printed["UA_DATABASE_URL"]) == (given_redis, given_database)
    assert printed["UA_OPS_TOKEN"] == TOKENS["UA_OPS_TOKEN"]
    assert bare["UA_REDIS_URL"] == given_redis.replace(f":{REDIS_PASSWORD}", "")
    assert bare["UA_DATABASE_URL"] == given_database.replace(f":{DATABASE_PASSWORD}", "")
    assert not shows(without.stdout)

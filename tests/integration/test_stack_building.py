"""What a launcher writes into its own ledger: the factory beside HQ proves itself, and is who it was before."""

import base64
import os
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest
from canary import secret
from sqlalchemy import Connection, text

from corporation.cli.launch import launch_of
from corporation.cli.stack_building import credential_issued, factory_admitted, stack_for
from corporation.db import migrate, open_ledger, transaction
from corporation.embedded.postgres import factory_url, start_postgres
from corporation.embedded.stack_environment import Stack
from corporation.embedded.stack_facts import facts_of
from corporation.embedded.stack_servers import DataServer
from corporation.embedded.stack_state import StateFolder
from corporation.errors import SettingsError
from corporation.factories.access import quarantine, shut_out
from corporation.trust import redis_users
from corporation.trust.keyring import new_key, public_of
from corporation.trust.redis_profiles import user_of

NO_FILE = {"UA_DOTENV_PATH": os.devnull, "HOSTNAME": "desk"}


@pytest.fixture
def folder(tmp_path: Path) -> StateFolder:
    folder = StateFolder(tmp_path / "state")
    folder.prepare()
    return folder


@pytest.fixture
def stack(folder: StateFolder, ledger_url: str) -> Stack:
    """A whole stack with a Redis of its own, before it knows its factory's credential."""
    broker = DataServer("valkey", "redis://:x@127.0.0.1:1/0", passwords={"f_desk": "made-by-the-launcher"})
    return stack_for(folder, launch_of(None, NO_FILE), broker, DataServer("postgresql", ledger_url))


@pytest.fixture
def ledger_url(database_url: str) -> str:
    migrate(database_url)
    return database_url


def in_ledger(url: str, act: Callable[[Connection], Any]) -> Any:
    ledger = open_ledger(url, pool_size=1)
    try:
        with transaction(ledger) as connection:
            return act(connection)
    finally:
        ledger.dispose()


def users(connection: Connection) -> list[Any]:
    return list(connection.execute(text("SELECT user_name, made_here, enabled, cut FROM corporation.redis_users")))


def test_the_factory_keeps_its_credential_from_run_to_run(stack: Stack, ledger_url: str) -> None:
    first = credential_issued(stack)
    first.folder.write_facts(facts_of(first, {}))

    assert credential_issued(stack).factory_credential == first.factory_credential
    assert not first.factory_shut_out
    assert in_ledger(ledger_url, users) == [], "its user of our own Redis is nobody's business but the launcher's"


def test_a_factory_in_quarantine_is_known_before_anything_starts(stack: Stack, ledger_url: str) -> None:
    in_ledger(ledger_url, lambda connection: quarantine(connection, "desk", "operator", None))

    assert credential_issued(stack).factory_shut_out


def test_what_another_machine_got_under_its_name_is_taken_back_with_the_next_start(
    stack: Stack, ledger_url: str
) -> None:
    first = credential_issued(stack)
    first.folder.write_facts(facts_of(first, {}))

    def another_machine_joins(connection: Connection) -> None:
        shut_out(connection, "desk")
        redis_users.issue(connection, "desk", user_of("desk"), secret("joined"))

    in_ledger(ledger_url, another_machine_joins)
    again = credential_issued(stack)

    assert again.factory_credential != first.factory_credential
    assert [tuple(row) for row in in_ledger(ledger_url, users)] == [("f_desk", False, True, True)]
    assert in_ledger(ledger_url, lambda connection: redis_users.hand_over(connection, "desk")) is False


def test_the_signing_key_is_made_once_and_a_given_one_wins_and_is_not_written_down(
    stack: Stack, folder: StateFolder, ledger_url: str
) -> None:
    folder.write_facts(facts_of(stack, {}))
    database = DataServer("postgresql", ledger_url)
    given = NO_FILE | {"UA_MISSION_SIGNING_KEY": new_key()}
    again = stack_for(folder, launch_of(None, NO_FILE), None, database)
    other = stack_for(folder, launch_of(None, given), None, database)

    assert len(base64.b64decode(stack.mission_signing_key)) == 32
    assert (again.mission_signing_key, again.mission_key) == (stack.mission_signing_key, stack.mission_key)
    assert other.mission_signing_key == given["UA_MISSION_SIGNING_KEY"]
    assert other.mission_key == public_of(given["UA_MISSION_SIGNING_KEY"])
    assert facts_of(other, given)["mission_signing_key"] == ""


@pytest.mark.parametrize("name", ["UA_MISSION_SIGNING_KEY", "UA_MISSION_KEYS"])
def test_a_key_that_is_none_ends_the_start_and_is_not_repeated(name: str) -> None:
    with pytest.raises(SettingsError, match=name) as refused:
        launch_of(None, NO_FILE | {name: secret("no-key")})

    assert secret("no-key") not in str(refused.value)


def test_a_name_that_must_have_no_user_ends_the_start() -> None:
    with pytest.raises(SettingsError, match=r"UA_FACTORY_ID.*_index"):
        launch_of(None, NO_FILE | {"FACTORY_ROLE": "HEADQUARTERS", "UA_FACTORY_ID": "desk_index"})


def test_a_worker_makes_no_key(folder: StateFolder) -> None:
    joined = {"UA_HQ_BASE_URL": "https://hq.example", "UA_FACTORY_CREDENTIAL": secrets.token_urlsafe(32)}
    launch = launch_of(None, NO_FILE | joined | {"FACTORY_ROLE": "LOCAL_WORKER"})
    stack = stack_for(folder, launch, None, None)

    assert (stack.mission_signing_key, stack.mission_key, stack.redis_passwords) == ("", "", {})


def test_the_role_of_the_factory_beside_hq_sees_the_mailbox_and_no_ledger(
    tmp_path: Path, cluster_template: Path
) -> None:
    place = tmp_path / "p"
    server = start_postgres(
        place, template=cluster_template, durable=False, application_role="app", factory_role="f_desk"
    )
    try:
        migrate(server.url, ["app"])
        database = DataServer("postgresql", "", owner_url=server.url)
        launch = launch_of(None, NO_FILE | {"UA_FACTORY_SLOTS": "9"})
        factory_admitted(database, launch)
        factory_admitted(database, launch)
        url = factory_url(place, server, "f_desk")
        with psycopg.connect(url) as db:
            assert db.execute("SELECT count(*) FROM mailbox.celery_taskmeta").fetchone() == (0,)
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                db.execute("SELECT 1 FROM corporation.missions")
        with psycopg.connect(server.url) as db:
            limit = db.execute("SELECT rolconnlimit FROM pg_roles WHERE rolname = 'f_desk'").fetchone()
        assert limit
        assert limit[0] > 9
        passwords = {(place / f"{name}-password").read_text() for name in ("application", "factory")}
        assert len(passwords) == 2
        assert urlsplit(url).password in passwords
    finally:
        server.stop()

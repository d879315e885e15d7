"""In the transaction that shuts a factory out, or removes it, its role of the mailbox sees nothing any more."""

from collections.abc import Iterator
from contextlib import closing
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from guarded_mailbox import GuardedMailbox, a_database, guarded_mailbox
from psycopg import sql
from sqlalchemy import Connection, Engine, NullPool, create_engine

from corporation.db import sqlalchemy_url
from corporation.factories.access import quarantine, release, shut_out
from corporation.factories.registry import remove
from corporation.trust.mailbox_roles import dismiss

if TYPE_CHECKING:
    from corporation.embedded.server_process import Server

COUNT = "SELECT count(*) FROM mailbox.celery_taskmeta"
FILL = "UPDATE mailbox.celery_taskmeta SET status = 'SUCCESS', result = '{}' WHERE task_id = %s"
JOIN = "INSERT INTO corporation.factories (factory_id, source) VALUES ('desk-7', 'enrolment')"


@pytest.fixture(scope="module")
def database(postgres: "Server") -> Iterator[GuardedMailbox]:
    with a_database(postgres.url, "mailbox_shut_out") as url, guarded_mailbox(url, "s") as mailbox:
        yield mailbox


@pytest.fixture
def mailbox(database: GuardedMailbox) -> GuardedMailbox:
    """Both factories are let in, `desk-7` is known to HQ, and nobody was ever shut out."""
    for table in (("mailbox", "celery_taskmeta"), ("corporation", "factory_access"), ("corporation", "factories")):
        database.execute(database.hq, sql.SQL("DELETE FROM {}").format(sql.Identifier(*table)).as_string())
    database.admit(database.desk, "desk-7")
    database.execute(database.hq, JOIN)
    return database


@pytest.fixture
def hq(mailbox: GuardedMailbox) -> Iterator[Engine]:
    """Headquarters, as the role that owns nothing."""
    engine = create_engine(sqlalchemy_url(mailbox.hq.url), poolclass=NullPool)
    yield engine
    engine.dispose()


@pytest.fixture
def desk(mailbox: GuardedMailbox) -> Iterator[psycopg.Connection[Any]]:
    """A connection that the factory opened before anything happened."""
    with closing(psycopg.connect(mailbox.desk.url, autocommit=True)) as connection:
        yield connection


def seen(connection: psycopg.Connection[Any]) -> int:
    return connection.execute(COUNT).fetchone()[0]  # pyright: ignore[reportOptionalSubscript]


def removed(connection: Connection) -> None:
    """What the API does (`DELETE /api/v1/factory/registrations/…`)."""
    remove(connection, "desk-7", "operator")
    shut_out(connection, "desk-7")


def test_a_quarantined_factory_sees_and_fills_nothing_over_connections_that_are_open(
    mailbox: GuardedMailbox, hq: Engine, desk: psycopg.Connection[Any]
) -> None:
    attempt_id = mailbox.row("desk-7")
    assert seen(desk) == 1
    with hq.begin() as connection:
        quarantine(connection, "desk-7", "operator", None)
        assert seen(desk) == 1

    assert seen(desk) == 0
    assert desk.execute(FILL, [attempt_id]).rowcount == 0


def test_a_transaction_that_was_open_keeps_its_sight_and_hq_does_not_take_its_word(
    mailbox: GuardedMailbox, hq: Engine
) -> None:
    """What it writes so is in the mailbox; `test_mailbox_read_as_data.py` shows that it ends no mission."""
    attempt_id = mailbox.row("desk-7")
    with psycopg.connect(mailbox.desk.url) as desk:
        desk.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        assert seen(desk) == 1
        with hq.begin() as connection:
            quarantine(connection, "desk-7", "operator", None)

        assert desk.execute(FILL, [attempt_id]).rowcount == 1
        desk.commit()
        assert seen(desk) == 0


def test_of_other_factories_nobody_is_shut_out(mailbox: GuardedMailbox, hq: Engine) -> None:
    attempt_id = mailbox.row("desk-8")
    with hq.begin() as connection:
        quarantine(connection, "desk-7", "operator", None)

    assert mailbox.execute(mailbox.other, FILL, attempt_id) == [1]


def test_a_released_factory_is_let_in_again(mailbox: GuardedMailbox, hq: Engine, desk: psycopg.Connection[Any]) -> None:
    attempt_id = mailbox.row("desk-7")
    with hq.begin() as connection:
        quarantine(connection, "desk-7", "operator", None)
        release(connection, "desk-7", "operator")

    assert desk.execute(FILL, [attempt_id]).rowcount == 1


def test_a_removed_factory_is_shut_out_and_no_release_lets_it_in(
    mailbox: GuardedMailbox, hq: Engine, desk: psycopg.Connection[Any]
) -> None:
    """Removing raises its epoch, which writes its first row of `factory_access`: that must open nothing."""
    mailbox.row("desk-7")
    with hq.begin() as connection:
        removed(connection)
    assert seen(desk) == 0

    with hq.begin() as connection:
        quarantine(connection, "desk-7", "operator", None)
        release(connection, "desk-7", "operator")
    assert seen(desk) == 0
    mailbox.admit(mailbox.desk, "desk-7")
    assert seen(desk) == 1


def test_a_factory_that_is_admitted_while_in_quarantine_stays_shut_out(mailbox: GuardedMailbox, hq: Engine) -> None:
    """`corporation up` admits the factory beside HQ at every start."""
    with hq.begin() as connection:
        quarantine(connection, "desk-7", "operator", None)
    mailbox.admit(mailbox.desk, "desk-7")
    mailbox.row("desk-7")

    assert mailbox.execute(mailbox.desk, COUNT) == [(0,)]


def test_a_role_that_is_dismissed_has_no_right_left(mailbox: GuardedMailbox) -> None:
    engine = create_engine(sqlalchemy_url(mailbox.owner.url), poolclass=NullPool)
    for _ in range(2):
        with engine.begin() as connection:
            dismiss(connection, mailbox.desk.name)

    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        mailbox.execute(mailbox.desk, COUNT)


def test_a_role_is_moved_to_another_factory(mailbox: GuardedMailbox) -> None:
    mailbox.row("desk-7")
    mailbox.admit(mailbox.desk, "desk-9")
    attempt_id = mailbox.row("desk-9")

    assert mailbox.execute(mailbox.desk, "SELECT task_id FROM mailbox.celery_taskmeta") == [(attempt_id,)]

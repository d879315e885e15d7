"""A stolen factory's role of PostgreSQL can read its own rows of the mailbox, fill unfinished ones, and no more."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from database_roles import Role, a_role
from guarded_mailbox import GuardedMailbox, a_database, guarded_mailbox
from mailbox_attacks import ATTACKS, Answer, Attack
from psycopg import errors, sql

from corporation.db import MIGRATION_LOCK, LocksReservedError, migrate
from corporation.missions.store.dispatching import DISPATCH_LOCK
from corporation.trust.mailbox_roles import CONNECTIONS, UnusableRoleError

if TYPE_CHECKING:
    from corporation.embedded.server_process import Server

FILL = "UPDATE mailbox.celery_taskmeta SET status = 'SUCCESS', result = '{}' WHERE task_id = %s"
LOCK = f"SELECT pg_advisory_lock({DISPATCH_LOCK})"


@pytest.fixture(scope="module")
def mailbox(postgres: "Server") -> Iterator[GuardedMailbox]:
    """Set up by an owner who is no superuser, which is the weaker way."""
    with a_database(postgres.url, "mailbox_attacks") as url, guarded_mailbox(url, "a") as mailbox:
        yield mailbox


@pytest.fixture(scope="module")
def reserved(postgres: "Server") -> Iterator[GuardedMailbox]:
    """The same, with factories admitted by a superuser, who can take from them what everybody has."""
    with (
        a_database(postgres.url, "mailbox_reserved") as url,
        guarded_mailbox(url, "r", admitted_by_superuser=True) as mailbox,
    ):
        yield mailbox


@pytest.fixture(scope="module")
def rows(mailbox: GuardedMailbox) -> dict[str, str]:
    """Two attempts of each factory, one of them done; no attack is ever committed."""
    return {
        "own": mailbox.row("desk-7"),
        "done": mailbox.row("desk-7", "SUCCESS"),
        "others": mailbox.row("desk-8"),
        "others_done": mailbox.row("desk-8", "SUCCESS"),
    }


@pytest.fixture(scope="module")
def stolen(mailbox: GuardedMailbox) -> Iterator[psycopg.Connection[Any]]:
    """What somebody has who stole `desk-7`."""
    with closing(psycopg.connect(mailbox.desk.url)) as connection:
        yield connection


@pytest.fixture(scope="module")
def shared(mailbox: GuardedMailbox) -> Iterator[psycopg.Connection[Any]]:
    """What he had before factories had roles."""
    with closing(psycopg.connect(mailbox.hq.url)) as connection:
        yield connection


def answer(attack: Attack, by: psycopg.Connection[Any], mailbox: GuardedMailbox, rows: dict[str, str]) -> Answer:
    """What becomes of the attack: the error, or the number of rows that it shows or changes."""
    known: dict[str, sql.Composable] = {name: sql.Literal(value) for name, value in rows.items()}
    known |= {"hq": sql.Identifier(mailbox.hq.name), "owner": sql.Identifier(mailbox.owner.name)}
    known |= {"table": sql.Identifier("mailbox", "celery_taskmeta"), "me": sql.Identifier(by.info.user)}
    with ExitStack() as stack:
        stack.callback(by.rollback)
        if "{hq_pid}" in attack.statement:
            victim = stack.enter_context(closing(psycopg.connect(mailbox.hq.url, autocommit=True)))
            victim.execute("SELECT 'a question of headquarters'")
            known["hq_pid"] = sql.Literal(victim.info.backend_pid)
        try:
            return rows_of(by, sql.SQL(attack.statement).format(**known))
        except psycopg.Error as error:
            return type(error)


def rows_of(connection: psycopg.Connection[Any], statement: sql.Composed) -> int:
    cursor = connection.cursor()
    text = statement.as_string(connection)
    if text.startswith("COPY") and "STD" in text:
        with cursor.copy(statement) as copy:
            return len(list(copy)) if "STDOUT" in text else 0
    cursor.execute(statement)
    return len(cursor.fetchall()) if cursor.description else max(cursor.rowcount, 0)


@pytest.mark.parametrize("attack", ATTACKS, ids=str)
def test_an_attack_by_a_factorys_role_gets_nothing(
    mailbox: GuardedMailbox, rows: dict[str, str], stolen: psycopg.Connection[Any], attack: Attack
) -> None:
    assert answer(attack, stolen, mailbox, rows) == attack.now


@pytest.mark.parametrize("attack", ATTACKS, ids=str)
def test_the_attack_is_real_where_all_are_one_role(
    mailbox: GuardedMailbox, rows: dict[str, str], shared: psycopg.Connection[Any], attack: Attack
) -> None:
    assert answer(attack, shared, mailbox, rows) == attack.before


def test_more_than_half_of_the_attacks_succeeded_before() -> None:
    succeeded = [attack for attack in ATTACKS if attack.before != attack.now]

    assert len(succeeded) >= 40
    assert all(attack.now in (0, 1, 2) or isinstance(attack.now, type) for attack in ATTACKS)


def test_a_factory_fills_its_own_unfinished_row_and_reads_it(mailbox: GuardedMailbox) -> None:
    attempt_id = mailbox.row("desk-7")

    assert mailbox.execute(mailbox.desk, FILL, attempt_id) == [1]
    read = "SELECT status FROM mailbox.celery_taskmeta WHERE task_id = %s"
    assert mailbox.execute(mailbox.desk, read, attempt_id) == [("SUCCESS",)]
    assert mailbox.execute(mailbox.desk, FILL, attempt_id) == [0]


def test_with_row_security_off_there_is_an_error_instead_of_rows(
    mailbox: GuardedMailbox, stolen: psycopg.Connection[Any]
) -> None:
    """The setting is for dumps, which must not be incomplete without a word."""
    stolen.execute("SET row_security = off")
    with pytest.raises(errors.InsufficientPrivilege, match="row-level security"):
        stolen.execute("SELECT task_id FROM mailbox.celery_taskmeta")
    stolen.rollback()


def test_the_owner_is_held_by_the_policies_too_and_sees_all(mailbox: GuardedMailbox) -> None:
    """FORCE: it sees all rows since a policy says so, not because it is asked no policy."""
    mailbox.row("desk-8")

    assert mailbox.execute(mailbox.owner, "SELECT count(*) > 0 FROM mailbox.celery_taskmeta") == [(True,)]
    forced = "SELECT relname FROM pg_class WHERE relforcerowsecurity AND relrowsecurity ORDER BY 1"
    assert mailbox.execute(mailbox.owner, forced) == [("celery_taskmeta",), ("factory_roles",)]


def test_a_seventh_connection_is_refused(reserved: GuardedMailbox) -> None:
    """Before, one factory could take every connection that the server has (100)."""
    with ExitStack() as held:
        for _ in range(CONNECTIONS):
            held.enter_context(closing(psycopg.connect(reserved.desk.url)))
        with pytest.raises(psycopg.OperationalError, match="too many connections for role"):
            psycopg.connect(reserved.desk.url)
        psycopg.connect(reserved.other.url).close()
        psycopg.connect(reserved.hq.url).close()


def test_a_factory_with_more_slots_may_have_as_many_more_connections(reserved: GuardedMailbox) -> None:
    limit = "SELECT rolconnlimit FROM pg_roles WHERE rolname = %s"
    with a_role(reserved.superuser) as role:
        reserved.admit(role, "desk-9", by=reserved.superuser, slots=12)
        assert reserved.execute(reserved.hq, limit, role.name) == [(16,)]
        reserved.execute(
            reserved.hq,
            "INSERT INTO corporation.factories (factory_id, source, slots) VALUES (%s, 'enrolment', 20)",
            "d",
        )
        reserved.admit(role, "d", by=reserved.superuser)
        assert reserved.execute(reserved.hq, limit, role.name) == [(24,)]


def test_the_log_of_the_server_cannot_be_read_over_a_replication_connection(mailbox: GuardedMailbox) -> None:
    with pytest.raises(psycopg.OperationalError, match="REPLICATION"):
        psycopg.connect(mailbox.desk.url, replication="database")


def test_a_role_that_nobody_admitted_sees_nothing(mailbox: GuardedMailbox) -> None:
    with a_role(mailbox.superuser) as stranger:
        for statement in ("SELECT 1 FROM mailbox.celery_taskmeta", "SELECT 1 FROM mailbox.factory_roles"):
            with pytest.raises(errors.InsufficientPrivilege):
                mailbox.execute(stranger, statement)


def test_a_role_that_was_granted_the_table_by_hand_but_not_admitted_sees_no_row(mailbox: GuardedMailbox) -> None:
    """Neither HQ, who may delete, nor a factory that is registered."""
    mailbox.row("desk-7")
    with a_role(mailbox.superuser) as stranger:
        for grant in ("USAGE ON SCHEMA mailbox", "SELECT, UPDATE ON ALL TABLES IN SCHEMA mailbox"):
            mailbox.execute(mailbox.owner, f"GRANT {grant} TO {stranger.name}")

        assert mailbox.execute(stranger, "SELECT 1 FROM mailbox.celery_taskmeta") == []
        assert mailbox.execute(stranger, "UPDATE mailbox.celery_taskmeta SET status = 'SUCCESS'") == [0]


def test_admitting_a_role_takes_from_it_what_else_it_was_granted(mailbox: GuardedMailbox) -> None:
    with a_role(mailbox.superuser) as role:
        mailbox.execute(mailbox.owner, f"GRANT SELECT, INSERT, UPDATE ON ALL TABLES IN SCHEMA mailbox TO {role.name}")
        mailbox.admit(role, "desk-7")
        attempt_id = mailbox.row("desk-7")

        for statement in (
            "SELECT factory FROM mailbox.celery_taskmeta",
            "SELECT collected_at FROM mailbox.celery_taskmeta",
        ):
            with pytest.raises(errors.InsufficientPrivilege):
                mailbox.execute(role, statement)
        assert mailbox.execute(role, FILL, attempt_id) == [1]


@pytest.mark.parametrize(
    ("attributes", "why"),
    [
        (("SUPERUSER",), "it is a superuser"),
        (("BYPASSRLS",), "it passes row level security by"),
        (("CREATEROLE",), "it may make roles"),
        (("REPLICATION",), "it may make roles or replicate"),
        (("IN ROLE pg_signal_backend",), "one of the server's own roles"),
        (("NOINHERIT IN ROLE hq_a",), "it has rights of headquarters"),
    ],
)
def test_a_role_that_may_do_more_is_not_admitted(
    mailbox: GuardedMailbox, attributes: tuple[str, ...], why: str
) -> None:
    with a_role(mailbox.superuser, *attributes) as role, pytest.raises(UnusableRoleError, match=why):
        mailbox.admit(role, "desk-7")


def test_where_everybody_may_create_in_the_schema_public_nobody_is_admitted(mailbox: GuardedMailbox) -> None:
    """So it is in a database of before PostgreSQL 15: a function there is taken for the server's own by others."""
    everybody = "CREATE ON SCHEMA public {} PUBLIC"
    with a_role(mailbox.superuser) as role:
        mailbox.execute(mailbox.owner, f"GRANT {everybody.format('TO')}")
        try:
            with pytest.raises(UnusableRoleError, match="REVOKE CREATE ON SCHEMA public FROM PUBLIC"):
                mailbox.admit(role, "desk-7")
        finally:
            mailbox.execute(mailbox.owner, f"REVOKE {everybody.format('FROM')}")


def test_what_a_superuser_can_take_from_everybody_is_taken_when_it_admits(reserved: GuardedMailbox) -> None:
    """Before: a lock that a factory held stopped HQ's dispatcher, and large objects filled the disk."""
    for statement in (LOCK, f"SELECT pg_advisory_lock({MIGRATION_LOCK})", "SELECT lo_from_bytea(0, 'x')"):
        with pytest.raises(errors.InsufficientPrivilege):
            reserved.execute(reserved.desk, statement)

    assert reserved.execute(reserved.hq, f"SELECT pg_try_advisory_xact_lock({DISPATCH_LOCK})") == [(True,)]
    assert reserved.execute(reserved.desk, "SHOW temp_file_limit") == [("256MB",)]


def test_who_is_granted_the_ledger_later_has_the_locks_too(reserved: GuardedMailbox) -> None:
    with a_role(reserved.superuser) as later:
        with pytest.raises(LocksReservedError, match="have its administrator"):
            migrate(reserved.owner.url, [later.name])
        migrate(reserved.superuser, [later.name])
        migrate(reserved.owner.url, [later.name])

        assert reserved.execute(later, f"SELECT pg_try_advisory_xact_lock({DISPATCH_LOCK})") == [(True,)]


def test_what_an_owner_cannot_take_from_everybody_stays_possible(mailbox: GuardedMailbox) -> None:
    """The list of decision 0018: a factory that logs in itself belongs to HQ's zone of trust."""
    for statement in (
        LOCK,
        "SELECT lo_from_bytea(0, 'x')",
        "NOTIFY corporation_dispatch",
        "LISTEN corporation_collect",
    ):
        mailbox.execute(mailbox.desk, statement)
    for statement in ("SET statement_timeout = 0", "SELECT rolname FROM pg_roles"):
        mailbox.execute(mailbox.desk, statement)


def test_two_roles_that_fill_everything_they_can_fill_their_own_rows(mailbox: GuardedMailbox) -> None:
    attempts = [mailbox.row(factory_id) for factory_id in ("desk-7", "desk-8") * 10]

    def fill(role: Role) -> int:
        with psycopg.connect(role.url, autocommit=True) as connection:
            return sum(connection.execute(FILL, [attempt_id]).rowcount for attempt_id in attempts)

    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(fill, [mailbox.desk, mailbox.other])) == [10, 10]

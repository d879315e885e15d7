"""What holds of the two schemas whatever a later migration adds, and that row level security costs no index."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

import psycopg
import pytest
from guarded_mailbox import GuardedMailbox, a_database, guarded_mailbox
from sqlalchemy import NullPool, TextClause, create_engine, text

from corporation.database_role import look_at_role, reasons_against
from corporation.db import sqlalchemy_url
from corporation.missions.store.https_results import LOCK_LETTER
from corporation.missions.store.leases import LAPSED
from corporation.missions.store.reporting import TAKE
from factory_tasks.mailbox import FILL, READ

if TYPE_CHECKING:
    from corporation.embedded.server_process import Server

DEFINERS: Final = """
    SELECT proname FROM pg_proc p JOIN pg_namespace n ON n.oid = pronamespace
     WHERE nspname IN ('corporation', 'mailbox') AND prosecdef
"""
VIEWS: Final = """
    SELECT relname FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace
     WHERE nspname IN ('corporation', 'mailbox') AND relkind IN ('v', 'm', 'f')
"""
UNGUARDED: Final = """
    SELECT relname FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace
     WHERE nspname = 'mailbox' AND relkind IN ('r', 'p') AND NOT (relrowsecurity AND relforcerowsecurity)
"""
TO_EVERYBODY: Final = """
    SELECT relname FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace, aclexplode(c.relacl) a
     WHERE nspname IN ('corporation', 'mailbox') AND a.grantee = 0
    UNION ALL
    SELECT nspname FROM pg_namespace n, aclexplode(n.nspacl) a
     WHERE nspname IN ('corporation', 'mailbox') AND a.grantee = 0
"""
RIGHTS: Final = """
    SELECT table_schema, table_name, privilege_type FROM information_schema.role_table_grants WHERE grantee = %s
"""
COLUMNS: Final = """
    SELECT privilege_type, array_agg(column_name::text ORDER BY column_name::text)
      FROM information_schema.column_privileges
     WHERE grantee = %s AND table_name = 'celery_taskmeta' GROUP BY 1 ORDER BY 1
"""
MANY: Final = """
    INSERT INTO mailbox.celery_taskmeta (task_id, factory, status, result, collected_at)
    SELECT gen_random_uuid(), 'desk-' || 7 + n % 2, CASE WHEN n % 100 = 0 THEN 'PENDING' ELSE 'SUCCESS' END, '{}',
           CASE WHEN n % 100 = 0 OR n > 19900 THEN NULL ELSE now() END
      FROM generate_series(1, 20000) n
"""


@pytest.fixture(scope="module")
def mailbox(postgres: "Server") -> Iterator[GuardedMailbox]:
    """Twenty thousand attempts, nearly all of them collected."""
    with a_database(postgres.url, "mailbox_rules") as url, guarded_mailbox(url, "u") as mailbox:
        mailbox.execute(mailbox.hq, MANY)
        with psycopg.connect(url, autocommit=True) as db:
            db.execute("ANALYZE mailbox.celery_taskmeta")
        yield mailbox


def test_no_function_of_ours_runs_with_the_rights_of_its_owner(mailbox: GuardedMailbox) -> None:
    """SECURITY DEFINER would pass every policy by."""
    assert mailbox.execute(mailbox.owner, DEFINERS) == []


def test_no_view_of_ours_shows_rows_with_the_rights_of_its_owner(mailbox: GuardedMailbox) -> None:
    assert mailbox.execute(mailbox.owner, VIEWS) == []


def test_every_table_of_the_mailbox_has_row_level_security_forced(mailbox: GuardedMailbox) -> None:
    assert mailbox.execute(mailbox.owner, UNGUARDED) == []


def test_nothing_of_ours_is_granted_to_everybody(mailbox: GuardedMailbox) -> None:
    assert mailbox.execute(mailbox.owner, TO_EVERYBODY) == []


@pytest.mark.parametrize("who", ["hq", "desk"])
def test_a_role_that_processes_log_in_as_is_no_owner_no_superuser_and_passes_no_policy_by(
    mailbox: GuardedMailbox, who: str
) -> None:
    assert reasons_against(look_at_role(getattr(mailbox, who).url)) == []


def test_a_factorys_role_has_these_rights_and_no_others(mailbox: GuardedMailbox) -> None:
    """No DELETE above all, which is what makes a role HQ's."""
    read = ["args", "children", "date_done", "id", "kwargs", "name", "queue", "result", "retries", "stamps", "status"]
    read += ["task_id", "traceback", "worker"]
    filled = [name for name in read if name not in ("id", "task_id")]

    assert mailbox.execute(mailbox.desk, RIGHTS, mailbox.desk.name) == [("mailbox", "factory_roles", "SELECT")]
    assert mailbox.execute(mailbox.desk, COLUMNS, mailbox.desk.name) == [("SELECT", read), ("UPDATE", filled)]


def plan(url: str, statement: TextClause, **values: Any) -> str:
    engine = create_engine(sqlalchemy_url(url), poolclass=NullPool)
    with engine.connect() as connection:
        rows = connection.execute(text(f"EXPLAIN {statement.text}"), values).scalars()
        return "\n".join(rows)


def explained(url: str, statement: str, **values: Any) -> str:
    with psycopg.connect(url) as connection:
        return "\n".join(row[0] for row in connection.execute(f"EXPLAIN {statement}".encode(), values))


def test_the_collector_finds_what_is_to_be_collected_by_its_index(mailbox: GuardedMailbox) -> None:
    assert "Index Scan using mailbox_to_collect" in plan(mailbox.hq.url, TAKE, limit=500)


def test_one_row_is_found_by_its_attempt_whoever_asks(mailbox: GuardedMailbox) -> None:
    by_id = "Index Scan using celery_taskmeta_task_id_key"
    filled = {"status": "SUCCESS", "result": b"{}", "traceback": None, "worker": "w", "retries": 0, "task_id": "x"}

    assert by_id in plan(mailbox.hq.url, LOCK_LETTER, task_id="x")
    assert by_id in explained(mailbox.desk.url, READ, task_id="x")
    assert by_id in explained(mailbox.desk.url, FILL, **filled)


def test_who_is_silent_is_found_without_reading_the_whole_mailbox(mailbox: GuardedMailbox) -> None:
    assert "Seq Scan on celery_taskmeta" not in plan(mailbox.hq.url, LAPSED, limit=200, queued_too=True)

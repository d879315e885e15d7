"""The result backend on real PostgreSQL: it fills a row that HQ made, once, and reads nothing but JSON."""

import json
import pickle
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from celery import Celery
from celery.backends.base import BackendStoreError

from factory_tasks.mailbox import MailboxBackend, MissionFailed, ReportedFailure


@pytest.fixture
def db(database_url: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(database_url, autocommit=True) as connection:
        yield connection


@pytest.fixture
def mailbox(database_url: str) -> Iterator[MailboxBackend]:
    app = Celery("test-mailbox", set_as_current=False)
    app.conf.update(
        result_backend=f"factory_tasks.mailbox:MailboxBackend+{database_url}",
        result_backend_always_retry=True,
        result_backend_max_retries=0,
    )
    backend = app.backend
    assert isinstance(backend, MailboxBackend)
    yield backend
    for connection in backend._connections.values():
        connection.close()


@pytest.fixture
def attempt_id(db: psycopg.Connection[Any]) -> str:
    attempt_id = str(uuid4())
    db.execute("INSERT INTO mailbox.celery_taskmeta (task_id, factory) VALUES (%s, 'desk-7')", (attempt_id,))
    return attempt_id


def row(db: psycopg.Connection[Any], attempt_id: str) -> tuple[str, Any]:
    found = db.execute(
        "SELECT status, result FROM mailbox.celery_taskmeta WHERE task_id = %s", (attempt_id,)
    ).fetchone()
    assert found is not None
    return found[0], json.loads(bytes(found[1])) if found[1] else None


def test_a_report_fills_the_row_that_hq_made(
    mailbox: MailboxBackend, db: psycopg.Connection[Any], attempt_id: str
) -> None:
    mailbox.store_result(attempt_id, {"outcome": "done"}, "SUCCESS")

    assert row(db, attempt_id) == ("SUCCESS", {"outcome": "done"})


@pytest.mark.parametrize("second", ["SUCCESS", "FAILURE"])
def test_a_second_report_changes_nothing(
    mailbox: MailboxBackend, db: psycopg.Connection[Any], attempt_id: str, second: str
) -> None:
    mailbox.store_result(attempt_id, MissionFailed({"outcome": "failed", "error": "first"}), "FAILURE")
    mailbox.store_result(attempt_id, {"outcome": "done"}, second)

    status, result = row(db, attempt_id)
    assert (status, result["error"]) == ("FAILURE", "first")


def test_a_row_that_hq_did_not_make_is_not_made_by_a_factory(
    mailbox: MailboxBackend, db: psycopg.Connection[Any]
) -> None:
    mailbox.store_result(str(uuid4()), {"outcome": "done"}, "SUCCESS")

    assert db.execute("SELECT count(*) FROM mailbox.celery_taskmeta").fetchone() == (0,)


def test_a_failure_keeps_the_report_and_the_names_that_tools_look_for(
    mailbox: MailboxBackend, db: psycopg.Connection[Any], attempt_id: str
) -> None:
    mailbox.store_result(attempt_id, MissionFailed({"outcome": "stop", "error": "no such folder"}), "FAILURE")

    _, result = row(db, attempt_id)
    assert result["outcome"] == "stop"
    assert result["exc_type"] == "MissionFailed"


def test_a_stored_class_name_is_never_looked_for(
    mailbox: MailboxBackend, db: psycopg.Connection[Any], attempt_id: str
) -> None:
    forged = json.dumps({"exc_type": "SystemExit", "exc_message": ["1"], "exc_module": "builtins"}).encode()
    db.execute(
        "UPDATE mailbox.celery_taskmeta SET status = 'FAILURE', result = %s WHERE task_id = %s", (forged, attempt_id)
    )

    assert isinstance(mailbox.get_result(attempt_id), ReportedFailure)


def test_the_database_refuses_a_pickle_whoever_writes_it(db: psycopg.Connection[Any], attempt_id: str) -> None:
    with pytest.raises(psycopg.errors.CheckViolation):
        db.execute(
            "UPDATE mailbox.celery_taskmeta SET result = %s WHERE task_id = %s",
            (pickle.dumps({"x": 1}), attempt_id),
        )


def test_a_report_larger_than_the_mailbox_takes_is_an_error_and_not_a_loop(
    mailbox: MailboxBackend, attempt_id: str
) -> None:
    mailbox.max_retries = 3
    with pytest.raises((psycopg.errors.CheckViolation, BackendStoreError)):
        mailbox.store_result(attempt_id, {"outcome": "done", "result": "x" * 1_100_000}, "SUCCESS")


def test_the_connection_is_opened_again_after_the_database_dropped_it(
    mailbox: MailboxBackend, db: psycopg.Connection[Any], attempt_id: str
) -> None:
    mailbox.max_retries = 3
    mailbox.get_state(attempt_id)
    db.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'corporation-mailbox'"
        " AND datname = current_database()"
    )

    mailbox.store_result(attempt_id, {"outcome": "done"}, "SUCCESS")

    assert row(db, attempt_id)[0] == "SUCCESS"

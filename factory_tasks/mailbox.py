"""The result backend: Celery's result table in PostgreSQL, filled once per attempt by one guarded statement.

HQ inserts the row when it makes the attempt; a worker only fills it, while it is unfinished. Everything is JSON, and
reading a row never builds an object that the row names: Celery's own database backend would unpickle it.
"""

import json
import os
from collections.abc import Callable
from typing import Any

import psycopg
from celery.backends.base import BaseBackend

from corporation.shown_address import shown

FILL = """
    UPDATE mailbox.celery_taskmeta
       SET status = %(status)s, result = %(result)s, traceback = %(traceback)s, worker = %(worker)s,
           retries = %(retries)s, date_done = now() AT TIME ZONE 'utc'
     WHERE task_id = %(task_id)s AND status NOT IN ('SUCCESS', 'FAILURE', 'REVOKED')
"""

READ = """
    SELECT task_id, status, result, traceback, date_done, name, worker, retries, queue
      FROM mailbox.celery_taskmeta WHERE task_id = %(task_id)s
"""

LONGEST_TRACEBACK = 60_000
LONGEST_MESSAGE = 4_000


class MissionFailed(Exception):
    """The attempt did not succeed; `report` says how. Raised so that Celery's own tools show a failure."""

    def __init__(self, report: dict[str, Any]) -> None:
        self.report = report
        super().__init__(str(report.get("error", "")))

    def __reduce__(self) -> tuple[type["MissionFailed"], tuple[dict[str, Any]]]:
        # It travels from the pool's child to the worker; the default would make it from its text alone.
        return (MissionFailed, (self.report,))


class ReportedFailure(Exception):
    """What a row says went wrong, as text; the class that the row names is never looked for."""


def _nothing_known(_: str) -> dict[str, Any] | None:
    return None


class MailboxBackend(BaseBackend):
    """The mailbox at a postgresql:// address; needs UPDATE of its own unfinished rows and nothing more."""

    supports_native_join = False
    supports_autoexpire = True  # a factory may not delete; Celery's cleanup job has nothing to do
    known_report: Callable[[str], dict[str, Any] | None] = staticmethod(_nothing_known)
    """What the factory's spool knows of an attempt; `lifecycle.py` sets it. Celery's own words about a task, such as a
    time limit that fell into the storing of a result, must not outvote a report that is already on the disk."""

    def __init__(self, app: Any, url: str | None = None, **options: Any) -> None:
        super().__init__(app, url=url, **options)
        self.url = url
        self._connections: dict[int, psycopg.Connection[tuple[Any, ...]]] = {}

    def exception_safe_to_retry(self, exc: BaseException) -> bool:  # pyright: ignore[reportIncompatibleMethodOverride]
        """A database that is away is waited for; one that refuses the row is not asked again."""
        return isinstance(exc, psycopg.OperationalError | psycopg.InterfaceError)

    def prepare_exception(self, exc: BaseException, serializer: str | None = None) -> Any:
        """A failure as plain JSON: our report when there is one, and the names that Celery's tools look for."""
        if serializer == "pickle":
            return exc  # Celery's own error path wants an exception to print; it is never stored in this form
        report = exc.report if isinstance(exc, MissionFailed) else {}
        kind = type(exc)
        words = str(exc)[-LONGEST_MESSAGE:]
        named = {"exc_type": kind.__name__, "exc_message": [words], "exc_module": kind.__module__}
        return {**report, **named}

    def exception_to_python(self, exc: Any) -> BaseException | None:
        """A stored failure as an exception that holds its text."""
        if not exc:
            return None
        fields: dict[str, Any] = exc if isinstance(exc, dict) else {}
        return ReportedFailure(str(fields.get("error") or fields.get("exc_message") or exc))

    def _store_result(
        self, task_id: str, result: Any, state: str, traceback: str | None = None, request: Any = None, **_: Any
    ) -> Any:
        # A factory's role may not write that word (migration 0011), and to HQ it is a failure all the same.
        state = "FAILURE" if state == "REVOKED" else state
        if state == "FAILURE" and "outcome" not in result and (known := self.known_report(task_id)):
            state, result = self._told(known)
        self._run(
            FILL,
            {
                "task_id": task_id,
                "status": state,
                "result": json.dumps(result).encode(),
                "traceback": traceback[-LONGEST_TRACEBACK:].replace("\0", "") if traceback else None,
                "worker": getattr(request, "hostname", None),
                "retries": getattr(request, "retries", None),
            },
        )
        return result

    def fill(self, task_id: str, report: dict[str, Any]) -> None:
        """Store a report of the spool for an attempt whose task is gone; a row that is filled stays as it is.

        Tried once: raises psycopg.Error while the database is away, and the caller comes again.
        """
        state, result = self._told(report)
        self._store_result(task_id, result, state)

    def _told(self, report: dict[str, Any]) -> tuple[str, dict[str, Any]]:
        """A report as Celery would have stored it."""
        done = report.get("outcome") == "done"
        return ("SUCCESS", report) if done else ("FAILURE", self.prepare_exception(MissionFailed(report)))

    def _get_task_meta_for(self, task_id: str) -> dict[str, Any]:
        row = self._run(READ, {"task_id": task_id}).fetchone()
        if row is None:
            return {"task_id": task_id, "status": "PENDING", "result": None, "traceback": None}
        names = ("task_id", "status", "result", "traceback", "date_done", "name", "worker", "retries", "queue")
        meta = dict(zip(names, row, strict=True))
        result = json.loads(bytes(meta["result"])) if meta["result"] else None
        return self.meta_from_decoded({**meta, "result": result})

    def as_uri(self, include_password: bool = False) -> str:
        """The address for banners and logs, without its password."""
        return shown(self.url or "")

    def _run(self, statement: Any, values: dict[str, Any]) -> psycopg.Cursor[tuple[Any, ...]]:
        try:
            return self._connection().execute(statement, values)
        except (psycopg.OperationalError, psycopg.InterfaceError):
            self._connections.pop(os.getpid(), None)
            raise

    def _connection(self) -> psycopg.Connection[tuple[Any, ...]]:
        # One connection a process: the pool's children must not share their parent's. Autocommit, so that one
        # statement is one round trip and one transaction.
        pid = os.getpid()
        if pid not in self._connections:
            self._connections[pid] = psycopg.connect(
                self.url or "",
                autocommit=True,
                connect_timeout=5,
                keepalives_idle=15,
                keepalives_interval=5,
                keepalives_count=3,
                tcp_user_timeout=20_000,
                options="-c statement_timeout=15s -c lock_timeout=10s",
                application_name="corporation-mailbox",
            )
        return self._connections[pid]

"""The result backend of a factory without a way to the mailbox: HQ writes the row that the factory tells it over HTTPS.

The report is in the spool before Celery stores anything. While HQ is away it stays there, and the pulse tells it.
"""

from typing import Any

import structlog
from celery.backends.base import BaseBackend

from factory_tasks.https_reports import is_reported, report_over_https
from factory_tasks.node import node

log = structlog.get_logger()


class HttpsBackend(BaseBackend):
    """Stores nothing here; a result is told to HQ, once now and later by the pulse if HQ does not listen."""

    supports_native_join = False
    supports_autoexpire = True  # nothing here expires
    marks_reported = True
    """It marks in the spool itself what HQ has: that a result was stored does not mean that."""

    def __init__(self, app: Any, url: str | None = None, **options: Any) -> None:
        super().__init__(app, url=url, **options)
        self.url = url

    def prepare_exception(self, exc: BaseException, serializer: str | None = None) -> Any:
        """A failure as text; our own report is read from the spool and not from here."""
        return exc if serializer == "pickle" else {"exc_type": type(exc).__name__, "exc_message": [str(exc)[-4000:]]}

    def exception_to_python(self, exc: Any) -> Any:
        """What was stored, as it is: a class that it names is never looked for."""
        return exc

    def fill(self, task_id: str, report: dict[str, Any]) -> None:
        """Tell HQ a report of the spool; raises CorporationError while HQ does not take it."""
        report_over_https(node(), task_id, report)

    def _store_result(
        self, task_id: str, result: Any, state: str, traceback: str | None = None, request: Any = None, **_: Any
    ) -> Any:
        del state, traceback, request
        here = node()
        # The spool's words count: Celery may have its own about a task that was killed after it had reported.
        report = here.spool.report_of(task_id)
        if report is None:
            log.warning("nothing_to_report", attempt_id=task_id)
        elif is_reported(here, task_id, report):
            here.spool.mark_reported(task_id)
        return result

    def _get_task_meta_for(self, task_id: str) -> dict[str, Any]:
        """Results are read at HQ: `celery -A factory_tasks result <attempt_id>` there."""
        return {"task_id": task_id, "status": "PENDING", "result": None, "traceback": None}

    def as_uri(self, include_password: bool = False) -> str:
        """What a worker's banner shows."""
        del include_password
        return "https (told to headquarters)"

"""Bootstrap jobs for workers that only speak HTTPS, and what people read of them (contract http §11)."""

from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel, ConfigDict, StringConstraints
from sqlalchemy import Connection
from starlette.responses import Response

from corporation import clock
from corporation.bootstrap_jobs import holding, store
from corporation.bootstrap_jobs.holding import NotTheirs, Unknown, Worker, worker_of
from corporation.bootstrap_jobs.making import KINDS
from corporation.bootstrap_jobs.records import shown
from corporation.bootstrap_jobs.store import JobRow
from corporation.clock import iso
from corporation.db import transaction
from corporation.masking import hiding, secrets_of
from corporation.missions.retry import RetryPolicy
from hq_api.access import FACTORY, Principal
from hq_api.body import BATCH_LIMIT_BYTES, read_object, read_optional_object
from hq_api.bootstrap_sight import sight_of
from hq_api.broker_sight import BrokerAnswers
from hq_api.dashboard.door import operator
from hq_api.dependencies import Ledger, ReadSettings, principal_with
from hq_api.described_routes import reads
from hq_api.gates import KeepsLedger, MayConsume
from hq_api.paging import Text
from hq_api.responses import Json, Refusal
from hq_api.routers import bootstrap_repositories
from hq_api.validation import checked, refuse_unstorable

JOBS: Final = "/api/v1/ops/tutorials/bootstrap-jobs"
MOST_LISTED: Final = 500
LONGEST_TEXT: Final = 4 * 1024 * 1024

Caller = Annotated[Principal, Depends(principal_with(FACTORY))]
Operator = Annotated[Principal, Depends(operator)]
Output = Annotated[str, StringConstraints(max_length=LONGEST_TEXT)]

router = APIRouter(tags=["bootstrap_jobs"])
router.include_router(bootstrap_repositories.router)


class WorkerForm(BaseModel):
    """Which process of the caller's speaks."""

    model_config = ConfigDict(extra="ignore")

    worker_id: Annotated[str, StringConstraints(strip_whitespace=True, max_length=140)] | None = None


class ResultForm(WorkerForm):
    """What became of a job; of long texts the end counts (H-36)."""

    status: str = ""
    repo_dir: Annotated[str, StringConstraints(max_length=4000)] | None = None
    stdout: Output | None = None
    stderr: Output | None = None
    error: Output | None = None

    def said(self) -> dict[str, str]:
        """The texts, "" for what was left out."""
        texts = {"repo_dir": self.repo_dir, "stdout": self.stdout, "stderr": self.stderr, "error": self.error}
        return {name: text or "" for name, text in texts.items()}


async def _worker_object(request: Request) -> dict[str, Any]:
    return await read_optional_object(request)


async def _result_object(request: Request) -> dict[str, Any]:
    return await read_object(request, BATCH_LIMIT_BYTES)


WorkerObject = Annotated[dict[str, Any], Depends(_worker_object)]


@router.post(f"{JOBS}/claim", openapi_extra=reads(WorkerForm, required=False))
def claim(
    caller: Caller,
    _: MayConsume,
    document: WorkerObject,
    ledger: Ledger,
    settings: ReadSettings,
    broker_answers: BrokerAnswers,
) -> Response:
    """The worker holds the oldest job that waits to be asked for; `job` is null when there is none."""
    refuse_unstorable(document)
    form = checked(WorkerForm, document)
    with transaction(ledger) as connection:
        worker = _worker(connection, form, caller)
        sight = sight_of(connection, settings, broker_answers)
        job = holding.claim(connection, worker, sight, settings.bootstrap_claim_ttl_seconds, clock.new_id)
        return Json({"worker_id": worker.name, "job": shown(job, sight) if job else None})


@router.post(JOBS + "/{job_id:path}/start", openapi_extra=reads(WorkerForm, required=False))
def start(
    job_id: str,
    caller: Caller,
    _: MayConsume,
    document: WorkerObject,
    ledger: Ledger,
    settings: ReadSettings,
    broker_answers: BrokerAnswers,
) -> Response:
    """The worker runs the job; the same again is answered in the same way."""
    refuse_unstorable([document, job_id])
    form = checked(WorkerForm, document)
    with transaction(ledger) as connection:
        worker = _worker(connection, form, caller)
        job = _theirs(holding.start(connection, job_id, worker, settings.bootstrap_claim_ttl_seconds, clock.new_id))
        sight = sight_of(connection, settings, broker_answers)
        return Json({"worker_id": worker.name, "job": shown(job, sight)})


@router.post(JOBS + "/{job_id:path}/result", openapi_extra=reads(ResultForm, required=True))
def take_result(
    job_id: str,
    caller: Caller,
    _: MayConsume,
    document: Annotated[dict[str, Any], Depends(_result_object)],
    ledger: Ledger,
    settings: ReadSettings,
    broker_answers: BrokerAnswers,
) -> Response:
    """The job has ended or is queued again; the same result again is answered in the same way."""
    refuse_unstorable([document, job_id])
    form = checked(ResultForm, document)
    status = form.status.strip().lower()
    if status not in ("completed", "failed"):
        raise Refusal(400, "bad_status", "status must be completed or failed")
    policy = RetryPolicy(settings.retry_base_seconds, settings.retry_cap_seconds, settings.retry_jitter)
    with transaction(ledger) as connection:
        worker, done, hide = _worker(connection, form, caller), status == "completed", hiding(secrets_of(settings))
        answer = holding.finish(connection, job_id, worker, form.said(), policy, clock.chance, hide, completed=done)
        sight = sight_of(connection, settings, broker_answers)
    # A result that comes too late is refused, and kept: the transaction above is not given up.
    return Json({"job": shown(_theirs(answer), sight)})


@router.get("/api/v1/dashboard/tutorials/bootstrap-jobs")
def list_jobs(
    _: Operator,
    __: KeepsLedger,
    ledger: Ledger,
    settings: ReadSettings,
    broker_answers: BrokerAnswers,
    limit: int = 100,
    run_path: Text | None = None,
) -> Response:
    """The newest jobs, of one run only when it is named; `limit` is clamped to 1..500."""
    most = min(max(1, limit), MOST_LISTED, settings.bootstrap_jobs_max)
    with transaction(ledger) as connection:
        sight = sight_of(connection, settings, broker_answers)
        return Json({"jobs": [shown(job, sight) for job in store.list_jobs(connection, most, run_path or None)]})


@router.get("/api/v1/dashboard/tutorials/notifications")
def list_notifications(
    _: Operator, __: KeepsLedger, ledger: Ledger, limit: int = 100, include_dismissed: bool = False
) -> Response:
    """The newest notifications about bootstrap jobs; `limit` is clamped to 1..500."""
    most = min(max(1, limit), MOST_LISTED)
    with transaction(ledger) as connection:
        rows = store.read_notifications(connection, KINDS, most, dismissed_too=include_dismissed)
    return Json({"notifications": [_notification(row) for row in rows]})


def _worker(connection: Connection, form: WorkerForm, caller: Principal) -> Worker:
    bound_to = caller.factory_id if caller.scope == FACTORY else None
    return worker_of(connection, form.worker_id or None, bound_to)


def _theirs(answer: JobRow | Unknown | NotTheirs) -> JobRow:
    match answer:
        case Unknown():
            raise Refusal(404, "unknown_job", "no bootstrap job has this job_id; do not try again")
        case NotTheirs(why):
            raise Refusal(409, "not_yours", f"{why}; do not try again")
        case _:
            return answer


def _notification(row: Any) -> dict[str, Any]:
    return {
        "id": row.id,
        "kind": row.kind,
        "created_at": iso(row.at),
        "title": row.title,
        "message": row.message,
        "metadata": row.metadata,
        "dismissed_at": iso(row.dismissed_at) if row.dismissed_at else None,
    }

"""An order for a repository becomes one mission, unless an unfinished job makes one from that run (contract H-33)."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlalchemy import Connection

from corporation.bootstrap_jobs import store
from corporation.bootstrap_jobs.backends import Sight, first_backend
from corporation.bootstrap_jobs.names import clean_name, default_name, distinguished, job_name
from corporation.bootstrap_jobs.runs import Run
from corporation.bootstrap_jobs.store import JobRow
from corporation.envelope import MissionEnvelope, MissionPayload
from corporation.missions.kinds import resolve
from corporation.missions.submit import Submission, submit
from corporation.notifying import notify

QUEUED: Final = "tutorial_repo_bootstrap_queued"
READY: Final = "tutorial_repo_bootstrap_ready"
FAILED: Final = "tutorial_repo_bootstrap_failed"
KINDS: Final = (QUEUED, READY, FAILED)
SOURCE: Final = "dashboard"
PRIORITY: Final = 1
MAX_RETRIES: Final = 3
_STATUS: Final = {QUEUED: "queued", READY: "completed", FAILED: "failed"}
_TITLES: Final = {QUEUED: "Repository queued", READY: "Repository ready", FAILED: "Repository failed"}


@dataclass(frozen=True)
class Order:
    """What is asked for; an empty `repo_name` leaves the name to us, an empty `target_root` the place to the worker."""

    run: Run
    repo_name: str
    target_root: str
    python_version: str
    timeout_seconds: int


@dataclass(frozen=True)
class Made:
    """The job that answers the order; `reused` when it was there before."""

    job: JobRow
    reused: bool


@dataclass(frozen=True)
class News:
    """What people are told of a repository; `job_id` is empty for one that HQ makes itself, `message` is for reading.

    What becomes of a job is told by the ledger, when its mission ends (migration 0009).
    """

    kind: str
    message: str
    repo_name: str
    run_path: str
    job_id: str = ""
    repo_dir: str = ""
    error: str = ""
    execution_target: str = "local"


def make(
    connection: Connection,
    order: Order,
    gateway_url: str,
    sight: Sight,
    default_ttl_seconds: int,
    now: datetime,
    mark: str,
) -> Made:
    """A job for the order is there and people are told; while one for the run is queued or running, it is that one.

    `mark` are six hexadecimal digits by chance. Two orders at once for one run make one job, and for two runs never two
    repositories of one made-up name.
    """
    store.take_making_lock(connection)
    unfinished = store.list_jobs(connection, 1, order.run.path, unfinished=True)
    if unfinished:
        return Made(unfinished[0], reused=True)
    name = clean_name(order.repo_name) or _made_up(connection, order.run.title, now, mark)
    envelope = _envelope(order, job_name(now, mark), name, gateway_url)
    [receipt] = submit(connection, [Submission(envelope, resolve(envelope), SOURCE)], default_ttl_seconds)
    backend = first_backend(sight)
    store.add(connection, receipt.mission_id, order.run.path, name, backend.name, backend.reason)
    job = store.find(connection, receipt.job_id)
    assert job is not None  # noqa: S101 - it was stored a line above, in this transaction
    tell(connection, News(QUEUED, order.run.path, name, order.run.path, job_id=job.job_id))
    return Made(job, reused=False)


def tell(connection: Connection, news: News) -> None:
    """People are told, in the contract's words (http §11)."""
    metadata = {
        "job_id": news.job_id,
        "tutorial_run_path": news.run_path,
        "repo_name": news.repo_name,
        "repo_dir": news.repo_dir,
        "status": _STATUS[news.kind],
        "error": news.error,
        "execution_target": news.execution_target,
        "source": SOURCE,
    }
    notify(connection, news.kind, f"{_TITLES[news.kind]}: {news.repo_name}", news.message, metadata)


def _made_up(connection: Connection, title: str, now: datetime, mark: str) -> str:
    name = default_name(title, now)
    return distinguished(name, mark) if store.is_name_taken(connection, name) else name


def _envelope(order: Order, job_id: str, repo_name: str, gateway_url: str) -> MissionEnvelope:
    context = {
        "mission_kind": "tutorial_bootstrap_repo",
        "_retry_count": 0,
        "job_id": job_id,
        "gateway_url": gateway_url,
        "tutorial_run_path": order.run.path,
        "tutorial_title": order.run.title,
        "video_id": order.run.video_id,
        "video_url": order.run.video_url,
        "repo_name": repo_name,
        "target_root": order.target_root,
        "python_version": order.python_version,
        "timeout_seconds": order.timeout_seconds,
    }
    return MissionEnvelope(
        job_id=job_id,
        idempotency_key=f"tutorial-bootstrap:{job_id}",
        payload=MissionPayload(task=f"Make the repository {repo_name} from {order.run.path}", context=context),
        priority=PRIORITY,
        timeout_seconds=order.timeout_seconds,
        max_retries=MAX_RETRIES,
    )

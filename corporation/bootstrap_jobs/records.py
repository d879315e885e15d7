"""A bootstrap job as outsiders read it (contract http §11), and the report that its worker's result means."""

from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import PurePosixPath
from typing import Any, Final
from urllib.parse import quote

from corporation.bootstrap_jobs.backends import Backend, Sight, Waiting, backend_now
from corporation.bootstrap_jobs.store import JobRow
from corporation.clock import iso
from corporation.masking import hidden_tail, hide_shapes

STDOUT_TAIL: Final = 6000
STDERR_TAIL: Final = 4000
ERROR_TAIL: Final = 1200
"""Characters that are kept, from the end (H-36)."""
UNFINISHED: Final = frozenset({"queued", "running"})
LONGEST_PLACE: Final = 4000

# A claimed job is its worker's: nobody else may begin it.
_STATUS: Final[Mapping[str, str]] = {
    "waiting": "queued",
    "queued": "queued",
    "claimed": "running",
    "running": "running",
    "succeeded": "completed",
}


def status_of(state: str) -> str:
    """The job's word for its mission's state: queued, running, completed or failed."""
    return _STATUS.get(state, "failed")


def shown(job: JobRow, sight: Sight) -> dict[str, Any]:
    """The job record; `dispatch_backend` is the way by which it can be had now (H-34)."""
    status, context, result = status_of(job.state), job.context, job.result
    backend = backend_of(job, sight)
    held = status == "running" or job.finished_at is not None
    ended = iso(job.finished_at) if job.finished_at else None
    return {
        "job_id": job.job_id,
        "status": status,
        "queued_at": iso(job.created_at),
        "queued_at_epoch": job.created_at.timestamp(),
        "execution_target": "local",
        "tutorial_run_path": job.run_path,
        "tutorial_title": _text(context, "tutorial_title"),
        "video_id": _text(context, "video_id"),
        "video_url": _text(context, "video_url"),
        "repo_name": job.repo_name,
        "target_root": _text(context, "target_root"),
        "python_version": _text(context, "python_version"),
        "timeout_seconds": job.timeout_seconds,
        "dispatch_backend": backend.name,
        "delegation_message_id": job.attempt_id if backend.name != "http_queue" else None,
        "dispatch_fallback_reason": backend.reason,
        "worker_id": (job.worker_id or job.factory_id) if held else None,
        "claim_attempts": job.claims,
        **_claimed(job, held=held),
        "requeued_at": iso(job.requeued_at) if job.requeued_at else None,
        "completed_at": ended,
        "finished_at": ended,
        "repo_dir": _text(result, "repo_dir"),
        "repo_open_uri": _text(result, "repo_open_uri"),
        "repo_open_hint": _text(result, "repo_open_hint"),
        "stdout": _text(result, "stdout")[-STDOUT_TAIL:],
        "stderr": _text(result, "stderr")[-STDERR_TAIL:],
        "error": job.error[-ERROR_TAIL:],
    }


def backend_of(job: JobRow, sight: Sight) -> Backend:
    """By which way the job can be had now."""
    waiting = Waiting(job.waited_seconds, job.lapsed) if job.is_held_by_nobody else None
    return backend_now(Backend(job.backend, job.fallback_reason), waiting, sight)


def report_of(
    job: JobRow,
    place: str,
    said: Mapping[str, str],
    hide: Callable[[str], str] = hide_shapes,
    *,
    completed: bool,
) -> dict[str, Any]:
    """The spool's report of what a worker says of the job; `place` is where it made the repository.

    What it says of a failure has gone through `hide` (S-40); what it has done is kept to the letter.
    """
    if not completed:
        said = {**said, **{name: hidden_tail(said[name], STDOUT_TAIL, hide) for name in ("stdout", "stderr", "error")}}
    repo_dir = said["repo_dir"][:LONGEST_PLACE]
    result: dict[str, Any] = {
        "repo_name": PurePosixPath(repo_dir).name or job.repo_name,
        "repo_dir": repo_dir,
        "repo_open_uri": f"file://{quote(repo_dir if repo_dir.startswith('/') else '/' + repo_dir)}"
        if repo_dir
        else "",
        "repo_open_hint": f"Open {repo_dir} on {place}" if repo_dir else "",
        "stdout": said["stdout"][-STDOUT_TAIL:],
        "stderr": said["stderr"][-STDERR_TAIL:],
    }
    if completed:
        reference = f"workspace://{quote(place, safe='')}/{quote(repo_dir.lstrip('/'))}"
        return {"outcome": "done", "result": {**result, "result_ref": reference}}
    why = said["error"].strip() or said["stderr"].strip() or "the worker gave no reason"
    return {"outcome": "failed", "error": why[-ERROR_TAIL:], "result": result}


def _claimed(job: JobRow, *, held: bool) -> dict[str, Any]:
    return {
        "claimed_at": _time(job.claimed_at if held else None),
        "claimed_at_epoch": job.claimed_at.timestamp() if held and job.claimed_at else None,
        "started_at": _time(job.started_at if held else None),
    }


def _time(moment: datetime | None) -> str | None:
    return iso(moment) if moment else None


def _text(fields: Mapping[str, Any], name: str) -> str:
    value = fields.get(name)
    return value if isinstance(value, str) else ""

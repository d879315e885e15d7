"""A repository is ordered from a tutorial run: as a job for a worker, or made at HQ itself (contract http §11)."""

import tarfile
import threading
from pathlib import Path
from secrets import token_hex
from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, field_validator
from sqlalchemy import Engine
from starlette.responses import Response

from corporation import clock
from corporation.bootstrap_jobs import runs
from corporation.bootstrap_jobs.at_headquarters import PlaceRefused, Ran, make_here, place_of, repository_in
from corporation.bootstrap_jobs.making import FAILED, READY, News, Order, make, tell
from corporation.bootstrap_jobs.names import clean_name, default_name
from corporation.bootstrap_jobs.records import ERROR_TAIL, shown, status_of
from corporation.bootstrap_jobs.runs import RunRefused
from corporation.db import transaction
from corporation.settings import Settings
from corporation.trust import audit
from hq_api.access import Principal
from hq_api.auditing import act_of
from hq_api.bootstrap_sight import sight_of
from hq_api.broker_sight import BrokerAnswers
from hq_api.dashboard.door import operator
from hq_api.dependencies import JsonObject, Ledger, ReadSettings
from hq_api.described_routes import reads
from hq_api.gates import MayPublish
from hq_api.publishing import check_room
from hq_api.responses import Json, Refusal
from hq_api.routers.bundles import pack
from hq_api.validation import checked, refuse_unstorable

SHORTEST_SECONDS: Final = 30
LONGEST_SECONDS: Final = 3600
STDOUT_SHOWN: Final = 4000
STDERR_SHOWN: Final = 2000
HINT: Final = "start a worker with the label tutorial_bootstrap_consumer"
TARGETS: Final[dict[str, Literal["local", "server"]]] = {
    "": "local",
    "local": "local",
    "desktop": "local",
    "local_desktop": "local",
    "server": "server",
    "vps": "server",
}
STATUS: Final = {"bad": 400, "outside": 403, "missing": 404}
MOST_AT_ONCE: Final = 2
"""Scripts that HQ runs at the same time: each holds a thread that answers nobody else meanwhile."""
_PLACES = threading.BoundedSemaphore(MOST_AT_ONCE)

Line = Annotated[str, StringConstraints(strip_whitespace=True, max_length=1000, pattern=r"^[^\x00-\x1f\x7f]*$")]
Version = Annotated[str, StringConstraints(strip_whitespace=True, pattern=r"^([A-Za-z0-9][A-Za-z0-9._-]{0,31})?$")]

router = APIRouter(tags=["bootstrap_jobs"])


class OrderForm(BaseModel):
    """Which run becomes a repository, where and how; null is as good as absent."""

    model_config = ConfigDict(extra="ignore")

    run_path: Line = ""
    repo_name: Line = ""
    target_root: Line = ""
    python_version: Version = ""
    timeout_seconds: Annotated[int, Field(strict=True)] = 900
    execution_target: Line = "local"

    @field_validator("*", mode="before")
    @classmethod
    def _null_is_absent(cls, value: Any, info: Any) -> Any:
        return cls.model_fields[info.field_name].default if value is None else value

    @property
    def seconds(self) -> int:
        """The time limit, in the bounds of the contract."""
        return min(max(self.timeout_seconds, SHORTEST_SECONDS), LONGEST_SECONDS)


@router.post("/api/v1/dashboard/tutorials/bootstrap-repo", openapi_extra=reads(OrderForm, required=True))
def order_repository(
    request: Request,
    caller: Annotated[Principal, Depends(operator)],
    _: MayPublish,
    document: JsonObject,
    ledger: Ledger,
    settings: ReadSettings,
    broker_answers: BrokerAnswers,
) -> Response:
    """A job for the run is there, or the repository is made at HQ when the answer comes."""
    refuse_unstorable(document)
    form = checked(OrderForm, document)
    target = TARGETS.get(form.execution_target.lower())
    if target is None:
        raise Refusal(400, "bad_execution_target", "execution_target must be local or server")
    try:
        run = runs.find(settings.artifact_root, form.run_path)
    except RunRefused as refused:
        raise Refusal(STATUS[refused.why], "run_refused", str(refused)) from None
    if target == "server":
        with transaction(ledger) as connection:
            # Before it runs: a script at headquarters leaves its line, however it ends.
            audit.write(connection, act_of(request, caller, "repository.make_here", run.path))
        return _made_here(form, run, ledger, settings)
    order = Order(run, form.repo_name, form.target_root, form.python_version, form.seconds)
    with transaction(ledger) as connection:
        sight = sight_of(connection, settings, broker_answers)
        ttl, now, mark = settings.default_ttl_seconds, clock.utc_now(), token_hex(3)
        made = make(connection, order, _gateway_url(settings), sight, ttl, now, mark)
        if not made.reused:
            check_room(connection, settings.waiting_limit)
    job = shown(made.job, sight)
    named = ("job_id", "execution_target", "dispatch_backend", "repo_name", "target_root")
    return Json(
        {
            "queued": True,
            **{name: job[name] for name in named},
            "status": status_of(made.job.state),
            "run_path": run.path,
            "job": job,
            "existing_job_reused": made.reused,
            "worker_hint": HINT,
        }
    )


def _gateway_url(settings: Settings) -> str:
    """HQ's own address as it is configured; the Host header is the caller's (H-33)."""
    return settings.hq_base_url or f"http://127.0.0.1:{settings.gateway_port}"


def _made_here(form: OrderForm, run: runs.Run, ledger: Engine, settings: Settings) -> Response:
    given = clean_name(form.repo_name)
    name = given or default_name(run.title, clock.utc_now())
    try:
        target = place_of(settings.repositories_root, form.target_root, name)
    except PlaceRefused as refused:
        raise Refusal(403 if refused.outside else 400, "place_refused", str(refused)) from None
    ran = _run(run, target, name, form)
    found = repository_in(ran, target, name) if ran.exit_code == 0 and not ran.timed_out else None
    if found is None:
        raise _failed(ran, run, name, form.seconds, ledger)
    where = str(found)
    with transaction(ledger) as connection:
        tell(connection, News(READY, where, name, run.path, repo_dir=where, execution_target="server"))
    return Json(
        {
            "ok": True,
            "execution_target": "server",
            "run_path": run.path,
            "repo_name": name,
            "target_root": str(target),
            "repo_dir": where,
            "repo_open_uri": found.as_uri(),
            "repo_open_hint": f"Open {where} at HQ",
            "stdout": ran.stdout[-STDOUT_SHOWN:],
            "stderr": ran.stderr[-STDERR_SHOWN:],
        }
    )


def _run(run: runs.Run, target: Path, name: str, form: OrderForm) -> Ran:
    if not _PLACES.acquire(blocking=False):
        again = {"Retry-After": "30"}
        raise Refusal(429, "busy", f"HQ makes {MOST_AT_ONCE} repositories now; try again, or order it local", again)
    try:
        return make_here(pack(run.folder), target, name, form.python_version, form.seconds, token_hex(16))
    except (OSError, tarfile.TarError) as error:
        return Ran(127, False, "", f"the script could not be run ({type(error).__name__})")
    finally:
        _PLACES.release()


def _failed(ran: Ran, run: runs.Run, name: str, seconds: int, ledger: Engine) -> Refusal:
    """The answer that says what went wrong; people are told of it too."""
    if ran.timed_out:
        refusal = Refusal(504, "script_too_slow", f"the script took longer than {seconds} s and was ended")
    elif ran.exit_code == 0:
        refusal = Refusal(500, "no_repository", "the script ended well, and there is no repository of its making")
    else:
        words = (ran.stderr.strip() or ran.stdout.strip())[-STDERR_SHOWN:]
        refusal = Refusal(500, "script_failed", f"the script ended with exit code {ran.exit_code}: {words}")
    error = refusal.message[-ERROR_TAIL:]
    with transaction(ledger) as connection:
        tell(connection, News(FAILED, error, name, run.path, error=error, execution_target="server"))
    return refusal

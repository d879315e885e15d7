"""One attempt, from the message to the report: received once, run, written to the spool, and only then told to HQ."""

import json
import signal
from collections import deque
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import current_thread, main_thread
from typing import Any

import structlog
from celery import Celery, Task
from celery.exceptions import Ignore, SoftTimeLimitExceeded

from corporation import clock, strict_json
from corporation.federation.hq import Hq
from corporation.federation.processes import my_identity
from corporation.federation.spool import Duplicate, Finished, Fresh
from corporation.missions.outcomes import Failed, Outcome, Stop, TimedOut, to_report
from corporation.roles import FactoryRuntimePolicy
from factory_tasks.handlers import Mission, Registration, registered
from factory_tasks.mailbox import MissionFailed
from factory_tasks.node import Node, node
from factory_tasks.reporter import LiveReporter

log = structlog.get_logger()

LARGEST_REPORT_BYTES = 900_000
"""The mailbox takes a megabyte (its CHECK `result_size`); the rest is for Celery's own keys."""
LONGEST_ERROR = 4_000
"""Characters, the tail; HQ keeps no more either."""


@dataclass(frozen=True)
class Order:
    """What HQ's message says, checked."""

    job_id: str
    attempt: int
    factory_id: str
    timeout_seconds: int
    task: str
    context: Mapping[str, Any]


class MissionTask(Task):
    """The Celery side of a mission kind: failures are expected, and a stored result is marked in the spool."""

    abstract = True
    resultrepr_maxsize = 100  # characters of a result in logs and in Flower; the whole is in the ledger
    throws = (MissionFailed,)  # logged as a line, not as a crash

    def after_return(self, status: str, retval: Any, task_id: str, args: Any, kwargs: Any, einfo: Any) -> None:
        """Called by Celery after the result is stored: HQ has the report now."""
        node().spool.mark_reported(task_id)


def register_all(app: Celery, policy: FactoryRuntimePolicy) -> None:
    """Every kind that `policy` permits is a task `mission.<kind>` of `app`; safe to call twice."""
    for registration in registered(policy).values():
        app.task(_body_of(registration), name=f"mission.{registration.kind}", base=MissionTask, bind=True)


def _body_of(registration: Registration) -> Callable[..., dict[str, Any]]:
    def mission(self: Any, order: dict[str, Any]) -> dict[str, Any]:
        return deliver(attempt(node(), registration, str(self.request.id), read_order(order)))

    mission.__doc__ = registration.run.__doc__
    return mission


def read_order(order: Mapping[str, Any]) -> Order:
    """The order in a message; raises KeyError, TypeError or ValueError when it is none of ours."""
    payload = order["envelope"]["payload"]
    return Order(
        job_id=str(order["job_id"]),
        attempt=int(order["attempt"]),
        factory_id=str(order["factory_id"]),
        timeout_seconds=int(order["timeout_seconds"]),
        task=str(payload["task"]),
        context=dict(payload.get("context", {})),
    )


def deliver(report: dict[str, Any]) -> dict[str, Any]:
    """Hand the report to Celery: a success is returned, anything else raised, so that every tool shows it truly."""
    if report["outcome"] != "done":
        raise MissionFailed(report)
    return report


def attempt(here: Node, registration: Registration, attempt_id: str, order: Order) -> dict[str, Any]:
    """Run the attempt unless it was run before, and return its report, which is on the disk by then.

    A second copy of the message, or one for another factory, is dropped by Celery's Ignore: acknowledged, not stored.
    """
    if order.factory_id != here.settings.factory_id:
        log.warning("not_ours", attempt_id=attempt_id, addressee=order.factory_id)
        raise Ignore
    started_at = clock.iso(clock.utc_now())
    match here.spool.accept(attempt_id, order.job_id, order.attempt, my_identity(), started_at):
        case Duplicate(why):
            log.warning("duplicate_dropped", attempt_id=attempt_id, job_id=order.job_id, why=why)
            raise Ignore
        case Finished(report):
            return report
        case Fresh():
            report = run(here, registration, attempt_id, order)
            here.spool.finish(attempt_id, report)
            return report


def run(here: Node, registration: Registration, attempt_id: str, order: Order) -> dict[str, Any]:
    """Run the handler and return what came of it, with how long it took; nothing it raises gets past here."""
    began = clock.monotonic()
    reporter = LiveReporter(here.hq, here.spool, attempt_id, here.mask)
    mission = _mission(here, registration, attempt_id, order, reporter)
    with reporter, _soft_limit(registration):
        outcome = _outcome(registration, mission)
    # What a library says of an error may repeat the key it was given.
    return here.mask(fit({**to_report(outcome), "duration_seconds": round(clock.monotonic() - began, 6)}))


def _outcome(registration: Registration, mission: Mission) -> Outcome:
    try:
        answer: Any = registration.run(mission)
    except SoftTimeLimitExceeded:
        return TimedOut(f"the time limit of {mission.timeout_seconds} s passed")
    except Exception as error:
        log.exception("handler_failed", job_id=mission.job_id, attempt_id=mission.attempt_id, kind=mission.kind)
        return Failed(f"{type(error).__name__}: {error}")
    if isinstance(answer, Outcome):
        return answer
    return Stop(f"the handler of {mission.kind} answered {type(answer).__name__}; it must return Done, Later or Stop")


def fit(report: dict[str, Any]) -> dict[str, Any]:
    """The report as HQ will read it; a result that is too large or no plain JSON is dropped, the outcome never is."""
    report = {**report, **({"error": str(report["error"])[-LONGEST_ERROR:]} if "error" in report else {})}
    try:
        text = json.dumps(report, default=str)
        if len(text) <= LARGEST_REPORT_BYTES:
            return strict_json.parse(text.encode(), strict_json.REPORT)
        why = f"larger than {LARGEST_REPORT_BYTES} bytes"
    except (TypeError, ValueError, RecursionError) as error:
        why = f"no plain JSON: {error}"
    result = report.get("result")
    reference = result.get("result_ref") if isinstance(result, Mapping) else None
    kept = {"result_ref": reference if isinstance(reference, str) else "", "dropped": why[:500]}
    return {**report, "result": kept}


def _mission(here: Node, registration: Registration, attempt_id: str, order: Order, reporter: LiveReporter) -> Mission:
    return Mission(
        job_id=order.job_id,
        attempt_id=attempt_id,
        attempt=order.attempt,
        kind=registration.kind,
        task=order.task,
        context=order.context,
        timeout_seconds=order.timeout_seconds,
        factory_id=here.settings.factory_id,
        repositories_root=Path(here.settings.repositories_root).expanduser().absolute(),
        grace_seconds=float(here.settings.timeout_grace_seconds),
        reporter=reporter,
        fetch_bundle=lambda: _hq(here).bundle(order.job_id),
    )


def _hq(here: Node) -> Hq:
    if here.hq is None:
        raise RuntimeError("this factory knows no address of HQ to fetch from; set UA_HQ_BASE_URL")
    return here.hq


@contextmanager
def _soft_limit(registration: Registration) -> Generator[None]:
    """Celery's soft limit is a signal to this process, and it bounds the handler only.

    Afterwards it is ignored until the next mission: the report may have to wait for a database that is away, and must
    not be thrown out of that by the limit of work that is done. A handler that keeps the limit itself never sees it.
    """
    if current_thread() is not main_thread():
        yield  # only a main thread may set signals; a pool of threads has no soft limit
        return
    if (found := signal.getsignal(signal.SIGUSR1)) is not signal.SIG_IGN:
        _celerys_answer.append(found)
    wanted = signal.SIG_IGN if registration.stops_itself or not _celerys_answer else _celerys_answer[-1]
    signal.signal(signal.SIGUSR1, wanted)
    try:
        yield
    finally:
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)


_celerys_answer: deque[Any] = deque(maxlen=1)

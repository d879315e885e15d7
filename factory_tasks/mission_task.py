"""One attempt, from the message to the report: received once, run, written to the spool, and only then told to HQ."""

import json
import math
import sqlite3
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import structlog
from celery import Celery, Task
from celery.exceptions import Ignore, Reject, SoftTimeLimitExceeded

from corporation import clock, strict_json
from corporation.errors import CorporationError
from corporation.federation.hq import Hq, HqRefusedError
from corporation.federation.processes import my_identity
from corporation.federation.spool import Died, Duplicate, Finished, Fresh, Reception
from corporation.missions.kinds import SYSTEM_ORDERS
from corporation.missions.outcomes import Cancelled, Done, Failed, Later, Lost, Outcome, Stop, TimedOut, to_report
from corporation.roles import FactoryRuntimePolicy
from corporation.trust.signatures import ENVELOPE, GOOD_FOR_SECONDS
from factory_tasks.attempt_mark import end_leftovers_of_the_dead, marked
from factory_tasks.handlers import Mission, Registration, registered
from factory_tasks.mailbox import MissionFailed
from factory_tasks.node import Node, node
from factory_tasks.process_tree import end_descendants, is_pool_process
from factory_tasks.reporter import LiveReporter
from factory_tasks.stop_orders import STOP_CAUSES, SUPERSEDED
from factory_tasks.stopping import TOLD_TO_END, AttemptStopped, interruptible

log = structlog.get_logger()

LARGEST_REPORT_BYTES = 900_000
"""The mailbox takes a megabyte (its CHECK `result_size`); the rest is for Celery's own keys."""
LONGEST_ERROR = 4_000
"""Characters, the tail; HQ keeps no more either."""
DEATH_SECONDS = 5.0
"""How long a process whose attempt the warden has reported waits for the SIGKILL that follows within milliseconds."""

SOFT_LIMIT_LEAD_SECONDS = 2.0
"""Celery counts the soft limit from when the worker heard that the attempt was taken up, a moment before us."""
BY_SIGTERM = "the process that ran it was told to end (SIGTERM), as when its factory was stopped"
"""What is reported where a whole group of processes is told to stop, or a cold shutdown ends those of the pool."""
FULL_DISK_SECONDS = 5.0
"""Between two looks whether a disk that took nothing does now; a slot waits so long, and takes nothing else."""


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
        """Called by Celery after the result is stored: HQ has the report now, unless the backend says that itself."""
        if getattr(self.backend, "marks_reported", False):
            return
        try:
            node().spool.mark_reported(task_id)
        except sqlite3.OperationalError as error:
            log.warning("reported_unmarked", attempt_id=task_id, error=str(error))  # then it is told once more


def register_all(app: Celery, policy: FactoryRuntimePolicy) -> None:
    """Every kind that `policy` permits is a task `mission.<kind>` of `app`; safe to call twice."""
    _register(app, (one for kind, one in registered(policy).items() if kind not in SYSTEM_ORDERS))


def register_orders(app: Celery, policy: FactoryRuntimePolicy) -> None:
    """Every order to the factory itself is a task `mission.system:…` of `app`; safe to call twice."""
    _register(app, (one for kind, one in registered(policy).items() if kind in SYSTEM_ORDERS))


def _register(app: Celery, registrations: Iterable[Registration]) -> None:
    for registration in registrations:
        app.task(_body_of(registration), name=f"mission.{registration.kind}", base=MissionTask, bind=True)


def _body_of(registration: Registration) -> Callable[..., dict[str, Any]]:
    def mission(self: Any, order: dict[str, Any]) -> dict[str, Any]:
        here, signed = node(), getattr(self.request, ENVELOPE, None)
        ask = {"is_wanted": partial(is_wanted, here)} if _is_old(signed, here) else {}
        return deliver(attempt(here, registration, str(self.request.id), read_order(order), **ask))

    mission.__doc__ = registration.run.__doc__
    return mission


def read_order(order: Mapping[str, Any]) -> Order:
    """The order in a message; raises KeyError, TypeError or ValueError when it is none of ours."""
    payload = order["envelope"]["payload"]
    return Order(
        job_id=str(order["job_id"]),
        attempt=_whole(order["attempt"]),
        factory_id=str(order["factory_id"]),
        timeout_seconds=_whole(order["timeout_seconds"]),
        task=str(payload["task"]),
        context=dict(payload.get("context", {})),
    )


def _whole(value: Any) -> int:
    try:
        return int(value)
    except OverflowError:  # an answer over HTTPS may hold Infinity, which JSON has not
        raise ValueError("no whole number") from None


def deliver(report: dict[str, Any]) -> dict[str, Any]:
    """Hand the report to Celery: a success is returned, anything else raised, so that every tool shows it truly."""
    if report["outcome"] != "done":
        raise MissionFailed(report)
    return report


def attempt(
    here: Node,
    registration: Registration,
    attempt_id: str,
    order: Order,
    is_wanted: Callable[[str], bool] = lambda _: True,
) -> dict[str, Any]:
    """Run the attempt unless it was run before, and return its report, which is on the disk by then.

    A second copy of the message, or one for another factory, is dropped by Celery's Ignore: acknowledged, not stored.
    So is one that is written down and not wanted any more: `is_wanted` is asked last.
    """
    if order.factory_id != here.settings.factory_id:
        log.warning("not_ours", attempt_id=attempt_id, addressee=order.factory_id)
        raise Ignore
    me, started_at = my_identity(), clock.iso(clock.utc_now())
    match _receive(lambda: here.spool.accept(attempt_id, order.job_id, order.attempt, me, started_at)):
        case Duplicate(why):
            log.warning("duplicate_dropped", attempt_id=attempt_id, job_id=order.job_id, why=why)
            raise Ignore
        case Finished(report):
            return report
        case Died(report):
            end_leftovers_of_the_dead(here.spool)  # its process may have died a moment ago
            _until_written(lambda: here.spool.finish(attempt_id, report))
            return here.spool.report_of(attempt_id) or report
        case Fresh():
            if not _may_begin(here, attempt_id, order, is_wanted):
                return _told_before(here, attempt_id)
            if not _until_written(lambda: here.spool.begin(attempt_id, me, clock.monotonic(), order.timeout_seconds)):
                raise Ignore
            return _the_report_that_counts(here, attempt_id, _run_safely(here, registration, attempt_id, order))


def _may_begin(here: Node, attempt_id: str, order: Order, is_wanted: Callable[[str], bool]) -> bool:
    """Whether the work is to begin; if not, the attempt has an end in the spool.

    Whatever asking raises, the attempt does not stay `received`: this process lives on, so every copy of the message
    would be dropped as one that runs, and every beat would say that it does.
    """
    try:
        wanted = is_wanted(attempt_id)
    except SoftTimeLimitExceeded:  # Celery counts from when the worker took the message, not from the work
        why = f"the time limit of {order.timeout_seconds} s passed before it began, while HQ was asked about it"
        _until_written(lambda: here.spool.finish(attempt_id, to_report(TimedOut(why))))
        return False
    except Exception:
        log.exception("begun_untold", attempt_id=attempt_id)
        return True  # as while HQ is absent: it was handed out
    if not wanted:
        _until_written(lambda: _put_aside(here, attempt_id))
    return wanted


def _told_before(here: Node, attempt_id: str) -> dict[str, Any]:
    """The report of an attempt that ended before its work; Ignore for one that nobody waits for."""
    if (report := here.spool.report_of(attempt_id)) is None:
        raise Ignore
    return report


def _is_old(signed: object, here: Node) -> bool:
    """Whether HQ signed this so long ago that it may have taken it back meanwhile: a copy of it is still good then."""
    expires = signed.get("exp") if isinstance(signed, Mapping) else None
    if not isinstance(expires, int) or here.hq is None:
        return False
    age = clock.utc_now().timestamp() - (expires - GOOD_FOR_SECONDS)
    return age > here.settings.attempt_lease_seconds


def is_wanted(here: Node, attempt_id: str) -> bool:
    """Tell HQ that it begins; False when HQ says that it must not. An absent HQ has handed it out all the same."""
    if here.hq is None:
        return False
    try:
        here.hq.start(attempt_id)
    except HqRefusedError as refused:
        if refused.cause in STOP_CAUSES:
            log.warning("not_begun", attempt_id=attempt_id, why=refused.cause)
            return False
    except CorporationError as error:
        log.warning("begun_untold", attempt_id=attempt_id, error=str(error))
    return True


def _put_aside(here: Node, attempt_id: str) -> bool:
    """The attempt has an end here, which HQ need not be told: it was HQ that did not want it."""
    ended = here.spool.finish(attempt_id, to_report(Cancelled(SUPERSEDED)))
    here.spool.mark_reported(attempt_id)
    return ended


def _receive(accept: Callable[[], Reception]) -> Reception:
    """The spool's answer. A disk that takes nothing has the message go back, in a while: no attempt is used up."""
    try:
        return accept()
    except sqlite3.OperationalError as error:
        log.error("spool_refuses", error=str(error), what_next="make room on the disk of UA_VP_DB_PATH")
        clock.pause(FULL_DISK_SECONDS)
        raise Reject(f"the spool takes nothing: {error}", requeue=True) from error


def _until_written(write: Callable[[], bool]) -> bool:
    """What `write` returns, once the disk takes it: what has begun here is neither given back nor forgotten."""
    while True:
        try:
            return write()
        except sqlite3.OperationalError as error:
            log.error("spool_refuses", error=str(error), what_next="make room on the disk of UA_VP_DB_PATH")
            clock.pause(FULL_DISK_SECONDS)


def _the_report_that_counts(here: Node, attempt_id: str, report: dict[str, Any]) -> dict[str, Any]:
    """Write the report down. When the warden has written another, this process is about to be killed: it waits for it.

    Going on would take the next mission along into that death.
    """
    if _until_written(lambda: here.spool.finish(attempt_id, report)):
        return report
    clock.pause(DEATH_SECONDS)
    return here.spool.report_of(attempt_id) or report


def _run_safely(here: Node, registration: Registration, attempt_id: str, order: Order) -> dict[str, Any]:
    """A report in any case: an attempt that has begun and has none would be taken for one that still runs."""
    try:
        return run(here, registration, attempt_id, order)
    except Exception as error:
        log.exception("attempt_failed", job_id=order.job_id, attempt_id=attempt_id, kind=registration.kind)
        return to_report(Failed(f"the factory could not report on the attempt ({type(error).__name__})"))


def run(here: Node, registration: Registration, attempt_id: str, order: Order) -> dict[str, Any]:
    """Run the handler and return what came of it, with how long it took; nothing it raises gets past here.

    In a process of the pool nothing that it started is left.
    """
    began = clock.monotonic()
    reporter = LiveReporter(here, attempt_id)
    mission = _mission(here, registration, attempt_id, order, reporter)
    with reporter, marked(attempt_id):
        outcome = _outcome(registration, mission)
    if is_pool_process() and (left := end_descendants()):
        log.error("processes_do_not_end", attempt_id=attempt_id, processes=left)
    report = {**to_report(outcome), "duration_seconds": round(clock.monotonic() - began, 6)}
    # What a library says of an error may repeat the key it was given; a key that is cut in two is not known any more.
    if "error" in report:
        report["error"] = here.mask(str(report["error"]))
    return here.mask(fit(report))


def _outcome(registration: Registration, mission: Mission) -> Outcome:
    """What came of the handler; whatever it makes of being stopped, it was cancelled, unless it was done already."""
    outcome = _answer(registration, mission)
    return Cancelled(mission.stop.why) if mission.stop.is_set() and not isinstance(outcome, Done) else outcome


def _answer(registration: Registration, mission: Mission) -> Outcome:
    try:
        limit_at = clock.monotonic() + mission.timeout_seconds - min(SOFT_LIMIT_LEAD_SECONDS, mission.timeout_seconds)
        with interruptible(mission.stop, by_exception=not registration.stops_itself, limit_at=limit_at):
            mission.stop.check()  # it may have come before the attempt began
            answer: Any = registration.run(mission)
    except AttemptStopped as stopped:
        return Cancelled(stopped.why)
    except SoftTimeLimitExceeded:
        return TimedOut(f"the time limit of {mission.timeout_seconds} s passed")
    except BaseException as error:  # sys.exit in a handler, or a cancelled coroutine, ends the attempt, not its worker
        if isinstance(error, SystemExit) and error.code == TOLD_TO_END:
            return Lost(BY_SIGTERM, took_worker=False)
        log.exception("handler_failed", job_id=mission.job_id, attempt_id=mission.attempt_id, kind=mission.kind)
        return Failed(f"{type(error).__name__}: {error}")
    return _checked(answer, mission.kind)


def _checked(answer: Any, kind: str) -> Outcome:
    """The outcome that a handler answered; what is none, or no object, will not become one by trying again."""
    if not isinstance(answer, Outcome):
        return Stop(f"the handler of {kind} answered {type(answer).__name__}; it must return Done, Later or Stop")
    if isinstance(answer, Later) and not is_a_wait(answer.after_seconds):
        return Stop(f"the handler of {kind} answered Later without a number of seconds, 0 or more, to wait")
    result = getattr(answer, "result", {})
    if not isinstance(result, Mapping):
        return Stop(
            f"the handler of {kind} answered with a result that is {type(result).__name__}; it must be an object"
        )
    return answer


def is_a_wait(seconds: Any) -> bool:
    """Whether this is a wait that a report can say; anything else would be no wait at all, and nobody would know."""
    return isinstance(seconds, int | float) and not isinstance(seconds, bool) and 0 <= seconds < math.inf


def fit(report: dict[str, Any]) -> dict[str, Any]:
    """The report as HQ will read it; a result that is too large or no plain JSON is dropped, the outcome never is."""
    report = {**report, **({"error": str(report["error"])[-LONGEST_ERROR:]} if "error" in report else {})}
    try:
        text = json.dumps(report, default=str)
        if len(text) <= LARGEST_REPORT_BYTES:
            return strict_json.parse(text.encode(), strict_json.REPORT)
        why = f"its report has {len(text)} bytes, and may have {LARGEST_REPORT_BYTES}"
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
        grace_seconds=_grace_of_a_handler(here.settings.timeout_grace_seconds),
        reporter=reporter,
        stop=reporter.stop,
        fetch_bundle=lambda: _hq(here).bundle(order.job_id),
    )


def _grace_of_a_handler(seconds: float) -> float:
    """A little less than the warden's: the handler's own end, which keeps its output, comes before the hard one."""
    return seconds - min(2.0, seconds / 4)


def _hq(here: Node) -> Hq:
    if here.hq is None:
        raise RuntimeError("this factory knows no address of HQ to fetch from; set UA_HQ_BASE_URL")
    return here.hq

"""Reports over HTTPS: what HQ reads out of them, which answers end one, and which leave it in the spool."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from celery import Celery
from node_at_work import HeardHq, node_at
from structlog.testing import capture_logs

from corporation.federation.hq import HqRefusedError, HqUnavailableError
from corporation.federation.processes import my_identity
from corporation.federation.spool import report_all
from corporation.missions.outcomes import (
    Cancelled,
    Done,
    Failed,
    Later,
    Lost,
    Outcome,
    Stop,
    TimedOut,
    from_report,
    to_report,
)
from factory_tasks import https_backend
from factory_tasks.https_backend import HttpsBackend
from factory_tasks.https_reports import body_of, deliver_over_https, is_reported, report_over_https
from factory_tasks.node import Node
from hq_api.routers.results import ResultForm

AWAY = HqUnavailableError("HQ answered 503")
TOO_LATE = HqRefusedError(409, "HQ answered 409", "not_current")
UNKNOWN = HqRefusedError(404, "HQ answered 404", "unknown_attempt")
NO_SUCH_PAGE = HqRefusedError(404, "HQ answered 404")
REJOIN = HqRefusedError(401, "HQ answered 401", "Unauthorized")
FOREIGN = HqRefusedError(403, "HQ answered 403", "forbidden")
TOO_LARGE = HqRefusedError(413, "HQ answered 413", "body_too_large")
UNFIT = HqRefusedError(422, "HQ answered 422")


@dataclass
class ListeningHq(HeardHq):
    """Remembers every result; the next `refusals` are raised, one a call."""

    results: list[tuple[str, dict[str, Any]]] = field(default_factory=list[tuple[str, dict[str, Any]]])
    refusals: list[Exception] = field(default_factory=list[Exception])

    def result(self, attempt_id: str, body: Mapping[str, Any]) -> dict[str, Any]:
        self.results.append((attempt_id, dict(body)))
        if self.refusals:
            raise self.refusals.pop(0)
        return {"attempt_id": attempt_id, "accepted": True}


@pytest.fixture
def hq() -> ListeningHq:
    return ListeningHq()


@pytest.fixture
def here(tmp_path: Path, hq: ListeningHq) -> Node:
    return node_at(tmp_path, hq)


@pytest.fixture
def backend(here: Node, monkeypatch: pytest.MonkeyPatch) -> HttpsBackend:
    monkeypatch.setattr(https_backend, "node", lambda: here)
    app = Celery("test-https-backend", set_as_current=False)
    app.conf.update(result_backend="factory_tasks.https_backend:HttpsBackend")
    assert isinstance(app.backend, HttpsBackend)
    return app.backend


def ended(here: Node, outcome: Outcome, number: int = 1) -> str:
    """An attempt whose report is in the spool."""
    attempt_id = str(uuid4())
    here.spool.accept(attempt_id, f"j-{attempt_id}", number, my_identity(), "2026-06-01T08:00:00+00:00")
    here.spool.finish(attempt_id, to_report(outcome))
    return attempt_id


@pytest.mark.parametrize(
    "outcome",
    [
        Done({"output": "3 risks"}),
        Done(),
        Later(90.0, "the model is busy"),
        Stop("no such branch", {"tail": "fatal"}),
        Failed("exit status 1", {"code": 1}),
        TimedOut("the time limit of 60 s passed", {"tail": "…"}),
        Lost("the process that ran the attempt died"),
        Lost("its factory was stopped while it ran", took_worker=False),
        Cancelled("no longer wanted", {"half": "done"}),
    ],
    ids=lambda outcome: type(outcome).__name__,
)
def test_headquarters_reads_the_very_outcome_out_of_the_body(outcome: Outcome) -> None:
    """H-31: and whoever knows only the contract's words is told no lie."""
    body = body_of({**to_report(outcome), "duration_seconds": 1.5})
    read = ResultForm.model_validate(body).as_report()

    assert from_report(read) == outcome
    assert read["duration_seconds"] == 1.5
    assert (body["status"] == "SUCCESS", body["error"] is None) == (isinstance(outcome, Done),) * 2
    assert body["retryable"] is not isinstance(outcome, Stop)


def test_a_long_result_travels_once() -> None:
    """The whole body has to fit into what HQ takes."""
    body = body_of(to_report(Failed("e" * 4_000, {"output": "x" * 800_000})))

    assert len(str(body)) < 806_000


@pytest.mark.parametrize("refusal", [TOO_LATE, UNKNOWN], ids=lambda error: error.cause)
def test_a_report_that_nobody_counts_on_is_told_for_good(here: Node, hq: ListeningHq, refusal: Exception) -> None:
    """H-30: do not retry; HQ has kept it."""
    hq.refusals = [refusal]
    ended(here, Done())

    assert report_all(here.spool, deliver_over_https(here)) == 1
    assert here.spool.unreported() == []
    assert len(hq.results) == 1


@pytest.mark.parametrize("refusal", [AWAY, NO_SUCH_PAGE, REJOIN, FOREIGN], ids=str)
def test_an_answer_that_says_nothing_about_the_report_leaves_it_in_the_spool(
    here: Node, hq: ListeningHq, refusal: Exception
) -> None:
    """A proxy's 404 too: it must not eat what was done."""
    hq.refusals = [refusal, refusal]
    attempt_id = ended(here, Done({"output": "3 risks"}))

    assert not is_reported(here, attempt_id, here.spool.report_of(attempt_id) or {})
    with pytest.raises(type(refusal)):
        report_all(here.spool, deliver_over_https(here))
    assert [each for each, _ in here.spool.unreported()] == [attempt_id]
    assert report_all(here.spool, deliver_over_https(here)) == 1
    assert hq.results[-1] == (attempt_id, body_of(to_report(Done({"output": "3 risks"}))))


@pytest.mark.parametrize("refusal", [TOO_LARGE, UNFIT], ids=str)
def test_a_report_that_is_refused_is_told_again_without_its_words(
    here: Node, hq: ListeningHq, refusal: Exception
) -> None:
    """Else it would hold up every report after it, for ever."""
    hq.refusals = [refusal]
    first, second = ended(here, Done({"output": "3 risks"})), ended(here, Failed("no"))

    assert report_all(here.spool, deliver_over_https(here)) == 2
    assert [attempt_id for attempt_id, _ in hq.results] == [first, first, second]
    again = ResultForm.model_validate(hq.results[1][1]).as_report()
    assert (again["outcome"], again["result"]) == ("done", {})


def test_a_failure_told_without_its_words_says_why(here: Node, hq: ListeningHq) -> None:
    hq.refusals = [UNFIT]
    report_over_https(here, "a-1", to_report(Stop("x" * 2_000_000)))

    assert from_report(ResultForm.model_validate(hq.results[1][1]).as_report()) == Stop(
        "headquarters refused this attempt's report (422 )"
    )


def test_a_factory_without_an_address_of_headquarters_keeps_everything(tmp_path: Path) -> None:
    here = replace(node_at(tmp_path, ListeningHq()), hq=None)
    attempt_id = ended(here, Done())

    with pytest.raises(HqUnavailableError, match="UA_HQ_BASE_URL"):
        report_all(here.spool, deliver_over_https(here))
    assert here.spool.report_of(attempt_id)


def test_what_a_worker_stores_is_the_spools_own_report(here: Node, hq: ListeningHq, backend: HttpsBackend) -> None:
    """Celery has words of its own about a process that was killed after it had reported."""
    attempt_id = ended(here, Done({"output": "3 risks"}))

    backend.store_result(attempt_id, RuntimeError("WorkerLostError"), "FAILURE")

    assert hq.results == [(attempt_id, body_of(to_report(Done({"output": "3 risks"}))))]
    assert here.spool.unreported() == []


def test_a_report_that_could_not_be_told_is_not_marked_and_holds_up_no_worker(
    here: Node, hq: ListeningHq, backend: HttpsBackend
) -> None:
    hq.refusals = [AWAY]
    attempt_id = ended(here, Done())

    with capture_logs() as logs:
        backend.store_result(attempt_id, {"outcome": "done"}, "SUCCESS")

    assert [entry["event"] for entry in logs] == ["report_waits"]
    assert [each for each, _ in here.spool.unreported()] == [attempt_id]
    assert backend.marks_reported
    assert report_all(here.spool, backend.fill) == 1


def test_a_result_that_the_spool_does_not_know_is_not_told(hq: ListeningHq, backend: HttpsBackend) -> None:
    """A heartbeat's, or a copy's that HQ has already."""
    backend.store_result(str(uuid4()), {"ok": True}, "SUCCESS")

    assert hq.results == []


def test_a_class_named_in_a_failure_is_never_looked_for(backend: HttpsBackend) -> None:
    stored = {"exc_type": "SystemExit", "exc_message": ["1"], "exc_module": "builtins"}

    assert backend.exception_to_python(stored) is stored
    assert backend.prepare_exception(ValueError("x" * 9_000))["exc_message"] == ["x" * 4_000]
    assert backend.get_task_meta("a-1")["status"] == "PENDING"

"""One attempt on a factory: run once, written down before it is told, and honest about every way to fail."""

import math
import sqlite3
import sys
from asyncio import CancelledError
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from threading import current_thread
from typing import Any
from uuid import uuid4

import pytest
from canary import secret
from celery.exceptions import Ignore, Reject, SoftTimeLimitExceeded
from httpx import InvalidURL

from corporation.federation.processes import ProcessIdentity
from corporation.missions.outcomes import Done, Later, Outcome, Stop
from corporation.settings import load_settings
from factory_tasks.handlers import Handler, Mission, Registration
from factory_tasks.mailbox import MissionFailed
from factory_tasks.mission_task import FULL_DISK_SECONDS, Order, attempt, deliver, fit, read_order
from factory_tasks.node import Node, build_node


@pytest.fixture
def here(tmp_path: Path) -> Node:
    return build_node(load_settings({"UA_FACTORY_ID": "desk-7", "UA_VP_DB_PATH": str(tmp_path / "spool.db")}))


def kind(handler: Handler) -> Registration:
    return Registration("t", None, handler, stops_itself=False)


def order(**changes: Any) -> Order:
    return Order(**{**ORDER, **changes})


ORDER: dict[str, Any] = {
    "job_id": "m-1",
    "attempt": 1,
    "factory_id": "desk-7",
    "timeout_seconds": 60,
    "task": "t",
    "context": {},
}


def counting(answers: Callable[[], Outcome]) -> tuple[list[str], Registration]:
    runs: list[str] = []

    def handler(mission: Mission) -> Outcome:
        runs.append(mission.attempt_id)
        return answers()

    return runs, kind(handler)


def test_a_second_copy_of_the_message_gets_the_first_answer_and_does_no_work(here: Node) -> None:
    runs, registration = counting(lambda: Done({"n": 1}))
    attempt_id = str(uuid4())

    first = attempt(here, registration, attempt_id, order())
    second = attempt(here, registration, attempt_id, order())

    assert first == second
    assert len(runs) == 1


def test_the_report_is_on_the_disk_before_it_is_told(here: Node) -> None:
    _, registration = counting(lambda: Done({"n": 1}))
    attempt_id = str(uuid4())

    report = attempt(here, registration, attempt_id, order())

    assert here.spool.unreported() == [(attempt_id, report)]


@contextmanager
def full(here: Node) -> Generator[None]:
    """The spool's file may not grow, as on a full disk."""
    db, _ = here.spool._db()  # pyright: ignore[reportPrivateUsage]
    db.execute("CREATE TABLE filler (word TEXT)")
    before = db.execute("PRAGMA max_page_count").fetchone()[0]
    db.execute(f"PRAGMA max_page_count = {db.execute('PRAGMA page_count').fetchone()[0]}")
    with suppress(sqlite3.OperationalError):
        while True:
            db.execute("INSERT INTO filler VALUES (?)", ("x" * 100,))
    yield
    db.execute(f"PRAGMA max_page_count = {before}")


def test_a_message_that_a_full_disk_cannot_take_goes_back(here: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not as a failure: HQ would try again at once, until no attempt is left."""
    monkeypatch.setattr("factory_tasks.mission_task.FULL_DISK_SECONDS", 0)
    runs, registration = counting(lambda: Done({"n": 1}))
    here.spool.note("the file", "is there")
    words = "x" * 8000
    with full(here), pytest.raises(Reject, match="the spool takes nothing: database or disk is full") as raised:
        attempt(here, registration, str(uuid4()), order(job_id=words))
    assert raised.value.requeue

    assert attempt(here, registration, str(uuid4()), order())["outcome"] == "done"
    assert len(runs) == 1


def test_a_report_that_a_full_disk_cannot_take_is_written_when_there_is_room(
    here: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    filled = ExitStack()
    _, registration = counting(lambda: filled.enter_context(full(here)) or Done({"n": "x" * 8000}))
    paused: list[float] = []

    here_and_now = current_thread()

    def pause(seconds: float) -> None:
        # The teller's thread pauses by the same clock, as often as it likes.
        if current_thread() is here_and_now:
            paused.append(seconds)
            filled.close()

    monkeypatch.setattr("factory_tasks.mission_task.clock.pause", pause)
    report = attempt(here, registration, attempt_id := str(uuid4()), order())

    assert paused == [FULL_DISK_SECONDS]
    assert here.spool.unreported() == [(attempt_id, report)]


def test_an_attempt_that_another_process_runs_is_left_to_it(here: Node) -> None:
    runs, registration = counting(lambda: Done())
    attempt_id = str(uuid4())
    import psutil

    me = psutil.Process()
    here.spool.accept(attempt_id, "m-1", 1, ProcessIdentity(me.pid, me.create_time()), "now")

    with pytest.raises(Ignore):
        attempt(here, registration, attempt_id, order())
    assert runs == []


def test_an_attempt_whose_process_died_is_reported_lost_and_not_run_again(here: Node) -> None:
    runs, registration = counting(lambda: Done())
    attempt_id = str(uuid4())
    dead = ProcessIdentity(2**22 + 1, 1.0)
    here.spool.accept(attempt_id, "m-1", 1, dead, "now")
    here.spool.begin(attempt_id, dead, 1.0, 60.0)

    report = attempt(here, registration, attempt_id, order())

    assert report["outcome"] == "lost"
    assert runs == []


def test_an_attempt_whose_process_died_before_the_work_is_run_now(here: Node) -> None:
    runs, registration = counting(lambda: Done())
    attempt_id = str(uuid4())
    here.spool.accept(attempt_id, "m-1", 1, ProcessIdentity(2**22 + 1, 1.0), "now")

    assert attempt(here, registration, attempt_id, order())["outcome"] == "done"
    assert runs == [attempt_id]


def test_an_attempt_that_was_to_stop_before_it_began_does_no_work(here: Node) -> None:
    runs, registration = counting(lambda: Done())
    attempt_id = str(uuid4())
    here.spool.accept(attempt_id, "m-1", 1, ProcessIdentity(2**22 + 1, 1.0), "now")
    here.spool.request_stop(attempt_id, "cancelled by operator")

    report = attempt(here, registration, attempt_id, order())

    assert (report["outcome"], report["error"]) == ("cancelled", "cancelled by operator")
    assert runs == []


def test_a_report_that_the_warden_wrote_first_is_the_one_that_counts(
    here: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process waits to be killed; should nobody do it, it goes on with what HQ is told anyway."""
    monkeypatch.setattr("factory_tasks.mission_task.DEATH_SECONDS", 0.0)
    attempt_id = str(uuid4())

    def overruled() -> Outcome:
        here.spool.finish(attempt_id, {"outcome": "cancelled", "error": "by the warden"})
        return Done()

    _, registration = counting(overruled)

    assert attempt(here, registration, attempt_id, order()) == {"outcome": "cancelled", "error": "by the warden"}


def asked_in_vain(error: Exception) -> Callable[[str], bool]:
    """What HQ is asked before the work, where asking ends in `error`."""

    def ask(attempt_id: str) -> bool:
        raise error

    return ask


@pytest.mark.parametrize("error", [FileNotFoundError("ca.pem"), InvalidURL("no port"), RuntimeError("closed")])
def test_whatever_keeps_hq_from_being_asked_the_attempt_is_run_once_and_told(here: Node, error: Exception) -> None:
    """It was handed out. Left as received it would be held for ever: its process lives, and says so with every beat."""
    runs, registration = counting(lambda: Done({"n": 1}))
    attempt_id = str(uuid4())

    first = attempt(here, registration, attempt_id, order(), asked_in_vain(error))
    again = attempt(here, registration, attempt_id, order(), asked_in_vain(error))

    assert (first["outcome"], again) == ("done", first)
    assert runs == [attempt_id]
    assert here.spool.running() == []


def test_a_time_limit_that_passes_while_hq_is_asked_is_told_and_no_work_is_begun(here: Node) -> None:
    runs, registration = counting(lambda: Done())
    attempt_id = str(uuid4())

    first = attempt(here, registration, attempt_id, order(), asked_in_vain(SoftTimeLimitExceeded()))
    again = attempt(here, registration, attempt_id, order())

    assert first["outcome"] == "timed_out"
    assert "before it began" in first["error"]
    assert again == first
    assert (runs, here.spool.running(), here.spool.unreported()) == ([], [], [(attempt_id, first)])


def test_a_process_that_ends_while_hq_is_asked_leaves_the_attempt_to_the_next_one(here: Node) -> None:
    """What ends a process gets through; it was not begun, so the copy that comes back is run."""
    runs, registration = counting(lambda: Done())
    attempt_id = str(uuid4())

    def end(_: str) -> bool:
        raise SystemExit

    with pytest.raises(SystemExit):
        attempt(here, registration, attempt_id, order(), end)
    db, _ = here.spool._db()  # pyright: ignore[reportPrivateUsage]
    db.execute("UPDATE attempts SET owner_pid = ?, owner_born = 1.0", (2**22 + 1,))

    assert attempt(here, registration, attempt_id, order())["outcome"] == "done"
    assert runs == [attempt_id]


def test_an_older_attempt_than_one_already_seen_is_dropped(here: Node) -> None:
    runs, registration = counting(lambda: Done())
    attempt(here, registration, str(uuid4()), order(attempt=2))

    with pytest.raises(Ignore):
        attempt(here, registration, str(uuid4()), order(attempt=1))
    assert len(runs) == 1


def test_a_message_for_another_factory_is_not_run(here: Node) -> None:
    runs, registration = counting(lambda: Done())

    with pytest.raises(Ignore):
        attempt(here, registration, str(uuid4()), order(factory_id="desk-8"))
    assert runs == []


def test_what_a_handler_raises_is_a_failed_attempt(here: Node) -> None:
    def broken() -> Outcome:
        raise ZeroDivisionError("by zero")

    _, registration = counting(broken)
    report = attempt(here, registration, str(uuid4()), order())

    assert report["outcome"] == "failed"
    assert report["error"] == "ZeroDivisionError: by zero"


def test_a_handler_that_makes_an_error_of_being_stopped_was_stopped_all_the_same(here: Node) -> None:
    attempt_id = str(uuid4())

    def wrapped(mission: Mission) -> Outcome:
        mission.stop.set("cancelled")
        raise ValueError("half a thing") from None

    report = attempt(here, kind(wrapped), attempt_id, order())

    assert (report["outcome"], report["error"]) == ("cancelled", "cancelled")


def test_the_soft_limit_is_a_time_limit_and_not_a_failure(here: Node) -> None:
    def slow() -> Outcome:
        raise SoftTimeLimitExceeded

    _, registration = counting(slow)

    assert attempt(here, registration, str(uuid4()), order())["outcome"] == "timed_out"


def test_a_result_too_large_for_the_mailbox_is_dropped_but_the_outcome_is_not() -> None:
    report = fit({"outcome": "done", "result": {"result_ref": "workspace://x", "text": "x" * 2_000_000}})

    assert report["outcome"] == "done"
    why = "its report has 2000074 bytes, and may have 900000"
    assert report["result"] == {"result_ref": "workspace://x", "dropped": why}


def test_only_success_is_success_for_celery() -> None:
    assert deliver({"outcome": "done"}) == {"outcome": "done"}
    with pytest.raises(MissionFailed):
        deliver({"outcome": "later", "error": "busy"})


def test_a_failure_survives_the_way_from_the_pool_to_the_worker() -> None:
    import pickle

    failed = pickle.loads(pickle.dumps(MissionFailed({"outcome": "stop", "error": "no"})))  # noqa: S301

    assert failed.report == {"outcome": "stop", "error": "no"}


@pytest.mark.parametrize("junk", [{}, {"envelope": None}, {"envelope": {"payload": {}}}, {"job_id": "x"}])
def test_an_order_that_is_none_is_refused(junk: dict[str, Any]) -> None:
    with pytest.raises((KeyError, TypeError, ValueError)):
        read_order(junk)


def test_a_permanent_failure_says_so(here: Node) -> None:
    _, registration = counting(lambda: Stop("no such folder"))

    assert attempt(here, registration, str(uuid4()), order())["outcome"] == "stop"


NOT_PLAIN: dict[str, Any] = {"nan": float("nan"), "huge": 2**60, "deep": {}, "key": {(1, 2): 3}}
inner = NOT_PLAIN["deep"]
for _ in range(100):
    inner["x"] = inner = {}


@pytest.mark.parametrize("value", NOT_PLAIN.values(), ids=NOT_PLAIN.keys())
def test_a_result_that_hq_could_not_read_is_dropped_but_the_outcome_is_not(here: Node, value: Any) -> None:
    _, registration = counting(lambda: Done({"result_ref": "workspace://x", "value": value}))

    report = attempt(here, registration, str(uuid4()), order())

    assert report["outcome"] == "done"
    assert report["result"]["result_ref"] == "workspace://x"
    assert "no plain JSON" in report["result"]["dropped"]


def test_values_that_json_lacks_are_kept_as_text(here: Node) -> None:
    from datetime import UTC, datetime

    _, registration = counting(lambda: Done({"at": datetime(2026, 6, 1, tzinfo=UTC)}))

    assert attempt(here, registration, str(uuid4()), order())["result"] == {"at": "2026-06-01 00:00:00+00:00"}


def test_a_handler_that_forgets_its_answer_fails_for_good_and_says_why(here: Node) -> None:
    _, registration = counting(lambda: None)  # type: ignore[arg-type,return-value]

    report = attempt(here, registration, str(uuid4()), order())

    assert report["outcome"] == "stop"
    assert "NoneType" in report["error"]


@pytest.mark.parametrize("result", ["all good", None, 7, ["a"]])
def test_a_result_that_is_no_object_fails_for_good_and_leaves_nothing_under_way(here: Node, result: Any) -> None:
    _, registration = counting(lambda: Done(result))
    report = attempt(here, registration, str(uuid4()), order())

    assert report["outcome"] == "stop"
    assert "it must be an object" in report["error"]
    assert here.spool.under_way() == []


def test_an_error_that_cannot_be_written_is_reported_all_the_same(here: Node) -> None:
    class UnspeakableError(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no words")

    def fail() -> Outcome:
        raise UnspeakableError

    _, registration = counting(fail)
    report = attempt(here, registration, str(uuid4()), order())

    assert (report["outcome"], here.spool.under_way()) == ("failed", [])


def test_a_handler_that_exits_fails_and_does_not_take_its_worker_along(here: Node) -> None:
    def leave() -> Outcome:
        sys.exit("usage: no such option")

    _, registration = counting(leave)
    report = attempt(here, registration, str(uuid4()), order())

    assert (report["outcome"], report["error"]) == ("failed", "SystemExit: usage: no such option")


@pytest.mark.parametrize("kind", [CancelledError, KeyboardInterrupt, GeneratorExit])
def test_a_handler_that_raises_what_passes_by_every_handler_of_errors_fails_with_its_name(
    here: Node, kind: type[BaseException]
) -> None:
    """A coroutine that was cancelled, for one: it is no lost worker."""

    def fail() -> Outcome:
        raise kind("the tool gave up")

    _, registration = counting(fail)
    report = attempt(here, registration, str(uuid4()), order())

    assert (report["outcome"], report["error"]) == ("failed", f"{kind.__name__}: the tool gave up")
    assert here.spool.under_way() == []


@pytest.mark.parametrize("seconds", [timedelta(seconds=4), "4", None, True, -1, math.nan, math.inf])
def test_a_handler_that_asks_for_a_wait_that_is_none_is_told_so_and_is_not_tried_again_at_once(
    here: Node, seconds: Any
) -> None:
    _, registration = counting(lambda: Later(seconds, "busy"))
    report = attempt(here, registration, str(uuid4()), order())

    assert report["outcome"] == "stop"
    assert "number of seconds" in report["error"]


def test_what_a_handler_says_of_a_secret_is_masked_before_it_is_stored(tmp_path: Path) -> None:
    """A client's error may repeat the key it was given: the report goes to the ledger, and to people."""
    key = secret("model-key") + "\n"
    here = build_node(load_settings({"UA_FACTORY_ID": "desk-7", "UA_VP_DB_PATH": str(tmp_path / "spool.db")}), [key])

    def fail() -> Outcome:
        raise ValueError(f"Invalid header value {f'Bearer {key}'.encode()!r}")

    _, registration = counting(fail)
    report = attempt(here, registration, str(uuid4()), order())
    assert report["error"] == "ValueError: Invalid header value b'Bearer ***'"

    _, registration = counting(lambda: Done({"found": [key.strip(), {"deep": key}]}))
    report = attempt(here, registration, str(uuid4()), order())
    assert report["result"]["found"] == ["***", {"deep": "***"}]

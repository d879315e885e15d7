"""Asking HQ for missions: what is said, what becomes of the answer, and how an absent HQ is waited for."""

import sqlite3
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from queue import SimpleQueue
from threading import Event
from typing import Any

import pytest
from node_at_work import HeardHq
from structlog.testing import capture_logs

from corporation.clock import new_id
from corporation.federation.hq import HqRefusedError, HqUnavailableError
from factory_tasks.pull.claims import LONGEST_BACKOFF_SECONDS, PAUSED_SECONDS, REJOIN, WAIT_FOR_RELEASE, Claims, Wish
from factory_tasks.pull.orders import Answered, read_claimed

NOTHING: dict[str, Any] = {"attempts": [], "paused": False}
WISH = Wish(2, ("research_task",), ("a-0",), 20.0)
Wait = Callable[..., Any]


@dataclass
class ScriptedHq(HeardHq):
    """Answers each claim with the next of `answers`, as soon as there is one; an exception is raised."""

    claims: list[tuple[dict[str, Any], float]] = field(default_factory=list[tuple[dict[str, Any], float]])
    answers: SimpleQueue[Any] = field(default_factory=SimpleQueue)

    def claim(self, body: Mapping[str, Any], wait_seconds: float) -> dict[str, Any]:
        self.claims.append((dict(body), wait_seconds))
        answer = self.answers.get(timeout=30)
        if isinstance(answer, Exception):
            raise answer
        return answer


@dataclass
class Asking:
    """Claims at work; `wish` may be changed, `woken` is set when something was claimed."""

    hq: ScriptedHq = field(default_factory=ScriptedHq)
    wish: Wish | None = WISH
    woken: Event = field(default_factory=Event)

    def __post_init__(self) -> None:
        self.claims = Claims(self.hq, "desk-7", "pull@desk", lambda: self.wish, self.woken.set, self.read)

    def read(self, answer: Mapping[str, Any]) -> Answered:
        refused: set[str] = set()
        claimed = read_claimed(
            answer, "desk-7", None, lambda _one, attempt_id, _reason, _why: refused.add(str(attempt_id))
        )
        return Answered(claimed, frozenset(refused))

    def answer(self, *attempts: Any, paused: bool = False) -> None:
        self.hq.answers.put({"attempts": list(attempts), "paused": paused})

    def asked(self, times: int, wait: Wait) -> dict[str, Any]:
        """The body of the claim of this number, from 1 on."""
        wait(lambda: len(self.hq.claims) >= times, 20, f"{times} claims")
        return self.hq.claims[times - 1][0]


@pytest.fixture
def asking() -> Iterator[Asking]:
    asking = Asking()
    yield asking
    asking.claims.stop()
    asking.hq.answers.put(NOTHING)
    if asking.claims._thread.ident is not None:
        asking.claims._thread.join(10)
    assert not asking.claims._thread.is_alive()


def given(**changes: Any) -> dict[str, Any]:
    """An attempt as HQ hands it out (contract http §8)."""
    envelope = {"job_id": "b-3", "payload": {"task": "List open risks", "context": {}}}
    return {
        "attempt_id": new_id(),
        "attempt": 1,
        "job_id": "b-3",
        "mission_kind": "research_task",
        "lease_expires_at": "2026-06-01T08:07:00.000000+00:00",
        "timeout_seconds": 3600,
        "envelope": envelope,
    } | changes


def test_it_says_who_asks_for_how_much_and_what_is_held_already(asking: Asking, wait_until: Wait) -> None:
    asking.claims.start()

    assert asking.asked(1, wait_until) == {
        "factory_id": "desk-7",
        "max": 2,
        "mission_kinds": ["research_task"],
        "holding": ["a-0"],
        "worker_id": "pull@desk",
    }
    assert asking.hq.claims[0][1] == 20.0


def test_what_was_claimed_is_pending_until_a_process_works_on_it_and_is_taken_once(
    asking: Asking, wait_until: Wait
) -> None:
    """A claim in between says that it is held: HQ would hand it out a second time."""
    one, other = given(), given()
    asking.answer(one, other)
    asking.claims.start()
    assert asking.woken.wait(20)

    assert asking.claims.pending == {one["attempt_id"], other["attempt_id"]}
    taken = asking.claims.taken()
    assert [each.attempt_id for each in taken] == [one["attempt_id"], other["attempt_id"]]
    assert asking.claims.taken() == []
    asking.claims.started(taken[:1])
    assert asking.claims.pending == {other["attempt_id"]}


def test_after_a_claim_it_asks_again_when_something_has_changed(asking: Asking, wait_until: Wait) -> None:
    asking.answer(given())
    asking.claims.start()
    assert asking.woken.wait(20)
    asking.wish = Wish(1, ("research_task",), ("a-1",), 20.0)
    asking.claims.look()

    assert asking.asked(2, wait_until)["holding"] == ["a-1"]


def test_an_empty_answer_is_asked_for_again_at_once(asking: Asking, wait_until: Wait) -> None:
    """HQ has waited long enough."""
    for _ in range(3):
        asking.answer()
    asking.claims.start()

    wait_until(lambda: len(asking.hq.claims) == 4, PAUSED_SECONDS / 2)


def test_what_was_refused_is_named_as_held_and_asked_for_less_and_less_often(asking: Asking, wait_until: Wait) -> None:
    """HQ would hand it out again and again; and what is taken and not run is lost to the others for a lease."""
    refused = given(envelope="text")
    asking.answer(refused)
    asking.claims.start()
    wait_until(lambda: asking.claims._refusals == 1, 20, "it was refused")
    asking.claims.look()

    assert asking.asked(2, wait_until)["holding"] == ["a-0", refused["attempt_id"]]
    assert [asking.claims._after_refusal() for _ in range(9)] == [10, 20, 40, *[LONGEST_BACKOFF_SECONDS] * 6]


def test_who_wants_nothing_asks_nothing_until_it_wants_something(asking: Asking, wait_until: Wait) -> None:
    asking.wish = None
    asking.claims.start()
    asking.claims.look()
    wait_until(lambda: not asking.claims._look.is_set(), 10, "it has looked")
    assert asking.hq.claims == []
    asking.wish = WISH
    asking.claims.look()

    asking.asked(1, wait_until)


def test_a_headquarters_that_is_away_is_complained_of_once_and_asked_again(asking: Asking, wait_until: Wait) -> None:
    away = HqUnavailableError("HQ answered 503")
    for answer in (away, away, NOTHING):
        asking.hq.answers.put(answer)
    with capture_logs() as logs:
        asking.claims.start()
        asking.asked(4, wait_until)

    assert [entry["event"] for entry in logs] == ["claim_failed", "hq_answers_again"]
    assert asking.claims._failures == 0


@pytest.mark.parametrize(("cause", "advice"), [("Unauthorized", REJOIN), ("quarantined", WAIT_FOR_RELEASE)])
def test_a_credential_that_is_not_taken_says_what_to_do_and_goes_on_asking(
    asking: Asking, cause: str, advice: str
) -> None:
    """Somebody may join this factory again, release it, or HQ may be restored, without anybody coming by."""
    asking.hq.answers.put(HqRefusedError(401, "HQ answered 401", cause))
    asking.answer(given())
    with capture_logs() as logs:
        asking.claims.start()
        assert asking.woken.wait(20)

    assert logs[0]["what_next"] == advice


def test_the_wait_grows_to_a_minute_and_never_beyond(asking: Asking) -> None:
    """With jitter: a whole fleet would come back in the same second."""
    waits = [asking.claims._after_failure(HqUnavailableError("away")) for _ in range(40)]

    assert 0.5 <= waits[0] <= 1.0
    assert all(LONGEST_BACKOFF_SECONDS / 2 <= each <= LONGEST_BACKOFF_SECONDS for each in waits[8:])
    assert len(set(waits[8:])) > 1


def test_a_spool_that_cannot_be_read_for_a_moment_does_not_end_the_asking(asking: Asking, wait_until: Wait) -> None:
    """Else the factory says that it has free slots, and never takes a mission again."""
    looked = Event()

    def locked() -> Wish | None:
        if looked.is_set():
            return WISH
        looked.set()
        raise sqlite3.OperationalError("database is locked")

    asking.claims = Claims(asking.hq, "desk-7", "pull@desk", locked, asking.woken.set, asking.read)
    asking.claims.start()
    assert looked.wait(10)

    wait_until(lambda: asking.hq.claims, 20, "it asks")


@pytest.mark.parametrize(
    "broken",
    [
        None,
        "at-82",
        {},
        given(attempt_id="at-82"),
        given(attempt_id=None),
        given(attempt="one"),
        given(timeout_seconds=None),
        given(envelope="text"),
        given(envelope={"payload": {}}),
        given(envelope={"payload": {"task": "t", "context": 7}}),
    ],
)
def test_what_is_no_attempt_is_left_out_and_keeps_the_others_from_nothing(broken: Any) -> None:
    good = given()

    [claimed] = read_claimed({"attempts": [broken, good]}, "desk-7")
    assert claimed.attempt_id == good["attempt_id"]
    assert (claimed.order.factory_id, claimed.order.job_id, claimed.order.task) == ("desk-7", "b-3", "List open risks")


@pytest.mark.parametrize("answer", [{}, {"attempts": None}, {"attempts": {}}, {"attempts": "a"}])
def test_an_answer_without_a_list_holds_nothing(answer: dict[str, Any]) -> None:
    assert read_claimed(answer, "desk-7") == []


def test_the_order_is_for_this_factory_whatever_the_answer_says() -> None:
    """Who may claim for whom is HQ's to check: what it handed to us is ours."""
    [claimed] = read_claimed({"attempts": [given(factory_id="desk-8")]}, "desk-7")

    assert claimed.order.factory_id == "desk-7"

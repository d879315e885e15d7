"""A running attempt that is cancelled or superseded stops within five seconds, with all it started; real processes."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from bootstrap_builders import inline
from factory_at_work import Factory, SeenHq, Sent
from warm_starts import WarmStarts

ALL = ["program", "daemon"]
LIMIT_SECONDS = 5
"""S-31 and the promise of the product: from the cancel at HQ until nothing of the attempt lives."""


@pytest.fixture(scope="module")
def hq() -> Iterator[SeenHq]:
    with SeenHq() as seen:
        yield seen


@pytest.fixture(scope="module")
def factory(
    tmp_path_factory: pytest.TempPathFactory,
    module_servers: tuple[str, str],
    wait_until: Callable[..., Any],
    warm: WarmStarts,
    hq: SeenHq,
) -> Iterator[Factory]:
    """One worker with one slot and no control worker, for all tests here: each leaves it able to work."""
    with Factory(tmp_path_factory.mktemp("factory"), *module_servers, wait_until, warm, hq) as factory:
        factory.start_worker()
        yield factory


SOFT = ["sleep", "clean_up", "take_it_for_an_error"]
HARD = ["swallow", "ignore"]


def cancelled(factory: Factory, hq: SeenHq, **context: Any) -> Sent:
    """An attempt that HQ cancels just after it has spoken: it takes longest until it does again."""
    sent = factory.send(starts=ALL, **context).begun()
    factory.wait(lambda: hq.heard[sent.attempt_id], 10, "the first word")
    hq.cancel[sent.attempt_id] = "no longer wanted"
    return sent


@pytest.mark.parametrize("then", [*SOFT, *HARD])
def test_whatever_the_handler_does_it_is_gone_and_the_next_mission_runs_on_the_same_worker(
    factory: Factory, hq: SeenHq, then: str
) -> None:
    sent = cancelled(factory, hq, then=then, mark=str(factory.folder / "mark"))
    took = sent.gone()
    report = sent.report()

    assert took < LIMIT_SECONDS
    assert (report["outcome"], report["error"]) == ("cancelled", "no longer wanted")
    assert factory.send(then="end").report()["outcome"] == "done"


def test_a_handler_that_is_thrown_out_may_clean_up_and_its_process_lives_on(factory: Factory, hq: SeenHq) -> None:
    mark = factory.folder / "cleaned"
    sent = cancelled(factory, hq, then="clean_up", mark=str(mark))
    sent.report()

    assert mark.exists()
    assert factory.send(then="end").begun().pids[0] == sent.pids[0]


def test_an_attempt_that_hq_no_longer_counts_on_stops(factory: Factory, hq: SeenHq) -> None:
    """H-30: 409 to progress means that another attempt runs, or none."""
    sent = factory.send(starts=ALL).begun()
    hq.status[sent.attempt_id] = 409
    assert sent.gone() < LIMIT_SECONDS

    assert sent.report()["outcome"] == "cancelled"
    assert "no longer counts" in sent.report()["error"]


def test_a_proxy_that_does_not_find_hq_stops_nobody(factory: Factory, hq: SeenHq) -> None:
    """Only HQ's own words do; 404 from whatever else answers at its address is no order."""
    hq.detail = "Not Found"
    sent = factory.send("patient", finished=True).begun()
    hq.status[sent.attempt_id] = 404
    factory.wait(lambda: "progress_refused" in factory.log().rpartition(sent.attempt_id)[0], 20, "the refusal")
    del hq.detail

    assert factory.spool.stop_requested(sent.attempt_id) is None
    factory.spool.request_stop(sent.attempt_id, "enough")
    assert sent.report()["outcome"] == "done"


def test_a_handler_that_stops_itself_is_told_and_not_interrupted(factory: Factory, hq: SeenHq) -> None:
    sent = factory.send("patient").begun()
    hq.cancel[sent.attempt_id] = "no longer wanted"

    assert sent.report()["outcome"] == "cancelled"
    assert factory.send(then="end").begun().pids[0] == sent.pids[0]


def test_work_that_was_done_before_the_stop_came_is_not_thrown_away(factory: Factory, hq: SeenHq) -> None:
    sent = factory.send("patient", finished=True).begun()
    hq.cancel[sent.attempt_id] = "no longer wanted"

    assert sent.report()["outcome"] == "done"


def test_what_a_successful_mission_leaves_running_is_ended_before_it_is_called_done(factory: Factory) -> None:
    sent = factory.send(starts=ALL, then="end")

    assert sent.report()["outcome"] == "done"
    assert sent.left() == []


def test_the_command_of_a_bootstrap_is_ended_with_its_children(factory: Factory, hq: SeenHq) -> None:
    script = "trap '' TERM; setsid sleep 3600 & while :; do sleep 3600; done\n"
    sent = factory.send("bootstrap_repo", **inline(script))
    factory.wait(lambda: any("sleep" in each for each in sent.left()), 20, "the script running")
    hq.cancel[sent.attempt_id] = "no longer wanted"

    assert sent.gone() < LIMIT_SECONDS
    assert sent.report()["outcome"] == "cancelled"
    assert not list((factory.folder / "repositories").rglob("*.scratch"))


def test_the_control_worker_is_told_and_nobody_has_to_ask(factory: Factory) -> None:
    """Also when no thread of the attempt's own process runs any more."""
    factory.start_control_worker()
    try:
        for then in [*SOFT, *HARD, "in_c"]:
            sent = factory.send(starts=ALL, then=then, mark=str(factory.folder / "mark")).begun()
            factory.order_to_stop(sent.attempt_id)
            took = sent.gone()

            assert took < LIMIT_SECONDS
            assert sent.report()["outcome"] == "cancelled"
    finally:
        factory.stop("control")


@pytest.mark.parametrize("attempt_id", [None, 7, "", "x" * 10_000, ["a"], "not\nthis"])
def test_a_stop_order_that_is_none_stops_nothing_and_harms_nobody(factory: Factory, attempt_id: Any) -> None:
    factory.start_control_worker()
    try:
        sent = factory.send().begun()
        factory.order_to_stop(attempt_id)
        factory.order_to_stop(sent.attempt_id, {"not": "text"})

        assert sent.report()["error"] == "cancelled at headquarters"
    finally:
        factory.stop("control")


def test_a_heartbeats_answer_stops_what_it_names(factory: Factory, hq: SeenHq) -> None:
    """Contract fleet §3. Entries of the wrong shape are no orders."""
    sent = factory.send(then="in_c").begun()
    hq.instructions["cancel"] = [None, 7, {"attempt_id": 7}, {"attempt_id": sent.attempt_id, "reason": "cancelled"}]

    assert sent.gone() < 20
    assert sent.report()["error"] == "cancelled"
    hq.instructions.clear()

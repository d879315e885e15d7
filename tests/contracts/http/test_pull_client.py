"""What a factory's own client says to a real headquarters about missions, and what both make of the answers (H-30)."""

from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from served_api import PUBLISH, Api, token

from corporation.clock import new_id
from corporation.federation.hq import Hq, HqRefusedError
from corporation.federation.processes import my_identity
from corporation.federation.spool import report_all
from corporation.missions.outcomes import Done, Later, Lost, Outcome, Stop, from_report, to_report
from corporation.settings import load_settings
from factory_tasks.https_reports import deliver_over_https
from factory_tasks.node import Node, build_node
from factory_tasks.pull.orders import Claimed, read_claimed
from factory_tasks.stop_orders import STOP_CAUSES

Order = Callable[..., dict[str, Any]]


@pytest.fixture
def desk(api: Api) -> Iterator[Hq]:
    """The way of the factory desk-7 to headquarters, which has just heard of it."""
    with closing(Hq(api.url, token("factory", factory_id="desk-7", jti=None), factory_id="desk-7")) as hq:
        hq.beat({"factory_id": "desk-7", "capabilities": ["vp_general", "transport:http"], "slots": 2})
        yield hq


@pytest.fixture
def here(tmp_path: Path, desk: Hq) -> Node:
    environment = {"UA_FACTORY_ID": "desk-7", "UA_VP_DB_PATH": str(tmp_path / "spool.db")}
    return replace(build_node(load_settings({"FACTORY_ROLE": "LOCAL_WORKER", **environment})), hq=desk)


@pytest.fixture
def claimed(api: Api, desk: Hq, order: Order) -> Claimed:
    """An attempt that desk-7 holds, as its own reader understands it."""
    payload = {"task": "List open risks", "context": {"depth": 3}}
    assert api.ops.post(PUBLISH, json=order(payload=payload, timeout_seconds=900)).status_code == 202
    [claimed] = read_claimed(desk.claim({"factory_id": "desk-7", "max": 2, "holding": []}, 0), "desk-7")
    return claimed


def told(here: Node, claimed: Claimed, outcome: Outcome) -> int:
    """The outcome goes into the spool and to HQ; how many reports HQ has taken."""
    one, number = claimed.attempt_id, claimed.order.attempt
    here.spool.accept(one, claimed.order.job_id, number, my_identity(), "2026-06-01T08:00:00+00:00")
    here.spool.finish(one, {**to_report(outcome), "duration_seconds": 0.5})
    return report_all(here.spool, deliver_over_https(here))


def state(api: Api) -> str:
    return str(api.ops.get("/api/v1/missions/j-1").json()["state"])


def refused_cause(ask: Callable[[], object]) -> str:
    with pytest.raises(HqRefusedError) as caught:
        ask()
    return caught.value.cause


def test_the_order_arrives_as_it_was_published(claimed: Claimed) -> None:
    assert (claimed.kind, claimed.order.job_id, claimed.order.attempt) == ("general_task", "j-1", 1)
    assert (claimed.order.task, claimed.order.timeout_seconds) == ("List open risks", 900)
    assert claimed.order.context["depth"] == 3


@pytest.mark.parametrize(
    ("outcome", "expected"),
    [
        (Done({"output": "3 risks"}), "succeeded"),
        (Stop("no such branch"), "failed"),
        (Later(60, "the model is busy"), "waiting"),
        (Lost("the process that ran the attempt died"), "waiting"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_each_outcome_comes_home(api: Api, desk: Hq, here: Node, claimed: Claimed, outcome: Any, expected: str) -> None:
    """H-31."""
    assert [desk.start(claimed.attempt_id)["state"] for _ in range(2)] == ["running", "running"]

    assert told(here, claimed, outcome) == 1
    assert state(api) == expected
    statement = "SELECT convert_from(result, 'UTF8')::jsonb FROM mailbox.celery_taskmeta WHERE task_id = :id"
    [[letter]] = api.sql(statement, id=claimed.attempt_id)
    assert from_report(letter) == outcome
    assert here.spool.unreported() == []


def test_what_was_not_marked_is_told_again_and_changes_nothing(
    api: Api, desk: Hq, here: Node, claimed: Claimed
) -> None:
    report = {**to_report(Done({"output": "3 risks"})), "duration_seconds": 0.5}
    deliver = deliver_over_https(here)
    desk.start(claimed.attempt_id)
    for _ in range(2):
        deliver(claimed.attempt_id, report)

    assert state(api) == "succeeded"
    assert api.sql("SELECT count(*) FROM corporation.mission_events WHERE type = 'succeeded'") == [(1,)]


def test_an_attempt_that_was_cancelled_is_not_to_be_begun_and_its_report_is_kept(
    api: Api, desk: Hq, here: Node, claimed: Claimed
) -> None:
    """H-30, H-32: our reader must know HQ's words, or it would run what nobody wants and send its report for ever."""
    api.ops.post("/api/v1/missions/j-1/cancel", json={}).raise_for_status()

    assert refused_cause(lambda: desk.start(claimed.attempt_id)) in STOP_CAUSES
    assert told(here, claimed, Done()) == 1
    assert state(api) == "cancelled"
    assert here.spool.unreported() == []


def test_an_attempt_that_headquarters_does_not_know_is_told_for_good(desk: Hq, here: Node, claimed: Claimed) -> None:
    """Its ledger was restored from an older day."""
    unknown = replace(claimed, attempt_id=new_id())

    assert refused_cause(lambda: desk.start(unknown.attempt_id)) in STOP_CAUSES
    assert told(here, unknown, Done()) == 1
    assert here.spool.unreported() == []


def test_another_factorys_attempt_is_neither_begun_nor_told(api: Api, here: Node, claimed: Claimed) -> None:
    """403 is about who speaks: the report waits until this factory has joined again under its own name."""
    with closing(Hq(api.url, token("factory", factory_id="desk-8", jti=None), factory_id="desk-8")) as other:
        assert refused_cause(lambda: other.start(claimed.attempt_id)) not in STOP_CAUSES
        assert refused_cause(lambda: told(replace(here, hq=other), claimed, Done())) not in STOP_CAUSES

    assert [each for each, _ in here.spool.unreported()] == [claimed.attempt_id]
    assert state(api) in ("claimed", "queued")


def test_what_is_held_is_not_handed_out_again_and_what_was_forgotten_is(desk: Hq, claimed: Claimed) -> None:
    """HQ's answer may be lost on its way, and a process may die with what it has just claimed."""
    wish = {"factory_id": "desk-7", "max": 2}

    def again(holding: list[str]) -> list[str]:
        return [one.attempt_id for one in read_claimed(desk.claim({**wish, "holding": holding}, 0), "desk-7")]

    assert again([claimed.attempt_id]) == []
    assert again([]) == [claimed.attempt_id]
    desk.start(claimed.attempt_id)
    assert again([]) == []

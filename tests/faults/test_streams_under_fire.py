"""Everything around the streams is killed while producers add; each mission is told once, and mistakes are noticed."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from ops.bench.streams_chaos_fire import Plan, run
from ops.bench.streams_chaos_history import Crash, History, Recorded, Told, judge

PLAN = Plan(missions=1000, producers=4, kills=6, restarts=2, seed=1, limit_seconds=90)


def test_a_thousand_missions_are_told_once_although_everything_is_killed(tmp_path: Path, database_url: str) -> None:
    """S-19, S-21, S-33, S-38, S-42; results and letters again only where a crash fell between telling and marking."""
    verdict, report = run(PLAN, tmp_path / "fire", database_url)

    assert verdict.problems == [], (verdict, report)
    assert verdict.counts["missions"] == 1000
    assert sum(report["killed"].values()) == 8
    assert verdict.counts["added_twice_by_producers"] > 0


def test_acknowledging_before_the_commit_is_noticed(tmp_path: Path, database_url: str) -> None:
    verdict, report = run(replace(PLAN, mutant="ack-before-commit"), tmp_path / "fire", database_url)

    assert verdict.counts["lost"] > verdict.counts["pending"] + verdict.counts["unread"], (verdict, report)


def test_trimming_what_is_pending_is_noticed(tmp_path: Path, database_url: str) -> None:
    verdict, report = run(replace(PLAN, mutant="trim-pending"), tmp_path / "fire", database_url)

    assert verdict.counts["lost"] > verdict.counts["pending"] + verdict.counts["unread"], (verdict, report)


def well() -> History:
    """Two missions, one of them failed, and a crash of each sort."""
    return History(
        sent={"a", "b"},
        acknowledged={"a": (1000, 0), "b": (2000, 0)},
        results=[Told((3000, 0), "a", "SUCCESS"), Told((3000, 1), "b", "FAILED")],
        letters=[Told((3000, 0), "b", "exit code 2")],
        crashes=[Crash("consumer", 9000), Crash("valkey", 10_000, {"missions": (2000, 0), "results": (3000, 1)})],
        missions={
            "a": Recorded("succeeded", False, 1, (3000, 0), None),
            "b": Recorded("failed", False, 1, (3000, 1), (3000, 0)),
        },
    )


def test_a_history_without_fault_is_not_blamed() -> None:
    assert judge(well()).problems == []


@pytest.mark.parametrize(
    ("spoil", "word"),
    [
        (lambda h: h.missions.pop("a"), "acknowledged but no mission"),
        (lambda h: h.acknowledged.pop("a"), "never acknowledged"),
        (lambda h: h.sent.discard("a"), "nobody asked for"),
        (lambda h: h.results.pop(), "ended without a result"),
        (lambda h: h.letters.clear(), "ended without a dead letter"),
        (lambda h: h.results.append(Told((3100, 0), "a", "SUCCESS")), "a result again without a crash"),
        (lambda h: h.results.append(Told((3100, 0), "c", "SUCCESS")), "a result of nothing"),
        (lambda h: h.results.__setitem__(0, Told((3000, 0), "a", "FAILED")), "wrong sort"),
        (lambda h: h.letters.append(Told((3000, 1), "a", "why")), "a dead letter of nothing"),
        (lambda h: h.missions.update(a=replace(h.missions["a"], state="waiting")), "not ended"),
        (lambda h: h.missions.update(a=replace(h.missions["a"], gap=True)), "a gap"),
        (lambda h: h.missions.update(a=replace(h.missions["a"], imported=2)), "not imported exactly once"),
        (lambda h: h.missions.update(a=replace(h.missions["a"], duplicates=("1-0",))), "no producer made"),
        (lambda h: setattr(h, "pending", 1), "1 entries pending"),
        (lambda h: setattr(h, "unread", 1), "1 entries not read"),
        (lambda h: setattr(h, "untold", 1), "1 ends and letters not told"),
        (lambda h: setattr(h, "malformed", 1), "1 dead letters of entries that were well"),
    ],
)
def test_each_fault_of_a_history_is_named(spoil: Callable[[History], object], word: str) -> None:
    history = well()
    spoil(history)

    assert word in "; ".join(judge(history).problems)


def test_what_a_crash_explains_is_counted_and_not_blamed() -> None:
    """A result again after a kill, and an entry that Valkey had not written yet when it was killed."""
    history = well()
    history.results.append(Told((9500, 0), "a", "SUCCESS"))
    history.sent.add("late")
    history.acknowledged["late"] = (9999, 0)
    verdict = judge(history)

    assert verdict.problems == []
    assert (verdict.counts["results_again_after_a_crash"], verdict.counts["lost_by_valkey"]) == (1, 1)


@pytest.mark.parametrize("entry", [(1999, 0), (4000, 0), (10_001, 0)])
def test_an_entry_that_valkey_had_written_is_not_its_loss(entry: tuple[int, int]) -> None:
    """Older than what survived, far older than the crash, or younger than it."""
    history = well()
    history.sent.add("late")
    history.acknowledged["late"] = entry

    assert judge(history).counts["lost"] == 1

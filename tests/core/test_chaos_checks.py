"""The chaos's checker names every fault of a history, and blames none that is well: it is the witness of all runs."""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ops.bench.chaos_aof import AppendOnlyFile
from ops.bench.chaos_checks import judge
from ops.bench.chaos_clients import share_of
from ops.bench.chaos_history import Attempt, Disturbance, Event, History, MissionRow, Told
from ops.bench.chaos_marks import Mark, line_of, read_line
from ops.bench.chaos_plan import KILLS, ON_TOP, Fault, Plan, Wish
from ops.bench.chaos_story import write_stories
from ops.bench.chaos_streams import fate_of
from ops.bench.chaos_system import TOKEN
from ops.bench.chaos_traces import Held, grown, leaks_in_files, secrets_of

KILL = Disturbance("kill_child", 1000, 1000, frozenset({"alpha"}))


def history() -> History:
    """`a` succeeded at once; `b` at its second attempt, since the first was killed; `c` failed as it was wished to."""
    return History(
        wishes={
            "ka": Wish(0, "a", "ka", 10, ("done",), twin="a2"),
            "kb": Wish(1, "b", "kb", 10, ("done",)),
            "kc": Wish(2, "c", "kc", 10, ("stop",)),
        },
        accepted=[("a", "ka", "a"), ("a2", "ka", "a"), ("b", "kb", "b"), ("c", "kc", "c")],
        missions={
            "a": mission("a", "succeeded", [("queued", 1), ("started", 1), ("succeeded", 1)], ["succeeded"]),
            "b": mission(
                "b",
                "succeeded",
                [
                    *[("queued", 1), ("started", 1), ("attempt_lost", 1), ("retry_scheduled", 1)],
                    *[("queued", 2), ("started", 2), ("succeeded", 2), ("late_result", 1)],
                ],
                ["lost", "succeeded"],
            ),
            "c": mission("c", "failed", [("queued", 1), ("started", 1), ("failed", 1)], ["failed"], "asked to stop"),
        },
        marks=[*marks("a", 1), mark("began", "b", 1), *marks("b", 2), *marks("c", 1)],
        told=[Told(2000, "a", "SUCCESS x"), Told(2000, "b", "SUCCESS x"), Told(2000, "c", "FAILED y")],
        disturbances=[KILL],
    )


def mission(job_id: str, state: str, steps: list[tuple[str, int]], ends: list[str], error: str | None = None) -> Any:
    """A mission whose events are `published`, the steps and `result_published`, a hundred milliseconds apart."""
    every = [("published", None), *steps, ("result_published", None)]
    detail = {state: {"error": error}} if error else {}
    events = [
        Event(seq, kind, attempt, None, 900 + 100 * seq, detail.get(kind, {}))
        for seq, (kind, attempt) in enumerate(every, start=1)
    ]
    attempts = [
        Attempt(f"{job_id}-{number}", number, "alpha", end, 900, 1200, mailbox="" if end == "lost" else "done")
        for number, end in enumerate(ends, start=1)
    ]
    finished = next(event.at_ms for event in events if event.type == state)
    result = {"attempt_id": attempts[-1].attempt_id} if state == "succeeded" else {}
    key = f"k{job_id}"
    return MissionRow(
        job_id, key, state, len(ends), 10, len(events), error, result, finished, events, attempts
    )  # fmt: skip


def mark(what: Any, job_id: str, attempt: int, factory_id: str = "alpha", at_ms: int = 1000) -> Mark:
    return Mark(what, job_id, attempt, f"{job_id}-{attempt}", factory_id, 1, at_ms)


def marks(job_id: str, attempt: int) -> list[Mark]:
    return [mark("began", job_id, attempt), mark("did", job_id, attempt)]


def change(history: History, job_id: str, **fields: Any) -> None:
    history.missions[job_id] = replace(history.missions[job_id], **fields)


def add(history: History, job_id: str, kind: str, attempt: int | None, **detail: Any) -> None:
    """One more event at the end of the mission's history, and its row counts it."""
    one = history.missions[job_id]
    event = Event(len(one.events) + 1, kind, attempt, None, 3000, detail)
    change(history, job_id, events=[*one.events, event], event_seq=one.event_seq + 1)


def reattempt(history: History, job_id: str, number: int, **fields: Any) -> None:
    one = history.missions[job_id]
    changed = [replace(attempt, **fields) if attempt.number == number else attempt for attempt in one.attempts]
    change(history, job_id, attempts=changed)


def drop(history: History, job_id: str, kind: str) -> None:
    """One event was never written; the others and the row are numbered as if it had not been meant."""
    one = history.missions[job_id]
    kept = [event for event in one.events if event.type != kind]
    events = [replace(event, seq=seq) for seq, event in enumerate(kept, start=1)]
    change(history, job_id, events=events, event_seq=len(events))


def cancels(history: History, job_id: str, *answers: str) -> None:
    history.cancels[f"k{job_id}"] = set(answers)


def test_a_history_without_fault_is_not_blamed() -> None:
    verdict = judge(history())

    assert verdict.problems == []
    assert verdict.counts["attempts_per_mission"] == {1: 2, 2: 1}


@pytest.mark.parametrize(
    ("rule", "words", "spoil"),
    [
        ("I1", "not ended", lambda h: change(h, "a", state="running")),
        ("I1", "2 final events", lambda h: add(h, "a", "succeeded", 1)),
        ("I1", "before the end", lambda h: drop(h, "a", "succeeded")),
        ("I1", "nobody asked for it", lambda h: change(h, "a", state="cancelled")),
        ("I2", "after the end", lambda h: add(h, "a", "started", 1)),
        ("I2", "after the end", lambda h: add(h, "a", "failed", 1)),
        ("I3", "began 2 times", lambda h: h.marks.append(mark("began", "a", 1))),
        ("I3", "did 2 times", lambda h: h.marks.append(mark("did", "a", 1))),
        ("I3", "no effect", lambda h: h.marks.remove(mark("did", "a", 1))),
        ("I3", "taken back unreceived", lambda h: reattempt(h, "b", 1, state="withdrawn")),
        ("I4", "follows attempt", lambda h: retold(h, "a", "queued", 3)),
        ("I4", "numbered", lambda h: change(h, "b", attempts=h.missions["b"].attempts[1:])),
        ("I4", "while 1 is current", lambda h: retold(h, "a", "started", 2)),
        ("I4", "under another number", lambda h: h.marks.append(replace(mark("began", "a", 2), attempt_id="a-1"))),
        ("I4", "refused while it was current", lambda h: retold(h, "a", "started", 1, "late_result")),
        ("I5", "not in the ledger", lambda h: h.accepted.append(("d", "kd", "d"))),
        ("I5", "attempts that nobody made", lambda h: h.marks.append(mark("did", "d", 1))),
        ("I5", "1 missions were accepted", lambda h: h.wishes.update(kd=Wish(3, "d", "kd", 1, ("done",)))),
        ("I5", "acknowledged, and it is not", lambda h: h.imported.append(("d", "kd"))),
        ("I6", "stands at place", lambda h: change(h, "a", events=h.missions["a"].events[1:])),
        ("I6", "its row counts", lambda h: change(h, "a", event_seq=9)),
        ("I6", "its row says failed", lambda h: change(h, "a", state="failed")),
        ("I6", "do not agree when", lambda h: change(h, "a", finished_ms=1)),
        ("I6", "nobody knows", lambda h: retold(h, "a", "started", 1, "hatched")),
        ("I6", "'other', its end", lambda h: change(h, "c", error="other")),
        ("I7", "an attempt is alive", lambda h: reattempt(h, "b", 1, state="running")),
        ("I7", "3 messages in the outbox", lambda h: h.left.update({"messages in the outbox": 3})),
        ("I7", "1 messages of alpha not", lambda h: h.unacknowledged.append(("alpha", "a-1"))),
        ("I8", "lay in the queue", lambda h: h.strangers.append("a message lay in the queue of another")),
        ("I8", "at another factory", lambda h: h.marks.append(mark("began", "a", 1, "beta"))),
        ("I9", "nobody asked for so", lambda h: change(h, "a", key="kx")),
        ("I9", "is 2 missions", lambda h: h.missions.update(a2=replace(h.missions["a"], job_id="a2"))),
        ("I9", "was answered with", lambda h: h.accepted.append(("a2", "ka", "a2"))),
        ("I10", "stands in engine.log", lambda h: h.leaks.append("a secret stands in engine.log")),
        ("I11", "100 s too early", lambda h: redated(h, "a", "started", -98_900)),
        ("I11", "only the clock of its factory", lambda h: clock_set(h, "+7200", 0)),
        ("I11", "only the clock of its factory", lambda h: clock_set(h, "+0", 1000)),
        ("I12", "files open in engine", lambda h: h.grown.append("99 files open in engine")),
        ("S-30", "answered to be cancelled, and it is succeeded", lambda h: cancels(h, "a", "cancelled")),
        ("S-30", "told to stop, and it is failed", lambda h: cancels(h, "c", "running")),
        ("S-30", "after the request to cancel", lambda h: retold(h, "b", "started", None, "cancel_requested")),
        ("S-33", "marked as told twice", lambda h: add(h, "a", "result_published", None)),
        ("never told", "no entry", lambda h: h.told.pop(0)),
        ("told twice", "2 different", lambda h: h.told.append(Told(2100, "a", "SUCCESS z"))),
        ("told wrongly", "it is succeeded", lambda h: h.told.__setitem__(0, Told(2000, "a", "FAILED x"))),
        ("fence", "the report of b-1", lambda h: change(h, "b", result={"attempt_id": "b-1"})),
        ("lost", "asked to stop", lambda h: h.wishes.update(kc=Wish(2, "c", "kc", 10, ("done",)))),
        ("false failure", "would have done", lambda h: h.wishes.update(kc=Wish(2, "c", "kc", 10, ("done",)))),
        ("lost for nothing", "nothing touched it", lambda h: h.disturbances.clear()),
        (
            "sent again for nothing",
            "handed out 2 times",
            lambda h: (h.disturbances.clear(), reattempt(h, "a", 1, sends=2)),
        ),
        (
            "report thrown away",
            "reported done",
            lambda h: (drop(h, "b", "late_result"), reattempt(h, "b", 1, mailbox="done")),
        ),
        (
            "not spooled",
            "done long before",
            lambda h: (h.marks.append(mark("did", "b", 1, at_ms=-9000)), reattempt(h, "b", 1, mailbox="lost")),
        ),
        ("child", "outlived", lambda h: h.survivors.append("4711 sleep")),
    ],
)
def test_each_fault_of_a_history_is_named(rule: str, words: str, spoil: Callable[[History], object]) -> None:
    spoilt = history()
    spoil(spoilt)

    found = [problem.what for problem in judge(spoilt).problems if problem.rule == rule]
    assert any(words in what for what in found), judge(spoilt).problems


def retold(history: History, job_id: str, kind: str, attempt: int | None, instead: str | None = None) -> None:
    """The mission's first event of this kind names another attempt, or is another event."""
    events = list(history.missions[job_id].events)
    place = next(place for place, event in enumerate(events) if event.type == kind)
    events[place] = replace(events[place], type=instead or kind, attempt=attempt)
    change(history, job_id, events=events)


def redated(history: History, job_id: str, kind: str, at_ms: int) -> None:
    """The mission's first event of this kind is dated so."""
    events = list(history.missions[job_id].events)
    place = next(place for place, event in enumerate(events) if event.type == kind)
    events[place] = replace(events[place], at_ms=at_ms)
    change(history, job_id, events=events)


def clock_set(history: History, how: str, at_ms: int) -> None:
    """The first attempt of `b` was lost, and the one thing that happened is that a clock was set."""
    history.disturbances[:] = [Disturbance("set_clock", at_ms, at_ms, frozenset(), how, frozenset({"alpha"}))]


@pytest.mark.parametrize(
    ("at_ms", "how", "clocks"),
    [(0, "+0", "alpha"), (0, "+7200", "beta"), (2000, "+7200", "alpha")],
    ids=["set right before", "another factory's", "set afterwards"],
)
def test_a_clock_that_was_right_is_not_blamed(at_ms: int, how: str, clocks: str) -> None:
    """The attempt was lost for nothing all the same."""
    spoilt = history()
    spoilt.disturbances = [Disturbance("set_clock", at_ms, at_ms, frozenset(), how, frozenset({clocks}))]

    assert [problem.rule for problem in judge(spoilt).problems] == ["lost for nothing"]


def test_a_wrong_clock_is_not_blamed_for_what_a_kill_did() -> None:
    killed = history()
    killed.disturbances.append(Disturbance("set_clock", 0, 0, frozenset(), "+7200", frozenset({"alpha"})))

    assert judge(killed).problems == []


@pytest.mark.parametrize(
    ("kind", "touches", "at_ms", "rules"),
    [
        ("rewind_valkey", "redis", 1000, []),
        ("rewind_valkey", "redis", 80_000, []),
        ("rewind_valkey", "redis", 800, ["I7"]),
        ("kill_valkey", "redis", 1000, []),
        ("kill_valkey", "redis", 800, ["I7"]),
        ("kill_valkey", "redis", 80_000, ["I7"]),
        ("partition", "alpha", 1000, []),
        ("partition", "beta", 1000, ["I7"]),
        ("flush_valkey", "redis", 1000, ["I7"]),
    ],
)
def test_a_message_that_was_in_hand_when_redis_went_is_not_blamed(
    kind: str, touches: str, at_ms: int, rules: list[str]
) -> None:
    """The attempt lasted from 900 to 1200; an old file brings back also what was acknowledged long before."""
    kept = history()
    kept.unacknowledged.append(("alpha", "a-1"))
    kept.disturbances.append(Disturbance(kind, at_ms, at_ms, frozenset({touches}), "3"))

    assert [problem.rule for problem in judge(kept).problems] == rules
    assert judge(kept).counts["messages_in_hand_since_redis_went"] == 1


def test_what_warms_up_has_not_grown_and_what_was_not_there_is_not_judged() -> None:
    before = Held({"engine": 40}, {"engine": 100.0}, {"Redis": 30})
    warm = Held({"engine": 60, "engine-2": 900}, {"engine": 140.0}, {"Redis": 60})

    assert list(grown(before, warm)) == []


@pytest.mark.parametrize(
    ("after", "what"),
    [
        (Held(files={"engine": 90}), "90 files open in engine at rest, and 40 before the first mission"),
        (Held(megabytes={"engine": 180.5}), "180.5 megabytes held by engine at rest, and 100 before"),
        (Held(connections={"Redis": 120}), "120 connections to Redis at rest, and 30 before"),
    ],
)
def test_what_grew_is_named(after: Held, what: str) -> None:
    before = Held({"engine": 40}, {"engine": 100.0}, {"Redis": 30})

    [found] = grown(before, after)
    assert what in found


def test_a_log_that_holds_a_secret_is_named(tmp_path: Path) -> None:
    (tmp_path / "engine.log").write_text("nothing")
    (tmp_path / "api.log").write_text("redis://:a-long-password@127.0.0.1")
    (tmp_path / "clients.json").write_text(f"what the clients are told, {TOKEN} as well")

    secrets = secrets_of(["redis://:a-long-password@127.0.0.1:1/0"])
    assert list(leaks_in_files(tmp_path, secrets)) == ["a secret stands in api.log"]


@pytest.mark.parametrize(
    ("there", "pending", "up_to", "fate"),
    [
        (True, False, "5-1", "acknowledged"),
        (True, False, "50-0", "acknowledged"),
        (True, True, "5-1", "waits"),
        (True, False, "5-0", "waits"),
        (True, False, "0-0", "waits"),
        (False, False, "50-0", "gone"),
    ],
)
def test_an_entry_counts_as_accepted_when_it_is_there_read_and_not_pending(
    there: bool, pending: bool, up_to: str, fate: str
) -> None:
    assert fate_of("5-1", is_there=there, pending=pending, delivered_up_to=up_to) == fate


def test_an_append_only_file_is_cut_to_what_it_was_and_only_its_last_part(tmp_path: Path) -> None:
    folder = tmp_path / "data" / "appendonlydir"
    folder.mkdir(parents=True)
    file = AppendOnlyFile(tmp_path)
    part = folder / "appendonly.aof.10.incr.aof"
    (folder / "appendonly.aof.9.incr.aof").write_text("older")
    for at_ms, text in ((1000, "a"), (2000, "ab"), (3000, "abc")):
        part.write_text(text)
        file.look(at_ms)

    assert file.rewind(2500) == 1
    assert part.read_text() == "ab"
    assert file.rewind(500) == 1
    assert part.read_text() == "a"
    assert AppendOnlyFile(tmp_path).rewind(500) is None


def test_an_only_attempt_may_be_lost_and_one_of_many_may_not() -> None:
    """At most once (max_retries 0) ends as `failed: lost`; any other mission must be tried again."""
    error = "lost: the process died"
    steps = [("queued", 1), ("started", 1), ("attempt_lost", 1), ("failed", 1)]
    lost = mission("c", "failed", steps, ["lost"], error)
    once, often = history(), history()
    once.missions["c"] = often.missions["c"] = lost
    once.wishes["kc"] = Wish(2, "c", "kc", 0, ("done",))
    often.wishes["kc"] = Wish(2, "c", "kc", 5, ("done",))

    assert judge(once).problems == []
    assert judge(once).counts["ended"]["failed (lost)"] == 1
    assert [problem.rule for problem in judge(often).problems] == ["lost"]


@pytest.mark.parametrize(("took", "rules"), [(3, []), (2, ["lost"])])
def test_a_mission_is_quarantined_after_three_workers_and_not_before(took: int, rules: list[str]) -> None:
    spoilt = history()
    ends = ["lost"] * 3
    again = [(kind, n) for n in (1, 2) for kind in ("queued", "started", "attempt_lost", "retry_scheduled")]
    steps = [*again, ("queued", 3), ("started", 3), ("attempt_lost", 3), ("failed", 3)]
    spoilt.missions["c"] = mission("c", "failed", steps, ends, "quarantined: it took its worker down 3 times")
    spoilt.wishes["kc"] = Wish(2, "c", "kc", 10, ("done",))
    spoilt.marks = [one for one in spoilt.marks if one.job_id != "c"]
    for number in range(1, took + 1):
        reattempt(spoilt, "c", number, took_worker=True)

    assert [problem.rule for problem in judge(spoilt).problems] == rules


def test_three_workers_that_nobody_killed_are_no_reason_to_quarantine() -> None:
    """The ledger says so; the faults do not."""
    spoilt = history()
    again = [(kind, n) for n in (1, 2) for kind in ("queued", "started", "attempt_lost", "retry_scheduled")]
    steps = [*again, ("queued", 3), ("started", 3), ("attempt_lost", 3), ("failed", 3)]
    spoilt.missions["c"] = mission("c", "failed", steps, ["lost"] * 3, "quarantined: it took its worker down 3 times")
    spoilt.marks = [one for one in spoilt.marks if one.job_id != "c"]
    spoilt.disturbances = [Disturbance("flush_valkey", 900, 1000, frozenset({"redis"}))]
    for number in (1, 2, 3):
        reattempt(spoilt, "c", number, took_worker=True)

    assert "lost" in [problem.rule for problem in judge(spoilt).problems if problem.job_id == "c"]


def test_a_mission_that_was_done_before_it_could_be_stopped_is_no_problem() -> None:
    done = history()
    cancels(done, "a", "running")

    assert judge(done).problems == []


def test_what_flushall_took_before_it_was_read_is_counted_and_not_blamed() -> None:
    flushed = history()
    flushed.told = flushed.told[1:]
    flushed.disturbances.append(Disturbance("flush_valkey", 1500, 1500, frozenset({"redis"})))

    assert judge(flushed).problems == []
    assert judge(flushed).counts["results_taken_before_they_were_read"] == 1


def test_an_attempt_that_was_taken_back_uses_up_none() -> None:
    """`waiting` with `withdrawn` leads back, and the attempt behind it has the next number."""
    back = history()
    steps = [("queued", 1), ("waiting", 1), ("queued", 2), ("started", 2), ("succeeded", 2)]
    taken = mission("a", "succeeded", steps, ["withdrawn", "succeeded"])
    events = [replace(one, detail={"withdrawn": True}) if one.type == "waiting" else one for one in taken.events]
    back.missions["a"] = replace(taken, events=events)
    back.marks = [one for one in back.marks if one.job_id != "a"] + marks("a", 2)

    assert judge(back).problems == []


def test_a_story_tells_what_happened_in_order() -> None:
    told = "\n".join(write_stories(history()))

    assert "attempt 1 at alpha: lost" in told
    assert "kill_child of alpha" in told
    assert told.index("attempt_lost 1") < told.index("queued 2")


def test_a_mark_is_read_back_as_it_was_left() -> None:
    line = line_of("did", "m-1", 2, "id-2", "alpha")

    read = read_line(line)
    assert (read.what, read.job_id, read.attempt, read.attempt_id, read.factory_id) == (
        *("did", "m-1", 2, "id-2"),
        "alpha",
    )
    with pytest.raises(ValueError, match="no mark"):
        read_line(line.replace("did", "slept"))


@pytest.mark.parametrize("kills", [2, 10, 40, 200])
def test_a_seed_gives_the_same_chaos_with_exactly_so_many_kills_and_each_other_fault(kills: int) -> None:
    plan = Plan(missions=50, kills=kills, seed=7)

    faults = plan.faults()
    assert faults == Plan(missions=50, kills=kills, seed=7).faults() != Plan(missions=50, kills=kills, seed=8).faults()
    assert plan.wishes() == Plan(missions=50, kills=kills, seed=7).wishes()
    assert sum(fault.kind in KILLS for fault in faults) == kills
    assert {fault.kind for fault in faults} >= ON_TOP.keys()
    assert sorted(faults, key=lambda fault: fault.share) == faults


def test_forty_kills_are_as_the_table_says_and_ten_are_of_almost_every_kind() -> None:
    forty = Counter(fault.kind for fault in Plan(missions=50, kills=40, seed=7).faults())
    ten = {fault.kind for fault in Plan(missions=50, kills=10, seed=7).faults()}

    assert {kind: forty[kind] for kind in KILLS} == KILLS
    assert KILLS.keys() - ten == {"kill_beat"}


def test_each_mission_is_asked_for_by_one_client_and_a_tenth_of_them_on_the_stream() -> None:
    wishes = Plan(missions=1000, kills=0, seed=7).wishes()
    shares = [share_of(wishes, number, 3) for number in range(4)]

    assert sorted(job_id for share in shares for _, job_id in share) == sorted(
        job_id for wish in wishes for job_id in (wish.job_id, wish.twin) if job_id
    )
    assert {wish for wish, _ in shares[3]} == {wish for wish in wishes if wish.by_stream}
    assert 70 <= len(shares[3]) <= 130


def test_a_plan_may_name_its_faults_and_the_missions_what_they_are() -> None:
    only = [Fault("lapse", 0.5)]
    plan = Plan(missions=3, kills=0, seed=1, only=only, asked={"answers": ("failed", "done"), "max_retries": 3})

    assert plan.faults() == only
    assert [wish.answer(3) for wish in plan.wishes()] == ["done"] * 3
    assert plan.wishes()[0].order("marks", "other")["job_id"] == "other"

"""The importer: every entry once, in order, whatever crashes, and no neighbour suffers from a bad one."""

import json
from collections.abc import Callable
from typing import Any

import pytest
import redis
from redis.exceptions import RedisError
from sqlalchemy import create_engine
from streams_at_work import KEYS, StreamsAtWork, envelope
from structlog.testing import capture_logs

from corporation.delegation.importer import MOST_DELIVERIES, MOST_READS, Importer
from corporation.errors import LedgerUnavailableError


def test_entries_become_missions_and_are_acknowledged(streams: StreamsAtWork) -> None:
    ids = [streams.add(envelope(f"j-{number}")) for number in range(3)]
    streams.importer.drain()

    assert streams.missions() == ["j-0", "j-1", "j-2"]
    assert streams.pending() == 0
    assert [streams.mission(f"j-{number}").stream_entry_id for number in range(3)] == ids


def test_what_was_added_before_there_was_a_group_is_imported(streams: StreamsAtWork) -> None:
    """S-2: the group begins at 0."""
    streams.add()
    streams.importer.drain()

    assert streams.missions() == ["j-1"]


def test_a_group_that_vanishes_is_made_again_and_nothing_runs_twice(streams: StreamsAtWork) -> None:
    """S-2, S-22, B17: at 0, where the known keys make it harmless."""
    streams.add()
    streams.add("{}")
    streams.importer.drain()
    streams.redis.xgroup_destroy(KEYS.missions, KEYS.group)
    streams.add(envelope("j-2"))
    with pytest.raises(RedisError, match="NOGROUP"):
        streams.importer.tick()
    streams.importer.drain()

    assert streams.missions() == ["j-1", "j-2"]
    assert streams.events("j-1") == ["imported"]
    assert len(streams.letters()) == 1


def test_an_entry_is_not_acknowledged_before_its_mission_is_committed(streams: StreamsAtWork) -> None:
    """S-19, D1: the ledger is away when the entry is read; it is kept, tried again, and imported once."""
    streams.add()
    streams.importer.tick()
    streams.add(envelope("j-2"))
    away = create_engine("postgresql+psycopg://nobody@127.0.0.1:1/none", connect_args={"connect_timeout": 1})
    there, streams.importer.ledger = streams.importer.ledger, away
    with pytest.raises(LedgerUnavailableError):
        streams.importer.tick()
    unacknowledged = streams.pending()
    streams.importer.ledger = there
    streams.importer.tick()

    assert unacknowledged == 1
    assert streams.pending() == 0
    assert streams.missions() == ["j-1", "j-2"]


def test_while_the_ledger_is_away_nothing_is_taken_from_the_group(streams: StreamsAtWork) -> None:
    """A delivery counts against an entry, and the ledger's absence is not the entry's fault (B21)."""
    streams.add()
    streams.redis.xgroup_create(KEYS.missions, KEYS.group, id="0")
    away = create_engine("postgresql+psycopg://nobody@127.0.0.1:1/none", connect_args={"connect_timeout": 1})
    streams.importer.ledger = away
    for _ in range(MOST_DELIVERIES + 1):
        with pytest.raises(LedgerUnavailableError):
            streams.importer.tick()

    assert streams.pending() == 0


def test_a_crash_between_commit_and_acknowledgement_ends_in_one_mission(streams: StreamsAtWork) -> None:
    """S-19, S-21: the next start reads its own unacknowledged entries; B10: nothing is told of it."""
    streams.add()
    streams.add(envelope("j-2", idempotency_key="k-j-1"))
    streams.add("no JSON")
    streams.add(envelope("j-1", priority=9))
    crashed = streams.importer
    crashed.stream.acknowledge = lambda _: None  # pyright: ignore[reportAttributeAccessIssue]
    crashed.tick()
    before = (streams.missions(), streams.events(), len(streams.letters()), streams.pending())
    streams.build_importer().drain()

    assert before == (["j-1"], ["imported", "duplicate", "conflict"], 2, 4)
    assert (streams.missions(), streams.pending(), len(streams.letters())) == (["j-1"], 0, 2)
    assert streams.events() == ["imported", "duplicate", "conflict", "conflict"]


def test_an_acknowledgement_that_failed_is_made_up_for_without_another_import(streams: StreamsAtWork) -> None:
    streams.add()
    acknowledge, streams.importer.stream.acknowledge = streams.importer.stream.acknowledge, _failing  # pyright: ignore[reportAttributeAccessIssue]
    with pytest.raises(redis.ConnectionError):
        streams.importer.tick()
    streams.importer.stream.acknowledge = acknowledge  # pyright: ignore[reportAttributeAccessIssue]
    streams.importer.tick()

    assert streams.pending() == 0
    assert streams.importer.totals == {"stored": 1, "dead_letters": 0}


def _failing(_: Any) -> None:
    raise redis.ConnectionError("gone")


def test_two_importers_of_one_name_import_each_entry_once(streams: StreamsAtWork) -> None:
    """S-21."""
    other = streams.build_importer()
    for number in range(200):
        streams.add(envelope(f"j-{number}"))
    while streams.importer._tick() + other._tick():  # pyright: ignore[reportPrivateUsage]
        pass

    assert sorted(streams.missions()) == sorted(f"j-{number}" for number in range(200))
    assert streams.pending() == 0


def test_what_another_member_left_behind_is_taken_over_when_it_has_been_idle(streams: StreamsAtWork) -> None:
    """S-21."""
    streams.add()
    streams.redis.xgroup_create(KEYS.missions, KEYS.group, id="0")
    streams.redis.xreadgroup(KEYS.group, "gone-for-good", {KEYS.missions: ">"})
    streams.importer.drain()
    before = streams.missions()
    streams.build_importer("worker_second", reclaim_idle_seconds=0.001).drain()

    assert before == []
    assert streams.missions() == ["j-1"]
    assert streams.pending() == 0


def test_a_bad_entry_harms_no_neighbour(streams: StreamsAtWork, bad_entry: "tuple[str, Any]") -> None:
    """S-20, S-38: good ones run, the bad one is a dead letter with its cause, all are acknowledged."""
    code, fields = bad_entry
    streams.add(envelope("before"))
    streams.redis.xadd(KEYS.missions, fields)
    streams.add(envelope("after"))
    streams.importer.drain()
    streams.publisher.drain()

    assert streams.missions() == ["before", "after"]
    assert streams.pending() == 0
    [letter] = streams.letters()
    assert (letter.cause, letter.code) == ("malformed", code)
    [told] = streams.dead_letters()
    assert told["failure_error"] == letter.failure_error
    assert letter.published_at is not None


def _entry(text: str | bytes, **fields: str) -> dict[str, str | bytes]:
    return {"job_id": "bad", "idempotency_key": "k-bad", "envelope": text, **fields}


def _order(**changes: Any) -> dict[str, str | bytes]:
    return _entry(json.dumps(envelope("bad") | changes))


BAD: dict[str, tuple[str, dict[str, str | bytes]]] = {
    "B1": ("missing_field", {"job_id": "bad"}),
    "B3": ("invalid_utf8", _entry(b'{"job_id": "b\xff"}')),
    "B4": ("invalid_json", _entry('{"job_id": ')),
    "B5": ("model_type", _entry('"text"')),
    "A4": ("model_type", _entry("null")),
    "A5": ("model_type", _entry("[]")),
    "B6": ("json_too_deep", _entry('{"payload": ' + "[" * 500 + "]" * 500 + "}")),
    "B7": ("duplicate_key", _entry('{"job_id": "a", "job_id": "b"}')),
    "B8": ("non_finite_number", _entry('{"priority": NaN}')),
    "B9": ("too_large", _entry(json.dumps(envelope("bad", payload={"task": "x" * 5_000_000})))),
    "A11": ("invalid_utf8", _entry(json.dumps(envelope("bad")).encode("utf-16"))),
    "A13": ("lone_surrogate", _order(payload={"task": "\ud800"})),
    "A14": ("nul_character", _order(payload={"task": "\0"})),
    "A33": ("integer_out_of_range", _entry('{"priority": ' + "9" * 5000 + "}")),
    "A39": ("missing_field", _entry(json.dumps({"idempotency_key": "k", "payload": {"task": "x"}}))),
    "A42": ("string_type", _order(job_id=7)),
    "A45": ("too_long", _order(job_id="x" * 129)),
    "A58": ("dict_type", _order(payload={"task": "x", "context": []})),
}


@pytest.fixture(params=BAD)
def bad_entry(request: pytest.FixtureRequest) -> tuple[str, dict[str, str | bytes]]:
    """A bad entry of the catalogue with the cause that is recorded for it."""
    return BAD[request.param]


def test_an_entry_that_the_ledger_itself_refuses_is_a_dead_letter_and_its_neighbours_are_missions(
    streams: StreamsAtWork,
) -> None:
    streams.sql("ALTER TABLE corporation.missions ADD CONSTRAINT no_sevens CHECK (priority <> 7)")
    try:
        for job_id, priority in (("before", 1), ("refused", 7), ("after", 1)):
            streams.add(envelope(job_id, priority=priority))
        streams.importer.drain()
    finally:
        streams.sql("ALTER TABLE corporation.missions DROP CONSTRAINT no_sevens")

    assert streams.missions() == ["before", "after"]
    assert [(one.job_id, one.code) for one in streams.letters()] == [("refused", "import_failed")]
    assert streams.pending() == 0


def test_an_entry_that_was_trimmed_while_it_was_pending_is_a_dead_letter(streams: StreamsAtWork) -> None:
    """B16, of our own and of another member."""
    for member in (KEYS.consumer, "gone-for-good"):
        entry_id = streams.add(envelope(member))
        streams.importer.stream.create_group()
        streams.redis.xreadgroup(KEYS.group, member, {KEYS.missions: ">"})
        streams.redis.xdel(KEYS.missions, entry_id)
        streams.build_importer(reclaim_idle_seconds=0.001).drain()

    assert [one.code for one in streams.letters()] == ["trimmed", "trimmed"]
    assert streams.pending() == 0


def test_a_trimmed_entry_of_a_lost_member_is_not_forgotten_by_an_importer_that_dies(
    streams: StreamsAtWork, monkeypatch: pytest.MonkeyPatch
) -> None:
    """B16: XAUTOCLAIM alone would take it off the group's list before the dead letter is committed."""
    entry_id = streams.add()
    streams.importer.stream.create_group()
    streams.redis.xreadgroup(KEYS.group, "gone-for-good", {KEYS.missions: ">"})
    streams.redis.xdel(KEYS.missions, entry_id)
    with monkeypatch.context() as dying:
        dying.setattr("corporation.delegation.importer.import_some", _dies)
        with pytest.raises(KeyboardInterrupt):
            streams.build_importer(reclaim_idle_seconds=0.001).drain()

    assert streams.pending() == 1
    streams.build_importer(reclaim_idle_seconds=0.001).drain()
    assert [(one.stream_entry_id, one.code) for one in streams.letters()] == [(entry_id, "trimmed")]
    assert streams.pending() == 0


def _dies(*_: Any) -> Any:
    raise KeyboardInterrupt


def test_an_entry_that_ends_the_importer_each_time_becomes_a_dead_letter_and_takes_nobody_with_it(
    streams: StreamsAtWork, monkeypatch: pytest.MonkeyPatch
) -> None:
    """B21: `poison`. Each round is an importer that dies as soon as it looks into the entry."""
    for job_id in ("before", "deadly", "after"):
        streams.add(envelope(job_id))
    monkeypatch.setattr("corporation.delegation.importer.read_entry", _deadly)
    rounds = 0
    while streams.missions() != ["before", "after"] and rounds < 20:
        rounds += 1
        try:
            streams.build_importer().drain()
        except KeyboardInterrupt:
            continue

    assert streams.missions() == ["before", "after"]
    assert [(one.job_id, one.code) for one in streams.letters()] == [("deadly", "poison")]
    assert streams.pending() == 0


def _deadly(entry_id: str, fields: Any) -> Any:
    from corporation.delegation.codec import read_entry

    if fields[b"job_id"] == b"deadly":
        raise KeyboardInterrupt
    return read_entry(entry_id, fields)


@pytest.mark.parametrize("kind", ["string", "list"])
def test_a_key_of_another_type_is_an_alarm_once_and_no_end(streams: StreamsAtWork, kind: str) -> None:
    """B18."""
    fill: dict[str, Callable[[], Any]] = {
        "string": lambda: streams.redis.set(KEYS.missions, "x"),
        "list": lambda: streams.redis.rpush(KEYS.missions, "x"),
    }
    fill[kind]()
    with capture_logs() as logs:
        for _ in range(3):
            with pytest.raises(RedisError, match="WRONGTYPE"):
                streams.importer.tick()
    streams.redis.delete(KEYS.missions)
    streams.add()
    streams.importer.drain()

    assert [(one["event"], one["code"], one["log_level"]) for one in logs] == [
        ("stream_unusable", "WRONGTYPE", "critical")
    ]
    assert streams.missions() == ["j-1"]


def test_a_stream_that_took_the_largest_id_is_moved_aside_once_it_is_imported(streams: StreamsAtWork) -> None:
    """B15: every later XADD would fail."""
    streams.add(entry_id="18446744073709551615-18446744073709551615")
    with pytest.raises(RedisError, match="exhausted"):
        streams.add(envelope("refused"))
    with capture_logs() as logs:
        streams.importer.drain()
    streams.add(envelope("j-2"))
    streams.importer.drain()

    assert streams.missions() == ["j-1", "j-2"]
    assert [one["event"] for one in logs if one["log_level"] == "critical"] == ["stream_exhausted"]
    [aside] = streams.redis.keys(f"{KEYS.missions}:exhausted:*")
    assert streams.redis.xlen(aside) == 1


def test_a_stream_whose_largest_id_nobody_ever_saw_is_moved_aside_too(streams: StreamsAtWork) -> None:
    """B15: the entry was trimmed with the XADD that added it."""
    streams.add()
    streams.importer.drain()
    streams.redis.xadd(KEYS.missions, {"a": "b"}, id="18446744073709551615-18446744073709551615", maxlen=0,
                       approximate=False)  # fmt: skip
    streams.build_importer().drain()
    streams.add(envelope("j-2"))
    streams.build_importer().drain()

    assert streams.missions() == ["j-1", "j-2"]


def test_a_good_entry_is_not_blamed_for_the_one_that_was_asked_about(streams: StreamsAtWork) -> None:
    """S-21: the other process of this name is done with the poison between our question and our reading."""
    for job_id in ("deadly", "good"):
        streams.add(envelope(job_id))
    streams.importer.stream.create_group()
    streams.redis.xreadgroup(KEYS.group, KEYS.consumer, {KEYS.missions: ">"})
    [poison, _] = streams.importer.stream.pending(2, own=True)
    for _ in range(MOST_DELIVERIES):
        streams.redis.xclaim(KEYS.missions, KEYS.group, KEYS.consumer, 0, [poison.entry_id])
    asked, ours = streams.importer.stream.pending, streams.build_importer()

    def answer_and_lose(count: int, **how: Any) -> Any:
        rows = asked(count, **how)
        streams.redis.xack(KEYS.missions, KEYS.group, poison.entry_id)
        return rows

    ours.stream.pending = answer_and_lose  # pyright: ignore[reportAttributeAccessIssue]
    ours.drain()

    assert streams.missions() == ["good"]
    assert streams.letters() == []


def test_an_entry_that_ends_the_importer_when_it_is_read_is_not_read_for_ever(streams: StreamsAtWork) -> None:
    """B21: too large for the memory there is, for one; its letter has no text, and its neighbour is imported."""
    for job_id in ("deadly", "good"):
        streams.add(envelope(job_id))
    streams.importer.stream.create_group()
    streams.redis.xreadgroup(KEYS.group, KEYS.consumer, {KEYS.missions: ">"}, count=1)
    [poison] = streams.importer.stream.pending(1, own=True)
    for _ in range(MOST_READS):
        streams.redis.xclaim(KEYS.missions, KEYS.group, KEYS.consumer, 0, [poison.entry_id])
    streams.importer.drain()

    [letter] = streams.letters()
    assert (letter.code, letter.raw, letter.stream_entry_id) == ("poison", None, poison.entry_id)
    assert streams.missions() == ["good"]
    assert streams.pending() == 0


def test_other_members_of_the_group_are_named_in_a_warning(streams: StreamsAtWork) -> None:
    """S-5."""
    streams.importer.stream.create_group()
    streams.redis.xreadgroup(KEYS.group, "somebody-else", {KEYS.missions: ">"})
    with capture_logs() as logs:
        streams.importer.tick()

    [warning] = [one for one in logs if one["event"] == "other_group_members"]
    assert warning["members"] == ["somebody-else"]


def test_trimming_keeps_what_is_not_acknowledged(streams: StreamsAtWork) -> None:
    """S-42: 900 entries beyond the limit, the 300th of which is still pending with another member."""
    importer = streams.build_importer(stream_length=100)
    for number in range(1000):
        streams.add(envelope(f"j-{number}"), entry_id=f"{number + 1}-1")
    importer.stream.create_group()
    streams.redis.xreadgroup(KEYS.group, "slow", {KEYS.missions: ">"}, count=300)
    streams.redis.xack(KEYS.missions, KEYS.group, *[f"{number}-1" for number in range(1, 300)])
    importer.drain()
    kept = [entry_id for entry_id, _ in streams.redis.xrange(KEYS.missions)]
    streams.redis.xack(KEYS.missions, KEYS.group, "300-1")
    streams.add(envelope("one-more"))
    importer.drain()

    assert kept[0] <= b"300-1"
    assert b"300-1" in kept
    assert len(kept) < 1000
    # Whole nodes of up to a hundred entries go or stay.
    assert 100 <= streams.redis.xlen(KEYS.missions) <= 300
    assert len(streams.missions()) == 701


def test_no_limit_trims_nothing(streams: StreamsAtWork) -> None:
    for number in range(300):
        streams.add(envelope(f"j-{number}"))
    streams.build_importer(stream_length=0).drain()

    assert streams.redis.xlen(KEYS.missions) == 300


@pytest.mark.parametrize(
    ("changes", "kind", "requested"),
    [
        ({"mission_kind": "dance"}, "general_task", "dance"),
        ({"payload": {"task": "x", "context": {"mission_kind": " Coding_Task "}}}, "coding_task", "coding_task"),
        ({"payload": {"task": "Note: buy milk"}}, "general_task", "general_task"),
        ({"mission_kind": "tutorial_bootstrap_repo"}, "bootstrap_repo", "tutorial_bootstrap_repo"),
        ({"payload": {"task": "system:pause_factory"}}, "system:pause_factory", "system:pause_factory"),
    ],
)
def test_the_kind_is_found_as_the_contract_says(
    streams: StreamsAtWork, changes: dict[str, Any], kind: str, requested: str
) -> None:
    """S-12 to S-16: what is named wrongly runs as a general task, and the task arrives verbatim."""
    streams.add(envelope(**changes))
    streams.importer.drain()
    mission = streams.mission()

    assert (mission.mission_kind, mission.requested_kind) == (kind, requested)
    assert ("unknown_kind" in streams.events()) == (requested == "dance")
    assert mission.envelope["payload"]["task"] == envelope(**changes)["payload"]["task"]


def test_a_target_nobody_knows_waits_for_it(streams: StreamsAtWork) -> None:
    """S-24, D5: from the stream an unknown target is no refusal."""
    streams.add(envelope(payload={"task": "x", "context": {"target_factory_id": "bench-2"}}))
    streams.importer.drain()

    assert streams.mission().target_factory_id == "bench-2"
    assert streams.mission().state == "waiting"


def test_a_sibling_field_that_differs_is_told_and_decides_nothing(streams: StreamsAtWork) -> None:
    """S-8."""
    streams.add(envelope(), job_id="something-else", color="blue")
    streams.importer.drain()

    assert streams.missions() == ["j-1"]
    [told] = streams.sql("SELECT detail FROM corporation.mission_events")
    assert told.detail["entry_job_id"] == "something-else"


@pytest.mark.parametrize(("written", "left"), [(1, 2), ("2", 1), (-5, 3), ("many", 3), (7, 1)])
def test_attempts_used_elsewhere_are_counted(streams: StreamsAtWork, written: object, left: int) -> None:
    """S-27."""
    streams.add(envelope(payload={"task": "x", "context": {"_retry_count": written}}))
    streams.importer.drain()

    assert streams.mission().attempts_total == left
    assert ("retry_count_ignored" in streams.events()) == (written == "many")


def test_the_deadline_is_the_producers_or_the_default(streams: StreamsAtWork) -> None:
    """S-26."""
    importer = streams.build_importer(default_ttl_seconds=60)
    streams.add(envelope("own", ttl_seconds=10))
    streams.add(envelope("default"))
    importer.drain()
    seconds = {
        row.job_id: row.seconds
        for row in streams.sql(
            "SELECT job_id, extract(epoch FROM deadline_at - created_at)::int AS seconds FROM corporation.missions"
        )
    }

    assert seconds == {"own": 10, "default": 60}


def test_an_idle_importer_waits_in_redis_and_not_in_a_loop(streams: StreamsAtWork) -> None:
    importer: Importer = streams.build_importer(poll_seconds=0.05)
    importer.tick()
    before = streams.redis.info("commandstats")["cmdstat_xreadgroup"]["calls"]
    for _ in range(3):
        importer.tick()
    after = streams.redis.info("commandstats")["cmdstat_xreadgroup"]["calls"]

    assert after - before == 3

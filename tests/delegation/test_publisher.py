"""The publisher: one final word for each mission, and every dead letter, whatever crashes and whoever is away."""

from typing import Any

import pytest
import redis
from streams_at_work import KEYS, StreamsAtWork, envelope
from structlog.testing import capture_logs

from corporation.delegation.exhausted import move_aside
from corporation.masking import Mask
from corporation.missions.store.telling import take_ends


def imported(streams: StreamsAtWork, *job_ids: str, **changes: Any) -> None:
    """Missions that came in by the stream."""
    for job_id in job_ids:
        streams.add(envelope(job_id, **changes))
    streams.importer.drain()


def test_a_mission_that_ends_is_told_once(streams: StreamsAtWork) -> None:
    """S-33, S-34."""
    imported(streams, "j-1")
    streams.publisher.drain()
    before = streams.results()
    streams.end()
    streams.publisher.drain()
    streams.publisher.drain()

    assert before == []
    assert [(one["job_id"], one["status"], one["error"]) for one in streams.results()] == [("j-1", "SUCCESS", None)]
    assert streams.events()[-2:] == ["succeeded", "result_published"]
    assert streams.mission().result_published_at is not None
    assert streams.dead_letters() == []


@pytest.mark.parametrize("state", ["failed", "timed_out"])
def test_a_mission_that_failed_is_also_a_dead_letter_with_what_arrived(streams: StreamsAtWork, state: str) -> None:
    """S-36, S-38: unknown keys included; the retry count is that of elsewhere plus the attempts made here."""
    sent = envelope("j-1", colour="blue", payload={"task": "x", "context": {"_retry_count": 1, "a": 1}})
    streams.add(sent)
    streams.importer.drain()
    streams.end(state=state)
    streams.publisher.drain()

    assert streams.dead_letters() == [sent | {"failure_error": "exit code 2: tests failed", "retry_count": 2}]
    [letter] = streams.letters()
    assert (letter.cause, letter.status, letter.published_at is not None) == (state, "open", True)
    assert streams.results()[0]["result"]["terminal_status"] == state
    assert streams.results()[0]["error"] == f"Mission {state}: j-1 - exit code 2: tests failed"
    assert streams.events()[-3:] == [state, "result_published", "dead_lettered"]


def test_a_cancelled_mission_is_told_and_is_no_dead_letter(streams: StreamsAtWork) -> None:
    imported(streams, "j-1")
    streams.end(state="cancelled")
    streams.publisher.drain()

    assert [one["status"] for one in streams.results()] == ["FAILED"]
    assert streams.dead_letters() == []


def test_a_mission_that_came_by_no_stream_is_told_like_every_other(streams: StreamsAtWork) -> None:
    """S-33: whatever its source."""
    imported(streams, "j-1")
    streams.sql("UPDATE corporation.missions SET source = 'rest', raw_envelope = NULL, stream = NULL, "
                "stream_entry_id = NULL")  # fmt: skip
    streams.end(state="failed")
    streams.publisher.drain()

    assert [one["job_id"] for one in streams.results()] == ["j-1"]
    [letter] = streams.dead_letters()
    assert (letter["payload"]["task"], letter["retry_count"]) == ("Tidy the notes", 1)


def test_a_crash_between_telling_and_marking_tells_it_twice_and_never_not(streams: StreamsAtWork) -> None:
    """S-33: the same entry may appear twice, with the same job_id."""
    imported(streams, "j-1")
    streams.end()

    def crash(*_: Any) -> None:
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("corporation.missions.store.telling.mark_ends", crash)
        with pytest.raises(KeyboardInterrupt):
            streams.publisher.tick()
    streams.publisher.drain()

    assert [one["job_id"] for one in streams.results()] == ["j-1", "j-1"]
    assert streams.results()[0] == streams.results()[1]
    assert streams.events().count("result_published") == 1


def test_two_publishers_at_once_tell_each_end_once(streams: StreamsAtWork) -> None:
    imported(streams, *(f"j-{number}" for number in range(20)))
    for number in range(20):
        streams.end(f"j-{number}")
    other = streams.build_publisher()
    with streams.engine.begin() as connection:
        held = take_ends(connection, 5, 65536)
        other.tick()
        by_other = len(streams.results())
    streams.publisher.drain()

    assert (len(held), by_other) == (5, 15)
    assert len({one["job_id"] for one in streams.results()}) == len(streams.results()) == 20


def test_while_redis_is_away_the_ends_wait_in_the_ledger(streams: StreamsAtWork) -> None:
    """S-34."""
    imported(streams, "j-1")
    streams.end()
    there, streams.publisher.client = streams.publisher.client, redis.Redis(port=1, socket_connect_timeout=1)
    with pytest.raises(redis.RedisError):
        streams.publisher.tick()
    streams.publisher.client = there
    streams.publisher.tick()

    assert len(streams.results()) == 1


def test_a_dead_letter_stream_that_is_none_holds_up_no_result(streams: StreamsAtWork) -> None:
    streams.redis.set(KEYS.dead_letters, "x")
    imported(streams, "j-1", "j-2")
    streams.end("j-1", state="failed")
    with capture_logs() as logs:
        for _ in range(2):
            with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
                streams.publisher.tick()
    streams.end("j-2")
    with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
        streams.publisher.tick()
    told = [one["job_id"] for one in streams.results()]
    streams.redis.delete(KEYS.dead_letters)
    streams.publisher.drain()

    assert told == ["j-1", "j-2"]
    assert [one["event"] for one in logs if one["log_level"] == "critical"] == ["stream_unusable"]
    assert [one["job_id"] for one in streams.dead_letters()] == ["j-1"]


def test_a_results_stream_that_took_the_largest_id_is_moved_aside(streams: StreamsAtWork) -> None:
    """B15, of a stream that only we write."""
    streams.redis.xadd(KEYS.results, {"a": "b"}, id="18446744073709551615-18446744073709551615")
    imported(streams, "j-1")
    streams.end()
    with pytest.raises(redis.ResponseError, match="exhausted"):
        streams.publisher.tick()
    streams.publisher.tick()

    assert [one["job_id"] for one in streams.results()] == ["j-1"]
    assert len(streams.redis.keys(f"{KEYS.results}:exhausted:*")) == 1


def test_of_two_that_see_an_exhausted_stream_one_moves_it_and_the_fresh_one_stays(streams: StreamsAtWork) -> None:
    """B15."""
    streams.redis.xadd(KEYS.results, {"a": "b"}, id="18446744073709551615-18446744073709551615")

    assert move_aside(streams.redis, KEYS.results, "first") == f"{KEYS.results}:exhausted:first"
    assert move_aside(streams.redis, KEYS.results, "second") is None
    streams.redis.xadd(KEYS.results, {"c": "d"})
    assert move_aside(streams.redis, KEYS.results, "third") is None
    assert streams.redis.xlen(KEYS.results) == 1


def test_both_streams_are_trimmed_about_to_the_length(streams: StreamsAtWork) -> None:
    """S-41."""
    imported(streams, *(f"j-{number}" for number in range(450)))
    streams.sql("""UPDATE corporation.missions SET state = 'failed', state_reason = NULL, finished_at = now(),
                          error = 'no', event_seq = event_seq""")
    streams.publisher.drain()

    assert 100 <= streams.redis.xlen(KEYS.results) <= 200
    assert 100 <= streams.redis.xlen(KEYS.dead_letters) <= 200


def test_no_group_is_made_on_the_streams_that_only_hq_writes(streams: StreamsAtWork) -> None:
    """S-3."""
    imported(streams, "j-1")
    streams.end(state="failed")
    streams.publisher.drain()

    assert streams.redis.xinfo_groups(KEYS.results) == streams.redis.xinfo_groups(KEYS.dead_letters) == []


def test_no_secret_of_this_process_gets_onto_a_stream(streams: StreamsAtWork) -> None:
    """S-40."""
    imported(streams, "j-1")
    streams.end(state="failed", said="hunter2-hunter2")
    streams.sql("UPDATE corporation.dead_letters SET failure_error = 'login with hunter2-hunter2 failed'")
    streams.build_publisher(mask=Mask(["hunter2-hunter2"])).drain()

    told = str(streams.results() + streams.dead_letters())
    assert "hunter2" not in told
    assert "login with *** failed" in told


def test_a_result_too_large_for_a_stream_is_told_without_the_handlers_own_keys(streams: StreamsAtWork) -> None:
    imported(streams, "j-1")
    streams.end(report="x" * 200_000)
    streams.publisher.drain()

    [told] = streams.results()
    assert told["result"] == {
        "attempts": 0 + streams.mission().attempt,
        "factory_id": "desk-7",
        "mission_id": "j-1",
        "mission_kind": "general_task",
        "result_ref": "workspace://desk-7/j-1",
        "result_truncated": True,
    }


def test_an_end_counts_as_told_when_redis_has_it_on_disk(streams: StreamsAtWork) -> None:
    """A Redis that is killed forgets what it acknowledged in the last second or two."""
    imported(streams, "j-1")
    streams.end()
    before = streams.redis.info("commandstats").get("cmdstat_waitaof", {"calls": 0})["calls"]
    streams.publisher.drain()

    assert streams.redis.info("commandstats")["cmdstat_waitaof"]["calls"] == before + 1


def test_a_redis_that_keeps_nothing_on_disk_is_told_all_the_same_with_one_warning(streams: StreamsAtWork) -> None:
    imported(streams, "j-1", "j-2")
    streams.redis.config_set("appendonly", "no")
    try:
        with capture_logs() as logs:
            for job_id in ("j-1", "j-2"):
                streams.end(job_id)
                streams.publisher.drain()
    finally:
        streams.redis.config_set("appendonly", "yes")

    assert [one["job_id"] for one in streams.results()] == ["j-1", "j-2"]
    assert [one["event"] for one in logs] == ["told_but_not_known_to_be_on_disk"]

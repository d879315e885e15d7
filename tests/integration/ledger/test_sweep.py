"""The sweep: silence is noticed once, people hear of it, nobody is kept alive by it, and pauses end."""

from typing import Any

import pytest
from builders import beat
from ledger_at_work import LedgerAtWork
from sqlalchemy import Engine

from corporation import clock
from corporation.db import transaction
from corporation.engine.__main__ import build_loops
from corporation.factories.staleness import Thresholds
from corporation.factories.store import hear
from corporation.factories.sweep import StatusChange, sweep
from corporation.settings import load_settings

LIMITS = Thresholds()


def swept(ledger: LedgerAtWork, limits: Thresholds = LIMITS) -> list[StatusChange]:
    with transaction(ledger.engine) as connection:
        return sweep(connection, limits)


def silent(ledger: LedgerAtWork, seconds: float, factory_id: str = "desk-7") -> None:
    ledger.sql(
        "UPDATE corporation.factories SET last_seen_at = now() - :ago * interval '1 second' WHERE factory_id = :id",
        ago=seconds,
        id=factory_id,
    )


def events_of(ledger: LedgerAtWork, factory_id: str = "desk-7") -> list[tuple[str, str | None]]:
    rows = ledger.sql(
        "SELECT type, by FROM corporation.factory_events WHERE factory_id = :id ORDER BY id", id=factory_id
    )
    return [(row.type, row.by) for row in rows]


def told(ledger: LedgerAtWork) -> list[Any]:
    return ledger.sql("SELECT kind, title, message, metadata FROM corporation.notifications ORDER BY id")


def test_a_factory_becomes_stale_and_then_offline_and_each_is_noticed_once(ledger: LedgerAtWork) -> None:
    ledger.beat()
    seen = [swept(ledger)]
    for seconds in (301, 400, 901, 5000):
        silent(ledger, seconds)
        seen.append(swept(ledger))

    assert [[(one.was, one.status) for one in changes] for changes in seen] == [
        [], [("online", "stale")], [], [("stale", "offline")], [],
    ]  # fmt: skip
    assert [one for one, _ in events_of(ledger)] == ["online", "stale", "offline"]
    assert [(row.kind, row.title) for row in told(ledger)] == [("factory_offline", "desk-7 is offline")]


def test_a_factory_that_is_silent_for_long_is_offline_at_once(ledger: LedgerAtWork) -> None:
    """Offline is applied before stale."""
    ledger.beat()
    silent(ledger, 901)

    assert [(one.was, one.status) for one in swept(ledger)] == [("online", "offline")]


def test_people_are_told_what_the_factory_held(ledger: LedgerAtWork) -> None:
    ledger.hand_out("j-1", "j-2")
    silent(ledger, 901)
    swept(ledger)

    [row] = told(ledger)
    assert row.metadata == {"factory_id": "desk-7", "held": 2, "job_ids": ["j-1", "j-2"]}
    assert "2 missions: j-1, j-2;" in row.message


def test_the_sweep_never_makes_a_factory_look_alive(ledger: LedgerAtWork) -> None:
    """F-14."""
    ledger.beat()
    silent(ledger, 901)
    [[before]] = ledger.sql("SELECT last_seen_at FROM corporation.factories")
    swept(ledger)

    assert ledger.sql("SELECT last_seen_at FROM corporation.factories") == [(before,)]


def test_a_factory_that_joined_and_was_never_heard_of_is_nobodys_alarm(ledger: LedgerAtWork) -> None:
    ledger.sql(
        "INSERT INTO corporation.factories (factory_id, source, last_seen_at) VALUES ('new', 'enrolment', 'epoch')"
    )

    assert [(one.was, one.status) for one in swept(ledger)] == [(None, "offline")]
    assert (events_of(ledger, "new"), told(ledger)) == ([], [])


@pytest.mark.parametrize("flag", ["paused", "draining"])
def test_a_pause_whose_time_is_over_ends_by_itself(ledger: LedgerAtWork, flag: str) -> None:
    ledger.beat()
    ledger.sql(
        "UPDATE corporation.factories SET paused = :flag = 'paused', draining = :flag = 'draining', paused_by = 'ana',"
        " paused_at = now(), pause_note = 'lunch', judged_status = :flag, paused_until = now()",
        flag=flag,
    )

    assert [(one.was, one.status) for one in swept(ledger)] == [(flag, "online")]
    assert events_of(ledger)[-1] == ("resumed", "automatic end")
    [row] = ledger.sql("SELECT paused, draining, paused_by, pause_note, paused_until FROM corporation.factories")
    assert tuple(row) == (False, False, None, None, None)
    assert swept(ledger) == []


def test_a_pause_that_is_not_over_stays(ledger: LedgerAtWork) -> None:
    ledger.beat()
    ledger.sql("UPDATE corporation.factories SET paused = true, paused_until = now() + interval '1 min'")
    swept(ledger)

    assert ledger.sql("SELECT paused FROM corporation.factories") == [(True,)]


def test_two_sweeps_at_once_tell_people_once(ledger: LedgerAtWork) -> None:
    ledger.beat()
    silent(ledger, 901)
    with ledger.engine.connect() as one, ledger.engine.connect() as other:
        first, second = sweep(one, LIMITS), sweep(other, LIMITS)
        one.commit()
        other.commit()

    assert (len(first), second) == (1, [])
    assert len(told(ledger)) == 1


def test_a_factory_that_beats_this_moment_is_left_to_the_next_sweep(ledger: LedgerAtWork) -> None:
    ledger.beat("desk-7")
    ledger.beat("desk-8")
    for name in ("desk-7", "desk-8"):
        silent(ledger, 901, name)
    with ledger.engine.connect() as beating:
        hear(beating, beat("desk-7"))
        changes = swept(ledger)
        beating.commit()

    assert [one.factory_id for one in changes] == ["desk-8"]
    assert swept(ledger) == []


@pytest.fixture
def crowd(ledger_engine: Engine) -> LedgerAtWork:
    """Two thousand factories, as many as a big corporation has."""
    ledger = LedgerAtWork(ledger_engine)
    ledger.sql(
        "INSERT INTO corporation.factories (factory_id, source, judged_status, slots)"
        " SELECT 'desk-' || n, 'api_registration', 'online', 2 FROM generate_series(1, 2000) n"
    )
    ledger.sql("ANALYZE corporation.factories")
    return ledger


def test_a_sweep_over_two_thousand_factories_takes_less_than_a_tenth_of_a_second(crowd: LedgerAtWork) -> None:
    def fastest(seconds_silent: float) -> float:
        """Of five, so that another process's work is not measured."""
        times = list[float]()
        for _ in range(5):
            crowd.sql(
                "UPDATE corporation.factories SET judged_status = 'online',"
                " last_seen_at = now() - :ago * interval '1 second'",
                ago=seconds_silent,
            )
            with transaction(crowd.engine) as connection:
                began = clock.monotonic()
                sweep(connection, LIMITS)
                times.append(clock.monotonic() - began)
        return min(times)

    assert fastest(0) < 0.1
    assert fastest(400) < 0.5  # all of them changed at once, which nobody promises anything for


def test_a_whole_fleet_that_falls_silent_is_one_notification(crowd: LedgerAtWork) -> None:
    crowd.sql("UPDATE corporation.factories SET last_seen_at = now() - interval '1 hour'")

    assert len(swept(crowd)) == 2000
    [row] = told(crowd)
    assert row.title == "2000 factories are offline"
    assert (row.metadata["factories"], len(row.metadata["factory_ids"])) == (2000, 1000)


def test_the_engine_sweeps_where_no_beat_of_headquarters_runs(ledger: LedgerAtWork) -> None:
    settings = load_settings({"FACTORY_ROLE": "HEADQUARTERS", "UA_FACTORY_SWEEP_SECONDS": "7"})
    [sweeper] = build_loops(settings, ledger.engine, ledger.broker, ["sweeper"])
    ledger.beat()
    ledger.sql("UPDATE corporation.factories SET paused = true, paused_until = now()")

    assert (sweeper.sweep_seconds, sweeper.tick(), sweeper.tick()) == (7.0, False, False)
    assert events_of(ledger)[-1] == ("resumed", "automatic end")
    silent(ledger, 901)
    sweeper.tick()
    assert [row.title for row in told(ledger)] == ["desk-7 is offline"]
    assert ledger.sql("SELECT 1 FROM corporation.outbox WHERE topic = 'echo'") == []


def test_a_factory_that_took_its_leave_is_offline_at_once_and_nobodys_alarm(ledger: LedgerAtWork) -> None:
    ledger.beat()
    ledger.beat(registration_status="offline")
    ledger.beat(registration_status="offline")

    assert swept(ledger) == []
    silent(ledger, 5000)
    assert swept(ledger) == []
    assert [one for one, _ in events_of(ledger)] == ["online", "stopped"]
    assert told(ledger) == []
    ledger.beat()
    assert [one for one, _ in events_of(ledger)] == ["online", "stopped", "online"]


def test_a_paused_factory_that_took_its_leave_has_it_in_its_history_too(ledger: LedgerAtWork) -> None:
    ledger.beat()
    ledger.sql("UPDATE corporation.factories SET paused = true, judged_status = 'paused'")
    ledger.beat(registration_status="offline")
    ledger.beat()

    assert [one for one, _ in events_of(ledger)] == ["online", "stopped", "online"]

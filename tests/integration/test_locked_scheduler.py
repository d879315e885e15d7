"""HQ's beat: of two that run at once one ticks, and the other takes over when the first is gone."""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psycopg
import pytest
from celery import Celery
from node_at_work import HeardHq, node_at
from structlog.testing import capture_logs

from factory_tasks import locked_scheduler
from factory_tasks.locked_scheduler import BEAT_LOCK, TRY_AGAIN_SECONDS, LockedScheduler

DUE = 0.0
"""Seconds between two runs of the job: it is due at every tick."""


class Beat(LockedScheduler):
    """A beat whose jobs are only counted."""

    def __init__(self, folder: Path, name: str) -> None:
        app = Celery(name, broker="memory://", set_as_current=False)
        app.conf.update(beat_schedule={"job": {"task": "job", "schedule": DUE}}, timezone="UTC", enable_utc=True)
        self.sent: list[str] = []
        super().__init__(app, schedule_filename=str(folder / name))

    def apply_async(self, *_: object, **__: object) -> None:
        """Celery's own puts the job off by itself."""
        self.sent.append("job")


@pytest.fixture
def beats(tmp_path: Path, database_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Beat, Beat]]:
    variables = {"FACTORY_ROLE": "HEADQUARTERS", "UA_FACTORY_ID": "hq", "UA_DATABASE_URL": database_url}
    here = node_at(tmp_path, HeardHq(), **variables)
    monkeypatch.setattr(locked_scheduler, "node", lambda: here)
    pair = Beat(tmp_path, "first"), Beat(tmp_path, "second")
    yield pair
    for beat in pair:
        with suppress(Exception):
            beat.close()


def cut_off(database_url: str) -> None:
    """PostgreSQL ends the session that holds the lock."""
    with psycopg.connect(database_url, autocommit=True) as db:
        db.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_locks JOIN pg_database d ON d.oid = database"
            " WHERE locktype = 'advisory' AND d.datname = current_database()"
        )


def tick(*beats: Beat, times: int = 3) -> None:
    for _ in range(times):
        for beat in beats:
            beat.tick()


def test_two_beats_double_no_job(beats: tuple[Beat, Beat]) -> None:
    first, second = beats

    tick(first, second)

    assert (len(first.sent), len(second.sent)) == (3, 0)
    assert second.tick() == TRY_AGAIN_SECONDS


def test_the_other_takes_over_when_the_first_has_ended(beats: tuple[Beat, Beat]) -> None:
    first, second = beats
    tick(first, second)
    first.close()

    tick(second)

    assert len(second.sent) == 3


def test_who_lost_its_session_lost_its_lock_and_asks_again(beats: tuple[Beat, Beat], database_url: str) -> None:
    first, second = beats
    tick(first, second)
    cut_off(database_url)

    with capture_logs() as lines:
        first.tick()
        tick(second, first)

    assert (len(first.sent), len(second.sent)) == (3, 3), "the other was quicker"
    assert [line["event"] for line in lines if line["event"] == "beat_lost_its_lock"] == ["beat_lost_its_lock"]


def test_while_the_database_is_away_nobody_ticks_and_it_is_said_once(
    beats: tuple[Beat, Beat], database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, _ = beats
    tick(first)

    def refuse(*_: object, **__: object) -> None:
        raise psycopg.OperationalError("away")

    cut_off(database_url)
    connect = psycopg.connect
    monkeypatch.setattr(psycopg, "connect", refuse)
    with capture_logs() as lines:
        tick(first, times=5)
    assert len(first.sent) == 3
    assert [line["event"] for line in lines] == ["beat_lost_its_lock"]

    monkeypatch.setattr(psycopg, "connect", connect)
    tick(first)

    assert len(first.sent) == 6


def test_the_lock_is_no_other_lock_of_ours() -> None:
    from corporation.factories import sweep

    assert BEAT_LOCK != sweep.SWEEP_LOCK

"""Listening to PostgreSQL for wake-ups: one connection, one thread, and no harm while it is away."""

from collections.abc import Sequence
from threading import Event

import psycopg
import structlog
from psycopg import sql

from corporation.db import ALIVE
from corporation.loops.forever import Running, backoff_seconds

log = structlog.get_logger()

PATIENCE_SECONDS = 1.0
"""How long one wait for notifications lasts; it bounds how late the thread sees that it should stop."""


def listen_forever(url: str, loops: Sequence[Running], stop: Event) -> None:
    """Wake each loop when its channels are notified, until `stop` is set.

    A notification that is missed while the connection is down delays work by one sweep and loses nothing; after a
    reconnect every loop is woken once.
    """
    failures = 0
    while not stop.is_set():
        try:
            with psycopg.connect(url, autocommit=True, application_name="corporation-wakeups", **ALIVE) as db:
                _subscribe(db, loops)
                failures = 0
                _pass_on(db, loops, stop)
        except psycopg.Error as error:
            failures += 1
            if failures == 1:
                log.warning("wakeups_lost", error=type(error).__name__)
            stop.wait(backoff_seconds(failures))


def _subscribe(db: psycopg.Connection[tuple[object, ...]], loops: Sequence[Running]) -> None:
    for channel in sorted({channel for running in loops for channel in running.loop.channels}):
        db.execute(sql.SQL("LISTEN {}").format(sql.Identifier(channel)))
    for running in loops:
        running.wake.set()


def _pass_on(db: psycopg.Connection[tuple[object, ...]], loops: Sequence[Running], stop: Event) -> None:
    while not stop.is_set():
        for notice in db.notifies(timeout=PATIENCE_SECONDS, stop_after=1):
            for running in loops:
                if notice.channel in running.loop.channels:
                    running.wake.set()

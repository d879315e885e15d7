"""Waiting for missions without holding a thread or a connection: one listener per process wakes all who wait."""

import asyncio
from contextlib import suppress
from threading import Event, Thread
from typing import Final

import psycopg
import structlog
from psycopg import sql

from corporation.clock import chance, monotonic
from corporation.db import ALIVE
from corporation.loops.forever import backoff_seconds
from corporation.wakeups import DISPATCH

log = structlog.get_logger()

LOOK_EVERY_SECONDS: Final = 5.0
"""How long somebody waits for a wake-up before looking all the same: a backoff may be over, a notice may be lost."""
LISTEN_SECONDS: Final = 1.0
"""How long one wait for notices lasts; it bounds how late the thread sees that it should stop."""
SPREAD_SECONDS: Final = 0.002
"""For each who waits: a fleet that is woken together must not look into the ledger in the same millisecond."""
LONGEST_SPREAD_SECONDS: Final = 0.5


class Waiting:
    """Those who wait for missions in one process; for its event loop only, but for `close`."""

    def __init__(self, database_url: str | None) -> None:
        self._url = database_url
        self._stop = Event()
        self._over = False
        self._woken = asyncio.Event()
        self._waiters = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: Thread | None = None

    def start(self) -> None:
        """Listen from now on; called in the event loop."""
        self._loop = asyncio.get_running_loop()
        if self._url is not None:
            self._thread = Thread(target=self._listen, name="missions-wait", daemon=True)
            self._thread.start()

    def end(self) -> None:
        """Nobody waits any longer, and nobody will: the server is about to stop. Called in the event loop."""
        self._over = True
        self._woken.set()

    def close(self) -> None:
        """The listener has ended when this returns."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(timeout=5)

    @property
    def next_wake(self) -> asyncio.Event:
        """What `until_woken` waits for; take it before the look, or what comes during the look is missed."""
        return self._woken

    async def until_woken(self, woken: asyncio.Event, deadline: float) -> bool:
        """Wait until there may be work, at most until `deadline` (monotonic); False when it is over."""
        if self._over or monotonic() >= deadline:
            return False
        self._waiters += 1
        try:
            with suppress(TimeoutError):
                await asyncio.wait_for(woken.wait(), min(LOOK_EVERY_SECONDS, deadline - monotonic()))
            if woken.is_set():
                await asyncio.sleep(chance() * min(LONGEST_SPREAD_SECONDS, self._waiters * SPREAD_SECONDS))
        finally:
            self._waiters -= 1
        return not self._over

    def _wake(self) -> None:
        self._woken.set()
        if not self._over:
            self._woken = asyncio.Event()

    def _listen(self) -> None:
        failures = 0
        while not self._stop.is_set():
            try:
                url = "postgresql://" + (self._url or "").partition("://")[2]
                with psycopg.connect(url, autocommit=True, application_name="corporation-missions-wait", **ALIVE) as db:
                    db.execute(sql.SQL("LISTEN {}").format(sql.Identifier(DISPATCH)))
                    failures = 0
                    self._pass_on(db)
            except psycopg.Error as error:
                failures += 1
                if failures == 1:
                    log.warning("wakeups_lost", error=type(error).__name__)
                self._stop.wait(backoff_seconds(failures))

    def _pass_on(self, db: psycopg.Connection[tuple[object, ...]]) -> None:
        while not self._stop.is_set():
            for _ in db.notifies(timeout=LISTEN_SECONDS, stop_after=1):
                if self._loop is not None:
                    self._loop.call_soon_threadsafe(self._wake)

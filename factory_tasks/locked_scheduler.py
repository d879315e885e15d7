"""The scheduler of HQ's beat: it ticks only while it holds a lock in PostgreSQL, so that two beats double no job."""

from contextlib import suppress
from typing import Any, Final

import psycopg
import structlog
from celery.beat import PersistentScheduler

from factory_tasks.node import node

log = structlog.get_logger()

BEAT_LOCK: Final = 7_203_114_901_567
TRY_AGAIN_SECONDS: Final = 5.0
"""How long a beat that may not tick waits before it asks for the lock again."""


# A machine that vanishes must not keep the lock for the two hours after which either end would notice by itself.
_SOON_NOTICED: Final[dict[str, Any]] = {
    "keepalives_idle": 15,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,  # milliseconds
    "options": "-c tcp_keepalives_idle=15 -c tcp_keepalives_interval=5 -c tcp_keepalives_count=3",
}


class LockedScheduler(PersistentScheduler):
    """Ticks like Celery's own while its session holds the lock; loses it with its connection, and asks again."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._session: psycopg.Connection[tuple[Any, ...]] | None = None
        self._holds = False
        super().__init__(*args, **kwargs)

    def tick(self, *args: Any, **kwargs: Any) -> float:
        """Do what is due, if this beat is the one; the seconds until the next look."""
        if not self.holds_lock():
            return TRY_AGAIN_SECONDS
        return float(super().tick(*args, **kwargs))

    def holds_lock(self) -> bool:
        """Whether this process is the beat of its HQ now; while the database is away nobody is."""
        try:
            holds = self._ask()
        except psycopg.Error as error:
            self._forget()
            if self._holds:
                log.warning("beat_lost_its_lock", error=type(error).__name__)
            self._holds = False
            return False
        if holds != self._holds:
            log.info("beat_ticks" if holds else "another_beat_ticks")
        self._holds = holds
        return holds

    def close(self) -> None:
        """Another beat may tick from now on."""
        self._give_back()
        self._forget()
        super().close()

    def _ask(self) -> bool:
        if self._session is None:
            url = "postgresql://" + (node().settings.database_url or "").partition("://")[2]
            self._session = psycopg.connect(
                url, autocommit=True, connect_timeout=5, application_name="corporation-beat", **_SOON_NOTICED
            )
        if self._holds:
            # The lock lives as long as the session does.
            self._session.execute("SELECT 1")
            return True
        row = self._session.execute("SELECT pg_try_advisory_lock(%s)", (BEAT_LOCK,)).fetchone()
        return bool(row and row[0])

    def _give_back(self) -> None:
        # PostgreSQL notices some time after a session was closed, and until then the next beat would be refused.
        if self._session is not None and self._holds:
            with suppress(psycopg.Error):
                self._session.execute("SELECT pg_advisory_unlock(%s)", (BEAT_LOCK,))
        self._holds = False

    def _forget(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            session.close()

"""HQ is heard of too: it registers itself when it starts and every minute (F-12), and forgives its own absence."""

from threading import Event, Thread

import structlog
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from corporation.db import transaction
from corporation.errors import LedgerUnavailableError
from corporation.factories.store import Beat, record_beat
from corporation.missions.store.leases import extend_all
from corporation.settings import Settings

log = structlog.get_logger()

EVERY_SECONDS = 60.0


class SelfRegistration:
    """A thread of the API; while it cannot write, nobody can register, and leases are not judged either."""

    def __init__(self, ledger: Engine, settings: Settings) -> None:
        self._ledger = ledger
        self._settings = settings
        self._stop = Event()
        self._thread = Thread(target=self._run, name="self-registration", daemon=True)

    def start(self) -> None:
        """Register now and every minute, and first give every live attempt a whole lease again (F-7)."""
        self._thread.start()

    def stop(self) -> None:
        """The thread has ended when this returns."""
        self._stop.set()
        self._thread.join(timeout=5)

    def _run(self) -> None:
        forgiven = False
        while not self._stop.is_set():
            try:
                with transaction(self._ledger) as connection:
                    if not forgiven:
                        extend_all(connection, self._settings.attempt_lease_seconds)
                    record_beat(connection, self._beat())
                forgiven = True
                self._stop.wait(EVERY_SECONDS)
            except (LedgerUnavailableError, SQLAlchemyError) as error:
                # Also a database that is not migrated yet: this thread must outlive it.
                log.warning("self_registration_failed", error=type(error).__name__)
                self._stop.wait(2.0)

    def _beat(self) -> Beat:
        return Beat(
            factory_id=self._settings.factory_id,
            source="gateway_startup",
            factory_role=str(self._settings.role),
            deployment_profile=self._settings.deployment_profile,
            metadata={"self_registration": True, "hostname": self._settings.host},
        )

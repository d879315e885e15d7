"""HQ is heard of too: it registers itself when it starts and every minute (F-12), and forgives its own absence."""

from collections.abc import Sequence
from threading import Event, Thread
from typing import Final

import redis
import structlog
from sqlalchemy import Connection, Engine
from sqlalchemy.exc import SQLAlchemyError

from corporation.clock import new_id, utc_now
from corporation.db import transaction
from corporation.errors import LedgerUnavailableError
from corporation.factories.labels import earned_among, headquarters_labels
from corporation.factories.store import BY_GATEWAY, Beat, forget_random_ids, record_beat, workers_heard_lately
from corporation.missions import orders
from corporation.missions.store.leases import extend_all
from corporation.settings import Settings
from hq_api.own_node import DelegationLink, factory_block, look_at_delegation

log = structlog.get_logger()

EVERY_SECONDS: Final = 60.0


class SelfRegistration:
    """A thread of the API; while it cannot write, nobody can register, and leases are not judged either."""

    def __init__(self, ledger: Engine, broker: redis.Redis, settings: Settings) -> None:
        self._ledger = ledger
        self._broker = broker
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
                # Asked before the transaction, which must not wait for a broker.
                link = look_at_delegation(self._broker, self._settings)
                with transaction(self._ledger) as connection:
                    if not forgiven:
                        extend_all(connection, self._settings.attempt_lease_seconds)
                        forget_random_ids(connection, self._settings.factory_id, self._settings.factory_stale_seconds)
                    register(connection, self._settings, link)
                forgiven = True
                self._stop.wait(EVERY_SECONDS)
            except (LedgerUnavailableError, SQLAlchemyError) as error:
                # Also a database that is not migrated yet: this thread must outlive it.
                log.warning("self_registration_failed", error=type(error).__name__)
                self._stop.wait(2.0)


def register(connection: Connection, settings: Settings, link: DelegationLink) -> None:
    """Headquarters was heard of now, with the labels of fleet §6; what its own workers earned is among them.

    Those beat under the same name, so what they said last is what is stored. When they have been silent for so long
    that a factory would count as stale, they have no slots, listen to nothing and earn nothing: the API lives, they may
    not (F-18). An order to headquarters that no control worker of its own takes has succeeded: its flag is set.
    """
    orders.obey_early(connection, settings.factory_id)
    stored = record_beat(connection, _beat(settings, link, None))["capabilities"]
    work = workers_heard_lately(connection, settings.factory_id, settings.factory_stale_seconds)
    earned = earned_among(stored) if work else []
    labels = headquarters_labels(settings.policy, earned, link.connected, settings.llm_provider_override)
    record_beat(connection, _beat(settings, link, labels, at_rest=not work))
    orders.tell(connection, settings.factory_id, new_id)


def _beat(
    settings: Settings, link: DelegationLink, capabilities: Sequence[str] | None, *, at_rest: bool = False
) -> Beat:
    return Beat(
        factory_id=settings.factory_id,
        source=BY_GATEWAY,
        slots=0 if at_rest else None,
        queues=() if at_rest else None,
        factory_role=str(settings.policy.factory_role),
        deployment_profile=settings.deployment_profile,
        capabilities=capabilities,
        metadata={
            "self_registration": True,
            "capabilities_payload": factory_block(settings, link, utc_now()),
            "hostname": settings.host,
        },
    )

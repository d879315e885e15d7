"""A factory's row in the ledger: what it said of itself, and when it was last heard of by HQ's own clock."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, text

from corporation.clock import iso
from corporation.wakeups import DISPATCH, wake

# What a beat leaves out keeps the stored value; what it names, even an empty list, replaces it (D11, H-16, H-17).
RECORD = text("""
    INSERT INTO corporation.factories AS f
      (factory_id, factory_role, deployment_profile, source, registration_status, heartbeat_latency_ms, capabilities,
       metadata, slots, queues, version, workers_seen_at)
    VALUES
      (:factory_id, coalesce(:factory_role, 'LOCAL_WORKER'), coalesce(:deployment_profile, 'local_workstation'),
       :source, :registration_status, :heartbeat_latency_ms, coalesce(CAST(:capabilities AS json), '[]'),
       coalesce(CAST(:metadata AS json), '{}'), coalesce(CAST(:slots AS integer), 0),
       coalesce(CAST(:queues AS json), '[]'), :version, CASE WHEN :by_workers THEN now() END)
    ON CONFLICT (factory_id) DO UPDATE SET
       factory_role = coalesce(:factory_role, f.factory_role),
       deployment_profile = coalesce(:deployment_profile, f.deployment_profile),
       source = :source, registration_status = :registration_status, heartbeat_latency_ms = :heartbeat_latency_ms,
       capabilities = coalesce(CAST(:capabilities AS json), f.capabilities),
       metadata = coalesce(CAST(:metadata AS json), f.metadata),
       slots = coalesce(CAST(:slots AS integer), f.slots), queues = coalesce(CAST(:queues AS json), f.queues),
       version = coalesce(:version, f.version), last_seen_at = now(), updated_at = now(),
       workers_seen_at = CASE WHEN :by_workers THEN now() ELSE f.workers_seen_at END
    RETURNING *
""")

HEARD_LATELY = text("""
    SELECT EXISTS (SELECT 1 FROM corporation.factories
                    WHERE last_seen_at > now() - CAST(:seconds AS double precision) * interval '1 second')
""")


WORKERS_HEARD = text("""
    SELECT EXISTS (SELECT 1 FROM corporation.factories
                    WHERE factory_id = :factory_id
                      AND workers_seen_at > now() - CAST(:seconds AS double precision) * interval '1 second')
""")

BY_GATEWAY = "gateway_startup"
"""The source of a beat that HQ's own API writes: it says nothing of workers (F-12)."""


@dataclass(frozen=True)
class Beat:
    """What a factory says of itself; None means that it left the field out."""

    factory_id: str
    source: str
    factory_role: str | None = None
    deployment_profile: str | None = None
    registration_status: str = "online"
    heartbeat_latency_ms: float | None = None
    capabilities: Sequence[str] | None = None
    metadata: Mapping[str, Any] | None = None
    slots: int | None = None
    queues: Sequence[str] | None = None
    version: str | None = None


def record_beat(connection: Connection, beat: Beat) -> dict[str, Any]:
    """The factory is known and was heard of now; its record is returned in the wire shape of contract fleet §3."""
    values = {
        "factory_id": beat.factory_id,
        "source": beat.source,
        "factory_role": beat.factory_role,
        "deployment_profile": beat.deployment_profile,
        "registration_status": beat.registration_status,
        "heartbeat_latency_ms": beat.heartbeat_latency_ms,
        "capabilities": json.dumps(list(beat.capabilities)) if beat.capabilities is not None else None,
        "metadata": json.dumps(dict(beat.metadata)) if beat.metadata is not None else None,
        "slots": beat.slots,
        "queues": json.dumps(list(beat.queues)) if beat.queues is not None else None,
        "version": beat.version,
        "by_workers": beat.source != BY_GATEWAY,
    }
    row = connection.execute(RECORD, values).one()
    wake(connection, DISPATCH)
    return _record(row)


def workers_heard_lately(connection: Connection, factory_id: str, seconds: float) -> bool:
    """Whether a worker of this factory beat within `seconds`: what its API says for it does not count."""
    return bool(connection.execute(WORKERS_HEARD, {"factory_id": factory_id, "seconds": seconds}).scalar_one())


def heard_lately(connection: Connection, seconds: float) -> bool:
    """Whether HQ's API took any beat within `seconds`: if not, it is HQ that is deaf, and no factory is to blame."""
    return bool(connection.execute(HEARD_LATELY, {"seconds": seconds}).scalar_one())


def _record(row: Row[Any]) -> dict[str, Any]:
    return {
        "factory_id": row.factory_id,
        "factory_role": row.factory_role,
        "deployment_profile": row.deployment_profile,
        "source": row.source,
        "registration_status": "paused" if row.paused else row.registration_status,
        "heartbeat_latency_ms": row.heartbeat_latency_ms,
        "capabilities": row.capabilities,
        "metadata": row.metadata,
        "first_seen_at": iso(row.first_seen_at),
        "last_seen_at": iso(row.last_seen_at),
        "updated_at": iso(row.updated_at),
        "paused": row.paused,
    }

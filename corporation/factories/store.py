"""A factory's row in the ledger: what it said of itself, and when it was last heard of by HQ's own clock.

Idle, a beat is one read and one write of that row, whatever the ledger holds.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, Row, text

from corporation.clock import iso
from corporation.factories.events import note_event
from corporation.factories.instances import Holder, Verdict, judge_instance
from corporation.factories.labels import earned_among
from corporation.factories.lights import hear_echo
from corporation.factories.signs_of_life import NEVER_SECONDS, WorkerSign, dead_workers
from corporation.factories.staleness import Thresholds, judge_status
from corporation.notifying import notify
from corporation.wakeups import DISPATCH, RECALL, wake

# Locked, so that of two beats at once the second is judged by the first. Workers' own silence: HQ's API speaks for its
# node too, and must not hold its name for a worker that is gone.
READ = text("""
    SELECT f.*, CAST(extract(epoch FROM now() - f.last_seen_at) AS double precision) AS silent_seconds,
           CAST(extract(epoch FROM now() - f.workers_seen_at) AS double precision) AS workers_silent_seconds,
           coalesce(e.echo_id = CAST(:echo AS uuid) AND (e.heard_at IS NULL OR e.heard_at < e.asked_at), false)
             AS answers_echo
      FROM corporation.factories f LEFT JOIN corporation.factory_echoes e USING (factory_id)
     WHERE f.factory_id = :factory_id FOR NO KEY UPDATE OF f
""")

FIRST = text("""
    INSERT INTO corporation.factories
      (factory_id, factory_role, deployment_profile, source, registration_status, heartbeat_latency_ms, capabilities,
       known_labels, metadata, slots, queues, version, workers, instance_id, beat_number, interval_seconds,
       workers_seen_at, judged_status, judged_at)
    VALUES
      (:factory_id, coalesce(:factory_role, 'LOCAL_WORKER'), coalesce(:deployment_profile, 'local_workstation'),
       :source, :registration_status, :heartbeat_latency_ms, coalesce(CAST(:capabilities AS json), '[]'),
       coalesce(CAST(:known_labels AS json), '[]'),
       coalesce(CAST(:metadata AS json), '{}'), coalesce(CAST(:slots AS integer), 0),
       coalesce(CAST(:queues AS json), '[]'), :version, coalesce(CAST(:workers AS json), '[]'),
       :instance_id, :beat_number, :interval_seconds, CASE WHEN :by_workers THEN now() END,
       :registration_status, now())
    ON CONFLICT (factory_id) DO NOTHING RETURNING *
""")

# What a beat leaves out keeps the stored value; what it names, even an empty list, replaces it (D11, H-16, H-17).
AGAIN = text("""
    UPDATE corporation.factories f SET
       factory_role = coalesce(:factory_role, f.factory_role),
       deployment_profile = coalesce(:deployment_profile, f.deployment_profile),
       source = :source, registration_status = :registration_status, heartbeat_latency_ms = :heartbeat_latency_ms,
       capabilities = coalesce(CAST(:capabilities AS json), f.capabilities),
       known_labels = coalesce(CAST(:known_labels AS json), f.known_labels),
       metadata = coalesce(CAST(:metadata AS json), f.metadata),
       slots = coalesce(CAST(:slots AS integer), f.slots), queues = coalesce(CAST(:queues AS json), f.queues),
       version = coalesce(:version, f.version), workers = coalesce(CAST(:workers AS json), f.workers),
       interval_seconds = coalesce(CAST(:interval_seconds AS double precision), f.interval_seconds),
       beat_number = CASE WHEN CAST(:instance_id AS text) IS NULL THEN f.beat_number
                          ELSE coalesce(CAST(:beat_number AS bigint),
                                        CASE WHEN f.instance_id = :instance_id THEN f.beat_number END) END,
       split_brain_at = CASE WHEN f.instance_id <> :instance_id THEN NULL ELSE f.split_brain_at END,
       split_brain_with = CASE WHEN f.instance_id <> :instance_id THEN NULL ELSE f.split_brain_with END,
       instance_id = coalesce(:instance_id, f.instance_id),
       last_seen_at = now(), updated_at = now(),
       workers_seen_at = CASE WHEN :by_workers THEN now() ELSE f.workers_seen_at END,
       judged_at = CASE WHEN f.judged_status = :judged_status THEN f.judged_at ELSE now() END,
       judged_status = :judged_status
     WHERE f.factory_id = :factory_id RETURNING *
""")

REFUSED = text("""
    UPDATE corporation.factories SET split_brain_at = now(), split_brain_with = :instance_id
     WHERE factory_id = :factory_id
""")

ALARMED = text("""
    SELECT coalesce((SELECT at > now() - CAST(:quiet AS double precision) * interval '1 second'
                       FROM corporation.factory_events WHERE factory_id = :factory_id AND type = 'split_brain'
                      ORDER BY id DESC LIMIT 1), false)
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

# Such a name was drawn anew at each start, so what is silent now never comes back (F-13).
FORGET_RANDOM = text("""
    DELETE FROM corporation.factories
     WHERE source = 'gateway_startup' AND factory_id ~ '^factory-[0-9a-f]{8}$' AND factory_id <> :own_id
       AND last_seen_at < now() - CAST(:silent_seconds AS double precision) * interval '1 second'
""")

BY_GATEWAY: Final = "gateway_startup"
"""The source of a beat that HQ's own API writes: it says nothing of workers (F-12)."""
ALARM_SECONDS: Final = 600.0
"""How often people are told of one and the same split brain."""
AWAY: Final = ("stale", "offline")


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
    instance_id: str | None = None
    beat_number: int | None = None
    interval_seconds: float | None = None
    workers: Sequence[WorkerSign] | None = None
    remote_host: str | None = None
    """Where the beat came from; it is added to metadata that do not say it themselves (H-17)."""
    echo: str | None = None
    """The UUID of the last echo that its consumer heard."""


@dataclass(frozen=True)
class Heard:
    """What became of a beat, the factory's record in the wire shape of contract fleet §3, and what HQ wants of it."""

    verdict: Verdict
    registration: dict[str, Any]
    paused: bool
    draining: bool
    desired_version: dict[str, str] | None


def record_beat(connection: Connection, beat: Beat) -> dict[str, Any]:
    """As `hear`, with the documented thresholds; only the record is returned."""
    return hear(connection, beat).registration


def hear(connection: Connection, beat: Beat, thresholds: Thresholds = Thresholds()) -> Heard:  # noqa: B008 - frozen
    """The factory is known and was heard of now, also if it was away; the dispatcher is woken if it has to look again.

    A beat that came too late, or from an instance that may not speak now, changes nothing of what was said before.
    """
    values = _values(beat)
    before = connection.execute(READ, values).first()
    if before is None:
        first = connection.execute(FIRST, values).first()
        if first is not None:
            note_event(connection, beat.factory_id, "online", detail={"first": True})
            wake(connection, DISPATCH)
            return _heard("taken", first, thresholds)
        # Somebody else's first beat came in between; now it is there, and we wait for it.
        before = connection.execute(READ, values).one()
    verdict = judge_instance(_holder(before), beat.instance_id, beat.beat_number)
    if verdict == "split_brain":
        _refuse(connection, beat.factory_id, str(beat.instance_id))
    if verdict != "taken":
        return _heard(verdict, before, thresholds, before.silent_seconds)
    return _heard("taken", _again(connection, beat, before, values, thresholds), thresholds)


def workers_heard_lately(connection: Connection, factory_id: str, seconds: float) -> bool:
    """Whether a worker of this factory beat within `seconds`: what its API says for it does not count."""
    return bool(connection.execute(WORKERS_HEARD, {"factory_id": factory_id, "seconds": seconds}).scalar_one())


def heard_lately(connection: Connection, seconds: float) -> bool:
    """Whether HQ's API took any beat within `seconds`: if not, it is HQ that is deaf, and no factory is to blame."""
    return bool(connection.execute(HEARD_LATELY, {"seconds": seconds}).scalar_one())


def forget_random_ids(connection: Connection, own_id: str, silent_seconds: float) -> int:
    """HQ's own earlier ids that were drawn at random are gone if silent for so long; how many is returned (F-13)."""
    values = {"own_id": own_id, "silent_seconds": silent_seconds}
    return connection.execute(FORGET_RANDOM, values).rowcount


def record_of(row: Row[Any], status: str) -> dict[str, Any]:
    """The record of contract fleet §5 for a factory's row, under this status."""
    return {
        "factory_id": row.factory_id,
        "factory_role": row.factory_role,
        "deployment_profile": row.deployment_profile,
        "source": row.source,
        "registration_status": status,
        "heartbeat_latency_ms": row.heartbeat_latency_ms,
        "capabilities": row.capabilities,
        "metadata": row.metadata,
        "first_seen_at": iso(row.first_seen_at),
        "last_seen_at": iso(row.last_seen_at),
        "updated_at": iso(row.updated_at),
        "paused": row.paused,
    }


def _again(
    connection: Connection, beat: Beat, before: Row[Any], values: Mapping[str, Any], thresholds: Thresholds
) -> Row[Any]:
    said = beat.registration_status
    judged = judge_status(said, 0.0, before.paused, thresholds, draining=before.draining)
    metadata = _json(_metadata(beat, before.metadata))
    after = connection.execute(AGAIN, {**values, "metadata": metadata, "judged_status": judged}).one()
    _note_coming_and_going(connection, beat, before)
    challenged = before.split_brain_at is not None and before.split_brain_at > before.last_seen_at
    if challenged and beat.instance_id is not None and beat.instance_id == before.instance_id:
        _alarm(connection, beat.factory_id, str(before.split_brain_with), str(before.instance_id))
    if before.answers_echo:
        hear_echo(connection, beat.factory_id, str(beat.echo))
    if beat.workers is not None:
        _note_restarts(connection, beat.factory_id, beat.workers, before.workers)
    if _matters(before, after) or before.silent_seconds > thresholds.stale_seconds:
        wake(connection, DISPATCH)
    return after


def _note_coming_and_going(connection: Connection, beat: Beat, before: Row[Any]) -> None:
    """Its history says that it is back, or that it took its leave; a leave that is told again is no news.

    Who is told to stop while missions run may be killed before it can say goodbye: its leave begins with its slots.
    """
    left, left_slots = before.registration_status == "offline", _gave_up_slots(before, before)
    if beat.registration_status == "offline" or _gave_up_slots(beat, before):
        if not (left or left_slots):
            note_event(connection, beat.factory_id, "stopped")
        if not left:
            wake(connection, RECALL)
    elif left or left_slots or before.judged_status is None or before.judged_status in AWAY:
        note_event(connection, beat.factory_id, "online", detail=_absence(before))


def _gave_up_slots(said: Beat | Row[Any], before: Row[Any]) -> bool:
    """Whether all its mission workers are on their way out (F-23), which nobody at HQ has asked for."""
    return said.registration_status == "draining" and said.slots == 0 and not before.draining


def _absence(before: Row[Any]) -> dict[str, Any]:
    """From what a factory came back; one that joined and was never heard of has not been away."""
    if before.silent_seconds > NEVER_SECONDS:
        return {"first": True}
    return {"was": before.judged_status, "silent_seconds": round(before.silent_seconds)}


def _matters(before: Row[Any], after: Row[Any]) -> bool:
    """Whether routing could now decide otherwise than before."""
    return (before.registration_status, before.slots, before.capabilities, before.queues, before.judged_status) != (
        after.registration_status,
        after.slots,
        after.capabilities,
        after.queues,
        after.judged_status,
    )


def _note_restarts(connection: Connection, factory_id: str, workers: Sequence[WorkerSign], stored: Any) -> None:
    """Who stands still since this beat goes into the factory's history; who did before is in it."""
    if not (dead := dead_workers(workers)):
        return
    known = dead_workers([WorkerSign.from_stored(one) for one in stored])
    if fresh := [name for name in dead if name not in known]:
        note_event(connection, factory_id, "restart_asked", detail={"workers": fresh})


def _refuse(connection: Connection, factory_id: str, instance_id: str) -> None:
    """The factory's row says who else wants to be it. Whether there are two shows when the first is heard again."""
    connection.execute(REFUSED, {"factory_id": factory_id, "instance_id": instance_id})


def _alarm(connection: Connection, factory_id: str, instance_id: str, holder: str) -> None:
    """Both are heard of, so it is no restart: people hear of it, but not with every beat."""
    if connection.execute(ALARMED, {"factory_id": factory_id, "quiet": ALARM_SECONDS}).scalar_one():
        return
    detail = {"instance_id": instance_id, "holder": holder}
    note_event(connection, factory_id, "split_brain", detail=detail)
    message = (
        "A second machine, or a copy of its state folder, beats under this name. It is refused while the first one is "
        "heard of. Stop one of the two, or let it join again under a name of its own."
    )
    title = f"Two instances claim to be {factory_id}"
    notify(connection, "split_brain", title, message, {"factory_id": factory_id, **detail})


def _holder(row: Row[Any]) -> Holder:
    silent = row.workers_silent_seconds
    return Holder(
        instance_id=row.instance_id,
        beat_number=row.beat_number,
        silent_seconds=silent if silent is not None else row.silent_seconds,
        interval_seconds=row.interval_seconds,
        gone=row.registration_status == "offline",
    )


def _heard(verdict: Verdict, row: Row[Any], thresholds: Thresholds, silent_seconds: float = 0.0) -> Heard:
    status = judge_status(row.registration_status, silent_seconds, row.paused, thresholds, draining=row.draining)
    desired = {"commit": row.desired_commit, "branch": row.desired_branch} if row.desired_commit else None
    return Heard(verdict, record_of(row, status), row.paused, row.draining, desired)


def _values(beat: Beat) -> dict[str, Any]:
    return {
        "factory_id": beat.factory_id,
        "source": beat.source,
        "factory_role": beat.factory_role,
        "deployment_profile": beat.deployment_profile,
        "registration_status": beat.registration_status,
        "heartbeat_latency_ms": beat.heartbeat_latency_ms,
        "capabilities": _json(list(beat.capabilities) if beat.capabilities is not None else None),
        "known_labels": _json(_known_labels(beat)),
        "metadata": _json(_metadata(beat, {})),
        "slots": beat.slots,
        "queues": _json(list(beat.queues) if beat.queues is not None else None),
        "version": beat.version,
        "workers": _json([one.stored() for one in beat.workers] if beat.workers is not None else None),
        "instance_id": beat.instance_id,
        "beat_number": beat.beat_number,
        "interval_seconds": beat.interval_seconds,
        "echo": beat.echo,
        "by_workers": beat.source != BY_GATEWAY,
    }


def _metadata(beat: Beat, stored: Mapping[str, Any]) -> dict[str, Any] | None:
    """What the beat says or else what is `stored`, with where it came from; None when that is what is stored."""
    told = stored if beat.metadata is None else beat.metadata
    if beat.remote_host is None or "remote_host" in told:
        return None if beat.metadata is None else dict(told)
    return {"remote_host": beat.remote_host, **told}


def _known_labels(beat: Beat) -> list[str] | None:
    """What its mission workers can run, as far as any lives to say so; None while none does: their last word stays."""
    if beat.capabilities is None:
        return None
    earned = earned_among(beat.capabilities)
    return earned if earned or (beat.slots or 0) > 0 else None


def _json(value: Any) -> str | None:
    return None if value is None else json.dumps(value)

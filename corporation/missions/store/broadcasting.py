"""Broadcasts: one child for each live factory, and the end of the whole when every child has ended (S-25)."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, text

from corporation.envelope import MissionEnvelope, body_digest, wire
from corporation.factories.staleness import Thresholds, judge_status
from corporation.missions.broadcast import (
    Broadcast,
    Child,
    Listener,
    addressees,
    can_be_named,
    child_of,
    end_of,
    names_taken,
    names_too_long,
    nobody_lives,
)
from corporation.missions.finish import Finish
from corporation.missions.orders import lock_targets, obey_spread, order_in
from corporation.missions.store import submitting
from corporation.missions.store.dispatching import take_dispatch_lock
from corporation.missions.store.ordering import WaitingOrder
from corporation.strict_json import dump

# Each of the two searches below names the condition of the index `missions_broadcast` to the letter: it is asked all
# the time, and a million waiting missions must not make it slow. No other kind may begin with `system:`.
FIND_UNSPREAD = text("""
    SELECT id AS mission_id, job_id, idempotency_key, mission_kind, requested_kind, source, priority, timeout_seconds,
           max_retries, attempts_total, attempts_before, envelope,
           CAST(extract(epoch FROM deadline_at - now()) AS double precision) AS seconds_left
      FROM corporation.missions
     WHERE state = 'waiting' AND target_factory_id IS NULL AND mission_kind LIKE 'system:%'
       AND children IS NULL AND parent_id IS NULL AND (deadline_at IS NULL OR deadline_at > now())
     ORDER BY id LIMIT 1
""")

READ_LISTENERS = text("""
    SELECT factory_id, factory_role, registration_status, paused, draining, access.quarantined_at IS NULL AS is_let_in,
           extract(epoch FROM now() - last_seen_at) AS silent_seconds
      FROM corporation.factories LEFT JOIN corporation.factory_access access USING (factory_id)
""")

MARK_SPREAD = text("""
    WITH spread AS (
      UPDATE corporation.missions
         SET children = :children, state_reason = 'behind_others', updated_at = now(), event_seq = event_seq + 1
       WHERE id = :mission_id AND state = 'waiting' AND attempt = 0 AND children IS NULL
      RETURNING id, event_seq, children
    ), told AS (
      INSERT INTO corporation.mission_events (mission_id, seq, type, detail)
      SELECT id, event_seq, 'routed', json_build_object('children', children) FROM spread
    )
    SELECT count(*) FROM spread
""")

# A parent that somebody holds is left for the next time: whoever holds it may be ending it.
TAKE_DONE = text("""
    SELECT id, job_id, mission_kind, cancel_reason FROM corporation.missions parent
     WHERE state = 'waiting' AND target_factory_id IS NULL AND mission_kind LIKE 'system:%' AND children IS NOT NULL
       AND (CAST(:only AS bigint) IS NULL OR id = :only)
       AND NOT EXISTS (SELECT 1 FROM corporation.missions child
                        WHERE child.parent_id = parent.id AND child.finished_at IS NULL)
     ORDER BY id LIMIT :limit
       FOR NO KEY UPDATE SKIP LOCKED
""")

READ_CHILDREN = text("""
    SELECT parent_id, job_id, target_factory_id, state FROM corporation.missions
     WHERE parent_id = ANY(CAST(:parent_ids AS bigint[]))
""")

END = text("""
    WITH given AS (
      SELECT * FROM unnest(CAST(:mission_ids AS bigint[]), CAST(:states AS text[]), CAST(:results AS text[]),
                           CAST(:errors AS text[])) AS t(mission_id, state, result, error)
    ), ended AS (
      UPDATE corporation.missions m
         SET state = g.state, state_reason = NULL, result = CAST(g.result AS json), error = g.error,
             finished_at = now(), updated_at = now(), event_seq = m.event_seq + 1
        FROM given g
       WHERE m.id = g.mission_id AND m.state = 'waiting' AND m.attempt = 0
      RETURNING m.id, m.event_seq, m.state, m.error
    ), told AS (
      INSERT INTO corporation.mission_events (mission_id, seq, type, detail)
      SELECT id, event_seq, state, json_strip_nulls(json_build_object('error', error)) FROM ended
    )
    SELECT count(*) FROM ended
""")


def spread_one(connection: Connection, thresholds: Thresholds) -> bool:
    """Spread the oldest broadcast that waits for it; whether there was one is returned, since there may be more.

    Each live factory but HQ's own then has a child and is flagged as that says, unless somebody has said something
    newer of it, and the parent waits behind them; or there is no such factory, or others have the children's names,
    and the parent has failed with nothing spread. One broadcast a transaction: children are stored in the order of
    their keys, and none can undo another. Does nothing while a dispatcher of another engine is at it; calling again
    spreads nothing twice.
    """
    if not take_dispatch_lock(connection):
        return False
    row = connection.execute(FIND_UNSPREAD).mappings().first()
    if row is None:
        return False
    parent = Broadcast(**row)
    factory_ids = addressees(read_listeners(connection, thresholds))
    if factory_ids:
        _spread(connection, parent, [child_of(parent, factory_id) for factory_id in factory_ids])
    else:
        _end(connection, [(parent.mission_id, nobody_lives(parent.job_id, parent.mission_kind))])
    return True


def end_broadcasts(connection: Connection, limit: int = 100, *, only: int | None = None) -> int:
    """End up to `limit` broadcasts whose children have all ended, or this one `only`, and return how many it were.

    Two who call this at once end each of them once; calling again does nothing. A child that ended in a transaction
    that is still open is not seen: whoever ends children calls this after the commit.
    """
    parents = connection.execute(TAKE_DONE, {"limit": limit, "only": only}).all()
    if not parents:
        return 0
    children: dict[int, list[Child]] = {row.id: [] for row in parents}
    for row in connection.execute(READ_CHILDREN, {"parent_ids": list(children)}):
        children[row.parent_id].append(Child(row.job_id, row.target_factory_id, row.state))
    ends = [(row.id, end_of(row.job_id, row.mission_kind, children[row.id], row.cancel_reason)) for row in parents]
    return _end(connection, ends)


def read_listeners(connection: Connection, thresholds: Thresholds) -> list[Listener]:
    """Every factory that may be given orders, judged by when it was last heard of; none that is quarantined."""
    return [
        Listener(
            row.factory_id,
            row.factory_role,
            judge_status(
                row.registration_status, float(row.silent_seconds), row.paused, thresholds, draining=row.draining
            ),
        )
        for row in connection.execute(READ_LISTENERS)
        if row.is_let_in
    ]


def _spread(connection: Connection, parent: Broadcast, children: Sequence[MissionEnvelope]) -> None:
    """All of `children` and the parent's mark, or none: then the parent fails, unless it is no longer there to fail."""
    if not can_be_named(children):
        _end(connection, [(parent.mission_id, names_too_long(parent.job_id, parent.mission_kind))])
        return
    lock_targets(connection, [order_in(parent.mission_kind, one.payload.context, parent.source) for one in children])
    # The children first. Storing them may wait for somebody who is storing one of these names, and who may then want
    # the parent to note a duplicate: holding it meanwhile could close a ring of waits.
    attempt = connection.begin_nested()
    stored = submitting.insert(connection, [_row(parent, child) for child in children])
    if len(stored) == len(children) and _mark(connection, parent.mission_id, len(children)):
        attempt.commit()
        order = WaitingOrder(parent.mission_id, parent.mission_kind, parent.source, parent.envelope)
        obey_spread(connection, order, [child.payload.context["target_factory_id"] for child in children])
        return
    attempt.rollback()
    if taken := _taken(connection, children):
        _end(connection, [(parent.mission_id, names_taken(parent.job_id, parent.mission_kind, taken))])


def _mark(connection: Connection, mission_id: int, children: int) -> bool:
    return bool(connection.execute(MARK_SPREAD, {"mission_id": mission_id, "children": children}).scalar_one())


def _taken(connection: Connection, children: Sequence[MissionEnvelope]) -> list[str]:
    """The job_ids and keys of `children` that other missions have, also as an alias."""
    job_ids = {child.job_id for child in children}
    keys = {child.idempotency_key for child in children}
    known = submitting.find_known(connection, list(job_ids), list(keys))
    names = {one.alias or one.job_id for one in known}
    return sorted((job_ids & names) | (keys & {one.idempotency_key for one in known}))


def _row(parent: Broadcast, child: MissionEnvelope) -> dict[str, Any]:
    """The child's row for `submitting.insert`: the parent's but for its names, its target and where it comes from."""
    return {
        "job_id": child.job_id,
        "idempotency_key": child.idempotency_key,
        "mission_kind": parent.mission_kind,
        "requested_kind": parent.requested_kind,
        "source": parent.source,
        "target": child.payload.context["target_factory_id"],
        "priority": parent.priority,
        "timeout_seconds": parent.timeout_seconds,
        "max_retries": parent.max_retries,
        "attempts_total": parent.attempts_total,
        "attempts_before": parent.attempts_before,
        "envelope": dump(wire(child)),
        "body_digest": body_digest(child),
        "ttl_seconds": parent.seconds_left,
        "stream": None,
        "entry_id": None,
        "raw": None,
        "told_job_id": None,
        "parent_id": parent.mission_id,
        "replay_of": None,
    }


def _end(connection: Connection, ends: Sequence[tuple[int, Finish]]) -> int:
    """End those of the missions that still wait, each with its one final event; how many it were is returned."""
    values = {
        "mission_ids": [mission_id for mission_id, _ in ends],
        "states": [str(finish.state) for _, finish in ends],
        "results": [dump(dict(finish.result)) for _, finish in ends],
        "errors": [finish.error for _, finish in ends],
    }
    return int(connection.execute(END, values).scalar_one())

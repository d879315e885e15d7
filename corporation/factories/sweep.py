"""The sweep over the fleet: who fell silent is noticed, people hear of it, and a pause whose time is over ends.

Statuses are judged whenever they are read as well (`judging.py`): the sweep only writes down that they changed.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, Row, text

from corporation.factories.judging import JUDGED, SILENT
from corporation.factories.signs_of_life import NEVER_SECONDS, span
from corporation.factories.staleness import Thresholds
from corporation.notifying import notify
from corporation.strict_json import dump
from corporation.wakeups import DISPATCH, RECALL, wake

SWEEP_LOCK: Final = 7_203_114_901_561
"""One sweep at a time: two would tell people twice."""
AUTOMATIC: Final = "automatic end"
"""Who ended a pause that had an end."""
MOST_SINGLE: Final = 20
"""From here on, those that went offline at once are one notification: it is HQ or the network that was away."""
MOST_HELD_SHOWN: Final = 20

TRY_LOCK = text("SELECT pg_try_advisory_xact_lock(:lock)")

# Rows that somebody holds are left to the next sweep: who beats this moment is not silent, and waiting while holding
# others could close a ring of waits.
END_PAUSES = text("""
    WITH over AS (
      SELECT factory_id, paused, draining, pause_note FROM corporation.factories
       WHERE paused_until <= now() ORDER BY factory_id FOR NO KEY UPDATE SKIP LOCKED
    ), ended AS (
      UPDATE corporation.factories f
         SET paused = false, draining = false, paused_at = NULL, paused_by = NULL, pause_note = NULL,
             paused_until = NULL, updated_at = now()
        FROM over o WHERE f.factory_id = o.factory_id
      RETURNING f.factory_id, o.draining AS drained, o.pause_note AS note
    )
    INSERT INTO corporation.factory_events (factory_id, type, by, detail)
    SELECT factory_id, 'resumed', :by,
           json_strip_nulls(json_build_object('was', CASE WHEN drained THEN 'draining' ELSE 'paused' END, 'note', note))
      FROM ended ORDER BY factory_id RETURNING factory_id
""")

JUDGE = text(f"""
    WITH changed AS (
      SELECT f.factory_id, f.judged_status AS was, {JUDGED} AS status, {SILENT} AS silent_seconds
        FROM corporation.factories f WHERE {JUDGED} IS DISTINCT FROM f.judged_status
       ORDER BY f.factory_id FOR NO KEY UPDATE SKIP LOCKED
    )
    UPDATE corporation.factories f SET judged_status = c.status, judged_at = now()
      FROM changed c WHERE f.factory_id = c.factory_id
    RETURNING f.factory_id, c.was, c.status, c.silent_seconds
""")  # noqa: S608 - put in are the two expressions of judging.py

NOTE = text("""
    INSERT INTO corporation.factory_events (factory_id, type, detail)
    SELECT * FROM unnest(CAST(:factory_ids AS text[]), CAST(:types AS text[]), CAST(:details AS json[]))
""")

HELD = text("""
    SELECT a.factory_id, count(*) AS n,
           (array_agg(m.job_id ORDER BY a.lease_expires_at, m.id))[1 : CAST(:shown AS integer)] AS job_ids
      FROM corporation.attempts a JOIN corporation.missions m ON m.id = a.mission_id
     WHERE a.factory_id = ANY(CAST(:factory_ids AS text[])) AND a.state IN ('queued', 'claimed', 'running')
     GROUP BY a.factory_id
""")


@dataclass(frozen=True)
class StatusChange:
    """A factory that is called otherwise than at the last sweep; `was` is None when nobody judged it before."""

    factory_id: str
    was: str | None
    status: str
    silent_seconds: float

    @property
    def fell_silent(self) -> bool:
        """Whether people should hear of it: it was there, and is offline now."""
        return self.status == "offline" and self.was is not None and self.silent_seconds < NEVER_SECONDS


def sweep(connection: Connection, thresholds: Thresholds) -> list[StatusChange]:
    """Every factory is called what its silence says, with an event and a notification where it matters.

    Only a beat moves `last_seen_at` (F-14). Safe to call twice, and at once: the second time nothing is left to do.
    """
    if not connection.execute(TRY_LOCK, {"lock": SWEEP_LOCK}).scalar_one():
        return []
    resumed = connection.execute(END_PAUSES, {"by": AUTOMATIC}).all()
    limits = {"stale": thresholds.stale_seconds, "offline": thresholds.offline_seconds}
    changes = sorted(map(_change, connection.execute(JUDGE, limits)), key=lambda one: one.factory_id)
    _note(connection, changes)
    _tell(connection, [one for one in changes if one.fell_silent])
    if changes or resumed:
        wake(connection, DISPATCH)
    if any(one.status == "offline" for one in changes):
        wake(connection, RECALL)
    return changes


def _change(row: Row[Any]) -> StatusChange:
    return StatusChange(row.factory_id, row.was, row.status, row.silent_seconds)


def _note(connection: Connection, changes: Sequence[StatusChange]) -> None:
    """Silence goes into each factory's history; pauses are in it already, by whoever paused it."""
    silent = [one for one in changes if one.status in ("stale", "offline") and one.silent_seconds < NEVER_SECONDS]
    if silent:
        values = {
            "factory_ids": [one.factory_id for one in silent],
            "types": [one.status for one in silent],
            "details": [dump({"was": one.was, "silent_seconds": round(one.silent_seconds)}) for one in silent],
        }
        connection.execute(NOTE, values)


def _tell(connection: Connection, gone: Sequence[StatusChange]) -> None:
    if not gone:
        return
    values = {"factory_ids": [one.factory_id for one in gone], "shown": MOST_HELD_SHOWN}
    held = {row.factory_id: row for row in connection.execute(HELD, values)}
    if len(gone) > MOST_SINGLE:
        _tell_of_all(connection, gone, sum(row.n for row in held.values()))
        return
    for one in gone:
        row = held.get(one.factory_id)
        holds, job_ids = (row.n, list(row.job_ids)) if row else (0, list[str]())
        metadata = {"factory_id": one.factory_id, "held": holds, "job_ids": job_ids}
        title = f"{one.factory_id} is offline"
        notify(connection, "factory_offline", title, f"{_silence(one)} {_holding(holds, job_ids)}", metadata)


def _tell_of_all(connection: Connection, gone: Sequence[StatusChange], held: int) -> None:
    names = [one.factory_id for one in gone]
    message = (
        f"They fell silent together, so look at headquarters and its network first. {_holding(held, ())} "
        f"The first of them: {', '.join(names[:MOST_SINGLE])}."
    )
    metadata = {"factory_ids": names[:1000], "factories": len(names), "held": held}
    notify(connection, "factory_offline", f"{len(names)} factories are offline", message, metadata)


def _silence(one: StatusChange) -> str:
    return f"It was last heard of {span(one.silent_seconds)} ago."


def _holding(count: int, job_ids: Sequence[str]) -> str:
    if not count:
        return "It held no mission."
    what = "1 mission" if count == 1 else f"{count} missions"
    named = f": {', '.join(job_ids)}" if job_ids else ""
    more = " and others" if job_ids and len(job_ids) < count else ""
    return f"Held there: {what}{named}{more}; each goes on elsewhere when its lease ends."

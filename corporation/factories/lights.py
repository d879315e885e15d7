"""The echo through a factory's own queue: asked for every five minutes, heard with a beat.

What the answers mean is judged in `signs_of_life.py`.
"""

from collections.abc import Callable
from typing import Final

from sqlalchemy import Connection, text

from corporation.factories.staleness import Thresholds
from corporation.wakeups import SEND, wake

ECHO_SECONDS: Final = 300.0
"""How often each factory is asked."""

# Of those that take messages: who is paused, drains or asks over HTTPS leaves its queue alone.
DUE = text("""
    SELECT f.factory_id FROM corporation.factories f LEFT JOIN corporation.factory_echoes e USING (factory_id)
     WHERE f.registration_status = 'online' AND NOT f.paused AND NOT f.draining AND f.slots > 0
       AND f.last_seen_at > now() - CAST(:stale AS double precision) * interval '1 second'
       AND CAST(f.capabilities AS jsonb) ? 'delegation_redis'
       AND NOT CAST(f.capabilities AS jsonb) ? 'transport:http'
       AND (e.asked_at IS NULL OR e.asked_at <= now() - CAST(:every AS double precision) * interval '1 second')
     ORDER BY f.factory_id
""")

# When the last one was heard is kept, so that the light does not go out while the next one is on its way.
ASK = text("""
    WITH given AS (
      SELECT * FROM unnest(CAST(:factory_ids AS text[]), CAST(:echo_ids AS uuid[])) AS t(factory_id, echo_id)
    ), asked AS (
      INSERT INTO corporation.factory_echoes AS e (factory_id, echo_id)
      SELECT factory_id, echo_id FROM given ORDER BY factory_id
      ON CONFLICT (factory_id) DO UPDATE SET echo_id = excluded.echo_id, asked_at = now()
      RETURNING factory_id
    )
    INSERT INTO corporation.outbox (topic, factory_id) SELECT 'echo', factory_id FROM asked ORDER BY factory_id
        ON CONFLICT DO NOTHING
""")

HEARD = text("""
    UPDATE corporation.factory_echoes SET heard_at = now()
     WHERE factory_id = :factory_id AND echo_id = CAST(:echo_id AS uuid) AND (heard_at IS NULL OR heard_at < asked_at)
""")


def ask_echoes(connection: Connection, new_id: Callable[[], str], thresholds: Thresholds = Thresholds()) -> int:  # noqa: B008
    """Each online factory that takes messages, and was not asked for 300 s, is asked once; how many is returned.

    Safe to call twice: the second time nobody is due.
    """
    values = {"stale": thresholds.stale_seconds, "every": ECHO_SECONDS}
    due = list(connection.scalars(DUE, values))
    if due:
        connection.execute(ASK, {"factory_ids": due, "echo_ids": [new_id() for _ in due]})
        wake(connection, SEND)
    return len(due)


def hear_echo(connection: Connection, factory_id: str, echo_id: str) -> bool:
    """The factory's consumer has answered now, if this is the echo it was last asked for; safe to call twice."""
    return connection.execute(HEARD, {"factory_id": factory_id, "echo_id": echo_id}).rowcount > 0

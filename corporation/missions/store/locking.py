"""Several missions locked at once, in the one order that everybody keeps, so that nobody waits in a ring."""

from collections.abc import Sequence

from sqlalchemy import Connection, text

LOCK = text("""
    SELECT id FROM corporation.missions WHERE id = ANY(CAST(:mission_ids AS bigint[])) ORDER BY id FOR NO KEY UPDATE
""")


def lock_missions(connection: Connection, mission_ids: Sequence[int]) -> None:
    """These missions are changed by nobody else before the commit; doing it again waits for nothing."""
    connection.execute(LOCK, {"mission_ids": list(mission_ids)})

"""A mission read for another run, and a name that nobody has."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, text

from corporation.missions.store.naming import NAMED

# Locked, so that two replays at once get two numbers.
TAKE = text(f"""
    SELECT id, job_id, idempotency_key, state, envelope FROM corporation.missions WHERE id = ({NAMED})
       FOR NO KEY UPDATE
""")  # noqa: S608 - the only thing put in is how a mission is looked up

# Other missions may have such names too, whoever made them.
TAKEN = text("""
    SELECT job_id AS name FROM corporation.missions WHERE job_id = ANY(CAST(:job_ids AS text[]))
    UNION ALL SELECT job_id FROM corporation.mission_aliases WHERE job_id = ANY(CAST(:job_ids AS text[]))
    UNION ALL SELECT 'k' || idempotency_key FROM corporation.missions
               WHERE idempotency_key = ANY(CAST(:keys AS text[]))
""")

COUNT = text("SELECT count(*) FROM corporation.missions WHERE replay_of = :mission_id")

NAMES_AT_ONCE = 20


@dataclass(frozen=True)
class Repeatable:
    """A mission as it can be asked for again."""

    mission_id: int
    job_id: str
    idempotency_key: str
    state: str
    envelope: Mapping[str, Any]


def take(connection: Connection, job_id: str) -> Repeatable | None:
    """The mission that `job_id` names, also as an alias, locked until the commit; None when there is none."""
    row = connection.execute(TAKE, {"job_id": job_id}).first()
    return Repeatable(row.id, row.job_id, row.idempotency_key, row.state, row.envelope) if row else None


def count(connection: Connection, mission_id: int) -> int:
    """How often this mission was asked for again."""
    return int(connection.execute(COUNT, {"mission_id": mission_id}).scalar_one())


def free_suffix(connection: Connection, job_id: str, key: str, number: int = 1) -> str:
    """`-r<n>` with the first n from `number` on that makes both a job_id and a key that nobody has."""
    while True:
        suffixes = [f"-r{n}" for n in range(number, number + NAMES_AT_ONCE)]
        values = {"job_ids": [job_id + suffix for suffix in suffixes], "keys": [key + suffix for suffix in suffixes]}
        taken = {row.name for row in connection.execute(TAKEN, values)}
        for suffix in suffixes:
            if job_id + suffix not in taken and f"k{key}{suffix}" not in taken:
                return suffix
        number += NAMES_AT_ONCE

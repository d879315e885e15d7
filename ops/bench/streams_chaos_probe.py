"""How far the streams and the ledger are, while they are under fire and at the end."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Self

import psycopg

from ops.bench.streams_chaos_clients import GROUP, LETTERS, MISSIONS, RESULTS, connect
from ops.bench.streams_chaos_history import EntryId, History, Recorded, entry_id

RECORDED = """
    SELECT m.job_id, m.state, m.event_seq, count(*) AS events, max(e.seq) AS last,
           count(*) FILTER (WHERE e.type = 'imported') AS imported,
           max(e.detail ->> 'entry_id') FILTER (WHERE e.type = 'result_published') AS result_entry,
           max(e.detail ->> 'entry_id') FILTER (WHERE e.type = 'dead_lettered') AS letter_entry,
           array_agg(e.detail ->> 'entry_id') FILTER (WHERE e.type = 'duplicate') AS duplicates
      FROM corporation.missions m JOIN corporation.mission_events e ON e.mission_id = m.id GROUP BY m.id
"""
Step = tuple[Callable[[], int], int]
"""How far a step is, and how far it has to go."""


@dataclass
class Probe:
    """Looks and changes nothing; raises what redis-py raises while Redis is away."""

    redis_url: str
    database_url: str
    _redis: Any = field(init=False)
    _ledger: "psycopg.Connection[Any]" = field(init=False)

    def __enter__(self) -> Self:
        self._redis = connect(self.redis_url)
        self._ledger = psycopg.connect(self.database_url, autocommit=True)
        return self

    def __exit__(self, *_: object) -> None:
        self._ledger.close()
        self._redis.close()

    def steps(self, jobs: int) -> dict[str, Step]:
        """The steps on the way of `jobs` missions, of which each tenth fails."""
        return {
            "read": (lambda: self._group()[0], jobs),
            "imported": (lambda: self._count("SELECT count(*) FROM corporation.missions"), jobs),
            "acknowledged": (lambda: self._group()[0] - self._group()[1], jobs),
            "told": (lambda: self._added(RESULTS), jobs),
            "marked": (lambda: self._count("SELECT count(result_published_at) FROM corporation.missions"), jobs),
            "buried": (lambda: self._added(LETTERS), jobs // 10),
        }

    def loaded(self) -> bool:
        """Whether Redis has read its file; until then it answers, but refuses."""
        return bool(self._redis.ping())

    def last_before(self, stream: str, at_ms: int) -> EntryId:
        """The newest entry that is not younger, or (0, 0)."""
        entries = self._redis.xrevrange(stream, str(at_ms), "-", count=1)
        return entry_id(entries[0][0].decode()) if entries else (0, 0)

    def is_done(self) -> bool:
        """Whether nothing is left to read, to acknowledge, to end or to tell."""
        unended = "SELECT count(*) FROM corporation.missions WHERE finished_at IS NULL"
        return not (self._group()[1] or self._unread() or self._untold() or self._count(unended))

    def write_down(self, history: History) -> None:
        """What the ledger and the group say now stands in `history` afterwards."""
        rows = self._ledger.execute(RECORDED)
        for job, state, seq, events, last, imported, result, letter, duplicates in rows:
            history.missions[job] = Recorded(
                state,
                gap=not seq == events == last,
                imported=imported,
                result_entry=entry_id(result) if result else None,
                letter_entry=entry_id(letter) if letter else None,
                duplicates=tuple(duplicates or ()),
            )
        history.pending, history.unread, history.untold = self._group()[1], self._unread(), self._untold()
        history.malformed = self._count(
            "SELECT count(*) FROM corporation.dead_letters WHERE cause IN ('malformed', 'conflict')"
        )

    def _group(self) -> tuple[int, int, str]:
        """How many entries the group was given, how many of them it has not acknowledged, and the last one."""
        groups = self._redis.xinfo_groups(MISSIONS) if self._redis.exists(MISSIONS) else []
        for one in groups:
            if one["name"] == GROUP.encode():
                return int(one["entries-read"] or 0), int(one["pending"]), one["last-delivered-id"].decode()
        return 0, 0, "0-0"

    def _unread(self) -> int:
        return len(self._redis.xrange(MISSIONS, f"({self._group()[2]}", "+"))

    def _added(self, stream: str) -> int:
        return int(self._redis.xinfo_stream(stream)["entries-added"]) if self._redis.exists(stream) else 0

    def _untold(self) -> int:
        return self._count("SELECT count(*) FROM corporation.stream_outbox")

    def _count(self, statement: str) -> int:
        row = self._ledger.execute(statement.encode()).fetchone()
        return int(row[0]) if row else 0

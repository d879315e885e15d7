"""How HQ's loops show that they go round: each process tells the ledger, for who looks from outside."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection, Engine, text

from corporation import clock
from corporation.db import transaction
from corporation.loops.forever import Running

TOLD_EVERY_SECONDS: Final = 10.0
LONGEST_ERROR: Final = 200

# Of two processes that run the same loop, the one that did a round last counts.
TELL = text("""
    INSERT INTO corporation.loop_ticks AS t (loop, good_at, every_seconds, error)
    SELECT loop, now() - ago * interval '1 second', every_seconds, error
      FROM unnest(CAST(:loops AS text[]), CAST(:agos AS double precision[]), CAST(:everies AS double precision[]),
                  CAST(:errors AS text[])) AS told (loop, ago, every_seconds, error)
     ORDER BY loop
        ON CONFLICT (loop) DO UPDATE
       SET told_at = now(), good_at = greatest(t.good_at, excluded.good_at), every_seconds = excluded.every_seconds,
           error = excluded.error
""")

READ = text("""
    SELECT loop, every_seconds, error,
           CAST(extract(epoch FROM now() - told_at) AS double precision) AS told_seconds,
           CAST(extract(epoch FROM now() - good_at) AS double precision) AS good_seconds
      FROM corporation.loop_ticks ORDER BY loop
""")


@dataclass(frozen=True)
class LoopSign:
    """What the ledger knows of a loop: how long ago a process spoke of it, and how long ago a round of it went well."""

    loop: str
    every_seconds: float
    """How long it rests between two rounds at most."""
    told_seconds: float
    good_seconds: float
    error: str
    """The class of the error that its last round ended in; empty when that went well."""


@dataclass
class Teller:
    """Tells of `others`; as long as it does, a loop that is not told of as good has failed or stands still."""

    ledger: Engine
    others: Sequence[Running]
    name: str = "teller"
    channels: tuple[str, ...] = ()
    sweep_seconds: float = TOLD_EVERY_SECONDS

    def tick(self) -> bool:
        """One row per loop is up to date."""
        now = clock.monotonic()
        values = {
            "loops": [one.loop.name for one in self.others],
            "agos": [now - one.good_at for one in self.others],
            "everies": [one.loop.sweep_seconds for one in self.others],
            "errors": [one.error[:LONGEST_ERROR] for one in self.others],
        }
        with transaction(self.ledger) as connection:
            connection.execute(TELL, values)
        return False


def read_ticks(connection: Connection) -> list[LoopSign]:
    """What was told last of every loop that ever ran on this ledger, by its clock."""
    return [
        LoopSign(row.loop, row.every_seconds, row.told_seconds, row.good_seconds, row.error)
        for row in connection.execute(READ)
    ]

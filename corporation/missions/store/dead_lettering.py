"""Entries that cannot become missions, kept as dead letters (contract streams S-37, S-38)."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, text

# The entry decides: read again after a crash, it makes no second letter.
KEEP = text("""
    INSERT INTO corporation.dead_letters (mission_id, job_id, cause, code, failure_error, retry_count, raw, raw_size,
                                          raw_sha256, stream, stream_entry_id)
    SELECT * FROM unnest(
      CAST(:mission_ids AS bigint[]), CAST(:job_ids AS text[]), CAST(:causes AS text[]), CAST(:codes AS text[]),
      CAST(:failure_errors AS text[]), CAST(:retry_counts AS bigint[]), CAST(:raws AS bytea[]),
      CAST(:raw_sizes AS bigint[]), CAST(:raw_sha256s AS bytea[]), CAST(:streams AS text[]),
      CAST(:entry_ids AS text[]))
        ON CONFLICT DO NOTHING
""")


@dataclass(frozen=True)
class Letter:
    """A dead letter of an entry: `malformed`, or in `conflict` with the mission `mission_id`."""

    stream: str
    entry_id: str
    job_id: str
    code: str
    failure_error: str
    raw: bytes | None
    """The entry's envelope, or its beginning where `raw_sha256` is set; None when there was none."""
    raw_size: int | None = None
    raw_sha256: bytes | None = None
    mission_id: int | None = None
    retry_count: int = 0

    @property
    def cause(self) -> str:
        """The cause of contract http §9."""
        return "malformed" if self.mission_id is None else "conflict"


def keep(connection: Connection, letters: Sequence[Letter]) -> int:
    """Keep those of `letters` whose entries have none yet, and return how many; a trigger has them told (S-38)."""
    if not letters:
        return 0
    values = {
        "mission_ids": [one.mission_id for one in letters],
        "job_ids": [one.job_id for one in letters],
        "causes": [one.cause for one in letters],
        "codes": [one.code for one in letters],
        "failure_errors": [one.failure_error for one in letters],
        "retry_counts": [one.retry_count for one in letters],
        "raws": [one.raw for one in letters],
        "raw_sizes": [one.raw_size for one in letters],
        "raw_sha256s": [one.raw_sha256 for one in letters],
        "streams": [one.stream for one in letters],
        "entry_ids": [one.entry_id for one in letters],
    }
    return connection.execute(KEEP, values).rowcount

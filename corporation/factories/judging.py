"""`staleness.judge_status` as SQL, for statements that look at the whole fleet at once; a test compares the two."""

from typing import Final

SILENT: Final = "CAST(extract(epoch FROM now() - f.last_seen_at) AS double precision)"
"""Seconds since the factory `f` was heard of."""

JUDGED: Final = f"""
    CASE WHEN {SILENT} > CAST(:offline AS double precision) THEN 'offline'
         WHEN {SILENT} > CAST(:stale AS double precision) THEN 'stale'
         WHEN f.paused THEN 'paused' WHEN f.draining THEN 'draining' ELSE f.registration_status END
"""
"""The status of the factory `f` (contract fleet §5); `:stale` and `:offline` are the thresholds."""

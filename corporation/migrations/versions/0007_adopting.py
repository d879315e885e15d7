"""Adopting a late result: which attempt's it was, and that a success which was adopted was earned there."""

from alembic import op

revision = "0007"
down_revision = "0006"

EVENT_TYPES = (
    *("imported", "published", "duplicate", "conflict", "unknown_kind", "retry_count_ignored", "routed", "waiting"),
    *("queued", "claimed", "started", "progress", "retry_scheduled", "attempt_lost", "late_result"),
    *("cancel_requested", "succeeded", "failed", "timed_out", "cancelled", "dead_lettered", "result_published"),
    "replayed",
)

ADOPTING = """
-- Unique: however many adopt it at once, a late result makes one success.
ALTER TABLE corporation.missions
  ADD COLUMN adopted_from uuid UNIQUE REFERENCES corporation.attempts,
  ADD CONSTRAINT only_a_success_was_adopted CHECK (adopted_from IS NULL OR state = 'succeeded'),
  DROP CONSTRAINT success_was_earned,
  ADD CONSTRAINT success_was_earned CHECK
    (state <> 'succeeded' OR attempt >= 1 OR children IS NOT NULL OR adopted_from IS NOT NULL);

ALTER TABLE corporation.attempts
  ADD CONSTRAINT only_a_late_result_is_adopted CHECK
    (NOT adopted OR (finished_at IS NOT NULL AND coalesce(outcome ->> 'outcome', '') = 'done'));
"""


def upgrade() -> None:
    """Add the column and its rules, and the event `adopted`."""
    op.execute(ADOPTING)
    op.execute(_events(*EVENT_TYPES, "adopted"))


def downgrade() -> None:
    """Remove them; what was adopted stays a success, whose history has a gap where it said so."""
    op.execute("DELETE FROM corporation.mission_events WHERE type = 'adopted'")
    op.execute(_events(*EVENT_TYPES))
    op.execute("ALTER TABLE corporation.attempts DROP CONSTRAINT only_a_late_result_is_adopted")
    op.execute(
        "ALTER TABLE corporation.missions DROP CONSTRAINT success_was_earned, DROP COLUMN adopted_from, "
        "ADD CONSTRAINT success_was_earned CHECK "
        "(state <> 'succeeded' OR attempt >= 1 OR children IS NOT NULL) NOT VALID"
    )


def _events(*types: str) -> str:
    listed = ", ".join(f"'{one}'" for one in types)
    return (
        "ALTER TABLE corporation.mission_events DROP CONSTRAINT mission_events_type_check, "
        f"ADD CONSTRAINT mission_events_type_check CHECK (type IN ({listed}))"
    )

"""Who may speak for a factory: one instance at a time, and none of its beats after a later one; pure.

An instance is one spool on one boot of one machine. Two of them under one name would both take the factory's missions.
"""

from dataclasses import dataclass
from typing import Final, Literal

Verdict = Literal["taken", "older", "split_brain"]
"""`taken`: the beat counts. `older`: a later one of the same instance was heard. `split_brain`: another one speaks."""

DEFAULT_INTERVAL_SECONDS: Final = 60.0
INTERVALS_OF_SILENCE: Final = 2.5
"""A holder that missed two beats in a row, and some, has gone; whoever comes then takes over."""


@dataclass(frozen=True)
class Holder:
    """Who spoke for the factory last; `silent_seconds` since then, by HQ's clock."""

    instance_id: str | None
    beat_number: int | None
    silent_seconds: float
    interval_seconds: float | None
    gone: bool = False
    """Whether it took its leave: its last word was `offline`."""

    @property
    def holds(self) -> bool:
        """Whether nobody else may speak for the factory now."""
        if self.instance_id is None or self.gone:
            return False
        return self.silent_seconds <= INTERVALS_OF_SILENCE * (self.interval_seconds or DEFAULT_INTERVAL_SECONDS)


def judge_instance(holder: Holder, instance_id: str | None, beat_number: int | None) -> Verdict:
    """What becomes of a beat of `instance_id` with this number; who names no instance is in nobody's way.

    Numbers are compared within one instance only. A number that was heard already is older: the beat came twice.
    """
    if instance_id is None:
        return "taken"
    if instance_id != holder.instance_id:
        return "split_brain" if holder.holds else "taken"
    if holder.beat_number is None or beat_number is None:
        return "taken"
    return "older" if beat_number <= holder.beat_number else "taken"

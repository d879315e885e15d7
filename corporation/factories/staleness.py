"""How long a factory was silent decides what it is called (contract fleet §5); pure."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Thresholds:
    """Seconds of silence after which a factory is stale, and then offline (fleet §4)."""

    stale_seconds: float = 300.0
    offline_seconds: float = 900.0


def judge_status(
    said: str, silent_seconds: float, paused: bool, thresholds: Thresholds, *, draining: bool = False
) -> str:
    """The status of a factory that last `said` one and was then silent; the first row of fleet §5 that applies.

    `paused` and `draining` are HQ's own flags; of the two only one can be set.
    """
    if silent_seconds > thresholds.offline_seconds:
        return "offline"
    if silent_seconds > thresholds.stale_seconds:
        return "stale"
    if paused:
        return "paused"
    return "draining" if draining else said

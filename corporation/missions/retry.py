"""How many attempts a mission has, and how long it waits before the next one (contract streams S-27 to S-29)."""

import re
from dataclasses import dataclass

LARGEST_COUNT = 2**53 - 1
"""What a count beyond every number is read as; the ledger can hold it."""

# Possessive on purpose: a hostile text of zeros must not make the search go back, which would take it minutes.
_DIGITS = re.compile(r"\s*+([+-]?)(0*+)([0-9]*+)\s*+")


@dataclass(frozen=True)
class RetryPolicy:
    """The wait before another attempt: `base` seconds, doubled each time, at most `cap`, times 1 ± `jitter`."""

    base_seconds: float = 15.0
    cap_seconds: float = 900.0
    jitter: float = 0.2

    def delay_seconds(self, attempts_used: int, chance: float) -> float:
        """Seconds to wait after `attempts_used` attempts (>= 1); `chance` in [0, 1) is where the jitter falls."""
        # 2^30 already passes any cap; the bound keeps a mission with a million retries from a float overflow.
        growth = self.base_seconds * 2.0 ** min(attempts_used - 1, 30)
        return min(growth * (1 - self.jitter + 2 * self.jitter * chance), self.cap_seconds)


def attempts_total(max_retries: int, used_elsewhere: int = 0) -> int:
    """How many attempts may be made here: at least one, whatever the publisher says was used elsewhere (S-27)."""
    return max(1, max(1, max_retries) - max(0, used_elsewhere))


def read_retry_count(value: object) -> int | None:
    """The `_retry_count` of a context: negative counts as 0, and None means that it is no count at all (S-27)."""
    if isinstance(value, str) and (written := _DIGITS.fullmatch(value)) and (written[2] or written[3]):
        # int() refuses 4,300 digits with an error of its own; 20 of them are beyond LARGEST_COUNT already.
        value = int(written[1] + (written[3][:20] or "0"))
    if isinstance(value, bool) or not isinstance(value, int):
        return None
    return min(max(0, value), LARGEST_COUNT)

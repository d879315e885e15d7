"""One mission's history replayed (pure): every event must follow from the one before, and end where the row stands.

The rules of the ledger's events, from `corporation/missions/states.py` and the invariants of the missions' README.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

from ops.bench.chaos_history import FINAL, LIVE, Event, MissionRow, Problem

REMARKS = frozenset({"duplicate", "conflict", "unknown_kind", "retry_count_ignored", "progress", "routed", "replayed"})
"""Events that say something and change nothing."""
ANOTHER_CLOCK_MS = 60_000
"""No transaction waits so long between its beginning, by which its events are dated, and the lock on its mission."""
AFTER_THE_END = frozenset({"result_published", "dead_lettered"})


@dataclass
class _Replay:
    """Where the mission stands after the events so far."""

    mission: MissionRow
    state: str = ""
    attempt: int = 0
    lost: bool = False
    """The current attempt was given up, and what follows from that is the next event."""
    cancel_requested: bool = False
    seen: dict[str, int] = field(default_factory=dict[str, int])

    def problem(self, rule: str, what: str) -> Problem:
        return Problem(rule, self.mission.job_id, what)

    def take(self, event: Event) -> Iterator[Problem]:
        """Follow the event, and yield what is wrong with it."""
        kind = event.type
        self.seen[kind] = self.seen.get(kind, 0) + 1
        if kind in REMARKS:
            return
        if kind in AFTER_THE_END:
            if self.state not in FINAL:
                yield self.problem("I1", f"{kind} before the end")
        elif kind == "late_result":
            yield from self._late(event)
        elif self.state in FINAL:
            yield self.problem("I2", f"{kind} after the end ({self.state})")
        elif kind in FINAL:
            yield from self._end(event)
        else:
            yield from self._step(event)

    def _step(self, event: Event) -> Iterator[Problem]:
        steps = {
            "published": self._accept,
            "imported": self._accept,
            "cancel_requested": self._ask_to_stop,
            "waiting": self._withdraw,
            "queued": self._queue,
            "claimed": self._claim,
            "started": self._claim,
            "attempt_lost": self._lose,
            "retry_scheduled": self._retry,
        }
        yield from steps.get(event.type, self._wonder)(event)

    def _accept(self, event: Event) -> Iterator[Problem]:
        if self.state:
            yield self.problem("I6", f"{event.type} a second time")
        self.state = "waiting"

    def _ask_to_stop(self, event: Event) -> Iterator[Problem]:
        if self.cancel_requested:
            yield self.problem("I6", f"{event.type} a second time")
        self.cancel_requested = True

    def _lose(self, event: Event) -> Iterator[Problem]:
        yield from self._current(event)
        if self.state not in LIVE:
            yield self.problem("I6", f"attempt {event.attempt} lost while the mission was {self.state}")
        self.lost = True

    def _retry(self, event: Event) -> Iterator[Problem]:
        yield from self._current(event)
        if self.state not in LIVE:
            yield self.problem("I6", f"a retry while the mission was {self.state}")
        self.state, self.lost = "waiting", False

    def _wonder(self, event: Event) -> Iterator[Problem]:
        yield self.problem("I6", f"an event that nobody knows: {event.type}")

    def _queue(self, event: Event) -> Iterator[Problem]:
        if self.state != "waiting":
            yield self.problem("I4", f"attempt {event.attempt} queued while the mission was {self.state}")
        if event.attempt != self.attempt + 1:
            yield self.problem("I4", f"attempt {event.attempt} follows attempt {self.attempt}")
        if self.cancel_requested:
            yield self.problem("S-30", f"attempt {event.attempt} was made after the request to cancel")
        self.state, self.attempt, self.lost = "queued", event.attempt or 0, False

    def _withdraw(self, event: Event) -> Iterator[Problem]:
        """Its message was taken back before anybody received it; any other word of waiting changes nothing."""
        if not event.detail.get("withdrawn"):
            return
        yield from self._current(event)
        if self.state != "queued":
            yield self.problem("I6", f"attempt {event.attempt} taken back while the mission was {self.state}")
        self.state = "waiting"

    def _claim(self, event: Event) -> Iterator[Problem]:
        yield from self._current(event)
        if self.state == "running" or (event.type == "claimed" and self.state == "claimed"):
            yield self.problem("I3", f"attempt {event.attempt} {event.type} twice")
        elif self.state not in LIVE:
            yield self.problem("I4", f"attempt {event.attempt} {event.type} while the mission was {self.state}")
        self.state = "running" if event.type == "started" else "claimed"

    def _end(self, event: Event) -> Iterator[Problem]:
        if event.attempt is not None:
            yield from self._current(event)
            if self.state not in LIVE:
                yield self.problem("I4", f"{event.type} while the mission was {self.state}")
        elif event.type == "succeeded":
            yield self.problem("I4", "succeeded without an attempt")
        elif self.state != "waiting" and event.type == "timed_out":
            yield self.problem("I4", f"its deadline passed while it was {self.state}")
        self.state = event.type

    def _current(self, event: Event) -> Iterator[Problem]:
        if event.attempt != self.attempt:
            yield self.problem("I4", f"{event.type} of attempt {event.attempt}, while {self.attempt} is current")

    def _late(self, event: Event) -> Iterator[Problem]:
        if event.attempt == self.attempt and self.state in LIVE and not self.lost:
            yield self.problem("I4", f"the report of attempt {event.attempt} was refused while it was current")
        if event.attempt is not None and event.attempt > self.attempt:
            yield self.problem("I4", f"a late report of attempt {event.attempt}, which was never made")


def replay(mission: MissionRow) -> Iterator[Problem]:
    """What is wrong with the mission's history in itself, and with its row (I1, I2, I3, I4, I6, I11)."""
    at = _Replay(mission)
    latest = 0
    for place, event in enumerate(mission.events, start=1):
        if event.at_ms < latest - ANOTHER_CLOCK_MS:
            yield at.problem("I11", f"event {event.seq} is dated {(latest - event.at_ms) / 1000:.0f} s too early")
        latest = max(latest, event.at_ms)
        if event.seq != place:
            yield at.problem("I6", f"event {event.seq} stands at place {place}")
        yield from at.take(event)
    yield from _compare(mission, at)


def _compare(mission: MissionRow, at: _Replay) -> Iterator[Problem]:
    """The row must say what the events say."""
    yield from _compare_the_end(mission, at)
    if at.state != mission.state:
        yield at.problem("I6", f"its events lead to {at.state or 'nothing'}, its row says {mission.state}")
    if at.attempt != mission.attempt:
        yield at.problem("I6", f"its events lead to attempt {at.attempt}, its row says {mission.attempt}")
    if mission.event_seq != len(mission.events):
        yield at.problem("I6", f"{len(mission.events)} events, and its row counts {mission.event_seq}")
    if at.seen.get("result_published", 0) > 1:
        yield at.problem("S-33", "marked as told twice")
    yield from _compare_attempts(mission, at)


def _compare_the_end(mission: MissionRow, at: _Replay) -> Iterator[Problem]:
    finals = [event for event in mission.events if event.type in FINAL]
    if len(finals) > 1:
        yield at.problem("I1", f"{len(finals)} final events")
    if mission.state in FINAL and not finals:
        yield at.problem("I6", f"{mission.state} without a final event")
    if finals and mission.error != finals[0].detail.get("error"):
        yield at.problem("I6", f"its row says {mission.error!r}, its end {finals[0].detail.get('error')!r}")
    if finals and mission.finished_ms != finals[0].at_ms:
        yield at.problem("I6", "its row and its final event do not agree when it ended")


def _compare_attempts(mission: MissionRow, at: _Replay) -> Iterator[Problem]:
    numbers = [attempt.number for attempt in mission.attempts]
    if numbers != list(range(1, len(numbers) + 1)) or len(numbers) != mission.attempt:
        yield at.problem("I4", f"its attempts are numbered {numbers}, its row says {mission.attempt}")
    if mission.state in FINAL and any(attempt.state in LIVE for attempt in mission.attempts):
        yield at.problem("I7", "an attempt is alive after the end")

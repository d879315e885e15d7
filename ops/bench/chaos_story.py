"""One mission's story in lines: its events, its attempts and what was really done, in the order of time."""

from collections.abc import Iterator

from ops.bench.chaos_history import History, MissionRow


def story_of(history: History, mission: MissionRow) -> list[str]:
    """Everything that is known of the mission; the seconds count from its first event."""
    begin = mission.events[0].at_ms if mission.events else 0
    ids = {attempt.attempt_id for attempt in mission.attempts}
    moments = sorted([*_of_ledger(mission), *_of_marks(history, ids), *_of_faults(history, mission)])
    rows = [
        f"    attempt {one.number} at {one.factory_id}: {one.state}, sent {one.sends} x, "
        f"reported {one.mailbox or 'nothing'}"
        for one in mission.attempts
    ]
    return [*rows, *(f"  {(at - begin) / 1000:8.2f} s  {what}" for at, what in moments)]


def write_stories(history: History) -> Iterator[str]:
    """All missions, one after the other."""
    for job_id, mission in history.missions.items():
        wish = history.wishes.get(mission.key)
        yield f"{job_id}: {mission.state} {mission.error or ''} (wished: {wish})"
        yield from story_of(history, mission)


def _of_ledger(mission: MissionRow) -> Iterator[tuple[int, str]]:
    for event in mission.events:
        detail = {key: value for key, value in event.detail.items() if key != "source"}
        attempt = f" {event.attempt}" if event.attempt is not None else ""
        yield event.at_ms, f"{event.seq:3d} {event.type}{attempt} {detail or ''}"


def _of_marks(history: History, ids: set[str]) -> Iterator[tuple[int, str]]:
    for mark in history.marks:
        if mark.attempt_id in ids:
            yield mark.at_ms, f"      {mark.what} {mark.attempt} at {mark.factory_id} (process {mark.pid})"


def _of_faults(history: History, mission: MissionRow) -> Iterator[tuple[int, str]]:
    first = mission.events[0].at_ms if mission.events else 0
    last = mission.events[-1].at_ms if mission.events else 0
    for one in history.disturbances:
        if first - 2000 <= one.until_ms and one.at_ms <= last:
            yield one.at_ms, f"      ! {one.kind} of {', '.join(sorted(one.touches))}, {one.until_ms - one.at_ms} ms"

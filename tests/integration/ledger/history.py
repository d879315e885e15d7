"""The checker: whatever happened in a test, every mission's history is whole (invariants I1, I2, I3, I4 and I6).

Broadcasts too: what a parent says of its children is what they are (S-25).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, text

from corporation.missions.broadcast import is_broadcast
from corporation.missions.states import FINAL, LIVE, State, may_follow

FINAL_EVENTS = {str(state) for state in FINAL}
AFTERWORDS = {"late_result", "duplicate", "conflict", "dead_lettered", "result_published", "replayed", "adopted"}
"""What may be said of a mission that is over; none of it changes the mission."""
WITHOUT_ATTEMPT = {
    *("imported", "published", "unknown_kind", "retry_count_ignored", "duplicate", "conflict", "waiting", "routed")
}


@dataclass
class Replayed:
    """A mission as its events alone tell it."""

    broadcast: bool = False
    state: State = State.WAITING
    attempt: int = 0
    started: set[int] = field(default_factory=set[int])
    lost: set[int] = field(default_factory=set[int])
    withdrawn: set[int] = field(default_factory=set[int])
    late: set[int] = field(default_factory=set[int])
    finals: int = 0
    to_be_cancelled: bool = False


def assert_history_is_whole(connection: Connection) -> None:
    """Fails with the mission's name when any mission's row, attempts and events do not tell one story."""
    missions = connection.execute(text("SELECT * FROM corporation.missions ORDER BY id")).all()
    for mission in missions:
        events = connection.execute(
            text("SELECT * FROM corporation.mission_events WHERE mission_id = :id ORDER BY seq"), {"id": mission.id}
        ).all()
        attempts = connection.execute(
            text("SELECT * FROM corporation.attempts WHERE mission_id = :id ORDER BY number"), {"id": mission.id}
        ).all()
        _check(mission, list(events), list(attempts))
    _check_broadcasts(missions)
    _check_mailbox(connection)


def _check(mission: Any, events: list[Any], attempts: list[Any]) -> None:
    story = [(event.seq, event.type, event.attempt) for event in events]
    told = f"{mission.job_id} is {mission.state}, attempt {mission.attempt}: {story}"
    assert [event.seq for event in events] == list(range(1, mission.event_seq + 1)), f"a gap in seq: {told}"
    assert events[0].type in ("imported", "published"), f"does not begin at the beginning: {told}"
    replayed = Replayed(is_broadcast(mission.mission_kind, mission.target_factory_id))
    for event in events:
        _replay(replayed, event, told)
    assert (replayed.state, replayed.attempt) == (mission.state, mission.attempt), f"I6, the row differs: {told}"
    assert replayed.finals == (mission.state in FINAL), f"I1, {replayed.finals} final events: {told}"
    _check_attempts(mission, attempts, replayed, told)
    asked = replayed.to_be_cancelled or mission.state == State.CANCELLED
    assert asked == (mission.cancel_requested_at is not None), f"cancelled unasked, or unheard: {told}"
    spread = [event.detail["children"] for event in events if event.type == "routed"]
    assert spread == ([] if mission.children is None else [mission.children]), f"spread otherwise: {told}"


def _replay(replayed: Replayed, event: Any, told: str) -> None:
    if replayed.finals:
        assert event.type in AFTERWORDS, f"I2, {event.type} after the end: {told}"
        return
    if event.type == "queued":
        assert event.attempt == replayed.attempt + 1, f"I4, attempts do not grow by one: {told}"
        replayed.attempt = event.attempt
    elif event.type == "late_result":
        assert event.attempt <= replayed.attempt, f"I4, late before it began: {told}"
        replayed.late.add(event.attempt)
        return
    elif event.type == "adopted" or event.detail.get("adopted"):
        _adopt(replayed, event, told)
        return
    elif event.type not in WITHOUT_ATTEMPT and (replayed.state in LIVE or event.attempt is not None):
        assert event.attempt == replayed.attempt, f"I4, {event.type} of another attempt: {told}"
    _mark(replayed, event, told)
    _step(replayed, event.type, told)


def _adopt(replayed: Replayed, event: Any, told: str) -> None:
    """A late result of this mission that counts after all; or, of one that no factory ever had, of another mission."""
    if replayed.attempt == 0:
        assert event.attempt is None, f"adopted of an attempt that is not here: {told}"
    else:
        assert event.attempt in replayed.late, f"adopted what was never reported late: {told}"
    if event.type == "succeeded":
        replayed.state = State.SUCCEEDED
        replayed.finals += 1


def _mark(replayed: Replayed, event: Any, told: str) -> None:
    if event.type == "started":
        assert replayed.attempt not in replayed.started, f"I3, started twice: {told}"
        replayed.started.add(replayed.attempt)
    if event.type == "cancel_requested":
        assert not replayed.to_be_cancelled, f"asked twice: {told}"
        assert replayed.broadcast or replayed.state == State.RUNNING, f"what does not run is cancelled at once: {told}"
        replayed.to_be_cancelled = True
    if event.type == "attempt_lost":
        replayed.lost.add(replayed.attempt)
    if event.type == "waiting" and event.attempt is not None:
        assert event.attempt not in replayed.started, f"withdrawn though it was received: {told}"
        replayed.withdrawn.add(event.attempt)
        replayed.state = State.WAITING


def _step(replayed: Replayed, event: str, told: str) -> None:
    steps = {
        "queued": State.QUEUED,
        "claimed": State.CLAIMED,
        "started": State.RUNNING,
        "retry_scheduled": State.WAITING,
    }
    after = State(event) if event in FINAL_EVENTS else steps.get(event)
    if after is None:
        return
    assert may_follow(replayed.state, after, broadcast=replayed.broadcast), (
        f"{replayed.state} cannot become {after}: {told}"
    )
    again = after in (State.WAITING, State.QUEUED)
    assert not (replayed.to_be_cancelled and again), f"S-30, tried again though it is to be cancelled: {told}"
    replayed.state = after
    replayed.finals += event in FINAL_EVENTS


def _check_attempts(mission: Any, attempts: list[Any], replayed: Replayed, told: str) -> None:
    assert [one.number for one in attempts] == list(range(1, mission.attempt + 1)), f"I4, attempts: {told}"
    assert {one.number for one in attempts if one.state == "lost"} == replayed.lost, f"lost attempts differ: {told}"
    withdrawn = {one.number for one in attempts if one.state == "withdrawn"}
    assert withdrawn == replayed.withdrawn, f"withdrawn attempts differ: {told}"
    live = [one for one in attempts if one.state in LIVE]
    if mission.state in LIVE:
        [current] = live
        assert current.id == mission.attempt_id, f"I4, the current attempt is not the last one: {told}"
        assert (current.state, current.factory_id) == (mission.state, mission.factory_id), f"attempt differs: {told}"
    else:
        assert not live, f"an attempt outlives its mission's hold: {told}"


def _check_broadcasts(missions: Sequence[Any]) -> None:
    """Every child belongs to a broadcast and has its name; a parent counts them all, and ends as they ended (S-25)."""
    parents = {mission.id: mission for mission in missions}
    children: dict[int, list[Any]] = {mission.id: [] for mission in missions if mission.children is not None}
    for child in missions:
        if child.parent_id is not None:
            assert child.parent_id in children, f"{child.job_id} is a child of no broadcast"
            children[child.parent_id].append(child)
    for parent_id, ours in children.items():
        _check_broadcast(parents[parent_id], sorted(ours, key=lambda child: child.target_factory_id))


def _check_broadcast(parent: Any, children: list[Any]) -> None:
    told = f"{parent.job_id} is {parent.state}: {[(child.job_id, child.state) for child in children]}"
    assert len(children) == parent.children, f"children were lost or found: {told}"
    for child in children:
        names = (f"{parent.job_id}.{child.target_factory_id}", f"{parent.idempotency_key}:{child.target_factory_id}")
        assert (child.job_id, child.idempotency_key) == names, f"a stranger among the children: {told}"
    if parent.state == State.WAITING:
        assert parent.state_reason == "behind_others", f"waits for something else: {told}"
        return
    assert all(child.state in FINAL for child in children), f"ended before its children: {told}"
    done = [child.state == State.SUCCEEDED for child in children]
    otherwise = State.FAILED if parent.cancel_requested_at is None else State.CANCELLED
    assert parent.state == (State.SUCCEEDED if all(done) else otherwise), f"ended otherwise than its children: {told}"
    listed = [(one["job_id"], one["factory_id"], one["status"] == "SUCCESS") for one in parent.result["children"]]
    stored = [(child.job_id, child.target_factory_id, well) for child, well in zip(children, done, strict=True)]
    assert listed == stored, f"lists other children: {told}"


def _check_mailbox(connection: Connection) -> None:
    """Every attempt has its row in the mailbox from the moment it exists, and only attempts have one from us."""
    missing = connection.execute(
        text("""SELECT a.id FROM corporation.attempts a
                 WHERE NOT EXISTS (SELECT 1 FROM mailbox.celery_taskmeta t
                                    WHERE t.task_id = a.id::text AND t.factory = a.factory_id AND t.queue = a.queue)""")
    ).all()
    assert not missing, f"attempts without their mailbox row: {missing}"

"""`corporation factories` and `corporation workload`: what people read of a fleet, and what deserves a look."""

import json
from typing import Any

from test_cli_requests import Headquarters, hq, run  # noqa: F401  # pyright: ignore[reportUnusedImport] - the fixture

ROW: dict[str, Any] = {
    "factory_id": "desk-7",
    "display_name": None,
    "factory_role": "LOCAL_WORKER",
    "deployment_profile": "local_workstation",
    "registration_status": "online",
    "heartbeat_latency_ms": 38.5,
    "capabilities": ["delegation_redis", "vp_general", "kind:noop"],
    "first_seen_at": "2026-06-01T08:00:00.000000+00:00",
    "age_seconds": 4.2,
    "transport": "redis",
    "slots": 2,
    "busy": 1,
    "queued": 3,
    "queues": ["factory.desk-7"],
    "version": "4f2a9c1d0b7e6a5f4c3b2a190817263544f0e1d2",
    "pause": None,
    "quarantine": None,
    "quarantined": False,
    "split_brain": None,
    "lights": {
        "process": {"state": "green", "why": "It was heard of 4 s ago."},
        "consumer": {"state": "green", "why": "It answered."},
        "work": {"state": "unknown", "why": "Nothing runs there."},
    },
}
RUNNING = {
    "job_id": "b-1",
    "mission_kind": "general_task",
    "started_at": "2026-06-01T08:00:01.000000+00:00",
    "elapsed_seconds": 125.0,
    "progress": {"percent": 40, "message": "reading"},
}
WORK: dict[str, Any] = {
    "factory_id": "desk-7",
    "registration_status": "online",
    "slots": 2,
    "queue_depth": 3,
    "current_mission": RUNNING,
    "running": [RUNNING, {**RUNNING, "job_id": "b-2", "progress": None}],
    "last_completed": {"job_id": "b-0", "status": "completed", "completed_at": "2026-06-01T07:58:00.000000+00:00"},
}


def listed(*rows: dict[str, Any]) -> tuple[int, dict[str, str], dict[str, Any]]:
    return 200, {}, {"registrations": list(rows), "count": len(rows), "headquarters_factory_id": "hq"}


def test_a_list_says_how_each_is_in_one_line(hq: Headquarters) -> None:  # noqa: F811
    pause = {"who": "ops", "note": "lunch", "until": "2026-06-01T12:00:00.000000+00:00", "since": None}
    away = {**ROW, "factory_id": "desk-8", "registration_status": "paused", "pause": pause}
    hq.answers = [listed(ROW, away)]
    lines = run(hq, "factories").stdout.splitlines()

    assert lines[1].split() == [
        "desk-7", "online", "4", "s", "redis", "1/2", "3", "..?", "4f2a9c1", "vp_general,", "kind:noop", "-",
    ]  # fmt: skip
    assert lines[2].rstrip().endswith("by ops until 2026-06-01T12:00: lunch")
    assert len(lines) == 3


def test_what_is_wrong_is_said_below_with_what_to_do(hq: Headquarters) -> None:  # noqa: F811
    dead = {"state": "red", "why": "The consumer loop of w has stood still for 70 s."}
    rows = [
        {**ROW, "split_brain": {"with": "other", "at": "2026-06-01T08:00:00.000000+00:00"}},
        {**ROW, "factory_id": "desk-8", "registration_status": "offline", "age_seconds": 4000, "version": "other"},
        {**ROW, "factory_id": "desk-9", "lights": {**ROW["lights"], "consumer": dead}},
    ]
    hq.answers = [listed(*rows)]
    text = run(hq, "factories").stdout

    assert "desk-7: two processes use this name" in text
    assert "desk-8 is offline; on its machine" in text
    assert "desk-9: The consumer loop of w has stood still" in text
    assert "Factories run different versions: 4f2a9c1, other" in text
    assert ".C?" in text


def test_a_list_can_be_asked_for_one_status_and_as_json(hq: Headquarters) -> None:  # noqa: F811
    hq.answers = [listed(ROW)]
    ended = run(hq, "factories", "--status", "stale", "--json")

    assert hq.requests[0][1] == "/api/v1/factory/registrations?limit=200&registration_status=stale"
    assert json.loads(ended.stdout)["registrations"][0]["factory_id"] == "desk-7"


def test_an_empty_fleet_says_how_one_joins(hq: Headquarters) -> None:  # noqa: F811
    hq.answers = [listed()]
    assert "corporation join-code" in run(hq, "factories").stdout


def test_one_factory_is_shown_with_what_it_runs_and_its_history(hq: Headquarters) -> None:  # noqa: F811
    event = {"id": 1, "at": "2026-06-01T08:00:00.000000+00:00", "type": "paused", "by": "ops", "detail": {"note": "x"}}
    hq.answers = [listed(ROW), (200, {}, {"factories": [WORK]}), (200, {}, {"events": [event]})]
    text = run(hq, "factories", "show", "desk-7").stdout

    assert "runs b-1 (general_task) for 2 min" in text
    assert "2026-06-01T08:00:00  paused by ops (x)" in text
    assert "process   green" in text


def test_a_factory_that_hq_does_not_know_is_refused(hq: Headquarters) -> None:  # noqa: F811
    hq.answers = [listed(ROW)]
    ended = run(hq, "factories", "show", "nobody")
    assert ended.returncode == 66
    assert "nobody" in ended.stderr


def test_the_workload_has_a_line_for_each_mission_that_runs(hq: Headquarters) -> None:  # noqa: F811
    idle = {**WORK, "factory_id": "desk-8", "running": [], "current_mission": None}
    hq.answers = [(200, {}, {"factories": [WORK, idle], "unassigned": {"waiting": 7, "queued": 0}})]
    lines = run(hq, "workload").stdout.splitlines()

    assert lines[1].split()[:8] == ["desk-7", "online", "2/2", "3", "b-1", "general_task", "2", "min"]
    assert "40 % reading" in lines[1]
    assert lines[2].split()[:2] == ["b-2", "general_task"]
    assert lines[3].split()[:3] == ["desk-8", "online", "0/2"]
    assert lines[4] == "Waiting for a factory: 7; `corporation why JOB_ID` says why one waits"

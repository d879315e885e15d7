"""`corporation factories` and `corporation workload`: what people read of a fleet, and what deserves a look."""

import json
from typing import Any

import pytest
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
    assert lines[3:] == ["lights: P process, C consumer, W work; a dot is well, the letter is not, ? is not known"]


def test_where_all_lights_are_well_nothing_needs_explaining(hq: Headquarters) -> None:  # noqa: F811
    well = {name: {"state": "green", "why": ""} for name in ROW["lights"]}
    hq.answers = [listed({**ROW, "lights": well})]

    assert "lights:" not in run(hq, "factories").stdout


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


def test_a_status_that_there_is_not_asks_nobody_and_names_the_choices(hq: Headquarters) -> None:  # noqa: F811
    ended = run(hq, "factories", "--status", "asleep")

    assert (ended.returncode, hq.requests) == (2, [])
    assert all(word in ended.stderr for word in ("online", "paused", "draining", "stale", "offline", "quarantined"))


def test_a_quarantined_factory_is_called_so_and_by_no_other_status(hq: Headquarters) -> None:  # noqa: F811
    shut = {**ROW, "factory_id": "desk-8", "quarantined": True, "quarantine": {"who": "ops", "note": "odd"}}
    hq.answers = [listed(ROW, shut)]
    assert [line.split()[:2] for line in run(hq, "factories").stdout.splitlines()[1:3]] == [
        ["desk-7", "online"], ["desk-8", "quarantined"],
    ]  # fmt: skip
    assert "desk-8" not in run(hq, "factories", "--status", "online").stdout
    assert run(hq, "factories", "--status", "QUARANTINED").stdout.splitlines()[1].split()[:2] == [
        "desk-8",
        "quarantined",
    ]
    assert hq.requests[-1][1] == "/api/v1/factory/registrations?limit=1000"


def test_the_workload_calls_a_quarantined_factory_so(hq: Headquarters) -> None:  # noqa: F811
    work = {"factories": [{**WORK, "quarantined": True}], "unassigned": {}}
    hq.answers = [(200, {}, work)]
    assert run(hq, "workload").stdout.splitlines()[1].split()[:2] == ["desk-7", "quarantined"]


UNKNOWN = (404, {}, {"detail": "unknown_target: headquarters knows no such factory"})
LISTS = "`corporation factories` lists"


@pytest.mark.parametrize("command", [["quarantine", "nobody"], ["release", "nobody"], ["rename", "nobody", "Desk"]])
def test_an_unknown_name_is_one_sentence_with_what_to_do(hq: Headquarters, command: list[str]) -> None:  # noqa: F811
    hq.answers = [UNKNOWN]
    ended = run(hq, "factories", *command)

    assert ended.returncode == 66
    assert ended.stderr.count("\n") == 1
    assert f"HQ knows no factory nobody; {LISTS}" in ended.stderr
    assert "404" not in ended.stderr


@pytest.mark.parametrize("command", [["quarantine"], ["release"], ["remove", "--yes"]])
def test_headquarters_own_name_is_one_sentence_too(hq: Headquarters, command: list[str]) -> None:  # noqa: F811
    hq.answers = [(409, {}, {"detail": "own_registration: headquarters cannot do this to itself"})]
    ended = run(hq, "factories", command[0], "hq", *command[1:])

    assert ended.returncode == 65
    assert f"hq is headquarters itself, to which this cannot be done; {LISTS}" in ended.stderr
    assert "--job-id" not in ended.stderr


@pytest.mark.parametrize("name", ["two\nlines", "\x1b[2J", "x" * 201])
def test_a_name_that_is_no_line_asks_nobody_and_is_told_in_words(hq: Headquarters, name: str) -> None:  # noqa: F811
    ended = run(hq, "factories", "rename", "desk-7", name)

    assert (ended.returncode, hq.requests) == (2, [])
    assert "one line of at most 200 characters" in ended.stderr


def test_a_pattern_of_hq_s_is_shown_to_nobody(hq: Headquarters) -> None:  # noqa: F811
    item = {"type": "string_pattern_mismatch", "loc": ["body", "note"], "msg": "String should match pattern '^[^x]*$'"}
    hq.answers = [(422, {}, {"detail": [item]})]
    ended = run(hq, "factories", "quarantine", "desk-7", "--note", "x")

    assert "note: has a character that is not taken here" in ended.stderr
    assert "^" not in ended.stderr


@pytest.mark.parametrize("more", [[], ["--json"]])
def test_a_factory_is_forgotten_only_when_somebody_said_yes(hq: Headquarters, more: list[str]) -> None:  # noqa: F811
    hq.answers = [(200, {}, {"ok": True, "factory_id": "desk-7", "deleted": 1})]
    ended = run(hq, "factories", "remove", "desk-7", *more)

    assert (ended.returncode, hq.requests) == (2, [])
    assert "say --yes" in ended.stderr
    assert run(hq, "factories", "remove", "desk-7", "--yes", *more).returncode == 0
    assert [request[:2] for request in hq.requests] == [("DELETE", "/api/v1/factory/registrations/desk-7")]


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


@pytest.mark.parametrize(("shared", "is_warned"), [(False, False), (True, True), (None, True)])
def test_one_password_for_all_is_said_where_hq_has_one(
    hq: Headquarters,  # noqa: F811
    shared: bool | None,
    is_warned: bool,
) -> None:
    """An older HQ does not say whether it has."""
    told = {} if shared is None else {"shared_redis_password": shared}
    hq.answers = [(200, {}, {"ok": True, "factory_id": "desk-7", "changed": True, **told})]

    assert ("one password for Redis" in run(hq, "factories", "quarantine", "desk-7").stdout) is is_warned

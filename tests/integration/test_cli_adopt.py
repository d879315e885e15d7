"""`corporation missions adopt`: a late result counts, or HQ says why there is none."""

import json

from test_cli_requests import Headquarters, hq, run  # noqa: F401  # pyright: ignore[reportUnusedImport] - the fixture

ADOPTED = {"ok": True, "job_id": "j/1-r1", "state": "succeeded", "adopted": {"job_id": "j/1", "attempt": 2}}
WHY = "nothing_to_adopt: attempt 1 is lost and has no late result"
LATE = {"attempt": 1, "state": "lost", "factory_id": "desk-7", "late_result": {"outcome": "done"}, "adopted": False}


def test_the_mission_that_succeeded_is_named(hq: Headquarters) -> None:  # noqa: F811
    hq.answers = [(200, {}, ADOPTED)]
    ended = run(hq, "missions", "adopt", "j/1", "--attempt", "2", "--reason", "looked at it")

    assert (ended.returncode, ended.stdout) == (0, "j/1-r1  succeeded with the late result of attempt 2\n")
    [(method, path, _, body)] = hq.requests
    assert (method, path) == ("POST", "/api/v1/missions/j%2F1/adopt")
    assert json.loads(body) == {"attempt": 2, "reason": "looked at it"}


def test_a_program_reads_the_answer(hq: Headquarters) -> None:  # noqa: F811
    hq.answers = [(200, {}, ADOPTED)]

    assert json.loads(run(hq, "missions", "adopt", "j/1", "--attempt", "2", "--json").stdout) == ADOPTED


def test_what_cannot_be_adopted_is_said_and_why(hq: Headquarters) -> None:  # noqa: F811
    hq.answers = [(409, {}, {"detail": WHY})]
    ended = run(hq, "missions", "adopt", "j-1", "--attempt", "1")

    assert (ended.returncode, ended.stdout) == (65, "")
    assert ended.stderr.strip().endswith(f"j-1: {WHY}")


def test_an_attempt_has_to_be_named(hq: Headquarters) -> None:  # noqa: F811
    assert run(hq, "missions", "adopt", "j-1").returncode == 2
    assert hq.requests == []


def test_a_late_result_is_shown_with_its_mission(hq: Headquarters) -> None:  # noqa: F811
    failed = {**LATE, "attempt": 2, "late_result": {"outcome": "failed", "error": "no"}}
    mission = {"job_id": "-j", "state": "failed", "attempts": [LATE, failed, {**LATE, "late_result": None}]}
    hq.answers = [(200, {}, mission), (200, {}, {"events": []})]
    shown = run(hq, "missions", "show", "--", "-j").stdout

    assert "Attempt 1 reported late: done; to let it count: corporation missions adopt --attempt 1 -- -j\n" in shown
    assert "Attempt 2 reported late: failed\n" in shown
    assert shown.count("reported late") == 2


def test_one_that_was_adopted_is_shown_as_such(hq: Headquarters) -> None:  # noqa: F811
    mission = {"job_id": "j-1", "state": "succeeded", "attempts": [{**LATE, "adopted": True}]}
    hq.answers = [(200, {}, mission), (200, {}, {"events": []})]

    assert "Attempt 1 reported late: done; it was adopted\n" in run(hq, "missions", "show", "j-1").stdout

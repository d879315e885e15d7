"""`corporation missions cancel`: several missions, waiting for their end, and what cannot be cancelled."""

import json

import pytest
from test_cli_requests import Headquarters, hq, run  # noqa: F401  # pyright: ignore[reportUnusedImport] - the fixture

GONE = (200, {}, {"ok": True, "job_id": "j-1", "state": "cancelled", "cancel_requested": True})
ASKED = (202, {}, {"ok": True, "job_id": "j-2", "state": "running", "cancel_requested": True})


def test_each_mission_is_cancelled_or_told_to_stop(hq: Headquarters) -> None:  # noqa: F811
    hq.answers = [GONE, ASKED]
    ended = run(hq, "missions", "cancel", "j-1", "j/2", "j-1", "--reason", "not needed")

    assert ended.returncode == 0
    assert ended.stdout == "j-1  cancelled\nj-2  told to stop; it ends when its factory has stopped it\n"
    assert [path for _, path, _, _ in hq.requests] == ["/api/v1/missions/j-1/cancel", "/api/v1/missions/j%2F2/cancel"]
    assert json.loads(hq.requests[0][3]) == {"reason": "not needed"}


@pytest.mark.parametrize(("state", "exit_code"), [("cancelled", 0), ("succeeded", 1)])
def test_waiting_ends_with_the_mission_and_says_whether_it_was_cancelled(
    hq: Headquarters,  # noqa: F811
    state: str,
    exit_code: int,
) -> None:
    hq.answers = [ASKED, (200, {}, {"job_id": "j-2", "state": state})]
    ended = run(hq, "missions", "cancel", "j-2", "--wait")

    assert ended.returncode == exit_code
    assert ended.stdout.splitlines()[-1] == f"j-2  {state}"


def test_one_that_has_ended_holds_up_no_other_and_is_named(hq: Headquarters) -> None:  # noqa: F811
    hq.answers = [(409, {}, {"detail": "already_final: the mission is failed already"}), GONE]
    ended = run(hq, "missions", "cancel", "j-0", "j-1")

    assert ended.returncode == 65
    assert ended.stdout == "j-1  cancelled\n"
    assert ended.stderr.strip().endswith("j-0: already_final: the mission is failed already")


def test_a_program_reads_what_became_of_each(hq: Headquarters) -> None:  # noqa: F811
    hq.answers = [(404, {}, {"detail": "unknown_mission: no mission has this job_id"}), ASKED]
    ended = run(hq, "missions", "cancel", "j-0", "j-2", "--json")

    assert ended.returncode == 65
    assert json.loads(ended.stdout) == {
        "missions": [{"job_id": "j-2", "state": "running"}],
        "refused": [{"job_id": "j-0", "why": "unknown_mission: no mission has this job_id"}],
    }


def test_an_absent_headquarters_ends_it_at_once(hq: Headquarters) -> None:  # noqa: F811
    ended = run(hq, "missions", "cancel", "j-1", UA_HQ_BASE_URL="http://127.0.0.1:1")

    assert ended.returncode == 69

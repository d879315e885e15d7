"""Replays with a changed order, of a dead letter and of a mission, as the command line asks for them."""

import json
from pathlib import Path
from typing import Any

import pytest
from test_cli_requests import Headquarters, hq, run  # noqa: F401  # pyright: ignore[reportUnusedImport] - the fixture

ORDER = {
    "job_id": "j-1",
    "idempotency_key": "k-1",
    "priority": "7",
    "timeout_seconds": 3,
    "max_retries": 2,
    "payload": {"task": "x", "context": {"mission_kind": "puzzle", "a": 1, "b": None, "_retry_count": 2}},
}
LETTER = {"dlq_id": "dl-1", "status": "open", "cause": "timed_out", "envelope": ORDER}
AGAIN = {"dlq_id": "dl-1", "status": "replayed", "job_id": "j-1-r1"}
FAILED = {"job_id": "j-1", "state": "failed", "envelope": ORDER}
NOTHING: dict[str, Any] = {"reasons": []}


def ok(body: Any, status: int = 200) -> tuple[int, dict[str, str], Any]:
    return status, {}, body


def sent(hq: Headquarters, number: int) -> Any:  # noqa: F811
    return json.loads(hq.requests[number][3])


def test_the_options_change_the_order_of_a_letter_and_nothing_else_in_it(hq: Headquarters) -> None:  # noqa: F811
    hq.answers = [ok(LETTER), ok(AGAIN, 202), ok(NOTHING)]
    options = ["--timeout", "30", "--target", "desk-7", "--context", '{"a": null, "c": [2]}', "--ttl", "60"]
    ended = run(hq, "dead-letters", "replay", "dl-1", *options)

    assert (ended.returncode, ended.stdout) == (0, "dl-1  runs again as j-1-r1, with the changed order\n")
    assert sent(hq, 1) == {
        "envelope": {
            "priority": 7,
            "timeout_seconds": 30,
            "max_retries": 2,
            "ttl_seconds": 60,
            "payload": {
                "task": "x",
                "context": {"mission_kind": "puzzle", "b": None, "c": [2], "target_factory_id": "desk-7"},
            },
        }
    }


def test_a_malformed_letter_runs_with_the_order_of_a_file_or_a_pipe(hq: Headquarters, tmp_path: Path) -> None:  # noqa: F811
    (tmp_path / "order.json").write_text('{"payload": {"task": "y"}}')
    malformed = ok(LETTER | {"cause": "malformed", "envelope": None})
    hq.answers = [malformed, ok(AGAIN, 202), ok(NOTHING), malformed, ok(AGAIN, 202), ok(NOTHING), malformed]
    run(hq, "dead-letters", "replay", "dl-1", "--envelope", str(tmp_path / "order.json"))
    run(hq, "dead-letters", "replay", "dl-1", "--envelope", "-", "--priority", "0", stdin='{"payload": {"task": "z"}}')
    without = run(hq, "dead-letters", "replay", "dl-1", "--priority", "0")

    assert sent(hq, 1) == {"envelope": {"payload": {"task": "y"}}}
    assert sent(hq, 4) == {"envelope": {"payload": {"task": "z"}, "priority": 0}}
    assert (without.returncode, "say --envelope FILE" in without.stderr) == (65, True)


@pytest.mark.parametrize("words", [["dl-1", "dl-2"], ["--all"], ["dl-1", "--cause", "failed"]])
def test_an_order_is_changed_one_at_a_time(hq: Headquarters, words: list[str]) -> None:  # noqa: F811
    ended = run(hq, "dead-letters", "replay", *words, "--timeout", "6")

    assert (ended.returncode, hq.requests) == (2, [])
    assert "name one dead letter" in ended.stderr


def test_a_letter_that_is_used_up_is_not_said_to_run_changed(hq: Headquarters) -> None:  # noqa: F811
    used = LETTER | {"status": "replayed", "replay_job_id": "j-1-r1"}
    hq.answers = [ok(used), ok({"job_id": "j-1-r1", "state": "timed_out"})]
    ended = run(hq, "dead-letters", "replay", "dl-1", "--timeout", "6")

    assert (ended.returncode, len(hq.requests)) == (65, 2)
    assert "as j-1-r1 (timed_out)" in ended.stderr
    assert "corporation missions replay j-1-r1" in ended.stderr


def test_a_mission_that_has_ended_is_done_again_as_the_options_say(hq: Headquarters) -> None:  # noqa: F811
    hq.answers = [ok(FAILED), ok({"job_id": "j-1-r1", "replay_of": "j-1", "state": "queued"}, 202)]
    ended = run(hq, "missions", "replay", "j-1", "--priority", "0", "--target", "", "--key", "again")

    assert (ended.returncode, ended.stdout) == (0, "j-1 runs again as j-1-r1 (queued)\n")
    assert sent(hq, 1)["idempotency_key"] == "again"
    assert sent(hq, 1)["envelope"]["priority"] == 0
    assert "target_factory_id" not in sent(hq, 1)["envelope"]["payload"]["context"]


def test_a_mission_done_again_as_it_was_sends_no_order(hq: Headquarters) -> None:  # noqa: F811
    hq.answers = [ok(FAILED), ok({"job_id": "j-1-r1", "replay_of": "j-1", "state": "queued"}, 202)]
    run(hq, "missions", "replay", "j-1")

    assert sent(hq, 1).keys() == {"idempotency_key"}


def test_a_mission_that_has_not_ended_is_stopped_first(hq: Headquarters) -> None:  # noqa: F811
    hq.answers = [ok(FAILED | {"state": "waiting"})]
    ended = run(hq, "missions", "replay", "j-1", "--priority", "0")

    assert (ended.returncode, len(hq.requests)) == (65, 1)
    assert "corporation missions cancel j-1 --wait" in ended.stderr


def test_a_replay_whose_answer_was_lost_makes_no_second_mission(hq: Headquarters) -> None:  # noqa: F811
    known = {"job_id": "j-1-r1", "replay_of": "j-1", "state": "running"}
    taken = ok({"detail": "replay_refused: a mission has this key"}, 409)
    hq.answers = [ok(FAILED), (503, {"retry-after": "0"}, {}), taken, ok({"missions": [known]}), ok(known)]
    ended = run(hq, "missions", "replay", "j-1", "--json")

    assert (ended.returncode, json.loads(ended.stdout)) == (0, known)


def test_publishing_says_when_nobody_can_run_it(hq: Headquarters) -> None:  # noqa: F811
    stored = ok({"job_id": "j-1", "state": "waiting", "created": True}, 202)
    alone = ok({"reasons": [{"code": "no_capable_factory"}]})
    hq.answers = [stored, alone, ok({"mission_kind": "general_task"})]
    ended = run(hq, "publish", "x", "--key", "k")

    assert ended.returncode == 0
    assert ended.stdout.splitlines()[1] == "No factory can run general_task at present: corporation why j-1"


def test_publishing_another_order_under_a_known_key_says_in_what_they_differ(hq: Headquarters) -> None:  # noqa: F811
    known = ok({"job_id": "j-1", "state": "running", "created": False})
    hq.answers = [known, ok({"envelope": ORDER}), known, ok({"envelope": ORDER})]
    other = run(hq, "publish", "y", "--key", "k-1", "--kind", "puzzle", "--timeout", "3")
    same = run(hq, "publish", "x", "--key", "k-1", "--context", '{"mission_kind": "puzzle", "a": 1, "b": null}')

    assert "differs in task, context" in other.stdout
    assert "differs" not in same.stdout


def test_waiting_for_a_target_without_a_target_is_wrong_use(hq: Headquarters) -> None:  # noqa: F811
    ended = run(hq, "publish", "x", "--wait")

    assert (ended.returncode, hq.requests) == (2, [])
    assert "--watch" in ended.stderr


def test_a_target_that_nobody_knows_is_looked_up_among_factories(hq: Headquarters) -> None:  # noqa: F811
    hq.answers = [ok({"detail": "unknown_factory: the target factory never registered"}, 404)]
    ended = run(hq, "publish", "x", "--target", "vn")

    assert ended.returncode == 66
    assert "HQ knows no factory vn; `corporation factories` lists them" in ended.stderr
    assert "--expected" in ended.stderr


def test_a_key_in_the_place_of_a_mission_is_met_with_a_hint(hq: Headquarters) -> None:  # noqa: F811
    hq.answers = [ok({"detail": "unknown_mission: no mission has this job_id"}, 404)]
    ended = run(hq, "why", "slow 1")

    assert ended.returncode == 66
    assert "`corporation missions list --key 'slow 1'`" in ended.stderr


def test_an_empty_list_proposes_a_mission_that_can_be_done(hq: Headquarters) -> None:  # noqa: F811
    hq.answers = [ok({"missions": [], "next_cursor": None})]

    assert "--kind bootstrap_repo" in run(hq, "missions", "list").stdout
    assert run(hq, "missions", "list", "--kind", "puzzle").stdout == "No mission matches\n"


def test_resuming_what_did_not_rest_says_so(hq: Headquarters) -> None:  # noqa: F811
    row = {"factory_id": "vm", "registration_status": "online", "pause": None}
    hq.answers = [ok({"registrations": [row]}), ok({"job_id": "resume-1"})]
    ended = run(hq, "factories", "resume", "vm")

    assert (ended.returncode, "neither paused nor drained" in ended.stdout) == (0, True)

"""`corporation dead-letters replay | discard` of many: a look first, then call after call until none is left."""

import json
from typing import Any

from test_cli_requests import Headquarters, hq, run  # noqa: F401  # pyright: ignore[reportUnusedImport] - the fixture

LOOK = (200, {}, {"dry_run": True, "count": 3, "by_cause": {"failed": 3}, "by_kind": {"t": 3}, "newest": "dl-9"})


def answer(name: str, done: list[Any], last: str, remaining: int, refused: Any = ()) -> tuple[int, dict[str, str], Any]:
    return 200, {}, {name: done, "refused": list(refused), "last": last, "remaining": remaining, "queue_full": False}


def letter(name: str, **more: Any) -> tuple[int, dict[str, str], Any]:
    return 200, {}, {"dlq_id": name, "status": "open", "cause": "failed", "envelope": None, **more}


def bodies(hq: Headquarters) -> list[Any]:  # noqa: F811
    return [json.loads(body) for _, _, _, body in hq.requests]


def test_a_look_and_then_as_many_calls_as_it_takes(hq: Headquarters) -> None:  # noqa: F811
    first = answer("replayed", [{"dlq_id": f"dl-{n}", "job_id": f"j-{n}-r1"} for n in (7, 8)], "dl-8", 1)
    hq.answers = [LOOK, first, answer("replayed", [{"dlq_id": "dl-9", "job_id": "j-9-r1"}], "dl-9", 0)]
    ended = run(hq, "dead-letters", "replay", "--cause", "failed", "--kind", "t,u", "--yes")

    assert ended.returncode == 0
    assert ended.stdout.splitlines()[-3:] == [f"dl-{n}  runs again as j-{n}-r1" for n in (7, 8, 9)]
    wanted = {"cause": ["failed"], "mission_kind": ["t", "u"]}
    assert bodies(hq) == [
        {**wanted, "dry_run": True},
        {**wanted, "up_to": "dl-9", "expect": 3},
        {**wanted, "up_to": "dl-9", "after": "dl-8"},
    ]


def test_a_dry_run_only_looks(hq: Headquarters) -> None:  # noqa: F811
    hq.answers = [LOOK]
    ended = run(hq, "dead-letters", "discard", "--all", "--dry-run", "--json")

    assert (ended.returncode, json.loads(ended.stdout)["count"]) == (0, 3)
    assert len(hq.requests) == 1


def test_nobody_who_could_be_asked_means_no(hq: Headquarters) -> None:  # noqa: F811
    hq.answers = [LOOK]
    ended = run(hq, "dead-letters", "discard", "--all")

    assert ended.returncode == 2
    assert "say --yes, or --dry-run to only look" in ended.stderr
    assert len(hq.requests) == 1


def test_every_letter_is_only_meant_by_name(hq: Headquarters) -> None:  # noqa: F811
    ended = run(hq, "dead-letters", "replay", "--yes")

    assert ended.returncode == 2
    assert "or say --all" in ended.stderr
    assert hq.requests == []


def test_what_was_left_as_it_was_is_told_with_the_reason(hq: Headquarters) -> None:  # noqa: F811
    refused = [{"dlq_id": "dl-8", "why": "it holds no order"}]
    done = answer("replayed", [{"dlq_id": "dl-7", "job_id": "j-7-r1"}], "dl-9", 0, refused)
    hq.answers = [letter("dl-7"), letter("dl-8"), LOOK, done]
    ended = run(hq, "dead-letters", "replay", "dl-7", "dl-8", "--yes")

    assert ended.returncode == 65
    assert "dl-7  runs again as j-7-r1" in ended.stdout
    assert "1 of 2 were left as they were\ndl-8: it holds no order" in ended.stderr


def test_a_name_that_no_letter_has_is_66_and_nothing_is_asked_of_it(hq: Headquarters) -> None:  # noqa: F811
    hq.answers = [(404, {}, {"detail": "unknown_dead_letter"})]
    ended = run(hq, "dead-letters", "replay", "dl-999", "--yes")

    assert (ended.returncode, len(hq.requests)) == (66, 1)
    assert "No dead letter is called dl-999" in ended.stderr


def test_a_letter_that_ran_again_before_says_as_which_mission_and_how_it_stands(hq: Headquarters) -> None:  # noqa: F811
    before = letter("dl-9", status="replayed", replay_job_id="j-9-r1")
    look = (200, {}, {"dry_run": True, "count": 1, "by_cause": {"failed": 1}, "by_kind": {}, "newest": "dl-9"})
    done = answer("replayed", [{"dlq_id": "dl-9", "job_id": "j-9-r1"}], "dl-9", 0)
    hq.answers = [before, look, (200, {}, {"job_id": "j-9-r1", "state": "failed"}), done]
    ended = run(hq, "dead-letters", "replay", "dl-9", "--yes")

    assert ended.returncode == 0
    assert "dl-9  ran again before, as j-9-r1 (failed)" in ended.stdout
    assert "runs again" not in ended.stdout


def test_an_error_in_the_middle_does_not_hide_what_was_done(hq: Headquarters) -> None:  # noqa: F811
    first = answer("discarded", ["dl-7"], "dl-7", 2)
    hq.answers = [LOOK, first, (422, {}, {"detail": "no"})]
    ended = run(hq, "dead-letters", "discard", "--all", "--yes", "--json", "--reason", "old")

    assert ended.returncode == 65
    assert json.loads(ended.stdout) == {"discarded": [{"dlq_id": "dl-7"}], "refused": []}
    assert bodies(hq)[1]["reason"] == "old"


def test_the_filters_of_the_list_become_the_query(hq: Headquarters) -> None:  # noqa: F811
    hq.answers = [(200, {}, {"entries": [], "next_cursor": None})]
    ended = run(hq, "dead-letters", "list", "--cause", "failed,timed_out", "--error", "exit 2", "--factory", "desk-7")

    assert ended.stdout == "No dead letter matches\n"
    assert hq.requests[0][1] == (
        "/api/v1/dlq?status=open&cause=failed%2Ctimed_out&factory_id=desk-7&error=exit+2&limit=50"
    )

"""`corporation audit`, `quarantine` and `release`: what HQ is asked, and what a person reads."""

import json
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from test_cli_requests import Headquarters, hq, run  # noqa: F401  # pyright: ignore[reportUnusedImport] - the fixture

ACT: dict[str, Any] = {
    "id": 7,
    "at": "2026-06-01T08:00:42.123456+00:00",
    "actor": "ana",
    "action": "factory.quarantine",
    "target": "desk-7",
    "origin": "rest 10.0.0.5",
    "note": "stolen \x1b[31m",
    "outcome": "done",
    "detail": {},
}


def page(*acts: dict[str, Any], next_before: int | None = None) -> tuple[int, dict[str, str], dict[str, Any]]:
    return 200, {}, {"acts": list(acts), "next_before": next_before}


def asked(hq: Headquarters, number: int = 0) -> dict[str, str]:  # noqa: F811
    query = parse_qs(urlsplit(hq.requests[number][1]).query)
    return {name: values[0] for name, values in query.items()}


def test_an_act_is_one_line_and_the_newest_is_the_last(hq: Headquarters) -> None:  # noqa: F811
    older = {**ACT, "id": 6, "action": "join_code.make", "target": None, "note": None, "outcome": "unchanged"}
    hq.answers = [page(ACT, older)]
    heads, first, last = run(hq, "audit").stdout.splitlines()
    assert heads.split()[-1] == "outcome"

    assert first.split() == [
        "2026-06-01",
        "08:00:42",
        "ana",
        "join_code.make",
        "-",
        "rest",
        "10.0.0.5",
        "-",
        "unchanged",
    ]
    assert "factory.quarantine" in last
    assert "stolen \\x1b[31m" in last


def test_what_is_asked_for_is_asked_of_hq(hq: Headquarters) -> None:  # noqa: F811
    hq.answers = [page()]
    words = ["--action", "factory", "--actor", "ana", "--target", "desk-7", "--since", "2026-06-01"]
    ended = run(hq, "audit", *words)

    assert "Nothing that was written down matches" in ended.stdout
    assert asked(hq) == {
        "action": "factory",
        "actor": "ana",
        "target": "desk-7",
        "since": "2026-06-01T00:00:00.000000+00:00",
        "limit": "50",
    }


def test_more_than_a_page_is_fetched_page_by_page(hq: Headquarters) -> None:  # noqa: F811
    hq.answers = [page(*[ACT] * 200, next_before=7), page(*[ACT] * 50)]
    told = json.loads(run(hq, "audit", "--limit", "250", "--json").stdout)

    assert len(told["acts"]) == 250
    assert (asked(hq, 1)["before"], asked(hq, 1)["limit"]) == ("7", "50")


@pytest.mark.parametrize("since", ["yesterday", "5", "-3h"])
def test_a_time_that_nobody_can_read_is_refused_before_hq_is_asked(hq: Headquarters, since: str) -> None:  # noqa: F811
    ended = run(hq, "audit", f"--since={since}")

    assert ended.returncode == 2
    assert "--since takes" in ended.stderr
    assert hq.requests == []


@pytest.mark.parametrize("before", [[], ["factories"]])
def test_quarantine_and_release_say_what_happens_and_how_to_undo_it(hq: Headquarters, before: list[str]) -> None:  # noqa: F811
    changed = {"ok": True, "factory_id": "desk-7", "changed": True}
    hq.answers = [(200, {}, changed), (200, {}, changed)]
    shut = run(hq, *before, "quarantine", "desk-7", "--note", "stolen").stdout
    back = run(hq, *before, "release", "desk-7").stdout

    assert "user of Redis" in shut
    assert "corporation release desk-7" in shut
    assert "may beat again" in back
    assert [path for _, path, *_ in hq.requests] == ["/api/v1/ops/factory/quarantine", "/api/v1/ops/factory/release"]
    assert json.loads(hq.requests[0][3]) == {"target_factory_id": "desk-7", "note": "stolen"}

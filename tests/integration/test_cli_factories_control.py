"""`corporation factories pause|drain|resume`: what HQ is asked, what the person is told, and when the waiting ends."""

import json
from collections.abc import Iterator
from unittest.mock import patch

import pytest
import typer
from test_cli_requests import Headquarters, hq, run  # noqa: F401  # pyright: ignore[reportUnusedImport] - the fixture

from corporation.cli import app as cli
from corporation.cli.exits import Refusal
from corporation.cli.factories_control import drain, pause, resume, seconds_of

ANSWER = {
    "ok": True, "job_id": "pause-0a1b2c3d4e5f", "action": "pause", "target_factory_id": "desk-7", "until": None,
    "factories": ["desk-7"], "running": 1, "queued": 3,
}  # fmt: skip


@pytest.fixture(autouse=True)
def commands() -> Iterator[None]:
    """The three commands alone."""
    group = typer.Typer()
    for command in (pause, drain, resume):
        group.command()(command)
    with patch.object(cli, "app", group):
        yield


def test_a_pause_says_what_happens_to_what_runs_and_to_what_waits(hq: Headquarters) -> None:  # noqa: F811
    hq.answers = [(200, {}, ANSWER)]
    ended = run(hq, "pause", "desk-7")

    assert ended.returncode == 0
    assert ended.stdout.splitlines() == [
        "desk-7 is paused until `corporation factories resume desk-7`; the order is pause-0a1b2c3d4e5f",
        "  runs there: 1 mission, which it finishes",
        "  waits in its queue: 3 missions; without a target they go to other factories,",
        "    targeted ones wait until it is resumed, and none of them loses an attempt",
    ]
    [(method, path, _, body)] = hq.requests
    assert (method, path) == ("POST", "/api/v1/ops/factory/control")
    assert json.loads(body) == {"target_factory_id": "desk-7", "action": "pause"}


def test_a_drain_has_a_note_and_an_end(hq: Headquarters) -> None:  # noqa: F811
    hq.answers = [(200, {}, ANSWER | {"action": "drain", "until": "2026-06-01T12:00:00.000000+00:00"})]
    ended = run(hq, "drain", "desk-7", "--note", "moving the desk", "--for", "2h", "--expected")

    assert ended.stdout.startswith("desk-7 is drained until 2026-06-01T12:00:00 UTC; ")
    assert hq.requests[0][1] == "/api/v1/ops/factory/control?wait=true"
    assert json.loads(hq.requests[0][3]) == {
        "target_factory_id": "desk-7", "action": "drain", "note": "moving the desk", "for_seconds": 7200,
    }  # fmt: skip


def test_a_resume_says_so(hq: Headquarters) -> None:  # noqa: F811
    hq.answers = [(200, {}, ANSWER | {"action": "resume", "job_id": "resume-0a1b2c3d4e5f"})]
    ended = run(hq, "resume", "desk-7")

    assert ended.stdout == "desk-7 takes missions again, as soon as it hears of it; the order is resume-0a1b2c3d4e5f\n"


@pytest.mark.parametrize(("action", "word"), [("pause", "paused"), ("drain", "drained")])
def test_a_pause_of_a_factory_in_quarantine_holds_once_it_is_released(
    hq: Headquarters,  # noqa: F811
    action: str,
    word: str,
) -> None:
    hq.answers = [(200, {}, ANSWER | {"action": action, "quarantined": True})]

    assert run(hq, action, "desk-7").stdout.splitlines() == [
        "desk-7 is in quarantine and takes nothing as it is; once it is released, "
        f"it is {word} until `corporation factories resume desk-7`",
        "  `corporation release desk-7` lets it back in; the order is pause-0a1b2c3d4e5f",
    ]


def test_a_resume_of_a_factory_in_quarantine_promises_no_missions(hq: Headquarters) -> None:  # noqa: F811
    hq.answers = [(200, {}, ANSWER | {"action": "resume", "quarantined": True})]

    assert run(hq, "resume", "desk-7").stdout == (
        "desk-7 is not paused any more, but in quarantine: it takes no missions until `corporation release desk-7`\n"
    )


def test_waiting_ends_when_it_holds_no_mission_any_more(hq: Headquarters) -> None:  # noqa: F811
    order = {"job_id": "pause-0a1b2c3d4e5f", "mission_kind": "system:pause_factory"}
    held = {"missions": [order, {"job_id": "j-1", "mission_kind": "bootstrap_repo"}], "next_cursor": None}
    idle = {"missions": [order], "next_cursor": None}
    hq.answers = [(200, {}, ANSWER), (200, {}, held), (200, {}, idle)]
    ended = run(hq, "pause", "desk-7", "--wait")

    assert ended.returncode == 0
    assert ended.stdout.splitlines()[-1] == "desk-7 runs nothing any more"
    assert "factory_id=desk-7" in hq.requests[1][1]
    assert len(hq.requests) == 3


def test_a_program_reads_hq_s_answer(hq: Headquarters) -> None:  # noqa: F811
    hq.answers = [(200, {}, ANSWER), (200, {}, {"missions": [], "next_cursor": None})]
    ended = run(hq, "pause", "desk-7", "--json", "--wait")

    assert json.loads(ended.stdout) == ANSWER | {"running": 0}


@pytest.mark.parametrize("arguments", [["pause", " "], ["drain", "desk-7", "--for", "soon"], ["resume"]])
def test_what_cannot_be_meant_asks_nobody(hq: Headquarters, arguments: list[str]) -> None:  # noqa: F811
    assert run(hq, *arguments).returncode == 2
    assert not hq.requests


def test_an_unknown_factory_is_a_mistake_of_the_caller(hq: Headquarters) -> None:  # noqa: F811
    hq.answers = [(404, {}, {"detail": "unknown_factory: the target factory never registered"})]
    ended = run(hq, "pause", "desk-9")

    assert ended.returncode == 66
    assert "HQ knows no factory desk-9; `corporation factories` lists them" in ended.stderr
    assert "--expected" in ended.stderr


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("30m", 1800), ("2h", 7200), (" 3D ", 259_200)])
def test_lengths_of_time_are_read(text: str, seconds: int) -> None:
    assert seconds_of(text) == seconds


@pytest.mark.parametrize("text", ["", "2", "h", "1.5h", "-1h", "0s", "32d", "²h", "1h30m"])
def test_other_lengths_are_refused(text: str) -> None:
    with pytest.raises(Refusal):
        seconds_of(text)

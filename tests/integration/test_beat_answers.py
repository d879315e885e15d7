"""What a factory does with HQ's answer to a beat: wishes noted, refusals said once, an absent HQ waited for."""

import json
from pathlib import Path
from typing import Any

import pytest
from node_at_work import HeardHq, node_at
from structlog.testing import capture_logs

from corporation import clock
from corporation.federation import notes
from corporation.federation.hq import HqRefusedError, HqUnavailableError
from corporation.federation.processes import my_identity
from factory_tasks.heartbeat import (
    QUARANTINED_ADVICE,
    REFUSED_ADVICE,
    is_too_early,
    patience,
    say_goodbye,
    send_beat,
    wishes_in,
)
from factory_tasks.node import Node
from factory_tasks.worker_signs import RESTART, is_kept_away


@pytest.fixture
def hq() -> HeardHq:
    return HeardHq()


@pytest.fixture
def here(tmp_path: Path, hq: HeardHq) -> Node:
    return node_at(tmp_path, hq)


def answered(here: Node, hq: HeardHq, **instructions: Any) -> dict[str, str]:
    hq.instructions = instructions
    send_beat(here, "test")
    return here.spool.noted_all()


def test_pause_and_drain_are_noted_and_taken_back(here: Node, hq: HeardHq) -> None:
    assert answered(here, hq, paused=True, draining=False)[notes.PAUSED] == notes.SET
    assert is_kept_away(here.spool.noted_all())
    assert answered(here, hq, paused=False, draining=True)[notes.DRAINING] == notes.SET
    assert is_kept_away(here.spool.noted_all())

    assert not is_kept_away(answered(here, hq, paused=False, draining=False))


def test_the_flag_stays_while_hq_is_away(here: Node, hq: HeardHq) -> None:
    """F-20: also after a restart, since it is on the disk."""
    answered(here, hq, paused=True)
    hq.error = HqUnavailableError("away")

    send_beat(here, "test")

    assert here.spool.noted(notes.PAUSED) == notes.SET


def test_an_older_hq_that_gives_no_instructions_changes_nothing(here: Node, hq: HeardHq) -> None:
    answered(here, hq, paused=True)

    assert answered(here, hq)[notes.PAUSED] == notes.SET
    assert wishes_in({"ok": True}) == wishes_in({"instructions": None}) == wishes_in({"instructions": []}) == {}


def test_the_version_and_the_number_of_the_shared_state_are_noted(here: Node, hq: HeardHq) -> None:
    wanted = {"commit": "9b1c7d20a5e4f3b2c1d0e9f8a7b6c5d4e3f2a1b0", "branch": "main"}

    facts = answered(here, hq, desired_version=wanted, shared_config_version=17)

    assert (facts[notes.DESIRED_VERSION], facts[notes.SHARED_CONFIG_VERSION]) == (wanted["commit"], "17")
    assert answered(here, hq, desired_version=None)[notes.DESIRED_VERSION] == ""


def test_the_workers_to_restart_are_named_to_their_own_pulses(here: Node, hq: HeardHq) -> None:
    facts = answered(here, hq, restart_workers=["w@desk"])

    assert facts[f"{RESTART}w@desk"] == notes.SET


@pytest.mark.parametrize(
    "nonsense",
    [
        {"paused": "yes", "draining": 1, "restart_workers": "w@desk", "shared_config_version": True},
        {"paused": None, "draining": [], "restart_workers": [1, None, {}], "shared_config_version": "17"},
    ],
)
def test_nonsense_is_no_wish(nonsense: dict[str, Any]) -> None:
    assert wishes_in({"instructions": nonsense}) == {}


def test_a_flood_of_nonsense_stays_small() -> None:
    wishes = wishes_in(
        {"instructions": {"restart_workers": ["x" * 10_000] * 10_000, "desired_version": {"commit": "f" * 10_000}}}
    )

    assert len(json.dumps(wishes)) < 1000


# Refusals.


def refused(status: int, cause: str = "") -> HqRefusedError:
    return HqRefusedError(status, f"HQ answered {status}", cause)


def test_a_factory_whose_name_another_one_uses_takes_nothing_until_it_is_heard_again(here: Node, hq: HeardHq) -> None:
    hq.error = refused(409, "split_brain")
    with capture_logs() as lines:
        assert not send_beat(here, "test")
    assert is_kept_away(here.spool.noted_all())
    assert ("split_brain", "error") in [(line["event"], line["log_level"]) for line in lines]
    assert all("what_next" in line for line in lines if line["event"] == "split_brain")

    hq.error = None
    send_beat(here, "test")

    assert not is_kept_away(here.spool.noted_all())


@pytest.mark.parametrize("status", [401, 403])
def test_a_refused_credential_is_said_once_with_what_to_do(here: Node, hq: HeardHq, status: int) -> None:
    def said() -> int:
        with capture_logs() as lines:
            send_beat(here, "test")
        return sum(line["event"] == "beat_refused" and "what_next" in line for line in lines)

    hq.error = refused(status)
    assert [said(), said(), said()] == [1, 0, 0]

    hq.error = None
    send_beat(here, "test")
    hq.error = refused(status)

    assert said() == 1, "after a time of peace it is news again"


@pytest.mark.parametrize(("cause", "advice"), [("", REFUSED_ADVICE[401]), ("quarantined", QUARANTINED_ADVICE)])
def test_a_factory_in_quarantine_is_not_told_to_join_again(here: Node, hq: HeardHq, cause: str, advice: str) -> None:
    hq.error = HqRefusedError(401, "HQ answered 401", cause)
    with capture_logs() as lines:
        send_beat(here, "test")

    assert [line["what_next"] for line in lines if line["event"] == "beat_refused"] == [advice]


def test_a_refused_credential_keeps_no_mission_away(here: Node, hq: HeardHq) -> None:
    """What Redis still brings was sent by HQ; only HQ's own word stops it."""
    hq.error = refused(401)
    send_beat(here, "test")

    assert not is_kept_away(here.spool.noted_all())


# Patience (fleet §4).


@pytest.mark.parametrize(
    ("failures", "interval", "works", "seconds"),
    [
        (0, 60, False, 60),
        (1, 60, False, 120),
        (2, 60, False, 240),
        (3, 60, False, 300),
        (5000, 60, False, 300),
        (1, 60, True, 60),
        (9, 10, True, 10),
        (0, 600, False, 600),
        (1, 600, False, 300),
    ],
)
def test_the_wait_after_failures(failures: int, interval: float, works: bool, seconds: float) -> None:
    assert patience(failures, interval, works=works) == seconds


def test_the_beats_of_the_control_worker_grow_rarer_while_hq_is_away(
    here: Node, hq: HeardHq, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [1000.0]
    monkeypatch.setattr(clock, "monotonic", lambda: now[0])
    hq.error = HqUnavailableError("away")
    at: list[float] = []
    for _ in range(20):
        if not is_too_early(here):  # as the control worker asks, at each message of beat
            send_beat(here, "beat")
            at.append(now[0] - 1000)
        now[0] += 60

    assert at == [0, 120, 360, 660, 960]


def test_while_an_attempt_runs_hq_is_asked_every_interval(
    here: Node, hq: HeardHq, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [1000.0]
    monkeypatch.setattr(clock, "monotonic", lambda: now[0])
    hq.error = HqUnavailableError("away")
    for _ in range(3):
        send_beat(here, "test")
    now[0] += 60
    assert is_too_early(here)

    here.spool.accept("at-1", "j-1", 1, my_identity(), clock.iso(clock.utc_now()))

    assert not is_too_early(here)


def test_a_beat_that_is_taken_ends_the_waiting(here: Node, hq: HeardHq) -> None:
    hq.error = HqUnavailableError("away")
    send_beat(here, "test")
    assert is_too_early(here)

    hq.error = None
    send_beat(here, "test")

    assert not is_too_early(here)


def test_only_the_last_process_of_a_factory_takes_its_leave(here: Node, hq: HeardHq) -> None:
    for name in ("missions", "orders"):
        here.spool.put_worker(name, my_identity(), 1, ["q"], [])
    here.spool.remove_worker("missions")
    say_goodbye(here)
    assert hq.beats == []

    here.spool.remove_worker("orders")
    say_goodbye(here)
    assert (hq.last["registration_status"], hq.last["slots"], hq.last["workers"]) == ("offline", 0, [])
    hq.error = HqUnavailableError("away")
    say_goodbye(here)


def test_headquarters_takes_no_leave(tmp_path: Path, hq: HeardHq) -> None:
    say_goodbye(node_at(tmp_path, hq, FACTORY_ROLE="HEADQUARTERS"))
    assert hq.beats == []

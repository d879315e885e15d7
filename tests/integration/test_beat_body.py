"""What a factory says of itself in a beat: all of it read from its spool, whichever process sends it."""

import json
from pathlib import Path
from typing import Any

import pytest
from node_at_work import HeardHq, node_at

from corporation.federation import notes
from corporation.federation.hq import HqUnavailableError
from corporation.federation.processes import my_identity
from factory_tasks.beat_body import beat_body
from factory_tasks.heartbeat import send_beat
from factory_tasks.node import Node
from factory_tasks.usage import OF_DAY

MISSIONS = ["local_factory", "factory.desk-7"]


@pytest.fixture
def hq() -> HeardHq:
    return HeardHq()


@pytest.fixture
def here(tmp_path: Path, hq: HeardHq) -> Node:
    return node_at(tmp_path, hq)


def worker(here: Node, name: str = "w@desk", slots: int = 2, queues: list[str] = MISSIONS) -> None:
    here.spool.put_worker(name, my_identity(), slots, queues, ["vp_coder"])


def body(here: Node) -> dict[str, Any]:
    return beat_body(here, "test")


def test_slots_and_labels_are_those_of_the_workers_that_take_missions(here: Node) -> None:
    worker(here)
    worker(here, "w2@desk", slots=3)
    worker(here, "control@desk", slots=1, queues=["desk-7.control"])

    assert body(here)["slots"] == 5
    assert body(here)["queues"] == [*MISSIONS, "desk-7.control"]
    assert "vp_coder" in body(here)["capabilities"]


def test_each_worker_is_shown_as_its_pulse_last_wrote_it_down(here: Node) -> None:
    worker(here)
    worker(here, "control@desk", slots=1, queues=["desk-7.control"])
    here.spool.note("worker:w@desk", json.dumps({"loop_age_seconds": 61.5, "busy": 2, "connected": False}))

    control, mission = body(here)["workers"]

    assert mission == {
        "name": "w@desk",
        "slots": 2,
        "queues": MISSIONS,
        "busy": 2,
        "loop_age_seconds": 61.5,
        "connected": False,
    }
    assert (control["loop_age_seconds"], control["busy"], control["connected"]) == (None, 0, True)


@pytest.mark.parametrize(
    ("facts", "status"),
    [
        ({}, "online"),
        ({notes.PAUSED: notes.SET}, "paused"),
        ({notes.DRAINING: notes.SET}, "draining"),
        ({notes.PAUSED: notes.UNSET, notes.DRAINING: notes.UNSET}, "online"),
    ],
)
def test_the_status_is_what_hq_wanted_last(here: Node, facts: dict[str, str], status: str) -> None:
    worker(here)
    here.spool.note_all(facts)

    assert body(here)["registration_status"] == status


def test_a_factory_drains_when_all_its_workers_are_on_their_way_out(here: Node) -> None:
    worker(here)
    worker(here, "w2@desk")
    here.spool.rest_worker("w@desk")
    assert (body(here)["registration_status"], body(here)["slots"]) == ("online", 2)

    here.spool.rest_worker("w2@desk")

    assert (body(here)["registration_status"], body(here)["slots"]) == ("draining", 0)


def test_while_missions_travel_over_https_only_those_slots_count_and_redis_is_not_offered(here: Node) -> None:
    worker(here)
    here.spool.note(notes.TRANSPORT_WHY, "Redis does not answer (ConnectionError)")
    assert (body(here)["transport"], body(here)["transport_why"]) == ("redis", None)

    worker(here, "pull@desk", slots=4, queues=[notes.HTTPS])

    said = body(here)
    assert (said["transport"], said["transport_why"]) == ("https", "Redis does not answer (ConnectionError)")
    assert said["slots"] == 4
    assert "transport:http" in said["capabilities"]
    assert "delegation_redis" not in said["capabilities"]
    assert notes.HTTPS not in said["queues"]


def test_delegation_over_redis_is_offered_only_while_redis_answers(tmp_path: Path, hq: HeardHq, redis_url: str) -> None:
    here = node_at(tmp_path, hq, UA_REDIS_URL=redis_url)
    worker(here)
    assert "delegation_redis" in body(here)["capabilities"]

    gone = node_at(tmp_path, hq)

    assert "delegation_redis" not in body(gone)["capabilities"]


def test_beats_are_numbered_from_one_on_in_whatever_process(tmp_path: Path, here: Node, hq: HeardHq) -> None:
    other = node_at(tmp_path, hq)

    assert [body(node)["beat_number"] for node in (here, other, here)] == [1, 2, 3]
    assert body(here)["instance_id"] == body(other)["instance_id"]


def test_two_spools_of_one_factory_are_two_instances(tmp_path: Path, here: Node, hq: HeardHq) -> None:
    elsewhere = node_at(tmp_path / "elsewhere", hq)

    assert body(here)["instance_id"] != body(elsewhere)["instance_id"]


def test_the_latency_is_that_of_the_beat_before(here: Node, hq: HeardHq) -> None:
    send_beat(here, "test")
    send_beat(here, "test")

    assert hq.beats[0]["heartbeat_latency_ms"] is None
    assert hq.beats[1]["heartbeat_latency_ms"] >= 0


def test_the_echo_that_was_heard_last_goes_home(here: Node) -> None:
    assert body(here)["echo"] is None

    here.spool.note(notes.ECHO_HEARD, "e-2")

    assert body(here)["echo"] == "e-2"


def test_a_beat_needs_no_disk_but_to_read(here: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk must not look like a dead machine."""
    worker(here)
    body(here)
    here.spool._read("PRAGMA query_only = ON")  # pyright: ignore[reportPrivateUsage]

    said = body(here)

    assert said["slots"] == 2
    assert {"instance_id", "beat_number"} & set(said) == set()


# What was used.


def use(here: Node, day: str, tokens: int) -> None:
    counts = {"requests": 1, "input_tokens": tokens, "output_tokens": 2, "estimated_cost_usd": 0.5}
    here.spool.note(OF_DAY + day, json.dumps({"glm-x": counts}, sort_keys=True))


def test_without_use_there_is_no_snapshot(here: Node) -> None:
    assert "cost_snapshot" not in body(here)


def test_a_day_is_told_once_and_again_when_it_has_grown(here: Node, hq: HeardHq) -> None:
    use(here, "2026-06-01", 10)
    send_beat(here, "test")
    send_beat(here, "test")
    use(here, "2026-06-01", 30)
    send_beat(here, "test")

    assert [beat.get("cost_snapshot", {}).get("total_input_tokens") for beat in hq.beats] == [10, None, 30]
    assert hq.last["cost_snapshot"] == {
        "factory_id": "desk-7",
        "period_start": "2026-06-01T00:00:00.000000+00:00",
        "period_end": "2026-06-02T00:00:00.000000+00:00",
        "total_input_tokens": 30,
        "total_output_tokens": 2,
        "total_requests": 1,
        "estimated_cost_usd": 0.5,
        "breakdown_by_model": {
            "glm-x": {"requests": 1, "input_tokens": 30, "output_tokens": 2, "estimated_cost_usd": 0.5}
        },
    }


def test_the_end_of_a_day_is_told_on_the_next_one(here: Node, hq: HeardHq) -> None:
    use(here, "2026-06-02", 1)
    use(here, "2026-06-01", 99)
    send_beat(here, "test")
    send_beat(here, "test")

    assert [beat["cost_snapshot"]["period_start"][:10] for beat in hq.beats] == ["2026-06-01", "2026-06-02"]


def test_what_hq_did_not_take_is_told_again(here: Node, hq: HeardHq) -> None:
    use(here, "2026-06-01", 10)
    hq.error = HqUnavailableError("away")
    send_beat(here, "test")
    hq.error = None
    send_beat(here, "test")

    assert [beat["cost_snapshot"]["total_input_tokens"] for beat in hq.beats] == [10, 10]

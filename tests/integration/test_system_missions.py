"""Orders to the factory itself: all its processes know HQ's flags, whoever takes the order, and nobody else's."""

from pathlib import Path
from uuid import uuid4

import pytest

from corporation.federation.notes import DRAINING, PAUSED
from corporation.roles import FactoryRole, build_factory_runtime_policy
from corporation.settings import load_settings
from factory_tasks import system_missions
from factory_tasks.handlers import labels, registered
from factory_tasks.mission_task import Order, attempt
from factory_tasks.node import Node, build_node

PAUSE, RESUME = "system:pause_factory", "system:resume_factory"
POLICY = build_factory_runtime_policy(FactoryRole.LOCAL_WORKER)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Node:
    built = build_node(load_settings({"UA_FACTORY_ID": "desk-7", "UA_VP_DB_PATH": str(tmp_path / "spool.db")}))
    monkeypatch.setattr(system_missions, "node", lambda: built)
    return built


def carried_out(here: Node, kind: str, **context: str) -> dict[str, object]:
    """The report on an order of this kind."""
    order = Order(
        f"o-{uuid4()}", 1, "desk-7", 30, kind, {"mission_kind": kind, "target_factory_id": "desk-7"} | context
    )
    return attempt(here, registered(POLICY)[kind], str(uuid4()), order)


def flags(here: Node) -> tuple[str | None, str | None]:
    return here.spool.noted(PAUSED), here.spool.noted(DRAINING)


def test_a_pause_is_known_to_all_processes_and_survives_them(here: Node) -> None:
    """S-35: the result says the action and the note."""
    report = carried_out(here, PAUSE, note="moving the desk")

    assert flags(build_node(here.settings)) == ("1", "0")
    assert (report["outcome"], report["result"]) == ("done", {"action": "pause", "note": "moving the desk"})


def test_a_drain_is_a_pause_that_is_said_as_draining(here: Node) -> None:
    report = carried_out(here, PAUSE, mode="drain")

    assert flags(here) == ("0", "1")
    assert report["result"] == {"action": "pause", "note": "", "mode": "drain"}


@pytest.mark.parametrize("before", [{}, {"mode": "drain"}])
def test_a_resume_ends_either(here: Node, before: dict[str, str]) -> None:
    carried_out(here, PAUSE, **before)
    report = carried_out(here, RESUME)

    assert flags(here) == ("0", "0")
    assert report["result"] == {"action": "resume", "note": ""}


@pytest.mark.parametrize("kind", [PAUSE, RESUME])
def test_an_order_for_another_factory_changes_nothing_here(here: Node, kind: str) -> None:
    """S-24."""
    carried_out(here, PAUSE)
    report = carried_out(here, kind, target_factory_id="desk-8")

    assert flags(here) == ("1", "0")
    assert report["outcome"] == "stop"


def test_an_order_is_a_kind_of_every_node_and_a_label_of_none() -> None:
    assert {PAUSE, RESUME} <= set(registered(POLICY))
    assert not [label for label in labels(POLICY) if "system:" in label]

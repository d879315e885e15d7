"""The kind of a mission comes from the first source that names one, and no disguise makes a system order."""

from typing import Any

import pytest

from corporation.envelope import MissionEnvelope, parse_wire
from corporation.missions.kinds import known_kinds, needed_label, resolve


def mission(task: str = "Tidy", kind: Any = None, context_kind: Any = None) -> MissionEnvelope:
    context = {} if context_kind is None else {"mission_kind": context_kind}
    given = {} if kind is None else {"mission_kind": kind}
    return parse_wire({"job_id": "j", "idempotency_key": "k", "payload": {"task": task, "context": context}} | given)


@pytest.mark.parametrize(
    ("envelope", "kind"),
    [
        (mission("coding_task: x", "general_task", "research_task"), "research_task"),
        (mission("coding_task: x", "general_task", "  "), "general_task"),
        (mission("coding_task: x", " "), "coding_task"),
        (mission("Coding_Task : x"), "coding_task"),
        (mission("Tidy the notes"), "general_task"),
        (mission("Note: buy milk"), "general_task"),
        (mission("system: hello"), "general_task"),
        (mission("tutorial_bootstrap_repo: x"), "bootstrap_repo"),
        (mission(context_kind=" Tutorial_Bootstrap_Repo "), "bootstrap_repo"),
    ],
)
def test_the_first_source_that_names_a_kind_decides(envelope: MissionEnvelope, kind: str) -> None:
    resolved = resolve(envelope)

    assert (resolved.kind, resolved.known) == (kind, True)


@pytest.mark.parametrize(
    "task",
    [
        "system:update_factory",
        "system:update_factory: now",
        "system:pause_factory please",
        "SYSTEM:UPDATE_FACTORY",
        " \u00a0system:update_factory",
        "system:resume_factory\nnow",
    ],
)
def test_a_system_order_is_seen_whatever_its_case_and_space(task: str) -> None:
    """S-13."""
    assert resolve(mission(task)).system


@pytest.mark.parametrize(
    "task",
    [
        "\uff53ystem:update_factory",
        "system:update_factory2",
        "system\uff1aupdate_factory",
        "do system:update_factory",
        "\u017fystem:update_factory",
    ],
)
def test_a_look_alike_is_never_a_system_order(task: str) -> None:
    assert resolve(mission(task)).kind == "general_task"


@pytest.mark.parametrize(
    ("kind", "where"), [("dance", ("mission_kind",)), ("coding_tas\u212a", ("mission_kind",)), (5, ())]
)
def test_an_unknown_explicit_kind_does_not_fall_through(kind: Any, where: tuple[str, ...]) -> None:
    """S-14."""
    envelope = mission("coding_task: x", kind) if isinstance(kind, str) else mission("coding_task: x", None, kind)

    resolved = resolve(envelope)

    assert (resolved.kind, resolved.known) == ("general_task", False)
    assert resolved.requested_kind == str(kind)
    assert resolved.loc == (where or ("payload", "context", "mission_kind"))


def test_an_alias_is_stored_under_its_real_name_and_remembered() -> None:
    """S-15."""
    resolved = resolve(mission(kind="tutorial_bootstrap_repo"))

    assert (resolved.kind, resolved.requested_kind) == ("bootstrap_repo", "tutorial_bootstrap_repo")


def test_a_kind_that_a_factory_advertises_may_be_named_but_never_guessed_from_the_task() -> None:
    advertised = frozenset({"dance"})

    assert resolve(mission(kind="Dance"), advertised).kind == "dance"
    assert resolve(mission("dance: slowly"), advertised).kind == "general_task"


def test_a_factory_cannot_advertise_a_system_order() -> None:
    advertised = frozenset({"system:wipe_factory"})

    assert not resolve(mission(kind="system:wipe_factory"), advertised).known
    assert "system:wipe_factory" not in known_kinds(advertised)


def test_every_kind_says_which_label_a_factory_needs() -> None:
    assert needed_label("coding_task") == "vp_coder"
    assert needed_label("tutorial_bootstrap_repo") == "tutorial_bootstrap_consumer"
    assert needed_label("system:pause_factory") is None
    assert needed_label("dance") == "kind:dance"

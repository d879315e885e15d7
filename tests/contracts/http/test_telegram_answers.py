"""What the bot says fits one message, and nobody else's text can change how it looks."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corporation.missions.counts import MissionCounts
from corporation.roles import FactoryRole, build_factory_runtime_policy
from hq_api import telegram_answers as answers


@given(st.text(alphabet="a😀\u202e\n", max_size=3).map(lambda text: text * 2000))
def test_every_answer_fits_one_message(text: str) -> None:
    fitting = answers.fitting(text)

    assert len(fitting.encode("utf-16-le")) // 2 <= 4096
    assert fitting == text or (fitting.endswith("…") and text.startswith(fitting[:-1]))


@pytest.mark.parametrize("character", ["\n", "\x1b", "\u202e", "\u2066", "\ud800", "\x00", "\u2028"])
def test_characters_that_break_or_turn_a_line_are_not_shown(character: str) -> None:
    line = answers.listed(
        [{"state": "waiting", "state_reason": "backoff", "mission_kind": "general_task", "job_id": f"a{character}b"}]
    )

    assert line == "waiting (backoff) · general_task · a�b"


@pytest.mark.parametrize("role", FactoryRole)
def test_the_status_names_the_role_its_policy_row_and_the_missions_by_state(role: FactoryRole) -> None:
    policy = build_factory_runtime_policy(role)

    counts = MissionCounts({"waiting": 1, "queued": 0, "running": 2}, {"failed": 3}, False, True)
    first, row, missions = answers.status("desk-7", policy, counts).split("\n")
    assert first == f"desk-7: {role}"
    assert f"gateway {policy.gateway_mode}" in row
    assert f"delegation {policy.delegation_mode}" in row
    assert missions == "Missions: 1 waiting, 2 running · ended of the last 24 h: 3 failed"


def test_a_ledger_without_missions_is_said_in_words() -> None:
    assert answers.listed([]) == answers.NO_MISSIONS
    nothing = MissionCounts({"waiting": 0}, {}, False, False)
    said = answers.status("x", build_factory_runtime_policy(FactoryRole.HEADQUARTERS), nothing)
    assert said.endswith("Missions: none · ended of the last 24 h: none")

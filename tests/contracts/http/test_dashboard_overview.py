"""What the fleet's page says about what it read: ages, load, and what needs a person."""

from typing import Any

import pytest

from corporation.factories.signs_of_life import Light
from corporation.roles import FactoryRole, GatewayMode, Overrides, build_factory_runtime_policy
from hq_api.dashboard.navigation import menu
from hq_api.dashboard.node import policy_lines
from hq_api.dashboard.overview import FactoryRow, Flag, Fleet, age, counted, minute, needs, span


def factory(
    factory_id: str = "desk-7", status: str = "online", silent: float | None = 3.0, **changes: Any
) -> FactoryRow:
    """A factory with two slots."""
    fields: dict[str, Any] = {"slots": 2} | changes
    seen = "2026-06-01T08:00:00.000000+00:00"
    return FactoryRow(factory_id, "LOCAL_WORKER", "local_workstation", status, silent, seen, **fields)


def fleet(*factories: FactoryRow, **open_missions: int) -> Fleet:
    """A fleet of these, with so many missions in each open state."""
    return Fleet(factories, len(factories), open_missions, {"failed": 2, "timed_out": 1, "succeeded": 9}, True)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-5, "0 s"), (0, "0 s"), (59.9, "59 s"), (60, "1 min"), (3599, "59 min"), (3600, "1 h"), (86400 * 3, "3 d")],
)
def test_a_length_of_time_is_said_in_its_largest_unit(seconds: float, text: str) -> None:
    assert span(seconds) == text


def test_an_age_is_said_as_people_do() -> None:
    assert (age(-3), age(0.4), age(41), age(None)) == ("now", "now", "41 s ago", "never")


def test_a_moment_is_said_to_the_minute() -> None:
    assert minute("2026-06-01T08:07:59.999999+00:00") == "2026-06-01 08:07 UTC"


def test_a_count_that_stopped_says_so() -> None:
    assert (counted(0), counted(9_999), counted(10_000)) == ("0", "9,999", "10,000+")


def test_nothing_needs_anybody_while_all_are_heard() -> None:
    assert needs(fleet(factory("hq", slots=0), factory(), waiting=3), "hq") == []


def test_missions_without_a_factory_and_silent_factories_need_somebody() -> None:
    found = needs(fleet(factory("hq", slots=0), factory("attic", "offline", 1000, busy=1), waiting=1), "hq")

    assert [need.subject for need in found] == ["Missions", "attic"]
    assert found[0].text == "1 mission waits and no factory is online to take one"
    assert found[1].text == "has been silent for 16 min"
    assert "lease" in found[1].advice


def test_paused_and_draining_factories_take_nothing() -> None:
    only = fleet(factory("a", "paused"), factory("b", "draining"), queued=2)

    assert [need.subject for need in needs(only, "hq")] == ["Missions"]


def test_a_stale_factory_is_not_present_and_its_slots_do_not_count() -> None:
    shown = fleet(factory("a", slots=3), factory("b", "stale", 400, slots=8), claimed=1, running=2, queued=4)

    assert [one.factory_id for one in shown.present] == ["a"]
    assert (shown.slots, shown.under_way, shown.to_come, shown.gone_wrong) == (3, 3, 4, 3)


def test_a_factory_that_beats_and_takes_or_moves_nothing_needs_somebody() -> None:
    lights = {
        "process": Light("green", "It was heard of 3 s ago."),
        "consumer": Light("red", "The consumer loop of desk-7 has stood still for 2 min."),
        "work": Light("red", "Of 2 that run there, one was last named 7 min ago."),
    }
    found = needs(fleet(factory(lights=lights), factory("nas")), "hq")

    assert [(need.subject, need.text) for need in found] == [
        ("desk-7", "takes no missions: the consumer loop of desk-7 has stood still for 2 min"),
        ("desk-7", "gets nowhere: of 2 that run there, one was last named 7 min ago"),
    ]


def test_two_machines_with_one_name_need_somebody_before_a_silent_one() -> None:
    found = needs(fleet(factory("attic", "stale", 400), factory("desk-7", rival=True)), "hq")

    assert [need.subject for need in found] == ["desk-7", "attic"]
    assert "two machines" in found[0].text


def test_a_factory_that_was_never_heard_of_is_awaited_and_not_lost() -> None:
    shown = fleet(factory("a"), factory("new", "offline", None))

    assert ([one.factory_id for one in shown.present], shown.lost) == (["a"], ())
    assert [(need.subject, need.text) for need in needs(shown, "hq")] == [("new", "was never heard of")]


@pytest.mark.parametrize("silent", [3.0, 5000.0, None])
def test_a_factory_that_was_shut_out_is_neither_present_nor_missed(silent: float | None) -> None:
    shown = fleet(factory("cut", "quarantined", silent, slots=8), factory("a"))

    assert ([one.factory_id for one in shown.present], shown.lost, shown.slots) == (["a"], (), 2)
    assert needs(shown, "hq") == []


def test_who_takes_nothing_by_its_own_word_is_told_from_whom_hq_stopped() -> None:
    said = [factory(status="draining"), factory(status="paused", flag=Flag("paused", "ana")), factory()]

    assert [one.own_word for one in said] == [True, False, False]


@pytest.mark.parametrize(
    ("version", "text"),
    [("4f2a9c1d0b7e6a5f4c3b2a190817263544f0e1d2", "4f2a9c1"), ("1.2.0-rc", "1.2.0-rc"), (None, None)],
)
def test_a_commit_is_shown_short_and_any_other_version_whole(version: str | None, text: str | None) -> None:
    assert factory(version=version).version_shown == text


def test_many_labels_are_folded_and_none_is_lost() -> None:
    few, many = factory(labels=tuple("abcdefg")), factory(labels=tuple("abcdefgh"))

    assert (few.labels_shown, few.labels_folded) == (tuple("abcdefg"), ())
    assert (many.labels_shown, many.labels_folded) == (tuple("abcdef"), tuple("gh"))


@pytest.mark.parametrize(
    ("role", "mode", "titles"),
    [
        (FactoryRole.HEADQUARTERS, None, ["Node", "Corporation"]),
        (FactoryRole.HEADQUARTERS, GatewayMode.HEALTH_ONLY, ["Node"]),
        (FactoryRole.STANDALONE_NODE, None, ["Node"]),
        (FactoryRole.LOCAL_WORKER, GatewayMode.FULL, ["Node"]),
    ],
)
def test_only_a_full_headquarters_has_the_entry_corporation(
    role: FactoryRole, mode: GatewayMode | None, titles: list[str]
) -> None:
    """Contract http §13"""
    policy = build_factory_runtime_policy(role, Overrides(gateway_mode=mode))

    assert [item.title for item in menu(policy)] == titles


def test_what_is_allowed_and_does_not_run_in_this_process_is_not_called_on() -> None:
    lines = {line.title: line for line in policy_lines(build_factory_runtime_policy(FactoryRole.HEADQUARTERS))}
    off = {line.title: line for line in policy_lines(build_factory_runtime_policy(FactoryRole.LOCAL_WORKER))}

    assert [(lines[title].value, lines[title].on) for title in ("Telegram", "Signals", "Mail")] == [
        ("allowed", False)
    ] * 3
    assert "TELEGRAM_BOT_TOKEN" in lines["Telegram"].meaning
    assert lines["Signals"].meaning == "no ingest yet"
    assert {off[title].value for title in ("Telegram", "Signals", "Mail")} == {"off"}


@pytest.mark.parametrize("role", FactoryRole)
def test_every_duty_of_the_policy_has_a_line(role: FactoryRole) -> None:
    lines = policy_lines(build_factory_runtime_policy(role))

    assert [line.title for line in lines] == [
        *("Gateway", "Dashboard", "Delegation", "Heartbeat", "Telegram", "Signals", "Mail", "Coder", "Generalist"),
    ]
    assert all(line.value and line.meaning and line.variable for line in lines)

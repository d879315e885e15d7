"""Who is let into the servers that a stack starts itself: one user for each process, and no more than it needs."""

import pytest

from corporation.embedded.stack_shape import Shape
from corporation.embedded.stack_users import LONGEST_ROLE, own_users, role_of, user_for
from corporation.settings import Settings, load_settings
from corporation.trust.redis_profiles import HqUser, factory_rules, hq_rules

OF_HQ = {"corporation_api", "corporation_engine", "corporation_flower"}


def settings(**given: str) -> Settings:
    return load_settings({"HOSTNAME": "desk", **given})


@pytest.mark.parametrize(
    ("shape", "workers", "role"),
    [
        (Shape.WHOLE, {"f_desk", "f_desk-hq"}, "f_desk"),
        (Shape.HQ, {"f_desk", "f_desk-hq"}, "f_desk"),
        (Shape.STANDALONE, {"f_desk-node"}, ""),
    ],
)
def test_each_node_of_a_stack_is_a_user_of_its_own(shape: Shape, workers: set[str], role: str) -> None:
    own = own_users(shape, settings())

    assert set(own.broker) == set(own.older_broker) == OF_HQ | workers
    assert own.mailbox_role == role


def test_a_worker_starts_no_server_and_lets_nobody_in() -> None:
    own = own_users(Shape.WORKER, settings(FACTORY_ROLE="LOCAL_WORKER"))

    assert (own.broker, own.mailbox_role) == ({}, "")


def test_the_factory_beside_hq_reaches_its_own_keys_and_hqs_workers_their_queue_too() -> None:
    users = own_users(Shape.WHOLE, settings()).broker

    assert users["f_desk"] == factory_rules("desk", seen=True)
    assert users["f_desk-hq"] == factory_rules("desk-hq", own_queues=("headquarters",), seen=True)


def test_streams_and_queues_of_other_names_are_the_ones_that_users_reach() -> None:
    given = settings(
        FACTORY_ROLE="HEADQUARTERS",
        UA_FACTORY_ID="hq-east",
        UA_FACTORY_QUEUE="heavy",
        UA_DELEGATION_STREAM_NAME="own:missions",
    )
    users = own_users(Shape.HQ, given).broker

    assert users["corporation_engine"] == hq_rules(HqUser.engine, mission_stream="own:missions")
    assert any("~heavy" in rule for rule in users["f_hq-east"])
    assert any("~heavy" in rule for rule in users["corporation_flower"])


def test_a_server_that_does_not_know_a_command_is_not_told_of_it() -> None:
    own = own_users(Shape.WHOLE, settings())

    assert all("+client|setinfo" in rules for rules in own.broker.values())
    assert not [rule for rules in own.older_broker.values() for rule in rules if "setinfo" in rule]


@pytest.mark.parametrize(
    "given",
    [{"UA_FACTORY_ID": "desk_index"}, {"UA_FACTORY_QUEUE": "a b"}, {"UA_FACTORY_QUEUE": "every*"}],
)
def test_names_that_would_reach_the_keys_of_others_are_refused(given: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="name"):
        own_users(Shape.HQ, settings(FACTORY_ROLE="HEADQUARTERS", **given))


def test_every_process_is_somebody_at_the_broker_but_for_the_one_that_needs_none() -> None:
    assert user_for("engine", "desk-hq") == "corporation_engine"
    assert user_for("hq-worker", "desk-hq") == "f_desk-hq"
    assert user_for("pull", "desk") == "f_desk"
    assert user_for("telegram", "desk-hq") == ""


def test_names_too_long_for_a_role_stay_apart() -> None:
    one, two = role_of("x" * 80 + "1"), role_of("x" * 80 + "2")

    assert one != two
    assert max(len(one), len(two)) <= LONGEST_ROLE
    assert role_of("desk 7") == "f_desk-7"

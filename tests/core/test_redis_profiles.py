"""What users of the broker may do: names that would collide, and what no factory's profile ever holds."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corporation.roles import slug_of
from corporation.trust.redis_profiles import (
    HqUser,
    clash_of,
    factory_rules,
    hq_rules,
    producer_rules,
    user_of,
    user_of_hq,
)

IDS = st.text("ab.*?[]:_- ü1~&%(){}^", min_size=1, max_size=12)


def keys_of(rules: tuple[str, ...]) -> set[str]:
    """Every key pattern in these rules."""
    words = [word for rule in rules for word in rule.strip("()").split()]
    return {word.lstrip("%RW~") for word in words if "~" in word[:3]}


def test_a_factorys_profile_is_what_was_measured() -> None:
    assert factory_rules("desk-7") == (
        "resetkeys",
        "resetchannels",
        "clearselectors",
        "-@all",
        "+hello",
        "+auth",
        "+ping",
        "+client|setname",
        "+client|setinfo",
        "+multi",
        "+exec",
        "+unwatch",
        "(~factory.desk-7 ~desk-7.control +brpop +lpush +rpush +llen)",
        "(~unacked:desk-7 +hset +hdel +hget +hgetall +watch)",
        "(~unacked:desk-7_index +zadd +zrem +zrange)",
        "(~unacked:desk-7_mutex +set +get +del +watch)",
    )


def test_without_setinfo_a_server_hears_no_word_that_it_does_not_know() -> None:
    every = [factory_rules("a", has_setinfo=False), producer_rules("s", has_setinfo=False)]
    every += [hq_rules(role, has_setinfo=False) for role in HqUser]

    assert not any(word in rule for rules in every for rule in rules for word in ("setinfo", "waitaof"))


def test_users_are_named_after_whom_they_stand_for() -> None:
    assert user_of("desk-7") == "f_desk-7"
    assert user_of("Büro 3") == "f_B-ro-3"
    assert [user_of_hq(role) for role in HqUser] == ["corporation_engine", "corporation_api", "corporation_flower"]


@pytest.mark.parametrize("name", ["desk_index", "desk_mutex", "a_b_index", "control", "---", " . ", "*"])
def test_a_name_whose_keys_would_be_anothers_has_no_user(name: str) -> None:
    assert clash_of(name)
    with pytest.raises(ValueError, match=r".+"):
        factory_rules(name)


@pytest.mark.parametrize("name", ["desk-7", "index", "desk_index7", "controls", "factory", "a", "7", "f_x:y"])
def test_other_names_have_one(name: str) -> None:
    assert clash_of(name) is None


@given(IDS)
def test_no_name_makes_a_pattern_or_a_second_rule(name: str) -> None:
    if clash_of(name):
        return
    rules = factory_rules(name)

    assert not any(sign in key for key in keys_of(rules) for sign in "*?[]^ ()~&%")
    assert all(rule.count("(") == rule.count(")") <= 1 for rule in rules)
    assert len(rules) == len(factory_rules("desk-7"))


@given(IDS, IDS)
def test_two_names_that_both_have_a_user_share_no_key(one: str, other: str) -> None:
    if clash_of(one) or clash_of(other) or slug_of(one) == slug_of(other):
        return

    assert not keys_of(factory_rules(one)) & keys_of(factory_rules(other))


def test_no_factory_and_no_flower_runs_scripts_and_nobody_manages_the_server() -> None:
    every = {role: hq_rules(role) for role in HqUser} | {"factory": factory_rules("a", seen=True)}
    words = {who: " ".join(rules).split() for who, rules in every.items()}

    for said in words.values():
        granted = {word.strip("()").removeprefix("+") for word in said if word.strip("()").startswith("+")}
        assert not any(
            word.startswith(("eval", "script", "function", "fcall", "@", "acl", "config")) for word in granted
        )
        assert not granted & {"flushall", "flushdb", "shutdown", "debug", "keys", "scan", "monitor", "client"}


def test_only_who_is_seen_may_publish_and_only_events() -> None:
    assert not any("&" in rule for rule in factory_rules("a"))
    assert factory_rules("a", seen=True)[-1] == "(&/0.celeryev/worker.* &/0.celeryev/task.* +publish)"


def test_hqs_own_worker_takes_from_its_mission_queue_as_well() -> None:
    rules = factory_rules("hq", own_queues=("headquarters",))

    assert "(~factory.hq ~hq.control ~headquarters +brpop +lpush +rpush +llen)" in rules


def test_hqs_users_follow_the_names_of_the_streams() -> None:
    rules = hq_rules(HqUser.engine, mission_stream="m", dead_letter_stream="d")

    assert {"m", "m:exhausted:*", "m:results", "d"} <= keys_of(rules)
    assert not any("ua:missions" in rule for rule in rules)


def test_the_api_counts_and_reads_nothing() -> None:
    """What strangers reach holds no right that shows, takes or puts anything."""
    assert hq_rules(HqUser.api, mission_stream="m", dead_letter_stream="d", has_setinfo=False) == (
        "resetkeys",
        "resetchannels",
        "clearselectors",
        "-@all",
        "+hello",
        "+auth",
        "+ping",
        "+client|setname",
        "(%R~factory.* +llen)",
        "(%R~m +xlen +xpending +xinfo|groups)",
    )

"""A server that the environment names must answer before anything starts, or one line says which variable is wrong."""

import pytest

from corporation.embedded.ports import free_port
from corporation.embedded.stack_given import GivenServerError, given_database, given_redis


def test_nothing_given_means_our_own() -> None:
    assert (given_redis({}), given_database({})) == ("", "")


def test_a_server_that_answers_is_taken(redis_url: str, empty_database_url: str) -> None:
    assert given_redis({"UA_REDIS_URL": redis_url}) == redis_url
    assert given_database({"DATABASE_URL": empty_database_url}) == empty_database_url


def test_a_redis_that_does_not_answer_is_named_with_its_variable() -> None:
    with pytest.raises(GivenServerError, match=r"UA_REDIS_URL names .*unset UA_REDIS_URL"):
        given_redis({"UA_REDIS_URL": f"redis://127.0.0.1:{free_port(None)}/0"})


@pytest.mark.parametrize("name", ["UA_DATABASE_URL", "DATABASE_URL"])
def test_a_wrong_password_is_named_with_its_variable_and_not_shown(empty_database_url: str, name: str) -> None:
    host = empty_database_url.partition("@")[2]
    with pytest.raises(GivenServerError) as refused:
        given_database({name: f"postgresql://corporation:canary-pw@{host}"})

    assert str(refused.value).startswith(f"{name} names postgresql://corporation:***@")
    assert "canary-pw" not in str(refused.value)

"""A server that the environment names must answer before anything starts, or one line says which variable is wrong."""

from pathlib import Path
from urllib.parse import urlsplit

import pytest
from canary import secret, shows

from corporation.embedded.ports import free_port
from corporation.embedded.stack_given import given_database, given_redis
from corporation.embedded.stack_servers import DataServer, reach_servers
from corporation.errors import GivenServerError, SettingsError


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
        given_database({name: f"postgresql://corporation:{secret('given-pw')}@{host}"})

    assert str(refused.value).startswith(f"{name} names postgresql://corporation:***@")
    assert "cannot be used: it refuses the password" in str(refused.value)
    assert not shows(str(refused.value))


@pytest.mark.parametrize("odd", ["", "%zz", " ", "@", "\n", "%40", "%20", "%00", ":", "&", "é"])
def test_no_part_of_a_password_that_does_not_fit_is_shown(empty_database_url: str, redis_url: str, odd: str) -> None:
    """E-4: a driver repeats the part behind an @ as the host, and what it cannot decode."""
    password = f"{secret('given-odd')}{odd}rest"
    said: list[str] = []
    with pytest.raises(GivenServerError) as refused:
        given_database({"UA_DATABASE_URL": f"postgresql://u:{password}@{empty_database_url.partition('@')[2]}"})
    said.append(str(refused.value))
    with pytest.raises((GivenServerError, SettingsError)) as refused:
        given_redis({"UA_REDIS_URL": f"redis://:{password}@{redis_url.partition('@')[2]}"})
    said.append(str(refused.value))

    assert not shows("".join(said))
    assert not [words for words in said if "rest" in words or "\n" in words or "_URL" not in words]


@pytest.mark.parametrize(
    ("address", "cause"),
    [
        ("postgresql://u@127.0.0.1:{free}/x", "the connection was refused"),
        ("postgresql://u@{server}/no_such_database", "it refuses the password"),
        ("postgresql://{owner}/no_such_database", "the database does not exist"),
    ],
)
def test_the_cause_is_one_that_a_person_can_act_on(empty_database_url: str, address: str, cause: str) -> None:
    owner = empty_database_url.partition("://")[2].rpartition("/")[0]
    url = address.format(free=free_port(None), owner=owner, server=owner.partition("@")[2])

    with pytest.raises(GivenServerError, match=f"cannot be used: {cause}.*unset UA_DATABASE_URL"):
        given_database({"UA_DATABASE_URL": url})


def test_a_redis_that_nobody_answers_for_is_away_and_a_worker_starts_without_it(redis_url: str) -> None:
    kept: list[DataServer] = []
    reach_servers({"UA_REDIS_URL": "redis://127.0.0.1:1/0"}, kept.append)
    reach_servers({"UA_REDIS_URL": redis_url}, kept.append)

    assert [one.state for one in kept] == ["away", "given"]
    assert "UA_REDIS_URL" in kept[0].away


def test_a_redis_that_is_to_know_a_factorys_own_user_is_asked_again_until_it_does(
    redis_url: str, tmp_path: Path
) -> None:
    """Its user is made by HQ's engine, a moment after it has joined."""
    parts, file, asked = urlsplit(redis_url), tmp_path / "redis-password", list[int]()
    file.write_text("not yet\n")
    given = {
        "UA_REDIS_URL": parts._replace(netloc=f"{parts.hostname}:{parts.port}").geturl(),
        "UA_REDIS_PASSWORD_FILE": str(file),
    }

    def later() -> bool:
        asked.append(1)
        if len(asked) == 2:
            file.write_text(f"{parts.password}\n")
        return True

    kept: list[DataServer] = []
    reach_servers(given, kept.append, later)

    assert ([one.state for one in kept], len(asked)) == (["given"], 2)


def test_a_factory_whose_user_does_not_come_starts_without_redis(redis_url: str, tmp_path: Path) -> None:
    file = tmp_path / "redis-password"
    file.write_text("never-let-in")
    parts, kept = urlsplit(redis_url), list[DataServer]()
    url = parts._replace(netloc=f"f_desk-7@{parts.hostname}:{parts.port}").geturl()
    reach_servers({"UA_REDIS_URL": url, "UA_REDIS_PASSWORD_FILE": str(file)}, kept.append, lambda: False)

    assert [one.state for one in kept] == ["away"]
    assert "it refuses the password" in kept[0].away
    assert "never-let-in" not in kept[0].away


def test_a_redis_that_refuses_a_worker_does_not_become_right_by_waiting(redis_url: str) -> None:
    parts = urlsplit(redis_url)
    wrong = parts._replace(netloc=f"nobody:{secret('given-wrong')}@{parts.hostname}:{parts.port}")
    with pytest.raises(GivenServerError, match="it refuses the password") as refused:
        reach_servers({"UA_REDIS_URL": wrong.geturl()}, lambda _: None)

    assert not refused.value.is_away


@pytest.mark.parametrize("environ", [{}, {"UA_REDIS_URL": "redis://127.0.0.1:1/0", "UA_DELEGATION_REDIS_ENABLED": "0"}])
def test_a_worker_that_uses_no_redis_looks_for_none(environ: dict[str, str]) -> None:
    kept: list[DataServer] = []
    reach_servers(environ, kept.append)

    assert kept == []

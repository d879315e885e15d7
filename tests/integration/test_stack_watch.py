"""A data server that stands still is told of once, and once more when it answers again; the launcher never waits."""

from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

import pytest
from canary import secret, shows
from frozen_server import frozen

from corporation.embedded.ports import free_port
from corporation.embedded.server_process import Server
from corporation.embedded.stack_servers import DataServer
from corporation.embedded.stack_watch import MISSES, ServerWatch, answers_us

Wait = Callable[..., Any]


@contextmanager
def watching(*servers: DataServer, answers: Callable[[DataServer], bool] | None = None) -> Generator[ServerWatch]:
    watch = ServerWatch(servers, answers, every_seconds=0.01, again_seconds=0.01)
    watch.start()
    try:
        yield watch
    finally:
        watch.stop()


def test_a_server_of_ours_that_stands_still_is_told_of_once_and_so_is_its_return(
    postgres: Server, valkey: Server, wait_until: Wait
) -> None:
    database = DataServer("postgresql", postgres.url, lambda: postgres, postgres)
    broker = DataServer("valkey", valkey.url, lambda: valkey, valkey)
    with watching(database, broker) as watch:
        said = list[str]()
        with frozen(postgres.pid):
            wait_until(lambda: said.extend(watch.news()) or said, 60, "it is told that PostgreSQL is silent")
        wait_until(lambda: said.extend(watch.news()) or len(said) > 1, 60, "it is told that it is back")

    assert len(said) == 2
    assert said[0].startswith("postgresql at postgresql://corporation:***@127.0.0.1:")
    assert f"if its process {postgres.pid} is ended, it is started again" in said[0]
    assert said[1].startswith("postgresql answers again, after ")


def test_a_broker_that_stands_still_does_not_answer(valkey: Server) -> None:
    broker = DataServer("valkey", valkey.url, lambda: valkey, valkey)
    assert answers_us(broker)
    with frozen(valkey.pid):
        assert not answers_us(broker)


def test_one_that_refuses_us_answers(postgres: Server, valkey: Server) -> None:
    wrong = secret("watch-wrong")

    assert answers_us(DataServer("valkey", f"redis://:{wrong}@127.0.0.1:{valkey.port}/0"))
    assert answers_us(DataServer("mailbox", f"postgresql+psycopg://u:{wrong}@127.0.0.1:{postgres.port}/x"))


@pytest.mark.parametrize("name", ["redis", "mailbox"])
def test_one_that_others_run_and_that_is_gone_is_theirs_to_see_to(name: str, wait_until: Wait) -> None:
    scheme, password = {"redis": "redis", "mailbox": "postgresql"}[name], secret("watch-gone")
    given = DataServer(name, f"{scheme}://u:{password}@127.0.0.1:{free_port(None)}/0")
    with watching(given) as watch:
        [line] = wait_until(watch.news, 30, "it is told of")

    assert "does not answer" in line
    assert "Whoever runs it must see to it" in line
    assert not shows(line)


def test_a_moment_of_silence_is_not_told_and_one_that_has_ended_is_in_the_table(wait_until: Wait) -> None:
    asked, ended = list[str](), DataServer("valkey", "redis://127.0.0.1", lambda: pytest.fail("not here"), why="x")

    def answers(server: DataServer) -> bool:
        asked.append(server.name)
        return len(asked) % MISSES == 0

    with watching(ended, DataServer("postgresql", "postgresql://h/x"), answers=answers) as watch:
        wait_until(lambda: len(asked) > 10, 30, "it was asked often")
        assert watch.news() == []

    assert set(asked) == {"postgresql"}

"""A factory exchanges its password for the broker at work: whatever is away or lost, a good one is in its file."""

import fcntl
import os
import stat
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest.mock import Mock

import pytest
import redis
from sqlalchemy import Engine

from corporation.broker_link import open_link
from corporation.db import open_ledger, transaction
from corporation.engine.doorkeeper import Doorkeeper
from corporation.engine.doorwatch import Doorwatch
from corporation.federation import notes
from corporation.federation.hq import HqUnavailableError
from corporation.trust import redis_users
from corporation.trust.redis_acl import Acl
from corporation.trust.redis_address import with_user
from factory_tasks import redis_password
from factory_tasks.heartbeat import send_beat, wishes_in
from factory_tasks.node import Node
from factory_tasks.redis_password import GIVEN_UP_SECONDS, rotate_if_asked, write_password

sys.path.append(str(Path(__file__).parent.parent / "integration"))

from node_at_work import HeardHq, node_at

if TYPE_CHECKING:
    from corporation.embedded.server_process import Server

FIRST = f"fr_{'1' * 40}"
ASKED = {"rotate_redis_password": True}


@dataclass
class RotatingHq(HeardHq):
    """Writes what it gives into the ledger, as HQ does; `keeper` makes the broker follow, if there is one."""

    ledger: Engine | None = None
    keeper: Doorkeeper | None = None
    given: list[str] = field(default_factory=list[str])
    answers: bool = True

    def new_redis_password(self) -> dict[str, Any]:
        assert self.ledger is not None
        self.given.append(f"fr_{len(self.given) + 2}{'2' * 40}")
        with transaction(self.ledger) as connection:
            assert redis_users.rotate(connection, "desk-7", self.given[-1])
        if self.keeper:
            self.keeper.tick()
        if not self.answers:
            raise HqUnavailableError("the answer is lost")
        return {"redis_user": "f_desk-7", "redis_password": self.given[-1], "previous_until": "…"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator["Server"]:
    from corporation.embedded.valkey import start_valkey

    server = start_valkey(tmp_path_factory.mktemp("valkey-for-rotation"))
    yield server
    server.stop()


@pytest.fixture
def ledger(database_url: str) -> Iterator[Engine]:
    engine = open_ledger(database_url, 4)
    yield engine
    engine.dispose()


@pytest.fixture
def hq(ledger: Engine, server: "Server", monkeypatch: pytest.MonkeyPatch) -> RotatingHq:
    monkeypatch.setattr(redis_password, "PAUSE_SECONDS", 0.001)
    with transaction(ledger) as connection:
        redis_users.issue(connection, "desk-7", "f_desk-7", FIRST)
    keeper = Doorkeeper(ledger, Acl(open_link(server.url)), Doorwatch())
    keeper.tick()
    return RotatingHq(instructions=ASKED, ledger=ledger, keeper=keeper)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "redis-password"
    write_password(file, FIRST)
    return file


@pytest.fixture
def here(tmp_path: Path, hq: RotatingHq, server: "Server", file: Path) -> Node:
    address = f"redis://f_desk-7@127.0.0.1:{server.port}/0"
    return node_at(tmp_path, hq, UA_REDIS_URL=address, UA_REDIS_PASSWORD_FILE=str(file))


def is_let_in(server: "Server", password: str) -> bool:
    with open_link(with_user(server.url, "f_desk-7", password)) as client:
        try:
            return bool(client.ping())
        except redis.AuthenticationError:
            return False


def read(file: Path) -> str:
    return file.read_text().strip()


def leftovers(file: Path) -> list[str]:
    return sorted(one.name for one in file.parent.iterdir() if one.name.startswith(f"{file.name}."))


def test_a_beats_answer_is_enough_for_the_factory_to_take_a_new_password(
    here: Node, hq: RotatingHq, file: Path, server: "Server"
) -> None:
    assert send_beat(here, "test")

    assert read(file) == hq.given[0]
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert is_let_in(server, read(file))
    assert here.spool.noted(notes.ROTATE_REDIS) == notes.UNSET
    assert leftovers(file) == ["redis-password.lock"]


def test_who_is_not_asked_changes_nothing(here: Node, hq: RotatingHq, file: Path) -> None:
    for instructions in ({}, {"rotate_redis_password": False}, {"rotate_redis_password": "yes"}):
        hq.instructions = instructions
        send_beat(here, "test")

    assert (read(file), hq.given) == (FIRST, [])
    assert notes.ROTATE_REDIS not in wishes_in({"instructions": {}})


def test_an_answer_that_is_lost_is_asked_for_again_with_the_next_beat(
    here: Node, hq: RotatingHq, file: Path, server: "Server"
) -> None:
    hq.answers = False
    send_beat(here, "test")
    assert (read(file), is_let_in(server, FIRST)) == (FIRST, True)

    hq.answers, hq.instructions = True, {}
    send_beat(here, "test")

    assert read(file) == hq.given[1]
    assert is_let_in(server, read(file))


def test_the_old_password_stays_in_the_file_until_the_broker_takes_the_new_one(
    here: Node, hq: RotatingHq, file: Path, server: "Server"
) -> None:
    """HQ's engine is away: the ledger has the new password, and Redis has not."""
    keeper, hq.keeper = hq.keeper, None
    send_beat(here, "test")
    assert (read(file), is_let_in(server, FIRST)) == (FIRST, True)

    assert keeper is not None
    keeper.tick()
    hq.instructions = {}
    send_beat(here, "test")

    assert (read(file), hq.given) == (hq.given[0], hq.given[:1])
    assert is_let_in(server, read(file))


def test_a_broker_that_is_away_is_waited_for_with_the_password_in_hand(
    tmp_path: Path, hq: RotatingHq, file: Path, here: Node
) -> None:
    away = node_at(tmp_path, hq, UA_REDIS_URL="redis://f_desk-7@127.0.0.1:1/0", UA_REDIS_PASSWORD_FILE=str(file))
    send_beat(away, "test")
    assert (read(file), len(hq.given)) == (FIRST, 1)

    hq.instructions = {}
    send_beat(here, "test")

    assert (read(file), len(hq.given)) == (hq.given[0], 1)


def test_a_password_that_the_broker_never_takes_is_replaced_by_another(here: Node, hq: RotatingHq, file: Path) -> None:
    fresh = file.with_name("redis-password.new")
    write_password(fresh, "of another time")
    send_beat(here, "test")
    assert (read(file), hq.given) == (FIRST, [])

    long_ago = fresh.stat().st_mtime - GIVEN_UP_SECONDS - 1
    os.utime(fresh, (long_ago, long_ago))
    send_beat(here, "test")
    send_beat(here, "test")

    assert read(file) == hq.given[-1]


def test_two_processes_of_a_factory_fetch_one_password(here: Node, hq: RotatingHq, file: Path) -> None:
    with file.with_name("redis-password.lock").open("w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        send_beat(here, "test")
        assert hq.given == []
    rotate_if_asked(here)
    rotate_if_asked(here)

    assert (len(hq.given), read(file)) == (1, hq.given[0])


def test_a_factory_that_has_no_file_says_so_once_and_goes_on(
    tmp_path: Path, hq: RotatingHq, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, log = node_at(tmp_path, hq), Mock()
    monkeypatch.setattr("factory_tasks.redis_password.log", log)

    assert [send_beat(here, "test") for _ in range(3)] == [True] * 3
    assert hq.given == []
    assert [call.args[0] for call in log.error.call_args_list].count("redis_password_not_rotated") == 1


@pytest.mark.parametrize("answer", [{}, {"redis_password": ""}, {"redis_password": 7}, {"redis_password": "a\nb"}])
def test_what_is_no_password_is_written_nowhere(
    here: Node, hq: RotatingHq, file: Path, monkeypatch: pytest.MonkeyPatch, answer: dict[str, Any]
) -> None:
    monkeypatch.setattr(hq, "new_redis_password", lambda: answer)
    send_beat(here, "test")

    assert (read(file), leftovers(file)) == (FIRST, ["redis-password.lock"])


def test_a_disk_that_takes_nothing_leaves_the_password_as_it_was(
    here: Node, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(handle: int) -> None:
        del handle
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        assert send_beat(here, "test")
    assert read(file) == FIRST

    rotate_if_asked(here)

    assert read(file) != FIRST


def test_nobody_else_may_read_the_file_whatever_the_mask_is(file: Path, tmp_path: Path) -> None:
    mask: Callable[[int], int] = os.umask
    before = mask(0)
    try:
        write_password(tmp_path / "fresh", "x")
    finally:
        mask(before)

    assert stat.S_IMODE((tmp_path / "fresh").stat().st_mode) == 0o600
    assert read(file) == FIRST

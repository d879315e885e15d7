"""The broker's users are what the ledger says: made, changed, shut out, removed, and made again when they are lost."""

import dataclasses
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import redis
from canary import secret
from sqlalchemy import Engine, text
from structlog.testing import capture_logs

from corporation.broker_link import open_link
from corporation.db import open_ledger, transaction
from corporation.engine.doorkeeper import RIGHTS, Doorkeeper
from corporation.engine.doorwatch import Doorwatch
from corporation.factories import access
from corporation.trust import redis_users
from corporation.trust.redis_acl import Acl
from corporation.trust.redis_address import with_user

if TYPE_CHECKING:
    from corporation.embedded.server_process import Server

FIRST, SECOND, THIRD = (f"fr_{number}{'x' * 40}" for number in "123")
USER = "f_desk-7"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator["Server"]:
    """A Valkey of this module's own, with a file of users."""
    from corporation.embedded.valkey import start_valkey

    server = start_valkey(tmp_path_factory.mktemp("valkey-with-users"))
    yield server
    server.stop()


@pytest.fixture
def admin(server: "Server") -> Iterator[redis.Redis]:
    """Who may manage users; the server has none but its own before the test."""
    with redis.Redis.from_url(server.url, decode_responses=True) as client:
        client.acl_log_reset()
        client.flushall()
        for name in set(client.acl_users()) - {"default"}:
            client.acl_deluser(name)
        yield client


@pytest.fixture
def ledger(database_url: str) -> Iterator[Engine]:
    engine = open_ledger(database_url, 4)
    yield engine
    engine.dispose()


@pytest.fixture
def keeper(ledger: Engine, server: "Server", admin: redis.Redis) -> Doorkeeper:
    del admin
    return new_keeper(ledger, server.url)


def new_keeper(ledger: Engine, url: str, **changes: Any) -> Doorkeeper:
    return Doorkeeper(ledger, Acl(open_link(url)), Doorwatch(**changes))


def issue(ledger: Engine, password: str = FIRST, factory_id: str = "desk-7") -> None:
    with transaction(ledger) as connection:
        redis_users.issue(connection, factory_id, f"f_{factory_id}", password)


def sql(ledger: Engine, statement: str) -> list[Any]:
    with transaction(ledger) as connection:
        result = connection.execute(text(statement))
        return list(result) if result.returns_rows else []


def is_let_in(server: "Server", password: str, user: str = USER) -> bool:
    with open_link(with_user(server.url, user, password)) as client:
        try:
            return bool(client.ping())
        except (redis.AuthenticationError, redis.exceptions.NoPermissionError):
            return False


@pytest.fixture
def connected(server: "Server") -> Iterator[Callable[[str], redis.Connection]]:
    """`connected(password)` is a living connection of the factory, which does not come back by itself."""
    made: list[redis.Connection] = []

    def connect(password: str) -> redis.Connection:
        connection = redis.Connection(host="127.0.0.1", port=server.port, username=USER, password=password)
        made.append(connection)
        connection.connect()
        assert lives(connection)
        return connection

    yield connect
    for connection in made:
        connection.disconnect()


def lives(connection: redis.Connection) -> bool:
    try:
        connection.send_command("PING", check_health=False)
        return connection.read_response(disconnect_on_error=False) == b"PONG"
    except (redis.ConnectionError, OSError):
        return False


def test_who_joins_is_let_in_with_its_own_password_and_nothing_else_of_redis(
    ledger: Engine, keeper: Doorkeeper, server: "Server"
) -> None:
    issue(ledger)
    keeper.tick()

    assert is_let_in(server, FIRST)
    assert not is_let_in(server, SECOND)
    with open_link(with_user(server.url, USER, FIRST)) as client:
        client.rpush("factory.desk-7", "x")
        for refused in (lambda: client.get("factory.desk-7"), lambda: client.rpush("factory.desk-8", "x")):
            with pytest.raises(redis.exceptions.NoPermissionError):
                refused()


def test_what_is_so_is_done_once(ledger: Engine, keeper: Doorkeeper, admin: redis.Redis) -> None:
    issue(ledger)
    keeper.tick()
    [[change, at]] = sql(ledger, "SELECT applied_change, applied_at FROM corporation.redis_users")
    before: Any = admin.info("commandstats")
    keeper.tick()
    keeper.tick()
    after: Any = admin.info("commandstats")

    calls = {name: after[name]["calls"] - before.get(name, {"calls": 0})["calls"] for name in after}
    assert (calls["cmdstat_acl|setuser"], calls["cmdstat_acl|save"]) == (0, 0)
    assert sql(ledger, "SELECT applied_change, applied_at FROM corporation.redis_users") == [(change, at)]
    assert sql(ledger, "SELECT 1 FROM corporation.redis_users WHERE applied_change = changed_at AND NOT cut")


def test_who_joins_again_has_one_password_and_the_old_connection_is_closed(
    ledger: Engine, keeper: Doorkeeper, server: "Server", connected: Callable[[str], redis.Connection]
) -> None:
    issue(ledger)
    keeper.tick()
    stolen = connected(FIRST)
    issue(ledger, SECOND)
    keeper.tick()

    assert [is_let_in(server, password) for password in (FIRST, SECOND)] == [False, True]
    assert not lives(stolen)


def test_a_quarantined_factory_is_cut_off_and_a_released_one_comes_back_with_its_password(
    ledger: Engine, keeper: Doorkeeper, server: "Server", connected: Callable[[str], redis.Connection]
) -> None:
    issue(ledger)
    keeper.tick()
    connection = connected(FIRST)
    with transaction(ledger) as writing:
        assert access.quarantine(writing, "desk-7", "ops", None)
    keeper.tick()

    assert not lives(connection)
    assert not is_let_in(server, FIRST)

    with transaction(ledger) as writing:
        assert access.release(writing, "desk-7", "ops")
    keeper.tick()

    assert is_let_in(server, FIRST)


def test_a_removed_factory_has_no_user_and_a_redis_that_brings_it_back_loses_it_again(
    ledger: Engine,
    keeper: Doorkeeper,
    server: "Server",
    admin: redis.Redis,
    connected: Callable[[str], redis.Connection],
) -> None:
    issue(ledger)
    keeper.tick()
    line = next(line for line in admin.acl_list() if line.startswith(f"user {USER} "))
    connection = connected(FIRST)
    with transaction(ledger) as writing:
        access.shut_out(writing, "desk-7")
    keeper.tick()

    assert (USER in admin.acl_users(), lives(connection)) == (False, False)

    admin.execute_command("ACL SETUSER", USER, *line.split(" ")[2:4])
    keeper.tick()

    assert USER not in admin.acl_users()


def test_a_new_password_is_good_beside_the_old_one_which_ends_by_itself(
    ledger: Engine, keeper: Doorkeeper, server: "Server", connected: Callable[[str], redis.Connection]
) -> None:
    issue(ledger)
    keeper.tick()
    connection = connected(FIRST)
    with transaction(ledger) as writing:
        assert redis_users.rotate(writing, "desk-7", SECOND)
    keeper.tick()

    assert [is_let_in(server, password) for password in (FIRST, SECOND)] == [True, True]

    sql(ledger, "UPDATE corporation.redis_users SET previous_until = now(), applied_at = now() - interval '2 minutes'")
    keeper.tick()

    assert [is_let_in(server, password) for password in (FIRST, SECOND)] == [False, True]
    assert not lives(connection), "who had the old one, and was connected, is cut off with it"


def test_the_old_password_outlives_its_time_while_the_broker_has_not_known_the_new_one(
    ledger: Engine, keeper: Doorkeeper, server: "Server"
) -> None:
    """The engine was away: its factory has had no moment yet to find the new one good."""
    issue(ledger)
    keeper.tick()
    with transaction(ledger) as writing:
        redis_users.rotate(writing, "desk-7", SECOND)
    sql(ledger, "UPDATE corporation.redis_users SET previous_until = now() - interval '1 hour'")
    keeper.tick()
    keeper.tick()

    assert [is_let_in(server, password) for password in (FIRST, SECOND)] == [True, True]


def test_a_password_whose_answer_was_lost_gives_way_and_the_one_in_use_stays_good(
    ledger: Engine, keeper: Doorkeeper, server: "Server"
) -> None:
    issue(ledger)
    with transaction(ledger) as writing:
        lost = redis_users.rotate(writing, "desk-7", SECOND)
    with transaction(ledger) as writing:
        again = redis_users.rotate(writing, "desk-7", THIRD)
    keeper.tick()

    assert lost is not None
    assert again == lost, "and for no longer than it was"
    assert [is_let_in(server, password) for password in (FIRST, SECOND, THIRD)] == [True, False, True]


def test_users_that_redis_lost_are_made_again_at_the_next_look(
    ledger: Engine, keeper: Doorkeeper, server: "Server", admin: redis.Redis
) -> None:
    issue(ledger)
    keeper.tick()
    admin.acl_deluser(USER)
    keeper.tick()

    assert is_let_in(server, FIRST)


def test_rights_that_somebody_added_by_hand_are_taken_away_at_the_next_look(
    ledger: Engine, keeper: Doorkeeper, admin: redis.Redis
) -> None:
    issue(ledger)
    keeper.tick()
    made = admin.acl_getuser(USER)
    admin.execute_command("ACL SETUSER", USER, "+@all", "~*", "nopass")
    keeper.tick()

    assert admin.acl_getuser(USER) == made


def test_a_restart_with_the_file_of_users_finds_them_there(ledger: Engine, tmp_path: Path) -> None:
    from corporation.embedded.valkey import start_valkey

    before = start_valkey(tmp_path)
    issue(ledger)
    new_keeper(ledger, before.url).tick()
    os.kill(before.pid, signal.SIGKILL)
    before.process.wait()
    after = start_valkey(tmp_path)

    try:
        assert is_let_in(after, FIRST)
    finally:
        after.stop()


def test_a_broker_that_is_away_fails_nothing_and_has_its_users_when_it_is_back(
    ledger: Engine, server: "Server", admin: redis.Redis
) -> None:
    issue(ledger)
    away = new_keeper(ledger, "redis://127.0.0.1:1/0")

    assert away.tick() is False
    assert sql(ledger, "SELECT applied_at FROM corporation.redis_users") == [(None,)]

    back = dataclasses.replace(away, acl=Acl(open_link(server.url)))
    back.tick()

    assert USER in admin.acl_users()


def test_users_that_the_ledger_never_had_are_left_alone(ledger: Engine, keeper: Doorkeeper, admin: redis.Redis) -> None:
    admin.execute_command("ACL SETUSER", "f_beside-hq", "on", f">{secret('beside')}", "~*", "+@all")
    admin.execute_command("ACL SETUSER", "producer", "on", ">x", "~s", "+xadd")
    before = [line for line in admin.acl_list() if not line.startswith("user default")]
    issue(ledger)
    keeper.tick()

    assert [line for line in admin.acl_list() if " f_desk-7 " not in line and "user default" not in line] == before


def test_a_user_that_was_made_elsewhere_is_shut_out_with_its_factory_and_let_in_again_as_it_was(
    ledger: Engine,
    keeper: Doorkeeper,
    server: "Server",
    admin: redis.Redis,
    connected: Callable[[str], redis.Connection],
) -> None:
    admin.execute_command("ACL SETUSER", USER, "on", f">{FIRST}", "~own", "+ping", "+get")
    before = admin.acl_list()
    connection = connected(FIRST)
    with transaction(ledger) as writing:
        access.quarantine(writing, "desk-7", "ops", None)
    keeper.tick()

    assert (lives(connection), is_let_in(server, FIRST)) == (False, False)

    # Its maker starts again, and makes it as it was.
    admin.execute_command("ACL SETUSER", USER, "on")
    keeper.tick()
    assert not is_let_in(server, FIRST)

    with transaction(ledger) as writing:
        access.release(writing, "desk-7", "ops")
    keeper.tick()

    assert (admin.acl_list(), is_let_in(server, FIRST)) == (before, True)


def test_a_factory_that_never_had_a_user_gets_none_by_being_shut_out(
    ledger: Engine, keeper: Doorkeeper, admin: redis.Redis
) -> None:
    with transaction(ledger) as writing:
        access.quarantine(writing, "desk-7", "ops", None)
    keeper.tick()
    with transaction(ledger) as writing:
        access.release(writing, "desk-7", "ops")
    keeper.tick()

    assert admin.acl_users() == ["default"]


def test_the_name_of_a_removed_factory_is_free_for_another(
    ledger: Engine, keeper: Doorkeeper, server: "Server"
) -> None:
    with transaction(ledger) as writing:
        redis_users.issue(writing, "desk 7", USER, FIRST)
        redis_users.remove(writing, "desk 7")
    issue(ledger, SECOND)
    keeper.tick()

    assert [is_let_in(server, password) for password in (FIRST, SECOND)] == [False, True]


def test_an_engine_that_may_not_manage_users_says_so_to_people(
    ledger: Engine, server: "Server", admin: redis.Redis
) -> None:
    admin.execute_command("ACL SETUSER", "weak", "on", f">{FIRST}", "~*", "+@all", "-@admin")
    issue(ledger)
    weak = new_keeper(ledger, with_user(server.url, "weak", FIRST))

    weak.tick()
    weak.tick()

    [[title, message]] = sql(ledger, "SELECT title, message FROM corporation.notifications")
    assert title == "HQ may not manage the users of Redis"
    assert "UA_REDIS_ADMIN_URL" in message


def test_where_hq_makes_no_users_an_engine_without_rights_alarms_nobody(
    ledger: Engine, server: "Server", admin: redis.Redis
) -> None:
    admin.execute_command("ACL SETUSER", "weak", "on", f">{FIRST}", "~*", "+@all", "-@admin")
    with transaction(ledger) as writing:
        access.quarantine(writing, "desk-7", "ops", None)
    new_keeper(ledger, with_user(server.url, "weak", FIRST)).tick()

    assert sql(ledger, "SELECT 1 FROM corporation.notifications") == []


def test_the_rights_that_it_asks_for_are_enough_and_leave_nothing_in_the_log(
    ledger: Engine, server: "Server", admin: redis.Redis
) -> None:
    admin.execute_command("ACL SETUSER", "keeper", "on", f">{FIRST}", "+client|setinfo", *RIGHTS.split())
    issue(ledger)
    keeper = new_keeper(ledger, with_user(server.url, "keeper", FIRST))
    keeper.tick()
    with transaction(ledger) as writing:
        access.quarantine(writing, "desk-7", "ops", None)
    keeper.tick()
    with transaction(ledger) as writing:
        access.shut_out(writing, "desk-7")
    keeper.tick()

    assert USER not in admin.acl_users()
    assert (admin.acl_log(), sql(ledger, "SELECT 1 FROM corporation.notifications")) == ([], [])


def test_one_user_that_the_server_does_not_take_keeps_no_other_out(
    ledger: Engine, keeper: Doorkeeper, server: "Server"
) -> None:
    issue(ledger, factory_id="desk-6")
    issue(ledger)
    put = keeper.acl.put

    def refusing(name: str, rules: Any) -> None:
        if name == "f_desk-6":
            raise redis.ResponseError("unknown command")
        put(name, rules)

    keeper.acl.put = refusing
    keeper.tick()

    assert is_let_in(server, FIRST)
    assert sql(ledger, "SELECT factory_id FROM corporation.redis_users WHERE applied_at IS NULL") == [("desk-6",)]

    keeper.acl.put = put
    keeper.tick()

    assert is_let_in(server, FIRST, "f_desk-6")


@pytest.mark.parametrize("factory_id", ["control", "desk-7_index"])
def test_a_name_that_may_have_no_user_keeps_no_other_out_and_has_none(
    ledger: Engine, keeper: Doorkeeper, server: "Server", admin: redis.Redis, factory_id: str
) -> None:
    """It came with an older version, or into the table by hand."""
    admin.execute_command("ACL SETUSER", f"f_{factory_id}", "on", f">{SECOND}", "~*", "+@all")
    issue(ledger, SECOND, factory_id)
    issue(ledger)
    with capture_logs() as logs:
        keeper.tick()
        keeper.tick()

    assert is_let_in(server, FIRST)
    assert not is_let_in(server, SECOND, f"f_{factory_id}")
    assert sql(ledger, "SELECT factory_id FROM corporation.redis_users WHERE applied_at IS NULL") == [(factory_id,)]
    assert [line["factory_id"] for line in logs if line["event"] == "redis_user_must_not_be"] == [factory_id]
    assert sql(ledger, "SELECT kind, title FROM corporation.notifications") == [
        ("redis_user_must_not_be", f"{factory_id} may have no user of Redis")
    ]


def test_only_one_of_two_engines_keeps_the_door(ledger: Engine, keeper: Doorkeeper, admin: redis.Redis) -> None:
    issue(ledger)
    with transaction(ledger) as other:
        assert redis_users.is_alone(other)
        keeper.tick()
        assert USER not in admin.acl_users()
    keeper.tick()

    assert USER in admin.acl_users()

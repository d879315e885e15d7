"""What one stolen machine could do to everybody through the broker, and what it can: each row is tried for real.

With one password for all (`default`), 55 of the 58 succeed; as a factory's own user none does, and each is refused by
the right it lacks. The same is tried as HQ's own processes and as a producer, who may do what is named here.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import pytest
import redis
from redis.exceptions import NoPermissionError
from redis_servers import KINDS, fresh_server, make_user

from corporation.trust.redis_acl import Acl
from corporation.trust.redis_profiles import (
    HqUser,
    factory_rules,
    hq_rules,
    producer_rules,
    user_of,
    user_of_hq,
)

THIEF, VICTIM = "desk-7", "desk-8"
QUEUE, ORDERS, HELD = "factory.desk-8", "desk-8.control", "unacked:desk-8"
STREAM, RESULTS, LETTERS = "ua:missions:delegation", "ua:missions:delegation:results", "ua:missions:dlq"
OWN_STREAM = "ua:missions:delegation:press"
LAST_ID = "18446744073709551615-18446744073709551615"
SHUTDOWN = '{"method": "shutdown", "arguments": {}, "destination": null}'
LIBRARY = "#!lua name=mallory\nredis.register_function('f', function() return 1 end)"
NOTHING: Final = (None, 0, b"", [], {}, ())


@dataclass(frozen=True)
class Attack:
    """Commands that succeed when each is answered, and the last with something.

    `before` is what was measured with one password for all. One that is `deadly` to the server is only asked about.
    """

    name: str
    commands: tuple[tuple[str, ...], ...]
    before: bool = True
    deadly: bool = False


def row(name: str, *commands: str, before: bool = True, deadly: bool = False) -> Attack:
    """One row of the table; words are separated by blanks, `§` is one within a word."""
    words = (tuple(word.replace("§", " ") for word in command.split(" ")) for command in commands)
    return Attack(name, tuple(words), before, deadly)


# fmt: off
ATTACKS: Final = (
    # what others are told, and what HQ knows                                                       before
    row("read the missions that wait for another", f"LRANGE {QUEUE} 0 -1"),                         # succeeded
    row("read the missions that another works on", f"HGETALL {HELD}"),                              # succeeded
    row("read the orders to another", f"LRANGE {ORDERS} 0 -1"),                                     # succeeded
    row("read HQ's own missions", "LRANGE headquarters 0 -1"),                                      # succeeded
    row("read what producers send", f"XRANGE {STREAM} - +"),                                        # succeeded
    row("read everybody's results", f"XRANGE {RESULTS} - +"),                                       # succeeded
    row("read the dead letters", f"XRANGE {LETTERS} - +"),                                          # succeeded
    row("list all keys", "KEYS *"),                                                                 # succeeded
    row("walk through all keys", "SCAN 0"),                                                         # succeeded
    row("guess a key", "RANDOMKEY"),                                                                # succeeded
    row("copy another's queue out", f"DUMP {QUEUE}"),                                               # succeeded
    row("see how much another has to do", f"LLEN {QUEUE}"),                                         # succeeded
    row("watch every command of everybody", "MONITOR"),                                             # succeeded
    row("hear all that is broadcast", "PSUBSCRIBE *"),                                              # succeeded
    row("list everybody's addresses", "CLIENT LIST"),                                               # succeeded
    row("read the passwords' hashes", "ACL LIST"),                                                  # succeeded
    row("read the server's settings", "CONFIG GET *"),                                              # succeeded
    row("read the slow commands of others", "CONFIG SET slowlog-log-slower-than 0", "SLOWLOG GET"),  # succeeded
    # taking
    row("steal another's mission", f"RPOP {QUEUE}"),                                                # succeeded
    row("wait for HQ's missions", "BRPOP headquarters 1"),                                          # succeeded
    row("move another's mission to oneself", f"LMOVE {QUEUE} factory.desk-7 RIGHT LEFT"),           # succeeded
    row("take another's whole queue", f"RENAME {QUEUE} factory.desk-7"),                            # succeeded
    row("keep a copy of another's queue", f"COPY {QUEUE} factory.desk-7"),                          # succeeded
    row("read the stream in HQ's name",
        f"XREADGROUP GROUP ua_workers worker_hq COUNT 1 STREAMS {STREAM} >"),                       # succeeded
    row("take over what HQ reads", f"XAUTOCLAIM {STREAM} ua_workers mallory 0 0"),                  # succeeded
    row("acknowledge what HQ has not read", f"XACK {STREAM} ua_workers 1-1"),                       # succeeded
    # forging
    row("forge a mission for another", f"LPUSH {QUEUE} forged"),                                    # ran as root there
    row("forge an update for another", f"RPUSH {ORDERS} forged"),                                   # ran as root there
    row("forge a mission for HQ", "LPUSH headquarters forged"),                                     # succeeded
    row("swap the words of another's mission", f"LSET {QUEUE} 0 forged"),                           # succeeded
    row("forge what another has in hand", f"HSET {HELD} tag forged"),                               # succeeded
    row("publish a mission", f"XADD {STREAM} * payload forged"),                                    # succeeded
    row("forge a result", f"XADD {RESULTS} * payload forged"),                                      # succeeded
    row("trim other producers' missions", f"XADD {STREAM} MAXLEN 1 * payload forged"),              # succeeded
    row("brick the stream with the last id", f"XADD {STREAM} {LAST_ID} payload forged"),            # succeeded
    row("stop every worker", f"PUBLISH /0.celery.pidbox {SHUTDOWN.replace(' ', '§')}"),             # stopped them all
    row("forge an event of another", "PUBLISH /0.celeryev/task.succeeded {}"),                      # succeeded
    row("bind a queue of one's own to an exchange", "SADD _kombu.binding.celery factory.desk-7"),   # got copies
    row("make HQ believe that Redis lost its data", "SET corporation:incarnation forged"),          # succeeded
    # destroying
    row("delete another's queue", f"DEL {QUEUE}"),                                                  # succeeded
    row("cut another's queue", f"LTRIM {QUEUE} 1 0"),                                               # succeeded
    row("lose what another has in hand", f"HDEL {HELD} tag-1"),                                     # succeeded
    row("keep another from recovering", f"SET {HELD}_mutex forged"),                                # succeeded
    row("let another's queue expire", f"PEXPIRE {QUEUE} 100000"),                                   # succeeded
    row("end HQ's group", f"XGROUP DESTROY {STREAM} ua_workers"),                                   # succeeded
    row("delete everything", "FLUSHALL"),                                                           # succeeded
    row("swap the databases", "SWAPDB 0 1"),                                                        # succeeded
    row("go to another database", "SELECT 1"),                                                      # succeeded
    row("cut everybody off", "CLIENT KILL TYPE normal"),                                            # succeeded
    # the server itself
    row("stop the server", "SHUTDOWN NOSAVE", deadly=True),                                         # succeeded
    row("make it follow another server", "REPLICAOF 192.0.2.1 6379", deadly=True),                  # succeeded
    row("freeze it with a script", "EVAL return§1 0"),                                              # BUSY after 5 s
    row("leave code in it", f"FUNCTION LOAD {LIBRARY.replace(' ', '§')}"),                          # succeeded
    row("make a user of one's own", "ACL SETUSER mallory on nopass ~* +@all"),                      # succeeded
    row("take all its memory away", "CONFIG SET maxmemory 1gb"),                                    # succeeded
    row("write files elsewhere", "CONFIG SET dir /", before=False),                                 # protected anyway
    row("crash it", "DEBUG SLEEP 0", before=False),                                                 # off anyway
    row("load a library into it", "MODULE LOAD /tmp/mallory.so", before=False),                     # off anyway
)
# fmt: on

ALLOWED: Final = {
    "default": frozenset(attack.name for attack in ATTACKS if attack.before),
    "factory": frozenset[str](),
    "flower": frozenset({"see how much another has to do"}),
    # It counts; whatever has to be read or taken back is the engine's.
    "api": frozenset({"see how much another has to do"}),
    "producer": frozenset[str](),
    # HQ itself: it sends missions and reads streams. What it may not do to the server keeps a slip small.
    "engine": frozenset(
        {
            "read the missions that wait for another",
            "read the orders to another",
            "see how much another has to do",
            "read what producers send",
            "read the stream in HQ's name",
            "take over what HQ reads",
            "acknowledge what HQ has not read",
            "forge a mission for another",
            "forge a result",
            "make HQ believe that Redis lost its data",
        }
    ),
}
"""Who succeeds with what."""


@dataclass(frozen=True)
class Server:
    """A server with everybody's users, and the address of each."""

    admin: "redis.Redis"
    urls: dict[str, str]

    def seed(self) -> None:
        """Everybody's things lie there, and nothing is left of an earlier attack."""
        ask = self.admin.execute_command
        for words in ("FLUSHALL", "FUNCTION FLUSH", "ACL DELUSER mallory", "CONFIG SET maxmemory 0"):
            ask(*words.split())
        for queue in (QUEUE, ORDERS, "headquarters"):
            self.admin.lpush(queue, "mission-1", "mission-2")
        self.admin.hset(HELD, "tag-1", "mission-3")
        self.admin.zadd(f"{HELD}_index", {"tag-1": 1})
        self.admin.set("corporation:incarnation", "true")
        for stream in (STREAM, RESULTS, LETTERS, OWN_STREAM):
            for number in (1, 2):
                self.admin.xadd(stream, {"payload": f"mission-{number}"}, id=f"{number}-1")
        self.admin.xgroup_create(STREAM, "ua_workers", id="0")
        self.admin.xreadgroup("ua_workers", "worker_hq", {STREAM: ">"}, count=1)

    def state(self) -> dict[str, Any]:
        """All that an attack could change."""
        keys: Any = self.admin.keys()
        content = {key: self.admin.dump(key) for key in keys}
        users, functions = Acl(self.admin).lines(), self.admin.execute_command("FUNCTION", "LIST")
        return {"keys": content, "users": users, "functions": functions, "settings": self.admin.config_get("*")}


@pytest.fixture(params=KINDS, scope="module")
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with fresh_server(request.param, tmp_path_factory.mktemp("attacked")) as url, redis.Redis.from_url(url) as admin:
        # So that a broadcast has somebody whom it reaches.
        listener = admin.pubsub()
        listener.psubscribe("*")
        yield Server(admin, {"default": url, **_users(admin, url)})
        listener.close()


def _users(admin: "redis.Redis", url: str) -> dict[str, str]:
    """A user of every kind, and the address for it."""
    rules = {
        "factory": (user_of(THIEF), partial(factory_rules, THIEF)),
        **{str(role): (user_of_hq(role), partial(hq_rules, role)) for role in HqUser},
        "producer": ("press", partial(producer_rules, OWN_STREAM)),
    }
    return {who: make_user(admin, url, name, words) for who, (name, words) in rules.items()}


def attempt(server: Server, who: str, attack: Attack) -> str:
    """`succeeded`; else `no right`, or `refused` for another reason."""
    if attack.deadly:
        return _would(server, who, attack)
    with redis.Redis.from_url(server.urls[who]) as client:
        answer: Any = None
        try:
            for words in attack.commands:
                answer = _raw(client, words)
        except NoPermissionError:
            return "no right"
        except redis.ResponseError:
            return "refused"
        return "succeeded" if answer not in NOTHING else "refused"


def _raw(client: "redis.Redis", words: tuple[str, ...]) -> Any:
    connection = client.connection_pool.get_connection()
    try:
        connection.send_command(*words)
        return connection.read_response(push_request=True)  # a subscription is answered in its own way
    finally:
        connection.disconnect()
        client.connection_pool.release(connection)


def _would(server: Server, who: str, attack: Attack) -> str:
    """What the server says that it would do, of what ends it."""
    with redis.Redis.from_url(server.urls[who]) as client:
        user = "default" if who == "default" else str(client.connection_pool.connection_kwargs["username"])
    answers = [server.admin.execute_command("ACL", "DRYRUN", user, *words) for words in attack.commands]
    return "succeeded" if all(answer in (b"OK", "OK") for answer in answers) else "no right"


def test_the_table_has_58_rows_and_55_of_them_succeeded_before() -> None:
    assert len({attack.name for attack in ATTACKS}) == len(ATTACKS) == 58
    assert sum(attack.before for attack in ATTACKS) == 55


@pytest.mark.parametrize("who", list(ALLOWED))
def test_who_succeeds_with_which_attack(server: Server, who: str) -> None:
    outcomes: dict[str, str] = {}
    for attack in ATTACKS:
        server.seed()
        outcomes[attack.name] = attempt(server, who, attack)

    assert {name for name, outcome in outcomes.items() if outcome == "succeeded"} == ALLOWED[who]
    if who != "default":
        # What the server grants to nobody it refuses before it looks at rights.
        wanted = {attack.name for attack in ATTACKS if attack.before} - ALLOWED[who]
        assert {name for name in wanted if outcomes[name] != "no right"} == set()


def test_nothing_is_changed_by_a_factory_that_tries_all_of_it(server: Server) -> None:
    server.seed()
    before = server.state()

    for attack in ATTACKS:
        attempt(server, "factory", attack)

    assert server.state() == before


def test_a_transaction_or_a_watch_opens_no_other_way_to_anothers_keys(server: Server) -> None:
    server.seed()
    with redis.Redis.from_url(server.urls["factory"]) as thief:
        pipe: Any = thief.pipeline()
        with pytest.raises(NoPermissionError):
            pipe.lpush("factory.desk-7", "mine").lpush(QUEUE, "forged").execute()
        with pytest.raises(NoPermissionError):
            thief.execute_command("WATCH", QUEUE)
        with pytest.raises(NoPermissionError):
            thief.brpop(["factory.desk-7", QUEUE], timeout=1)

    assert server.admin.lrange(QUEUE, 0, -1) == [b"mission-2", b"mission-1"]


def test_names_that_begin_alike_are_others(server: Server) -> None:
    with redis.Redis.from_url(server.urls["factory"]) as thief:
        for key in ("factory.desk-70", "factory.desk-7\x06\x163", "factory.desk", "desk-7.control2", "1desk-7.control"):
            with pytest.raises(NoPermissionError):
                thief.lpush(key, "forged")
        for key in ("unacked:desk-70", "unacked:desk-7_indexes", "unacked"):
            with pytest.raises(NoPermissionError):
                thief.hget(key, "tag")


def test_a_producer_adds_to_its_own_stream(server: Server) -> None:
    server.seed()
    with redis.Redis.from_url(server.urls["producer"]) as press:
        press.xadd(OWN_STREAM, {"payload": "p"})

        with pytest.raises(NoPermissionError):
            press.xrange(OWN_STREAM)
        with pytest.raises(NoPermissionError):
            press.delete(OWN_STREAM)


def test_a_redis_that_does_not_know_setinfo_refuses_only_the_profile_that_names_it(server: Server) -> None:
    acl = Acl(server.admin)
    rules = factory_rules("desk-9", has_setinfo=True)

    if acl.has_setinfo():
        acl.put("f_desk-9", rules)
    else:
        # "Error in ACL SETUSER modifier '+client|setinfo': Unknown command or category name in ACL"
        with pytest.raises(redis.ResponseError, match=r"client\|setinfo"):
            acl.put("f_desk-9", rules)
        assert "f_desk-9" not in acl.lines()
    acl.put("f_desk-9", factory_rules("desk-9", has_setinfo=False))

    assert "f_desk-9" in acl.lines()

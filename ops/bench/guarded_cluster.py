"""A cluster in which no process may do more than it must: users of Redis, roles of PostgreSQL, signed missions.

What `ops/run` and enrolment set up on a real HQ, for benches and tests that start their processes themselves.
"""

import secrets
from dataclasses import dataclass
from typing import Any, Final, Self
from urllib.parse import urlsplit

import psycopg
import redis
from psycopg import sql
from sqlalchemy import create_engine

from corporation.db import migrate, sqlalchemy_url
from corporation.roles import private_queue
from corporation.trust.keyring import new_key, public_of
from corporation.trust.mailbox_roles import admit
from corporation.trust.redis_profiles import HqUser, factory_rules, hq_rules, user_of, user_of_hq
from ops.bench.cluster import Cluster

HQ_ROLE: Final = "corporation_hq"


@dataclass(frozen=True)
class Rights:
    """What each process of one HQ and one factory is told; every address has a user and a password of its own."""

    engine_redis: str
    api_redis: str
    factory_redis: str
    ledger: str
    mailbox: str
    signing_key: str
    mission_key: str

    @classmethod
    def granted(cls, redis_admin: str, database_owner: str, factory_id: str) -> Self:
        """Both servers know the users afterwards, and the ledger is migrated; again makes new passwords."""
        key = new_key()
        ledger = _role(database_owner, HQ_ROLE)
        migrate(database_owner, [HQ_ROLE])
        with redis.Redis.from_url(redis_admin) as server:
            engine = _user(server, redis_admin, user_of_hq(HqUser.engine), hq_rules(HqUser.engine))
            api = _user(server, redis_admin, user_of_hq(HqUser.api), hq_rules(HqUser.api))
            factory = _user(server, redis_admin, user_of(factory_id), factory_rules(factory_id))
        return cls(
            engine_redis=engine,
            api_redis=api,
            factory_redis=factory,
            ledger=ledger,
            mailbox=_admitted(database_owner, user_of(factory_id), factory_id),
            signing_key=key,
            mission_key=public_of(key),
        )


@dataclass
class GuardedCluster(Cluster):
    """The same processes as its base, each with its own `Rights`; there is one factory, `bench`."""

    rights: Rights | None = None

    def start_worker(self, name: str = "worker", slots: int = 2, queue: str = "", factory: str = "bench") -> None:
        """As the base does it, on the factory's own queue: it has no right on another."""
        super().start_worker(name, slots, queue or private_queue(factory), factory)

    def _spawn(self, name: str, arguments: Any, env: Any, output: Any) -> Any:
        return super()._spawn(name, arguments, {**env, **self._own(name, env)}, output)

    def _own(self, name: str, env: Any) -> dict[str, str]:
        assert self.rights
        if env["FACTORY_ROLE"] == "HEADQUARTERS":
            return {
                "UA_REDIS_URL": self.rights.api_redis if name == "api" else self.rights.engine_redis,
                "UA_DATABASE_URL": self.rights.ledger,
                "UA_MISSION_SIGNING_KEY": self.rights.signing_key,
            }
        return {
            "UA_REDIS_URL": self.rights.factory_redis,
            "UA_RESULT_BACKEND_URL": self.rights.mailbox,
            "UA_FACTORY_QUEUE": private_queue(env["UA_FACTORY_ID"]),
            "UA_MISSION_KEYS": self.rights.mission_key,
        }


def _user(server: "redis.Redis", admin: str, name: str, rules: tuple[str, ...]) -> str:
    password = secrets.token_urlsafe(32)
    server.execute_command("ACL", "SETUSER", name, *rules, "on", "resetpass", f">{password}")
    return _address(admin, name, password)


def _role(owner: str, name: str) -> str:
    password = secrets.token_urlsafe(32)
    with psycopg.connect(owner, autocommit=True) as connection:
        role = sql.Identifier(name)
        if not connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [name]).fetchone():
            connection.execute(sql.SQL("CREATE ROLE {} LOGIN").format(role))
        connection.execute(sql.SQL("ALTER ROLE {} PASSWORD {}").format(role, sql.Literal(password)))
    return _address(owner, name, password)


def _admitted(owner: str, name: str, factory_id: str) -> str:
    address = _role(owner, name)
    engine = create_engine(sqlalchemy_url(owner))
    try:
        with engine.begin() as connection:
            admit(connection, name, factory_id)
    finally:
        engine.dispose()
    return address


def _address(url: str, user: str, password: str) -> str:
    parts = urlsplit(url)
    return parts._replace(netloc=f"{user}:{password}@{parts.hostname}:{parts.port}").geturl()

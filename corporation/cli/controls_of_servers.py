"""The controls that only the servers of a node can tell: its database and its broker. Nothing is changed there."""

from typing import Any, Final
from urllib.parse import urlsplit

import psycopg
import redis

from corporation.broker_link import open_own_link, user_in
from corporation.cli.control import Control, on_if
from corporation.database_role import judge
from corporation.settings import Settings
from corporation.trust.redis_profiles import FACTORY_USER_PREFIX

CONNECT_SECONDS: Final = 3

ROWS_APART: Final = """
    SELECT count(*) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE n.nspname = 'mailbox' AND c.relname IN ('celery_taskmeta', 'factory_roles')
       AND c.relrowsecurity AND c.relforcerowsecurity
"""
APPEND_ONLY: Final = """
    SELECT count(*) FROM pg_trigger WHERE tgname = 'audit_log_is_append_only' AND tgenabled <> 'D'
"""
FACTORIES: Final = """
    SELECT (SELECT count(*) FROM corporation.redis_users WHERE removed_at IS NULL AND enabled),
           (SELECT count(*) FROM corporation.redis_users
             WHERE removed_at IS NULL AND enabled AND applied_change IS DISTINCT FROM changed_at),
           (SELECT coalesce(sum(refused_commands), 0) FROM corporation.redis_users),
           (SELECT count(*) FROM corporation.factory_access WHERE quarantined_at IS NOT NULL)
"""


def controls_of_servers(settings: Settings) -> list[Control]:
    """What HQ's database and any node's broker say; `unknown` where one does not answer or may not be asked."""
    ledger = (
        [*database(settings.database_url), *fleet(settings.database_url, settings)] if settings.database_url else []
    )
    return [*ledger, *broker(settings)]


def database(url: str) -> list[Control]:
    """The role is weak, factories see their own rows only, and the audit log cannot be changed."""
    judgement = judge("UA_DATABASE_URL", url)
    if judgement.unknown:
        return [Control("database role", "unknown", f"the database does not answer ({judgement.unknown})")]
    weak = on_if(
        not judgement.reasons, "database role", f"{judgement.role} owns nothing", judgement.objection, judgement.advice
    )
    how = "run `corporation migrate` with the owner's address"
    apart = _number(url, ROWS_APART) == 2
    kept = _number(url, APPEND_ONLY) == 1
    return [
        weak,
        on_if(apart, "mailbox by factory", "row level security is forced", "roles see all rows", how),
        on_if(kept, "audit log", "nothing of it can be changed or removed", "it can be changed", how),
    ]


def fleet(url: str, settings: Settings) -> list[Control]:
    """Each factory is a user of the broker of its own, which the broker knows, and none was refused anything."""
    row = _row(url, FACTORIES)
    if row is None:
        return [Control("users of Redis", "unknown", "the ledger does not tell")]
    users, waiting, refused, shut = map(int, row)
    return [
        _users(settings, f"{users} made" + (f", {waiting} of them not in Redis yet" if waiting else "")),
        on_if(
            refused == 0,
            "refusals by Redis",
            "no factory tried what it may not",
            f"{refused} commands of factories were refused",
            "`corporation factories show NAME` says whose; `corporation quarantine NAME` if it was no mistake",
        ),
        Control("quarantine", "on", f"{shut} in it" if shut else "nobody in it"),
    ]


def _users(settings: Settings, made: str) -> Control:
    told = settings.factory_redis_url
    if told is None:
        return Control("users of Redis", "on", "factories that join are told no Redis: they use HTTPS alone")
    how = "name no user in UA_FACTORY_REDIS_URL, and let the factories join again"
    own = "@" not in urlsplit(told.get_secret_value()).netloc
    return on_if(own, "users of Redis", f"one for each factory that joins; {made}", "factories share a password", how)


def broker(settings: Settings) -> list[Control]:
    """Who this node is at the broker, and what that one may do."""
    try:
        with open_own_link(settings) as client:
            client.ping()
            # Not asked of the server: the users of factories may not ask it, and HQ is alarmed when one does.
            user = user_in(settings.redis_url)
            if user.startswith(FACTORY_USER_PREFIX):
                return [Control("rights at Redis", "on", f"{user}: a factory's, with keys of its own and no scripts")]
            return [_rights(client, user), *_default_user(client)]
    except (redis.RedisError, OSError) as error:
        return [Control("rights at Redis", "unknown", f"Redis does not answer ({type(error).__name__})")]


def _rights(client: redis.Redis, user: str) -> Control:
    if user == "default":
        seen = "this command speaks as `default`, the operator; the processes of a stack have users of their own"
        return Control("rights at Redis", "on", seen)
    may = [name for name, words in DANGEROUS.items() if _would(client, user, *words)]
    how = "give it a user of its own; a factory gets one by joining an HQ whose UA_FACTORY_REDIS_URL names no user"
    return on_if(not may, "rights at Redis", f"{user} may do no harm to others", f"{user} may {', '.join(may)}", how)


DANGEROUS: Final = {
    "empty the server": ("FLUSHALL",),
    "run scripts": ("EVAL", "return 1", "0"),
    "change users": ("ACL", "SETUSER", "x"),
}


def _would(client: redis.Redis, user: str, *words: str) -> bool:
    """Whether the server would let `user` do this; a user that may not even ask may certainly not."""
    try:
        answer: Any = client.execute_command("ACL DRYRUN", user, *words)
    except redis.ResponseError:
        return False
    return _text(answer) == "OK"


def _default_user(client: redis.Redis) -> list[Control]:
    """What only an operator may ask; others are told nothing of it."""
    try:
        default: Any = client.acl_getuser("default")
        keeps: Any = client.config_get("aclfile")
    except redis.ResponseError:
        return []
    flags = {_text(flag) for flag in default.get("flags", [])}
    closed = "off" in flags or "nopass" not in flags
    how = "`ACL SETUSER default off`, or give it a password"
    file = next(iter(keeps.values()), "")
    return [
        on_if(closed, "user `default`", "has a password, or is off", "lets everybody in without a password", how),
        on_if(
            bool(file),
            "users of Redis kept",
            "in a file",
            "lost when Redis restarts; HQ makes them again",
            "set aclfile",
        ),
    ]


def _number(url: str, query: str) -> int | None:
    row = _row(url, query)
    return int(row[0]) if row else None


def _row(url: str, query: str) -> tuple[Any, ...] | None:
    try:
        address = "postgresql://" + url.partition("://")[2]
        with psycopg.connect(address, connect_timeout=CONNECT_SECONDS) as connection:
            return connection.execute(query.encode()).fetchone()
    except psycopg.Error:
        return None


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)

"""The controls that the database knows of: what roles may do, users that are made, who is in quarantine."""

from collections.abc import Iterable
from typing import Final

import psycopg
from sqlalchemy import create_engine
from sqlalchemy.exc import SQLAlchemyError

from corporation.cli.control import Control, judged
from corporation.database_role import judge
from corporation.db import sqlalchemy_url
from corporation.settings import Settings
from corporation.trust.standing import Standing, read

CONNECT_SECONDS: Final = 3
OLDEST_DAYS: Final = 90
"""How long a password of the broker may stay the same before one is advised to exchange it."""
MOST_NAMED: Final = 5


def at_headquarters(settings: Settings) -> list[Control]:
    """What the ledger says, and of which kind our role there is."""
    if settings.database_url is None:
        return [Control("database role", "unknown", "no ledger is configured", "set UA_DATABASE_URL")]
    role = database_role("UA_DATABASE_URL", settings.database_url)
    if role.state == "unknown":
        return [role]
    try:
        standing = _standing(settings.database_url)
    except (SQLAlchemyError, psycopg.Error, ValueError) as error:
        seen = f"the ledger cannot be read ({type(error).__name__})"
        return [role, Control("row security", "unknown", seen, "run `corporation migrate`, and look at its log")]
    return [role, *of_standing(standing, is_headquarters=settings.policy.is_headquarters)]


def on_a_factory(settings: Settings) -> list[Control]:
    """A factory has no role in HQ's database, or one that owns nothing."""
    if settings.mailbox_url is None:
        return [Control("database role", "on", "none: results go to HQ over HTTPS")]
    return [database_role("UA_RESULT_BACKEND_URL", settings.mailbox_url)]


def database_role(variable: str, url: str) -> Control:
    """The role of the address in `variable` is no owner, no superuser, and is not one whom row security spares."""
    judgement = judge(variable, url)
    if judgement.unknown:
        seen = f"the database cannot be asked ({judgement.unknown})"
        return Control("database role", "unknown", seen, f"start it, or check {variable}")
    seen = judgement.objection or f"{judgement.role!r} owns nothing"
    return judged("database role", not judgement.reasons, seen, judgement.advice)


def of_standing(standing: Standing, *, is_headquarters: bool) -> list[Control]:
    """The controls that follow from what the ledger says; those of the fleet at an HQ only."""
    rules = [_row_security(standing), _mailbox_roles(standing), _audit(standing)]
    fleet = [_users(standing), _quarantine(standing), _queues(standing), _exchange(standing)] if is_headquarters else []
    return [*rules, *fleet]


def _row_security(standing: Standing) -> Control:
    seen = f"not on {', '.join(standing.unguarded)}" if standing.unguarded else "each role sees its own rows"
    return judged("row security", not standing.unguarded, seen, "run `corporation migrate` with the owner's address")


def _mailbox_roles(standing: Standing) -> Control:
    strong = [f"{role!r}: {why}" for role, why in standing.roles.items() if why]
    seen = "; ".join(strong[:MOST_NAMED]) or f"{len(standing.roles)} admitted, none may do more than a factory's may"
    return judged("mailbox roles", not strong, seen, "take that from the role, or admit another one for its factory")


def _audit(standing: Standing) -> Control:
    keeps = standing.audit_is_kept
    seen = "no line of it can be changed or removed" if keeps else "lines of it can be changed"
    return judged("audit log", keeps, seen, "ALTER TABLE corporation.audit_log ENABLE TRIGGER ALL, as its owner")


def _users(standing: Standing) -> Control:
    """The broker follows what the ledger says of its users."""
    waiting = standing.waiting
    if not waiting:
        return Control("Redis users made", "on", f"{standing.users} users for {standing.factories} factories")
    seen = f"{len(waiting)} of {standing.users} users are not yet what they are to be: {_named(waiting)}"
    advice = "look again in a few seconds; then see that the engine runs and has UA_REDIS_ADMIN_URL"
    return Control("Redis users made", "off", seen, advice)


def _quarantine(standing: Standing) -> Control:
    """Whoever is in quarantine has no way to the broker."""
    if not standing.quarantine:
        return Control("quarantine", "on", "nobody is in it")
    inside = [name for name, is_shut_out in standing.quarantine.items() if not is_shut_out]
    seen = f"{_named(inside)} may still reach Redis" if inside else f"in it and shut out: {_named(standing.quarantine)}"
    advice = "see that the engine runs; where it shared a password with others, change that one"
    return judged("quarantine", not inside, seen, advice)


def _queues(standing: Standing) -> Control:
    """No factory fills its keys so that HQ's engine has to read much, or cannot."""
    seen = f"slow or too full within the hour: {_named(standing.costly)}" if standing.costly else "none costs HQ time"
    advice = "look what lies there; if its factory puts it there, `corporation quarantine NAME`"
    return judged("Redis queues", not standing.costly, seen, advice, advised=True)


def _exchange(standing: Standing) -> Control:
    """No factory keeps one password of the broker for ever."""
    if standing.oldest is None:
        return Control("password age", "on", "no factory has one")
    name, days = standing.oldest
    seen = f"the oldest is {days:.0f} days old ({name})"
    return judged("password age", days <= OLDEST_DAYS, seen, f"`corporation rotate {name}`", advised=True)


def _named(names: Iterable[str]) -> str:
    every = list(names)
    more = f" and {len(every) - MOST_NAMED} more" if len(every) > MOST_NAMED else ""
    return f"{', '.join(every[:MOST_NAMED])}{more}"


def _standing(url: str) -> Standing:
    engine = create_engine(sqlalchemy_url(url), connect_args={"connect_timeout": CONNECT_SECONDS})
    try:
        with engine.connect() as connection:
            return read(connection)
    finally:
        engine.dispose()

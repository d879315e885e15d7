"""The doorkeeper: the broker's users are what the ledger says, soon after it says so and after every loss of theirs."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import redis
import redis.exceptions
import structlog
from sqlalchemy import Connection, Engine

from corporation import clock
from corporation.broker_link import open_link, open_own_link
from corporation.db import transaction
from corporation.engine.doorwatch import Doorwatch
from corporation.settings import Settings
from corporation.trust.broker_alarms import alarm
from corporation.trust.redis_acl import Acl, is_on
from corporation.trust.redis_profiles import clash_of, factory_rules
from corporation.trust.redis_users import RedisUser, end_overlaps, is_alone, note_applied, read_users
from corporation.wakeups import REDIS_USERS

log = structlog.get_logger()

SAY_AGAIN_SECONDS: Final = 60.0
"""Between two lines about a broker that does not answer."""
RIGHTS: Final = "+acl +client|kill +info +llen +hlen +zcard +strlen +memory|usage ~*"
MAY_NOT: Final = f"give the engine the address of a user with the rights `{RIGHTS}` in UA_REDIS_ADMIN_URL"


@dataclass
class Doorkeeper:
    """Makes, changes and removes the users of `corporation.redis_users`, and touches no other.

    What it has done it remembers by the lines in which the server tells its users; one that reads otherwise at a later
    look (a restart without a file of users, a hand that changed it) is made again.
    """

    ledger: Engine
    acl: Acl
    watch: Doorwatch
    name: str = "doorkeeper"
    channels: tuple[str, ...] = (REDIS_USERS,)
    sweep_seconds: float = 2.0
    """Also the longest that a quarantine waits whose notification was lost: it has five seconds."""
    _followed: dict[str, str] = field(default_factory=dict[str, str], init=False)
    _unsaved: bool = field(default=False, init=False)
    _said_at: float = field(default=float("-inf"), init=False)

    def tick(self) -> bool:
        """One look; without a broker nothing is done, and the next look does it. Never is there more to do."""
        with transaction(self.ledger) as connection:
            end_overlaps(connection)
        users: Sequence[RedisUser] | None = None
        try:
            with transaction(self.ledger) as connection:
                users = read_users(connection) if is_alone(connection) else None
                if users:
                    self._make_so(connection, users)
            if users is not None:
                # Apart, so that nobody's row is held while the broker is asked at length.
                self._look(users)
        except redis.exceptions.NoPermissionError as error:
            self._may_not(error, ours=any(user.made_here for user in users or ()))
        except (redis.RedisError, OSError) as error:
            self._say("doorkeeper_waits", error=type(error).__name__)
        return False

    def _look(self, users: Sequence[RedisUser]) -> None:
        """The watch has looked, or why it could not is logged: it keeps nobody from being let in or shut out."""
        try:
            self.watch.look(self.ledger, self.acl, users)
        except (redis.RedisError, OSError):
            raise
        except Exception as error:
            self._say("doorwatch_failed", error=f"{type(error).__name__}: {str(error)[:200]}")

    def _make_so(self, connection: Connection, users: Sequence[RedisUser]) -> None:
        clashing = {user.name for user in users if user.made_here and not user.removed and clash_of(user.factory_id)}
        for user in users:
            if user.name in clashing:
                _tell_clash(connection, user)
        # The broker has none of these, and for it alone: what their rows say is not done.
        users = [replace(user, removed=True) if user.name in clashing else user for user in users]
        lines = self.acl.lines()
        wrong = [user for user in users if not self._is_so(user, lines.get(user.name))]
        # Who is to be shut out comes first: it has seconds, and nothing else may hold it up.
        wrong.sort(key=lambda user: user.enabled and not user.removed)
        setinfo = self.acl.has_setinfo() if wrong else True
        failed = {user.name for user in wrong if not self._make(user, has_setinfo=setinfo)}
        for user in users:
            if not user.applied and user.name not in failed | clashing:
                note_applied(connection, user)
        if wrong:
            lines = self.acl.lines()
            made = [user.name for user in wrong if user.name in lines and user.name not in failed]
            self._followed.update({name: lines[name] for name in made})
        self._save(changed=bool(wrong))

    def _is_so(self, user: RedisUser, line: str | None) -> bool:
        """Whether the server has this user as it is to be, as far as its line tells."""
        if user.removed or line is None:
            return line is None and (user.removed or not user.made_here)
        if not user.applied:
            return False
        if not user.made_here:
            # One who is let in is looked at no more: whoever makes it may switch it off for reasons of his own.
            return user.enabled or not is_on(line)
        return line == self._followed.get(user.name)

    def _make(self, user: RedisUser, *, has_setinfo: bool) -> bool:
        """The server has this user as it is to be; False, and a line in the log, when it does not take it so."""
        try:
            if user.removed:
                self.acl.remove(user.name)
            else:
                self.acl.put(user.name, rules_of(user, has_setinfo=has_setinfo))
            if not user.enabled or (user.cut and not user.applied):
                # After the rules: whoever comes back at once meets them.
                self.acl.cut(user.name)
        except redis.exceptions.NoPermissionError:
            raise
        except redis.ResponseError as error:
            log.error("redis_user_not_taken", user=user.name, error=str(error)[:200])
            return False
        log.info("redis_user_made_so", user=user.name, state=_state_of(user))
        return True

    def _save(self, *, changed: bool) -> None:
        """The server keeps its users over a restart, where it has a file for them; else they are made again then."""
        if not (changed or self._unsaved):
            return
        try:
            kept = self.acl.save()
        except redis.ResponseError as error:
            self._unsaved = True
            self._say("redis_users_not_saved", error=str(error)[:200])
            return
        self._unsaved = False
        if not kept:
            self._say("redis_users_not_kept", what_next="give Redis an aclfile; without one they are made again")

    def _may_not(self, error: Exception, *, ours: bool) -> None:
        # Where HQ makes no users, somebody else does, and shuts them out as well.
        if self._say("doorkeeper_may_not", error=str(error)[:200], what_next=MAY_NOT) and ours:
            with transaction(self.ledger) as connection:
                title = "HQ may not manage the users of Redis"
                alarm(
                    connection,
                    "redis_users_stuck",
                    "doorkeeper",
                    title,
                    f"No factory is let in or shut out; {MAY_NOT}.",
                )

    def _say(self, event: str, **more: str) -> bool:
        if clock.monotonic() - self._said_at < SAY_AGAIN_SECONDS:
            return False
        self._said_at = clock.monotonic()
        log.warning(event, **more)
        return True


def _tell_clash(connection: Connection, user: RedisUser) -> None:
    why = clash_of(user.factory_id) or ""
    message = f"{why[:1].upper()}{why[1:]}. It has none: remove this factory, and let it join under another name."
    title = f"{user.factory_id} may have no user of Redis"
    if alarm(connection, "redis_user_must_not_be", user.name, title, message, {"factory_id": user.factory_id}):
        log.error("redis_user_must_not_be", factory_id=user.factory_id, user=user.name, why=why)


def _state_of(user: RedisUser) -> str:
    if user.removed:
        return "removed"
    return "on" if user.enabled else "off"


def rules_of(user: RedisUser, *, has_setinfo: bool) -> tuple[str, ...]:
    """All of the user in the words of ACL SETUSER; of one that is made elsewhere only whether it is let in."""
    switch = "on" if user.enabled else "off"
    if not user.made_here:
        return (switch,)
    rules = factory_rules(user.factory_id, has_setinfo=has_setinfo)
    return (*rules, "resetpass", *(f"#{sha256}" for sha256 in user.passwords), switch)


def build_doorkeeper(settings: Settings, ledger: Engine) -> Doorkeeper:
    """The doorkeeper of this HQ; it connects when it first has something to do."""
    given = settings.redis_admin_url
    link = open_link(given.get_secret_value()) if given else open_own_link(settings)
    return Doorkeeper(ledger, Acl(link), Doorwatch(always=given is not None))

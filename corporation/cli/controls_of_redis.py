"""The controls that the broker itself knows of: who gets in, who may do too much, and whom it refused something."""

from collections.abc import Callable
from typing import Final

import redis
from redis.exceptions import NoPermissionError

from corporation.broker_link import open_link, open_own_link
from corporation.cli.control import Control, judged
from corporation.cli.security_view import View
from corporation.embedded.connection_causes import cause_of
from corporation.shown_address import shown
from corporation.trust.redis_profiles import FACTORY_USER_PREFIX, HQ_USER_PREFIX, user_of
from corporation.trust.redis_standing import Broker

CONNECT_SECONDS: Final = 3
OURS: Final = (FACTORY_USER_PREFIX, HQ_USER_PREFIX)
NAMES: Final = ("Redis password", "Redis rights", "Redis refusals", "Redis users' file")
CHANGE_IT: Final = (
    "if a factory was ever told that password (before each had its own), change it: it is still good. In the file of "
    "users or `requirepass`; with `corporation up` remove `valkey/password` in the state folder and start again"
)
MAY_NOT: Final = "this user may not look at users, which is right for a process"


def at_headquarters(view: View) -> list[Control]:
    """What the broker says to whoever may manage its users; unknown where this command is not that."""
    settings = view.settings
    if settings.redis_admin_url is None and view.redis_user.startswith(OURS):
        # Asking would be refused, and a refusal of one of ours is an alarm.
        return _unknown(MAY_NOT, "run it with UA_REDIS_ADMIN_URL, the address of a user who may")
    admin = settings.redis_admin_url
    url = admin.get_secret_value() if admin else settings.redis_url
    client = open_link(url, limit_seconds=CONNECT_SECONDS) if admin else open_own_link(settings, CONNECT_SECONDS)
    with client:
        return _asked(Broker(client), view.redis_user, shown(url), user_of(settings.factory_id))


def on_a_factory(view: View) -> list[Control]:
    """Who this factory is there, by its address: a user of its own is asked nothing that it would be refused."""
    if not view.settings.redis_delegation_enabled:
        return [Control("own Redis user", "on", "none: missions come over HTTPS")]
    user = view.redis_user
    seen = f"{user!r}" if user.startswith(OURS) else f"{user!r}, which others may be too: it reaches their missions"
    advice = "join again when HQ makes users: UA_FACTORY_REDIS_URL there without user and password"
    return [judged("own Redis user", user.startswith(OURS), seen, advice)]


def _asked(broker: Broker, own: str, address: str, own_factory: str) -> list[Control]:
    looks: list[Callable[[], Control]] = [
        lambda: _password(broker, own_factory),
        lambda: _rights(broker, own),
        lambda: _refusals(broker),
        lambda: _file(broker),
    ]
    found: list[Control] = []
    for name, look in zip(NAMES, looks, strict=True):
        try:
            found.append(look())
        except NoPermissionError:
            found.append(Control(name, "unknown", MAY_NOT, "run it with UA_REDIS_ADMIN_URL of a user who may"))
        except redis.ResponseError:
            found.append(Control(name, "unknown", "this server cannot be asked", "use Valkey, or Redis 7 or newer"))
        except (redis.RedisError, OSError, ValueError) as error:
            return [*found, *_unknown(f"{address}: {cause_of(error)}", "start it, or check UA_REDIS_URL")[len(found) :]]
    return found


def _password(broker: Broker, own_factory: str) -> Control:
    """Nobody gets in without a password; one that factories shared before each had a user of its own is still good."""
    anybody = broker.lets_anybody_in()
    if anybody:
        seen = f"anybody is let in as {', '.join(map(repr, anybody))}"
        advice = "give that user a password (`requirepass`, or its line in the file of users), or switch it off"
        return Control(NAMES[0], "off", seen, advice)
    users = broker.users()
    factories = [name for name in users if name.startswith(FACTORY_USER_PREFIX) and name != own_factory]
    shared = broker.reaching_queues(name for name in users if not name.startswith(OURS)) if factories else []
    if not shared:
        return Control(NAMES[0], "on", "nobody is let in without one")
    seen = (
        f"nobody is let in without one; {', '.join(map(repr, shared))} may reach all queues beside the factories' own"
    )
    return Control(NAMES[0], "on", seen, CHANGE_IT)


def _rights(broker: Broker, own: str) -> Control:
    """The processes of this node, and the factories, may do nothing that reaches over everybody's queues."""
    users = broker.users()
    ours = [name for name in users if name.startswith(OURS) or name == own]
    strong = broker.strong(ours)
    advice = "give each process the user that corporation/trust/README.md names; `corporation up` does it by itself"
    if strong:
        name, words = next(iter(strong.items()))
        more = f", and {len(strong) - 1} more users of ours" if len(strong) > 1 else ""
        return Control(NAMES[1], "off", f"{name!r} may {', '.join(words)}{more}", advice)
    return Control(NAMES[1], "on", f"{len(ours)} users of ours, none of which may run scripts, empty it, or make users")


def _refusals(broker: Broker) -> Control:
    """One of ours needs nothing that it may not do: who is refused something is broken, or somebody else."""
    refused = broker.refused(OURS)
    told = ", ".join(f"{name} ({count})" for name, count in sorted(refused.items())[:5])
    seen = f"commands were refused to {told}" if refused else "it refused no command to any of ours"
    advice = "look at that machine (`corporation quarantine NAME`); `ACL LOG RESET` forgets what is dealt with"
    return judged(NAMES[2], not refused, seen, advice)


def _file(broker: Broker) -> Control:
    keeps = broker.keeps_users()
    seen = "users outlive a restart" if keeps else "users are lost when it restarts, and made again by the engine"
    advice = "name an `aclfile` in its configuration"
    return judged(NAMES[3], keeps, seen, advice, advised=True)


def _unknown(seen: str, advice: str) -> list[Control]:
    return [Control(name, "unknown", seen, advice) for name in NAMES]

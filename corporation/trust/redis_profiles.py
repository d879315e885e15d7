"""What each user of the broker may do, in the words of ACL SETUSER. Nothing here speaks to Redis.

A factory's user has exact keys, no scripts and no pub/sub: with one password for all, 55 of 58 attacks by one stolen
machine succeeded, with this none. Everything begins at `-@all`: key patterns do not limit commands without keys.
"""

from collections.abc import Sequence
from enum import StrEnum
from typing import Final

from corporation.roles import control_queue, private_queue, slug_of

FACTORY_USER_PREFIX: Final = "f_"
HQ_USER_PREFIX: Final = "corporation_"
MISSION_STREAM: Final = "ua:missions:delegation"
DEAD_LETTER_STREAM: Final = "ua:missions:dlq"
FLOWER_CONTROL: Final = "ctl.flower"
"""The control exchange of a Flower that only looks: no worker listens there."""
FLOWER_HELD: Final = "unacked.flower"
"""Under which names it would keep what it has not acknowledged; no factory's keys have them."""
EVENT_EXCHANGE: Final = "celeryev"

_NOBODY_YET: Final = ("resetkeys", "resetchannels", "clearselectors", "-@all")
_CONNECTS: Final = ("+hello", "+auth", "+ping", "+client|setname")
_SETINFO: Final = "+client|setinfo"
_SINCE_7_2: Final = ("+waitaof",)
_MEASURES: Final = "+hlen +memory|usage +hscan"
"""A factory may fill what it holds with anything: it is measured before it is read, and read a piece at a time."""
_TRANSACTS: Final = ("+multi", "+exec", "+unwatch")


class HqUser(StrEnum):
    """HQ's own processes that have a user each."""

    engine = "engine"
    api = "api"
    flower = "flower"


def user_of(factory_id: str) -> str:
    """The user of a factory."""
    return f"{FACTORY_USER_PREFIX}{slug_of(factory_id)}"


def user_of_hq(role: HqUser) -> str:
    """The user of one of HQ's processes."""
    return f"{HQ_USER_PREFIX}{role}"


def clash_of(factory_id: str) -> str | None:
    """Why a factory of this name must have no user: it could reach another one's keys. None when it may have one."""
    slug = slug_of(factory_id)
    if not slug.strip("-"):
        return "a factory's name needs a letter or a digit"
    if slug.endswith(("_index", "_mutex")):
        return "a factory's name must not end in _index or _mutex: another factory keeps what it runs under such a key"
    if slug == "control":
        return "no factory may be called control: the control queue of one called factory would be its own queue"
    return None


def factory_rules(
    factory_id: str, *, own_queues: Sequence[str] = (), has_setinfo: bool = True, seen: bool = False
) -> tuple[str, ...]:
    """What a factory's user may do: take from its own queues, and keep there what it has not finished.

    `own_queues` are further queues that nobody else may reach. Without `has_setinfo` it suits a server that does not
    know CLIENT SETINFO (Redis before 7.2), which refuses a whole user for one word that it does not know. One that is
    `seen` may also tell Flower what it does, if its worker is started with `--task-events`: for processes of HQ's own
    machine, since nothing ties an event to who sent it. Raises ValueError for a name that must have no user.
    """
    if reason := clash_of(factory_id):
        raise ValueError(reason)
    slug = slug_of(factory_id)
    queues = [private_queue(factory_id), control_queue(factory_id), *own_queues]
    return (
        *_begin(has_setinfo=has_setinfo),
        *_TRANSACTS,
        _selector(queues, "+brpop +lpush +rpush +llen"),
        _selector([f"unacked:{slug}"], "+hset +hdel +hget +hgetall +watch"),
        _selector([f"unacked:{slug}_index"], "+zadd +zrem +zrange"),
        _selector([f"unacked:{slug}_mutex"], "+set +get +del +watch"),
        *((f"(&/0.{EVENT_EXCHANGE}/worker.* &/0.{EVENT_EXCHANGE}/task.* +publish)",) if seen else ()),
    )


def hq_rules(
    role: HqUser,
    *,
    mission_stream: str = MISSION_STREAM,
    dead_letter_stream: str = DEAD_LETTER_STREAM,
    has_setinfo: bool = True,
) -> tuple[str, ...]:
    """What one of HQ's processes may do; none of them may change users or settings of the server."""
    told = [f"{mission_stream}:results", dead_letter_stream]
    rules = {HqUser.engine: _engine, HqUser.api: _api, HqUser.flower: _flower}[role](mission_stream, told)
    known = rules if has_setinfo else tuple(rule for rule in rules if rule not in _SINCE_7_2)
    return (*_begin(has_setinfo=has_setinfo), *known)


def producer_rules(stream_key: str, *, has_setinfo: bool = True) -> tuple[str, ...]:
    """What a producer may do: add to a stream of its own, which nobody else adds to, and nothing else.

    Its own, because nothing limits the length to which an XADD trims, nor the id that it gives.
    """
    return (*_begin(has_setinfo=has_setinfo), _selector([stream_key], "+xadd"))


def _begin(*, has_setinfo: bool) -> tuple[str, ...]:
    return (*_NOBODY_YET, *_CONNECTS, *((_SETINFO,) if has_setinfo else ()))


def _engine(missions: str, told: Sequence[str]) -> tuple[str, ...]:
    """It fills and looks into the queues of all factories, sees what they hold, reads one stream and fills two.

    A stream that took the last id is moved out of the way.
    """
    return (
        *_TRANSACTS,
        "+info",
        "+waitaof",
        _selector(["factory.*", "*.control"], "+lpush +llen +memory|usage +lrange +lrem"),
        _selector(["unacked:*"], _MEASURES, mode="%R"),
        _selector(["corporation:incarnation"], "+get +set"),
        _selector(
            [missions, f"{missions}:exhausted:*"],
            "+xgroup|create +xreadgroup +xautoclaim +xpending +xack +xrange +xlen +xtrim +xinfo|stream +xinfo|groups "
            "+xinfo|consumers +watch +renamenx",
        ),
        _selector([*told, *(f"{stream}:exhausted:*" for stream in told)], "+xadd +xinfo|stream +watch +renamenx"),
    )


def _api(missions: str, _told: Sequence[str]) -> tuple[str, ...]:
    """It asks whether the broker is there and how much lies where, and sees nothing of what lies there.

    Strangers reach this process; whatever has to be read, taken back or sent is the engine's. XINFO STREAM would show
    an entry of each end of a stream.
    """
    return (
        _selector(["factory.*"], "+llen", mode="%R"),
        _selector([missions], "+xlen +xpending +xinfo|groups", mode="%R"),
    )


def _flower(_missions: str, _told: Sequence[str]) -> tuple[str, ...]:
    """It hears events and sees how long queues are; it can order nothing, and runs no scripts."""
    replies = f"reply.{FLOWER_CONTROL}.pidbox"
    tables = [
        f"_kombu.binding{kind}.{exchange}" for kind in ("", "_permanent") for exchange in (replies, EVENT_EXCHANGE)
    ]
    return (
        *_TRANSACTS,
        "+info",
        f"(&/0.{EVENT_EXCHANGE}/* +psubscribe +punsubscribe)",
        f"(&/0.{FLOWER_CONTROL}.pidbox +publish)",
        _selector(["factory.*", "*.control", "headquarters"], "+llen", mode="%R"),
        _selector(tables, "+sadd +srem +smembers"),
        _selector([f"*.{replies}"], "+brpop +llen +del +exists"),
        _selector([f"{EVENT_EXCHANGE}.*"], "+llen +del +exists"),
        _selector([f"{FLOWER_HELD}_mutex"], "+set +get +del +watch"),
        _selector([f"{FLOWER_HELD}_index"], "+zrange", mode="%R"),
    )


def _selector(keys: Sequence[str], commands: str, mode: str = "") -> str:
    return f"({' '.join(f'{mode}~{key}' for key in keys)} {commands})"

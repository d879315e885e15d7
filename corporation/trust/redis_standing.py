"""How well the broker is guarded, as its own list of users says it; nothing is changed there."""

from collections.abc import Iterable
from typing import Any, Final

import redis

from corporation.roles import private_queue
from corporation.trust.redis_acl import Acl, is_on

STRONG: Final = (
    ("EVAL", "return 1", "0"),
    ("FLUSHALL",),
    ("ACL", "SETUSER", "nobody"),
    ("CONFIG", "SET", "dir", "/"),
    ("KEYS", "*"),
    ("MONITOR",),
)
"""What nobody needs who does work here: each alone reaches over the queues of all factories."""


class Broker:
    """The server behind `client`, whose user must be allowed to look at users.

    Every method raises redis.RedisError or OSError when it does not answer, and NoPermissionError when that user may
    not look.
    """

    def __init__(self, client: redis.Redis) -> None:
        self._client = client
        self._acl = Acl(client)

    def lets_anybody_in(self) -> list[str]:
        """The users for whom any password will do, of those that are switched on."""
        return sorted(name for name, line in self._on().items() if "nopass" in line.split())

    def users(self) -> list[str]:
        """All that are switched on, by name."""
        return sorted(self._on())

    def strong(self, names: Iterable[str]) -> dict[str, list[str]]:
        """Which of `STRONG` each of these users may do; those who may do none of it are left out.

        It is asked, not tried. Raises redis.ResponseError where the server cannot be asked (before Redis 7).
        """
        found = {name: [words[0].lower() for words in STRONG if self._may(name, words)] for name in names}
        return {name: words for name, words in found.items() if words}

    def reaching_queues(self, names: Iterable[str]) -> list[str]:
        """Which of these users may take what lies in the queues of factories, as one that several were told may."""
        return sorted(name for name in names if self._may(name, ("LRANGE", private_queue("any"), "0", "0")))

    def refused(self, prefixes: tuple[str, ...]) -> dict[str, int]:
        """How many commands the server refused each user whose name begins so, by the newest entries of its log.

        No wrong passwords.
        """
        counts: dict[str, int] = {}
        for one in self._acl.refusals():
            if one.user.startswith(prefixes) and one.reason != "auth":
                counts[one.user] = counts.get(one.user, 0) + one.count
        return counts

    def keeps_users(self) -> bool:
        """Whether users are in a file, so that a server that is started anew has them."""
        answer: Any = self._client.config_get("aclfile")
        return bool(answer.get("aclfile"))

    def _on(self) -> dict[str, str]:
        return {name: line for name, line in self._acl.lines().items() if is_on(line)}

    def _may(self, name: str, words: tuple[str, ...]) -> bool:
        answer: Any = self._client.execute_command("ACL", "DRYRUN", name, *words)
        return answer in (b"OK", "OK", True)

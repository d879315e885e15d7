"""The broker's own list of users, over one connection that may change it.

Whatever factories can put into an answer (names of clients, keys, users) is taken as bytes and read leniently: the
library's readers raise on a `=` in a client's name, and one factory would blind the watch over all.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import redis

from corporation.trust.key_sizes import Key, Size, measure

NO_FILE: Final = "not configured to use an ACL file"
MOST_READ: Final = 128
"""Entries of the log that are read: all that a server keeps by default (`acllog-max-len`). It keeps each of them whole:
the name of the key and that of the client may be as large as it takes them (`proto-max-bulk-len`)."""
READ_AT_ONCE: Final = 10
HUGE: Final = 128 * 1024
"""Bytes of these entries; whoever names keys of ours is refused with a few hundred."""
LONGEST_SHOWN: Final = 300
SETINFO_SINCE: Final = (7, 2)


@dataclass(frozen=True)
class Refused:
    """One entry of the server's log of refusals: `count` times the same, the last time `age_seconds` ago."""

    key: str
    """The same for the same entry at a later look."""
    user: str
    reason: str
    """`command`, `key`, `channel`, or `auth` for a password that was not right."""
    what: str
    count: int
    age_seconds: float


@dataclass(frozen=True)
class RefusalLog:
    """The newest MOST_READ entries of the server's log of refusals, without those that cannot be read."""

    refused: list[Refused]
    is_huge: bool
    """Whether names in it are so long that nobody should ask for it again and again."""
    is_full: bool = False
    """Whether there may be more than was read, or more than the server keeps."""


class Acl:
    """The users of the server behind `client`; every method raises redis.RedisError or OSError when it does not answer,
    and redis.exceptions.NoPermissionError when this connection's user may not do it."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client

    def has_setinfo(self) -> bool:
        """Whether this server knows CLIENT SETINFO, which clients send unasked: Valkey, and Redis from 7.2 on."""
        server: Any = self._client.info("server")
        return "valkey_version" in server or _version(str(server.get("redis_version", ""))) >= SETINFO_SINCE

    def lines(self) -> dict[str, str]:
        """Each user's line as the server would write it into its file, by the user's name."""
        lines = [_text(line) for line in self._ask("LIST")]
        return {line.split(" ", 2)[1]: line for line in lines if line.count(" ") >= 2}

    def put(self, name: str, rules: Sequence[str]) -> None:
        """The user is what `rules` say, all at once or not at all; who is connected stays. Safe to call twice."""
        self._ask("SETUSER", name, *rules)

    def remove(self, name: str) -> None:
        """There is no such user, and nobody is connected as it. Safe to call twice."""
        self._ask("DELUSER", name)

    def cut(self, name: str) -> None:
        """Every connection of this user is closed. Safe to call twice."""
        self._client.execute_command("CLIENT KILL", "USER", name)

    def save(self) -> bool:
        """The server finds its users again after a restart; False where it keeps no file of them."""
        try:
            self._ask("SAVE")
        except redis.ResponseError as error:
            if NO_FILE in str(error):
                return False
            raise
        return True

    def read_log(self) -> RefusalLog:
        """What the server refused lately, and how much that is to read."""
        answer: Any = []
        is_huge = False
        # A few more each time: the server keeps the names it refused whole, and whoever is here meets few huge ones.
        for count in range(READ_AT_ONCE, MOST_READ + READ_AT_ONCE, READ_AT_ONCE):
            answer = self._ask("LOG", str(min(count, MOST_READ)))
            is_huge = sum(map(_size, answer)) > HUGE
            if is_huge or len(answer) < count:
                break
        read = [_refused(_fields(entry)) for entry in answer]
        return RefusalLog([one for one in read if one], is_huge=is_huge, is_full=len(answer) >= MOST_READ)

    def refusals(self) -> list[Refused]:
        """What the server refused lately; what cannot be read is left out."""
        return self.read_log().refused

    def forget_refusals(self) -> None:
        """The server's log of refusals is empty. Safe to call twice."""
        self._ask("LOG", "RESET")

    def sizes(self, keys: Sequence[Key], most_entries: int) -> dict[Key, Size]:
        """How much lies in each of these keys; the bytes are estimated where there are more entries than that."""
        return measure(self._client, keys, most_entries)

    def filled(self) -> float:
        """Which part of the memory that it may take the server has taken; 0 where it has no limit."""
        memory: Any = self._client.info("memory")
        limit = int(memory.get("maxmemory") or 0)
        return int(memory.get("used_memory") or 0) / limit if limit else 0.0

    def _ask(self, *words: str) -> Any:
        # In two words, so that the library does not know the command, and leaves the answer as it came.
        return self._client.execute_command("ACL", *words)


def is_on(line: str) -> bool:
    """Whether the user of this line may log in."""
    return line.split(" ")[2:3] == ["on"]


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(".")[:2] if part.isdigit())


def _fields(entry: Any) -> Mapping[str, str]:
    """The entry's fields by name, which come as pairs or, in the newer protocol, as a mapping."""
    values = [_shown(value) for value in _flat(entry)]
    return dict(zip(values[::2], values[1::2], strict=False))


def _flat(entry: Any) -> list[Any]:
    return [one for pair in entry.items() for one in pair] if isinstance(entry, dict) else list(entry)


def _size(entry: Any) -> int:
    return sum(len(value) for value in _flat(entry) if isinstance(value, bytes | str))


def _refused(entry: Mapping[str, str]) -> Refused | None:
    try:
        user, reason, what = entry["username"], entry["reason"], f"{entry['reason']} {entry['object']}"
        # A server that was started anew counts from the beginning.
        number = f"{entry['entry-id']} {entry.get('timestamp-created')}" if "entry-id" in entry else None
        key = number or f"{user} {what} {entry['context']}"
        return Refused(key, user, reason, what[:200], int(entry["count"]), float(entry["age-seconds"]))
    except (KeyError, ValueError):
        return None


def _shown(value: Any) -> str:
    """The beginning of it in visible ASCII: a ledger stores no NUL, and a terminal obeys what cannot be seen."""
    raw = value[:LONGEST_SHOWN] if isinstance(value, bytes) else str(value)[:LONGEST_SHOWN].encode(errors="replace")
    return "".join(chr(byte) if 32 <= byte < 127 else f"\\x{byte:02x}" for byte in raw)


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)

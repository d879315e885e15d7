"""Whether the data servers of a stack answer: one that stands still is there, and whoever asks it waits."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from queue import SimpleQueue
from threading import Event, Thread
from typing import Final

import psycopg
import redis.exceptions

from corporation import clock
from corporation.broker_link import open_link
from corporation.embedded.connection_causes import NO_ANSWER, NOBODY_LISTENS, cause_of
from corporation.embedded.stack_servers import DataServer
from corporation.shown_address import shown

EVERY_SECONDS: Final = 10.0
AGAIN_SECONDS: Final = 2.0
"""After one that was not answered."""
ANSWER_SECONDS: Final = 3
MISSES: Final = 2
"""So many in a row are no moment of much work."""
DATABASES: Final = ("postgresql", "mailbox")


@dataclass
class _Sight:
    misses: int = 0
    silent_since: float = 0.0

    def look(self, now: float, *, answers: bool) -> str:
        """`silent` or `back`, when that is new; else an empty text."""
        was_silent = self.misses >= MISSES
        if answers:
            self.misses = 0
            return "back" if was_silent else ""
        self.silent_since = self.silent_since if self.misses else now
        self.misses += 1
        return "silent" if self.misses == MISSES else ""


class ServerWatch:
    """Asks each of `servers` every ten seconds, in a thread of its own: the launcher must wait for none of them."""

    def __init__(
        self,
        servers: Sequence[DataServer],
        answers: Callable[[DataServer], bool] | None = None,
        every_seconds: float = EVERY_SECONDS,
        again_seconds: float = AGAIN_SECONDS,
    ) -> None:
        self._servers = servers
        self._answers = answers or answers_us
        self._every = every_seconds
        self._again = again_seconds
        self._sights: dict[str, _Sight] = {}
        self._news: SimpleQueue[str] = SimpleQueue()
        self._stop = Event()

    def start(self) -> None:
        """From now on it looks, until `stop`."""
        Thread(target=self._run, name="server-watch", daemon=True).start()

    def stop(self) -> None:
        """Nothing is said any more of servers that end now. Safe to call twice, and without a start."""
        self._stop.set()

    def news(self) -> list[str]:
        """What became of the servers since the last call, one line each: one is silent, or answers again."""
        lines: list[str] = []
        while not self._news.empty():
            lines.append(self._news.get())
        return [] if self._stop.is_set() else lines

    def _run(self) -> None:
        while not self._stop.is_set():
            for server in list(self._servers):
                self._look(server)
            is_well = not any(sight.misses for sight in self._sights.values())
            self._stop.wait(self._every if is_well else self._again)

    def _look(self, server: DataServer) -> None:
        if server.state not in ("ready", "given"):
            # It has ended, which the table says, or was never there.
            self._sights.pop(server.name, None)
            return
        sight = self._sights.setdefault(server.name, _Sight())
        answers = self._answers(server)
        now = clock.monotonic()
        match sight.look(now, answers=answers):
            case "silent":
                self._news.put(_silent(server))
            case "back":
                self._news.put(f"{server.name} answers again, after {now - sight.silent_since:.0f} s")
            case _:
                pass


def answers_us(server: DataServer) -> bool:
    """Whether it says anything at all within three seconds; a refusal is an answer."""
    try:
        if server.name in DATABASES:
            url = "postgresql://" + server.url.partition("://")[2]
            psycopg.connect(url, connect_timeout=ANSWER_SECONDS).close()
        else:
            with open_link(server.url, limit_seconds=ANSWER_SECONDS) as client:
                client.ping()
    except (psycopg.Error, redis.exceptions.RedisError, OSError, ValueError) as error:
        # Where nobody listens: of a server of ours the launcher sees that itself, and starts it again.
        return cause_of(error) not in (NO_ANSWER, NOBODY_LISTENS)
    return True


def _silent(server: DataServer) -> str:
    meanwhile = "HQ answers 503" if server.name in DATABASES else "missions travel over HTTPS, if at all"
    what = f"{server.name} at {shown(server.url)} does not answer; until it does, {meanwhile}"
    if server.server is None:
        return f"{what}. Whoever runs it must see to it"
    return f"{what}. See {server.server.log}; if its process {server.server.pid} is ended, it is started again"

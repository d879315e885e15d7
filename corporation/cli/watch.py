"""Following one mission until it is final: its events, and its log where HQ streams it."""

import queue
from collections.abc import Iterator
from threading import Thread
from typing import Any, Final

import httpx

from corporation.cli import exits
from corporation.cli.client import HqClient, Json
from corporation.cli.output import say, say_json
from corporation.cli.server_events import ServerEvent, read_events
from corporation.cli.why import command
from corporation.missions.states import FINAL

POLL_SECONDS: Final = 0.5
# Five seconds of waiting are worth a hint.
LOOKS_BEFORE_HINT: Final = 10
# After the last event the log may still be on its way; it is not worth more than this.
LOG_DRAIN_SECONDS: Final = 2.0
LOG_RECONNECTS: Final = 20
# A mission that writes faster than a terminal must not keep the events from being shown.
MOST_LINES_AT_ONCE: Final = 500


def follow(client: HqClient, job_id: str, *, as_json: bool = False) -> int:
    """Print what happens to the mission until it is final; 0 when it succeeded, else 1. Ctrl-C leaves it running."""
    tail = LogTail(client, job_id)
    after = 0
    mission: Json = client.mission(job_id)
    looks_waiting = 0
    tail.start()
    while True:
        final = mission.get("state") in FINAL
        for event in client.events(job_id, after):
            after = int(event.get("seq", after))
            say_json({"event": event}) if as_json else say(event_line(event))
        for line in tail.lines(LOG_DRAIN_SECONDS if final else POLL_SECONDS, to_the_end=final):
            say_json({"log": line}) if as_json else say(f"    | {line.get('line', line.get('text', ''))}")
        if final:
            return _conclude(mission, as_json=as_json)
        looks_waiting = looks_waiting + 1 if mission.get("state") in ("waiting", "queued") else 0
        if looks_waiting == LOOKS_BEFORE_HINT and not as_json:
            say(f"Not running yet; to see why: {command(job_id)}")
        mission = client.mission(job_id)


def _conclude(mission: Json, *, as_json: bool) -> int:
    if as_json:
        say_json({"mission": mission})
    else:
        error = f": {mission['error']}" if mission.get("error") else ""
        say(f"{mission.get('job_id')} {mission.get('state')}{error}")
    return exits.OK if mission.get("state") == "succeeded" else exits.FAILED


def event_line(event: Json) -> str:
    """One event as one line: time of day (UTC), what happened, at which attempt and factory, and its detail."""
    attempt = f"attempt {event['attempt']}" if event.get("attempt") else ""
    words = [
        str(event.get("at", ""))[11:23],
        f"{event.get('type', ''):<16}",
        attempt,
        str(event.get("factory_id") or ""),
    ]
    return "  ".join(word for word in [*words, _detail(event.get("detail"))] if word)


def _detail(detail: Any) -> str:
    if not isinstance(detail, dict):
        return ""
    return " ".join(f"{name}={value}" for name, value in detail.items() if value not in (None, "", {}, []))[:400]


class LogTail:
    """The mission's log lines as they come, read in a thread of its own; without a log stream there are none."""

    def __init__(self, client: HqClient, job_id: str) -> None:
        self._client = client
        self._job_id = job_id
        self._lines: queue.SimpleQueue[Json | None] = queue.SimpleQueue()
        self._ended = False
        # A daemon: a silent stream must not hold up the end of the command.
        self._thread = Thread(target=self._read, name="log", daemon=True)

    def start(self) -> None:
        """Begin to read; call it once."""
        self._thread.start()

    def lines(self, seconds: float, *, to_the_end: bool) -> Iterator[Json]:
        """What came so far; waits `seconds` for the first line, and for each one when `to_the_end`."""
        wait = seconds
        for _ in range(MOST_LINES_AT_ONCE):
            if self._ended and to_the_end:
                return
            try:
                line = self._lines.get(timeout=wait) if wait else self._lines.get_nowait()
            except queue.Empty:
                return
            if line is None:
                self._ended = True
                continue
            yield line
            wait = seconds if to_the_end else 0

    def _read(self) -> None:
        after = ""
        try:
            for _ in range(LOG_RECONNECTS):
                for event in self._connected(after):
                    after = event.id or after
                    if event.name == "end":
                        return
                    if event.name == "log":
                        self._lines.put(event.data)
        except (httpx.HTTPError, NoLogStream):
            return
        finally:
            self._lines.put(None)

    def _connected(self, after: str) -> Iterator[ServerEvent]:
        with self._client.log_stream(self._job_id, after) as lines:
            if lines is None:
                raise NoLogStream
            try:
                yield from read_events(lines)
            except httpx.TransportError:
                return  # the stream broke; the caller connects again after the last id


class NoLogStream(Exception):
    """HQ does not stream this mission's log."""

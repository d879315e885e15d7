"""Whether Redis is there, looked at by a thread of its own every two seconds; the spool knows which way is used."""

from collections.abc import Callable
from threading import Event, Thread
from typing import Final

import structlog

from corporation import clock
from corporation.broker_link import open_own_link, why_not_connected
from corporation.federation import notes
from corporation.federation.transport import Way, first_way, next_way
from factory_tasks.node import Node

log = structlog.get_logger()

EVERY_SECONDS: Final = 2.0
"""With the ten seconds that Redis must be away, and a second to find out, the way changes well within half a minute."""


class Probe:
    """Decides by which way missions come; `changed` is called after it was written down."""

    def __init__(self, here: Node, changed: Callable[[], None], *, standby: bool) -> None:
        self._here = here
        self._changed = changed
        self._wanted = standby
        self._stop = Event()
        self._thread = Thread(target=self._run, name="probe", daemon=True)
        self._why = None if standby else "this factory gets its missions over HTTPS"
        self._way: Way | None = None

    def start(self) -> None:
        """The way is known and written down when this returns; without standby it is HTTPS for ever."""
        self._look()
        if self._wanted:
            self._thread.start()

    def stop(self) -> None:
        """The thread ends before its next look."""
        self._stop.set()

    @property
    def over_https(self) -> bool:
        """Whether missions are to be asked for over HTTPS now."""
        return self._way is not None and self._way.transport == notes.HTTPS

    def _run(self) -> None:
        while not self._stop.wait(EVERY_SECONDS):
            try:
                self._look()
            except Exception as error:
                # A full disk passes; until then the way stays as it is.
                log.warning("probe_failed", error=type(error).__name__)

    def _look(self) -> None:
        error = self._ask() if self._wanted else None
        answers, now, before = self._wanted and error is None, clock.monotonic(), self._way
        if before is None:
            way = first_way(answers, now, wanted=self._wanted)
        else:
            way = next_way(before, answers, now, wanted=self._wanted)
        if before is None or before.transport != way.transport:
            self._write_down(way, self._why or (f"Redis does not answer ({error})" if error else None))
        self._way = way
        if before is not None and before.transport != way.transport:
            log.warning("transport_changed", transport=way.transport, why=error or "Redis answers again")
            self._changed()

    def _write_down(self, way: Way, why: str | None) -> None:
        self._here.spool.note(notes.TRANSPORT, way.transport)
        self._here.spool.note(notes.TRANSPORT_WHY, why or "")

    def _ask(self) -> str | None:
        with open_own_link(self._here.settings) as client:
            return why_not_connected(client)

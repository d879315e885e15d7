"""What the pulse does for its own worker: writes down how it is, turns its gate, restarts it when its loop is dead.

All of it goes through the spool, so that the beat, whichever process sends it, tells of every worker.
"""

import json
import os
from collections.abc import Callable, Mapping
from typing import Any, Final

import structlog

from corporation import clock
from corporation.broker_link import open_own_link, why_not_connected
from corporation.federation import notes
from factory_tasks.gated_transport import close_gate, open_gate
from factory_tasks.loop_watch import RESTART_STATUS, LoopSigns, LoopWatch, judge_loop
from factory_tasks.node import Node

log = structlog.get_logger()

OF_WORKER: Final = "worker:"
RESTART: Final = "restart:"
"""Before a worker's name: the note that HQ wants it restarted."""
WRITE_SECONDS: Final = 5.0
SLEPT_SECONDS: Final = 30.0
"""Whoever did not look for so long was stopped with its whole process or machine, and has seen nothing of the loop."""


class WorkerSigns:
    """The signs of the worker `name`; for its pulse's thread, but for `leave`.

    `watched`: its loop must turn while missions run. That of a solo pool does not: it runs them itself.
    """

    def __init__(
        self,
        here: Node,
        name: str,
        busy: Callable[[], int],
        end: Callable[[int], None] = os._exit,
        *,
        watched: bool = True,
    ) -> None:
        self._here = here
        self._name = name
        self._busy = busy
        self._end = end
        self._watched = watched
        self._connected_since: float | None = None
        self._wrote_at = clock.monotonic() - WRITE_SECONDS
        self._closed = False

    def look(self) -> None:
        """Do what is due: the gate at each call, the signs every five seconds."""
        facts = self._here.spool.noted_all()
        self._turn_gate(facts)
        if self._watched and facts.get(RESTART + self._name) == notes.SET:
            self._restart("headquarters asks for it")
        unseen = clock.monotonic() - self._wrote_at
        if unseen >= SLEPT_SECONDS:
            LoopWatch.turn()
            self._connected_since = None
        if unseen >= WRITE_SECONDS:
            self._wrote_at = clock.monotonic()
            self._write_down()

    def leave(self) -> None:
        """The worker ends as soon as its missions have: its loop stands still meanwhile, and that is right."""
        self._watched = False

    def forget(self) -> None:
        """Nothing is known of the worker, and nothing wanted of it: before its first look, and after its last."""
        for prefix in (OF_WORKER, RESTART):
            self._here.spool.forget_note(prefix + self._name)

    def _turn_gate(self, facts: Mapping[str, str]) -> None:
        """A factory that is to take nothing takes nothing: its messages stay in Redis, where HQ takes them back."""
        wanted = is_kept_away(facts)
        if wanted != self._closed:
            log.warning("gate_closed" if wanted else "gate_opened", why=why_kept_away(facts))
            self._closed = wanted
        close_gate() if wanted else open_gate()

    def _write_down(self) -> None:
        connected = self._look_at_redis()
        age, running = LoopWatch.age() if self._watched else None, self._busy()
        signs = {"loop_age_seconds": None if age is None else round(age, 1), "busy": running, "connected": connected}
        self._here.spool.note(OF_WORKER + self._name, json.dumps(signs))
        since = self._connected_since
        known = LoopSigns(age or 0.0, clock.monotonic() - since if since is not None else 0.0, running)
        if judge_loop(known) == "restart":
            self._restart(f"its loop stands still for {known.loop_age:.0f} s")

    def _look_at_redis(self) -> bool:
        with open_own_link(self._here.settings) as client:
            connected = why_not_connected(client) is None
        if not connected:
            self._connected_since = None
        elif self._connected_since is None:
            self._connected_since = clock.monotonic()
        return connected

    def _restart(self, why: str) -> None:
        """The process ends at once, and its supervisor starts it again; the next one puts back what it had taken."""
        log.error("worker_restarts", worker=self._name, why=why)
        try:
            self._here.spool.remove_worker(self._name)
            self.forget()
        finally:
            self._end(RESTART_STATUS)


def is_kept_away(facts: Mapping[str, str]) -> bool:
    """Whether this factory is to take no missions: HQ paused or drains it, another process uses its name, or it
    knows none of HQ's keys.
    """
    return bool(why_kept_away(facts))


def why_kept_away(facts: Mapping[str, str]) -> str:
    """In one word; empty when nothing keeps it."""
    flags = [name for name in (notes.PAUSED, notes.DRAINING) if facts.get(name) == notes.SET]
    causes = [name for name in (notes.SPLIT_BRAIN, notes.KEYS_REFUSED) if facts.get(name)]
    return next(iter([*flags, *causes]), "")


def signs_of(facts: Mapping[str, str], name: str) -> dict[str, Any]:
    """What the worker `name` last wrote down of itself; nothing for one that has no pulse."""
    text = facts.get(OF_WORKER + name)
    return json.loads(text) if text else {}

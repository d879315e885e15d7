"""The warden: a thread of the worker's main process that ends an attempt which does not stop by itself, for good.

A handler may ignore the exception that throws it out, sit in C code or swallow everything; its process is then killed
with all it started, after the report is in the spool. Whatever a dead process of the pool leaves behind is ended too.
Celery's own time limit stands behind this one.
"""

import os
import sqlite3
from collections.abc import Callable
from contextlib import suppress
from threading import Event, Thread
from typing import Final

import structlog

from corporation import clock
from corporation.federation.processes import is_alive, my_identity
from corporation.federation.spool import UnderWay
from corporation.missions.outcomes import Cancelled, Outcome, TimedOut, to_report
from factory_tasks.node import Node
from factory_tasks.process_tree import children_of, end, is_zombie, kill_tree
from factory_tasks.tether import descendants

log = structlog.get_logger()

LOOK_SECONDS: Final = 0.5
SOON_SECONDS: Final = 0.1
PATIENCE_SECONDS: Final = 2.0
"""How long a handler may clean up after it was told to stop. Where nobody tells this factory of a cancel, it is asked
for after 2.3 s at worst: with this, and half a second to look and to kill, the attempt is gone within five."""


def deadline_of(attempt: UnderWay, grace_seconds: float) -> float:
    """The moment, on the monotonic clock, at which the attempt's process is killed; infinite when there is none."""
    moments = [float("inf")]
    if attempt.stop_at is not None:
        moments.append(attempt.stop_at + PATIENCE_SECONDS)
    if attempt.begun_at is not None and attempt.time_limit is not None:
        moments.append(attempt.begun_at + attempt.time_limit + grace_seconds)
    return min(moments)


def last_word_on(attempt: UnderWay) -> Outcome:
    """What is reported for an attempt that is killed: it was to stop, or else its time was up (S-31)."""
    if attempt.stop_why is not None:
        return Cancelled(attempt.stop_why)
    limit = f"{attempt.time_limit:g}" if attempt.time_limit is not None else "?"
    return TimedOut(f"the time limit of {limit} s passed, and it was killed with all it started")


class Warden:
    """Started when a worker with a pool of processes takes missions, stopped when nothing runs in it any more.

    `pool` names the processes of the pool that live now; `tell` is called when a report is in the spool.
    """

    def __init__(self, here: Node, pool: Callable[[], set[int]], tell: Callable[[], None]) -> None:
        self._here = here
        self._pool = pool
        self._tell = tell
        self._grace = float(here.settings.timeout_grace_seconds)
        self._stop = Event()
        self._thread = Thread(target=self._run, name="warden", daemon=True)
        self._known: set[int] = set()
        self._strangers: set[int] = set()
        self._spared: set[int] = set()
        self._somebody_died = False
        self._leaving = False
        self._handed_back: set[str] = set()

    def start(self) -> None:
        """Watch from now on, in a thread of its own."""
        self.begin()
        self._thread.start()

    def begin(self) -> None:
        """What this process started before, other than its pool, stays its own affair. Then `look`, again and again."""
        self._known = self._pool()
        self._spared = children_of(os.getpid()) - self._known

    def leave(self) -> None:
        """This process was told to stop: what its pool still runs when it is killed was handed back (F-23)."""
        self._leaving = True
        with suppress(sqlite3.Error):  # then the next look does it
            self._hand_back(self._ours(self._pool()))

    def stop(self) -> None:
        """The thread ends within one look, and no orphan of the pool is left; safe to call twice."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(LOOK_SECONDS * 4)
        while (strangers := self._strangers_now()) and self._end_strangers(strangers):
            pass

    def _run(self) -> None:
        wait = LOOK_SECONDS
        while not self._stop.wait(wait):
            try:
                wait = self.look()
            except Exception as error:
                # A locked spool or a full disk passes; without its warden a worker would go on all the same.
                log.warning("warden_failed", error=error)
                wait = LOOK_SECONDS

    def look(self) -> float:
        """Kill whose time is up, end what the dead left, and say in how many seconds to look again."""
        pool = self._pool()
        if not pool:
            return LOOK_SECONDS  # not yet there, or closed
        # Celery may not notice a death for five seconds.
        living = {pid for pid in pool if not is_zombie(pid)}
        ours = self._ours(living)
        if self._leaving:
            self._hand_back(ours)  # one may have begun since
        now = clock.monotonic()
        due = [attempt for attempt in ours if deadline_of(attempt, self._grace) <= now]
        for attempt in due:
            self._kill(attempt)
        if due or living != self._known:
            self._somebody_died = True
        if self._somebody_died:
            self._clean_up_after_the_dead()
        self._known = living
        if self._somebody_died:
            return SOON_SECONDS
        deadlines = [deadline_of(attempt, self._grace) - now for attempt in ours if attempt not in due]
        return max(0.01, min([LOOK_SECONDS, *deadlines]))

    def _ours(self, pids: set[int]) -> list[UnderWay]:
        return [attempt for attempt in self._here.spool.under_way() if attempt.owner.pid in pids]

    def _hand_back(self, ours: list[UnderWay]) -> None:
        if fresh := {attempt.attempt_id for attempt in ours} - self._handed_back:
            self._here.spool.hand_back(fresh, my_identity())
            self._handed_back |= fresh

    def _kill(self, attempt: UnderWay) -> None:
        """The report first: a worker that dies between the two reports it, and the message that comes back finds it."""
        report = to_report(last_word_on(attempt))
        if not is_alive(attempt.owner) or not self._here.spool.finish(attempt.attempt_id, report):
            return
        kill_tree(attempt.owner.pid)
        log.warning("attempt_killed", attempt_id=attempt.attempt_id, pid=attempt.owner.pid, why=report["error"])
        self._tell()

    def _clean_up_after_the_dead(self) -> None:
        """End the orphans that a dead process of the pool left us, and only then say what was lost with it.

        A stranger is believed to be one when it was there a look ago: the pool lists a new process of its own only a
        moment after it has forked it.
        """
        strangers = self._strangers_now()
        self._end_strangers(strangers & self._strangers)
        self._strangers = strangers - self._strangers
        if strangers:
            return  # what they leave in turn is seen at the next look
        self._somebody_died = False
        if lost := self._here.spool.bury_the_dead():
            log.warning("attempts_lost_with_their_process", count=lost)
            self._tell()

    def _strangers_now(self) -> set[int]:
        """This process's children, the uncollected dead among them, that are neither of the pool nor its own affair."""
        return children_of(os.getpid()) - self._pool() - self._spared

    def _end_strangers(self, strangers: set[int]) -> bool:
        """Whether all of them have ended, with what they started."""
        left = end(lambda: strangers.union(*(descendants(pid) for pid in strangers))) if strangers else 0
        if left:
            log.error("orphans_do_not_end", processes=left)
        return not left

"""The loop of the process that gets a factory its missions over HTTPS: claim, have it run, report."""

import sqlite3
from collections.abc import Mapping
from contextlib import suppress
from queue import Empty, SimpleQueue

import structlog

from corporation.errors import CorporationError
from corporation.federation import notes
from corporation.federation.hq import Hq
from corporation.federation.processes import my_identity
from corporation.federation.spool import report_all
from corporation.missions.kinds import SYSTEM_ORDERS
from factory_tasks.attempt_mark import end_leftovers_of_the_dead
from factory_tasks.handlers import Registration
from factory_tasks.https_reports import Deliver
from factory_tasks.node import Node
from factory_tasks.pull.claims import WAIT_SECONDS, Claims, Wish
from factory_tasks.pull.nursery import Nursery
from factory_tasks.pull.orders import Reader
from factory_tasks.pull.probe import Probe
from factory_tasks.pulse import Pulse
from factory_tasks.worker_signs import is_kept_away

log = structlog.get_logger()

STANDBY_SECONDS = 2.0
"""How long a claim waits for missions at HQ where HTTPS is only the way of the moment."""
TICK_SECONDS = 1.0
"""Between two looks; a claim, and the end of an attempt, wake the loop at once."""


class Puller:
    """One per process; it asks HQ, and the nursery runs what HQ hands out."""

    def __init__(
        self,
        here: Node,
        hq: Hq,
        name: str,
        registered: Mapping[str, Registration],
        pulse: Pulse,
        deliver: Deliver,
        *,
        standby: bool,
    ) -> None:
        self._here = here
        self._name = name
        self._registered = registered
        self._slots = here.settings.factory_slots
        self._pulse = pulse
        self._deliver = deliver
        self._nursery = Nursery(here, registered, self.wake, pulse.report_now)
        self._probe = Probe(here, self._way_changed, standby=standby)
        self._claims = Claims(hq, here.settings.factory_id, name, self._wish, self.wake, Reader(here).read)
        self._handed: frozenset[str] = frozenset()
        self._wakes: SimpleQueue[None] = SimpleQueue()
        self._draining = False
        self._told_to_stop = False
        # While Redis may come back any moment, no question must be open for long: HQ would answer it with a mission.
        self._patience = STANDBY_SECONDS if standby else WAIT_SECONDS

    def start(self) -> None:
        """What died before is settled, HQ hears of this factory, and missions are asked for if it is the way."""
        # First of all: afterwards this process has threads, and must not fork any more.
        self._nursery.fork()
        end_leftovers_of_the_dead(self._here.spool)
        if lost := self._here.spool.bury_the_dead():
            log.warning("attempts_lost_in_a_crash", count=lost)
        self._probe.start()
        self._register()
        self._nursery.listen()
        self._pulse.start()
        self._claims.start()

    def tick(self) -> None:
        """Pass on what was claimed, and ask for more when an attempt has ended; waits when there is nothing to do."""
        if self._told_to_stop:
            self._hand_back()  # one may have begun since
        claimed = self._claims.taken()
        for one in claimed:
            self._nursery.work_on(one)
        before, self._handed = self._handed, self._nursery.attempt_ids()
        if claimed or before != self._handed:
            self._claims.started(claimed)
            self._claims.look()
        try:
            self._wakes.get(timeout=TICK_SECONDS)
        except Empty:
            return

    def wake(self, *_: object) -> None:
        """There is something to do; from every thread."""
        self._wakes.put(None)

    @property
    def idle(self) -> bool:
        """Whether no attempt runs here."""
        return not self._nursery.attempt_ids() and not self._claims.pending

    @property
    def broken(self) -> bool:
        """Whether nothing can be run here any more, so that whoever supervises this process should start it anew."""
        return self._nursery.broken

    def drain(self) -> None:
        """Nothing more is taken; what runs goes on, and HQ hears that this factory is on its way out (F-23).

        What still runs when this process is killed was handed back.
        """
        self._draining = self._told_to_stop = True
        self._claims.stop()
        self._hand_back()
        self._here.spool.rest_worker(self._name)
        self._pulse.beat_now()

    def end(self) -> None:
        """Nothing of this process is left, and what was finished is told if HQ listens."""
        self._draining = True
        self._claims.stop()
        self._nursery.end()
        if lost := self._here.spool.bury_the_dead():
            log.warning("attempts_handed_back", count=lost)
        self._probe.stop()
        self._here.spool.remove_worker(self._name)
        self._pulse.stop()
        with suppress(CorporationError):  # then the next one tells it
            report_all(self._here.spool, self._deliver)

    def _hand_back(self) -> None:
        if mine := self._nursery.attempt_ids():
            with suppress(sqlite3.Error):  # what is not written down counts as ever
                self._here.spool.hand_back(mine, my_identity())

    def _register(self) -> None:
        """The heartbeat knows of this process while it takes missions: not while Redis is the way."""
        if not self._probe.over_https:
            self._here.spool.remove_worker(self._name)
            return
        labels = sorted({one.label for kind, one in self._registered.items() if kind not in SYSTEM_ORDERS})
        slots = 0 if self._draining else self._slots
        self._here.spool.put_worker(self._name, my_identity(), slots, [notes.HTTPS], labels)

    def _way_changed(self) -> None:
        self._register()
        self._pulse.beat_now()
        self._claims.look()

    def _wish(self) -> Wish | None:
        """What to ask for now, from the claiming thread; None for nothing."""
        if self._draining or not self._probe.over_https:
            return None
        orders = tuple(kind for kind in self._registered if kind in SYSTEM_ORDERS)
        # The newest first: what is no longer pending has been handed to a process by then.
        pending = self._claims.pending
        running = {one.attempt_id for one in self._here.spool.running()} | self._handed | pending
        known = running | {attempt_id for attempt_id, _ in self._here.spool.unreported()}
        free = self._slots - len(running)
        holding = tuple(sorted(known))
        if free > 0 and not self._kept_away():
            return Wish(min(free, 32), tuple(self._registered), holding, self._patience)
        return Wish(1, orders, holding, patience=0.0) if orders else None

    def _kept_away(self) -> bool:
        return is_kept_away(self._here.spool.noted_all())

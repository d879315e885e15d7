"""The loop of the process that gets a factory its missions over HTTPS: claim, run, collect, report."""

from collections.abc import Mapping
from queue import Empty, SimpleQueue

import structlog

from corporation.federation import notes
from corporation.federation.hq import Hq
from corporation.federation.processes import my_identity
from corporation.missions.kinds import SYSTEM_ORDERS
from factory_tasks.attempt_mark import end_leftovers_of_the_dead
from factory_tasks.handlers import Registration
from factory_tasks.node import Node
from factory_tasks.process_tree import adopt_orphans
from factory_tasks.pull.children import Children
from factory_tasks.pull.claims import Claims, Wish
from factory_tasks.pull.probe import Probe
from factory_tasks.pulse import Pulse
from factory_tasks.warden import Warden

log = structlog.get_logger()

TICK_SECONDS = 1.0
"""Between two looks at the children; a claim, and the end of a child, wake the loop at once."""


class Puller:
    """One per process; everything but asking HQ happens in the main thread, which alone may fork."""

    def __init__(
        self,
        here: Node,
        hq: Hq,
        name: str,
        registered: Mapping[str, Registration],
        pulse: Pulse,
        *,
        standby: bool,
    ) -> None:
        self._here = here
        self._name = name
        self._registered = registered
        self._slots = here.settings.factory_slots
        self._pulse = pulse
        self._children = Children(here, registered)
        self._probe = Probe(here, self._way_changed, standby=standby)
        self._claims = Claims(hq, here.settings.factory_id, name, self._wish, self.wake)
        self._warden = Warden(here, self._pool, pulse.report_now)
        self._handed: set[str] = set()
        self._wakes: SimpleQueue[None] = SimpleQueue()
        self._draining = False

    def start(self) -> None:
        """What died before is settled, HQ hears of this factory, and missions are asked for if it is the way."""
        adopt_orphans()
        end_leftovers_of_the_dead(self._here.spool)
        if lost := self._here.spool.bury_the_dead():
            log.warning("attempts_lost_in_a_crash", count=lost)
        self._probe.start()
        self._register()
        self._warden.start()
        self._pulse.start()
        self._claims.start()

    def tick(self) -> None:
        """Start what was claimed and collect who has ended; waits a moment when there is nothing to do."""
        claimed = self._claims.taken()
        for one in claimed:
            self._children.start(one)
        ended = self._children.collect()
        if ended:
            self._here.spool.bury_the_dead()
            self._pulse.report_now()
        self._handed = self._children.attempt_ids()
        if claimed or ended:
            self._claims.started(claimed)
            self._claims.look()
        try:
            self._wakes.get(timeout=TICK_SECONDS)
        except Empty:
            return

    def wake(self, *_: object) -> None:
        """There is something to do; from every thread, and from a signal's handler."""
        self._wakes.put(None)

    @property
    def idle(self) -> bool:
        """Whether no attempt runs here."""
        return not self._children

    def drain(self) -> None:
        """Nothing more is taken; what runs goes on, and HQ hears that this factory is on its way out (F-23)."""
        self._draining = True
        self._claims.stop()
        self._here.spool.rest_worker(self._name)
        self._pulse.beat_now()

    def end(self) -> None:
        """Nothing of this process is left, and what was finished is told if HQ listens."""
        self._draining = True
        self._claims.stop()
        self._children.kill()
        self._probe.stop()
        self._warden.stop()
        self._here.spool.remove_worker(self._name)
        self._pulse.stop()

    def _pool(self) -> set[int]:
        # Never empty: the warden takes an empty pool for one that has not started yet.
        return self._children.pids() | {my_identity().pid}

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
            return Wish(min(free, 32), tuple(self._registered), holding)
        return Wish(1, orders, holding, patience=0.0) if orders else None

    def _kept_away(self) -> bool:
        wanted = (notes.PAUSED, notes.DRAINING)
        return any(self._here.spool.noted(name) == notes.SET for name in wanted)

"""The broker's queues, each looked into as often as it can be afforded: what a slow one costs is measured."""

from collections.abc import Callable, Collection, Generator
from contextlib import contextmanager

from corporation.engine.patience import SWEEP_SECONDS, Pace, paced, remembered, resting
from corporation.missions.queues import Queues, TakenBack, Whereabouts


class PatientQueues:
    """`queues`, of which a sweep passes by those that were slow and rest; for one thread."""

    def __init__(self, queues: Queues, longest_rest: float, monotonic: Callable[[], float]) -> None:
        self._queues = queues
        self._longest_rest = longest_rest
        self._monotonic = monotonic
        self._paces: dict[str, Pace] = {}
        self._spent: dict[str, float] = {}
        self._resting: frozenset[str] = frozenset()
        self.passed_by: set[str] = set()
        """The queues that this sweep wanted to look into, and did not."""

    def begin_sweep(self) -> None:
        """Another sweep begins: whoever was slow in the last one rests, and whoever was passed by may have its turn."""
        now = self._monotonic()
        self._paces = remembered(self._paces, now)
        for queue, seconds in self._spent.items():
            if (pace := paced(self._paces.pop(queue, None), seconds, now, self._longest_rest)) is not None:
                self._paces[queue] = pace
        self._resting = resting(self._paces, self.passed_by, now)
        self._spent, self.passed_by = {}, set()

    def slow(self) -> dict[str, float]:
        """The queues that were slow each of the last two times, and how many seconds each has cost.

        Once says nothing: the machine may have been busy.
        """
        return {queue: pace.seconds for queue, pace in self._paces.items() if pace.times > 1}

    def passes_by(self, queue: str) -> bool:
        """Whether this sweep does not look into `queue`: it rests, or the others leave no time."""
        if queue not in self._resting and sum(self._spent.values()) <= SWEEP_SECONDS:
            return False
        self.passed_by.add(queue)
        return True

    def look_into(self, queue: str) -> Whereabouts:
        """As `Queues`; nothing is known of a queue that is passed by."""
        if self.passes_by(queue):
            return Whereabouts(whole=False)
        with self._measured(queue):
            return self._queues.look_into(queue)

    def withdraw(self, queue: str, attempt_ids: Collection[str]) -> TakenBack:
        """As `Queues`, and never passed by: who gives an attempt up asks once, and its message must not stay behind."""
        with self._measured(queue):
            return self._queues.withdraw(queue, attempt_ids)

    def incarnation(self) -> str:
        """As `Queues`."""
        return self._queues.incarnation()

    @contextmanager
    def _measured(self, queue: str) -> Generator[None]:
        began = self._monotonic()
        try:
            yield
        finally:
            # Also of one that did not answer in time.
            self._spent[queue] = self._spent.get(queue, 0.0) + self._monotonic() - began


class RestedQueues:
    """The same queues for who asks with every sweep: what is passed by is not taken out of its queue either."""

    def __init__(self, patient: PatientQueues) -> None:
        self._patient = patient

    def look_into(self, queue: str) -> Whereabouts:
        """As `PatientQueues`."""
        return self._patient.look_into(queue)

    def withdraw(self, queue: str, attempt_ids: Collection[str]) -> TakenBack:
        """As `Queues`; nothing comes back from a queue that is passed by."""
        return TakenBack() if self._patient.passes_by(queue) else self._patient.withdraw(queue, attempt_ids)

    def incarnation(self) -> str:
        """As `Queues`."""
        return self._patient.incarnation()

"""Asking HQ for missions, in a thread of its own: an answer may take twenty seconds, and children end meanwhile."""

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from queue import SimpleQueue
from threading import Event, Lock, Thread
from typing import Any, Final

import structlog

from corporation.clock import chance
from corporation.errors import CorporationError
from corporation.federation.hq import Hq, HqRefusedError
from corporation.federation.hq_token import QUARANTINED
from factory_tasks.pull.orders import Answered, Claimed

log = structlog.get_logger()

WAIT_SECONDS: Final = 20.0
PAUSED_SECONDS: Final = 5.0
"""HQ answers a paused factory at once; it is asked again after so long."""
LONGEST_BACKOFF_SECONDS: Final = 60.0
MOST_REFUSED: Final = 1_000
"""Attempts that were handed out and refused; the oldest are forgotten, long after their leases."""
REJOIN: Final = (
    "HQ does not accept this factory's credential: it was removed, or has joined again; join again with "
    "`corporation factory join`"
)
WAIT_FOR_RELEASE: Final = (
    "HQ has put this factory in quarantine, which only HQ's operator ends (`corporation release`); joining again helps "
    "nothing"
)


@dataclass(frozen=True)
class Wish:
    """What may be asked for: how many, of which kinds, and what this factory holds already."""

    most: int
    kinds: tuple[str, ...]
    holding: tuple[str, ...]
    patience: float = WAIT_SECONDS


class Claims:
    """Claims by `wish`, asked before each claim, None meaning nothing; `claimed` is called when there is something."""

    def __init__(
        self,
        hq: Hq,
        factory_id: str,
        worker_id: str,
        wish: Callable[[], Wish | None],
        claimed: Callable[[], None],
        read: Callable[[Mapping[str, Any]], Answered],
    ) -> None:
        self._hq = hq
        self._read = read
        self._factory_id = factory_id
        self._worker_id = worker_id
        self._wish = wish
        self._wake = claimed
        self._claimed: SimpleQueue[Claimed] = SimpleQueue()
        self._pending: frozenset[str] = frozenset()
        self._refused: deque[str] = deque(maxlen=MOST_REFUSED)
        self._changing = Lock()
        self._stop = Event()
        self._look = Event()
        self._failures = 0
        self._refusals = 0
        self._thread = Thread(target=self._run, name="claims", daemon=True)

    def start(self) -> None:
        """Ask from now on."""
        self._thread.start()

    def stop(self) -> None:
        """Nothing more is asked for; an answer that is on its way is handed out again by HQ."""
        self._stop.set()
        self._look.set()

    def look(self) -> None:
        """A slot is free, or something else has changed that the next wish depends on."""
        self._look.set()

    @property
    def pending(self) -> frozenset[str]:
        """The attempts that HQ has handed out and that were not `started` yet; from every thread."""
        return self._pending

    def started(self, claimed: Sequence[Claimed]) -> None:
        """Processes work on these now; what is said of them from here on is said by those."""
        with self._changing:
            self._pending -= {one.attempt_id for one in claimed}

    def taken(self) -> list[Claimed]:
        """What was claimed since the last call, each once."""
        found: list[Claimed] = []
        while not self._claimed.empty():
            found.append(self._claimed.get())
        return found

    def _run(self) -> None:
        while not self._stop.is_set():
            pause = self._once()
            if pause:
                self._look.wait(pause)
            self._look.clear()

    def _once(self) -> float:
        """One claim, if there is something to wish for; the seconds to wait before the next time."""
        try:
            wish = self._wish()
            return PAUSED_SECONDS if wish is None else self._ask(wish)
        except Exception as error:
            # A locked spool or a full disk passes; without this thread the factory would take nothing ever more.
            log.warning("claim_failed", error=type(error).__name__)
            return 1.0

    def _ask(self, wish: Wish) -> float:
        """Claim; the seconds to wait before the next time."""
        body: dict[str, Any] = {
            "factory_id": self._factory_id,
            "max": wish.most,
            "mission_kinds": list(wish.kinds),
            # What was refused is named too: else it would be handed out again and again, and never go elsewhere.
            "holding": [*wish.holding, *self._refused],
            "worker_id": self._worker_id,
        }
        try:
            answer = self._hq.claim(body, wish.patience)
        except CorporationError as error:
            return self._after_failure(error)
        if self._failures:
            log.info("hq_answers_again")
        self._failures = 0
        answered = self._read(answer)
        claimed = answered.claimed
        self._refused.extend(answered.refused)
        with self._changing:
            self._pending |= {one.attempt_id for one in claimed}
        for one in claimed:
            self._claimed.put(one)
        if claimed:
            self._wake()
        # What was claimed is held by the main thread only after its next look: until then nothing more is asked for.
        if answered.refused and not claimed:
            return self._after_refusal()
        self._refusals = 0 if claimed else self._refusals
        return PAUSED_SECONDS if claimed or answer.get("paused") is True or not wish.patience else 0.0

    def _after_refusal(self) -> float:
        """Longer each time: what is taken and not run is lost to the others until its lease ends."""
        self._refusals += 1
        return min(LONGEST_BACKOFF_SECONDS, PAUSED_SECONDS * 2.0 ** min(self._refusals - 1, 10))

    def _after_failure(self, error: CorporationError) -> float:
        self._failures += 1
        if self._failures == 1:
            log.warning("claim_failed", error=str(error), **_advice(error))
        longest = min(LONGEST_BACKOFF_SECONDS, 0.5 * 2.0 ** min(self._failures, 10))
        return longest * (0.5 + chance() / 2)


def _advice(error: CorporationError) -> dict[str, str]:
    """What to do where HQ's 401 says that only people can help; nothing for any other error."""
    if not isinstance(error, HqRefusedError) or error.status != 401:
        return {}
    return {"what_next": WAIT_FOR_RELEASE if error.cause == QUARANTINED else REJOIN}

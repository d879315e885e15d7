"""What may be asked of the broker's queues: where messages are, and taking them back. Nothing here sends anything."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class Whereabouts:
    """Where the messages of one factory are: attempt ids, each in its canonical form."""

    lying: frozenset[str] = frozenset()
    """They lie in its queue, untaken."""
    held: frozenset[str] = frozenset()
    """A worker of the factory took them and has not acknowledged them: it works on them, or it died with them."""
    foreign: int = 0
    """How many entries of the queue are no message of ours at all; the worker's own gate deals with them. Orders of HQ
    that are no attempt (a beat, a stop, an echo) are ours, and are not counted. Of a queue that was too full to be
    read, all its entries."""
    whole: bool = True
    """False where more lies there, or among what the factory took, than one of ours can hold, and where nobody looked
    this time because a look costs too much: what is in neither place may be anywhere. Nothing is sent again for it and
    nothing renewed: if that stays so, its lease ends and its mission goes elsewhere, so that a factory that fills its
    keys loses its own missions and holds up no other's."""


@dataclass(frozen=True)
class TakenBack:
    """What came of taking messages back."""

    removed: frozenset[str] = frozenset()
    """The attempts whose message really lay in the queue and is gone from it now."""
    unreceived: frozenset[str] = frozenset()
    """Those of them that no worker ever had: none of their messages had come back to the queue from a worker that
    died, and the factory holds no other copy."""
    held: frozenset[str] = frozenset()
    """What the factory holds of the removed ones: a worker took another copy and has not acknowledged it."""


class Queues(Protocol):
    """A look at the broker's queues. Every call raises BrokerUnavailableError (`outbox.py`) while it is away."""

    def look_into(self, queue: str) -> Whereabouts:
        """Where the messages of `queue` are; one that is being taken this very moment may be in neither place."""
        ...

    def withdraw(self, queue: str, attempt_ids: Collection[str]) -> TakenBack:
        """Take the messages of these attempts out of `queue`, if they lie there; calling twice finds nothing more.

        Nothing is taken out of a queue of which a look would not be `whole`.
        """
        ...

    def incarnation(self) -> str:
        """A text that stays the same for as long as the broker can have forgotten nothing.

        It differs after a restart, and when all of the broker's data was removed.
        """
        ...

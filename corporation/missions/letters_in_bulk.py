"""Many dead letters at once: how many are meant, then each run again or put away by itself; none stops the rest."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Final

from sqlalchemy import Connection

from corporation.envelope import EnvelopeRefused
from corporation.errors import CorporationError
from corporation.missions.dead_letters import LetterResolvedError, discard_letter, replay_letter
from corporation.missions.queries import count_waiting
from corporation.missions.replay import ReplayRefused
from corporation.missions.store import letter_selection
from corporation.missions.store.letter_selection import LetterFilter, Tally
from corporation.missions.store.locking import lock_missions

MOST_AT_ONCE: Final = 200
"""Letters of one call, which is one transaction; whoever means more calls again."""

NO_LETTER: Final = "no dead letter is called so"
NO_ORDER: Final = "it holds no order that could be run again; replay it with an envelope"


class CountChangedError(CorporationError):
    """Not as many letters are meant as somebody thought; nothing changed."""

    code = "count_changed"


@dataclass(frozen=True)
class NotDone:
    """A letter that was left as it was, and why."""

    letter_id: int
    why: str


@dataclass
class Bulk:
    """What became of the letters: number → the mission that runs again, or None for one that was put away."""

    done: dict[int, str | None] = field(default_factory=dict[int, str | None])
    not_done: list[NotDone] = field(default_factory=list[NotDone])
    last: int | None = None
    """The newest letter that was looked at; the next call goes on `after` it."""
    remaining: int = 0
    """How many match and were not looked at."""
    is_full: bool = False
    """Whether as many missions wait as may, so that the rest must come again later."""


def count_letters(connection: Connection, wanted: LetterFilter, expected: int | None = None) -> Tally:
    """How many open letters are meant, by cause and by kind; raises CountChangedError when it is not `expected`."""
    tally = letter_selection.tally(connection, _meant(wanted))
    if expected is not None and tally.count != expected:
        why = f"{tally.count} dead letters match now and not {expected}; nothing was done, look again and repeat it"
        raise CountChangedError(why)
    return tally


def replay_letters(
    connection: Connection,
    wanted: LetterFilter,
    limit: int,
    waiting_limit: int,
    new_id: Callable[[], str],
    default_ttl_seconds: int,
) -> Bulk:
    """Up to `limit` of the open letters that match run again, the oldest first, as they were.

    One that holds no order, or whose names are taken, is left as it was. No more run again than missions may wait.
    Nothing is true before the commit; calling again finds what is still open.
    """
    room = max(0, waiting_limit - count_waiting(connection, waiting_limit))

    def again(letter_id: int) -> str | None:
        return replay_letter(connection, letter_id, None, new_id(), default_ttl_seconds)

    return _each(connection, wanted, limit, again, room)


def discard_letters(connection: Connection, wanted: LetterFilter, limit: int, reason: str | None) -> Bulk:
    """Up to `limit` of the open letters that match are put away for good, the oldest first; they stay readable."""

    def put_away(letter_id: int) -> None:
        discard_letter(connection, letter_id, reason)

    return _each(connection, wanted, limit, put_away)


def _each(
    connection: Connection,
    wanted: LetterFilter,
    limit: int,
    decide: Callable[[int], str | None],
    room: int | None = None,
) -> Bulk:
    """`decide` on each of the first `limit` letters that match, in a savepoint of its own, while there is `room`."""
    meant = _meant(wanted)
    chosen = [one.letter_id for one in letter_selection.oldest(connection, meant, limit)]
    lock_missions(connection, letter_selection.missions_of(connection, chosen))
    letter_selection.lock_letters(connection, chosen)
    bulk = Bulk(not_done=[NotDone(letter_id, NO_LETTER) for letter_id in _unknown(connection, wanted)])
    for letter_id in chosen:
        if room is not None and len(bulk.done) >= room:
            bulk.is_full = True
            break
        _decide(connection, letter_id, decide, bulk)
        bulk.last = letter_id
    matching = replace(meant, after=bulk.last if bulk.last is not None else meant.after)
    bulk.remaining = letter_selection.tally(connection, matching).count
    return bulk


def _meant(wanted: LetterFilter) -> LetterFilter:
    """Open ones; but of those that are named, whoever named them is told what became of each."""
    return replace(wanted, status="open" if wanted.ids is None else None)


def _unknown(connection: Connection, wanted: LetterFilter) -> list[int]:
    """Those of the letters that are named which do not exist; said by the first of several calls."""
    if wanted.ids is None or wanted.after is not None:
        return []
    known = letter_selection.oldest(connection, LetterFilter(status=None, ids=wanted.ids), len(wanted.ids))
    return sorted(set(wanted.ids) - {one.letter_id for one in known})


def _decide(connection: Connection, letter_id: int, decide: Callable[[int], str | None], bulk: Bulk) -> None:
    savepoint = connection.begin_nested()
    try:
        job_id = decide(letter_id)
    except EnvelopeRefused:
        savepoint.rollback()
        bulk.not_done.append(NotDone(letter_id, NO_ORDER))
    except (LetterResolvedError, ReplayRefused) as refused:
        savepoint.rollback()
        bulk.not_done.append(NotDone(letter_id, str(refused)))
    else:
        savepoint.commit()
        bulk.done[letter_id] = job_id

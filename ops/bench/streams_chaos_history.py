"""What happened to the streams, and whether it may have happened so (pure).

The clients wrote down what they sent and read, the chaos when it struck, the ledger what it holds. `judge` holds them
against each other; every sentence that it returns is a broken promise.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final

EntryId = tuple[int, int]
"""Milliseconds since 1970 and a number, as Redis counts them."""

NEAR_MS: Final = 50
"""How exactly a crash is dated: Redis takes the time once for each round of its loop."""
UNWRITTEN_MS: Final = 5000
"""Valkey holds a write back for two seconds at most while the disk is busy (`appendfsync everysec`)."""
FEW: Final = 5
"""So many names are shown of those that a sentence is about."""
ENDED: Final = frozenset({"succeeded", "failed", "timed_out", "cancelled"})


@dataclass(frozen=True)
class Crash:
    """Something was killed, and was dead at `at_ms`; `survived` is the last entry that each stream had kept by then.

    Valkey forgets nothing but the end of its file, so an acknowledged entry between `survived` and `at_ms` was lost by
    Valkey, and one before it was not.
    """

    what: str
    at_ms: int
    survived: Mapping[str, EntryId] = field(default_factory=dict[str, EntryId])


@dataclass(frozen=True)
class Told:
    """An entry of the results or the dead-letter stream as a client read it."""

    entry: EntryId
    job_id: str
    word: str
    """The result's status, or the letter's error."""


@dataclass(frozen=True)
class Recorded:
    """A mission as the ledger has it at the end; `gap` when its events are not numbered from 1 without a hole."""

    state: str
    gap: bool
    imported: int
    """How many events say that it was imported."""
    result_entry: EntryId | None
    letter_entry: EntryId | None
    duplicates: tuple[str, ...] = ()
    """The entries of its duplicate events."""


@dataclass
class History:
    """All that is known of one run; the streams are named as in `Crash.survived`."""

    sent: set[str] = field(default_factory=set[str])
    acknowledged: dict[str, EntryId] = field(default_factory=dict[str, EntryId])
    repeated: set[str] = field(default_factory=set[str])
    """Jobs whose XADD was sent again because its answer was lost."""
    results: list[Told] = field(default_factory=list[Told])
    letters: list[Told] = field(default_factory=list[Told])
    crashes: list[Crash] = field(default_factory=list[Crash])
    missions: dict[str, Recorded] = field(default_factory=dict[str, Recorded])
    malformed: int = 0
    """Dead letters of entries that could be no mission; nobody sent such an entry."""
    untold: int = 0
    pending: int = 0
    unread: int = 0


@dataclass(frozen=True)
class Verdict:
    """The broken promises, none when all is well, and what was counted on the way."""

    problems: list[str]
    counts: dict[str, int]


def entry_id(text: str) -> EntryId:
    """The id that Redis writes as `milliseconds-number`."""
    milliseconds, _, number = text.partition("-")
    return int(milliseconds), int(number)


def judge(history: History) -> Verdict:
    """Every acknowledged job is one mission, told once and again only after a crash; nothing is left undone."""
    taken = {job for job, entry in history.acknowledged.items() if _taken(history.crashes, "missions", entry)}
    missing = {job for job in history.acknowledged if job not in history.missions}
    results = _Telling("result", "results", history, history.results, lambda one: one.result_entry)
    letters = _Telling("dead letter", "letters", history, history.letters, lambda one: one.letter_entry)
    problems = [
        *_named("acknowledged but no mission", missing - taken),
        *_named("never acknowledged", history.sent - history.acknowledged.keys()),
        *_about_missions(history),
        *results.problems(ENDED),
        *letters.problems({"failed", "timed_out"}),
        *_left_over(history),
    ]
    counts = {
        "missions": len(history.missions),
        "lost": len(missing - taken),
        "pending": history.pending,
        "unread": history.unread,
        "lost_by_valkey": len(missing & taken) + len(results.taken()) + len(letters.taken()),
        "repeated_by_producers": len(history.repeated),
        "added_twice_by_producers": sum(bool(one.duplicates) for one in history.missions.values()),
        "duplicate_events_too_many": sum(
            len(one.duplicates) - len(set(one.duplicates)) for one in history.missions.values()
        ),
        "results_again_after_a_crash": results.again(),
        "letters_again_after_a_crash": letters.again(),
    }
    return Verdict(problems, counts)


@dataclass(frozen=True)
class _Telling:
    """One of the two streams that clients read, against what the ledger says it told."""

    name: str
    stream: str
    history: History
    told: Sequence[Told]
    marked: Callable[[Recorded], EntryId | None]

    def problems(self, states: Iterable[str]) -> list[str]:
        expected = {job for job, one in self.history.missions.items() if one.state in set(states)}
        told = {one.job_id for one in self.told}
        return [
            *_named(f"ended without a {self.name}", expected - told - self.taken()),
            *_named(f"a {self.name} of nothing that ended so", told - expected),
            *_named(f"a {self.name} again without a crash", self._unexplained()),
            *_named(f"a {self.name} of the wrong sort", self._wrong()),
        ]

    def taken(self) -> set[str]:
        """Jobs whose entry Valkey lost before anybody read it."""
        told = {one.job_id for one in self.told}
        marked = {job: self.marked(one) for job, one in self.history.missions.items() if job not in told}
        crashes = self.history.crashes
        return {job for job, entry in marked.items() if entry and _taken(crashes, self.stream, entry)}

    def again(self) -> int:
        """How many entries are not the first of their job."""
        return len(self.told) - len({one.job_id for one in self.told})

    def _unexplained(self) -> set[str]:
        entries: defaultdict[str, list[EntryId]] = defaultdict(list)
        for one in self.told:
            entries[one.job_id].append(one.entry)
        return {
            job
            for job, ids in entries.items()
            for first, second in pairwise(ids)
            if not _crash_between(self.history.crashes, first, second)
        }

    def _wrong(self) -> set[str]:
        return {one.job_id for one in self.told if not self._fits(one)}

    def _fits(self, one: Told) -> bool:
        mission = self.history.missions.get(one.job_id)
        if mission is None or self.stream == "letters":
            return bool(one.word)
        return one.word == ("SUCCESS" if mission.state == "succeeded" else "FAILED")


def _about_missions(history: History) -> list[str]:
    missions = history.missions
    doubled = {job for job, one in missions.items() if one.duplicates}
    return [
        *_named("a mission that nobody asked for", missions.keys() - history.sent),
        *_named("not ended", {job for job, one in missions.items() if one.state not in ENDED}),
        *_named("a gap in its events", {job for job, one in missions.items() if one.gap}),
        *_named("not imported exactly once", {job for job, one in missions.items() if one.imported != 1}),
        *_named("a duplicate that no producer made", doubled - history.repeated),
    ]


def _left_over(history: History) -> list[str]:
    left = {
        "entries pending": history.pending,
        "entries not read": history.unread,
        "ends and letters not told": history.untold,
        "dead letters of entries that were well": history.malformed,
    }
    return [f"{count} {what}" for what, count in left.items() if count]


def _taken(crashes: Iterable[Crash], stream: str, entry: EntryId) -> bool:
    """Whether Valkey lost this entry when it was killed, as far as it may."""
    return any(
        crash.survived[stream] < entry and crash.at_ms - UNWRITTEN_MS <= entry[0] <= crash.at_ms
        for crash in crashes
        if stream in crash.survived
    )


def _crash_between(crashes: Iterable[Crash], first: EntryId, second: EntryId) -> bool:
    return any(first[0] - NEAR_MS <= crash.at_ms <= second[0] + NEAR_MS for crash in crashes)


def _named(what: str, jobs: set[str]) -> list[str]:
    few = ", ".join(sorted(jobs)[:FEW]) + (", …" if len(jobs) > FEW else "")
    return [f"{len(jobs)} × {what}: {few}"] if jobs else []


def counted(words: Iterable[str]) -> dict[str, int]:
    """How often each word occurs, the most frequent first."""
    return dict(Counter(words).most_common())

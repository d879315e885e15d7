"""What a run of the chaos will do, from its seed alone (pure): the missions that are asked for, and what strikes when.

A mission's answers are counted by attempt, so that the end it must come to is known beforehand; `Wish.answer(3)` is
what the handler gives the third time. A fault strikes when its share of all missions has ended, so that a slow machine
is struck as often as a fast one.
"""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import cycle, islice
from typing import Any, Final, Literal

Answer = Literal["done", "failed", "later", "stop"]
Kind = Literal[
    "kill_worker",
    "kill_parent",
    "kill_child",
    "kill_engine",
    "kill_api",
    "kill_client",
    "kill_bridge",
    "kill_pull",
    "kill_control",
    "kill_beat",
    "stop_worker",
    "stop_engine",
    "kill_valkey",
    "flush_valkey",
    "rewind_valkey",
    "stop_postgres",
    "cut_sessions",
    "partition",
    "fill_disk",
    "lapse",
    "second_engine",
    "set_clock",
    "term_worker",
    "term_engine",
    "term_api",
    "copy_messages",
    "term_beside",
    "stop_beside",
    "stop_api",
    "cut_pull",
    "freeze_valkey",
    "refuse_writes",
    "cut_clients",
    "lock_ledger",
    "take_sessions",
    "fill_log",
]

KILLS: Final[Mapping[Kind, int]] = {
    "kill_child": 8,
    "kill_parent": 6,
    "kill_engine": 7,
    "kill_worker": 6,
    "kill_client": 3,
    "kill_api": 2,
    "kill_bridge": 2,
    "kill_pull": 2,
    "kill_control": 2,
    "kill_beat": 2,
}
"""Of 40 kills so many are of each kind: `kill_worker` is the whole group, `kill_parent` leaves its pool behind."""

ON_TOP: Final[Mapping[Kind, int]] = {
    "stop_worker": 2,
    "stop_engine": 1,
    "kill_valkey": 2,
    "flush_valkey": 1,
    "rewind_valkey": 1,
    "stop_postgres": 1,
    "cut_sessions": 1,
    "partition": 3,
    "fill_disk": 1,
    "lapse": 1,
    "second_engine": 2,
    "set_clock": 2,
    "term_worker": 2,
    "term_engine": 1,
    "term_api": 1,
    "copy_messages": 2,
    "term_beside": 3,
    "stop_beside": 3,
    "stop_api": 1,
    "cut_pull": 2,
    "freeze_valkey": 1,
    "refuse_writes": 1,
    "cut_clients": 1,
    "lock_ledger": 1,
    "take_sessions": 1,
    "fill_log": 1,
}
"""What comes on top of each 40 kills; at least one of each in every run."""

PARTITIONS: Final = ("drop_up", "drop_down", "drop_both", "reset", "delay", "slow")
"""How the way of a factory is cut: one way, both ways, torn down, a third of a second late, or a trickle."""
ASIDE: Final = ("bridge", "alpha-control", "alpha-beat", "gamma-1", "hq-control", "hq-beat")
"""Who is stopped and ended beside engine, API and workers."""
WRITERS: Final = ("engine", "api", "bridge")
"""Whose log may be full; what else they write is in PostgreSQL and Redis."""
CLOCKS: Final = ("+7200", "-86400", "-10", "+259200", "+0")
"""By how many seconds the clock of a factory is wrong from then on; three days are more than Redis keeps a message."""
REWINDS: Final = ("1", "3", "8")
"""How many seconds are missing in the file with which Redis comes back, as after a power failure or from a backup."""
LONG_STOP_SECONDS: Final = 24.0
"""Longer than the shortest lease that the rules allow (20 s)."""
LONG_CUT_SHARE: Final = 0.15
"""By then a factory over HTTPS is cut off for so long, and is not cut again before it is back."""
NEXT_CUT_SHARE: Final = 0.4
ALONE: Final = "alone"
"""Of the processes of a factory over HTTPS only the first is killed; the others have to notice."""
LAST_CLIENT: Final = 0.6
TIMED_OUT: Final[Mapping[str, Any]] = {
    "times_out": True,
    "timeout_seconds": 1,
    "sleep_seconds": 5.0,
    "max_retries": 2,
    "answers": ("done",),
}
"""What such a mission asks for; it stops when its handler is thrown out, a second after it began."""
AT_MOST_ONCE: Final = 0.06
"""The share of missions that may be tried once only; a kill may end them as lost."""


@dataclass(frozen=True)
class Wish:
    """A mission that somebody will ask for; `twin` is another job_id under which it is asked for with the same key."""

    serial: int
    job_id: str
    key: str
    max_retries: int
    answers: tuple[Answer, ...]
    sleep_seconds: float = 0.0
    slow_once: bool = False
    """Only its first attempt takes time."""
    talks: bool = False
    """It tells its progress a few times a second."""
    child: bool = False
    """It starts a process that would run for minutes, and ends it when it is done."""
    cancel_after_seconds: float | None = None
    """It is asked to be cancelled so long after it was accepted."""
    twin: str | None = None
    timeout_seconds: int = 60
    times_out: bool = False
    """It takes longer than its time limit, at every attempt."""
    by_stream: bool = False
    """It is asked for on the mission stream, and not over REST."""
    leaks: bool = False
    """It says a secret of its node in all that it says (I10)."""

    def answer(self, attempt: int) -> Answer:
        """What the handler gives at this attempt, counted from 1."""
        return self.answers[min(attempt, len(self.answers)) - 1]

    @property
    def attempts_total(self) -> int:
        """How many attempts it may have (S-27)."""
        return max(1, self.max_retries)

    def order(self, marks: str, job_id: str | None = None) -> dict[str, Any]:
        """The envelope that asks for it; `marks` is the file of the effects."""
        context = {
            "mission_kind": "chaos",
            "marks": marks,
            "sleep": self.sleep_seconds,
            "slow_once": self.slow_once,
            "talks": self.talks,
            "child": self.child,
            "answers": list(self.answers),
            "leaks": self.leaks,
        }
        return {
            "job_id": job_id or self.job_id,
            "idempotency_key": self.key,
            "payload": {"task": f"chaos {self.serial}", "context": context},
            "max_retries": self.max_retries,
            "timeout_seconds": self.timeout_seconds,
        }


@dataclass(frozen=True)
class Fault:
    """Something that strikes once `share` of all missions have ended, and lasts `seconds`.

    `how` is the way in which a partition cuts, the worker that must be the victim, by how much a clock is wrong or how
    many seconds are missing.
    """

    kind: Kind
    share: float
    seconds: float = 0.0
    how: str = ""
    after_seconds: float = 0.0
    """It keeps so far from the fault before it."""


@dataclass(frozen=True)
class Plan:
    """How much is asked for and what strikes; everything follows from it and from nothing else."""

    missions: int
    kills: int
    seed: int
    clients: int = 3
    window: int = 200
    """So many missions are under way at once at most."""
    longest_sleep_seconds: float = 0.3
    slow: float = 0.02
    """The share of missions that last two seconds."""
    cancels: float = 0.0
    """The share of missions that somebody cancels."""
    timeouts: float = 0.005
    """The share of missions that take longer than they may."""
    twins: float = 0.05
    """The share of missions that are asked for twice at once, with one key and two job_ids."""
    streams: float = 0.1
    """The share of missions that are asked for on the mission stream."""
    leaks: float = 0.03
    """The share of missions that say a secret."""
    whole: bool = True
    """Bridge, control worker, beat and the factory over HTTPS run as well."""
    drain_seconds: float = 120.0
    """Within this after the last fault everything must be at rest (notes, reliability §7)."""
    mutant: str | None = None
    only: Sequence[Fault] | None = None
    """These faults instead of those that the seed gives."""
    asked: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """Fields that every wish has instead of those that the seed gives."""

    def wishes(self) -> list[Wish]:
        """The missions, in the order in which they are asked for."""
        return [self._wish(serial) for serial in range(self.missions)]

    def faults(self) -> list[Fault]:
        """What strikes, in order; the kills are exactly as many as were asked for."""
        if self.only is not None:
            return list(self.only)
        chance = random.Random(f"faults-{self.seed}")
        kinds = [*spread(KILLS, self.kills), *on_top(self.kills)]
        chance.shuffle(kinds)
        shares = sorted(chance.uniform(0.03, 0.92) for _ in kinds)
        hows = _hows(chance)
        faults = [_fault(kind, share, chance, hows) for kind, share in zip(kinds, shares, strict=True)]
        return _one_long_cut(_one_long_stop(faults))

    def _wish(self, serial: int) -> Wish:
        chance = random.Random(f"wish-{self.seed}-{serial}")
        once = chance.random() < AT_MOST_ONCE
        cancelled = chance.random() < self.cancels
        times_out = chance.random() < self.timeouts
        wish = {
            "max_retries": chance.choice([0, 1]) if once else chance.randint(6, 50),
            "answers": _answers(chance),
            "sleep_seconds": round(2.0 if chance.random() < self.slow else self._short(chance), 3),
            "talks": chance.random() < 0.5,
            "child": chance.random() < 0.04,
            "cancel_after_seconds": round(chance.uniform(0, 2), 2) if cancelled else None,
            "twin": f"twin-{serial:05d}" if chance.random() < self.twins else None,
            "by_stream": chance.random() < self.streams,
            "leaks": chance.random() < self.leaks,
        }
        if times_out:
            wish |= TIMED_OUT
        return Wish(serial, f"m-{serial:05d}", f"key-{self.seed}-{serial:05d}", **{**wish, **self.asked})

    def _short(self, chance: random.Random) -> float:
        return chance.uniform(0, self.longest_sleep_seconds)


def spread(weights: Mapping[Kind, int], count: int) -> list[Kind]:
    """`count` kinds in the proportion of their weights; where it does not come out even, those that got none first."""
    whole = sum(weights.values())
    kinds = [kind for kind, weight in weights.items() for _ in range(count * weight // whole)]
    next_ones = sorted(weights, key=lambda kind: (kind in kinds, -weights[kind]))
    return [*kinds, *islice(cycle(next_ones), count - len(kinds))]


def on_top(kills: int) -> list[Kind]:
    """The other faults that come with so many kills: at least one of each."""
    return [kind for kind, weight in ON_TOP.items() for _ in range(max(1, round(kills * weight / 40)))]


def _answers(chance: random.Random) -> tuple[Answer, ...]:
    """Most succeed at once; some only later, and some never."""
    turn = chance.random()
    if turn < 0.03:
        return ("failed", "done")
    if turn < 0.06:
        return ("later", "done")
    if turn < 0.07:
        return ("stop",)
    if turn < 0.075:
        return ("failed", "later", "failed", "stop")
    return ("done",)


def _hows(chance: random.Random) -> Mapping[Kind, Callable[[], str]]:
    """What each fault of a kind that has several ways is told; those in turn come in an order of their own."""
    in_turn = {
        name: cycle(chance.sample(words, len(words)))
        for name, words in {
            "ways": PARTITIONS,
            "term": ASIDE,
            "stop": ASIDE,
            "logs": WRITERS,
            "controls": [name for name in ASIDE if name.endswith("-control")],
            "beats": [name for name in ASIDE if name.endswith("-beat")],
        }.items()
    }
    return {
        "partition": lambda: next(in_turn["ways"]),
        "cut_pull": lambda: next(in_turn["ways"]),
        "term_beside": lambda: next(in_turn["term"]),
        "stop_beside": lambda: next(in_turn["stop"]),
        "fill_log": lambda: next(in_turn["logs"]),
        "kill_control": lambda: next(in_turn["controls"]),
        "kill_beat": lambda: next(in_turn["beats"]),
        "set_clock": lambda: chance.choice(CLOCKS),
        "rewind_valkey": lambda: chance.choice(REWINDS),
        "kill_pull": lambda: chance.choice(("", ALONE)),
    }


def _fault(kind: Kind, share: float, chance: random.Random, hows: Mapping[Kind, Callable[[], str]]) -> Fault:
    seconds = {
        "stop_worker": chance.uniform(1, 4),
        "stop_engine": chance.uniform(1, 4),
        "stop_api": chance.uniform(1, 3),
        "stop_beside": chance.uniform(1, 5),
        "kill_valkey": chance.choice([0.0, 1.0]),
        "freeze_valkey": chance.uniform(0.5, 2.5),
        "refuse_writes": chance.uniform(0.5, 2.5),
        "stop_postgres": chance.uniform(0.2, 2.5),
        "lock_ledger": chance.uniform(0.5, 2.5),
        "take_sessions": chance.uniform(0.5, 2.5),
        "partition": chance.uniform(2, 6),
        "cut_pull": chance.uniform(2, 6),
        "fill_disk": chance.uniform(1, 3),
        "fill_log": chance.uniform(2, 6),
    }.get(kind, chance.uniform(0, 0.8))
    # The clients have nothing left to do long before the last mission has ended.
    share = share * LAST_CLIENT if kind == "kill_client" else share
    how = hows.get(kind, str)()
    return Fault(kind, round(share, 4), round(seconds, 2), how)


def _one_long_cut(faults: list[Fault]) -> list[Fault]:
    """The first time that the factory over HTTPS is cut off, it is so for longer than its leases last."""
    first = next((fault for fault in faults if fault.kind == "cut_pull"), None)
    return sorted((_spaced(fault, first) for fault in faults), key=lambda fault: fault.share)


def _spaced(fault: Fault, first: Fault | None) -> Fault:
    if fault.kind != "cut_pull":
        return fault
    if fault is first:
        return replace(fault, share=min(fault.share, LONG_CUT_SHARE), seconds=LONG_STOP_SECONDS)
    return replace(fault, share=round(NEXT_CUT_SHARE + fault.share * (1 - NEXT_CUT_SHARE), 4))


def _one_long_stop(faults: list[Fault]) -> list[Fault]:
    """The first worker that is stopped sleeps through its leases, early enough to be back before the end."""
    for place, fault in enumerate(faults):
        if fault.kind == "stop_worker":
            # Of the factory with one worker: a sibling on the same spool would speak for it.
            faults[place] = Fault("stop_worker", min(fault.share, 0.2), LONG_STOP_SECONDS, "beta-1")
            break
    return sorted(faults, key=lambda fault: fault.share)

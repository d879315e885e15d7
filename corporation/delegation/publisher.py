"""The publisher: how missions ended, and dead letters, from the ledger to their streams (contract streams §7 to §9)."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

import redis
import structlog
from sqlalchemy import Engine

from corporation import clock
from corporation.db import transaction
from corporation.delegation.codec import (
    LARGEST_RESULT,
    DeadLetter,
    dead_letter_fields,
    result_envelope,
    result_fields,
)
from corporation.delegation.exhausted import move_aside
from corporation.delegation.keys import StreamKeys
from corporation.delegation.redis_errors import EXHAUSTED, REDIS_FAILS, code_of, needs_a_person
from corporation.missions.store import telling
from corporation.missions.store.telling import ToldEnd, ToldLetter
from corporation.wakeups import PUBLISH

log = structlog.get_logger()

Told = TypeVar("Told", ToldEnd, ToldLetter)
Masked = Callable[[Any], Any]
Fields = Mapping[str, str]
Added = list[str | Exception]
"""For each entry the id that it got, or why it was not added."""

RESULTS: Final = 500
LETTERS: Final = 100
"""Rows in one transaction, which lasts until Redis has them on disk; a dead letter may hold an envelope of 256 KiB."""
ON_DISK_SECONDS: Final = 4.0
"""How long Redis may take for that; its usual `appendfsync everysec` takes up to one."""


@dataclass
class Publisher:
    """Tells each end and each dead letter once, and after a crash between telling and marking once more (S-33).

    It counts as told when Redis has it on disk, where Redis can say so (7.2 and later, with `appendonly`): a Redis that
    is killed forgets what it acknowledged up to two seconds before.

    What a stream does not take stays in the ledger and is tried again; the other stream does not wait for it. `mask`
    takes out every secret that this process knows (S-40).
    """

    ledger: Engine
    client: redis.Redis
    keys: StreamKeys
    stream_length: int
    """Both streams are trimmed to about that many entries; 0 keeps all (S-41)."""
    mask: Masked
    stamp: Callable[[], str] = clock.new_id
    name: str = "publisher"
    channels: tuple[str, ...] = (PUBLISH,)
    sweep_seconds: float = 2.0
    totals: Counter[str] = field(default_factory=Counter[str])
    """Entries added to each stream since this process began."""
    _alarms: dict[str, str] = field(default_factory=dict[str, str], init=False)
    _unsure: str = field(default="", init=False)

    def tick(self) -> bool:
        """Tell one batch of each; raises what a stream refused, after the other one had its turn."""
        failures: list[Exception] = []
        full = False
        for tell in (self._tell_ends, self._tell_letters):
            try:
                full |= tell()
            except REDIS_FAILS as error:
                failures.append(error)
        if failures:
            raise failures[0]
        return full

    def drain(self) -> None:
        """Tell everything that is to be told now."""
        while self.tick():
            pass

    def _tell_ends(self) -> bool:
        with transaction(self.ledger) as connection:
            ends = telling.take_ends(connection, RESULTS, LARGEST_RESULT)
            added = self._add(self.keys.results, [self._result(end) for end in ends])
            telling.mark_ends(connection, _told(ends, added))
        self._judge(self.keys.results, added)
        return len(ends) == RESULTS

    def _tell_letters(self) -> bool:
        with transaction(self.ledger) as connection:
            letters = telling.take_letters(connection, LETTERS)
            added = self._add(self.keys.dead_letters, [self._letter(letter) for letter in letters])
            telling.mark_letters(connection, _told(letters, added))
        self._judge(self.keys.dead_letters, added)
        return len(letters) == LETTERS

    def _result(self, end: ToldEnd) -> Fields:
        return result_fields(result_envelope(end.job_id, end.state, self.mask(end.result), self.mask(end.error)))

    def _letter(self, letter: ToldLetter) -> Fields:
        return dead_letter_fields(
            DeadLetter(
                job_id=letter.job_id,
                failure_error=self.mask(letter.failure_error),
                retry_count=letter.retry_count,
                cause=letter.cause,
                raw=letter.raw,
                raw_size=letter.raw_size,
                raw_sha256=letter.raw_sha256,
                envelope=letter.envelope,
            )
        )

    def _add(self, stream: str, entries: Sequence[Fields]) -> Added:
        """Add them in one round trip and wait for the disk; raises when the answer is lost, and some may be added."""
        if not entries:
            return []
        pipeline: Any = self.client.pipeline(transaction=False)
        for fields in entries:
            pipeline.xadd(stream, dict(fields), maxlen=self.stream_length or None, approximate=True)
        pipeline.execute_command("WAITAOF", 1, 0, round(ON_DISK_SECONDS * 1000))
        *answers, on_disk = pipeline.execute(raise_on_error=False)
        self._note_doubt(on_disk)
        return [answer if isinstance(answer, Exception) else answer.decode() for answer in answers]

    def _note_doubt(self, on_disk: Any) -> None:
        """Say once that nobody knows what this Redis keeps, when it does not know that command or takes too long."""
        doubt = "slow" if on_disk == [0, 0] else code_of(on_disk) if isinstance(on_disk, Exception) else ""
        if doubt and doubt != self._unsure:
            log.warning(
                "told_but_not_known_to_be_on_disk", code=doubt, what="a crash of Redis may lose what it was told"
            )
        self._unsure = doubt

    def _judge(self, stream: str, added: Added) -> None:
        """Count what was added, and raise the first refusal, when there is one, after the commit of the rest."""
        self.totals[stream] += sum(isinstance(one, str) for one in added)
        refusals = [one for one in added if isinstance(one, Exception)]
        code = code_of(refusals[0]) if refusals else ""
        if code != self._alarms.get(stream, "") and (what := needs_a_person(code)):
            log.critical("stream_unusable", stream=stream, code=code, what=what)
        self._alarms[stream] = code
        if code == EXHAUSTED and (aside := move_aside(self.client, stream, self.stamp())):
            log.critical("stream_exhausted", stream=stream, moved_to=aside)
        if refusals:
            raise refusals[0]


def _told(rows: Sequence[Told], added: Added) -> list[tuple[Told, str]]:
    return [(row, entry_id) for row, entry_id in zip(rows, added, strict=True) if isinstance(entry_id, str)]

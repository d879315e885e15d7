"""Whether this node is well, asked so that the answer comes in seconds, whatever its ledger and its broker do.

A frozen server neither answers nor refuses, and by then all threads of the pool may wait for it. So each question has a
thread and a connection of its own, and a deadline.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from threading import Thread
from typing import Final, Generic, TypeVar

import redis
from sqlalchemy import Engine, text
from sqlalchemy.exc import SQLAlchemyError

from corporation.broker_link import why_not_connected
from corporation.db import open_ledger

T = TypeVar("T")

LIMIT_SECONDS: Final = 3.0
STATEMENT_SECONDS: Final = 2
LEDGER_ANSWERS: Final = text("SELECT 1 FROM corporation.missions LIMIT 1")


@dataclass(frozen=True)
class LedgerHealth:
    """`db_status` and `db_error` of contract http §12."""

    status: str
    error: str | None


class OwnHealth:
    """What monitors ask of this process; for its event loop only. `close` it when the process ends."""

    def __init__(self, database_url: str | None, broker: redis.Redis) -> None:
        self._engine = (
            open_ledger(database_url, 1, statement_timeout_seconds=STATEMENT_SECONDS) if database_url else None
        )
        self._ledger = _Question(lambda: _look_at(self._engine))
        self._broker = _Question(lambda: why_not_connected(broker) is None)

    async def ledger(self) -> LedgerHealth:
        """How the ledger is now; one that does not say within three seconds is away."""
        try:
            return await self._ledger.answer()
        except TimeoutError:
            return LedgerHealth("disconnected", TimeoutError.__name__)

    async def broker_answers(self) -> bool:
        """Whether the broker answers within three seconds."""
        try:
            return await self._broker.answer()
        except TimeoutError:
            return False

    def close(self) -> None:
        """Its connection is closed, or will be when the ledger lets go of it."""
        if self._engine is not None:
            self._engine.dispose()


class _Question(Generic[T]):
    """Something to look at, never twice at once: whoever asks meanwhile gets the answer that is on its way."""

    def __init__(self, look: Callable[[], T]) -> None:
        self._look = look
        self._asked: Future[T] | None = None

    async def answer(self) -> T:
        """What `look` returned; raises TimeoutError after LIMIT_SECONDS."""
        if self._asked is None or self._asked.done():
            self._asked = _in_thread(self._look)
        return await asyncio.wait_for(asyncio.wrap_future(self._asked), LIMIT_SECONDS)


def _in_thread(look: Callable[[], T]) -> Future[T]:
    answer: Future[T] = Future()
    # From now on nobody who stops waiting can cancel it for the others.
    answer.set_running_or_notify_cancel()

    def run() -> None:
        try:
            answer.set_result(look())
        except BaseException as error:
            answer.set_exception(error)

    # A daemon: a thread that waits for a frozen server must not keep the process from ending.
    Thread(target=run, name="own-health", daemon=True).start()
    return answer


def _look_at(engine: Engine | None) -> LedgerHealth:
    if engine is None:
        return LedgerHealth("disconnected", None)  # a worker has no ledger to lose (E-7)
    try:
        with engine.connect() as connection:
            connection.execute(LEDGER_ANSWERS)
    except SQLAlchemyError as error:
        # The class only: the driver's message may hold the address of the database.
        return LedgerHealth("error" if _answers(engine) else "disconnected", type(error).__name__)
    return LedgerHealth("connected", None)


def _answers(engine: Engine) -> bool:
    try:
        with engine.connect() as connection:
            connection.execute(text("SELECT 1"))
    except SQLAlchemyError:
        return False
    return True

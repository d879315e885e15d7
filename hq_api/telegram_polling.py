"""Updates are fetched and handled one by one, and Telegram is told that one arrived only after it was handled.

The library's own `Updater` is not used, for two reasons: it confirms an update before it is handled, so that a crash in
between loses an order; and a token that is revoked later ends its task without anybody noticing.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine
from contextlib import suppress
from datetime import timedelta
from typing import Any, Final, TypeVar

import structlog
from telegram import Update
from telegram.error import Conflict, InvalidToken, RetryAfter, TelegramError

from corporation.errors import EXIT_CONFIG, CorporationError
from hq_api.telegram_commands import Bot

T = TypeVar("T")

POLL_SECONDS: Final = 30
FIRST_PAUSE_SECONDS: Final = 1.0
LONGEST_PAUSE_SECONDS: Final = 30.0
REMEMBERED_UPDATES: Final = 1000

REJECTED: Final = (
    "Telegram does not accept TELEGRAM_BOT_TOKEN; take the current one from @BotFather, and check UA_TELEGRAM_API_URL"
)
SECOND_POLLER: Final = (
    "Another process polls Telegram with the same TELEGRAM_BOT_TOKEN; stop it, or give one of the two nodes another bot"
)

log = structlog.get_logger()


class PollingEnded(CorporationError):
    """Polling cannot go on and trying again would not help; `exit_status` is for the supervisor."""

    code = "polling_ended"

    def __init__(self, exit_status: int, message: str) -> None:
        self.exit_status = exit_status
        super().__init__(message)


class Poller:
    """Polls for one bot until `stop` is set; `began` is called once, when Telegram has answered the first poll."""

    def __init__(self, bot: Bot, stop: asyncio.Event, began: Callable[[], None]) -> None:
        self._bot = bot
        self._stop = stop
        self._began = began
        self._next: int | None = None
        self._told: int | None = None
        self._handled: deque[int] = deque(maxlen=REMEMBERED_UPDATES)

    async def run(self) -> None:
        """Every update before `stop` was handled when this returns; raises PollingEnded when it cannot go on."""
        await self._persistently(self._bot.initialize)
        await self._persistently(self._bot.bot.delete_webhook)
        # The first poll does not wait, so that a second poller or a wrong token shows before anybody relies on us.
        updates = await self._persistently(lambda: self._ask(wait_seconds=0))
        if updates is not None:
            self._began()
        while updates is not None:
            await self._handle(updates)
            updates = await self._persistently(lambda: self._ask(wait_seconds=POLL_SECONDS))
        await self._confirm()

    async def _ask(self, wait_seconds: int, limit: int | None = None) -> tuple[Update, ...]:
        asked_from = self._next
        updates = await self._bot.bot.get_updates(
            offset=asked_from, timeout=timedelta(seconds=wait_seconds), limit=limit, allowed_updates=[Update.MESSAGE]
        )
        self._told = asked_from
        return updates

    async def _handle(self, updates: tuple[Update, ...]) -> None:
        for update in updates:
            if self._stop.is_set():
                return
            if update.update_id not in self._handled:
                await self._bot.process_update(update)
                self._handled.append(update.update_id)
            self._next = update.update_id + 1

    async def _confirm(self) -> None:
        """Tell Telegram what was handled last, so that it is not sent again after a restart; not worth a second try."""
        if self._next != self._told:
            with suppress(TelegramError):
                await self._ask(wait_seconds=0, limit=1)

    async def _persistently(self, call: Callable[[], Coroutine[Any, Any, T]]) -> T | None:
        """What `call` gives, tried with growing pauses until it succeeds, or None when told to stop before."""
        pause = 0.0
        while not self._stop.is_set():
            try:
                return await self._unless_stopped(call())
            except InvalidToken:
                raise PollingEnded(EXIT_CONFIG, REJECTED) from None
            except Conflict:
                raise PollingEnded(1, SECOND_POLLER) from None
            except TelegramError as error:
                pause = pause_after(error, pause)
                # Its text may hold the address that was called, and so the token.
                log.warning("telegram_unreachable", error=type(error).__name__, again_in_seconds=pause)
            await self._unless_stopped(asyncio.sleep(pause))
        return None

    async def _unless_stopped(self, work: Coroutine[Any, Any, T]) -> T | None:
        running, stopped = asyncio.ensure_future(work), asyncio.ensure_future(self._stop.wait())
        try:
            await asyncio.wait({running, stopped}, return_when=asyncio.FIRST_COMPLETED)
            return running.result() if running.done() else None
        finally:
            running.cancel()
            stopped.cancel()
            await asyncio.gather(running, stopped, return_exceptions=True)


def pause_after(error: TelegramError, before: float) -> float:
    """Seconds to wait after `error` when the last pause was `before`: as long as Telegram asks, else twice as long."""
    if isinstance(error, RetryAfter):
        seconds = error.retry_after  # the library is about to change its type
        return seconds.total_seconds() if isinstance(seconds, timedelta) else float(seconds)
    return min(LONGEST_PAUSE_SECONDS, max(FIRST_PAUSE_SECONDS, 2 * before))

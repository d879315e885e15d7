"""`python -m hq_api.telegram`: answer the owner's commands until SIGTERM, where the node's policy polls Telegram.

It ends with 0 when told to, with 78 when the configuration is wrong or Telegram rejects the token, and with 1 when
somebody else polls for the same bot. `telegram_rules.py` may it start · `telegram_polling.py` getting updates ·
`telegram_commands.py` who is answered · `telegram_desk.py` the ledger · `telegram_answers.py` the words.
"""

import asyncio
import logging
import os
import signal
import sys
import traceback
from typing import Any, Final

import structlog

from corporation.bootstrap import bootstrap_or_exit
from corporation.database_role import why_role_is_refused
from corporation.db import open_ledger
from corporation.settings import Settings
from hq_api.telegram_commands import build_bot
from hq_api.telegram_desk import Desk
from hq_api.telegram_polling import Poller, PollingEnded
from hq_api.telegram_rules import problems_with

CONFIDENTIAL_LOGGERS: Final = ("telegram", "httpx", "httpcore")
"""They write addresses, which hold the bot's token, and what people wrote; what matters of both we log ourselves."""
STATEMENT_SECONDS: Final = 5
GRACE_SECONDS: Final = 3.0
"""What is being answered when the process is told to stop may take that long; Telegram sends it again otherwise."""

log = structlog.get_logger()


def main() -> int:
    """Poll until told to stop; the exit status."""
    settings = bootstrap_or_exit(os.environ, checks=(problems_with, why_role_is_refused)).settings
    for name in CONFIDENTIAL_LOGGERS:
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)
    try:
        return asyncio.run(serve(settings))
    except PollingEnded as end:
        sys.stderr.write(f"{end}\n")
        return end.exit_status
    except Exception as error:
        # A traceback would show the texts of errors, and those of the library hold the token.
        log.critical("telegram_failed", error=type(error).__name__, at=_places(error))
        return 1


async def serve(settings: Settings) -> int:
    """Poll until SIGTERM or SIGINT; the ready file exists while updates are fetched. Raises PollingEnded."""
    stop = _stop_on_signals()
    _not_ready(settings)  # the file of a process that was killed would speak for this one
    ledger = open_ledger(settings.database_url or "", pool_size=1, statement_timeout_seconds=STATEMENT_SECONDS)
    bot = build_bot(settings, Desk(ledger, settings))
    try:
        await _run(Poller(bot, stop, lambda: _began(settings)), stop)
    finally:
        _not_ready(settings)
        await bot.bot.shutdown()
        ledger.dispose()
    log.info("telegram_polling_stopped")
    return 0


async def _run(poller: Poller, stop: asyncio.Event) -> None:
    polling, stopped = asyncio.ensure_future(poller.run()), asyncio.ensure_future(stop.wait())
    await asyncio.wait({polling, stopped}, return_when=asyncio.FIRST_COMPLETED)
    _, unfinished = await asyncio.wait({polling}, timeout=GRACE_SECONDS)
    if unfinished:
        polling.cancel()
        log.warning("telegram_answer_unfinished", why="it took too long to wait for; its update will come again")
    else:
        polling.result()


def _began(settings: Settings) -> None:
    if settings.ready_file:
        settings.ready_file.touch()
    log.info("telegram_polling_began", people=len(settings.telegram_allowed_user_ids))


def _not_ready(settings: Settings) -> None:
    if settings.ready_file:
        settings.ready_file.unlink(missing_ok=True)


def _stop_on_signals() -> asyncio.Event:
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    loop.set_exception_handler(_tell_class_only)
    return stop


def _tell_class_only(_loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    log.error("telegram_task_failed", what=context.get("message"), error=type(context.get("exception")).__name__)


def _places(error: BaseException) -> list[str]:
    return [f"{frame.filename}:{frame.lineno}" for frame in traceback.extract_tb(error.__traceback__)][-5:]


if __name__ == "__main__":
    raise SystemExit(main())

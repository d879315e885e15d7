"""Who is answered and with what: the bot's commands, open to the people of the allow-list in their private chats."""

import asyncio
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from threading import Thread
from typing import Any, Final

import structlog
from telegram import LinkPreviewOptions, Update
from telegram.ext import (
    AIORateLimiter,
    Application,
    CommandHandler,
    ContextTypes,
    MessageHandler,
    TypeHandler,
    filters,
)

from corporation.settings import Settings
from hq_api import telegram_answers as answers
from hq_api.telegram_desk import Desk

Bot = Application[Any, Any, Any, Any, Any, Any]
Answer = Callable[[Update, ContextTypes.DEFAULT_TYPE], Coroutine[Any, Any, None]]

RATE_LIMIT_RETRIES: Final = 3
ANSWER_SECONDS: Final = 10.0

log = structlog.get_logger()


def build_bot(settings: Settings, desk: Desk) -> Bot:
    """The bot that answers for `desk`; it asks nothing of Telegram before it is initialized."""
    token = settings.telegram_bot_token.get_secret_value() if settings.telegram_bot_token else ""
    api = settings.telegram_api_url.rstrip("/")
    bot: Bot = (
        Application.builder()
        .token(token)
        .base_url(f"{api}/bot")
        .base_file_url(f"{api}/file/bot")
        .read_timeout(ANSWER_SECONDS)
        .rate_limiter(AIORateLimiter(max_retries=RATE_LIMIT_RETRIES))
        .updater(None)  # telegram_polling.py says why
        .job_queue(None)
        .build()
    )
    owners = _new_private_messages_of(settings.telegram_allowed_user_ids)
    for name, answer in _commands(desk).items():
        bot.add_handler(CommandHandler(name, answer, filters=owners))
    bot.add_handler(MessageHandler(owners, _saying(answers.NOT_UNDERSTOOD)))
    bot.add_handler(TypeHandler(Update, _ignore))
    bot.add_error_handler(_tell_failure)
    return bot


def _new_private_messages_of(people: tuple[int, ...]) -> filters.BaseFilter:
    """What a person of the list writes here and now: no group, channel, edit, forward, or text of another bot."""
    return (
        filters.UpdateType.MESSAGE
        & filters.ChatType.PRIVATE
        & filters.User(people)
        & filters.Chat(people)
        & ~filters.FORWARDED
        & ~filters.VIA_BOT
        & ~filters.StatusUpdate.ALL
    )


def _commands(desk: Desk) -> dict[str, Answer]:
    async def status(update: Update, _context: ContextTypes.DEFAULT_TYPE) -> None:
        await _say(update, await _in_thread(desk.status))

    async def missions(update: Update, _context: ContextTypes.DEFAULT_TYPE) -> None:
        await _say(update, await _in_thread(desk.missions))

    async def mission(update: Update, context: ContextTypes.DEFAULT_TYPE) -> None:
        task = _behind_the_command(update)
        if task is None:
            await _say(update, answers.NO_ORDER)
            return
        # Two bots number their updates independently of each other.
        order_id = f"telegram-{context.bot.id}-{update.update_id}"
        await _say(update, await _in_thread(lambda: desk.publish(order_id, task)))

    helping = _saying(answers.HELP)
    return {"start": helping, "help": helping, "status": status, "missions": missions, "mission": mission}


def _saying(text: str) -> Answer:
    async def answer(update: Update, _context: ContextTypes.DEFAULT_TYPE) -> None:
        await _say(update, text)

    return answer


async def _say(update: Update, text: str) -> None:
    """Send `text` as it is: no markup that it could abuse, and no address in it is looked up."""
    if update.message is not None:
        quiet = LinkPreviewOptions(is_disabled=True)
        await update.message.reply_text(answers.fitting(text), parse_mode=None, link_preview_options=quiet)


def _behind_the_command(update: Update) -> str | None:
    words = (update.message.text or "").split(maxsplit=1) if update.message else []
    return words[1].strip() if len(words) > 1 else None


async def _ignore(update: Update, _context: ContextTypes.DEFAULT_TYPE) -> None:
    # The sender's number only: a stranger must not be able to write into our logs.
    sender = update.effective_user.id if update.effective_user else None
    log.info("telegram_update_ignored", update_id=update.update_id, sender=sender)


async def _tell_failure(update: object, context: ContextTypes.DEFAULT_TYPE) -> None:
    # The text of an error may hold the address that was called, and so the token.
    number = update.update_id if isinstance(update, Update) else None
    log.error("telegram_answer_failed", update_id=number, error=type(context.error).__name__)


async def _in_thread(work: Callable[[], str]) -> str:
    """What `work` returns, without blocking the poll.

    The thread is a daemon, unlike those of `asyncio.to_thread`: one that waits for a hung database must not keep the
    process from ending.
    """
    answer: Future[str] = Future()

    def run() -> None:
        answer.set_running_or_notify_cancel()
        try:
            answer.set_result(work())
        except BaseException as error:
            answer.set_exception(error)

    Thread(target=run, name="telegram-desk", daemon=True).start()
    return await asyncio.wrap_future(answer)

"""Whether this node may poll Telegram, and all that is missing if it may; decided from its settings alone (E-7)."""

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final
from urllib.parse import urlsplit

from corporation.roles import FactoryRole
from corporation.settings import Settings

WHAT_WOULD_ALLOW_IT: Final[Mapping[FactoryRole, str]] = MappingProxyType(
    {
        FactoryRole.HEADQUARTERS: "UA_CAPABILITY_TELEGRAM_POLL says no; set it to 1 or remove it",
        FactoryRole.LOCAL_WORKER: "no setting changes that (E-7); start this process at headquarters",
        FactoryRole.STANDALONE_NODE: "set UA_STANDALONE_ENABLE_TELEGRAM_POLL=1 or UA_CAPABILITY_TELEGRAM_POLL=1",
    }
)
LOOPBACK: Final = frozenset({"127.0.0.1", "::1", "localhost"})
FIT_FOR_AN_ADDRESS: Final = re.compile(r"[A-Za-z0-9:_-]+")


def problems_with(settings: Settings) -> list[str]:
    """Why this process cannot start, one line each, no secret in any; an empty list when it can.

    A node whose policy does not poll has this one problem only: what else it lacks does not matter.
    """
    if not settings.policy.enable_telegram_poll:
        role = settings.policy.factory_role
        return [f"FACTORY_ROLE: this {role} does not poll Telegram: {WHAT_WOULD_ALLOW_IT[role]}"]
    found = (_ledger(settings), _token(settings), _people(settings), _address(settings))
    return [problem for problem in found if problem]


def _ledger(settings: Settings) -> str | None:
    if settings.policy.opens_ledger and settings.database_url is None:
        return "UA_DATABASE_URL is missing; every command asks the ledger"
    return None


def _token(settings: Settings) -> str | None:
    if settings.telegram_bot_token is None:
        return "TELEGRAM_BOT_TOKEN is missing; @BotFather on Telegram gives one"
    # It becomes part of an address, where a line break or a slash would lead somewhere else.
    if not FIT_FOR_AN_ADDRESS.fullmatch(settings.telegram_bot_token.get_secret_value()):
        return "TELEGRAM_BOT_TOKEN: only letters, digits, : _ and - may stand there; copy it again"
    return None


def _people(settings: Settings) -> str | None:
    if settings.telegram_allowed_user_ids:
        return None
    return "TELEGRAM_ALLOWED_USER_IDS is missing; give the numeric ids of those who may command, strangers never may"


def _address(settings: Settings) -> str | None:
    parts = urlsplit(settings.telegram_api_url)
    if parts.scheme == "https" or parts.hostname in LOOPBACK:
        return None
    return "UA_TELEGRAM_API_URL: must start with https://, since the bot's token is part of every address"

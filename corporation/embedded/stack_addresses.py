"""The addresses that an environment gives a stack (pure)."""

from collections.abc import Mapping
from typing import Final

from corporation.errors import SettingsError
from corporation.settings import load_settings, names_of

REDIS_NAMES: Final = ("UA_REDIS_URL", "UA_REDIS_HOST")
DATABASE_NAMES: Final = ("UA_DATABASE_URL", "DATABASE_URL")
MAILBOX_NAMES: Final = ("UA_RESULT_BACKEND_URL",)
_REDIS_PARTS: Final = (*REDIS_NAMES, "UA_REDIS_PORT", "UA_REDIS_DB", "REDIS_PASSWORD", "UA_REDIS_ALLOW_PLAINTEXT")


def first_set(environ: Mapping[str, str], names: tuple[str, ...]) -> str | None:
    """The first of `names` that has a value."""
    return next((name for name in names if environ.get(name, "").strip()), None)


def given_addresses(environ: Mapping[str, str], *, has_ledger: bool) -> dict[str, str]:
    """The addresses that `environ` gives, by their names in `Stack`, passwords included; wrong ones are left out.

    What a node that `has_ledger` not calls its database is HQ's mailbox.
    """
    databases = DATABASE_NAMES if has_ledger else MAILBOX_NAMES
    found = {
        "redis_url": _redis(environ),
        "database_url": environ.get(first_set(environ, databases) or "", ""),
        "hq_given": environ.get(first_set(environ, names_of("hq_base_url")) or "", "").rstrip("/"),
    }
    return {name: address for name, address in found.items() if address}


def _redis(environ: Mapping[str, str]) -> str:
    if first_set(environ, REDIS_NAMES) is None:
        return ""
    try:
        return load_settings({name: environ[name] for name in _REDIS_PARTS if name in environ}).redis_url
    except SettingsError:
        return ""

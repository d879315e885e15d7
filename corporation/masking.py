"""Secrets taken out of what leaves a process: log lines, and what a mission reports."""

from collections.abc import Iterable
from typing import Any, Final
from urllib.parse import quote, unquote, urlsplit

from corporation.settings import Settings

MASK: Final = "***"
SHORTEST_IN_LOGS: Final = 6
"""Characters; shorter ones would mask ordinary words. The settings refuse short signing secrets."""
SHORTEST_IN_REPORTS: Final = 12
"""Characters; a report is somebody's work, in which a password like `postgres` must not blot out the word."""


class Mask:
    """Replaces the given secrets, in the forms in which they get into texts; a value without any comes back equal."""

    def __init__(self, secrets: Iterable[str], shortest: int = SHORTEST_IN_LOGS) -> None:
        found = {form for secret in secrets for form in _forms(secret) if len(form) >= shortest}
        self._secrets = sorted(found, key=len, reverse=True)

    def __repr__(self) -> str:
        return f"<Mask of {len(self._secrets)} forms>"

    def text(self, text: str) -> str:
        """`text` with every secret replaced."""
        for secret in self._secrets:
            text = text.replace(secret, MASK)
        return text

    def __call__(self, value: Any) -> Any:
        """`value` with every secret replaced, at any depth; what is no plain data is written as its `repr` first."""
        if value is None or isinstance(value, bool | int | float):
            return value
        if isinstance(value, dict):
            return {self(str(key)): self(item) for key, item in value.items()}
        if isinstance(value, list | tuple | set | frozenset):
            return [self(item) for item in value]
        # Anything else, an exception or bytes, is written as its text would be, and that is where a secret hides.
        return self.text(value if isinstance(value, str) else repr(value))


def _forms(secret: str) -> set[str]:
    """As it is, without the blanks that headers lose, as `repr` and as an address write it."""
    written = quote(secret, safe="", errors="surrogateescape")  # the environment may hold bytes that are no UTF-8
    return {secret, secret.strip(), repr(secret)[1:-1], written, unquote(secret)}


def secrets_of(settings: Settings) -> list[str]:
    """Every secret value these settings hold, also the passwords inside addresses, longest first."""
    found: set[str] = set()
    for name in type(settings).model_fields:
        value = getattr(settings, name)
        if hasattr(value, "get_secret_value"):
            password = _password_in(str(value.get_secret_value()))
            # A password is percent-encoded in an address, and drivers may print it either way.
            found |= {password, unquote(password)}
    return sorted((secret for secret in found if len(secret) >= SHORTEST_IN_LOGS), key=len, reverse=True)


def _password_in(text: str) -> str:
    """The password of an address, and of what is none, all of it."""
    if "://" not in text:
        return text
    try:
        return urlsplit(text).password or ""
    except ValueError:
        return text

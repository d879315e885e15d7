"""Secrets taken out of what leaves a process, log lines and what a mission reports, and out of the errors that HQ is
told: there also what only looks like one, since others know secrets that we do not."""

import re
from collections.abc import Callable, Iterable, Mapping
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


# The shapes of secrets. Every quantifier is possessive or bounded, and none begins in the middle of a run that it has
# read already, so that a hostile text takes time in proportion to its length.
_DOTTED: Final = re.compile(r"(?<![A-Za-z0-9_-])[A-Za-z0-9_-]++(?:\.[A-Za-z0-9_-]++)++\.?")
_SCHEME: Final = re.compile(r"(?i)\b(bearer|basic)((?:[ \t:]|%20)++)([^\s\"'<>,;]++)")
_NAMED: Final = re.compile(
    r"(?i)(pass(?:word|wd|phrase)|pwd|token|secret|(?:api|access|private)[_-]?key|credential|authorization)"
    r"(\\*+[\"']?[ \t]{0,4}(?:[=:]{1,2}>?|%3D)[ \t]{0,4}(?:(?:bearer|basic)[ \t]{1,4})?)"
    # What is quoted in quoted text, what is quoted, and what is not; a quote that is never closed ends with its line.
    r"(?:(\\++[\"'])[^\"'\\\n]*+|(\")(?:[^\"\\\n]|\\.)*+|(')(?:[^'\\\n]|\\.)*+|[^\s&;\"'<>]++)"
)
_IN_ADDRESS: Final = re.compile(r"(://[^\s/?#@:\"'<>]*+:)(?:[^\s/?#@\"'<>]*+@)++")
_ALONE_IN_ADDRESS: Final = re.compile(r"(?<=://)[^\s/?#@:\"'<>]{20,255}+(?=@)")
_OURS: Final = re.compile(r"f[cr]_[A-Za-z0-9_-]{16,}+")
_SIGNS: Final = re.compile(r"[0-9._~+/=-]|.[A-Z]")
_CODED: Final = re.compile(r"[0-9A-Z]")
LONGEST_SECRET: Final = 16 * 1024
"""Characters from the sign of a secret to its end."""
LONGEST_WORD: Final = 20
"""Letters; what is longer and stands where a secret would is no word."""


def hide_shapes(text: str) -> str:
    """`text` without what looks like a secret; twice changes nothing more.

    Hidden are the values of `Bearer` and `Basic`, JSON web tokens, what is called a password, token, secret, key or
    credential, passwords in addresses, and HQ's own credentials (`fc_…`, `fr_…`).
    """
    if "://" in text:
        text = _ALONE_IN_ADDRESS.sub(MASK, _IN_ADDRESS.sub(rf"\1{MASK}@", text))
    text = _SCHEME.sub(lambda found: found[1] + found[2] + (MASK if _is_no_word(found[3]) else found[3]), text)
    text = _NAMED.sub(lambda found: f"{found[1]}{found[2]}{found[3] or found[4] or found[5] or ''}{MASK}", text)
    if "eyJ" in text:
        text = _DOTTED.sub(_without_web_token, text)
    return _OURS.sub(lambda found: MASK if _CODED.search(found[0]) else found[0], text)


def hidden_tail(text: str, most: int, hide: Callable[[str], str]) -> str:
    """The last `most` characters of `text` at most, without secrets: hidden before the cut, which would take from a
    secret the head by which it is known. Of a longer text no more is read than a secret may reach back."""
    return hide(text[-(most + LONGEST_SECRET) :])[-most:]


def hiding(secrets: Iterable[str]) -> Callable[[str], str]:
    """What takes `secrets` and the shapes of others out of an error that somebody told HQ (contract streams S-40)."""
    known = Mask(secrets, SHORTEST_IN_REPORTS)
    return lambda text: hide_shapes(known.text(text))


def without_secrets(report: Mapping[str, Any], hide: Callable[[str], str] = hide_shapes) -> dict[str, Any]:
    """A factory's report with every text of a failure hidden, at any depth. What it has done is the user's own and
    stays to the letter."""
    if report.get("outcome") == "done":
        return dict(report)
    return {name: value if name == "outcome" else _hidden(value, hide) for name, value in report.items()}


def _hidden(value: Any, hide: Callable[[str], str]) -> Any:
    if isinstance(value, str):
        return hide(value)
    if isinstance(value, dict):
        return {key: _hidden(item, hide) for key, item in value.items()}
    return [_hidden(item, hide) for item in value] if isinstance(value, list | tuple) else value


def _is_no_word(text: str) -> bool:
    bare = text.rstrip(".:!?)]}")
    return bare != MASK and (len(bare) > LONGEST_WORD or _SIGNS.search(bare) is not None)


def _without_web_token(found: re.Match[str]) -> str:
    """The dotted text, of which a web token is hidden from its `{"` on, as base64 writes that."""
    first = found[0].partition(".")[0]
    begins = first.find("eyJ")
    return found[0] if begins < 0 or len(first) - begins < 10 else found[0][:begins] + MASK

"""Why a server cannot be used, in one of a few fixed phrases (pure).

Drivers repeat parts of the address they were given, and a password that was not escaped is such a part: their own words
are read here, and never shown.
"""

import re
from collections.abc import Iterator
from typing import Final

NOBODY_LISTENS: Final = "the connection was refused: nobody listens there"
NO_ANSWER: Final = "it did not answer in time"
_CAUSES: Final = tuple(
    (re.compile(pattern, re.IGNORECASE | re.DOTALL), cause)
    for pattern, cause in (
        (r"password authentication failed|no password supplied|wrongpass|noauth|authentication required"
         r"|invalid username-password|AuthenticationError", "it refuses the password"),
        (r'database ".*" does not exist', "the database does not exist"),
        (r'role ".*" does not exist', "it does not know this user"),
        (r"no pg_hba.conf entry", "it does not let this user in from here"),
        (r"noperm|NoPermissionError|InsufficientPrivilege", "it does not give this user the right"),
        (r"DB index is out of range", "it has no database of this number"),
        (r"connection refused|ConnectionRefusedError", NOBODY_LISTENS),
        (r"translate host name|resolve host|name or service not known|name resolution|no address associated"
         r"|gaierror|UnicodeError|UnicodeEncodeError", "the name of its host is not found"),
        (r"timeout|timed out", NO_ANSWER),
        (r"too many (?:clients|connections)|max number of clients|remaining connection slots",
         "it takes no more connections"),
        (r"is (?:starting up|shutting down)|in recovery mode|LOADING|busy loading", "it is starting or stopping"),
        (r"certificate|\bSSL\b|SSLError", "no encrypted connection could be made"),
        (r"percent-encoded|connection info string|connection option|connection URI|invalid port|invalid integer"
         r"|ArgumentError|^ValueError", "the address cannot be read; write special characters as %XX"),
    )
)  # fmt: skip


def cause_of(error: BaseException) -> str:
    """The cause of `error`, which a driver raised, without a word of the driver; else the name of its class."""
    chain = list(_chain(error))
    for pattern, cause in _CAUSES:
        if any(pattern.search(f"{type(one).__name__}: {one}") for one in chain):
            return cause
    return type(chain[-1]).__name__


def _chain(error: BaseException) -> Iterator[BaseException]:
    """`error` and what it was made of: SQLAlchemy keeps the driver's as `orig`, others as the cause."""
    seen: list[BaseException] = []
    now: BaseException | None = error
    while now is not None and now not in seen:
        seen.append(now)
        yield now
        inner = getattr(now, "orig", None)
        now = inner if isinstance(inner, BaseException) else now.__cause__

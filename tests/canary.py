"""Secrets of tests carry a mark, and everything a test run leaves is searched for it: files, rows, Redis, answers."""

from __future__ import annotations

import base64
import os
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final

if TYPE_CHECKING:
    import psycopg

MARK: Final = "canary7f3a9d1e"

KEPT_IN: Final = frozenset({".env", "valkey.conf", "password", "pwfile", "credential"})
"""Files whose purpose is to hold secrets; they must be their owner's alone."""


def secret(name: str) -> str:
    """A secret for tests, long enough to sign with, the same for one `name` every time."""
    return f"{MARK}-{name}-{'0123456789abcdef' * 2}"


@cache
def forms(mark: str = MARK) -> tuple[bytes, ...]:
    """How the mark may look in bytes: as it is, in UTF-16, in hex, and in base64 at each of its three alignments."""
    raw = mark.encode()
    shifted = (base64.b64encode(b"\0" * shift + raw + b"\0" * 3) for shift in range(3))
    # The outer characters of each also encode the neighbours, so only the inside is certain.
    inside = tuple(text[(4 if shift else 0) : len(text) - 8] for shift, text in enumerate(shifted))
    return (raw, mark.encode("utf-16-le"), raw.hex().encode(), *inside)


def shows(content: bytes | str) -> bool:
    """Whether the mark is in `content`, in any of its forms."""
    data = content.encode(errors="replace") if isinstance(content, str) else content
    return any(form in data for form in forms())


def leaks_below(folder: Path) -> Iterator[str]:
    """Every file below `folder` that holds the mark and is no place for secrets, or is one that others can read."""
    for path in sorted(folder.rglob("*")):
        if not path.is_file() or path.is_symlink() or not _holds(path):
            continue
        if path.name not in KEPT_IN:
            yield f"{path} holds a secret"
        elif path.stat().st_mode & 0o077:
            yield f"{path} holds a secret and others may read it"


def _holds(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return any(shows(piece) for piece in _written(file))
    except OSError:  # gone meanwhile, or unreadable
        return False


def _written(file: BinaryIO, piece: int = 1 << 22) -> Iterator[bytes]:
    """What was ever written into `file`, in pieces that overlap; the holes of a sparse one are passed over."""
    place, overlap = 0, max(map(len, forms()))
    while True:
        try:
            place = os.lseek(file.fileno(), place, os.SEEK_DATA)
        except OSError:  # nothing but a hole is left
            return
        end = os.lseek(file.fileno(), place, os.SEEK_HOLE)
        while place < end:
            yield os.pread(file.fileno(), min(piece, end - place) + overlap, place)
            place += min(piece, end - place)


def leaks_in_database(connection: psycopg.Connection[Any]) -> list[str]:
    """The tables with a row that holds the mark; one round trip."""
    found = connection.execute(
        "SELECT format('%I.%I', schemaname, tablename) FROM pg_tables"
        " WHERE schemaname NOT IN ('pg_catalog', 'information_schema')"
    ).fetchall()
    names = [str(row[0]) for row in found]
    if not names:
        return []
    whole = " UNION ALL ".join(
        f"(SELECT '{name}' FROM {name} AS r WHERE {_any_form('r')} LIMIT 1)"  # noqa: S608
        for name in names
    )
    return [f"a row of {row[0]} holds a secret" for row in connection.execute(whole.encode()).fetchall()]


def _any_form(row: str) -> str:
    # Bytes are shown in hex by PostgreSQL, so the mark's own hex form finds them as well.
    patterns = [f"'%{form.decode()}%'" for form in forms() if 0 not in form]
    return f"{row}::text LIKE ANY (ARRAY[{', '.join(patterns)}])"


def leaks_in_redis(url: str) -> list[str]:
    """The keys whose name or content holds the mark."""
    import redis

    with redis.Redis.from_url(url) as client:
        return [
            f"{key!r} in Redis holds a secret"
            for key in client.scan_iter()
            if shows(key) or any(map(shows, _content(client, key)))
        ]


def _content(client: Any, key: bytes) -> Iterable[bytes]:
    match client.type(key):
        case b"string":
            return [client.get(key) or b""]
        case b"list":
            return client.lrange(key, 0, -1)
        case b"hash":
            return [part for pair in client.hgetall(key).items() for part in pair]
        case b"set":
            return client.smembers(key)
        case b"zset":
            return client.zrange(key, 0, -1)
        case b"stream":
            return [part for _, fields in client.xrange(key) for pair in fields.items() for part in pair]
        case _:
            return []

"""How much a key holds that somebody else may fill, asked so that the asking costs neither the server nor us much."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

import redis
import redis.exceptions

ESTIMATED: Final = 5
"""Samples of which the server takes a mean where there are too many entries to count all: one huge value hides."""
ALL: Final = 0


class Kind(StrEnum):
    """What a key is, by the command that says how many entries it has; for a text, how many bytes."""

    list = "LLEN"
    hash = "HLEN"
    sorted_set = "ZCARD"
    text = "STRLEN"


@dataclass(frozen=True)
class Key:
    """A key that should be of this kind."""

    name: str
    kind: Kind


@dataclass(frozen=True)
class Size:
    """How much lies there; nothing where there is no such key, or one of another kind."""

    entries: int = 0
    size: int = 0
    """Bytes as the server counts them, all entries; a mere estimate where there are more than were asked for."""


def measure(client: redis.Redis, keys: Iterable[Key], most_entries: int) -> dict[Key, Size]:
    """The size of each key, in two round trips.

    The bytes of a key with more than `most_entries` are estimated: a server that counts those of ten million entries
    does nothing else for a second. Raises redis.RedisError or OSError when the server does not answer, and
    redis.exceptions.NoPermissionError when this user may not ask.
    """
    every = list(keys)
    entries = dict(zip(every, _answers(client, [(key.kind.value, key.name) for key in every]), strict=True))
    there = [key for key in every if entries[key]]
    asked = [("MEMORY USAGE", key.name, "SAMPLES", _samples(key, entries[key], most_entries)) for key in there]
    sizes = dict(zip(there, _answers(client, asked), strict=True))
    return {key: Size(entries[key] if key.kind is not Kind.text else 1, sizes[key]) for key in there}


def _samples(key: Key, entries: int, most_entries: int) -> int:
    return ALL if key.kind is Kind.text or entries <= most_entries else ESTIMATED


def _answers(client: redis.Redis, commands: list[tuple[Any, ...]]) -> list[int]:
    """The numbers that the server answers; 0 for a key that is gone, or of another type."""
    pipe: Any = client.pipeline(transaction=False)
    for command in commands:
        pipe.execute_command(*command)
    answers: list[Any] = pipe.execute(raise_on_error=False) if commands else []
    return [_number(answer) for answer in answers]


def _number(answer: Any) -> int:
    if isinstance(answer, redis.exceptions.ResponseError) and str(answer).startswith("WRONGTYPE"):
        return 0
    if isinstance(answer, Exception):
        raise answer
    return int(answer or 0)

"""A stream that took the largest id there is: nothing can ever be added to it again, so it is moved out of the way."""

from typing import Any, Final

from redis.exceptions import ResponseError, WatchError

LAST_ID: Final = b"18446744073709551615-18446744073709551615"


def is_exhausted(client: Any, stream: str) -> bool:
    """Whether `stream` took the largest id; False when there is no such stream. Raises what redis-py raises."""
    try:
        return client.xinfo_stream(stream)["last-generated-id"] == LAST_ID
    except ResponseError as error:
        if "no such key" in str(error):
            return False
        raise


def move_aside(client: Any, stream: str, suffix: str) -> str | None:
    """The stream's new name, when it was exhausted and is moved; the next entry that is added begins a new one.

    None when it was not exhausted any more: somebody else moved it, and the fresh stream that stands in its place now,
    perhaps with entries in it, is left alone.
    """
    aside = f"{stream}:exhausted:{suffix}"
    with client.pipeline() as pipe:
        pipe.watch(stream)
        if not is_exhausted(pipe, stream):
            return None
        pipe.multi()
        pipe.renamenx(stream, aside)
        try:
            return aside if pipe.execute()[0] else None
        except WatchError:
            return None

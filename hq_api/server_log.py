"""What the server itself logs of a request: the path, and never what follows the question mark."""

import logging
from typing import Final

LOGGERS: Final = ("uvicorn.error", "uvicorn.access")


class _WithoutQuery(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        """Cut the query off every text of the line; somebody may have put a token there (refused, but logged)."""
        if isinstance(record.args, tuple):
            record.args = tuple(_cut(part) for part in record.args)
        return True


def _cut(part: object) -> object:
    return part.partition("?")[0] if isinstance(part, str) else part


_FILTER: Final = _WithoutQuery()


def hide_queries() -> None:
    """From now on the server's lines show paths only; calling it twice changes nothing."""
    for name in LOGGERS:
        logging.getLogger(name).addFilter(_FILTER)

"""The output of commands: cut into lines, forwarded up to a limit, and the end of it kept."""

import codecs
from collections.abc import Callable
from typing import Final

LONGEST_LINE: Final = 4_000
MOST_LINES: Final = 10_000
MOST_BYTES: Final = 10_000_000
STDOUT_TAIL: Final = 6_000
STDERR_TAIL: Final = 4_000

EachLine = Callable[[str, str], None]
"""Takes a line and the name of its stream."""


def clean(text: str) -> str:
    """`text` without NUL, which no text column takes; other control characters are data and stay."""
    return text.replace("\0", "\u2400")


class Forwarder:
    """Passes on lines until 10,000 lines or 10 MB have gone, says so once, and passes on nothing more.

    One serves all commands of a mission, so that the limit is the mission's.
    """

    def __init__(self, log: EachLine) -> None:
        self._log = log
        self._lines = 0
        self._bytes = 0
        self._full = False

    def __call__(self, line: str, stream: str) -> None:
        """Pass on one line, or drop it when the limit is reached."""
        if self._full:
            return
        self._lines += 1
        self._bytes += len(line.encode("utf-8", "replace")) + 1
        self._full = self._lines > MOST_LINES or self._bytes > MOST_BYTES
        if self._full:
            self._log(f"{MOST_LINES} lines or {MOST_BYTES // 1_000_000} MB reached: the rest is not shown", "log")
        else:
            self._log(line, stream)


class Collected:
    """One stream of one command: `feed` it bytes, and it calls `each_line` and keeps the last `limit` characters.

    A line longer than 4,000 characters is cut; memory does not grow with the output.
    """

    def __init__(self, name: str, limit: int, each_line: EachLine) -> None:
        self.tail = ""
        self._name = name
        self._limit = limit
        self._each_line = each_line
        self._decode = codecs.getincrementaldecoder("utf-8")("replace").decode
        self._unfinished = ""

    def feed(self, data: bytes) -> None:
        """Take the next bytes; b"" says that there are no more, and gives out a last line without its end."""
        text = clean(self._decode(data, not data))
        self.tail = (self.tail + text)[-self._limit :]
        *lines, rest = (self._unfinished + text).split("\n")
        for line in lines:
            self._each_line(line[:LONGEST_LINE], self._name)
        self._unfinished = rest[:LONGEST_LINE]
        if not data and self._unfinished:
            self._each_line(self._unfinished, self._name)
            self._unfinished = ""

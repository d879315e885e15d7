"""How large Redis' append-only file was when, so that Redis can come back with an old one, as after a power failure."""

from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

KEPT_MS: Final = 30_000
EVERY_MS: Final = 50


@dataclass
class AppendOnlyFile:
    """The file to which the server in `folder` appends; `look` must be called all the time."""

    folder: Path
    _sizes: deque[tuple[int, Path, int]] = field(default_factory=deque[tuple[int, Path, int]])

    def look(self, now_ms: int) -> None:
        """The size of this moment is known, and those that are long past are forgotten."""
        if self._sizes and now_ms - self._sizes[-1][0] < EVERY_MS:
            return
        if (path := self._path()) is not None:
            self._sizes.append((now_ms, path, path.stat().st_size))
        while self._sizes and now_ms - self._sizes[0][0] > KEPT_MS:
            self._sizes.popleft()

    def rewind(self, to_ms: int) -> int | None:
        """The file is as it was then, or when it was first looked at; how many bytes are gone, None when it never was.

        Only while the server is dead. It cuts off by itself what is no whole command at the end.
        """
        path = self._path()
        seen = [one for one in self._sizes if one[1] == path]
        if path is None or not seen:
            return None
        before = [one for one in seen if one[0] <= to_ms] or seen[:1]
        size = before[-1][2]
        gone = path.stat().st_size - size
        with path.open("r+b") as file:
            file.truncate(size)
        # What lay behind the cut is no past of what comes now.
        self._sizes = deque(before)
        return gone

    def _path(self) -> Path | None:
        """The last part of the file; the parts are numbered."""
        parts = [*(self.folder / "data" / "appendonlydir").glob("*.incr.aof")]
        return max(parts, key=lambda path: int(path.name.split(".")[-3]), default=None)

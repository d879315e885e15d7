"""The file of the effects: one line for each beginning and each end of work, in the order in which they happened."""

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

UPTIME: Final = Path("/proc/uptime")
CHILD: Final = "CHAOS_CHILD"
"""The variable by which a mission's child process, and whatever that starts, is known."""


@dataclass(frozen=True)
class Mark:
    """Somebody `began` an attempt, or `did` its work; `at_ms` counts from the machine's start, in steps of ten."""

    what: Literal["began", "did"]
    job_id: str
    attempt: int
    attempt_id: str
    factory_id: str
    pid: int
    at_ms: int


def uptime_ms() -> int:
    """Milliseconds since the machine started; from a file, since the clock of a worker may be wrong on purpose."""
    return round(float(UPTIME.read_text().split()[0]) * 1000)


def line_of(what: str, job_id: str, attempt: int, attempt_id: str, factory_id: str) -> str:
    """The line that says what this process did just now."""
    return f"{what} {job_id} {attempt} {attempt_id} {factory_id} {os.getpid()} {uptime_ms()}\n"


def leave(path: str, line: str) -> None:
    """The file at `path` has one more line, whoever else appends to it; it is the kernel's when this returns."""
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        os.write(file, line.encode())
    finally:
        os.close(file)


def read_line(line: str) -> Mark:
    """The mark in a line of `line_of`; raises ValueError for any other."""
    what, job_id, attempt, attempt_id, factory_id, pid, at_ms = line.split()
    if what not in ("began", "did"):
        raise ValueError(f"no mark: {line!r}")
    return Mark(
        "began" if what == "began" else "did", job_id, int(attempt), attempt_id, factory_id, int(pid), int(at_ms)
    )


@dataclass
class Tail:
    """The marks of the file at `path` as they come, and which processes are in the midst of an attempt."""

    path: Path
    marks: list[Mark] = field(default_factory=list[Mark])
    busy: dict[int, Mark] = field(default_factory=dict[int, Mark])
    """The last beginning of each process that has not come to its end, by pid."""
    _read_to: int = 0

    def look(self) -> None:
        """All marks that are in the file by now are known."""
        for mark in self._fresh():
            self.marks.append(mark)
            if mark.what == "began":
                self.busy[mark.pid] = mark
            else:
                self.busy.pop(mark.pid, None)

    def _fresh(self) -> Iterator[Mark]:
        if not self.path.exists():
            return
        with self.path.open("rb") as file:
            file.seek(self._read_to)
            data = file.read()
        whole = data[: data.rfind(b"\n") + 1]
        self._read_to += len(whole)
        for line in whole.decode().splitlines():
            yield read_line(line)

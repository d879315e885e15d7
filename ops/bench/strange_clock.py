"""Runs a module as its command line would, on a machine whose wall clock is wrong.

`python -m ops.bench.strange_clock FILE -m MODULE ARGUMENTS…`: the clock is wrong by as many seconds as FILE says at
that moment, for all that looks at it: Celery, kombu, our own clock, and the time at which the machine was started,
which the kernel reckons from the clock. What counts on (`time.monotonic`) goes on as ever, as when somebody sets a
clock.
"""

import importlib.util
import runpy
import sys
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import psutil

from corporation import clock


def libfaketime() -> Path | None:
    """The library that fakes the clock for a whole process, C code included, where one is installed.

    From PyPI's `libfaketime` or Debian's `faketime`; neither is needed: without it `install` does the same in Python.
    """
    found = importlib.util.find_spec("libfaketime")
    places = [Path(place) for place in (found.submodule_search_locations or ())] if found else []
    patterns = [(place, "**/libfaketime.so.1") for place in places]
    patterns.append((Path("/usr/lib"), "*/faketime/libfaketime.so.1"))
    return next((path for place, pattern in patterns for path in sorted(place.glob(pattern))), None)


def variables(library: Path, file: Path) -> dict[str, str]:
    """With these a process has the wrong clock by the library; it is as wrong as the file says at that moment."""
    return {
        "LD_PRELOAD": str(library),
        "FAKETIME_TIMESTAMP_FILE": str(file),
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "FAKETIME_NO_CACHE": "1",
    }


def install(file: Path) -> None:
    """From now on in this process, and in those it forks, every look at the clock is wrong."""

    def wrong_by() -> float:
        return float(file.read_text())

    seconds, nanoseconds, now = time.time, time.time_ns, clock.utc_now
    boot_time: Callable[[], float] = psutil._psplatform.boot_time  # pyright: ignore - what all of psutil asks
    _replace(seconds, lambda: seconds() + wrong_by())
    _replace(nanoseconds, lambda: nanoseconds() + round(wrong_by() * 1e9))
    _replace(now, lambda: now() + timedelta(seconds=wrong_by()))
    _replace(boot_time, lambda: boot_time() + wrong_by())


def _replace(function: Callable[..., Any], by: Callable[..., Any]) -> None:
    """Also where a module has taken the function into its own names already."""
    for module in list(sys.modules.values()):
        for name, value in list(vars(module).items()):
            if value is function:
                setattr(module, name, by)


if __name__ == "__main__":
    file, _, module, *arguments = sys.argv[1:]
    sys.argv = [module, *arguments]
    install(Path(file))
    runpy.run_module(module, run_name="__main__", alter_sys=True)

"""Runs a module of ours as its command line would, and has its processes killed at one exact point of the code.

`python crash_here.py FLAG group|process NTH before|after MODULE:NAME -m MODULE ARGUMENTS…`: the NTH time in a process
that the function MODULE:NAME is about to begin, or has returned, SIGKILL ends the whole group (what a power cut looks
like to the others) or only the process that came by. The file FLAG is there afterwards; while it is, nobody is killed
any more. The product itself has no such hook.
"""

import importlib
import itertools
import os
import runpy
import signal
import sys
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any


def arm(flag: Path, whom: str, nth: int, when: str, point: str) -> None:
    """From now on in this process, and in those it forks, whoever comes to `point` the `nth` time is killed there."""
    counter = itertools.count(1)
    module, _, path = point.partition(":")
    owner: Any = importlib.import_module(module)
    *owners, name = path.split(".")
    for each in owners:
        owner = getattr(owner, each)
    setattr(owner, name, _deadly(getattr(owner, name), when, lambda: next(counter) == nth and _die_once(flag, whom)))


def _deadly(function: Callable[..., Any], when: str, die: Callable[[], Any]) -> Callable[..., Any]:
    @wraps(function)
    def deadly(*arguments: Any, **named: Any) -> Any:
        if when == "before":
            die()
        answer = function(*arguments, **named)
        if when == "after":
            die()
        return answer

    return deadly


def _die_once(flag: Path, whom: str) -> None:
    try:
        flag.touch(exist_ok=False)
    except FileExistsError:
        return  # a process that was forked later came by
    if whom == "process":
        os.kill(os.getpid(), signal.SIGKILL)
    os.killpg(os.getpgrp(), signal.SIGKILL)


if __name__ == "__main__":
    assert os.getpgrp() == os.getpid(), "it would kill the test too"
    flag, whom, nth, when, point, _, module, *arguments = sys.argv[1:]
    sys.argv = [module, *arguments]
    arm(Path(flag), whom, int(nth), when, point)
    runpy.run_module(module, run_name="__main__", alter_sys=True)

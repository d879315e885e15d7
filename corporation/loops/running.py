"""All loops of a process: one thread each, one that listens for wake-ups, and a file while every one of them works."""

import signal
from collections.abc import Sequence
from pathlib import Path
from threading import Event, Thread
from types import FrameType
from typing import Final

from corporation.loops.forever import Running, run_forever
from corporation.loops.wakeups import listen_forever

LOOK_SECONDS: Final = 0.5
"""How often the ready file is brought up to date; supervisors ask for it every few seconds."""
END_SECONDS: Final = 10.0


def run(running: Sequence[Running], url: str, stop: Event, ready_file: Path | None) -> None:
    """Run all loops and their wake-ups until `stop`; `ready_file` exists while the last tick of each
    essential loop went well.

    Afterwards no thread of a loop runs, unless one did not end within ten seconds, and the file is gone.
    """
    listening = "postgresql://" + url.partition("://")[2]
    threads = [Thread(target=run_forever, args=(one,), name=one.loop.name) for one in running]
    threads.append(Thread(target=listen_forever, args=(listening, running, stop), name="wakeups"))
    for thread in threads:
        thread.start()
    essential = [one for one in running if one.essential]
    for one in essential:
        while not one.ticked.wait(0.2) and not stop.is_set():
            pass
    while not stop.is_set():
        _show(ready_file, ready=all(one.healthy.is_set() for one in essential))
        stop.wait(LOOK_SECONDS)
    for one in running:
        one.wake.set()
    for thread in threads:
        thread.join(timeout=END_SECONDS)
    _show(ready_file, ready=False)


def stop_on_signals(stop: Event) -> None:
    """SIGTERM and SIGINT set `stop` from now on."""

    def end(_number: int, _frame: FrameType | None) -> None:
        stop.set()

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, end)


def _show(ready_file: Path | None, *, ready: bool) -> None:
    if ready_file is None or ready_file.exists() == ready:
        return
    if ready:
        ready_file.touch()
    else:
        ready_file.unlink(missing_ok=True)

"""A server that stands still: it holds its connections, takes new ones, and answers nothing."""

from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress

import psutil


@contextmanager
def frozen(pid: int) -> Generator[Callable[[], None]]:
    """Within the block the process and all below it stand still, or until what the block is given is called."""
    processes = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]

    def resume() -> None:
        for process in processes:
            with suppress(psutil.NoSuchProcess):  # a backend that has just ended
                process.resume()

    try:
        for process in processes:
            with suppress(psutil.NoSuchProcess):
                process.suspend()
        yield resume
    finally:
        resume()

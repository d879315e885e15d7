"""For workers of tests: the loop of the consumer stands still as soon as a file says so, and that is noticed soon."""

from pathlib import Path
from threading import Event
from typing import Any

from celery import bootsteps
from celery.worker.consumer.tasks import Tasks

from factory_tasks import loop_watch, worker_signs
from factory_tasks.app import app
from factory_tasks.node import node

DEAD_SECONDS = 3.0
worker_signs.WRITE_SECONDS = 0.5  # pyright: ignore[reportAttributeAccessIssue]
loop_watch.DEAD_SECONDS = DEAD_SECONDS  # pyright: ignore[reportAttributeAccessIssue]


class Freezer(bootsteps.StartStopStep):
    """Blocks the main thread while the file `freeze` lies beside the spool."""

    requires = (Tasks,)

    def start(self, parent: Any) -> None:
        """Look ten times a second."""
        parent.timer.call_repeatedly(0.1, _freeze_if_wanted)


def _freeze_if_wanted() -> None:
    while freezing(node().settings.spool_path.parent).exists():
        Event().wait(0.05)


def freezing(folder: Path) -> Path:
    """The file for a factory whose spool is in `folder`."""
    return folder / "freeze"


app.steps["consumer"].add(Freezer)

"""A worker that needs no channel which others share, where its configuration forbids remote control."""

from typing import Any

from celery.apps.worker import Worker


class QuietWorker(Worker):
    """Celery's worker; without remote control it neither greets nor hears other workers, nor speaks of itself.

    Started with `--task-events` it still tells Flower what it does, for which its user of the broker needs the right.
    """

    def prepare_args(self, **kwargs: Any) -> dict[str, Any]:
        """The options of the command line, with those added that the configuration asks for."""
        app: Any = self.app
        if app.conf.worker_enable_remote_control:
            return kwargs
        speaks = bool(kwargs.get("task_events"))
        return {**kwargs, "without_gossip": True, "without_mingle": True, "without_heartbeat": not speaks}

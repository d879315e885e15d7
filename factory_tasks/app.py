"""The Celery application; its configuration is read when a process first needs it, never at import (E-1)."""

from typing import Any, cast

from celery import Celery
from kombu.utils.objects import cached_property

import celeryconfig
from factory_tasks import connection_guard, gated_transport, gatekeeper, lifecycle
from factory_tasks.loop_watch import LoopWatch
from factory_tasks.node import node


def _configuration() -> dict[str, Any]:
    return celeryconfig.configuration(node().settings)


class _App(Celery):
    @cached_property
    def Worker(self) -> Any:
        return self.subclass_with_self("factory_tasks.quiet_worker:QuietWorker")


connection_guard.install()
gated_transport.install()
app = _App("factory_tasks", set_as_current=True)
app.add_defaults(_configuration)
# Before a worker is made: the steps of its consumer are settled with it, before any signal of ours.
cast("Any", app.steps)["consumer"].add(LoopWatch)
gatekeeper.connect()  # first: what a worker puts back when it starts is judged too
lifecycle.connect()

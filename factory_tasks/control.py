"""Tasks of the control worker, which no long mission ever blocks: the heartbeat that beat asks for, and stopping.

An order with which a control worker died is its successor's, before that takes any; mission workers need not live.
"""

from typing import Any

import structlog
from celery import Celery, signals

import celeryconfig
from corporation.federation import notes
from corporation.roles import control_queue
from factory_tasks.app import app
from factory_tasks.heartbeat import is_too_early, send_beat
from factory_tasks.node import node
from factory_tasks.stop_orders import read_order, write_down
from factory_tasks.taken_messages import put_back_orders

log = structlog.get_logger()

_waits_for_redis: list[Celery] = []
"""The app, if Redis was away when the orders of the control worker before this one were to be put back."""


@signals.celeryd_after_setup.connect
def take_over(instance: Any, **_: Any) -> None:
    """Where this worker hears orders, those with which its predecessor died lie in their queue again."""
    queue = control_queue(node().settings.factory_id)
    if queue in instance.app.amqp.queues.consume_from:
        _waits_for_redis[:] = [] if _put_back(instance.app) else [instance.app]


@signals.worker_ready.connect
def take_over_late(**_: Any) -> None:
    """The same where Redis was away before; what this worker has taken by now may lie there twice, and runs once."""
    while _waits_for_redis:
        _put_back(_waits_for_redis.pop())


def _put_back(app: Celery) -> bool:
    here = node()
    at_work = {one.attempt_id for one in here.spool.running()}
    return put_back_orders(app, at_work, control_queue(here.settings.factory_id))


@app.task(name=celeryconfig.HEARTBEAT_TASK, ignore_result=True, acks_late=False)
def heartbeat() -> None:
    """Tell HQ that this node lives and what it runs; a beat that fails is not repeated, a later one comes anyway."""
    here = node()
    if not is_too_early(here):
        send_beat(here, "beat")


@app.task(name=celeryconfig.ECHO_TASK, ignore_result=True, acks_late=False)
def echo(echo_id: str) -> None:
    """HQ asks whether the consumer of this queue takes messages; the gatekeeper has answered before this would run."""
    node().spool.note(notes.ECHO_HEARD, str(echo_id)[:100])


@app.task(name=celeryconfig.STOP_TASK, ignore_result=True)
def stop_attempt(attempt_id: object = None, reason: object = None, **unknown: object) -> None:
    """The attempt, if it is under way on this node, is to stop: its own process and the warden see to it.

    Safe to receive twice, and too late. A message that names no attempt is logged and dropped.
    """
    del unknown  # what a later HQ may add
    order = read_order(attempt_id, reason)
    if order is None:
        log.warning("stop_order_refused", why="its attempt_id is no id")
        return
    write_down(node().spool, order)

"""Tasks of the control worker, which no long mission ever blocks: the heartbeat that beat asks for, and stopping."""

import structlog

import celeryconfig
from corporation.federation import notes
from factory_tasks.app import app
from factory_tasks.heartbeat import is_too_early, send_beat
from factory_tasks.node import node
from factory_tasks.stop_orders import read_order, write_down

log = structlog.get_logger()


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

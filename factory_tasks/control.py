"""Tasks of the control worker, which no long mission ever blocks: the heartbeat that beat asks for."""

import celeryconfig
from factory_tasks.app import app
from factory_tasks.heartbeat import send_beat
from factory_tasks.node import node


@app.task(name=celeryconfig.HEARTBEAT_TASK, ignore_result=True, acks_late=False)
def heartbeat() -> None:
    """Tell HQ that this node lives and what it runs; a beat that fails is not repeated, the next one comes anyway."""
    send_beat(node(), "beat")

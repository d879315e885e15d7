"""Celery: mission kinds as tasks, and the processes of a node. `celery -A factory_tasks worker -Q local_factory`.

`app.py` the application · `node.py` what a process knows of its node · `handlers.py` the registry of kinds ·
`mission_task.py` one attempt, from message to report · `reporter.py` how it is going · `mailbox.py` the result
backend · `broker.py`, `queue_look.py` sending, for the engine, and looking · `control.py` heartbeats, and orders to
stop · `pulse.py` heartbeats without beat · `stopping.py`, `stop_orders.py` how a handler is stopped · `warden.py`,
`process_tree.py`, `attempt_mark.py` nothing outlives its attempt · `taken_messages.py` what a killed worker held ·
`lifecycle.py` start and stop · `connection_guard.py` a kombu repair · `gated_transport.py`, `gatekeeper.py` no message
kills a worker · `tether.py` no orphan survives · `bootstrap_repo/` the first kind.
"""

from factory_tasks.app import app

__all__ = ["app"]

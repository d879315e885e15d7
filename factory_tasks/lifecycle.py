"""Start and stop of a worker: its private queue, its row in the spool, old reports, the pulse, the ready file."""

import sys
from datetime import timedelta
from typing import Any

import structlog
from celery import signals

from corporation import clock
from corporation.errors import EXIT_CONFIG
from corporation.federation.processes import my_identity
from corporation.own_process import hide_environment
from corporation.roles import private_queue
from corporation.settings import Settings
from factory_tasks.handlers import labels
from factory_tasks.mailbox import MailboxBackend
from factory_tasks.mission_task import register_all
from factory_tasks.node import Node, node
from factory_tasks.pulse import Pulse

log = structlog.get_logger()

REMEMBERED = timedelta(days=4)
"""How long the spool knows a reported attempt: twice the time after which Redis hands a message out again."""

_pulses: list[Pulse] = []


def connect() -> None:
    """Celery calls us at each step of a worker's life from now on; safe to call twice."""
    signals.celeryd_after_setup.connect(take_private_queue)
    signals.worker_process_init.connect(hide_environment)
    signals.worker_ready.connect(be_ready)
    signals.worker_shutting_down.connect(stop_the_pulse)
    signals.worker_shutdown.connect(be_gone)


def take_private_queue(sender: str, instance: Any, **_: Any) -> None:
    """A mission worker takes what its node may run, also what is sent to this factory alone; or it ends with 78."""
    here = node()
    if not _takes_missions(here, instance.app):
        return
    if problem := _why_no_missions(here.settings):
        sys.stderr.write(f"{problem}\n")
        raise SystemExit(EXIT_CONFIG)
    register_all(instance.app, here.settings.policy)
    instance.app.amqp.queues.select_add(private_queue(here.settings.factory_id))
    MailboxBackend.known_report = staticmethod(here.spool.report_of)


def _why_no_missions(settings: Settings) -> str | None:
    policy = settings.policy
    if not policy.can_listen_delegations:
        return (
            f"this {policy.factory_role} takes no missions: its delegation mode is {policy.delegation_mode}; "
            "UA_CAPABILITY_DELEGATION_MODE=listen_only lets it"
        )
    if settings.mailbox_url is None:
        return (
            "UA_RESULT_BACKEND_URL is missing: this worker could not report what it did; "
            "`corporation env` prints a working set"
        )
    return None


def be_ready(sender: Any, **_: Any) -> None:
    """The worker takes missions now: what died before is reported, and HQ hears of it."""
    here = node()
    queues = list(sender.app.amqp.queues.consume_from)
    here.spool.put_worker(
        sender.hostname, my_identity(), sender.controller.concurrency or 1, queues, labels(here.settings.policy)
    )
    here.spool.forget(clock.iso(clock.utc_now() - REMEMBERED))
    if _takes_missions(here, sender.app):
        if lost := here.spool.bury_the_dead():
            log.warning("attempts_lost_in_a_crash", count=lost)
        pulse = Pulse(here, sender.app.backend.fill)
        _pulses.append(pulse)
        pulse.start()
    if here.settings.ready_file:
        here.settings.ready_file.touch()


def stop_the_pulse(sender: Any, **_: Any) -> None:
    """No beat, of whatever process, claims free slots of a worker that is going."""
    node().spool.remove_worker(str(sender))
    while _pulses:
        _pulses.pop().stop()


def be_gone(sender: Any, **_: Any) -> None:
    """The worker takes nothing any more."""
    here = node()
    here.spool.remove_worker(str(getattr(sender, "hostname", sender)))
    if here.settings.ready_file:
        here.settings.ready_file.unlink(missing_ok=True)


def _takes_missions(here: Node, app: Any) -> bool:
    return here.settings.mission_queue in app.amqp.queues.consume_from

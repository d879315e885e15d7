"""Start and stop of a worker: its queue, its row in the spool, what died before, pulse and warden, the ready file."""

import atexit
import os
import sqlite3
import sys
from contextlib import suppress
from functools import partial
from threading import Thread
from typing import Any

import psycopg
import structlog
from celery import signals
from celery.concurrency.prefork import TaskPool
from celery.worker import state

from corporation import clock
from corporation.errors import EXIT_CONFIG, CorporationError
from corporation.federation.processes import my_identity
from corporation.federation.spool import report_all
from corporation.own_process import hide_environment
from corporation.roles import private_queue
from corporation.settings import Settings
from factory_tasks.attempt_mark import end_leftovers_of_the_dead
from factory_tasks.gated_transport import close_gate
from factory_tasks.handlers import labels
from factory_tasks.heartbeat import running_version, say_goodbye, send_beat
from factory_tasks.mailbox import MailboxBackend
from factory_tasks.mission_task import FULL_DISK_SECONDS, register_all, register_orders
from factory_tasks.node import Node, node
from factory_tasks.process_tree import adopt_orphans, become_pool_process
from factory_tasks.pulse import Pulse
from factory_tasks.taken_messages import put_back, put_back_forgotten
from factory_tasks.warden import Warden
from factory_tasks.worker_signs import WorkerSigns, is_kept_away

log = structlog.get_logger()

_pulses: list[Pulse] = []
_signs: list[WorkerSigns] = []
_wardens: list[Warden] = []
_waits_for_redis: list[Any] = []
"""The app, if Redis was away when the messages of the worker before this one were to be put back."""
_main: set[int] = set()
"""This worker's main process; a pool of one process (solo) runs its missions there."""


def connect() -> None:
    """Celery calls us at each step of a worker's life from now on; safe to call twice."""
    signals.celeryd_after_setup.connect(take_private_queue)
    signals.worker_process_init.connect(hide_environment)
    signals.worker_process_init.connect(join_the_pool)
    signals.worker_ready.connect(be_ready)
    signals.worker_shutting_down.connect(begin_to_leave)
    signals.worker_shutdown.connect(be_gone)


def take_private_queue(sender: str, instance: Any, **_: Any) -> None:
    """A mission worker takes what its node may run, also what is sent to this factory alone; or it ends with 78."""
    here = node()
    _main.add(os.getpid())
    if not _takes_missions(here, instance.app):
        take_orders(here, instance.app)
        return
    if problem := _why_no_missions(here.settings):
        sys.stderr.write(f"{problem}\n")
        raise SystemExit(EXIT_CONFIG)
    register_all(instance.app, here.settings.policy)
    instance.app.amqp.queues.select_add(private_queue(here.settings.factory_id))
    MailboxBackend.known_report = staticmethod(here.spool.report_of)
    adopt_orphans()
    _wait_for_room(here)
    if is_kept_away(here.spool.noted_all()):
        close_gate()  # until HQ says otherwise (F-20)
    _waits_for_redis[:] = [] if put_back(instance.app, _at_work(here)) else [instance.app]


def take_orders(here: Node, app: Any) -> None:
    """The control worker carries out HQ's orders to the factory itself, also while no missions are taken (F-22)."""
    MailboxBackend.known_report = staticmethod(here.spool.report_of)
    register_orders(app, here.settings.policy)


def _put_back_forgotten(here: Node, app: Any) -> None:
    put_back_forgotten(app, _at_work(here))


def _at_work(here: Node) -> set[str]:
    return {one.attempt_id for one in here.spool.running()}


def _wait_for_room(here: Node) -> None:
    """A worker that cannot write down what it does takes nothing: it waits until its disk takes a word."""
    while True:
        try:
            here.spool.note("worker_starts", clock.iso(clock.utc_now()))
        except sqlite3.OperationalError as error:
            log.error("spool_refuses", error=str(error), what_next="make room on the disk of UA_VP_DB_PATH")
            clock.pause(FULL_DISK_SECONDS)
        else:
            return


def join_the_pool(**_: Any) -> None:
    """This process runs one mission at a time and is emptied of all that one started before the next."""
    if os.getpid() not in _main:
        become_pool_process()


def _why_no_missions(settings: Settings) -> str | None:
    policy = settings.policy
    if not policy.can_listen_delegations:
        return (
            f"this {policy.factory_role} takes no missions: its delegation mode is {policy.delegation_mode}; "
            "UA_CAPABILITY_DELEGATION_MODE=listen_only lets it"
        )
    if settings.mailbox_url is None and not settings.hq_base_url:
        return (
            "UA_RESULT_BACKEND_URL is missing, and so is UA_HQ_BASE_URL: this worker could not report what it did; "
            "`corporation env` prints a working set, `corporation factory join` gets one from HQ"
        )
    return None


def be_ready(sender: Any, **_: Any) -> None:
    """The worker takes missions now: what died before is reported, and HQ hears of it.

    One that cannot get so far ends with 74: without warden and pulse it would work on unseen.
    """
    try:
        _begin(sender)
    except sqlite3.Error as error:
        sys.stderr.write(f"the spool of this factory cannot be used ({error}); look at the disk of UA_VP_DB_PATH\n")
        raise SystemExit(os.EX_IOERR) from error


def _begin(sender: Any) -> None:
    here = node()
    queues = list(sender.app.amqp.queues.consume_from)
    here.spool.put_worker(
        sender.hostname, my_identity(), sender.controller.concurrency or 1, queues, labels(here.settings.policy)
    )
    if _takes_missions(here, sender.app):
        _settle_the_past(here)
        while _waits_for_redis:
            put_back(_waits_for_redis.pop(), _at_work(here))
        running_version()  # asks git once, before the warden takes a child of ours for a stranger
        tidy = partial(_put_back_forgotten, here, sender.app)
        pulse = Pulse(here, sender.app.backend.fill, _signs_of(here, sender).look, tidy=tidy)
        _pulses.append(pulse)
        pulse.start()
        _watch(here, sender.controller.pool, pulse)
    else:
        # HQ sends orders only to queues of which it has heard; an HQ that is away must not hold up the start.
        Thread(target=send_beat, args=(here, "start"), name="first-beat", daemon=True).start()
    if here.settings.ready_file:
        here.settings.ready_file.touch()


def _signs_of(here: Node, sender: Any) -> WorkerSigns:
    """The signs of this worker; what was wanted of the one before it has happened."""
    is_watched = isinstance(sender.controller.pool, TaskPool)
    signs = WorkerSigns(here, sender.hostname, lambda: len(state.active_requests), watched=is_watched)
    signs.forget()
    _signs.append(signs)
    return signs


def _settle_the_past(here: Node) -> None:
    """What a killed worker left running is ended before its attempts are given back: the next try finds no rival."""
    end_leftovers_of_the_dead(here.spool)
    if lost := here.spool.bury_the_dead():
        log.warning("attempts_lost_in_a_crash", count=lost)


def _watch(here: Node, pool: Any, pulse: Pulse) -> None:
    """A warden watches a pool of processes; in another pool (solo, threads) nobody could be killed alone."""
    if not isinstance(pool, TaskPool):
        return
    warden = Warden(here, lambda: _processes_of(pool), pulse.report_now)
    _wardens.append(warden)
    warden.start()
    atexit.register(_dismiss_the_wardens)  # a cold shutdown sends no signal


def _processes_of(pool: Any) -> set[int]:
    """The pids of the pool's processes; empty before it started and once it is closed."""
    inner = getattr(pool, "_pool", None)
    # Copied in one step: the main thread changes the list.
    return {process.pid for process in list(inner._pool) if process.pid} if inner is not None else set()


def _dismiss_the_wardens() -> None:
    while _wardens and os.getpid() in _main:
        _wardens.pop().stop()


def tell_now() -> None:
    """What the spool holds for HQ is told at once, if this process has a pulse."""
    for pulse in _pulses:
        pulse.report_now()


def begin_to_leave(sender: Any, **_: Any) -> None:
    """No beat, of whatever process, claims free slots of a worker that is going; HQ hears that it drains (F-23).

    It stays on the list while it works on: what it holds is not for a worker that starts meanwhile to put back. What
    it still runs when it is killed was handed back.
    """
    for signs in _signs:
        signs.leave()
    _hand_back_what_runs(node())
    node().spool.rest_worker(str(sender))
    for pulse in _pulses:
        pulse.beat_now()


def _hand_back_what_runs(here: Node) -> None:
    for warden in _wardens:
        warden.leave()
    if _wardens:
        return
    me = my_identity()  # a pool without processes: what runs, runs here
    with suppress(sqlite3.Error):
        here.spool.hand_back([one.attempt_id for one in here.spool.under_way() if one.owner == me], me)


def be_gone(sender: Any, **_: Any) -> None:
    """The worker takes nothing any more, nothing that its missions started is left, and HQ knows what came of them.

    With the last worker of its node the factory takes its leave.
    """
    here = node()
    while _pulses:
        _pulses.pop().stop()
    _dismiss_the_wardens()
    if _takes_missions(here, sender.app):
        with suppress(psycopg.Error, CorporationError):  # then the next worker tells it
            report_all(here.spool, sender.app.backend.fill)
    while _signs:
        _signs.pop().forget()
    here.spool.remove_worker(str(getattr(sender, "hostname", sender)))
    say_goodbye(here)
    if here.settings.ready_file:
        here.settings.ready_file.unlink(missing_ok=True)


def _takes_missions(here: Node, app: Any) -> bool:
    return here.settings.mission_queue in app.amqp.queues.consume_from

"""The beat jobs of headquarters about its fleet, done by HQ's control worker; each is safe to do twice."""

import os
from functools import cache

import structlog
from sqlalchemy import Engine

import celeryconfig
from corporation.clock import new_id
from corporation.db import open_ledger, transaction
from corporation.factories.lights import ask_echoes
from corporation.factories.staleness import Thresholds
from corporation.factories.sweep import sweep
from factory_tasks.app import app
from factory_tasks.node import node

log = structlog.get_logger()


@app.task(name=celeryconfig.SWEEP_TASK, ignore_result=True, acks_late=False)
def sweep_factories() -> None:
    """Whoever fell silent is called so, and pauses whose time is over end."""
    with transaction(_ledger(os.getpid())) as connection:
        changes = sweep(connection, _thresholds())
    for change in changes:
        log.info("factory_status", factory_id=change.factory_id, was=change.was, status=change.status)


@app.task(name=celeryconfig.ASK_TASK, ignore_result=True, acks_late=False)
def echo_factories() -> None:
    """Each factory that was not asked lately gets an echo through its own queue."""
    with transaction(_ledger(os.getpid())) as connection:
        ask_echoes(connection, new_id, _thresholds())


def _thresholds() -> Thresholds:
    settings = node().settings
    return Thresholds(settings.factory_stale_seconds, settings.factory_offline_seconds)


@cache
def _ledger(pid: int) -> Engine:
    """One connection a process: sockets must not be shared over a fork."""
    del pid
    return open_ledger(node().settings.database_url or "", pool_size=1)

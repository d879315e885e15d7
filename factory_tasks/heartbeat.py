"""What a node says of itself to HQ, and saying it (contract fleet §2 to §4)."""

import json
import os
import platform
import sqlite3
from collections.abc import Sequence
from functools import cache
from importlib.metadata import version
from pathlib import Path
from subprocess import DEVNULL, CalledProcessError, run
from typing import Any

import structlog

from corporation import clock
from corporation.broker_link import open_link, why_not_connected
from corporation.errors import CorporationError
from corporation.factories.labels import factory_labels, headquarters_labels
from corporation.federation.spool import WorkerRow
from corporation.settings import Settings
from factory_tasks.node import Node
from factory_tasks.stop_orders import orders_in, write_down

log = structlog.get_logger()

STARTED = clock.monotonic()
SENT_AT, LATENCY, FAILURES = "beat_sent_at", "beat_latency_ms", "beat_failures"
"""Notes in the spool, so that beat, control worker and pulse know of each other's beats."""


def beat_body(here: Node, source: str) -> dict[str, Any]:
    """The whole heartbeat: all that lives on this node, read from its spool."""
    settings = here.settings
    workers = here.spool.workers()
    missions = [worker for worker in workers if settings.mission_queue in worker.queues]
    latency = here.spool.noted(LATENCY)
    return {
        "factory_id": settings.factory_id,
        "factory_role": str(settings.policy.factory_role),
        "deployment_profile": settings.deployment_profile,
        "registration_status": "online",
        "heartbeat_latency_ms": float(latency) if latency else None,
        "capabilities": _labels(settings, missions),
        "metadata": {
            "hostname": settings.host,
            "pid": os.getpid(),
            "uptime_seconds": round(clock.monotonic() - STARTED, 1),
            "platform": platform.system(),
            "deployment_profile": settings.deployment_profile,
            "heartbeat_source": source,
            "policy_snapshot": settings.policy.snapshot(),
            "refused_messages": here.refused.summary(),
        },
        "running": [
            {
                "attempt_id": one.attempt_id,
                "job_id": one.job_id,
                "started_at": one.started_at,
                "progress": json.loads(one.progress) if one.progress else None,
            }
            for one in here.spool.running()
        ],
        "slots": sum(worker.slots for worker in missions),
        "queues": list(dict.fromkeys(queue for worker in [*missions, *workers] for queue in worker.queues)),
        "version": running_version(),
    }


def _labels(settings: Settings, workers: Sequence[WorkerRow]) -> list[str]:
    """This node's labels; of kinds, those that every mission worker can run: any of them may get the message."""
    earned = set.intersection(*(set(worker.labels) for worker in workers)) if workers else set[str]()
    connected = settings.redis_delegation_enabled and _broker_answers(settings)
    if settings.policy.is_headquarters:
        return headquarters_labels(settings.policy, earned, connected, settings.llm_provider_override)
    return factory_labels(settings.policy, earned, connected, settings.llm_provider_override)


def _broker_answers(settings: Settings) -> bool:
    with open_link(settings.redis_url) as client:
        return why_not_connected(client) is None


def send_beat(here: Node, source: str) -> bool:
    """Send one heartbeat, note how long it took and pass on what HQ wants stopped; False when HQ did not take it."""
    if here.hq is None:
        return False
    began = clock.monotonic()
    try:
        answer = here.hq.beat(beat_body(here, source))
    except CorporationError as error:
        failures = int(here.spool.noted(FAILURES) or 0) + 1
        here.spool.note(FAILURES, str(failures))
        log.warning("beat_failed", source=source, failures=failures, error=str(error))
        return False
    try:
        here.spool.note(LATENCY, f"{(clock.monotonic() - began) * 1000:.1f}")
        here.spool.note(SENT_AT, str(clock.monotonic()))
        here.spool.note(FAILURES, "0")
        for order in orders_in(answer):
            write_down(here.spool, order)
    except sqlite3.Error as error:
        # HQ has heard of us. What it wants stopped it says again with the next beat.
        log.warning("beat_not_noted", source=source, error=str(error))
    return True


def seconds_since_beat(here: Node) -> float:
    """Seconds since any process of this node last reached HQ; infinite before the first time."""
    sent = here.spool.noted(SENT_AT)
    age = clock.monotonic() - float(sent) if sent else float("inf")
    # The clock counts from the machine's start: a note from before a reboot lies in the future.
    return age if age >= 0 else float("inf")


@cache
def running_version() -> str:
    """The full commit of the running code, or the package's version where there is no git checkout."""
    root = Path(__file__).resolve().parent.parent
    try:
        answer = run(["git", "rev-parse", "HEAD"], cwd=root, check=True, capture_output=True, stdin=DEVNULL, timeout=5)
        return answer.stdout.decode().strip()
    except (OSError, CalledProcessError):
        return version("corporation")

"""What a node says of itself to HQ: one heartbeat's body, read from its spool (contract fleet §2)."""

import json
import os
import platform
import sqlite3
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.metadata import version
from pathlib import Path
from subprocess import DEVNULL, CalledProcessError, run
from typing import Any, Final

from corporation import clock
from corporation.broker_link import open_own_link, why_not_connected
from corporation.factories.labels import factory_labels, headquarters_labels
from corporation.federation import notes
from corporation.federation.spool import RunningAttempt, WorkerRow
from corporation.settings import Settings
from factory_tasks.node import Node
from factory_tasks.usage import cost_snapshot
from factory_tasks.worker_signs import signs_of

STARTED: Final = clock.monotonic()
LATENCY: Final = "beat_latency_ms"
FAILURES: Final = "beat_failures"
BOOT: Final = Path("/proc/sys/kernel/random/boot_id")


def beat_body(here: Node, source: str) -> dict[str, Any]:
    """The whole heartbeat: all that lives on this node."""
    settings, facts = here.settings, here.spool.noted_all()
    workers = here.spool.workers()
    over_https = any(notes.HTTPS in worker.queues for worker in workers)
    missions = [worker for worker in workers if _takes_missions(settings, worker, over_https=over_https)]
    latency = facts.get(LATENCY)
    return {
        "factory_id": settings.factory_id,
        "factory_role": str(settings.policy.factory_role),
        "deployment_profile": settings.deployment_profile,
        "registration_status": _status(facts, missions),
        "heartbeat_latency_ms": float(latency) if latency else None,
        "capabilities": _labels(settings, missions, over_https=over_https),
        "metadata": _metadata(here, source),
        "running": [_shown(one) for one in here.spool.running()],
        "slots": sum(worker.slots for worker in missions),
        "queues": _queues(workers),
        "version": running_version(),
        **_names(here, facts),
        "interval_seconds": settings.heartbeat_interval_seconds,
        "workers": [_worker(worker, facts) for worker in workers],
        "echo": facts.get(notes.ECHO_HEARD) or None,
        "transport": notes.HTTPS if over_https else notes.REDIS,
        "transport_why": (facts.get(notes.TRANSPORT_WHY) or None) if over_https else None,
        **_costs(settings, facts),
    }


def _takes_missions(settings: Settings, worker: WorkerRow, *, over_https: bool) -> bool:
    """Whether the worker is one from which missions are to be expected now, by the way that is used now."""
    return notes.HTTPS in worker.queues if over_https else settings.mission_queue in worker.queues


def _status(facts: Mapping[str, str], missions: Sequence[WorkerRow]) -> str:
    """What this factory says of itself; one whose workers are all on their way out drains (F-23)."""
    if facts.get(notes.PAUSED) == notes.SET or facts.get(notes.KEYS_REFUSED):
        return "paused"
    leaving = bool(missions) and not any(worker.slots for worker in missions)
    return "draining" if leaving or facts.get(notes.DRAINING) == notes.SET else "online"


def _queues(workers: Sequence[WorkerRow]) -> list[str]:
    """The queues that are listened to, those of missions first; HTTPS is none."""
    names = sorted((queue for worker in workers for queue in worker.queues), key=lambda name: name.endswith(".control"))
    return list(dict.fromkeys(name for name in names if name != notes.HTTPS))


def _metadata(here: Node, source: str) -> dict[str, Any]:
    settings = here.settings
    return {
        "hostname": settings.host,
        "pid": os.getpid(),
        "uptime_seconds": round(clock.monotonic() - STARTED, 1),
        "platform": platform.system(),
        "deployment_profile": settings.deployment_profile,
        "heartbeat_source": source,
        "policy_snapshot": settings.policy.snapshot(),
        "refused_messages": here.refused.summary(),
    }


def _shown(one: RunningAttempt) -> dict[str, Any]:
    return {
        "attempt_id": one.attempt_id,
        "job_id": one.job_id,
        "started_at": one.started_at,
        "progress": json.loads(one.progress) if one.progress else None,
    }


def _worker(worker: WorkerRow, facts: Mapping[str, str]) -> dict[str, Any]:
    signs = signs_of(facts, worker.name)
    return {
        "name": worker.name,
        "slots": worker.slots,
        "queues": list(worker.queues),
        "busy": int(signs.get("busy", 0)),
        "loop_age_seconds": signs.get("loop_age_seconds"),
        "connected": bool(signs.get("connected", True)),
    }


def _costs(settings: Settings, facts: Mapping[str, str]) -> dict[str, Any]:
    snapshot = cost_snapshot(settings.factory_id, facts)
    return {"cost_snapshot": snapshot} if snapshot else {}


def _names(here: Node, facts: Mapping[str, str]) -> dict[str, Any]:
    """Who says it and for the how manieth time; without both on a disk that takes nothing, where beats must go on."""
    try:
        spool = facts.get(notes.INSTANCE) or here.spool.note_once(notes.INSTANCE, clock.new_id())
        return {"instance_id": f"{spool}:{_boot()}", "beat_number": here.spool.count_up(notes.BEAT_NUMBER)}
    except sqlite3.Error:
        return {}


def _boot() -> str:
    """This boot of this machine: of two that were made from one disk image, each has its own."""
    try:
        return BOOT.read_text(encoding="ascii").strip()
    except OSError:
        return ""


def _labels(settings: Settings, workers: Sequence[WorkerRow], *, over_https: bool) -> list[str]:
    """This node's labels; of kinds, those that every mission worker can run: any of them may get the message."""
    earned = set.intersection(*(set(worker.labels) for worker in workers)) if workers else set[str]()
    override = settings.llm_provider_override
    connected = not over_https and settings.redis_delegation_enabled and _broker_answers(settings)
    if settings.policy.is_headquarters:
        return headquarters_labels(settings.policy, earned, connected, override)
    return factory_labels(settings.policy, earned, connected, override, over_https=over_https)


def _broker_answers(settings: Settings) -> bool:
    with open_own_link(settings) as client:
        return why_not_connected(client) is None


@cache
def running_version() -> str:
    """The full commit of the running code, or the package's version where there is no git checkout."""
    root = Path(__file__).resolve().parent.parent
    try:
        answer = run(["git", "rev-parse", "HEAD"], cwd=root, check=True, capture_output=True, stdin=DEVNULL, timeout=5)
        return answer.stdout.decode().strip()
    except (OSError, CalledProcessError):
        return version("corporation")

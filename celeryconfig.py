"""Every Celery setting we use, with its unit and the reason; sources are the notes on Celery and on reliability.

Nothing is read from the environment here: `configuration(settings)` is called once by `factory_tasks.app`, when a
process first needs it.
"""

import socket
from typing import Any

from kombu.entity import Exchange, Queue

from corporation.broker_link import user_in
from corporation.roles import FactoryRole, control_queue, default_queue, private_queue, slug_of
from corporation.settings import Settings
from corporation.trust.redis_profiles import FLOWER_CONTROL, FLOWER_HELD, HqUser, user_of, user_of_hq

LONGEST_MISSION_SECONDS = 86_400
"""A day. No mission runs longer (bad-input A36), so every limit below is a sum of this and some slack."""

VISIBILITY_SECONDS = 172_800
"""48 h, twice the longest mission: Redis must never hand a message out again while its first copy still runs.

A message of a dead worker is not waited for: its attempt's lease lapses within minutes and the ledger tries again."""

HEARTBEAT_TASK = "corporation.heartbeat"

ECHO_TASK = "corporation.echo"
"""Sent by HQ through a factory's own mission queue, with the argument `echo_id`: its consumer answers it."""

SWEEP_TASK = "corporation.sweep_factories"
ASK_TASK = "corporation.echo_factories"
ASK_SECONDS = 60
"""Between two looks which factories are due for an echo; each is asked every five minutes."""

STOP_TASK = "corporation.stop_attempt"
"""Sent by HQ to a factory's control queue, with the arguments `attempt_id` and `reason`."""


def configuration(settings: Settings) -> dict[str, Any]:
    """All settings for a process of this node."""
    return {
        **_broker(settings),
        **_queues(settings),
        **_messages(),
        **_delivery(),
        **_results(settings),
        **_worker(settings),
        **_beat(settings),
        **_onlooker(settings),
    }


def direct_queue(name: str, alias: str | None = None) -> Queue:
    """The queue `name` on the anonymous exchange: no binding in Redis, so nobody can bind his own queue to it too.

    A worker may be told to take from it by its `alias` as well.
    """
    return Queue(name, Exchange("", type="direct"), routing_key=name, no_declare=True, alias=alias)


def is_sealed(settings: Settings) -> bool:
    """Whether this node is a user of the broker of its own, who may use its own keys, and no pub/sub."""
    return user_in(settings.redis_url) == user_of(settings.factory_id)


def _broker(settings: Settings) -> dict[str, Any]:
    node = slug_of(settings.factory_id)
    return {
        "broker_url": settings.redis_url,
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": None,  # reconnect for ever; the default gives up and exits after 100 tries
        "broker_channel_error_retry": True,  # a Redis that refuses writes (OOM, READONLY) must not kill the worker
        "broker_connection_timeout": 5,  # seconds
        "broker_pool_acquire_timeout": 10,  # seconds; the default waits for ever for a free connection
        "broker_transport_options": {
            "visibility_timeout": VISIBILITY_SECONDS,
            "unacked_restore_interval": 10,  # seconds between sweeps for unacked messages; with throttle 10 it is 100
            "unacked_restore_throttle": 1,
            "unacked_restore_limit": 100,  # messages; bounds one sweep
            # Its own keys per node: with shared ones a worker with a short timeout re-ran everybody's missions.
            "unacked_key": f"unacked:{node}",
            "unacked_index_key": f"unacked:{node}_index",
            "unacked_mutex_key": f"unacked:{node}_mutex",
            # kombu turns redis-py's safe defaults off; without these a half-open connection hangs for ever.
            "socket_timeout": 10,  # seconds; must exceed the second that BRPOP blocks
            "socket_connect_timeout": 5,  # seconds
            "socket_keepalive": True,
            "socket_keepalive_options": _keepalive(),
            "health_check_interval": 10,  # seconds
            "client_name": f"corporation-{node}",
            # One list a queue: the dispatcher orders by priority, Redis only carries.
            "priority_steps": [0],
            # Its password may change while we run: read for each connection, by our own transport.
            "password_file": str(settings.redis_password_file) if settings.redis_password_file else None,
        },
        # One quick try; the outbox tries again, and a hanging publish would hold its rows locked.
        "task_publish_retry_policy": {"max_retries": 1, "interval_start": 0, "interval_step": 0.2, "interval_max": 0.5},
    }


def _keepalive() -> dict[int, int]:
    """Seconds until the kernel drops a dead connection: 15 idle, then 3 probes 5 apart. Not every system has them."""
    wanted = {"TCP_KEEPIDLE": 15, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 3, "TCP_USER_TIMEOUT": 20_000}
    return {getattr(socket, name): value for name, value in wanted.items() if hasattr(socket, name)}


def _queues(settings: Settings) -> dict[str, Any]:
    private = private_queue(settings.factory_id)
    names = dict.fromkeys((settings.mission_queue, private, control_queue(settings.factory_id)))
    # A factory with keys of its own shares no queue. Whoever starts its worker by hand names the queue all factories
    # know all the same, and it is this one.
    aliases = {private: default_queue(FactoryRole.LOCAL_WORKER)} if settings.mission_queue == private else {}
    return {
        "task_queues": [direct_queue(name, aliases.get(name)) for name in names],
        "task_default_queue": control_queue(settings.factory_id),
        "task_default_exchange": "",
        "task_default_routing_key": control_queue(settings.factory_id),
        "task_create_missing_queues": False,  # a slip in -Q is an error, not a silent queue nobody fills
    }


def _messages() -> dict[str, Any]:
    return {
        "task_serializer": "json",
        "result_serializer": "json",
        "accept_content": ["json"],  # no pickle from a network, ever
        "result_accept_content": ["json"],
        "task_protocol": 2,
        "timezone": "UTC",
        "enable_utc": True,
    }


def _delivery() -> dict[str, Any]:
    return {
        "task_acks_late": True,  # an early ack loses running missions on a kill and on a soft shutdown
        # Safe only because the spool refuses a second run: the message comes back, the attempt is reported as lost.
        "task_reject_on_worker_lost": True,
        "task_acks_on_failure": True,  # retries are the ledger's, never the broker's
        "task_acks_on_timeout": True,
        "task_track_started": False,  # on, a database outage acknowledged 50 of 50 tasks that never ran
        "task_soft_time_limit": LONGEST_MISSION_SECONDS,  # seconds; each mission sends its own
        "task_time_limit": LONGEST_MISSION_SECONDS + 600,
        "task_inherit_parent_priority": True,
    }


def _results(settings: Settings) -> dict[str, Any]:
    https = "factory_tasks.https_backend:HttpsBackend" if settings.hq_base_url else None
    mailbox = f"factory_tasks.mailbox:MailboxBackend+{settings.mailbox_url}" if settings.mailbox_url else https
    return {
        "result_backend": mailbox,
        "result_extended": True,  # kind, worker and queue beside the result, for people who read the table
        # For ever, and both must be given: the default stops after 3 tries in 0.2 s and then loses the result.
        "result_backend_always_retry": True,
        "result_backend_max_retries": float("inf"),
        "result_backend_base_sleep_between_retries_ms": 100,
        "result_backend_max_sleep_between_retries_ms": 10_000,
        "result_expires": None,  # a factory may not delete results; HQ will, nothing does yet
    }


def _worker(settings: Settings) -> dict[str, Any]:
    return {
        "imports": [*our_modules(), *further_modules(settings), *OWN_MODULES, *_jobs_of(settings)],
        "worker_concurrency": settings.factory_slots,
        # Hold nothing that is not running: what lies in Redis can still be looked at, and given to nobody twice.
        "worker_prefetch_multiplier": 1,
        "worker_disable_prefetch": True,
        "worker_cancel_long_running_tasks_on_connection_loss": False,  # a blip must not kill an hour of work
        "worker_soft_shutdown_timeout": 0.0,  # seconds; SIGTERM waits for what runs, the supervisor sets the limit
        "worker_max_tasks_per_child": 1000,  # bounds slow leaks; a fork costs about 10 ms
        "worker_max_memory_per_child": 1_500_000,  # KiB, looked at between missions
        # Seconds until a killed pool process's message goes back: time enough for the warden to end what it left.
        # The default of 10 would keep its slot idle so long.
        "worker_lost_wait": 2.0,
        "worker_proc_alive_timeout": 60.0,  # seconds a fresh child may take to import everything
        "worker_hijack_root_logger": False,
        "worker_redirect_stdouts": False,
        # Flower asks for them when it starts (its --enable_events); until somebody looks they would cost a third of the
        # worker's time on short missions (measured with ops/bench/throughput).
        "worker_send_task_events": False,
        "task_send_sent_event": False,
        # It goes through channels that all workers share; HQ's orders come through the node's own control queue.
        # Without it a worker speaks of itself over none of them (factory_tasks.quiet_worker).
        "worker_enable_remote_control": not is_sealed(settings),
    }


def _onlooker(settings: Settings) -> dict[str, Any]:
    """What Flower needs where it is a user of the broker of its own, who orders nothing and runs no scripts."""
    if user_in(settings.redis_url) != user_of_hq(HqUser.flower):
        return {}
    options = _broker(settings)["broker_transport_options"]
    held = {f"unacked{part}_key": f"{FLOWER_HELD}{part}" for part in ("", "_index", "_mutex")}
    return {
        "broker_transport_options": {**options, **held},  # whoever listens sweeps, and not what a worker holds
        "control_exchange": FLOWER_CONTROL,  # it must ask for workers' heartbeats somewhere, and nobody hears it there
        # Queues that expire are refreshed by a script; what a Flower that was killed leaves is one word in a set.
        "control_queue_expires": None,
        "event_queue_expires": None,
    }


OWN_MODULES = ("factory_tasks.control", "factory_tasks.system_missions")
"""What every worker knows beside its kinds; the queues decide who does it."""


def _jobs_of(settings: Settings) -> list[str]:
    """The modules with jobs that only this kind of node has."""
    return ["factory_tasks.fleet_jobs"] if _keeps_fleet(settings) else []


def _keeps_fleet(settings: Settings) -> bool:
    return settings.policy.is_headquarters and settings.database_url is not None


def our_modules() -> list[str]:
    """The modules of our own kinds; a new kind is one file, named here."""
    return ["factory_tasks.bootstrap_repo"]


def further_modules(settings: Settings) -> list[str]:
    """The modules with kinds that `UA_HANDLER_MODULES` adds."""
    return [name.strip() for name in settings.handler_modules.split(",") if name.strip()]


def _beat(settings: Settings) -> dict[str, Any]:
    jobs = {HEARTBEAT_TASK: settings.heartbeat_interval_seconds}
    more: dict[str, Any] = {}
    if _keeps_fleet(settings):
        jobs |= {SWEEP_TASK: settings.factory_sweep_seconds, ASK_TASK: ASK_SECONDS}
        # Two beats of one HQ, one of them forgotten on another machine, must not do every job twice.
        more = {"beat_scheduler": "factory_tasks.locked_scheduler:LockedScheduler"}
    return {
        "beat_schedule": {name.rpartition(".")[2]: _job(name, every, settings) for name, every in jobs.items()},
        "beat_schedule_filename": str(settings.spool_path.parent / "celerybeat-schedule"),
        "beat_max_loop_interval": 5,  # seconds
        **more,
    }


def _job(task: str, every: int, settings: Settings) -> dict[str, Any]:
    """A job of this node's control worker, `every` so many seconds; one that waited for longer is old news."""
    options = {"queue": control_queue(settings.factory_id), "expires": float(every), "ignore_result": True}
    return {"task": task, "schedule": float(every), "options": options}

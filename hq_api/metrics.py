"""What a monitor is shown, as Prometheus's text (contract http §12); everything is read when it is asked for."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from threading import Lock
from typing import Final

import redis
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from sqlalchemy import Connection

from corporation import clock
from corporation.delegation.keys import StreamKeys
from corporation.factories.signs_of_life import NEVER_SECONDS
from corporation.factories.staleness import Thresholds, judge_status
from corporation.missions.store import dead_letters, dispatching, measuring, telling
from corporation.missions.store.dispatching import FactoryRow
from corporation.missions.store.measuring import BUCKETS, History
from corporation.roles import private_queue
from corporation.trust.redis_users import refused_commands
from hq_api.stream_counts import StreamCounting, StreamCounts

STATUSES: Final = ("online", "paused", "draining", "stale", "offline", "quarantined")
HISTORY_SECONDS: Final = 30.0
"""How old a count over the whole ledger may be; a monitor asks every 15 to 60 s."""


@dataclass(frozen=True)
class Ledger:
    """What the ledger says."""

    history: History
    waiting: Mapping[str, int]
    statuses: Sequence[tuple[str, str, float]]
    """Each factory's id, its status as the dashboard shows it, and the seconds since it was heard of."""
    open_letters: int
    untold: int
    refused: Mapping[str, int]
    """By the user of the broker, how many commands it was refused."""


@dataclass(frozen=True)
class Broker:
    """What Redis says: counts of the mission stream, and how many messages lie in each factory's queue."""

    stream: StreamCounts
    depths: Mapping[str, int]


class HistoryCount:
    """The count over the whole ledger, kept for half a minute; several threads at once make one count of it."""

    def __init__(self, monotonic: Callable[[], float] = clock.monotonic) -> None:
        self._monotonic = monotonic
        self._counted: tuple[float, History] | None = None
        self._counting = Lock()

    def read(self, connection: Connection) -> History:
        """The counts, at most HISTORY_SECONDS old."""
        with self._counting:
            counted, now = self._counted, self._monotonic()
            if counted is None or now - counted[0] > HISTORY_SECONDS:
                counted = self._counted = (now, measuring.count_history(connection))
            return counted[1]


def read_ledger(connection: Connection, count: HistoryCount, thresholds: Thresholds) -> Ledger:
    """Everything that the ledger knows, in one transaction."""
    factories = dispatching.read_factories(connection)
    return Ledger(
        history=count.read(connection),
        waiting=measuring.count_waiting_reasons(connection),
        statuses=[(row.view.factory_id, _status(row, thresholds), row.silent_seconds) for row in factories],
        open_letters=dead_letters.count_open(connection),
        untold=telling.count_untold(connection),
        refused=refused_commands(connection),
    )


def read_broker(
    client: redis.Redis, counting: StreamCounting, keys: StreamKeys, factory_ids: Iterable[str], now_ms: int
) -> Broker | None:
    """Everything that Redis counts, or None when it does not answer."""
    queues = [private_queue(factory_id) for factory_id in factory_ids]
    try:
        pipeline = client.pipeline(transaction=False)
        for queue in queues:
            pipeline.llen(queue)
        lengths = pipeline.execute(raise_on_error=False)
        depths = {queue: length for queue, length in zip(queues, lengths, strict=True) if isinstance(length, int)}
        return Broker(counting.count(client, keys, now_ms), depths)
    except (redis.RedisError, OSError):
        return None


def exposition(ledger: Ledger, broker: Broker | None) -> bytes:
    """Both as Prometheus's text; what Redis did not say is left out, and `ua_redis_up` is 0 then."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Known([*_of_ledger(ledger), *_of_redis(broker)]))
    return generate_latest(registry)


class _Known(Collector):
    def __init__(self, metrics: Sequence[Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> Iterable[Metric]:
        """What was read already."""
        return self._metrics


def _of_ledger(ledger: Ledger) -> list[Metric]:
    missions = GaugeMetricFamily(
        "ua_missions_total", "Missions in the ledger, up to half a minute ago", labels=["state", "kind", "source"]
    )
    for labels, count in ledger.history.missions.items():
        missions.add_metric(labels, count)
    attempts = CounterMetricFamily("ua_attempts", "Attempts that ended, by how", labels=["outcome"])
    for outcome, count in ledger.history.attempts.items():
        attempts.add_metric([outcome], count)
    refused = CounterMetricFamily("ua_redis_refused_commands", "Commands that Redis refused a factory", labels=["user"])
    for user, count in ledger.refused.items():
        refused.add_metric([user], count)
    return [
        missions,
        attempts,
        refused,
        _starts(ledger.history),
        _labelled("ua_missions_waiting", "Missions that wait, by why", "reason", ledger.waiting),
        *_of_factories(ledger.statuses),
        GaugeMetricFamily("ua_dlq_open", "Dead letters that nobody did anything with", value=ledger.open_letters),
        GaugeMetricFamily("ua_results_unpublished", "Ends that the results stream was not told", value=ledger.untold),
    ]


def _of_factories(factories: Sequence[tuple[str, str, float]]) -> list[Metric]:
    """Every status has a number, so that an alarm on one sees it fall to 0; who was never heard of has no age."""
    statuses = [status for _, status, _ in factories]
    ages = {factory_id: seconds for factory_id, _, seconds in factories if seconds < NEVER_SECONDS}
    return [
        _labelled("ua_factories", "Factories, by status", "status", {one: statuses.count(one) for one in STATUSES}),
        _labelled("ua_heartbeat_age_seconds", "Seconds since a factory was heard of", "factory_id", ages),
    ]


def _status(row: FactoryRow, thresholds: Thresholds) -> str:
    """As it is judged now, by its silence and HQ's flags; one that is shut out is nothing else."""
    if row.view.quarantined:
        return "quarantined"
    return judge_status(row.view.status, row.silent_seconds, row.paused, thresholds, draining=row.draining)


def _starts(history: History) -> Metric:
    names = [*(str(bound) for bound in BUCKETS), "+Inf"]
    counted = list(zip(names, accumulate(history.starts), strict=True))
    family = HistogramMetricFamily("ua_publish_to_start_seconds", "From publication to the start of the last attempt")
    family.add_metric([], buckets=counted, sum_value=history.waited_seconds)
    return family


def _of_redis(broker: Broker | None) -> list[Metric]:
    up = GaugeMetricFamily("ua_redis_up", "Whether Redis answers", value=broker is not None)
    if broker is None:
        return [up]
    stream = broker.stream
    known: dict[str, tuple[str, float | None]] = {
        "ua_stream_pending": ("Entries of the mission stream that are delivered and not acknowledged", stream.pending),
        "ua_stream_lag": ("Entries of the mission stream that nobody was given yet", stream.lag),
        "ua_stream_length": ("Entries of the mission stream", stream.length),
        "ua_stream_oldest_age_seconds": (
            "At most so old is the oldest entry that nobody was given yet",
            stream.oldest_waiting_seconds,
        ),
        "ua_stream_oldest_pending_seconds": (
            "Since the oldest unacknowledged entry was delivered",
            stream.oldest_pending_seconds or 0.0,
        ),
    }
    gauges = [
        GaugeMetricFamily(name, help_, value=value) for name, (help_, value) in known.items() if value is not None
    ]
    return [up, *gauges, _labelled("ua_queue_depth", "Messages in a factory's queue", "queue", broker.depths)]


def _labelled(name: str, help_: str, label: str, values: Mapping[str, float]) -> Metric:
    family = GaugeMetricFamily(name, help_, labels=[label])
    for key, value in sorted(values.items()):
        family.add_metric([key], value)
    return family

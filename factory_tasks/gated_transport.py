"""kombu's Redis transport with a gate in front: a message is judged when it was popped, before kombu builds anything.

A stock worker dies of 14 of the 49 messages of bad-input §2, and hands 5 of them to the next worker. kombu 5.7.0 is
pinned for the methods replaced here; `tests/integration/test_gated_transport.py` fails when one of them moves. Only a
worker sets a gate: the engine, beat and Flower use the same transport as kombu made it.
"""

from collections.abc import Mapping
from pathlib import Path
from queue import Empty
from typing import Any, Final, Literal, Protocol

import redis.exceptions
import structlog
from kombu import transport
from kombu.exceptions import InconsistencyError, OperationalError
from kombu.transport import redis as kombu_redis
from kombu.utils.encoding import bytes_to_str

from corporation.broker_link import PasswordFile
from factory_tasks import scriptless_lock

log = structlog.get_logger()

_NOT_THE_MESSAGE: Final = (redis.exceptions.RedisError, OSError, InconsistencyError, OperationalError, MemoryError)
"""What the consumer deals with itself, by connecting again. kombu counts KeyError among these, which a message causes
as easily: it would be put back to its queue, for ever."""


class Gate(Protocol):
    """Who judges; the gatekeeper of a worker is one."""

    def admit(self, raw: bytes, queue: str) -> dict[str, Any] | None:
        """The message for kombu, or None when it is dealt with."""
        ...

    def admit_broadcast(self, raw: bytes, channel: str) -> bool:
        """Whether kombu may read it."""
        ...

    def consumer_failed(self, raw: bytes, queue: str, document: Mapping[str, Any], error: Exception) -> None:
        """The consumer failed on what was admitted."""
        ...

    def not_restorable(self, raw: bytes, key: str) -> None:
        """An unacknowledged message is none."""
        ...


_gates: list[Gate] = []
_closed: list[bool] = []
"""Filled while this worker is to take nothing."""


def set_gate(gate: Gate) -> None:
    """Everything this process pops from now on goes through `gate`; it replaces an earlier one."""
    _gates[:] = [gate]


def close_gate() -> None:
    """This process pops nothing from its queues from now on, but for a message that it asks for this very second.

    What lies there stays. It holds over reconnects, and from every thread; safe to call twice.
    """
    _closed[:] = [True]


def open_gate() -> None:
    """This process takes messages again within about a second; safe to call twice."""
    _closed.clear()


def install() -> None:
    """Addresses of Redis mean these transports, in this process and before its first connection; safe to call twice.

    They run no script, and read a password anew for each connection where the option `password_file` names its file.
    By their schemes, not by `broker_transport`: kombu loses that one when it fails over, and reads TLS from the scheme.
    """
    scriptless_lock.install()
    gated, sentinel = f"{__name__}:GatedTransport", f"{__name__}:GatedSentinelTransport"
    transport.TRANSPORT_ALIASES.update(redis=gated, rediss=gated, sentinel=sentinel)
    for scheme in ("redis", "rediss", "sentinel"):
        transport._transport_cache.pop(scheme, None)  # pyright: ignore[reportPrivateUsage]


class GatedQoS(kombu_redis.QoS):
    """Of the unacknowledged messages, what is none does not stop the others from being put back.

    And it is asked before each message is taken: not while the gate is closed.
    """

    def can_consume(self) -> bool:
        """Whether this worker may take another message now, or read the one that it has asked for already.

        What Redis has popped for us would otherwise lie in the socket, where neither it nor HQ can find it.
        """
        return (not _closed or bool(self.channel._in_poll)) and bool(super().can_consume())

    def restore_visible(self, start: int = 0, num: int = 10, interval: int = 10) -> None:
        """What was unacknowledged for too long lies in its queue again; what Redis refuses waits for the next time.

        Celery connects anew for each such error, and forgets the connection before it with its sockets open: a Redis
        that is full for minutes would run out of clients too.
        """
        try:
            super().restore_visible(start, num, interval)
        except redis.exceptions.ResponseError as error:
            log.warning("redis_refused_to_restore", key=self.unacked_key, why=type(error).__name__)

    def restore_by_tag(self, tag: Any, client: Any = None, leftmost: bool = False) -> None:
        """Put the message back to its queue, where it is judged again; or refuse what is no message."""
        try:
            super().restore_by_tag(tag, client, leftmost)
        except _NOT_THE_MESSAGE:
            raise
        except Exception:
            if not _gates:
                raise
            self._refuse_by_tag(tag, client)

    def _refuse_by_tag(self, tag: Any, client: Any) -> None:
        with self.channel.conn_or_acquire(client) as redis_client:
            raw = redis_client.hget(self.unacked_key, tag)
            self._remove_from_indices(tag, redis_client.pipeline()).execute()
        if raw is not None:
            _gates[0].not_restorable(raw, self.unacked_key)


class _Gated(kombu_redis.Channel):
    QoS = GatedQoS
    password_file: str | None = None
    from_transport_options = (*kombu_redis.Channel.from_transport_options, "password_file")

    def _process_credential_provider(self, credential_provider: Any, connparams: dict[str, Any]) -> None:
        """A factory's password may change while it works: connections that are made later are made with the new one."""
        if self.password_file and not credential_provider:
            credential_provider = PasswordFile(connparams["username"] or "default", Path(self.password_file))
        super()._process_credential_provider(credential_provider, connparams)

    def _brpop_read(self, **options: Any) -> Literal[True]:
        if not _gates:
            return super()._brpop_read(**options)
        try:
            queue, raw = self._popped(**options)
            document = _gates[0].admit(raw, queue)
            if document is None:
                raise Empty
            self._deliver(document, queue, raw)
            return True
        finally:
            self._in_poll = None
            self._flush_brpop_reauth()

    def _popped(self, **options: Any) -> tuple[str, bytes]:
        """As kombu does it, up to the bytes of the message."""
        try:
            answer = self.client.parse_response(self.client.connection, "BRPOP", **options)
        except self.connection_errors:
            self.client.connection.disconnect()
            raise
        if not answer:
            raise Empty
        key, raw = answer
        queue = bytes_to_str(key).rsplit(self.sep, 1)[0]
        self._queue_cycle.rotate(queue)
        return queue, raw

    def _deliver(self, document: dict[str, Any], queue: str, raw: bytes) -> None:
        try:
            self.connection._deliver(document, queue)  # pyright: ignore[reportPrivateUsage]
        except _NOT_THE_MESSAGE:
            raise
        except Exception as error:
            _gates[0].consumer_failed(raw, queue, document, error)
            self._let_go(document)

    def _let_go(self, document: Mapping[str, Any]) -> None:
        """Neither Redis nor Celery counts the message as held by this worker any more."""
        self.qos.reject(document["properties"]["delivery_tag"], requeue=False)
        # Imported here: it brings the whole worker, which the other users of this transport have no use for.
        from celery.worker import state

        # A reservation that nobody ends would take its slot away for good.
        request: Any = state.requests.get(document["headers"].get("id"))
        if request is not None and request not in state.active_requests:
            state.task_ready(request)

    def _handle_message(self, client: Any, r: Any) -> dict[str, Any]:
        told: dict[str, Any] = super()._handle_message(client, r)
        is_message = bytes_to_str(told["type"]).endswith("message")
        if _gates and is_message and not _gates[0].admit_broadcast(told["data"], bytes_to_str(told["channel"])):
            return {**told, "data": None}  # kombu passes over it
        return told

    def _deliver_fanout_message(self, message: dict[str, Any], exchange: str) -> Literal[True]:
        try:
            return super()._deliver_fanout_message(message, exchange)
        except _NOT_THE_MESSAGE:
            raise
        except Exception as error:
            if not _gates:
                raise
            _gates[0].consumer_failed(b"", exchange, message, error)
            return True


class GatedChannel(_Gated):
    """A channel to one Redis."""


class GatedSentinelChannel(_Gated, kombu_redis.SentinelChannel):
    """A channel to whichever Redis the sentinels name."""


class GatedTransport(kombu_redis.Transport):
    """`redis://` and `rediss://`."""

    Channel = GatedChannel


class GatedSentinelTransport(kombu_redis.SentinelTransport):
    """`sentinel://`"""

    Channel = GatedSentinelChannel

"""A client of the mission stream as a process of its own: it adds each mission until it was acknowledged, and notes it.

`python -m ops.bench.chaos_streams ORDERS.json`. An entry counts as accepted when headquarters' group has acknowledged
it (I5); one that a flush or an old file took away before that is added again, as any producer would that wants to be
sure. Cancels go over REST, as everybody's do.
"""

import json
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from ops.bench.chaos_clients import BREATH_SECONDS, Accepted, Client, share_of
from ops.bench.chaos_plan import Plan, Wish

MISSIONS: Final = "ua:missions:delegation"
GROUP: Final = "ua_workers"
ANSWER_SECONDS: Final = 2.0
Fate = Literal["gone", "waits", "acknowledged"]


def fate_of(entry: str, *, is_there: bool, pending: bool, delivered_up_to: str) -> Fate:
    """What became of an entry (pure), from what the stream and the group of its readers said in one transaction.

    The ids of a stream that was flushed begin anew, so one that is not there was never acknowledged for certain.
    """
    if not is_there:
        return "gone"
    read = _number(entry) <= _number(delivered_up_to)
    return "acknowledged" if read and not pending else "waits"


def _number(entry: str) -> tuple[int, int]:
    milliseconds, _, sequence = entry.partition("-")
    return int(milliseconds), int(sequence or 0)


@dataclass
class StreamClient(Client):
    """Asks on the stream for what its fellows ask over REST."""

    redis_url: str = ""
    _added: dict[str, str] = field(default_factory=dict[str, str])
    """The entry of each mission that was added and is not known to be acknowledged."""
    _redis: Any = None

    def _publish(self, batch: Sequence[tuple[Wish, str]]) -> set[str]:
        """The job_ids whose entry was acknowledged, each of which stands in the log by then."""
        try:
            self._add(batch)
            accepted = self._acknowledged()
        except (redis.RedisError, OSError) as error:
            print(repr(error), flush=True)
            accepted = set[str]()
        for wish, job_id in batch:
            if job_id in accepted:
                self._note(Accepted("imported", job_id, wish.key, job_id))
                self._remember_to_cancel(wish)
        if not accepted:
            time.sleep(BREATH_SECONDS)
        return accepted

    def _add(self, batch: Sequence[tuple[Wish, str]]) -> None:
        marks = str(self.folder / "marks")
        for wish, job_id in batch:
            if job_id not in self._added:
                order = wish.order(marks, job_id)
                fields = {"job_id": job_id, "idempotency_key": wish.key, "envelope": json.dumps(order)}
                self._added[job_id] = self._client.xadd(MISSIONS, fields).decode()

    def _acknowledged(self) -> set[str]:
        added = list(self._added.items())
        said = self._look([entry for _, entry in added])
        accepted: set[str] = set()
        for (job_id, entry), (there, pending) in zip(added, zip(said[1::2], said[2::2], strict=True), strict=True):
            fate = fate_of(entry, is_there=bool(there), pending=bool(pending), delivered_up_to=_delivered(said[0]))
            if fate != "waits":
                del self._added[job_id]
            if fate == "acknowledged":
                accepted.add(job_id)
        return accepted

    def _look(self, entries: Sequence[str]) -> list[Any]:
        """How far the group has come, and of each entry whether it is there and whether it is pending, all at once."""
        with self._client.pipeline(transaction=True) as ask:
            ask.xinfo_groups(MISSIONS)
            for entry in entries:
                ask.xrange(MISSIONS, entry, entry)
                ask.xpending_range(MISSIONS, GROUP, entry, entry, 1)
            return ask.execute()

    @property
    def _client(self) -> Any:
        if self._redis is None:
            once = Retry(NoBackoff(), 0)
            self._redis = redis.Redis.from_url(self.redis_url, socket_timeout=ANSWER_SECONDS, retry=once)
        return self._redis


def _delivered(groups: Sequence[dict[str, Any]]) -> str:
    ids = [group["last-delivered-id"].decode() for group in groups if group["name"].decode() == GROUP]
    return ids[0] if ids else "0-0"


def main() -> int:
    """Add what is to be asked for on the stream."""
    place = Path(sys.argv[1])
    orders = json.loads(place.read_text())
    plan = Plan(**orders["plan"])
    share = share_of(plan.wishes(), plan.clients, plan.clients)
    address = orders["redis_url"]
    StreamClient(place.parent, orders["port"], orders["token"], plan.clients, share, redis_url=address).run()
    return 0


if __name__ == "__main__":
    os.umask(0o077)
    raise SystemExit(main())

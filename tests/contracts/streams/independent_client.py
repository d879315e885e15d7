"""A producer and a reader of the streams as somebody outside would write them: redis-py, nothing of ours.

As a program it tries any server at which an HQ works: `UA_REDIS_URL=redis://… python independent_client.py check`.
"""

import argparse
import json
import os
import sys
import time
import uuid
from collections.abc import Iterator, Sequence
from typing import Any

import redis

PAUSE_SECONDS = 0.2


class Client:
    """What a program outside does with the three streams."""

    def __init__(
        self, url: str, missions: str = "ua:missions:delegation", dead_letters: str = "ua:missions:dlq"
    ) -> None:
        self.redis: Any = redis.Redis.from_url(url)
        self.missions, self.results, self.dead_letters = missions, f"{missions}:results", dead_letters

    def publish(self, envelope: dict[str, Any] | bytes, **siblings: str) -> str:
        """Add a mission, or bytes that are none, and return the entry's id."""
        said = envelope if isinstance(envelope, dict) else {}
        text = envelope if isinstance(envelope, bytes) else json.dumps(envelope, sort_keys=True)
        fields = {"job_id": said.get("job_id", ""), "idempotency_key": said.get("idempotency_key", "")}
        return self.redis.xadd(self.missions, {**fields, **siblings, "envelope": text}).decode()

    def newest(self, stream: str) -> str:
        """Where `stream` ends now; reading on from there shows only what comes later."""
        entries = self.redis.xrevrange(stream, count=1)
        return entries[0][0].decode() if entries else "0-0"

    def read(self, stream: str, after: str, seconds: float) -> Iterator[dict[str, Any]]:
        """The envelopes added behind `after`, until nothing came for `seconds`."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            answer = self.redis.xread({stream: after}, count=100, block=200)
            for entry_id, fields in answer[0][1] if answer else []:
                after = entry_id.decode()
                yield json.loads(fields[b"envelope"])
                deadline = time.monotonic() + seconds

    def read_results(self, after: str, seconds: float) -> Iterator[dict[str, Any]]:
        """The final words added behind `after`; the same one may come twice, and is given once (S-33)."""
        seen: set[str] = set()
        for envelope in self.read(self.results, after, seconds):
            if envelope["job_id"] not in seen:
                seen.add(envelope["job_id"])
                yield envelope

    def wait_for_result(self, job_id: str, after: str, seconds: float) -> dict[str, Any] | None:
        """The final word on `job_id`, or None when there was none for `seconds`."""
        return next((one for one in self.read_results(after, seconds) if one["job_id"] == job_id), None)

    def waits_for_nobody(self, group: str, seconds: float) -> bool:
        """Whether the group has been given and has acknowledged everything, at the latest after `seconds`."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            groups = self.redis.xinfo_groups(self.missions) if self.redis.exists(self.missions) else []
            own = next((one for one in groups if one["name"] == group.encode()), None)
            if own and own["pending"] == 0 and own["lag"] == 0:
                return True
            time.sleep(PAUSE_SECONDS)
        return False


def mission(job_id: str, task: str = "Say hello to the contract", **changes: Any) -> dict[str, Any]:
    """A mission envelope with every key a producer may leave out left out."""
    return {"job_id": job_id, "idempotency_key": f"key-{job_id}", "payload": {"task": task}} | changes


def check(client: Client, group: str, seconds: float) -> Iterator[tuple[str, bool]]:
    """What a right HQ does with good and bad entries, one statement at a time, and whether this one does it.

    The missions may end after a day or never: who runs them is not part of this check.
    """
    name = f"check-{uuid.uuid4()}"
    after = client.newest(client.dead_letters)
    client.publish(mission(f"{name}-before"))
    client.publish(b"this is no JSON", job_id=f"{name}-bad")
    client.publish(mission(f"{name}-before"))
    client.publish(mission(f"{name}-before", priority=5))
    client.publish(mission(f"{name}-twin", idempotency_key=f"key-{name}-before"))
    client.publish(mission(f"{name}-odd", mission_kind="dance", priority="3", unknown=True))
    client.publish(b"\xff\xfe", job_id=f"{name}-bytes")
    yield "every entry is acknowledged", client.waits_for_nobody(group, seconds)
    ours = [
        one for one in client.read(client.dead_letters, after, seconds) if str(one.get("job_id", "")).startswith(name)
    ]
    causes = {one.get("job_id"): one["failure_error"] for one in ours}
    raws = [one.get("raw") for one in client.read(client.dead_letters, after, 0.5) if "raw" in one]
    yield "a conflicting job_id is a dead letter", causes.get(f"{name}-before", "").startswith("job_id conflict:")
    yield "what is no JSON is a dead letter with its exact text", "this is no JSON" in raws
    yield "what is no text is a dead letter too", None in raws
    yield "neither the duplicate, nor the twin, nor the odd one is a dead letter", set(causes) <= {f"{name}-before"}
    yield (
        "each dead letter has its three keys",
        all({"failure_error", "retry_count", "job_id"} <= set(one) for one in ours),
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; 0 when all is right, 1 when not, 69 when Redis does not answer."""
    options = _parser().parse_args(arguments)
    client = Client(options.redis_url, options.stream, options.dlq)
    try:
        return _COMMANDS[options.command](client, options)
    except redis.RedisError as error:
        sys.stderr.write(f"Redis does not do what it was asked ({type(error).__name__}); check UA_REDIS_URL\n")
        return 69


def _check(client: Client, options: argparse.Namespace) -> int:
    verdicts = list(check(client, options.group, options.seconds))
    for statement, holds in verdicts:
        sys.stdout.write(f"{'ok    ' if holds else 'FAILED'}  {statement}\n")
    return 0 if all(holds for _, holds in verdicts) else 1


def _publish(client: Client, options: argparse.Namespace) -> int:
    after, job_id = client.newest(client.results), str(uuid.uuid4())
    client.publish(mission(job_id, options.task))
    sys.stdout.write(f"{job_id}\n")
    result = client.wait_for_result(job_id, after, options.seconds)
    sys.stdout.write(f"{json.dumps(result)}\n")
    return 0 if result and result["status"] == "SUCCESS" else 1


def _show(client: Client, options: argparse.Namespace) -> int:
    every = {"results": client.read_results, "dead-letters": lambda *how: client.read(client.dead_letters, *how)}
    for envelope in every[options.command]("0-0", options.seconds):
        sys.stdout.write(f"{json.dumps(envelope)}\n")
    return 0


_COMMANDS = {"check": _check, "publish": _publish, "results": _show, "dead-letters": _show}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("command", choices=_COMMANDS)
    parser.add_argument("task", nargs="?", default="Say hello to the contract", help="what to publish")
    parser.add_argument("--redis-url", default=os.environ.get("UA_REDIS_URL", "redis://127.0.0.1:6379/0"))
    parser.add_argument("--stream", default="ua:missions:delegation")
    parser.add_argument("--dlq", default="ua:missions:dlq")
    parser.add_argument("--group", default="ua_workers")
    parser.add_argument("--seconds", type=float, default=5.0, help="how long to wait for something to come")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())

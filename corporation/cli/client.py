"""HQ's REST API as typed calls: bounded tries, `Retry-After` honoured, and every failure a Refusal with its words."""

import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import quote, urlsplit

import httpx

from corporation.cli import exits
from corporation.cli.answers import detail_of, refusal_about, refusal_of
from corporation.cli.connection import Connection
from corporation.cli.exits import Refusal
from corporation.cli.output import told_when_slow
from corporation.cli.tries import LOOK_SECONDS, TRIES, answered

CONNECT_SECONDS: Final = 5.0
ANSWER_SECONDS: Final = 30.0
LOOK_ANSWER_SECONDS: Final = 12.0
"""For what only reads: HQ says within ten seconds that its ledger does not answer."""
# The log stream sends a comment at least every 15 s (H-28); twice that is silence.
STREAM_SILENCE_SECONDS: Final = 32.0
CONFLICT: Final = 409
CANNOT_BE: Final = frozenset({404, CONFLICT})
"""What is asked for is not possible for this mission, and HQ says why: no reason to leave out the next one."""
_LOOPBACK: Final = frozenset({"127.0.0.1", "localhost", "::1"})

Json = dict[str, Any]


@dataclass(frozen=True)
class Page:
    """One page of missions, newest first; `next_cursor` asks for the one after it."""

    missions: list[Json]
    next_cursor: str | None


class HqClient:
    """A connection to one HQ; use it as a context manager. Redirects are not followed: they would carry the token.

    A person before a terminal hears of a long wait, unless it is to be `silent`.
    """

    def __init__(
        self,
        connection: Connection,
        *,
        tries: int = TRIES,
        pause: Callable[[float], None] = time.sleep,
        answer_seconds: float = ANSWER_SECONDS,
        silent: bool = False,
    ) -> None:
        self.connection = connection
        self._tries = tries
        self._pause = pause
        self._answer_seconds = answer_seconds
        self._silent = silent
        self._http = httpx.Client(
            base_url=connection.base_url,
            headers={"authorization": f"Bearer {connection.token}", "user-agent": "corporation-cli"},
            timeout=httpx.Timeout(answer_seconds, connect=CONNECT_SECONDS),
            # A proxy for the outside world must not see what is meant for this machine.
            trust_env=urlsplit(connection.base_url).hostname not in _LOOPBACK,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._http.close()

    def publish(self, envelope: Json, key: str, *, wait: bool = False) -> Json:
        """The stored mission: `job_id`, `state`, `location`, `created`; the same key never makes a second one."""
        response = self._answer("POST", "/api/v1/delegation/publish", json=envelope, key=key, params=_wait(wait))
        return self._object(self._accepted(response, _target_of(envelope)))

    def publish_batch(self, envelopes: Sequence[Json], key: str, *, wait: bool = False) -> Json:
        """HQ's answer for each of at most 1000 envelopes: `accepted`, `existing`, `rejected`, `missions`."""
        body = {"missions": list(envelopes)}
        return self._object(self._call("POST", "/api/v1/delegation/publish", json=body, key=key, params=_wait(wait)))

    def factories(self, status: str | None, limit: int) -> Json:
        """HQ's registry: `registrations`, `count`, `headquarters_factory_id`."""
        given = {"limit": str(limit)} | ({"registration_status": status} if status else {})
        return self._object(self._call("GET", "/api/v1/factory/registrations", params=given))

    def workload(self) -> Json:
        """Who works on what: `factories`, `unassigned`, `updated_at`."""
        return self._object(self._call("GET", "/api/v1/ops/delegation/workload"))

    def audit(self, selection: Mapping[str, str]) -> Json:
        """One page of the audit log, the newest first: `acts`, and `next_before` when there may be more."""
        body = self._object(self._call("GET", "/api/v1/ops/audit", params=dict(selection)))
        return {**body, "acts": _objects(body.get("acts"))}

    def factory_events(self, factory_id: str, limit: int) -> list[Json]:
        """What happened to the factory last, newest first."""
        path = f"/api/v1/ops/factory/{quote(factory_id, safe='')}/events"
        body = self._object(self._call("GET", path, params={"limit": str(limit)}))
        return [event for event in body.get("events", []) if isinstance(event, dict)]

    def missions(self, filters: Mapping[str, str | int | None]) -> Page:
        """The missions that match; `filters` are the query parameters of the contract, None = not given."""
        given = {name: str(value) for name, value in filters.items() if value is not None}
        body = self._object(self._call("GET", "/api/v1/missions", params=given))
        return Page(_objects(body.get("missions")), body.get("next_cursor"))

    def mission(self, job_id: str) -> Json:
        """The whole mission with its attempts and its result."""
        return self._object(self._call("GET", _path(job_id)))

    def events(self, job_id: str, after: int = 0) -> list[Json]:
        """The events with a `seq` above `after`, oldest first, at most 1000."""
        found = self._call("GET", _path(job_id, "/events"), params={"after": str(after), "limit": "1000"})
        return _objects(self._object(found).get("events"))

    def cancel(self, job_id: str, reason: str | None) -> Json | str:
        """What is true of the mission now: `job_id` and `state`; or HQ's word why it cannot be cancelled.

        Calling again changes nothing.
        """
        body = {"reason": reason} if reason is not None else {}
        response = self._answer("POST", _path(job_id, "/cancel"), json=body)
        if response.status_code in CANNOT_BE:
            return detail_of(response)
        return self._object(self._accepted(response))

    def adopt(self, job_id: str, attempt: int, reason: str | None) -> Json | str:
        """The mission that has succeeded with that attempt's late result; or HQ's word why there is none to adopt.

        Calling again changes nothing.
        """
        body = {"attempt": attempt} | ({"reason": reason} if reason is not None else {})
        response = self._answer("POST", _path(job_id, "/adopt"), json=body)
        if response.status_code in CANNOT_BE:
            return detail_of(response)
        return self._object(self._accepted(response))

    def explanation(self, job_id: str) -> Json:
        """Why the mission is where it is: one sentence, reasons, evidence, candidates, and what would help."""
        return self._object(self._call("GET", _path(job_id, "/explain")))

    def dead_letters(self, filters: Mapping[str, str | int | None]) -> tuple[list[Json], str | None]:
        """One page of dead letters, newest first, and the cursor of the next one."""
        given = {name: str(value) for name, value in filters.items() if value is not None}
        body = self._object(self._call("GET", "/api/v1/dlq", params=given))
        return _objects(body.get("entries")), body.get("next_cursor")

    def dead_letter(self, dlq_id: str) -> Json | None:
        """The dead letter, None when there is no such one."""
        response = self._answer("GET", _dead_letter_path(dlq_id))
        return None if response.status_code == 404 else self._object(self._accepted(response))

    def replay(self, job_id: str, body: Json, *, wait: bool = False) -> Json | str:
        """The new mission: `job_id`, `replay_of`, `state`; or HQ's word why there is none.

        Calling again with the same `idempotency_key` in `body` makes no second one.
        """
        response = self._answer("POST", _path(job_id, "/replay"), json=body, params=_wait(wait))
        if response.status_code == CONFLICT:
            return detail_of(response)
        return self._object(self._accepted(response, _target_of(body.get("envelope"))))

    def replay_dead_letter(self, dlq_id: str, envelope: Json | None = None, *, wait: bool = False) -> Json:
        """The mission that runs again for this letter, as `envelope` says; the same one however often it is called."""
        body = {} if envelope is None else {"envelope": envelope}
        response = self._answer("POST", _dead_letter_path(dlq_id, "/replay"), json=body, params=_wait(wait))
        return self._object(self._accepted(response, _target_of(envelope)))

    def dead_letters_in_bulk(self, what: str, body: Json) -> Json:
        """HQ's answer to `replay` or `discard` of many: a count, or what became of them; repeating finds what is open.

        A letter that was replayed or put away before is not met again.
        """
        return self._object(self._call("POST", f"/api/v1/dlq/{what}", json=body))

    def rebuild_queues(self, *, dry_run: bool) -> Json:
        """What HQ handed out again or, in a `dry_run`, would; calling again finds nothing more to do.

        Asked once: HQ itself has waited for its engine and for Redis before it says that they did not answer.
        """
        options: Json = {"json": {"dry_run": dry_run}}
        response = self._asked(lambda: self._send("POST", "/api/v1/ops/queues/rebuild", options), 1)
        return self._object(self._accepted(response))

    def control_factory(self, order: Json, *, wait: bool = False) -> Json:
        """What is true now of the factory that the order (contract http §6) names; saying it again changes little."""
        response = self._answer("POST", "/api/v1/ops/factory/control", json=order, params=_wait(wait))
        return self._object(self._accepted(response, order.get("target_factory_id")))

    def factory_order(self, what: str, order: Json) -> Json:
        """HQ's answer to `join-codes`, `quarantine`, `release` or `rename` (contract http §5); may be repeated."""
        response = self._answer("POST", f"/api/v1/ops/factory/{what}", json=order)
        return self._object(self._accepted(response, order.get("target_factory_id")))

    def remove_factory(self, factory_id: str) -> Json:
        """How many factories of that name HQ has forgotten, credential included: 1, or 0 when it knew none."""
        response = self._answer("DELETE", f"/api/v1/factory/registrations/{quote(factory_id, safe='')}")
        return self._object(self._accepted(response, factory_id))

    def health(self) -> tuple[Json, float]:
        """What HQ says about itself, also when it is unhealthy, and how many seconds the answer took."""
        response = self._send("GET", "/api/v1/health", {})
        return self._object(response), response.elapsed.total_seconds()

    @contextmanager
    def log_stream(self, job_id: str, after: str) -> Generator[Iterator[str] | None]:
        """The lines of the mission's log stream after event id `after`, or None where HQ offers none."""
        headers = {"accept": "text/event-stream"} | ({"last-event-id": after} if after else {})
        timeout = httpx.Timeout(STREAM_SILENCE_SECONDS, connect=CONNECT_SECONDS)
        with self._http.stream("GET", _path(job_id, "/log"), headers=headers, timeout=timeout) as response:
            streams = response.headers.get("content-type", "").startswith("text/event-stream")
            yield response.iter_lines() if response.status_code == 200 and streams else None

    def _call(self, method: str, path: str, *, key: str = "", json: Any = None, params: Any = None) -> httpx.Response:
        """As `_answer`, which must be no refusal."""
        return self._accepted(self._answer(method, path, key=key, json=json, params=params))

    def _answer(self, method: str, path: str, *, key: str = "", json: Any = None, params: Any = None) -> httpx.Response:
        """The answer, after at most `tries` tries; every call may be repeated: it reads, or it carries a key."""
        options: Json = {"params": params, "headers": {"idempotency-key": key} if key else {}}
        if json is not None:
            options["json"] = json
        limit = None
        if method == "GET":
            limit = LOOK_SECONDS
            options["timeout"] = httpx.Timeout(min(self._answer_seconds, LOOK_ANSWER_SECONDS), connect=CONNECT_SECONDS)
        return self._asked(lambda: self._send(method, path, options), self._tries, limit)

    def _asked(self, send: Callable[[], httpx.Response], tries: int, limit: float | None = None) -> httpx.Response:
        """As `answered`; whoever sits before a terminal hears after a while that we still wait."""
        waits = f"waiting for HQ at {self.connection.base_url}; Ctrl-C ends that"
        with nullcontext() if self._silent else told_when_slow(waits):
            return answered(send, tries, self._pause, limit)

    def _accepted(self, response: httpx.Response, factory_id: str | None = None) -> httpx.Response:
        """The answer, which must be no refusal; `factory_id` is of whom the question was."""
        if response.status_code < 300:
            return response
        where = (self.connection.base_url, self.connection.token_from)
        raise refusal_about(factory_id, response, *where) if factory_id else refusal_of(response, *where)

    def _send(self, method: str, path: str, options: Json) -> httpx.Response:
        where = self.connection.base_url
        try:
            return self._http.request(method, path, **options)
        except httpx.ConnectError:
            raise Refusal(
                exits.UNAVAILABLE,
                f"HQ at {where} is not reached; start it with `corporation up`, or check UA_HQ_BASE_URL",
            ) from None
        except httpx.TimeoutException:
            raise Refusal(exits.TRY_LATER, f"HQ at {where} did not answer in time; run it again") from None
        except httpx.HTTPError as error:
            raise Refusal(
                exits.UNAVAILABLE, f"The talk with HQ at {where} broke off ({type(error).__name__}); run it again"
            ) from None

    def _object(self, response: httpx.Response) -> Json:
        try:
            body = response.json()
        except (ValueError, RecursionError):
            body = None
        if not isinstance(body, dict):
            raise Refusal(
                exits.SOFTWARE,
                f"What answers at {self.connection.base_url} is not Corporation's HQ; check UA_HQ_BASE_URL",
            )
        return {str(name): value for name, value in body.items()}


def _objects(value: object) -> list[Json]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _path(job_id: str, rest: str = "") -> str:
    return f"/api/v1/missions/{quote(job_id, safe='')}{rest}"


def _dead_letter_path(dlq_id: str, rest: str = "") -> str:
    return f"/api/v1/dlq/{quote(dlq_id, safe='')}{rest}"


def _target_of(envelope: object) -> str | None:
    """The factory that an order is meant for, if for one."""
    payload = envelope.get("payload") if isinstance(envelope, dict) else None
    context = payload.get("context") if isinstance(payload, dict) else None
    target = context.get("target_factory_id") if isinstance(context, dict) else None
    return target if isinstance(target, str) else None


def _wait(wait: bool) -> dict[str, str]:
    return {"wait": "true"} if wait else {}

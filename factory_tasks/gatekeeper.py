"""The gatekeeper of a worker: lets good messages in, keeps and counts the others, and answers HQ for their attempts."""

import sqlite3
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from inspect import Signature, signature
from typing import Any, Final

import structlog
from celery import Celery, signals

from corporation import clock
from corporation.federation import notes
from corporation.federation.message_frame import Reason, json_in
from corporation.federation.message_gate import (
    ECHO,
    Accepted,
    Answer,
    Refused,
    Rules,
    Trust,
    Verdict,
    answer_to,
    judge,
    judge_broadcast,
)
from corporation.federation.processes import my_identity
from corporation.federation.refused_messages import refused_message
from corporation.missions.outcomes import Failed, Stop, to_report
from corporation.roles import control_queue
from corporation.trust.keyring import public_keys
from factory_tasks import gated_transport
from factory_tasks.lifecycle import tell_now
from factory_tasks.node import Node, node

log = structlog.get_logger()

LONGEST_ECHO: Final = 100
LINES_A_MINUTE: Final = 20
"""A flood of bad messages must not fill the disk with lines; how many went unsaid is in the next one."""


def connect() -> None:
    """Every worker of this process gets its gatekeeper before it takes its first message; safe to call twice."""
    signals.celeryd_after_setup.connect(stand_at_the_gate)


def stand_at_the_gate(sender: str, instance: Any, **_: Any) -> None:
    """From here on nothing reaches the worker `instance` that was not judged."""
    gated_transport.set_gate(Gatekeeper(node(), instance.app, tell=tell_now))


def trust_of(here: Node) -> Trust | None:
    """What this node asks of a message: HQ's signature, when it was given keys."""
    if not public_keys(here.settings):
        return None
    return Trust(here.settings.factory_id, here.mission_keys)


class Gatekeeper:
    """Judges what the transport popped, by the tasks and queues of `app`; no method raises because of a message.

    `tell` is called when an answer for HQ lies in the spool.
    """

    def __init__(
        self,
        here: Node,
        app: Celery,
        now: Callable[[], datetime] = clock.utc_now,
        tell: Callable[[], None] = lambda: None,
    ) -> None:
        self._here = here
        self._app = app
        self._now = now
        self._tell = tell
        self._rules = Rules(self._signature_of, control_queue(here.settings.factory_id), trust_of(here))
        self._budget = _Budget()

    def admit(self, raw: bytes, queue: str) -> dict[str, Any] | None:
        """The message for kombu, or None when it was refused, kept and counted."""
        if queue in self._app.amqp.queues:
            document = self._let_in(judge(raw, queue, self._rules, self._now()), raw, queue)
            return None if document is not None and self._is_echo(document) else document
        return self._let_in(judge_broadcast(raw), raw, queue)  # what others answer to this process's own questions

    def admit_broadcast(self, raw: bytes, channel: str) -> bool:
        """Whether kombu may read what was told to all workers (remote control, events)."""
        return self._let_in(judge_broadcast(raw), raw, channel) is not None

    def consumer_failed(self, raw: bytes, queue: str, document: Mapping[str, Any], error: Exception) -> None:
        """The message passed, and the consumer failed on it all the same: it is refused after all."""
        # Not the error's words, which may repeat the message.
        why = f"{type(error).__name__} in the consumer"
        headers = document["headers"]
        answer = answer_to(document, Reason.consumer_failed, why) if queue in self._app.amqp.queues else None
        log.error("consumer_failed", queue=queue, error=type(error).__name__, where=_place_of(error))
        self._refuse(Refused(Reason.consumer_failed, why, headers.get("id") if answer else None, answer), raw, queue)

    def not_restorable(self, raw: bytes, key: str) -> None:
        """What lay at `key` as an unacknowledged message cannot be put back to any queue, and is gone from there."""
        self._refuse(Refused(Reason.not_restorable, "kombu cannot have written this"), raw, key)

    def _is_echo(self, document: Mapping[str, Any]) -> bool:
        """An echo is answered here, in the consumer's own loop: it asks whether that takes messages, and no slot."""
        if document["headers"]["task"] != ECHO:
            return False
        try:
            args, kwargs, _ = json_in(document["body"])
            self._here.spool.note(notes.ECHO_HEARD, str([*args, *kwargs.values()][0])[:LONGEST_ECHO])
        except (sqlite3.Error, IndexError) as error:
            log.warning("echo_not_answered", error=type(error).__name__)
        return True

    def _signature_of(self, name: str) -> Signature | None:
        task = self._app.tasks.get(name)
        return signature(task.run) if task is not None else None

    def _let_in(self, verdict: Verdict, raw: bytes, queue: str) -> dict[str, Any] | None:
        if isinstance(verdict, Accepted):
            return verdict.document
        self._refuse(verdict, raw, queue)
        return None

    def _refuse(self, refused: Refused, raw: bytes, queue: str) -> None:
        if (unsaid := self._budget.spend(clock.monotonic())) is not None:
            more = {"unsaid_before": unsaid} if unsaid else {}
            log.warning(
                "message_refused",
                queue=queue,
                reason=str(refused.reason),
                why=refused.why,
                attempt_id=refused.attempt_id,
                size=len(raw),
                **more,
            )
        try:
            self._keep(refused, raw, queue)
            if refused.answer:
                self._answer(refused.answer)
        except (sqlite3.Error, OSError, ValueError) as error:
            # A full disk, or text that no file takes: the worker goes on without a record of this one.
            log.error("refusal_not_kept", reason=str(refused.reason), error=type(error).__name__)

    def _keep(self, refused: Refused, raw: bytes, queue: str) -> None:
        if refused.reason is Reason.expired:
            self._here.refused.count(refused.reason)
            return
        at = clock.iso(self._now())
        self._here.refused.keep(refused_message(at, queue, refused.reason, refused.why, raw, refused.attempt_id))

    def _answer(self, answer: Answer) -> None:
        """The pulse of a mission worker tells HQ of it; an attempt that is known here already has an end of its own."""
        spool, at = self._here.spool, clock.iso(self._now())
        report = to_report(Stop(answer.why) if answer.permanent else Failed(answer.why))
        if spool.refuse(answer.attempt_id, answer.job_id, answer.attempt, my_identity(), at, report):
            self._tell()


def _place_of(error: Exception) -> str:
    last = traceback.extract_tb(error.__traceback__)[-1:]
    return "".join(f"{place.filename}:{place.lineno}" for place in last)


@dataclass
class _Budget:
    """LINES_A_MINUTE for each minute that begins with a line."""

    since: float = float("-inf")
    said: int = 0
    unsaid: int = 0

    def spend(self, now: float) -> int | None:
        """How many went unsaid since the last line, when there may be one now (seconds, monotonic); else None."""
        if now - self.since >= 60:
            self.since, self.said = now, 0
        if self.said >= LINES_A_MINUTE:
            self.unsaid += 1
            return None
        self.said += 1
        unsaid, self.unsaid = self.unsaid, 0
        return unsaid

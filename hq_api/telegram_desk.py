"""What a command asks of the ledger: one transaction each, and an answer in words whatever happens to it."""

from collections.abc import Callable
from typing import Final

import structlog
from sqlalchemy import Connection, Engine
from sqlalchemy.exc import SQLAlchemyError

from corporation.db import transaction
from corporation.envelope import Defaults, EnvelopeRefused, parse_strict
from corporation.errors import LedgerUnavailableError
from corporation.missions.counts import count_missions
from corporation.missions.kinds import GENERAL, resolve
from corporation.missions.queries import MissionFilter, count_waiting, list_missions
from corporation.missions.submit import Submission, submit
from corporation.settings import Settings
from hq_api import telegram_answers as answers

SOURCE: Final = "telegram"
LATEST: Final = 5

log = structlog.get_logger()


class QueueFullError(Exception):
    """Too many missions would wait; raised so that the new one is rolled back."""


class Desk:
    """The ledger as the owner sees it from a chat; every method blocks, and none raises because the ledger is away."""

    def __init__(self, ledger: Engine, settings: Settings) -> None:
        self._ledger = ledger
        self._settings = settings

    def status(self) -> str:
        """This node, and its missions by state."""
        policy, factory_id = self._settings.policy, self._settings.factory_id
        return self._answered(lambda connection: answers.status(factory_id, policy, count_missions(connection)))

    def missions(self) -> str:
        """The latest missions."""
        return self._answered(lambda connection: answers.listed(list_missions(connection, MissionFilter(), LATEST)))

    def publish(self, order_id: str, task: str) -> str:
        """The receipt for the mission `order_id`, stored once however often this is called with the same id."""
        if not self._settings.policy.can_publish_delegations:
            return answers.may_not_publish(self._settings.policy)
        # The kind is named, so that no word at the beginning of a chat message makes it another one (D4).
        document = {"payload": {"task": task}, "mission_kind": GENERAL}
        try:
            envelope = parse_strict(document, Defaults(order_id))
            submission = Submission(envelope, resolve(envelope), SOURCE)
            return self._answered(lambda connection: self._submit(connection, submission))
        except EnvelopeRefused as refusal:
            return answers.refused([problem.msg for problem in refusal.problems])
        except QueueFullError:
            return answers.too_many_wait(self._settings.waiting_limit)

    def _submit(self, connection: Connection, submission: Submission) -> str:
        [receipt] = submit(connection, [submission], self._settings.default_ttl_seconds)
        limit = self._settings.waiting_limit
        if receipt.outcome == "stored" and count_waiting(connection, limit + 1) > limit:
            raise QueueFullError
        if receipt.outcome == "conflict":
            return answers.in_conflict(receipt.job_id)
        return answers.published(receipt.job_id, receipt.state, existed=receipt.outcome == "existed")

    def _answered(self, work: Callable[[Connection], str]) -> str:
        """What `work` says, once its transaction is committed."""
        try:
            with transaction(self._ledger) as connection:
                return work(connection)
        except (LedgerUnavailableError, SQLAlchemyError) as error:
            # Also a database that is not migrated yet: the owner hears of it, and the next command may fare better.
            log.warning("telegram_ledger_away", error=type(error).__name__)
            return answers.LEDGER_AWAY

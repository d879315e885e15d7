"""A ledger at work whose factories also ask for missions over HTTPS and bring their results home there."""

from typing import Any

import builders
from ledger_at_work import AT_ONCE, LedgerAtWork

from corporation import clock
from corporation.db import transaction
from corporation.missions.claim import Claim, claim
from corporation.missions.outcomes import Done, Outcome, to_report
from corporation.missions.results import Answer, Result, take_result
from corporation.missions.retry import RetryPolicy
from corporation.missions.store.claiming import ClaimedAttempt
from corporation.missions.store.leases import Renewed, Sign, renew

LABELS = (*builders.ALL_LABELS, "transport:http")


class LedgerOverHttps(LedgerAtWork):
    """The steps of HQ's two routes, in a transaction each, beside all others."""

    def claim(self, factory_id: str = "desk-7", most: int = 32, **changes: Any) -> list[ClaimedAttempt]:
        """The factory asks, and holds what is returned."""
        with transaction(self.engine) as connection:
            return claim(connection, Claim(factory_id, most, **changes), 180, clock.new_id).attempts

    def claimed(self, *job_ids: str, **changes: Any) -> list[str]:
        """Publish these and claim them at desk-7; the attempt ids are returned in the order of `job_ids`."""
        self.beat(labels=LABELS, slots=0)
        self.publish(*job_ids, **changes)
        ours = {one.job_id: one.attempt_id for one in self.claim(most=len(job_ids))}
        return [ours[job_id] for job_id in job_ids]

    def bring(
        self,
        attempt_id: str,
        outcome: Outcome | None = None,
        *,
        speaker: str | None = None,
        policy: RetryPolicy = AT_ONCE,
    ) -> Answer:
        """A result comes over HTTPS; without an outcome it is a success."""
        report = to_report(outcome or Done({}))
        result = Result(attempt_id, report, report, worker=speaker or "")
        with transaction(self.engine) as connection:
            return take_result(connection, result, speaker, policy, lambda: 0.5)

    def hear(self, *attempt_ids: str, factory_id: str = "", lease_seconds: float = 180) -> dict[str, Renewed]:
        """The factory that holds them says that it works on these attempts."""
        holders = self.sql(
            "SELECT id, factory_id FROM corporation.attempts WHERE id::text = ANY(:ids)", ids=list(attempt_ids)
        )
        heard: dict[str, Renewed] = {}
        for one in holders:
            with transaction(self.engine) as connection:
                heard |= renew(connection, factory_id or one.factory_id, [Sign(one.id)], lease_seconds)
        return heard

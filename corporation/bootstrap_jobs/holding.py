"""A worker of somebody else has a bootstrap job: claimed, begun and brought home over HTTPS (contract http §11).

It speaks of jobs and knows no attempts; which attempt it means is the one that it holds, or held last.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Connection

from corporation.bootstrap_jobs import store
from corporation.bootstrap_jobs.backends import HTTP, Sight
from corporation.bootstrap_jobs.records import backend_of, report_of, status_of
from corporation.bootstrap_jobs.store import JobRow, Taken, Tried
from corporation.masking import hide_shapes
from corporation.missions.claim import claimable, kept_away
from corporation.missions.results import Late, Result, take_result
from corporation.missions.retry import RetryPolicy
from corporation.missions.store import cancelling, claiming, leases, withdrawing
from corporation.missions.store.claiming import Handover
from corporation.missions.store.leases import Sign
from corporation.roles import private_queue
from corporation.strict_json import dump
from corporation.wakeups import SEND, wake

KIND: Final = "bootstrap_repo"
NOBODY: Final = "external"
"""What a worker is called that says no name."""
MOST_LOOKED_AT: Final = 200
LONGEST_QUEUE: Final = 155
"""Characters of a queue's name that the mailbox takes."""


@dataclass(frozen=True)
class Worker:
    """Who speaks: `worker_id` as it says, None when it does not; `bound` when its token is its factory's own."""

    worker_id: str | None
    factory_id: str
    bound: bool

    @property
    def name(self) -> str:
        """As it is shown."""
        return self.worker_id or self.factory_id

    def is_of(self, factory_id: str | None, worker_id: str | None) -> bool:
        """Whether an attempt of this factory and worker is this one's. Who says no name means whoever of them it is."""
        if self.bound and factory_id != self.factory_id:
            return False
        return self.worker_id in (None, worker_id) or (worker_id is None and factory_id == self.factory_id)


@dataclass(frozen=True)
class Unknown:
    """There is no such job."""


@dataclass(frozen=True)
class NotTheirs:
    """The job is another worker's, or is over; `why` says which. Do not try again."""

    why: str


def worker_of(connection: Connection, worker_id: str | None, bound_to: str | None) -> Worker:
    """Who says that it is `worker_id`, with a token of the factory `bound_to` or an operator's when that is None."""
    if bound_to is not None:
        return Worker(worker_id, bound_to, bound=True)
    known = store.factory_of(connection, worker_id) if worker_id else None
    return Worker(worker_id, known or worker_id or NOBODY, bound=False)


def claim(
    connection: Connection, worker: Worker, sight: Sight, claim_ttl_seconds: int, new_id: Callable[[], str]
) -> JobRow | None:
    """The worker holds the oldest job that waits to be asked for, or None when there is none for it now.

    Also one that the dispatcher meant for a factory, as long as its message is with HQ (http §8: whoever claims first).
    What was sent is that factory's: it may run there already, and HQ hears of it with the next beat.
    """
    if not _may_take(connection, worker):
        return None
    for job in store.waiting_jobs(connection, MOST_LOOKED_AT):
        backend = backend_of(job, sight)
        if backend.name == HTTP and _hold(connection, job, worker, claim_ttl_seconds, new_id, unsent_too=True):
            store.set_backend(connection, job.mission_id, backend.name, backend.reason)
            return store.find(connection, job.job_id)
    return None


def start(
    connection: Connection, job_id: str, worker: Worker, claim_ttl_seconds: int, new_id: Callable[[], str]
) -> JobRow | Unknown | NotTheirs:
    """The worker runs the job, from now on if it did not already; the same again is answered in the same way.

    One that nobody holds becomes its own with it, by whichever way it was to be had.
    """
    job = store.find(connection, job_id)
    if job is None:
        return Unknown()
    store.lock(connection, job.mission_id)
    if status_of(job.state) == "queued" and _may_take(connection, worker):
        _hold(connection, job, worker, claim_ttl_seconds, new_id, unsent_too=job.backend == HTTP)
    held = store.find(connection, job_id)
    if held is None or held.attempt_id is None or status_of(held.state) != "running":
        return NotTheirs(
            "it is not to be had: it is over, rests after a failure or lies with a factory, or you are paused"
        )
    if not worker.is_of(held.factory_id, held.worker_id):
        return NotTheirs("another worker has it")
    sign = Sign(UUID(held.attempt_id))
    leases.renew(connection, held.factory_id or "", [sign], lease_of(held, claim_ttl_seconds))
    return store.find(connection, job_id) or Unknown()


def finish(
    connection: Connection,
    job_id: str,
    worker: Worker,
    said: Mapping[str, str],
    policy: RetryPolicy,
    chance: Callable[[], float],
    hide: Callable[[str], str] = hide_shapes,
    *,
    completed: bool,
) -> JobRow | Unknown | NotTheirs:
    """The job has ended or waits for its next attempt; the same again has the same effect, which is none.

    A result of who does not hold it any more is kept as evidence and refused. `hide` takes secrets out of a failure.
    """
    job = store.find(connection, job_id)
    if job is None:
        return Unknown()
    body = {**said, "completed": completed}
    report = report_of(job, worker.name, said, hide, completed=completed)
    meant = _meant(connection, job, worker, Result("", report, body).digest)
    if meant is None:
        return NotTheirs("another worker has it, or nobody")
    result = Result(meant.attempt_id, report, body, worker=worker.name)
    answer = take_result(connection, result, worker.factory_id if worker.bound else None, policy, chance)
    if isinstance(answer, Late):
        return NotTheirs("your claim is over; the result is kept")
    return store.find(connection, job_id) or Unknown()


def lease_of(job: JobRow, claim_ttl_seconds: int) -> float:
    """For how long its worker may be silent: it says nothing between its claim and its result (H-35)."""
    return float(max(claim_ttl_seconds, job.timeout_seconds + 60))


def _meant(connection: Connection, job: JobRow, worker: Worker, digest: bytes) -> Tried | None:
    """The attempt that the worker speaks of: the one it holds, else the one it said this of before, else its last."""
    theirs = [
        one for one in store.attempts_of(connection, job.mission_id) if worker.is_of(one.factory_id, one.worker_id)
    ]
    held = next((one for one in theirs if one.attempt_id == job.attempt_id), None)
    if held is not None and job.finished_at is None:
        return held
    return next((one for one in theirs if one.digest == digest), theirs[0] if theirs else None)


def _may_take(connection: Connection, worker: Worker) -> bool:
    """Whether the factory is to be given such a job: it is not kept away, and its labels, if it said any, allow."""
    claimer = claiming.read_claimer(connection, worker.factory_id)
    paused = claimer is not None and kept_away(claimer)
    return KIND in claimable([KIND], claimer, paused=paused)


def _hold(
    connection: Connection,
    job: JobRow,
    worker: Worker,
    claim_ttl_seconds: int,
    new_id: Callable[[], str],
    *,
    unsent_too: bool,
) -> bool:
    """The worker holds the job, if nobody else does or changes it at this moment; with `unsent_too` also one that is
    meant for another factory and was not sent to it."""
    now = store.take(connection, job.mission_id)
    if now is None:
        return False
    detail: dict[str, Any] = {"over": "https", "worker_id": worker.name}
    queue = private_queue(worker.factory_id)[:LONGEST_QUEUE]
    to = Handover(worker.factory_id, queue, worker.name, lease_of(job, claim_ttl_seconds), dump(detail))
    if now.state == "waiting" and not now.resting:
        claiming.claim_waiting(connection, [(job.mission_id, now.attempt, new_id())], to)
        return True
    if now.state == "queued" and now.attempt_id and now.factory_id == worker.factory_id:
        claiming.claim_queued(connection, [now.attempt_id], to)
        return True
    if unsent_too and _take_from_outbox(connection, now, worker):
        claiming.claim_waiting(connection, [(job.mission_id, now.attempt, new_id())], to)
        return True
    return False


def _take_from_outbox(connection: Connection, now: Taken, worker: Worker) -> bool:
    """The attempt that was meant for another factory and not sent is over and used up nothing; its mission waits."""
    if now.attempt_id is None or not now.unsent:
        return False
    withdrawing.unsend(connection, [now.attempt_id])
    why = f"{worker.name} asked for it over HTTPS before it was sent to {now.factory_id}"
    back = withdrawing.withdraw(connection, {now.attempt_id: why})
    # What a sender holds at this moment goes out all the same; the order takes it from the queue again.
    cancelling.order_stop(connection, sorted(back))
    wake(connection, SEND)
    return bool(back)

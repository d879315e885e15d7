"""The mistakes that can be built into the product, each by changing one thing in the process that it is loaded into.

A mistake that finds nothing to change any more raises DoesNotApply: it would otherwise pass for one that was noticed.
Modules of a process are imported inside, since no process has all of them.
"""

# pyright: reportPrivateUsage=false
import threading
import time
from collections.abc import Sequence
from typing import Any, Final

from sqlalchemy import text

WIDER_SECONDS: Final = 0.15
"""The wrong moment lasts so long, that the chaos hits it on a busy machine too."""
LIVE: Final = "IN ('queued', 'claimed', 'running')"


class DoesNotApply(Exception):
    """The product does not look as this mistake expects."""


def reword(module: Any, name: str, *changes: tuple[str, str]) -> None:
    """The statement `name` of `module` has each `old` replaced by `new`."""
    statement = str(getattr(module, name))
    for old, new in changes:
        if old not in statement:
            raise DoesNotApply(f"{module.__name__}.{name} does not hold {old!r}")
        statement = statement.replace(old, new)
    setattr(module, name, text(statement))


# HQ's engine.


def take_any_report() -> None:
    """A report counts whichever attempt it is about, as long as its mission is under way (fence)."""
    from corporation.missions.store import finishing, reporting

    reword(reporting, "STANDINGS", (f"a.state {LIVE} AND m.attempt_id = a.id", "true"))
    for name in ("END", "TRY_AGAIN"):
        reword(finishing, name, ("m.attempt_id = g.attempt_id AND", ""))


def end_what_has_ended() -> None:
    """A report counts although its mission has ended; the ledger's own refusals are gone (`NO_REFUSALS`)."""
    from corporation.missions.store import finishing, reporting

    reword(reporting, "STANDINGS", (f"a.state {LIVE} AND m.attempt_id = a.id", "true"), (f"AND m.state {LIVE}", ""))
    reword(finishing, "END", (f"m.attempt_id = g.attempt_id AND m.state {LIVE}", "true"))


NO_REFUSALS: Final = """
    DROP TRIGGER a_final_mission_never_changes ON corporation.missions;
    DROP INDEX corporation.one_final_event_per_mission;
"""


def mark_before_sending() -> None:
    """A message counts as sent before Redis has it (outbox)."""
    from corporation.db import transaction
    from corporation.engine.sender import Sender
    from corporation.missions.store import sending

    def tick(self: Any) -> bool:
        with transaction(self.ledger) as connection:
            messages = sending.take_unsent(connection, self.batch)
            sending.mark_sent(connection, [message.outbox_id for message in messages])
        if messages:
            time.sleep(WIDER_SECONDS)
            self.broker.send(messages)
        return len(messages) == self.batch

    Sender.tick = tick


def send_everything_twice() -> None:
    """Each message is put on its queue two times; the spool has to drop the copy."""
    from factory_tasks.broker import CeleryBroker

    send = CeleryBroker.send

    def twice(self: CeleryBroker, messages: Sequence[Any]) -> None:
        send(self, [*messages, *messages])

    CeleryBroker.send = twice


def collect_before_applying() -> None:
    """A report counts as collected before it is applied; a crash between the two throws it away."""
    from corporation.missions.store import reporting

    take, mark = reporting.take_letters, reporting.mark_collected

    def take_and_mark(connection: Any, limit: int) -> list[Any]:
        with connection.engine.begin() as other:
            letters = take(other, limit)
            mark(other, [letter.letter_id for letter in letters])
        if letters:
            time.sleep(WIDER_SECONDS)
        return letters

    reporting.take_letters = take_and_mark


def rescue_by_age() -> None:
    """An attempt is given up because it is old, although its factory speaks of it (lease)."""
    from corporation.missions.store import leases

    reword(leases, "LAPSED", ("a.lease_expires_at < now()", "a.created_at < now() - interval '5 seconds'"))


def count_a_retry_twice() -> None:
    """A retry uses up two attempts."""
    from corporation.missions.store import finishing

    reword(finishing, "TRY_AGAIN", ("SET state = 'waiting',", "SET state = 'waiting', attempt = m.attempt + 1,"))


def keep_quiet_about_retries() -> None:
    """A retry leaves no event."""
    from corporation.missions.store import finishing

    reword(finishing, "TRY_AGAIN", ("      FROM back\n", "      FROM back WHERE false\n"))


def quarantine_at_once() -> None:
    """A mission that took one worker down gets no other."""
    from corporation.missions import finish

    if not hasattr(finish, "WORKERS_LOST_LIMIT"):
        raise DoesNotApply("corporation.missions.finish has no WORKERS_LOST_LIMIT")
    finish.WORKERS_LOST_LIMIT = 1


def address_the_wrong_factory() -> None:
    """A message is put on the queue of another factory than the attempt's (S-24)."""
    from corporation.missions.store import dispatching
    from corporation.roles import private_queue

    others = {"alpha": "beta", "beta": "alpha"}
    if not hasattr(dispatching, "private_queue"):
        raise DoesNotApply("dispatching does not name the queues any more")
    dispatching.private_queue = lambda factory_id: private_queue(others.get(factory_id, factory_id))


def mark_before_telling() -> None:
    """An end counts as told before it is on the results stream (S-33)."""
    from corporation.db import transaction
    from corporation.delegation.codec import LARGEST_RESULT
    from corporation.delegation.publisher import RESULTS, Publisher
    from corporation.missions.store import telling

    def tell(self: Any) -> bool:
        with transaction(self.ledger) as connection:
            ends = telling.take_ends(connection, RESULTS, LARGEST_RESULT)
            telling.mark_ends(connection, [(end, "0-1") for end in ends])
        if ends:
            time.sleep(WIDER_SECONDS)
        self._judge(self.keys.results, self._add(self.keys.results, [self._result(end) for end in ends]))
        return len(ends) == RESULTS

    if not hasattr(Publisher, "_tell_ends"):
        raise DoesNotApply("the publisher tells ends in another way")
    Publisher._tell_ends = tell


# HQ's API.


def answer_before_the_commit() -> None:
    """A publisher hears 202 a moment before its mission is committed (I5)."""
    from hq_api.publishing import publish
    from hq_api.routers import missions

    def answer(ledger: Any, entries: list[Any], rules: Any) -> list[Any]:
        connection = ledger.connect()
        begun = connection.begin()
        verdicts = publish(connection, entries, rules)

        def commit() -> None:
            time.sleep(4 * WIDER_SECONDS)
            begun.commit()
            connection.close()

        threading.Thread(target=commit, daemon=True).start()
        return verdicts

    if not hasattr(missions, "_publish"):
        raise DoesNotApply("the route publishes in another way")
    missions._publish = answer


def start_again_and_again() -> None:
    """A running mission starts once more with each sign of life: no state is named (I3)."""
    from corporation.missions.store import leases

    changes = ("AND m.state IN ('queued', 'claimed')", ""), ("AND a.state IN ('queued', 'claimed')", "")
    reword(leases, "START", *changes)


def know_no_keys() -> None:
    """A mission is known by its job_id alone; the ledger's own refusal is gone (`NO_UNIQUE_KEY`, I9)."""
    from corporation.missions.store import submitting

    reword(submitting, "FIND_KNOWN", ("OR m.idempotency_key = ANY(CAST(:keys AS text[]))", ""))


NO_UNIQUE_KEY: Final = "ALTER TABLE corporation.missions DROP CONSTRAINT missions_idempotency_key_key"


# A factory's workers.


def forget_every_attempt() -> None:
    """The spool does not know an attempt again: a second copy of its message runs it again (I3)."""
    from corporation.federation.spool import Spool

    accept = Spool.accept

    def forgetful(self: Any, attempt_id: str, *rest: Any) -> Any:
        with self._write() as db:
            db.execute("DELETE FROM attempts WHERE attempt_id = ?", (attempt_id,))
        return accept(self, attempt_id, *rest)

    Spool.accept = forgetful


def run_again_after_a_death() -> None:
    """An attempt whose process died at work is run again as the same attempt, when its message comes back (I3)."""
    from corporation.federation.processes import ProcessIdentity, is_alive
    from corporation.federation.spool import Spool

    accept = Spool.accept

    def forgetful(self: Any, attempt_id: str, *rest: Any) -> Any:
        with self._write() as db:
            query = "SELECT owner_pid, owner_born FROM attempts WHERE attempt_id = ?"
            row = db.execute(query, (attempt_id,)).fetchone()
            if row is not None and not is_alive(ProcessIdentity(row["owner_pid"], row["owner_born"])):
                db.execute("DELETE FROM attempts WHERE attempt_id = ?", (attempt_id,))
        return accept(self, attempt_id, *rest)

    Spool.accept = forgetful
    Spool.bury_the_dead = lambda self: 0


def report_before_spooling() -> None:
    """A report is told first and written down afterwards: a death while HQ is away does the work twice."""
    from corporation.federation.spool import Spool

    finish, mark = Spool.finish, Spool.mark_reported
    kept: dict[str, Any] = {}

    def later(self: Any, attempt_id: str, report: Any) -> bool:
        kept[attempt_id] = report
        return True

    def now(self: Any, attempt_id: str) -> None:
        if attempt_id in kept:
            finish(self, attempt_id, kept.pop(attempt_id))
        mark(self, attempt_id)

    Spool.finish, Spool.mark_reported = later, now


def forget_to_cancel() -> None:
    """Whoever wants a mission cancelled is told that it is, and nothing happens."""
    from corporation.missions.cancel import Cancelling
    from hq_api.routers import cancelling

    def forget(_: Any, job_id: str, *__: Any) -> Cancelling | None:
        return Cancelling(job_id, "cancelled") if job_id.startswith("m-") else None

    cancelling.cancel = forget


def leave_children_alone() -> None:
    """Nobody ends what a mission started when its process dies."""
    from factory_tasks import attempt_mark, process_tree, tether

    def untethered(argv: list[str], *, grace_seconds: float) -> list[str]:
        return argv

    def end_nobody(*_: Any, **__: Any) -> int:
        return 0

    tether.tethered = untethered
    process_tree.end = attempt_mark.end = end_nobody


def go_on_unheard() -> None:
    """A factory that says once that it runs an attempt, and does not stop what HQ no longer counts on.

    No mistake by itself: so does one that cannot be heard. Its attempts are lost for certain when their leases lapse.
    """
    from factory_tasks import heartbeat, reporter

    is_due = reporter.LiveReporter._is_due

    def once(self: Any, now: float) -> bool:
        return self._told_at == float("-inf") and is_due(self, now)

    def never(_: Any) -> None:
        return None

    def nothing(_: Any) -> list[Any]:
        return []

    reporter.LiveReporter._is_due = once
    reporter.why_to_stop, heartbeat.orders_in = never, nothing


def say_done_without_doing() -> None:
    """Each tenth mission is reported as done and never run."""
    from corporation.missions.outcomes import Done
    from factory_tasks import mission_task

    answer = mission_task._answer

    def lazy(registration: Any, mission: Any) -> Any:
        if mission.job_id.endswith("7"):
            return Done({"attempt_id": mission.attempt_id})
        return answer(registration, mission)

    mission_task._answer = lazy


def acknowledge_nothing() -> None:
    """What a worker has taken from Redis stays there as taken (I7)."""
    from kombu.transport import virtual
    from kombu.transport.redis import QoS

    if "ack" not in vars(QoS):
        raise DoesNotApply("kombu acknowledges in another way")
    QoS.ack = virtual.QoS.ack


def let_secrets_out() -> None:
    """Nothing is masked in what a mission says, nor in the log (I10)."""
    from corporation.masking import Mask

    def all_of_it(_: Any, value: Any) -> Any:
        return value

    if "text" not in vars(Mask):
        raise DoesNotApply("secrets are masked in another way")
    mask: Any = Mask
    mask.text = mask.__call__ = all_of_it


def count_limits_by_the_wall_clock() -> None:
    """How long an attempt has run is reckoned from a clock that somebody may set meanwhile (I11)."""
    from corporation import clock
    from corporation.missions.outcomes import TimedOut
    from factory_tasks import mission_task

    answer = mission_task._answer

    def by_the_clock(registration: Any, mission: Any) -> Any:
        began = clock.utc_now()
        outcome = answer(registration, mission)
        ran = (clock.utc_now() - began).total_seconds()
        return TimedOut(f"it ran for {ran:.0f} s") if ran > LONGEST_RUN_SECONDS else outcome

    mission_task._answer = by_the_clock


LONGEST_RUN_SECONDS: Final = 600.0


def keep_a_handle_of_every_report() -> None:
    """Each report that is collected leaves a file open (I12)."""
    import os

    from corporation.missions.store import reporting

    take = reporting.take_letters
    kept: list[int] = []

    def take_and_keep(connection: Any, limit: int) -> list[Any]:
        letters = take(connection, limit)
        kept.extend(os.open(os.devnull, os.O_RDONLY) for _ in letters)
        return letters

    reporting.take_letters = take_and_keep

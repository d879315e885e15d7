"""The steps of a mission in any order, with crashes, copies and silence between them: it ends once, whatever happens.

hypothesis chooses the order. Messages are never used up, which models redelivery, copies and lateness at once.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any
from unittest.mock import Mock

import pytest
from examples import times
from history import assert_history_is_whole
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from ledger_at_work import AT_ONCE, EMPTY, LedgerAtWork
from sqlalchemy import Engine, text
from sqlalchemy.exc import IntegrityError

from corporation.db import transaction
from corporation.missions.cancel import CancelRefused
from corporation.missions.collect import collect_some
from corporation.missions.outbox import send_some
from corporation.missions.outcomes import Cancelled, Done, Failed, Later, Lost, Outcome, Stop
from corporation.missions.store import finishing, leases, reporting
from corporation.missions.store.sending import AttemptMessage

OUTCOMES: Sequence[Outcome] = (
    Done({}),
    Failed("no"),
    Stop("never"),
    Later(0, "not now"),
    Lost("its process died"),
    Cancelled("told to"),
)
MOST_MISSIONS = 3
ROUNDS_TO_THE_END = 40
IN_MODERATION = settings(
    max_examples=times(25, 1000),
    stateful_step_count=30,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
)
UNTIL_NOTICED = settings(IN_MODERATION, max_examples=300, phases=[Phase.generate], report_multiple_bugs=False)
"""For what ends at the first failure."""
SOON = 4
"""From this seed most mistakes are met within ten runs; from any other one they are met later."""


class CrashError(Exception):
    """The process dies here: what was not committed never was."""


class AnyOrder(RuleBasedStateMachine):
    """HQ's steps on a real ledger, and a factory that is nothing but its spool and the effects of its work."""

    engine: Engine
    spool_forgets = False

    @initialize()
    def begin(self) -> None:
        with self.engine.begin() as connection:
            connection.execute(EMPTY)
        self.ledger = LedgerAtWork(self.engine)
        self.published = 0
        self.spool: dict[str, Outcome | None] = {}
        self.effects = Counter[str]()
        self.silent: set[str] = set()
        self.ledger.beat(slots=2)

    @precondition(lambda self: self.published < MOST_MISSIONS)
    @rule(max_retries=st.sampled_from([0, 2, 3]))
    def publish(self, max_retries: int) -> None:
        self.published += 1
        self.ledger.publish(f"j-{self.published}", max_retries=max_retries)

    @rule()
    def dispatch(self) -> None:
        self.ledger.end_backoff()
        self.ledger.dispatch()

    @rule(dies=st.booleans())
    def send(self, dies: bool) -> None:
        with suppress(CrashError), transaction(self.engine) as connection:
            send_some(connection, self.ledger.broker, 500)
            if dies:
                raise CrashError

    @precondition(lambda self: self.messages)
    @rule(data=st.data(), is_told=st.booleans())
    def a_message_arrives(self, data: st.DataObject, is_told: bool) -> None:
        message = data.draw(st.sampled_from(self.messages))
        self._receive(message)
        if is_told:
            self._speak_of(message.attempt_id)

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def a_beat_names_it(self, data: st.DataObject) -> None:
        self._speak_of(data.draw(st.sampled_from(self.running)))

    @precondition(lambda self: self.running)
    @rule(data=st.data(), outcome=st.sampled_from(OUTCOMES))
    def it_reports(self, data: st.DataObject, outcome: Outcome) -> None:
        self._report(data.draw(st.sampled_from(self.running)), outcome)

    @precondition(lambda self: self.published)
    @rule(data=st.data())
    def somebody_cancels(self, data: st.DataObject) -> None:
        """What runs, if something does: chosen among all, that would hardly ever be."""
        running = self.ledger.sql("SELECT job_id FROM corporation.missions WHERE state = 'running' ORDER BY id")
        every = [f"j-{number}" for number in range(1, self.published + 1)]
        with suppress(CancelRefused):
            self.ledger.cancel(data.draw(st.sampled_from([row.job_id for row in running] or every)))

    @rule(dies=st.booleans())
    def collect(self, dies: bool) -> None:
        with suppress(CrashError), transaction(self.engine) as connection:
            collect_some(connection, AT_ONCE, lambda: 0.5, 500)
            if dies:
                raise CrashError

    @precondition(lambda self: self.live)
    @rule(data=st.data())
    def a_lease_runs_out(self, data: st.DataObject) -> None:
        attempt_id = data.draw(st.sampled_from(self.live))
        self.silent.add(attempt_id)
        self.ledger.lapse(attempt_id)

    @rule()
    def rescue(self) -> None:
        before = set(self.live)
        self.ledger.rescue(AT_ONCE)
        taken = before - set(self.live)
        assert taken <= self.silent, "an attempt was taken from a factory that was not silent"

    @invariant()
    def every_history_is_whole(self) -> None:
        with self.engine.connect() as connection:
            assert_history_is_whole(connection)

    @invariant()
    def no_attempt_has_two_effects(self) -> None:
        assert all(count == 1 for count in self.effects.values()), f"I3: {self.effects}"

    def teardown(self) -> None:
        """Once nothing goes wrong any more, everything ends, and what succeeded was really done."""
        for _ in range(ROUNDS_TO_THE_END):
            if not self.ledger.sql("SELECT 1 FROM corporation.missions WHERE finished_at IS NULL"):
                break
            self._go_on()
        missions = self.ledger.sql("SELECT job_id, state, adopted_from FROM corporation.missions")
        assert all(one.state in ("succeeded", "failed", "cancelled") for one in missions), (
            f"never ended (I1): {missions}"
        )
        self.every_history_is_whole()
        for one in missions:
            made = [one.adopted_from] if one.adopted_from else [own.id for own in self.ledger.attempts(one.job_id)]
            done = [attempt_id for attempt_id in made if self.effects[str(attempt_id)]]
            assert one.state != "succeeded" or done, f"{one.job_id} succeeded and nobody did it"

    def _go_on(self) -> None:
        self.ledger.lapse(*(one for one in self.live if one in self.silent and one not in self.spool))
        self.rescue()
        self.dispatch()
        self.send(dies=False)
        for message in self.messages:
            self._receive(message)
        for attempt_id in self.running:
            asked = self.ledger.hear(attempt_id).get(attempt_id)
            self._report(attempt_id, Cancelled("told to") if asked and asked.cancel_reason else Done({}))
        self.collect(dies=False)

    @property
    def messages(self) -> list[AttemptMessage]:
        return self.ledger.broker.sent

    @property
    def running(self) -> list[str]:
        return [attempt_id for attempt_id, outcome in self.spool.items() if outcome is None]

    @property
    def live(self) -> list[str]:
        rows = self.ledger.sql(
            "SELECT id FROM corporation.attempts WHERE finished_at IS NULL"
            "   AND NOT EXISTS (SELECT 1 FROM corporation.outbox WHERE attempt_id = attempts.id)"
            " ORDER BY created_at, id"
        )
        return [str(row.id) for row in rows]

    def _is_current(self, attempt_id: str) -> bool:
        return bool(self.ledger.sql("SELECT 1 FROM corporation.missions WHERE attempt_id::text = :id", id=attempt_id))

    def _receive(self, message: AttemptMessage) -> None:
        """What a factory does: an attempt that its spool knows is not run again."""
        self.ledger.broker.hand_over(message)
        if message.attempt_id not in self.spool or self.spool_forgets:
            self.spool.setdefault(message.attempt_id, None)
            self.effects[message.attempt_id] += 1

    def _speak_of(self, attempt_id: str) -> None:
        if self.ledger.hear(attempt_id):
            self.silent.discard(attempt_id)
            assert self._is_current(attempt_id), "a renewal of an attempt that its mission does not hold (I4)"

    def _report(self, attempt_id: str, outcome: Outcome) -> None:
        self.spool[attempt_id] = outcome
        self.ledger.report(attempt_id, outcome)


def machine(engine: Engine, **changes: Any) -> type[AnyOrder]:
    """The machine on this ledger."""
    return type("AnyOrderHere", (AnyOrder,), {"engine": engine, **changes})


def test_a_mission_ends_once_in_whatever_order_its_steps_come(ledger_engine: Engine) -> None:
    run_state_machine_as_test(machine(ledger_engine), settings=IN_MODERATION)


def run_until_noticed(tried: type[AnyOrder], start: int = SOON) -> None:
    """Raises what the machine notices first; returns when it notices nothing in 300 runs."""
    run_state_machine_as_test(seed(start)(tried), settings=UNTIL_NOTICED)


def without(statement: Any, *guards: tuple[str, str]) -> Any:
    """The statement with each guard replaced; one that is not there any more is an error, not a mutant that lives."""
    sql = str(statement)
    for guard, instead in guards:
        assert guard in sql, guard
        sql = sql.replace(guard, instead)
    return text(sql)


HOLDS = "AND m.attempt_id = g.attempt_id AND m.state IN ('queued', 'claimed', 'running')"
LEASE = "a.lease_expires_at < now()"


def late_reports_are_applied(patch: pytest.MonkeyPatch) -> None:
    """No fence: neither the look before nor the statements name the attempt."""
    judged = "AND m.attempt_id = a.id\n             AND m.state IN ('queued', 'claimed', 'running') AS current"
    live = "a.state IN ('queued', 'claimed', 'running')"
    patch.setattr(reporting, "STANDINGS", without(reporting.STANDINGS, (judged, "AS current"), (live, "true")))
    patch.setattr(finishing, "END", without(finishing.END, (HOLDS, "")))
    patch.setattr(finishing, "TRY_AGAIN", without(finishing.TRY_AGAIN, (HOLDS, "")))


def rescue_goes_by_age(patch: pytest.MonkeyPatch) -> None:
    """Whoever began long ago is given up, whether he was heard of or not."""
    patch.setattr(leases, "LAPSED", without(leases.LAPSED, (LEASE, "a.created_at < now()")))


def what_is_to_be_cancelled_is_tried_again(patch: pytest.MonkeyPatch) -> None:
    """The verdict does not know that somebody asked to stop."""
    patch.setattr(reporting, "STANDINGS", without(reporting.STANDINGS, ("m.cancel_reason,", "NULL AS cancel_reason,")))


def reports_are_ticked_off_unread(patch: pytest.MonkeyPatch) -> None:
    """What was collected is never applied."""
    patch.setattr("corporation.missions.collect.apply", Mock())


@pytest.mark.parametrize(
    ("mistake", "noticed"),
    [
        (late_reports_are_applied, "a final mission never changes|is final|I4|I2|cannot become|duplicate key"),
        (rescue_goes_by_age, "was not silent"),
        (what_is_to_be_cancelled_is_tried_again, "only_what_runs_is_asked_to_stop|S-30"),
        (reports_are_ticked_off_unread, "never ended"),
    ],
)
def test_the_machine_notices_a_missing_guard(
    ledger_engine: Engine, monkeypatch: pytest.MonkeyPatch, mistake: Callable[[pytest.MonkeyPatch], None], noticed: str
) -> None:
    mistake(monkeypatch)
    with pytest.raises((AssertionError, IntegrityError), match=noticed):
        run_until_noticed(machine(ledger_engine))


def test_the_machine_notices_a_spool_that_forgets(ledger_engine: Engine) -> None:
    with pytest.raises(AssertionError, match="I3"):
        run_until_noticed(machine(ledger_engine, spool_forgets=True))

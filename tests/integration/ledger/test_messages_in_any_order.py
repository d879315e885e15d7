"""Messages are lost, forgotten, held by the dead, taken back and sent again in any order: no mission is lost with them.

The steps of `test_any_order.py`, and a Redis that can do all of this (ops/decisions/0014). Here a message is used up by
whoever takes it, so that nothing comes home unless the rescuer looks after it.
"""

from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from typing import Any
from unittest.mock import Mock

import pytest
from examples import THOROUGH
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, precondition, rule, run_state_machine_as_test
from ledger_at_work import AT_ONCE
from sqlalchemy import Connection, Engine
from test_any_order import IN_MODERATION, MOST_MISSIONS, AnyOrder, CrashError, run_until_noticed

from corporation.db import transaction
from corporation.engine.rescuer import ORPHANS_EVERY_SECONDS, Rescuer
from corporation.missions import recall, rescue
from corporation.missions.finish import Standing
from corporation.missions.outcomes import Outcome
from corporation.missions.queues import Queues
from corporation.missions.rescue import rescue_some
from corporation.missions.store import withdrawing
from corporation.missions.store.sending import AttemptMessage
from corporation.missions.store.withdrawing import Lying

QUEUE = "factory.desk-7"
LEASE = 180.0
HALF_A_MINUTE_LATER = """
    UPDATE corporation.attempts SET lease_expires_at = lease_expires_at - interval '31 seconds'
     WHERE finished_at IS NULL AND lease_expires_at > now() + interval '40 seconds'
"""
SILENT = "UPDATE corporation.factories SET last_seen_at = now() - interval '4 minutes' WHERE factory_id = 'desk-7'"
PAUSE = "UPDATE corporation.factories SET paused = :paused WHERE factory_id = 'desk-7'"


class MessagesInAnyOrder(AnyOrder):
    """One factory that is heard of or not, a watcher that always is, and the real rescuer between them and Redis."""

    @initialize()
    def begin(self) -> None:
        super().begin()
        self.now = 0.0
        self.unheard = False
        self.touched: set[str] = set()
        """Attempts that somebody may have run: for them alone a whole attempt may be used up."""
        self.ledger.beat("watcher", slots=0)
        self.rescuer = Rescuer(self.engine, self.ledger.broker, AT_ONCE, LEASE, lambda: 0.5, lambda: self.now)
        self.rescuer.tick()

    @precondition(lambda self: self.published < MOST_MISSIONS)
    @rule(max_retries=st.sampled_from([0, 2, 3]))
    def publish(self, max_retries: int) -> None:
        self.published += 1
        self.ledger.publish(f"j-{self.published}", max_retries=max_retries)
        self.hand_out()

    @rule()
    def hand_out(self) -> None:
        self.dispatch()
        self.send()

    # The steps that need no order of their own here; `test_any_order.py` has them in every other.
    def dispatch(self) -> None:
        self.ledger.end_backoff()
        self.ledger.dispatch()

    def send(self, dies: bool = False) -> None:
        self.ledger.send()

    @rule()
    def collect(self, dies: bool = False) -> None:
        self.ledger.collect(AT_ONCE)

    @rule()
    def rescue(self) -> None:
        """A sweep, long enough after the last one for orphans to be looked for, and for no gap."""
        self.now += ORPHANS_EVERY_SECONDS
        if self.unheard:  # it may never come: what its Redis lost is not sent to it again
            self.touched |= set(self.live) - {message.attempt_id for message in self.messages}
        self.rescuer.tick()

    @rule()
    def the_rescuer_dies_before_the_commit(self) -> None:
        lying = {message.attempt_id for message in self.messages}
        with suppress(CrashError), transaction(self.engine) as connection:
            rescue_some(connection, self.ledger.broker, AT_ONCE, lambda: 0.5, 200, 180)
            raise CrashError
        self.touched |= lying - {message.attempt_id for message in self.messages}

    @rule()
    def half_a_minute_passes(self) -> None:
        self.ledger.sql(HALF_A_MINUTE_LATER)

    @rule()
    def the_factory_is_silent_for_longer_than_its_leases(self) -> None:
        self.unheard = True
        self.ledger.sql(SILENT)
        self.silent |= set(self.live)
        self.ledger.lapse(*self.live)

    @rule()
    def the_factory_is_heard_of(self) -> None:
        self.unheard = False
        self.ledger.beat(slots=2)

    @rule(paused=st.booleans())
    def somebody_pauses_or_resumes_it(self, paused: bool) -> None:
        self.ledger.sql(PAUSE, paused=paused)
        self.ledger.recall()

    @precondition(lambda self: self.messages)
    @rule()
    def a_worker_dies_between_pop_and_note(self) -> None:
        self.ledger.broker.lose(QUEUE)

    @precondition(lambda self: self.messages)
    @rule(data=st.data())
    def a_worker_dies_with_a_message_in_hand(self, data: st.DataObject) -> None:
        self.a_worker_dies_with(data.draw(st.sampled_from(self.messages)))

    def a_worker_dies_with(self, message: AttemptMessage) -> None:
        self.touched.add(message.attempt_id)
        self.ledger.broker.hand_over(message)

    @rule()
    def redis_restarts_empty(self) -> None:
        self.ledger.broker.forget()

    @invariant()
    def only_what_somebody_may_have_run_is_lost(self) -> None:
        # Of two messages with one id nobody knows what became of the first; three that vanish are no accident.
        lost = self.ledger.sql("SELECT id FROM corporation.attempts WHERE state = 'lost' AND sends = 1")
        untouched = {str(one.id) for one in lost} - self.touched
        assert not untouched, f"used up though nobody ever had them: {untouched}"

    @invariant()
    def what_was_withdrawn_nobody_had(self) -> None:
        withdrawn = self.ledger.sql("SELECT id FROM corporation.attempts WHERE state = 'withdrawn' AND sends = 1")
        assert not {str(one.id) for one in withdrawn} & self.touched, "withdrawn though somebody may have run it"

    @property
    def messages(self) -> list[AttemptMessage]:
        waiting = self.ledger.broker.lying_in(QUEUE)
        newest = {message.attempt_id: message for message in self.ledger.broker.sent}
        return [message for attempt_id, message in newest.items() if attempt_id in waiting]

    def _receive(self, message: AttemptMessage) -> None:
        self.touched.add(message.attempt_id)
        super()._receive(message)

    def _report(self, attempt_id: str, outcome: Outcome) -> None:
        super()._report(attempt_id, outcome)
        self.ledger.broker.acknowledge(attempt_id)

    def _go_on(self) -> None:
        self.the_factory_is_heard_of()
        self.ledger.sql(PAUSE, paused=False)
        self.half_a_minute_passes()
        lying = {message.attempt_id for message in self.messages}
        unheard = [one for one in self.live if one not in self.spool and one not in lying]
        self.silent |= set(unheard)
        self.ledger.lapse(*unheard)
        super()._go_on()


def machine(engine: Engine, **changes: Any) -> type[MessagesInAnyOrder]:
    """The machine on this ledger."""
    return type("MessagesInAnyOrderHere", (MessagesInAnyOrder,), {"engine": engine, **changes})


def test_no_mission_is_lost_with_its_message_and_none_is_taken_from_whoever_has_it(ledger_engine: Engine) -> None:
    run_state_machine_as_test(machine(ledger_engine), settings=IN_MODERATION)


def what_lies_in_a_queue_is_lost_too(patch: pytest.MonkeyPatch) -> None:
    """Nothing is withdrawn."""
    patch.setattr(rescue, "take_back", Mock(return_value=rescue.Back(set())))


def whatever_is_silent_is_withdrawn(patch: pytest.MonkeyPatch) -> None:
    """Though a worker took it."""

    def take_back(connection: Connection, queues: Queues, silent: Sequence[Standing]) -> rescue.Back:
        return rescue.Back(withdrawing.withdraw(connection, {standing.attempt_id: "silent" for standing in silent}))

    patch.setattr(rescue, "take_back", take_back)


def a_pause_takes_away_what_a_worker_has(patch: pytest.MonkeyPatch) -> None:
    """Whatever is queued is withdrawn, wherever its message is."""

    def out_of_queues(queues: Queues, lying: Sequence[Lying], heard: Collection[str]) -> tuple[set[str], set[str]]:
        return {one.attempt_id for one in lying}, set()

    patch.setattr(recall, "_out_of_queues", out_of_queues)


Steps = Sequence[Callable[[MessagesInAnyOrder], None]]


def publish(at_work: MessagesInAnyOrder) -> None:
    at_work.publish(max_retries=2)


def take_and_die(at_work: MessagesInAnyOrder) -> None:
    at_work.a_worker_dies_with(at_work.messages[0])


def pause(at_work: MessagesInAnyOrder) -> None:
    at_work.somebody_pauses_or_resumes_it(paused=True)


SILENT_FOR_LONG = MessagesInAnyOrder.the_factory_is_silent_for_longer_than_its_leases
POP_AND_DIE = MessagesInAnyOrder.a_worker_dies_between_pop_and_note
RESCUE = MessagesInAnyOrder.rescue

MISTAKES: Sequence[tuple[Callable[[pytest.MonkeyPatch], None], str, Steps]] = (
    (what_lies_in_a_queue_is_lost_too, "used up though nobody ever had them", (publish, SILENT_FOR_LONG, RESCUE)),
    (
        whatever_is_silent_is_withdrawn,
        "somebody may have run it",
        (publish, SILENT_FOR_LONG, POP_AND_DIE, RESCUE),
    ),
    (a_pause_takes_away_what_a_worker_has, "somebody may have run it", (publish, take_and_die, pause)),
)
"""The mistake, what the machine says of it, and the shortest way there that a search found."""


def take(engine: Engine, steps: Steps) -> None:
    """The machine is taken this way and holds what it promises after each step, or raises what it finds."""
    at_work = machine(engine)()
    at_work.begin()
    for step in steps:
        step(at_work)
        at_work.only_what_somebody_may_have_run_is_lost()
        at_work.what_was_withdrawn_nobody_had()


@pytest.mark.parametrize(("mistake", "noticed", "steps"), MISTAKES)
def test_the_machine_notices_a_rescuer_that_is_careless(
    ledger_engine: Engine,
    monkeypatch: pytest.MonkeyPatch,
    mistake: Callable[[pytest.MonkeyPatch], None],
    noticed: str,
    steps: Steps,
) -> None:
    """That it also comes that way by itself takes some hundred runs: `ops/test --thorough`."""
    take(ledger_engine, steps)
    mistake(monkeypatch)
    with pytest.raises(AssertionError, match=noticed):
        take(ledger_engine, steps)
    if THOROUGH:
        with pytest.raises(AssertionError, match=noticed):
            run_until_noticed(machine(ledger_engine))

"""Claims and results over HTTPS between all the other steps, in any order: a mission ends once, whoever carried it.

The steps of `test_any_order.py`, a second factory that speaks nothing but HTTPS, and answers that get lost.
A factory's two ways share one spool: an attempt that it knows is not run again, whichever way it came.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress

import pytest
from examples import times
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, precondition, rule, run_state_machine_as_test
from ledger_at_work import AT_ONCE
from ledger_over_https import LABELS, LedgerOverHttps
from sqlalchemy import Engine
from sqlalchemy.exc import IntegrityError
from test_any_order import (
    IN_MODERATION,
    MOST_MISSIONS,
    OUTCOMES,
    AnyOrder,
    CrashError,
    late_reports_are_applied,
    run_until_noticed,
    without,
)

from corporation import clock
from corporation.db import transaction
from corporation.missions.claim import Claim, claim
from corporation.missions.outcomes import Outcome, to_report
from corporation.missions.results import Answer, Late, Result, take_result
from corporation.missions.store import claiming, https_results, leases

FACTORIES = ("desk-7", "bench-2")
UNSENT_THOUGH_CLAIMED = """
    SELECT a.id FROM corporation.outbox o JOIN corporation.attempts a ON a.id = o.attempt_id
     WHERE o.topic = 'attempt' AND a.over_https AND a.finished_at IS NULL
"""
NUMBERS = "SELECT id, mission_id, number FROM corporation.attempts"
OFTEN = settings(IN_MODERATION, max_examples=times(30, 1000))


class ClaimsInAnyOrder(AnyOrder):
    """desk-7 has both ways, bench-2 only HTTPS."""

    ledger: LedgerOverHttps
    seen: Counter[str]
    """How often which answer was given, over all runs."""

    @initialize()
    def begin(self) -> None:
        super().begin()
        self.ledger = LedgerOverHttps(self.engine)
        self.ledger.beat("bench-2", labels=LABELS, slots=0)
        self.answers: dict[str, tuple[Outcome, Answer]] = {}
        """What each attempt brought first, and what was answered."""
        # Hypothesis leaves out rules, whole runs long: without these steps most runs would have nothing to go wrong.
        for max_retries in (3, 2):
            self.publish(max_retries)
        self.a_factory_claims("desk-7", 1, says_what_it_holds=False, is_heard=True, outcome=None)

    @precondition(lambda self: self.published < MOST_MISSIONS)
    @rule(max_retries=st.sampled_from([0, 2, 3]))
    def publish(self, max_retries: int) -> None:
        self.published += 1
        self.ledger.publish(f"j-{self.published}", max_retries=max_retries)

    @rule(
        factory_id=st.sampled_from(FACTORIES),
        most=st.sampled_from([1, 32]),
        says_what_it_holds=st.booleans(),
        is_heard=st.sampled_from([True, True, True, False]),
        outcome=st.sampled_from([None, *OUTCOMES]),
    )
    def a_factory_claims(
        self, factory_id: str, most: int, says_what_it_holds: bool, is_heard: bool, outcome: Outcome | None
    ) -> None:
        """And perhaps is done with it at once."""
        self.ledger.end_backoff()
        holding = frozenset(self.spool) if says_what_it_holds else None
        for one in self.ledger.claim(factory_id, most, holding=holding):
            self.silent.discard(one.attempt_id)
            assert self._is_current(one.attempt_id), "handed out though another attempt holds the mission (I4)"
            if is_heard:
                self._take(one.attempt_id)
            if is_heard and outcome is not None:
                self._bring(one.attempt_id, self.spool[one.attempt_id] or outcome)

    @rule(factory_id=st.sampled_from(FACTORIES))
    def hq_dies_handing_out(self, factory_id: str) -> None:
        with suppress(CrashError), transaction(self.engine) as connection:
            claim(connection, Claim(factory_id, 32, holding=frozenset()), 180, clock.new_id)
            raise CrashError

    @precondition(lambda self: self.spool)
    @rule(data=st.data(), outcome=st.sampled_from(OUTCOMES))
    def a_result_comes_over_https(self, data: st.DataObject, outcome: Outcome) -> None:
        """The one that the spool has, however often; what it does not have yet, it has from now on."""
        attempt_id = data.draw(st.sampled_from(list(self.spool)))
        self._bring(attempt_id, self.spool[attempt_id] or outcome)

    @precondition(lambda self: self.spool)
    @rule(data=st.data(), outcome=st.sampled_from(OUTCOMES))
    def hq_dies_taking_a_result(self, data: st.DataObject, outcome: Outcome) -> None:
        attempt_id = data.draw(st.sampled_from(list(self.spool)))
        report = to_report(self.spool[attempt_id] or outcome)
        with suppress(CrashError), transaction(self.engine) as connection:
            take_result(connection, Result(attempt_id, report, report), None, AT_ONCE, lambda: 0.5)
            raise CrashError

    @precondition(lambda self: self.answers)
    @rule(data=st.data())
    def somebody_changes_its_mind(self, data: st.DataObject) -> None:
        """Another result of an attempt that had one: never taken, whatever it says."""
        attempt_id = data.draw(st.sampled_from(list(self.answers)))
        outcome = data.draw(st.sampled_from([one for one in OUTCOMES if one != self.answers[attempt_id][0]]))

        answer = self.ledger.bring(attempt_id, outcome)
        assert isinstance(answer, Late), f"taken though another result was before: {answer}"

    @invariant()
    def what_is_claimed_is_not_sent_any_more(self) -> None:
        assert not self.ledger.sql(UNSENT_THOUGH_CLAIMED), "still in the outbox though somebody claimed it"

    @property
    def live(self) -> list[str]:
        """By mission: attempts that one claim made have the same age, and a choice must mean the same in every run."""
        numbers = {str(one.id): (one.mission_id, one.number) for one in self.ledger.sql(NUMBERS)}
        return sorted(super().live, key=numbers.__getitem__)

    def _take(self, attempt_id: str) -> None:
        if attempt_id not in self.spool:
            self.spool[attempt_id] = None
            self.effects[attempt_id] += 1

    def _bring(self, attempt_id: str, outcome: Outcome) -> None:
        self.spool[attempt_id] = outcome
        answer = self.ledger.bring(attempt_id, outcome)
        self.seen[type(answer).__name__] += 1
        _, first = self.answers.setdefault(attempt_id, (outcome, answer))
        assert answer == first, f"another answer to the same result: {first}, {answer}"

    def _go_on(self) -> None:
        for factory_id in FACTORIES:
            for one in self.ledger.claim(factory_id, holding=frozenset(self.spool)):
                self.silent.discard(one.attempt_id)
                self._take(one.attempt_id)
        super()._go_on()


def machine(engine: Engine) -> type[ClaimsInAnyOrder]:
    """The machine on this ledger."""
    return type("ClaimsInAnyOrderHere", (ClaimsInAnyOrder,), {"engine": engine, "seen": Counter[str]()})


def test_a_mission_ends_once_whichever_way_it_goes(ledger_engine: Engine) -> None:
    tried = machine(ledger_engine)
    run_state_machine_as_test(tried, settings=OFTEN)

    assert tried.seen["Taken"] >= 20, f"the runs did too little to show anything: {tried.seen}"


def answers_are_forgotten(patch: pytest.MonkeyPatch) -> None:
    """A result that was taken is not known again."""
    forgetful = without(https_results.ATTEMPT, ("a.result_digest,", "NULL::bytea AS result_digest,"))
    patch.setattr(https_results, "ATTEMPT", forgetful)


def the_message_is_sent_all_the_same(patch: pytest.MonkeyPatch) -> None:
    """Nobody takes the claimed attempt out of the outbox."""
    patch.setattr(claiming, "CLAIM_QUEUED", without(claiming.CLAIM_QUEUED, ("o.topic = 'attempt'", "false")))


def a_result_is_taken_from_whoever_speaks_last(patch: pytest.MonkeyPatch) -> None:
    """Neither what was answered before, nor that its letter was read, nor who holds the mission is looked at."""
    answered = without(https_results.ATTEMPT, ("a.result_digest,", "NULL::bytea AS result_digest,"))
    patch.setattr(https_results, "ATTEMPT", answered)
    unread = without(https_results.LOCK_LETTER, ("collected_at IS NOT NULL AS collected", "false AS collected"))
    patch.setattr(https_results, "LOCK_LETTER", unread)
    late_reports_are_applied(patch)


def what_was_claimed_is_never_given_up(patch: pytest.MonkeyPatch) -> None:
    """A factory that claimed and fell silent holds its mission for ever; that it is asked again does not help it."""
    live = ("a.state IN ('queued', 'claimed', 'running')", "a.state IN ('queued', 'running')")
    patch.setattr(leases, "LAPSED", without(leases.LAPSED, live))
    patch.setattr(claiming, "TAKE_UNHEARD", without(claiming.TAKE_UNHEARD, ("a.over_https", "false")))


MISTAKES: Sequence[tuple[Callable[[pytest.MonkeyPatch], None], str]] = (
    (answers_are_forgotten, "another answer to the same result"),
    (the_message_is_sent_all_the_same, "still in the outbox"),
    (
        a_result_is_taken_from_whoever_speaks_last,
        "another answer|taken though another|is final|duplicate key",
    ),
    (what_was_claimed_is_never_given_up, "never ended"),
)


@pytest.mark.parametrize(("mistake", "noticed"), MISTAKES)
def test_the_machine_notices_a_careless_queue(
    ledger_engine: Engine, monkeypatch: pytest.MonkeyPatch, mistake: Callable[[pytest.MonkeyPatch], None], noticed: str
) -> None:
    mistake(monkeypatch)
    with pytest.raises((AssertionError, IntegrityError), match=noticed):
        run_until_noticed(machine(ledger_engine))

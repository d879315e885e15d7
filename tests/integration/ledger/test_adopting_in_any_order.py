"""The steps of a mission in any order, where factories come back late and somebody lets what they say count."""

from collections.abc import Callable
from contextlib import suppress

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule, run_state_machine_as_test
from sqlalchemy import Engine
from sqlalchemy.exc import IntegrityError
from test_any_order import IN_MODERATION, MOST_MISSIONS, AnyOrder, CrashError, run_until_noticed, without

from corporation.db import transaction
from corporation.missions import adopt as deciding
from corporation.missions.adopt import AdoptRefused, Wish, adopt
from corporation.missions.outcomes import Done
from corporation.missions.store import adopting


class AdoptingInAnyOrder(AnyOrder):
    """As the other one; often enough a factory says after it was given up that its work is done."""

    @precondition(lambda self: self.published < MOST_MISSIONS)
    @rule(max_retries=st.sampled_from([0, 2, 3]))
    def a_factory_comes_back_late(self, max_retries: int) -> None:
        """All at once: in any order it would hardly ever be."""
        self.publish(max_retries)
        self.dispatch()
        self.send(dies=False)
        for message in self.messages[-1:]:
            self._receive(message)
            self._speak_of(message.attempt_id)
            self.silent.add(message.attempt_id)
            self.ledger.lapse(message.attempt_id)
            self.rescue()
            self._report(message.attempt_id, Done({}))
            self.collect(dies=False)

    @precondition(lambda self: self.late)
    @rule(data=st.data(), dies=st.booleans())
    def somebody_adopts(self, data: st.DataObject, dies: bool) -> None:
        job_id, number = data.draw(st.sampled_from(self.late))
        with suppress(CrashError), transaction(self.engine) as connection:
            try:
                first = adopt(connection, job_id, Wish(number, "somebody"), 0)
            except AdoptRefused:
                return
            assert adopt(connection, job_id, Wish(number, "somebody"), 0) == first, "twice is not as once"
            if dies:
                raise CrashError

    def teardown(self) -> None:
        super().teardown()
        made = self.ledger.sql(
            """SELECT coalesce(m.replay_of, m.id) AS of FROM corporation.missions m
                WHERE m.state = 'succeeded' GROUP BY 1 HAVING count(*) > 1"""
        )
        assert not made, f"one mission has succeeded twice: {made}"

    @property
    def late(self) -> list[tuple[str, int]]:
        """Attempts that said too late that their work is done."""
        rows = self.ledger.sql(
            """SELECT m.job_id, a.number FROM corporation.attempts a JOIN corporation.missions m ON m.id = a.mission_id
                WHERE a.outcome ->> 'outcome' = 'done' ORDER BY a.created_at, a.id"""
        )
        return [(row.job_id, row.number) for row in rows]


def machine(engine: Engine) -> type[AdoptingInAnyOrder]:
    """The machine on this ledger."""
    return type("AdoptingHere", (AdoptingInAnyOrder,), {"engine": engine})


def test_whatever_is_adopted_a_mission_ends_once(ledger_engine: Engine) -> None:
    run_state_machine_as_test(machine(ledger_engine), settings=IN_MODERATION)


def the_live_attempt_goes_on(patch: pytest.MonkeyPatch) -> None:
    """The mission has succeeded, and its factory works on."""
    patch.setattr(adopting, "SUCCEED", without(adopting.SUCCEED, ("a.mission_id = e.id AND", "false AND")))


def what_has_ended_changes_its_end(patch: pytest.MonkeyPatch) -> None:
    """The mission itself succeeds with it, whatever it was before."""
    patch.setattr(deciding, "FINAL", frozenset[str]())
    any_state = "\n         AND m.state IN ('waiting', 'queued', 'claimed', 'running')"
    patch.setattr(adopting, "SUCCEED", without(adopting.SUCCEED, (any_state, "")))


def each_late_result_counts(patch: pytest.MonkeyPatch) -> None:
    """It does not matter whether another one of the same mission was adopted."""
    patch.setattr(adopting, "ATTEMPTS", without(adopting.ATTEMPTS, ("m.job_id AS adopted_as", "NULL AS adopted_as")))


@pytest.mark.parametrize(
    ("mistake", "noticed"),
    [
        (the_live_attempt_goes_on, "outlives its mission"),
        (what_has_ended_changes_its_end, "is final"),
        (each_late_result_counts, "succeeded already|somebody else changed"),
    ],
)
def test_the_machine_notices_a_missing_guard(
    ledger_engine: Engine, monkeypatch: pytest.MonkeyPatch, mistake: Callable[[pytest.MonkeyPatch], None], noticed: str
) -> None:
    mistake(monkeypatch)
    with pytest.raises((AssertionError, IntegrityError, AdoptRefused), match=noticed):
        run_until_noticed(machine(ledger_engine))

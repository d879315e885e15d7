"""Rebuilds that somebody waits for: the engine does each once, and none that nobody waits for any longer."""

from collections.abc import Collection
from typing import Any

import pytest
from ledger_at_work import LedgerAtWork
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from corporation.db import transaction
from corporation.engine.rebuilder import Rebuilder
from corporation.missions.queues import TakenBack, Whereabouts
from corporation.missions.store import rebuild_wishes
from corporation.missions.store.rebuild_wishes import Answer, Wish

QUEUE = "factory.desk-7"
WISHES = "SELECT id, done_at FROM corporation.queue_rebuilds ORDER BY id"
INSERT = """
    INSERT INTO corporation.queue_rebuilds (asked_by, origin, dry_run, wanted_until, done_at, answer, error)
    VALUES (:asked_by, 'rest', true, CAST(:wanted_until AS timestamptz), CAST(:done_at AS timestamptz),
            CAST(:answer AS json), :error)
"""


class DyingQueues:
    """Queues of which no look ever ends well, for a reason that nobody foresaw."""

    def look_into(self, queue: str) -> Whereabouts:
        """Never ends well."""
        raise ZeroDivisionError(queue)

    def withdraw(self, queue: str, attempt_ids: Collection[str]) -> TakenBack:
        """Neither."""
        raise ZeroDivisionError(queue, attempt_ids)

    def incarnation(self) -> str:
        """Is there."""
        return "a run"


def ask(ledger: LedgerAtWork, *, seconds: float = 60.0, dry_run: bool = False) -> int:
    with transaction(ledger.engine) as connection:
        return rebuild_wishes.ask(connection, "somebody", "rest 127.0.0.1", seconds, dry_run=dry_run)


def fetch(ledger: LedgerAtWork, wish_id: int) -> Answer | None:
    with transaction(ledger.engine) as connection:
        return rebuild_wishes.fetch(connection, wish_id)


def rebuilder(ledger: LedgerAtWork) -> Rebuilder:
    return Rebuilder(ledger.engine, ledger.broker, 180.0)


def outbox(ledger: LedgerAtWork) -> int:
    return len(ledger.sql("SELECT 1 FROM corporation.outbox"))


def acts(ledger: LedgerAtWork) -> list[tuple[str, str, str, Any]]:
    rows = ledger.sql("SELECT actor, action, origin, detail FROM corporation.audit_log ORDER BY id")
    return [(row.actor, row.action, row.origin, row.detail) for row in rows]


def test_one_tick_does_one_wish_and_writes_down_who_had_it(ledger: LedgerAtWork) -> None:
    ledger.hand_out("j-1")
    ledger.broker.lose(QUEUE)
    look, act = ask(ledger, dry_run=True), ask(ledger)

    assert rebuilder(ledger).tick()
    assert (fetch(ledger, act), outbox(ledger), acts(ledger)) == (None, 0, [])
    assert rebuilder(ledger).tick()
    assert not rebuilder(ledger).tick()
    seen, done = fetch(ledger, look), fetch(ledger, act)
    assert seen is not None
    assert seen == done, "a look says what is done then"
    assert outbox(ledger) == 1
    counts = {"resent": 1, "lying": 0, "held": 0, "orphans_removed": 0}
    assert acts(ledger) == [("somebody", "queues.rebuild", "rest 127.0.0.1", counts)]
    assert fetch(ledger, act) is None, "an answer is read once"


def test_the_answer_keeps_its_order(ledger: LedgerAtWork) -> None:
    wish_id = ask(ledger)
    rebuilder(ledger).tick()
    answer = fetch(ledger, wish_id)

    assert answer is not None
    assert answer.document is not None
    assert list(answer.document) == ["ok", "resent", "lying", "held", "orphans_removed", "queues"]


def test_a_broker_that_is_away_is_an_answer_and_no_act(ledger: LedgerAtWork) -> None:
    ledger.hand_out("j-1")
    ledger.broker.away = True
    wish_id = ask(ledger)

    assert rebuilder(ledger).tick()
    answer = fetch(ledger, wish_id)
    assert answer is not None
    assert answer.document is None
    assert answer.error
    assert (outbox(ledger), acts(ledger)) == (0, [])


def test_an_engine_that_fails_on_the_way_leaves_the_wish_to_the_next(ledger: LedgerAtWork) -> None:
    ledger.hand_out("j-1")
    ledger.broker.lose(QUEUE)
    wish_id = ask(ledger)

    with pytest.raises(ZeroDivisionError):
        Rebuilder(ledger.engine, DyingQueues(), 180.0).tick()
    assert (fetch(ledger, wish_id), outbox(ledger)) == (None, 0)
    assert rebuilder(ledger).tick()
    assert fetch(ledger, wish_id) is not None
    assert outbox(ledger) == 1


def test_what_nobody_waits_for_any_longer_is_not_done_and_is_forgotten(ledger: LedgerAtWork) -> None:
    """Whoever asked has died with the wish, or with the answer."""
    ledger.hand_out("j-1")
    ledger.broker.lose(QUEUE)
    late, unread = ask(ledger, seconds=0.0), ask(ledger, dry_run=True)

    assert rebuilder(ledger).tick()
    assert not rebuilder(ledger).tick()
    assert [(row.id, row.done_at is None) for row in ledger.sql(WISHES)] == [(late, True), (unread, False)]
    ledger.sql("""UPDATE corporation.queue_rebuilds SET asked_at = asked_at - interval '3 minutes',
                         wanted_until = wanted_until - interval '3 minutes'""")
    assert not rebuilder(ledger).tick()
    assert (ledger.sql(WISHES), outbox(ledger), acts(ledger)) == ([], 0, [])


def test_while_one_engine_is_at_a_wish_no_other_has_it_and_nobody_withdraws_it(ledger: LedgerAtWork) -> None:
    first, second = ask(ledger), ask(ledger)

    with transaction(ledger.engine) as one, transaction(ledger.engine) as other:
        taken = [rebuild_wishes.take(one), rebuild_wishes.take(other)]
        with transaction(ledger.engine) as caller:
            assert rebuild_wishes.take(caller) is None
            assert not rebuild_wishes.withdraw(caller, first)
            assert rebuild_wishes.fetch(caller, first) is None
    assert taken == [Wish(wish_id, "somebody", "rest 127.0.0.1", dry_run=False) for wish_id in (first, second)]
    with transaction(ledger.engine) as caller:
        assert not rebuild_wishes.withdraw(caller, second, only_in_turn=True)
        assert rebuild_wishes.withdraw(caller, first, only_in_turn=True)
        assert rebuild_wishes.withdraw(caller, second, only_in_turn=True)
        assert not rebuild_wishes.withdraw(caller, second)


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"asked_by": ""}, "queue_rebuilds_asked_by_check"),
        ({"asked_by": "x" * 301}, "queue_rebuilds_asked_by_check"),
        ({"wanted_until": "2020-01-01"}, "a_wish_has_an_end"),
        ({"done_at": "2026-06-01"}, "what_is_done_has_one_answer"),
        ({"answer": "{}"}, "what_is_done_has_one_answer"),
        ({"error": "x"}, "what_is_done_has_one_answer"),
        ({"done_at": "2026-06-01", "answer": "{}", "error": "x"}, "what_is_done_has_one_answer"),
        ({"done_at": "2026-06-01", "error": ""}, "queue_rebuilds_error_check"),
    ],
)
def test_a_wish_that_cannot_be_is_refused(ledger: LedgerAtWork, changes: dict[str, Any], rule: str) -> None:
    values = {"asked_by": "somebody", "wanted_until": "2100-01-01", "done_at": None, "answer": None, "error": None}

    with ledger.engine.connect() as connection, pytest.raises(IntegrityError, match=rule):
        connection.execute(text(INSERT), values | changes)

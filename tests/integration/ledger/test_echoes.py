"""The echo through each factory's own queue: who is asked, how often, and what counts as an answer."""

from typing import Any

import pytest
from builders import beat
from ledger_at_work import LedgerAtWork

from corporation import clock
from corporation.db import transaction
from corporation.factories.lights import ask_echoes, hear_echo
from corporation.factories.store import hear

LABELS = ["delegation_redis", "vp_coder"]


def ask(ledger: LedgerAtWork) -> int:
    with transaction(ledger.engine) as connection:
        return ask_echoes(connection, clock.new_id)


def echo_of(ledger: LedgerAtWork) -> Any:
    [row] = ledger.sql("SELECT *, heard_at IS NOT NULL AS heard FROM corporation.factory_echoes")
    return row


def test_an_online_factory_is_asked_once_in_five_minutes(ledger: LedgerAtWork) -> None:
    ledger.beat(labels=LABELS)

    assert (ask(ledger), ask(ledger)) == (1, 0)
    assert ledger.sql("SELECT topic, factory_id, attempt_id FROM corporation.outbox") == [("echo", "desk-7", None)]
    first = echo_of(ledger).echo_id
    ledger.sql("UPDATE corporation.factory_echoes SET asked_at = now() - interval '5 min'")
    assert ask(ledger) == 1
    assert echo_of(ledger).echo_id != first
    assert len(ledger.sql("SELECT 1 FROM corporation.outbox")) == 1


@pytest.mark.parametrize(
    "change",
    [
        "registration_status = 'paused'",
        "registration_status = 'draining'",
        "paused = true",
        "draining = true",
        "slots = 0",
        "last_seen_at = now() - interval '301 seconds'",
        """capabilities = '["vp_coder"]'""",
        """capabilities = '["delegation_redis", "transport:http"]'""",
    ],
)
def test_who_takes_nothing_from_a_queue_is_not_asked(ledger: LedgerAtWork, change: str) -> None:
    ledger.beat(labels=LABELS)
    ledger.sql(f"UPDATE corporation.factories SET {change}")  # noqa: S608 - ours

    assert ask(ledger) == 0


def test_the_answer_comes_with_a_beat_and_only_the_last_echo_counts(ledger: LedgerAtWork) -> None:
    ledger.beat(labels=LABELS)
    ask(ledger)
    echo_id = str(echo_of(ledger).echo_id)

    heard = []
    for answer in (clock.new_id(), None, echo_id):
        with transaction(ledger.engine) as connection:
            hear(connection, beat("desk-7", LABELS, echo=answer))
        heard.append(echo_of(ledger).heard)
    assert heard == [False, False, True]
    with transaction(ledger.engine) as connection:
        assert not hear_echo(connection, "desk-7", echo_id)


def test_when_the_last_echo_was_heard_is_known_while_the_next_is_on_its_way(ledger: LedgerAtWork) -> None:
    ledger.beat(labels=LABELS)
    ask(ledger)
    with transaction(ledger.engine) as connection:
        hear_echo(connection, "desk-7", str(echo_of(ledger).echo_id))
    ledger.sql("UPDATE corporation.factory_echoes SET asked_at = asked_at - interval '5 min'")
    ask(ledger)

    assert echo_of(ledger).heard_at < echo_of(ledger).asked_at

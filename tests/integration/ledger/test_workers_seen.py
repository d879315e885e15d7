"""HQ's API speaks for its node every minute; it must not keep workers alive that are gone."""

from typing import Any

import pytest
from builders import beat
from sqlalchemy import Engine, text

from corporation.db import transaction
from corporation.factories.store import record_beat, workers_heard_lately
from corporation.settings import load_settings
from hq_api.own_node import DelegationLink
from hq_api.self_registration import register

SETTINGS = load_settings({"UA_FACTORY_ID": "hq-east"})
THERE = DelegationLink(wanted=True, last_error=None)


def registered(engine: Engine) -> dict[str, Any]:
    with transaction(engine) as connection:
        register(connection, SETTINGS, THERE)
    with transaction(engine) as connection:
        row = connection.execute(text("SELECT capabilities, slots FROM corporation.factories")).one()
    return {"labels": set(row.capabilities), "slots": row.slots}


def workers_beat(engine: Engine, seconds_ago: int) -> None:
    with transaction(engine) as connection:
        record_beat(connection, beat("hq-east", ["kind:greet", "vp_coder"], slots=2))
        ago = text("UPDATE corporation.factories SET workers_seen_at = now() - :ago * interval '1 second'")
        connection.execute(ago, {"ago": seconds_ago})


@pytest.mark.usefixtures("ledger")
def test_what_its_workers_earned_is_kept_while_they_are_heard_of(ledger_engine: Engine) -> None:
    workers_beat(ledger_engine, 60)

    found = registered(ledger_engine)
    assert {"kind:greet", "vp_coder", "gateway_full"} <= found["labels"]
    assert found["slots"] == 2


@pytest.mark.usefixtures("ledger")
def test_workers_that_are_silent_have_no_slots_and_earn_nothing(ledger_engine: Engine) -> None:
    """F-18: no mission is routed to a worker that is not there, though the API of the same node lives."""
    workers_beat(ledger_engine, SETTINGS.factory_stale_seconds + 1)

    found = registered(ledger_engine)
    assert found["labels"] & {"kind:greet", "vp_coder"} == set()
    assert found["slots"] == 0
    with transaction(ledger_engine) as connection:
        assert not workers_heard_lately(connection, "hq-east", SETTINGS.factory_stale_seconds)
    workers_beat(ledger_engine, 0)
    assert registered(ledger_engine)["slots"] == 2

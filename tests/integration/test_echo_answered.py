"""HQ's echo: answered by the consumer itself, in no slot, counted as nothing."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from celery import Celery
from malformed_messages import QUEUE, message
from node_at_work import HeardHq, node_at

import celeryconfig
from corporation.federation import notes
from corporation.missions.store.sending import EchoMessage
from corporation.settings import load_settings
from factory_tasks.broker import CeleryBroker
from factory_tasks.gatekeeper import LONGEST_ECHO, Gatekeeper
from factory_tasks.node import Node


@pytest.fixture
def here(tmp_path: Path, redis_url: str) -> Node:
    return node_at(tmp_path, HeardHq(), UA_REDIS_URL=redis_url)


@pytest.fixture
def keeper(here: Node) -> Iterator[Gatekeeper]:
    app = Celery("worker", set_as_current=False)
    app.conf.update(celeryconfig.configuration(here.settings) | {"imports": []})

    def echo(echo_id: str) -> None: ...

    def heartbeat() -> None: ...

    app.task(echo, name=celeryconfig.ECHO_TASK, shared=False)
    app.task(heartbeat, name=celeryconfig.HEARTBEAT_TASK, shared=False)
    app.finalize()
    yield Gatekeeper(here, app)
    app.close()


def sent(here: Node, queue: str, echo_id: str) -> bytes:
    """The echo as HQ's engine sends it."""
    hq = load_settings({"UA_REDIS_URL": here.settings.redis_url, "UA_FACTORY_ID": "hq"})
    CeleryBroker(hq).echo([EchoMessage(1, echo_id, queue, here.settings.factory_id)])
    with redis.Redis.from_url(here.settings.redis_url) as client:
        raw: Any = client.lindex(queue, 0)
    return raw


@pytest.mark.parametrize("queue", ["local_factory", "factory.desk-7"])
def test_an_echo_is_noted_and_no_task_is_made_of_it(here: Node, keeper: Gatekeeper, queue: str) -> None:
    raw = sent(here, queue, "0b8cf0a4-92a5-4b8d-8f0e-2a6c4f6e1c11")

    assert keeper.admit(raw, queue) is None

    assert here.spool.noted(notes.ECHO_HEARD) == "0b8cf0a4-92a5-4b8d-8f0e-2a6c4f6e1c11"
    assert here.refused.counts() == {}
    assert here.spool.unreported() == []


def order(task: str = celeryconfig.ECHO_TASK, **kwargs: Any) -> bytes:
    return message(headers={"task": task, "ignore_result": True}, body=[[], kwargs, {}])


def test_of_hqs_own_orders_only_the_echo_travels_through_a_queue_of_missions(here: Node, keeper: Gatekeeper) -> None:
    assert keeper.admit(order(celeryconfig.HEARTBEAT_TASK), QUEUE) is None

    assert here.refused.counts() == {"unknown_task": 1}


@pytest.mark.parametrize("kwargs", [{}, {"echo_id": "e-1", "more": 1}, {"other": "e-1"}])
def test_a_misshapen_echo_is_refused_and_answers_nothing(
    here: Node, keeper: Gatekeeper, kwargs: dict[str, Any]
) -> None:
    assert keeper.admit(order(**kwargs), QUEUE) is None

    assert here.refused.counts() == {"signature_mismatch": 1}
    assert here.spool.noted(notes.ECHO_HEARD) is None


def test_an_endless_id_is_cut(here: Node, keeper: Gatekeeper) -> None:
    keeper.admit(order(echo_id="x" * 100_000), QUEUE)

    assert len(here.spool.noted(notes.ECHO_HEARD) or "") == LONGEST_ECHO

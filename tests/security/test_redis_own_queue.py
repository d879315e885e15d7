"""What Celery is told of a node that is a user of its own at the broker: its own queue, and no word to everybody."""

from collections.abc import Iterator
from typing import Any

import pytest
from celery import Celery

import celeryconfig
from corporation.settings import load_settings
from factory_tasks.quiet_worker import QuietWorker

OWN = {"UA_REDIS_URL": "redis://f_desk-7@127.0.0.1:1/0", "UA_FACTORY_QUEUE": "factory.desk-7"}


def configured(**variables: str) -> dict[str, Any]:
    """Celery's settings for the factory `desk-7`."""
    told = {"FACTORY_ROLE": "LOCAL_WORKER", "UA_FACTORY_ID": "desk-7", "UA_REDIS_URL": "redis://127.0.0.1:1/0"}
    return celeryconfig.configuration(load_settings(told | variables))


@pytest.fixture
def app() -> Iterator[Celery]:
    app = Celery("apart", set_as_current=False)
    yield app
    app.close()


def test_a_worker_that_is_to_take_from_the_queue_all_factories_know_takes_from_its_own(app: Celery) -> None:
    app.conf.update(configured(**OWN))

    app.amqp.queues.select(["local_factory"])

    assert list(app.amqp.queues.consume_from) == ["factory.desk-7"]
    assert "local_factory" not in app.amqp.queues


def test_where_factories_share_a_queue_it_is_itself(app: Celery) -> None:
    app.conf.update(configured())

    app.amqp.queues.select(["local_factory"])

    assert list(app.amqp.queues.consume_from) == ["local_factory"]


def test_a_slip_in_the_queues_name_is_still_an_error(app: Celery) -> None:
    app.conf.update(configured(**OWN))

    with pytest.raises(KeyError):
        app.amqp.queues.select(["local_factroy"])


@pytest.mark.parametrize(
    ("url", "listens"),
    [
        ("redis://f_desk-7@127.0.0.1:1/0", False),
        ("redis://f_desk-7:pw@127.0.0.1:1/0", False),
        ("redis://:pw@127.0.0.1:1/0", True),
        ("redis://127.0.0.1:1/0", True),
        ("redis://somebody:pw@127.0.0.1:1/0", True),
        ("redis://f_desk-70:pw@127.0.0.1:1/0", True),
    ],
)
def test_only_who_is_not_its_own_user_hears_what_all_hear(url: str, listens: bool) -> None:
    assert configured(UA_REDIS_URL=url)["worker_enable_remote_control"] is listens


@pytest.mark.parametrize(
    ("url", "events", "quiet"),
    [
        ("redis://:pw@127.0.0.1:1/0", False, {}),
        (OWN["UA_REDIS_URL"], False, {"without_gossip": True, "without_mingle": True, "without_heartbeat": True}),
        (OWN["UA_REDIS_URL"], True, {"without_gossip": True, "without_mingle": True, "without_heartbeat": False}),
    ],
)
def test_a_worker_without_remote_control_speaks_only_when_told_to(
    app: Celery, url: str, events: bool, quiet: dict[str, bool]
) -> None:
    app.conf.update(configured(UA_REDIS_URL=url))
    worker: Any = QuietWorker.__new__(QuietWorker)
    worker.app = app

    assert worker.prepare_args(task_events=events, loglevel="INFO") == {
        "task_events": events,
        "loglevel": "INFO",
        **quiet,
    }


def test_every_worker_of_ours_is_one_of_those() -> None:
    from factory_tasks.app import app

    assert issubclass(app.Worker, QuietWorker)


def test_flower_asks_where_nobody_hears_and_holds_nothing_of_a_workers() -> None:
    flower = configured(UA_REDIS_URL="redis://corporation_flower:pw@127.0.0.1:1/0")

    assert flower["control_exchange"] == "ctl.flower"
    assert (flower["control_queue_expires"], flower["event_queue_expires"]) == (None, None)
    assert flower["broker_transport_options"]["unacked_key"] == "unacked.flower"
    assert "control_exchange" not in configured(UA_REDIS_URL="redis://:pw@127.0.0.1:1/0")

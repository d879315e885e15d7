"""What Celery is told; each value here is one that lost or doubled missions when it was otherwise."""

from typing import Any

import pytest
from celery import Celery

import celeryconfig
from corporation.settings import load_settings


@pytest.fixture
def configuration() -> dict[str, Any]:
    return celeryconfig.configuration(load_settings({"UA_FACTORY_ID": "desk 7", "FACTORY_ROLE": "LOCAL_WORKER"}))


def test_nothing_but_json_is_read_from_the_network(configuration: dict[str, Any]) -> None:
    assert configuration["accept_content"] == configuration["result_accept_content"] == ["json"]
    assert configuration["task_serializer"] == configuration["result_serializer"] == "json"


def test_redis_never_hands_out_a_message_while_its_first_copy_may_run(configuration: dict[str, Any]) -> None:
    options = configuration["broker_transport_options"]

    assert options["visibility_timeout"] > configuration["task_time_limit"] > celeryconfig.LONGEST_MISSION_SECONDS


def test_results_are_retried_for_ever_and_connections_too(configuration: dict[str, Any]) -> None:
    assert configuration["result_backend_always_retry"] is True
    assert configuration["result_backend_max_retries"] == float("inf")
    assert configuration["broker_connection_max_retries"] is None
    assert configuration["broker_channel_error_retry"] is True


def test_a_message_is_acknowledged_after_the_work_and_none_is_hoarded(configuration: dict[str, Any]) -> None:
    assert configuration["task_acks_late"] is True
    assert configuration["task_track_started"] is False
    assert configuration["worker_disable_prefetch"] is True


def test_every_socket_has_a_limit(configuration: dict[str, Any]) -> None:
    options = configuration["broker_transport_options"]

    assert 1 < options["socket_timeout"] <= 30
    assert options["socket_connect_timeout"] <= 10
    assert options["socket_keepalive"] is True
    assert options["health_check_interval"] <= 30


def test_unacknowledged_messages_are_each_factorys_own(configuration: dict[str, Any]) -> None:
    options = configuration["broker_transport_options"]

    assert options["unacked_key"] == "unacked:desk-7"
    assert len({options["unacked_key"], options["unacked_index_key"], options["unacked_mutex_key"]}) == 3


def test_a_queue_that_was_never_declared_is_an_error(configuration: dict[str, Any]) -> None:
    names = [queue.name for queue in configuration["task_queues"]]

    assert names == ["local_factory", "factory.desk-7", "desk-7.control"]
    assert configuration["task_create_missing_queues"] is False


def test_celery_knows_every_setting(configuration: dict[str, Any]) -> None:
    """A misspelled setting is silently ignored by Celery, so each name is looked up."""
    from celery.app.defaults import NAMESPACES, flatten

    known = {name.replace(".", "_") for name, _ in flatten(NAMESPACES)}

    assert set(configuration) - known == set()


def test_the_password_of_the_mailbox_is_not_in_the_banner() -> None:
    settings = load_settings({"UA_RESULT_BACKEND_URL": "postgresql://hq:canary-pw@127.0.0.1/x"})
    app = Celery("t")
    app.conf.update(celeryconfig.configuration(settings))

    assert "canary-pw" not in app.backend.as_uri()

"""What a node's beat asks for, and where results go; headquarters looks after its fleet, a factory after itself."""

from typing import Any

import pytest

import celeryconfig
from corporation.settings import load_settings

HQ = {
    "FACTORY_ROLE": "HEADQUARTERS",
    "UA_FACTORY_ID": "hq",
    "UA_DATABASE_URL": "postgresql://hq:canary-pw@127.0.0.1/x",
    "UA_FACTORY_SWEEP_SECONDS": "30",
    "UA_HEARTBEAT_INTERVAL_SECONDS": "20",
}
FACTORY = {"FACTORY_ROLE": "LOCAL_WORKER", "UA_FACTORY_ID": "desk-7"}


def configuration(variables: dict[str, str]) -> dict[str, Any]:
    return celeryconfig.configuration(load_settings(variables))


def test_headquarters_beats_sweeps_and_asks_for_echoes() -> None:
    told = configuration(HQ)

    assert {job["task"]: job["schedule"] for job in told["beat_schedule"].values()} == {
        celeryconfig.HEARTBEAT_TASK: 20.0,
        celeryconfig.SWEEP_TASK: 30.0,
        celeryconfig.ASK_TASK: 60.0,
    }
    assert told["beat_scheduler"] == "factory_tasks.locked_scheduler:LockedScheduler"
    assert "factory_tasks.fleet_jobs" in told["imports"]


def test_every_job_is_for_the_nodes_own_control_worker_and_soon_old() -> None:
    for variables, queue in ((HQ, "hq.control"), (FACTORY, "desk-7.control")):
        for job in configuration(variables)["beat_schedule"].values():
            assert job["options"] == {"queue": queue, "expires": job["schedule"], "ignore_result": True}


def test_a_factory_only_beats_with_celerys_own_scheduler() -> None:
    told = configuration(FACTORY)

    assert [job["task"] for job in told["beat_schedule"].values()] == [celeryconfig.HEARTBEAT_TASK]
    assert "beat_scheduler" not in told
    assert "factory_tasks.fleet_jobs" not in told["imports"]


def test_a_factory_with_a_database_address_is_no_headquarters() -> None:
    told = configuration(FACTORY | {"UA_DATABASE_URL": HQ["UA_DATABASE_URL"]})

    assert "beat_scheduler" not in told


@pytest.mark.parametrize(
    ("variables", "backend"),
    [
        ({"UA_RESULT_BACKEND_URL": "postgresql://127.0.0.1/x"}, "factory_tasks.mailbox:MailboxBackend+"),
        ({"UA_HQ_BASE_URL": "https://hq.example"}, "factory_tasks.https_backend:HttpsBackend"),
        (
            {"UA_RESULT_BACKEND_URL": "postgresql://127.0.0.1/x", "UA_HQ_BASE_URL": "https://hq.example"},
            "factory_tasks.mailbox:MailboxBackend+",
        ),
    ],
)
def test_results_go_to_the_mailbox_where_there_is_one_and_else_over_https(
    variables: dict[str, str], backend: str
) -> None:
    assert configuration(FACTORY | variables)["result_backend"].startswith(backend)


def test_without_either_there_is_no_backend() -> None:
    assert configuration(FACTORY)["result_backend"] is None

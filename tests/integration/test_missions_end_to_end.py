"""The whole way with real processes: published over REST, run by a Celery worker, brought home by the engine."""

import io
import json
import subprocess
import sys
import tarfile
from base64 import b64encode
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from ops.bench.cluster import ROOT, Cluster

FINAL = {"succeeded", "failed", "timed_out", "cancelled"}


@pytest.fixture(scope="module")
def cluster(
    tmp_path_factory: pytest.TempPathFactory, module_servers: tuple[str, str], wait_until: Callable[..., Any]
) -> Iterator[Cluster]:
    """API, engine and one worker, for all tests here; a retry comes after a tenth of a second."""
    database_url, redis_url = module_servers
    folder = tmp_path_factory.mktemp("cluster")
    quick = {"UA_MISSION_RETRY_BASE_SECONDS": "0.1", "UA_HEARTBEAT_INTERVAL_SECONDS": "10"}
    with Cluster(folder, database_url, redis_url, lambda condition: wait_until(condition, 60), quick) as cluster:
        cluster.start_api()
        cluster.start_engine()
        cluster.start_worker()
        with psycopg.connect(database_url, autocommit=True) as db:
            slots = "SELECT 1 FROM corporation.factories WHERE slots = 2"
            wait_until(lambda: db.execute(slots).fetchone(), 30, "the worker's first beat")
        yield cluster


@pytest.fixture
def publish(cluster: Cluster) -> Callable[..., str]:
    def send(context: dict[str, Any], task: str = "t", **envelope: Any) -> str:
        body = {"payload": {"task": task, "context": {"mission_kind": "noop", **context}}, **envelope}
        with cluster.client as client:
            return client.post("/api/v1/delegation/publish", json=body).raise_for_status().json()["job_id"]

    return send


@pytest.fixture
def finished(cluster: Cluster, wait_until: Callable[..., Any]) -> Callable[[str], dict[str, Any]]:
    def read(job_id: str) -> dict[str, Any]:
        with cluster.client as client:

            def final() -> dict[str, Any] | None:
                mission = client.get(f"/api/v1/missions/{job_id}").json()
                return mission if mission["state"] in FINAL else None

            return wait_until(final, 30, f"mission {job_id} final")

    return read


def events(cluster: Cluster, job_id: str) -> list[dict[str, Any]]:
    with cluster.client as client:
        return client.get(f"/api/v1/missions/{job_id}/events").json()["events"]


def test_a_mission_succeeds_with_its_result_and_its_history(
    cluster: Cluster, publish: Callable[..., str], finished: Callable[[str], dict[str, Any]]
) -> None:
    mission = finished(publish({}, task="hello"))

    assert mission["state"] == "succeeded"
    assert mission["result"]["echo"] == "hello"
    assert mission["result"]["mission_id"] == mission["job_id"]
    told = [event["type"] for event in events(cluster, mission["job_id"])]
    # The results stream may have been told of it already.
    assert told[:4] == ["published", "queued", "started", "succeeded"]
    assert told[4:] in ([], ["result_published"])


def test_a_failing_mission_is_tried_as_often_as_asked_and_then_fails(
    cluster: Cluster, publish: Callable[..., str], finished: Callable[[str], dict[str, Any]]
) -> None:
    mission = finished(publish({"answer": "failed"}, max_retries=3))

    assert (mission["state"], mission["attempt"], mission["error"]) == ("failed", 3, "asked to fail")
    assert [event["type"] for event in events(cluster, mission["job_id"])].count("retry_scheduled") == 2
    assert [one["state"] for one in mission["attempts"]] == ["failed", "failed", "failed"]


def test_a_permanent_failure_is_not_tried_again(
    publish: Callable[..., str], finished: Callable[[str], dict[str, Any]]
) -> None:
    mission = finished(publish({"answer": "stop"}, max_retries=3))

    assert (mission["state"], mission["attempt"]) == ("failed", 1)


def test_an_exception_in_a_handler_is_a_failure_with_its_words(
    publish: Callable[..., str], finished: Callable[[str], dict[str, Any]]
) -> None:
    mission = finished(publish({"answer": "raise"}, max_retries=1))

    assert mission["error"] == "ValueError: asked to raise"


def test_a_mission_over_its_time_limit_is_stopped_and_timed_out(
    publish: Callable[..., str], finished: Callable[[str], dict[str, Any]]
) -> None:
    """S-31."""
    mission = finished(publish({"sleep": 60}, timeout_seconds=1, max_retries=1))

    assert mission["state"] == "timed_out"


def test_a_mission_says_that_it_runs_and_its_log_can_be_read_meanwhile(
    cluster: Cluster, publish: Callable[..., str], wait_until: Callable[..., Any], finished: Callable[[str], Any]
) -> None:
    job_id = publish({"lines": ["first", "second"], "sleep": 4})
    with cluster.client as client:
        wait_until(lambda: client.get(f"/api/v1/missions/{job_id}").json()["state"] == "running", 10, "running")
        lines: list[str] = []
        with client.stream("GET", f"/api/v1/missions/{job_id}/log") as stream:
            for line in stream.iter_lines():
                if line.startswith("data:") and "line" in (data := json.loads(line[5:])):
                    lines.append(data["line"])
                if len(lines) == 2:
                    break
        running = client.get(f"/api/v1/missions/{job_id}").json()["state"]

    assert lines == ["first", "second"]
    assert running == "running"
    assert finished(job_id)["state"] == "succeeded"


def test_the_log_of_a_finished_mission_ends_and_can_be_resumed(
    cluster: Cluster, publish: Callable[..., str], finished: Callable[[str], Any]
) -> None:
    job_id = publish({"lines": ["a", "b", "c"]})
    finished(job_id)
    with cluster.client as client:
        whole = client.get(f"/api/v1/missions/{job_id}/log").text
        first = next(line[4:] for line in whole.splitlines() if line.startswith("id: "))
        rest = client.get(f"/api/v1/missions/{job_id}/log", headers={"Last-Event-ID": first}).text

    assert whole.count("event: log") == 3
    assert rest.count("event: log") == 2
    assert whole.rstrip().splitlines()[-2] == "event: end"


def test_celery_itself_shows_the_outcome_of_every_attempt(
    cluster: Cluster, publish: Callable[..., str], finished: Callable[[str], dict[str, Any]]
) -> None:
    attempt_id = finished(publish({}, task="shown"))["attempts"][0]["attempt_id"]

    answer = subprocess.run(
        [sys.executable, "-m", "celery", "-A", "factory_tasks", "result", attempt_id],
        cwd=ROOT,
        env=cluster._hq(),
        capture_output=True,
        text=True,
        check=True,
    )
    assert "'echo': 'shown'" in answer.stdout


def test_a_repository_is_made_from_a_bundle_and_its_tests_run(
    cluster: Cluster, publish: Callable[..., str], finished: Callable[[str], dict[str, Any]]
) -> None:
    script = b'mkdir -p "$1/$2" && cd "$1/$2" && echo hi > README && echo "Repo ready: $PWD"\n'
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        member = tarfile.TarInfo("implementation/create_new_repo.sh")
        member.size = len(script)
        archive.addfile(member, io.BytesIO(script))
    context = {
        "mission_kind": "tutorial_bootstrap_repo",
        "bundle_base64": b64encode(packed.getvalue()).decode(),
        "repo_name": "made",
        "verify": ["grep", "hi", "README"],
    }

    mission = finished(publish(context))

    assert mission["state"] == "succeeded", mission["error"]
    assert mission["mission_kind"] == "bootstrap_repo"
    repository = Path(mission["result"]["repo_dir"])
    log = subprocess.run(["git", "log", "--format=%H"], cwd=repository, capture_output=True, text=True, check=True)
    assert log.stdout.split() == [mission["result"]["commit"]]
    assert mission["result"]["verify"]["exit_code"] == 0


def test_a_run_folder_at_headquarters_reaches_the_factory(
    cluster: Cluster, publish: Callable[..., str], finished: Callable[[str], dict[str, Any]]
) -> None:
    run = cluster.folder / "artifacts" / "runs" / "one" / "implementation"
    run.mkdir(parents=True)
    (run / "create_new_repo.sh").write_text('mkdir "$1/$2" && echo x > "$1/$2/x" && echo "Repo ready: $1/$2"\n')

    mission = finished(publish({"mission_kind": "bootstrap_repo", "tutorial_run_path": "runs/one", "repo_name": "two"}))

    assert mission["state"] == "succeeded", mission["error"]


@pytest.mark.parametrize("path", ["../outside", "runs/none", "/etc"])
def test_a_run_outside_the_artifact_root_fails_for_good(
    publish: Callable[..., str], finished: Callable[[str], dict[str, Any]], path: str
) -> None:
    mission = finished(publish({"mission_kind": "bootstrap_repo", "tutorial_run_path": path}))

    assert (mission["state"], mission["attempt"]) == ("failed", 1)


def started_worker(env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """The plain command, which here ends by itself."""
    return subprocess.run(
        [sys.executable, "-m", "celery", "-A", "factory_tasks", "worker", "-Q", "local_factory"],
        cwd=ROOT,
        env=env,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_worker_refuses_to_start_when_it_could_not_report(cluster: Cluster) -> None:
    ways = ("UA_RESULT_BACKEND_URL", "UA_HQ_BASE_URL")
    env = {name: value for name, value in cluster._factory().items() if name not in ways}
    answer = started_worker(env)

    assert answer.returncode == 78
    assert "UA_RESULT_BACKEND_URL is missing" in answer.stderr


def test_a_wrong_environment_is_told_in_whole_and_without_the_values_of_secrets() -> None:
    """E-3"""
    wrong = {"UA_REDIS_PORT": "six", "UA_FACTORY_SLOTS": "0", "UA_OPS_JWT_SECRET": "short-secret"}
    answer = started_worker({"PATH": "/usr/bin:/bin", **wrong})

    assert answer.returncode == 78
    assert "UA_REDIS_PORT" in answer.stderr
    assert "UA_FACTORY_SLOTS" in answer.stderr
    assert "'six'" in answer.stderr
    assert "UA_OPS_JWT_SECRET" in answer.stderr
    assert "short-secret" not in answer.stderr + answer.stdout
    assert "Traceback" not in answer.stderr

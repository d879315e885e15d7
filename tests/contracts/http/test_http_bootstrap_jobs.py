"""Bootstrap jobs: ordered, claimed, begun and brought home over HTTP by workers of others (contract http §11)."""

import io
import json
import re
import tarfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
import stranger
from served_api import Api, forgetful, registered, served, settings_for, token

ORDER = "/api/v1/dashboard/tutorials/bootstrap-repo"
LISTED = "/api/v1/dashboard/tutorials/bootstrap-jobs"
NEWS = "/api/v1/dashboard/tutorials/notifications"
JOBS = "/api/v1/ops/tutorials/bootstrap-jobs"
BEAT = "/api/v1/factory/registrations"
RUNS = "youtube-tutorial-creation"
KEYS = [
    *("job_id", "status", "queued_at", "queued_at_epoch", "execution_target", "tutorial_run_path", "tutorial_title"),
    *("video_id", "video_url", "repo_name", "target_root", "python_version", "timeout_seconds", "dispatch_backend"),
    *("delegation_message_id", "dispatch_fallback_reason", "worker_id", "claim_attempts", "claimed_at"),
    *("claimed_at_epoch", "started_at", "requeued_at", "completed_at", "finished_at", "repo_dir", "repo_open_uri"),
    *("repo_open_hint", "stdout", "stderr", "error"),
]
GOOD = 'mkdir -p "$1/$2" && echo hello > "$1/$2/a.txt" && echo "Repo ready: $1/$2"\n'


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the runs of the module lie, and its repositories."""
    return tmp_path_factory.mktemp("hq")


@pytest.fixture(scope="module")
def module_api(module_servers: tuple[str, str], place: Path, wait_until: Callable[..., Any]) -> Iterator[Api]:
    """A headquarters whose broker is not there, with runs of its own."""
    settings = settings_for(
        module_servers[0],
        UA_ARTIFACT_ROOT=str(place / "artifacts"),
        UA_TUTORIAL_BOOTSTRAP_LOCAL_ROOT=str(place / "repositories"),
        UA_HQ_BASE_URL="http://127.0.0.1:9",
    )
    with served(settings) as api:
        registered(api, wait_until)
        yield api


@pytest.fixture
def run(api: Api) -> Callable[..., str]:
    """Makes a run folder with this script and returns its path."""

    def make(name: str = "run-5", script: str = GOOD, **manifest: Any) -> str:
        folder = Path(api.settings.artifact_root) / RUNS / name
        (folder / "implementation").mkdir(parents=True, exist_ok=True)
        (folder / "implementation" / "create_new_repo.sh").write_text(script)
        (folder / "manifest.json").write_text(json.dumps({"title": "Queue demo", "video_id": "v-1"} | manifest))
        return f"{RUNS}/{name}"

    return make


def order(api: Api, run_path: str, **more: Any) -> dict[str, Any]:
    answer = api.ops.post(ORDER, json={"run_path": run_path, **more})
    assert answer.status_code == 200, answer.text
    return answer.json()


def claim(client: httpx.Client, worker_id: str | None = "bench-2-4411") -> Any:
    answer = client.post(f"{JOBS}/claim", json={"worker_id": worker_id} if worker_id else {})
    assert answer.status_code == 200, answer.text
    return answer.json()["job"]


def say(client: httpx.Client, job_id: str, what: str, **body: Any) -> httpx.Response:
    return client.post(f"{JOBS}/{job_id}/{what}", json={"worker_id": "bench-2-4411", **body})


def job_of(api: Api, job_id: str) -> dict[str, Any]:
    [job] = [one for one in api.ops.get(LISTED).json()["jobs"] if one["job_id"] == job_id]
    return job


def kinds_of_news(api: Api) -> list[str]:
    return [one["kind"].removeprefix("tutorial_repo_bootstrap_") for one in api.ops.get(NEWS).json()["notifications"]]


def end_backoff(api: Api) -> None:
    api.sql("UPDATE corporation.missions SET next_attempt_at = now() WHERE next_attempt_at IS NOT NULL")


def test_an_order_is_answered_in_the_documented_shape_and_is_one_mission(api: Api, run: Callable[..., str]) -> None:
    """H-33, H-34."""
    answer = order(api, run(), timeout_seconds=5)
    job = answer.pop("job")
    mission = api.ops.get(f"/api/v1/missions/{job['job_id']}").json()

    assert re.fullmatch(r"tbj_\d{13}_[0-9a-f]{6}", answer["job_id"])
    assert re.fullmatch(r"queue_demo__\d{8}_\d{6}", answer["repo_name"])
    assert answer == {
        "queued": True,
        "job_id": job["job_id"],
        "status": "queued",
        "execution_target": "local",
        "dispatch_backend": "http_queue",
        "run_path": f"{RUNS}/run-5",
        "repo_name": job["repo_name"],
        "target_root": "",
        "existing_job_reused": False,
        "worker_hint": "start a worker with the label tutorial_bootstrap_consumer",
    }
    assert list(job) == KEYS
    assert (job["dispatch_fallback_reason"], job["timeout_seconds"], job["claim_attempts"]) == ("redis down", 30, 0)
    assert (mission["idempotency_key"], mission["priority"]) == (f"tutorial-bootstrap:{job['job_id']}", 1)
    assert (mission["max_retries"], mission["mission_kind"]) == (3, "bootstrap_repo")
    context = mission["envelope"]["payload"]["context"]
    assert (context["mission_kind"], context["_retry_count"]) == ("tutorial_bootstrap_repo", 0)
    assert (context["gateway_url"], context["tutorial_run_path"]) == ("http://127.0.0.1:9", f"{RUNS}/run-5")
    assert {"job_id", "repo_name", "target_root", "python_version", "timeout_seconds"} <= set(context)
    assert kinds_of_news(api) == ["queued"]


def test_a_run_has_one_unfinished_job_however_many_ask_at_once(api: Api, run: Callable[..., str]) -> None:
    path = run()
    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda _: order(api, path), range(6)))

    assert len({answer["job_id"] for answer in answers}) == 1
    assert sorted(answer["existing_job_reused"] for answer in answers) == [False] + [True] * 5
    assert api.stored() == 1
    assert claim(api.ops)["job_id"] == answers[0]["job_id"]
    assert order(api, path) | {"job": None} == answers[0] | {
        "status": "running",
        "existing_job_reused": True,
        "job": None,
    }


def test_two_jobs_that_make_up_the_same_name_get_two(api: Api, run: Callable[..., str]) -> None:
    names = [order(api, run(f"run-{number}"))["repo_name"] for number in range(4)]

    assert len(set(names)) == 4
    assert all(len(name) <= 120 and name.startswith("queue_demo__") for name in names)


def test_a_name_that_was_given_is_made_clean(api: Api, run: Callable[..., str]) -> None:
    answer = order(api, run(), repo_name="../my repo!", target_root="demos", python_version="3.12")

    assert (answer["repo_name"], answer["target_root"]) == ("my_repo", "demos")
    assert answer["job"]["python_version"] == "3.12"


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"execution_target": "moon"}, 400),
        ({"run_path": ""}, 400),
        ({"run_path": None}, 400),
        ({"run_path": "elsewhere/run-5"}, 400),
        ({"run_path": RUNS}, 400),
        ({"run_path": f"{RUNS}/empty"}, 400),
        ({"run_path": f"{RUNS}/thought"}, 400),
        ({"run_path": f"{RUNS}/../../../etc"}, 403),
        ({"run_path": "/etc"}, 403),
        ({"run_path": f"{RUNS}/link"}, 403),
        ({"run_path": f"{RUNS}/nowhere"}, 404),
        ({"execution_target": "server", "target_root": "../.."}, 403),
        ({"execution_target": "vps", "target_root": "/etc"}, 403),
        ({"run_path": ["x"]}, 422),
        ({"run_path": "a\0b"}, 422),
        ({"timeout_seconds": "soon"}, 422),
        ({"python_version": "--help"}, 422),
    ],
)
def test_what_cannot_be_made_is_refused(
    api: Api, run: Callable[..., str], changes: dict[str, Any], status: int
) -> None:
    """The error table of §11."""
    run("thought", implementation_required=False)
    folder = Path(api.settings.artifact_root) / RUNS
    (folder / "empty").mkdir(exist_ok=True)
    if not (folder / "link").is_symlink():
        (folder / "link").symlink_to("/etc")
    (Path(api.settings.artifact_root) / "elsewhere" / "run-5" / "implementation").mkdir(parents=True, exist_ok=True)
    answer = api.ops.post(ORDER, json={"run_path": run(), **changes})

    assert answer.status_code == status, answer.text
    assert (api.stored(), kinds_of_news(api)) == (0, [])


@pytest.mark.parametrize("word", ["", "local", "Desktop", " local_desktop "])
def test_every_word_for_a_worker_makes_a_job(api: Api, run: Callable[..., str], word: str) -> None:
    assert order(api, run(), execution_target=word)["execution_target"] == "local"


def test_a_job_is_claimed_begun_and_brought_home(api: Api, run: Callable[..., str]) -> None:
    job_id = order(api, run(), repo_name="queue_demo")["job_id"]
    claimed = claim(api.ops)
    begun = [say(api.ops, job_id, "start") for _ in range(2)]
    bundle = api.ops.get(f"{JOBS}/{job_id}/bundle")
    body = {"status": "completed", "repo_dir": "/r/queue_demo", "stdout": "Repo ready: /r/queue_demo", "error": ""}
    ended = [say(api.ops, job_id, "result", **body) for _ in range(2)]

    assert (claimed["job_id"], claimed["status"], claimed["worker_id"]) == (job_id, "running", "bench-2-4411")
    assert claimed["claimed_at_epoch"] == pytest.approx(datetime.fromisoformat(claimed["claimed_at"]).timestamp())
    assert [(answer.status_code, answer.json()["worker_id"]) for answer in begun] == [(200, "bench-2-4411")] * 2
    assert begun[0].json() == begun[1].json()
    assert begun[0].json()["job"]["started_at"] >= claimed["claimed_at"]
    assert bundle.headers["content-disposition"] == f'attachment; filename="{job_id}_implementation.tgz"'
    with tarfile.open(fileobj=io.BytesIO(bundle.content), mode="r:gz") as archive:
        assert {name.split("/")[0] for name in archive.getnames()} == {"implementation"}
    assert [answer.status_code for answer in ended] == [200, 200]
    assert ended[0].json() == ended[1].json()
    job = ended[0].json()["job"]
    assert list(job) == KEYS
    assert (job["status"], job["repo_dir"], job["repo_open_uri"]) == (
        "completed",
        "/r/queue_demo",
        "file:///r/queue_demo",
    )
    assert job["repo_open_hint"] == "Open /r/queue_demo on bench-2-4411"
    assert (job["completed_at"] == job["finished_at"] is not None, job["claim_attempts"]) == (True, 1)
    assert kinds_of_news(api) == ["ready", "queued"]
    [news, _] = api.ops.get(NEWS).json()["notifications"]
    assert news["metadata"] == {
        "job_id": job_id,
        "tutorial_run_path": f"{RUNS}/run-5",
        "repo_name": "queue_demo",
        "repo_dir": "/r/queue_demo",
        "status": "completed",
        "error": "",
        "execution_target": "local",
        "source": "dashboard",
    }
    assert api.ops.get(f"/api/v1/missions/{job_id}").json()["result"]["repo_dir"] == "/r/queue_demo"
    assert claim(api.ops) is None


def test_a_result_needs_no_start(api: Api, run: Callable[..., str]) -> None:
    order(api, run())
    job_id = claim(api.ops)["job_id"]

    answer = say(api.ops, job_id, "result", status="completed", repo_dir="x")
    assert answer.json()["job"]["status"] == "completed"


def test_the_oldest_job_is_claimed_first_and_each_once(api: Api, run: Callable[..., str]) -> None:
    ordered = [order(api, run(f"run-{number}"))["job_id"] for number in range(8)]
    first = claim(api.ops)["job_id"]
    with ThreadPoolExecutor(8) as pool:
        rest = list(pool.map(lambda number: claim(api.ops, f"worker-{number}"), range(8)))

    assert first == ordered[0]
    got = [job["job_id"] for job in rest if job]
    assert len(got) == len(set(got))
    while job := claim(api.ops):
        got.append(job["job_id"])
    assert sorted(got) == sorted(ordered[1:])


def test_a_failed_result_puts_the_job_back_until_its_attempts_are_used_up(api: Api, run: Callable[..., str]) -> None:
    """H-35: the backoff applies."""
    order(api, run())
    for number in (1, 2, 3):
        job = claim(api.ops)
        assert job["claim_attempts"] == number
        answer = say(api.ops, job["job_id"], "result", status="failed", error=f"no {number}", stderr="e" * 9000)
        told = answer.json()["job"]
        assert (told["status"], told["error"]) == ("queued" if number < 3 else "failed", f"no {number}")
        assert claim(api.ops) is None
        end_backoff(api)

    assert (len(told["stderr"]), told["completed_at"] is not None, told["requeued_at"] is not None) == (
        4000,
        True,
        True,
    )
    assert kinds_of_news(api) == ["failed", "queued"]
    assert [one["cause"] for one in api.ops.get("/api/v1/dlq").json()["entries"]] == ["failed"]


def test_of_long_texts_the_end_is_kept(api: Api, run: Callable[..., str]) -> None:
    """H-36."""
    order(api, run())
    job_id = claim(api.ops)["job_id"]
    texts = {name: f"{'x' * 20_000}-end" for name in ("stdout", "stderr", "error")}
    job = say(api.ops, job_id, "result", status="failed", **texts).json()["job"]
    end_backoff(api)
    claim(api.ops)
    job = say(api.ops, job_id, "result", status="completed", **texts).json()["job"]

    assert [(len(job[name]), job[name][-4:]) for name in ("stdout", "stderr")] == [(6000, "-end"), (4000, "-end")]


def test_an_error_has_twelve_hundred_characters_at_most(api: Api, run: Callable[..., str]) -> None:
    order(api, run())
    job_id = claim(api.ops)["job_id"]
    job = say(api.ops, job_id, "result", status="failed", error=f"{'x' * 20_000}-end").json()["job"]

    assert (len(job["error"]), job["error"][-4:]) == (1200, "-end")


def test_a_secret_in_what_a_worker_says_of_a_failure_is_neither_stored_nor_told(
    api: Api, run: Callable[..., str]
) -> None:
    """S-40."""
    order(api, run())
    job_id = claim(api.ops)["job_id"]
    told = {"error": "https://me:hunter2@host/x", "stderr": f"{'x' * 9000} token=hunter2", "stdout": "secret: hunter2"}
    job = say(api.ops, job_id, "result", status="failed", **told).json()["job"]

    assert job["error"] == "https://me:***@host/x"
    [mission] = api.sql("SELECT row_to_json(m)::text AS whole FROM corporation.missions AS m")
    [letter] = api.sql(
        "SELECT result FROM mailbox.celery_taskmeta WHERE task_id IN (SELECT id::text FROM corporation.attempts)"
    )
    assert "hunter2" not in mission.whole + bytes(letter.result).decode()


def test_another_worker_is_refused_and_changes_nothing(api: Api, run: Callable[..., str]) -> None:
    order(api, run())
    job_id = claim(api.ops)["job_id"]
    codes = [
        say(api.ops, job_id, "start", worker_id="else").status_code,
        say(api.ops, job_id, "result", worker_id="else", status="completed").status_code,
        say(api.ops, "tbj_0_0", "start").status_code,
        say(api.ops, "tbj_0_0", "result", status="completed").status_code,
        api.ops.get(f"{JOBS}/tbj_0_0/bundle").status_code,
        say(api.ops, job_id, "result", status="done").status_code,
        say(api.ops, job_id, "result").status_code,
        say(api.ops, job_id, "result", status="completed", stdout="\0").status_code,
        say(api.ops, job_id, "start", worker_id=7).status_code,
    ]

    assert codes == [409, 409, 404, 404, 404, 400, 400, 422, 422]
    assert job_of(api, job_id)["status"] == "running"


def test_a_job_that_nobody_holds_is_claimed_by_who_starts_it(api: Api, run: Callable[..., str]) -> None:
    job_id = order(api, run())["job_id"]

    assert say(api.ops, job_id, "start").json()["job"]["worker_id"] == "bench-2-4411"
    assert say(api.ops, job_id, "start", worker_id="else").status_code == 409


def test_what_is_over_can_neither_be_started_nor_end_otherwise(api: Api, run: Callable[..., str]) -> None:
    order(api, run())
    job_id = claim(api.ops)["job_id"]
    say(api.ops, job_id, "result", status="completed", repo_dir="a").raise_for_status()

    assert say(api.ops, job_id, "start").status_code == 409
    assert say(api.ops, job_id, "result", status="failed", error="no").status_code == 409
    assert job_of(api, job_id)["status"] == "completed"
    events = [one["type"] for one in api.ops.get(f"/api/v1/missions/{job_id}/events").json()["events"]]
    assert (events.count("succeeded"), events.count("late_result")) == (1, 1)


def test_a_claim_lasts_for_the_documented_time_and_a_start_for_as_long(api: Api, run: Callable[..., str]) -> None:
    """H-35: the longer of the claim's time and the job's limit and a minute."""
    lease = "SELECT extract(epoch FROM lease_expires_at - now()) FROM corporation.attempts ORDER BY created_at DESC"
    order(api, run(), timeout_seconds=900)
    job_id = claim(api.ops)["job_id"]
    first = float(api.sql(lease)[0][0])
    say(api.ops, job_id, "start").raise_for_status()
    second = float(api.sql(lease)[0][0])
    order(api, run("run-6"), timeout_seconds=9999)
    claim(api.ops)

    assert [first, second, float(api.sql(lease)[0][0])] == pytest.approx([1800, 1800, 3660], abs=60)


def test_a_cancelled_job_is_over_and_its_worker_hears_it(api: Api, run: Callable[..., str]) -> None:
    job_id = order(api, run())["job_id"]
    api.ops.post(f"/api/v1/missions/{job_id}/cancel", json={"reason": "not needed"}).raise_for_status()

    assert (claim(api.ops), say(api.ops, job_id, "start").status_code) == (None, 409)
    assert (job_of(api, job_id)["status"], kinds_of_news(api)) == ("failed", ["failed", "queued"])


# Factories


@pytest.fixture
def bench(api: Api) -> Iterator[httpx.Client]:
    """The factory bench-2, whose program beats as in F-6."""
    with api.as_token(token("factory", factory_id="bench-2", jti=None)) as client:
        client.post(BEAT, json=beat("bench-2")).raise_for_status()
        yield client


def beat(factory_id: str, transport: str = "http", **more: Any) -> dict[str, Any]:
    return {
        "factory_id": factory_id,
        "factory_role": "LOCAL_WORKER",
        "registration_status": "online",
        "capabilities": ["tutorial_bootstrap_consumer", f"transport:{transport}"],
        "metadata": {"worker_id": f"{factory_id}-4411", "hostname": factory_id, "pid": 4411, "transport": transport},
        **more,
    }


def factory_of(api: Api, job_id: str) -> str:
    return api.ops.get(f"/api/v1/missions/{job_id}").json()["factory_id"]


def test_a_factory_claims_for_itself_and_nobody_else_may_speak_for_it(
    api: Api, bench: httpx.Client, run: Callable[..., str]
) -> None:
    order(api, run())
    job_id = claim(bench)["job_id"]
    with api.as_token(token("factory", factory_id="desk-8", jti=None)) as other:
        codes = [
            say(other, job_id, "start").status_code,
            say(other, job_id, "result", status="completed").status_code,
            other.get(f"{JOBS}/{job_id}/bundle").status_code,
        ]

    assert codes == [409, 409, 403]
    assert factory_of(api, job_id) == "bench-2"
    assert bench.get(f"{JOBS}/{job_id}/bundle").status_code == 200
    assert say(bench, job_id, "result", status="completed", repo_dir="r").json()["job"]["status"] == "completed"


def test_with_an_operators_token_the_attempt_is_of_the_factory_whose_beat_names_the_worker(
    api: Api, bench: httpx.Client, run: Callable[..., str]
) -> None:
    del bench
    names = []
    for number, worker in enumerate(("bench-2-4411", "unheard-of", None)):
        order(api, run(f"run-{number}"))
        names.append(factory_of(api, claim(api.ops, worker)["job_id"]))

    assert names == ["bench-2", "unheard-of", "external"]


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE corporation.factories SET paused = true",
        "UPDATE corporation.factories SET registration_status = 'draining'",
        "UPDATE corporation.factories SET capabilities = '[\"vp_general\"]'",
    ],
)
def test_who_is_kept_away_or_cannot_do_it_gets_no_job(
    api: Api, bench: httpx.Client, run: Callable[..., str], change: str
) -> None:
    job_id = order(api, run())["job_id"]
    api.sql(change)

    assert (claim(bench), say(bench, job_id, "start").status_code) == (None, 409)
    assert job_of(api, job_id)["status"] == "queued"


def test_a_publisher_may_neither_order_nor_claim(api: Api, run: Callable[..., str]) -> None:
    path = run()
    with api.as_token(token("publish")) as publisher, api.as_token(token("factory", factory_id="desk-7")) as desk:
        assert publisher.post(f"{JOBS}/claim", json={}).status_code == 403
        for client in (publisher, desk):
            assert client.post(ORDER, json={"run_path": path}).status_code == 403
            assert [client.get(LISTED).status_code, client.get(NEWS).status_code] == [403, 403]
    assert [stranger.post(api.url + ORDER, json={}).status_code, stranger.get(api.url + LISTED).status_code] == [
        401
    ] * 2
    assert stranger.post(f"{api.url}{JOBS}/claim", json={}).status_code == 401


def test_a_cookie_orders_from_our_own_pages_only(api: Api, run: Callable[..., str]) -> None:
    """H-13."""
    path = run()
    own = {"Sec-Fetch-Site": "same-origin"}
    with stranger.client(api.url) as browser:
        login = browser.post("/dashboard/login", data={"token": api.ops.headers["authorization"][7:]}, headers=own)
        assert login.status_code in (302, 303), login.text
        foreign = browser.post(ORDER, json={"run_path": path}, headers={"Sec-Fetch-Site": "cross-site"})
        ours = browser.post(ORDER, json={"run_path": path}, headers=own)
        listed = browser.get(LISTED)

    assert (foreign.status_code, ours.status_code, listed.status_code) == (401, 200, 200)
    assert [job["job_id"] for job in listed.json()["jobs"]] == [ours.json()["job_id"]]


def test_the_newest_job_is_listed_first_and_a_run_can_be_named(api: Api, run: Callable[..., str]) -> None:
    jobs = [order(api, run(f"run-{number}"))["job_id"] for number in range(3)]
    listed = [job["job_id"] for job in api.ops.get(LISTED).json()["jobs"]]
    [one] = api.ops.get(LISTED, params={"run_path": f"{RUNS}/run-1"}).json()["jobs"]

    assert listed == jobs[::-1]
    assert one["job_id"] == jobs[1]
    assert len(api.ops.get(LISTED, params={"limit": -4}).json()["jobs"]) == 1
    assert len(api.ops.get(LISTED, params={"limit": 9999}).json()["jobs"]) == 3


def test_news_are_limited_and_dismissed_ones_hidden(api: Api, run: Callable[..., str]) -> None:
    for number in range(3):
        order(api, run(f"run-{number}"))
    [[oldest]] = api.sql("SELECT min(id) FROM corporation.notifications")
    api.sql("UPDATE corporation.notifications SET dismissed_at = now() WHERE id = :id", id=oldest)

    assert len(api.ops.get(NEWS).json()["notifications"]) == 2
    assert len(api.ops.get(NEWS, params={"include_dismissed": True}).json()["notifications"]) == 3
    assert len(api.ops.get(NEWS, params={"limit": 1}).json()["notifications"]) == 1


# Made at headquarters


def test_headquarters_makes_a_repository_itself(api: Api, run: Callable[..., str]) -> None:
    script = 'env > "$1/env.txt"; ' + GOOD
    answer = order(api, run(script=script), execution_target="server", repo_name="queue_demo", target_root="repos")
    target = Path(api.settings.repositories_root) / "repos"
    made = target / "queue_demo"

    assert answer == {
        "ok": True,
        "execution_target": "server",
        "run_path": f"{RUNS}/run-5",
        "repo_name": "queue_demo",
        "target_root": str(target),
        "repo_dir": str(made),
        "repo_open_uri": made.as_uri(),
        "repo_open_hint": f"Open {made} at HQ",
        "stdout": f"Repo ready: {made}\n",
        "stderr": "",
    }
    assert (made / "a.txt").read_text() == "hello\n"
    named = {line.partition("=")[0] for line in (target / "env.txt").read_text().splitlines()}
    assert not {name for name in named if name.startswith(("UA_", "DATABASE", "PYTHON"))}
    assert (api.stored(), kinds_of_news(api)) == (0, ["ready"])
    assert api.ops.get(NEWS).json()["notifications"][0]["metadata"]["execution_target"] == "server"
    again = api.ops.post(
        ORDER, json={"run_path": run(), "execution_target": "server", "repo_name": "queue_demo", "target_root": "repos"}
    )
    assert again.status_code == 400


@pytest.mark.parametrize(
    ("script", "says"),
    [
        ("echo it broke >&2; exit 3", "it broke"),
        ("true", "no_repository"),
        ('echo "Repo ready: /etc"', "no_repository"),
    ],
)
def test_a_script_that_fails_at_headquarters_is_a_500_and_is_told(
    api: Api, run: Callable[..., str], script: str, says: str
) -> None:
    path = run(script=script)
    answer = api.ops.post(ORDER, json={"run_path": path, "execution_target": "server"})

    assert (answer.status_code, says in answer.json()["detail"]) == (500, True)
    assert kinds_of_news(api) == ["failed"]


def test_jobs_survive_whatever_becomes_of_the_process(
    api: Api, run: Callable[..., str], cleaner: psycopg.Connection
) -> None:
    """H-36: they are in the ledger, and a second process of HQ knows them."""
    job_id = order(api, run())["job_id"]
    with served(api.settings) as second:
        assert [job["job_id"] for job in second.ops.get(LISTED).json()["jobs"]] == [job_id]
        assert claim(second.ops)["job_id"] == job_id
    assert say(api.ops, job_id, "result", status="completed").status_code == 200
    assert cleaner.execute("SELECT count(*) FROM corporation.bootstrap_jobs").fetchone() == (1,)


# By which way


@pytest.fixture
def connected(shared_url: str, module_servers: tuple[str, str], place: Path, run: Callable[..., str]) -> Iterator[Api]:
    """A headquarters whose broker is there."""
    del run
    settings = settings_for(shared_url, UA_REDIS_URL=module_servers[1], UA_ARTIFACT_ROOT=str(place / "artifacts"))
    with served(settings) as api:
        yield forgetful(api)


def test_while_the_broker_is_there_a_job_goes_to_our_own_factories(connected: Api, run: Callable[..., str]) -> None:
    """H-34."""
    job = order(connected, run())["job"]

    assert (job["dispatch_backend"], job["dispatch_fallback_reason"]) == ("redis_stream", None)
    assert claim(connected.ops) is None


def test_when_the_only_live_worker_asks_over_http_the_job_is_for_it(connected: Api, run: Callable[..., str]) -> None:
    """H-34: also when it came after the job was made."""
    job_id = order(connected, run())["job_id"]
    connected.ops.post(BEAT, json=beat("bench-2")).raise_for_status()

    assert job_of(connected, job_id)["dispatch_backend"] == "http_queue"
    assert order(connected, run("run-6"))["dispatch_backend"] == "http_queue"
    assert claim(connected.ops)["job_id"] == job_id
    assert job_of(connected, job_id)["dispatch_fallback_reason"] == "the only live workers ask over HTTP"


def test_while_one_of_our_own_factories_lives_the_job_is_not_for_http(connected: Api, run: Callable[..., str]) -> None:
    connected.ops.post(BEAT, json=beat("bench-2")).raise_for_status()
    ours = {
        "capabilities": ["tutorial_bootstrap_consumer", "delegation_redis"],
        "slots": 1,
        "queues": ["factory.desk-7"],
    }
    connected.ops.post(BEAT, json=beat("desk-7") | ours).raise_for_status()

    assert order(connected, run())["dispatch_backend"] == "redis_stream"
    assert claim(connected.ops) is None


def test_a_job_that_nobody_claimed_for_long_can_be_had_over_http(connected: Api, run: Callable[..., str]) -> None:
    """H-34."""
    job_id = order(connected, run())["job_id"]
    connected.sql("UPDATE corporation.missions SET created_at = now() - interval '1801 seconds'")

    assert job_of(connected, job_id)["dispatch_fallback_reason"] == "nobody claimed it within 1800 s"
    assert claim(connected.ops)["job_id"] == job_id


def test_a_job_whose_worker_fell_silent_can_be_had_over_http(connected: Api, run: Callable[..., str]) -> None:
    """H-35."""
    job_id = order(connected, run())["job_id"]
    say(connected.ops, job_id, "start").raise_for_status()
    connected.sql("UPDATE corporation.attempts SET state = 'lost', finished_at = now(), error = 'silent'")
    connected.sql("""
        UPDATE corporation.missions
           SET state = 'waiting', state_reason = 'backoff', attempt_id = NULL, started_at = NULL
    """)

    assert job_of(connected, job_id)["dispatch_fallback_reason"] == "its worker fell silent"
    assert say(connected.ops, job_id, "result", status="completed").status_code == 409
    assert claim(connected.ops, "another")["job_id"] == job_id

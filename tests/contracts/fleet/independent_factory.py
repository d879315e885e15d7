"""A factory as somebody outside would write it: httpx, nothing of ours; it beats, makes repositories and runs missions.

As a program it tries any server at which an HQ answers:
`UA_HQ_BASE_URL=https://… UA_OPS_TOKEN=… python independent_factory.py check`.
"""

import argparse
import io
import json
import os
import re
import subprocess
import sys
import tarfile
import tempfile
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx

BEATS = "/api/v1/factory/registrations"
CLAIM = "/api/v1/factory/missions/claim"
PUBLISH = "/api/v1/delegation/publish"
ORDER = "/api/v1/dashboard/tutorials/bootstrap-repo"
JOBS = "/api/v1/ops/tutorials/bootstrap-jobs"
INSTRUCTIONS = {"cancel", "desired_version", "paused", "shared_config_version"}
RECORD = {
    *("factory_id", "factory_role", "deployment_profile", "source", "registration_status", "heartbeat_latency_ms"),
    *("capabilities", "metadata", "first_seen_at", "last_seen_at", "updated_at", "paused"),
}
JOB = {
    *("job_id", "status", "queued_at", "queued_at_epoch", "execution_target", "tutorial_run_path", "tutorial_title"),
    *("video_id", "video_url", "repo_name", "target_root", "python_version", "timeout_seconds", "dispatch_backend"),
    *("delegation_message_id", "dispatch_fallback_reason", "worker_id", "claim_attempts", "claimed_at"),
    *("claimed_at_epoch", "started_at", "requeued_at", "completed_at", "finished_at", "repo_dir", "repo_open_uri"),
    *("repo_open_hint", "stdout", "stderr", "error"),
}
READY = re.compile(r"^Repo ready:\s*(.+?)\s*$", re.MULTILINE)


class Client:
    """What a program outside says to HQ, with one token."""

    def __init__(self, base_url: str, token: str | None = None) -> None:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        self.http = httpx.Client(base_url=base_url, headers=headers, timeout=40)

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self.http.close()

    def post(self, path: str, body: Any = None) -> httpx.Response:
        """POST this as JSON; bytes are sent as they are, and called JSON."""
        if isinstance(body, bytes):
            return self.http.post(path, content=body, headers={"Content-Type": "application/json"})
        # As any JSON library writes it, NaN included: what no such text may hold is for HQ to refuse.
        return self.post(path, json.dumps({} if body is None else body).encode())

    def beat(self, factory_id: str, **more: Any) -> httpx.Response:
        """One heartbeat with what existing clients send (F-6), and `more`."""
        return self.post(BEATS, small_beat(factory_id) | more)

    def token_of(self, factory_id: str) -> str:
        """A token of an hour that speaks for this factory only; this client's own must be a bootstrap credential."""
        answer = self.post("/auth/ops-token", {"scope": "factory", "factory_id": factory_id})
        return str(answer.raise_for_status().json()["token"])

    def claim(self, factory_id: str, **more: Any) -> list[dict[str, Any]]:
        """The attempts that the factory holds now."""
        return list(self.post(CLAIM, {"factory_id": factory_id, **more}).raise_for_status().json()["attempts"])

    def attempt(self, attempt_id: str, what: str, body: Any = None) -> httpx.Response:
        """`start`, `progress` or `result` of an attempt."""
        return self.post(f"/api/v1/factory/missions/{quote(attempt_id, safe='')}/{what}", body)

    def job(self, job_id: str, what: str, worker_id: str, **body: Any) -> httpx.Response:
        """`start` or `result` of a bootstrap job."""
        return self.post(f"{JOBS}/{quote(job_id, safe='')}/{what}", {"worker_id": worker_id, **body})

    def claim_job(self, worker_id: str) -> dict[str, Any] | None:
        """The bootstrap job that this worker holds now, or None."""
        return self.post(f"{JOBS}/claim", {"worker_id": worker_id}).raise_for_status().json()["job"]

    def bundle(self, job_id: str) -> bytes:
        """The tar.gz with the job's script."""
        return self.http.get(f"{JOBS}/{quote(job_id, safe='')}/bundle").raise_for_status().content


def small_beat(factory_id: str) -> dict[str, Any]:
    """What an external bootstrap worker has always sent (F-6)."""
    return {
        "factory_id": factory_id,
        "factory_role": "LOCAL_WORKER",
        "registration_status": "online",
        "capabilities": ["tutorial_bootstrap_consumer", "transport:http"],
        "metadata": {"worker_id": f"{factory_id}-1", "hostname": "bench", "pid": 1, "transport": "http"},
    }


def full_beat(factory_id: str) -> dict[str, Any]:
    """Every field of fleet §2."""
    return small_beat(factory_id) | {
        "deployment_profile": "local_workstation",
        "heartbeat_latency_ms": 38.5,
        "capabilities": ["tutorial_bootstrap_consumer", "vp_general", "transport:http"],
        "running": [],
        "slots": 2,
        "queues": [f"factory.{factory_id}"],
        "version": "4f2a9c1d0b7e6a5f4c3b2a190817263544f0e1d2",
        "cost_snapshot": {
            "factory_id": factory_id,
            "period_start": "2026-06-01T00:00:00.000000+00:00",
            "period_end": "2026-06-01T08:00:00.000000+00:00",
            "total_input_tokens": 51200,
            "total_output_tokens": 6400,
            "total_requests": 44,
            "estimated_cost_usd": 0.21,
            "breakdown_by_model": {},
        },
    }


def mission(job_id: str, factory_id: str, **changes: Any) -> dict[str, Any]:
    """A mission for this factory only."""
    context = {"mission_kind": "general_task", "target_factory_id": factory_id}
    payload = {"task": "Say hello to the contract", "context": context}
    return {"job_id": job_id, "idempotency_key": f"key-{job_id}", "payload": payload, "max_retries": 1} | changes


def make_repository(job: dict[str, Any], bundle: bytes, root: Path) -> dict[str, Any]:
    """Run the job's script below `root` as H-37 says it; what is to be told of it is returned."""
    with tempfile.TemporaryDirectory() as scratch:
        with tarfile.open(fileobj=io.BytesIO(bundle), mode="r:gz") as archive:
            archive.extractall(scratch, filter="data")
        version = [job["python_version"]] if job["python_version"] else []
        try:
            ran = subprocess.run(
                ["bash", "create_new_repo.sh", str(root), job["repo_name"], *version],
                cwd=Path(scratch) / "implementation",
                env={"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": scratch, "LANG": "C.UTF-8"},
                capture_output=True,
                text=True,
                timeout=job["timeout_seconds"],
                check=False,
            )
        except subprocess.TimeoutExpired:
            return {"status": "failed", "error": f"the script took longer than {job['timeout_seconds']} s"}
    said = {"stdout": ran.stdout, "stderr": ran.stderr}
    if ran.returncode:
        return {"status": "failed", "error": f"exit code {ran.returncode}", **said}
    ready = READY.findall(ran.stdout)
    return {"status": "completed", "repo_dir": ready[-1] if ready else str(root / job["repo_name"]), **said}


def check(ops: Client, run_path: str) -> Iterator[tuple[str, bool]]:
    """What a right HQ does, one statement at a time, and whether this one does it; its factory is removed again."""
    factory_id = f"check-{uuid.uuid4().hex[:8]}"
    try:
        yield from check_beats(ops, factory_id)
        with Client(str(ops.http.base_url), ops.token_of(factory_id)) as factory:
            yield from check_own_token(factory, factory_id)
            yield from check_missions(ops, factory, factory_id)
            yield from check_job(ops, factory, factory_id, run_path)
    finally:
        ops.http.delete(f"{BEATS}/{factory_id}")


def check_beats(ops: Client, factory_id: str) -> Iterator[tuple[str, bool]]:
    """Contract fleet §2, §3, §5 and http H-10, H-16 to H-18."""
    small = ops.beat(factory_id)
    record = small.json().get("registration", {})
    yield "a beat of an existing client is taken", small.status_code == 200 and small.json().get("ok") is True
    yield "its record has every documented key", set(record) >= RECORD
    yield "what it left out has the documented default", record.get("deployment_profile") == "local_workstation"
    yield "it is told what HQ wants", set(small.json().get("instructions", {})) >= INSTRUCTIONS
    full = ops.post(BEATS, full_beat(factory_id))
    shown = full.json().get("registration", {})
    yield "a beat with every field is taken", full.status_code == 200 and "vp_general" in shown.get("capabilities", ())
    yield "the first time it was seen stays", bool(record) and shown.get("first_seen_at") == record.get("first_seen_at")
    kept = ops.post(BEATS, {"factory_id": factory_id}).json().get("registration", {})
    yield "what is left out keeps its value", bool(kept) and kept.get("capabilities") == shown.get("capabilities")
    yield "a blank factory_id is refused", ops.beat(" ").status_code == 422
    yield "a status that is none is refused", ops.beat(factory_id, registration_status="asleep").status_code == 422
    with Client(str(ops.http.base_url)) as nobody, Client(str(ops.http.base_url), "no-token") as guesser:
        codes = [client.beat(factory_id).status_code for client in (nobody, guesser)]
    yield "who shows no valid token is refused", codes == [401, 401]


def check_own_token(factory: Client, factory_id: str) -> Iterator[tuple[str, bool]]:
    """What the scope `factory` may do (http §2, H-19)."""
    yield "a factory beats with a token of its own", factory.post(BEATS, full_beat(factory_id)).status_code == 200
    yield "it cannot beat for another one", factory.beat(f"{factory_id}-other").status_code == 403
    yield "it cannot publish", factory.post(PUBLISH, mission("none", factory_id)).status_code == 403
    rows = factory.http.get(BEATS).json().get("registrations", [])
    yield "it sees its own row only", [row.get("factory_id") for row in rows] == [factory_id]


def check_missions(ops: Client, factory: Client, factory_id: str) -> Iterator[tuple[str, bool]]:
    """The HTTP mission queue (http §8, H-30 to H-32)."""
    job_id = f"{factory_id}-mission"
    yield "a mission for it is accepted", ops.post(PUBLISH, mission(job_id, factory_id)).status_code == 202
    held = factory.claim(factory_id, wait_seconds=10)
    yield "it is handed out to the factory", [one["job_id"] for one in held] == [job_id]
    yield "and only once", factory.claim(factory_id) == []
    attempt_id = held[0]["attempt_id"] if held else str(uuid.uuid4())
    begun = [factory.attempt(attempt_id, "start") for _ in range(2)]
    yield "it starts, and again with the same answer", [one.status_code for one in begun] == [200, 200]
    told = factory.attempt(attempt_id, "progress", {"percent": 40, "message": "reading", "log": ["a line"]})
    yield "it is told of", told.status_code == 200 and told.json()["cancel_requested"] is False
    yield "150 % are refused", factory.attempt(attempt_id, "progress", {"percent": 150}).status_code == 422
    yield "a result of no kind is refused", factory.attempt(attempt_id, "result", {"status": "OK"}).status_code == 422
    body = {"status": "SUCCESS", "result": {"output": "hello"}, "error": None, "usage": {"requests": 1}}
    ended = [factory.attempt(attempt_id, "result", body) for _ in range(2)]
    accepted = {"attempt_id": attempt_id, "job_id": job_id, "state": "succeeded", "accepted": True}
    yield "its result is taken, and again with the same answer", [one.json() for one in ended] == [accepted] * 2
    late = factory.attempt(attempt_id, "result", {"status": "FAILED", "error": "after all not"})
    yield "another result afterwards is too late", late.status_code == 409
    unknown = factory.attempt(str(uuid.uuid4()), "result", body)
    yield "an attempt that nobody knows is not found", unknown.status_code == 404
    shown = ops.http.get(f"/api/v1/missions/{job_id}").json()
    yield "the mission has succeeded", shown.get("state") == "succeeded" and shown["result"]["output"] == "hello"


def check_job(ops: Client, factory: Client, factory_id: str, run_path: str) -> Iterator[tuple[str, bool]]:
    """Bootstrap jobs (http §11); without a run at HQ, or where its own factories take the job, there is less to see."""
    worker = f"{factory_id}-1"
    unknown = factory.job("tbj_0_000000", "start", worker)
    yield "a job that nobody knows is not found", unknown.status_code == 404
    yield "a run that leads outside is refused", ops.post(ORDER, {"run_path": "/etc"}).status_code == 403
    yield "an unknown target is refused", ops.post(ORDER, {"execution_target": "moon"}).status_code == 400
    ordered = ops.post(ORDER, {"run_path": run_path, "timeout_seconds": 60})
    if ordered.status_code == 404:
        return
    job = ordered.json().get("job") or {}
    yield "an order makes a job with every documented key", ordered.status_code == 200 and set(job) >= JOB
    again = ops.post(ORDER, {"run_path": run_path})
    yield "the same run again is the same job", again.json().get("job_id") == job.get("job_id")
    if job.get("dispatch_backend") == "http_queue":
        yield from check_work(factory, worker, job["job_id"])


def check_work(factory: Client, worker: str, job_id: str) -> Iterator[tuple[str, bool]]:
    """A bootstrap worker at work (H-35 to H-37)."""
    job = factory.claim_job(worker)
    while job is not None and job["job_id"] != job_id:  # somebody else's, who waited longer: given back
        factory.job(job["job_id"], "result", worker, status="failed", error="this is only a check")
        job = factory.claim_job(worker)
    yield "the worker claims it", job is not None and job["worker_id"] == worker
    if job is None:
        return
    begun = [factory.job(job_id, "start", worker) for _ in range(2)]
    yield "it starts, and again", [one.status_code for one in begun] == [200, 200]
    yield "another worker cannot", factory.job(job_id, "start", f"{worker}-other").status_code == 409
    bad = factory.job(job_id, "result", worker, status="done")
    yield "an end of no kind is refused", bad.status_code == 400
    with tempfile.TemporaryDirectory() as root:
        said = make_repository(job, factory.bundle(job_id), Path(root))
    ended = [factory.job(job_id, "result", worker, **said) for _ in range(2)]
    yield "the repository is made", said["status"] == "completed"
    yield "its result is taken, and again", [one.status_code for one in ended] == [200, 200]
    done = ended[0].json().get("job") or {}
    yield "the job is completed, and says where", done.get("status") == "completed" and bool(done.get("repo_dir"))
    late = factory.job(job_id, "result", worker, status="failed", error="after all not")
    yield "another end afterwards is too late", late.status_code == 409


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; 0 when all is right, 1 when not, 69 when HQ does not answer."""
    options = _parser().parse_args(arguments)
    with Client(options.hq, os.environ.get("UA_OPS_TOKEN")) as client:
        try:
            return _COMMANDS[options.command](client, options)
        except httpx.TransportError as error:
            sys.stderr.write(f"HQ does not answer ({type(error).__name__}); check UA_HQ_BASE_URL\n")
            return 69
        except httpx.HTTPStatusError as error:
            sys.stderr.write(f"HQ refuses what it was asked ({error.response.status_code}); check UA_OPS_TOKEN\n")
            return 1


def _check(client: Client, options: argparse.Namespace) -> int:
    verdicts: list[bool] = []
    for statement, holds in check(client, options.run_path):
        sys.stdout.write(f"{'ok    ' if holds else 'FAILED'}  {statement}\n")
        verdicts.append(holds)
    return 0 if all(verdicts) else 1


def _beat(client: Client, options: argparse.Namespace) -> int:
    answer = client.beat(options.name)
    sys.stdout.write(f"{answer.text}\n")
    return 0 if answer.status_code == 200 else 1


def _work(client: Client, options: argparse.Namespace) -> int:
    """Make the repository of one job, if one waits."""
    worker = f"{options.name}-{os.getpid()}"
    job = client.claim_job(worker)
    if job is None:
        sys.stdout.write("nothing to do\n")
        return 0
    client.job(job["job_id"], "start", worker).raise_for_status()
    said = make_repository(job, client.bundle(job["job_id"]), Path(options.root).resolve())
    client.job(job["job_id"], "result", worker, **said).raise_for_status()
    sys.stdout.write(f"{job['job_id']} {said['status']} {said.get('repo_dir', said.get('error'))}\n")
    return 0 if said["status"] == "completed" else 1


_COMMANDS = {"check": _check, "beat": _beat, "work": _work}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("command", choices=_COMMANDS)
    parser.add_argument("--hq", default=os.environ.get("UA_HQ_BASE_URL", "http://127.0.0.1:8002"))
    parser.add_argument("--name", default="bench-2", help="which factory this is")
    parser.add_argument("--root", default=".", help="where `work` makes repositories")
    parser.add_argument("--run-path", default="youtube-tutorial-creation/first-mission", help="the run that is ordered")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())

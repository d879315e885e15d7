"""A node that must have its secrets does not start without them: each process, each time, and within 30 seconds."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from canary import MARK, secret
from fake_infisical import Behaviour, FakeInfisical

ROOT = Path(__file__).resolve().parent.parent.parent
STRICT = ("vps", "standalone_node")
LIMIT_SECONDS = 30
EDGES = {
    "api": ["-m", "hq_api"],
    "uvicorn": ["-m", "uvicorn", "hq_api.app:app", "--port", "0"],
    "engine": ["-m", "corporation.engine"],
    "worker": ["-m", "celery", "-A", "factory_tasks", "worker", "-Q", "headquarters", "-P", "solo"],
    "beat": ["-m", "celery", "-A", "factory_tasks", "beat"],
    "flower": ["-m", "celery", "-A", "factory_tasks", "flower", "--port=0"],
    "telegram": ["-m", "hq_api.telegram"],
    "up": ["-m", "corporation.cli", "up", "--once"],
    "migrate": ["-m", "corporation.cli", "migrate"],
    "capabilities": ["-m", "corporation.cli", "capabilities"],
}
SECRETS = {"UA_OPS_TOKEN": secret("ops"), "UA_OPS_JWT_SECRET": secret("jwt")}
Outage = Callable[[], "contextmanager[dict[str, str]]"]


@contextmanager
def unreachable() -> Iterator[dict[str, str]]:
    """Nothing listens where Infisical should."""
    with FakeInfisical(SECRETS) as fake:
        environ = fake.environ()
    yield environ


@contextmanager
def behaving(behaviour: Behaviour, secrets: dict[str, str]) -> Iterator[dict[str, str]]:
    with FakeInfisical(secrets, behaviour=behaviour) as fake:
        yield fake.environ()


OUTAGES = {
    "down": unreachable,
    "wrong credentials": lambda: behaving(Behaviour.WRONG_CREDENTIALS, SECRETS),
    "slow": lambda: behaving(Behaviour.SLOW, SECRETS),
    "500": lambda: behaving(Behaviour.BROKEN, SECRETS),
    "empty": lambda: behaving(Behaviour.OK, {}),
}


def start(edge: str, environ: dict[str, str], folder: Path) -> subprocess.Popen[str]:
    """The process of one edge in an environment that lacks nothing but its secrets."""
    usual = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "UA_DOTENV_PATH": str(folder / "no.env"),
        "UA_DATABASE_URL": "postgresql://127.0.0.1:1/nowhere",
        "UA_VP_DB_PATH": str(folder / "spool.db"),
    }
    command = [sys.executable, *EDGES[edge], *(["--state", str(folder / "stack")] if edge == "up" else [])]
    return subprocess.Popen(
        command, cwd=ROOT, env=usual | environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def end_of(process: subprocess.Popen[str]) -> tuple[int, str]:
    """The status and the words of a process that must end by itself in time."""
    try:
        said, _ = process.communicate(timeout=LIMIT_SECONDS)
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()
    return process.returncode, said


def must_have_refused(status: int, said: str) -> None:
    assert status == 78, said
    assert "does not start without its secrets" in said
    assert "Traceback" not in said
    assert MARK not in said


@pytest.mark.parametrize("outage", OUTAGES)
def test_a_strict_node_refuses_to_start_the_first_the_second_and_the_third_time(outage: str, tmp_path: Path) -> None:
    """D18: nothing that an earlier start left lets a later one in."""
    with OUTAGES[outage]() as environ:
        starts = [{**environ, "UA_DEPLOYMENT_PROFILE": profile} for profile in STRICT for _ in range(3)]
        processes = [start("engine", each, tmp_path) for each in starts]
        for process in processes:
            must_have_refused(*end_of(process))


@pytest.mark.parametrize("edge", EDGES)
def test_every_process_has_the_same_door(edge: str, tmp_path: Path) -> None:
    """E-5: whichever process an operator starts, secrets come first."""
    with OUTAGES["500"]() as environ:
        must_have_refused(*end_of(start(edge, {**environ, "UA_DEPLOYMENT_PROFILE": "vps"}, tmp_path)))


@pytest.mark.parametrize("outage", OUTAGES)
def test_a_workstation_falls_back_and_says_so(outage: str, tmp_path: Path) -> None:
    dotenv = tmp_path / ".env"
    dotenv.write_text(f"UA_OPS_TOKEN={secret('from-the-file')}\nUA_GATEWAY_PORT=nonsense\n")
    dotenv.chmod(0o600)
    with ExitStack() as stack:
        environ = stack.enter_context(OUTAGES[outage]())
        code = (
            "from corporation.bootstrap import bootstrap; import os; r = bootstrap(os.environ); print(r.report.source)"
        )
        process = subprocess.run(
            [sys.executable, "-c", code],
            cwd=ROOT,
            env={"PATH": os.environ["PATH"], **environ, "UA_DOTENV_PATH": str(dotenv), "UA_GATEWAY_PORT": "8002"},
            capture_output=True,
            text=True,
            timeout=LIMIT_SECONDS,
            check=True,
        )

    assert process.stdout.strip() == "dotenv"
    assert '"fallback_used": true' in process.stderr
    assert MARK not in process.stderr

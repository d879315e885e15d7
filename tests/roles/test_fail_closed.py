"""A node that must have its secrets does not start without them: each process, each time, and within 30 seconds."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from canary import MARK, secret
from fake_infisical import Behaviour, FakeInfisical
from warm_starts import Started, WarmStarts

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


@dataclass(frozen=True)
class Start:
    """A process that was started, and the file with all it says."""

    process: "subprocess.Popen[bytes] | Started"
    output: Path

    def end(self) -> tuple[int, str]:
        """The status and the words of a process that must end by itself in time."""
        try:
            status = self.process.wait(timeout=LIMIT_SECONDS)
        finally:
            if self.process.poll() is None:
                self.process.kill()
                self.process.wait(timeout=LIMIT_SECONDS)
        return status, self.output.read_text()


def start(command: list[str], environ: dict[str, str], folder: Path, warm: WarmStarts | None = None) -> Start:
    """Python with this command in an environment that lacks nothing but its secrets; a fresh one without `warm`."""
    usual = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "UA_DOTENV_PATH": str(folder / "no.env"),
        "UA_DATABASE_URL": "postgresql://127.0.0.1:1/nowhere",
        "UA_VP_DB_PATH": str(folder / "spool.db"),
    }
    with tempfile.NamedTemporaryFile(dir=folder, suffix=".log", delete=False) as log:
        if warm:
            process = warm.popen(command, usual | environ, log, log)
        else:
            process = subprocess.Popen(
                [sys.executable, *command], cwd=ROOT, env=usual | environ, stdout=log, stderr=log
            )
    return Start(process, Path(log.name))


def end_all(starts: Iterable[Start]) -> None:
    """None of them runs any more: the tests of this module may be shared out, and each share looks at some only."""
    for each in starts:
        each.process.kill()
        each.process.wait(timeout=LIMIT_SECONDS)


def must_have_refused(status: int, said: str) -> None:
    assert status == 78, said
    assert "does not start without its secrets" in said
    assert "Traceback" not in said
    assert MARK not in said


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory, warm: WarmStarts) -> Iterator[dict[str, list[Start]]]:
    """By outage: strict nodes on their way to their end. All at once, since a slow Infisical takes ten seconds each."""
    with ExitStack() as stack:
        begun: dict[str, list[Start]] = {}
        for outage, fails in OUTAGES.items():
            folder, environ = tmp_path_factory.mktemp("strict"), stack.enter_context(fails())
            starts = [{**environ, "UA_DEPLOYMENT_PROFILE": profile} for profile in STRICT for _ in range(3)]
            begun[outage] = [start(EDGES["engine"], each, folder, warm) for each in starts]
        yield begun
        end_all(one for starts in begun.values() for one in starts)


@pytest.fixture(scope="module")
def workstations(tmp_path_factory: pytest.TempPathFactory, warm: WarmStarts) -> Iterator[dict[str, Start]]:
    """By outage: a workstation that says on its last line where its secrets came from; all at once as well."""
    code = "from corporation.bootstrap import bootstrap; import os; print(bootstrap(os.environ).report.source)"
    with ExitStack() as stack:
        begun: dict[str, Start] = {}
        for outage, fails in OUTAGES.items():
            folder, environ = tmp_path_factory.mktemp("workstation"), stack.enter_context(fails())
            dotenv = folder / ".env"
            dotenv.touch(0o600)
            dotenv.write_text(f"UA_OPS_TOKEN={secret('from-the-file')}\nUA_GATEWAY_PORT=nonsense\n")
            ours = {**environ, "UA_DOTENV_PATH": str(dotenv), "UA_GATEWAY_PORT": "8002"}
            begun[outage] = start(["-c", code], ours, folder, warm)
        yield begun
        end_all(begun.values())


@pytest.mark.usefixtures("strict", "workstations")  # they wait meanwhile
@pytest.mark.parametrize("edge", EDGES)
def test_every_process_has_the_same_door(edge: str, tmp_path: Path) -> None:
    """E-5: whichever process an operator starts, secrets come first."""
    state = ["--state", str(tmp_path / "stack")] if edge == "up" else []
    with OUTAGES["500"]() as environ:
        ours = {**environ, "UA_DEPLOYMENT_PROFILE": "vps"}
        must_have_refused(*start([*EDGES[edge], *state], ours, tmp_path).end())


@pytest.mark.parametrize("outage", OUTAGES)
def test_a_strict_node_refuses_to_start_the_first_the_second_and_the_third_time(
    outage: str, strict: dict[str, list[Start]]
) -> None:
    """D18: nothing that another start left lets one in."""
    for each in strict[outage]:
        must_have_refused(*each.end())


@pytest.mark.parametrize("outage", OUTAGES)
def test_a_workstation_falls_back_and_says_so(outage: str, workstations: dict[str, Start]) -> None:
    status, said = workstations[outage].end()

    assert status == 0, said
    assert said.splitlines()[-1] == "dotenv"
    assert '"fallback_used": true' in said
    assert MARK not in said

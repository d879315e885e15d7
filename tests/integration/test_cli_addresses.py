"""No command shows any part of a password that somebody put into an address without escaping it (E-4)."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from canary import secret, shows

from corporation.cli.app import run as run_command

ODD = ("", "%zz", " ", "@", "\n", "%40", "%20", "%00", ":", "&", "=", "é", "/", "#", "[")
Run = Callable[..., tuple[int, str]]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    """The command in this process, with an environment of its own: its status and all that it said."""

    def run(command: str, *arguments: str, **environment: str) -> tuple[int, str]:
        with monkeypatch.context() as patch:
            patch.setattr(os, "environ", {"PATH": os.environ["PATH"], "UA_DOTENV_PATH": os.devnull} | environment)
            status = run_command([command, "--state", str(tmp_path), *arguments])
        said = "".join(capfd.readouterr())
        assert "Traceback" not in said
        assert "bug in Corporation" not in said
        return status, said

    return run


@pytest.fixture(params=ODD, ids=repr)
def password(request: pytest.FixtureRequest) -> str:
    return f"{secret('address')}{request.param}rest"


def test_migrate_shows_no_part_of_a_password(run: Run, password: str) -> None:
    status, said = run("migrate", UA_DATABASE_URL=f"postgresql://u:{password}@127.0.0.1:1/x")

    assert status in (69, 78)
    assert "UA_DATABASE_URL" in said
    assert not shows(said)
    assert "rest" not in said


def test_up_shows_no_part_of_a_password(run: Run, password: str) -> None:
    environ = {
        "UA_REDIS_URL": f"redis://:{password}@127.0.0.1:1/0",
        "UA_HQ_BASE_URL": "http://127.0.0.1:1",
        "UA_RESULT_BACKEND_URL": f"postgresql://u:{password}@127.0.0.1:1/x",
        "UA_FACTORY_CREDENTIAL": secret("address-credential"),
    }
    status, said = run("up", "--role", "worker", **environ)

    assert status in (69, 78)
    assert "UA_REDIS_URL" in said
    assert not shows(said)
    assert "rest" not in said.replace("start", "")


@pytest.mark.parametrize("name", ["UA_DATABASE_URL", "UA_RESULT_BACKEND_URL"])
def test_doctor_shows_no_part_of_a_password(run: Run, password: str, name: str) -> None:
    role = "LOCAL_WORKER" if name == "UA_RESULT_BACKEND_URL" else "HEADQUARTERS"
    environ = {
        "FACTORY_ROLE": role,
        "UA_HQ_BASE_URL": "http://127.0.0.1:1",
        "UA_REDIS_URL": f"redis://:{password}@127.0.0.1:1/0",
        name: f"postgresql://u:{password}@127.0.0.1:1/x",
    }
    status, said = run("doctor", **environ)

    assert status in (69, 78)
    assert "UA_REDIS_URL" in said
    assert name in said
    assert not shows(said)
    assert "rest" not in said

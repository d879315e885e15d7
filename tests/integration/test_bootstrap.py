"""The start of every process: secrets, aliases, override, policy, checks, and all problems told at once."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from canary import secret, shows
from fake_infisical import LOGIN, FakeInfisical
from warm_starts import WarmStarts

from corporation.bootstrap import bootstrap
from corporation.errors import SettingsError
from corporation.roles import FactoryRole
from corporation.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
NO_FILE = {"UA_DOTENV_PATH": os.devnull}
# Every attempt to look at the environment while modules are imported ends the interpreter.
TRAP = """
import importlib, os, pkgutil, sys
import celery, fastapi, structlog, sqlalchemy, redis, telegram.ext, typer, uvicorn, flower  # what theirs do is theirs
def spring():
    frame = sys._getframe(2)
    frame = frame.f_back if frame.f_code.co_name == "getenv" else frame
    if any(part in frame.f_code.co_filename for part in OURS):
        sys.exit(f"{frame.f_code.co_filename} reads the environment at import")
class Trap(dict):
    def __getitem__(self, name): spring(); return super().__getitem__(name)
    def __contains__(self, name): spring(); return super().__contains__(name)
    def __iter__(self): spring(); return super().__iter__()
    def get(self, name, default=None): spring(); return super().get(name, default)
    def items(self): spring(); return super().items()
OURS = [os.path.join(os.getcwd(), name) for name in ("corporation", "factory_tasks", "hq_api", "celeryconfig.py")]
os.environ = Trap(os.environ)
for package in ("corporation", "factory_tasks", "hq_api"):
    module = importlib.import_module(package)
    for found in pkgutil.walk_packages(module.__path__, package + "."):
        if not any(word in found.name for word in ("__main__", "tether", "migrations.", "templates")):
            importlib.import_module(found.name)
print(len([name for name in sys.modules if name.startswith(("corporation", "factory_tasks", "hq_api"))]))
"""


def test_importing_reads_no_environment_and_asks_for_no_secret() -> None:
    """E-1: every module of ours."""
    with FakeInfisical({"UA_OPS_TOKEN": secret("ops")}) as fake:
        environ = {"PATH": os.environ["PATH"], **fake.environ(UA_DEPLOYMENT_PROFILE="vps", UA_REDIS_PORT="junk")}
        ended = subprocess.run(
            [sys.executable, "-c", TRAP], cwd=ROOT, env=environ, capture_output=True, text=True, timeout=60, check=False
        )
        assert ended.returncode == 0, ended.stderr
        assert int(ended.stdout) > 100
        assert not fake.asked(LOGIN)


def test_secrets_come_before_everything_that_depends_on_them() -> None:
    """E-5: the role, the aliases and the override may all come from where the secrets come from."""
    stored = {
        "FACTORY_ROLE": "STANDALONE_NODE",
        "GROK_API_KEY": secret("grok"),
        "LLM_PROVIDER_OVERRIDE": " zai ",
        "ZAI_API_KEY": secret("zai"),
        "UA_CAPABILITY_START_UI": "off",
    }
    with FakeInfisical(stored) as fake:
        runtime = bootstrap(NO_FILE | fake.environ(UA_DEPLOYMENT_PROFILE="vps"), logs=False)

    assert runtime.policy.factory_role is FactoryRole.STANDALONE_NODE
    assert not runtime.policy.start_ui
    assert runtime.environ["XAI_API_KEY"] == stored["GROK_API_KEY"]
    assert runtime.environ["Z_AI_API_KEY"] == stored["ZAI_API_KEY"]
    assert runtime.llm_provider is not None
    assert (runtime.llm_provider.name, runtime.settings.llm_provider_override) == ("ZAI", "ZAI")
    assert not shows(repr(runtime))
    assert not {*stored} & {*os.environ}


def test_all_problems_are_told_at_once_each_with_its_variable() -> None:
    """E-3, E-9: numbers, choices, what is missing, what one kind of process asks, and a provider without its key."""

    def nobody_home(settings: Settings) -> list[str]:
        return ["UA_OPS_TOKEN is missing"] if settings.ops_token is None else []

    environ = NO_FILE | {
        "UA_REDIS_PORT": "abc",
        "UA_CAPABILITY_GATEWAY_MODE": "open",
        "LLM_PROVIDER_OVERRIDE": "OPENAI",
        "UA_CORS_ALLOWED_ORIGINS": "*",
    }
    with pytest.raises(SettingsError) as refused:
        bootstrap(environ, "UA_DATABASE_URL", checks=[nobody_home], logs=False)

    said = [problem.split(":")[0].split()[0] for problem in refused.value.problems]
    assert sorted(said) == [
        "OPENAI_API_KEY",
        "UA_CAPABILITY_GATEWAY_MODE",
        "UA_CORS_ALLOWED_ORIGINS",
        "UA_DATABASE_URL",
        "UA_OPS_TOKEN",
        "UA_REDIS_PORT",
    ]
    assert "'abc'" in str(refused.value)


def test_an_override_that_names_no_provider_is_removed_and_warned_about() -> None:
    """D19."""
    runtime = bootstrap(NO_FILE | {"LLM_PROVIDER_OVERRIDE": "SKYNET"}, logs=False)

    assert (runtime.llm_provider, runtime.settings.llm_provider_override) == (None, None)
    assert "LLM_PROVIDER_OVERRIDE" not in runtime.environ
    assert "ZAI, ANTHROPIC, OPENAI, OLLAMA" in runtime.warnings[0]


def test_a_process_says_what_it_ignores_and_where_its_secrets_came_from(warm: WarmStarts) -> None:
    code = "import os; from corporation.bootstrap import bootstrap_or_exit; bootstrap_or_exit(os.environ)"
    environ = {"PATH": os.environ["PATH"], **NO_FILE, "FACTORY_ROLE": "KING", "UA_CAPABILITY_TELEGRAM_POLL": "1"}
    ended = warm.run(["-c", code], environ)
    lines = [json.loads(line) for line in ended.stderr.splitlines()]

    assert [line["why"].split()[0] for line in lines if line["level"] == "critical"] == [
        "FACTORY_ROLE",
        "UA_CAPABILITY_TELEGRAM_POLL",
    ]
    secrets = next(line for line in lines if line["event"] == "secrets_loaded")
    assert (secrets["source"], secrets["fallback_used"]) == ("environment", True)
    assert "MissingCredentials" not in secrets["errors"]
    assert secrets["vault"] == "none is configured", "that nobody named one is no error"
    assert next(line for line in lines if line["event"] == "node")["factory_role"] == "LOCAL_WORKER"


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such switch")
def test_a_process_that_knows_secrets_hides_its_environment_from_its_users_other_processes(warm: WarmStarts) -> None:
    """E-4: a mission's script runs as the same user, and /proc/<pid>/environ would be its to read."""
    code = (
        "import ctypes, os; from corporation.bootstrap import bootstrap_or_exit\n"
        "state = lambda: ctypes.CDLL(None).prctl(3, 0, 0, 0, 0)  # PR_GET_DUMPABLE\n"
        "before = state(); bootstrap_or_exit(os.environ); print(before, state())"
    )
    ended = warm.run(["-c", code], {"PATH": os.environ["PATH"], **NO_FILE})

    assert ended.stdout.split() == ["1", "0"]


@pytest.mark.parametrize(
    ("environ", "factory_id"),
    [
        ({"UA_FACTORY_ID": "desk-7", "UA_MACHINE_SLUG": "m", "INFISICAL_MACHINE_IDENTITY_NAME": "i"}, "desk-7"),
        ({"UA_MACHINE_SLUG": "m", "INFISICAL_MACHINE_IDENTITY_NAME": "i"}, "m"),
        ({"INFISICAL_MACHINE_IDENTITY_NAME": "i", "INFISICAL_ENVIRONMENT": "prod"}, "i"),
        ({"HOSTNAME": "attic"}, "attic-hq"),
        ({"HOSTNAME": "attic", "FACTORY_ROLE": "LOCAL_WORKER"}, "attic"),
        ({"HOSTNAME": "attic", "FACTORY_ROLE": "STANDALONE_NODE"}, "attic-node"),
    ],
)
def test_a_node_has_one_name_by_the_chain_of_the_contract(environ: dict[str, str], factory_id: str) -> None:
    """E-10: never random, never the name of an Infisical environment."""
    assert [bootstrap(NO_FILE | environ, logs=False).settings.factory_id for _ in range(2)] == [factory_id] * 2

"""Every setting given to `corporation up` reaches the processes that read it, or is left out for a reason."""

from dataclasses import replace
from pathlib import Path

import pytest
from canary import secret

from corporation.embedded.stack_environment import Stack, environment_of, inherited_from
from corporation.embedded.stack_shape import ROLES, Shape
from corporation.llm_provider import ProviderName, Wire, choose
from corporation.roles import FactoryRole
from corporation.settings import KNOWN_NAMES

STACK = Stack(
    Path("/state"), "python", "desk", "redis://127.0.0.1", "postgresql://h/x", 8002, 5555, "t", "j", "f", inherited={}
)
AGENTS = {"factory-worker", "pull", "control", "beat", "node-worker"}
WORKERS = AGENTS | {"hq-worker"}
EVERY = WORKERS | {"api", "engine", "telegram", "flower"}

TO_EVERY = """
    ENABLE_VP_CODER ENABLE_VP_GENERAL HOSTNAME INFISICAL_ENVIRONMENT SSL_CERT_FILE
    UA_ATTEMPT_LEASE_SECONDS UA_BRIDGE_POLL_SECONDS UA_CAPABILITY_AGENTMAIL UA_CAPABILITY_CSI_INGEST
    UA_CAPABILITY_DELEGATION_MODE UA_DELEGATION_CONSUMER_NAME UA_DELEGATION_RECLAIM_IDLE_SECONDS
    UA_DELEGATION_STREAM_MAXLEN
    UA_CAPABILITY_GATEWAY_MODE UA_CAPABILITY_HEARTBEAT_SCOPE UA_CAPABILITY_START_UI UA_CAPABILITY_TELEGRAM_POLL
    UA_CODER_VP_DISPLAY_NAME UA_DELEGATION_CONSUMER_GROUP UA_DELEGATION_DLQ_STREAM UA_DELEGATION_REDIS_ENABLED
    UA_DELEGATION_STREAM_NAME UA_DEPLOYMENT_PROFILE UA_DISABLE_CODER_VP UA_ENABLE_CODER_VP UA_FACTORY_HOSTNAME
    UA_FACTORY_OFFLINE_SECONDS UA_FACTORY_REGISTRATION_INTERVAL_SECONDS UA_FACTORY_STALE_SECONDS
    UA_FACTORY_SWEEP_SECONDS UA_FACTORY_UPDATE_REMOTE
    UA_HEARTBEAT_INTERVAL_SECONDS UA_HQ_ALLOW_PLAINTEXT UA_MISSION_DEFAULT_TTL_SECONDS UA_MISSION_RETRY_BASE_SECONDS
    UA_MISSION_RETRY_CAP_SECONDS UA_MISSION_RETRY_JITTER UA_MISSION_TIMEOUT_GRACE_SECONDS UA_MISSION_WAITING_LIMIT
    UA_REDIS_ALLOW_PLAINTEXT UA_RUNTIME_STAGE UA_SQLITE_BUSY_TIMEOUT_MS UA_STANDALONE_ENABLE_TELEGRAM_POLL
    UA_VP_ENABLED_IDS
"""
TO_AGENTS = """
    ANTHROPIC_API_KEY GROK_API_KEY LLM_PROVIDER_OVERRIDE OLLAMA_API_KEY OPENAI_API_KEY XAI_API_KEY ZAI_API_KEY
"""
TO_THE_API = """
    UA_API_FACTORY_PER_MINUTE UA_API_PUBLISHER_PER_MINUTE
    UA_CORS_ALLOWED_ORIGINS UA_FACTORY_REDIS_URL UA_GATEWAY_TRUSTED_PROXIES UA_INTERNAL_API_TOKEN
    UA_OPS_AUTH_ALLOW_LEGACY UA_TUTORIAL_BOOTSTRAP_CLAIM_TTL_SECONDS UA_TUTORIAL_BOOTSTRAP_JOBS_MAX
"""
TO_TELEGRAM = "TELEGRAM_ALLOWED_USER_IDS TELEGRAM_BOT_TOKEN UA_TELEGRAM_API_URL"
HANDED_ON = {
    name: processes
    for names, processes in (
        (TO_EVERY, EVERY),
        (TO_AGENTS, AGENTS),
        ("UA_FACTORY_SLOTS UA_HANDLER_MODULES", WORKERS),
        (TO_THE_API, {"api"}),
        (TO_TELEGRAM, {"telegram"}),
        ("UA_REDIS_ADMIN_URL", {"engine"}),
        ("UA_MISSION_KEYS", (EVERY - {"beat", "telegram", "flower"})),
        ("UA_UPDATE_KEYS", WORKERS - {"beat"}),
    )
    for name in names.split()
}
"""Each variable, and the processes that get it in some kind of stack."""

LEFT_OUT = {
    "it becomes a part of the stack, which tells each process its own share": (
        "DATABASE_URL",
        "FACTORY_ROLE",
        "INFISICAL_MACHINE_IDENTITY_NAME",
        "REDIS_PASSWORD",
        "UA_BASE_URL",
        "UA_DATABASE_URL",
        "UA_FACTORY_CREDENTIAL",
        "UA_FACTORY_ID",
        "UA_FACTORY_QUEUE",
        "UA_GATEWAY_URL",
        "UA_HQ_BASE_URL",
        "UA_MACHINE_SLUG",
        "UA_MISSION_SIGNING_KEY",
        "UA_OPS_JWT_SECRET",
        "UA_OPS_TOKEN",
        "UA_REDIS_DB",
        "UA_REDIS_HOST",
        "UA_REDIS_PASSWORD_FILE",
        "UA_REDIS_PORT",
        "UA_REDIS_URL",
        "UA_RESULT_BACKEND_URL",
    ),
    "a stack listens on this machine alone, on a port that is free": ("UA_GATEWAY_HOST", "UA_GATEWAY_PORT"),
    "what a stack keeps lies in its state folder, also when another stack's `corporation env` named that one's": (
        "UA_ARTIFACT_ROOT",
        "UA_RUNTIME_DB_PATH",
        "UA_TUTORIAL_BOOTSTRAP_LOCAL_ROOT",
        "UA_TUTORIAL_BOOTSTRAP_REPO_ROOT",
        "UA_TUTORIAL_BOOTSTRAP_TARGET_ROOT",
        "UA_VP_DB_PATH",
    ),
    "each process has its own, by which the supervisor knows it": ("UA_READY_FILE",),
}


def stack_of(shape: Shape, environ: dict[str, str]) -> Stack:
    far = "" if ROLES[shape] is FactoryRole.HEADQUARTERS else "https://hq.example"
    return replace(STACK, shape=shape, inherited=inherited_from(environ), hq_given=far)


def receivers(environ: dict[str, str]) -> set[str]:
    """The processes whose environment holds a value of `environ`, in whatever kind of stack."""
    return {
        process
        for shape in Shape
        for stack in (stack_of(shape, environ),)
        for process in stack.running
        if set(environ.values()) & set(environment_of(process, stack).values())
    }


@pytest.mark.parametrize("name", sorted(KNOWN_NAMES))
def test_every_setting_is_handed_on_or_left_out_for_a_reason(name: str) -> None:
    left_out = {one for names in LEFT_OUT.values() for one in names}
    assert (name in HANDED_ON) is not (name in left_out), (
        f"{name} is new: let stack_names.py hand it on and say here to whom, or say why it is left out"
    )

    assert receivers({name: "the given value"}) == HANDED_ON.get(name, set())


def test_the_table_names_no_setting_that_is_gone() -> None:
    left_out = {one for names in LEFT_OUT.values() for one in names}

    assert left_out | set(HANDED_ON) == KNOWN_NAMES


@pytest.mark.parametrize("provider", list(ProviderName))
@pytest.mark.parametrize("wire", ["", *Wire])
def test_agents_reach_the_model_that_the_launcher_was_told(provider: ProviderName, wire: str) -> None:
    """E-9"""
    environ = {"LLM_PROVIDER_OVERRIDE": str(provider), "ZAI_WIRE": wire, "ZAI_OPENAI_BASE_URL": "https://z.example/v9"}
    for name in ProviderName:
        own = {"BASE_URL": f"https://{name.lower()}.example/v9", "MODEL": f"model-{name}", "API_KEY": secret(name)}
        environ |= {f"{name}_{what}": value for what, value in own.items()}

    seen = environment_of("factory-worker", stack_of(Shape.WORKER, environ))

    assert choose(seen) == choose(environ)
    assert seen[f"{provider}_API_KEY"] == secret(provider)


def test_the_older_name_of_a_setting_wins_over_the_stacks_own_value_and_loses_to_todays_name() -> None:
    older = {"UA_FACTORY_REGISTRATION_INTERVAL_SECONDS": "77"}
    both = older | {"UA_HEARTBEAT_INTERVAL_SECONDS": "33"}

    heard = [
        environment_of("beat", stack_of(Shape.WORKER, environ))["UA_HEARTBEAT_INTERVAL_SECONDS"]
        for environ in (older, both)
    ]

    assert heard == ["77", "33"]


def test_a_standalone_node_that_was_told_of_no_hq_knows_of_none() -> None:
    """F-10"""
    stack = replace(stack_of(Shape.STANDALONE, {}), hq_given="")

    assert not [process for process in stack.running if "UA_HQ_BASE_URL" in environment_of(process, stack)]

"""The variables that a launcher hands on to its processes, by who may see them; everything else stays behind."""

from typing import Final

INHERITED: Final = ("PATH", "HOME", "HOSTNAME", "LANG", "LC_ALL", "TMPDIR", "TZ", "USER", "LOGNAME", "SSL_CERT_FILE")
"""What every process gets from the launcher's environment, if it is set there."""

TUNING: Final = (
    "UA_ATTEMPT_LEASE_SECONDS",
    "UA_BRIDGE_POLL_SECONDS",
    "UA_DELEGATION_RECLAIM_IDLE_SECONDS",
    "UA_DELEGATION_STREAM_MAXLEN",
    "UA_FACTORY_OFFLINE_SECONDS",
    "UA_FACTORY_STALE_SECONDS",
    "UA_FACTORY_SWEEP_SECONDS",
    "UA_HEARTBEAT_INTERVAL_SECONDS",
    "UA_MISSION_DEFAULT_TTL_SECONDS",
    "UA_MISSION_RETRY_BASE_SECONDS",
    "UA_MISSION_RETRY_CAP_SECONDS",
    "UA_MISSION_RETRY_JITTER",
    "UA_MISSION_TIMEOUT_GRACE_SECONDS",
    "UA_MISSION_WAITING_LIMIT",
    "UA_SQLITE_BUSY_TIMEOUT_MS",
)
"""Settings without secrets that a person may change for a run; they win over the stack's own values."""

NODE: Final = (
    "ENABLE_VP_CODER",
    "ENABLE_VP_GENERAL",
    "INFISICAL_ENVIRONMENT",
    "UA_CODER_VP_DISPLAY_NAME",
    "UA_DELEGATION_CONSUMER_GROUP",
    "UA_DELEGATION_CONSUMER_NAME",
    "UA_DELEGATION_DLQ_STREAM",
    "UA_DELEGATION_REDIS_ENABLED",
    "UA_DELEGATION_STREAM_NAME",
    "UA_DEPLOYMENT_PROFILE",
    "UA_DISABLE_CODER_VP",
    "UA_ENABLE_CODER_VP",
    "UA_FACTORY_HOSTNAME",
    "UA_FACTORY_UPDATE_REMOTE",
    "UA_HQ_ALLOW_PLAINTEXT",
    "UA_REDIS_ALLOW_PLAINTEXT",
    "UA_RUNTIME_STAGE",
    "UA_VP_ENABLED_IDS",
)
"""What a node is, beside its role: no secret among them. The Infisical environment only names the stage."""

OVERRIDES: Final = (
    "UA_CAPABILITY_AGENTMAIL",
    "UA_CAPABILITY_CSI_INGEST",
    "UA_CAPABILITY_DELEGATION_MODE",
    "UA_CAPABILITY_GATEWAY_MODE",
    "UA_CAPABILITY_HEARTBEAT_SCOPE",
    "UA_CAPABILITY_START_UI",
    "UA_CAPABILITY_TELEGRAM_POLL",
    "UA_STANDALONE_ENABLE_TELEGRAM_POLL",
)
"""What changes one cell of a policy; in a whole stack they are headquarters' alone, which has the gateway."""

WORKING: Final = ("UA_FACTORY_SLOTS", "UA_HANDLER_MODULES")
"""How much a node does at once, and what further kinds it knows."""

KINDS: Final = ("PYTHONPATH",)
"""Where the modules of further kinds lie, beside what is installed. It lets whoever sets it run code in a process, so
only those get it that load such modules: not headquarters' API and engine, which hold the keys of all."""

MODELS: Final = (
    "LLM_PROVIDER_OVERRIDE",
    "ANTHROPIC_API_KEY",
    "ANTHROPIC_BASE_URL",
    "ANTHROPIC_MODEL",
    "GROK_API_KEY",
    "OLLAMA_API_KEY",
    "OLLAMA_BASE_URL",
    "OLLAMA_MODEL",
    "OPENAI_API_KEY",
    "OPENAI_BASE_URL",
    "OPENAI_MODEL",
    "XAI_API_KEY",
    "ZAI_API_KEY",
    "ZAI_BASE_URL",
    "ZAI_MODEL",
    "ZAI_OPENAI_BASE_URL",
    "ZAI_WIRE",
    "Z_AI_API_KEY",
)
"""The chosen model, how it is reached, and the keys: only where agents run, never at headquarters. A choice without its
key is refused, so they travel together."""

GATEWAY: Final = (
    "UA_API_FACTORY_PER_MINUTE",
    "UA_API_PUBLISHER_PER_MINUTE",
    "UA_CORS_ALLOWED_ORIGINS",
    "UA_GATEWAY_TRUSTED_PROXIES",
    "UA_INTERNAL_API_TOKEN",
    "UA_OPS_AUTH_ALLOW_LEGACY",
    "UA_TUTORIAL_BOOTSTRAP_CLAIM_TTL_SECONDS",
    "UA_TUTORIAL_BOOTSTRAP_JOBS_MAX",
)
"""What only the process that answers HTTP gets."""

JOINING: Final = ("UA_FACTORY_REDIS_URL",)
"""What only headquarters' API gets, and tells a factory that joins."""

ENGINE: Final = ("UA_REDIS_ADMIN_URL",)
"""What only headquarters' engine gets, which makes the users of a Redis that others run."""

KEYS: Final = ("UA_MISSION_KEYS",)
"""What those get who sign missions, and those who take none that is not signed."""

UPDATES: Final = ("UA_UPDATE_KEYS",)
"""What those get who are told to update: whose word for it counts."""

TELEGRAM: Final = ("TELEGRAM_BOT_TOKEN", "TELEGRAM_ALLOWED_USER_IDS", "UA_TELEGRAM_API_URL")
"""What only the process that polls Telegram gets."""

HANDED_ON: Final = (
    *INHERITED,
    *TUNING,
    *NODE,
    *OVERRIDES,
    *WORKING,
    *KINDS,
    *MODELS,
    *GATEWAY,
    *JOINING,
    *ENGINE,
    *KEYS,
    *UPDATES,
    *TELEGRAM,
)

OLDER: Final = {"UA_FACTORY_REGISTRATION_INTERVAL_SECONDS": "UA_HEARTBEAT_INTERVAL_SECONDS"}
"""Names that are handed on under the one that wins over them: a stack sets that one itself, which would hide them."""

"""What the first page says of this node: its policy in words, and whether its two servers answer now."""

from dataclasses import dataclass

import redis
from sqlalchemy import Engine, text
from sqlalchemy.exc import SQLAlchemyError

from corporation.broker_link import why_not_connected
from corporation.db import DATABASE_IS_AWAY
from corporation.roles import DelegationMode, FactoryRole, FactoryRuntimePolicy, HeartbeatScope

LEDGER_ANSWERS = text("SELECT 1 FROM corporation.missions LIMIT 1")

KINDS = {
    FactoryRole.HEADQUARTERS: "headquarters",
    FactoryRole.LOCAL_WORKER: "a local worker",
    FactoryRole.STANDALONE_NODE: "a standalone node",
}
DUTIES = {
    FactoryRole.HEADQUARTERS: "It takes missions in, gives them to factories, and keeps the ledger of the outcomes.",
    FactoryRole.LOCAL_WORKER: "It runs missions that headquarters gives it.",
    FactoryRole.STANDALONE_NODE: "It works for its owner alone and takes no part in a fleet.",
}
DELEGATION = {
    DelegationMode.PUBLISH_AND_LISTEN: "gives missions to factories and takes them itself",
    DelegationMode.LISTEN_ONLY: "takes missions, gives none away",
    DelegationMode.DISABLED: "takes no part in delegation",
}
# The token is given to the process that polls and to no other, so whether it runs cannot be known here.
TELEGRAM = (
    "may answer its owner: `python -m hq_api.telegram` does, where TELEGRAM_BOT_TOKEN and TELEGRAM_ALLOWED_USER_IDS "
    "are set; without them nothing polls"
)
HEARTBEAT = {
    HeartbeatScope.GLOBAL: "watches the heartbeats of the whole fleet",
    HeartbeatScope.LOCAL: "knows of itself only",
}


@dataclass(frozen=True)
class Line:
    """One thing the policy decides: its value, what that means, and the variable that changes it."""

    title: str
    value: str
    on: bool
    meaning: str
    variable: str


@dataclass(frozen=True)
class Light:
    """Whether something answers: `state` is `good`, `bad` or `none`, the rest is for people."""

    title: str
    state: str
    word: str
    text: str


def policy_lines(policy: FactoryRuntimePolicy) -> tuple[Line, ...]:
    """The whole policy row, each field with what it means."""
    delegation, heartbeat = policy.delegation_mode, policy.heartbeat_scope
    gateway = "health only" if policy.health_only else "full"
    surface = "answers for its health only" if policy.health_only else "serves the whole API of this role"
    return (
        Line("Gateway", gateway, not policy.health_only, surface, "UA_CAPABILITY_GATEWAY_MODE"),
        _switch("Dashboard", policy.start_ui, "serves these pages", "UA_CAPABILITY_START_UI"),
        Line(
            "Delegation",
            delegation.replace("_", " "),
            delegation is not DelegationMode.DISABLED,
            DELEGATION[delegation],
            "UA_CAPABILITY_DELEGATION_MODE",
        ),
        Line("Heartbeat", str(heartbeat), True, HEARTBEAT[heartbeat], "UA_CAPABILITY_HEARTBEAT_SCOPE"),
        _allowed("Telegram", policy.enable_telegram_poll, TELEGRAM, "UA_CAPABILITY_TELEGRAM_POLL"),
        _allowed("Signals", policy.enable_csi_ingest, "no ingest yet", "UA_CAPABILITY_CSI_INGEST"),
        _allowed("Mail", policy.enable_agentmail, "nothing uses agent mail yet", "UA_CAPABILITY_AGENTMAIL"),
        _switch("Coder", policy.enable_vp_coder, "may run coding missions", "ENABLE_VP_CODER"),
        _switch("Generalist", policy.enable_vp_general, "may run general missions", "ENABLE_VP_GENERAL"),
    )


def ledger_light(engine: Engine | None) -> Light:
    """Whether the ledger answers now, for at most the few seconds that a connection may take."""
    title = "Ledger"
    if engine is None:
        return Light(title, "none", "not here", "This node keeps no ledger; headquarters does.")
    try:
        with engine.connect() as connection:
            connection.execute(LEDGER_ANSWERS)
    except SQLAlchemyError as error:
        # The class only: the driver's message may hold the address of the database.
        advice = f"PostgreSQL gave {type(error).__name__}. `corporation doctor` says what to do."
        return Light(title, "bad", "disconnected" if isinstance(error, DATABASE_IS_AWAY) else "not usable", advice)
    return Light(title, "good", "connected", "PostgreSQL answers and holds this version's tables.")


def redis_light(client: "redis.Redis", enabled: bool) -> Light:
    """Whether Redis answers now, within a second; on a node that does without, it is not asked."""
    title = "Redis"
    if not enabled:
        return Light(title, "none", "switched off", "UA_DELEGATION_REDIS_ENABLED is off; missions travel over HTTPS.")
    if error := why_not_connected(client):
        advice = f"It gave {error}. Nothing is lost: missions wait in the ledger until it is back."
        return Light(title, "bad", "disconnected", advice)
    return Light(title, "good", "connected", "It answers, and carries missions to the factories.")


def _allowed(title: str, allowed: bool, meaning: str, variable: str) -> Line:
    """What the policy allows and this process does not do: never shown as on."""
    return Line(title, "allowed", False, meaning, variable) if allowed else _switch(title, False, "", variable)


def _switch(title: str, on: bool, meaning: str, variable: str) -> Line:
    return Line(title, "on" if on else "off", on, meaning if on else "switched off on this node", variable)

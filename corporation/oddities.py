"""What is odd about an environment but stops no node: slips in names, words that mean nothing, wishes not granted."""

from collections.abc import Iterator, Mapping

from pydantic import AfterValidator

from corporation.roles import DelegationMode, FactoryRole, beyond_role
from corporation.settings import KNOWN_NAMES, PROFILES, Settings, names_of, nearest_name
from corporation.variables import LEAST_TOKEN_BYTES, Floor, read_flag, read_optional_flag

OF_SECRETS = ("UA_INFISICAL_ENABLED", "UA_INFISICAL_STRICT", "UA_INFISICAL_ALLOW_DOTENV_FALLBACK")
FLAGS: dict[str, bool | None] = dict.fromkeys(OF_SECRETS) | {
    name: info.default
    for field, info in Settings.model_fields.items()
    if "bool" in repr(info.annotation)
    for name in names_of(field)
}
"""Every 3-state flag and the value that junk leaves it; None where something else then decides, the role for one."""

FLOORS: dict[str, int] = {
    field: rule.func.least
    for field, info in Settings.model_fields.items()
    for rule in info.metadata
    if isinstance(rule, AfterValidator) and isinstance(rule.func, Floor)
}
"""The settings that are lifted to a least number, and to which one."""

ELSEWHERE = frozenset(
    {
        "UA_FACTORY_REGISTRY_DB_PATH",
        "UA_FACTORY_DIR",
        *OF_SECRETS,
        "UA_DOTENV_PATH",
        "UA_FACTORY_SWEEP_SECONDS",
        "UA_FACTORY_BRANCH",
        "UA_FACTORY_UPDATE_REMOTE",
        "UA_FACTORY_UPDATE_BRANCHES",
        "UA_FACTORY_UPDATE_HEALTH_SECONDS",
        "UA_SHARED_STATE_TTL_SECONDS",
        "UA_SIGNALS_INGEST_ENABLED",
        "UA_SIGNALS_INGEST_SHARED_SECRET",
        "UA_SIGNALS_INGEST_TIMESTAMP_TOLERANCE_SECONDS",
        "UA_SIGNALS_INGEST_ALLOWED_INSTANCES",
        "UA_CSI_ANALYTICS_DEFAULT_COOLDOWN_SECONDS",
        "UA_CSI_ANALYSIS_TASK_COMPLETED_COOLDOWN_SECONDS",
        "UA_CSI_RSS_INSIGHT_EMERGING_COOLDOWN_SECONDS",
        "UA_CSI_CATEGORY_QUALITY_REPORT_COOLDOWN_SECONDS",
        "UA_CSI_ANALYTICS_HOOK_TIMEOUT_SECONDS",
        "UA_SIGNALS_OPPORTUNITY_MIN_CONFIDENCE",
        "UA_SIGNALS_OPPORTUNITY_BLOCKING_FLAGS",
        "UA_SIGNALS_DEDUPE_DAYS",
        "UA_TUTORIAL_BOOTSTRAP_WORKER_ID",
        "UA_TUTORIAL_BOOTSTRAP_GATEWAY_URL",
        "UA_TUTORIAL_BOOTSTRAP_POLL_SECONDS",
        "UA_TUTORIAL_BOOTSTRAP_TRANSPORT",
        "UA_TUTORIAL_BOOTSTRAP_JOBS_MAX",
        "UA_TUTORIAL_BOOTSTRAP_CLAIM_TTL_SECONDS",
    }
)
"""Names of the environment contract that other parts read, or will: they are no slips."""

VAULT_CREDENTIALS = ("INFISICAL_CLIENT_ID", "INFISICAL_CLIENT_SECRET", "INFISICAL_PROJECT_ID")
"""What a process needs to ask the vault: all of them, or none (E-12)."""

PREFERRED = {"UA_DISABLE_CODER_VP": "ENABLE_VP_CODER", "UA_ENABLE_CODER_VP": "ENABLE_VP_CODER"}
"""Older names that still work, and what to write today (E-8)."""


def warnings_about(environ: Mapping[str, str]) -> list[str]:
    """What is odd but not wrong: names that look like one of ours with a slip, old names, words that are no flag."""
    given = {name: word.strip() for name, word in environ.items() if word.strip()}
    notes = [
        f"{name} is not a variable of Corporation; did you mean {near}?"
        for name in sorted(given)
        if name.startswith("UA_") and name not in KNOWN_NAMES | ELSEWHERE and (near := nearest_name(name))
    ]
    notes += [
        f"{name} is neither yes nor no; {_instead(default)}"
        for name, default in FLAGS.items()
        if name in given and read_optional_flag(given[name]) is None
    ]
    notes += _lifted(given)
    notes += [f"{old} still works; write {new}" for old, new in PREFERRED.items() if old in given]
    notes += [
        f"{name} is shorter than {LEAST_TOKEN_BYTES} bytes, so it is refused while somebody guesses; make it longer"
        for name in ("UA_OPS_TOKEN", "UA_INTERNAL_API_TOKEN")
        if name in given and len(given[name].encode()) < LEAST_TOKEN_BYTES
    ]
    notes += _half_a_vault(given)
    if "UA_FACTORY_REGISTRY_DB_PATH" in given:
        notes.append("UA_FACTORY_REGISTRY_DB_PATH is ignored: the registry is in PostgreSQL")
    return notes


def _lifted(given: Mapping[str, str]) -> Iterator[str]:
    """The settings below their floor, each under the name that won."""
    for field, least in FLOORS.items():
        name = next((name for name in names_of(field) if name in given), None)
        if name is not None and _is_below(given[name], least):
            yield f"{name} is less than {least}, its floor; {least} is used"


def _is_below(word: str, least: int) -> bool:
    try:
        return float(word) < least
    except ValueError:
        return False  # refused elsewhere


def _half_a_vault(given: Mapping[str, str]) -> list[str]:
    """The one line about credentials of the vault that are not whole; none where the vault is switched off."""
    here = [name for name in VAULT_CREDENTIALS if name in given]
    missing = [name for name in VAULT_CREDENTIALS if name not in given]
    if not here or not missing or not read_flag(given.get("UA_INFISICAL_ENABLED"), default=True):
        return []
    are, them = ("is", "it") if len(here) == 1 else ("are", "them")
    absent = f"{' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} missing"
    return [f"{' and '.join(here)} {are} set but {absent}, so no vault is asked; set all three, or remove {them}"]


def _instead(default: bool | None) -> str:
    return (
        "the value of this role and profile is used"
        if default is None
        else f"the default {'yes' if default else 'no'} is used"
    )


def alarms_about(environ: Mapping[str, str], settings: Settings) -> list[str]:
    """What somebody wanted and does not get, because safety comes first; to be logged as critical (D18, E-7)."""
    alarms: list[str] = []
    role = (settings.role_word or "").strip().upper()
    if role and role not in FactoryRole.__members__:
        alarms.append(f"FACTORY_ROLE names no role, so this node is a LOCAL_WORKER; allowed: {', '.join(FactoryRole)}")
    if settings.profile_word.strip().lower() not in PROFILES:
        alarms.append(f"UA_DEPLOYMENT_PROFILE names no profile, so it is {PROFILES[0]}; allowed: {', '.join(PROFILES)}")
    if settings.policy.opens_ledger:
        return alarms
    if settings.database_url_given:
        name = next(name for name in names_of("database_url_given") if environ.get(name, "").strip())
        alarms.append(
            f"{name} is ignored: a LOCAL_WORKER never opens the ledger; give it UA_RESULT_BACKEND_URL or HTTPS"
        )
    if settings.start_ui and not settings.policy.serves_pages and not settings.policy.health_only:
        alarms.append("UA_CAPABILITY_START_UI is ignored: a LOCAL_WORKER has no ledger, so it cannot end a session")
    if beyond_role(settings.role, "enable_telegram_poll", settings.telegram_poll):
        alarms.append("UA_CAPABILITY_TELEGRAM_POLL is ignored: a LOCAL_WORKER never polls Telegram")
    if beyond_role(settings.role, "delegation_mode", settings.delegation_mode):
        alarms.append(
            f"UA_CAPABILITY_DELEGATION_MODE is ignored: a LOCAL_WORKER never publishes; it may be "
            f"{DelegationMode.LISTEN_ONLY} or {DelegationMode.DISABLED}"
        )
    return alarms

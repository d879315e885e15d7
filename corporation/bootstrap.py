"""The start of every process: secrets, then settings, the model override, the role's policy, checks, and logs (E-5).

Called once at the edge of a process, never at import. Nothing is written into `os.environ`: what came from Infisical or
a dotenv file lives in the returned value only, so no child process inherits it.
"""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import structlog

from corporation.errors import EXIT_CONFIG, SettingsError
from corporation.llm_provider import LlmProvider, choose, problem_of, with_key_aliases, without_invalid_override
from corporation.logs import configure_logs
from corporation.masking import Mask, secrets_of
from corporation.oddities import alarms_about, warnings_about
from corporation.own_process import hide_environment
from corporation.roles import FactoryRuntimePolicy
from corporation.secrets import LoadedSecrets, SecretsReport, load_secrets
from corporation.settings import Check, Settings, load_settings, may_be_secret

PROJECT_ROOT: Final = Path(__file__).resolve().parent.parent
"""Where the dotenv file lies unless `UA_DOTENV_PATH` says otherwise."""

log = structlog.get_logger()


@dataclass(frozen=True)
class Runtime:
    """What a process knows from its start; `environ` is the complete environment with its secrets: never show it."""

    settings: Settings
    report: SecretsReport
    llm_provider: LlmProvider | None
    warnings: tuple[str, ...]
    """What is odd but not wrong."""
    alarms: tuple[str, ...]
    """What was asked for and is not granted."""
    secrets: tuple[str, ...] = field(repr=False)
    """Every value that must not leave this process as text."""
    environ: Mapping[str, str] = field(repr=False)

    @property
    def policy(self) -> FactoryRuntimePolicy:
        """What this node does."""
        return self.settings.policy


def bootstrap(
    environ: Mapping[str, str],
    *required: str,
    checks: Sequence[Check] = (),
    logs: bool = True,
    project_root: Path = PROJECT_ROOT,
    force_reload: bool = False,
) -> Runtime:
    """The runtime of this process; raises SettingsError naming every problem at once, with no value of a secret.

    `required` names variables that this process cannot do without. With `logs`, the process logs from now on, every
    loaded secret masked, has said what is odd, and hides its environment from the machine's other processes. Calling
    twice asks Infisical once, unless `force_reload`.
    """
    loaded = load_secrets(environ, project_root, force_reload=force_reload)
    complete, remark = without_invalid_override(with_key_aliases(loaded.environ))
    settings = _settings(complete, required, checks)
    runtime = Runtime(
        settings=settings,
        report=loaded.report,
        llm_provider=choose(complete),
        warnings=(*([remark] if remark else []), *warnings_about(complete)),
        alarms=tuple(alarms_about(complete, settings)),
        secrets=(*secrets_of(settings), *_values(loaded)),
        environ=complete,
    )
    if logs:
        hide_environment()
        configure_logs(Mask(runtime.secrets))
        _tell(runtime)
    return runtime


def bootstrap_or_exit(environ: Mapping[str, str], *required: str, checks: Sequence[Check] = ()) -> Runtime:
    """As `bootstrap`; a process that cannot start ends with status 78 and one line per problem on standard error."""
    try:
        return bootstrap(environ, *required, checks=checks)
    except SettingsError as error:
        sys.stderr.write("".join(f"{problem}\n" for problem in error.problems))
        raise SystemExit(EXIT_CONFIG) from None


def _settings(environ: Mapping[str, str], required: Sequence[str], checks: Sequence[Check]) -> Settings:
    unusable = [problem] if (problem := problem_of(environ)) else []
    try:
        settings = load_settings(environ, *required, checks=checks)
    except SettingsError as error:
        raise SettingsError([*error.problems, *unusable]) from None
    if unusable:
        raise SettingsError(unusable)
    return settings


def _values(loaded: LoadedSecrets) -> list[str]:
    """What was loaded, but for settings that are no secret: a queue's name must stay readable."""
    return [loaded.environ[name] for name in loaded.secret_names if name in loaded.environ and may_be_secret(name)]


def _tell(runtime: Runtime) -> None:
    for alarm in runtime.alarms:
        log.critical("not_granted", why=alarm)
    for warning in runtime.warnings:
        log.warning("odd_environment", what=warning)
    _tell_secrets(runtime.report)
    policy = runtime.policy
    log.info("node", factory_id=runtime.settings.factory_id, stage=runtime.settings.runtime_stage, **policy.snapshot())


def _tell_secrets(report: SecretsReport) -> None:
    """Where they came from; a vault that nobody named is no error, and neither is a file that nobody wrote."""
    errors, vault = list(report.errors), {}
    tell = log.warning if report.fallback_used else log.info
    if "MissingCredentials" in errors:
        errors = [error for error in errors if error not in ("MissingCredentials", "FileNotFoundError")]
        tell, vault = log.info, {"vault": "none is configured"}
    tell("secrets_loaded", source=report.source, fallback_used=report.fallback_used, errors=errors, **vault)

"""Where a process's secrets come from, and whether it may start without them (contract env §8, D18).

Nothing is written into `os.environ`: the complete environment is a value, so no child process inherits a secret.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Final, Literal
from urllib.parse import urlsplit

from pydantic import SecretStr

from corporation.errors import SettingsError
from corporation.infisical import PUBLIC_CLOUD, Coordinates, InfisicalError, fetch_secrets
from corporation.secret_values import Dotenv, read_dotenv, usable
from corporation.settings import PROFILES, Settings
from corporation.variables import is_near, read_flag

CREDENTIALS: Final = ("INFISICAL_CLIENT_ID", "INFISICAL_CLIENT_SECRET", "INFISICAL_PROJECT_ID")
IDENTITY_KEYS: Final = frozenset(
    {
        *CREDENTIALS,
        "INFISICAL_ENVIRONMENT",
        "INFISICAL_SECRET_PATH",
        "INFISICAL_API_URL",
        "INFISICAL_MACHINE_IDENTITY_NAME",
        "UA_RUNTIME_STAGE",
        "UA_MACHINE_SLUG",
        "UA_FACTORY_ID",
        "UA_DEPLOYMENT_PROFILE",
        "FACTORY_ROLE",
        "UA_INFISICAL_ENABLED",
        "UA_INFISICAL_STRICT",
        "UA_INFISICAL_ALLOW_DOTENV_FALLBACK",
        "UA_DOTENV_PATH",
    }
)
"""What a node is and how it reaches its secrets: a value that is set here is never replaced from there (E-13)."""

Fetch = Callable[[Coordinates], Mapping[str, str | None]]
Source = Literal["infisical", "dotenv", "environment", "none"]


@dataclass(frozen=True)
class SecretsReport:
    """How loading went (E-12); it holds no value of a secret, and of errors only their class names."""

    ok: bool
    source: Source
    strict_mode: bool
    loaded_count: int
    """Variables that came from `source`."""
    fallback_used: bool
    """Whether there was an error, as the contract has it."""
    errors: tuple[str, ...]
    environment: str
    runtime_stage: str
    machine_slug: str
    deployment_profile: str


@dataclass(frozen=True)
class LoadedSecrets:
    """The complete environment of this process: `environ` cannot be changed, and showing it shows no value."""

    environ: Mapping[str, str]
    report: SecretsReport
    secret_names: frozenset[str]
    """Variables whose value must not be shown: what was loaded, except who and where this node is."""


class SecretsRefused(SettingsError):
    """The secrets are not there and this node does not start without them; `report` says the rest."""

    code = "secrets"

    def __init__(self, problems: list[str], report: SecretsReport) -> None:
        self.report = report
        super().__init__(problems)


class _Veiled(Mapping[str, str]):
    """A mapping that can be read and neither changed nor printed."""

    __slots__ = ("_values",)

    def __init__(self, values: Mapping[str, str]) -> None:
        self._values = dict(values)

    def __getitem__(self, name: str) -> str:
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return f"<{len(self)} variables, values hidden>"


@dataclass(frozen=True)
class _Failure:
    why: str
    advice: str
    errors: tuple[str, ...] = ()


def load_secrets(
    environ: Mapping[str, str], project_root: Path, *, fetch: Fetch = fetch_secrets, force_reload: bool = False
) -> LoadedSecrets:
    """The environment completed by Infisical, by a dotenv file or by nothing, as this node's profile allows.

    Raises SecretsRefused on a strict node whose secrets did not come: on this call and on every later one until they
    come. A load that went well is remembered for equal arguments; `force_reload` forgets all of them first.
    """
    if force_reload:
        _load.cache_clear()
    return _load(tuple(sorted(environ.items())), project_root, fetch)


@lru_cache(maxsize=4)  # a refusal is raised, and what is raised is not remembered
def _load(items: tuple[tuple[str, str], ...], project_root: Path, fetch: Fetch) -> LoadedSecrets:
    given = dict(items)
    dotenv = read_dotenv(project_root / (_word(given, "UA_DOTENV_PATH") or ".env"))
    identity = {
        name: value for name, value in dotenv.values.items() if name in IDENTITY_KEYS and not _word(given, name)
    }
    known = given | identity
    outcome = _ask(known, fetch)
    if isinstance(outcome, _Failure):
        return _fall_back(given, known, dotenv, outcome)
    values, errors = usable(outcome)
    loaded = {name: value for name, value in values.items() if name not in IDENTITY_KEYS or not _word(known, name)}
    return _loaded("infisical", known, loaded, errors + dotenv.faults, strict=_must_have(given, known))


def _ask(known: Mapping[str, str], fetch: Fetch) -> Mapping[str, str | None] | _Failure:
    if not read_flag(known.get("UA_INFISICAL_ENABLED"), default=True):
        return _Failure("UA_INFISICAL_ENABLED switches Infisical off", "Remove UA_INFISICAL_ENABLED.")
    if missing := [name for name in CREDENTIALS if not _word(known, name)]:
        advice = f"Set {', '.join(missing)} in the environment or in the dotenv file."
        return _Failure("asking Infisical failed with MissingCredentials", advice, ("MissingCredentials",))
    if not _is_safe_way(_word(known, "INFISICAL_API_URL") or PUBLIC_CLOUD):
        return _Failure("INFISICAL_API_URL would send the client secret unencrypted", "Write https://.", ("Plaintext",))
    try:
        if found := fetch(_coordinates(known)):
            return found
        # A wrong path answers so as well: a node that needs secrets does not start on none.
        return _Failure("Infisical answered with no secret at all", _advice("NoSecrets", 404), ("NoSecrets",))
    except Exception as error:
        name, status = type(error).__name__, None
        if isinstance(error, InfisicalError):
            name, status = error.class_name, error.status
    said = f" and HTTP status {status}" if status else ""
    return _Failure(f"asking Infisical failed with {name}{said}", _advice(name, status), (name,))


def _is_safe_way(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme != "http" or is_near(parts.hostname)
    except ValueError:
        return True  # the client says what is wrong with it


def _coordinates(known: Mapping[str, str]) -> Coordinates:
    authorities = (_word(known, name) for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"))
    return Coordinates(
        client_id=known["INFISICAL_CLIENT_ID"],
        client_secret=SecretStr(known["INFISICAL_CLIENT_SECRET"]),
        project_id=known["INFISICAL_PROJECT_ID"],
        environment=_environment(known),
        path=_word(known, "INFISICAL_SECRET_PATH") or "/",
        api_url=_word(known, "INFISICAL_API_URL") or PUBLIC_CLOUD,
        ca_bundle=next((file for file in authorities if file), None),
    )


def _advice(class_name: str, status: int | None) -> str:
    if class_name in {"ImportError", "ModuleNotFoundError"}:
        return "Install the SDK: `uv sync --extra infisical`."
    if status == 401:
        return "Check INFISICAL_CLIENT_ID and INFISICAL_CLIENT_SECRET; the secret may have been revoked or expired."
    if status in {400, 403, 404}:
        return "Check INFISICAL_PROJECT_ID, INFISICAL_ENVIRONMENT and INFISICAL_SECRET_PATH, and the identity's rights."
    if class_name == "Redirect":
        return "INFISICAL_API_URL answers with a redirect, which is never followed; write the final address."
    return "Check INFISICAL_API_URL and that this machine reaches it, then start again."


def _fall_back(given: Mapping[str, str], known: Mapping[str, str], dotenv: Dotenv, failure: _Failure) -> LoadedSecrets:
    """What a node may do without Infisical: start from less, or not at all."""
    profile = _settings(known).deployment_profile
    if _must_have(given, known):
        raise _refusal(known, profile, dotenv, failure)
    if not all(_may_read_dotenv(words) for words in (given, known)):
        return _loaded("environment", known, {}, failure.errors + dotenv.faults)
    loaded = {
        name: value
        for name, value in dotenv.values.items()
        if name not in given or (name in IDENTITY_KEYS and not _word(given, name))
    }
    return _loaded("dotenv" if loaded else "environment", known, loaded, failure.errors + dotenv.errors)


def _refusal(known: Mapping[str, str], profile: str, dotenv: Dotenv, failure: _Failure) -> SecretsRefused:
    problems = [
        f"This node does not start without its secrets ({_reason_for_strictness(known, profile)}): {failure.why}.",
        failure.advice,
    ]
    if dotenv.faults:
        problems.append(f"The dotenv file was not read whole: {', '.join(dict.fromkeys(dotenv.faults))}.")
    problems.append("Only where nothing real is at stake: UA_INFISICAL_STRICT=0 starts it without Infisical.")
    return SecretsRefused(problems, _report("none", known, 0, failure.errors + dotenv.faults))


def _reason_for_strictness(known: Mapping[str, str], profile: str) -> str:
    return f"UA_DEPLOYMENT_PROFILE is {profile}" if profile != PROFILES[0] else "UA_INFISICAL_STRICT says so"


def _must_have(given: Mapping[str, str], known: Mapping[str, str]) -> bool:
    """Whether this node is strict: by its environment, or with its dotenv file, which may tighten and never loosen."""
    return _is_strict(given) or _is_strict(known)


def _may_read_dotenv(words: Mapping[str, str]) -> bool:
    is_workstation = _settings(words).deployment_profile == PROFILES[0]
    return read_flag(words.get("UA_INFISICAL_ALLOW_DOTENV_FALLBACK"), default=is_workstation)


def _is_strict(known: Mapping[str, str]) -> bool:
    is_workstation = _settings(known).deployment_profile == PROFILES[0]
    return read_flag(known.get("UA_INFISICAL_STRICT"), default=not is_workstation)


def _loaded(
    source: Source,
    known: Mapping[str, str],
    values: Mapping[str, str],
    errors: tuple[str, ...],
    *,
    strict: bool = False,
) -> LoadedSecrets:
    environ = {**known, **values}
    credentials = {"INFISICAL_CLIENT_ID", "INFISICAL_CLIENT_SECRET"} & environ.keys()
    return LoadedSecrets(
        environ=_Veiled(environ),
        report=_report(source, environ, len(values), errors, strict=strict),
        secret_names=frozenset((values.keys() - IDENTITY_KEYS) | credentials),
    )


def _report(
    source: Source, environ: Mapping[str, str], count: int, errors: tuple[str, ...], *, strict: bool = True
) -> SecretsReport:
    settings = _settings(environ)
    return SecretsReport(
        ok=source != "none",
        source=source,
        strict_mode=strict,
        loaded_count=count,
        fallback_used=bool(errors),
        errors=errors,
        environment=_environment(environ),
        # A wrong word is refused with the rest of the settings, where all problems are told at once.
        runtime_stage=_word(environ, "UA_RUNTIME_STAGE").lower() or settings.runtime_stage,
        machine_slug=_machine_slug(environ) or settings.host,
        deployment_profile=settings.deployment_profile,
    )


def _machine_slug(environ: Mapping[str, str]) -> str:
    names = ("UA_MACHINE_SLUG", "UA_FACTORY_ID", "INFISICAL_MACHINE_IDENTITY_NAME")
    return next((word for name in names if (word := _word(environ, name))), "")


def _settings(environ: Mapping[str, str]) -> Settings:
    """The few settings that are known before the secrets; none of these words can be wrong."""
    names = ("UA_DEPLOYMENT_PROFILE", "INFISICAL_ENVIRONMENT", "UA_FACTORY_HOSTNAME", "HOSTNAME")
    return Settings.model_validate({name: environ[name] for name in names if _word(environ, name)})


def _environment(environ: Mapping[str, str]) -> str:
    return environ["INFISICAL_ENVIRONMENT"] if _word(environ, "INFISICAL_ENVIRONMENT") else "dev"


def _word(environ: Mapping[str, str], name: str) -> str:
    """The value without blanks around it; one of blanks only counts as not set, as everywhere in the settings."""
    return environ.get(name, "").strip()

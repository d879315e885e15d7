"""Whose value wins, which node is strict, and what a node without Infisical starts from (contract env §8)."""

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from canary import MARK, secret

from corporation.infisical import Coordinates, InfisicalError
from corporation.secrets import IDENTITY_KEYS, Fetch, LoadedSecrets, SecretsRefused, load_secrets

CREDENTIALS = {
    "INFISICAL_CLIENT_ID": "a-machine",
    "INFISICAL_CLIENT_SECRET": secret("client-secret"),
    "INFISICAL_PROJECT_ID": "project-1",
}
OFF = {"UA_INFISICAL_ENABLED": "no"}
COORDINATES = sorted(IDENTITY_KEYS - CREDENTIALS.keys() - {"UA_DOTENV_PATH"})


def giving(**found: str | None) -> Fetch:
    return lambda where: found


def failing(error: Exception) -> Fetch:
    def fetch(where: Coordinates) -> Mapping[str, str | None]:
        raise error

    return fetch


def never(where: Coordinates) -> Mapping[str, str | None]:
    raise AssertionError("Infisical was asked")


DOWN = failing(InfisicalError("TimeoutError"))


@pytest.fixture
def load(tmp_path: Path) -> Callable[..., LoadedSecrets]:
    """`load(environ, fetch, dotenv="A=1")`: what a node with that environment and that dotenv file has."""

    def load(environ: dict[str, str], fetch: Fetch = never, *, dotenv: str | bytes | None = None) -> LoadedSecrets:
        if dotenv is not None:
            path = tmp_path / ".env"
            path.touch(mode=0o600)
            path.write_bytes(dotenv if isinstance(dotenv, bytes) else dotenv.encode())
        return load_secrets(environ, tmp_path, fetch=fetch)

    return load


Load = Callable[..., LoadedSecrets]


@pytest.mark.parametrize(
    ("environ", "strict"),
    [
        ({}, False),
        ({"UA_DEPLOYMENT_PROFILE": "local_workstation"}, False),
        ({"UA_DEPLOYMENT_PROFILE": "a-slip"}, False),
        ({"UA_DEPLOYMENT_PROFILE": "vps"}, True),
        ({"UA_DEPLOYMENT_PROFILE": " VPS\n"}, True),
        ({"UA_DEPLOYMENT_PROFILE": "standalone_node"}, True),
        ({"UA_DEPLOYMENT_PROFILE": "vps", "UA_INFISICAL_STRICT": "off"}, False),
        ({"UA_DEPLOYMENT_PROFILE": "vps", "UA_INFISICAL_STRICT": "perhaps"}, True),
        ({"UA_DEPLOYMENT_PROFILE": "vps", "UA_INFISICAL_ALLOW_DOTENV_FALLBACK": "1"}, True),
        ({"UA_INFISICAL_STRICT": " Yes "}, True),
    ],
)
@pytest.mark.parametrize("how", ["down", "disabled", "no credentials"])
def test_a_strict_node_does_not_start_without_infisical(
    load: Load, environ: dict[str, str], strict: bool, how: str
) -> None:
    """E12, D18: also where a dotenv file lies ready."""
    more = {"down": CREDENTIALS, "disabled": CREDENTIALS | OFF, "no credentials": {}}[how]
    try:
        loaded = load(environ | more, DOWN, dotenv="A=1")
    except SecretsRefused as error:
        started, report = False, error.report
    else:
        started, report = True, loaded.report

    assert started is not strict
    assert report.strict_mode is strict
    assert (report.ok, report.source == "none") == (not strict, strict)


@pytest.mark.parametrize("name", ["UA_DEPLOYMENT_PROFILE=vps", "UA_INFISICAL_STRICT=1"])
@pytest.mark.parametrize("environ", [{}, {"UA_DEPLOYMENT_PROFILE": "", "UA_INFISICAL_STRICT": " "}])
def test_a_dotenv_file_alone_makes_a_node_strict(load: Load, name: str, environ: dict[str, str]) -> None:
    """D18: not only what the service manager exports; an empty word there says nothing."""
    with pytest.raises(SecretsRefused):
        load(environ, dotenv=f"{name}\nUA_OPS_TOKEN=x\n")


def test_the_environment_outranks_the_dotenv_file_about_strictness(load: Load) -> None:
    report = load({"UA_DEPLOYMENT_PROFILE": "local_workstation"}, dotenv="UA_DEPLOYMENT_PROFILE=vps\nA=1").report

    assert (report.strict_mode, report.deployment_profile) == (False, "local_workstation")


@pytest.mark.parametrize(
    "loose", ["UA_INFISICAL_STRICT=0", "UA_INFISICAL_ENABLED=0", "UA_DEPLOYMENT_PROFILE=local_workstation"]
)
def test_a_dotenv_file_may_tighten_and_never_loosens(load: Load, loose: str) -> None:
    """E-13, D18: who can write the file cannot start a strict node without its secrets."""
    with pytest.raises(SecretsRefused):
        load({"UA_DEPLOYMENT_PROFILE": "vps"}, dotenv=f"{loose}\nUA_INFISICAL_ALLOW_DOTENV_FALLBACK=1\nA=1\n")


def test_a_dotenv_file_cannot_allow_itself_to_be_read(load: Load) -> None:
    environ = {"UA_DEPLOYMENT_PROFILE": "vps", "UA_INFISICAL_STRICT": "0"}
    report = load(environ, dotenv="UA_INFISICAL_ALLOW_DOTENV_FALLBACK=1\nA=1\n").report

    assert (report.source, report.strict_mode) == ("environment", False)


def test_the_client_secret_is_not_sent_over_the_open_internet_unencrypted(load: Load) -> None:
    asked = giving(A="b")
    with pytest.raises(SecretsRefused, match="unencrypted"):
        load(CREDENTIALS | {"UA_DEPLOYMENT_PROFILE": "vps", "INFISICAL_API_URL": "http://vault.example"}, asked)


def test_a_refusal_says_what_happened_why_and_what_to_do(load: Load) -> None:
    with pytest.raises(SecretsRefused) as caught:
        load({"UA_DEPLOYMENT_PROFILE": "vps", "INFISICAL_CLIENT_ID": secret("id")}, dotenv=b"\xff")

    assert caught.value.problems == [
        "This node does not start without its secrets (UA_DEPLOYMENT_PROFILE is vps): "
        "asking Infisical failed with MissingCredentials.",
        "Set INFISICAL_CLIENT_SECRET, INFISICAL_PROJECT_ID in the environment or in the dotenv file.",
        "The dotenv file was not read whole: UnicodeDecodeError.",
        "Only where nothing real is at stake: UA_INFISICAL_STRICT=0 starts it without Infisical.",
    ]
    assert caught.value.report.errors == ("MissingCredentials", "UnicodeDecodeError")


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (InfisicalError("HTTPError", 401), "INFISICAL_CLIENT_SECRET"),
        (InfisicalError("HTTPError", 404), "INFISICAL_PROJECT_ID"),
        (InfisicalError("HTTPError", 503), "INFISICAL_API_URL"),
        (InfisicalError("Redirect", 302), "final address"),
        (InfisicalError("ModuleNotFoundError"), "uv sync --extra infisical"),
        (RuntimeError(secret("in-an-error")), "INFISICAL_API_URL"),
    ],
)
def test_each_failure_has_its_own_advice_and_shows_no_text_of_the_error(
    load: Load, error: Exception, said: str
) -> None:
    """E-4, E-12: class and status, nothing else."""
    with pytest.raises(SecretsRefused) as caught:
        load(CREDENTIALS | {"UA_INFISICAL_STRICT": "1"}, failing(error))

    assert said in caught.value.problems[1]
    assert MARK not in f"{caught.value}{caught.value!r}{caught.value.report}{caught.value.__context__}"


@pytest.mark.parametrize(
    ("environ", "dotenv", "source", "count", "errors"),
    [
        (CREDENTIALS, "A=1\nB=2", "dotenv", 2, ("TimeoutError",)),
        (CREDENTIALS | {"A": "0"}, "A=1\nB=2", "dotenv", 1, ("TimeoutError",)),
        (CREDENTIALS | {"A": ""}, "A=1", "environment", 0, ("TimeoutError",)),
        (CREDENTIALS, "", "environment", 0, ("TimeoutError",)),
        (CREDENTIALS, None, "environment", 0, ("TimeoutError", "FileNotFoundError")),
        (CREDENTIALS, b"A=\xff", "environment", 0, ("TimeoutError", "UnicodeDecodeError")),
        (CREDENTIALS, b"A=1\0", "environment", 0, ("TimeoutError", "UnicodeError")),
        (CREDENTIALS, "my-key=1\nA=1\nBARE\n", "dotenv", 1, ("TimeoutError", "UnusableSecret")),
        (CREDENTIALS | {"UA_INFISICAL_ALLOW_DOTENV_FALLBACK": "0"}, "A=1", "environment", 0, ("TimeoutError",)),
        (
            CREDENTIALS | {"UA_DEPLOYMENT_PROFILE": "vps", "UA_INFISICAL_STRICT": "0"},
            "A=1",
            "environment",
            0,
            ("TimeoutError",),
        ),
        ({}, "A=1", "dotenv", 1, ("MissingCredentials",)),
        (CREDENTIALS | {"INFISICAL_PROJECT_ID": " "}, "A=1", "dotenv", 1, ("MissingCredentials",)),
        (CREDENTIALS | OFF, "A=1", "dotenv", 1, ()),
    ],
)
def test_a_lenient_node_starts_from_what_it_has(
    load: Load, environ: dict[str, str], dotenv: str | bytes | None, source: str, count: int, errors: tuple[str, ...]
) -> None:
    """The third row of E-12's table."""
    report = load(environ, DOWN, dotenv=dotenv).report

    assert (report.ok, report.source, report.loaded_count, report.errors) == (True, source, count, errors)
    assert report.fallback_used is bool(errors)


def test_a_file_that_may_not_be_read_stops_nobody(load: Load, tmp_path: Path) -> None:
    (tmp_path / ".env").mkdir()

    assert load(OFF).report.errors == ("OSError",)


def test_a_pipe_in_place_of_the_file_holds_nobody(load: Load, tmp_path: Path) -> None:
    import os

    os.mkfifo(tmp_path / ".env")

    assert load(OFF).report.errors == ("OSError",)


def test_what_a_node_could_not_read_is_told_even_if_infisical_answered(load: Load) -> None:
    """A file that nobody can read may say that this node is a worker."""
    assert load(CREDENTIALS, giving(A="1"), dotenv=b"\xff").report.errors == ("UnicodeDecodeError",)
    assert load({**CREDENTIALS, "X": "1"}, giving(A="1"), dotenv="").report.errors == ()


def test_infisical_replaces_what_the_environment_says(load: Load) -> None:
    """E-13"""
    environ = load(CREDENTIALS | {"A": "here", "B": "here"}, giving(A="there", C="there")).environ

    assert {name: environ[name] for name in "ABC"} == {"A": "there", "B": "here", "C": "there"}


@pytest.mark.parametrize("name", [*CREDENTIALS, *COORDINATES])
def test_infisical_never_replaces_who_a_node_is(load: Load, name: str) -> None:
    """E-13"""
    given = CREDENTIALS | ({} if name in CREDENTIALS else {name: "1"})

    assert load(given, giving(**{name: "there"})).environ[name] == given[name]


@pytest.mark.parametrize("name", COORDINATES)
def test_the_dotenv_file_says_who_a_node_is_unless_the_environment_does(load: Load, name: str) -> None:
    """E-13: set there is set; Infisical may fill only what neither has."""
    fetch = giving(**{name: "from-infisical"})

    assert load(CREDENTIALS, fetch, dotenv=f"{name}=1").environ[name] == "1"
    assert load(CREDENTIALS | {name: "yes"}, fetch, dotenv=f"{name}=1").environ[name] == "yes"
    assert load(CREDENTIALS | {name: " "}, fetch, dotenv="").environ[name] == "from-infisical"


def test_the_dotenv_file_gives_the_credentials_and_no_more_while_infisical_answers(load: Load) -> None:
    """E-13: it is read beforehand only to find the way."""
    dotenv = "".join(f"{name}={value}\n" for name, value in CREDENTIALS.items()) + "OTHER=x\n"
    loaded = load({}, giving(A="there"), dotenv=dotenv)

    assert (loaded.report.source, loaded.report.loaded_count, "OTHER" in loaded.environ) == ("infisical", 1, False)


def test_a_dotenv_file_replaces_nothing_and_expands_nothing(load: Load) -> None:
    """E13: a value that is in both stays the environment's, even an empty one."""
    environ = load({"A": "here", "B": ""}, dotenv="A=there\nB=there\nC='$A ${A}'\nD=${A}\n\ufeff").environ

    assert {name: environ[name] for name in "ABCD"} == {"A": "here", "B": "", "C": "$A ${A}", "D": "${A}"}


@pytest.mark.parametrize("place", ["elsewhere.env", "{folder}/elsewhere.env"])
def test_the_dotenv_file_may_lie_elsewhere(load: Load, tmp_path: Path, place: str) -> None:
    (tmp_path / "elsewhere.env").write_text("\ufeffA=1\r\n", encoding="utf-8")

    assert load({"UA_DOTENV_PATH": place.format(folder=tmp_path)}).environ["A"] == "1"


def test_a_secret_that_can_be_no_variable_is_left_out_and_counted(load: Load) -> None:
    found = {"my-key": "1", "": "1", "1A": "1", "A=B": "1", "Ä": "1", "NUL": "a\0", "HALF": "\ud800", "HIDDEN": None}
    loaded = load(CREDENTIALS, giving(**found, GOOD="1"))

    assert loaded.environ.keys() - CREDENTIALS.keys() == {"GOOD"}
    assert (loaded.report.loaded_count, loaded.report.errors) == (1, ("UnusableSecret",) * len(found))


@pytest.mark.parametrize("name", ["REQUESTS_CA_BUNDLE", "SSL_CERT_FILE", "X_CERT_PATH"])
def test_only_paths_of_certificates_are_trimmed(load: Load, name: str) -> None:
    """E-15"""
    environ = load(CREDENTIALS, giving(**{name: " /ca.pem\n", "OTHER": " /ca.pem\n"})).environ

    assert (environ[name], environ["OTHER"]) == ("/ca.pem", " /ca.pem\n")
    assert load({name: "x", "Q": name}, dotenv=f"NEW_{name}=' /ca.pem '").environ[f"NEW_{name}"] == "/ca.pem"


@pytest.mark.parametrize(
    ("environ", "environment", "stage"),
    [
        ({}, "dev", "development"),
        ({"UA_DEPLOYMENT_PROFILE": "vps"}, "dev", "production"),
        ({"INFISICAL_ENVIRONMENT": "prod"}, "prod", "production"),
        ({"INFISICAL_ENVIRONMENT": "staging-hq"}, "staging-hq", "staging"),
        ({"INFISICAL_ENVIRONMENT": "dev", "UA_DEPLOYMENT_PROFILE": "vps"}, "dev", "development"),
        ({"INFISICAL_ENVIRONMENT": "Odd Name "}, "Odd Name ", "development"),
        ({"INFISICAL_ENVIRONMENT": "prod", "UA_RUNTIME_STAGE": "Staging"}, "prod", "staging"),
    ],
)
def test_the_stage_follows_the_environment_which_is_sent_as_written(
    load: Load, environ: dict[str, str], environment: str, stage: str
) -> None:
    """E-14"""
    asked: list[Coordinates] = []

    def fetch(where: Coordinates) -> Mapping[str, str | None]:
        asked.append(where)
        return {"ANY": "value"}

    report = load(CREDENTIALS | environ, fetch).report

    assert (report.environment, report.runtime_stage, asked[0].environment) == (environment, stage, environment)


@pytest.mark.parametrize(
    ("environ", "slug"),
    [
        ({"UA_MACHINE_SLUG": "m", "UA_FACTORY_ID": "f", "INFISICAL_MACHINE_IDENTITY_NAME": "i"}, "m"),
        ({"UA_FACTORY_ID": "f", "INFISICAL_MACHINE_IDENTITY_NAME": "i"}, "f"),
        ({"INFISICAL_MACHINE_IDENTITY_NAME": "i", "HOSTNAME": "h"}, "i"),
        ({"HOSTNAME": "h"}, "h"),
    ],
)
def test_the_machine_has_a_name(load: Load, environ: dict[str, str], slug: str) -> None:
    assert load(OFF | environ).report.machine_slug == slug


def test_the_secret_names_are_what_must_not_be_shown(load: Load) -> None:
    loaded = load(CREDENTIALS | {"PLAIN": "1"}, giving(A="1", FACTORY_ROLE="STANDALONE_NODE"))

    assert loaded.secret_names == {"A", "INFISICAL_CLIENT_ID", "INFISICAL_CLIENT_SECRET"}
    assert loaded.environ["FACTORY_ROLE"] == "STANDALONE_NODE"


def test_what_was_loaded_is_neither_changed_nor_printed(load: Load) -> None:
    given = dict(CREDENTIALS)
    loaded = load(given, giving(A=secret("a")))

    assert given == CREDENTIALS
    assert MARK not in f"{loaded}{loaded!r}{loaded.environ}{loaded.environ!r}{loaded.environ.items()}"
    with pytest.raises(TypeError):
        loaded.environ["A"] = "changed"  # type: ignore[index]


def test_a_good_load_is_remembered_and_a_refusal_is_not(tmp_path: Path) -> None:
    """E-12, D18"""
    calls: list[str] = []
    down = {"now": True}

    def fetch(where: Coordinates) -> Mapping[str, str | None]:
        calls.append("asked")
        if down["now"]:
            raise InfisicalError("TimeoutError")
        return {"A": str(len(calls))}

    def load(*, force_reload: bool = False) -> str:
        environ = CREDENTIALS | {"UA_INFISICAL_STRICT": "1"}
        return load_secrets(environ, tmp_path, fetch=fetch, force_reload=force_reload).environ["A"]

    for again in (False, False, True):
        with pytest.raises(SecretsRefused):
            load(force_reload=again)
    down["now"] = False
    assert [load(), load(), load(force_reload=True), load()] == ["4", "4", "5", "5"]
    down["now"] = True
    for again in (True, False):
        with pytest.raises(SecretsRefused):
            load(force_reload=again)

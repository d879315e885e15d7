"""Secrets through the official SDK from a server that behaves and misbehaves: in time, whole, and seen by nobody."""

import datetime
import ipaddress
import logging
import os
import ssl
import subprocess
import sys
import threading
import traceback
from functools import partial
from pathlib import Path
from socket import create_server

import pytest
from canary import MARK, secret
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from fake_infisical import LIST, LOGIN, Behaviour, FakeInfisical
from pydantic import SecretStr

from corporation.infisical import Coordinates, InfisicalError, fetch_secrets
from corporation.secrets import LoadedSecrets, SecretsRefused, load_secrets

VALUE = secret("the-value")
IMPATIENT = partial(fetch_secrets, limit_seconds=0.5)
"""For servers that hold their answer: the same limit as in earnest, only shorter."""

FAILURES = {
    Behaviour.WRONG_CREDENTIALS: "HTTPError",
    Behaviour.SLOW_LOGIN: "TimeoutError",
    Behaviour.SLOW: "TimeoutError",
    Behaviour.DRIP: "TimeoutError",
    Behaviour.DRIP_HEADERS: "TimeoutError",
    Behaviour.BROKEN: "HTTPError",
    Behaviour.FORBIDDEN: "HTTPError",
    Behaviour.NOT_FOUND: "HTTPError",
    Behaviour.EXPIRED_ALWAYS: "HTTPError",
    Behaviour.MALFORMED: "InfisicalError",
    Behaviour.WRONG_SHAPE: "TypeError",
    Behaviour.INCOMPLETE: "ProtocolError",
    Behaviour.REDIRECT: "Redirect",
    Behaviour.HUGE: "TooLarge",
    Behaviour.ZIP_BOMB: "TooLarge",
}
HELD = {Behaviour.SLOW_LOGIN, Behaviour.SLOW, Behaviour.DRIP, Behaviour.DRIP_HEADERS}


def load(environ: dict[str, str], folder: Path, *, patient: bool = True, again: bool = False) -> LoadedSecrets:
    fetch = fetch_secrets if patient else IMPATIENT
    return load_secrets(environ, folder, fetch=fetch, force_reload=again)


def refusal(environ: dict[str, str], folder: Path, *, patient: bool = True, again: bool = False) -> SecretsRefused:
    """The refusal, after a look at everything that a log or a crash report would show of it."""
    try:
        load(environ, folder, patient=patient, again=again)
    except SecretsRefused as error:
        shown = [str(error), repr(error), repr(error.report), traceback.format_exc(), *error.problems]
        caught = error
    else:
        pytest.fail("a strict node started without its secrets")
    assert not any(MARK in text for text in shown)
    assert caught.__context__ is None
    return caught


def threads_left() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name == "infisical"]


def test_the_wire_is_the_contracts(tmp_path: Path) -> None:
    """E-16, E-14: the two requests, with the environment as it is written."""
    with FakeInfisical({"TOKEN": VALUE}) as fake:
        more = {"INFISICAL_ENVIRONMENT": "Staging-HQ", "INFISICAL_SECRET_PATH": "/nodes"}
        loaded = load(fake.environ(**more), tmp_path)
        (login,), (listed,) = fake.asked(LOGIN), fake.asked(LIST)

    assert loaded.environ["TOKEN"] == VALUE
    assert login.body == {"clientId": "a-machine", "clientSecret": fake.client_secret}
    assert listed.authorization == f"Bearer {fake.token()}"
    wanted = {
        "workspaceId": "project-1",
        "environment": "Staging-HQ",
        "secretPath": "/nodes",
        "recursive": "true",
        "include_imports": "true",
    }
    assert listed.query.items() >= wanted.items()


def test_a_good_load_is_reported_and_remembered(tmp_path: Path) -> None:
    """E-12: the second call asks nobody, `force_reload` asks again."""
    with FakeInfisical({"A": VALUE, "B": ""}) as fake:
        first = load(fake.environ(UA_DEPLOYMENT_PROFILE="vps"), tmp_path)
        second = load(fake.environ(UA_DEPLOYMENT_PROFILE="vps"), tmp_path)
        asked_once = len(fake.requests)
        load(fake.environ(UA_DEPLOYMENT_PROFILE="vps"), tmp_path, again=True)

    assert second is first
    assert (asked_once, len(fake.requests)) == (2, 4)
    report = first.report
    assert (report.ok, report.source, report.strict_mode, report.loaded_count) == (True, "infisical", True, 2)
    assert (report.fallback_used, report.errors, report.environment) == (False, (), "dev")


def test_an_empty_list_is_no_answer(tmp_path: Path) -> None:
    """A wrong path gets one too: a strict node does not start on it, a workstation says that it fell back."""
    with FakeInfisical() as fake:
        for _ in range(3):
            with pytest.raises(SecretsRefused, match="no secret at all"):
                load(fake.environ(UA_INFISICAL_STRICT="1"), tmp_path)
        report = load(fake.environ(UA_DEPLOYMENT_PROFILE="local_workstation"), tmp_path).report

    assert (report.source, report.fallback_used, report.errors[0]) == ("environment", True, "NoSecrets")


@pytest.mark.parametrize(("behaviour", "error"), FAILURES.items(), ids=FAILURES.keys())
def test_a_strict_node_is_refused_on_every_call(behaviour: Behaviour, error: str, tmp_path: Path) -> None:
    """D18, E12: the first call, the second, and the one that forces; afterwards nothing of it is left."""
    (tmp_path / ".env").write_text("ONLY=here\n")
    with FakeInfisical({"TOKEN": VALUE}) as elsewhere:
        with FakeInfisical({"TOKEN": VALUE}, behaviour=behaviour, redirect_to=elsewhere.url) as fake:
            environ = fake.environ(UA_DEPLOYMENT_PROFILE="standalone_node")
            patient = behaviour not in HELD
            refused = [refusal(environ, tmp_path, patient=patient, again=again) for again in (False, False, True)]
            left = threads_left()

        assert elsewhere.requests == []
    assert left == []
    for each in refused:
        assert (each.report.ok, each.report.source, each.report.errors) == (False, "none", (error,))
        assert error in each.problems[0]


@pytest.mark.parametrize(("behaviour", "error"), FAILURES.items(), ids=FAILURES.keys())
def test_a_workstation_reads_its_dotenv_file_instead(behaviour: Behaviour, error: str, tmp_path: Path) -> None:
    """E-12, the third row of the table."""
    dotenv = tmp_path / ".env"
    dotenv.touch(mode=0o600)
    dotenv.write_text(f"TOKEN={secret('dotenv')}\n")
    with FakeInfisical({"TOKEN": VALUE}, behaviour=behaviour, redirect_to="http://127.0.0.1:1") as fake:
        loaded = load(fake.environ(), tmp_path, patient=behaviour not in HELD)

    assert loaded.environ["TOKEN"] == secret("dotenv")
    assert (loaded.report.source, loaded.report.errors, loaded.report.fallback_used) == ("dotenv", (error,), True)
    assert threads_left() == []


def test_a_node_that_once_had_its_secrets_is_refused_when_it_asks_again_in_vain(tmp_path: Path) -> None:
    """D18: an earlier good load is no excuse, and after the failure it is no longer handed out either."""
    with FakeInfisical({"TOKEN": VALUE}) as fake:
        environ = fake.environ(UA_DEPLOYMENT_PROFILE="vps")
        load(environ, tmp_path)
        fake.behaviour = Behaviour.BROKEN

        refusal(environ, tmp_path, again=True)
        refusal(environ, tmp_path)

        fake.behaviour = Behaviour.OK
        assert load(environ, tmp_path).environ["TOKEN"] == VALUE


def test_a_token_that_ended_between_the_two_requests_is_renewed_once(tmp_path: Path) -> None:
    with FakeInfisical({"TOKEN": VALUE}, behaviour=Behaviour.EXPIRED_ONCE) as fake:
        assert load(fake.environ(), tmp_path).environ["TOKEN"] == VALUE
        assert [request.path for request in fake.requests] == [LOGIN, LIST, LOGIN, LIST]


@pytest.mark.parametrize(
    ("behaviour", "paths"),
    [
        (Behaviour.WRONG_CREDENTIALS, [LOGIN]),
        (Behaviour.FORBIDDEN, [LOGIN, LIST]),
        (Behaviour.NOT_FOUND, [LOGIN, LIST]),
        (Behaviour.BROKEN, [LOGIN, LIST]),
        (Behaviour.EXPIRED_ALWAYS, [LOGIN, LIST, LOGIN, LIST]),
    ],
)
def test_what_is_refused_is_not_asked_again(behaviour: Behaviour, paths: list[str]) -> None:
    with FakeInfisical(behaviour=behaviour) as fake, pytest.raises(InfisicalError):
        fetch_secrets(coordinates(fake))

    assert [request.path for request in fake.requests] == paths


def coordinates(fake: FakeInfisical, **more: str) -> Coordinates:
    known = fake.environ()
    return Coordinates(
        client_id=known["INFISICAL_CLIENT_ID"],
        client_secret=SecretStr(known["INFISICAL_CLIENT_SECRET"]),
        project_id="project-1",
        api_url=fake.url,
        **more,
    )


def test_nobody_listening_is_said_at_once(tmp_path: Path) -> None:
    """The SDK alone would try for 16 seconds."""
    with create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with FakeInfisical() as fake:
        environ = fake.environ(UA_INFISICAL_STRICT="1", INFISICAL_API_URL=f"http://127.0.0.1:{port}")

    assert refusal(environ, tmp_path).report.errors == ("ConnectionError",)


def test_a_server_that_takes_connections_and_says_nothing_is_given_up(tmp_path: Path) -> None:
    with create_server(("127.0.0.1", 0)) as listener, FakeInfisical() as fake:
        for scheme in ("http", "https"):  # over TLS it is the handshake that never ends
            address = f"{scheme}://127.0.0.1:{listener.getsockname()[1]}"
            environ = fake.environ(UA_INFISICAL_STRICT="1", INFISICAL_API_URL=address)

            assert refusal(environ, tmp_path, patient=False).report.errors == ("TimeoutError",)
            assert threads_left() == []


def test_a_pause_in_an_answer_has_a_limit_of_its_own() -> None:
    with FakeInfisical(behaviour=Behaviour.SLOW) as fake, pytest.raises(InfisicalError) as caught:
        fetch_secrets(coordinates(fake), wait_seconds=0.2)

    assert caught.value.class_name == "ReadTimeout"


@pytest.mark.parametrize("address", ["no address", "ftp://127.0.0.1", "http://[", "http://"])
def test_an_address_that_is_none_is_a_failure_like_any_other(address: str, tmp_path: Path) -> None:
    with FakeInfisical() as fake:
        refused = refusal(fake.environ(UA_INFISICAL_STRICT="1", INFISICAL_API_URL=address), tmp_path)

    assert len(refused.report.errors) == 1
    assert "INFISICAL_API_URL" in refused.problems[1]


def test_the_nearest_folder_wins_then_the_last_import() -> None:
    folders = {"/b": {"A": "b", "B": "b"}, "/a": {"A": "a", "B": "a", "C": "a"}, "/a/x": {"C": "x", "D": "x"}}
    imports = [{"A": "first", "E": "first", "F": "first"}, {"A": "last", "D": "last", "E": "last"}]
    with FakeInfisical({"A": "root"}, folders=folders, imports=imports) as fake:
        found = fetch_secrets(coordinates(fake))

    assert found == {"A": "root", "B": "a", "C": "a", "D": "x", "E": "last", "F": "first"}


def test_a_value_that_the_identity_may_not_read_is_no_value(tmp_path: Path) -> None:
    """Infisical sends a placeholder that everybody knows; nothing may be signed with it."""
    with FakeInfisical({"UA_OPS_JWT_SECRET": VALUE, "OTHER": "x"}) as fake:
        fake.hidden = {"UA_OPS_JWT_SECRET"}
        loaded = load(fake.environ(), tmp_path)

    assert "UA_OPS_JWT_SECRET" not in loaded.environ
    assert (loaded.report.loaded_count, loaded.report.errors) == (1, ("UnusableSecret",))


def test_values_come_to_the_byte(tmp_path: Path) -> None:
    """E-15: all but the paths of certificates, whose newline would break every encrypted connection."""
    odd = {"PEM": " -----\r\nä\t☃\n", "QUOTED": "'\"$HOME`", "EMPTY": "", "SSL_CERT_FILE": " /etc/ca.pem\n"}
    with FakeInfisical(odd) as fake:
        loaded = load(fake.environ(), tmp_path).environ

    assert {name: loaded[name] for name in odd} == odd | {"SSL_CERT_FILE": "/etc/ca.pem"}


def test_no_proxy_and_no_netrc_of_the_environment_come_between(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login somebody password else\n")
    monkeypatch.setenv("NETRC", str(netrc))
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "REQUESTS_CA_BUNDLE"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    with FakeInfisical({"TOKEN": VALUE}) as fake:
        load(fake.environ(), tmp_path)

        assert fake.asked(LIST)[0].authorization == f"Bearer {fake.token()}"


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ssl.SSLContext]:
    """An authority that nobody knows, and a server that it vouches for."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), 1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    folder = tmp_path_factory.mktemp("certificate")
    (folder / "ca.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    (folder / "key.pem").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "ca.pem", folder / "key.pem")
    return folder / "ca.pem", context


def test_a_server_that_nobody_vouches_for_gets_no_credentials(
    certificate: tuple[Path, ssl.SSLContext], tmp_path: Path
) -> None:
    with FakeInfisical({"TOKEN": VALUE}, certificate=certificate[1]) as fake:
        refused = refusal(fake.environ(UA_INFISICAL_STRICT="1"), tmp_path)

        assert fake.requests == []
    assert refused.report.errors == ("SSLError",)


def test_an_own_authority_is_named_by_the_usual_variable(
    certificate: tuple[Path, ssl.SSLContext], tmp_path: Path
) -> None:
    with FakeInfisical({"TOKEN": VALUE}, certificate=certificate[1]) as fake:
        loaded = load(fake.environ(REQUESTS_CA_BUNDLE=f"{certificate[0]}\n"), tmp_path)
        fake.behaviour = Behaviour.DRIP_HEADERS
        dripped = load(fake.environ(REQUESTS_CA_BUNDLE=str(certificate[0])), tmp_path, patient=False)

    assert loaded.environ["TOKEN"] == VALUE
    assert dripped.report.errors == ("TimeoutError", "FileNotFoundError")
    assert threads_left() == []


def test_an_own_authority_that_is_not_there_is_a_failure(tmp_path: Path) -> None:
    with FakeInfisical(behaviour=Behaviour.OK) as fake:
        environ = fake.environ(INFISICAL_API_URL=fake.url.replace("http:", "https:"), SSL_CERT_FILE="/nowhere.pem")
        refused = refusal(environ | {"UA_INFISICAL_STRICT": "1"}, tmp_path)

    assert refused.report.errors == ("OSError",)


def test_a_missing_sdk_is_named_with_its_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "infisical_sdk", None)
    with FakeInfisical() as fake:
        refused = refusal(fake.environ(UA_INFISICAL_STRICT="1"), tmp_path)

    assert refused.report.errors == ("ModuleNotFoundError",)
    assert "uv sync --extra infisical" in refused.problems[1]


def test_no_secret_is_shown_or_inherited(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """E-4: not in what is printed, logged at the most talkative level, or handed to a child process."""
    caplog.set_level(logging.DEBUG)
    with FakeInfisical({"TOKEN": VALUE, "bad-name": VALUE}) as fake:
        loaded = load(fake.environ(), tmp_path)
    child = [sys.executable, "-c", "import os; print(dict(os.environ))"]
    inherited = subprocess.run(child, capture_output=True, text=True, timeout=60, check=True).stdout

    assert loaded.environ["TOKEN"] == VALUE
    assert "TOKEN" in loaded.secret_names
    shown = [repr(loaded), str(loaded), repr(loaded.environ), str(loaded.report), caplog.text, inherited]
    assert not any(MARK in text for text in [*shown, repr(dict(os.environ))])


def test_without_credentials_the_sdk_is_not_even_imported(tmp_path: Path) -> None:
    """Commands start quickly on a machine that has no Infisical."""
    code = (
        "import sys; from pathlib import Path; from corporation.secrets import load_secrets;"
        f"load_secrets({{}}, Path({str(tmp_path)!r}));"
        "assert not {'requests', 'boto3', 'infisical_sdk'} & set(sys.modules)"
    )

    subprocess.run([sys.executable, "-c", code], timeout=60, check=True)

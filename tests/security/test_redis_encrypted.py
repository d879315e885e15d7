"""An encrypted way to the broker: who answers there is verified, by every process, whatever the address says."""

import datetime
import ipaddress
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import redis
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from kombu import Connection
from kombu.exceptions import OperationalError
from redis_seven import NoRedisSevenError, redis_seven

import celeryconfig
from corporation.broker_link import open_own_link
from corporation.embedded.ports import free_port
from corporation.errors import SettingsError
from corporation.settings import Settings, load_settings
from factory_tasks import gated_transport

HERE = "127.0.0.1"
UNVERIFIED = "CERTIFICATE_VERIFY_FAILED"


@dataclass(frozen=True)
class Authority:
    """Somebody who vouches for servers; `file` says who that is."""

    file: Path
    key: ec.EllipticCurvePrivateKey
    name: x509.Name

    @classmethod
    def made(cls, folder: Path, name: str) -> "Authority":
        key, who = ec.generate_private_key(ec.SECP256R1()), x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        made = cls(folder / f"{name}.pem", key, who)
        basics = x509.BasicConstraints(ca=True, path_length=0)
        made.file.write_bytes(_signed(made, who, key.public_key(), basics).public_bytes(serialization.Encoding.PEM))
        return made

    def server(self, folder: Path, address: str) -> tuple[Path, Path]:
        """Certificate and key of a server that is at `address`."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, address)])
        names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(address))])
        certificate, private = folder / f"{address}.crt", folder / f"{address}.key"
        signed = _signed(self, name, key.public_key(), names)
        certificate.write_bytes(signed.public_bytes(serialization.Encoding.PEM))
        plain = serialization.NoEncryption()
        pkcs = serialization.PrivateFormat.PKCS8
        private.write_bytes(key.private_bytes(serialization.Encoding.PEM, pkcs, plain))
        return certificate, private


def _signed(
    by: Authority, name: x509.Name, key: ec.EllipticCurvePublicKey, what: x509.ExtensionType
) -> x509.Certificate:
    now = datetime.datetime.now(datetime.UTC)
    builder = x509.CertificateBuilder(issuer_name=by.name, subject_name=name, public_key=key)
    builder = builder.serial_number(x509.random_serial_number()).add_extension(what, critical=False)
    builder = builder.not_valid_before(now - datetime.timedelta(days=1))
    return builder.not_valid_after(now + datetime.timedelta(days=1)).sign(by.key, hashes.SHA256())


@dataclass(frozen=True)
class Encrypted:
    """Two servers whom one authority vouches for: one is where its certificate says, the other is not."""

    ours: Authority
    anothers: Authority
    right: str
    elsewhere: str

    def settings(self, place: str, authority: Authority) -> Settings:
        """What a node is told that is to believe `authority`."""
        url = f"rediss://{place}/0?ssl_cert_reqs=CERT_REQUIRED&ssl_ca_certs={authority.file}"
        return load_settings({"UA_REDIS_URL": url, "UA_FACTORY_ID": "desk-7"})


@pytest.fixture(scope="module")
def encrypted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Encrypted]:
    folder = tmp_path_factory.mktemp("encrypted")
    ours, anothers = Authority.made(folder, "ours"), Authority.made(folder, "anothers")
    places = []
    (first := folder / "first").mkdir()
    (second := folder / "second").mkdir()
    ports = free_port(None), free_port(None)
    try:
        with (
            redis_seven(first, *_options(ours, folder, HERE, ports[0])) as one,
            redis_seven(second, *_options(ours, folder, "127.0.0.9", ports[1])) as two,
        ):
            places = [
                f"{url.removeprefix('redis://').partition('@')[0]}@{HERE}:{port}"
                for url, port in zip((one, two), ports, strict=True)
            ]
            yield Encrypted(ours, anothers, *places)
    except NoRedisSevenError as error:
        pytest.skip(str(error))


def _options(authority: Authority, folder: Path, address: str, port: int) -> list[str]:
    certificate, key = authority.server(folder, address)
    files = ["--tls-cert-file", str(certificate), "--tls-key-file", str(key), "--tls-ca-cert-file", str(authority.file)]
    return ["--tls-port", str(port), *files, "--tls-auth-clients", "no"]


def kombus(settings: Settings) -> Connection:
    """As a Celery process of the node makes it."""
    gated_transport.install()
    configured = celeryconfig.configuration(settings)
    return Connection(configured["broker_url"], transport_options=configured["broker_transport_options"])


def test_the_right_server_is_talked_to(encrypted: Encrypted) -> None:
    settings = encrypted.settings(encrypted.right, encrypted.ours)

    with open_own_link(settings) as link, kombus(settings) as connection:
        assert link.ping()
        assert connection.default_channel.client.ping()


@pytest.mark.parametrize(("place", "authority"), [("right", "anothers"), ("elsewhere", "ours")])
def test_a_server_that_nobody_we_know_vouches_for_or_that_is_another_hears_nothing(
    encrypted: Encrypted, place: str, authority: str
) -> None:
    settings = encrypted.settings(getattr(encrypted, place), getattr(encrypted, authority))

    with open_own_link(settings) as link, pytest.raises(redis.ConnectionError, match=UNVERIFIED):
        link.ping()
    with kombus(settings) as connection, pytest.raises(OperationalError, match=UNVERIFIED):
        connection.ensure_connection(max_retries=1, interval_start=0)


@pytest.mark.parametrize(
    "query",
    [
        "",
        "ssl_cert_reqs=none",
        "ssl_cert_reqs=none&ssl_ca_certs=/ca.pem",
        "ssl_cert_reqs=optional&ssl_ca_certs=/ca.pem",
        "ssl_cert_reqs=required",
        "ssl_ca_certs=/ca.pem",
        "ssl_cert_reqs=required&ssl_cert_reqs=none&ssl_ca_certs=/ca.pem",
        "ssl_cert_reqs=none&ssl_cert_reqs=required&ssl_ca_certs=/ca.pem",
        "SSL_CERT_REQS=required&ssl_ca_certs=/ca.pem",
        "ssl_cert_reqs=required&ssl_ca_certs=/ca.pem&ssl_check_hostname=false",
        "ssl_cert_reqs=required&ssl_ca_certs=/ca.pem&ssl_check_hostname=0",
        "ssl_cert_reqs=required&ssl_ca_certs=/ca.pem&ssl_exclude_verify_flags=VERIFY_X509_STRICT",
    ],
)
@pytest.mark.parametrize("name", ["UA_REDIS_URL", "UA_FACTORY_REDIS_URL", "UA_REDIS_ADMIN_URL"])
def test_an_address_that_would_have_nobody_verified_refuses_the_start(name: str, query: str) -> None:
    with pytest.raises(SettingsError) as refused:
        load_settings({name: f"rediss://10.8.0.1/0?{query}"})

    assert [problem.partition(":")[0] for problem in refused.value.problems] == [name]


@pytest.mark.parametrize("name", ["UA_REDIS_URL", "UA_FACTORY_REDIS_URL", "UA_REDIS_ADMIN_URL"])
def test_plain_text_over_the_internet_refuses_the_start_unless_it_is_allowed(name: str) -> None:
    plain = {name: "redis://8.8.8.8/0"}
    with pytest.raises(SettingsError, match=f"{name}: sends secrets over the open internet unencrypted"):
        load_settings(plain)

    assert load_settings({**plain, "UA_REDIS_ALLOW_PLAINTEXT": "1"})
    assert load_settings({name: "redis://10.8.0.1/0"})


@pytest.mark.parametrize(("url", "taken"), [("redis://h/1", False), ("redis://h/0", True), ("redis://:p@h/1", True)])
def test_factories_get_users_of_their_own_in_database_0_only(url: str, taken: bool) -> None:
    """Rights do not tell databases apart, and no factory may change to another."""
    if taken:
        assert load_settings({"UA_FACTORY_REDIS_URL": url})
        return
    with pytest.raises(SettingsError, match="UA_FACTORY_REDIS_URL: must name database 0"):
        load_settings({"UA_FACTORY_REDIS_URL": url})

"""How one variable's word becomes a value: flags, addresses, secrets, names and lists (contract env §1)."""

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any, Final, LiteralString
from urllib.parse import parse_qs, urlsplit

from pydantic import AfterValidator, BeforeValidator, SecretStr
from pydantic_core import PydanticCustomError

STAGES = {
    "dev": "development",
    "development": "development",
    "local": "local",
    "prod": "production",
    "production": "production",
    "staging": "staging",
    "staging-hq": "staging",
}
"""What the name of an Infisical environment says of the stage (E-14)."""

TRUE_WORDS = frozenset({"1", "true", "yes", "on"})
FALSE_WORDS = frozenset({"0", "false", "no", "off"})
LEAST_TOKEN_BYTES = 32
"""From here on no number of tries finds a secret; below it, only that tries are few keeps it."""
LONGEST_SECONDS = 3_155_760_000
"""A hundred years: more is a slip, and the database could not add it to a time."""


class Stage(StrEnum):
    """How serious this node is."""

    DEVELOPMENT = "development"
    STAGING = "staging"
    LOCAL = "local"
    PRODUCTION = "production"


def read_flag(word: str | None, default: bool) -> bool:
    """The 3-state flag of contract E-2: a word for yes, a word for no, and everything else is the default."""
    text = (word or "").strip().lower()
    if text in TRUE_WORDS:
        return True
    return False if text in FALSE_WORDS else default


def read_optional_flag(word: str | None) -> bool | None:
    """As `read_flag`, but what is neither yes nor no is None: nobody decided."""
    text = (word or "").strip().lower()
    return True if text in TRUE_WORDS else False if text in FALSE_WORDS else None


def flag(default: bool | None) -> BeforeValidator:
    """The field is a 3-state flag; `default` also stands for junk, which `oddities` warns about."""

    def read(word: Any) -> bool | None:
        if word is None or isinstance(word, bool):
            return word
        return read_optional_flag(str(word)) if default is None else read_flag(str(word), default)

    return BeforeValidator(read)


def choice(*, upper: bool = False) -> BeforeValidator:
    """The field is one of an enumeration's words, trimmed and in any case."""

    def read(word: Any) -> Any:
        if not isinstance(word, str):
            return word
        return word.strip().upper() if upper else word.strip().lower()

    return BeforeValidator(read)


@dataclass(frozen=True)
class Floor:
    """What is less counts as `least`, which `oddities` warns about; what is no number is still refused (E-3)."""

    least: int

    def __call__(self, number: int) -> int:
        """The number that counts."""
        return max(self.least, number)


def floor(least: int) -> AfterValidator:
    """The field is a number whose floor is `least` (contract env §5, §6, §7, §9)."""
    return AfterValidator(Floor(least))


def listed(word: Any) -> Any:
    """The parts of a comma-separated word, trimmed, empty ones left out."""
    return tuple(part for raw in word.split(",") if (part := raw.strip())) if isinstance(word, str) else word


def address_of(*schemes: str) -> AfterValidator:
    """The text must be an address with one of `schemes`; what is wrong with it is said without repeating any of it."""

    def check(given: str | SecretStr) -> str | SecretStr:
        address = given if isinstance(given, str) else given.get_secret_value()
        try:
            parts = urlsplit(address)
            _ = parts.port  # only reading it shows that it is no number
        except ValueError:
            raise PydanticCustomError("address", "is no address; write special characters as %XX") from None
        problem = _unreadable(parts.netloc)
        if problem:
            raise PydanticCustomError("address", problem)
        if parts.scheme not in ("http", "https") and "@" in f"{parts.path}{parts.query}":
            raise PydanticCustomError("address", "has an @ behind the host; write a / in a password as %2F")
        if "password=" in parts.query.lower():
            # It would be shown wherever an address is shown; only the part before the @ is hidden there.
            raise PydanticCustomError("address", "must not carry its password in the query; write it before the @")
        if address and parts.scheme not in schemes:
            allowed = " or ".join(f"{scheme}://" for scheme in schemes)
            raise PydanticCustomError("address", "must start with {allowed}", {"allowed": allowed})
        return given

    return AfterValidator(check)


def _unreadable(place: str) -> LiteralString | None:
    """What parsers would trip over in user, password, host and port; their errors repeat the text, ours does not."""
    if re.search(r"%(?![0-9A-Fa-f]{2})", place):
        return "has a % that is none of %XX; write a % in a password as %25"
    if place.count("@") > 1:
        return "has an @ too many; write one in a password as %40"
    return "has a blank before the path; write one in a password as %20" if re.search(r"\s", place) else None


def _verified_tls(given: SecretStr) -> SecretStr:
    """An encrypted address names who may vouch for the broker, and nothing in it makes that worth less.

    Two libraries read it: of an option given twice one takes the first and one the last, and one knows one word less.
    """
    parts = urlsplit(given.get_secret_value())
    if parts.scheme != "rediss":
        return given
    options = parse_qs(parts.query)
    words = [word.lower().removeprefix("cert_") for word in options.get("ssl_cert_reqs", [])]
    if words != ["required"] or len(options.get("ssl_ca_certs", [])) != 1:
        # Without both the broker's client would take any certificate (notes, security §1 rule 8).
        raise PydanticCustomError("tls", "must end in ?ssl_cert_reqs=required&ssl_ca_certs=FILE, or nobody is verified")
    ssl_options = {name: values for name, values in options.items() if name.lower().startswith("ssl_")}
    if ssl_options.keys() - _TLS_OPTIONS or ssl_options.get("ssl_check_hostname", ["true"]) != ["true"]:
        raise PydanticCustomError(
            "tls",
            "must not weaken how the broker is verified: of the options ssl_… it may "
            "have ssl_cert_reqs=required, ssl_ca_certs, ssl_certfile and ssl_keyfile",
        )
    query = re.sub(r"(?<=ssl_cert_reqs=)[A-Za-z_]+", "required", parts.query)
    return SecretStr(parts._replace(query=query).geturl())


_TLS_OPTIONS: Final = frozenset({"ssl_cert_reqs", "ssl_ca_certs", "ssl_certfile", "ssl_keyfile", "ssl_check_hostname"})


def _host(name: str) -> str:
    if ":" in name:
        try:
            ipaddress.IPv6Address(name)
        except ValueError:
            name = ""
    if not re.fullmatch(r"[A-Za-z0-9_.:%-]{1,253}", name):
        raise PydanticCustomError("host", "is no name of a host and no address; leave scheme, port and brackets out")
    return name


def _signing_secret(secret: SecretStr) -> SecretStr:
    text = secret.get_secret_value()
    if len(text.encode()) < LEAST_TOKEN_BYTES:
        raise PydanticCustomError("secret", "must be at least 32 bytes long; `openssl rand -hex 32` makes one")
    if len(set(text)) < 8 or re.search("change.?me|placeholder|example|<.*>", text, re.IGNORECASE):
        raise PydanticCustomError("secret", "looks like a default from a manual; `openssl rand -hex 32` makes one")
    return secret


def _origins(origins: tuple[str, ...]) -> tuple[str, ...]:
    for origin in origins:
        if not re.fullmatch(r"https?://[A-Za-z0-9.\-\[\]:]+", origin):
            raise PydanticCustomError(
                "origin", "must be origins like https://desk.example, separated by commas; * never"
            )
    return origins


def _networks(proxies: tuple[str, ...]) -> tuple[str, ...]:
    try:
        for proxy in proxies:
            ipaddress.ip_network(proxy)
    except ValueError:
        raise PydanticCustomError(
            "proxies", "must be addresses or networks like 10.8.0.0/24; names and * never"
        ) from None
    return proxies


def _whole_numbers(parts: Any) -> Any:
    if isinstance(parts, tuple) and not all(re.fullmatch("[0-9]{1,15}", str(part)) for part in parts):
        raise PydanticCustomError("ids", "must be whole numbers, separated by commas")
    return parts


def is_near(host: str | None) -> bool:
    """Whether plain text to `host` stays in this machine or network: no public address, and no name of the internet.

    A name is judged by its looks: one without a dot, or below a suffix that is private by convention.
    """
    name = (host or "").lower().rstrip(".")
    try:
        return not ipaddress.ip_address(name).is_global
    except ValueError:
        return "." not in name or name.endswith((".local", ".internal", ".lan", ".home.arpa", ".localhost"))


def crosses_the_internet_in_clear(address: str) -> bool:
    """Whether what is sent to `address` can be read on its way: unencrypted, and to a place that is not near.

    Of a broker only addresses are judged, not names, as the contract's examples have them.
    """
    parts = urlsplit(address)
    if parts.scheme == "http":
        return not is_near(parts.hostname)
    return parts.scheme == "redis" and _is_public(parts.hostname)


def _is_public(host: str | None) -> bool:
    try:
        return ipaddress.ip_address(host or "").is_global
    except ValueError:
        return False


IN_CLEAR: Final = "sends secrets over the open internet unencrypted; use {}, a private address, or {}=1"


def broker_problems(addresses: Mapping[str, SecretStr | None]) -> list[str]:
    """Which of these variables, by name, would send what they carry over the open internet unencrypted."""
    given = {name: address.get_secret_value() for name, address in addresses.items() if address}
    return [
        f"{name}: {IN_CLEAR.format('rediss://', 'UA_REDIS_ALLOW_PLAINTEXT')}"
        for name, address in given.items()
        if crosses_the_internet_in_clear(address)
    ]


def _database_zero(given: SecretStr) -> SecretStr:
    parts = urlsplit(given.get_secret_value())
    if "@" not in parts.netloc and parts.path.strip("/") not in ("", "0"):
        raise PydanticCustomError("database", "must name database 0 or a user: rights are the same in all databases")
    return given


KEY_NAME: Final = r"^[A-Za-z0-9:_.-]{1,200}$"
"""Names of streams and groups: no blank, no glob character, nothing an access rule could misread."""

Redis = Annotated[SecretStr, address_of("redis", "rediss"), AfterValidator(_verified_tls)]
FactoryRedis = Annotated[Redis, AfterValidator(_database_zero)]
"""Without a user in it each factory gets one of its own."""
Web = Annotated[str, address_of("http", "https")]
Postgres = Annotated[SecretStr, address_of("postgresql", "postgres", "postgresql+psycopg")]
HeaderSecret = Annotated[SecretStr, AfterValidator(lambda secret: SecretStr(secret.get_secret_value().strip()))]
"""A secret that travels in a header, which loses the blanks around it: a newline after it would never be right."""
HostName = Annotated[str, AfterValidator(_host)]
"""A name, or an address of either kind."""
Name = Annotated[str, AfterValidator(str.strip)]
SigningSecret = Annotated[SecretStr, AfterValidator(_signing_secret)]
Words = Annotated[tuple[str, ...], BeforeValidator(listed)]
Origins = Annotated[tuple[str, ...], BeforeValidator(listed), AfterValidator(_origins)]
Proxies = Annotated[tuple[str, ...], BeforeValidator(listed), AfterValidator(_networks)]
UserIds = Annotated[tuple[int, ...], BeforeValidator(lambda word: _whole_numbers(listed(word)))]

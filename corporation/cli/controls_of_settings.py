"""The controls that the settings of a node decide (pure)."""

from collections.abc import Mapping
from ipaddress import ip_address
from typing import Final
from urllib.parse import urlsplit

from corporation.cli.control import Control, on_if
from corporation.settings import Settings
from corporation.shown_address import shown
from corporation.trust.keyring import BadKeyError, kid_of, public_keys
from corporation.variables import is_near

SEPARATE: Final = "UA_UPDATE_KEYS"


def controls_of_settings(settings: Settings, environ: Mapping[str, str]) -> list[Control]:
    """What can be said without asking any server; `environ` says where secrets come from."""
    shared = [missions_signed(settings), broker_way(settings), plaintext(settings), secrets_from(environ)]
    if not settings.policy.is_headquarters:
        return [*shared, releases_signed(settings)]
    return [*shared, tokens_expire(settings), gateway(settings), cross_origin(settings), API_PAGES]


API_PAGES: Final = Control("API description", "on", "no /docs; /openapi.json for operators only")


def missions_signed(settings: Settings) -> Control:
    """HQ signs, and a factory runs only what is signed."""
    try:
        kids = ", ".join(kid_of(key) for key in public_keys(settings))
    except BadKeyError as error:
        return Control("signed missions", "off", str(error), "put a key there that `corporation keys new` made")
    if settings.policy.is_headquarters:
        how = "`corporation keys new` makes a key; give it to engine and API as UA_MISSION_SIGNING_KEY"
        signs = settings.mission_signing_key is not None
        return on_if(signs, "signed missions", f"keys {kids}", "HQ signs nothing", how)
    how = "join again, or put what `corporation keys show` prints at HQ into UA_MISSION_KEYS"
    return on_if(bool(kids), "signed missions", f"keys {kids}", "this factory runs unsigned missions too", how)


def releases_signed(settings: Settings) -> Control:
    """A release is believed by a key that signs nothing else."""
    how = "put the public key that signs releases into UA_UPDATE_KEYS; `corporation keys new` makes a pair"
    known = len(settings.update_keys)
    return on_if(known > 0, "signed releases", f"{known} in {SEPARATE}", "no key of releases is known", how)


def broker_way(settings: Settings) -> Control:
    """What travels to the broker is encrypted, or stays on this machine or in a private network."""
    parts = urlsplit(settings.redis_url)
    seen = shown(settings.redis_url)
    if parts.scheme == "rediss":
        return Control("way to Redis", "on", f"{seen}: encrypted, its certificate is checked")
    how = "use rediss://…?ssl_ca_certs=FILE, or an address of a private network"
    return on_if(is_near(parts.hostname), "way to Redis", f"{seen}: near", f"{seen}: not encrypted", how)


def plaintext(settings: Settings) -> Control:
    """Nobody was allowed to send secrets over the internet unencrypted."""
    given = {
        "UA_REDIS_ALLOW_PLAINTEXT": settings.redis_plaintext_allowed,
        "UA_HQ_ALLOW_PLAINTEXT": settings.plaintext_allowed,
    }
    allowed = ", ".join(name for name, value in given.items() if value)
    return on_if(not allowed, "no plaintext", "nothing allows it", f"{allowed} is set", f"unset {allowed}")


def secrets_from(environ: Mapping[str, str]) -> Control:
    """Secrets come from a vault, where they can be exchanged and looked after in one place."""
    vault = bool(environ.get("INFISICAL_CLIENT_ID"))
    how = "set INFISICAL_CLIENT_ID, INFISICAL_CLIENT_SECRET and INFISICAL_PROJECT_ID"
    return on_if(vault, "vault", "Infisical", "secrets come from the environment or a file", how)


def tokens_expire(settings: Settings) -> Control:
    """What opens HQ's API ends after an hour."""
    accepted = settings.ops_token is not None and settings.ops_auth_allow_legacy
    how = "mint tokens at /auth/ops-token and set UA_OPS_AUTH_ALLOW_LEGACY=0"
    return on_if(not accepted, "tokens expire", "an hour at most", "UA_OPS_TOKEN opens everything, for ever", how)


def gateway(settings: Settings) -> Control:
    """The API is reached from this machine alone; a proxy with TLS stands before it for others."""
    host = settings.gateway_host
    how = "bind it to 127.0.0.1 (UA_GATEWAY_HOST) and put a proxy with TLS before it (UA_GATEWAY_TRUSTED_PROXIES)"
    return on_if(_is_loopback(host), "gateway", f"on {host} only", f"listens on {host}", how)


def cross_origin(settings: Settings) -> Control:
    """No page of another origin may ask in a browser, but for those that were named."""
    origins = settings.cors_allowed_origins
    return Control("cross-origin", "on", f"only {', '.join(origins)}" if origins else "no other origin")


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"

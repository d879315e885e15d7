"""The controls that are settings: ways in clear, tokens, keys, and what of HQ's has no place on a factory (pure)."""

import ipaddress
from collections.abc import Mapping
from typing import Final
from urllib.parse import urlsplit

from corporation.cli.control import Control, judged
from corporation.settings import Settings, names_of
from corporation.shown_address import shown
from corporation.trust.keyring import BadKeyError, kid_of, public_keys
from corporation.trust.redis_address import names_somebody
from corporation.variables import is_near

WIDEST_PROXIES: Final = {4: 8, 6: 32}
"""The shortest prefix of a network of one's own, of each version of IP."""
OF_HQ: Final = (
    *names_of("database_url_given"),
    "UA_OPS_TOKEN",
    "UA_OPS_JWT_SECRET",
    "UA_INTERNAL_API_TOKEN",
    "UA_MISSION_SIGNING_KEY",
    "UA_REDIS_ADMIN_URL",
    "UA_FACTORY_REDIS_URL",
)
"""What a factory that joined with a code needs nothing of."""


def at_headquarters(settings: Settings) -> list[Control]:
    """The settings of an HQ, or of a node with a ledger of its own."""
    found = [gateway(settings), proxies(settings), origins(settings), jwt_secret(settings), signing_key(settings)]
    return [*found, factory_users(settings)] if settings.policy.is_headquarters else found


def everywhere(settings: Settings) -> list[Control]:
    """The settings of every node."""
    return [hq_link(settings), redis_link(settings), plaintext(settings)]


def on_a_factory(settings: Settings, environ: Mapping[str, str]) -> list[Control]:
    """The settings of a factory, `environ` being the environment that they were read from."""
    return [trusted_keys(settings), credential(settings), nothing_of_hqs(environ), *password_file(settings)]


def hq_link(settings: Settings) -> Control:
    """What is said to HQ cannot be read on its way."""
    url = settings.hq_base_url
    if not url:
        return Control("way to HQ", "on", "none: this node asks no HQ")
    parts = urlsplit(url)
    is_on = parts.scheme == "https" or is_near(parts.hostname)
    kind = "encrypted" if parts.scheme == "https" else "plain, inside this machine or network"
    seen = f"{url}, {kind}" if is_on else f"{url} crosses the internet unencrypted"
    return judged("way to HQ", is_on, seen, "serve HQ over https:// and put that into UA_HQ_BASE_URL")


def redis_link(settings: Settings) -> Control:
    """What goes to the broker cannot be read on its way, neither from here nor from the factories."""
    if not settings.redis_delegation_enabled and not settings.policy.opens_ledger:
        return Control("way to Redis", "on", "none: missions come over HTTPS")
    told = settings.factory_redis_url
    urls = [settings.redis_url, *([told.get_secret_value()] if told else [])]
    clear = [url for url in urls if urlsplit(url).scheme == "redis" and not is_near(urlsplit(url).hostname)]
    advice = "use rediss:// with ssl_ca_certs, or an address of a private network (WireGuard, Tailscale)"
    if clear:
        return Control("way to Redis", "off", f"{shown(clear[0])} crosses the internet unencrypted", advice)
    kinds = {"encrypted" if urlsplit(url).scheme == "rediss" else "plain, near" for url in urls}
    return Control("way to Redis", "on", f"{shown(urls[0])}, {' and '.join(sorted(kinds))}")


def plaintext(settings: Settings) -> Control:
    """Nobody has permitted secrets to cross the internet in clear."""
    given = {"UA_REDIS_ALLOW_PLAINTEXT": settings.redis_plaintext_allowed}
    given |= {"UA_HQ_ALLOW_PLAINTEXT": settings.plaintext_allowed}
    permitted = [name for name, is_set in given.items() if is_set]
    seen = f"{' and '.join(permitted)} permits it" if permitted else "nothing permits it"
    return judged("no plain internet", not permitted, seen, f"remove {' and '.join(permitted)}")


def gateway(settings: Settings) -> Control:
    """HQ's API is not open to every network that this machine is in."""
    host = settings.gateway_host
    is_open = _is_any(host) or not is_near(host)
    advice = "set UA_GATEWAY_HOST to 127.0.0.1 and let a proxy with TLS stand before it, or to a private address"
    return judged("API's address", not is_open, f"it listens at {host}", advice)


def _is_any(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_unspecified
    except ValueError:
        return False


def proxies(settings: Settings) -> Control:
    """Who may say where a request came from is a short list."""
    networks = [ipaddress.ip_network(proxy) for proxy in settings.trusted_proxies]
    wide = [str(network) for network in networks if network.prefixlen < WIDEST_PROXIES[network.version]]
    seen = f"{', '.join(wide)} may claim any origin" if wide else ", ".join(map(str, networks)) or "nobody is believed"
    return judged("trusted proxies", not wide, seen, "name your proxies alone in UA_GATEWAY_TRUSTED_PROXIES")


def origins(settings: Settings) -> Control:
    """Pages of other places may not use the API with a person's rights, but those that are listed, encrypted."""
    clear = [
        origin
        for origin in settings.cors_allowed_origins
        if urlsplit(origin).scheme == "http" and not is_near(urlsplit(origin).hostname)
    ]
    seen = f"{', '.join(clear)} comes unencrypted" if clear else ", ".join(settings.cors_allowed_origins) or "none"
    return judged("foreign pages", not clear, seen, "name https:// origins alone in UA_CORS_ALLOWED_ORIGINS")


def jwt_secret(settings: Settings) -> Control:
    """HQ makes tokens that end, with a secret nobody guesses: one that is shorter stops the API."""
    secret = settings.ops_jwt_secret
    seen = f"{len(secret.get_secret_value().encode())} bytes" if secret else "no secret for them is set here"
    advice = "put `openssl rand -hex 32` into UA_OPS_JWT_SECRET; without it HQ knows only a token that never ends"
    return judged("tokens that end", secret is not None, seen, advice)


def signing_key(settings: Settings) -> Control:
    """Every mission that leaves is signed."""
    advice = "put what `corporation keys new` makes into UA_MISSION_SIGNING_KEY of engine and API"
    try:
        kids = [kid_of(key) for key in public_keys(settings)]
    except BadKeyError as error:
        return Control("signed missions", "off", str(error), advice)
    if settings.mission_signing_key is None:
        return Control("signed missions", "off", "no key to sign with is set here", advice)
    others = f"; valid beside it: {', '.join(kids[1:])}" if kids[1:] else ""
    return Control("signed missions", "on", f"signed with {kids[0]}{others}")


def factory_users(settings: Settings) -> Control:
    """A factory that joins becomes a user of the broker of its own, or has no part in it."""
    url = settings.factory_redis_url
    if url is None:
        return Control("own Redis users", "on", "factories are told no Redis: their missions go over HTTPS")
    address = url.get_secret_value()
    shared = f"all factories are told {shown(address)}, so one of them is all of them"
    advice = "put the address without user and password into UA_FACTORY_REDIS_URL, and let factories join again"
    seen = shared if names_somebody(address) else f"each factory that joins is a user of its own at {address}"
    return judged("own Redis users", not names_somebody(address), seen, advice)


def trusted_keys(settings: Settings) -> Control:
    """This factory runs only what HQ has signed."""
    advice = "join again: HQ tells its keys then, if it has UA_MISSION_SIGNING_KEY"
    try:
        kids = [kid_of(key) for key in settings.mission_keys]
    except BadKeyError as error:
        return Control("signed missions", "off", str(error), advice)
    seen = f"runs what is signed with {', '.join(kids)}" if kids else "runs what nobody has signed"
    return judged("signed missions", bool(kids), seen, advice)


def credential(settings: Settings) -> Control:
    """This factory proves itself with a credential that is its own, and can be ended alone."""
    seen = "its own" if settings.factory_credential else "none; whatever it shows HQ is not its own"
    advice = "join with a code: `corporation join-code` at HQ"
    return judged("own credential", settings.factory_credential is not None, seen, advice)


def nothing_of_hqs(environ: Mapping[str, str]) -> Control:
    """No secret of HQ's lies in this factory's environment."""
    found = [name for name in OF_HQ if environ.get(name, "").strip()]
    seen = f"{', '.join(found)} {'is' if len(found) == 1 else 'are'} set here" if found else "nothing of it is here"
    return judged("nothing of HQ's", not found, seen, "remove it: whoever has this machine then has it too")


def password_file(settings: Settings) -> list[Control]:
    """The broker's password can be exchanged while missions run; nothing where no broker is used."""
    if not settings.redis_delegation_enabled:
        return []
    file = settings.redis_password_file
    seen = f"read from {file} for each connection" if file else "part of UA_REDIS_URL: it changes with a restart only"
    advice = "put it into a file of its own, mode 600, and name that in UA_REDIS_PASSWORD_FILE; joining does that"
    return [judged("password exchange", file is not None, seen, advice, advised=True)]

"""Whether a browser sent this from our own pages: the guard of every change made with the cookie (H-13); pure."""

from collections.abc import Sequence
from urllib.parse import urlsplit

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})


def is_same_origin(fetch_site: Sequence[str], origin: Sequence[str], scheme: str, host: str) -> bool:
    """Whether the headers `Sec-Fetch-Site`, else `Origin`, say that a page of `host` sent the request.

    A page may not set either header, so what they say is the browser's word. Neither of them, or either of them
    twice, is no.
    """
    if fetch_site:
        return list(fetch_site) == ["same-origin"]
    return len(origin) == 1 and _is_ours(origin[0], scheme, host)


def _is_ours(origin: str, scheme: str, host: str) -> bool:
    try:
        parts = urlsplit(origin)
        named = (parts.scheme, parts.netloc.lower())
        bare = f"{parts.scheme}://{parts.netloc}" == origin
    except ValueError:
        return False
    # https at the browser and http here is a proxy that ends TLS before us; the other way round is an attack.
    return bare and bool(host) and named in {(scheme, host.lower()), ("https", host.lower())}

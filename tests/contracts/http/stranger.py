"""Single requests, each on a connection of its own and with nothing kept; only `https` is not spoken.

As `httpx.get` and its siblings, which read all certificates of the machine before every request.
"""

import ssl
from functools import partial
from typing import Any, Final

import httpx

NO_CERTIFICATES: Final = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


def client(base_url: str = "", **options: Any) -> httpx.Client:
    """A client that waits half a minute unless told otherwise; use it with `with`."""
    return httpx.Client(base_url=base_url, verify=NO_CERTIFICATES, **({"timeout": 30} | options))


def request(method: str, url: str, **options: Any) -> httpx.Response:
    """The whole answer."""
    with client() as asking:
        return asking.request(method, url, **options)


get, head, post, options = (partial(request, method) for method in ("GET", "HEAD", "POST", "OPTIONS"))

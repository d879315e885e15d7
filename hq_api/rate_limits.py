"""How often a caller may fail, a credential may be exchanged, and a publisher or a factory may ask.

Counted in memory: each process counts for itself, and a restart forgets. Wrong guesses at a token are counted by
address. They slow down who guesses, and who shows there a secret that could be guessed; whose token or credential
has 32 bytes is never held up by what others at the same address do. Whole requests are counted by who asks, whatever
the address and however many tokens; operators are not held up, for they are who has to get through when all is on fire.
"""

from collections import deque
from collections.abc import Callable
from ipaddress import IPv6Address, IPv6Network, ip_address
from math import ceil
from threading import Lock
from typing import Final

from limits import RateLimitItem, RateLimitItemPerMinute
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter
from starlette.applications import Starlette
from starlette.requests import HTTPConnection

from corporation.clock import monotonic
from corporation.settings import Settings
from hq_api.responses import Refusal

FAILURES: Final = RateLimitItemPerMinute(60, namespace="failures")
"""Wrong tokens a minute from one address."""
LOGIN_FAILURES: Final = RateLimitItemPerMinute(5, namespace="login-failures")
"""Wrong credentials a minute from one address where a long-lived secret is exchanged for a token or a cookie."""
JOIN_FAILURES: Final = RateLimitItemPerMinute(10, namespace="join-failures")
"""Wrong join codes a minute from one address; a right one is never held up."""
MINTS: Final = RateLimitItemPerMinute(300, namespace="mints")
"""Tokens a minute for one credential: every process of a node mints its own, and all of them start at once."""
MOST_KEYS: Final = 20_000
"""Beyond this the counts that were not touched for longest are forgotten, so that no number of addresses fills us."""


class RateLimits:
    """The counts of one process; `clock` gives seconds that never go backwards. Safe from every thread."""

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._windows = MovingWindowRateLimiter(_Windows(clock))

    def check(self, limit: RateLimitItem, key: str) -> None:
        """Raise the 429 when `key` has used up `limit`; counts nothing."""
        if not self._windows.test(limit, key):
            raise self._refusal(limit, key)

    def count(self, limit: RateLimitItem, key: str) -> None:
        """One more for `key`; raises the 429, and counts nothing, when that is one too many."""
        if not self._windows.hit(limit, key):
            raise self._refusal(limit, key)

    def _refusal(self, limit: RateLimitItem, key: str) -> Refusal:
        wait = ceil(self._windows.get_window_stats(limit, key).reset_time - self._clock())
        seconds = min(max(1, wait), limit.get_expiry())
        window = "a minute" if limit.get_expiry() == 60 else f"{limit.get_expiry()} s"
        what = f"more than {limit.amount} in {window}; try again in {seconds} s"
        return Refusal(429, "too_many_requests", what, {"Retry-After": str(seconds)})


def install(app: Starlette, settings: Settings) -> None:
    """From now on `app` counts, starting from nothing, and grants what `settings` say."""
    app.state.rate_limits = RateLimits()
    app.state.request_limits = {
        scope: RateLimitItemPerMinute(amount, namespace=f"requests-{scope}")
        for scope, amount in (
            ("publish", settings.publisher_requests_per_minute),
            ("factory", settings.factory_requests_per_minute),
        )
    }


def count_request(connection: HTTPConnection, scope: str, name: str) -> None:
    """One more request of the publisher or factory `name`; raises the 429 when that is one too many in a minute.

    Other scopes are not counted. All tokens of one name count together.
    """
    limit = connection.app.state.request_limits.get(scope)
    if limit is not None:
        limits_of(connection).count(limit, name)


def limits_of(connection: HTTPConnection) -> RateLimits:
    """The counts of the process that serves `connection`."""
    return connection.app.state.rate_limits


def address_of(connection: HTTPConnection) -> str:
    """Whom failures are counted for: the peer's IPv4 address, or its IPv6 network of 64 bits, which one host owns."""
    host = connection.client.host if connection.client else ""
    try:
        address = ip_address(host)
    except ValueError:
        return host
    if not isinstance(address, IPv6Address):
        return str(address)
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(IPv6Network((int(address), 64), strict=False))


class _Windows(MemoryStorage):
    """The library's moving window over a clock that is handed in, with a bound on how much it remembers.

    The library's own store looks at the wall clock, which jumps, and sweeps from threads that it starts.
    """

    STORAGE_SCHEME: Final = None

    def __init__(self, clock: Callable[[], float]) -> None:
        super().__init__()
        self._clock = clock
        self._lock = Lock()
        self._moments: dict[str, deque[float]] = {}

    def acquire_entry(self, key: str, limit: int, expiry: int, amount: int = 1) -> bool:
        """Remember `amount` moments for `key` unless they would be more than `limit` in `expiry` seconds."""
        with self._lock:
            now = self._clock()
            moments = self._current(key, expiry, now)
            if len(moments) + amount > limit:
                return False
            moments.extend([now] * amount)
            # Put last, so that the first is the one nobody touched for longest.
            self._moments.pop(key, None)
            self._moments[key] = moments
            if len(self._moments) > MOST_KEYS:
                del self._moments[next(iter(self._moments))]
            return True

    def get_moving_window(self, key: str, limit: int, expiry: int) -> tuple[float, int]:
        """When the oldest moment of `key` was that still counts, and how many count."""
        with self._lock:
            now = self._clock()
            moments = self._current(key, expiry, now)
            return (moments[0], len(moments)) if moments else (now, 0)

    def _current(self, key: str, expiry: int, now: float) -> deque[float]:
        moments = self._moments.get(key) or deque[float]()
        while moments and moments[0] <= now - expiry:
            moments.popleft()
        return moments

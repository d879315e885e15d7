"""Wrong guesses are counted by address and by the minute; the clock is turned by hand."""

from math import ceil
from typing import Any

import pytest
from starlette.requests import HTTPConnection

from hq_api.rate_limits import FAILURES, LOGIN_FAILURES, MINTS, MOST_KEYS, RateLimits, address_of
from hq_api.responses import Refusal


class Clock:
    """Seconds that pass when the test says so."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


def refused(limits: RateLimits, limit: Any, key: str = "192.0.2.1") -> int | None:
    """After how many seconds one may come again, None when one may come now."""
    try:
        limits.check(limit, key)
    except Refusal as refusal:
        return int((refusal.headers or {})["Retry-After"]) if refusal.status == 429 else -1
    return None


@pytest.mark.parametrize(("limit", "many"), [(LOGIN_FAILURES, 5), (FAILURES, 60), (MINTS, 300)])
def test_so_many_a_minute_and_then_again_when_the_first_is_a_minute_old(limit: Any, many: int) -> None:
    clock = Clock()
    limits = RateLimits(clock)
    for _ in range(many):
        assert refused(limits, limit) is None
        limits.count(limit, "192.0.2.1")
        clock.now += 0.125

    assert refused(limits, limit) == ceil(60 - many / 8)
    with pytest.raises(Refusal):
        limits.count(limit, "192.0.2.1")
    assert refused(limits, limit, "192.0.2.2") is None
    clock.now = 1060.0
    assert refused(limits, limit) is None
    limits.count(limit, "192.0.2.1")
    assert refused(limits, limit) == 1


def test_looking_counts_nothing_and_a_refused_count_neither() -> None:
    clock = Clock()
    limits = RateLimits(clock)
    for _ in range(100):
        assert refused(limits, LOGIN_FAILURES) is None
    for _ in range(5):
        limits.count(LOGIN_FAILURES, "192.0.2.1")
    for _ in range(100):
        with pytest.raises(Refusal):
            limits.count(LOGIN_FAILURES, "192.0.2.1")

    clock.now += 60
    assert refused(limits, LOGIN_FAILURES) is None


def test_each_limit_counts_for_itself() -> None:
    limits = RateLimits(Clock())
    for _ in range(5):
        limits.count(LOGIN_FAILURES, "192.0.2.1")

    assert refused(limits, LOGIN_FAILURES) == 60
    assert refused(limits, FAILURES) is None


def test_no_number_of_addresses_fills_the_memory() -> None:
    limits = RateLimits(Clock())
    for number in range(MOST_KEYS + 500):
        limits.count(LOGIN_FAILURES, f"address-{number}")

    store: Any = limits._windows.storage  # pyright: ignore[reportPrivateUsage]
    assert len(store._moments) == MOST_KEYS


@pytest.mark.parametrize(
    ("peer", "counted_as"),
    [
        (("192.0.2.7", 1), "192.0.2.7"),
        (("2001:db8:1:2:3:4:5:6", 1), "2001:db8:1:2::/64"),
        (("2001:db8:1:2:ffff::1", 1), "2001:db8:1:2::/64"),
        (("2001:db8:1:3::1", 1), "2001:db8:1:3::/64"),
        (("fe80::1%eth0", 1), "fe80::/64"),
        (("::ffff:192.0.2.7", 1), "192.0.2.7"),
        (("testclient", 1), "testclient"),
        (None, ""),
    ],
)
def test_an_address_is_its_host_and_of_ipv6_the_network_that_one_host_owns(peer: Any, counted_as: str) -> None:
    assert address_of(HTTPConnection({"type": "http", "client": peer, "headers": []})) == counted_as

"""A user in a broker's address: seen where one stands, and put there so that every reader finds the same one."""

import pytest
import redis

from corporation.trust.redis_address import names_somebody, with_user


@pytest.mark.parametrize(
    ("url", "answer"),
    [
        ("redis://10.8.0.1:6379/0", False),
        ("rediss://hq.lan/0?ssl_cert_reqs=required&ssl_ca_certs=/a@b", False),
        ("redis://:word@10.8.0.1:6379/0", True),
        ("redis://somebody@10.8.0.1:6379/0", True),
        ("redis://@10.8.0.1:6379/0", True),
    ],
)
def test_whether_an_address_names_somebody(url: str, answer: bool) -> None:
    assert names_somebody(url) is answer


@pytest.mark.parametrize("url", ["redis://[fd00::1]:6380/2", "redis://other:word@[fd00::1]:6380/2"])
def test_the_user_is_the_one_that_was_put_there_whatever_is_in_its_name(url: str) -> None:
    written = with_user(url, "f_a:b", "p@ss:/word%")
    with redis.Redis.from_url(written) as client:
        read = client.connection_pool.connection_kwargs

    assert (read["username"], read["password"]) == ("f_a:b", "p@ss:/word%")
    assert (read["host"], read["port"], read["db"]) == ("fd00::1", 6380, 2)


def test_all_else_of_the_address_stays() -> None:
    assert with_user("rediss://hq.lan/0?ssl_ca_certs=/ca.pem", "f_a", "b") == (
        "rediss://f_a:b@hq.lan/0?ssl_ca_certs=/ca.pem"
    )

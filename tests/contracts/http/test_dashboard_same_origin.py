"""Who may change something with the cookie: our own pages, by the browser's word (H-13)."""

import pytest

from hq_api.dashboard.same_origin import is_same_origin

HOST = "hq.example:8002"
OURS = f"http://{HOST}"


@pytest.mark.parametrize(
    ("fetch_site", "origin", "allowed"),
    [
        (["same-origin"], [], True),
        (["same-origin"], [OURS], True),
        (["same-origin"], ["null"], True),
        (["same-site"], [OURS], False),
        (["cross-site"], [OURS], False),
        (["none"], [OURS], False),
        (["none"], [], False),
        ([""], [OURS], False),
        (["SAME-ORIGIN"], [], False),
        (["same-origin", "cross-site"], [OURS], False),
        (["same-origin, same-origin"], [], False),
        ([], [OURS], True),
        ([], [f"https://{HOST}"], True),
        ([], ["http://HQ.example:8002"], True),
        ([], [], False),
        ([], [""], False),
        ([], ["null"], False),
        ([], ["http://evil.example"], False),
        ([], ["http://hq.example"], False),
        ([], ["http://hq.example:80"], False),
        ([], ["http://hq.example:8002.evil.example"], False),
        ([], ["http://evil.example/http://hq.example:8002"], False),
        ([], [f"http://a@{HOST}"], False),
        ([], [f"{OURS}/"], False),
        ([], [f"{OURS}?"], False),
        ([], [f"ftp://{HOST}"], False),
        ([], [HOST], False),
        ([], [f"//{HOST}"], False),
        ([], ["http://[::1"], False),
        ([], [OURS, OURS], False),
        ([], [OURS, "http://evil.example"], False),
    ],
)
def test_the_browser_says_where_a_request_came_from(fetch_site: list[str], origin: list[str], allowed: bool) -> None:
    """H-13"""
    assert is_same_origin(fetch_site, origin, "http", HOST) is allowed


def test_a_page_without_encryption_may_not_act_on_one_with_it() -> None:
    assert not is_same_origin([], [OURS], "https", HOST)
    assert is_same_origin([], [f"https://{HOST}"], "https", HOST)


def test_a_request_that_names_no_host_comes_from_nowhere() -> None:
    assert not is_same_origin([], ["http://"], "http", "")

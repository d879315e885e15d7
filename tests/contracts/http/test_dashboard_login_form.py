"""The login form: one token, and a page of ours to go to, whatever was asked for."""

import pytest
from canary import secret
from hypothesis import given
from hypothesis import strategies as st

from hq_api.dashboard.login_form import local_page, parse_form
from hq_api.responses import Refusal


@pytest.mark.parametrize("goal", ["/dashboard", "/dashboard/corporation", "/dashboard/missions/b-1"])
def test_a_page_of_ours_is_where_one_goes(goal: str) -> None:
    assert local_page(goal) == goal


@pytest.mark.parametrize(
    "goal",
    [
        None,
        "",
        "/",
        "//evil.example",
        "///evil.example",
        "/\\evil.example",
        "\\\\evil.example",
        "https://evil.example",
        "https:/evil.example",
        "https:evil.example",
        "javascript:alert(1)",
        "data:text/html,x",
        "/dashboard@evil.example",
        "/dashboard.evil.example",
        "/dashboardx",
        "/dashboard//evil.example",
        "/dashboard/../../evil",
        "/dashboard/%2f%2fevil.example",
        "/dashboard/\\evil.example",
        "/dashboard?next=//evil.example",
        "/dashboard#@evil.example",
        "/dashboard\r\nSet-Cookie: a=b",
        "/dashboard\n",
        "\t/dashboard",
        " /dashboard",
        "/dashboard/\u2025/x",
        "/api/v1/missions",
        "/dashboard/login",
        "/dashboard/logout",
    ],
)
def test_nobody_is_sent_anywhere_else(goal: str | None) -> None:
    assert local_page(goal) == "/dashboard"


@given(st.text(max_size=40) | st.from_regex(r"[/\\]{1,3}[a-z./\\:@?#%]{0,20}"))
def test_every_goal_becomes_a_path_below_the_dashboard(goal: str) -> None:
    page = local_page(goal)

    assert page == "/dashboard" or (page == goal and page.startswith("/dashboard/") and "//" not in page)


def test_the_token_is_read_without_what_pasting_adds() -> None:
    token = secret("pasted")

    assert parse_form(f"token=+{token}%0D%0A&next=%2Fdashboard%2Fcorporation".encode()).token == token.encode()
    assert parse_form(b"").token == b""


def test_the_token_is_never_shown() -> None:
    assert secret("hidden") not in repr(parse_form(f"token={secret('hidden')}".encode()))


@pytest.mark.parametrize(
    "body",
    [b"token=a&token=b", b"next=%2F&next=%2F", b"token=%ff", "token=é".encode(), b"a=1&" * 11, b"token=a\xff"],
)
def test_a_form_that_could_be_read_two_ways_is_refused(body: bytes) -> None:
    with pytest.raises(Refusal) as refused:
        parse_form(body)

    assert refused.value.status == 400

"""What looks like a secret is taken out of the errors that HQ is told (contract streams S-40)."""

import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corporation.masking import hidden_tail, hide_shapes, hiding, without_secrets

JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.abc-DEF_123"
CREDENTIAL = "c_0123456789abcdefABCDEF-_0123456789abcdefABC"
SECONDS = 5.0
"""For 64 KiB; a search that goes back takes minutes, and a machine at work some tenths of a second."""


@pytest.mark.parametrize(
    ("told", "kept"),
    [
        (f"tests failed Bearer {JWT} password=hunter2", "tests failed Bearer *** password=***"),
        ("bearer abcDEF123.", "bearer ***"),
        ("Bearer%20abcDEF123", "Bearer%20***"),
        ("Authorization: Basic dXNlcjpwYXNz", "Authorization: Basic ***"),
        ("authorization: Bearer abc", "authorization: Bearer ***"),
        (f"got {JWT} back", "got *** back"),
        (f"b'line\\n{JWT}'", "b'line\\n***'"),
        ("eyJhbGciOiJub25lIn0.eyJzdWIiOiIxIn0.", "***"),
        ("UA_OPS_TOKEN=abc&x=1", "UA_OPS_TOKEN=***&x=1"),
        ("api_key: abc", "api_key: ***"),
        ("X-Api-Key: abc", "X-Api-Key: ***"),
        ("SECRET=>abc", "SECRET=>***"),
        ("AWS_SECRET_ACCESS_KEY=AKIA/x+y=", "AWS_SECRET_ACCESS_KEY=***"),
        ("Password=hunter2;Server=db", "Password=***;Server=db"),
        ("/x?token=a%20b&y=2", "/x?token=***&y=2"),
        ("token%3Dabc", "token%3D***"),
        ('{"access_token": "a\\"b c", "x": 1}', '{"access_token": "***", "x": 1}'),
        ("{'password': 'hunter 2', 'x': 1}", "{'password': '***', 'x': 1}"),
        ('{\\"password\\": \\"hunter2\\", \\"x\\": 1}', '{\\"password\\": \\"***\\", \\"x\\": 1}'),
        ('password: "never closed', 'password: "***'),
        ("redis://:p@ss@h/0, postgresql://u:pw@h:5/db", "redis://:***@h/0, postgresql://u:***@h:5/db"),
        ("https://ghp_0123456789abcdefghij@github.com/x", "https://***@github.com/x"),
        (f"it was f{CREDENTIAL} or fr_{CREDENTIAL[2:]}", "it was *** or ***"),
    ],
)
def test_what_looks_like_a_secret_is_hidden_and_the_rest_can_still_be_read(told: str, kept: str) -> None:
    assert hide_shapes(told) == kept


@pytest.mark.parametrize(
    "told",
    [
        "Bearer token expired",
        "basic authentication failed",
        "Enter password:\nPermission denied",
        "unexpected token < in JSON at position 0",
        "tokens=500, token_type: bearer, secret_name=db",
        "ssh://git@github.com/x and http://host:80/path@x",
        "pip 24.0 from /usr/lib/python3.11/site-packages, 1.2.3, a.b.c.d",
        "calc_fr_some_rather_long_name",
        "exit code 2: tests failed",
    ],
)
def test_an_ordinary_error_stays_as_it_is(told: str) -> None:
    assert hide_shapes(told) == told


PIECES = st.sampled_from(
    ["Bearer ", "basic:", "token", "password", "=", ": ", '"', "'", "\\", "***", "://", "u:", "@", "eyJhbGciOiJ", ".",
     "&", "fc_", "0123456789abcdef", "ABC", " ", "\n", "-", "/", "%20", "key", "api_"]
)  # fmt: skip


@given(st.lists(PIECES, max_size=30).map("".join))
def test_what_is_hidden_once_is_hidden_for_good(told: str) -> None:
    once = hide_shapes(told)

    assert hide_shapes(once) == once


@pytest.mark.parametrize(
    "unit",
    ["eyJ", "eyJ.", "a", "a.", "-", " ", "bearer", "bearer ", "bearer%20", "token=", 'token="', "token='", 'token=\\"',
     "token\\", 'token="\\', "token:token:", "pwd    =", "://", "://a:", "://a:@", "://" + "a" * 254, "@", "fc_",
     "fr_ab "]
)  # fmt: skip
def test_a_hostile_text_takes_time_in_proportion_to_its_length(unit: str) -> None:
    text = unit * (64 * 1024 // len(unit))
    began = time.perf_counter()
    hide_shapes(text)

    assert time.perf_counter() - began < SECONDS


def test_what_we_know_is_hidden_beside_what_has_a_shape() -> None:
    assert hiding(["correct horse battery"])("it is correct horse battery, token=abc") == "it is ***, token=***"


def test_a_secret_at_the_cut_is_hidden_before_it_is_cut_in_two() -> None:
    told = f"{'x' * 50_000} Bearer {JWT} and the end"

    assert hidden_tail(told, 20, hide_shapes) == "Bearer *** and the end"[-20:]


FAILED: dict[str, Any] = {
    "outcome": "failed",
    "error": "password=hunter2",
    "result": {"stderr": ["token: abc", 7, None], "exit_code": 2},
    "exc_message": ["Bearer abcDEF123"],
}


def test_of_a_failure_every_text_is_hidden_at_any_depth() -> None:
    assert without_secrets(FAILED) == {
        "outcome": "failed",
        "error": "password=***",
        "result": {"stderr": ["token: ***", 7, None], "exit_code": 2},
        "exc_message": ["Bearer ***"],
    }


def test_what_was_done_is_the_users_own() -> None:
    done = {**FAILED, "outcome": "done"}

    assert without_secrets(done) == done

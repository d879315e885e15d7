"""The dashboard's cookie: what we sealed opens for a day, and nothing else ever does (H-13)."""

import base64
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import jwt
import pytest
from canary import secret
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from corporation.tokens.minting import Grant, mint
from hq_api.dashboard import session

KEY = SecretStr(secret("dashboard-signing"))
OPS = SecretStr(secret("dashboard-ops"))
NOW = datetime(2026, 6, 1, 8, 0, tzinfo=UTC)
OPENED = session.open_session("ana", "s-1", NOW, "t-1")
SEALED = session.seal(OPENED, KEY, OPS)
CLAIMS: dict[str, Any] = jwt.decode(SEALED, options={"verify_signature": False})
DERIVED = session._key(KEY, OPS)  # pyright: ignore[reportPrivateUsage]


def signed(key: bytes = DERIVED, algorithm: str = "HS256", headers: Any = None, **changes: Any) -> str:
    """The cookie with `changes` to its claims, signed with the right key unless another is named; None removes."""
    claims = {name: value for name, value in (CLAIMS | changes).items() if value is not None}
    return jwt.encode(claims, key, algorithm=algorithm, headers=headers)


def part(value: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


LATER = int((NOW + timedelta(hours=1)).timestamp())
BAD = {
    "empty": "",
    "no token": "x",
    "dots": "..",
    "alg none": jwt.encode(CLAIMS, None, algorithm="none"),
    "alg None by hand": f"{part({'alg': 'None'})}.{part(CLAIMS)}.",
    "no signature": SEALED.rpartition(".")[0] + ".",
    "cut signature": SEALED[:-4],
    "other payload": ".".join([SEALED.split(".")[0], part(CLAIMS | {"owner_id": "eve"}), SEALED.split(".")[2]]),
    "other key": signed(secret("other").encode()),
    "the secret itself as key": signed(KEY.get_secret_value().encode()),
    "the static token as key": signed(OPS.get_secret_value().encode()),
    "other algorithm": signed(DERIVED * 2, "HS512"),
    "kid": signed(headers={"kid": "k1"}),
    "crit": signed(headers={"crit": ["exp"]}),
    "a bearer token": mint(KEY, Grant("ana", "ops"), "j-1", NOW).token.get_secret_value(),
    "a bearer's claims under our key": signed(aud="ua-ops", scope="ops"),
    "audience a list": signed(aud=[session.AUDIENCE]),
    "other issuer": signed(iss="somebody"),
    "no audience": signed(aud=None),
    "no owner": signed(owner_id=None),
    "owner empty": signed(owner_id=""),
    "owner a number": signed(owner_id=7),
    "no roles": signed(roles=None),
    "roles empty": signed(roles=[]),
    "other roles": signed(roles=["publish", "factory", "OPS"]),
    "roles a text": signed(roles="ops"),
    "no exp": signed(exp=None),
    "exp now": signed(exp=int(NOW.timestamp())),
    "exp long ago": signed(exp=1),
    "exp in a year": signed(exp=LATER + 31_536_000),
    "exp a text": signed(exp=str(LATER)),
    "exp true": signed(exp=True),
    "exp a fraction": signed(exp=LATER + 0.5),
    "no jti": signed(jti=None),
    "jti a number": signed(jti=7),
    "token_jti a number": signed(token_jti=7),
}


def test_what_was_sealed_opens_as_it_was() -> None:
    assert session.unseal(SEALED, KEY, OPS, NOW) == OPENED


def test_the_cookie_says_owner_expiry_and_roles_and_lasts_a_day() -> None:
    """H-13: signed `{owner_id, exp, roles}`, 24 h."""
    assert (CLAIMS["owner_id"], CLAIMS["roles"]) == ("ana", ["ops"])
    assert CLAIMS["exp"] == int(NOW.timestamp()) + 24 * 3600
    assert session.unseal(SEALED, KEY, OPS, NOW + timedelta(hours=23, minutes=59)) == OPENED
    with pytest.raises(session.CookieRefused):
        session.unseal(SEALED, KEY, OPS, NOW + timedelta(hours=24))


@pytest.mark.parametrize("value", BAD.values(), ids=BAD.keys())
def test_a_cookie_that_is_not_exactly_ours_opens_nothing(value: str) -> None:
    """H-13"""
    with pytest.raises(session.CookieRefused):
        session.unseal(value, KEY, OPS, NOW)


@pytest.mark.parametrize(
    ("signing", "ops"),
    [(SecretStr(secret("rotated")), OPS), (KEY, SecretStr(secret("rotated"))), (KEY, None), (KEY, KEY), (OPS, KEY)],
)
def test_a_change_of_either_secret_ends_what_was_sealed_before(signing: SecretStr, ops: SecretStr | None) -> None:
    with pytest.raises(session.CookieRefused):
        session.unseal(SEALED, signing, ops, NOW)


def test_a_node_that_has_no_static_token_seals_too() -> None:
    assert session.unseal(session.seal(OPENED, KEY, None), KEY, None, NOW) == OPENED


@given(st.text(max_size=60) | st.text("abc.=-_", max_size=60))
def test_no_text_makes_opening_fail_in_another_way(value: str) -> None:
    with pytest.raises(session.CookieRefused):
        session.unseal(value, KEY, OPS, NOW)


@pytest.mark.parametrize(
    ("headers", "value"),
    [
        (["ua_dashboard_auth=a"], "a"),
        (["theme=dark; ua_dashboard_auth=a; x=y"], "a"),
        (["theme=dark", "ua_dashboard_auth=a"], "a"),
        ([], None),
        (["theme=dark"], None),
        (["xua_dashboard_auth=a"], None),
        (["UA_DASHBOARD_AUTH=a"], None),
        (["ua_dashboard_auth"], ""),
        (["ua_dashboard_auth=a; ua_dashboard_auth=b"], None),
        (["ua_dashboard_auth=a", "ua_dashboard_auth=a"], None),
    ],
)
def test_a_cookie_given_twice_is_none(headers: list[str], value: str | None) -> None:
    assert session.only_value(headers) == value

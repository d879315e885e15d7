"""Judging a token is pure: the same token, settings and moment give the same answer, and a refusal has no reason."""

import base64
import hashlib
import hmac
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import jwt
import pytest
from canary import secret

from corporation.settings import Settings, load_settings
from corporation.tokens.comparison import is_one_of, may_be_guessed
from hq_api.access import Principal, Unauthorized, accepts_tokens, is_configured, judge

SIGNING = secret("jwt")
STATIC = secret("ops")
NOW = datetime(2026, 6, 1, 8, tzinfo=UTC)
ISSUED = int(NOW.timestamp())


def node(**environ: str) -> Settings:
    tokens = {"UA_OPS_TOKEN": STATIC, "UA_OPS_JWT_SECRET": SIGNING}
    return load_settings({name: value for name, value in (tokens | environ).items() if value})


def token(headers: Any = None, key: str = SIGNING, **changes: Any) -> str:
    claims: dict[str, Any] = {
        "iss": "universal-agent",
        "aud": "ua-ops",
        "sub": "desk-7",
        "iat": ISSUED,
        "exp": ISSUED + 3600,
        "jti": "t-1",
        "scope": "ops",
    }
    kept = {name: value for name, value in (claims | changes).items() if value is not None}
    return jwt.encode(kept, key, algorithm="HS256", headers=headers)


def by_hand(header: dict[str, Any], claims: bytes, key: bytes) -> str:
    """A token that no library would make."""
    parts = [base64.urlsafe_b64encode(part).rstrip(b"=") for part in (json.dumps(header).encode(), claims)]
    signature = hmac.new(key, b".".join(parts), hashlib.sha256).digest()
    return b".".join([*parts, base64.urlsafe_b64encode(signature).rstrip(b"=")]).decode()


PLAIN = jwt.decode(token(), options={"verify_signature": False})
TWICE = json.dumps(PLAIN).encode()[:-1] + b', "exp": true}'

REFUSED = {
    "trailing newline": token() + "\n",
    "leading blank": " " + token(),
    "padding": token() + "=",
    "a letter that is no base64": token()[:-5] + "!" + token()[-5:],
    "a megabyte": token(sub="x" * 1_000_000)[:-2],
    "a megabyte of dots": "." * 1_000_000,
    "a megabyte of nothing": "a" * 1_000_000,
    "not ascii": "é" + token(),
    "claims that are a list": by_hand({"alg": "HS256"}, b"[]", SIGNING.encode()),
    "claims that are no json": by_hand({"alg": "HS256"}, b"{", SIGNING.encode()),
    "exp twice": by_hand({"alg": "HS256"}, TWICE, SIGNING.encode()),
    "lower-case algorithm": by_hand({"alg": "hs256"}, json.dumps(PLAIN).encode(), SIGNING.encode()),
    "algorithm a list": by_hand({"alg": ["HS256"]}, json.dumps(PLAIN).encode(), SIGNING.encode()),
    "no key at all": by_hand({"alg": "HS256"}, json.dumps(PLAIN).encode(), b""),
    "exp not a number": by_hand({"alg": "HS256"}, json.dumps(PLAIN | {"exp": float("nan")}).encode(), SIGNING.encode()),
    "exp infinite": by_hand({"alg": "HS256"}, json.dumps(PLAIN | {"exp": float("inf")}).encode(), SIGNING.encode()),
    "exp true": token(exp=True),
    "iat a string": token(iat=str(ISSUED)),
    "ten years and no iat": token(iat=None, exp=ISSUED + 315_360_000),
    "no iat and more than an hour ahead": token(iat=None, exp=ISSUED + 3606),
    "no iat and over": token(iat=None, exp=ISSUED),
    "exp beyond every number": token(exp=10**400),
    "nbf a string": token(nbf=str(ISSUED)),
    "an hour and a second": token(exp=ISSUED + 3601),
    "sub a number": token(sub=7),
    "no exp": token(exp=None),
    "no iss": token(iss=None),
    "iss a list": by_hand(
        {"alg": "HS256"}, json.dumps(PLAIN | {"iss": ["universal-agent"]}).encode(), SIGNING.encode()
    ),
    "jti a number": token(jti=7),
    "jti empty": token(jti=""),
    "jti that cannot be revoked": token(jti="x" * 301),
    "jti with a NUL": token(jti="a\0b"),
    "sub with half a surrogate pair": by_hand(
        {"alg": "HS256"}, json.dumps(PLAIN | {"sub": "a\ud800"}).encode(), SIGNING.encode()
    ),
    "the static token with a dot": STATIC + ".",
    "the static token in capitals": STATIC.upper(),
}


@pytest.mark.parametrize("bad", REFUSED.values(), ids=REFUSED.keys())
def test_what_is_not_exactly_a_token_is_refused(bad: str) -> None:
    with pytest.raises(Unauthorized) as caught:
        judge(bad.encode(), node(), NOW)
    assert str(caught.value) == ""


@pytest.mark.parametrize("nothing", [None, b""])
def test_nothing_is_no_token(nothing: bytes | None) -> None:
    with pytest.raises(Unauthorized):
        judge(nothing, node(), NOW)


def test_a_token_says_who_it_speaks_for() -> None:
    """H-11"""
    assert judge(token().encode(), node(), NOW) == Principal("desk-7", "ops", None, "t-1")
    factory = token(scope="factory", factory_id="desk-7").encode()
    assert judge(factory, node(), NOW) == Principal("desk-7", "factory", "desk-7", "t-1")
    assert judge(token(scope=None, jti=None).encode(), node(), NOW) == Principal("desk-7", "ops")


@pytest.mark.parametrize(
    ("changes", "subject"),
    [
        ({"sub": None}, "ops"),
        ({"sub": ""}, "ops"),
        ({"iat": None}, "desk-7"),
        ({"iat": None, "exp": ISSUED + 1}, "desk-7"),
        ({"iat": None, "exp": ISSUED + 3605}, "desk-7"),
        ({"exp": ISSUED + 60.5}, "desk-7"),
        ({"iat": ISSUED - 0.25, "nbf": ISSUED - 0.25, "exp": ISSUED + 60}, "desk-7"),
        ({"sub": None, "iat": None, "jti": None, "scope": None}, "ops"),
    ],
)
def test_a_token_of_another_maker_needs_issuer_audience_and_end_only(changes: dict[str, Any], subject: str) -> None:
    """H-8 asks for these; H-11 says what ours have beside them."""
    principal = judge(token(**changes).encode(), node(), NOW)

    assert (principal.subject, principal.scope) == (subject, "ops")


def test_a_token_that_does_not_say_when_it_was_made_is_older_than_every_epoch() -> None:
    factory = token(scope="factory", factory_id="desk-7", iat=None).encode()

    assert judge(factory, node(), NOW).issued_at == 0


@pytest.mark.parametrize("scope", ["wizard", "", "OPS", "ops ", ["ops"], 7, True, {"ops": 1}])
def test_an_unknown_scope_may_nothing(scope: Any) -> None:
    """H-11"""
    principal = judge(token(scope=scope).encode(), node(), NOW)

    assert not principal.may("ops", "publish", "factory", str(scope))


def test_a_factory_without_a_name_may_nothing() -> None:
    assert not judge(token(scope="factory").encode(), node(), NOW).may("factory")
    assert not judge(token(scope="factory", factory_id=7).encode(), node(), NOW).may("factory")


@pytest.mark.parametrize(("late", "accepted"), [(0, True), (3599, True), (3600, False), (3610, False), (3631, False)])
def test_time_has_no_leeway(late: int, accepted: bool) -> None:
    """H-8"""
    then = NOW + timedelta(seconds=late)
    if accepted:
        assert judge(token().encode(), node(), then).subject == "desk-7"
    else:
        with pytest.raises(Unauthorized):
            judge(token().encode(), node(), then)


@pytest.mark.parametrize(("early", "accepted"), [(1, True), (5, True), (6, False), (3600, False)])
def test_a_clock_that_stepped_back_a_little_does_not_matter(early: int, accepted: bool) -> None:
    """Only `iat` may lie ahead; `exp` and `nbf` have no leeway (H-8)."""
    before = NOW - timedelta(seconds=early)
    if accepted:
        assert judge(token().encode(), node(), before).subject == "desk-7"
    for bad in (token(nbf=ISSUED), *(() if accepted else (token(),))):
        with pytest.raises(Unauthorized):
            judge(bad.encode(), node(), before)


def test_what_has_32_bytes_cannot_be_guessed() -> None:
    assert [may_be_guessed(b"x" * length) for length in (0, 31, 32, 64)] == [True, True, False, False]


def test_without_a_secret_no_jwt_is_accepted_not_even_as_the_static_token() -> None:
    """H-8"""
    with pytest.raises(Unauthorized):
        judge(token().encode(), node(UA_OPS_JWT_SECRET="", UA_OPS_TOKEN=token()), NOW)


def test_the_static_token_means_ops_while_it_is_allowed() -> None:
    """H-9"""
    assert judge(STATIC.encode(), node(), NOW) == Principal("ops", "ops")
    with pytest.raises(Unauthorized):
        judge(STATIC.encode(), node(UA_OPS_AUTH_ALLOW_LEGACY="0"), NOW)


def test_only_a_token_that_can_be_accepted_counts_once_the_node_runs() -> None:
    """E-11 looks at what is set; answers look at what could be accepted."""
    off = node(UA_OPS_JWT_SECRET="", UA_OPS_AUTH_ALLOW_LEGACY="0")

    assert (is_configured(off), accepts_tokens(off)) == (True, False)
    assert (is_configured(node(UA_OPS_TOKEN="")), accepts_tokens(node(UA_OPS_TOKEN=""))) == (True, True)
    nothing = load_settings({})
    assert (is_configured(nothing), accepts_tokens(nothing)) == (False, False)


def test_a_secret_is_found_among_others_and_nothing_matches_nothing() -> None:
    settings = node(UA_INTERNAL_API_TOKEN=secret("internal"))
    known = [settings.internal_api_token, None, settings.ops_token]

    assert is_one_of(STATIC.encode(), known)
    assert is_one_of(secret("internal").encode(), known)
    assert not is_one_of(STATIC[:-1].encode(), known)
    assert not is_one_of(STATIC.encode() + b"\xff", known)
    assert not is_one_of(b"", [None])
    assert not is_one_of(b"", [])

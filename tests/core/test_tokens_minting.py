"""What our tokens say and who gets which: exactly the claims of the contract, and a factory only its own."""

from datetime import UTC, datetime

import jwt
import pytest
from canary import secret
from pydantic import SecretStr

from corporation.tokens.credentials import may_be_one, new_credential
from corporation.tokens.minting import Grant, granted, mint

SIGNING = SecretStr(secret("jwt"))
NOW = datetime(2026, 6, 1, 8, 0, 0, 999_999, tzinfo=UTC)
ISSUED = int(NOW.timestamp())


def claims_of(grant: Grant) -> dict[str, object]:
    return jwt.decode(mint(SIGNING, grant, "t-1", NOW).token.get_secret_value(), options={"verify_signature": False})


def test_a_token_carries_exactly_the_claims_of_the_contract() -> None:
    """H-11"""
    ours = {"iss": "universal-agent", "aud": "ua-ops", "iat": ISSUED, "exp": ISSUED + 3600, "jti": "t-1"}

    assert claims_of(Grant("ops", "ops")) == ours | {"sub": "ops", "scope": "ops"}
    expected = ours | {"sub": "desk-7", "scope": "factory", "factory_id": "desk-7"}
    assert claims_of(Grant("desk-7", "factory", "desk-7")) == expected


def test_a_token_ends_when_it_says_and_does_not_show_itself() -> None:
    minted = mint(SIGNING, Grant("ops", "ops"), "t-1", NOW)

    assert minted.expires_at == datetime(2026, 6, 1, 9, tzinfo=UTC)
    assert minted.token.get_secret_value() not in repr(minted)


@pytest.mark.parametrize(
    ("wish", "owner", "gets"),
    [
        (Grant("x", "ops"), None, Grant("x", "ops")),
        (Grant("x", "publish"), None, Grant("x", "publish")),
        (Grant("x", "factory", "desk-8"), None, Grant("x", "factory", "desk-8")),
        (Grant("x", "factory", "desk-7"), "desk-7", Grant("desk-7", "factory", "desk-7")),
        (Grant("x", "factory", "desk-8"), "desk-7", None),
        (Grant("x", "factory", "DESK-7"), "desk-7", None),
        (Grant("x", "factory"), "desk-7", None),
        (Grant("x", "ops"), "desk-7", None),
        (Grant("x", "publish", "desk-7"), "desk-7", None),
    ],
)
def test_the_operator_gets_what_he_wishes_and_a_factory_only_itself(
    wish: Grant, owner: str | None, gets: Grant | None
) -> None:
    assert granted(wish, owner) == gets


def test_a_credential_has_256_random_bits_and_a_mark_that_scanners_find() -> None:
    """H-21"""
    asked: list[int] = []

    def random(size: int) -> bytes:
        asked.append(size)
        return bytes(range(size))

    credential = new_credential(random)

    assert asked == [32]
    assert credential == "fc_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8"
    assert may_be_one(credential.encode())
    assert not may_be_one(secret("ops").encode())

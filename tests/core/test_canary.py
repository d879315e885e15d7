"""The search for secrets finds them in every dress; a search that cannot find anything would prove nothing."""

import base64
from pathlib import Path

import pytest
from canary import leaks_below, secret, shows

SECRET = secret("of-this-test").encode()


@pytest.mark.parametrize(
    "content",
    [
        b"token=" + SECRET,
        SECRET.hex().encode(),
        SECRET.decode().encode("utf-16-le"),
        *(base64.b64encode(b"x" * shift + SECRET) for shift in range(6)),
        base64.urlsafe_b64encode(b"user:" + SECRET),
    ],
)
def test_a_secret_is_found_in_any_of_its_forms(content: bytes, tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "er"
    folder.mkdir(parents=True)
    (folder / "a.log").write_bytes(b"\0" * 1000 + content + b"\n")

    assert shows(content)
    [leak] = leaks_below(tmp_path)
    assert leak.endswith("a.log holds a secret")
    (folder / "a.log").unlink()


def test_a_place_for_secrets_must_be_its_owners_alone(tmp_path: Path) -> None:
    kept = tmp_path / ".env"
    kept.write_bytes(SECRET)
    kept.chmod(0o600)
    assert not list(leaks_below(tmp_path))

    kept.chmod(0o640)
    assert "others may read it" in next(leaks_below(tmp_path))
    kept.unlink()


def test_innocent_files_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    (tmp_path / "text").write_text("canary birds sing")

    assert not list(leaks_below(tmp_path))

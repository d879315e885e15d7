"""`corporation keys` and `corporation update-manifest`: where private keys go, what is trusted, and what is refused."""

import base64
import json
import os
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final
from unittest.mock import patch

import pytest

from corporation.cli import app, exits
from corporation.cli.update_manifest import EXAMPLE
from corporation.clock import utc_now
from corporation.trust.keyring import kid_of, new_key, public_of
from corporation.trust.signatures import GOOD_FOR_SECONDS
from corporation.trust.update_manifest import Manifest

Run = Callable[..., tuple[int, str, str]]
NEWER: Final = "99.0"


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """One command with this environment and no other; its status and both of its streams."""

    def run(*arguments: str, **environment: str) -> tuple[int, str, str]:
        own = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), **environment}
        with patch.dict(os.environ, own, clear=True):
            status = app.run(arguments)
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return run


@pytest.fixture
def folder(tmp_path: Path) -> str:
    """The state folder of nobody."""
    return str(tmp_path / "state")


# Keys.


def test_a_private_key_goes_to_a_file_that_only_its_owner_may_read(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "mission.key"
    status, out, _ = run("keys", "new", "--file", str(file))
    private = file.read_text().strip()

    assert status == exits.OK
    assert file.stat().st_mode & 0o777 == 0o600
    assert private not in out
    assert public_of(private) in out
    assert kid_of(public_of(private)) in out
    assert "UA_MISSION_KEYS" in out, "it says how to rotate"


def test_a_key_is_not_written_over_another(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "mission.key"
    run("keys", "new", "--file", str(file))
    before = file.read_text()
    status, _, err = run("keys", "new", "--file", str(file))

    assert (status, file.read_text()) == (exits.DATA, before)
    assert "is there already" in err


def test_a_private_key_is_printed_only_when_that_is_asked_for(run: Run, tmp_path: Path) -> None:
    status, out, _ = run("keys", "new", "--print", "--json")
    pair = json.loads(out)
    assert status == exits.OK
    assert public_of(pair["private_key"]) == pair["public_key"]

    _, out, _ = run("keys", "new", "--file", str(tmp_path / "k"), "--json")
    assert json.loads(out).keys() == {"kid", "public_key"}


@pytest.mark.parametrize("arguments", [(), ("--print", "--file", "k")])
def test_where_the_private_key_goes_has_to_be_said(run: Run, arguments: tuple[str, ...], tmp_path: Path) -> None:
    assert run("keys", "new", *arguments)[0] == exits.USAGE
    assert not (tmp_path / "k").exists()


def test_a_folder_that_is_not_there_is_said_plainly(run: Run, tmp_path: Path) -> None:
    status, _, err = run("keys", "new", "--file", str(tmp_path / "nowhere" / "k"))

    assert status == exits.IO
    assert "nowhere" in err


def test_the_keys_of_this_node_are_shown_and_no_private_one(run: Run, folder: str) -> None:
    own, old, release = new_key(), public_of(new_key()), public_of(new_key())
    given = {"UA_MISSION_SIGNING_KEY": own, "UA_MISSION_KEYS": old, "UA_UPDATE_KEYS": release}
    status, out, _ = run("keys", "show", "--json", "--state", folder, **given)
    _, table, _ = run("keys", "show", "--state", folder, **given)

    assert status == exits.OK
    assert json.loads(out)["keys"] == [
        {"kid": kid_of(public_of(own)), "public_key": public_of(own), "for": "signs missions"},
        {"kid": kid_of(old), "public_key": old, "for": "missions"},
        {"kid": kid_of(release), "public_key": release, "for": "releases"},
    ]
    assert all(kid_of(key) in table for key in (public_of(own), old, release))
    assert own not in out + table


def test_a_node_without_keys_says_so(run: Run, folder: str) -> None:
    assert "unsigned" in run("keys", "show", "--state", folder)[1]


def test_a_broken_key_is_named_and_not_repeated(run: Run, folder: str) -> None:
    broken = new_key()[:-4]
    status, out, err = run("keys", "show", "--state", folder, UA_MISSION_SIGNING_KEY=broken)

    assert status == exits.CONFIG
    assert "UA_MISSION_SIGNING_KEY" in err
    assert broken not in out + err


# Releases.


@pytest.fixture
def key(tmp_path: Path) -> Path:
    file = tmp_path / "release.key"
    file.write_text(base64.b64encode(bytes(range(32))).decode() + "\n")
    return file


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    now = int(utc_now().timestamp())
    release = Manifest(NEWER, "a" * 40, "b" * 40, {"c-99-py3-none-any.whl": "d" * 64}, 1, 1, now - 9, now + 999, "all")
    file = tmp_path / "manifest.json"
    file.write_text(json.dumps(asdict(release)))
    return file


@pytest.fixture
def verified(run: Run, key: Path, manifest: Path, folder: str, tmp_path: Path) -> Callable[..., Any]:
    """Signs the manifest with these changes and verifies it as a factory that has the release key."""
    trusted = {"UA_UPDATE_KEYS": public_of(key.read_text().strip())}

    def verified(*arguments: str, **changes: Any) -> Any:
        out = tmp_path / "signed.json"
        manifest.write_text(json.dumps(json.loads(manifest.read_text()) | changes))
        assert run("update-manifest", "sign", str(manifest), "--key", str(key), "--out", str(out))[0] == exits.OK
        status, said, _ = run("update-manifest", "verify", str(out), "--json", "--state", folder, *arguments, **trusted)
        return status, json.loads(said)

    return verified


def test_a_signed_release_is_taken(verified: Callable[..., Any]) -> None:
    status, said = verified()

    assert (status, said["ok"], said["manifest"]["version"]) == (exits.OK, True, NEWER)


@pytest.mark.parametrize(
    ("arguments", "changes", "reason"),
    [
        (("--running", "100"), {}, "downgrade"),
        ((), {"exp": 2, "not_before": 1}, "expired"),
        ((), {"not_before": 4_000_000_000, "exp": 4_000_000_001}, "not_yet"),
        (("--ring", "canary"), {}, "other_ring"),
        ((), {"min_protocol": 7, "max_protocol": 8}, "protocol"),
    ],
)
def test_a_release_that_a_factory_would_refuse_is_refused(
    verified: Callable[..., Any], arguments: tuple[str, ...], changes: dict[str, Any], reason: str
) -> None:
    status, said = verified(*arguments, **changes)

    assert (status, said["ok"], said["reason"]) == (exits.DATA, False, reason)


def test_a_way_back_is_taken_when_it_was_signed_as_one(verified: Callable[..., Any]) -> None:
    assert verified("--running", "100", rollback=True)[0] == exits.OK


def test_a_changed_release_is_refused(run: Run, key: Path, manifest: Path, folder: str, tmp_path: Path) -> None:
    status, out, _ = run("update-manifest", "sign", str(manifest), "--key", str(key))
    assert status == exits.OK
    assert key.read_text().strip() not in out
    document = json.loads(out)
    document["manifest"]["commit"] = "e" * 40
    changed = tmp_path / "changed.json"
    changed.write_text(json.dumps(document))
    trusted = {"UA_UPDATE_KEYS": public_of(key.read_text().strip())}
    status, _, err = run("update-manifest", "verify", str(changed), "--state", folder, **trusted)

    assert status == exits.DATA
    assert "(forged)" in err


def test_a_key_that_signs_missions_vouches_for_no_release(run: Run, key: Path, manifest: Path, folder: str) -> None:
    """Nor may it be given as both."""
    public = public_of(key.read_text().strip())
    signed = manifest.with_name("signed.json")
    run("update-manifest", "sign", str(manifest), "--key", str(key), "--out", str(signed))
    verify = ("update-manifest", "verify", str(signed), "--state", folder)

    assert run(*verify, UA_MISSION_KEYS=public)[0] == exits.CONFIG
    assert run(*verify, UA_MISSION_KEYS=public, UA_UPDATE_KEYS=public)[0] == exits.CONFIG
    assert run(*verify, UA_MISSION_KEYS=public, UA_UPDATE_KEYS=public_of(new_key()))[0] == exits.DATA


@pytest.mark.parametrize(
    ("text", "status"),
    [
        ("{", exits.DATA),
        ('{"version": "1", "version": "2"}', exits.DATA),
        ("[]", exits.DATA),
        ("{}", exits.DATA),
        ("[" * 100_000, exits.DATA),
        (" " * 300_000, exits.DATA),
    ],
)
def test_what_is_no_manifest_is_not_signed(run: Run, key: Path, manifest: Path, text: str, status: int) -> None:
    manifest.write_text(text)

    assert run("update-manifest", "sign", str(manifest), "--key", str(key))[0] == status


def test_what_is_no_key_signs_nothing_and_is_not_repeated(run: Run, manifest: Path) -> None:
    status, out, err = run("update-manifest", "sign", str(manifest), "--key", str(manifest))

    assert status == exits.DATA
    assert NEWER not in out + err
    assert run("update-manifest", "sign", str(manifest), "--key", "nowhere")[0] == exits.NO_INPUT


def test_the_help_shows_a_whole_manifest_that_can_be_signed(run: Run, tmp_path: Path) -> None:
    file, key = tmp_path / "release.json", tmp_path / "key"
    run("keys", "new", "--file", str(key))
    shown = "\n".join(line.strip() for line in run("update-manifest", "--help")[1].splitlines())
    file.write_text(shown[shown.index("{") : shown.index("\n}\n", shown.index('"rollback"')) + 2])
    status, out, _ = run("update-manifest", "sign", str(file), "--key", str(key))

    assert (status, json.loads(out)["manifest"]) == (exits.OK, json.loads(EXAMPLE))
    assert "Signed with Ed25519" in shown


def test_the_help_says_for_how_long_an_old_key_is_kept_beside_a_new_one(run: Run) -> None:
    said = " ".join(run("keys", "--help")[1].split())

    assert f"{GOOD_FOR_SECONDS / 86_400:g} days have passed since the old one signed last" in said
    assert "every factory has been online since" in said

"""`corporation update-manifest sign | verify`: which code the fleet may run, by a key that no machine of it has."""

import json
import os
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from corporation import strict_json
from corporation.cli import exits
from corporation.cli.connection import effective, state_folder, with_secrets
from corporation.cli.exits import Refusal
from corporation.cli.options import JsonOption, StateOption
from corporation.cli.output import say, say_fields, say_json
from corporation.clock import utc_now
from corporation.settings import load_settings
from corporation.trust.keyring import BadKeyError, keys_by_id, signer_of, why_keys_are_refused
from corporation.trust.update_manifest import (
    LONGEST_LIFE_SECONDS,
    PROTOCOL,
    Manifest,
    ManifestRefusedError,
    Standing,
    manifest_in,
    sign,
    verify,
    why_not,
)

EXAMPLE: Final = """\
{
  "version": "1.4.0",
  "commit": "9f2c1f0e6f0b7e4a5d3c2b1a09f8e7d6c5b4a392",
  "tree": "4b825dc642cb6eb9a060e54bf8d69288fbee4904",
  "wheels": {
    "corporation-1.4.0-py3-none-any.whl":
      "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
  },
  "min_protocol": 1,
  "max_protocol": 1,
  "not_before": 1780272000,
  "exp": 1782864000,
  "ring": "canary",
  "rollback": false
}"""
"""A manifest to be signed, as `sign` takes it."""
_HELP: Final = (
    "Sign a release for the fleet, and check what a factory would.\n\n"
    "The manifest that `sign` reads has exactly these fields:\n\n"
    f"\b\n{EXAMPLE}\n\n"
    "version: up to four numbers, each release a higher one. commit and tree: their whole names in git. wheels: the "
    "SHA-256 of each file. min_protocol and max_protocol: what it can speak with HQ. not_before and exp: seconds since "
    f"1970, at most {LONGEST_LIFE_SECONDS // 86_400} days apart. ring: which factories it is for. rollback: whether it "
    "may take the place of a newer release.\n\n"
    "Signed with Ed25519 are all of these fields, the form's number and the key's id, as JSON without spaces and with "
    'sorted names, after the bytes corp-update-v1 and a zero. What comes out is {"v", "kid", "manifest", "sig"}.'
)

app = typer.Typer(help=_HELP, no_args_is_help=True)

LARGEST_BYTES: Final = 262_144
_KEY_HELP: Final = "The private key's file, as `corporation keys new --file` writes it."
_OUT_HELP: Final = "Write the signed manifest to this file; without it, to the terminal."
_RUNNING_HELP: Final = "The release that the factory runs (default: this program's)."
_RING_HELP: Final = "The ring that the factory is in (default: each)."
FileArgument = Annotated[Path, typer.Argument(metavar="FILE", help="A JSON file.")]


@app.command("sign")
def sign_(
    file: FileArgument,
    key: Annotated[Path, typer.Option("--key", metavar="FILE", help=_KEY_HELP)],
    out: Annotated[Path | None, typer.Option("--out", metavar="FILE", help=_OUT_HELP)] = None,
) -> None:
    """Sign the manifest in FILE with a key that is kept off the fleet.

    `corporation update-manifest --help` shows a whole one.
    """
    try:
        signer = signer_of(_text(key).strip())
        signed = sign(signer, manifest_in(_document(file)))
    except BadKeyError as error:
        raise Refusal(exits.DATA, f"{key} holds no private key: {error}") from None
    except ManifestRefusedError as error:
        raise Refusal(exits.DATA, f"{file} cannot be signed: {error}") from None
    if out is None:
        say_json(signed)
        return
    out.write_text(json.dumps(signed, ensure_ascii=True, indent=2) + "\n", encoding="ascii")
    say(f"{out} is signed with the key {signer.kid}")


@app.command("verify")
def verify_(
    file: FileArgument,
    running: Annotated[str | None, typer.Option(metavar="VERSION", help=_RUNNING_HELP)] = None,
    ring: Annotated[str | None, typer.Option(help=_RING_HELP)] = None,
    as_json: JsonOption = False,
    state: StateOption = None,
) -> None:
    """Check the signed manifest in FILE against UA_UPDATE_KEYS as a factory does; status 65 when it is refused."""
    settings = load_settings(effective(with_secrets(os.environ), state_folder(state)), checks=(why_keys_are_refused,))
    if not settings.update_keys:
        raise Refusal(exits.CONFIG, "UA_UPDATE_KEYS names no key: this machine trusts no release")
    try:
        manifest = verify(_document(file), keys_by_id(settings.update_keys))
        standing = Standing(running or version("corporation"), PROTOCOL, ring)
        if refused := why_not(manifest, standing, utc_now().timestamp()):
            raise refused
    except ManifestRefusedError as error:
        if as_json:
            say_json({"ok": False, "reason": error.code, "why": str(error)})
        raise Refusal(exits.DATA, f"{file} is refused ({error.code}): {error}") from None
    _tell(manifest, as_json=as_json)


def _tell(manifest: Manifest, *, as_json: bool) -> None:
    told = vars(manifest) | {"wheels": dict(manifest.wheels)}
    if as_json:
        say_json({"ok": True, "manifest": told})
        return
    say(f"Release {manifest.version} may be taken")
    say_fields({"commit": manifest.commit, "ring": manifest.ring, "wheels": len(manifest.wheels)})


def _document(file: Path) -> Any:
    try:
        return strict_json.parse(_text(file).encode())
    except strict_json.JsonRefused as error:
        raise Refusal(exits.DATA, f"{file} is no JSON that can be read: {error.message}") from None


def _text(file: Path) -> str:
    try:
        with file.open("rb") as opened:
            raw = opened.read(LARGEST_BYTES + 1)
        if len(raw) > LARGEST_BYTES:
            raise Refusal(exits.DATA, f"{file} is larger than {LARGEST_BYTES} bytes")
        return raw.decode()
    except FileNotFoundError:
        raise Refusal(exits.NO_INPUT, f"{file} is not there") from None
    except UnicodeDecodeError:
        raise Refusal(exits.DATA, f"{file} is no text in UTF-8") from None

"""Which HQ a command talks to, and with which token: the environment first, then the stack of the state folder."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

import corporation
from corporation.cli import exits
from corporation.cli.exits import Refusal
from corporation.cli.membership import kept
from corporation.cli.origins import origin_of
from corporation.embedded.stack_environment import operators_variables
from corporation.embedded.stack_facts import from_facts, with_given
from corporation.embedded.stack_shape import ROLES, Shape
from corporation.embedded.stack_state import StateFolder, StateFolderError, default_state_folder
from corporation.secrets import load_secrets
from corporation.settings import names_of

_WHAT_NEXT = "name the folder of its stack with --state, or put HQ's ops token into UA_OPS_TOKEN"


@dataclass(frozen=True)
class Connection:
    """An HQ and the right to talk to it; `token_from` says in errors where the token was found, never the token."""

    base_url: str
    token: str
    token_from: str


def state_folder(given: Path | None) -> StateFolder:
    """The state folder named on the command line, else the one of this project."""
    return (
        StateFolder(given.absolute()) if given else default_state_folder(Path.cwd(), Path(corporation.__file__).parent)
    )


def with_secrets(environ: Mapping[str, str]) -> Mapping[str, str]:
    """`environ` with what the vault or a dotenv file adds; raises SettingsError where the profile demands a vault that
    does not answer. Asked once in a process, and without credentials for the vault nothing is asked at all."""
    return load_secrets(environ, Path(corporation.__file__).parent.parent).environ


def find_base_url(environ: Mapping[str, str], folder: StateFolder) -> str:
    """The address of the HQ of `environ`, else of the stack in `folder`; refuses (78) when there is neither."""
    here = str((folder.read_facts() or {}).get("hq_base_url") or "")
    given = next((environ[name] for name in names_of("hq_base_url") if environ.get(name)), "").rstrip("/")
    return _checked(given or here, folder)


def find_connection(environ: Mapping[str, str], folder: StateFolder) -> Connection:
    """As `connection_in`, for an environment whose secrets are not loaded yet."""
    return connection_in(with_secrets(environ), folder, origin_of("UA_OPS_TOKEN", environ))


def connection_in(environ: Mapping[str, str], folder: StateFolder, token_from: str) -> Connection:
    """The HQ of `environ`, else of the stack in `folder`; refuses (78) with what to do when either half is missing.

    `token_from` says where the token of `environ` came from. The one kept in the state folder goes to the HQ of that
    folder only, and only while that runs: once it has ended, anybody may listen at its address.
    """
    if not environ.get("UA_OPS_TOKEN"):
        refuse_factory(folder)
    base_url = find_base_url(environ, folder)
    if environ.get("UA_OPS_TOKEN"):
        return Connection(base_url, environ["UA_OPS_TOKEN"], token_from)
    facts = folder.read_facts() or {}
    here = str(facts.get("hq_base_url") or "")
    token = _token(facts) if base_url == here else ""
    if not token:
        raise Refusal(exits.CONFIG, f"There is no token for {base_url}; {_WHAT_NEXT}")
    if not folder.is_held():
        raise Refusal(
            exits.CONFIG,
            f"The stack in {folder.path} does not run, so its token is sent nowhere; "
            "start it with `corporation up`, or put HQ's ops token into UA_OPS_TOKEN",
        )
    return Connection(base_url, token, str(folder.facts))


def refuse_factory(folder: StateFolder) -> None:
    """Refuses (78) a folder from which a factory has joined: it holds nothing that an operator may show to HQ."""
    membership = kept(folder)
    if membership is not None:
        raise Refusal(
            exits.CONFIG,
            f"{folder.path} is the folder of the factory {membership.factory_id}: run this at HQ, in the folder of its "
            f"`corporation up`, or put the ops token of {membership.hq_base_url} into UA_OPS_TOKEN",
        )


def effective(environ: Mapping[str, str], folder: StateFolder) -> dict[str, str]:
    """`environ`, completed with the addresses of the stack in `folder` where nothing of its own is set.

    In the folder of a factory that has joined an HQ, its own addresses win.
    """
    membership = kept(folder)
    if membership is not None:
        environ = {"FACTORY_ROLE": ROLES[Shape.WORKER].value} | membership.environment(environ)
    try:
        facts = folder.read_facts()
    except StateFolderError:
        facts = None
    stack = from_facts(folder.path, facts, {}) if facts else None
    given = {name: value for name, value in environ.items() if value}
    if stack is None:
        return given
    process = "factory-worker" if stack.shape is Shape.WORKER else "engine"
    return operators_variables(process, with_given(stack, environ)) | given


def _token(facts: Mapping[str, Any]) -> str:
    token = facts.get("ops_token")
    return token if isinstance(token, str) else ""


def _checked(url: str, folder: StateFolder) -> str:
    if not url:
        raise Refusal(
            exits.CONFIG,
            f"No HQ is known: UA_HQ_BASE_URL is not set and {folder.facts} names none; "
            "run `corporation up` in another terminal, or set UA_HQ_BASE_URL and UA_OPS_TOKEN",
        )
    try:
        parts = httpx.URL(url)
    except httpx.InvalidURL:
        parts = httpx.URL("")
    if parts.scheme not in ("http", "https") or not parts.host or parts.userinfo:
        raise Refusal(exits.CONFIG, "UA_HQ_BASE_URL must look like https://hq.example, without user and password")
    return url

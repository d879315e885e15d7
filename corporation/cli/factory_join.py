"""`corporation factory join`: this machine becomes a factory of an HQ that made a code for it."""

import os
import shlex
import ssl
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any, Final

import httpx
import typer

from corporation.cli import checkout, exits
from corporation.cli.answers import detail_of, refusal_of
from corporation.cli.connection import with_secrets
from corporation.cli.exits import Refusal
from corporation.cli.membership import (
    FactoryStateOption,
    Membership,
    factory_folder,
    keep,
    kept,
    prepared,
    refuse_stack,
    state_words,
    why_unusable,
)
from corporation.cli.options import JsonOption
from corporation.cli.output import say, say_json, warn, working
from corporation.roles import FactoryRole, read_role
from corporation.settings import Settings, load_settings, names_of

CODE_VARIABLE: Final = "CORPORATION_JOIN_CODE"
LIMIT_SECONDS: Final = 30.0
LONGEST_CODE: Final = 200
FROM_STDIN: Final = "-"
OTHER_NAMES: Final = 8
"""How many further names are tried for a machine that was given none, with one and the same code."""

Address = Annotated[str, typer.Argument(metavar="HQ_URL", help="Where HQ's API answers.")]
Code = Annotated[
    str | None,
    typer.Argument(
        metavar="[CODE]",
        help=f"The join code; `-` reads it from standard input, without it it is taken from {CODE_VARIABLE}.",
        show_default=False,
    ),
]
Named = Annotated[str | None, typer.Option(help="The name of this factory at HQ; else the code's, or this host's.")]


@dataclass(frozen=True)
class Usual:
    """The name under which this machine joins unless told otherwise; `is_ours` if it joined under it before."""

    name: str
    is_ours: bool


def join(
    hq_url: Address,
    code: Code = None,
    factory_id: Named = None,
    as_json: JsonOption = False,
    state: FactoryStateOption = None,
) -> None:
    """Make this machine a factory: the code is used up, and what it proves itself with is kept in the state folder.

    Again with a fresh code it gets a new credential, and the old one is worth nothing. Start it with `factory up`.
    """
    folder = factory_folder(state)
    refuse_stack(folder)
    given = _code(code)
    settings = _settings(hq_url.rstrip("/"))
    before = kept(folder)
    if before is not None and factory_id is not None and before.factory_id != factory_id and folder.is_held():
        raise Refusal(
            exits.DATA,
            f"{before.factory_id} runs from {folder.path}; end it first, or give {factory_id} another folder: --state",
        )
    known = before is not None and before.hq_base_url == settings.hq_base_url
    usual = Usual(before.factory_id if before and known else settings.factory_id, is_ours=known)
    with prepared(folder):  # first, so that no code is used up for a folder that cannot be written
        with working("Joining"):
            answer = _enrol(settings, given, factory_id, usual)
        membership = _membership(answer, settings)
        keep(folder, membership)
    if as_json:
        say_json(
            {"factory_id": membership.factory_id, "hq_base_url": membership.hq_base_url, "state": str(folder.path)}
        )
        return
    again = before is not None and before.factory_id == membership.factory_id
    say(f"{membership.factory_id} has {'a new credential' if again else 'joined'} at {membership.hq_base_url}")
    say(f"  kept in {folder.path} (only you can read it)")
    way = "Redis, and HTTPS while that is away" if membership.redis_url else "HTTPS"
    say(f"  missions come over {way}")
    if code != FROM_STDIN:  # else a script goes on by itself
        say(f"Next: corporation factory up --detach{state_words(folder)}")
    if folder.is_held():
        down = f"`corporation factory down{state_words(folder)}` first"
        say(f"  It runs with the old credential, which HQ does not accept any more: {down}")


def _code(given: str | None) -> str:
    code = os.environ.get(CODE_VARIABLE, "") if given is None else given
    if code == FROM_STDIN:
        code = sys.stdin.readline(LONGEST_CODE + 1)
    if not code.strip():
        raise Refusal(
            exits.USAGE, f"There is no join code: name it, or put it into {CODE_VARIABLE}; HQ makes one: join-code"
        )
    return code.strip()


def _settings(url: str) -> Settings:
    """This machine's settings with that HQ; refuses an address that is none, or would carry secrets in clear."""
    if "://" not in url:
        raise Refusal(
            exits.USAGE, "HQ_URL has no scheme: it must begin with https://, or with http:// inside a network"
        )
    try:
        parts = httpx.URL(url)
    except httpx.InvalidURL:
        parts = httpx.URL("")
    if parts.scheme not in ("http", "https") or not parts.host or parts.userinfo or parts.query or parts.fragment:
        raise Refusal(exits.USAGE, "HQ_URL must look like https://hq.example, without user, password and query")
    environ = with_secrets(os.environ)
    return load_settings({**Membership("", url, "").environment(environ), **_name(environ), **_ROLE})


_ROLE: Final = {"FACTORY_ROLE": FactoryRole.LOCAL_WORKER.value}


def _name(environ: Mapping[str, str]) -> dict[str, str]:
    """What this machine calls itself (contract env §4), unless that is the name of an HQ whose variables are set."""
    word = environ.get("FACTORY_ROLE", "")
    if word.strip() and read_role(word) is not FactoryRole.LOCAL_WORKER:
        return {}
    return {name: environ[name] for name in names_of("factory_name") if environ.get(name)}


def _enrol(settings: Settings, code: str, factory_id: str | None, usual: Usual) -> dict[str, Any]:
    """HQ's welcome. A code that was made for nobody asks who we are: then it is `usual`."""
    body = {"join_code": code, "hostname": settings.host, "version": checkout.commit()[:200]}
    named = {"factory_id": factory_id} if factory_id else {}
    with _client(settings) as client:
        response = _post(client, settings, body | named)
        if response.status_code == 422 and not named and "factory_id" in detail_of(response):
            response = _first_free(client, settings, body, usual)
    if response.status_code != 201:
        raise _refused(response, settings, factory_id or usual.name)
    try:
        document = response.json()
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict):
        raise _no_hq(settings)
    return {str(name): value for name, value in document.items()}


def _first_free(client: httpx.Client, settings: Settings, body: dict[str, Any], usual: Usual) -> httpx.Response:
    """HQ's answer under the usual name, or where another factory has that, under the next one with a number."""
    name = usual.name
    response = _post(client, settings, body | {"factory_id": name})
    for number in range(2, 2 + (0 if usual.is_ours else OTHER_NAMES)):
        if response.status_code != 409:
            break
        name = f"{usual.name}-{number}"
        response = _post(client, settings, body | {"factory_id": name})
    if response.status_code == 201 and name != usual.name:
        warn(
            f"Note: HQ has a factory {usual.name} already, so this one is {name}; if they are the same machine, "
            f"join with a code of `corporation join-code --factory-id {usual.name}`"
        )
    return response


def _client(settings: Settings) -> httpx.Client:
    # As the factory's processes do it: no proxy, and only those authorities; what works here works there.
    authorities = ssl.create_default_context(cafile=str(settings.ca_file) if settings.ca_file else None)
    timeout = httpx.Timeout(LIMIT_SECONDS, connect=5.0)
    return httpx.Client(base_url=settings.hq_base_url, trust_env=False, verify=authorities, timeout=timeout)


def _post(client: httpx.Client, settings: Settings, body: Mapping[str, Any]) -> httpx.Response:
    try:
        return client.post("/api/v1/factory/enrol", json=dict(body))
    except httpx.ConnectError as error:
        check = "check the address, the network, and whether HQ runs"
        if "certificate" in str(error).lower():
            check = "its certificate is not trusted; set SSL_CERT_FILE to the file of its authority"
        raise Refusal(
            exits.UNAVAILABLE,
            f"HQ at {settings.hq_base_url} is not reached: {check}; the code is as good as before: run the same again",
        ) from None
    except httpx.HTTPError as error:
        raise Refusal(
            exits.TRY_LATER,
            f"The talk with HQ at {settings.hq_base_url} broke off ({type(error).__name__}); run the same again, "
            "and if the code was used up by that, with a fresh one made for this factory",
        ) from None


_USED_UP: Final = "it is unknown, was used already, or its time is over; make another at HQ: corporation join-code"
_ANOTHER: Final = "choose another with --factory-id, or ask for a code made for it: corporation join-code --factory-id "


def _refused(response: httpx.Response, settings: Settings, name: str) -> Refusal:
    status, detail = response.status_code, detail_of(response)
    where = f"HQ at {settings.hq_base_url}"
    if status == 401:
        return Refusal(exits.NO_PERMISSION, f"{where} does not accept the code: {_USED_UP}")
    if status == 403 and "this node is " in detail:
        return Refusal(exits.NO_PERMISSION, f"{where} lets nobody join ({detail}); name a headquarters")
    if status in (403, 409):
        if detail.startswith("quarantined"):
            return Refusal(
                exits.NO_PERMISSION, f"{where} keeps this factory in quarantine; ask its operator ({detail})"
            )
        code = exits.NO_PERMISSION if status == 403 else exits.DATA
        return Refusal(
            code, f"{where} does not take this factory in ({status}: {detail}); {_ANOTHER}{shlex.quote(name)}"
        )
    if status == 422 and "factory_id" in detail:
        return Refusal(exits.DATA, f"{where} does not take this name ({detail}); choose another with --factory-id")
    if status == 404:
        return _no_hq(settings)
    return refusal_of(response, settings.hq_base_url, "the join code")


def _no_hq(settings: Settings) -> Refusal:
    return Refusal(
        exits.SOFTWARE,
        f"What answers at {settings.hq_base_url} is no HQ that factories can join; check the address, or update it",
    )


def _membership(answer: Mapping[str, Any], settings: Settings) -> Membership:
    """What is kept of HQ's answer. Its address is the one that was typed: no answer sends us elsewhere (F-3)."""
    factory_id, credential = answer.get("factory_id"), answer.get("factory_credential")
    if not (isinstance(factory_id, str) and factory_id and isinstance(credential, str) and credential):
        raise _no_hq(settings)
    interval = answer.get("heartbeat_interval_seconds")
    keys = answer.get("mission_keys")
    membership = Membership(
        factory_id,
        settings.hq_base_url,
        credential,
        mission_keys=tuple(str(key) for key in keys) if isinstance(keys, list) else (),
        factory_queue=str(answer.get("factory_queue") or ""),
        heartbeat_interval_seconds=max(interval, 10) if type(interval) is int else 0,
        plaintext_allowed=settings.plaintext_allowed,
    )
    broker = answer.get("redis_url")
    if not isinstance(broker, str) or not broker:
        return membership
    with_broker = replace(membership, redis_url=broker)
    if problems := [problem for problem in why_unusable(with_broker, os.environ) if "REDIS" in problem]:
        told = "; ".join(problem.partition(": ")[2] for problem in problems)
        warn(f"Note: HQ's Redis cannot be used from here, so missions come over HTTPS: its address {told}")
        return membership
    return with_broker

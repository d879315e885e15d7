"""What a mission of this kind orders, read from its context; nothing here touches a file or a clock."""

import base64
import binascii
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

from corporation.bootstrap_jobs.names import clean_name
from corporation.errors import CorporationError

_MOST_ARGUMENTS, _LONGEST_ARGUMENT = 64, 4096
_VERSION: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,31}")
_REF: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._/+@-]{0,200}")
_URL: Final = re.compile(r"(https|ssh|git)://[^\s\x00-\x1f\x7f]+")
_SOURCES: Final = ("tutorial_run_path", "bundle_base64", "git_url")

Scalar = str | int | float | bool


class OrderRefusedError(CorporationError):
    """This mission can never work as it is; the message says what to change."""

    code = "order_refused"


@dataclass(frozen=True)
class HqBundle:
    """The script and its files lie at HQ, under `run_path`."""

    run_path: str


@dataclass(frozen=True)
class InlineBundle:
    """The script and its files came with the mission, as a tar.gz."""

    data: bytes


@dataclass(frozen=True)
class GitSource:
    """A repository to start from; with `variables`, its `.jinja` files and path names are filled in."""

    url: str
    ref: str
    variables: Mapping[str, Scalar] | None


@dataclass(frozen=True)
class RepositoryOrder:
    """A checked order; `repo_name` is "" when the mission leaves the name to us."""

    job_id: str
    title: str
    source: HqBundle | InlineBundle | GitSource
    repo_name: str
    target_root: str
    python_version: str
    verify: tuple[str, ...]


def read_order(job_id: str, task: str, context: Mapping[str, Any]) -> RepositoryOrder:
    """The order in a mission; raises OrderRefusedError when it is unclear, unsafe or not one source exactly."""
    return RepositoryOrder(
        job_id=job_id,
        title=_text(context, "tutorial_title") or task,
        source=_source(context),
        repo_name=clean_name(_text(context, "repo_name")),
        target_root=_text(context, "target_root"),
        python_version=_matching(context, "python_version", _VERSION, "a version like 3.12"),
        verify=_verify(context.get("verify")),
    )


def _source(context: Mapping[str, Any]) -> HqBundle | InlineBundle | GitSource:
    given = {name: text for name in _SOURCES if (text := _text(context, name))}
    if len(given) != 1:
        found = " and ".join(given) or "none"
        raise OrderRefusedError(f"The context must hold exactly one of {', '.join(_SOURCES)}; it holds {found}")
    if "git_url" in given:
        return _git(given["git_url"], context)
    for extra in ("git_ref", "template_variables"):
        if context.get(extra):
            raise OrderRefusedError(f"context.{extra} belongs to git_url; remove it or give a git_url")
    if "bundle_base64" in given:
        return InlineBundle(_decoded(given["bundle_base64"]))
    return HqBundle(given["tutorial_run_path"])


def _git(url: str, context: Mapping[str, Any]) -> GitSource:
    if not (url.startswith("/") or _URL.fullmatch(url)):
        raise OrderRefusedError(
            "context.git_url must be an https://, ssh:// or git:// URL, or the absolute path of a repository on the "
            "factory; write git@host:path as ssh://git@host/path"
        )
    _refuse_credentials(url)
    ref = _matching(context, "git_ref", _REF, "a branch, a tag or a commit")
    if ".." in ref:
        raise OrderRefusedError("context.git_ref must be a branch, a tag or a commit, not a range")
    return GitSource(url, ref, _variables(context.get("template_variables")))


def _refuse_credentials(url: str) -> None:
    # The URL ends in the arguments of git and in its messages, where every process and reader could see a token.
    try:
        address = urlsplit(url)
        secret = address.password is not None or (address.scheme == "https" and address.username is not None)
        # ssh would read a host that starts with a dash as an option.
        strange_host = address.scheme != "" and (address.hostname or "-").startswith("-")
    except ValueError:
        raise OrderRefusedError("context.git_url is not a URL that can be read; check its host part") from None
    if secret:
        raise OrderRefusedError("context.git_url holds a credential; give it to the factory's git instead")
    if strange_host:
        raise OrderRefusedError("context.git_url must name a host, which cannot start with a dash")


def _variables(given: Any) -> Mapping[str, Scalar] | None:
    if given is None:
        return None
    if not isinstance(given, Mapping):
        raise OrderRefusedError("context.template_variables must be an object of names and plain values")
    variables: dict[str, Scalar] = {}
    for name, value in given.items():
        if not (str(name).isidentifier() and isinstance(value, Scalar)):
            raise OrderRefusedError(
                f"context.template_variables.{str(name)[:80]}: the name must be an identifier, the value a text, "
                "a number or a boolean"
            )
        variables[str(name)] = value
    return variables


def _verify(given: Any) -> tuple[str, ...]:
    if given is None:
        return ()
    words: list[Any] = list(given) if isinstance(given, list | tuple) else []
    plain = tuple(word for word in words if isinstance(word, str) and len(word) <= _LONGEST_ARGUMENT)
    if not words or len(plain) != len(words) or len(words) > _MOST_ARGUMENTS or not plain[0] or "\0" in "".join(plain):
        raise OrderRefusedError(
            f'context.verify must be a list of 1 to {_MOST_ARGUMENTS} texts, like ["python3", "-m", "unittest"]'
        )
    return plain


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError):
        raise OrderRefusedError("context.bundle_base64 is not base64; encode the tar.gz again") from None


def _matching(context: Mapping[str, Any], name: str, pattern: re.Pattern[str], what: str) -> str:
    text = _text(context, name)
    if text and not pattern.fullmatch(text):
        raise OrderRefusedError(f"context.{name} must be {what}")
    return text


def _text(context: Mapping[str, Any], name: str) -> str:
    value = context.get(name)
    if value is not None and not isinstance(value, str):
        raise OrderRefusedError(f"context.{name} must be a text")
    if value and "\0" in value:
        raise OrderRefusedError(f"context.{name} holds a NUL character; remove it")
    return (value or "").strip()

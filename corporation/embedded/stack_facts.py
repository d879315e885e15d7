"""What a stack leaves in its state folder for the next run and for other commands, and what stays out of it (pure)."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from corporation.embedded.stack_addresses import given_addresses
from corporation.embedded.stack_environment import Stack
from corporation.embedded.stack_shape import Shape
from corporation.roles import FactoryRole
from corporation.shown_address import without_password

_TEXTS: Final = ("python", "host", "redis_url", "database_url", "ops_token", "jwt_secret", "flower_password")
_NEWER_TEXTS: Final = (
    *("factory_credential", "node_name", "queue_name", "hq_given"),
    *("redis_password_file", "mailbox_url", "mission_signing_key", "mission_key"),
)
_PORTS: Final = ("gateway_port", "flower_port")
_GIVEN: Final = {
    "ops_token": "UA_OPS_TOKEN",
    "jwt_secret": "UA_OPS_JWT_SECRET",
    "factory_credential": "UA_FACTORY_CREDENTIAL",
    "mission_signing_key": "UA_MISSION_SIGNING_KEY",
}


def facts_of(stack: Stack, environ: Mapping[str, str]) -> dict[str, Any]:
    """The JSON object for the state folder; `from_facts` reads it back and `with_given` completes it.

    No secret that `environ` gave is in it, and of given addresses no password. What the stack made itself is: the next
    run needs it, and nobody else keeps it.
    """
    facts = {name: getattr(stack, name) for name in (*_TEXTS, *_NEWER_TEXTS, *_PORTS)}
    facts |= {name: "" for name, value in given_secrets(environ).items() if facts[name] == value}
    facts |= {name: without_password(value) for name, value in _given(stack, environ).items() if facts[name] == value}
    return facts | {
        "factory_id": stack.id_of(FactoryRole.LOCAL_WORKER),
        "flower_url": stack.flower_url,
        "flower_user": "corporation",
        # Where commands go: an own API, also one that is no HQ, but for a worker's, which only shows its health.
        "hq_base_url": facts["hq_given"] if stack.shape is Shape.WORKER else stack.gateway_url,
        "hq_factory_id": stack.id_of(FactoryRole.HEADQUARTERS),
        "redis_passwords": dict(stack.redis_passwords),
        "shape": str(stack.shape),
    }


def from_facts(state: Path, facts: Mapping[str, Any], inherited: Mapping[str, str]) -> Stack | None:
    """The stack that `facts` describe, or None when they are not whole (an older version, a hand that slipped)."""
    texts = {name: facts.get(name) for name in _TEXTS} | {name: facts.get(name, "") for name in _NEWER_TEXTS}
    ports = {name: facts.get(name) for name in _PORTS}
    passwords = facts.get("redis_passwords", {})
    shape = facts.get("shape", str(Shape.WHOLE))
    if not all(isinstance(value, str) for value in texts.values()) or shape not in list(Shape):
        return None
    if not all(isinstance(value, int) for value in ports.values()) or not isinstance(passwords, dict):
        return None
    values: dict[str, Any] = {**texts, **ports, "redis_passwords": passwords}
    return Stack(state=state, inherited=inherited, shape=Shape(shape), **values)


def given_secrets(environ: Mapping[str, str]) -> dict[str, str]:
    """The secrets of a stack that `environ` holds, by their names in `Stack`; they are used, and kept in no file."""
    return {field: value for field, name in _GIVEN.items() if (value := environ.get(name, "").strip())}


def with_given(stack: Stack, environ: Mapping[str, str]) -> Stack:
    """`stack` with what `facts_of` left out, where `environ` gives it again; doing it twice changes nothing.

    An address is completed only by the same one: another server's password would be wrong there.
    """
    secrets = {name: value for name, value in given_secrets(environ).items() if not getattr(stack, name)}
    addresses = {
        name: value for name, value in _given(stack, environ).items() if getattr(stack, name) == without_password(value)
    }
    return replace(stack, **secrets, **addresses)


def _given(stack: Stack, environ: Mapping[str, str]) -> dict[str, str]:
    return given_addresses(environ, has_ledger=stack.shape is not Shape.WORKER)

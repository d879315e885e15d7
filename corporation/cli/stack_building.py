"""The stack of this run, made of what is to be launched, what the last run left, and what only now is known."""

import secrets
import sys
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from sqlalchemy import Engine
from sqlalchemy.exc import IntegrityError

from corporation.cli.launch import Launch
from corporation.db import open_ledger, transaction
from corporation.embedded.ports import free_port
from corporation.embedded.stack_environment import Stack, inherited_from
from corporation.embedded.stack_facts import given_secrets
from corporation.embedded.stack_shape import Shape
from corporation.embedded.stack_state import StateFolder
from corporation.roles import FactoryRole
from corporation.tokens.credentials import issue, new_credential

FLOWER_PORT: Final = 5555
_HAS_HEADQUARTERS: Final = (Shape.WHOLE, Shape.HQ)


def stack_for(
    folder: StateFolder, launch: Launch, redis_url: str, database_url: str, *, redis_away: bool = False
) -> Stack:
    """The stack of this run: the secrets and, where still free, the ports of the last one; new ones otherwise.

    A secret that the environment gives wins. A worker gets no secret of its own making: HQ would not know it.
    """
    facts, settings = folder.read_facts() or {}, launch.settings
    made = {} if launch.shape is Shape.WORKER else {name: _kept(facts, name) for name in ("ops_token", "jwt_secret")}
    tokens = {"ops_token": "", "jwt_secret": "", **made, **given_secrets(launch.environ)}
    return Stack(
        state=folder.path,
        python=sys.executable,
        host=settings.host,
        redis_url=redis_url,
        database_url=database_url,
        gateway_port=free_port(_preferred(settings.gateway_port, facts, "gateway_port")),
        flower_port=free_port(_preferred(FLOWER_PORT, facts, "flower_port")),
        flower_password=_kept(facts, "flower_password"),
        inherited=inherited_from(launch.environ),
        shape=launch.shape,
        node_name=settings.factory_name or "",
        queue_name=settings.queue_name or "",
        hq_given="" if launch.shape in _HAS_HEADQUARTERS else settings.hq_base_url.rstrip("/"),
        processes=launch.processes,
        redis_away=redis_away,
        **tokens,
    )


def credential_issued(stack: Stack) -> Stack:
    """`stack` with a credential that its ledger knows for the factory beside HQ, or for one that joins; safe to repeat.

    A stack without headquarters is returned as it is: its HQ issues credentials.
    """
    if stack.shape not in _HAS_HEADQUARTERS:
        return stack
    kept = (stack.folder.read_facts() or {}).get("factory_credential")
    ledger = open_ledger(stack.database_url, pool_size=1)
    try:
        return replace(stack, factory_credential=_issued(ledger, stack, kept if isinstance(kept, str) else ""))
    finally:
        ledger.dispose()


def _issued(ledger: Engine, stack: Stack, kept: str) -> str:
    factory = stack.id_of(FactoryRole.LOCAL_WORKER)
    if kept:
        # One that was revoked meanwhile must not come back to life; this stack's own factory gets another.
        try:
            with transaction(ledger) as connection:
                issue(connection, factory, kept)
            return kept
        except IntegrityError:
            pass
    fresh = new_credential(secrets.token_bytes)
    with transaction(ledger) as connection:
        issue(connection, factory, fresh)
    return fresh


def _kept(facts: Mapping[str, Any], name: str) -> str:
    kept = facts.get(name)
    return kept if isinstance(kept, str) and kept else secrets.token_urlsafe(32)


def _preferred(usual: int, facts: Mapping[str, Any], name: str) -> int:
    """The usual port whenever it is free, so that bookmarks work again; else the one of the last run."""
    kept = facts.get(name)
    return usual if free_port(usual) == usual or not isinstance(kept, int) else kept

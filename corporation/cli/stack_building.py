"""The stack of this run, made of what is to be launched, what the last run left, and what only now is known."""

import secrets
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final

from sqlalchemy import Engine
from sqlalchemy.exc import IntegrityError

from corporation.cli.launch import Launch
from corporation.db import open_ledger, transaction
from corporation.embedded.ports import free_port
from corporation.embedded.stack_environment import SLOTS, Stack, inherited_from
from corporation.embedded.stack_facts import given_secrets
from corporation.embedded.stack_servers import DataServer
from corporation.embedded.stack_shape import Shape
from corporation.embedded.stack_state import StateFolder
from corporation.factories.access import is_quarantined
from corporation.roles import FactoryRole
from corporation.tokens.credentials import issue, new_credential
from corporation.trust import redis_users
from corporation.trust.keyring import new_key, public_of
from corporation.trust.mailbox_roles import admit

FLOWER_PORT: Final = 5555
SECRETS: Final = ("ops_token", "jwt_secret", "factory_credential", "mission_signing_key")
_HAS_HEADQUARTERS: Final = (Shape.WHOLE, Shape.HQ)


def stack_for(folder: StateFolder, launch: Launch, broker: DataServer | None, database: DataServer | None) -> Stack:
    """The stack of this run: the secrets and, where still free, the ports of the last one; new ones otherwise.

    A secret that the environment gives wins. A worker gets no secret of its own making: HQ would not know it.
    """
    facts, settings = folder.read_facts() or {}, launch.settings
    secret = _secrets(facts, launch)
    key = secret["mission_signing_key"]
    return Stack(
        state=folder.path,
        python=sys.executable,
        host=settings.host,
        redis_url=broker.url if broker else "",
        redis_passwords=broker.passwords if broker else {},
        redis_password_file=str(settings.redis_password_file or "") if broker and not broker.passwords else "",
        redis_away=broker is not None and broker.away != "",
        database_url=database.url if database else "",
        mailbox_url=database.mailbox_url if database else "",
        gateway_port=free_port(_preferred(settings.gateway_port, facts, "gateway_port")),
        flower_port=free_port(_preferred(FLOWER_PORT, facts, "flower_port")),
        flower_password=_kept(facts, "flower_password"),
        inherited=inherited_from(launch.environ),
        shape=launch.shape,
        node_name=settings.factory_name or "",
        queue_name=settings.queue_name or "",
        hq_given="" if launch.shape in _HAS_HEADQUARTERS else settings.hq_base_url.rstrip("/"),
        processes=launch.processes,
        ops_token=secret["ops_token"],
        jwt_secret=secret["jwt_secret"],
        factory_credential=secret["factory_credential"],
        mission_signing_key=key,
        mission_key=public_of(key) if key else "",
    )


def _secrets(facts: Mapping[str, Any], launch: Launch) -> dict[str, str]:
    made = dict.fromkeys(SECRETS, "")
    if launch.shape is not Shape.WORKER:
        made |= {name: _kept(facts, name) for name in ("ops_token", "jwt_secret")}
        made["mission_signing_key"] = _kept(facts, "mission_signing_key", new_key)
    return made | given_secrets(launch.environ)


def factory_admitted(database: DataServer, launch: Launch) -> None:
    """The factory beside HQ may fill its rows of our own mailbox, as the role it has there. Safe to repeat.

    The ledger must be migrated.
    """
    own = launch.own
    if not (database.owner_url and own.mailbox_role):
        return
    slots = max(int(SLOTS), launch.settings.factory_slots)
    ledger = open_ledger(database.owner_url, pool_size=1)
    try:
        with transaction(ledger) as connection:
            admit(connection, own.mailbox_role, own.factory_id, slots)
    finally:
        ledger.dispose()


def credential_issued(stack: Stack) -> Stack:
    """`stack` with a credential that its ledger knows for the factory beside HQ, or for one that joins; safe to repeat.

    It also knows whether that factory is in quarantine. A stack without headquarters is returned as it is: its HQ
    issues credentials.
    """
    if stack.shape not in _HAS_HEADQUARTERS:
        return stack
    kept = (stack.folder.read_facts() or {}).get("factory_credential")
    ledger = open_ledger(stack.database_url, pool_size=1)
    try:
        credential = _issued(ledger, stack, kept if isinstance(kept, str) else "")
        with transaction(ledger) as connection:
            is_shut_out = is_quarantined(connection, stack.id_of(FactoryRole.LOCAL_WORKER))
        return replace(stack, factory_credential=credential, factory_shut_out=is_shut_out)
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
        if stack.redis_passwords:
            # A machine had joined under this name: the user that it got is this stack's again.
            redis_users.hand_over(connection, factory)
    return fresh


def _kept(facts: Mapping[str, Any], name: str, new: Callable[[], str] = lambda: secrets.token_urlsafe(32)) -> str:
    kept = facts.get(name)
    return kept if isinstance(kept, str) and kept else new()


def _preferred(usual: int, facts: Mapping[str, Any], name: str) -> int:
    """The usual port whenever it is free, so that bookmarks work again; else the one of the last run."""
    kept = facts.get(name)
    return usual if free_port(usual) == usual or not isinstance(kept, int) else kept

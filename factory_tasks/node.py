"""What a Celery process knows of its node: settings, spool and the way to HQ, made once, when first asked for."""

import os
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import structlog
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from corporation.bootstrap import bootstrap_or_exit
from corporation.database_role import why_role_is_refused
from corporation.federation import notes
from corporation.federation.hq import Hq
from corporation.federation.refused_messages import RefusedMessages
from corporation.federation.spool import Spool
from corporation.masking import SHORTEST_IN_REPORTS, Mask
from corporation.settings import Settings
from corporation.trust.key_announcement import trusted
from corporation.trust.keyring import keys_by_id, public_keys, why_keys_are_refused

log = structlog.get_logger()


@dataclass(frozen=True)
class Node:
    """This node; `hq` is None while no address of HQ is configured, and then nothing is sent (F-10)."""

    settings: Settings
    spool: Spool
    hq: Hq | None
    mask: Mask
    """Takes this node's secrets out of what a mission reports."""
    refused: RefusedMessages

    def mission_keys(self) -> Mapping[str, Ed25519PublicKey]:
        """The keys that may sign missions for this node: those it was given, or what HQ announced since."""
        pinned = tuple(public_keys(self.settings))
        try:
            _last_trusted[pinned] = trusted(pinned, self.spool.noted(notes.MISSION_KEYS))
        except sqlite3.Error as error:
            # A disk that fails must not end the worker with a message in hand; what counted a moment ago does still.
            log.warning("mission_keys_unread", error=type(error).__name__)
        return _keys(_last_trusted.get(pinned, pinned))


_last_trusted: dict[tuple[str, ...], tuple[str, ...]] = {}
"""What the keys were when the spool last told, by those that this node was given."""


@cache
def _keys(public: tuple[str, ...]) -> Mapping[str, Ed25519PublicKey]:
    return keys_by_id(public)


@cache
def node() -> Node:
    """This process's node, before Celery forks. An environment that cannot be used ends the process with status 78.

    A child of the pool inherits the value and asks Infisical for nothing.
    """
    runtime = bootstrap_or_exit(os.environ, checks=(why_role_is_refused, why_keys_are_refused))
    return build_node(runtime.settings, runtime.secrets)


def build_node(settings: Settings, secrets: Sequence[str] = ()) -> Node:
    """The node that these settings describe, which lets none of `secrets` out; opens nothing."""
    spool = Spool(settings.spool_path, settings.sqlite_busy_timeout_ms)
    refused = RefusedMessages(settings.spool_path, settings.sqlite_busy_timeout_ms)
    return Node(settings, spool, _way_to_hq(settings), Mask(secrets, SHORTEST_IN_REPORTS), refused)


def _way_to_hq(settings: Settings) -> Hq | None:
    if not settings.hq_base_url:
        return None
    token = settings.ops_token.get_secret_value() if settings.ops_token else None
    credential = settings.factory_credential.get_secret_value() if settings.factory_credential else None
    ca_file = str(settings.ca_file) if settings.ca_file else None
    return Hq(settings.hq_base_url, token, credential=credential, factory_id=settings.factory_id, ca_file=ca_file)

"""What a Celery process knows of its node: settings, spool and the way to HQ, made once, when first asked for."""

import os
from dataclasses import dataclass
from functools import cache

from corporation.bootstrap import bootstrap_or_exit
from corporation.federation.hq import Hq
from corporation.federation.spool import Spool
from corporation.settings import Settings


@dataclass(frozen=True)
class Node:
    """This node; `hq` is None while no address of HQ is configured, and then nothing is sent (F-10)."""

    settings: Settings
    spool: Spool
    hq: Hq | None


@cache
def node() -> Node:
    """This process's node, before Celery forks. An environment that cannot be used ends the process with status 78.

    A child of the pool inherits the value and asks Infisical for nothing.
    """
    return build_node(bootstrap_or_exit(os.environ).settings)


def build_node(settings: Settings) -> Node:
    """The node that these settings describe; opens nothing."""
    return Node(settings, Spool(settings.spool_path, settings.sqlite_busy_timeout_ms), _way_to_hq(settings))


def _way_to_hq(settings: Settings) -> Hq | None:
    if not settings.hq_base_url:
        return None
    token = settings.ops_token.get_secret_value() if settings.ops_token else None
    credential = settings.factory_credential.get_secret_value() if settings.factory_credential else None
    return Hq(settings.hq_base_url, token, credential=credential, factory_id=settings.factory_id)

"""What a Celery process knows of its node: settings, spool and the way to HQ, made once, when first asked for."""

import os
import sys
from dataclasses import dataclass
from functools import cache

from corporation.errors import EXIT_CONFIG, SettingsError
from corporation.federation.hq import Hq
from corporation.federation.spool import Spool
from corporation.logs import configure_logs
from corporation.settings import Settings, load_settings, warnings_about


@dataclass(frozen=True)
class Node:
    """This node; `hq` is None while no address of HQ is configured, and then nothing is sent (F-10)."""

    settings: Settings
    spool: Spool
    hq: Hq | None


@cache
def node() -> Node:
    """This process's node. A wrong environment ends the process with every problem on standard error and status 78."""
    try:
        settings = load_settings(os.environ)
    except SettingsError as error:
        sys.stderr.write(f"{error}\n")
        raise SystemExit(EXIT_CONFIG) from None
    configure_logs(settings)
    for warning in warnings_about(os.environ):
        sys.stderr.write(f"warning: {warning}\n")
    return build_node(settings)


def build_node(settings: Settings) -> Node:
    """The node that these settings describe; opens nothing."""
    token = settings.ops_token.get_secret_value() if settings.ops_token else None
    hq = Hq(settings.hq_base_url, token) if settings.hq_base_url else None
    return Node(settings, Spool(settings.spool_path, settings.sqlite_busy_timeout_ms), hq)
